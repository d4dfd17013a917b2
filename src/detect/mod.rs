//! Detectors: ONNX models that find objects in frames as they pass.
//!
//! A [`Detector`] is a model that was read, tried and understood: how a picture is prepared for it (a [`Program`], so that
//! every backend does it), how its outputs are laid out, what is done with what it found. A [`Worker`] runs it in one
//! thread. Batches have one size and are filled up with zeros, and each picture of a batch is computed for itself, so that
//! what is found in it does not depend on what came beside it.

#[cfg(not(feature = "ort"))]
mod absent;
pub mod heads;
pub mod labels;
pub mod nms;
pub mod provider;
#[cfg(feature = "ort")]
mod runtime;
#[cfg(feature = "ort")]
mod session;
pub mod spec;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::op::{self, Align, Filter, Match, Op};
use crate::program::{Program, Settings};
use crate::tensor::{Dtype, Layout as Axes, Tensor};
#[cfg(not(feature = "ort"))]
pub use absent::Runtime;
#[cfg(not(feature = "ort"))]
use absent::Session;
use heads::{Declared, Found, Head, Layout};
use nms::Nms;
use provider::Provider;
#[cfg(feature = "ort")]
pub use runtime::Runtime;
#[cfg(feature = "ort")]
use session::Session;
use spec::{Channels, ClassName, DetectSpec, Fit, On, OnError, Then};

/// Element type of a model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// 32-bit floats.
    F32,
    /// Bytes.
    U8,
}

/// A model's input: its name, shape with the batch's axis (-1 where a side is open) and element type.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Input {
    /// Name.
    pub name: String,
    /// Shape.
    pub shape: Vec<i64>,
    /// Element type.
    pub element: Element,
}

/// Pictures of a batch, one after the other.
#[derive(Debug, Clone)]
pub enum Elements {
    /// For [`Element::F32`].
    F32(Vec<f32>),
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

/// Which objects a rule is about, by indices.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Their classes; all where there is none.
    pub classes: Option<Vec<usize>>,
    /// Their least score.
    pub score: f64,
}

impl Selection {
    /// Whether an object is among them.
    pub fn has(&self, class: i64, score: f64) -> bool {
        score >= self.score
            && self.classes.as_ref().is_none_or(|all| usize::try_from(class).is_ok_and(|class| all.contains(&class)))
    }
}

/// What is done with what was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Only samples that show one of these.
    Keep(Selection),
    /// No sample that shows one of these.
    Drop(Selection),
    /// Their boxes, so much larger, become unrecognisable, or one colour.
    Hide {
        /// Which objects.
        of: Selection,
        /// How much further than the box, as a share of its sides.
        margin: f64,
        /// The colour; none to blur.
        color: Option<[u8; 3]>,
    },
    /// A sample for each.
    Crop {
        /// Which objects.
        of: Selection,
        /// How it is cut.
        how: spec::Crop,
    },
}

/// What all detectors of a job share.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The job's operations.
    pub ops: &'a [Op],
    /// Its pixel settings.
    pub settings: Settings,
    /// ONNX Runtime's library, where it is named.
    pub runtime: Option<&'a Path>,
    /// Whether what is missing may be replaced by the CPU.
    pub forbid: bool,
}

/// A model that was read, tried and understood.
#[derive(Debug, Clone)]
pub struct Detector {
    /// Its name in records.
    pub name: String,
    /// SHA-256 of the model.
    pub digest: String,
    /// Which picture it sees.
    pub on: On,
    /// How its outputs are laid out.
    pub head: Head,
    /// Whether the head was recognised, not named.
    pub recognised: bool,
    /// How a picture is prepared.
    pub preprocess: Preprocess,
    /// The same as what backends run.
    pub program: Program,
    /// Names of its classes; empty where none are known.
    pub labels: Vec<String>,
    /// Least score.
    pub score: f64,
    /// How boxes of one object are joined.
    pub nms: Nms,
    /// At most so many objects a picture.
    pub max: usize,
    /// Only these classes; all where there is none.
    pub classes: Option<Vec<usize>>,
    /// Pictures that the model gets at once.
    pub batch: usize,
    /// What is done with what was found.
    pub rules: Vec<Act>,
    /// What becomes of samples on which it failed.
    pub on_error: OnError,
    /// What computes.
    pub provider: Provider,
    /// Providers that were asked for and are not there, with why.
    pub missing: Vec<(Provider, String)>,
    /// Its input.
    pub input: Input,
    /// Its outputs.
    pub outputs: Vec<Declared>,
    /// The runtime that runs it.
    pub runtime: Runtime,
    model: Arc<Vec<u8>>,
}

/// What heads' own programs do before the model, unless a job says otherwise.
fn preset(layout: Layout) -> (Fit, &'static str, Channels, [f64; 3], [f64; 3]) {
    const RAW: ([f64; 3], [f64; 3]) = ([0.0; 3], [1.0; 3]);
    const UNIT: ([f64; 3], [f64; 3]) = ([0.0; 3], [255.0; 3]);
    let (fit, fill, channels, (mean, std)) = match layout {
        Layout::Yolox => (Fit::Topleft, "727272", Channels::Bgr, RAW),
        Layout::Yolov5 | Layout::Yolov8 | Layout::End2end => (Fit::Letterbox, "727272", Channels::Rgb, UNIT),
        Layout::Nanodet | Layout::NanodetPlus => {
            (Fit::Letterbox, "000000", Channels::Bgr, ([103.53, 116.28, 123.675], [57.375, 57.12, 58.395]))
        }
        Layout::Ssd => (Fit::Stretch, "000000", Channels::Rgb, ([127.0; 3], [128.0; 3])),
        Layout::Yunet => (Fit::Topleft, "000000", Channels::Bgr, RAW),
        Layout::Detr => (Fit::Stretch, "000000", Channels::Rgb, ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])),
        Layout::Rtdetr => (Fit::Stretch, "000000", Channels::Rgb, UNIT),
        Layout::TfSsd => (Fit::Stretch, "000000", Channels::Rgb, RAW),
        Layout::Fastestdet => (Fit::Stretch, "000000", Channels::Bgr, UNIT),
    };
    (fit, fill, channels, mean, std)
}

/// Boxes that overlap by more than this show one object, unless a job says otherwise.
fn usual_nms(layout: Layout) -> Nms {
    match layout {
        Layout::End2end | Layout::Detr | Layout::Rtdetr | Layout::TfSsd => Nms::None,
        Layout::Nanodet | Layout::NanodetPlus => Nms::Hard(0.6),
        Layout::Ssd => Nms::Hard(0.3),
        _ => Nms::Hard(0.45),
    }
}

impl Detector {
    /// Reads a model, loads the runtime, tries it once and finds out what its outputs mean.
    ///
    /// # Errors
    /// Usage, naming the model and what is wrong with it or with what the job says of it; unavailable where the runtime, or
    /// with `forbid` every provider that was asked for, is missing.
    pub fn open(spec: &DetectSpec, around: Around) -> Result<Detector> {
        let path = spec.model.display().to_string();
        Self::read(spec, around).map_err(|e| e.context(format!("detect {path}")))
    }

    fn read(spec: &DetectSpec, around: Around) -> Result<Detector> {
        if spec.model.as_os_str().is_empty() {
            return Err(Error::usage("no model is named; expected model = \"FILE.onnx\""));
        }
        let model = std::fs::read(&spec.model).map_err(|e| Error::usage(format!("{e}; expected an ONNX model")))?;
        let digest: String = Sha256::digest(&model).iter().map(|b| format!("{b:02x}")).collect();
        let name = spec.name.clone().or_else(|| Some(spec.model.file_stem()?.to_str()?.to_string()));
        let name = name.ok_or_else(|| Error::usage("its file name is no text: give it a name"))?;
        let named_head = spec.head.as_deref().map(str::parse::<Head>).transpose()?;
        let score = spec.score.unwrap_or(0.3);
        if !(0.0..=1.0).contains(&score) {
            return Err(Error::usage(format!("score {score}: expected 0 to 1")));
        }
        let wanted = match spec.provider.as_slice() {
            [] => vec![Provider::Cpu],
            names => names.iter().map(|n| n.parse()).collect::<Result<_>>()?,
        };
        let runtime = Runtime::load(around.runtime)?;
        let (mut session, missing) = start(&runtime, &model, &wanted, around.forbid)?;
        let (size, axes) = shape(&session.input, spec)?;
        let open = session.input.shape[0] < 1;
        let batch = match (spec.batch, session.input.shape[0]) {
            (Some(0), _) => return Err(Error::usage("batch: expected more than 0")),
            (Some(n), -1) => n,
            (Some(n), fixed) if n as i64 != fixed => {
                return Err(Error::usage(format!(
                    "batch {n}: the model takes {fixed} pictures at once, no more and no less"
                )));
            }
            (_, fixed) if !open => fixed as usize,
            _ => 1,
        };
        let labels = match &spec.labels {
            Some(labels) => labels::read(labels)?,
            None => session.metadata("names").and_then(|text| labels::parse_names(&text)).unwrap_or_default(),
        };
        let outputs = tried(&mut session, size, axes, batch)?;
        let head = match named_head {
            Some(head) => head,
            None => Head::recognise(&outputs, size, labels.len())?,
        };
        let preprocess = prepare(spec, head.layout, size, axes, session.input.element)?;
        let program = program(&preprocess, spec.on, around)?;
        if let Some(count) = head.classes(&outputs).filter(|n| !labels.is_empty() && *n != labels.len()) {
            return Err(Error::usage(format!("{} labels for a model of {count} classes", labels.len())));
        }
        let rules = rules(&spec.then, &labels)?;
        let hides = spec.then.iter().any(Then::hides);
        let on_error = spec.on_error.unwrap_or(if hides { OnError::Reject } else { OnError::Keep });
        if hides && on_error == OnError::Keep {
            return Err(Error::usage(
                "on_error = \"keep\" would write unhidden what the detector failed on: leave it out, or hide nothing",
            ));
        }
        let detector = Detector {
            name,
            digest,
            on: spec.on,
            head,
            recognised: named_head.is_none(),
            preprocess,
            program,
            classes: selection(&spec.classes, &labels)?,
            labels,
            score,
            nms: spec.nms.unwrap_or_else(|| usual_nms(head.layout)),
            // What is to be hidden is hidden however much of it there is.
            max: spec.max.unwrap_or(if hides { usize::MAX } else { 300 }),
            batch,
            rules,
            on_error,
            provider: session.provider,
            missing,
            input: session.input.clone(),
            outputs,
            runtime,
            model: Arc::new(model),
        };
        // The head must fit what the model gives, also where it was named.
        let zeros = zeros(detector.input.element, size, batch);
        Worker { session, detector: &detector }.decode(zeros)?;
        Ok(detector)
    }

    /// What of it decides bytes, beside the job's own words.
    pub fn identity(&self) -> Value {
        json!({
            "name": self.name,
            "sha256": self.digest,
            "head": self.head.to_string(),
            "preprocess": self.preprocess(),
            "labels": self.labels,
            "nms": self.nms,
            "batch": self.batch,
            "provider": self.provider.name(),
            "onnxruntime": self.runtime.version,
        })
    }

    /// What is done to a picture, for people and reports.
    pub fn preprocess(&self) -> Value {
        let p = &self.preprocess;
        json!({
            "size": [p.size.0, p.size.1],
            "fit": p.fit,
            "fill": p.fill,
            "filter": p.filter,
            "channels": p.channels,
            "mean": p.mean,
            "std": p.std,
            "axes": p.axes,
            "element": p.element,
        })
    }

    /// The label of a class, where it has one.
    pub fn label(&self, class: usize) -> Option<String> {
        self.labels.get(class).filter(|l| !l.is_empty()).cloned()
    }

    /// Whether it hides what it finds.
    pub fn hides(&self) -> bool {
        self.rules.iter().any(|r| matches!(r, Act::Hide { .. }))
    }

    /// How many threads run it: on a CPU each has a session of one thread, a device has one session.
    pub fn workers(&self, threads: usize) -> usize {
        if self.provider == Provider::Cpu { threads } else { 1 }
    }

    /// One more session of the model, for one thread.
    ///
    /// # Errors
    /// As [`Detector::open`].
    pub fn worker(&self) -> Result<Worker<'_>> {
        let session = Session::open(&self.runtime, &self.model, self.provider, 1)?;
        Ok(Worker { session, detector: self })
    }
}

/// A detector in one thread.
pub struct Worker<'a> {
    session: Session,
    detector: &'a Detector,
}

impl Worker<'_> {
    /// What is in each of `pictures`, which the detector's Program made; strongest first, in pixels of the model's input.
    pub fn detect(&mut self, pictures: &[&Tensor]) -> Vec<Result<Vec<Found>>> {
        let batch = self.detector.batch;
        let mut all = Vec::new();
        for part in pictures.chunks(batch) {
            match self.decode(pack(part, self.detector)) {
                Ok(found) => all.extend(found.into_iter().take(part.len()).map(Ok)),
                Err(e) => all.extend(part.iter().map(|_| Err(e.clone()))),
            }
        }
        all
    }

    fn decode(&mut self, elements: Elements) -> Result<Vec<Vec<Found>>> {
        let d = self.detector;
        let outputs = self.session.run(elements, input_shape(d.preprocess.size, d.preprocess.axes, d.batch))?;
        let score = d.score as f32;
        let one = |outputs: &Vec<heads::Output>| {
            // Half a unit of the last digit that is written: what rounds up to the score counts.
            let mut found = d.head.decode(outputs, d.preprocess.size, score - 5e-5)?;
            if let Some(classes) = &d.classes {
                found.retain(|f| classes.contains(&f.class));
            }
            Ok(nms::suppress(found, d.nms, score - 5e-5, d.max))
        };
        outputs.iter().map(one).collect()
    }
}

/// The first provider of `wanted` that works, else the CPU where that is allowed; with those that do not.
fn start(
    runtime: &Runtime,
    model: &[u8],
    wanted: &[Provider],
    forbid: bool,
) -> Result<(Session, Vec<(Provider, String)>)> {
    let mut missing = Vec::new();
    for provider in wanted {
        match Session::open(runtime, model, *provider, 1) {
            Ok(session) => return Ok((session, missing)),
            Err(e) if e.class == crate::error::Class::Unavailable => missing.push((*provider, e.message)),
            Err(e) => return Err(e),
        }
    }
    if forbid {
        let why: Vec<String> = missing.into_iter().map(|(_, why)| why).collect();
        return Err(Error::unavailable(format!("{}; falling back to the CPU is forbidden", why.join("; "))));
    }
    Ok((Session::open(runtime, model, Provider::Cpu, 1)?, missing))
}

/// The size and the order of axes of a model's input.
fn shape(input: &Input, spec: &DetectSpec) -> Result<((u32, u32), Axes)> {
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
        (Some(fixed), Some(named)) if fixed != named => {
            Err(Error::usage(format!("preprocess.size: {named} where the model takes {fixed} and nothing else")))
        }
        (Some(n), _) | (None, Some(n)) if (1..=1 << 14).contains(&n) => Ok(n),
        (None, None) => Ok(640),
        _ => Err(wrong()),
    };
    Ok(((side(w, named.map(|s| s[0]))?, side(h, named.map(|s| s[1]))?), axes))
}

fn prepare(spec: &DetectSpec, layout: Layout, size: (u32, u32), axes: Axes, element: Element) -> Result<Preprocess> {
    let (fit, fill, channels, mean, std) = preset(layout);
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
    Ok(Preprocess {
        size,
        fit: given.fit.unwrap_or(fit),
        fill,
        filter: given.filter.unwrap_or(Filter::Bilinear),
        channels: given.channels.unwrap_or(channels),
        mean: given.mean.unwrap_or(if plain { raw.0 } else { mean }),
        std,
        axes,
        element,
    })
}

/// The Program that prepares pictures: the job's own operations before it where the detector sees samples. The affine map
/// of values is the table with which backends write floats; channels are put in the model's order when a batch is packed.
fn program(p: &Preprocess, on: On, around: Around) -> Result<Program> {
    let mut ops: Vec<Op> = match on {
        On::Sample => {
            around.ops.iter().filter(|op| !matches!(op, Op::Normalize { .. } | Op::To { .. })).cloned().collect()
        }
        // It is how frames of high dynamic range are shown at all.
        On::Source => around.ops.iter().filter(|op| matches!(op, Op::Tonemap { .. })).cloned().collect(),
    };
    let (w, h) = p.size;
    let (fill, filter) = (p.fill.clone(), p.filter);
    ops.push(match p.fit {
        Fit::Letterbox => Op::Letterbox { w, h, fill, align: Align::Center, filter },
        Fit::Topleft => Op::Letterbox { w, h, fill, align: Align::Topleft, filter },
        Fit::Stretch => {
            Op::Resize { w: Some(w), h: Some(h), short: None, long: None, filter, matching: Match::Pillow13 }
        }
    });
    let dtype = if p.element == Element::U8 { Dtype::U8 } else { Dtype::F32 };
    ops.push(Op::To { dtype: Some(dtype), layout: Some(p.axes) });
    let mut program = Program::compile(&ops, around.settings)?;
    if p.element == Element::F32 {
        let value = |channel: usize, byte: u8| {
            let at = if p.channels == Channels::Bgr { 2 - channel } else { channel };
            ((f64::from(byte) - p.mean[at]) / p.std[at]) as f32
        };
        program.out.table = (0..3).flat_map(|c| (0..=255).map(move |byte| value(c, byte))).collect();
    }
    Ok(program)
}

fn input_shape((w, h): (u32, u32), axes: Axes, batch: usize) -> [usize; 4] {
    let (w, h) = (w as usize, h as usize);
    match axes {
        Axes::Chw => [batch, 3, h, w],
        Axes::Hwc => [batch, h, w, 3],
    }
}

fn zeros(element: Element, (w, h): (u32, u32), batch: usize) -> Elements {
    let n = batch * 3 * w as usize * h as usize;
    match element {
        Element::F32 => Elements::F32(vec![0.0; n]),
        Element::U8 => Elements::U8(vec![0; n]),
    }
}

/// Runs the model once on nothing: what its outputs are for this size.
fn tried(session: &mut Session, size: (u32, u32), axes: Axes, batch: usize) -> Result<Vec<Declared>> {
    let zeros = zeros(session.input.element, size, batch);
    let tried = session.run(zeros, input_shape(size, axes, batch)).map_err(|e| {
        let sizes = format!("on a black picture of {}x{} ({batch} at once)", size.0, size.1);
        Error::usage(format!("{sizes}: {}; another preprocess.size may help where the model leaves it open", e.message))
    })?;
    let shape = |o: &heads::Output| {
        let sides = o.shape.iter().map(|n| *n as i64);
        Declared { name: o.name.clone(), shape: std::iter::once(batch as i64).chain(sides).collect() }
    };
    Ok(tried.first().map(|outputs| outputs.iter().map(shape).collect()).unwrap_or_default())
}

/// One batch: pictures in the model's order of channels, zeros behind them.
fn pack(pictures: &[&Tensor], detector: &Detector) -> Elements {
    let p = &detector.preprocess;
    let mut all = zeros(p.element, p.size, detector.batch);
    let bgr = p.channels == Channels::Bgr;
    match &mut all {
        Elements::F32(data) => {
            let n = data.len() / detector.batch;
            for (picture, into) in pictures.iter().zip(data.chunks_exact_mut(n)) {
                let values = picture.data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                into.iter_mut().zip(values).for_each(|(to, value)| *to = value);
                if bgr {
                    swap_channels(into, p.axes);
                }
            }
        }
        Elements::U8(data) => {
            let n = data.len() / detector.batch;
            for (picture, into) in pictures.iter().zip(data.chunks_exact_mut(n)) {
                into.iter_mut().zip(&picture.data).for_each(|(to, value)| *to = *value);
                if bgr {
                    swap_channels(into, p.axes);
                }
            }
        }
    }
    all
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

/// Indices of named classes; none where there are no names, which stands for all.
fn selection(classes: &[ClassName], labels: &[String]) -> Result<Option<Vec<usize>>> {
    let index = |class: &ClassName| match class {
        ClassName::Index(index) if labels.is_empty() || *index < labels.len() => Ok(*index),
        ClassName::Index(index) => Err(Error::usage(format!("class {index}: the model has {} classes", labels.len()))),
        ClassName::Name(name) => labels.iter().position(|l| l == name).ok_or_else(|| match labels {
            [] => Error::usage(format!("class {name:?}: no labels are known; give labels, or the class's number")),
            _ => Error::usage(format!("class {name:?} is none of its labels: {}", labels.join(", "))),
        }),
    };
    match classes {
        [] => Ok(None),
        some => some.iter().map(index).collect::<Result<_>>().map(Some),
    }
}

fn rules(then: &[Then], labels: &[String]) -> Result<Vec<Act>> {
    let of = |classes: &[ClassName], score: Option<f64>| {
        Ok::<_, Error>(Selection { classes: selection(classes, labels)?, score: score.unwrap_or(0.0) })
    };
    let margin = |m: f64| {
        if m.is_finite() && m >= 0.0 { Ok(m) } else { Err(Error::usage(format!("margin {m}: expected 0 or more"))) }
    };
    let rule = |then: &Then| match then {
        Then::Keep(which) => Ok(Act::Keep(of(&which.classes, which.score)?)),
        Then::Drop(which) => Ok(Act::Drop(of(&which.classes, which.score)?)),
        Then::Blur(hide) if hide.color.is_some() => Err(Error::usage("blur has no color; fill has")),
        Then::Blur(hide) => Ok(Act::Hide { of: of(&hide.classes, None)?, margin: margin(hide.margin)?, color: None }),
        Then::Fill(hide) => {
            let color = op::rgb(hide.color.as_deref().unwrap_or("000000")).map_err(|e| e.context("color"))?;
            Ok(Act::Hide { of: of(&hide.classes, None)?, margin: margin(hide.margin)?, color: Some(color) })
        }
        Then::Crop(crop) => {
            margin(crop.margin)?;
            Ok(Act::Crop { of: of(&crop.classes, crop.score)?, how: crop.clone() })
        }
    };
    let rules = then.iter().map(rule).collect::<Result<Vec<_>>>().map_err(|e| e.context("then"))?;
    let crops = rules.iter().position(|r| matches!(r, Act::Crop { .. }));
    if crops.is_some_and(|at| at + 1 < rules.len()) {
        return Err(Error::usage("then: crop comes last; what is behind it would see crops, not the picture"));
    }
    Ok(rules)
}
