//! The words that kernels look up: weights, sample values, the bits of the output's elements. Each is there once.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use crate::program::Output;
use crate::program::affine::Position;
use crate::program::lut::Cube;
use crate::program::params::{NONE, Taps, word};
use crate::program::resample::Weights;
use crate::program::yuv;
use crate::tensor::Dtype;

/// Samples that are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Samples {
    /// Gray, or a plane of RGB: of `depth` bits, to 0..=`most`.
    Plain {
        /// Bits a sample.
        depth: u8,
        /// Limited range.
        limited: bool,
        /// The largest value.
        most: i32,
    },
    /// Bytes of RGB as codes of 12 bits.
    Rgb,
}

/// Look-up tables of a batch, one behind the other.
#[derive(Debug, Default)]
pub struct Tables {
    /// All of them.
    pub words: Vec<u32>,
    /// Where the weights at an address lie; holding them keeps the address theirs.
    weights: HashMap<usize, (Taps, Arc<Weights>)>,
    samples: HashMap<Samples, u32>,
    /// The same of colour tables.
    colors: HashMap<usize, (u32, Arc<dyn Any + Send + Sync>)>,
}

impl Tables {
    fn push(&mut self, words: impl IntoIterator<Item = u32>) -> u32 {
        let at = word(self.words.len());
        self.words.extend(words);
        at
    }

    /// Weights whose first position is `first`.
    pub fn taps(&mut self, weights: &Arc<Weights>, first: usize) -> Taps {
        let address = Arc::as_ptr(weights) as usize;
        if let Some((taps, _)) = self.weights.get(&address) {
            return *taps;
        }
        let longest = weights.lengths.iter().max().map_or(0, |n| *n as usize);
        let table = self.push(weights.starts.iter().zip(&weights.lengths).flat_map(|(start, n)| [*start, *n]));
        let rows = weights.full.chunks_exact(weights.padded);
        let at = self.push(rows.flat_map(|row| row[..longest].iter().map(|w| *w as u32)));
        let (groups, digits) = digits(weights);
        let digits = self.push(digits);
        let (stride, count) = (word(longest), word(weights.starts.len()));
        let taps =
            Taps { table, weights: at, stride, first: first as i32, row: 0, digits, groups: word(groups), count };
        self.weights.insert(address, (taps, weights.clone()));
        taps
    }

    /// What each sample stands for.
    pub fn samples(&mut self, samples: Samples) -> u32 {
        if let Some(at) = self.samples.get(&samples) {
            return *at;
        }
        let values = match samples {
            Samples::Plain { depth, limited, most } => yuv::plain_table(depth, limited, most),
            Samples::Rgb => (0..256).map(|v| v << 4 | v >> 4).collect(),
        };
        let at = self.push(values.into_iter().map(|v| v as u32));
        self.samples.insert(samples, at);
        at
    }

    /// Weights of a blur: one list for all positions.
    pub fn kernel(&mut self, weights: &[i32]) -> Taps {
        let at = self.push(weights.iter().map(|w| *w as u32));
        Taps { weights: at, stride: word(weights.len()), ..Taps::default() }
    }

    /// Positions of an affine map along one axis.
    pub fn positions(&mut self, positions: &[Position]) -> Taps {
        let table = self.push(positions.iter().flatten().map(|v| *v as u32));
        Taps { table, ..Taps::default() }
    }

    /// Three times 256 values.
    pub fn table(&mut self, table: &Arc<[[u8; 256]; 3]>) -> u32 {
        let address = Arc::as_ptr(table) as usize;
        if let Some((at, _)) = self.colors.get(&address) {
            return *at;
        }
        let at = self.push(table.iter().flatten().map(|v| u32::from(*v)));
        self.colors.insert(address, (at, table.clone()));
        at
    }

    /// Positions of all codes, then nodes.
    pub fn cube(&mut self, cube: &Arc<Cube>) -> u32 {
        let address = Arc::as_ptr(cube) as usize;
        if let Some((at, _)) = self.colors.get(&address) {
            return *at;
        }
        let at = self.push(cube.positions.iter().flatten().chain(cube.nodes.iter().flatten()).map(|v| *v as u32));
        self.colors.insert(address, (at, cube.clone()));
        at
    }

    /// The bits of the output's elements; [`NONE`] where bytes are written as they are.
    pub fn elements(&mut self, out: &Output) -> u32 {
        let table = &out.table;
        match out.dtype {
            Dtype::U8 => NONE,
            Dtype::F32 => self.push(table.iter().map(|v| v.to_bits())),
            Dtype::F16 => self.push(table.iter().map(|v| half::f16::from_f32(*v).to_bits().into())),
            Dtype::Bf16 => self.push(table.iter().map(|v| half::bf16::from_f32(*v).to_bits().into())),
        }
    }
}

/// The weights as digits ([`Taps::digits`]), and how many groups of four inputs each position has.
fn digits(weights: &Weights) -> (usize, Vec<u32>) {
    let count = weights.starts.len();
    let reach = |i: usize| (weights.starts[i] as usize % 4 + weights.lengths[i] as usize).div_ceil(4);
    let groups = (0..count).map(reach).max().unwrap_or(0);
    let mut words = vec![0; 3 * groups * count];
    for (i, row) in weights.full.chunks_exact(weights.padded).enumerate() {
        let first = weights.starts[i] as usize % 4;
        for (at, weight) in (first..).zip(&row[..weights.lengths[i] as usize]) {
            for (digit, value) in three(*weight).into_iter().enumerate() {
                words[(at / 4 * 3 + digit) * count + i] |= u32::from(value as u8) << (8 * (at % 4));
            }
        }
    }
    (groups, words)
}

/// A weight as three signed bytes, the lowest first. Weights stay below 2 in size, so that three are enough.
fn three(weight: i32) -> [i8; 3] {
    let low = weight as i8;
    let rest = (weight - i32::from(low)) >> 8;
    let middle = rest as i8;
    [low, middle, ((rest - i32::from(middle)) >> 8) as i8]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::resample::{Cache, Filter, Span};

    #[test]
    fn digits_are_the_weights() {
        for (input, out, filter) in [(1920, 224, Filter::Bicubic), (31, 77, Filter::Lanczos), (5, 5, Filter::Nearest)] {
            let weights = Cache::default().get(Span::whole(input, out), filter, 0, out);
            let (groups, words) = digits(&weights);
            let count = weights.starts.len();
            for i in 0..count {
                let byte =
                    |at: usize, digit: usize| (words[(at / 4 * 3 + digit) * count + i] >> (8 * (at % 4))) as u8 as i8;
                let value = |at: usize| (0..3).map(|digit| i32::from(byte(at, digit)) << (8 * digit)).sum::<i32>();
                let own: Vec<i32> = (0..4 * groups).map(value).collect();
                let first = weights.starts[i] as usize % 4;
                let length = weights.lengths[i] as usize;
                assert_eq!(own[first..first + length], weights.full[i * weights.padded..][..length]);
                assert_eq!(
                    own.iter().filter(|w| **w != 0).count(),
                    own[first..first + length].iter().filter(|w| **w != 0).count()
                );
            }
        }
    }

    #[test]
    fn three_bytes_are_enough() {
        for weight in [0, 1, -1, 127, 128, -129, 1 << 22, -(1 << 22), (1 << 23) - (1 << 16), 5_000_000] {
            let [a, b, c] = three(weight).map(i32::from);
            assert_eq!(a + (b << 8) + (c << 16), weight);
        }
    }
}
