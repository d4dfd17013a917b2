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
mod prepare;
pub mod provider;
mod rules;
#[cfg(feature = "ort")]
mod runtime;
#[cfg(feature = "ort")]
mod session;
pub mod spec;
mod weights;
mod worker;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::op::Op;
use crate::program::{Program, Settings};
use crate::tensor::{Dtype, Layout as Axes};
#[cfg(not(feature = "ort"))]
pub use absent::Runtime;
#[cfg(not(feature = "ort"))]
use absent::Session;
use heads::{Declared, Head, Layout};
use nms::Nms;
use prepare::Cutting;
pub use prepare::{Elements, Preprocess};
use provider::Provider;
pub use rules::{Act, Selection};
#[cfg(feature = "ort")]
pub use runtime::Runtime;
#[cfg(feature = "ort")]
use session::Session;
use spec::{DetectSpec, Frames, On, OnError, Then};
use weights::Model;
pub use worker::Worker;

/// Element type of a model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Bytes.
    U8,
}

impl Element {
    /// The element type of the pictures that are prepared for it.
    pub fn dtype(self) -> Dtype {
        match self {
            Element::F32 => Dtype::F32,
            Element::F16 => Dtype::F16,
            Element::U8 => Dtype::U8,
        }
    }
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

/// The files that a job names beside its inputs, wherever they lie: paths or URIs.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    /// Reads one.
    pub read: &'a dyn Fn(&str) -> Result<Vec<u8>>,
    /// How messages name it: without what may be a secret.
    pub shown: fn(&str) -> &str,
}

/// What all detectors of a job share.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The job's operations.
    pub ops: &'a [Op],
    /// Its pixel settings.
    pub settings: Settings,
    /// ONNX Runtime's library, where it is named.
    pub runtime: Option<&'a Path>,
    /// Whether what is missing may be replaced by the CPU.
    pub forbid: bool,
    /// Models and labels.
    pub files: Files<'a>,
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
    /// Which frames of a clip it sees.
    pub frames: Frames,
    /// How its outputs are laid out.
    pub head: Head,
    /// Whether the head was recognised, not named.
    pub recognised: bool,
    /// How a picture is prepared.
    pub preprocess: Preprocess,
    /// The same as what backends run, for whole pictures.
    pub program: Program,
    cutting: Cutting,
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
    model: Arc<Model>,
}

/// Boxes that overlap by more than this show one object, unless a job says otherwise.
fn usual_nms(layout: Layout) -> Nms {
    match layout {
        Layout::End2end | Layout::Detr | Layout::Rtdetr | Layout::TfSsd | Layout::Classify | Layout::Embed => Nms::None,
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
        let model = spec.model.to_string_lossy();
        Self::read(spec, around).map_err(|e| e.context(format!("detect {}", (around.files.shown)(&model))))
    }

    fn read(spec: &DetectSpec, around: Around) -> Result<Detector> {
        if spec.model.as_os_str().is_empty() {
            return Err(Error::usage("no model is named; expected model = \"FILE.onnx\""));
        }
        let uri = spec.model.to_str().ok_or_else(|| Error::usage("its path is no text: rename it"))?;
        let model = Model::read(uri, around.files)?;
        let digest = model.digest();
        let name = spec.name.clone().or_else(|| Some(spec.model.file_stem()?.to_str()?.to_string()));
        let name = name.ok_or_else(|| Error::usage("its file name is no text: give it a name"))?;
        let named_head = spec.head.as_deref().map(str::parse::<Head>).transpose()?;
        let wanted = match spec.provider.as_slice() {
            [] => vec![Provider::Cpu],
            names => names.iter().map(|n| n.parse()).collect::<Result<_>>()?,
        };
        let runtime = Runtime::load(around.runtime)?;
        let (mut session, missing) = start(&runtime, &model, &wanted, around.forbid)?;
        let (size, axes) = prepare::shape(&session.input, spec)?;
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
            Some(labels) => labels::read(labels, around.files)?,
            None => session.metadata("names").and_then(|text| labels::parse_names(&text)).unwrap_or_default(),
        };
        let outputs = tried(&mut session, size, axes, batch)?;
        let head = match named_head {
            Some(head) => head,
            // Ultralytics' exports say so.
            None if session.metadata("task").is_some_and(|task| task == "classify") => Head::of(Layout::Classify),
            None => Head::recognise(&outputs, size, labels.len())?,
        };
        let whole = head.layout.is_whole();
        let score = spec.score.unwrap_or(if whole { 0.0 } else { 0.3 });
        if !(0.0..=1.0).contains(&score) {
            return Err(Error::usage(format!("score {score}: expected 0 to 1")));
        }
        if spec.max == Some(0) {
            return Err(Error::usage("max 0: expected 1 or more"));
        }
        if !(spec.margin.is_finite() && spec.margin >= 0.0) {
            return Err(Error::usage(format!("margin {}: expected 0 or more", spec.margin)));
        }
        let preprocess = prepare::prepare(spec, head.layout, size, axes, session.input.element)?;
        let program = prepare::program(&preprocess, &spec.on, around)?;
        let count = head.classes(&outputs);
        if let Some(count) = count.filter(|n| !labels.is_empty() && *n != labels.len()) {
            let from = match &spec.labels {
                Some(spec::Labels::File(file)) => format!("labels {}: ", (around.files.shown)(file)),
                Some(spec::Labels::Names(_)) => "labels: ".into(),
                None => "names in the model's own metadata: ".into(),
            };
            return Err(Error::usage(format!(
                "{from}{} labels for a model of {count} classes; expected one for each",
                labels.len()
            )));
        }
        let known = if labels.is_empty() { head.layout.classes() } else { labels.clone() };
        let count = count.or(Some(known.len()).filter(|n| *n > 0));
        let rules = rules::rules(&spec.then, &known, count)?;
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
            on: spec.on.clone(),
            frames: spec.frames,
            cutting: Cutting::new(spec, around),
            head,
            recognised: named_head.is_none(),
            preprocess,
            program,
            classes: rules::selection(&spec.classes, &known, count)?,
            labels,
            score,
            nms: spec.nms.unwrap_or_else(|| usual_nms(head.layout)),
            // What is to be hidden is hidden however much of it there is.
            max: spec.max.unwrap_or(match hides {
                true => usize::MAX,
                false if whole => 1,
                false => 300,
            }),
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
        let zeros = prepare::zeros(detector.input.element, size, batch);
        let found = Worker::new(session, &detector).decode(zeros)?.into_iter().collect::<Result<Vec<_>>>();
        found.map_err(|e| Error::usage(format!("on a black picture: {}", e.message)))?;
        Ok(detector)
    }

    /// What of it decides bytes, beside the job's own words.
    pub fn identity(&self) -> Value {
        let mut identity = json!({
            "name": self.name,
            "sha256": self.digest,
            "head": self.head.to_string(),
            "preprocess": self.preprocess.told(),
            "labels": self.labels,
            "nms": self.nms,
            "batch": self.batch,
            "provider": self.provider.name(),
            "onnxruntime": self.runtime.version,
        });
        // A detector without masks has the identity that it had before there were any.
        if self.masks() {
            identity["masks"] = true.into();
        }
        identity
    }

    /// Whether its objects have masks.
    pub fn masks(&self) -> bool {
        use Layout::{End2end, Yolov5, Yolov8};
        let prototypes = self.outputs.get(1).is_some_and(|o| o.shape.len() == 4);
        prototypes && matches!(self.head.layout, Yolov5 | Yolov8 | End2end)
    }

    /// Whether it gives vectors that stand for pictures.
    pub fn embeds(&self) -> bool {
        self.head.layout == Layout::Embed
    }

    /// The Program that prepares the part of `frame` around a box of another detector, in pixels of the upright source; none
    /// where that has no area.
    ///
    /// # Errors
    /// [`crate::error::RejectKind::Op`] where the part cannot be resized.
    pub fn part(&self, frame: &Frame, bounds: [f64; 4]) -> Result<Option<Program>> {
        self.cutting.program(&self.preprocess, frame, bounds)
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
        Ok(Worker::new(session, self))
    }
}

/// The first provider of `wanted` that works, else the CPU where that is allowed; with those that do not.
fn start(
    runtime: &Runtime,
    model: &Model,
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

/// Runs the model once on nothing: what its outputs are for this size.
fn tried(session: &mut Session, size: (u32, u32), axes: Axes, batch: usize) -> Result<Vec<Declared>> {
    let zeros = prepare::zeros(session.input.element, size, batch);
    let run = session.run(zeros, prepare::input_shape(size, axes, batch));
    let run = run.and_then(|all| all.iter().try_for_each(|outputs| worker::finite(outputs)).map(|()| all));
    let tried = run.map_err(|e| {
        let sizes = format!("on a black picture of {}x{} ({batch} at once)", size.0, size.1);
        Error::usage(format!("{sizes}: {}; another preprocess.size may help where the model leaves it open", e.message))
    })?;
    let shape = |o: &heads::Output| {
        let sides = o.shape.iter().map(|n| *n as i64);
        Declared { name: o.name.clone(), shape: std::iter::once(batch as i64).chain(sides).collect() }
    };
    Ok(tried.first().map(|outputs| outputs.iter().map(shape).collect()).unwrap_or_default())
}
