//! Who hears of a run beside its user: a heartbeat file, Prometheus, Dagster, and whoever reads its summary.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::dagster::Pipes;
use super::heartbeat::Heartbeat;
use super::metrics::{Count, Metrics, Tasks};
use super::{print, variable};
use crate::error::{Error, Result};
use crate::job::JobFile;
use crate::pipeline::Snapshot;
use crate::report;
use crate::supervise::Requests;

/// Where Kubernetes reads what a container says at its end.
const TERMINATION: &str = "/dev/termination-log";
/// Time between two lines in Dagster's log.
const LINES: Duration = Duration::from_secs(30);

/// How a run ended.
pub struct Ended {
    /// Its exit code.
    pub code: u8,
    /// Its report; none where who read it has gone.
    pub report: Option<Value>,
    /// Digest of the dataset, as far as it is there.
    pub digest: Option<String>,
}

/// All that listen.
pub struct Listeners {
    heart: Heartbeat,
    metrics: Option<Metrics>,
    dagster: Option<(Pipes, Instant)>,
    summary: Option<PathBuf>,
    output: Option<String>,
    json: bool,
}

impl Listeners {
    /// Opens what the job and the surroundings name.
    ///
    /// # Errors
    /// Store, where the heartbeat cannot be written; usage, where another one cannot be opened.
    pub fn open(job: &JobFile) -> Result<Listeners> {
        let tar = job.output.uri.as_deref() == Some("-");
        let dagster = Pipes::open(variable, tar)?.map(|pipes| (pipes, Instant::now()));
        let termination = Path::new(TERMINATION);
        let pod = variable("KUBERNETES_SERVICE_HOST").is_some() && termination.exists();
        let mut listeners = Listeners {
            heart: Heartbeat::new(None)?,
            metrics: None,
            dagster,
            summary: job.summary.clone().or_else(|| pod.then(|| termination.into())),
            output: job.output.uri.clone(),
            json: job.json && !tar,
        };
        let opened = listeners.others(job);
        // Dagster is there already, and learns why the others are not.
        match opened {
            Ok(()) => Ok(listeners),
            Err(e) => listeners.end(Err(e)).and(Err(Error::bug("a run that could not begin has ended well"))),
        }
    }

    fn others(&mut self, job: &JobFile) -> Result<()> {
        self.heart = Heartbeat::new(job.heartbeat.as_deref())?;
        self.metrics = job.metrics.as_deref().map(|address| Metrics::serve(address, job)).transpose()?;
        Ok(())
    }

    /// The plan is known; `count` tells how many of its tasks are done, where others work on it, too.
    pub fn begin(&mut self, tasks: Tasks, count: Option<Count>) {
        if let Some((pipes, _)) = &mut self.dagster {
            let (version, left) = (env!("CARGO_PKG_VERSION"), tasks.own);
            pipes.log("INFO", &format!("framemill {version}: {left} of {} tasks are left here", tasks.planned));
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.begin(tasks, count);
        }
    }

    /// How far it is.
    pub fn look(&mut self, now: &Snapshot, requests: &Requests) {
        self.heart.beat(now);
        if let Some(metrics) = &self.metrics {
            metrics.look(now);
            if requests.by().is_some() {
                metrics.interrupted();
            }
        }
        if let Some((pipes, last)) = &mut self.dagster
            && last.elapsed() > LINES
        {
            *last = Instant::now();
            let (inputs, samples, rejected) = (now.inputs, now.samples, now.rejected);
            pipes.log("INFO", &format!("{inputs} inputs, {samples} samples, {rejected} rejected"));
        }
    }

    /// An engine was replaced.
    pub fn restart(&mut self, why: &str) {
        if let Some(metrics) = &self.metrics {
            metrics.restart();
        }
        if let Some((pipes, _)) = &mut self.dagster {
            pipes.log("WARNING", why);
        }
    }

    /// The run is over: everybody is told how. Gives its exit code, or the error that it ended with.
    pub fn end(mut self, ended: Result<Ended>) -> Result<u8> {
        let code = ended.as_ref().map_or_else(Error::exit_code, |ended| ended.code);
        let of = ended.as_ref().ok().and_then(|ended| ended.report.as_ref());
        let error = ended.as_ref().err().map(|e| e.message.as_str());
        let summary = report::summary(code, of, error, self.output.as_deref());
        self.heart.end(code);
        if let Some(file) = &self.summary
            && let Err(e) = std::fs::write(file, summary.to_string() + "\n")
        {
            // Kubernetes mounts it, so it cannot be replaced.
            tracing::warn!("the summary {} could not be written: {e}", file.display());
        }
        if let Some((pipes, _)) = &mut self.dagster {
            pipes.end(code, &summary, ended.as_ref().ok().and_then(|ended| ended.digest.as_deref()));
        }
        if ended.is_err() && self.json {
            print(&summary.to_string())?;
        }
        ended.map(|ended| ended.code)
    }
}
