//! What a job says of a detector.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nms::Nms;
use crate::op::Filter;

/// Which picture a detector sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum On {
    /// The upright frame before the operations.
    #[default]
    Source,
    /// What the operations make of it, before normalising.
    Sample,
    /// The parts of the upright frame in which the earlier detector of this name has found something.
    Objects(String),
}

impl From<String> for On {
    fn from(text: String) -> On {
        match text.as_str() {
            "source" => On::Source,
            "sample" => On::Sample,
            _ => On::Objects(text),
        }
    }
}

impl From<On> for String {
    fn from(on: On) -> String {
        match on {
            On::Source => "source".into(),
            On::Sample => "sample".into(),
            On::Objects(name) => name,
        }
    }
}

impl JsonSchema for On {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "On".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "source: the upright frame before the operations; sample: what they make of it, before \
                            normalising; else the name of an earlier detector: the parts of the upright frame in which that \
                            has found something"
        })
    }
}

/// Which frames of a clip a detector sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Frames {
    /// The first.
    #[default]
    First,
    /// Every one.
    All,
}

impl Frames {
    fn is_first(&self) -> bool {
        *self == Frames::First
    }
}

/// What becomes of a sample on which a detector failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// It is left out; an input without any sample left becomes a dead letter.
    Reject,
    /// It is written without this detector's objects, and its record says so.
    Keep,
}

/// How a picture is brought to the model's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Its shape is kept; it lies in the middle, filled around.
    Letterbox,
    /// Its shape is kept; it lies at the top left, filled around.
    Topleft,
    /// Both sides are resized.
    Stretch,
    /// Its short side is resized, and the middle taken; for square inputs.
    Crop,
}

/// Order of the channels that a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red, as OpenCV reads pictures.
    Bgr,
}

/// What is done to a picture before the model sees it; what is left out is as the head has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PreprocessSpec {
    /// Width and height; needed only where the model leaves them open (default: 640 x 640).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[u32; 2]>,
    /// How the picture is brought to that size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
    /// Colour around it, RRGGBB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fill: Option<String>,
    /// How pixels are weighed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Order of the channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Channels>,
    /// Subtracted from each channel (0 to 255), in the model's own order of channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f64; 3]>,
    /// What the difference is divided by, in the same order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<[f64; 3]>,
}

/// Names of a model's classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "labels: expected coco, a file with one name a line, or a list of names")]
pub enum Labels {
    /// `coco`, or a text file with one name a line.
    File(String),
    /// The names themselves.
    Names(Vec<String>),
}

/// A class by its name or its index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "classes: expected names or indices")]
pub enum ClassName {
    /// As the model numbers it.
    Index(usize),
    /// Its label.
    Name(String),
}

/// Which objects a rule is about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Which {
    /// Their classes; all where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassName>,
    /// Their least score, where it is more than the detector's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// Hiding what a box holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hide {
    /// Their classes; all where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassName>,
    /// How much further than the box on each side, as a share of its width and height.
    pub margin: f64,
    /// For `fill`: the colour, RRGGBB (default: 000000).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
}

/// A crop for each object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Crop {
    /// Their classes; all where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassName>,
    /// Their least score, where it is more than the detector's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// How much further than the box on each side, as a share of its width and height.
    pub margin: f64,
    /// As wide as high, as far as the picture allows.
    pub square: bool,
    /// Crops with a shorter side than this, in pixels of the sample, are left out.
    pub min_size: u32,
    /// The whole picture is written, too.
    pub beside: bool,
}

/// The best pictures of an input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Best {
    /// How many samples of each input are kept.
    pub count: usize,
    /// The classes that count; all where there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassName>,
    /// Their least score, where it is more than the detector's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// What is done with what was found, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Only samples that show at least one of these are written.
    Keep(Which),
    /// Samples that show one of these are not written.
    Drop(Which),
    /// Of each input (a video is not cut then) only the samples with the highest score of one of these are written, or
    /// what is cut from them; of equal ones the earlier.
    Best(Best),
    /// Boxes become unrecognisable.
    Blur(Hide),
    /// Boxes become one colour.
    Fill(Hide),
    /// A sample for each box, in place of the picture or beside it; the last of all.
    Crop(Crop),
}

impl Then {
    /// Whether it hides something, so that what the detector failed on must not be written.
    pub fn hides(&self) -> bool {
        matches!(self, Then::Blur(_) | Then::Fill(_))
    }
}

fn is_zero(v: &f64) -> bool {
    *v == 0.0
}

/// A detector as written in a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DetectSpec {
    /// Its name in records (default: the model file's, without its ending).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The model, an .onnx file: a path, or a URI as inputs have it; its content is part of the job's fingerprint.
    pub model: PathBuf,
    /// Which picture it sees.
    #[serde(default)]
    pub on: On,
    /// Where it sees another's objects: how much further than their boxes on each side, as a share of width and height.
    #[serde(skip_serializing_if = "is_zero")]
    pub margin: f64,
    /// Which frames of a clip it sees (default: first; where it sees another's objects, those that the other sees).
    #[serde(skip_serializing_if = "Frames::is_first")]
    pub frames: Frames,
    /// How the outputs are laid out (default: recognised).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// What is done to a picture before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<PreprocessSpec>,
    /// Names of the classes: `coco`, a file with one a line, or a list (default: the model's own, where it has them).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Least score (default: 0.3; of classes and embeddings of whole pictures 0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Overlap above which the weaker of two boxes of one class goes, `soft` or `none` (default: as the head has it, mostly
    /// 0.45).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nms: Option<Nms>,
    /// At most so many objects a picture, the strongest (default: 300; all where something is hidden; 1 of
    /// the classes of whole pictures).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
    /// Only these classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassName>,
    /// ONNX Runtime's providers, the first that is there (default: cpu).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub provider: Vec<String>,
    /// Pictures that the model gets at once; what is missing is filled with zeros (default: 1, or the model's own).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// What is done with what was found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<Then>,
    /// What becomes of samples on which it failed (default: keep; reject where something is hidden).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
}
