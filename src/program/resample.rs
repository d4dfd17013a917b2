//! Weights of a resize along one axis, as Pillow computes them.
//!
//! Source: Pillow 13, `src/libImaging/Resample.c`, `precompute_coeffs` and `normalize_coeffs_8bpc`: half-pixel centres,
//! the support scaled by the ratio when shrinking, weights normalised in f64 and rounded to 22 bits.

use std::collections::HashMap;
use std::f64::consts::PI;
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
    /// Room for each output position's weights in the arrays below.
    pub padded: usize,
    /// Of these at most so many, a multiple of 8, are not zero.
    pub used: usize,
    /// First input position of all, and the position behind the last room.
    pub span: (usize, usize),
    /// The weights, `padded` for each output position, zeros behind the real ones.
    pub full: Vec<i32>,
    /// `full >> LOW_BITS`.
    pub high: Vec<i16>,
    /// The low bits of `full`.
    pub low: Vec<i16>,
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
    /// Bits of the low part.
    pub const LOW_BITS: u32 = 12;
    /// Weights come in multiples of it.
    pub const PAD: usize = 16;

    /// Of output positions `first..first + count`. `bits` is what samples have beyond 8: the weights get as many less.
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

    fn pack(mut rows: Vec<(usize, Vec<i32>)>) -> Weights {
        let longest = rows.iter().map(|(_, w)| w.len()).max().unwrap_or(1);
        let padded = longest.next_multiple_of(Self::PAD);
        // Weights near the end get zeros in front, so that no more than PAD values behind the last input are touched.
        let end = rows.iter().map(|(start, w)| start + w.len()).max().unwrap_or(0);
        for (start, weights) in &mut rows {
            let shift = (*start + padded).saturating_sub(end + Self::PAD);
            *start -= shift;
            weights.splice(0..0, std::iter::repeat_n(0, shift));
        }
        let mut full = Vec::with_capacity(rows.len() * padded);
        for (_, weights) in &rows {
            let end = full.len() + padded;
            full.extend(weights);
            full.resize(end, 0);
        }
        let used = rows.iter().map(|(_, w)| w.len()).max().unwrap_or(1).next_multiple_of(8);
        let least = rows.iter().map(|(start, _)| *start).min().unwrap_or(0);
        let most = rows.iter().map(|(start, _)| start + padded).max().unwrap_or(0);
        Weights {
            used,
            span: (least, most),
            starts: rows.iter().map(|(start, _)| *start as u32).collect(),
            lengths: rows.iter().map(|(_, w)| w.len() as u32).collect(),
            padded,
            high: full.iter().map(|w| (w >> Self::LOW_BITS) as i16).collect(),
            low: full.iter().map(|w| (w & ((1 << Self::LOW_BITS) - 1)) as i16).collect(),
            full,
        }
    }

    /// The input positions that are read, as a range.
    pub fn reads(&self) -> std::ops::Range<usize> {
        let start = self.starts.iter().min().copied().unwrap_or(0);
        let end = self.starts.iter().zip(&self.lengths).map(|(s, l)| s + l).max().unwrap_or(0);
        start as usize..end as usize
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
