//! The supervisor: runs one engine process, and another when that dies or stands still, so that no input can stop a job.
//!
//! Promises: an engine that a signal kills, or that makes no progress, costs only what was in flight. Units that were in
//! a decoder when it died are tried alone; one that ends its engine twice is condemned and becomes a dead letter. SIGKILL
//! comes from outside, mostly for want of memory, which an input may cause, but an operator's hand too: only the fifth
//! condemns. An engine whose supervisor is gone stops at once, since their connection breaks.
//!
//! Progress is judged in the engine's CPU time: a machine that was suspended, or a starved one, is no stall. A unit that
//! uses no CPU time at all is given four times as long by the clock, counted only while the supervisor itself
//! runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, RejectKind, Result};
use crate::job::values::TaskShare;
use crate::job::{Job, JobFile};
use crate::lease;
use crate::notice::Notice;
use crate::pipeline::{self, Observer, Outcome, Progress, Snapshot, Stop, Suspects, Target, UnitKey};
use crate::plan::Plan;
use crate::store;
use crate::trace::{Clock, Slice, Traces};

/// Clock time over CPU time that a unit without CPU time is given.
const PATIENCE: u32 = 4;
/// How often the supervisor looks.
const TICK: Duration = Duration::from_millis(100);
/// How long an engine that was told to abort may take.
const ABORT: Duration = Duration::from_secs(5);
/// Engines that may die with no unit in flight before that is called a bug.
const CAUSELESS: u32 = 3;
/// Engines that a unit may end.
const STRIKES: u32 = 2;
/// Engines that may be killed from outside, in either case.
const KILLS: u32 = 5;

/// What an engine is told first.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    job: Value,
    worker: String,
    suspects: Suspects,
    /// The clock by which its threads are to be followed, where they are to be.
    traced: Option<Clock>,
}

/// What an engine says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    Began(UnitKey),
    Ended(UnitKey),
    Look(Snapshot),
    /// What its threads did since the last look, and how many slices were dropped.
    Trace(Vec<Slice>, u64),
    End(std::result::Result<Finished, Error>),
}

/// How an engine ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Finished {
    /// What the pipeline says.
    pub outcome: Outcome,
    /// It was told to stop.
    pub interrupted: bool,
    /// Its largest resident size in bytes.
    pub peak_memory: u64,
    /// Tasks that it and those before it committed, and their samples; of one that died, as far as it had told.
    pub committed: (u64, u64),
}

/// What the caller of [`run`] hears.
pub enum News<'a> {
    /// How far it is.
    Progress(&'a Snapshot),
    /// An engine died and another takes over.
    Restart(&'a str),
}

/// The requests to stop that reach a run. The first lets it finish what fits in the grace period, a second signal ends
/// it at once. A cloud's notice counts as a first one: the signals that follow it as the machine goes down are no second.
#[derive(Debug, Default)]
pub struct Requests {
    signals: AtomicUsize,
    first: OnceLock<String>,
}

impl Requests {
    /// A signal came, of this name.
    pub fn signal(&self, name: &str) {
        self.first.get_or_init(|| name.to_string());
        self.signals.fetch_add(1, Ordering::Relaxed);
    }
    /// A cloud will take the machine away.
    pub fn notice(&self, notice: &Notice) {
        self.first.get_or_init(|| notice.to_string());
    }
    /// Who was the first to ask.
    pub fn by(&self) -> Option<&str> {
        self.first.get().map(String::as_str)
    }
    /// A second signal came: nothing is to be finished any more.
    pub fn urgent(&self) -> bool {
        self.signals.load(Ordering::Relaxed) > 1
    }
}

/// Runs `job`, whose plan lies in its output, in engine processes. `engine` starts one (this program with its hidden command);
/// `requests` are those to stop.
///
/// # Errors
/// The engine's first error; a bug where engines die for no reason.
pub fn run(
    job: &Job,
    engine: &dyn Fn() -> Command,
    requests: &Requests,
    traces: &mut Traces,
    news: &mut dyn FnMut(News),
) -> Result<Finished> {
    let mut suspects = Suspects::default();
    let mut strikes: HashMap<(UnitKey, bool), u32> = HashMap::new();
    let (mut causeless, mut peak, mut committed) = ([0, 0], 0, (0, 0));
    // Process ids repeat, in containers as a rule.
    let worker = format!("{}-{:x}", store::worker(), store::moment());
    let _leave = Leave { job, worker: &worker };
    loop {
        let order = Order {
            worker: worker.clone(),
            job: serde_json::to_value(&job.file).map_err(|e| Error::bug(format!("the job: {e}")))?,
            suspects: suspects.clone(),
            traced: traces.wanted(),
        };
        let mut watch = Watch::start(job, engine(), &order)?;
        traces.engine();
        let verdict = watch.follow(requests, traces, news)?;
        committed = (committed.0 + watch.committed.0, committed.1 + watch.committed.1);
        match verdict {
            Verdict::End(end) => {
                return (*end).map(|f| Finished { peak_memory: f.peak_memory.max(peak), committed, ..f });
            }
            Verdict::Stopped => {
                let peak_memory = peak.max(watch.peak);
                return Ok(Finished { interrupted: true, peak_memory, committed, ..Finished::default() });
            }
            Verdict::Died { how, culprits, kind, from_outside } => {
                peak = peak.max(watch.peak);
                let units = culprits.iter().map(|key| format!(" {}/{}", key.task, key.index));
                traces.mark(&format!("the engine {how}; in decoders:{}", units.collect::<String>()));
                news(News::Restart(&format!("the engine process {how}; another takes over")));
                if culprits.is_empty() {
                    let count = &mut causeless[usize::from(from_outside)];
                    *count += 1;
                    match (from_outside, *count) {
                        (false, CAUSELESS) => {
                            return Err(Error::bug(format!(
                                "the engine process {how}, {CAUSELESS} times with no input in a decoder; please report this"
                            )));
                        }
                        (true, KILLS) => {
                            return Err(Error::interrupted(format!(
                                "the engine process {how}, {KILLS} times with no input in a decoder: something on this \
                                 machine kills it, mostly for want of memory; lower --memory or --threads, or give it \
                                 more, and run the same command again, finished tasks are kept"
                            )));
                        }
                        _ => {}
                    }
                }
                if let [one] = culprits[..] {
                    // A crash while others worked may be another's; a stall is always the unit's own.
                    let own = kind == RejectKind::Stall || suspects.alone.contains(&one);
                    let count = strikes.entry((one, from_outside)).or_insert(0);
                    *count += 1;
                    if own && *count >= if from_outside { KILLS } else { STRIKES } {
                        suspects.condemned.push((one, kind));
                    }
                }
                suspects.alone.extend(culprits);
            }
        }
    }
}

/// However it ends: what this worker held is free for others.
struct Leave<'a> {
    job: &'a Job,
    worker: &'a str,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.job.file.tasks != TaskShare::Any {
            return;
        }
        // Others wait for the time of a lease where this does not get through.
        if let Err(e) = self.job.output().and_then(|out| lease::leave(&out, self.worker)) {
            tracing::warn!("{e}");
        }
    }
}

enum Verdict {
    End(Box<Result<Finished>>),
    Stopped,
    Died { how: String, culprits: Vec<UnitKey>, kind: RejectKind, from_outside: bool },
}

/// One engine process.
struct Watch {
    child: Child,
    link: UnixStream,
    events: mpsc::Receiver<Event>,
    stall: Duration,
    grace: Duration,
    flying: BTreeSet<UnitKey>,
    /// When each unit last showed life: its number, CPU time then, ticks since.
    lives: BTreeMap<UnitKey, (u64, Duration, u32)>,
    peak: u64,
    /// Tasks committed, and their samples, when it was last heard.
    committed: (u64, u64),
}

impl Drop for Watch {
    fn drop(&mut self) {
        // No engine outlives its watch; both fail only where it has gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watch {
    fn start(job: &Job, mut command: Command, order: &Order) -> Result<Watch> {
        let failed = |e: std::io::Error| Error::bug(format!("could not start the engine process: {e}"));
        let (link, theirs) = UnixStream::pair().map_err(failed)?;
        // Ctrl-C on a terminal reaches only the supervisor, which tells the engine.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        let child = command.spawn().map_err(failed)?;
        drop(command);
        let (send, events) = mpsc::channel();
        let reader = BufReader::new(link.try_clone().map_err(failed)?);
        std::thread::spawn(move || {
            for line in reader.lines() {
                let Ok(line) = line else { break };
                match serde_json::from_str(&line) {
                    Ok(event) => {
                        if send.send(event).is_err() {
                            break;
                        }
                    }
                    Err(e) => tracing::debug!("the engine said {line}: {e}"),
                }
            }
        });
        let duration = |r: crate::sample::Rational| Duration::from_secs_f64(r.as_f64().clamp(0.0, 1e9));
        let mut watch = Watch {
            child,
            link,
            events,
            stall: duration(job.file.stall_timeout),
            grace: duration(job.file.grace),
            flying: BTreeSet::new(),
            lives: BTreeMap::new(),
            peak: 0,
            committed: (0, 0),
        };
        let text = serde_json::to_string(order).map_err(|e| Error::bug(format!("the order: {e}")))?;
        watch.tell(&text);
        Ok(watch)
    }

    /// An engine that does not listen any more is found dead soon.
    fn tell(&mut self, text: &str) {
        if let Err(e) = writeln!(self.link, "{text}") {
            tracing::debug!("the engine does not listen: {e}");
        }
    }

    fn follow(&mut self, requests: &Requests, traces: &mut Traces, news: &mut dyn FnMut(News)) -> Result<Verdict> {
        let (mut drained, mut aborted) = (None, None);
        let mut end = None;
        loop {
            match self.events.recv_timeout(TICK) {
                Ok(Event::Began(key)) => {
                    self.flying.insert(key);
                }
                Ok(Event::Ended(key)) => {
                    self.flying.remove(&key);
                    self.lives.remove(&key);
                }
                Ok(Event::Look(snapshot)) => {
                    news(News::Progress(&snapshot));
                    self.see(&snapshot);
                }
                Ok(Event::Trace(slices, dropped)) => {
                    traces.add(&slices, dropped);
                }
                Ok(Event::End(result)) => end = Some(result),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().map_err(|e| Error::bug(format!("the engine process: {e}")))?;
                    if let Some(end) = end {
                        return Ok(Verdict::End(Box::new(end)));
                    }
                    if drained.is_some() {
                        return Ok(Verdict::Stopped);
                    }
                    let how = match status.signal() {
                        Some(signal) => format!("was killed by signal {signal}"),
                        None => format!("ended with {status}"),
                    };
                    let culprits = self.flying.iter().copied().collect();
                    let from_outside = status.signal() == Some(rustix::process::Signal::KILL.as_raw());
                    return Ok(Verdict::Died { how, culprits, kind: RejectKind::Crash, from_outside });
                }
            }
            if requests.by().is_some() && drained.is_none() {
                drained = Some(Instant::now());
                self.tell("drain");
            }
            let late = drained.is_some_and(|since: Instant| since.elapsed() > self.grace);
            if (requests.urgent() || late) && aborted.is_none() {
                aborted = Some(Instant::now());
                self.tell("abort");
            }
            if aborted.is_some_and(|since: Instant| since.elapsed() > ABORT) {
                return Ok(Verdict::Stopped);
            }
            if let Some(key) = self.stalled() {
                let how = format!("made no progress for {} s of CPU time", self.stall.as_secs_f64());
                let (culprits, kind) = (vec![key], RejectKind::Stall);
                return Ok(Verdict::Died { how, culprits, kind, from_outside: false });
            }
        }
    }

    /// Notes which units have shown life.
    fn see(&mut self, snapshot: &Snapshot) {
        let (cpu, resident) = process(self.child.id());
        self.peak = self.peak.max(resident);
        self.committed = (snapshot.tasks, snapshot.samples_committed);
        for (key, life) in &snapshot.flying {
            match self.lives.get_mut(key) {
                Some((seen, _, ticks)) if seen == life => *ticks += 1,
                _ => {
                    self.lives.insert(*key, (*life, cpu, 0));
                }
            }
        }
    }

    /// A unit that shows no life for longer than is allowed.
    fn stalled(&self) -> Option<UnitKey> {
        if self.lives.is_empty() {
            return None;
        }
        let (cpu, _) = process(self.child.id());
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        self.lives.iter().find_map(|(key, (_, since, ticks))| {
            // Others may use CPU time as well: a unit has had its share at most.
            let used = cpu.saturating_sub(*since) / threads.min(self.lives.len().max(1) as u32);
            (used > self.stall || TICK * *ticks > self.stall * PATIENCE).then_some(*key)
        })
    }
}

/// CPU time that a process has used, and its resident size in bytes; zeros where that cannot be told.
fn process(pid: u32) -> (Duration, u64) {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return Default::default() };
    // Fields are counted behind the name, which may hold blanks: utime and stime in ticks, resident size in pages.
    let fields: Vec<u64> = stat.rsplit(')').next().unwrap_or("").split(' ').map(|f| f.parse().unwrap_or(0)).collect();
    let field = |i: usize| fields.get(i).copied().unwrap_or(0);
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let cpu = Duration::from_millis((field(12) + field(13)) * 1000 / ticks);
    (cpu, field(22) * rustix::param::page_size() as u64)
}

/// The largest resident size of this process in bytes.
pub fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// The largest resident size of this process and its engine together, whose own was `engine`: this one plans before the
/// engine runs, and waits beside it.
pub fn peak_with(engine: u64) -> u64 {
    let (_, resident) = process(std::process::id());
    peak_memory().max(engine + resident)
}

/// The engine's side: what `framemill`'s hidden command does. Speaks with its supervisor over `link`; `vanished` is
/// called when that is gone, and must end the process.
pub fn engine(link: UnixStream, vanished: impl Fn() + Send + 'static) -> Result<()> {
    let broken = |e: &dyn std::fmt::Display| Error::bug(format!("the engine's connection: {e}"));
    let mut lines = BufReader::new(link.try_clone().map_err(|e| broken(&e))?).lines();
    let first = lines.next().ok_or_else(|| Error::bug("the engine got no order"))?.map_err(|e| broken(&e))?;
    let order: Order = serde_json::from_str(&first).map_err(|e| broken(&e))?;
    let stop = Arc::new(Stop::default());
    let heard = stop.clone();
    std::thread::spawn(move || {
        for line in lines.map_while(std::result::Result::ok) {
            match line.as_str() {
                "drain" => heard.drain(),
                "abort" => heard.abort(),
                other => tracing::debug!("the supervisor said {other}"),
            }
        }
        vanished();
    });
    let voice = Voice(Mutex::new(link));
    let progress = Progress::traced(order.traced);
    let (over, ended) = mpsc::channel::<()>();
    let result = std::thread::scope(|scope| {
        let (voice, progress) = (&voice, &progress);
        scope.spawn(move || {
            while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                voice.say(&Event::Look(progress.look()));
                voice.trace(progress);
            }
        });
        let result = work(order, &stop, progress, voice);
        drop(over);
        result
    });
    voice.say(&Event::Look(progress.look()));
    voice.trace(&progress);
    voice.say(&Event::End(result));
    Ok(())
}

fn work(order: Order, stop: &Stop, progress: &Progress, voice: &Voice) -> Result<Finished> {
    let job = Job::resolve(JobFile::from_tables(order.job)?)?;
    let root = job.file.input.mounted();
    let out = job.output()?;
    let plans = Plan::load_all(&out)?.into_iter().map(|plan| plan.mounted(root).map(Arc::new));
    let plans: Vec<Arc<Plan>> = plans.collect::<Result<_>>()?;
    if let Some(first) = plans.first() {
        // Files that the job names were read again just now: they must be those that were planned.
        first.check(&job, &out)?;
    }
    let wanted = |task| job.file.tasks.has(task);
    let target = Target::Output(&out, &order.worker);
    let outcome = pipeline::run(&job, &plans, &wanted, target, stop, progress, voice, &order.suspects)?;
    let interrupted = stop.draining();
    Ok(Finished { outcome, interrupted, peak_memory: peak_memory(), ..Finished::default() })
}

/// The engine's way to its supervisor.
struct Voice(Mutex<UnixStream>);

impl Voice {
    /// A supervisor that is gone is noticed where it is listened to.
    fn say(&self, event: &Event) {
        let Ok(mut text) = serde_json::to_string(event) else { return };
        text.push('\n');
        let mut link = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = link.write_all(text.as_bytes()) {
            tracing::debug!("the supervisor does not listen: {e}");
        }
    }
}

impl Voice {
    /// Hands on what threads did, where that is recorded.
    fn trace(&self, progress: &Progress) {
        let (slices, dropped) = progress.slices();
        if !slices.is_empty() || dropped > 0 {
            self.say(&Event::Trace(slices, dropped));
        }
    }
}

impl Observer for Voice {
    fn began(&self, key: UnitKey) {
        self.say(&Event::Began(key));
    }
    fn ended(&self, key: UnitKey) {
        self.say(&Event::Ended(key));
    }
}
