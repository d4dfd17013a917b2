//! The job file: what a user asks for, as written.
//!
//! Flags and variables are laid over the file's tables before they are read, so that all three speak one language.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::values::{ByteSize, ClipSpec, MaxRejects, Price, Rate, Scenes, TaskShare};
use crate::decode::image::PhotoOptions;
use crate::detect::nms::Nms;
use crate::detect::spec::{DetectSpec, Labels};
use crate::error::{Error, Result};
use crate::input::InputSpec;
use crate::notice;
use crate::op::Op;
use crate::program::Quality;
use crate::program::yuv::Chroma;
use crate::sample::{Pick, Rational};
use crate::sink::Format;
use crate::sink::encode::Encoding;
use crate::store::cloud::Settings as StoreSettings;

/// Which frames, as written. At most one of the rules `all`, `every`, `fps`, `keyframes`, `count`,
/// `at`, `scenes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SampleSpec {
    /// Every frame.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// One frame for each step of this length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<Rational>,
    /// This many frames a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<Rate>,
    /// What the container flags as key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keyframes: bool,
    /// This many frames, evenly spread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The frames shown at these times.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<Rational>,
    /// One frame a scene.
    #[serde(skip_serializing_if = "Scenes::is_off")]
    pub scenes: Scenes,
    /// Which frame stands for a wanted time of `every` and `fps` (`next`, `shown`, `nearest`) or for a scene (`first`,
    /// `middle`; by default the first).
    pub pick: Pick,
    /// Each chosen frame starts a clip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<ClipSpec>,
    /// Start of the part of the media.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Rational>,
    /// End of the part of the media.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Rational>,
    /// Which video stream, counted from 0 among the video streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<usize>,
}

/// The keys of [`SampleSpec`] of which one excludes the others.
pub const RULES: [&str; 7] = ["all", "every", "fps", "keyframes", "count", "at", "scenes"];

/// Further forms of the record table. Parquet is always written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Metadata {
    /// A Parquet beside each shard.
    Parquet,
    /// `records.csv`.
    Csv,
    /// `records.sqlite`.
    Sqlite,
    /// `annotations.coco.json`: what detectors found, as COCO has it.
    Coco,
    /// `labels/` and `data.yaml`: what detectors found, as YOLO's trainers read it.
    Yolo,
}

/// What is written, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputSpec {
    /// A folder, or `-` for a tar on standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Form of the data.
    pub format: Format,
    /// Encoding of a sample; by default jpeg:95, with tensors npy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encode: Option<Encoding>,
    /// About how many samples a shard holds.
    pub shard_samples: u64,
    /// About how many bytes a shard holds.
    pub shard_bytes: ByteSize,
    /// Forms of the record table.
    pub metadata: Vec<Metadata>,
    /// A folder or prefix of an object store that also keeps the source files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_raw: Option<String>,
    /// How the output's object store is reached.
    pub store: StoreSettings,
}

impl Default for OutputSpec {
    fn default() -> Self {
        OutputSpec {
            uri: None,
            format: Format::default(),
            encode: None,
            shard_samples: 1000,
            shard_bytes: ByteSize(256_000_000),
            metadata: vec![Metadata::Parquet],
            keep_raw: None,
            store: StoreSettings::default(),
        }
    }
}

/// What to do where work demanded of a device has to run elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// Say it in the report.
    Allow,
    /// Say it in the report and the log.
    #[default]
    Warn,
    /// Refuse.
    Forbid,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Verbose {
    /// More than warnings, or these alone.
    Switch(bool),
    /// 0 warnings, 1 information, 2 what helps to find faults, 3 everything.
    Level(u8),
}

/// Form of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

/// Whether workers whose models run on different providers may share a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mix {
    /// A worker with another provider is refused: the same bytes come from the same provider only.
    #[default]
    Refuse,
    /// Each task is what the worker found that finished it first.
    Allow,
}

impl Mix {
    fn is_refuse(&self) -> bool {
        *self == Mix::Refuse
    }
}

/// Whether stored ICC profiles are converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Icc {
    /// To sRGB (by LittleCMS).
    #[default]
    Convert,
    /// Left as they are.
    Ignore,
}

/// Whether stored orientation is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Orient {
    /// Shown upright.
    #[default]
    Apply,
    /// As stored.
    Ignore,
}

/// What becomes of interlaced video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Deinterlace {
    /// Frames that are flagged as interlaced are deinterlaced by bwdif.
    #[default]
    Auto,
    /// Taken as they are stored.
    Off,
    /// All frames are deinterlaced, whatever they are flagged as.
    Bwdif,
}

impl Deinterlace {
    fn is_auto(&self) -> bool {
        *self == Deinterlace::Auto
    }
}

/// A job as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobFile {
    /// What goes in.
    pub input: InputSpec,
    /// Which frames.
    pub sample: SampleSpec,
    /// What is done to them, in order.
    #[serde(deserialize_with = "ops")]
    pub ops: Vec<Op>,
    /// What comes out.
    pub output: OutputSpec,
    /// What finds objects in the frames.
    #[serde(deserialize_with = "detect", skip_serializing_if = "Vec::is_empty")]
    pub detect: Vec<DetectSpec>,
    /// Least score of what is found, for detectors that do not say otherwise.
    #[serde(deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub detect_score: Option<f64>,
    /// Overlap above which the weaker of two boxes goes, `soft` or `none`, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect_nms: Option<Nms>,
    /// At most so many objects a picture, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect_max: Option<usize>,
    /// How the outputs are laid out, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detect_head: Option<String>,
    /// Names of the classes, likewise: `coco`, a file with one a line, or a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// ONNX Runtime's providers, the first that is there, likewise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub provider: Vec<String>,
    /// Whether workers whose models run on different providers may share the job: refuse or allow.
    #[serde(skip_serializing_if = "Mix::is_refuse")]
    pub mix: Mix,
    /// ONNX Runtime's library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ort: Option<PathBuf>,
    /// Order of resizing and colour conversion.
    pub quality: Quality,
    /// Chroma interpolation.
    pub chroma: Chroma,
    /// Colour profiles of photos.
    pub icc: Icc,
    /// Orientation of photos and videos.
    pub orient: Orient,
    /// Interlaced video.
    #[serde(skip_serializing_if = "Deinterlace::is_auto")]
    pub deinterlace: Deinterlace,
    /// Colour behind transparent pictures, RRGGBB.
    pub background: String,
    /// Resample to square pixels first.
    pub square_pixels: bool,
    /// Seed of all random operations and of the shuffle.
    pub seed: u64,
    /// Epoch of all random operations.
    pub epoch: u64,
    /// Differently augmented samples for each frame.
    pub variants: u32,
    /// Videos longer than this are cut, where that is sound.
    pub unit: Rational,
    /// Largest picture that is decoded, in pixels.
    pub max_pixels: u64,
    /// Where the operations run: `auto`, `cpu`, `wgpu[:n]` or `cuda[:n|:all]`.
    pub device: String,
    /// Pictures that a device gets at a time, at most. Without it, as many as are ready, up to what the device likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Where decoding runs: auto, software, nvdec, ...
    pub decoder: String,
    /// Whether work demanded of a device may run elsewhere.
    pub fallback: Fallback,
    /// Byte budget of everything in flight.
    pub memory: ByteSize,
    /// Bytes of temporaries on disk at most: shards on their way to a bucket with samples that wait for their turn, and as much
    /// again for inputs that have to be whole on disk. Without it, as many as it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch_limit: Option<ByteSize>,
    /// CPU threads; 0 for as many as there are.
    pub threads: usize,
    /// Which tasks this process runs.
    pub tasks: TaskShare,
    /// How many inputs may be rejected.
    pub max_rejects: MaxRejects,
    /// No input is a success.
    pub allow_empty: bool,
    /// CPU time without progress after which an input is given up.
    pub stall_timeout: Rational,
    /// How long a signal leaves to drain.
    pub grace: Rational,
    /// How long a worker of `--tasks any` may be silent before others take its tasks.
    pub lease: Rational,
    /// File for this process's report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<PathBuf>,
    /// Print JSON: of a run its report, as the last line of standard output.
    pub json: bool,
    /// File for a small JSON of how the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<PathBuf>,
    /// Where Prometheus metrics are served while the run lives: `HOST:PORT`, or `:PORT` on all addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// Whose notices that the machine will be taken away are listened to.
    pub notice: notice::Source,
    /// Where to ask for them instead of the cloud's own address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notice_endpoint: Option<String>,
    /// How progress is shown: auto, bar, lines, json or none.
    pub progress: String,
    /// How much is logged: 0 warnings (or false), 1 more (or true), to 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verbose: Option<Verbose>,
    /// Form of the logs on standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// File that is written anew every second of a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<PathBuf>,
    /// File for a timeline of what each thread did, which Perfetto and Chrome show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<PathBuf>,
    /// What the machine costs an hour, in any currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<Price>,
}

impl Default for JobFile {
    fn default() -> Self {
        JobFile {
            input: InputSpec::default(),
            sample: SampleSpec::default(),
            ops: Vec::new(),
            output: OutputSpec::default(),
            detect: Vec::new(),
            detect_score: None,
            detect_nms: None,
            detect_max: None,
            detect_head: None,
            labels: None,
            provider: Vec::new(),
            mix: Mix::default(),
            ort: None,
            quality: Quality::default(),
            chroma: Chroma::default(),
            icc: Icc::default(),
            orient: Orient::default(),
            deinterlace: Deinterlace::default(),
            background: "000000".into(),
            square_pixels: false,
            seed: 0,
            epoch: 0,
            variants: 1,
            unit: Rational::seconds(600),
            max_pixels: PhotoOptions::default().max_pixels,
            device: "auto".into(),
            decoder: "auto".into(),
            fallback: Fallback::default(),
            memory: ByteSize(1_000_000_000),
            scratch_limit: None,
            batch: None,
            threads: 0,
            tasks: TaskShare::All,
            max_rejects: MaxRejects::Count(0),
            allow_empty: false,
            stall_timeout: Rational::seconds(60),
            grace: Rational::seconds(25),
            lease: Rational::seconds(60),
            report: None,
            json: false,
            summary: None,
            metrics: None,
            notice: notice::Source::default(),
            notice_endpoint: None,
            progress: "auto".into(),
            verbose: None,
            log_format: None,
            heartbeat: None,
            trace: None,
            price_per_hour: None,
        }
    }
}

/// Operations are tables with `op`, or text as on the command line; either is checked in full.
fn ops<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Op>, D::Error> {
    let list = Vec::<Value>::deserialize(deserializer)?;
    let read = |value| match value {
        Value::String(text) => Op::parse(&text),
        table => Op::from_value(table),
    };
    list.into_iter().map(read).collect::<Result<_>>().map_err(serde::de::Error::custom)
}

/// Detectors are tables with `model`, or the model's file alone, as on the command line.
fn detect<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<DetectSpec>, D::Error> {
    use serde::de::Error as _;
    let read = |value: Value| match value {
        Value::String(file) => Ok(DetectSpec { model: file.into(), ..DetectSpec::default() }),
        table => serde_json::from_value(table).map_err(D::Error::custom),
    };
    Vec::<Value>::deserialize(deserializer)?.into_iter().map(read).collect()
}

/// A number, also as text, as variables and flags give it.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    use serde::de::Error as _;
    let value = Value::deserialize(deserializer)?;
    let number = match &value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    number.map(Some).ok_or_else(|| D::Error::custom(format!("{value} is no number")))
}

/// Tables of a job file whose keys count as written at the top.
pub(crate) const GROUPS: [&str; 3] = ["run", "pixels", "telling"];

impl JobFile {
    /// Reads the text of a job file into tables; the ending of `name` tells TOML, YAML or JSON.
    ///
    /// # Errors
    /// Usage, naming the file and the place.
    pub fn tables(text: &str, name: &str) -> Result<Value> {
        let fail = |e: String| Error::usage(format!("{name}: {e}"));
        let ending = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let value: Value = match ending.as_str() {
            "toml" => toml::from_str(text).map_err(|e| fail(e.to_string()))?,
            "yaml" | "yml" => serde_yaml_ng::from_str(text).map_err(|e| fail(e.to_string()))?,
            "json" => serde_json::from_str(text).map_err(|e| fail(e.to_string()))?,
            _ => return Err(fail("a job file's name ends in .toml, .yaml, .yml or .json".into())),
        };
        if !value.is_object() {
            return Err(fail("expected tables such as [input] and [output]".into()));
        }
        Ok(value)
    }

    /// Reads tables; keys of a group such as `[run]` count as written at the top.
    ///
    /// # Errors
    /// Usage, naming the key.
    pub fn from_tables(mut value: Value) -> Result<JobFile> {
        if let Some(top) = value.as_object_mut() {
            for group in GROUPS {
                if let Some(Value::Object(inner)) = top.remove(group) {
                    top.extend(inner);
                }
            }
        }
        serde_json::from_value(value.clone()).map_err(|e| {
            let key = unreadable(&value).map_or(String::new(), |key| format!("{key}: "));
            Error::usage(format!("the job: {key}{e}"))
        })
    }

    /// JSON Schema of the job file.
    pub fn schema() -> Value {
        let mut schema = serde_json::to_value(schemars::schema_for!(JobFile)).unwrap_or_default();
        // Operations may also be text as on the command line.
        if let Some(ops) = schema.pointer_mut("/properties/ops/items") {
            let table = ops.take();
            *ops = json!({ "anyOf": [table, { "type": "string" }] });
        }
        // A detector may be its model's file alone.
        if let Some(detect) = schema.pointer_mut("/properties/detect/items") {
            let table = detect.take();
            *detect = json!({ "anyOf": [table, { "type": "string" }] });
        }
        schema
    }
}

/// The first key of a job that cannot be read, as `table.key`: it is read alone.
fn unreadable(job: &Value) -> Option<String> {
    let fails = |job: Value| serde_json::from_value::<JobFile>(job).is_err();
    job.as_object()?.iter().find_map(|(key, value)| match value.as_object() {
        Some(table) if !table.is_empty() => {
            table.iter().find(|(k, v)| fails(json!({ key: { *k: v } }))).map(|(k, _)| format!("{key}.{k}"))
        }
        _ => fails(json!({ key: value })).then(|| key.clone()),
    })
}

/// A job of the tests.
#[cfg(test)]
pub(super) const TOML: &str = r#"
    [input]
    uri = ["clips/"]
    [sample]
    fps = "30000/1001"
    clip = "frames=4,stride=2"
    [[ops]]
    op = "resize"
    short = 256
    filter = "bicubic"
    [output]
    uri = "out"
    shard_bytes = "1GB"
    encode = "npy"
    [run]
    threads = 3
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_languages_say_the_same() {
        let value = JobFile::tables(TOML, "job.toml").unwrap();
        let json = JobFile::tables(&value.to_string(), "job.json").unwrap();
        let yaml = JobFile::tables(&serde_yaml_ng::to_string(&value).unwrap(), "job.yaml").unwrap();
        let job = JobFile::from_tables(value).unwrap();
        assert_eq!(job.threads, 3);
        assert_eq!(job, JobFile::from_tables(json).unwrap());
        assert_eq!(job, JobFile::from_tables(yaml).unwrap());
        // What was resolved and frozen reads back as the same job.
        assert_eq!(job, JobFile::from_tables(serde_json::to_value(&job).unwrap()).unwrap());
    }

    #[test]
    fn the_schema_knows_every_key() {
        let schema = JobFile::schema();
        let job = serde_json::to_value(JobFile::default()).unwrap();
        for key in job.as_object().unwrap().keys() {
            assert!(schema["properties"].get(key).is_some(), "{key}");
        }
    }
}
