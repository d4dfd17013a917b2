//! Runs of this same program, each into a folder of its own, and what they cost.

use std::cell::Cell;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use super::peers;
use super::result::GpuUse;
use super::usage::{GpuWatch, Look, Spent};
use crate::error::{Error, Result};
use crate::job::JobFile;
use crate::job::values::{MaxRejects, TaskShare};
use crate::pipeline::Alone;
use crate::sample::Rational;
use crate::store;
use crate::supervise::Requests;

/// The hidden command that decodes and does nothing else.
pub const DECODE: &str = "__decode";

/// How often a child that runs makes this look whether it is to stop.
const TICK: Duration = Duration::from_millis(50);
/// How long a child that was asked to stop may take; a run gives up its tasks in a fraction of it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts children.
pub struct Runner<'a> {
    /// This program, with no variables of a job around it.
    start: &'a dyn Fn() -> Command,
    stop: &'a Requests,
    folder: PathBuf,
    gpu: Option<GpuWatch>,
    count: Cell<u32>,
}

/// A run that ended well.
pub struct Ran {
    /// Its report.
    pub report: Value,
    /// What it cost.
    pub spent: Spent,
    /// What the GPU did.
    pub gpu: Vec<GpuUse>,
    /// Where its dataset is, until this is dropped.
    pub out: Folder,
}

/// A folder that goes when it is dropped.
pub struct Folder(pub PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let mut failure = None;
        // An engine whose supervisor was killed may still be writing for a moment.
        for wait in [0, 50, 200, 1000] {
            std::thread::sleep(Duration::from_millis(wait));
            match std::fs::remove_dir_all(&self.0) {
                Err(e) if e.kind() != ErrorKind::NotFound => failure = Some(e),
                _ => return,
            }
        }
        if let Some(e) = failure {
            tracing::warn!("{}: {e}; remove it by hand", self.0.display());
        }
    }
}

impl<'a> Runner<'a> {
    /// Runs go into folders below `folder`. With `gpu` the driver is asked for the GPU's use.
    pub fn new(start: &'a dyn Fn() -> Command, stop: &'a Requests, folder: PathBuf, gpu: bool) -> Runner<'a> {
        let watch = gpu.then(GpuWatch::start);
        if let Some(Err(why)) = &watch {
            tracing::info!("the GPU's use is not known: {why}");
        }
        Runner { start, stop, folder, gpu: watch.and_then(Result::ok), count: Cell::new(0) }
    }

    /// Whether the benchmark is to go on.
    ///
    /// # Errors
    /// Interrupted, where it was asked to stop.
    pub fn go_on(&self) -> Result<()> {
        go_on(self.stop)
    }

    /// Runs `job`, into a fresh folder; with `trace` its timeline goes there.
    ///
    /// # Errors
    /// In words, what the run said last; nothing of it is an error of the benchmark.
    pub fn run(&self, job: &JobFile, trace: Option<&Path>) -> Result<Ran, String> {
        let number = self.count.replace(self.count.get() + 1);
        let out = Folder(self.folder.join(format!("run-{number}")));
        store::create_folders(&out.0).map_err(|e| e.message)?;
        let (data, report) = (out.0.join("data"), out.0.join("report.json"));
        let mut job = plain(job);
        job.output.uri = Some(data.to_string_lossy().into_owned());
        job.report = Some(report.clone());
        job.trace = trace.map(Path::to_path_buf);
        // Sources are kept, since that is work, but not by every run where the job has them.
        job.output.keep_raw = job.output.keep_raw.map(|_| out.0.join("raw").to_string_lossy().into_owned());
        let file = self.write(&out.0, &job)?;
        if let Some(gpu) = &self.gpu {
            gpu.seen();
        }
        let look = Look::now();
        let output = self.output(&["run", &file])?;
        let spent = look.spent();
        let gpu = self.gpu.as_ref().map(GpuWatch::seen).unwrap_or_default();
        ended(&output)?;
        let text = std::fs::read_to_string(&report).map_err(|e| format!("it left no report: {e}"))?;
        let report = serde_json::from_str(&text).map_err(|e| format!("its report cannot be read: {e}"))?;
        Ok(Ran { report, spent, gpu, out })
    }

    /// Where runs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a run's dataset lies.
    pub fn data(ran: &Ran) -> PathBuf {
        ran.out.0.join("data")
    }

    /// Runs another program as a shell would: `line` and the file that tells the job and a fresh folder behind it.
    ///
    /// # Errors
    /// In words, what it said last.
    pub fn peer(&self, line: &str, order: &Path) -> Result<peers::Ran, String> {
        let number = self.count.replace(self.count.get() + 1);
        let out = Folder(self.folder.join(format!("run-{number}")));
        store::create_folders(&out.0).map_err(|e| e.message)?;
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{line} \"$@\"")).arg("peer").arg(order).arg(&out.0);
        let look = Look::now();
        let output = watched(&mut command, self.stop).map_err(|e| e.message)?;
        let spent = look.spent();
        ended(&output)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = text.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_string);
        Ok(peers::Ran { out, spent, said })
    }

    /// Decodes what `job` wants and does nothing else.
    ///
    /// # Errors
    /// In words, why that cannot be told.
    pub fn decode(&self, job: &JobFile) -> Result<Alone, String> {
        let folder = Folder(self.folder.join("decode"));
        store::create_folders(&folder.0).map_err(|e| e.message)?;
        let file = self.write(&folder.0, &plain(job))?;
        let output = self.output(&[DECODE, &file])?;
        ended(&output)?;
        serde_json::from_slice(&output.stdout).map_err(|e| format!("what it said cannot be read: {e}"))
    }

    /// What `selftest --speed` says of a device.
    ///
    /// # Errors
    /// In words, why it cannot be told.
    pub fn speed(&self, device: &str) -> Result<Value, String> {
        let output = self.output(&["selftest", "--device", device, "--speed", "--json"])?;
        ended(&output)?;
        serde_json::from_slice(&output.stdout).map_err(|e| format!("what it said cannot be read: {e}"))
    }

    fn write(&self, folder: &Path, job: &JobFile) -> Result<String, String> {
        let file = folder.join("job.json");
        let text = serde_json::to_string(job).map_err(|e| e.to_string())?;
        std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(file.to_string_lossy().into_owned())
    }

    fn output(&self, arguments: &[&str]) -> Result<Output, String> {
        let mut command = (self.start)();
        command.args(arguments);
        watched(&mut command, self.stop).map_err(|e| e.message)
    }
}

/// Runs `command`, in a process group of its own, to its end.
///
/// # Errors
/// Interrupted, where it was asked to stop and the child was made to end; unavailable, where it cannot be started.
pub fn watched(command: &mut Command, stop: &Requests) -> Result<Output> {
    go_on(stop)?;
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |e: std::io::Error| Error::unavailable(format!("it could not be started: {e}"));
    let child = command.spawn().map_err(failed)?;
    let group = Pid::from_child(&child);
    let (over, ended) = mpsc::channel();
    std::thread::spawn(move || over.send(child.wait_with_output()));
    let mut asked: Option<Instant> = None;
    loop {
        match ended.recv_timeout(TICK) {
            Ok(output) => return go_on(stop).and(output.map_err(failed)),
            Err(RecvTimeoutError::Disconnected) => return Err(Error::bug("the end of a child was missed")),
            Err(RecvTimeoutError::Timeout) if stop.by().is_none() => {}
            Err(RecvTimeoutError::Timeout) => match asked {
                None => {
                    asked = Some(Instant::now());
                    end(group, Signal::TERM);
                }
                Some(at) if stop.urgent() || at.elapsed() > PATIENCE => end(group, Signal::KILL),
                Some(_) => {}
            },
        }
    }
}

/// Whether the benchmark is to go on.
fn go_on(stop: &Requests) -> Result<()> {
    let said =
        |by| Error::interrupted(format!("{by}: the benchmark stops, its runs are removed and nothing is reported"));
    stop.by().map_or(Ok(()), |by| Err(said(by)))
}

/// Signals a child and its own children, those that are still there.
fn end(group: Pid, signal: Signal) {
    if let Err(e) = kill_process_group(group, signal) {
        tracing::debug!("a child that is to stop: {e}");
    }
}

/// The job without what is told of a run beside its dataset; inputs that are rejected are counted, not judged.
fn plain(job: &JobFile) -> JobFile {
    JobFile {
        report: None,
        json: false,
        progress: "none".into(),
        summary: None,
        metrics: None,
        heartbeat: None,
        trace: None,
        price_per_hour: None,
        tasks: TaskShare::All,
        max_rejects: MaxRejects::Percent(100.0),
        // Nobody wants what a run that is to stop has begun.
        grace: Rational::seconds(0),
        ..job.clone()
    }
}

fn ended(output: &Output) -> Result<(), String> {
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
    Err(format!("{} ({})", last.trim_start_matches("framemill: "), output.status))
}
