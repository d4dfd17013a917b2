//! What a device does with a batch of pictures: the steps of each as a few passes, in parameter blocks, with all tables.
//!
//! A pass makes each pixel from the frame or from what the pass before left, weighed along one axis at most. What comes
//! before the first weighing is applied as the pass reads, what comes behind a weighing as it writes: the common list
//! (convert, resize, crop, flip, colour, normalise, cast, layout) is two passes, and full-size RGB is never written.
//!
//! Levels are dispatches. They are counted from the end, so that the last level finishes all pictures, however many
//! passes each has. Between levels pixels lie in scratch memory, one word each, red in the lowest byte.

pub mod chain;
pub mod source;
pub mod tables;

use std::sync::Arc;

use crate::error::Result;
use crate::frame::{Frame, PixelFormat};
use crate::program::params::{
    Action, COPY, HORIZONTAL, NONE, PLANES_HORIZONTAL, PLANES_VERTICAL, Pass, Source, Taps, VERTICAL, word,
};
use crate::program::resample::{Cache, Filter, Span};
use crate::program::window::Window;
use crate::program::yuv;
use crate::program::{Program, Quality, Step, Steps};
use crate::tensor::{Dtype, Layout, Tensor};
use source::Upload;
use tables::Tables;

/// Pixels of a row that are finished together: their bytes fill whole words in every element type.
const GROUP: usize = 4;

/// A batch of pictures as plain data.
#[derive(Debug)]
pub struct Batch<'a> {
    program: &'a Program,
    weights: &'a Cache,
    frames: Vec<Arc<Frame>>,
    /// The frame of each source and whether its planes are resized first.
    read: Vec<(usize, bool)>,
    pictures: Vec<Vec<Pass>>,
    elements: u32,
    /// Frames as kernels read them.
    pub sources: Vec<Source>,
    /// Steps that need no neighbours.
    pub actions: Vec<Action>,
    /// Look-up tables.
    pub tables: Tables,
    /// Planes to be copied.
    pub uploads: Vec<Upload>,
    /// Bytes of all planes.
    pub pixels: usize,
    /// Words between levels.
    pub scratch: usize,
    /// Words of all tensors.
    pub out: usize,
    /// Where each picture's tensor lies.
    pub tensors: Vec<Placed>,
}

impl<'a> Batch<'a> {
    /// An empty batch.
    pub fn new(program: &'a Program, weights: &'a Cache) -> Batch<'a> {
        let mut tables = Tables::default();
        let elements = tables.elements(&program.out);
        Batch {
            program,
            weights,
            frames: Vec::new(),
            read: Vec::new(),
            pictures: Vec::new(),
            elements,
            sources: Vec::new(),
            actions: Vec::new(),
            tables,
            uploads: Vec::new(),
            pixels: 0,
            scratch: 0,
            out: 0,
            tensors: Vec::new(),
        }
    }

    /// Appends a picture: `steps` are its Program's. A frame that is given again is uploaded once.
    ///
    /// Errors: `device_unsupported` for a format that devices do not take, corrupt for planes that are too small. The
    /// batch is then as it was.
    pub fn push(&mut self, frame: &Arc<Frame>, steps: &Steps) -> Result<()> {
        let fast = self.fast(frame, steps);
        let source = self.source(frame, fast)?;
        let wanted = self.wanted(steps);
        let count = steps.steps.len();
        let weighed: Vec<usize> = (0..count).filter(|i| matches!(steps.steps[*i].0, Step::Resize { .. })).collect();
        let mut passes = Vec::new();
        for (n, at) in weighed.iter().enumerate() {
            let mut made = if fast && *at == 0 {
                self.planes(frame, source, steps, wanted[1])
            } else {
                self.resize(steps, *at, &wanted)
            };
            let next = weighed.get(n + 1).copied().unwrap_or(count);
            if let Some(last) = made.last_mut() {
                (last.write_first, last.write_end) = self.chain(steps, at + 1, next);
                cover(last, wanted[next]);
            }
            passes.extend(made);
        }
        if passes.is_empty() {
            let mut pass = Pass { kind: COPY, source: NONE, ..Pass::default() };
            cover(&mut pass, wanted[count]);
            passes.push(pass);
        }
        (passes[0].read_first, passes[0].read_end) = self.chain(steps, 0, weighed.first().copied().unwrap_or(count));
        passes[0].source = source;
        self.link(&mut passes);
        self.finish(&mut passes, steps.size());
        self.pictures.push(passes);
        Ok(())
    }

    /// Whether the planes are resized first ([`Quality::Fast`]).
    fn fast(&self, frame: &Frame, steps: &Steps) -> bool {
        self.program.settings.quality == Quality::Fast
            && matches!(frame.format, PixelFormat::Yuv { depth: 8, .. })
            && matches!(steps.steps.first(), Some((Step::Resize { vertical_first: false, .. }, _)))
    }

    fn source(&mut self, frame: &Arc<Frame>, fast: bool) -> Result<u32> {
        let same = |(number, own): &(usize, bool)| *own == fast && Arc::ptr_eq(&self.frames[*number], frame);
        if let Some(at) = self.read.iter().position(same) {
            return Ok(word(at));
        }
        let number = self.frames.len();
        let chroma = self.program.settings.chroma;
        let (source, uploads) = source::source(frame, number, chroma, fast, &mut self.tables, &mut self.pixels)?;
        self.frames.push(frame.clone());
        self.read.push((number, fast));
        self.sources.push(source);
        self.uploads.extend(uploads);
        Ok(word(self.sources.len() - 1))
    }

    /// The part of the picture after each number of steps that what follows needs.
    fn wanted(&self, steps: &Steps) -> Vec<Window> {
        let mut wanted = vec![Window::whole(steps.size())];
        for (i, (step, size)) in steps.steps.iter().enumerate().rev() {
            let (behind, before) = (wanted[wanted.len() - 1], steps.size_before(i));
            wanted.push(match step {
                Step::Resize { filter, .. } => {
                    let along = |from: u32, to: u32, first: usize, count: usize| {
                        if from == to {
                            return (first, count);
                        }
                        let span = Span::whole(from as usize, to as usize);
                        let range = self.weights.get(span, *filter, first, count).reads();
                        (range.start, range.len())
                    };
                    let (x, w) = along(before.0, size.0, behind.x, behind.w);
                    let (y, h) = along(before.1, size.1, behind.y, behind.h);
                    Window { x, y, w, h }
                }
                step => chain::reads(step, behind, before, *size),
            });
        }
        wanted.reverse();
        wanted
    }

    /// Steps `from..to`, none of which needs neighbours, as a range of actions.
    fn chain(&mut self, steps: &Steps, from: usize, to: usize) -> (u32, u32) {
        let begun = self.actions.len();
        for i in from..to {
            chain::push(&mut self.actions, begun, &steps.steps[i].0, steps.size_before(i));
        }
        (word(begun), word(self.actions.len()))
    }

    fn taps(&mut self, span: Span, filter: Filter, first: usize, count: usize) -> Taps {
        self.tables.taps(&self.weights.get(span, filter, first, count), first)
    }

    /// The passes of the resize that is step `at`; an axis whose size stays has none.
    fn resize(&mut self, steps: &Steps, at: usize, wanted: &[Window]) -> Vec<Pass> {
        let (Step::Resize { filter, vertical_first }, (w, h)) = steps.steps[at] else { return Vec::new() };
        let ((from_w, from_h), before, behind) = (steps.size_before(at), wanted[at], wanted[at + 1]);
        let mut passes = Vec::new();
        if from_w != w {
            let taps = self.taps(Span::whole(from_w as usize, w as usize), filter, behind.x, behind.w);
            passes.push(Pass { kind: HORIZONTAL, taps, source: NONE, ..Pass::default() });
        }
        if from_h != h {
            let taps = self.taps(Span::whole(from_h as usize, h as usize), filter, behind.y, behind.h);
            passes.push(Pass { kind: VERTICAL, taps, source: NONE, ..Pass::default() });
        }
        let mut between = Window { x: behind.x, w: behind.w, y: before.y, h: before.h };
        if vertical_first {
            passes.reverse();
            between = Window { x: before.x, w: before.w, y: behind.y, h: behind.h };
        }
        cover(&mut passes[0], between);
        passes
    }

    /// The passes that resize each plane of a frame and convert at the small size, of which `wanted` is needed.
    fn planes(&mut self, frame: &Frame, source: u32, steps: &Steps, wanted: Window) -> Vec<Pass> {
        let (Step::Resize { filter, .. }, (w, h)) = steps.steps[0] else { return Vec::new() };
        let mut across = Pass { kind: PLANES_HORIZONTAL, source, ..Pass::default() };
        let mut down = Pass { kind: PLANES_VERTICAL, source, ..Pass::default() };
        let mut rows = 0;
        let spans = yuv::plane_spans(frame, (w as usize, h as usize));
        for (i, (x, y)) in spans.into_iter().enumerate() {
            // A side that stays is weighed with ones, so that luma and chroma take the same way.
            let kept = |span: Span| if span == Span::whole(span.out, span.out) { Filter::Nearest } else { filter };
            let range = self.weights.get(y, kept(y), wanted.y, wanted.h).reads();
            let row = range.start as i32;
            let own = |taps: Taps| Taps { row, ..taps };
            let (x, y) = (self.taps(x, kept(x), wanted.x, wanted.w), self.taps(y, kept(y), wanted.y, wanted.h));
            rows = rows.max(range.len());
            if i == 0 {
                (across.taps, down.taps) = (own(x), own(y));
            } else {
                (across.chroma, down.chroma) = (own(x), own(y));
            }
        }
        cover(&mut across, Window { y: 0, h: rows, ..wanted });
        vec![across, down]
    }

    /// Gives the passes of one picture their places in scratch memory: each reads what the one before it wrote. Two
    /// places take turns, so that none writes what it reads.
    fn link(&mut self, passes: &mut [Pass]) {
        let between = passes.len() - 1;
        let size = |pass: &Pass| pass.width as usize * pass.height as usize;
        let largest = passes[..between].iter().map(size).max().unwrap_or(0);
        let place = |turn: usize| word(self.scratch + turn % 2 * largest);
        for i in 0..between {
            let before = passes[i];
            passes[i].to = place(i);
            let next = &mut passes[i + 1];
            (next.input, next.input_row, next.input_x, next.input_y) = (place(i), before.width, before.x, before.y);
        }
        self.scratch += between.min(2) * largest;
    }

    /// Lets the last pass of a picture write its tensor.
    fn finish(&mut self, passes: &mut [Pass], (width, height): (u32, u32)) {
        let Some(last) = passes.last_mut() else { return };
        let (dtype, layout) = self.program.output();
        let pixels = (width as usize).next_multiple_of(GROUP);
        let (row, plane) = match layout {
            Layout::Hwc => (pixels * 3 * dtype.size() / 4, 0),
            Layout::Chw => (pixels * dtype.size() / 4, pixels * dtype.size() / 4 * height as usize),
        };
        (last.to, last.to_row, last.to_plane) = (word(self.out), word(row), word(plane));
        last.element = dtype.size() as u32;
        last.planar = u32::from(layout == Layout::Chw);
        last.table = self.elements;
        self.tensors.push(Placed { at: 4 * self.out, row: 4 * row, width, height, dtype, layout });
        self.out += row * height as usize * if plane > 0 { 3 } else { 1 };
    }

    /// The frame that an [`Upload`] is of.
    pub fn frame(&self, upload: &Upload) -> &Frame {
        &self.frames[upload.frame]
    }

    /// The passes of all pictures, level by level.
    pub fn levels(&self) -> Vec<Vec<Pass>> {
        let most = self.pictures.iter().map(Vec::len).max().unwrap_or(0);
        let level = |left: usize| {
            self.pictures.iter().filter_map(move |passes| passes.len().checked_sub(left).map(|i| passes[i])).collect()
        };
        (1..=most).rev().map(level).collect()
    }
}

/// The part of its picture that a pass makes.
fn cover(pass: &mut Pass, window: Window) {
    (pass.x, pass.y) = (window.x as i32, window.y as i32);
    (pass.width, pass.height, pass.to_row) = (word(window.w), word(window.h), word(window.w));
}

/// Where a tensor lies among the bytes that the last level writes; its rows are padded to whole groups of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    at: usize,
    row: usize,
    width: u32,
    height: u32,
    dtype: Dtype,
    layout: Layout,
}

impl Placed {
    /// The tensor among `bytes` that the last level wrote.
    pub fn tensor(&self, bytes: &[u8]) -> Tensor {
        let Placed { at, row: padded, width, height, dtype, layout } = *self;
        let (w, h) = (width as usize, height as usize);
        let (row, rows) = match layout {
            Layout::Hwc => (w * 3 * dtype.size(), h),
            Layout::Chw => (w * dtype.size(), 3 * h),
        };
        let mut data = Vec::with_capacity(row * rows);
        if row == padded {
            data.extend_from_slice(&bytes[at..][..row * rows]);
        } else {
            bytes[at..].chunks_exact(padded).take(rows).for_each(|padded| data.extend_from_slice(&padded[..row]));
        }
        Tensor { width, height, dtype, layout, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Color;
    use crate::frame::Plane;
    use crate::op::Op;
    use crate::program::params::MOVE;
    use crate::program::{DrawKey, Settings};

    fn nv(width: u32, height: u32) -> Arc<Frame> {
        let (w, h) = (width as usize, height as usize);
        let plane = |w: usize, h: usize| Plane { data: vec![0; w * h].into(), stride: w };
        let chroma = || plane(w.div_ceil(2), h.div_ceil(2));
        Arc::new(Frame {
            width,
            height,
            format: PixelFormat::Yuv { depth: 8, sub_w: 1, sub_h: 1 },
            planes: vec![plane(w, h), chroma(), chroma()],
            color: Color::srgb(),
            ..Frame::rgb(1, 1, vec![0; 3])
        })
    }

    fn program(ops: &[&str]) -> Program {
        let ops: Vec<Op> = ops.iter().map(|op| Op::parse(op).unwrap()).collect();
        Program::compile(&ops, Settings::default()).unwrap()
    }

    /// The passes of one picture, level by level, and the words between them.
    fn passes(ops: &[&str], (w, h): (u32, u32)) -> (Vec<Pass>, usize, Vec<Action>) {
        let (program, weights, frame) = (program(ops), Cache::default(), nv(w, h));
        let mut batch = Batch::new(&program, &weights);
        let steps = program.resolve((w, h), frame.orientation, (1, 1), &DrawKey::default()).unwrap();
        batch.push(&frame, &steps).unwrap();
        (batch.levels().concat(), batch.scratch, batch.actions)
    }

    #[test]
    fn the_common_list_is_two_passes_and_leaves_little_between() {
        let common = ["resize:short=256", "center_crop:w=224,h=224", "flip:h", "grayscale", "normalize:imagenet"];
        let (passes, scratch, actions) = passes(&common, (1920, 1080));
        assert_eq!([passes[0].kind, passes[1].kind], [HORIZONTAL, VERTICAL]);
        assert_eq!(passes.len(), 2);
        assert_eq!((passes[1].width, passes[1].height), (224, 224));
        // The rows that the crop's 224 rows need of 1080, and no column that is cropped away.
        assert_eq!(scratch, 224 * passes[0].height as usize);
        assert!((940..960).contains(&passes[0].height), "{}", passes[0].height);
        // Crop and flip are one move.
        assert_eq!(actions.iter().map(|a| a.kind).collect::<Vec<_>>(), [MOVE, crate::program::params::GRAYSCALE]);
    }

    #[test]
    fn the_axis_that_shrinks_more_comes_first() {
        let (passes, ..) = passes(&["resize:w=60,h=10"], (64, 200));
        assert_eq!([passes[0].kind, passes[1].kind], [VERTICAL, HORIZONTAL]);
        let (passes, ..) = self::passes(&["resize:w=64,h=10"], (64, 200));
        assert_eq!(passes.iter().map(|p| p.kind).collect::<Vec<_>>(), [VERTICAL], "a side that stays has no pass");
    }

    #[test]
    fn levels_are_counted_from_the_end() {
        let (program, weights) = (program(&["resize:w=20,h=20"]), Cache::default());
        let mut batch = Batch::new(&program, &weights);
        for size in [(20, 20), (40, 40), (20, 30)] {
            let steps = program.resolve(size, Default::default(), (1, 1), &DrawKey::default()).unwrap();
            batch.push(&nv(size.0, size.1), &steps).unwrap();
        }
        let kinds: Vec<Vec<u32>> = batch.levels().iter().map(|l| l.iter().map(|p| p.kind).collect()).collect();
        assert_eq!(kinds, [vec![HORIZONTAL], vec![COPY, VERTICAL, VERTICAL]]);
    }
}
