//! The CPU backend: every other backend is measured against it.
//!
//! The picture is worked on channel by channel. The steps are walked from the last to the
//! first, each asking the one before it only for the window that it needs; the first reads rows of the frame.

mod affine;
mod blur;
mod color;
mod convert;
mod lut;
mod picture;
mod resize;
mod simd;

use std::sync::Arc;

use crate::backend::{Backend, Item, Pace, Pending, Processed};
use crate::color::{Range, over};
use crate::error::Result;
use crate::frame::{Frame, PixelFormat};
use crate::program::resample::Cache;
use crate::program::tones::Tones;
use crate::program::window::Window;
use crate::program::yuv::Coefficients;
use crate::program::{Base, DrawKey, Program, Quality, Step, Steps};
use affine::Affine;
use blur::Blur;
use convert::{Converter, Scratch, Streamed};
use picture::Picture;
pub use simd::Level;

/// Runs Programs on the calling thread.
pub struct Cpu {
    level: Level,
    weights: Cache,
    tones: Tones,
}

impl Cpu {
    /// A backend with an empty cache of weights.
    pub fn new() -> Cpu {
        Cpu::at(Level::best())
    }

    /// One that uses just these instructions.
    pub fn at(level: Level) -> Cpu {
        Cpu { level, weights: Cache::default(), tones: Tones::default() }
    }

    /// `frame` over the Program's background where it is transparent, as RGB and upright as it was; others as they are. Its
    /// colours are converted as the Program wants them before.
    ///
    /// # Errors
    /// As those of [`Backend::run`].
    pub fn opaque(&self, program: &Program, frame: &Arc<Frame>) -> Result<Arc<Frame>> {
        let Some(alpha) = &frame.alpha else { return Ok(frame.clone()) };
        let tone = program.tonemap.map_or(Ok(None), |tonemap| self.tones.get(tonemap, &frame.color))?;
        let converter = Converter::new(frame, program.settings.chroma, tone)?;
        let (w, h) = (frame.width as usize, frame.height as usize);
        let (mut scratch, mut row) = (Scratch::default(), [vec![0; w], vec![0; w], vec![0; w]]);
        let mut data = Vec::with_capacity(3 * w * h);
        for y in 0..h {
            converter.row(y, 0, w, &mut scratch, row.each_mut().map(Vec::as_mut_slice));
            let [r, g, b] = &row;
            let pixels = r.iter().zip(g).zip(b).zip(&alpha.data[y * alpha.stride..]);
            data.extend(pixels.flat_map(|(((r, g), b), a)| over([*r, *g, *b, *a], program.settings.background)));
        }
        let Frame { pts, time_base, keyframe, orientation, sample_aspect, .. } = **frame;
        let rgb = Frame::rgb(frame.width, frame.height, data);
        Ok(Arc::new(Frame { pts, time_base, keyframe, orientation, sample_aspect, ..rgb }))
    }
}

impl Default for Cpu {
    fn default() -> Cpu {
        Cpu::new()
    }
}

impl Backend for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    /// One at a time on every thread: nothing is gained by waiting.
    fn pace(&self) -> Pace {
        Pace { threads: usize::MAX, items: 1, bytes: u64::MAX, ahead: 0 }
    }

    fn submit<'a>(&'a self, items: Vec<Item<'a>>) -> Pending<'a> {
        Box::new(move || items.iter().map(|item| self.run(item.program, &item.frame, &item.key)).collect())
    }

    fn run(&self, program: &Program, frame: &Frame, key: &DrawKey) -> Result<Processed> {
        let frame = &*frame.on_host()?;
        let steps = program.resolve((frame.width, frame.height), frame.orientation, frame.sample_aspect, key)?;
        let tone = program.tonemap.map_or(Ok(None), |tonemap| self.tones.get(tonemap, &frame.color))?;
        let work = Work {
            // What is mapped is mapped at full size.
            fast: program.settings.quality == Quality::Fast && tone.is_none(),
            converter: Converter::new(frame, program.settings.chroma, tone)?,
            frame,
            steps: &steps,
            level: self.level,
            weights: &self.weights,
        };
        let (w, h) = steps.size();
        let picture = work.after(steps.steps.len(), Window { x: 0, y: 0, w: w as usize, h: h as usize });
        let tensor = picture.pack(self.level, &program.out);
        picture.recycle();
        let Steps { transform, source, augment, .. } = steps;
        Ok(Processed { tensor, transform, source_size: source, augment, fallback: None })
    }
}

struct Work<'a> {
    converter: Converter<'a>,
    frame: &'a Frame,
    steps: &'a Steps,
    level: Level,
    weights: &'a Cache,
    fast: bool,
}

impl Work<'_> {
    /// The window of the picture after the first `count` steps.
    fn after(&self, count: usize, window: Window) -> Picture {
        let Some(before) = count.checked_sub(1) else { return self.source(window) };
        let (step, size) = &self.steps.steps[before];
        let size = (size.0 as usize, size.1 as usize);
        let (in_w, in_h) = match before.checked_sub(1) {
            Some(i) => self.steps.steps[i].1,
            None => self.steps.stored,
        };
        let (in_w, in_h) = (in_w as usize, in_h as usize);
        match step {
            Step::Crop { x, y } => {
                let moved = Window { x: window.x + *x as usize, y: window.y + *y as usize, ..window };
                self.after(before, moved)
            }
            Step::Pad { x, y, fill } => {
                let (x, y) = (*x as usize, *y as usize);
                let inner = window.overlap(Window { x, y, w: in_w, h: in_h });
                let mut out = Picture::filled(window.w, window.h, *fill);
                if let Some(inner) = inner {
                    let part = self.after(before, Window { x: inner.x - x, y: inner.y - y, ..inner });
                    out.put(&part, inner.x - window.x, inner.y - window.y);
                    part.recycle();
                }
                out
            }
            Step::Flip(axis) => {
                let mut part = self.after(before, window.flipped(*axis, size.0, size.1));
                part.flip(*axis);
                part
            }
            Step::Turn(turns) => {
                let part = self.after(before, window.turned_back(*turns, in_w, in_h));
                let turned = part.turned(*turns);
                part.recycle();
                turned
            }
            Step::Grayscale => {
                let mut part = self.after(before, window);
                part.grayscale();
                part
            }
            Step::Blend { factor, base: Base::Mean } => {
                let mut whole = self.after(before, Window { x: 0, y: 0, w: in_w, h: in_h });
                color::blend(&mut whole, *factor, Base::Mean);
                whole.cut(window)
            }
            Step::Blend { factor, base } => {
                let mut part = self.after(before, window);
                color::blend(&mut part, *factor, *base);
                part
            }
            Step::Hue { shift } => {
                let mut part = self.after(before, window);
                color::turn_hue(&mut part, *shift);
                part
            }
            Step::Blur { x, y } => {
                let blur = Blur { x, y, size };
                let part = self.after(before, blur.reads(window));
                let out = blur.run(&part, window);
                part.recycle();
                out
            }
            Step::Affine { columns, rows, fill } => {
                let affine = Affine { columns, rows, fill: *fill, size };
                let Some(reads) = affine.reads(window) else {
                    return Picture::filled(window.w, window.h, *fill);
                };
                let part = self.after(before, reads);
                let out = affine.run(&part, reads, window);
                part.recycle();
                out
            }
            Step::Erase { x, y, w, h, fill } => {
                let mut part = self.after(before, window);
                let erased = Window { x: *x as usize, y: *y as usize, w: *w as usize, h: *h as usize };
                if let Some(inner) = window.overlap(erased) {
                    part.paint(Window { x: inner.x - window.x, y: inner.y - window.y, ..inner }, *fill);
                }
                part
            }
            Step::Table(tables) => {
                let mut part = self.after(before, window);
                lut::table(&mut part, tables);
                part
            }
            Step::Cube(cube) => {
                let mut part = self.after(before, window);
                lut::cube(&mut part, cube);
                part
            }
            Step::Resize { filter, vertical_first } => {
                let resize = resize::Resize { from: (in_w, in_h), to: size, filter: *filter, window };
                if before > 0 || *vertical_first {
                    let plan = resize.plan(self.level, self.weights);
                    let part = self.after(before, plan.reads());
                    let out = plan.run(&part, *vertical_first);
                    part.recycle();
                    out
                } else if let (true, PixelFormat::Yuv { depth: 8, .. }) = (self.fast, self.frame.format) {
                    self.fast(&resize)
                } else {
                    // Each row is narrowed as soon as it is converted.
                    let mut rows = Streamed { converter: &self.converter, scratch: Scratch::default() };
                    resize.plan(self.level, self.weights).stream(&mut rows)
                }
            }
        }
    }

    /// The window of the frame as stored, in RGB.
    fn source(&self, window: Window) -> Picture {
        let mut out = Picture::new(window.w, window.h);
        let mut scratch = Scratch::default();
        for y in 0..window.h {
            self.converter.row(window.y + y, window.x, window.w, &mut scratch, out.rows_mut(y));
        }
        out
    }

    /// Planes are resized first, and converted at the small size.
    fn fast(&self, resize: &resize::Resize) -> Picture {
        let mut out = resize.planes(self.frame, self.level, self.weights);
        let coefficients = Coefficients::new(&self.frame.color, 8, 0);
        debug_assert!(matches!(self.frame.color.range, Range::Full | Range::Limited));
        let (mut luma, mut chroma) = (Vec::new(), [Vec::new(), Vec::new()]);
        for y in 0..out.h {
            let rows = out.rows_mut(y);
            luma.clear();
            luma.extend_from_slice(rows[0]);
            for (values, row) in chroma.iter_mut().zip(&rows[1..]) {
                values.clear();
                values.extend(row.iter().map(|v| i16::from(*v)));
            }
            simd::matrix8(&luma, &chroma[0], &chroma[1], &coefficients, rows);
        }
        out
    }
}
