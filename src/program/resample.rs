//! Weights of a resize along one axis, as Pillow computes them.
//!
//! Source: Pillow 13, `src/libImaging/Resample.c`, `precompute_coeffs` and `normalize_coeffs_8bpc`: half-pixel centres,
//! the support scaled by the ratio when shrinking, weights normalised in f64 and rounded to 22 bits.

use std::collections::HashMap;
use std::f64::consts::PI;
use std::ops::Range;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Bits of a weight's fraction.
pub const PRECISION: u32 = 22;
/// What is added before the shift, so that it rounds.
pub const HALF: i32 = 1 << (PRECISION - 1);

/// How neighbouring pixels are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The pixel whose area holds the point.
    Nearest,
    /// Mean over the area.
    Box,
    /// Triangle.
    #[default]
    Bilinear,
    /// Hamming-windowed sinc, support 1.
    Hamming,
    /// Cubic with a = -0.5.
    Bicubic,
    /// Lanczos-windowed sinc, support 3.
    Lanczos,
}

impl FromStr for Filter {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        serde_json::from_value(serde_json::Value::from(text)).map_err(|_| {
            Error::usage(format!("filter {text}: it is one of nearest, box, bilinear, hamming, bicubic, lanczos"))
        })
    }
}

impl Filter {
    /// How far it reaches, in pixels of the larger of both grids.
    pub fn support(self) -> f64 {
        match self {
            Filter::Nearest | Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        match self {
            Filter::Nearest | Filter::Box => f64::from(x > -0.5 && x <= 0.5),
            Filter::Bilinear => (1.0 - x.abs()).max(0.0),
            Filter::Hamming => match x.abs() {
                0.0 => 1.0,
                x if x >= 1.0 => 0.0,
                x => {
                    let x = x * PI;
                    // Pillow's constants are of type float.
                    libm::sin(x) / x * (f64::from(0.54f32) + f64::from(0.46f32) * libm::cos(x))
                }
            },
            Filter::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Filter::Lanczos => {
                if (-3.0..3.0).contains(&x) {
                    sinc(x) * sinc(x / 3.0)
                } else {
                    0.0
                }
            }
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * PI;
    libm::sin(x) / x
}

/// The weights of some output positions along one axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// First input position of each output position.
    pub starts: Vec<u32>,
    /// How many inputs each has.
    pub lengths: Vec<u32>,
    /// The input positions that are read.
    pub reads: Range<usize>,
    /// Room for each output position's weights in `full`.
    pub padded: usize,
    /// The weights, `padded` for each output position, zeros behind the real ones.
    pub full: Vec<i32>,
    /// The same for multiply-adds.
    pub quads: Quads,
}

/// Weights of four neighbouring inputs at a time, in parts that multiply-adds take: of 8 bits, or of 16 with a first guess.
///
/// A guess is a weight rounded to 16 bits. A sum of guesses is off by what rounding left out, and that is bounded: where
/// the whole interval rounds to one value, which is nearly always, the rest need not be summed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quads {
    /// First quad of each output position, counted from [`Weights::first`].
    pub starts: Vec<u32>,
    /// Quads of each output position.
    pub count: usize,
    /// Weights as signed digits of 8 bits, the lowest first.
    pub digits: Vec<[[i8; 4]; 3]>,
    /// Weights rounded to multiples of `2^shift`, over that: of inputs 0 and 2, and of 1 and 3.
    pub guess: Vec<[[i16; 2]; 2]>,
    /// What [`Quads::guess`] leaves out, in the same order.
    pub rest: Vec<[[i16; 2]; 2]>,
    /// What [`Quads::guess`] is short of.
    pub shift: u32,
    /// Least and most of what the exact sum over values 0..=255 has beyond the guessed one, with [`HALF`].
    pub slack: Vec<[i32; 2]>,
}

impl Quads {
    /// Of rows (start, weights), which read inputs from `first` to before `end`.
    fn new(rows: &[(usize, Vec<i32>)], first: usize, end: usize) -> Quads {
        let quads = (end - first).div_ceil(4);
        let count = rows.iter().map(|(start, w)| ((start - first) % 4 + w.len()).div_ceil(4)).max().unwrap_or(1);
        let largest = rows.iter().flat_map(|(_, w)| w).map(|w| w.unsigned_abs()).max().unwrap_or(0);
        // Rounding may carry: a guess must stay below 2^15.
        let shift = (0..PRECISION).find(|s| (largest >> s) + 1 < 1 << 15).unwrap_or(PRECISION);
        let mut out = Quads {
            starts: Vec::with_capacity(rows.len()),
            count,
            digits: Vec::with_capacity(rows.len() * count),
            guess: Vec::with_capacity(rows.len() * count),
            rest: Vec::with_capacity(rows.len() * count),
            shift,
            slack: Vec::with_capacity(rows.len()),
        };
        for (start, weights) in rows {
            // No quad behind the last input is read: zeros go in front instead.
            let at = ((start - first) / 4).min(quads - count);
            let mut padded = vec![0; start - first - 4 * at];
            padded.extend(weights);
            padded.resize(4 * count, 0);
            let (mut least, mut most) = (HALF, HALF);
            for quad in padded.chunks_exact(4) {
                let guess: [i32; 4] = std::array::from_fn(|i| (quad[i] + ((1 << shift) >> 1)) >> shift);
                let rest: [i32; 4] = std::array::from_fn(|i| quad[i] - (guess[i] << shift));
                for rest in rest {
                    *(if rest < 0 { &mut least } else { &mut most }) += 255 * rest;
                }
                let turns = |v: [i32; 4]| [[v[0] as i16, v[2] as i16], [v[1] as i16, v[3] as i16]];
                out.guess.push(turns(guess));
                out.rest.push(turns(rest));
                // A weight is below 2 (normalised ones have at most small overshoots), so the highest digit fits too.
                let mut left: [i32; 4] = std::array::from_fn(|i| quad[i]);
                out.digits.push([(); 3].map(|()| {
                    let digits = left.map(|v| v as i8);
                    left = std::array::from_fn(|i| (left[i] - i32::from(digits[i])) >> 8);
                    digits
                }));
                debug_assert_eq!(left, [0; 4], "weights of 2 and more");
            }
            out.starts.push(at as u32);
            out.slack.push([least, most]);
        }
        out
    }
}

/// A resize of one axis: `out` positions over the part [from, from + length) of `input` positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Positions there are.
    pub input: usize,
    /// Where the part begins, in positions.
    pub from: f64,
    /// How long it is.
    pub length: f64,
    /// Positions wanted.
    pub out: usize,
}

impl Span {
    /// The whole of `input`.
    pub fn whole(input: usize, out: usize) -> Span {
        Span { input, from: 0.0, length: input as f64, out }
    }
}

impl Weights {
    /// Where quads of inputs begin: at the first input that is read or the one before, so that pixels that share subsampled
    /// chroma are beside each other in a quad.
    pub fn first(&self) -> usize {
        self.reads.start & !1
    }

    /// Of output positions `first..first + count`.
    pub fn new(span: Span, filter: Filter, first: usize, count: usize) -> Weights {
        if filter == Filter::Nearest {
            return Weights::nearest(span, first, count);
        }
        let scale = span.length / span.out as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let inverse = 1.0 / filter_scale;
        let rows = (first..first + count).map(|position| {
            let center = span.from + (position as f64 + 0.5) * scale;
            // Truncated toward zero, as C does.
            let start = ((center - support + 0.5) as i64).max(0) as usize;
            let end = ((center + support + 0.5) as i64).clamp(0, span.input as i64) as usize;
            let start = start.min(span.input - 1);
            let end = end.max(start + 1);
            let mut weights: Vec<f64> =
                (0..end - start).map(|x| filter.at(((x + start) as f64 - center + 0.5) * inverse)).collect();
            let sum: f64 = weights.iter().sum();
            if sum != 0.0 {
                weights.iter_mut().for_each(|w| *w /= sum);
            }
            let round = |w: &f64| {
                let scaled = w * f64::from(1u32 << PRECISION);
                (if *w < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
            };
            (start, weights.iter().map(round).collect::<Vec<_>>())
        });
        Weights::pack(rows.collect())
    }

    /// Pillow's nearest (`ImagingScaleAffine`): the position is stepped by addition.
    fn nearest(span: Span, first: usize, count: usize) -> Weights {
        let scale = span.length / span.out as f64;
        let mut at = span.from + scale * 0.5;
        let mut rows = Vec::with_capacity(count);
        for position in 0..first + count {
            if position >= first {
                rows.push(((at as usize).min(span.input - 1), vec![1 << PRECISION]));
            }
            at += scale;
        }
        Weights::pack(rows)
    }

    fn pack(rows: Vec<(usize, Vec<i32>)>) -> Weights {
        let padded = rows.iter().map(|(_, w)| w.len()).max().unwrap_or(1);
        let first = rows.iter().map(|(start, _)| *start).min().unwrap_or(0);
        let end = rows.iter().map(|(start, w)| start + w.len()).max().unwrap_or(first + 1);
        let reads = first..end;
        let mut full = Vec::with_capacity(rows.len() * padded);
        for (_, weights) in &rows {
            let end = full.len() + padded;
            full.extend(weights);
            full.resize(end, 0);
        }
        Weights {
            starts: rows.iter().map(|(start, _)| *start as u32).collect(),
            lengths: rows.iter().map(|(_, w)| w.len() as u32).collect(),
            padded,
            full,
            quads: Quads::new(&rows, reads.start & !1, reads.end),
            reads,
        }
    }
}

/// Weights that were made before: frames of one video need the same ones.
#[derive(Debug, Default)]
pub struct Cache(Mutex<HashMap<Key, Arc<Weights>>>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    input: usize,
    out: usize,
    from: u64,
    length: u64,
    filter: Filter,
    first: usize,
    count: usize,
}

/// Sizes kept; photos of ever new sizes must not fill the memory.
const KEPT: usize = 256;

impl Cache {
    /// The [`Weights`] of output positions `first..first + count`.
    pub fn get(&self, span: Span, filter: Filter, first: usize, count: usize) -> Arc<Weights> {
        let (from, length) = (span.from.to_bits(), span.length.to_bits());
        let key = Key { input: span.input, out: span.out, from, length, filter, first, count };
        // A poisoned lock guards nothing but finished entries.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(weights) = kept.get(&key) {
            return weights.clone();
        }
        drop(kept);
        let weights = Arc::new(Weights::new(span, filter, first, count));
        kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(key, weights.clone());
        weights
    }
}
