//! How long each stage worked, waited for input and waited for room behind it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, SendError, Sender};
use serde_json::{Value, json};

use crate::trace::{self, Kind};

thread_local! {
    /// How long this thread has waited since its stage began.
    static WAITED_NS: Cell<u64> = const { Cell::new(0) };
}

/// One stage; shared by its threads.
#[derive(Debug, Default)]
pub struct Stage {
    threads: AtomicU64,
    alive_ns: AtomicU64,
    /// Of the thread that was busy the longest.
    busiest_ns: AtomicU64,
    starved_ns: AtomicU64,
    blocked_ns: AtomicU64,
    capacity: AtomicU64,
    high_water: AtomicU64,
}

impl Stage {
    /// Runs one thread of the stage.
    pub fn thread<T>(&self, work: impl FnOnce() -> T) -> T {
        self.threads.fetch_add(1, Ordering::Relaxed);
        WAITED_NS.set(0);
        let begun = Instant::now();
        let result = work();
        let alive = begun.elapsed().as_nanos() as u64;
        self.alive_ns.fetch_add(alive, Ordering::Relaxed);
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
        self.high_water.fetch_max(from.len() as u64, Ordering::Relaxed);
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
        timed(&self.starved_ns, Kind::Starved, wait)
    }

    /// Counts `wait` as waiting for room.
    pub fn blocked<T>(&self, wait: impl FnOnce() -> T) -> T {
        timed(&self.blocked_ns, Kind::Blocked, wait)
    }

    /// Seconds summed over the stage's threads, and how long the busiest of them was busy.
    pub fn report(&self) -> Value {
        let seconds = |ns: u64| (ns as f64 / 1e6).round() / 1e3;
        let [alive, starved, blocked, busiest] =
            [&self.alive_ns, &self.starved_ns, &self.blocked_ns, &self.busiest_ns].map(|n| n.load(Ordering::Relaxed));
        json!({
            "threads": self.threads.load(Ordering::Relaxed),
            "busy": seconds(alive.saturating_sub(starved + blocked)),
            "starved": seconds(starved),
            "blocked": seconds(blocked),
            "busiest_thread": seconds(busiest),
        })
    }

    /// Size and highest filling of the queue before the stage.
    pub fn queue(&self) -> Value {
        json!({
            "capacity": self.capacity.load(Ordering::Relaxed),
            "high_water": self.high_water.load(Ordering::Relaxed),
        })
    }
}

fn timed<T>(sum: &AtomicU64, kind: Kind, wait: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = wait();
    let waited = begun.elapsed();
    trace::wait(kind, begun, waited);
    let waited = waited.as_nanos() as u64;
    sum.fetch_add(waited, Ordering::Relaxed);
    WAITED_NS.set(WAITED_NS.get() + waited);
    result
}
