//! Rounds: every configuration in turn, until the medians are known well enough.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bottleneck;
use super::child::{Ran, Runner};
use super::lanes;
use super::machine::Machine;
use super::output::{self, Output};
use super::peers::Peer;
use super::price::{self, Prices};
use super::result::{Bound, Bus, Configuration, GpuUse, Lane, Rates, SampleList, StageTime, Told, Verdict};
use super::stats::Estimate;
use super::usage::{self, Spent};
use super::{Spec, Way};
use crate::job::{Job, JobFile};
use crate::pipeline::Alone;

/// Half an interval over its median at which measuring may end; with `--quick`.
const SETTLED: [f64; 2] = [0.03, 0.10];
/// Rounds at the least, and with `--quick`; then the median's interval is decisive.
const LEAST: [usize; 2] = [6, 5];
/// Rounds at the most.
const MOST: usize = 30;
/// Half an interval over its median from which a configuration counts as noisy.
const NOISY: f64 = 0.10;
/// The share of the cores' time that others may have.
const OTHERS: f64 = 0.05;
/// Load before the start, for each core, from which the machine counts as busy.
pub const BUSY_LOAD: f64 = 0.5;

/// What counts as noise, in words, for reports.
pub const NOISE: &str = "a configuration is noisy where half the interval of its speed is more than 10% of the median; the \
    machine, where its load before the start was above 0.5 for each core, where other programs and the hypervisor had more \
    than 5% of the cores' time during the rounds (median), or where the governor is not `performance`";

/// One measured run.
struct Run {
    report: Value,
    spent: Spent,
    gpu: Vec<GpuUse>,
}

/// A configuration and what its runs gave.
pub(super) struct Series {
    pub way: Way,
    pub output: Option<Output>,
    pub verdict: Verdict,
    pub compared: String,
    runs: Vec<Run>,
    warm: Option<Value>,
    pub alone: Told<Alone>,
    speed: Told<Value>,
    timeline: Vec<Lane>,
}

/// What all configurations share.
pub(super) struct Setting<'a> {
    pub machine: &'a Machine,
    pub sample: &'a SampleList,
    pub rates: &'a Rates,
    pub prices: &'a Prices,
    pub job: &'a Job,
}

impl Series {
    pub fn new(way: Way) -> Series {
        Series {
            way,
            output: None,
            verdict: Verdict::Failed,
            compared: String::new(),
            runs: Vec::new(),
            warm: None,
            alone: Told::not("it was not measured"),
            speed: Told::not("it runs on the CPU, or on a program that takes a GPU's place"),
            timeline: Vec::new(),
        }
    }

    /// The first run: its output and its timeline count, its time does not.
    pub fn warm(&mut self, runner: &Runner, job: &JobFile) {
        let file = runner.folder().join("trace.json");
        let read = |ran: Ran| Output::read(&Runner::data(&ran)).map(|o| (o, ran.report)).map_err(|e| e.message);
        match runner.run(&self.way.job(job), Some(&file)).and_then(read) {
            Ok((output, report)) => (self.output, self.warm) = (Some(output), Some(report)),
            Err(why) => return self.fail(why),
        }
        match timeline(&file) {
            Ok(timeline) => self.timeline = timeline,
            Err(why) => tracing::warn!("{}: no timeline: {why}", self.way.name),
        }
    }

    fn fail(&mut self, why: String) {
        (self.verdict, self.compared) = (Verdict::Failed, format!("it failed: {why}"));
    }

    /// Whether it is worth measuring: it ended well, and its output is not another's.
    pub fn ran(&self) -> bool {
        !matches!(self.verdict, Verdict::Failed | Verdict::Different)
    }

    fn measure(&mut self, runner: &Runner, job: &JobFile) {
        let ran = match runner.run(&self.way.job(job), None) {
            Ok(ran) => ran,
            Err(why) => return self.fail(why),
        };
        let same = match output::objects(&Runner::data(&ran)) {
            Ok(objects) => self.output.as_ref().is_some_and(|o| o.objects == objects),
            Err(e) => return self.fail(e.message),
        };
        self.runs.push(Run { report: ran.report.clone(), spent: ran.spent.clone(), gpu: ran.gpu.clone() });
        if !same {
            self.verdict = Verdict::Different;
            self.compared = format!("round {} wrote other bytes than the first run of the same", self.runs.len());
        }
    }

    /// Samples of one run.
    pub fn samples(&self) -> u64 {
        self.last().map_or(0, |r| r["samples"].as_u64().unwrap_or(0))
    }

    /// The last report that there is.
    fn last(&self) -> Option<&Value> {
        self.runs.last().map(|r| &r.report).or(self.warm.as_ref())
    }

    /// What it ran on.
    pub fn ran_on(&self) -> Option<&str> {
        self.last()?["device"].as_str()
    }

    fn estimate(&self, of: impl Fn(&Run) -> f64) -> Option<Estimate> {
        Estimate::of(self.runs.iter().map(of).collect())
    }

    /// Seconds of a run.
    pub fn wall(&self) -> Option<Estimate> {
        self.estimate(|run| run.spent.wall)
    }

    /// Samples a second.
    pub fn rate(&self) -> Option<Estimate> {
        let samples = self.samples() as f64;
        self.wall().filter(|_| samples > 0.0).map(|wall| wall.map(|s| samples / s))
    }

    /// What ran elsewhere than was asked, in any of its runs.
    pub fn fallbacks(&self) -> Vec<String> {
        let reports = self.warm.iter().chain(self.runs.iter().map(|r| &r.report));
        let all = reports.flat_map(|r| r["fallbacks"].as_array().into_iter().flatten());
        let text = |f: &Value| {
            let word = |key: &str| f[key].as_str().unwrap_or("?").to_string();
            format!("{}: {} instead of {}: {}", word("what"), word("to"), word("from"), word("reason"))
        };
        let mut texts: Vec<String> = all.map(text).collect();
        texts.sort();
        texts.dedup();
        texts
    }

    fn settled(&self, quick: bool) -> bool {
        !self.ran() || settled(self.wall(), quick)
    }
}

fn settled(wall: Option<Estimate>, quick: bool) -> bool {
    let i = usize::from(quick);
    wall.is_some_and(|w| w.rounds.len() >= LEAST[i] && w.spread() <= SETTLED[i])
}

/// The lanes of the trace in a file.
fn timeline(file: &Path) -> Result<Vec<Lane>, String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let trace: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    lanes::read(&trace)
}

/// Runs rounds until they suffice; in words, why they ended. `peers` have a round behind each of framemill's, with the
/// job as the file tells it.
pub(super) fn rounds(
    series: &mut [Series],
    (peers, order): (&mut [Peer], &Path),
    runner: &Runner,
    spec: &Spec,
    begun: Instant,
    news: &mut dyn FnMut(&str),
) -> String {
    let quick = usize::from(spec.quick);
    let rule = format!(
        "each configuration once in each round, in turns, after one run to warm up; at least {} rounds and until half of each \
         interval is at most {:.0}% of its median, at most {MOST} rounds or {} s",
        LEAST[quick],
        100.0 * SETTLED[quick],
        spec.time_limit.as_secs()
    );
    for round in 1.. {
        let before = Instant::now();
        for one in series.iter_mut().filter(|s| s.ran()) {
            one.measure(runner, &spec.job);
            if let Some(run) = one.runs.last() {
                news(&format!("round {round}: {}: {:.2} s", one.way.name, run.spent.wall));
            }
        }
        for peer in peers.iter_mut().filter(|peer| peer.ran()) {
            if let Some(seconds) = peer.measure(runner, order) {
                news(&format!("round {round}: {}: {seconds:.2} s", peer.name()));
            }
        }
        if runner.go_on().is_err() {
            break;
        }
        let took = before.elapsed();
        let why = match spec.rounds {
            Some(rounds) if round >= rounds => Some(format!("{rounds} rounds, as asked")),
            Some(_) => None,
            None if series.iter().all(|s| s.settled(spec.quick))
                && peers.iter().all(|p| !p.ran() || settled(p.wall(), spec.quick)) =>
            {
                Some(format!("{round} rounds sufficed"))
            }
            None if round >= MOST => Some(format!("{round} rounds, the most that there are")),
            None => None,
        };
        let late = begun.elapsed() + took > spec.time_limit;
        if let Some(why) = why
            .or_else(|| late.then(|| format!("the time limit, after {round} rounds (one more would have passed it)")))
        {
            news(&why);
            return format!("{rule}; ended by: {why}");
        }
    }
    rule
}

/// Measures decoding alone for each decoder and number of threads.
pub(super) fn decode_alone(series: &mut [Series], runner: &Runner, job: &JobFile, news: &mut dyn FnMut(&str)) {
    let mut known: Vec<(Way, Told<Alone>)> = Vec::new();
    for one in series.iter_mut().filter(|s| s.ran()) {
        // What a device reads where a decoder left it is CUDA's alone.
        let device = if one.way.device.starts_with("cuda") { one.way.device.clone() } else { "cpu".into() };
        let quality = crate::program::Quality::Exact;
        let key = Way { name: String::new(), device, quality, batch: None, ..one.way.clone() };
        if let Some((_, told)) = known.iter().find(|(way, _)| *way == key) {
            one.alone = told.clone();
            continue;
        }
        news(&format!(
            "decoding alone: {}, {} threads",
            key.decoder,
            if key.threads == 0 { "all".into() } else { key.threads.to_string() }
        ));
        // The better of two: a bound is what is possible.
        let tries = [runner.decode(&key.job(job)), runner.decode(&key.job(job))];
        let best = tries.into_iter().reduce(|a, b| match (a, b) {
            (Ok(a), Ok(b)) => Ok(if a.seconds <= b.seconds { a } else { b }),
            (Err(e), _) | (_, Err(e)) => Err(e),
        });
        one.alone = best.unwrap_or_else(|| Err("it was not measured".into())).into();
        known.push((key, one.alone.clone()));
    }
}

/// Whether a program takes a GPU's place in `ran_on`.
fn software(machine: &Machine, ran_on: &str) -> bool {
    machine.gpus.iter().any(|g| g.software && ran_on.contains(&g.name))
}

/// Measures what real GPUs do by themselves.
pub(super) fn device_speeds(series: &mut [Series], runner: &Runner, machine: &Machine) {
    for one in series.iter_mut().filter(|s| s.ran() && !matches!(&*s.way.device, "cpu" | "auto")) {
        let real = one.ran_on().is_some_and(|on| on != "cpu" && !software(machine, on));
        if real {
            one.speed = runner.speed(&one.way.device).into();
        }
    }
}

/// What others had of the machine during the rounds, where that was too much.
pub(super) fn others(series: &[Series], cores: usize) -> Vec<String> {
    let shares = series.iter().flat_map(|s| &s.runs).filter_map(|r| r.spent.others).collect();
    match Estimate::of(shares) {
        Some(share) if share.median > OTHERS => {
            vec![format!(
                "others had {:.0}% of the time of the {cores} cores while it was measured",
                100.0 * share.median
            )]
        }
        _ => Vec::new(),
    }
}

/// What of the inputs no number tells of.
pub(super) fn rejected(series: &[Series], inputs: u64) -> Option<String> {
    let count = |s: &Series| s.last().and_then(|report| report["inputs"]["rejected"].as_u64());
    let most = series.iter().filter_map(count).max().filter(|n| *n > 0)?;
    Some(format!("{most} of {inputs} inputs were rejected and gave nothing; framemill run on the same media tells why"))
}

/// The middle of some numbers.
fn median(values: Vec<f64>) -> f64 {
    Estimate::of(values).map_or(0.0, |e| e.median)
}

/// The stages of some reports, each number the median of its own.
fn stages(runs: &[Run]) -> Vec<StageTime> {
    let names = ["decode", "compute", "detect", "encode", "sink", "commit"];
    let stage = |name: &&str| {
        let of = |key: &str| {
            let values: Vec<f64> = runs.iter().filter_map(|r| r.report["seconds"][*name][key].as_f64()).collect();
            (!values.is_empty()).then(|| median(values))
        };
        Some(StageTime {
            stage: name.to_string(),
            threads: of("threads")? as u64,
            busy: of("busy")?,
            starved: of("starved")?,
            blocked: of("blocked")?,
        })
    };
    names.iter().filter_map(stage).collect()
}

impl Series {
    /// All that is known of it.
    pub fn tell(&self, setting: &Setting) -> Configuration {
        let null = Value::Null;
        let report = self.last().unwrap_or(&null);
        let (rate, wall, samples) = (self.rate(), self.wall(), self.samples());
        let stages = stages(&self.runs);
        let fallbacks = self.fallbacks();
        let unranked = self.unranked(&fallbacks, samples);
        // The one thread of the sink lives as long as the pipeline.
        let pipeline = stages.iter().find(|s| s.stage == "sink").map(StageTime::alive);
        let outside = wall.as_ref().zip(pipeline).map(|(wall, inside)| (wall.median - inside).max(0.0));
        let bus = bus(report);
        let seconds = &setting.sample.video_seconds;
        let video_hours_per_hour: Told<Estimate> = match (seconds.value, &wall) {
            (Some(seconds), Some(wall)) if seconds > 0.0 => Told::is(wall.map(|w| seconds / w)),
            (Some(_), _) => Told::not("it was not measured"),
            (None, _) => Told::not(seconds.why.clone().unwrap_or_default()),
        };
        let per_sample = |of: &dyn Fn(&Run) -> f64| self.estimate(|run| of(run) / samples.max(1) as f64);
        let joules: Option<Vec<f64>> = self.runs.iter().map(|r| r.spent.joules).collect();
        let joules = joules.filter(|j| !j.is_empty() && samples > 0).map(|j| median(j) / samples as f64);
        let noise = rate.iter().filter(|r| r.spread() > NOISY);
        let noise =
            noise.map(|r| format!("half of its interval is {:.0}% of the median", 100.0 * r.spread())).collect();
        Configuration {
            name: self.way.name.clone(),
            device: self.way.device.clone(),
            decoder: self.way.decoder.clone(),
            quality: self.way.quality().into(),
            threads: if self.way.threads == 0 { setting.machine.cores } else { self.way.threads },
            batch: self.way.batch,
            ran_on: self.ran_on().map(str::to_string),
            decoders: report["decoders"].clone(),
            verdict: self.verdict,
            compared: self.compared.clone(),
            ranked: unranked.is_none(),
            cost: self.cost(setting, unranked.as_deref(), rate.as_ref(), &video_hours_per_hour),
            unranked,
            samples,
            frames: report["frames"]["decoded"].as_u64().unwrap_or(0),
            content: self.output.as_ref().map(Output::content).unwrap_or_default(),
            objects: self.output.as_ref().map(Output::digest).unwrap_or_default(),
            frames_per_second: wall
                .as_ref()
                .map(|w| w.map(|s| report["frames"]["decoded"].as_f64().unwrap_or(0.0) / s)),
            cpu_seconds_per_sample: per_sample(&|run| run.spent.cpu).filter(|_| samples > 0),
            peak_memory: self.runs.iter().filter_map(|r| r.report["peak_memory"].as_u64()).max().unwrap_or(0),
            gpu: match self.on_gpu() {
                true => usage::mean(&self.runs.iter().flat_map(|r| r.gpu.clone()).collect::<Vec<_>>()),
                false => Told::not("nothing ran on a GPU whose driver tells"),
            },
            joules_per_sample: match joules {
                Some(joules) => Told::is(joules),
                None => Told::not(setting.machine.energy.why.clone().unwrap_or_else(|| "it was not measured".into())),
            },
            bounds: self.bounds(setting, rate.as_ref(), bus.value.as_ref()),
            bottleneck: self.bottleneck(setting, &stages, wall.as_ref(), outside),
            samples_per_second: rate,
            video_hours_per_hour,
            wall,
            stages,
            outside,
            bus,
            fallbacks,
            noise,
            timeline: self.timeline.clone(),
        }
    }

    fn on_gpu(&self) -> bool {
        self.way.decoder == "nvdec" || self.ran_on().is_some_and(|on| on.starts_with("cuda"))
    }

    /// Why its speed is not ranked, if it is not.
    fn unranked(&self, fallbacks: &[String], samples: u64) -> Option<String> {
        match self.verdict {
            Verdict::Failed => Some(self.compared.clone()),
            Verdict::Different => Some(format!("its output is not equal: {}", self.compared)),
            _ if !fallbacks.is_empty() => Some(format!("it fell back: {}", fallbacks.join("; "))),
            _ if samples == 0 => Some("it gave no sample".into()),
            _ if self.runs.is_empty() => Some("it was not measured".into()),
            _ => None,
        }
    }

    fn cost(
        &self,
        setting: &Setting,
        unranked: Option<&str>,
        rate: Option<&Estimate>,
        video: &Told<Estimate>,
    ) -> Told<super::result::Cost> {
        let kind = self.way.device.split(':').next().unwrap_or_default();
        let price = setting.prices.of(&[&self.way.name, &self.way.device, kind, &setting.machine.name]);
        let price = price.or_else(|| setting.job.file.price_per_hour.map(|price| price.0));
        match (unranked, rate, price) {
            (Some(_), _, _) | (_, None, _) => Told::not("it is not ranked"),
            (_, _, None) => Told::not("no price is known: --price NAME=DOLLARS_PER_HOUR"),
            (None, Some(rate), Some(price)) => Told::is(price::cost(price, rate, video)),
        }
    }

    fn bottleneck(
        &self,
        setting: &Setting,
        stages: &[StageTime],
        wall: Option<&Estimate>,
        outside: Option<f64>,
    ) -> Option<super::result::Bottleneck> {
        let units = |software: bool| -> u64 {
            let all = self.last().and_then(|r| r["decoders"].as_array());
            let of = all.into_iter().flatten().filter(|d| (d["decoder"] == "software") == software);
            of.filter_map(|d| d["frames"].as_u64()).sum()
        };
        let on = self.ran_on()?;
        bottleneck::find(&bottleneck::Facts {
            stages,
            wall: wall?.median,
            outside: outside?,
            cpu: median(self.runs.iter().map(|r| r.spent.cpu).collect()),
            cores: setting.machine.cores,
            on_cpu: on == "cpu",
            software_gpu: software(setting.machine, on),
            hardware_decoder: units(false) > units(true),
            exact: self.way.quality() == "exact",
        })
    }

    fn bounds(&self, setting: &Setting, rate: Option<&Estimate>, bus: Option<&Bus>) -> Vec<Bound> {
        let samples = self.samples() as f64;
        let Some(rate) = rate.filter(|_| samples > 0.0) else { return Vec::new() };
        let bound = |name: &str, meaning: String, limit: Told<f64>| Bound {
            name: name.into(),
            meaning,
            reached: limit.value.map(|limit| rate.median / limit),
            samples_per_second: limit,
        };
        let alone = |of: &dyn Fn(&Alone) -> f64| match &self.alone {
            Told { value: Some(alone), .. } => Told::is(of(alone)),
            Told { why, .. } => Told::not(why.clone().unwrap_or_default()),
        };
        let decode = bound(
            "decode",
            "decoding alone: the same frames by the same decoder and threads, nothing behind it, no start counted"
                .into(),
            alone(&|a| samples / a.seconds),
        );
        let dtype = setting.job.program.output().0.size() as f64;
        let frames = setting.job.sampling.clip.map_or(1.0, |c| f64::from(c.frames));
        let pixels = self.output.as_ref().map_or(0.0, |o| o.pixels as f64);
        let finished = pixels * 3.0 * dtype * frames;
        let memory = match (&setting.rates.memory.value, self.ran_on()) {
            (Some(copied), Some(on)) if on == "cpu" || software(setting.machine, on) => {
                alone(&|a| samples * copied / (a.bytes as f64 * f64::from(setting.job.file.variants) + finished))
            }
            (Some(_), _) => Told::not("the passes run in the device's own memory"),
            (None, _) => Told::not(setting.rates.memory.why.clone().unwrap_or_default()),
        };
        let memory = bound(
            "memory",
            "the passes alone, if each read its frame once and wrote its sample once at the rate of a copy".into(),
            memory,
        );
        let written = self.last().and_then(|r| r["bytes"]["written"].as_f64()).filter(|b| *b > 0.0);
        let disk = match (&setting.rates.disk, written) {
            (Told { value: Some(rate), .. }, Some(bytes)) => Told::is(samples * rate / bytes),
            (Told { value: Some(_), .. }, None) => Told::not("nothing was written"),
            (Told { why, .. }, _) => Told::not(why.clone().unwrap_or_default()),
        };
        let disk = bound("disk", "writing the dataset alone, at the rate of the scratch folder".into(), disk);
        let speeds = |key: &str| -> Told<f64> {
            match &self.speed {
                Told { value: Some(v), .. } => match v["speeds"][2][key].as_f64() {
                    Some(number) => Told::is(number),
                    None => Told::not("the self-test did not measure it"),
                },
                Told { why, .. } => Told::not(why.clone().unwrap_or_default()),
            }
        };
        let device = bound(
            "device",
            "the passes of `selftest --speed` alone, from 1080p to 224x224 in the device's memory".into(),
            speeds("pictures_per_second"),
        );
        let up = bus.filter(|b| b.up > 0).map(|b| b.up as f64);
        let raised = match (speeds("upload_bytes_per_second"), up) {
            (Told { value: Some(rate), .. }, Some(bytes)) => Told::is(samples * rate / bytes),
            (Told { value: Some(_), .. }, None) => Told::not("nothing went over the bus"),
            (told, _) => told,
        };
        let raised = bound("bus", "bringing the frames up alone, at the rate of a copy to the device".into(), raised);
        vec![decode, memory, disk, device, raised]
    }
}

/// What went over the bus, as a run's report tells.
fn bus(report: &Value) -> Told<Bus> {
    let work = &report["device_work"];
    let number = |key: &str| work[key].as_u64();
    match (number("bytes_up"), number("bytes_down"), number("batches")) {
        (Some(up), Some(down), Some(batches)) => {
            Told::is(Bus { up, down, batches, kernel_seconds: work["seconds"].as_f64() })
        }
        _ => Told::not("nothing ran on a device"),
    }
}

/// Time that a few more runs of these take.
pub(super) fn price_of(series: &[&Series], runs: u32) -> Duration {
    let one: f64 = series.iter().filter_map(|s| s.wall()).map(|w| w.median).sum();
    Duration::from_secs_f64(one * f64::from(runs))
}
