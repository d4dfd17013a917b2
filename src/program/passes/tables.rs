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
        let taps = Taps { table, weights: at, stride: word(longest), first: first as i32, row: 0 };
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
