//! Rows of any [`Frame`] as 8-bit RGB, each channel on its own.
//!
//! The tables are [`crate::program::yuv`]'s; the inner loops are in [`super::simd`].

use std::sync::Arc;

use super::lut;
use super::resize::Source;
use super::simd::{self, Lanes, Level, Rows, Strip};
use crate::error::{Error, Result};
use crate::frame::{Frame, PixelFormat};
use crate::program::lut::Cube;
use crate::program::tonemap::{DEPTH, MOST};
use crate::program::yuv::{Axis, Chroma, Coefficients, SHIFT, Tap, axes};

/// Everything that the rows of one frame share.
pub struct Converter<'a> {
    planes: Vec<Plane<'a>>,
    kind: Kind,
    /// From 12-bit codes to 8-bit ones, for pictures of high dynamic range.
    tone: Option<Arc<Cube>>,
}

/// The rows of one frame, with what it takes to make them.
pub struct Streamed<'a> {
    pub converter: &'a Converter<'a>,
    pub scratch: Scratch,
}

impl Source for Streamed<'_> {
    fn row(&mut self, y: usize, x: usize, n: usize, out: [&mut [u8]; 3]) {
        self.converter.row(y, x, n, &mut self.scratch, out);
    }

    fn fill(&mut self, level: Level, strip: Strip, x: usize, lanes: &mut [Lanes; 3]) -> bool {
        self.converter.fill(level, strip, x, lanes)
    }
}

/// A plane whose bytes were looked up once: asking a decoder's picture for them takes longer than a row.
#[derive(Clone, Copy)]
struct Plane<'a> {
    data: &'a [u8],
    stride: usize,
}

enum Kind {
    Rgb,
    /// Planar G, B, R, or gray three times: samples of `depth` bits, the plane of each channel.
    Plain {
        depth: u8,
        limited: bool,
        channels: [usize; 3],
    },
    Yuv {
        depth: u8,
        coefficients: Coefficients,
        x: Axis,
        y: Axis,
    },
}

/// Scratch rows, reused from row to row.
#[derive(Default)]
pub struct Scratch {
    luma: Vec<i32>,
    blended: [Vec<i32>; 2],
    chroma: [Vec<i32>; 2],
    /// The same for 8-bit samples.
    short: [Vec<i16>; 4],
    /// Channels of 12 bits.
    codes: [Vec<u16>; 3],
}

impl<'a> Converter<'a> {
    /// Checks that the planes hold what the format promises. With `tone`, colours go through that table.
    ///
    /// Errors: [`RejectKind::Corrupt`] for a plane that is too small, [`Error::bug`] for a depth out of 8..=16.
    pub fn new(frame: &'a Frame, chroma: Chroma, tone: Option<Arc<Cube>>) -> Result<Converter<'a>> {
        frame.rows()?;
        let limited = frame.color.range == crate::color::Range::Limited;
        let kind = match frame.format {
            PixelFormat::Rgb8 => Kind::Rgb,
            PixelFormat::Gray { depth } => Kind::Plain { depth, limited, channels: [0; 3] },
            PixelFormat::Gbr { depth } => Kind::Plain { depth, limited, channels: [2, 0, 1] },
            PixelFormat::Yuv { depth, .. } => {
                let (x, y) = axes(frame.format, frame.color.siting, frame.width, frame.height, chroma);
                let coefficients = if tone.is_some() { Coefficients::deep } else { Coefficients::new };
                Kind::Yuv { depth, coefficients: coefficients(&frame.color, depth, x.bits + y.bits), x, y }
            }
        };
        let depth = frame.format.depth();
        if !(8..=16).contains(&depth) {
            return Err(Error::bug(format!("a picture of {depth} bits a sample; expected 8 to 16")));
        }
        let planes = frame.planes.iter().map(|p| Plane { data: &p.data, stride: p.stride }).collect();
        Ok(Converter { planes, kind, tone })
    }

    /// Columns `x0..x0 + n` of row `y` (as stored, before orientation); each of `out` holds at least n values.
    pub fn row(&self, y: usize, x0: usize, n: usize, scratch: &mut Scratch, out: [&mut [u8]; 3]) {
        let [r, g, b] = out;
        let (r, g, b) = (&mut r[..n], &mut g[..n], &mut b[..n]);
        if let Some(cube) = &self.tone {
            self.codes(y, x0, n, scratch);
            let [red, green, blue] = &scratch.codes;
            for (i, ((red, green), blue)) in red.iter().zip(green).zip(blue).enumerate() {
                [r[i], g[i], b[i]] = lut::color(cube, [*red, *green, *blue].map(usize::from));
            }
            return;
        }
        match &self.kind {
            Kind::Rgb => {
                let plane = &self.planes[0];
                simd::deinterleave(&plane.data[plane.stride * y + 3 * x0..][..3 * n], r, g, b);
            }
            Kind::Plain { depth, limited, channels } => {
                for (out, plane) in [r, g, b].into_iter().zip(channels) {
                    read(&self.planes[*plane], y, x0, n, *depth, &mut scratch.luma);
                    simd::plain(&scratch.luma, *depth, *limited, out);
                }
            }
            Kind::Yuv { depth: 8, coefficients, x, y: vertical }
                if x.bits == u32::from(x.sub) * 2 && x.sub <= 1 && vertical.bits <= 2 =>
            {
                self.short_chroma((y, x0, n), x, vertical, &mut scratch.short);
                let [_, _, cb, cr] = &scratch.short;
                let luma = &self.planes[0];
                let luma = &luma.data[luma.stride * y + x0..][..n];
                simd::matrix8(luma, cb, cr, coefficients, [r, g, b]);
            }
            Kind::Yuv { depth, coefficients, x, y: vertical } => {
                self.grid(y, x0, n, (*depth, x, vertical), scratch);
                let [cb, cr] = &scratch.chroma;
                simd::matrix(&scratch.luma, cb, cr, coefficients, *depth, [r, g, b]);
            }
        }
    }

    /// The rows of `strip`, from the even column `x0` on, as vectors have them; false where there is no such way.
    fn fill(&self, level: Level, strip: Strip, x0: usize, lanes: &mut [Lanes; 3]) -> bool {
        let rows = |plane: usize, from: usize| {
            let Plane { data, stride } = self.planes[plane];
            Rows { data, stride, from }
        };
        match &self.kind {
            _ if self.tone.is_some() => false,
            Kind::Rgb => {
                simd::fill_rgb(level, rows(0, 3 * x0), strip, lanes);
                true
            }
            Kind::Yuv { depth: 8, coefficients, x, y } => {
                let chroma = [rows(1, x0 >> x.sub), rows(2, x0 >> x.sub)];
                simd::fill_yuv(level, rows(0, x0), chroma, strip, (x, y), coefficients, lanes)
            }
            _ => false,
        }
    }

    /// The same as codes of 12 bits, through no table, to `scratch.codes`.
    fn codes(&self, y: usize, x0: usize, n: usize, scratch: &mut Scratch) {
        match &self.kind {
            Kind::Rgb => {
                let plane = &self.planes[0];
                let pixels = plane.data[plane.stride * y + 3 * x0..][..3 * n].chunks_exact(3);
                for (channel, out) in scratch.codes.iter_mut().enumerate() {
                    out.clear();
                    out.extend(pixels.clone().map(|p| u16::from(p[channel]) << 4 | u16::from(p[channel]) >> 4));
                }
            }
            Kind::Plain { depth, limited, channels } => {
                let up = 1i64 << (depth - 8);
                let (zero, span) = if *limited { (16 * up, 219 * up) } else { (0, (1 << depth) - 1) };
                for (out, plane) in scratch.codes.iter_mut().zip(channels) {
                    read(&self.planes[*plane], y, x0, n, *depth, &mut scratch.luma);
                    out.clear();
                    out.extend(scratch.luma.iter().map(|v| {
                        let code = ((i64::from(*v) - zero) * i64::from(MOST) * 2 + span).div_euclid(2 * span);
                        code.clamp(0, MOST.into()) as u16
                    }));
                }
            }
            Kind::Yuv { depth, coefficients, x, y: vertical } => {
                self.grid(y, x0, n, (*depth, x, vertical), scratch);
                const BITS: u32 = SHIFT + 8 - DEPTH;
                let (luma_zero, chroma_zero) = (coefficients.luma_zero, coefficients.chroma_zero);
                for ([ky, kb, kr], out) in coefficients.k.into_iter().zip(&mut scratch.codes) {
                    // Up to 12 bits all of this fits 32; see program::yuv.
                    let constant = (1i64 << (BITS - 1)) - ky * luma_zero - (kb + kr) * chroma_zero;
                    let samples = scratch.luma.iter().zip(&scratch.chroma[0]).zip(&scratch.chroma[1]);
                    out.clear();
                    out.extend(samples.map(|((luma, cb), cr)| {
                        let sum = constant + ky * i64::from(*luma) + kb * i64::from(*cb) + kr * i64::from(*cr);
                        (sum >> BITS).clamp(0, MOST.into()) as u16
                    }));
                }
            }
        }
    }

    /// Luma and chroma of one row on the luma grid.
    fn grid(&self, y: usize, x0: usize, n: usize, (depth, x, vertical): (u8, &Axis, &Axis), scratch: &mut Scratch) {
        read(&self.planes[0], y, x0, n, depth, &mut scratch.luma);
        let tap = vertical.tap(y);
        for i in 0..2 {
            let (blended, chroma) = (&mut scratch.blended[i], &mut scratch.chroma[i]);
            self.chroma_row(&self.planes[1 + i], tap, x, vertical.bits, depth, x0, n, blended, chroma);
        }
    }

    /// Chroma of one row of 8-bit samples on the luma grid. `rows` are two rows of work, Cb and Cr.
    fn short_chroma(&self, (y, x0, n): (usize, usize, usize), x: &Axis, vertical: &Axis, rows: &mut [Vec<i16>; 4]) {
        let [blended_b, blended_r, cb, cr] = rows;
        let bytes = |plane: &Plane<'a>, y: usize, from: usize, n: usize| &plane.data[plane.stride * y + from..][..n];
        let tap = vertical.tap(y);
        let (first, last) = (x.tap(x0).a, x.tap(x0 + n - 1).b);
        let width = last + 1 - first;
        for (plane, blended, out) in [(&self.planes[1], blended_b, cb), (&self.planes[2], blended_r, cr)] {
            let whole = x.sub == 0;
            let row: &mut Vec<i16> = if whole { &mut *out } else { &mut *blended };
            row.resize(width, 0);
            let rest = (1 << vertical.bits) - tap.weight;
            let (a, b) = (bytes(plane, tap.a, first, width), bytes(plane, tap.b, first, width));
            simd::blend8(a, b, rest as i16, tap.weight as i16, row);
            if !whole {
                out.resize(n, 0);
                simd::upsample2_8(blended, x, x0, first, out);
            }
        }
    }

    /// Chroma of one row on the luma grid, `2^(x.bits + y.bits)` times its scale.
    #[allow(clippy::too_many_arguments)]
    fn chroma_row(
        &self,
        plane: &Plane,
        tap: Tap,
        x: &Axis,
        y_bits: u32,
        depth: u8,
        x0: usize,
        n: usize,
        blended: &mut Vec<i32>,
        out: &mut Vec<i32>,
    ) {
        let (first, last) = (x.tap(x0).a, x.tap(x0 + n - 1).b);
        let width = last + 1 - first;
        read(plane, tap.a, first, width, depth, blended);
        let rest = (1 << y_bits) - tap.weight;
        if tap.weight != 0 {
            read(plane, tap.b, first, width, depth, out);
            simd::blend(blended, out, rest, tap.weight);
        } else if y_bits > 0 {
            blended.iter_mut().for_each(|v| *v <<= y_bits);
        }
        if x.sub == 0 {
            std::mem::swap(blended, out);
            return;
        }
        out.clear();
        out.resize(n, 0);
        if x.sub == 1 && x.bits > 0 {
            return simd::upsample2(blended, x, x0, first, out);
        }
        for (i, value) in out.iter_mut().enumerate() {
            let tap = x.tap(x0 + i);
            *value = blended[tap.a - first] * ((1 << x.bits) - tap.weight) + blended[tap.b - first] * tap.weight;
        }
    }
}

fn bytes(depth: u8) -> usize {
    if depth > 8 { 2 } else { 1 }
}

/// Samples x0..x0+n of a plane's row.
fn read(plane: &Plane, y: usize, x0: usize, n: usize, depth: u8, out: &mut Vec<i32>) {
    out.clear();
    let size = bytes(depth);
    let row = &plane.data[plane.stride * y + x0 * size..][..n * size];
    if size == 1 {
        out.extend(row.iter().map(|v| i32::from(*v)));
    } else {
        let mask = ((1u32 << depth) - 1) as u16;
        out.extend(row.chunks_exact(2).map(|v| i32::from(u16::from_le_bytes([v[0], v[1]]) & mask)));
    }
}
