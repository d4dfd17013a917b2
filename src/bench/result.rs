//! What a benchmark leaves: one JSON, whose schema `framemill bench schema` prints.
//!
//! What could not be measured is null, with the reason beside it in `why`.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::machine::Machine;
use super::stats::Estimate;
use crate::error::{Error, Result};

/// The version of the form that is written; grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// Something that was measured, or why it was not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Told<T> {
    /// What it is; null where it is not known.
    pub value: Option<T>,
    /// Why it is not known.
    pub why: Option<String>,
}

impl<T> Told<T> {
    /// Known.
    pub fn is(value: T) -> Told<T> {
        Told { value: Some(value), why: None }
    }
    /// Not known, for this reason.
    pub fn not(why: impl Into<String>) -> Told<T> {
        Told { value: None, why: Some(why.into()) }
    }
}

impl<T> From<Result<T, String>> for Told<T> {
    fn from(result: Result<T, String>) -> Told<T> {
        result.map_or_else(Told::not, Told::is)
    }
}

/// A whole benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bench {
    /// Version of this form.
    pub schema: u32,
    /// Version of framemill.
    pub framemill: String,
    /// Seconds since the Unix epoch when it ended.
    pub made: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Where it ran.
    pub machine: Machine,
    /// The job as framemill's plan freezes it.
    pub job: Value,
    /// What went in.
    pub sample: SampleList,
    /// How the numbers are to be read.
    pub rules: Rules,
    /// What the machine can do by itself.
    pub rates: Rates,
    /// What was measured.
    pub configurations: Vec<Configuration>,
    /// Other programs that did the job, too.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// What was asked for and is not on this machine.
    pub not_here: Vec<Missing>,
    /// Where CPU and GPU are equally fast.
    pub break_even: Told<BreakEven>,
    /// What makes the numbers doubtful, of the machine as a whole.
    pub noise: Vec<String>,
}

/// The inputs, told so that two machines can see whether they had the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SampleList {
    /// Files.
    pub inputs: u64,
    /// Those that are videos.
    pub videos: u64,
    /// Those that are photos.
    pub photos: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// Seconds of video of all, as far as containers tell.
    pub video_seconds: Told<f64>,
    /// SHA-256 of the files' names and sizes, in order, without the folders above them.
    pub digest: String,
    /// What was made for want of media, as `--synthetic` named it.
    pub synthetic: Option<String>,
    /// What part of what was named this is, where `--quick` took less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
}

/// How the numbers are to be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rules {
    /// How medians and intervals are reckoned.
    pub statistics: String,
    /// When measuring ended.
    pub rounds: String,
    /// What counts as equal output.
    pub equality: String,
    /// What counts as noise.
    pub noise: String,
    /// When a peer does the same work.
    #[serde(default)]
    pub same_work: String,
}

/// What the machine can do by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// Bytes a second that copying in memory reads and writes, with all threads.
    pub memory: Told<f64>,
    /// Bytes a second that the scratch folder takes, synced.
    pub disk: Told<f64>,
}

/// What is not on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// The configuration that was asked for.
    pub name: String,
    /// Why it cannot be had here.
    pub why: String,
}

/// How a configuration's output stands to the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is what others of its quality are held against.
    Reference,
    /// The same bytes.
    Equal,
    /// Within the stated tolerance.
    Tolerated,
    /// Other bytes: it is not ranked.
    Different,
    /// It did not end well: it is not ranked.
    Failed,
}

/// One way to run the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Configuration {
    /// Its name in tables.
    pub name: String,
    /// The device that was asked for.
    pub device: String,
    /// The decoder that was asked for.
    pub decoder: String,
    /// exact or fast: each is a job of its own, with other pixels.
    pub quality: String,
    /// CPU threads.
    pub threads: usize,
    /// Pictures that the device got at a time, at most, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// What it ran on, as the run's report names it.
    pub ran_on: Option<String>,
    /// What decoded how much, as the run's report tells.
    pub decoders: Value,
    /// What ran elsewhere than was asked.
    pub fallbacks: Vec<String>,
    /// How its output stands to the others'.
    pub verdict: Verdict,
    /// The configuration that it was held against, and what was found.
    pub compared: String,
    /// Whether its speed may be ranked.
    pub ranked: bool,
    /// Why not.
    pub unranked: Option<String>,
    /// Samples of one run.
    pub samples: u64,
    /// Frames that one run decoded.
    pub frames: u64,
    /// SHA-256 of the samples' keys and digests, which is the same wherever the media are mounted.
    pub content: String,
    /// SHA-256 of the names and digests of everything that was written.
    pub objects: String,
    /// Seconds of a run from start to end, process included.
    pub wall: Option<Estimate>,
    /// Samples a second of the whole run.
    pub samples_per_second: Option<Estimate>,
    /// Decoded frames a second of the whole run.
    pub frames_per_second: Option<Estimate>,
    /// Hours of video for each hour.
    pub video_hours_per_hour: Told<Estimate>,
    /// CPU seconds of all processes for each sample.
    pub cpu_seconds_per_sample: Option<Estimate>,
    /// Largest memory of a run in bytes.
    pub peak_memory: u64,
    /// Stages of the pipeline: medians over rounds.
    pub stages: Vec<StageTime>,
    /// Seconds of a run outside the pipeline: starting, planning, opening devices, finishing.
    pub outside: Option<f64>,
    /// Bytes over the bus for each run.
    pub bus: Told<Bus>,
    /// The GPU's use while it ran.
    pub gpu: Told<GpuUse>,
    /// Joules of the processor's package for each sample, whatever else ran on it.
    pub joules_per_sample: Told<f64>,
    /// What bounds its speed, beside how near it came.
    pub bounds: Vec<Bound>,
    /// What it waited for.
    pub bottleneck: Option<Bottleneck>,
    /// What it costs, where a price is known.
    pub cost: Told<Cost>,
    /// What makes its numbers doubtful.
    pub noise: Vec<String>,
    /// What its threads did in the first seconds of the run that warmed up.
    pub timeline: Vec<Lane>,
}

/// Another program that did the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Peer {
    /// Its name in tables.
    pub name: String,
    /// What a shell ran.
    pub command: String,
    /// What it says that it is.
    pub says: Option<String>,
    /// tolerated: it did the same work; different and failed: its speed tells nothing.
    pub verdict: Verdict,
    /// What was found when its pictures were compared, or why there are none.
    pub compared: String,
    /// Samples of one run.
    pub samples: u64,
    /// Seconds of a run from start to end, process included.
    pub wall: Option<Estimate>,
    /// Samples a second of the whole run.
    pub samples_per_second: Option<Estimate>,
    /// The configuration that it is held against.
    pub of: String,
    /// Its speed over that configuration's, round by round.
    pub ratio: Option<Estimate>,
    /// CPU seconds of all processes for each sample.
    pub cpu_seconds_per_sample: Option<Estimate>,
}

/// Seconds of a stage, summed over its threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageTime {
    /// decode, compute, detect, encode, sink or commit.
    pub stage: String,
    /// Threads.
    pub threads: u64,
    /// Working.
    pub busy: f64,
    /// Waiting for input.
    pub starved: f64,
    /// Waiting for room behind it.
    pub blocked: f64,
}

impl StageTime {
    /// Seconds in all.
    pub fn alive(&self) -> f64 {
        self.busy + self.starved + self.blocked
    }
}

/// What went over the bus to a device and back in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bus {
    /// Bytes up.
    pub up: u64,
    /// Bytes down.
    pub down: u64,
    /// Batches.
    pub batches: u64,
    /// Seconds in kernels, by the device's clock.
    pub kernel_seconds: Option<f64>,
}

/// What a GPU's driver tells, as means over the rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuUse {
    /// Share of the time in which kernels ran, 0 to 1.
    pub busy: f64,
    /// Largest memory in use, in bytes.
    pub memory: u64,
    /// Watts.
    pub watts: Option<f64>,
}

/// A rate that the configuration cannot exceed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bound {
    /// decode, memory, disk, device or bus.
    pub name: String,
    /// What it is.
    pub meaning: String,
    /// Samples a second that it allows; null where it was not measured.
    pub samples_per_second: Told<f64>,
    /// The configuration's speed over it.
    pub reached: Option<f64>,
}

/// What a run waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bottleneck {
    /// A stage, `cores` or `start`.
    pub what: String,
    /// How that is known.
    pub because: String,
    /// What would help.
    pub helps: Vec<String>,
}

/// What a configuration costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// Dollars, or whatever the price was given in, an hour.
    pub price_per_hour: f64,
    /// For a million samples.
    pub per_million_samples: Estimate,
    /// For a thousand hours of video; null where there is no video.
    pub per_thousand_video_hours: Option<Estimate>,
}

/// Where two configurations are equally fast, by straight lines through what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BreakEven {
    /// The configuration on the CPU.
    pub cpu: String,
    /// The one on the GPU.
    pub gpu: String,
    /// Seconds of a run before its first sample, CPU and GPU.
    pub start: [f64; 2],
    /// Seconds for each second of video at the job's own rate, CPU and GPU.
    pub per_video_second: [f64; 2],
    /// Samples for each second of video between which the rate was varied.
    pub rates: [f64; 2],
    /// Seconds of video from which the GPU is faster at the job's rate; null where it never is, or always.
    pub video_seconds: Told<f64>,
    /// Samples for each second of video from which the GPU is faster on long videos; null likewise.
    pub samples_per_video_second: Told<f64>,
}

/// One thread's slices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lane {
    /// The thread.
    pub thread: String,
    /// Start and length in milliseconds and what it was: 0 busy, 1 starved, 2 blocked.
    pub slices: Vec<(f64, f64, u8)>,
}

impl Bench {
    /// JSON Schema of this form.
    pub fn json_schema() -> Value {
        serde_json::to_value(schemars::schema_for!(Bench)).unwrap_or_default()
    }

    /// Reads what a benchmark left.
    ///
    /// # Errors
    /// Usage, where it is none or of another version.
    pub fn read(file: &Path) -> Result<Bench> {
        let name = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|e| Error::usage(format!("{name}: {e}; expected a report of framemill bench run")))?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|e| Error::usage(format!("{name}: {e}; expected the JSON of framemill bench run --report")))?;
        match value["schema"].as_u64() {
            Some(version) if version == u64::from(SCHEMA) => {}
            Some(version) => {
                return Err(Error::usage(format!(
                    "{name}: its form is version {version}, this framemill reads version {SCHEMA}: make it again"
                )));
            }
            None => return Err(Error::usage(format!("{name}: it is no report of framemill bench run"))),
        }
        serde_json::from_value(value).map_err(|e| Error::usage(format!("{name}: {e}; make it again")))
    }

    /// The configuration of that name.
    pub fn find(&self, name: &str) -> Option<&Configuration> {
        self.configurations.iter().find(|c| c.name == name)
    }

    /// Those that may be ranked, fastest first, those of one quality together.
    pub fn ranked(&self) -> Vec<&Configuration> {
        let mut all: Vec<&Configuration> = self.configurations.iter().filter(|c| c.ranked).collect();
        let speed = |c: &Configuration| c.samples_per_second.as_ref().map_or(0.0, |e| e.median);
        all.sort_by(|a, b| a.quality.cmp(&b.quality).then(speed(b).total_cmp(&speed(a))));
        all
    }
}
