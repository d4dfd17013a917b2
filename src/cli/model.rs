//! `model inspect`: what a detector's model is, and what would be done with it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ArgMatches;
use serde_json::{Value, json};

use super::{pretty, print};
use crate::detect::heads::{Declared, Layout, listed};
use crate::detect::spec::{DetectSpec, Labels};
use crate::detect::{Around, Detector, Element, Files};
use crate::error::{Error, Result};
use crate::input::{self, InputSpec};
use crate::program::Settings;
use crate::tensor::Tensor;

/// Batches that are timed.
const ROUNDS: u32 = 10;

/// `framemill model inspect MODEL`.
pub fn inspect(m: &ArgMatches) -> Result<u8> {
    let text = |name: &str| m.get_one::<String>(name).cloned();
    let spec = DetectSpec {
        model: PathBuf::from(text("model").unwrap_or_default()),
        head: text("detect-head"),
        labels: text("labels").map(Labels::File),
        provider: text("provider")
            .into_iter()
            .flat_map(|p| p.split(',').map(str::to_string).collect::<Vec<_>>())
            .collect(),
        ..DetectSpec::default()
    };
    let runtime = text("ort");
    let read = |uri: &str| input::read_whole(&InputSpec::default(), uri);
    let files = Files { read: &read, shown: input::without_query };
    let runtime = runtime.as_deref().map(Path::new);
    let around = Around { ops: &[], settings: Settings::default(), runtime, forbid: false, files };
    let d = Detector::open(&spec, around)?;
    let milliseconds = (time(&d)? * 1e4).round() / 10.0;
    let missing: Vec<&String> = d.missing.iter().map(|(_, why)| why).collect();
    let classes = d.head.classes(&d.outputs);
    let gives = gives(&d);
    if m.get_flag("json") {
        return print(&pretty(&json!({
            "model": input::without_query(&spec.model.to_string_lossy()),
            "sha256": d.digest,
            "input": d.input,
            "outputs": d.outputs,
            "head": d.head.to_string(),
            "head_recognised": d.recognised,
            "gives": gives,
            "classes": classes,
            "labels": d.labels,
            "preprocess": d.preprocess.told(),
            "preprocess_from": from(&d),
            "nms": d.nms,
            "batch": d.batch,
            "provider": d.provider.name(),
            "missing": missing,
            "onnxruntime": { "version": d.runtime.version, "path": d.runtime.path },
            "milliseconds_per_batch": milliseconds,
        })));
    }
    let input = listed(&[Declared { name: d.input.name.clone(), shape: d.input.shape.clone() }]);
    let element = match d.input.element {
        Element::U8 => "bytes",
        Element::F16 => "half floats",
        Element::F32 => "floats",
    };
    let how = if d.recognised { "recognised by the outputs" } else { "as named" };
    let known = classes.map_or("?".to_string(), |n| n.to_string());
    let mut out = format!("input     {input}, {element}\noutputs   {}\n", listed(&d.outputs));
    out += &format!("head      {} ({how}), {known} classes, {} labels\n", d.head, d.labels.len());
    out += &format!("gives     {gives}\n");
    out += &format!("prepared  {}\n", d.preprocess.told());
    let from = from(&d);
    let sources = ["model", "head", "default"].map(|source| {
        let keys = from.as_object().into_iter().flatten().filter(|(_, v)| *v == source).map(|(key, _)| key.as_str());
        format!("{source}'s: {}", keys.collect::<Vec<_>>().join(", "))
    });
    out += &format!("          {}\n", sources.join("; "));
    out += &format!("nms       {}\n", Value::from(d.nms));
    for why in missing {
        out += &format!("missing   {why}\n");
    }
    out += &format!(
        "runs on   {} (ONNX Runtime {}), {milliseconds} ms for a batch of {}",
        d.provider, d.runtime.version, d.batch
    );
    print(&out)
}

/// What the head tells of a picture.
fn gives(d: &Detector) -> String {
    let values: i64 = d.outputs.first().map_or(0, |o| o.shape.iter().skip(1).product());
    match d.head.layout {
        Layout::Classify => format!("the class of the picture, of {values}"),
        Layout::Embed => format!("a vector of {values}"),
        _ if d.masks() => "objects with masks".into(),
        _ => "objects".into(),
    }
}

/// Where each setting of the preprocessing came from: the model's input, its head, or what holds where neither says.
fn from(d: &Detector) -> Value {
    let fixed = d.input.shape.iter().skip(1).all(|side| *side > 0);
    let values = if d.input.element == Element::U8 { "model" } else { "head" };
    json!({
        "size": if fixed { "model" } else { "default" },
        "fit": "head",
        "fill": "head",
        "filter": "default",
        "channels": "head",
        "mean": values,
        "std": values,
        "axes": "model",
        "element": "model",
    })
}

/// Seconds a batch in one thread, the first left out.
fn time(d: &Detector) -> Result<f64> {
    let p = &d.preprocess;
    let dtype = p.element.dtype();
    let (width, height) = p.size;
    let data = vec![0; width as usize * height as usize * 3 * dtype.size()];
    let tensor = Tensor { width, height, dtype, layout: p.axes, data };
    let batch = vec![&tensor; d.batch];
    let mut worker = d.worker()?;
    let mut round = || worker.detect(&batch).into_iter().collect::<Result<Vec<_>>>();
    round().map_err(|e| Error::usage(e.message))?;
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        round().map_err(|e| Error::usage(e.message))?;
    }
    Ok(begun.elapsed().as_secs_f64() / f64::from(ROUNDS))
}
