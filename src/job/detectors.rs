//! The detectors of a job: each by itself, and whether they go together.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Fallback, JobFile, Metadata};
use crate::detect::spec::{DetectSpec, Frames, On, Then};
use crate::detect::{Around, Detector, Files};
use crate::error::{Error, Result};
use crate::input;
use crate::program::Settings;
use crate::sink::Format;
use crate::tensor::Dtype;

/// Reads the models of a job.
///
/// # Errors
/// As [`Detector::open`]; usage where what is asked of them does not go together.
pub fn open(file: &JobFile, settings: Settings, clips: bool, dtype: Dtype) -> Result<Vec<Arc<Detector>>> {
    alone(file)?;
    let read = |uri: &str| input::read_whole(&file.input, uri);
    let files = Files { read: &read, shown: input::without_query };
    let (runtime, forbid) = (file.ort.as_deref(), file.fallback == Fallback::Forbid);
    let around = Around { ops: &file.ops, settings, runtime, forbid, files };
    let specs = together(file.detect.iter().map(|spec| completed(file, spec)).collect())?;
    for spec in &specs {
        if spec.then.iter().any(Then::hides) {
            hidable(file, clips && spec.frames == Frames::First, dtype)?;
        }
        let crops = spec.then.iter().any(|t| matches!(t, Then::Crop(_)));
        if crops && (clips || dtype != Dtype::U8 || file.output.format == Format::Tensors) {
            return Err(Error::usage(
                "detect: then crop cuts pictures of different sizes out of 8-bit samples: not of clips, not behind \
                 normalize or to, not with format tensors",
            ));
        }
    }
    specs.iter().map(|spec| Detector::open(spec, around).map(Arc::new)).collect()
}

/// Puts `other` of each model and labels in the place of these, in a written job.
pub fn each_file(job: &mut Map<String, Value>, other: impl Fn(&str) -> Value) {
    let replace = |named: &mut Map<String, Value>| {
        for key in ["model", "labels"] {
            if let Some(file) = named.get_mut(key) {
                let new = file.as_str().map(&other);
                new.into_iter().for_each(|new| *file = new);
            }
        }
    };
    replace(job);
    let detectors = job.get_mut("detect").and_then(Value::as_array_mut).into_iter().flatten();
    detectors.filter_map(Value::as_object_mut).for_each(replace);
}

/// Settings that are about detectors need one.
fn alone(file: &JobFile) -> Result<()> {
    let given = [
        ("detect_score", file.detect_score.is_some()),
        ("detect_nms", file.detect_nms.is_some()),
        ("detect_max", file.detect_max.is_some()),
        ("detect_head", file.detect_head.is_some()),
        ("labels", file.labels.is_some()),
        ("metadata coco and yolo", file.output.metadata.iter().any(|m| matches!(m, Metadata::Coco | Metadata::Yolo))),
    ];
    if file.output.metadata.contains(&Metadata::Yolo) && file.output.format != Format::Images {
        return Err(Error::usage(
            "metadata yolo: its readers look for the labels beside images in folders: choose --format images",
        ));
    }
    match given.iter().find(|(_, given)| *given) {
        Some((name, _)) if file.detect.is_empty() => {
            Err(Error::usage(format!("{name}: it is about detected objects, and the job has no detector: add detect")))
        }
        _ => Ok(()),
    }
}

/// A detector with what the job says for all, and its name.
fn completed(file: &JobFile, spec: &DetectSpec) -> DetectSpec {
    let mut spec = spec.clone();
    spec.score = spec.score.or(file.detect_score);
    spec.nms = spec.nms.or(file.detect_nms);
    spec.max = spec.max.or(file.detect_max);
    spec.head = spec.head.or_else(|| file.detect_head.clone());
    spec.labels = spec.labels.or_else(|| file.labels.clone());
    if spec.provider.is_empty() {
        spec.provider.clone_from(&file.provider);
    }
    let stem = |uri: &str| Some(Path::new(input::without_query(uri)).file_stem()?.to_str()?.to_string());
    spec.name = spec.name.or_else(|| stem(spec.model.to_str()?));
    spec
}

/// Checks what detectors say of one another, and hands on what one that sees another's objects has from it, or asks of it.
fn together(mut specs: Vec<DetectSpec>) -> Result<Vec<DetectSpec>> {
    let wrong = |text: String| Err(Error::usage(format!("detect: {text}")));
    let parent = |specs: &[DetectSpec], i: usize| match &specs[i].on {
        On::Objects(name) => specs[..i].iter().position(|other| other.name.as_ref() == Some(name)),
        On::Source | On::Sample => None,
    };
    for i in 0..specs.len() {
        let name = specs[i].name.clone().unwrap_or_default();
        if specs[i].name.as_deref() == Some("") {
            return wrong(format!("the name of detector {i} is empty; expected a word, or none at all"));
        }
        if specs[..i].iter().any(|other| other.name == specs[i].name) {
            return wrong(format!("two detectors are called {name}; give one another name"));
        }
        let on = String::from(specs[i].on.clone());
        if parent(&specs, i).is_none() && specs[..i].iter().any(|other| other.name.as_ref() == Some(&on)) {
            return wrong(format!(
                "{name} is to see {on}, which is one of the pictures, but also a detector's name: give that another name"
            ));
        }
        match (parent(&specs, i), specs[i].on.clone()) {
            (Some(parent), _) => specs[i].frames = specs[parent].frames,
            (None, On::Objects(other)) => {
                return wrong(format!(
                    "{name} is to see {other:?}: expected on = \"source\", \"sample\" or the name of a detector before it"
                ));
            }
            (None, _) if specs[i].margin != 0.0 => {
                return wrong(format!("{name}: margin goes around the objects of a detector that on names"));
            }
            (None, _) => {}
        }
    }
    // What is to be hidden is hidden however many objects it is found in.
    for i in (0..specs.len()).rev() {
        let all = specs[i].max == Some(usize::MAX) || specs[i].then.iter().any(Then::hides);
        if let (true, Some(parent)) = (all, parent(&specs, i)) {
            specs[parent].max = specs[parent].max.or(Some(usize::MAX));
        }
    }
    let saying = |is: fn(&Then) -> bool| specs.iter().flat_map(|s| &s.then).filter(|t| is(t)).count();
    if saying(|t| matches!(t, Then::Crop(_))) > 1 {
        return wrong("then crop stands twice; a picture is cut by the objects of one detector".into());
    }
    if saying(|t| matches!(t, Then::Best(_))) > 1 {
        return wrong("then best stands twice; pictures are ranked by one detector's objects".into());
    }
    Ok(specs)
}

/// Whether a job can hide what it finds, so that nothing that it writes shows it. `unseen` says that it looks at the first
/// frame of clips alone.
fn hidable(file: &JobFile, unseen: bool, dtype: Dtype) -> Result<()> {
    let cannot = |why: &str| Err(Error::usage(format!("detect: then blur and fill hide objects, and {why}")));
    if unseen {
        return cannot("they look at the first frame of a clip alone: say frames = \"all\", or leave out clip");
    }
    if dtype != Dtype::U8 {
        return cannot("they work on 8-bit samples: leave out normalize and to");
    }
    if file.output.keep_raw.is_some() {
        return cannot("keep_raw would keep the sources, which show them: leave it out");
    }
    Ok(())
}
