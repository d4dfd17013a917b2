//! What a run has done so far, and how it is told to end early.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::lock;
use super::meter::{StageLook, Stages};
use crate::error::RejectKind;
use crate::trace::{Clock, Recorder, Slice};

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
    pub(super) samples: AtomicU64,
    pub(super) inputs: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) frames: AtomicU64,
    pub(super) tasks: AtomicU64,
    pub(super) samples_committed: AtomicU64,
    pub(super) bytes_read: AtomicU64,
    pub(super) bytes_written: AtomicU64,
    pub(super) fallbacks: AtomicU64,
    pub(super) kinds: Mutex<BTreeMap<RejectKind, u64>>,
    pub(super) stages: Stages,
    pub(super) flying: Mutex<BTreeMap<UnitKey, Arc<AtomicU64>>>,
    pub(super) trace: Option<Recorder>,
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
    pub(super) fn sample(&self) {
        self.samples.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn input(&self, whole: bool, bytes: u64) {
        self.inputs.fetch_add(u64::from(whole), Ordering::Relaxed);
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }
    pub(super) fn reject(&self, kind: RejectKind) {
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
