//! `--metrics ADDR`: how a run fares, in Prometheus's text format, for as long as it lives.
//!
//! Counters count this process's work. They go on where an engine process is replaced; what it had not committed is done,
//! and counted, again.

use std::fmt;
use std::net::TcpListener;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tiny_http::{Header, Method, Response, Server};

use super::say;
use crate::error::{Error, RejectKind, Result};
use crate::job::JobFile;
use crate::pipeline::{Snapshot, StageLook};

/// Time between two looks at what other workers have done, for each so many tasks of the job: each thousand is a request
/// of every worker.
const RECOUNT: Duration = Duration::from_secs(60);
const COUNTED: u64 = 10_000;
/// Share of the time that these looks may take, as one part in so many: in large jobs they are long.
const SPARING: u32 = 20;

/// Counts the tasks of the whole job that are done.
pub type Count = Box<dyn Fn() -> Result<u64> + Send>;

/// How many tasks there are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tasks {
    /// In the whole job.
    pub planned: u64,
    /// Of them done when this process began, whoever did them.
    pub done: u64,
    /// Left for this process when it began.
    pub own: u64,
}

#[derive(Debug, Default)]
struct Numbers {
    tasks: Option<Tasks>,
    /// Tasks done as the store has it, where that was asked.
    counted: u64,
    /// Of the engine that works now.
    now: Snapshot,
    /// Of those before it.
    before: Snapshot,
    restarts: u64,
    interrupted: bool,
}

/// What is told.
struct State {
    begun: Instant,
    price: Option<f64>,
    numbers: Mutex<Numbers>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl State {
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The endpoint.
pub struct Metrics {
    state: Arc<State>,
    server: Arc<Server>,
    serving: Option<JoinHandle<()>>,
    recounting: Option<Sender<()>>,
}

impl Metrics {
    /// Listens at `address` (`HOST:PORT`, or `:PORT` for all addresses of this machine; port 0 takes a free one), and
    /// says where.
    ///
    /// # Errors
    /// Usage, where it cannot.
    pub fn serve(address: &str, job: &JobFile) -> Result<Metrics> {
        let wrong = |e: &dyn fmt::Display| {
            Error::usage(format!(
                "--metrics {address}: {e}; expected HOST:PORT or :PORT of this machine, with a port that nobody uses"
            ))
        };
        let full = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_string() };
        let listener = TcpListener::bind(&full).map_err(|e| wrong(&e))?;
        let local = listener.local_addr().map_err(|e| wrong(&e))?;
        let server = Arc::new(Server::from_listener(listener, None).map_err(|e| wrong(&e))?);
        let price = job.price_per_hour.map(|price| price.0);
        let state = Arc::new(State { begun: Instant::now(), price, numbers: Mutex::default() });
        let mut registry = Registry::with_prefix("framemill");
        registry.register_collector(Box::new(state.clone()));
        let theirs = server.clone();
        let body = move || theirs.incoming_requests().for_each(|request| answer(request, &registry));
        let serving = std::thread::Builder::new().name("metrics".into()).spawn(body);
        let serving = serving.map_err(|e| Error::bug(format!("could not start a thread: {e}")))?;
        say(&format!("framemill: metrics at http://{local}/metrics"));
        Ok(Metrics { state, server, serving: Some(serving), recounting: None })
    }

    /// The plan is known. `count` is asked now and then where others work on the job, too.
    pub fn begin(&mut self, tasks: Tasks, count: Option<Count>) {
        self.state.numbers().tasks = Some(tasks);
        let Some(count) = count else { return };
        let (end, ended) = mpsc::channel::<()>();
        let state = self.state.clone();
        let least = RECOUNT * tasks.planned.div_ceil(COUNTED).clamp(1, 60) as u32;
        let body = move || {
            let mut pause = least;
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let asked = Instant::now();
                match count() {
                    Ok(done) => state.numbers().counted = done,
                    Err(e) => tracing::warn!("the tasks that are left could not be counted for the metrics: {e}"),
                }
                pause = least.max(asked.elapsed() * SPARING);
            }
        };
        match std::thread::Builder::new().name("recount".into()).spawn(body) {
            Ok(_) => self.recounting = Some(end),
            Err(e) => tracing::warn!("the metrics will not see what other workers do: {e}"),
        }
    }

    /// How far it is.
    pub fn look(&self, now: &Snapshot) {
        self.state.numbers().now = now.clone();
    }

    /// An engine was replaced.
    pub fn restart(&self) {
        let mut numbers = self.state.numbers();
        let gone = std::mem::take(&mut numbers.now);
        numbers.before = sum(&numbers.before, &gone);
        numbers.restarts += 1;
    }

    /// The run is to end early.
    pub fn interrupted(&self) {
        self.state.numbers().interrupted = true;
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(serving) = self.serving.take() {
            // A panic there was told on standard error already, and is none of the run's.
            let _ = serving.join();
        }
    }
}

fn answer(request: tiny_http::Request, registry: &Registry) {
    let path = request.url().split('?').next().unwrap_or_default();
    let (status, kind, text) = match (request.method(), path) {
        (Method::Get | Method::Head, "/metrics") => {
            let mut text = String::new();
            match prometheus_text::encode(&mut text, registry) {
                Ok(()) => (200, prometheus_text::CONTENT_TYPE, text),
                Err(e) => (500, "text/plain", format!("the metrics cannot be written: {e}\n")),
            }
        }
        (Method::Get | Method::Head, _) => (404, "text/plain", "framemill's metrics are at /metrics\n".to_string()),
        _ => (405, "text/plain", "only GET and HEAD\n".to_string()),
    };
    let mut response = Response::from_string(text).with_status_code(status);
    if let Ok(header) = Header::from_bytes("Content-Type", kind) {
        response.add_header(header);
    }
    if let Err(e) = request.respond(response) {
        tracing::debug!("who asked for metrics has gone: {e}");
    }
}

/// Both together; queues are those of `b`.
fn sum(a: &Snapshot, b: &Snapshot) -> Snapshot {
    let mut kinds = a.kinds.clone();
    for (kind, count) in &b.kinds {
        *kinds.entry(*kind).or_default() += count;
    }
    let mut stages = a.stages.clone();
    for look in &b.stages {
        match stages.iter_mut().find(|s| s.stage == look.stage) {
            Some(old) => {
                let (busy, starved, blocked) =
                    (old.busy + look.busy, old.starved + look.starved, old.blocked + look.blocked);
                *old = StageLook { busy, starved, blocked, ..look.clone() };
            }
            None => stages.push(look.clone()),
        }
    }
    Snapshot {
        samples: a.samples + b.samples,
        inputs: a.inputs + b.inputs,
        rejected: a.rejected + b.rejected,
        frames: a.frames + b.frames,
        tasks: a.tasks + b.tasks,
        samples_committed: a.samples_committed + b.samples_committed,
        bytes_read: a.bytes_read + b.bytes_read,
        bytes_written: a.bytes_written + b.bytes_written,
        fallbacks: a.fallbacks + b.fallbacks,
        kinds,
        stages,
        flying: Vec::new(),
    }
}

/// Values with their labels.
type Rows<'a> = Vec<(Vec<(&'static str, &'a str)>, f64)>;

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let numbers = self.numbers();
        let all = sum(&numbers.before, &numbers.now);
        let seconds = self.begun.elapsed().as_secs_f64();
        let mut family = |name: &str, help: &str, kind: MetricType, rows: Rows| -> Result<(), fmt::Error> {
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, value) in rows {
                let metric = metric.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => ConstCounter::new(value).encode(metric)?,
                    _ => ConstGauge::new(value).encode(metric)?,
                }
            }
            Ok(())
        };
        let one = |value: f64| -> Rows { vec![(Vec::new(), value)] };
        let version = vec![(vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)];
        family("build_info", "Which framemill this is", MetricType::Gauge, version)?;
        let counters = [
            ("run_seconds", "Seconds since this run began", seconds),
            ("samples", "Samples written into shards", all.samples as f64),
            ("inputs", "Inputs that are through, rejected ones included", all.inputs as f64),
            ("frames", "Frames handed on by decoders", all.frames as f64),
            ("tasks_committed", "Tasks that this process has committed", all.tasks as f64),
            ("read_bytes", "Bytes of the inputs that are through", all.bytes_read as f64),
            ("written_bytes", "Bytes of the shards and tables committed", all.bytes_written as f64),
            ("fallbacks", "Frames and units that ran elsewhere than was demanded", all.fallbacks as f64),
            ("engine_restarts", "Engine processes that died and were replaced", numbers.restarts as f64),
        ];
        for (name, help, value) in counters {
            family(name, help, MetricType::Counter, one(value))?;
        }
        let names = kinds(&all);
        let rejects = names.iter().map(|(kind, count)| (vec![("kind", kind.as_str())], *count)).collect();
        family("rejects", "Inputs, or parts of them, that were rejected, by kind", MetricType::Counter, rejects)?;
        let spent = all.stages.iter().flat_map(|s| {
            let states = [("busy", s.busy), ("starved", s.starved), ("blocked", s.blocked)];
            states.map(|(state, seconds)| (vec![("stage", s.stage.as_str()), ("state", state)], seconds))
        });
        let help = "Seconds that a stage's threads worked (busy), waited for input (starved) or for room (blocked)";
        family("stage_seconds", help, MetricType::Counter, spent.collect())?;
        let stages = |queued: bool, value: fn(&StageLook) -> u64| -> Rows {
            let now = numbers.now.stages.iter().filter(|s| !queued || s.capacity > 0);
            now.map(|s| (vec![("stage", s.stage.as_str())], value(s) as f64)).collect()
        };
        family("stage_threads", "Threads of a stage", MetricType::Gauge, stages(false, |s| s.threads))?;
        family("queue_depth", "Items that wait before a stage", MetricType::Gauge, stages(true, |s| s.depth))?;
        family(
            "queue_capacity",
            "Items that may wait before a stage",
            MetricType::Gauge,
            stages(true, |s| s.capacity),
        )?;
        if let Some(tasks) = numbers.tasks {
            let done = numbers.counted.max(tasks.done + all.tasks).min(tasks.planned);
            let own = tasks.own.saturating_sub(all.tasks);
            let gauges = [
                ("tasks_planned", "Tasks of the whole job", tasks.planned as f64),
                ("tasks_done", "Tasks of the whole job that have receipts", done as f64),
                ("tasks_left", "Tasks of the whole job without receipts: scale on this", (tasks.planned - done) as f64),
                ("worker_tasks_left", "Tasks that are left for this process", own as f64),
            ];
            for (name, help, value) in gauges {
                family(name, help, MetricType::Gauge, one(value))?;
            }
        }
        let early = f64::from(u8::from(numbers.interrupted));
        family("interrupted", "1 where the run was asked to stop", MetricType::Gauge, one(early))?;
        if let Some(price) = self.price {
            let help = "What this run has cost so far, in the currency of --price-per-hour";
            family("cost", help, MetricType::Counter, one(price * seconds / 3600.0))?;
        }
        if all.inputs > 0 {
            let each = seconds / all.inputs as f64;
            let help = "Seconds of this run for each input that is through";
            family("asset_seconds", help, MetricType::Gauge, one(each))?;
            if let Some(price) = self.price {
                let help = "What this run has cost for each input that is through";
                family("asset_cost", help, MetricType::Gauge, one(price * each / 3600.0))?;
            }
        }
        Ok(())
    }
}

/// Rejects by the name of their kind.
fn kinds(all: &Snapshot) -> Vec<(String, f64)> {
    let named = |(kind, count): (&RejectKind, &u64)| (kind.to_string(), *count as f64);
    all.kinds.iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_go_on_where_an_engine_is_replaced() {
        let mut metrics = Metrics::serve("127.0.0.1:0", &JobFile::default()).unwrap();
        let count = |done| -> Option<Count> { Some(Box::new(move || Ok(done))) };
        metrics.begin(Tasks { planned: 9, done: 2, own: 4 }, count(5));
        let look = |samples, busy| Snapshot {
            samples,
            tasks: 1,
            kinds: [(RejectKind::Corrupt, 1)].into(),
            stages: vec![StageLook { stage: "decode".into(), threads: 2, busy, ..StageLook::default() }],
            ..Snapshot::default()
        };
        metrics.look(&look(5, 1.5));
        metrics.restart();
        metrics.look(&look(3, 0.5));
        metrics.interrupted();
        let mut registry = Registry::with_prefix("framemill");
        registry.register_collector(Box::new(metrics.state.clone()));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).unwrap();
        for line in [
            "framemill_samples_total 8.0",
            "framemill_rejects_total{kind=\"corrupt\"} 2.0",
            "framemill_stage_seconds_total{stage=\"decode\",state=\"busy\"} 2.0",
            "framemill_stage_threads{stage=\"decode\"} 2.0",
            "framemill_engine_restarts_total 1.0",
            // Two before, two of this process.
            "framemill_tasks_left 5.0",
            "framemill_worker_tasks_left 2.0",
            "framemill_interrupted 1.0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        metrics.state.numbers().counted = 7;
        text.clear();
        prometheus_text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("framemill_tasks_left 2.0"), "others have done some: {text}");
    }
}
