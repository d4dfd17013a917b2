//! The words that kernels look up: weights, sample values, the bits of the output's elements. Each is there once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::program::Output;
use crate::program::params::{NONE, Taps, word};
use crate::program::resample::Weights;
use crate::tensor::Dtype;

/// Look-up tables of a batch, one behind the other.
#[derive(Debug, Default)]
pub struct Tables {
    /// All of them.
    pub words: Vec<u32>,
    /// Where the weights at an address lie; holding them keeps the address theirs.
    weights: HashMap<usize, (Taps, Arc<Weights>)>,
    samples: HashMap<(u8, bool), u32>,
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

    /// The 8-bit values of samples of `depth` bits.
    pub fn samples(&mut self, depth: u8, limited: bool) -> u32 {
        if depth == 8 && !limited {
            return NONE;
        }
        if let Some(at) = self.samples.get(&(depth, limited)) {
            return *at;
        }
        let values = crate::program::yuv::plain_table(depth, limited);
        let at = self.push(values.into_iter().map(u32::from));
        self.samples.insert((depth, limited), at);
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
