//! What a device does with a batch of pictures: the steps of each as a few passes, in parameter blocks, with all tables.
//!
//! A pass makes each pixel from the frame or from what the pass before left, weighed along one axis at most. What comes
//! before the first weighing is applied as the pass reads, what comes behind a weighing as it writes: the common list
//! (convert, resize, crop, flip, colour, normalise, cast, layout) is two passes, and full-size RGB is never written. The
//! mean of a picture takes one more, which computes the pixels, adds them up and leaves them to be computed again.
//!
//! A batch may hold pictures of several Programs. A frame goes up once, whatever number of them read it; how each reads it is
//! a source of its own.
//!
//! Levels are dispatches, one for each Program. They are counted from the end, so that the last level finishes all pictures,
//! however many passes each has. Between levels pixels lie in scratch memory, one word each, red in the lowest byte.

pub mod chain;
pub mod source;
pub mod tables;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::error::Result;
use crate::frame::{Frame, PixelFormat};
use crate::program::affine::Position;
use crate::program::params::{
    AFFINE, Action, BLEND_MEAN, BLUR_HORIZONTAL, BLUR_VERTICAL, COPY, HORIZONTAL, NONE, PLANES_HORIZONTAL,
    PLANES_VERTICAL, Pass, Source, Taps, VERTICAL, word,
};
use crate::program::resample::{Cache, Filter, Span};
use crate::program::tones::Tones;
use crate::program::window::Window;
use crate::program::yuv;
use crate::program::{Base, Program, Quality, Step, Steps};
use crate::tensor::{Dtype, Layout, Tensor};
use source::{How, Upload};
use tables::Tables;

/// Pixels of a row that are finished together: their bytes fill whole words in every element type.
const GROUP: usize = 4;

/// Tensors begin on multiples of so many words, whatever the element type of those before: kernels write a group at once.
const ALIGN: usize = 4;

/// A batch of pictures as plain data.
#[derive(Debug)]
pub struct Batch<'a> {
    weights: &'a Cache,
    tones: &'a Tones,
    /// All Programs so far, each with the table of its elements.
    programs: Vec<(&'a Program, u32)>,
    frames: Vec<Arc<Frame>>,
    /// The frame of each source and how it is read.
    read: Vec<(usize, How)>,
    /// The passes of each picture, and the number of its Program.
    pictures: Vec<(usize, Vec<Pass>)>,
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
    /// Words of sums.
    pub sums: usize,
    /// Words of all tensors.
    pub out: usize,
    /// Where each picture's tensor lies.
    pub tensors: Vec<Placed>,
}

impl<'a> Batch<'a> {
    /// An empty batch.
    pub fn new(weights: &'a Cache, tones: &'a Tones) -> Batch<'a> {
        Batch {
            weights,
            tones,
            programs: Vec::new(),
            frames: Vec::new(),
            read: Vec::new(),
            pictures: Vec::new(),
            sources: Vec::new(),
            actions: Vec::new(),
            tables: Tables::default(),
            uploads: Vec::new(),
            pixels: 0,
            scratch: 0,
            sums: 0,
            out: 0,
            tensors: Vec::new(),
        }
    }

    /// Appends a picture: what `program` makes of `frame`, in `steps`. A frame that is given again is uploaded once, also
    /// where another Program reads it.
    ///
    /// Errors: `device_unsupported` for what devices do not take, corrupt for planes that are too small, the picture's own
    /// where it cannot be tone-mapped. No picture is appended then.
    pub fn push(&mut self, program: &'a Program, frame: &Arc<Frame>, steps: &Steps) -> Result<()> {
        let tone = program.tonemap.map_or(Ok(None), |tonemap| self.tones.get(tonemap, &frame.color))?;
        // What is mapped is mapped at full size.
        let fast = tone.is_none() && is_fast(program, frame, steps);
        let source = self.source(frame, How { chroma: program.settings.chroma, fast, tone })?;
        let wanted = self.wanted(steps);
        let count = steps.steps.len();
        let weighed: Vec<usize> = (0..count).filter(|i| is_weighed(&steps.steps[*i].0)).collect();
        let read = self.chain(steps, 0, weighed.first().copied().unwrap_or(count))?;
        // Reads the frame through the first chain: the whole of a list that weighs nothing.
        let mut plain = Pass { source, read_first: read.first, read_end: read.end, ..pass(COPY) };
        cover(&mut plain, wanted[count]);
        let mut passes = read.sums(&plain, steps, |sum, end| sum.read_end = end);
        for (n, at) in weighed.iter().enumerate() {
            let mut made = match &steps.steps[*at].0 {
                Step::Resize { .. } if fast && *at == 0 => self.planes(frame, source, steps, wanted[1]),
                Step::Blur { x, y } => self.blur(x, y, steps.size_before(*at), wanted[*at], wanted[at + 1]),
                Step::Affine { columns, rows, fill } => self.affine(columns, rows, *fill, steps.size_before(*at)),
                _ => self.resize(steps, *at, &wanted),
            };
            let next = weighed.get(n + 1).copied().unwrap_or(count);
            let write = self.chain(steps, at + 1, next)?;
            if n == 0 {
                made[0] = Pass { source, read_first: read.first, read_end: read.end, ..made[0] };
            }
            let mut last = made.remove(made.len() - 1);
            (last.write_first, last.write_end) = (write.first, write.end);
            cover(&mut last, wanted[next]);
            passes.extend(made);
            passes.extend(write.sums(&last, steps, |sum, end| sum.write_end = end));
            passes.push(last);
        }
        if weighed.is_empty() {
            passes.push(plain);
        }
        self.link(&mut passes);
        let number = self.number(program);
        self.finish(&mut passes, number, steps.size());
        self.pictures.push((number, passes));
        Ok(())
    }

    /// The number of a Program in this batch.
    fn number(&mut self, program: &'a Program) -> usize {
        let known = self.programs.iter().position(|(own, _)| std::ptr::eq(*own, program));
        known.unwrap_or_else(|| {
            self.programs.push((program, self.tables.elements(&program.out)));
            self.programs.len() - 1
        })
    }

    /// The source that reads `frame` like this.
    fn source(&mut self, frame: &Arc<Frame>, how: How) -> Result<u32> {
        let known = self.frames.iter().position(|own| Arc::ptr_eq(own, frame));
        if let Some(number) = known
            && let Some(at) = self.read.iter().position(|(own, other)| *own == number && *other == how)
        {
            return Ok(word(at));
        }
        let number = match known {
            Some(number) => number,
            None => {
                self.uploads.extend(source::uploads(frame, self.frames.len(), &mut self.pixels)?);
                self.frames.push(frame.clone());
                self.frames.len() - 1
            }
        };
        let planes = self.uploads.iter().filter(|upload| upload.frame == number);
        self.sources.push(source::source(frame, planes, &how, &mut self.tables));
        self.read.push((number, how));
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
                        let range = self.weights.get(span, *filter, first, count).reads.clone();
                        (range.start, range.len())
                    };
                    let (x, w) = along(before.0, size.0, behind.x, behind.w);
                    let (y, h) = along(before.1, size.1, behind.y, behind.h);
                    Window { x, y, w, h }
                }
                Step::Blur { x, y } => behind.grown((x.len() / 2, y.len() / 2), (before.0 as usize, before.1 as usize)),
                Step::Affine { .. } => Window::whole(before),
                step => chain::reads(step, behind, before, *size),
            });
        }
        wanted.reverse();
        wanted
    }

    /// Steps `from..to`, none of which needs neighbours, as a range of actions.
    fn chain(&mut self, steps: &Steps, from: usize, to: usize) -> Result<Chain> {
        let begun = self.actions.len();
        let mut means = Vec::new();
        for i in from..to {
            let (step, size) = (&steps.steps[i].0, steps.size_before(i));
            chain::push(&mut self.actions, begun, step, size, &mut self.tables, &mut self.sums)?;
            let last = self.actions.len() - 1;
            if self.actions[last].kind == BLEND_MEAN && matches!(step, Step::Blend { base: Base::Mean, .. }) {
                means.push((i, word(last), self.actions[last].table));
            }
        }
        Ok(Chain { first: word(begun), end: word(self.actions.len()), means })
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
            passes.push(Pass { taps, ..pass(HORIZONTAL) });
        }
        if from_h != h {
            let taps = self.taps(Span::whole(from_h as usize, h as usize), filter, behind.y, behind.h);
            passes.push(Pass { taps, ..pass(VERTICAL) });
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
        let mut across = Pass { source, ..pass(PLANES_HORIZONTAL) };
        let mut down = Pass { source, ..pass(PLANES_VERTICAL) };
        let mut rows = 0;
        let spans = yuv::plane_spans(frame, (w as usize, h as usize));
        for (i, (x, y)) in spans.into_iter().enumerate() {
            // A side that stays is weighed with ones, so that luma and chroma take the same way.
            let kept = |span: Span| if span == Span::whole(span.out, span.out) { Filter::Nearest } else { filter };
            let range = self.weights.get(y, kept(y), wanted.y, wanted.h).reads.clone();
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

    /// The passes of a blur of a picture of this size, of which `before` is read and `behind` needed.
    fn blur(&mut self, x: &[i32], y: &[i32], size: (u32, u32), before: Window, behind: Window) -> Vec<Pass> {
        let sides = |pass: Pass| Pass { side_x: size.0 as i32, side_y: size.1 as i32, ..pass };
        let mut across = sides(Pass { taps: self.tables.kernel(x), ..pass(BLUR_HORIZONTAL) });
        let down = sides(Pass { taps: self.tables.kernel(y), ..pass(BLUR_VERTICAL) });
        cover(&mut across, Window { x: behind.x, w: behind.w, ..before });
        vec![across, down]
    }

    /// The pass of an affine map of a picture of this size.
    fn affine(&mut self, columns: &[Position], rows: &[Position], fill: [u8; 3], size: (u32, u32)) -> Vec<Pass> {
        let (taps, chroma) = (self.tables.positions(columns), self.tables.positions(rows));
        let (side_x, side_y, fill) = (size.0 as i32, size.1 as i32, chain::packed(fill));
        vec![Pass { taps, chroma, side_x, side_y, fill, ..pass(AFFINE) }]
    }

    /// Gives the passes of one picture their places in scratch memory: each reads what the one before it wrote. Two
    /// places take turns, so that none writes what it reads.
    fn link(&mut self, passes: &mut [Pass]) {
        let between = passes.len() - 1;
        let leaves = |pass: &Pass| pass.sum == NONE;
        let size = |pass: &Pass| pass.to_row as usize * pass.height as usize;
        let largest = passes[..between].iter().filter(|p| leaves(p)).map(size).max().unwrap_or(0);
        let mut left: Option<Pass> = None;
        let mut turns = 0;
        for (i, pass) in passes.iter_mut().enumerate() {
            if let Some(left) = left {
                (pass.input, pass.input_row, pass.input_x, pass.input_y) = (left.to, left.to_row, left.x, left.y);
            }
            if i < between && leaves(pass) {
                pass.to = word(self.scratch + turns % 2 * largest);
                turns += 1;
                left = Some(*pass);
            }
        }
        self.scratch += turns.min(2) * largest;
    }

    /// Lets the last pass of a picture write its tensor, as its Program has it.
    fn finish(&mut self, passes: &mut [Pass], number: usize, (width, height): (u32, u32)) {
        let Some(last) = passes.last_mut() else { return };
        let (program, elements) = self.programs[number];
        let (dtype, layout) = program.output();
        let pixels = (width as usize).next_multiple_of(GROUP);
        let (row, plane) = match layout {
            Layout::Hwc => (pixels * 3 * dtype.size() / 4, 0),
            Layout::Chw => (pixels * dtype.size() / 4, pixels * dtype.size() / 4 * height as usize),
        };
        self.out = self.out.next_multiple_of(ALIGN);
        (last.to, last.to_row, last.to_plane) = (word(self.out), word(row), word(plane));
        last.element = dtype.size() as u32;
        last.planar = u32::from(layout == Layout::Chw);
        last.table = elements;
        self.tensors.push(Placed { at: 4 * self.out, row: 4 * row, width, height, dtype, layout });
        self.out += row * height as usize * if plane > 0 { 3 } else { 1 };
    }

    /// All frames of the batch.
    pub fn frames(&self) -> &[Arc<Frame>] {
        &self.frames
    }

    /// The frame that an [`Upload`] is of.
    pub fn frame(&self, upload: &Upload) -> &Frame {
        &self.frames[upload.frame]
    }

    /// The passes of all pictures, level by level, by their Program and by what their dispatch does.
    pub fn dispatches(&self) -> Vec<(Entry, Vec<Pass>)> {
        let most = self.pictures.iter().map(|(_, passes)| passes.len()).max().unwrap_or(0);
        let levels = (1..=most).rev().flat_map(|left| (0..self.programs.len()).map(move |number| (left, number)));
        let mut dispatches = Vec::new();
        for (left, number) in levels {
            let passes = self.pictures.iter().filter(|(own, _)| *own == number).map(|(_, passes)| passes);
            let level = passes.filter_map(|passes| passes.len().checked_sub(left).map(|i| passes[i]));
            let (leave, total): (Vec<Pass>, Vec<Pass>) = level.partition(|pass| pass.sum == NONE);
            let entry = if left == 1 { Entry::Finish } else { Entry::Leave };
            dispatches.extend([(entry, leave), (Entry::Total, total)].into_iter().filter(|(_, p)| !p.is_empty()));
        }
        dispatches
    }
}

/// What a dispatch does with the pixels of its passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Leaves them for the passes that follow.
    Leave,
    /// Adds up their luma.
    Total,
    /// Writes tensors.
    Finish,
}

/// A range of actions; the means that it takes: the step, its action and its sum.
struct Chain {
    first: u32,
    end: u32,
    means: Vec<(usize, u32, u32)>,
}

impl Chain {
    /// The passes that add up what the means are of: `pass`, with the chain ended before each.
    fn sums(&self, pass: &Pass, steps: &Steps, end: impl Fn(&mut Pass, u32)) -> Vec<Pass> {
        let one = |(step, action, sum): &(usize, u32, u32)| {
            let mut own = Pass { sum: *sum, ..*pass };
            end(&mut own, *action);
            cover(&mut own, Window::whole(steps.size_before(*step)));
            own
        };
        self.means.iter().map(one).collect()
    }
}

/// Whether the planes are resized first ([`Quality::Fast`]).
fn is_fast(program: &Program, frame: &Frame, steps: &Steps) -> bool {
    program.settings.quality == Quality::Fast
        && matches!(frame.format, PixelFormat::Yuv { depth: 8, .. })
        && matches!(steps.steps.first(), Some((Step::Resize { vertical_first: false, .. }, _)))
}

fn is_weighed(step: &Step) -> bool {
    matches!(step, Step::Resize { .. } | Step::Blur { .. } | Step::Affine { .. })
}

/// A pass that reads what the one before it left.
fn pass(kind: u32) -> Pass {
    Pass { kind, source: NONE, sum: NONE, ..Pass::default() }
}

/// The part of its picture that a pass makes.
fn cover(pass: &mut Pass, window: Window) {
    (pass.x, pass.y) = (window.x as i32, window.y as i32);
    let words = if pass.kind == BLUR_HORIZONTAL { 2 } else { 1 };
    // Rows begin on whole groups, so that a group is one load.
    let row = (words * window.w).next_multiple_of(GROUP);
    (pass.width, pass.height, pass.to_row) = (word(window.w), word(window.h), word(row));
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
