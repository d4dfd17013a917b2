//! `framemill bench`: what a job costs on this machine, on each device and decoder, in numbers that can be believed.
//!
//! Promises: configurations run as a user would run them, as whole processes, in turns, warmed up; outputs are compared
//! before speeds are, and what is not equal is not ranked; what could not be measured is told with its reason, never
//! made up. The library prints nothing: how far it is goes to the caller.

mod bottleneck;
mod brief;
pub mod child;
pub mod compare;
mod even;
#[cfg(test)]
mod examples;
mod lanes;
mod machine;
mod measure;
mod output;
pub mod page;
pub mod peers;
pub mod price;
pub mod rank;
mod rates;
pub mod result;
mod sample;
mod scratch;
mod stats;
pub mod synthetic;
pub mod table;
mod usage;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::backend::device::{self, Device};
use crate::decode::hardware;
use crate::decode::route::Demand;
use crate::error::{Error, Result};
use crate::job::{Fallback, Job, JobFile};
use crate::program::Quality;
use crate::supervise::Requests;
use child::Runner;
use machine::Machine;
use measure::Series;
use output::Output;
use peers::Peer;
use price::Prices;
use result::{Bench, Missing, Rates, Rules, SCHEMA, SampleList, Verdict};
use scratch::Scratch;

/// What is to be measured.
pub struct Spec {
    /// The job; its device, decoder, quality, threads and batch are one choice where lists below are empty.
    pub job: JobFile,
    /// Devices, as in `--device`.
    pub devices: Vec<String>,
    /// Decoders, as in `--decoder`.
    pub decoders: Vec<String>,
    /// Qualities.
    pub qualities: Vec<Quality>,
    /// Numbers of threads; 0 for as many as there are cores.
    pub threads: Vec<usize>,
    /// Pictures that a device gets at a time, at most; the CPU takes one by one.
    pub batches: Vec<usize>,
    /// So many rounds, whatever they give.
    pub rounds: Option<usize>,
    /// When measuring ends at the latest; a round that has begun is finished.
    pub time_limit: Duration,
    /// Be content with less: wider intervals, no break-even.
    pub quick: bool,
    /// Other programs that do the job, too.
    pub peers: Vec<peers::Command>,
    /// What machines cost.
    pub prices: Prices,
    /// What this machine is called.
    pub name: Option<String>,
    /// What the media were made from.
    pub synthetic: Option<String>,
    /// Where runs write.
    pub scratch: PathBuf,
}

/// One way to run the job.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Way {
    pub name: String,
    pub device: String,
    pub decoder: String,
    pub quality: Quality,
    pub threads: usize,
    pub batch: Option<usize>,
}

impl Way {
    /// The job as it runs this way.
    pub fn job(&self, job: &JobFile) -> JobFile {
        JobFile {
            device: self.device.clone(),
            decoder: self.decoder.clone(),
            quality: self.quality,
            threads: self.threads,
            batch: self.batch,
            ..job.clone()
        }
    }

    /// Why this machine cannot run it, if it cannot.
    fn missing(&self) -> Result<Option<String>> {
        let device: Device = self.device.parse()?;
        let decoder: Demand = self.decoder.parse()?;
        if let Err(e) = device::check(device) {
            return Ok(Some(e.message));
        }
        match decoder {
            Demand::Hardware(kind) => Ok(hardware::find(kind).err()),
            _ => Ok(None),
        }
    }

    /// The word for the quality.
    pub fn quality(&self) -> &'static str {
        if self.quality == Quality::Fast { "fast" } else { "exact" }
    }
}

/// All combinations of what was asked for; names tell only what differs.
fn ways(spec: &Spec) -> Vec<Way> {
    let or = |list: &[String], one: &str| if list.is_empty() { vec![one.to_string()] } else { list.to_vec() };
    let devices = or(&spec.devices, &spec.job.device);
    let decoders = or(&spec.decoders, &spec.job.decoder);
    let qualities = if spec.qualities.is_empty() { vec![spec.job.quality] } else { spec.qualities.clone() };
    let threads = if spec.threads.is_empty() { vec![spec.job.threads] } else { spec.threads.clone() };
    let batches: Vec<Option<usize>> =
        if spec.batches.is_empty() { vec![spec.job.batch] } else { spec.batches.iter().copied().map(Some).collect() };
    let mut ways = Vec::new();
    for quality in &qualities {
        for device in &devices {
            for decoder in &decoders {
                for (threads, batch) in threads.iter().flat_map(|n| batches.iter().map(move |batch| (*n, *batch))) {
                    let mut way = Way {
                        name: format!("{device}/{decoder}"),
                        device: device.clone(),
                        decoder: decoder.clone(),
                        quality: *quality,
                        threads,
                        batch: batch.filter(|_| device != "cpu"),
                    };
                    if qualities.len() > 1 {
                        way.name += &format!("/{}", way.quality());
                    }
                    if spec.threads.len() > 1 {
                        way.name += &format!("/{threads} threads");
                    }
                    if let Some(batch) = way.batch.filter(|_| spec.batches.len() > 1) {
                        way.name += &format!("/batch {batch}");
                    }
                    if !ways.contains(&way) {
                        ways.push(way);
                    }
                }
            }
        }
    }
    ways
}

/// What a price may be given for: also devices that are not measured here, so that one command serves several machines.
fn names<'a>(ways: &'a [Way], machine: &'a Machine) -> Vec<&'a str> {
    let kind = |way: &'a Way| way.device.split(':').next().unwrap_or_default();
    let all = ways.iter().flat_map(|way| [&*way.name, &*way.device, kind(way)]);
    let mut all: Vec<&str> = all.chain(["cpu", "cuda", "wgpu", &*machine.name]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Measures. `start` gives this program, without arguments; `stop` are the requests to stop; `news` hears how far it is.
///
/// # Errors
/// Usage, where the job or a list cannot be; unavailable, where nothing that was asked for is on this machine; interrupted; store.
pub fn run(mut spec: Spec, start: &dyn Fn() -> Command, stop: &Requests, news: &mut dyn FnMut(&str)) -> Result<Bench> {
    let begun = Instant::now();
    if spec.job.input.root.is_none() {
        // So that keys are the same on a machine that has the media elsewhere.
        spec.job.input.root = sample::root(&spec.job.input.uri);
    }
    let mut job = Job::resolve(spec.job.clone())?;
    let machine = Machine::here(spec.name.as_deref());
    let mut sample = sample::list(&job, spec.synthetic.as_deref(), spec.quick.then_some(brief::MOST))?;
    if let Some(part) = spec.quick.then(|| brief::cut(&mut spec.job, &job.sampling, &sample)).flatten() {
        job = Job::resolve(spec.job.clone())?;
        sample = SampleList { part: Some(part), ..sample::list(&job, spec.synthetic.as_deref(), None)? };
    }
    news(&format!("{}: {}", machine.name, sample.text()));
    let (mut here, mut not_here) = (Vec::new(), Vec::new());
    let all = ways(&spec);
    spec.prices.check(&names(&all, &machine))?;
    for way in all {
        match way.missing()? {
            None => here.push(way),
            Some(why) => {
                news(&format!("{}: not here: {why}", way.name));
                not_here.push(Missing { name: way.name, why });
            }
        }
    }
    if here.is_empty() || (spec.job.fallback == Fallback::Forbid && !not_here.is_empty()) {
        let all = not_here.iter().map(|m| format!("{}: {}", m.name, m.why)).collect::<Vec<_>>().join("; ");
        let what = if here.is_empty() { "nothing" } else { "not all" };
        return Err(Error::unavailable(format!("{what} that was asked for is on this machine: {all}")));
    }
    let scratch = Scratch::make(&spec.scratch)?;
    let gpu = here.iter().any(|w| w.device.starts_with("cuda") || w.decoder == "nvdec");
    let runner = Runner::new(start, stop, scratch.path().to_path_buf(), gpu);
    news("measuring memory and disk");
    let rates = Rates {
        memory: rates::memory(job.threads, Duration::from_millis(300)),
        disk: rates::disk(scratch.path(), if spec.quick { 64 << 20 } else { 256 << 20 }),
    };
    let mut series: Vec<Series> = here.into_iter().map(Series::new).collect();
    for one in &mut series {
        news(&format!("{}: warming up", one.way.name));
        one.warm(&runner, &spec.job);
        runner.go_on()?;
    }
    hold_against_each_other(&mut series);
    let (mut peers, order) = warm_peers(&series, &runner, &spec, &job, news)?;
    measure::decode_alone(&mut series, &runner, &spec.job, news);
    runner.go_on()?;
    let ended = measure::rounds(&mut series, (&mut peers, &order), &runner, &spec, begun, news);
    measure::device_speeds(&mut series, &runner, &machine);
    let break_even = even::find(&series, &runner, &spec, &sample, begun, news);
    runner.go_on()?;
    let mut noise = machine_noise(&machine);
    noise.extend(measure::others(&series, machine.cores));
    noise.extend(measure::rejected(&series, sample.inputs));
    let setting =
        measure::Setting { machine: &machine, sample: &sample, rates: &rates, prices: &spec.prices, job: &job };
    let configurations = series.iter().map(|s| s.tell(&setting)).collect();
    let peers = series.iter().find(|s| s.ran()).map(|of| peers.iter().map(|p| p.tell(of)).collect());
    Ok(Bench {
        schema: SCHEMA,
        framemill: env!("CARGO_PKG_VERSION").into(),
        made: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        seconds: begun.elapsed().as_secs_f64(),
        job: job.identity()["job"].clone(),
        rules: Rules {
            statistics: stats::METHOD.into(),
            rounds: ended,
            equality: output::EQUALITY.into(),
            noise: measure::NOISE.into(),
            same_work: peers::SAME_WORK.into(),
        },
        machine,
        sample,
        rates,
        configurations,
        peers: peers.unwrap_or_default(),
        not_here,
        break_even,
        noise,
    })
}

/// Runs each peer once and holds its pictures against those of the first configuration that ended well. Gives the file that
/// tells them the job.
fn warm_peers(
    series: &[Series],
    runner: &Runner,
    spec: &Spec,
    job: &Job,
    news: &mut dyn FnMut(&str),
) -> Result<(Vec<Peer>, PathBuf)> {
    let mut peers: Vec<Peer> = spec.peers.iter().cloned().map(Peer::new).collect();
    let Some(reference) = series.iter().find(|s| s.ran()).filter(|_| !peers.is_empty()) else {
        return Ok((Vec::new(), PathBuf::new()));
    };
    let order = peers::order(job, runner)?;
    let ours = runner.run(&reference.way.job(&spec.job), None);
    runner.go_on()?;
    let ours = ours.map_err(Error::bug)?;
    for peer in &mut peers {
        news(&format!("{}: warming up", peer.name()));
        peer.warm(runner, &order, &Runner::data(&ours));
    }
    Ok((peers, order))
}

/// Compares each output with its quality's reference.
fn hold_against_each_other(series: &mut [Series]) {
    let qualities: Vec<Quality> = series.iter().map(|s| s.way.quality).collect();
    for quality in qualities {
        let of = |s: &Series| s.way.quality == quality && s.output.is_some();
        let plain = |s: &Series| of(s) && s.way.device == "cpu" && matches!(&*s.way.decoder, "software" | "auto");
        let Some(i) = series.iter().position(plain).or_else(|| series.iter().position(of)) else { continue };
        let (name, reference) = (series[i].way.name.clone(), series[i].output.clone());
        let Some(reference): Option<Output> = reference else { continue };
        for (j, one) in series.iter_mut().enumerate().filter(|(_, s)| of(s)) {
            let Some(output) = &one.output else { continue };
            (one.verdict, one.compared) = match j == i {
                true => (Verdict::Reference, "what the others of its quality are held against".into()),
                false => {
                    let (verdict, what) = output.against(&reference);
                    (verdict, format!("against {name}: {what}"))
                }
            };
        }
    }
}

fn machine_noise(machine: &Machine) -> Vec<String> {
    let mut noise = Vec::new();
    if !machine.optimized {
        noise.push("this framemill was built without optimisation: its numbers tell nothing about a release".into());
    }
    if let Some([load, ..]) = machine.load.value
        && load > measure::BUSY_LOAD * machine.cores as f64
    {
        noise.push(format!("the machine was busy before the start: load {load:.2} on {} cores", machine.cores));
    }
    match machine.governor.value.as_deref() {
        None | Some("performance") => {}
        Some(other) => {
            noise.push(format!("the processor's clock is chosen by the governor `{other}`, not `performance`"))
        }
    }
    noise
}

impl Bench {
    /// The exit code: 0; 3 where a run failed or fell back, or nothing could be ranked; 70 where outputs that must be
    /// equal are different.
    pub fn exit_code(&self) -> u8 {
        let any = |verdict| self.configurations.iter().any(|c| c.verdict == verdict);
        let fell_back = self.configurations.iter().any(|c| !c.fallbacks.is_empty());
        match () {
            () if any(Verdict::Different) => 70,
            () if any(Verdict::Failed) || fell_back || self.ranked().is_empty() => 3,
            () => 0,
        }
    }

    /// Writes the report.
    ///
    /// # Errors
    /// Store.
    pub fn write(&self, file: &Path) -> Result<()> {
        crate::store::replace(file, (self.json() + "\n").as_bytes())
    }

    /// The report as text.
    pub fn json(&self) -> String {
        let value: Value = serde_json::to_value(self).unwrap_or_default();
        serde_json::to_string_pretty(&value).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            job: JobFile::default(),
            devices: vec!["cpu".into(), "wgpu".into()],
            decoders: Vec::new(),
            qualities: vec![Quality::Exact],
            threads: Vec::new(),
            batches: Vec::new(),
            rounds: None,
            time_limit: Duration::from_secs(1),
            quick: true,
            peers: Vec::new(),
            prices: Prices::default(),
            name: None,
            synthetic: None,
            scratch: PathBuf::new(),
        }
    }

    #[test]
    fn names_tell_what_differs() {
        let names = |spec: &Spec| ways(spec).into_iter().map(|w| w.name).collect::<Vec<_>>();
        assert_eq!(names(&spec()), ["cpu/auto", "wgpu/auto"]);
        let more = Spec {
            devices: vec!["cpu".into(), "cpu".into()],
            qualities: vec![Quality::Exact, Quality::Fast],
            threads: vec![1, 2],
            ..spec()
        };
        assert_eq!(
            names(&more),
            [
                "cpu/auto/exact/1 threads",
                "cpu/auto/exact/2 threads",
                "cpu/auto/fast/1 threads",
                "cpu/auto/fast/2 threads"
            ],
            "what is named twice runs once"
        );
        let batches = Spec { batches: vec![8, 32], ..spec() };
        assert_eq!(
            names(&batches),
            ["cpu/auto", "wgpu/auto/batch 8", "wgpu/auto/batch 32"],
            "the CPU takes one by one"
        );
    }

    #[test]
    fn what_is_not_here_says_why() {
        let way = |device: &str, decoder: &str| Way {
            name: String::new(),
            device: device.into(),
            decoder: decoder.into(),
            quality: Quality::Exact,
            threads: 1,
            batch: None,
        };
        assert_eq!(way("cpu", "software").missing().unwrap(), None);
        assert!(way("cuda:999", "software").missing().unwrap().is_some());
        assert_eq!(way("tpu", "software").missing().unwrap_err().exit_code(), 2);
        assert_eq!(way("cpu", "magic").missing().unwrap_err().exit_code(), 2);
    }
}
