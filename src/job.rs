//! The job: what a user asks for, parsed, validated and resolved before anything starts.
//!
//! A [`JobFile`] is the specification as written; flags and variables are laid over the file's tables before it is read,
//! so that all three speak one language. [`Job::resolve`] checks what the types cannot. [`Job::identity`] holds every
//! setting that can change a byte of the result, with the versions of the libraries whose output reaches data files;
//! [`Job::fingerprint`] is its digest.

mod detectors;
mod identity;
pub mod values;

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::backend::device::{self, Device};
use crate::decode::hardware;
use crate::decode::image::PhotoOptions;
use crate::decode::route::Demand;
use crate::detect::nms::Nms;
use crate::detect::spec::{DetectSpec, Frames, Labels, On};
use crate::detect::{Act, Detector};
use crate::error::{Error, Result};
use crate::input::{InputSpec, local_path};
use crate::notice;
use crate::op::{self, Op};
use crate::program::yuv::Chroma;
use crate::program::{Program, Quality, Settings};
use crate::sample::{Pick, Rational, Rule, Sampling};
use crate::sink::Format;
use crate::sink::encode::Encoding;
use crate::sink::record::Details;
use crate::store::Output;
use crate::store::cloud::{Place, Settings as StoreSettings};
pub use identity::{differences, fingerprint, versions};
use values::{ByteSize, ClipSpec, MaxRejects, Price, Rate, Scenes, TaskShare};

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

/// Most threads that a job may ask for; a machine has room for so many stacks.
const MAX_THREADS: usize = 4096;

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

/// The output that `uri` means: a folder, or a prefix of an object store.
///
/// # Errors
/// Usage errors for other URIs, and for object stores where this build has none.
pub fn output(uri: &str, settings: &StoreSettings) -> Result<Output> {
    match Place::of(uri) {
        Some(_) => Output::remote(uri, settings),
        None => Ok(Output::at(&local_path(uri)?)),
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

/// A job that can be run.
#[derive(Debug, Clone)]
pub struct Job {
    /// As written.
    pub file: JobFile,
    /// Which frames.
    pub sampling: Sampling,
    /// What is done to them.
    pub program: Program,
    /// How photos are read.
    pub photo: PhotoOptions,
    /// How samples are encoded.
    pub encoding: Encoding,
    /// CPU threads.
    pub threads: usize,
    /// What goes in, wherever it is mounted.
    portable: InputSpec,
    /// Where the operations run.
    pub device: Device,
    /// What decodes.
    pub decoder: Demand,
    /// What finds objects.
    pub detectors: Vec<Arc<Detector>>,
}

impl Job {
    /// Checks a job and compiles its parts.
    ///
    /// # Errors
    /// Usage, naming the setting; unavailable where a demanded device or decoder is missing and falling back forbidden.
    pub fn resolve(file: JobFile) -> Result<Job> {
        let sampling = sampling(&file.sample)?;
        let background = op::rgb(&file.background).map_err(|e| e.context("background"))?;
        let settings = Settings {
            quality: file.quality,
            chroma: file.chroma,
            seed: file.seed,
            epoch: file.epoch,
            background,
            square_pixels: file.square_pixels,
        };
        let program = Program::compile(&file.ops, settings)?;
        let dtype = program.output().0;
        let encoding = file.output.encode.unwrap_or_else(|| match sampling.clip {
            Some(_) if file.output.format != Format::Tensors => Format::Tensors.default_encoding(dtype),
            _ => file.output.format.default_encoding(dtype),
        });
        file.output.format.check(&encoding, dtype, sampling.clip.is_some())?;
        if file.output.format == Format::Tensors {
            one_size(&program)?;
        } else if let Some(field) = file.input.field.iter().find(|f| f.ext.eq_ignore_ascii_case(encoding.ext())) {
            let ext = &field.ext;
            return Err(Error::usage(format!(
                "--field {field}: KEY.{ext} is the sample itself: choose another ending"
            )));
        }
        let positive = [
            ("limit", file.input.limit.unwrap_or(1)),
            ("variants", u64::from(file.variants)),
            ("shard_samples", file.output.shard_samples),
            ("max_pixels", file.max_pixels),
            ("batch", file.batch.map_or(1, |batch| batch as u64)),
            ("scratch_limit", file.scratch_limit.map_or(1, |limit| limit.0)),
            ("unit", file.unit.is_positive().into()),
            ("stall_timeout", file.stall_timeout.is_positive().into()),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, n)| *n == 0) {
            return Err(Error::usage(format!("{name}: expected more than 0")));
        }
        file.output.store.check()?;
        if file.grace.num() < 0 {
            return Err(Error::usage("grace: expected 0 or more"));
        }
        if file.lease < Rational::seconds(1) {
            return Err(Error::usage("lease: expected 1s or more"));
        }
        let photo = PhotoOptions {
            max_pixels: file.max_pixels,
            icc_convert: file.icc == Icc::Convert,
            apply_orientation: file.orient == Orient::Apply,
            background,
        };
        if file.threads > MAX_THREADS {
            return Err(Error::usage(format!("threads: {}; expected at most {MAX_THREADS}", file.threads)));
        }
        let threads = match file.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let device: Device = file.device.parse()?;
        if file.fallback == Fallback::Forbid {
            device::check(device).map_err(|e| e.context(format!("device {device}")))?;
        }
        let decoder: Demand = file.decoder.parse()?;
        if let (Fallback::Forbid, Demand::Hardware(kind)) = (file.fallback, decoder) {
            hardware::find(kind).map_err(|why| Error::unavailable(format!("decoder {decoder}: {why}")))?;
        }
        let portable = file.input.portable()?;
        let detectors = detectors::open(&file, settings, sampling.clip.is_some(), program.output().0)?;
        Ok(Job { sampling, program, photo, encoding, threads, device, decoder, detectors, portable, file })
    }

    /// Where the result goes.
    ///
    /// # Errors
    /// Usage errors where there is none, or its URI or settings cannot be.
    pub fn output(&self) -> Result<Output> {
        let uri = self.file.output.uri.as_deref();
        let uri =
            uri.ok_or_else(|| Error::usage("no output: give --output FOLDER, or - for a tar on standard output"))?;
        output(uri, &self.file.output.store)
    }

    /// Where the sources are kept, if they are.
    ///
    /// # Errors
    /// Usage errors where its URI cannot be.
    pub fn raw(&self) -> Result<Option<Output>> {
        self.file.output.keep_raw.as_deref().map(|uri| output(uri, &self.file.output.store)).transpose()
    }

    /// What records tell of objects beyond what all do.
    pub fn details(&self) -> Details {
        let any = |is: fn(&Detector) -> bool| self.detectors.iter().any(|d| is(d));
        Details {
            masks: any(Detector::masks),
            embeddings: any(Detector::embeds),
            parents: any(|d| matches!(d.on, On::Objects(_))),
            frames: self.sampling.clip.is_some() && any(|d| d.frames == Frames::All),
        }
    }

    /// How many samples of each input are kept, before they are cut, where only the best are.
    pub fn best(&self) -> Option<usize> {
        let count = |rule: &Act| if let Act::Best { count, .. } = rule { Some(*count) } else { None };
        self.detectors.iter().flat_map(|d| &d.rules).find_map(count)
    }
}

fn sampling(spec: &SampleSpec) -> Result<Sampling> {
    let mut rules = Vec::new();
    if spec.all {
        rules.push(Rule::All);
    }
    if let Some(step) = spec.every {
        rules.push(Rule::Every(step));
    }
    if let Some(Rate(rate)) = spec.fps {
        rules.push(Rule::Every(rate.recip().ok_or_else(|| Error::usage(format!("fps: a rate of {rate}")))?));
    }
    if spec.keyframes {
        rules.push(Rule::Keyframes);
    }
    rules.extend(spec.count.map(Rule::Count));
    if !spec.at.is_empty() {
        rules.push(Rule::At(spec.at.clone()));
    }
    rules.extend(spec.scenes.0.map(Rule::Scenes));
    if rules.len() > 1 {
        return Err(Error::usage(format!("give one of {}, not several", RULES.join(", "))));
    }
    let default = Sampling::default();
    let rule = rules.pop().unwrap_or(default.rule);
    let clip = spec.clip.map(|c| c.0);
    let pick = match (&rule, spec.pick) {
        // What is not given.
        (Rule::Scenes(_), Pick::Next) => Pick::First,
        (_, pick) => pick,
    };
    let sampling = Sampling { rule, pick, start: spec.start, end: spec.end, clip };
    sampling.validate()?;
    Ok(sampling)
}

/// Refuses a list of operations whose output size depends on the input's: an array has one shape.
fn one_size(program: &Program) -> Result<()> {
    use crate::geometry::Orientation;
    let size = |w, h| program.resolve((w, h), Orientation::UPRIGHT, (1, 1), &Default::default()).map(|s| s.size());
    match (size(1920, 1080), size(1001, 1333)) {
        (Ok(a), Ok(b)) if a != b => Err(Error::usage(
            "format tensors needs every sample to have one size, but here it depends on the input: end with a resize to \
             w and h, a center_crop, a crop or a letterbox",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = r#"
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

    fn toml() -> JobFile {
        JobFile::from_tables(JobFile::tables(TOML, "job.toml").unwrap()).unwrap()
    }

    #[test]
    fn the_three_languages_say_the_same() {
        let value = JobFile::tables(TOML, "job.toml").unwrap();
        let json = JobFile::tables(&value.to_string(), "job.json").unwrap();
        let yaml = JobFile::tables(&serde_yaml_ng::to_string(&value).unwrap(), "job.yaml").unwrap();
        let job = toml();
        assert_eq!(job.threads, 3);
        assert_eq!(job, JobFile::from_tables(json).unwrap());
        assert_eq!(job, JobFile::from_tables(yaml).unwrap());
        // What was resolved and frozen reads back as the same job.
        assert_eq!(job, JobFile::from_tables(serde_json::to_value(&job).unwrap()).unwrap());
    }

    #[test]
    fn the_fingerprint_covers_bytes_and_nothing_else() {
        let base = Job::resolve(toml()).unwrap();
        let with = |change: fn(&mut JobFile)| {
            let mut file = toml();
            change(&mut file);
            Job::resolve(file).unwrap().fingerprint()
        };
        assert_eq!(base.fingerprint(), with(|f| f.threads = 9));
        assert_eq!(base.fingerprint(), with(|f| f.output.uri = Some("elsewhere".into())));
        assert_eq!(base.fingerprint(), with(|f| f.memory = ByteSize(5)));
        assert_eq!(base.fingerprint(), with(|f| f.scratch_limit = Some(ByteSize(5))));
        assert_eq!(base.fingerprint(), with(|f| f.batch = Some(5)));
        assert_ne!(base.fingerprint(), with(|f| f.seed = 1));
        assert_ne!(base.fingerprint(), with(|f| f.ops.clear()));
        assert_ne!(base.fingerprint(), with(|f| f.output.shard_samples = 7));
        let at = |mount: &str| {
            let mut file = toml();
            (file.input.uri, file.input.root) = (vec![format!("{mount}/clips")], Some(mount.into()));
            Job::resolve(file).unwrap()
        };
        let frozen = at("/mnt/a");
        assert_eq!(frozen.fingerprint(), at("/mnt/b").fingerprint(), "below a root its place does not matter");
        assert_ne!(frozen.fingerprint(), base.fingerprint());
        let read_back = JobFile::from_tables(frozen.identity()["job"].clone()).and_then(Job::resolve).unwrap();
        assert_eq!(read_back.fingerprint(), frozen.fingerprint());
        let mut file = toml();
        file.seed = 7;
        let other = Job::resolve(file).unwrap();
        assert_eq!(differences(&base.identity(), &other.identity()), ["seed: 0, here 7"]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let fails = |text: &str| {
            let e = JobFile::tables(text, "j.toml").and_then(JobFile::from_tables).and_then(Job::resolve).unwrap_err();
            assert_eq!(e.exit_code(), 2, "{text}: {e}");
            e.message
        };
        assert!(fails("[sample]\nall = true\ncount = 3").contains("one of"));
        assert!(fails("[sample]\nevery = \"1x\"").contains("sample.every: `1x`"));
        assert!(fails("quality = \"best\"").contains("quality: "));
        assert!(fails("[inputs]\nuri = [\"x\"]").contains("inputs"));
        assert!(fails("variants = 0").contains("variants"));
        assert!(fails("threads = 5000").contains("at most"));
        assert!(fails("[input]\nfield = [\"a=JPG\"]").contains("KEY.JPG is the sample"));
        assert!(fails("device = \"tpu\"").contains("tpu"));
        assert!(fails("detect = [\"none.onnx\"]").contains("detect none.onnx"));
        assert!(fails("[[detect]]\nmodel = \"m.onnx\"\nthen = [{ hide = {} }]").contains("hide"));
        assert!(fails("[output]\nmetadata = [\"parquet\", \"coco\"]").contains("metadata coco"));
        assert!(fails("[output]\nmetadata = [\"xml\"]").contains("xml"));
        assert!(fails("[output]\nformat = \"tensors\"\nencode = \"png\"").contains("tensors"));
        assert!(fails("ops = [\"resize:256\"]\n[output]\nformat = \"tensors\"").contains("one size"));
        let forbidden = "device = \"cuda\"\nfallback = \"forbid\"";
        let e = JobFile::tables(forbidden, "j.toml").and_then(JobFile::from_tables).and_then(Job::resolve).unwrap_err();
        assert_eq!(e.exit_code(), 69);
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
