//! The operations of a job, compiled: what every backend executes, as plain data.
//!
//! A [`Program`] is the same for all pictures; [`Program::resolve`] gives the [`Steps`] for one picture's size, with all
//! random parameters drawn. A backend computes, for the last step's whole output, only the part of each earlier picture
//! that it needs, and never a full-size RGB picture before a resize.

pub mod affine;
mod augment;
pub mod blur;
pub mod lut;
pub mod params;
pub mod passes;
pub mod resample;
pub mod tonemap;
pub mod tones;
pub mod window;
pub mod yuv;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, RejectKind, Result};
use crate::geometry::{Orientation, Transform};
use crate::op::{self, Align, FlipAxis, Match, Op, Spread};
use crate::rng::{Draw, Purpose};
use crate::tensor::{Dtype, Layout};
use lut::{Cube, Lut};
use resample::Filter;
use tonemap::Tonemap;
use yuv::Chroma;

/// Order of resizing and colour conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// Converted at full size, then resized.
    #[default]
    Exact,
    /// 8-bit YCbCr pictures that are stored upright and whose first operation is a resize: planes are resized, then
    /// converted. All others as `Exact`.
    Fast,
}

/// What else decides pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Settings {
    /// Order of work.
    pub quality: Quality,
    /// Chroma interpolation.
    pub chroma: Chroma,
    /// Seed of random operations.
    pub seed: u64,
    /// Epoch of random operations.
    pub epoch: u64,
    /// Colour behind transparent pictures (used when photos are decoded).
    pub background: [u8; 3],
    /// Resample to square pixels first.
    pub square_pixels: bool,
}

/// What a blend draws a value to or away from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// 0.
    Black,
    /// The pixel's own luma.
    Luma,
    /// The mean luma of the whole picture before the step: a sum of integers, divided once and rounded to 8 bits of
    /// fraction.
    Mean,
}

/// One step on a picture whose size is known.
///
/// Parameters are plain integers, and what a backend computes of them fits an `i32`; the bounds that make it so are told
/// with each.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Resample to the step's size.
    Resize {
        /// How neighbours are weighed.
        filter: Filter,
        /// The vertical pass comes first.
        vertical_first: bool,
    },
    /// The part of the step's size at (x, y).
    Crop {
        /// Left edge.
        x: u32,
        /// Top edge.
        y: u32,
    },
    /// The picture at (x, y) of the step's size, `fill` around it.
    Pad {
        /// Left edge.
        x: u32,
        /// Top edge.
        y: u32,
        /// Colour around.
        fill: [u8; 3],
    },
    /// Mirror.
    Flip(FlipAxis),
    /// Clockwise quarter turns, 1 to 3.
    Turn(u8),
    /// Luma in all channels.
    Grayscale,
    /// `factor * value + (1 - factor) * base`, rounded and clamped. `factor` has 16 bits of fraction and is 0 to
    /// [`op::MAX_FACTOR`], so that each product stays below 2^31 with 2^15 to spare for rounding, and where both are large
    /// their signs differ.
    Blend {
        /// How much of the value.
        factor: i32,
        /// What the rest is of.
        base: Base,
    },
    /// Hue is turned by `shift` sixths of the circle, 0 to 6 (exclusive) with 16 bits of fraction; value and saturation, so
    /// the largest and the smallest channel, stay. The largest intermediate is 11 * 255 * 2^16.
    Hue {
        /// By how much.
        shift: i32,
    },
    /// Weighted means of each row, then of each column, reflected at the edges; [`blur::gaussian`] makes the weights. Half
    /// a kernel is less than the picture's side.
    Blur {
        /// Weights along a row.
        x: Vec<i32>,
        /// Weights along a column.
        y: Vec<i32>,
    },
    /// Each pixel from the four around its position in the input, which is its column's plus its row's; see
    /// [`affine::tables`].
    Affine {
        /// For each column of the output.
        columns: Vec<affine::Position>,
        /// For each row of the output.
        rows: Vec<affine::Position>,
        /// Colour of neighbours outside.
        fill: [u8; 3],
    },
    /// A rectangle, inside the picture and not empty, becomes `fill`.
    Erase {
        /// Left edge.
        x: u32,
        /// Top edge.
        y: u32,
        /// Width.
        w: u32,
        /// Height.
        h: u32,
        /// Its colour.
        fill: [u8; 3],
    },
    /// Each channel through a table of its own.
    Table(Arc<[[u8; 256]; 3]>),
    /// Colours through a three-dimensional table.
    Cube(Arc<Cube>),
}

/// The steps for one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps {
    /// Size as stored.
    pub stored: (u32, u32),
    /// Each step with the size of its output.
    pub steps: Vec<(Step, (u32, u32))>,
    /// Size of the upright source.
    pub source: (u32, u32),
    /// Output to upright source pixels.
    pub transform: Transform,
    /// What was drawn, one entry for each random operation; null where there is none.
    pub augment: Value,
}

impl Steps {
    /// Size of the output.
    pub fn size(&self) -> (u32, u32) {
        self.size_before(self.steps.len())
    }

    /// Size of the picture that step `at` gets.
    pub fn size_before(&self, at: usize) -> (u32, u32) {
        at.checked_sub(1).map_or(self.stored, |before| self.steps[before].1)
    }
}

/// Which frame, for random operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DrawKey {
    /// The asset's identity.
    pub asset: u64,
    /// The frame's (a clip's first frame's) time since the stream's start in microseconds.
    pub time_us: i64,
    /// Which of several samples of the frame.
    pub variant: u32,
}

/// The output's element type and axis order, and for floats the value of each byte in each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Element type.
    pub dtype: Dtype,
    /// Axis order.
    pub layout: Layout,
    /// 3 x 256 values, made in f32 in torchvision's order; empty for u8.
    pub table: Vec<f32>,
}

/// A compiled list of operations.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    ops: Vec<Op>,
    /// Tables of the `lut` operations, by the file as it is written there.
    luts: BTreeMap<String, Lut>,
    /// What the conversion to RGB does with pictures of high dynamic range.
    pub tonemap: Option<Tonemap>,
    /// What else decides pixels.
    pub settings: Settings,
    /// How the result is written down.
    pub out: Output,
}

impl Program {
    /// Compiles operations that [`op::validate`] accepts. Reads the files that they name.
    ///
    /// Errors: [`Error::usage`] naming the operation or the file.
    pub fn compile(ops: &[Op], settings: Settings) -> Result<Program> {
        op::validate(ops)?;
        let normalize = ops.iter().find_map(|op| match op {
            Op::Normalize { mean, std } => Some((*mean, *std)),
            _ => None,
        });
        let to = ops.iter().find_map(|op| match op {
            Op::To { dtype, layout } => Some((*dtype, *layout)),
            _ => None,
        });
        let (dtype, layout) = to.unwrap_or_default();
        let dtype = dtype.unwrap_or(if normalize.is_some() { Dtype::F32 } else { Dtype::U8 });
        let layout = layout.unwrap_or(if normalize.is_some() { Layout::Chw } else { Layout::Hwc });
        if normalize.is_some() && dtype == Dtype::U8 {
            return Err(Error::usage("to:dtype=u8 behind normalize: bytes cannot hold it; write f16, bf16 or f32"));
        }
        let table = match dtype {
            Dtype::U8 => Vec::new(),
            _ => table(normalize),
        };
        let tonemap = ops.iter().find_map(|op| match op {
            Op::Tonemap { curve, peak } => Some(Tonemap { curve: *curve, peak: *peak }),
            _ => None,
        });
        // What is part of the conversion or of packing is no step.
        let step = |op: &&Op| !matches!(op, Op::Tonemap { .. } | Op::Normalize { .. } | Op::To { .. });
        let ops: Vec<Op> = ops.iter().filter(step).cloned().collect();
        let mut luts = BTreeMap::new();
        for op in &ops {
            if let Op::Lut { file } = op
                && !luts.contains_key(file)
            {
                luts.insert(file.clone(), Lut::load(file)?);
            }
        }
        Ok(Program { ops, luts, tonemap, settings, out: Output { dtype, layout, table } })
    }

    /// The files that were read, with the SHA-256 of each.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.luts.iter().map(|(file, lut)| (file.as_str(), lut.digest.as_str()))
    }

    /// Element type and axis order of the output.
    pub fn output(&self) -> (Dtype, Layout) {
        (self.out.dtype, self.out.layout)
    }

    /// Whether anything in it is random.
    pub fn is_random(&self) -> bool {
        self.ops.iter().any(Op::is_random)
    }

    /// The steps for a picture of `width` x `height` as stored.
    ///
    /// Errors: [`RejectKind::Op`] for an operation that this picture is too small for or that makes it too large.
    pub fn resolve(
        &self,
        (width, height): (u32, u32),
        orientation: Orientation,
        aspect: (u32, u32),
        key: &DrawKey,
    ) -> Result<Steps> {
        let mut out = Steps {
            stored: (width, height),
            steps: Vec::new(),
            source: orientation.size(width, height),
            transform: Transform::IDENTITY,
            augment: Value::Null,
        };
        if orientation.flip_h {
            out.push(Step::Flip(FlipAxis::H), (width, height));
        }
        if !orientation.turns.is_multiple_of(4) {
            out.push(Step::Turn(orientation.turns % 4), orientation.size(width, height));
        }
        // Orientation is the source's own: boxes are told in upright source pixels.
        out.transform = Transform::IDENTITY;
        let (num, den) = if orientation.turns % 2 == 1 { (aspect.1, aspect.0) } else { aspect };
        if self.settings.square_pixels && num != den && num > 0 && den > 0 {
            let (w, h) = out.size();
            let scaled = |n: u32, a: u32, b: u32| rounded(u64::from(n) * u64::from(a), u64::from(b));
            let size = if num > den { (scaled(w, num, den), h) } else { (w, scaled(h, den, num)) };
            out.resize(size, Filter::Bicubic, Match::Pillow13)?;
        }
        let mut drawn = Vec::new();
        for (i, op) in self.ops.iter().enumerate() {
            out.apply(op, &self.luts, || {
                Draw::new(Purpose {
                    seed: self.settings.seed,
                    epoch: self.settings.epoch,
                    asset: key.asset,
                    time_us: key.time_us,
                    variant: key.variant,
                    op: i as u32,
                })
            })?
            .into_iter()
            .for_each(|value| drawn.push(value));
        }
        if !drawn.is_empty() {
            out.augment = Value::Array(drawn);
        }
        Ok(out)
    }
}

/// A parameter with `bits` of fraction, rounded to the nearest.
fn fixed(value: f64, bits: u32) -> i32 {
    libm::round(value * f64::from(1u32 << bits)) as i32
}

/// a / b to the nearest, halves up, at least 1.
fn rounded(a: u64, b: u64) -> u32 {
    u32::try_from((2 * a + b) / (2 * b)).unwrap_or(u32::MAX).max(1)
}

/// Half of an even or odd number, ties to even, as Python's `round(n / 2)`.
fn half_even(n: u32) -> u32 {
    if n % 4 == 3 { n / 2 + 1 } else { n / 2 }
}

fn table(normalize: Option<([f64; 3], [f64; 3])>) -> Vec<f32> {
    let value = |channel: usize, byte: u8| {
        let unit = f32::from(byte) / 255.0;
        match normalize {
            Some((mean, std)) => (unit - mean[channel] as f32) / std[channel] as f32,
            None => unit,
        }
    };
    (0..3).flat_map(|channel| (0..=255).map(move |byte| value(channel, byte))).collect()
}

/// Largest side of any picture on the way.
const MAX_SIDE: u32 = 1 << 16;

impl Steps {
    fn push(&mut self, step: Step, size: (u32, u32)) {
        let (w, h) = self.size();
        let (fw, fh) = (f64::from(w), f64::from(h));
        let back = match &step {
            Step::Resize { .. } => [fw / f64::from(size.0), 0.0, 0.0, 0.0, fh / f64::from(size.1), 0.0],
            Step::Crop { x, y } => [1.0, 0.0, f64::from(*x), 0.0, 1.0, f64::from(*y)],
            Step::Pad { x, y, .. } => [1.0, 0.0, -f64::from(*x), 0.0, 1.0, -f64::from(*y)],
            Step::Flip(FlipAxis::H) => [-1.0, 0.0, fw, 0.0, 1.0, 0.0],
            Step::Flip(FlipAxis::V) => [1.0, 0.0, 0.0, 0.0, -1.0, fh],
            Step::Turn(1) => [0.0, 1.0, 0.0, -1.0, 0.0, fh],
            Step::Turn(2) => [-1.0, 0.0, fw, 0.0, -1.0, fh],
            Step::Turn(_) => [0.0, -1.0, fw, 1.0, 0.0, 0.0],
            _ => Transform::IDENTITY.0,
        };
        self.push_mapped(step, size, Transform(back));
    }

    /// Appends a step whose output is mapped to its input by `back`.
    fn push_mapped(&mut self, step: Step, size: (u32, u32), back: Transform) {
        self.transform = self.transform.then_from(back);
        self.steps.push((step, size));
    }

    fn resize(&mut self, (w, h): (u32, u32), filter: Filter, matching: Match) -> Result<()> {
        let (from_w, from_h) = self.size();
        if (w, h) == (from_w, from_h) {
            return Ok(());
        }
        if w > MAX_SIDE || h > MAX_SIDE {
            return Err(Error::input(
                RejectKind::Op,
                format!("resizing {from_w}x{from_h} gives {w}x{h}; no side may be longer than {MAX_SIDE}"),
            ));
        }
        let shrinks_more = h < from_h && i64::from(from_h - h) > 2 * (i64::from(from_w) - i64::from(w));
        let vertical_first = matching == Match::Pillow13 && filter != Filter::Nearest && shrinks_more;
        self.push(Step::Resize { filter, vertical_first }, (w, h));
        Ok(())
    }

    fn crop(&mut self, (x, y): (u32, u32), (w, h): (u32, u32)) -> Result<()> {
        let (from_w, from_h) = self.size();
        let inside = |at: u32, n: u32, all: u32| u64::from(at) + u64::from(n) <= u64::from(all);
        if !inside(x, w, from_w) || !inside(y, h, from_h) {
            return Err(Error::input(
                RejectKind::Op,
                format!(
                    "a crop of {w}x{h} at ({x}, {y}) does not fit in a picture of {from_w}x{from_h}; put a pad before it, \
                     or resize first"
                ),
            ));
        }
        if (w, h) != (from_w, from_h) {
            self.push(Step::Crop { x, y }, (w, h));
        }
        Ok(())
    }

    fn pad(&mut self, (w, h): (u32, u32), fill: &str, align: Align) -> Result<()> {
        let (from_w, from_h) = self.size();
        let (w, h) = (w.max(from_w), h.max(from_h));
        let at = |all: u32, own: u32| if align == Align::Center { (all - own) / 2 } else { 0 };
        if (w, h) != (from_w, from_h) {
            self.push(Step::Pad { x: at(w, from_w), y: at(h, from_h), fill: op::rgb(fill)? }, (w, h));
        }
        Ok(())
    }

    /// Appends an operation's steps; what a random one drew.
    fn apply(&mut self, op: &Op, luts: &BTreeMap<String, Lut>, draw: impl FnOnce() -> Draw) -> Result<Option<Value>> {
        let (w, h) = self.size();
        let scale = |target: u32, along: u32, across: u32| {
            // torchvision: int(target * long / short).
            u32::try_from(u64::from(target) * u64::from(along) / u64::from(across)).unwrap_or(u32::MAX).max(1)
        };
        match op {
            Op::Resize { w: Some(to_w), h: Some(to_h), filter, matching, .. } => {
                self.resize((*to_w, *to_h), *filter, *matching)?;
            }
            Op::Resize { short: Some(short), filter, matching, .. } => {
                let size = if w <= h { (*short, scale(*short, h, w)) } else { (scale(*short, w, h), *short) };
                self.resize(size, *filter, *matching)?;
            }
            Op::Resize { long: Some(long), filter, matching, .. } => {
                let size = if w >= h { (*long, scale(*long, h, w)) } else { (scale(*long, w, h), *long) };
                self.resize(size, *filter, *matching)?;
            }
            Op::Resize { .. } => return Err(Error::bug("a resize without a size")),
            Op::Crop { x, y, w, h } => self.crop((*x, *y), (*w, *h))?,
            Op::CenterCrop { w: to_w, h: to_h } => {
                self.crop((half_even(w.saturating_sub(*to_w)), half_even(h.saturating_sub(*to_h))), (*to_w, *to_h))?;
            }
            Op::Pad { w, h, fill, align } => self.pad((*w, *h), fill, *align)?,
            Op::Letterbox { w: to_w, h: to_h, fill, align, filter } => {
                let wide = u64::from(*to_w) * u64::from(h) <= u64::from(*to_h) * u64::from(w);
                let size = if wide {
                    (*to_w, rounded(u64::from(h) * u64::from(*to_w), w.into()).min(*to_h))
                } else {
                    (rounded(u64::from(w) * u64::from(*to_h), h.into()).min(*to_w), *to_h)
                };
                self.resize(size, *filter, Match::Pillow13)?;
                self.pad((*to_w, *to_h), fill, *align)?;
            }
            Op::Flip { axis } => self.push(Step::Flip(*axis), (w, h)),
            Op::RandomFlip { axis, p } => {
                let flipped = draw().unit() < *p;
                if flipped {
                    self.push(Step::Flip(*axis), (w, h));
                }
                return Ok(Some(json!({ "op": "random_flip", "axis": axis, "flipped": flipped })));
            }
            Op::Rotate90 { k } => {
                let turns = (-k).rem_euclid(4) as u8;
                if turns != 0 {
                    self.push(Step::Turn(turns), if turns % 2 == 1 { (h, w) } else { (w, h) });
                }
            }
            Op::Grayscale => self.push(Step::Grayscale, (w, h)),
            Op::Lut { file } => {
                let lut = luts.get(file).ok_or_else(|| Error::bug(format!("lut {file} was not read")))?;
                self.push(lut.step.clone(), (w, h));
            }
            Op::RandomResizedCrop { w, h, scale, ratio, filter } => {
                return self.random_resized_crop((*w, *h), *scale, *ratio, *filter, draw()).map(Some);
            }
            Op::ColorJitter { brightness, contrast, saturation, hue } => {
                let factors = [brightness, contrast, saturation].map(|s| s.map(Spread::factors));
                let [brightness, contrast, saturation] = factors;
                let ranges = [brightness, contrast, saturation, hue.map(Spread::symmetric)];
                return Ok(Some(self.color_jitter(ranges, draw())));
            }
            Op::RandomGrayscale { p } => return Ok(Some(self.random_grayscale(*p, draw()))),
            Op::GaussianBlur { kernel, sigma } => return self.gaussian_blur(kernel.sides(), *sigma, draw),
            Op::RandomAffine { degrees, translate, scale, shear, fill } => {
                return self.random_affine(*degrees, *translate, *scale, *shear, op::rgb(fill)?, draw()).map(Some);
            }
            Op::RandomErasing { p, scale, ratio, value } => {
                return Ok(Some(self.random_erasing(*p, *scale, *ratio, value.rgb()?, draw())));
            }
            Op::Tonemap { .. } | Op::Normalize { .. } | Op::To { .. } => {}
        }
        Ok(None)
    }
}

/// A setting as it is written in jobs.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { quality, chroma, .. } = self.settings;
        let order = (word(&quality), word(&chroma));
        write!(f, "convert  to 8-bit RGB ({} order, chroma {}), upright", order.0, order.1)?;
        if let Some(Tonemap { curve, peak }) = &self.tonemap {
            write!(f, "; PQ and HLG tone-mapped to SDR (curve {}, peak {peak} cd/m2)", word(curve))?;
        }
        writeln!(f)?;
        for op in &self.ops {
            let table = serde_json::to_value(op).unwrap_or_default();
            let parameters = table.as_object().into_iter().flatten().filter(|(key, _)| *key != "op");
            let mut text: Vec<String> =
                parameters.map(|(k, v)| format!("{k}={}", v.to_string().trim_matches('"'))).collect();
            if let Op::Lut { file } = op
                && let Some(lut) = self.luts.get(file)
            {
                text.push(format!("sha256={}", lut.digest));
            }
            writeln!(f, "{:<8} {}", op.name(), text.join(" "))?;
        }
        let table = if self.out.table.is_empty() { "" } else { " through a table of 3 x 256 values" };
        write!(f, "pack     {} {}{table}", word(&self.out.dtype), word(&self.out.layout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(ops: &[&str], size: (u32, u32)) -> Result<Steps> {
        let ops: Vec<Op> = ops.iter().map(|op| Op::parse(op).unwrap()).collect();
        let key = DrawKey { asset: 1, time_us: 0, variant: 0 };
        Program::compile(&ops, Settings::default())?.resolve(size, Orientation::UPRIGHT, (1, 1), &key)
    }

    #[test]
    fn sizes_round_as_torchvision_does() {
        assert_eq!(steps(&["resize:short=256"], (640, 427)).unwrap().size(), (383, 256));
        assert_eq!(steps(&["resize:long=256"], (640, 427)).unwrap().size(), (256, 170));
        // round((383 - 224) / 2.0) is 80, the even neighbour of 79.5.
        let cropped = steps(&["resize:short=256", "center_crop:w=224,h=224"], (640, 427)).unwrap();
        assert_eq!(cropped.steps[1].0, Step::Crop { x: 80, y: 16 });
        assert_eq!([0, 1, 2, 3, 4, 5, 7].map(half_even), [0, 0, 1, 2, 2, 2, 4]);
        assert_eq!(
            steps(&["letterbox:w=640,h=640"], (1920, 1080)).unwrap().steps[1].0,
            Step::Pad { x: 0, y: 140, fill: [0; 3] }
        );
    }

    #[test]
    fn a_crop_needs_room() {
        let error = steps(&["center_crop:w=224,h=224"], (200, 300)).unwrap_err();
        assert_eq!(error.reject, Some(RejectKind::Op));
        assert_eq!(steps(&["pad:w=224,h=224", "center_crop:w=224,h=224"], (200, 300)).unwrap().size(), (224, 224));
    }

    #[test]
    fn the_transform_leads_back() {
        let s = steps(&["resize:w=100,h=50", "crop:x=10,y=5,w=20,h=20", "rotate90:k=1"], (200, 200)).unwrap();
        // Counter-clockwise: the output's top left corner was the crop's top right one.
        assert_eq!(s.transform.apply(0.0, 0.0), (60.0, 20.0));
        assert_eq!(s.transform.apply(20.0, 20.0), (20.0, 100.0));
    }

    #[test]
    fn normalize_is_made_in_f32() {
        let ops = [Op::parse("normalize:imagenet").unwrap()];
        let program = Program::compile(&ops, Settings::default()).unwrap();
        assert_eq!(program.output(), (Dtype::F32, Layout::Chw));
        assert_eq!(program.out.table[255], (1.0f32 - 0.485f32) / 0.229f32);
        let in_f64 = |c: usize, b: usize| ((b as f64 / 255.0 - op::IMAGENET.0[c]) / op::IMAGENET.1[c]) as f32;
        let differ = (0..768).filter(|i| program.out.table[*i] != in_f64(i / 256, i % 256)).count();
        assert!(differ > 100, "the order of the arithmetic would not matter");
    }
}
