//! The pipeline: decode, compute, detect, encode, collect and commit, in threads with bounded channels between them.
//!
//! Invariants: a frame takes its credit before it leaves the decoder and no later stage asks for any, so the budget
//! cannot deadlock; a failed send means stopping and is never an error of its own; the first error is kept; panics are
//! caught at join and named by stage. Of `--memory` a half is for frames in flight, a quarter for decoders' reference
//! pictures, a quarter for samples that wait for their turn; a device's buffers come on top, up to another quarter, and
//! those of inputs that are read over the network, up to an eighth.

mod alone;
mod budget;
mod collect;
mod compute;
mod decode;
mod decoders;
mod detect;
mod fallbacks;
mod feed;
mod meter;
mod queue;
mod room;
#[cfg(feature = "ffmpeg")]
mod scenes;
mod spool;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::backend::cpu::Cpu;
use crate::backend::{Backend, Log, device};
use crate::decode::hardware;
use crate::decode::route::Demand;
use crate::error::{Class, Error, RejectKind, Result};
use crate::input::Sources;
use crate::job::values::TaskShare;
use crate::job::{Fallback, Job, Mix};
use crate::lease::Leases;
use crate::plan::{Plan, Unit};
use crate::sink::webdataset::TarStream;
use crate::store::{self, Output};
use crate::task::rolls::{Roll, SMALL};
use crate::task::{Ledger, Receipt, Reject};
use crate::trace::{self, Clock, Recorder, Slice};
pub use alone::{Alone, decode_alone};
pub use budget::{Budget, Credit};
use collect::{Collector, Message, commit};
use decode::{Exit, Halt, Work};
use decoders::Decoders;
use fallbacks::Fallbacks;
pub use meter::StageLook;
use meter::{Stage, Stages};
use queue::Queue;
use room::Room;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which unit: its task and its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnitKey {
    /// The task.
    pub task: u64,
    /// Place in the task.
    pub index: usize,
}

/// How a run is to end early.
#[derive(Debug, Default)]
pub struct Stop(AtomicU8);

impl Stop {
    /// Take no new task; finish those that were begun.
    pub fn drain(&self) {
        self.0.fetch_max(1, Ordering::Relaxed);
    }
    /// Stop as soon as possible.
    pub fn abort(&self) {
        self.0.store(2, Ordering::Relaxed);
    }
    /// Whether no new task is to be taken.
    pub fn draining(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
    /// Whether everything is to stop.
    pub fn aborting(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

/// What a run has done so far; read while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    samples: AtomicU64,
    inputs: AtomicU64,
    rejected: AtomicU64,
    frames: AtomicU64,
    tasks: AtomicU64,
    samples_committed: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    fallbacks: AtomicU64,
    kinds: Mutex<BTreeMap<RejectKind, u64>>,
    stages: Stages,
    flying: Mutex<BTreeMap<UnitKey, Arc<AtomicU64>>>,
    trace: Option<Recorder>,
}

/// One look at a [`Progress`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Samples written into shards.
    pub samples: u64,
    /// Inputs that are through.
    pub inputs: u64,
    /// Those of them that were rejected.
    pub rejected: u64,
    /// Frames handed on by decoders.
    pub frames: u64,
    /// Tasks committed.
    pub tasks: u64,
    /// Samples of those tasks.
    pub samples_committed: u64,
    /// Bytes of the inputs that are through.
    pub bytes_read: u64,
    /// Bytes of the objects committed.
    pub bytes_written: u64,
    /// Frames and units that ran elsewhere than was demanded.
    pub fallbacks: u64,
    /// Units rejected, by kind.
    pub kinds: BTreeMap<RejectKind, u64>,
    /// The stages that have begun.
    pub stages: Vec<StageLook>,
    /// Units in decoders, with a number that grows while they live.
    pub flying: Vec<(UnitKey, u64)>,
}

impl Progress {
    /// Also records what each thread does when, by `clock`, where one is given.
    pub fn traced(clock: Option<Clock>) -> Progress {
        Progress { trace: clock.map(Recorder::new), ..Progress::default() }
    }
    /// What threads did since this was last asked, and how many slices were dropped; nothing where it is not recorded.
    pub fn slices(&self) -> (Vec<Slice>, u64) {
        self.trace.as_ref().map(Recorder::take).unwrap_or_default()
    }
    fn sample(&self) {
        self.samples.fetch_add(1, Ordering::Relaxed);
    }
    fn input(&self, whole: bool, bytes: u64) {
        self.inputs.fetch_add(u64::from(whole), Ordering::Relaxed);
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }
    fn reject(&self, kind: RejectKind) {
        self.inputs.fetch_add(1, Ordering::Relaxed);
        self.rejected.fetch_add(1, Ordering::Relaxed);
        *lock(&self.kinds).entry(kind).or_default() += 1;
    }
    /// What there is now.
    pub fn look(&self) -> Snapshot {
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let flying = lock(&self.flying);
        Snapshot {
            samples: count(&self.samples),
            inputs: count(&self.inputs),
            rejected: count(&self.rejected),
            frames: count(&self.frames),
            tasks: count(&self.tasks),
            samples_committed: count(&self.samples_committed),
            bytes_read: count(&self.bytes_read),
            bytes_written: count(&self.bytes_written),
            fallbacks: count(&self.fallbacks),
            kinds: lock(&self.kinds).clone(),
            stages: self.stages.look(),
            flying: flying.iter().map(|(k, n)| (*k, count(n))).collect(),
        }
    }
}

/// Units that killed or stalled an engine process before.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Suspects {
    /// To be tried with nothing else beside them.
    pub alone: HashSet<UnitKey>,
    /// Not to be tried any more, with why.
    pub condemned: Vec<(UnitKey, RejectKind)>,
}

/// What hears of units as they begin and end, before they do.
pub trait Observer: Sync {
    /// A unit goes into a decoder.
    fn began(&self, key: UnitKey);
    /// It came out.
    fn ended(&self, key: UnitKey);
}

/// A task on its way.
struct TaskInfo {
    task: u64,
    plan: Arc<Plan>,
    units: Vec<Arc<Unit>>,
    decision: Option<Vec<Reject>>,
}

/// Kinds of video among which hardware's sessions are kept, where there are fewer threads.
#[cfg(feature = "ffmpeg")]
const KINDS: usize = 4;

/// What all stages share.
struct Shared<'a> {
    job: &'a Job,
    stop: &'a Stop,
    progress: &'a Progress,
    ledger: Option<Ledger>,
    /// Where workers share what is left.
    leases: Option<Leases>,
    /// Copies of this worker's receipts, where there are many.
    roll: Option<Roll>,
    out: Option<Output>,
    /// Where sources are kept.
    raw: Option<Output>,
    worker: String,
    /// Names of the list's own columns.
    columns: Vec<String>,
    budget: Budget,
    references: Budget,
    waiting: u64,
    room: Room,
    /// Packets given to decoders, with those whose frames were not waited for.
    packets_fed: AtomicU64,
    /// Tasks between the collector and their receipts.
    committing: AtomicU64,
    failed: AtomicBool,
    first_error: Mutex<Option<Error>>,
    left: Mutex<Vec<String>>,
    again: Mutex<Vec<u64>>,
    streamed: Mutex<Vec<(Receipt, Vec<Reject>)>>,
    fallbacks: Fallbacks<'a>,
    /// What decodes: what the job demands, where it is there.
    #[cfg_attr(not(feature = "ffmpeg"), expect(dead_code, reason = "without FFmpeg there are no videos"))]
    decoder: Demand,
    /// Opens inputs, wherever they lie.
    sources: Sources,
    /// The device reads frames where a decoder left them on it.
    surfaces: bool,
    decoders: Decoders,
    /// Lays transparent frames over the background, the same whatever device the others go to.
    cpu: Cpu,
    /// Hardware's, kept between files.
    #[cfg(feature = "ffmpeg")]
    sessions: Arc<crate::decode::video::Sessions>,
    decode: &'a Stage,
    compute: &'a Stage,
    detect: &'a Stage,
    encode: &'a Stage,
    sink: &'a Stage,
    commit: &'a Stage,
}

impl<'a> Shared<'a> {
    /// What the stages of a run of `plans` into `out` share. With `surfaces` the device reads what decoders leave on it.
    ///
    /// # Errors
    /// Unavailable, where the demanded decoder is not there and falling back forbidden.
    fn new(
        job: &'a Job,
        plans: &[Arc<Plan>],
        out: Option<Output>,
        stop: &'a Stop,
        progress: &'a Progress,
        fallbacks: Fallbacks<'a>,
        surfaces: bool,
    ) -> Result<Self> {
        let (memory, limit) = (job.file.memory.0, job.file.scratch_limit.map(|limit| limit.0));
        // In a folder, shards are made where they are to stay.
        let elsewhere = out.as_ref().is_some_and(|out| out.folder().is_none());
        let room = Room::new(limit, elsewhere, job.file.output.shard_bytes.0);
        Ok(Shared {
            job,
            stop,
            progress,
            ledger: out.as_ref().map(|out| Ledger::new(out).mixed(job.file.mix == Mix::Allow)),
            leases: None,
            roll: None,
            raw: None,
            worker: store::worker(),
            columns: plans
                .first()
                .map(|p| p.header.columns.iter().map(|c| c.name.clone()).collect())
                .unwrap_or_default(),
            out,
            budget: Budget::new(memory / 2),
            references: Budget::new(memory / 4),
            waiting: memory / 4,
            room,
            packets_fed: AtomicU64::new(0),
            committing: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            first_error: Mutex::default(),
            left: Mutex::default(),
            again: Mutex::default(),
            streamed: Mutex::default(),
            decoder: decoder(job, &fallbacks)?,
            sources: Sources::new(&job.file.input, memory / 8, job.threads).within(limit),
            surfaces,
            decoders: Decoders::default(),
            cpu: Cpu::new(),
            #[cfg(feature = "ffmpeg")]
            sessions: Arc::new(crate::decode::video::Sessions::new(job.threads.max(KINDS))),
            fallbacks,
            decode: &progress.stages.decode,
            compute: &progress.stages.compute,
            detect: &progress.stages.detect,
            encode: &progress.stages.encode,
            sink: &progress.stages.sink,
            commit: &progress.stages.commit,
        })
    }

    /// What decoded how much, as the report lists it.
    fn decoders(&self) -> Value {
        #[cfg(feature = "ffmpeg")]
        let sessions = self.sessions.told();
        #[cfg(not(feature = "ffmpeg"))]
        let sessions = (0, 0);
        self.decoders.report(sessions)
    }
}

impl Shared<'_> {
    /// Keeps the first error and stops everything.
    fn fail(&self, error: Error) {
        lock(&self.first_error).get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }
    /// The error that stopped everything, if one did.
    fn first_error(&self) -> Result<()> {
        lock(&self.first_error).take().map_or(Ok(()), Err)
    }
    fn left_open(&self, why: String) {
        lock(&self.left).push(why);
    }
    fn again(&self, task: u64) {
        lock(&self.again).push(task);
    }
    fn streamed(&self, receipt: Receipt, rejects: Vec<Reject>) {
        lock(&self.streamed).push((receipt, rejects));
    }
    /// A task has its receipt: nobody needs its lease.
    fn leased(&self, task: u64) {
        if let Some(leases) = &self.leases {
            leases.done(task);
        }
    }
    /// A task has its receipt, by this worker.
    fn committed(&self, receipt: &Receipt) -> Result<()> {
        let bytes = receipt.objects.iter().map(|object| object.bytes).sum();
        self.progress.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        self.progress.samples_committed.fetch_add(receipt.samples, Ordering::Relaxed);
        self.progress.tasks.fetch_add(1, Ordering::Relaxed);
        self.roll.as_ref().map_or(Ok(()), |roll| roll.add(receipt))
    }
    /// Where temporaries are made.
    fn scratch(&self) -> PathBuf {
        self.out.as_ref().map_or_else(std::env::temp_dir, |out| out.scratch().to_path_buf())
    }
    /// Asks for room on disk; see [`Room::grow`].
    fn grow(&self, task: u64, part: room::Part, bytes: u64) -> Result<()> {
        self.room.grow(task, part, bytes, &self.scratch(), || !stopping(self))
    }
    fn spool_folder(&self) -> PathBuf {
        match &self.out {
            Some(out) => out.scratch().join(format!("{}-spool", self.worker)),
            None => std::env::temp_dir().join(format!("framemill-{}", self.worker)),
        }
    }
}

/// True when nothing more is to be done.
fn stopping(shared: &Shared) -> bool {
    shared.stop.aborting() || shared.failed.load(Ordering::Relaxed)
}

/// Where samples go.
pub enum Target<'a> {
    /// Shards in an output; the worker's name is the same for all engines of a process.
    Output(&'a Output, &'a str),
    /// One tar, in order, with no ledger.
    Stream(Box<dyn Write + Send + 'a>),
}

/// What a run came to.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Tasks that had a receipt before.
    pub skipped: u64,
    /// Tasks that stay open, and why.
    pub left: Vec<String>,
    /// What a stream came to: it has no ledger.
    #[serde(skip)]
    pub streamed: Vec<(Receipt, Vec<Reject>)>,
    /// What the Program ran on; `None` where no engine was needed.
    pub device: Option<String>,
    /// What that device did in this process; `None` for the CPU.
    pub device_work: Option<Log>,
    /// What the CPU did in a device's place.
    pub fallbacks: Vec<Value>,
    /// Stages, queues, budgets.
    pub timing: Value,
}

/// Runs every task of `plans` that `wanted` names and that has no receipt.
///
/// # Errors
/// The first error that is not an input's. A stop is no error.
#[expect(clippy::too_many_arguments, reason = "each is a part of the run that the caller owns")]
pub fn run(
    job: &Job,
    plans: &[Arc<Plan>],
    wanted: &dyn Fn(u64) -> bool,
    target: Target,
    stop: &Stop,
    progress: &Progress,
    observer: &dyn Observer,
    suspects: &Suspects,
) -> Result<Outcome> {
    let begun = Instant::now();
    let (mut leases, mut roll, mut done) = (None, None, HashSet::new());
    let (out, stream) = match target {
        Target::Output(out, name) => {
            let ledger = Ledger::new(out);
            let tasks: u64 = plans.iter().map(|plan| plan.header.tasks).sum();
            roll = (tasks > SMALL).then(|| Roll::new(out, name));
            done = ledger.done(plans.iter().flat_map(|plan| plan.tasks()))?;
            if job.file.tasks == TaskShare::Any {
                let term = Duration::from_secs_f64(job.file.lease.as_f64().clamp(1.0, 1e6));
                let open = plans.iter().flat_map(|plan| plan.tasks()).filter(|task| !done.contains(task));
                leases = Some(Leases::join(&ledger, name, term, open)?);
            }
            (Some(out.clone()), None)
        }
        Target::Stream(writer) => {
            let columns = plans.first().map(|p| p.header.columns.clone()).unwrap_or_default();
            (None, Some(TarStream::new(writer, "standard output", &columns)))
        }
    };
    let memory = job.file.memory.0;
    let fallbacks = Fallbacks::new(job.file.fallback == Fallback::Warn, &progress.fallbacks);
    let opened = device::open(job.device, job.file.fallback == Fallback::Forbid, memory / 4)?;
    if let Some(reason) = &opened.missing {
        fallbacks.device(&job.device.to_string(), reason);
    }
    let mut shared = Shared::new(job, plans, out, stop, progress, fallbacks, opened.backend.surfaces())?;
    (shared.leases, shared.roll, shared.raw) = (leases, roll, job.raw()?);
    let mut outcome = Outcome::default();
    let (mut tasks, mut shared_units) = (VecDeque::new(), 0);
    for plan in plans {
        for task in plan.tasks().filter(|t| wanted(*t)) {
            match &shared.leases {
                _ if done.contains(&task) => outcome.skipped += 1,
                Some(_) => shared_units += plan.len_of(task),
                None => tasks.push_back((plan.clone(), task)),
            }
        }
    }
    for detector in &job.detectors {
        for (provider, reason) in &detector.missing {
            shared.fallbacks.provider(provider.name(), detector.provider.name(), reason);
        }
    }
    let backend = &*opened.backend;
    outcome.device = Some(backend.name().to_string());
    let mut stream = stream;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if let Some(leases) = &shared.leases {
            scope.spawn(|| renew(leases, &over));
        }
        // A task that another worker decided otherwise is done again as that decision says; it cannot change once more.
        for _ in 0..3 {
            let queue = Queue::new(plans, std::mem::take(&mut tasks), shared_units);
            pass(&shared, &queue, backend, observer, suspects, stream.take());
            for task in std::mem::take(&mut *lock(&shared.again)) {
                if let Some(plan) = plans.iter().find(|p| p.tasks().contains(&task)) {
                    tasks.push_back((plan.clone(), task));
                }
            }
            if tasks.is_empty() || stopping(&shared) || stop.draining() {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    // Empty unless a spool was needed; another worker's is another folder.
    let _ = std::fs::remove_dir(shared.spool_folder());
    match shared.first_error() {
        // Whoever finished the job meanwhile swept what this worker had begun.
        Err(e) if e.class == Class::Store && finished(&shared, plans)? => tracing::info!("others have done all: {e}"),
        other => other?,
    }
    if let Some(roll) = shared.roll.as_ref().filter(|_| !stop.aborting()) {
        roll.end()?;
    }
    outcome.left = std::mem::take(&mut *lock(&shared.left));
    outcome.streamed = std::mem::take(&mut *lock(&shared.streamed));
    outcome.device_work = backend.log();
    outcome.fallbacks = shared.fallbacks.report();
    outcome.timing = timing(&shared, begun.elapsed());
    Ok(outcome)
}

/// Every task has its receipt.
fn finished(shared: &Shared, plans: &[Arc<Plan>]) -> Result<bool> {
    let Some(ledger) = &shared.ledger else { return Ok(false) };
    let tasks = || plans.iter().flat_map(|plan| plan.tasks());
    let done = ledger.done(tasks())?;
    Ok(tasks().all(|task| done.contains(&task)))
}

/// Shows that this worker lives until the run is over.
fn renew(leases: &Leases, over: &AtomicBool) {
    let mut last = Instant::now();
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
        if last.elapsed() >= leases.pace() {
            last = Instant::now();
            // Silence costs at most work that is done twice: the next try may get through.
            if let Err(e) = leases.renew() {
                tracing::warn!("{e}");
            }
        }
    }
}

/// The decoder that the job demands, or software where it is not there and that may be.
fn decoder(job: &Job, fallbacks: &Fallbacks<'_>) -> Result<Demand> {
    let Demand::Hardware(kind) = job.decoder else { return Ok(job.decoder) };
    match hardware::find(kind) {
        Ok(_) => Ok(job.decoder),
        Err(why) if job.file.fallback == Fallback::Forbid => {
            Err(Error::unavailable(format!("decoder {}: {why}", kind.name())))
        }
        Err(why) => {
            fallbacks.decoder(None, kind.name(), &format!("decoder {}: {why}", kind.name()));
            Ok(Demand::Software)
        }
    }
}

fn timing(shared: &Shared, wall: Duration) -> Value {
    let mut seconds = serde_json::Map::new();
    seconds.insert("wall".into(), json!((wall.as_secs_f64() * 1e3).round() / 1e3));
    let mut queues = serde_json::Map::new();
    let stages = shared
        .progress
        .stages
        .named()
        .into_iter()
        .filter(|(name, _)| *name != "detect" || !shared.job.detectors.is_empty());
    for (name, stage) in stages {
        seconds.insert(name.into(), stage.report());
        if name != "decode" {
            queues.insert(name.into(), stage.queue());
        }
    }
    let mut budget = json!({
        "frames": { "limit": shared.budget.limit(), "high_water": shared.budget.high_water() },
        "references": { "limit": shared.references.limit(), "high_water": shared.references.high_water() },
    });
    if let Some((limit, high_water)) = shared.room.report() {
        budget["scratch"] = json!({ "limit": limit, "high_water": high_water });
    }
    json!({
        "seconds": seconds,
        "queues": queues,
        "decoders": shared.decoders(),
        "packets_fed": shared.packets_fed.load(Ordering::Relaxed),
        "budget": budget,
    })
}

/// Runs a queue of tasks through all stages.
fn pass(
    shared: &Shared,
    queue: &Queue<'_>,
    backend: &dyn Backend,
    observer: &dyn Observer,
    suspects: &Suspects,
    stream: Option<TarStream<Box<dyn Write + Send + '_>>>,
) {
    let threads = shared.job.threads;
    // Frames of the next batch wait here; the byte budget bounds them, not their number.
    let (work_out, work_in) = bounded::<Box<Work>>(threads.max(backend.pace().items));
    let (made_out, computed) = bounded(threads);
    let detectors = &shared.job.detectors;
    // Without detectors, what is computed goes straight to the encoders.
    let (seen_out, made_in) = match detectors.is_empty() {
        true => (None, computed.clone()),
        false => {
            let (out, seen) = bounded(threads);
            (Some(out), seen)
        }
    };
    let (sample_out, sample_in) = bounded::<Message>(threads * 4);
    let (commit_out, commit_in) = bounded(2);
    // Who works on a suspect works alone.
    let solo = RwLock::new(());
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for i in 0..threads {
            let (work_out, sample_out, solo) = (work_out.clone(), sample_out.clone(), &solo);
            let work = move || {
                shared.decode.thread(|| decode_units(shared, queue, observer, suspects, solo, &work_out, &sample_out))
            };
            start(scope, shared, &mut handles, format!("decode-{i}"), work);
        }
        for i in 0..threads.min(backend.pace().threads) {
            let (work_in, made_out, sample_out) = (work_in.clone(), made_out.clone(), sample_out.clone());
            let work = move || {
                shared.compute.thread(|| feed::feed(shared, backend, &work_in, &made_out, &sample_out));
                Ok(())
            };
            start(scope, shared, &mut handles, format!("compute-{i}"), work);
        }
        let detecting = detectors.iter().map(|d| d.workers(threads)).min().unwrap_or(0);
        for (i, seen_out) in (0..detecting).zip(std::iter::repeat(&seen_out)) {
            let (Some(seen_out), computed, sample_out) = (seen_out.clone(), computed.clone(), sample_out.clone())
            else {
                continue;
            };
            let work = move || shared.detect.thread(|| detect::stage(shared, &computed, &seen_out, &sample_out));
            start(scope, shared, &mut handles, format!("detect-{i}"), work);
        }
        for i in 0..threads {
            let (made_in, sample_out) = (made_in.clone(), sample_out.clone());
            let work = move || {
                shared.encode.thread(|| {
                    while let Some(made) = shared.encode.receive(&made_in) {
                        let Numbered { key, attempt, seq, item, credit } = made;
                        let work = trace::work(|| {
                            (format!("encode {} of unit {}/{}", seq, key.task, key.index), vec![key.task])
                        });
                        let samples = item.into_iter().map(|made| compute::finish(shared.job, made)).collect();
                        drop(work);
                        let message = Message::Sample { key, attempt, seq, samples: Box::new(samples) };
                        if stopping(shared) || shared.encode.send(&sample_out, message).is_err() {
                            break;
                        }
                        drop(credit);
                    }
                });
                Ok(())
            };
            start(scope, shared, &mut handles, format!("encode-{i}"), work);
        }
        let collect = move || {
            shared.sink.thread(|| {
                let mut collector = Collector::new(shared, commit_out, stream);
                while let Some(message) = shared.sink.receive(&sample_in) {
                    if stopping(shared) {
                        break;
                    }
                    let _work = trace::work(|| (message.name(), vec![message.task()]));
                    collector.message(message)?;
                }
                collector.finish(!stopping(shared) && !shared.stop.draining())
            })
        };
        start(scope, shared, &mut handles, "sink".into(), collect);
        let commits = move || {
            shared.commit.thread(|| {
                while let Some(finish) = shared.commit.receive(&commit_in) {
                    if stopping(shared) {
                        break;
                    }
                    let task = finish.task();
                    let _work = trace::work(|| (format!("commit task {task}"), vec![task]));
                    commit(shared, finish)?;
                    shared.room.close(task);
                    shared.committing.fetch_sub(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        start(scope, shared, &mut handles, "commit".into(), commits);
        drop((work_out, work_in, made_out, computed, seen_out, made_in, sample_out));
        join(shared, handles);
    });
}

/// Threads with their names.
type Handles<'scope> = Vec<(String, std::thread::ScopedJoinHandle<'scope, ()>)>;

/// Waits for threads; one that panicked stops the run.
fn join(shared: &Shared, handles: Handles) {
    for (name, handle) in handles {
        if let Err(panic) = handle.join() {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default();
            shared.fail(Error::bug(format!("the thread {name} panicked: {text}; please report this")));
        }
    }
}

/// Starts a named thread; an error of its work stops the run.
fn start<'scope, 'env, 'a>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    shared: &'scope Shared<'a>,
    handles: &mut Handles<'scope>,
    name: String,
    work: impl FnOnce() -> Result<()> + Send + 'scope,
) {
    let thread = name.clone();
    let body = move || {
        if let Some(recorder) = &shared.progress.trace {
            recorder.enter(&thread);
        }
        if let Err(error) = work() {
            shared.fail(error);
        }
    };
    match std::thread::Builder::new().name(name.clone()).spawn_scoped(scope, body) {
        Ok(handle) => handles.push((name, handle)),
        Err(e) => shared.fail(Error::bug(format!("could not start a thread: {e}; lower --threads"))),
    }
}

/// An item with where it belongs.
struct Numbered<T> {
    key: UnitKey,
    attempt: u32,
    seq: u64,
    item: T,
    credit: Arc<Vec<Credit>>,
}

/// One thread of the decode stage.
fn decode_units(
    shared: &Shared,
    queue: &Queue,
    observer: &dyn Observer,
    suspects: &Suspects,
    solo: &RwLock<()>,
    to: &Sender<Box<Work>>,
    ends: &Sender<Message>,
) -> Result<()> {
    let condemned: HashMap<UnitKey, RejectKind> = suspects.condemned.iter().copied().collect();
    while let Some((info, index, early)) = shared.decode.starved(|| queue.next(shared, ends))? {
        let key = UnitKey { task: info.task, index };
        let unit = info.units[index].clone();
        if let Some(kind) = condemned.get(&key) {
            let what = if *kind == RejectKind::Stall { "made no progress" } else { "ended the process" };
            let text = format!(
                "{}: decoding it {what} each time that it was tried; it is left out, look at the file",
                unit.place()
            );
            let outcome = Err(Error::input(*kind, text));
            queue.left.fetch_sub(1, Ordering::Relaxed);
            if shared.decode.send(ends, Message::End { key, attempt: 0, outcome }).is_err() {
                return Ok(());
            }
            continue;
        }
        let (mut alone, mut beside) = (None, None);
        if suspects.alone.contains(&key) {
            alone = Some(shared.decode.starved(|| solo.write().unwrap_or_else(PoisonError::into_inner)));
            shared.decode.starved(|| quiet(shared, ends));
        } else {
            beside = Some(shared.decode.starved(|| solo.read().unwrap_or_else(PoisonError::into_inner)));
        }
        let life = Arc::new(AtomicU64::new(0));
        lock(&shared.progress.flying).insert(key, life.clone());
        observer.began(key);
        // Where fewer units are left than threads, decoders share the rest. One more than cores: a thread that waits for rows
        // of another's picture would leave its core idle.
        let left = queue.left.load(Ordering::Relaxed).max(1);
        let threads = (shared.job.threads as u64 / left.min(shared.job.threads as u64)).max(1) as usize;
        let threads = if threads > 1 { threads + 1 } else { 1 };
        let pulse = || {
            life.fetch_add(1, Ordering::Relaxed);
        };
        let send = |work: Work| {
            let mut work = Box::new(work);
            loop {
                match shared.decode.blocked(|| to.send_timeout(work, Duration::from_millis(100))) {
                    Ok(()) => break,
                    Err(crossbeam_channel::SendTimeoutError::Disconnected(_)) => return false,
                    Err(crossbeam_channel::SendTimeoutError::Timeout(back)) => work = back,
                }
                // Waiting for room is no stall.
                pulse();
                if stopping(shared) {
                    return false;
                }
            }
            shared.progress.frames.fetch_add(1, Ordering::Relaxed);
            true
        };
        let life = life.clone();
        let mut exit = Exit { shared, key, unit, attempt: 0, items: 0, life, pulse: &pulse, send: &send };
        let work = trace::work(|| (format!("decode {}", exit.unit.place()), vec![key.task]));
        let outcome = decode::unit(&mut exit, early, threads);
        drop(work);
        let attempt = exit.attempt;
        lock(&shared.progress.flying).remove(&key);
        observer.ended(key);
        drop((alone.take(), beside.take()));
        queue.left.fetch_sub(1, Ordering::Relaxed);
        let outcome = match outcome {
            Ok(done) => Ok(done),
            Err(Halt::Bad(error)) => Err(error),
            Err(Halt::Stopping) => return Ok(()),
        };
        if shared.decode.send(ends, Message::End { key, attempt, outcome }).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Waits until nothing that was decoded before is on its way any more, so that a process that dies now dies of what is
/// tried alone.
fn quiet(shared: &Shared, ends: &Sender<Message>) {
    let busy = || shared.budget.used() > 0 || !ends.is_empty() || shared.committing.load(Ordering::Relaxed) > 0;
    let mut calm = 0;
    while calm < 3 && !stopping(shared) {
        calm = if busy() { 0 } else { calm + 1 };
        std::thread::sleep(Duration::from_millis(5));
    }
}
