//! Resampling in two passes, each rounded to whole values, of the part of the output that is wanted.

use std::cell::Cell;
use std::sync::Arc;

use super::picture::Picture;
use super::simd::{self, Lanes, Level, Rows, Stack, Strip};
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
            Pass::Weigh(weights) => (weights.first(), weights.reads.end - weights.first()),
        }
    }
}

/// A resize with its weights.
pub struct Plan {
    level: Level,
    window: Window,
    x: Pass,
    y: Pass,
}

/// What passes work in.
#[derive(Default)]
struct Work {
    lanes: [Lanes; 3],
    /// Pictures between both passes.
    stacks: [Stack; 3],
}

thread_local! {
    /// This thread's, reused.
    static WORK: Cell<Option<Box<Work>>> = const { Cell::new(None) };
}

impl Work {
    /// Bytes that a thread keeps: more than frames of videos take.
    const KEPT: usize = 16 << 20;

    /// Calls `f` with this thread's.
    fn with<T>(f: impl FnOnce(&mut Work) -> T) -> T {
        let mut work = WORK.take().unwrap_or_default();
        let out = f(&mut work);
        if work.lanes.iter().map(Lanes::bytes).chain(work.stacks.iter().map(Stack::bytes)).sum::<usize>() <= Self::KEPT
        {
            WORK.set(Some(work));
        }
        out
    }
}

impl Resize {
    pub fn plan(&self, level: Level, cache: &Cache) -> Plan {
        self.along(level, cache, (Span::whole(self.from.0, self.to.0), Span::whole(self.from.1, self.to.1)))
    }

    fn along(&self, level: Level, cache: &Cache, (x, y): (Span, Span)) -> Plan {
        let Window { x: left, y: top, w, h } = self.window;
        Plan {
            level,
            window: self.window,
            x: Pass::new(cache, x, self.filter, left, w),
            y: Pass::new(cache, y, self.filter, top, h),
        }
    }

    /// Resizes each plane of an 8-bit YCbCr frame, chroma by its siting.
    pub fn planes(&self, frame: &Frame, level: Level, cache: &Cache) -> Picture {
        let mut out = Picture::new(self.window.w, self.window.h);
        let [luma, chroma] = plane_spans(frame, self.to).map(|spans| self.along(level, cache, spans));
        Work::with(|work| {
            for (channel, plane) in frame.planes.iter().take(3).enumerate() {
                let plan = if channel == 0 { &luma } else { &chroma };
                plan.plane(&plane.data, plane.stride, work, &mut out, channel);
            }
        });
        out
    }
}

/// Where the rows of a picture come from.
pub trait Source {
    /// `n` values of row `y` from column `x` on.
    fn row(&mut self, y: usize, x: usize, n: usize, out: [&mut [u8]; 3]);

    /// The rows of `strip` from the even column `x` on, as vectors have them; false where there is no such way.
    fn fill(&mut self, level: Level, strip: Strip, x: usize, lanes: &mut [Lanes; 3]) -> bool;
}

impl Plan {
    /// The window of the input that is read.
    pub fn reads(&self) -> Window {
        let ((x, w), (y, h)) = (self.x.reads(), self.y.reads());
        Window { x, y, w, h }
    }

    /// Both passes over `input`, which holds just [`Plan::reads`].
    pub fn run(&self, input: &Picture, vertical_first: bool) -> Picture {
        Work::with(|work| {
            if !vertical_first {
                self.across(input, work);
                return self.down(work, self.window.w);
            }
            work.reset(input.w, input.h);
            let whole = Strip { y: 0, count: input.h, width: input.w };
            for (stack, rows) in work.stacks.iter_mut().zip(input.rows_of()) {
                stack.put(self.level, rows, whole, 0);
            }
            let low = self.down(work, input.w);
            self.across(&low, work);
            low.recycle();
            work.picture(self.level, self.window.w, self.window.h)
        })
    }

    /// Both passes, the horizontal one first, over rows that are made strip by strip.
    pub fn stream(&self, source: &mut impl Source) -> Picture {
        let reads = self.reads();
        let mut lines = Picture::new(reads.w, self.level.rows());
        let out = Work::with(|work| {
            work.reset(self.window.w, reads.h);
            for strip in self.strips(reads.w, reads.h) {
                let from = Strip { y: reads.y + strip.y, ..strip };
                match &self.x {
                    Pass::Weigh(weights) if source.fill(self.level, from, reads.x, &mut work.lanes) => {
                        simd::across(self.level, work.lanes.each_ref(), weights, &mut work.stacks, strip.y);
                    }
                    _ => {
                        for i in 0..strip.count {
                            source.row(from.y + i, reads.x, reads.w, lines.rows_mut(i));
                        }
                        self.strip(&lines, Strip { y: 0, ..strip }, work, strip.y);
                    }
                }
            }
            self.down(work, self.window.w)
        });
        lines.recycle();
        out
    }

    /// The strips of so many rows.
    fn strips(&self, width: usize, rows: usize) -> impl Iterator<Item = Strip> + use<> {
        let high = self.level.rows();
        (0..rows).step_by(high).map(move |y| Strip { y, count: high.min(rows - y), width })
    }

    /// The horizontal pass over a picture.
    fn across(&self, input: &Picture, work: &mut Work) {
        work.reset(self.window.w, input.h);
        for strip in self.strips(input.w, input.h) {
            self.strip(input, strip, work, strip.y);
        }
    }

    /// The horizontal pass over a strip of `input`, to row `to` on.
    fn strip(&self, input: &Picture, strip: Strip, work: &mut Work, to: usize) {
        match &self.x {
            Pass::Keep { .. } => {
                for (stack, rows) in work.stacks.iter_mut().zip(input.rows_of()) {
                    stack.put(self.level, rows, strip, to);
                }
            }
            Pass::Weigh(weights) => {
                for (lanes, rows) in work.lanes.iter_mut().zip(input.rows_of()) {
                    lanes.fill_plane(self.level, rows, strip);
                }
                simd::across(self.level, work.lanes.each_ref(), weights, &mut work.stacks, to);
            }
        }
    }

    /// The vertical pass.
    fn down(&self, work: &Work, columns: usize) -> Picture {
        let mut out = Picture::new(columns, self.window.h);
        for (channel, stack) in work.stacks.iter().enumerate() {
            self.column(stack, &mut out, channel);
        }
        out
    }

    /// The vertical pass over one plane.
    fn column(&self, stack: &Stack, out: &mut Picture, channel: usize) {
        let (stride, h) = (out.stride(), out.h);
        let plane = &mut out.planes[channel];
        match &self.y {
            Pass::Keep { .. } => stack.rows(self.level, plane, stride),
            Pass::Weigh(weights) => {
                for (at, row) in plane.chunks_exact_mut(stride).take(h).enumerate() {
                    simd::down(self.level, stack, weights, at, row);
                }
            }
        }
    }

    /// Both passes over one plane of a frame, to `out`'s plane `channel`.
    fn plane(&self, data: &[u8], stride: usize, work: &mut Work, out: &mut Picture, channel: usize) {
        let reads = self.reads();
        let rows = Rows { data, stride, from: reads.x };
        let Work { lanes: [lanes, ..], stacks: [stack, ..] } = work;
        stack.reset(self.window.w, reads.h);
        for strip in self.strips(reads.w, reads.h) {
            let from = Strip { y: reads.y + strip.y, ..strip };
            match &self.x {
                Pass::Keep { .. } => stack.put(self.level, rows, from, strip.y),
                // One strip at a time stays in the fastest cache.
                Pass::Weigh(weights) => {
                    lanes.fill_plane(self.level, rows, from);
                    simd::across(self.level, [lanes], weights, std::array::from_mut(stack), strip.y);
                }
            }
        }
        self.column(stack, out, channel);
    }
}

impl Work {
    fn reset(&mut self, columns: usize, rows: usize) {
        for stack in &mut self.stacks {
            stack.reset(columns, rows);
        }
    }

    /// The picture between both passes.
    fn picture(&self, level: Level, w: usize, h: usize) -> Picture {
        let mut out = Picture::new(w, h);
        let stride = out.stride();
        for (stack, plane) in self.stacks.iter().zip(&mut out.planes) {
            stack.rows(level, plane, stride);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::convert::{Converter, Scratch, Streamed};
    use super::*;
    use crate::color::{Color, Matrix, Range, Siting};
    use crate::frame::{PixelFormat, Plane};
    use crate::program::yuv::Chroma;

    /// Makes rows alone, as kinds of pictures do that are not brought into vectors at once.
    struct Rowwise<'a>(Streamed<'a>);

    impl Source for Rowwise<'_> {
        fn row(&mut self, y: usize, x: usize, n: usize, out: [&mut [u8]; 3]) {
            self.0.row(y, x, n, out);
        }
        fn fill(&mut self, _: Level, _: Strip, _: usize, _: &mut [Lanes; 3]) -> bool {
            false
        }
    }

    fn frame(seed: u64, (w, h): (usize, usize), format: PixelFormat, color: Color) -> Frame {
        let mut state = seed | 1;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Extremes, so that results are clamped too.
            [(state >> 56) as u8, 0, 255][(state >> 40) as usize % 6 / 4 * ((state >> 33) as usize % 3)]
        };
        let mut frame = Frame { format, color, ..Frame::rgb(w as u32, h as u32, vec![0; w * h * 3]) };
        let (sub_w, sub_h) = match format {
            PixelFormat::Yuv { sub_w, sub_h, .. } => (sub_w, sub_h),
            _ => (0, 0),
        };
        let mut plane = |w: usize, h: usize| {
            let stride = w + (seed % 5) as usize;
            let data: Vec<u8> = (0..stride * (h - 1) + w).map(|_| byte()).collect();
            Plane { data: data.into(), stride }
        };
        frame.planes = match format {
            PixelFormat::Rgb8 => vec![plane(3 * w, h)],
            _ => {
                let (cw, ch) = (w.div_ceil(1 << sub_w), h.div_ceil(1 << sub_h));
                vec![plane(w, h), plane(cw, ch), plane(cw, ch)]
            }
        };
        frame
    }

    proptest! {
        /// Windows of pictures of all kinds, brought into vectors at once, are what rows give on the narrowest ones.
        #[test]
        fn filled_strips_are_the_rows(
            seed in any::<u64>(), w in 1usize..150, h in 1usize..60, to_w in 1usize..90, to_h in 1usize..50, kind in 0usize..7,
        ) {
            let yuv = |sub_w, sub_h| PixelFormat::Yuv { depth: 8, sub_w, sub_h };
            let kinds = [yuv(1, 1), yuv(1, 1), yuv(1, 0), yuv(0, 0), yuv(0, 1), yuv(2, 2), PixelFormat::Rgb8];
            let matrices = [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020, Matrix::Smpte240m, Matrix::Fcc, Matrix::Ycgco];
            let color = Color {
                matrix: matrices[(seed % 6) as usize],
                range: if seed % 2 == 0 { Range::Limited } else { Range::Full },
                siting: [
                    Siting::Left, Siting::Center, Siting::TopLeft, Siting::Top, Siting::BottomLeft, Siting::Bottom,
                ][(seed >> 8) as usize % 6],
                ..Color::srgb()
            };
            let chroma = if seed % 5 == 0 { Chroma::Nearest } else { Chroma::Linear };
            let frame = frame(seed, (w, h), kinds[kind], color);
            let (x, y) = ((seed >> 16) as usize % to_w, (seed >> 24) as usize % to_h);
            let window = Window { x, y, w: to_w - x, h: to_h - y };
            let resize = Resize { from: (w, h), to: (to_w, to_h), filter: Filter::Bicubic, window };
            let converter = Converter::new(&frame, chroma, None).unwrap();
            let cache = Cache::default();
            let mut wanted = None;
            for level in Level::all() {
                let plan = resize.plan(level, &cache);
                for filled in [false, true] {
                    let mut rows = Streamed { converter: &converter, scratch: Scratch::default() };
                    let picture = if filled { plan.stream(&mut rows) } else { plan.stream(&mut Rowwise(rows)) };
                    let rows: Vec<Vec<u8>> =
                        (0..3).flat_map(|c| (0..window.h).map(move |y| (c, y))).map(|(c, y)| picture.row(c, y).to_vec()).collect();
                    let wanted = wanted.get_or_insert_with(|| rows.clone());
                    prop_assert_eq!(wanted, &rows, "{:?} {} {:?}", level, filled, kinds[kind]);
                }
            }
        }
    }
}
