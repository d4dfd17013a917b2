//! Frames as kernels read them: their planes' rows one behind the other, and the block that says where.

use std::sync::Arc;

use crate::color::Range;
use crate::error::{Error, RejectKind, Result};
use crate::frame::{Frame, Lie, PixelFormat};
use crate::program::lut::Cube;
use crate::program::params::{self, PLAIN, Source, YCC, word};
use crate::program::passes::tables::{Samples, Tables};
use crate::program::tonemap;
use crate::program::yuv::{self, Chroma, Coefficients, SHIFT, axes};

/// Deepest samples whose conversion fits 32 bits.
const DEEPEST: u8 = 12;

/// A plane on its way to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    /// Number of its frame.
    pub frame: usize,
    /// Number of the plane.
    pub plane: usize,
    /// Where it goes: first byte, a multiple of 4.
    pub at: usize,
    /// Bytes of a row that are taken.
    pub row: usize,
    /// Bytes from row to row there, a multiple of 4.
    pub stride: usize,
    /// Rows.
    pub rows: usize,
}

impl Upload {
    /// Writes the plane's rows into `to`, which begins where the plane goes.
    pub fn copy(&self, frame: &Frame, mut to: impl FnMut(usize, &[u8])) {
        let plane = &frame.planes[self.plane];
        if plane.stride == self.stride && plane.data.len() >= self.stride * self.rows {
            return to(self.at, &plane.data[..self.stride * self.rows]);
        }
        for y in 0..self.rows {
            to(self.at + y * self.stride, &plane.data[y * plane.stride..][..self.row]);
        }
    }
}

/// How a frame is to be converted.
#[derive(Debug, Clone)]
pub struct How {
    /// Chroma interpolation.
    pub chroma: Chroma,
    /// Planes are resized before they are converted.
    pub fast: bool,
    /// From 12-bit codes to 8-bit ones, for pictures of high dynamic range.
    pub tone: Option<Arc<Cube>>,
}

impl PartialEq for How {
    /// Tables are the same where they are one: they are made once.
    fn eq(&self, other: &How) -> bool {
        let tone = |how: &How| how.tone.as_ref().map(Arc::as_ptr);
        self.chroma == other.chroma && self.fast == other.fast && tone(self) == tone(other)
    }
}

/// The planes of `frame`, which has this number. They go to `pixels` and behind, which is moved on; what lies on a device
/// stays where it is.
///
/// Errors: corrupt for a plane that is too small, `device_unsupported` for samples that are too deep.
pub fn uploads(frame: &Frame, number: usize, pixels: &mut usize) -> Result<Vec<Upload>> {
    let rows = frame.rows()?;
    let depth = frame.format.depth();
    if !(8..=DEEPEST).contains(&depth) {
        return Err(Error::input(
            RejectKind::DeviceUnsupported,
            format!("samples of {depth} bits; a device takes 8 to {DEEPEST}"),
        ));
    }
    if frame.surface.is_some() {
        return Ok(Vec::new());
    }
    let upload = |(plane, (row, rows)): (usize, &(usize, usize))| {
        let stride = row.next_multiple_of(4);
        let at = *pixels;
        *pixels += stride * rows;
        Upload { frame: number, plane, at, row: *row, stride, rows: *rows }
    };
    Ok(rows.iter().enumerate().map(upload).collect())
}

/// How a picture of `frame`'s kind is read, whose planes were [`uploads`].
pub fn source<'a>(frame: &Frame, planes: impl Iterator<Item = &'a Upload>, how: &How, tables: &mut Tables) -> Source {
    if let Some(surface) = &frame.surface {
        return on_device(frame, surface.lie(), how, tables);
    }
    let planes: Vec<&Upload> = planes.collect();
    let sample = if frame.format.depth() > 8 { 2 } else { 1 };
    // The plane of each component, and where in a pixel it lies.
    let (components, step) = match frame.format {
        PixelFormat::Rgb8 => ([(0, 0), (0, 1), (0, 2)], 3),
        PixelFormat::Gray { .. } => ([(0, 0); 3], sample),
        PixelFormat::Gbr { .. } => ([(2, 0), (0, 0), (1, 0)], sample),
        PixelFormat::Yuv { .. } => ([(0, 0), (1, 0), (2, 0)], sample),
    };
    let source = Source {
        offset: components.map(|(plane, at)| word(planes[plane].at + at)),
        stride: components.map(|(plane, _)| word(planes[plane].stride)),
        step,
        chroma_step: step,
        ..Source::default()
    };
    meant(source, frame, how, tables)
}

/// How a picture is read that lies on the device already.
fn on_device(frame: &Frame, lie: Lie, how: &How, tables: &mut Tables) -> Source {
    let source = Source {
        offset: lie.offset,
        stride: lie.stride,
        step: lie.step[0],
        chroma_step: lie.step[1],
        low: lie.low,
        address: [lie.address as u32, (lie.address >> 32) as u32],
        ..Source::default()
    };
    meant(source, frame, how, tables)
}

/// What the samples at a place mean.
fn meant(place: Source, frame: &Frame, how: &How, tables: &mut Tables) -> Source {
    let depth = frame.format.depth();
    let mut source = Source {
        kind: PLAIN,
        mask: (1 << depth) - 1,
        last: frame.height as i32 - 1,
        table: params::NONE,
        tone: params::NONE,
        shift: SHIFT,
        most: 255,
        ..place
    };
    if let Some(cube) = &how.tone {
        (source.tone, source.nodes) = (tables.cube(cube), word(cube.size));
        (source.shift, source.most) = (SHIFT + 8 - tonemap::DEPTH, tonemap::MOST);
    }
    match frame.format {
        PixelFormat::Rgb8 if how.tone.is_none() => {}
        PixelFormat::Rgb8 => source.table = tables.samples(Samples::Rgb),
        PixelFormat::Gray { .. } | PixelFormat::Gbr { .. } => {
            let (limited, most) = (frame.color.range == Range::Limited, source.most);
            // Bytes of full range are what they say.
            if (depth, limited, most) != (8, false, 255) {
                source.table = tables.samples(Samples::Plain { depth, limited, most });
            }
        }
        PixelFormat::Yuv { .. } => convert(&mut source, frame, depth, how),
    }
    source
}

fn convert(source: &mut Source, frame: &Frame, depth: u8, how: &How) {
    let (x, y) = axes(frame.format, frame.color.siting, frame.width, frame.height, how.chroma);
    let bits = if how.fast { 0 } else { x.bits + y.bits };
    let coefficients = if how.tone.is_some() { Coefficients::deep } else { Coefficients::new };
    let c = coefficients(&frame.color, depth, bits);
    source.kind = YCC;
    (source.x, source.y) = (axis(&x), axis(&y));
    for (channel, k) in c.k.iter().enumerate() {
        // The sum of a pixel fits an i32, the constant alone may not: wrapping adds give the sum.
        let constant = (1i64 << (source.shift - 1)) - k[0] * c.luma_zero - (k[1] + k[2]) * c.chroma_zero;
        source.constant[channel] = constant as i32;
        source.matrix[3 * channel..][..3].copy_from_slice(&k.map(|v| v as i32));
    }
}

fn axis(axis: &yuv::Axis) -> params::Axis {
    params::Axis { sub: axis.sub.into(), bits: axis.bits, offset: axis.offset as i32, last: axis.samples as i32 - 1 }
}
