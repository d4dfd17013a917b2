//! How long each stage worked, waited for input and waited for room behind it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, SendError, Sender};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::lock;
use crate::trace::{self, Kind};

thread_local! {
    /// How long this thread has waited since its stage began.
    static WAITED_NS: Cell<u64> = const { Cell::new(0) };
}

/// Nanoseconds since this process first asked.
fn now() -> u64 {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    EPOCH.elapsed().as_nanos() as u64
}

/// Time that threads spend in something, of those that are in it right now as well.
#[derive(Debug, Default)]
struct Clock(Mutex<Spent>);

#[derive(Debug, Default)]
struct Spent {
    over_ns: u64,
    inside: u64,
    /// Sum of the times at which those inside have entered.
    entered_ns: u64,
}

impl Clock {
    /// What `work` gives, and how long it took in nanoseconds.
    fn time<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let entered = now();
        {
            let mut spent = lock(&self.0);
            spent.inside += 1;
            spent.entered_ns += entered;
        }
        let result = work();
        let took = now() - entered;
        let mut spent = lock(&self.0);
        spent.inside -= 1;
        spent.entered_ns -= entered;
        spent.over_ns += took;
        (result, took)
    }

    fn ns(&self, now: u64) -> u64 {
        let spent = lock(&self.0);
        spent.over_ns + (spent.inside * now).saturating_sub(spent.entered_ns)
    }
}

/// One stage; shared by its threads.
#[derive(Debug, Default)]
pub struct Stage {
    threads: AtomicU64,
    alive: Clock,
    /// Of the thread that was busy the longest.
    busiest_ns: AtomicU64,
    starved: Clock,
    blocked: Clock,
    depth: AtomicU64,
    capacity: AtomicU64,
    high_water: AtomicU64,
}

/// One look at a stage while it runs. Seconds are summed over its threads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageLook {
    /// Its name.
    pub stage: String,
    /// Threads that it has had.
    pub threads: u64,
    /// Neither waiting for input nor for room.
    pub busy: f64,
    /// Waiting for input.
    pub starved: f64,
    /// Waiting for room behind it.
    pub blocked: f64,
    /// Items that waited before it when it last took one.
    pub depth: u64,
    /// How many may wait there; 0 where there is no queue.
    pub capacity: u64,
}

/// The stages of a run.
#[derive(Debug, Default)]
pub(super) struct Stages {
    pub decode: Stage,
    pub compute: Stage,
    pub detect: Stage,
    pub encode: Stage,
    pub sink: Stage,
    pub commit: Stage,
}

impl Stages {
    /// With their names, in the order of a frame's way.
    pub fn named(&self) -> [(&'static str, &Stage); 6] {
        [
            ("decode", &self.decode),
            ("compute", &self.compute),
            ("detect", &self.detect),
            ("encode", &self.encode),
            ("sink", &self.sink),
            ("commit", &self.commit),
        ]
    }

    /// A look at those that have begun.
    pub fn look(&self) -> Vec<StageLook> {
        let begun = |(name, stage): (&str, &Stage)| Some(stage.look(name)).filter(|look| look.threads > 0);
        self.named().into_iter().filter_map(begun).collect()
    }
}

impl Stage {
    /// Runs one thread of the stage.
    pub fn thread<T>(&self, work: impl FnOnce() -> T) -> T {
        self.threads.fetch_add(1, Ordering::Relaxed);
        WAITED_NS.set(0);
        let (result, alive) = self.alive.time(work);
        self.busiest_ns.fetch_max(alive.saturating_sub(WAITED_NS.get()), Ordering::Relaxed);
        result
    }

    /// Waits for the next item; `None` when no more come.
    pub fn receive<T>(&self, from: &Receiver<T>) -> Option<T> {
        self.capacity.store(from.capacity().unwrap_or(0) as u64, Ordering::Relaxed);
        self.take(from).or_else(|| self.starved(|| from.recv().ok()))
    }

    /// The next item, if one is there.
    pub fn take<T>(&self, from: &Receiver<T>) -> Option<T> {
        let depth = from.len() as u64;
        self.depth.store(depth, Ordering::Relaxed);
        self.high_water.fetch_max(depth, Ordering::Relaxed);
        from.try_recv().ok()
    }

    /// Hands an item on; an error when the receiver has gone, which means stopping.
    pub fn send<T>(&self, to: &Sender<T>, item: T) -> Result<(), SendError<T>> {
        match to.try_send(item) {
            Ok(()) => Ok(()),
            Err(crossbeam_channel::TrySendError::Disconnected(item)) => Err(SendError(item)),
            Err(crossbeam_channel::TrySendError::Full(item)) => self.blocked(|| to.send(item)),
        }
    }

    /// Counts `wait` as waiting for input.
    pub fn starved<T>(&self, wait: impl FnOnce() -> T) -> T {
        timed(&self.starved, Kind::Starved, wait)
    }

    /// Counts `wait` as waiting for room.
    pub fn blocked<T>(&self, wait: impl FnOnce() -> T) -> T {
        timed(&self.blocked, Kind::Blocked, wait)
    }

    /// Seconds summed over the stage's threads, and how long the busiest of them was busy.
    pub fn report(&self) -> Value {
        let look = self.look("");
        json!({
            "threads": look.threads,
            "busy": look.busy,
            "starved": look.starved,
            "blocked": look.blocked,
            "busiest_thread": seconds(self.busiest_ns.load(Ordering::Relaxed)),
        })
    }

    fn look(&self, name: &str) -> StageLook {
        let now = now();
        let [alive, starved, blocked] = [&self.alive, &self.starved, &self.blocked].map(|clock| clock.ns(now));
        StageLook {
            stage: name.into(),
            threads: self.threads.load(Ordering::Relaxed),
            busy: seconds(alive.saturating_sub(starved + blocked)),
            starved: seconds(starved),
            blocked: seconds(blocked),
            depth: self.depth.load(Ordering::Relaxed),
            capacity: self.capacity.load(Ordering::Relaxed),
        }
    }

    /// Size and highest filling of the queue before the stage.
    pub fn queue(&self) -> Value {
        json!({
            "capacity": self.capacity.load(Ordering::Relaxed),
            "high_water": self.high_water.load(Ordering::Relaxed),
        })
    }
}

fn seconds(ns: u64) -> f64 {
    (ns as f64 / 1e6).round() / 1e3
}

fn timed<T>(clock: &Clock, kind: Kind, wait: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let (result, waited) = clock.time(wait);
    trace::wait(kind, begun, Duration::from_nanos(waited));
    WAITED_NS.set(WAITED_NS.get() + waited);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_while_it_lasts() {
        let stage = Stage::default();
        let (go, wait) = crossbeam_channel::bounded::<()>(1);
        std::thread::scope(|scope| {
            scope.spawn(|| stage.thread(|| stage.receive(&wait)));
            let mut look = stage.look("x");
            while look.starved < 0.05 {
                std::thread::sleep(Duration::from_millis(5));
                look = stage.look("x");
            }
            assert!(look.busy < look.starved, "{look:?}");
            assert_eq!((look.threads, look.capacity, look.depth), (1, 1, 0));
            go.send(()).unwrap();
        });
        let ended = stage.look("x");
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(stage.look("x"), ended, "nobody is inside any more");
    }
}
