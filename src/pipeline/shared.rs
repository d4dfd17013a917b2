//! What all stages share: the job, where it goes, budgets, the first error, and what was counted.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::budget::Budget;
use super::decoders::Decoders;
use super::fallbacks::Fallbacks;
use super::lock;
use super::meter::Stage;
use super::progress::{Progress, Stop};
use super::room::{self, Room};
use crate::backend::cpu::Cpu;
use crate::decode::hardware;
use crate::decode::route::Demand;
use crate::error::{Error, Result};
use crate::input::Sources;
use crate::job::{Fallback, Job, Mix};
use crate::lease::Leases;
use crate::plan::{Plan, Unit};
use crate::store::{self, Output};
use crate::task::rolls::Roll;
use crate::task::{Ledger, Receipt, Reject};

/// A task on its way.
pub(super) struct TaskInfo {
    pub(super) task: u64,
    pub(super) plan: Arc<Plan>,
    pub(super) units: Vec<Arc<Unit>>,
    pub(super) decision: Option<Vec<Reject>>,
}

/// Kinds of video among which hardware's sessions are kept, where there are fewer threads.
#[cfg(feature = "ffmpeg")]
const KINDS: usize = 4;

/// What all stages share.
pub(super) struct Shared<'a> {
    pub(super) job: &'a Job,
    pub(super) stop: &'a Stop,
    pub(super) progress: &'a Progress,
    pub(super) ledger: Option<Ledger>,
    /// Where workers share what is left.
    pub(super) leases: Option<Leases>,
    /// Copies of this worker's receipts, where there are many.
    pub(super) roll: Option<Roll>,
    pub(super) out: Option<Output>,
    /// Where sources are kept.
    pub(super) raw: Option<Output>,
    pub(super) worker: String,
    /// Names of the list's own columns.
    pub(super) columns: Vec<String>,
    pub(super) budget: Budget,
    pub(super) references: Budget,
    pub(super) waiting: u64,
    pub(super) room: Room,
    /// Packets given to decoders, with those whose frames were not waited for.
    pub(super) packets_fed: AtomicU64,
    /// Tasks between the collector and their receipts.
    pub(super) committing: AtomicU64,
    pub(super) failed: AtomicBool,
    pub(super) first_error: Mutex<Option<Error>>,
    pub(super) left: Mutex<Vec<String>>,
    pub(super) again: Mutex<Vec<u64>>,
    pub(super) streamed: Mutex<Vec<(Receipt, Vec<Reject>)>>,
    pub(super) fallbacks: Fallbacks<'a>,
    /// What decodes: what the job demands, where it is there.
    #[cfg_attr(not(feature = "ffmpeg"), expect(dead_code, reason = "without FFmpeg there are no videos"))]
    pub(super) decoder: Demand,
    /// Opens inputs, wherever they lie.
    pub(super) sources: Sources,
    /// The device reads frames where a decoder left them on it.
    pub(super) surfaces: bool,
    pub(super) decoders: Decoders,
    /// Lays transparent frames over the background, the same whatever device the others go to.
    pub(super) cpu: Cpu,
    /// Hardware's, kept between files.
    #[cfg(feature = "ffmpeg")]
    pub(super) sessions: Arc<crate::decode::video::Sessions>,
    pub(super) decode: &'a Stage,
    pub(super) compute: &'a Stage,
    pub(super) detect: &'a Stage,
    pub(super) encode: &'a Stage,
    pub(super) sink: &'a Stage,
    pub(super) commit: &'a Stage,
}

impl<'a> Shared<'a> {
    /// What the stages of a run of `plans` into `out` share. With `surfaces` the device reads what decoders leave on it.
    ///
    /// # Errors
    /// Unavailable, where the demanded decoder is not there and falling back forbidden.
    pub(super) fn new(
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
    pub(super) fn decoders(&self) -> Value {
        #[cfg(feature = "ffmpeg")]
        let sessions = self.sessions.told();
        #[cfg(not(feature = "ffmpeg"))]
        let sessions = (0, 0);
        self.decoders.report(sessions)
    }
}

impl Shared<'_> {
    /// Keeps the first error and stops everything.
    pub(super) fn fail(&self, error: Error) {
        lock(&self.first_error).get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }
    /// The error that stopped everything, if one did.
    pub(super) fn first_error(&self) -> Result<()> {
        lock(&self.first_error).take().map_or(Ok(()), Err)
    }
    pub(super) fn left_open(&self, why: String) {
        lock(&self.left).push(why);
    }
    pub(super) fn again(&self, task: u64) {
        lock(&self.again).push(task);
    }
    pub(super) fn streamed(&self, receipt: Receipt, rejects: Vec<Reject>) {
        lock(&self.streamed).push((receipt, rejects));
    }
    /// A task has its receipt: nobody needs its lease.
    pub(super) fn leased(&self, task: u64) {
        if let Some(leases) = &self.leases {
            leases.done(task);
        }
    }
    /// A task has its receipt, by this worker.
    pub(super) fn committed(&self, receipt: &Receipt) -> Result<()> {
        let bytes = receipt.objects.iter().map(|object| object.bytes).sum();
        self.progress.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        self.progress.samples_committed.fetch_add(receipt.samples, Ordering::Relaxed);
        self.progress.tasks.fetch_add(1, Ordering::Relaxed);
        self.roll.as_ref().map_or(Ok(()), |roll| roll.add(receipt))
    }
    /// Where temporaries are made.
    pub(super) fn scratch(&self) -> PathBuf {
        self.out.as_ref().map_or_else(std::env::temp_dir, |out| out.scratch().to_path_buf())
    }
    /// Asks for room on disk; see [`Room::grow`].
    pub(super) fn grow(&self, task: u64, part: room::Part, bytes: u64) -> Result<()> {
        self.room.grow(task, part, bytes, &self.scratch(), || !stopping(self))
    }
    pub(super) fn spool_folder(&self) -> PathBuf {
        match &self.out {
            Some(out) => out.scratch().join(format!("{}-spool", self.worker)),
            None => std::env::temp_dir().join(format!("framemill-{}", self.worker)),
        }
    }

    /// Stages, queues and budgets, as the report has them.
    pub(super) fn timing(&self, wall: Duration) -> Value {
        let mut seconds = serde_json::Map::new();
        seconds.insert("wall".into(), json!((wall.as_secs_f64() * 1e3).round() / 1e3));
        let mut queues = serde_json::Map::new();
        let stages = self
            .progress
            .stages
            .named()
            .into_iter()
            .filter(|(name, _)| *name != "detect" || !self.job.detectors.is_empty());
        for (name, stage) in stages {
            seconds.insert(name.into(), stage.report());
            if name != "decode" {
                queues.insert(name.into(), stage.queue());
            }
        }
        let mut budget = json!({
            "frames": { "limit": self.budget.limit(), "high_water": self.budget.high_water() },
            "references": { "limit": self.references.limit(), "high_water": self.references.high_water() },
        });
        if let Some((limit, high_water)) = self.room.report() {
            budget["scratch"] = json!({ "limit": limit, "high_water": high_water });
        }
        json!({
            "seconds": seconds,
            "queues": queues,
            "decoders": self.decoders(),
            "packets_fed": self.packets_fed.load(Ordering::Relaxed),
            "budget": budget,
        })
    }
}

/// True when nothing more is to be done.
pub(super) fn stopping(shared: &Shared) -> bool {
    shared.stop.aborting() || shared.failed.load(Ordering::Relaxed)
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
