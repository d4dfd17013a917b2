//! Tables of the conversion from YCbCr, YCgCo, gray and planar RGB to 8-bit RGB.
//!
//! Fixed point: `out = (ky * (Y - y0) + sum(kc * C) + 2^(SHIFT-1)) >> SHIFT` clamped to 0..=255, where C is a chroma
//! value interpolated to the luma grid, kept at `2^weight_bits` times its scale, minus its zero. One rounding, at the
//! end. With depths up to 12 bit every intermediate fits an `i32` (each of the three products stays below 2^29);
//! deeper samples need `i64`. For 8-bit samples the coefficients have [`SHORT`] bits behind the point, so that 16-bit
//! multiply-adds give the same sums: together they are off by less than 0.04 of a value.
//!
//! Source of the coefficients: ITU-T H.273 (2021), 8.3, equations 38 to 49 and 59 to 61.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tonemap;
use crate::color::{Color, Matrix, Range, Siting};
use crate::error::Error;
use crate::frame::{Frame, PixelFormat};
use crate::program::resample::Span;

/// How chroma is brought to the luma grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Chroma {
    /// Interpolated between the samples around it, by its siting.
    #[default]
    Linear,
    /// The sample of the same group of pixels.
    Nearest,
}

impl FromStr for Chroma {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "linear" => Ok(Chroma::Linear),
            "nearest" => Ok(Chroma::Nearest),
            _ => Err(Error::usage(format!("chroma {text}: it is linear or nearest"))),
        }
    }
}

/// Bits of the fixed point.
pub const SHIFT: u32 = 20;

/// Bits behind the point of coefficients for 8-bit samples: the largest, below 2.2, then fit 16 bits with their sign.
pub const SHORT: u32 = 13;

/// Coefficients for one kind of picture. Row `i` of `k` gives channel R, G, B from (Y, Cb, Cr).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coefficients {
    /// `k[channel][component]`, scaled by 2^SHIFT (luma) and 2^(SHIFT - weight_bits) (chroma).
    pub k: [[i64; 3]; 3],
    /// Subtracted from luma.
    pub luma_zero: i64,
    /// Subtracted from interpolated chroma, at its scale.
    pub chroma_zero: i64,
    /// Interpolated chroma is this many bits larger than stored.
    pub weight_bits: u32,
}

impl Coefficients {
    /// For pictures of `color` with `depth` bits a sample whose chroma is interpolated to `weight_bits` more.
    pub fn new(color: &Color, depth: u8, weight_bits: u32) -> Coefficients {
        Self::scaled(color, depth, weight_bits, 255.0)
    }

    /// The same for codes of 12 bits instead of 8: what [`Coefficients`] gives is shifted by 4 bits less.
    pub fn deep(color: &Color, depth: u8, weight_bits: u32) -> Coefficients {
        Self::scaled(color, depth, weight_bits, f64::from(tonemap::MOST) / 16.0)
    }

    fn scaled(color: &Color, depth: u8, weight_bits: u32, white: f64) -> Coefficients {
        let full = color.range == Range::Full;
        let step = f64::from(1u32 << (depth - 8));
        let top = f64::from((1u32 << depth) - 1);
        // Codes from black to white, and from -0.5 to 0.5 of chroma.
        let (luma, chroma) = if full { (top, top) } else { (219.0 * step, 224.0 * step) };
        let y = white / luma;
        let c = white / chroma;
        let real = match (color.matrix, color.matrix.kr_kb()) {
            (_, Some((kr, kb))) => {
                let kg = 1.0 - kr - kb;
                let (r, b) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
                [[y, 0.0, r * c], [y, -b * kb / kg * c, -r * kr / kg * c], [y, b * c, 0.0]]
            }
            // G = Y + Cg, B = Y - Cg - Co, R = Y - Cg + Co with chroma from -0.5 to 0.5.
            (Matrix::Ycgco, None) => [[y, -c, c], [y, c, 0.0], [y, -c, -c]],
            // Chroma planes hold colours here, never a difference.
            (_, None) => [[y, 0.0, 0.0]; 3],
        };
        // Chroma's scale is smaller by that of its weights.
        let fixed = |v: f64, scale: u32| {
            let kept = if depth == 8 { SHORT } else { SHIFT - scale };
            ((v * f64::from(1u32 << kept)).round() as i64) << (SHIFT - scale - kept)
        };
        Coefficients {
            k: real.map(|[y, cb, cr]| [fixed(y, 0), fixed(cb, weight_bits), fixed(cr, weight_bits)]),
            luma_zero: if full { 0 } else { 16 << (depth - 8) },
            chroma_zero: 128i64 << (depth - 8) << weight_bits,
            weight_bits,
        }
    }
}

/// Which two chroma samples give the value at a luma position, and how much the second counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tap {
    /// Index of the first sample, clamped to the plane.
    pub a: usize,
    /// Index of the second.
    pub b: usize,
    /// Weight of the second, in `2^bits`; the first has the rest.
    pub weight: i32,
}

/// Interpolation along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// log2 of the subsampling.
    pub sub: u8,
    /// Weights are in units of `2^-bits`.
    pub bits: u32,
    /// Offset of the first chroma sample from the first luma sample, in half units of `2^-bits` luma samples.
    pub offset: i64,
    /// Chroma samples there are.
    pub samples: usize,
}

impl Axis {
    /// For `samples` chroma samples; `quarter` as [`Siting::quarter_offsets`] gives it.
    pub fn new(sub: u8, quarter: i32, samples: usize, chroma: Chroma) -> Axis {
        let bits = if sub == 0 || chroma == Chroma::Nearest { 0 } else { 1 + u32::from(sub) };
        Axis { sub, bits, offset: ((1i64 << sub) - 1) * i64::from(quarter) / 2, samples }
    }

    /// The samples for luma position `at`.
    pub fn tap(&self, at: usize) -> Tap {
        let last = self.samples as i64 - 1;
        let clamp = |i: i64| i.clamp(0, last) as usize;
        if self.bits == 0 {
            let i = clamp((at >> self.sub) as i64);
            return Tap { a: i, b: i, weight: 0 };
        }
        // Position in chroma samples, times 2^bits.
        let position = 2 * at as i64 - self.offset;
        let first = position >> self.bits;
        Tap { a: clamp(first), b: clamp(first + 1), weight: (position - (first << self.bits)) as i32 }
    }

    /// Where luma coordinate 0 (the picture's edge) lies among the chroma samples, in samples from their own edge.
    pub fn edge(&self, quarter: i32) -> f64 {
        let scale = f64::from(1u32 << self.sub);
        0.5 - (0.5 + (scale - 1.0) * f64::from(quarter) / 4.0) / scale
    }
}

/// Both axes of a format's chroma planes in a picture of `width` x `height`.
pub fn axes(format: PixelFormat, siting: Siting, width: u32, height: u32, chroma: Chroma) -> (Axis, Axis) {
    let (sub_w, sub_h) = match format {
        PixelFormat::Yuv { sub_w, sub_h, .. } => (sub_w, sub_h),
        _ => (0, 0),
    };
    let (x, y) = siting.quarter_offsets();
    let size = |n: u32, sub: u8| (n as usize).div_ceil(1 << sub);
    (Axis::new(sub_w, x, size(width, sub_w), chroma), Axis::new(sub_h, y, size(height, sub_h), chroma))
}

/// What a resize of each plane of an 8-bit YCbCr frame to `to` takes, along x and y: of luma, and of chroma by its siting.
pub fn plane_spans(frame: &Frame, to: (usize, usize)) -> [(Span, Span); 2] {
    let (w, h) = (frame.width as usize, frame.height as usize);
    let (x, y) = axes(frame.format, frame.color.siting, frame.width, frame.height, Chroma::Linear);
    let (quarter_x, quarter_y) = frame.color.siting.quarter_offsets();
    let chroma = |n: usize, axis: &Axis, quarter: i32, out: usize| {
        let scale = f64::from(1u32 << axis.sub);
        Span { input: n.div_ceil(1 << axis.sub), from: axis.edge(quarter), length: n as f64 / scale, out }
    };
    [(Span::whole(w, to.0), Span::whole(h, to.1)), (chroma(w, &x, quarter_x, to.0), chroma(h, &y, quarter_y, to.1))]
}

/// The values, 0..=`most`, of all samples of `depth` bits that are no difference: gray, or a plane of RGB.
pub fn plain_table(depth: u8, limited: bool, most: i32) -> Vec<i32> {
    let (zero, span) = if limited { (16 << (depth - 8), 219 << (depth - 8)) } else { (0, (1 << depth) - 1) };
    let value = |v: i32| (((v - zero) * 2 * most + span).div_euclid(2 * span)).clamp(0, most);
    (0..1 << depth).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_follow_the_siting() {
        let left = Axis::new(1, 0, 4, Chroma::Linear);
        assert_eq!(left.tap(2), Tap { a: 1, b: 2, weight: 0 });
        assert_eq!(left.tap(3), Tap { a: 1, b: 2, weight: 2 });
        assert_eq!(left.tap(7), Tap { a: 3, b: 3, weight: 2 });
        let center = Axis::new(1, 2, 4, Chroma::Linear);
        assert_eq!(center.tap(0), Tap { a: 0, b: 0, weight: 3 });
        assert_eq!(center.tap(1), Tap { a: 0, b: 1, weight: 1 });
        assert_eq!(center.tap(2), Tap { a: 0, b: 1, weight: 3 });
        assert_eq!(Axis::new(1, 2, 4, Chroma::Nearest).tap(5).a, 2);
    }

    #[test]
    fn products_fit_i32_up_to_12_bits() {
        for matrix in [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020, Matrix::Smpte240m, Matrix::Fcc, Matrix::Ycgco] {
            for range in [Range::Limited, Range::Full] {
                for (depth, bits) in [(8, 0), (8, 4), (8, 6), (10, 4), (12, 4), (12, 6)] {
                    let color = Color { matrix, range, ..Color::srgb() };
                    // The deep ones are a little larger.
                    let c = Coefficients::deep(&color, depth, bits);
                    let most = c.k.iter().map(|row| {
                        row[0].abs() * (1 << depth)
                            + (row[1].abs() + row[2].abs()) * (1 << (u32::from(depth) - 1 + bits))
                    });
                    assert!(most.max().unwrap() + (1 << SHIFT) < i64::from(i32::MAX), "{matrix:?} {range:?} {depth}");
                }
            }
        }
    }

    #[test]
    fn short_coefficients_have_no_further_bits() {
        for weight_bits in [0, 2, 4, 6] {
            let color = Color { matrix: Matrix::Bt2020, range: Range::Limited, ..Color::srgb() };
            let c = Coefficients::new(&color, 8, weight_bits);
            for [y, cb, cr] in c.k {
                let scale = SHIFT - SHORT;
                assert!(y % (1 << scale) == 0 && y >> scale < 1 << 15);
                let scale = scale - weight_bits;
                assert!([cb, cr].iter().all(|k| k % (1 << scale) == 0 && (k >> scale).abs() < 1 << 15), "{:?}", c.k);
            }
        }
    }

    #[test]
    fn white_is_white_and_black_is_black() {
        let color = Color { matrix: Matrix::Bt709, range: Range::Limited, ..Color::srgb() };
        let c = Coefficients::new(&color, 8, 4);
        let out = |y: i64| (c.k[0][0] * (y - c.luma_zero) + (1 << (SHIFT - 1))) >> SHIFT;
        assert_eq!((out(16), out(235)), (0, 255));
    }
}
