//! Resampling in two passes, each rounded to whole values, of the part of the output that is wanted.

use std::ops::Range;
use std::sync::Arc;

use super::picture::Picture;
use super::simd::{self, Lanes, Narrow, ROOM, STRIP, Strip};
use crate::frame::Frame;
use crate::program::resample::{Cache, Filter, Span, Weights};
use crate::program::window::Window;
use crate::program::yuv::plane_spans;

/// A resize of which `window` is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Resize {
    pub from: (usize, usize),
    pub to: (usize, usize),
    pub filter: Filter,
    pub window: Window,
}

/// One axis: weights, or the plain window where the size stays.
enum Pass {
    Keep { first: usize, count: usize },
    Weigh(Arc<Weights>),
}

impl Pass {
    fn new(cache: &Cache, span: Span, filter: Filter, first: usize, count: usize) -> Pass {
        if span == Span::whole(span.out, span.out) {
            Pass::Keep { first, count }
        } else {
            Pass::Weigh(cache.get(span, filter, first, count))
        }
    }

    /// First input and number of inputs that are read.
    fn reads(&self) -> (usize, usize) {
        match self {
            Pass::Keep { first, count } => (*first, *count),
            Pass::Weigh(weights) => (weights.reads.start, weights.reads.len()),
        }
    }

    /// Rows of strips, which hold just what is read, made narrow.
    fn horizontal<const N: usize>(&self, strips: [Strip; N], lanes: &mut Lanes<N>, out: [Narrow; N]) {
        match self {
            Pass::Keep { .. } => {
                for (strip, out) in strips.iter().zip(out) {
                    for row in 0..strip.count {
                        let to = &mut out.rows[row * out.stride..][..out.n];
                        to.copy_from_slice(&strip.rows[row * strip.stride..][..out.n]);
                    }
                }
            }
            Pass::Weigh(weights) => simd::horizontal(strips, weights.reads.start, weights, lanes, out),
        }
    }

    /// Row `at` of the output from a plane that begins with the first row that is read.
    fn vertical(&self, plane: &[u8], stride: usize, at: usize, out: &mut [u8]) {
        match self {
            Pass::Keep { .. } => out.copy_from_slice(&plane[at * stride..][..out.len()]),
            Pass::Weigh(weights) => simd::vertical(plane, stride, weights.reads.start, weights, at, out),
        }
    }
}

/// A resize with its weights.
pub struct Plan {
    window: Window,
    x: Pass,
    y: Pass,
}

impl Resize {
    pub fn plan(&self, cache: &Cache) -> Plan {
        let Window { x, y, w, h } = self.window;
        Plan {
            window: self.window,
            x: Pass::new(cache, Span::whole(self.from.0, self.to.0), self.filter, x, w),
            y: Pass::new(cache, Span::whole(self.from.1, self.to.1), self.filter, y, h),
        }
    }

    /// Resizes each plane of an 8-bit YCbCr frame, chroma by its siting.
    pub fn planes(&self, frame: &Frame, cache: &Cache) -> Picture {
        let mut out = Picture::new(self.window.w, self.window.h);
        let [luma, chroma] = plane_spans(frame, self.to);
        let Window { x: wx, y: wy, w, h } = self.window;
        for (channel, source) in frame.planes.iter().take(3).enumerate() {
            let (span_x, span_y) = if channel == 0 { luma } else { chroma };
            let plan = Plan {
                window: self.window,
                x: Pass::new(cache, span_x, self.filter, wx, w),
                y: Pass::new(cache, span_y, self.filter, wy, h),
            };
            plan.plane(&source.data, source.stride, &mut out, channel);
        }
        out
    }
}

impl Plan {
    /// The window of the input that is read.
    pub fn reads(&self) -> Window {
        let ((x, w), (y, h)) = (self.x.reads(), self.y.reads());
        Window { x, y, w, h }
    }

    /// Both passes over `input`, which holds just [`Plan::reads`].
    pub fn run(&self, input: &Picture, vertical_first: bool) -> Picture {
        if vertical_first {
            let low = self.vertical(input);
            let out = self.horizontal(&low);
            low.recycle();
            out
        } else {
            let narrow = self.horizontal(input);
            let out = self.vertical(&narrow);
            narrow.recycle();
            out
        }
    }

    /// Both passes, the horizontal one first, over rows that `source(y, x, n, rows)` makes one by one.
    pub fn stream(&self, mut source: impl FnMut(usize, usize, usize, [&mut [u8]; 3])) -> Picture {
        let reads = self.reads();
        let mut lines = Picture::new(reads.w, STRIP);
        let mut narrow = Picture::new(self.window.w, reads.h);
        let mut lanes = Lanes::default();
        for y in (0..reads.h).step_by(STRIP) {
            let count = STRIP.min(reads.h - y);
            for i in 0..count {
                source(reads.y + y + i, reads.x, reads.w, lines.rows_mut(i));
            }
            self.strip(&lines, 0..count, &mut lanes, &mut narrow, y);
        }
        lines.recycle();
        let out = self.vertical(&narrow);
        narrow.recycle();
        out
    }

    fn horizontal(&self, input: &Picture) -> Picture {
        let mut out = Picture::new(self.window.w, input.h);
        let mut lanes = Lanes::default();
        for y in (0..input.h).step_by(STRIP) {
            self.strip(input, y..input.h.min(y + STRIP), &mut lanes, &mut out, y);
        }
        out
    }

    /// `rows` of `input`, narrowed, to `out` from row `to` on.
    fn strip(&self, input: &Picture, rows: Range<usize>, lanes: &mut Lanes<3>, out: &mut Picture, to: usize) {
        let (stride, out_stride, n) = (input.stride(), out.stride(), self.window.w);
        let strips = input.planes.each_ref().map(|plane| Strip {
            rows: &plane[rows.start * stride..],
            stride,
            count: rows.len(),
            width: input.w,
        });
        let narrow =
            out.planes.each_mut().map(|plane| Narrow { rows: &mut plane[to * out_stride..], stride: out_stride, n });
        self.x.horizontal(strips, lanes, narrow);
    }

    fn vertical(&self, input: &Picture) -> Picture {
        let mut out = Picture::new(input.w, self.window.h);
        for at in 0..self.window.h {
            for (channel, row) in out.rows_mut(at).into_iter().enumerate() {
                self.y.vertical(&input.planes[channel], input.stride(), at, row);
            }
        }
        out
    }

    /// Both passes over one plane of a frame, to `out`'s plane `channel`.
    fn plane(&self, data: &[u8], stride: usize, out: &mut Picture, channel: usize) {
        let reads = self.reads();
        let mut narrow = Picture::new(self.window.w, reads.h);
        let (narrow_stride, n) = (narrow.stride(), self.window.w);
        let mut lanes = Lanes::default();
        let mut edge = Vec::new();
        let mut rest = &mut narrow.planes[0][..];
        for y in (0..reads.h).step_by(2 * STRIP) {
            let high = (2 * STRIP).min(reads.h - y);
            let rows = &data[(reads.y + y) * stride + reads.x..];
            // Behind the last row of a plane there may be no room.
            let rows = if rows.len() >= (high - 1) * stride + reads.w + ROOM {
                rows
            } else {
                edge.clear();
                edge.extend_from_slice(rows);
                edge.resize(high * stride + ROOM, 0);
                &edge
            };
            let strip =
                |from: usize, count: usize| Strip { rows: &rows[from * stride..], stride, count, width: reads.w };
            let (here, behind) = rest.split_at_mut(high * narrow_stride);
            rest = behind;
            if high == 2 * STRIP {
                let (a, b) = here.split_at_mut(STRIP * narrow_stride);
                let to = [a, b].map(|rows| Narrow { rows, stride: narrow_stride, n });
                self.x.horizontal([strip(0, STRIP), strip(STRIP, STRIP)], &mut lanes, to);
            } else {
                let [lanes, _] = &mut lanes;
                for (i, here) in here.chunks_mut(STRIP * narrow_stride).enumerate() {
                    let count = here.len() / narrow_stride;
                    let to = [Narrow { rows: here, stride: narrow_stride, n }];
                    self.x.horizontal([strip(i * STRIP, count)], std::array::from_mut(lanes), to);
                }
            }
        }
        for at in 0..self.window.h {
            self.y.vertical(&narrow.planes[0], narrow_stride, at, out.rows_mut(at)[channel]);
        }
        narrow.recycle();
    }
}
