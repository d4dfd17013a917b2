//! Leases: how any number of workers, arriving and leaving, share what is left of a job (`--tasks any`).
//!
//! Promises: while a worker lives and renews, nobody else takes its tasks; when it is gone they are free, at once if it
//! left in order, else after it has been silent for the time of a lease. Of all who want a task one gets it. Exactly-once
//! does not rest on any of this: the commit alone decides what counts, so a worker that wakes up late, or a clock that
//! jumps, costs work done twice and nothing else.
//!
//! A worker has one object, `workers/NAME.json`, which it alone writes, with a count that grows. It takes a task by
//! creating `leases/TASK-0000.json`, create-only, that names it. Who has seen the worker of attempt k gone, by its object's
//! absence or by its count standing still for the time of a lease on the watcher's own clock, may create attempt k + 1. No
//! clock is compared with another's, and no write but create-only has two writers, so any store will do that commits need.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::store::{Created, Output};
use crate::task::Ledger;

const LEASES: &str = "_framemill/leases";
const WORKERS: &str = "_framemill/workers";
/// Names that a store gives in one answer.
const PAGE: usize = 1000;
/// Names that a listing gives for what two or three tries cost.
const NAMES: usize = 2 * PAGE;
/// Looks in vain of which one also asks for tasks that others hold.
const EACH: u32 = 8;
/// Renewals in the time of a lease.
const RENEWALS: u32 = 3;
/// How soon a worker that waits for others looks again at first, and how soon at last: what others have is mostly done in
/// a moment, or takes long.
const SOON: Duration = Duration::from_millis(500);
const SELDOM: Duration = Duration::from_secs(15);

fn worker_name(worker: &str) -> String {
    format!("{WORKERS}/{worker}.json")
}

fn lease_name(task: u64, attempt: u32) -> String {
    format!("{LEASES}/{task:06}-{attempt:04}.json")
}

/// The task and the attempt that a lease's name tells.
fn parsed(name: &str) -> Option<(u64, u32)> {
    let (task, attempt) = name.strip_suffix(".json")?.split_once('-')?;
    Some((task.parse().ok()?, attempt.parse().ok()?))
}

#[derive(Debug, Serialize, Deserialize)]
struct Lease {
    worker: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Beat {
    count: u64,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// This task, which is now this worker's and was nobody's before.
    Fresh(u64),
    /// This task, which somebody had who is gone; perhaps it was decided.
    Left(u64),
    /// Nothing just now: others have what is left, and may lose it.
    Wait,
    /// Nothing any more.
    Nothing,
}

/// One worker among those that share a job.
#[derive(Debug)]
pub struct Leases {
    ledger: Ledger,
    worker: String,
    term: Duration,
    begun: Instant,
    state: Mutex<State>,
    beats: Mutex<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// All tasks of the job, until their receipts were seen.
    open: BTreeSet<u64>,
    /// Free when last looked, the next one last.
    free: Vec<u64>,
    /// Begun here; not taken again, whatever became of them.
    begun: BTreeMap<u64, u32>,
    /// Who had which attempt; that does not change.
    holders: HashMap<(u64, u32), String>,
    /// What was read of each worker.
    seen: HashMap<String, Seen>,
    /// How often it was looked.
    looks: u64,
    /// Tries that others were faster than, since the last that was not.
    misses: usize,
    /// How often there was nothing to take, since there was something.
    waits: u32,
}

#[derive(Debug)]
struct Seen {
    count: u64,
    /// When this count was first read.
    since: Duration,
    /// When it was read last.
    read: Duration,
}

impl Leases {
    /// Joins those who share the ledger's job, of which the tasks in `open` had no receipts just now. `worker` tells this
    /// one from all others that live, and stays the same where an engine process takes over from another; `term` is how
    /// long one may be silent.
    pub fn join(ledger: &Ledger, worker: &str, term: Duration, open: impl Iterator<Item = u64>) -> Result<Leases> {
        let state = State { open: open.collect(), ..State::default() };
        let leases = Leases {
            ledger: ledger.clone(),
            worker: worker.into(),
            term,
            begun: Instant::now(),
            state: Mutex::new(state),
            beats: Mutex::default(),
        };
        leases.renew()?;
        Ok(leases)
    }

    fn out(&self) -> &Output {
        self.ledger.out()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often [`Leases::renew`] is to be called.
    pub fn pace(&self) -> Duration {
        self.term / RENEWALS
    }

    /// How long to wait before looking again: two fifths of what was waited already, so that what is done is seen soon.
    pub fn patience(&self) -> Duration {
        let waits = self.state().waits.min(30) as i32;
        SOON.mul_f64(1.4f64.powi(waits)).min(SELDOM).min(self.term / 4)
    }

    /// Shows that this worker lives.
    pub fn renew(&self) -> Result<()> {
        let mut count = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        // An engine that takes over must not repeat its predecessor's counts.
        *count = (*count + 1).max(crate::store::moment());
        let text = serde_json::to_vec(&Beat { count: *count }).unwrap_or_default();
        self.out().replace(&worker_name(&self.worker), &text)
    }

    /// Takes a task, if there is one to take.
    pub fn take(&self) -> Result<Take> {
        self.take_at(self.begun.elapsed())
    }

    /// The same with the time since this worker began.
    fn take_at(&self, now: Duration) -> Result<Take> {
        let mut state = self.state();
        let verdict = self.next(&mut state, now)?;
        state.waits = if verdict == Take::Wait { state.waits + 1 } else { 0 };
        Ok(verdict)
    }

    fn next(&self, state: &mut State, now: Duration) -> Result<Take> {
        loop {
            while let Some(task) = state.free.pop() {
                if !state.open.contains(&task) || state.begun.contains_key(&task) {
                    continue;
                }
                if self.lease(state, task, 0)? {
                    state.misses = 0;
                    return Ok(Take::Fresh(task));
                }
                // Others are here, too: what lies next is likely theirs.
                state.misses += 1;
                if state.misses > state.open.len() / NAMES {
                    break;
                }
                // A try elsewhere costs less than listing so much again.
                let elsewhere = self.place(state.looks << 32 | state.misses as u64) % state.free.len().max(1);
                state.free.rotate_left(elsewhere);
            }
            if let Some(verdict) = self.look(state, now)? {
                return Ok(verdict);
            }
        }
    }

    /// Tries to take `task`; false where another was faster, or it is done.
    fn lease(&self, state: &mut State, task: u64, attempt: u32) -> Result<bool> {
        let text = serde_json::to_vec(&Lease { worker: self.worker.clone() }).unwrap_or_default();
        match self.out().create_only(&lease_name(task, attempt), &text)? {
            Created::Written | Created::Same => {}
            Created::Other(_) => return Ok(false),
        }
        // It may have been done since the receipts were listed, and its leases removed.
        if self.ledger.has(task)? {
            state.open.remove(&task);
            self.clear(task, attempt);
            return Ok(false);
        }
        state.begun.insert(task, attempt);
        Ok(true)
    }

    /// Looks what is done and what is taken. Gives a verdict, or has filled the list of free tasks.
    fn look(&self, state: &mut State, now: Duration) -> Result<Option<Take>> {
        let mut taken: HashMap<u64, u32> = HashMap::new();
        for (task, attempt) in self.out().list(LEASES)?.iter().filter_map(|name| parsed(name)) {
            let last = taken.entry(task).or_insert(attempt);
            *last = (*last).max(attempt);
        }
        // Who has done a task removes its lease, save where that fails: so what is held is seldom done.
        let all = state.waits % EACH == EACH - 1;
        if state.looks > 0 {
            self.strike(state, |task| all || !taken.contains_key(&task))?;
        }
        let left = state.open.iter().filter(|task| !state.begun.contains_key(task));
        let (held, free): (Vec<u64>, Vec<u64>) = left.partition(|task| taken.contains_key(task));
        (state.looks, state.misses) = (state.looks + 1, 0);
        if !free.is_empty() {
            // Workers start at places of their own, so that they seldom want the same.
            let start = self.place(state.looks) % free.len();
            state.free = free[start..].iter().chain(&free[..start]).rev().copied().collect();
            return Ok(None);
        }
        if held.is_empty() {
            return Ok(Some(Take::Nothing));
        }
        let present: HashSet<String> = self.out().list(WORKERS)?.into_iter().collect();
        for task in held {
            let attempt = taken[&task];
            let Some(holder) = self.holder(state, task, attempt)? else { continue };
            // An engine of this worker had it and died.
            let gone = holder == self.worker || !self.lives(state, &holder, now, &present)?;
            let next = if holder == self.worker { attempt } else { attempt + 1 };
            if gone && self.lease(state, task, next)? {
                return Ok(Some(Take::Left(task)));
            }
        }
        Ok(Some(Take::Wait))
    }

    /// Strikes out what is done of the open tasks that `asked` names: by a listing of receipts or, where that would cost
    /// more, by asking for each.
    fn strike(&self, state: &mut State, asked: impl Fn(u64) -> bool) -> Result<()> {
        let asked: Vec<u64> = state.open.iter().copied().filter(|task| asked(*task)).collect();
        // There are about as many receipts as the last of these tasks has before it.
        if asked.len() > asked.last().map_or(0, |last| *last as usize / PAGE) {
            let done = self.ledger.done(asked)?;
            state.open.retain(|task| !done.contains(task));
            return Ok(());
        }
        for task in asked {
            if self.ledger.has(task)? {
                state.open.remove(&task);
            }
        }
        Ok(())
    }

    /// A number that differs between workers and between looks.
    fn place(&self, look: u64) -> usize {
        let digest = Sha256::digest(format!("{} {look}", self.worker));
        digest[..8].iter().fold(0, |n: usize, byte| n << 8 | usize::from(*byte))
    }

    /// Who made this attempt; `None` where its lease is gone meanwhile.
    fn holder(&self, state: &mut State, task: u64, attempt: u32) -> Result<Option<String>> {
        if let Some(holder) = state.holders.get(&(task, attempt)) {
            return Ok(Some(holder.clone()));
        }
        let Some(text) = self.out().read(&lease_name(task, attempt))? else { return Ok(None) };
        // What cannot be read has no holder that could renew it.
        let holder = serde_json::from_slice::<Lease>(&text).map(|lease| lease.worker).unwrap_or_default();
        state.holders.insert((task, attempt), holder.clone());
        Ok(Some(holder))
    }

    /// Whether a worker is to be taken for living. Its count is read no more often than it is to grow.
    fn lives(&self, state: &mut State, who: &str, now: Duration, present: &HashSet<String>) -> Result<bool> {
        if !present.contains(&format!("{who}.json")) {
            return Ok(false);
        }
        let silent = |seen: &Seen| now.saturating_sub(seen.since) > self.term;
        let known = state.seen.get(who);
        if known.is_none_or(|seen| now.saturating_sub(seen.read) >= self.pace() || silent(seen)) {
            let Some(text) = self.out().read(&worker_name(who))? else { return Ok(false) };
            let count = serde_json::from_slice::<Beat>(&text).map_or(0, |beat| beat.count);
            let since = known.filter(|seen| seen.count == count).map_or(now, |seen| seen.since);
            state.seen.insert(who.into(), Seen { count, since, read: now });
        }
        Ok(!state.seen.get(who).is_none_or(silent))
    }

    /// A task of this worker has its receipt.
    pub fn done(&self, task: u64) {
        let mut state = self.state();
        state.open.remove(&task);
        if let Some(attempt) = state.begun.get(&task) {
            self.clear(task, *attempt);
        }
    }

    /// Removes the leases of a task that is done. A leftover costs a listing some bytes until the job is finished.
    fn clear(&self, task: u64, last: u32) {
        for attempt in 0..=last {
            if let Err(e) = self.out().remove(&lease_name(task, attempt)) {
                tracing::debug!("{e}");
            }
        }
    }
}

/// Says that `worker` has ended: what it held is free at once.
pub fn leave(out: &Output, worker: &str) -> Result<()> {
    out.remove(&worker_name(worker))?;
    out.remove_folder(WORKERS)
}

/// Removes the leases and workers of a job that is finished.
pub fn sweep(out: &Output) -> Result<()> {
    for folder in [LEASES, WORKERS] {
        for name in out.list(folder)? {
            out.remove(&format!("{folder}/{name}"))?;
        }
        out.remove_folder(folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
