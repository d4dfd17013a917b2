//! Resampling in two passes, each rounded to whole values, of the part of the output that is wanted.

use std::sync::Arc;

use super::picture::Picture;
use super::simd;
use crate::frame::Frame;
use crate::program::resample::{Cache, Filter, Span, Weights};
use crate::program::window::Window;
use crate::program::yuv::plane_spans;

/// Largest value of a sample.
const MOST: i32 = 255;

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
            Pass::Weigh(weights) => {
                let range = weights.reads();
                (range.start, range.len())
            }
        }
    }

    fn horizontal(&self, row: &[i16], first: usize, out: &mut [i16]) {
        match self {
            Pass::Keep { first: from, .. } => out.copy_from_slice(&row[from - first..][..out.len()]),
            Pass::Weigh(weights) => simd::horizontal(row, first, weights, MOST, out),
        }
    }

    /// The same over three rows at once, which share the weights.
    fn horizontal3(&self, rows: [&[i16]; 3], first: usize, out: [&mut [i16]; 3]) {
        match self {
            Pass::Keep { .. } => {
                rows.into_iter().zip(out).for_each(|(row, out)| self.horizontal(row, first, out));
            }
            Pass::Weigh(weights) => simd::horizontal3(rows, first, weights, MOST, out),
        }
    }

    /// Row `at` of the output from a plane whose first row is input row `first`.
    fn vertical(&self, plane: &[i16], stride: usize, first: usize, at: usize, out: &mut [i16]) {
        match self {
            Pass::Keep { first: from, .. } => {
                out.copy_from_slice(&plane[(from + at - first) * stride..][..out.len()]);
            }
            Pass::Weigh(weights) => {
                let start = weights.starts[at] as usize - first;
                let own = &weights.full[at * weights.padded..][..weights.lengths[at] as usize];
                simd::vertical(&plane[start * stride..], stride, own, MOST, out);
            }
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
            let (first_x, wide) = plan.x.reads();
            let (first_y, high) = plan.y.reads();
            let mut rows = Picture::new(wide, 1);
            let mut narrow = Picture::new(w, high);
            let stride = narrow.stride();
            let data: &[u8] = &source.data;
            let bytes = |y: usize| &data[(first_y + y) * source.stride + first_x..][..wide];
            for (i, out) in narrow.planes[0][..stride * high].chunks_mut(3 * stride).enumerate() {
                let count = out.len() / stride;
                for (k, row) in rows.planes.iter_mut().take(count).enumerate() {
                    simd::widen(bytes(3 * i + k), &mut row[..wide]);
                }
                if count == 3 {
                    let (a, rest) = out.split_at_mut(stride);
                    let (b, c) = rest.split_at_mut(stride);
                    let [x, y, z] = &rows.planes;
                    plan.x.horizontal3([x, y, z], first_x, [&mut a[..w], &mut b[..w], &mut c[..w]]);
                } else {
                    for (row, out) in rows.planes.iter().zip(out.chunks_exact_mut(stride)) {
                        plan.x.horizontal(row, first_x, &mut out[..w]);
                    }
                }
            }
            for at in 0..h {
                plan.y.vertical(&narrow.planes[0], stride, first_y, at, out.rows_mut(at)[channel]);
            }
            rows.recycle();
            narrow.recycle();
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
        let reads = self.reads();
        if vertical_first {
            let low = self.vertical(input, reads.y);
            let out = self.horizontal(&low, reads.x);
            low.recycle();
            out
        } else {
            let narrow = self.horizontal(input, reads.x);
            let out = self.vertical(&narrow, reads.y);
            narrow.recycle();
            out
        }
    }

    fn horizontal(&self, input: &Picture, first: usize) -> Picture {
        let mut out = Picture::new(self.window.w, input.h);
        let stride = input.stride();
        for y in 0..input.h {
            let rows = [0, 1, 2].map(|channel| &input.planes[channel][y * stride..][..stride]);
            self.x.horizontal3(rows, first, out.rows_mut(y));
        }
        out
    }

    fn vertical(&self, input: &Picture, first: usize) -> Picture {
        let mut out = Picture::new(input.w, self.window.h);
        for at in 0..self.window.h {
            for (channel, row) in out.rows_mut(at).into_iter().enumerate() {
                self.y.vertical(&input.planes[channel], input.stride(), first, at, row);
            }
        }
        out
    }

    /// Both passes, the horizontal one first, over rows that `source(y, x, n, rows)` makes one by one.
    pub fn stream(&self, mut source: impl FnMut(usize, usize, usize, [&mut [i16]; 3])) -> Picture {
        let reads = self.reads();
        let mut line = Picture::new(reads.w, 1);
        let mut narrow = Picture::new(self.window.w, reads.h);
        for y in 0..reads.h {
            source(reads.y + y, reads.x, reads.w, line.rows_mut(0));
            let [a, b, c] = &line.planes;
            self.x.horizontal3([a, b, c], reads.x, narrow.rows_mut(y));
        }
        line.recycle();
        let out = self.vertical(&narrow, reads.y);
        narrow.recycle();
        out
    }
}
