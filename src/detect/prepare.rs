//! How pictures are prepared for a model: a Program, so that every backend does it, and the batch that the model gets.

use half::f16;
use serde_json::{Value, json};

use super::heads::Layout;
use super::spec::{Channels, DetectSpec, Fit, On};
use super::{Around, Detector, Element, Input};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::geometry::Transform;
use crate::op::{self, Align, Filter, Match, Op};
use crate::program::{DrawKey, Program, Settings};
use crate::tensor::{Layout as Axes, Tensor};

/// Pictures of a batch, one after the other.
#[derive(Debug, Clone)]
pub enum Elements {
    /// For [`Element::F32`].
    F32(Vec<f32>),
    /// For [`Element::F16`].
    F16(Vec<f16>),
    /// For [`Element::U8`].
    U8(Vec<u8>),
}

/// How a picture is prepared for a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// Width and height.
    pub size: (u32, u32),
    /// How the picture is brought to that size.
    pub fit: Fit,
    /// Colour around it, RRGGBB.
    pub fill: String,
    /// How pixels are weighed.
    pub filter: Filter,
    /// Order of the channels.
    pub channels: Channels,
    /// Subtracted from each channel, in the model's order.
    pub mean: [f64; 3],
    /// What the difference is divided by, in the model's order.
    pub std: [f64; 3],
    /// The model's order of axes.
    pub axes: Axes,
    /// The model's element type.
    pub element: Element,
}

impl Preprocess {
    /// For people, reports and fingerprints.
    pub fn told(&self) -> Value {
        json!({
            "size": [self.size.0, self.size.1],
            "fit": self.fit,
            "fill": self.fill,
            "filter": self.filter,
            "channels": self.channels,
            "mean": self.mean,
            "std": self.std,
            "axes": self.axes,
            "element": self.element,
        })
    }
}

/// What heads' own programs do before the model, unless a job says otherwise.
fn preset(layout: Layout, square: bool) -> (Fit, &'static str, Channels, [f64; 3], [f64; 3]) {
    const RAW: ([f64; 3], [f64; 3]) = ([0.0; 3], [1.0; 3]);
    const UNIT: ([f64; 3], [f64; 3]) = ([0.0; 3], [255.0; 3]);
    const IMAGENET: ([f64; 3], [f64; 3]) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
    let (fit, fill, channels, (mean, std)) = match layout {
        Layout::Yolox => (Fit::Topleft, "727272", Channels::Bgr, RAW),
        Layout::Yolov5 | Layout::Yolov8 | Layout::End2end => (Fit::Letterbox, "727272", Channels::Rgb, UNIT),
        Layout::Nanodet | Layout::NanodetPlus => {
            (Fit::Letterbox, "000000", Channels::Bgr, ([103.53, 116.28, 123.675], [57.375, 57.12, 58.395]))
        }
        Layout::Ssd => (Fit::Stretch, "000000", Channels::Rgb, ([127.0; 3], [128.0; 3])),
        Layout::Yunet => (Fit::Topleft, "000000", Channels::Bgr, RAW),
        Layout::Detr => (Fit::Stretch, "000000", Channels::Rgb, IMAGENET),
        Layout::Rtdetr => (Fit::Stretch, "000000", Channels::Rgb, UNIT),
        Layout::TfSsd => (Fit::Stretch, "000000", Channels::Rgb, RAW),
        Layout::Fastestdet => (Fit::Stretch, "000000", Channels::Bgr, UNIT),
        // As torchvision's classifiers have it.
        Layout::Classify if square => (Fit::Crop, "000000", Channels::Rgb, IMAGENET),
        Layout::Classify => (Fit::Stretch, "000000", Channels::Rgb, IMAGENET),
        // As InsightFace's models have it.
        Layout::Embed => (Fit::Stretch, "000000", Channels::Rgb, ([127.5; 3], [127.5; 3])),
    };
    (fit, fill, channels, mean, std)
}

/// The size and the order of axes of a model's input.
pub fn shape(input: &Input, spec: &DetectSpec) -> Result<((u32, u32), Axes)> {
    let wrong = || {
        let sides: Vec<String> = input.shape.iter().map(i64::to_string).collect();
        Error::usage(format!(
            "its input {} is [{}]; expected pictures of three channels, [N, 3, H, W] or [N, H, W, 3]",
            input.name,
            sides.join(", ")
        ))
    };
    let (axes, h, w) = match input.shape[..] {
        [_, 3, h, w] => (Axes::Chw, h, w),
        [_, h, w, 3] => (Axes::Hwc, h, w),
        _ => return Err(wrong()),
    };
    let named = spec.preprocess.as_ref().and_then(|p| p.size);
    let side = |fixed: i64, named: Option<u32>| match (u32::try_from(fixed).ok().filter(|n| *n > 0), named) {
        (_, Some(named)) if !(1..=1 << 14).contains(&named) => {
            Err(Error::usage(format!("preprocess.size: {named}: expected 1 to {}", 1 << 14)))
        }
        (Some(fixed), Some(named)) if fixed != named => {
            Err(Error::usage(format!("preprocess.size: {named} where the model takes {fixed} and nothing else")))
        }
        (Some(n), _) | (None, Some(n)) if (1..=1 << 14).contains(&n) => Ok(n),
        (None, None) => Ok(640),
        _ => Err(wrong()),
    };
    Ok(((side(w, named.map(|s| s[0]))?, side(h, named.map(|s| s[1]))?), axes))
}

/// What is done to a picture: what the job says, else what the head has.
pub fn prepare(
    spec: &DetectSpec,
    layout: Layout,
    size: (u32, u32),
    axes: Axes,
    element: Element,
) -> Result<Preprocess> {
    let (fit, fill, channels, mean, std) = preset(layout, size.0 == size.1);
    let given = spec.preprocess.clone().unwrap_or_default();
    let fill = given.fill.unwrap_or_else(|| fill.to_string());
    op::rgb(&fill).map_err(|e| e.context("preprocess.fill"))?;
    let (plain, raw) = (element == Element::U8, ([0.0; 3], [1.0; 3]));
    if plain && (given.mean.is_some() || given.std.is_some()) {
        return Err(Error::usage("preprocess: the model takes bytes as they are, without mean and std"));
    }
    let std = given.std.unwrap_or(if plain { raw.1 } else { std });
    if std.iter().any(|s| !s.is_finite() || *s == 0.0) {
        return Err(Error::usage("preprocess.std: expected three numbers other than 0"));
    }
    let fit = given.fit.unwrap_or(fit);
    if fit == Fit::Crop && size.0 != size.1 {
        return Err(Error::usage(format!(
            "preprocess.fit: crop is for square inputs, and the model takes {}x{}: choose stretch or letterbox",
            size.0, size.1
        )));
    }
    Ok(Preprocess {
        size,
        fit,
        fill,
        filter: given.filter.unwrap_or(Filter::Bilinear),
        channels: given.channels.unwrap_or(channels),
        mean: given.mean.unwrap_or(if plain { raw.0 } else { mean }),
        std,
        axes,
        element,
    })
}

/// The operations that prepare pictures: the job's own before the rest where the detector sees samples, else only what
/// shows frames of high dynamic range at all.
fn before(on: &On, around: Around) -> Vec<Op> {
    let wanted = |op: &&Op| match on {
        On::Sample => !matches!(op, Op::Normalize { .. } | Op::To { .. }),
        On::Source | On::Objects(_) => matches!(op, Op::Tonemap { .. }),
    };
    around.ops.iter().filter(wanted).cloned().collect()
}

/// The operations that bring a picture to a model's size and type.
fn after(p: &Preprocess) -> Vec<Op> {
    let (w, h) = p.size;
    let (fill, filter, matching) = (p.fill.clone(), p.filter, Match::Pillow13);
    let mut ops = match p.fit {
        Fit::Letterbox => vec![Op::Letterbox { w, h, fill, align: Align::Center, filter }],
        Fit::Topleft => vec![Op::Letterbox { w, h, fill, align: Align::Topleft, filter }],
        Fit::Stretch => vec![Op::Resize { w: Some(w), h: Some(h), short: None, long: None, filter, matching }],
        Fit::Crop => {
            vec![Op::Resize { w: None, h: None, short: Some(w), long: None, filter, matching }, Op::CenterCrop { w, h }]
        }
    };
    ops.push(Op::To { dtype: Some(p.element.dtype()), layout: Some(p.axes) });
    ops
}

/// The Program of a list of operations for a model. The affine map of values is the table with which backends write
/// floats; channels are put in the model's order when a batch is packed.
fn compiled(ops: &[Op], p: &Preprocess, settings: Settings) -> Result<Program> {
    let mut program = Program::compile(ops, settings)?;
    if p.element != Element::U8 {
        let value = |channel: usize, byte: u8| {
            let at = if p.channels == Channels::Bgr { 2 - channel } else { channel };
            ((f64::from(byte) - p.mean[at]) / p.std[at]) as f32
        };
        program.out.table = (0..3).flat_map(|c| (0..=255).map(move |byte| value(c, byte))).collect();
    }
    Ok(program)
}

/// The Program that prepares whole pictures.
pub fn program(p: &Preprocess, on: &On, around: Around) -> Result<Program> {
    compiled(&[before(on, around), after(p)].concat(), p, around.settings)
}

/// How parts of frames are prepared for a model that sees what another has found.
#[derive(Debug, Clone)]
pub struct Cutting {
    before: Vec<Op>,
    settings: Settings,
    /// How much further than the box on each side, as a share of its width and height.
    margin: f64,
}

impl Cutting {
    /// For `spec`, which sees another's objects.
    pub fn new(spec: &DetectSpec, around: Around) -> Cutting {
        Cutting { before: before(&spec.on, around), settings: around.settings, margin: spec.margin }
    }

    /// The Program that prepares the part of `frame` around a box in pixels of the upright source: all pixels that the box
    /// touches with its margin. None where it has no area there.
    ///
    /// # Errors
    /// As [`Program::resolve`].
    pub fn program(&self, p: &Preprocess, frame: &Frame, bounds: [f64; 4]) -> Result<Option<Program>> {
        // The upright picture as operations meet it: where pixels are not square it may be a resampled one.
        let upright = Program::compile(&[], self.settings)?;
        let key = DrawKey { asset: 0, time_us: 0, variant: 0 };
        let steps = upright.resolve((frame.width, frame.height), frame.orientation, frame.sample_aspect, &key)?;
        let (width, height) = steps.size();
        let back = steps.transform.inverse().unwrap_or(Transform::IDENTITY);
        let [x1, y1, x2, y2] = bounds;
        if x2 <= x1 || y2 <= y1 {
            return Ok(None);
        }
        let (mx, my) = ((x2 - x1) * self.margin, (y2 - y1) * self.margin);
        let [x1, y1, x2, y2] = back.apply_box([x1 - mx, y1 - my, x2 + mx, y2 + my]);
        let low = |v: f64, n: u32| v.floor().clamp(0.0, f64::from(n)) as u32;
        let high = |v: f64, n: u32| v.ceil().clamp(0.0, f64::from(n)) as u32;
        let (x, y) = (low(x1, width), low(y1, height));
        let (w, h) = (high(x2, width).saturating_sub(x), high(y2, height).saturating_sub(y));
        if w == 0 || h == 0 {
            return Ok(None);
        }
        let ops = [self.before.clone(), vec![Op::Crop { x, y, w, h }], after(p)].concat();
        compiled(&ops, p, self.settings).map(Some)
    }
}

/// The whole input's shape.
pub fn input_shape((w, h): (u32, u32), axes: Axes, batch: usize) -> [usize; 4] {
    let (w, h) = (w as usize, h as usize);
    match axes {
        Axes::Chw => [batch, 3, h, w],
        Axes::Hwc => [batch, h, w, 3],
    }
}

/// A batch of nothing.
pub fn zeros(element: Element, (w, h): (u32, u32), batch: usize) -> Elements {
    let n = batch * 3 * w as usize * h as usize;
    match element {
        Element::F32 => Elements::F32(vec![0.0; n]),
        Element::F16 => Elements::F16(vec![f16::ZERO; n]),
        Element::U8 => Elements::U8(vec![0; n]),
    }
}

/// One batch: pictures in the model's order of channels, zeros behind them.
pub fn pack(pictures: &[&Tensor], detector: &Detector) -> Elements {
    let mut all = zeros(detector.preprocess.element, detector.preprocess.size, detector.batch);
    match &mut all {
        Elements::F32(data) => fill(data, pictures, detector, f32::from_le_bytes),
        Elements::F16(data) => fill(data, pictures, detector, f16::from_le_bytes),
        Elements::U8(data) => fill(data, pictures, detector, |[byte]| byte),
    }
    all
}

/// Puts pictures of elements of `N` bytes into a batch.
fn fill<T, const N: usize>(data: &mut [T], pictures: &[&Tensor], detector: &Detector, element: impl Fn([u8; N]) -> T) {
    let p = &detector.preprocess;
    let n = data.len() / detector.batch;
    for (picture, into) in pictures.iter().zip(data.chunks_exact_mut(n)) {
        let (bytes, _) = picture.data.as_chunks::<N>();
        into.iter_mut().zip(bytes).for_each(|(to, bytes)| *to = element(*bytes));
        if p.channels == Channels::Bgr {
            swap_channels(into, p.axes);
        }
    }
}

/// The first channel and the last change places.
fn swap_channels<T>(picture: &mut [T], axes: Axes) {
    match axes {
        Axes::Hwc => picture.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2)),
        Axes::Chw => {
            let plane = picture.len() / 3;
            let (first, rest) = picture.split_at_mut(plane);
            first.swap_with_slice(&mut rest[plane..]);
        }
    }
}
