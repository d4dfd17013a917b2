//! Runs of this same program, each into a folder of its own, and what they cost.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::peers;
use super::result::GpuUse;
use super::usage::{GpuWatch, Look, Spent};
use crate::error::{Error, Result};
use crate::job::JobFile;
use crate::job::values::{MaxRejects, TaskShare};
use crate::pipeline::Alone;
use crate::store;

/// The hidden command that decodes and does nothing else.
pub const DECODE: &str = "__decode";

/// Starts children.
pub struct Runner<'a> {
    /// This program, with no variables of a job around it.
    start: &'a dyn Fn() -> Command,
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
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("{}: {e}; remove it by hand", self.0.display());
        }
    }
}

impl<'a> Runner<'a> {
    /// Runs go into folders below `folder`. With `gpu` the driver is asked for the GPU's use.
    pub fn new(start: &'a dyn Fn() -> Command, folder: PathBuf, gpu: bool) -> Runner<'a> {
        let watch = gpu.then(GpuWatch::start);
        if let Some(Err(why)) = &watch {
            tracing::info!("the GPU's use is not known: {why}");
        }
        Runner { start, folder, gpu: watch.and_then(Result::ok), count: Cell::new(0) }
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
        command.arg("-c").arg(format!("{line} \"$@\"")).arg("peer").arg(order).arg(&out.0).stdin(Stdio::null());
        let look = Look::now();
        let output = command.output().map_err(|e| format!("it could not be started: {e}"))?;
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
        command.args(arguments).stdin(Stdio::null());
        command.output().map_err(|e| format!("it could not be started: {e}"))
    }
}

/// The job without what is told of a run beside its dataset; inputs that are rejected are counted, not judged.
fn plain(job: &JobFile) -> JobFile {
    JobFile {
        report: None,
        json: false,
        progress: "none".into(),
        heartbeat: None,
        trace: None,
        price_per_hour: None,
        tasks: TaskShare::All,
        max_rejects: MaxRejects::Percent(100.0),
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

/// A scratch folder of this benchmark's own below `scratch`.
///
/// # Errors
/// Store.
pub fn scratch(scratch: &Path) -> Result<Folder> {
    let folder = scratch.join(format!("framemill-bench-{}", std::process::id()));
    store::create_folders(&folder)?;
    let absolute = std::path::absolute(&folder).map_err(|e| Error::store(format!("{}: {e}", folder.display())))?;
    Ok(Folder(absolute))
}
