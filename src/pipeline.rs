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
mod progress;
mod queue;
mod room;
#[cfg(feature = "ffmpeg")]
mod scenes;
mod shared;
mod spool;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::backend::{Backend, Log, device};
use crate::error::{Class, Error, RejectKind, Result};
use crate::job::values::TaskShare;
use crate::job::{Fallback, Job};
use crate::lease::Leases;
use crate::plan::Plan;
use crate::sink::webdataset::TarStream;
use crate::store::Output;
use crate::task::rolls::{Roll, SMALL};
use crate::task::{Ledger, Receipt, Reject};
use crate::trace;
pub use alone::{Alone, decode_alone};
pub use budget::{Budget, Credit};
use collect::{Collector, Message, commit};
use decode::{Exit, Halt, Work};
use fallbacks::Fallbacks;
pub use meter::StageLook;
pub use progress::{Progress, Snapshot, Stop, UnitKey};
use queue::Queue;
use shared::{Shared, TaskInfo, stopping};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    outcome.timing = shared.timing(begun.elapsed());
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
