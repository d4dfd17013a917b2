//! The end of the pipeline: samples come in any order and leave in the plan's.
//!
//! Invariants: a unit's samples enter the shard when the unit is whole and all before it are written, since damage may
//! still discard them until then; what waits is bounded in memory, the rest lies in a spool file. A task is decided,
//! published and receipted, in that order, by a thread of its own.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::compute::Rank;
use super::decode::Done;
use super::room::Part;
use super::spool::{Place, Spool};
use super::{Shared, TaskInfo, UnitKey};
use crate::error::{Class, Error, RejectKind, Result};
use crate::sink::webdataset::TarStream;
use crate::sink::{Finished, Format, Sample, ShardWriter};
use crate::store::Object;
use crate::task::{Receipt, Reject, Settled, Shard};

/// What reaches the collector.
pub(super) enum Message {
    /// A task begins; comes before anything of it.
    Open(Arc<TaskInfo>),
    /// What was made of one picture: mostly one sample, none where a detector's rule left it out, several where it cut
    /// crops; or why there is none.
    Sample { key: UnitKey, attempt: u32, seq: u64, samples: Box<Result<Vec<(Rank, Sample)>>> },
    /// A unit has been decoded: so many samples belong to it.
    End { key: UnitKey, attempt: u32, outcome: Result<Done> },
}

impl Message {
    /// The task that it is of.
    pub fn task(&self) -> u64 {
        match self {
            Message::Open(info) => info.task,
            Message::Sample { key, .. } | Message::End { key, .. } => key.task,
        }
    }

    /// What handling it is called in a timeline.
    pub fn name(&self) -> String {
        match self {
            Message::Open(info) => format!("open task {}", info.task),
            Message::Sample { key, .. } => format!("sample of unit {}/{}", key.task, key.index),
            Message::End { key, .. } => format!("end of unit {}/{}", key.task, key.index),
        }
    }
}

enum Entry {
    Memory(Box<Sample>),
    Disk(Place, Vec<usize>),
}

impl Entry {
    fn shape(&self) -> &[usize] {
        match self {
            Entry::Memory(sample) => &sample.shape,
            Entry::Disk(_, shape) => shape,
        }
    }
}

#[derive(Default)]
struct UnitState {
    attempt: u32,
    /// By the picture's number, the whole sample's among its own, and the number of all of its samples.
    entries: BTreeMap<(u64, u32, u32), Entry>,
    /// The score by which each whole sample, with its crops, is kept where only the best are.
    ranks: BTreeMap<(u64, u32), f64>,
    failed: u64,
    /// Pictures that a detector's rule left out.
    left_out: u64,
    received: u64,
    error: Option<Error>,
    end: Option<Result<Done>>,
    skipped: bool,
}

impl UnitState {
    /// Drops all but the `count` whole samples of the highest ranks, of equal ones the earlier; the bytes of memory that are
    /// free for it.
    fn keep_best(&mut self, count: usize) -> u64 {
        let mut freed = 0;
        while self.ranks.len() > count {
            let worst = self.ranks.iter().min_by(|(a, x), (b, y)| x.total_cmp(y).then(b.cmp(a)));
            let Some(key) = worst.map(|(key, _)| *key) else { break };
            self.ranks.remove(&key);
            let parts = self.entries.range((key.0, key.1, 0)..=(key.0, key.1, u32::MAX)).map(|(part, _)| *part);
            for part in parts.collect::<Vec<_>>() {
                if let Some(Entry::Memory(sample)) = self.entries.remove(&part) {
                    freed += sample.data.len() as u64;
                }
            }
            let same_picture = self.ranks.range((key.0, 0)..=(key.0, u32::MAX)).next();
            self.left_out += u64::from(same_picture.is_none());
        }
        freed
    }
}

struct OpenTask {
    info: Arc<TaskInfo>,
    units: Vec<UnitState>,
    next: usize,
    writer: Option<ShardWriter>,
    spool: Option<Spool>,
    shape: Option<Vec<usize>>,
    rejects: Vec<Reject>,
    receipt: Receipt,
    /// Obeying a decision, an input failed that must not.
    open: Option<String>,
}

/// A task whose shard is written, waiting for decision and publication.
pub(super) struct Finish {
    writer: Option<ShardWriter>,
    rejects: Vec<Reject>,
    receipt: Receipt,
}

impl Finish {
    /// The number of its task.
    pub fn task(&self) -> u64 {
        self.receipt.task
    }
}

/// Takes messages until no more come.
pub(super) struct Collector<'a, W: Write> {
    shared: &'a Shared<'a>,
    tasks: BTreeMap<u64, OpenTask>,
    /// Bytes of samples that wait in memory.
    held: u64,
    commit: Sender<Finish>,
    stream: Option<TarStream<W>>,
}

impl<'a, W: Write> Collector<'a, W> {
    pub fn new(shared: &'a Shared<'a>, commit: Sender<Finish>, stream: Option<TarStream<W>>) -> Self {
        Collector { shared, tasks: BTreeMap::new(), held: 0, commit, stream }
    }

    /// Ends the stream, where there is one; tasks that are not whole are thrown away.
    pub fn finish(self, complete: bool) -> Result<()> {
        match self.stream {
            Some(stream) if complete => stream.finish().map(|_| ()),
            _ => Ok(()),
        }
    }

    pub fn message(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Open(info) => self.open(info),
            Message::Sample { key, attempt, seq, samples } => self.samples(key, attempt, seq, *samples),
            Message::End { key, attempt, outcome } => self.end(key, attempt, outcome),
        }
    }

    fn open(&mut self, info: Arc<TaskInfo>) -> Result<()> {
        let shared = self.shared;
        let writer = match &shared.out {
            Some(out) => {
                let split = info.units.first().and_then(|u| info.plan.split(u));
                let columns = &info.plan.header.columns;
                let (format, details) = (shared.job.file.output.format, shared.job.details());
                Some(ShardWriter::begin(out, split, info.task, &shared.worker, format, columns, details)?)
            }
            None => None,
        };
        let mut units: Vec<UnitState> = info.units.iter().map(|_| UnitState::default()).collect();
        let mut rejects = Vec::new();
        for (i, unit) in info.units.iter().enumerate() {
            if let Some(reject) = info.decision.iter().flatten().find(|r| r.is_of(unit)) {
                units[i].skipped = true;
                rejects.push(reject.clone());
            }
        }
        let receipt = Receipt {
            task: info.task,
            generation: info.plan.header.generation,
            fingerprint: info.plan.header.fingerprint.clone(),
            inputs: info.units.iter().filter(|u| u.from.is_none()).count() as u64,
            ..Receipt::default()
        };
        let task = OpenTask {
            units,
            next: 0,
            writer,
            spool: None,
            shape: None,
            rejects,
            receipt,
            open: None,
            info: info.clone(),
        };
        self.tasks.insert(info.task, task);
        self.advance(info.task)
    }

    fn state(&mut self, key: UnitKey) -> Option<&mut UnitState> {
        self.tasks.get_mut(&key.task)?.units.get_mut(key.index)
    }

    /// Forgets what an earlier try gave; false where `attempt` is itself an earlier one.
    fn current(&mut self, key: UnitKey, attempt: u32) -> bool {
        let mut freed = 0;
        let Some(state) = self.state(key) else { return false };
        if attempt > state.attempt {
            state.ranks.clear();
            for entry in std::mem::take(&mut state.entries).into_values() {
                if let Entry::Memory(sample) = entry {
                    freed += sample.data.len() as u64;
                }
            }
            (state.attempt, state.received, state.failed, state.left_out, state.error) = (attempt, 0, 0, 0, None);
        }
        let current = attempt == state.attempt && !matches!(state.end, Some(Err(_)));
        self.held -= freed;
        current
    }

    fn samples(&mut self, key: UnitKey, attempt: u32, seq: u64, samples: Result<Vec<(Rank, Sample)>>) -> Result<()> {
        if !self.current(key, attempt) {
            return Ok(());
        }
        let best = self.shared.job.best();
        let entries = match samples {
            Ok(samples) => {
                let keep = |(rank, sample)| Ok::<_, Error>((rank, self.keep(key, sample)?));
                Ok(samples.into_iter().map(keep).collect::<Result<Vec<_>>>()?)
            }
            Err(e) if e.class == Class::Input => Err(e),
            Err(e) => return Err(e),
        };
        let Some(state) = self.state(key) else { return Ok(()) };
        state.received += 1;
        match entries {
            Ok(entries) => {
                state.left_out += u64::from(entries.is_empty());
                if best.is_some() {
                    state.ranks.extend(entries.iter().map(|(rank, _)| ((seq, rank.whole), rank.score)));
                }
                state.entries.extend((0..).zip(entries).map(|(i, (rank, entry))| ((seq, rank.whole, i), entry)));
                if let Some(count) = best {
                    let freed = state.keep_best(count);
                    self.held -= freed;
                }
            }
            Err(e) => {
                state.failed += 1;
                tracing::debug!("{e}");
                state.error.get_or_insert(e);
            }
        }
        self.advance(key.task)
    }

    /// In memory while there is room, else in the spool.
    fn keep(&mut self, key: UnitKey, sample: Sample) -> Result<Entry> {
        let bytes = sample.data.len() as u64;
        if self.held + bytes <= self.shared.waiting {
            self.held += bytes;
            return Ok(Entry::Memory(Box::new(sample)));
        }
        let folder: PathBuf = self.shared.spool_folder();
        let Some(task) = self.tasks.get_mut(&key.task) else {
            return Err(Error::bug(format!("a sample of task {} came, which is not open", key.task)));
        };
        if task.spool.is_none() {
            task.spool = Some(Spool::create(&folder, &format!("{:06}.spool", key.task))?);
        }
        let shape = sample.shape.clone();
        match task.spool.as_mut() {
            Some(spool) => {
                let shared = self.shared;
                let grow = |bytes| shared.grow(key.task, Part::Spool, bytes);
                Ok(Entry::Disk(spool.put(sample, grow)?, shape))
            }
            None => Err(Error::bug("a spool that was just made is not there")),
        }
    }

    fn end(&mut self, key: UnitKey, attempt: u32, outcome: Result<Done>) -> Result<()> {
        if !self.current(key, attempt) {
            return Ok(());
        }
        if let Err(e) = &outcome
            && e.class != Class::Input
        {
            return Err(e.clone());
        }
        if let Some(state) = self.state(key) {
            state.end = Some(outcome);
        }
        self.advance(key.task)
    }

    /// Writes the units whose turn has come, and hands a whole task on.
    fn advance(&mut self, number: u64) -> Result<()> {
        let shared = self.shared;
        let Some(task) = self.tasks.get_mut(&number) else { return Ok(()) };
        while task.next < task.units.len() {
            let state = &mut task.units[task.next];
            let variants = u64::from(shared.job.file.variants);
            let whole = match &state.end {
                _ if state.skipped => true,
                Some(Ok(done)) => state.received == done.items * variants,
                Some(Err(_)) => true,
                None => false,
            };
            if !whole {
                return Ok(());
            }
            let state = std::mem::take(state);
            let unit = task.info.units[task.next].clone();
            task.next += 1;
            self.held -= state
                .entries
                .values()
                .map(|e| if let Entry::Memory(s) = e { s.data.len() as u64 } else { 0 })
                .sum::<u64>();
            if state.skipped {
                continue;
            }
            let error = match (state.end, state.error) {
                (Some(Ok(done)), None) => Ok(done),
                // Something of it was good: that stays.
                (Some(Ok(mut done)), Some(e)) if !state.entries.is_empty() => {
                    tracing::warn!("{} samples could not be made, the first of them: {e}", state.failed);
                    done.warning.get_or_insert(e.message);
                    Ok(done)
                }
                (Some(Ok(_)), Some(e)) | (Some(Err(e)), _) => Err(e),
                (None, _) => Err(Error::bug("a unit was written before its end")),
            };
            let fits = || {
                let first = task.shape.as_deref().or_else(|| state.entries.values().next().map(Entry::shape));
                state.entries.values().all(|e| Some(e.shape()) == first)
            };
            let error = match error {
                Ok(_) if shared.job.file.output.format == Format::Tensors && !fits() => Err(Error::input(
                    RejectKind::Op,
                    format!(
                        "{}: its samples have another shape than those before it in the shard, and the tensors format \
                         needs one: add a resize, crop or letterbox that gives every picture the same size",
                        unit.place()
                    ),
                )),
                other => other,
            };
            match error {
                Ok(done) => {
                    let mut frames = done.frames;
                    let failed = state.failed / variants;
                    frames.failed += failed;
                    let left_out = state.left_out / variants;
                    frames.skipped_by_rule += left_out;
                    frames.sampled = frames.sampled.saturating_sub(failed + left_out);
                    task.receipt.frames += frames;
                    if let Some(writer) = &mut task.writer {
                        writer.scenes(done.scenes);
                    }
                    task.receipt.bytes_read += done.bytes;
                    shared.progress.input(unit.to.is_none(), done.bytes);
                    task.receipt.warnings += u64::from(done.warning.is_some());
                    // Of a video that was cut, a part without samples is nothing to tell.
                    if state.entries.is_empty() && unit.from.is_none() && unit.to.is_none() {
                        match frames.incomplete_clips {
                            0 => tracing::warn!(
                                uri = unit.name(),
                                "no frame of it answers the rules, so it gives no sample"
                            ),
                            n => tracing::warn!(
                                uri = unit.name(),
                                "{n} clips begin in it, and it ends before any of them does"
                            ),
                        }
                        task.receipt.without_samples += 1;
                    }
                    if let Some(writer) = &mut task.writer {
                        // As if each of the units that are left gave as many: so it is for photos, and for the last one.
                        let left = task.units.len() - task.next + 1;
                        writer.expect(task.receipt.samples as usize + left * state.entries.len());
                    }
                    for entry in state.entries.into_values() {
                        let sample = match (entry, &task.spool) {
                            (Entry::Memory(sample), _) => *sample,
                            (Entry::Disk(place, _), Some(spool)) => {
                                spool.get(place, shared.job.encoding.ext(), &unit.cells)?
                            }
                            (Entry::Disk(..), None) => return Err(Error::bug("a spool is gone")),
                        };
                        task.shape.get_or_insert_with(|| sample.shape.clone());
                        task.receipt.samples += 1;
                        shared.progress.sample();
                        match (&mut task.writer, &mut self.stream) {
                            (Some(writer), _) => {
                                if shared.room.counts(Part::Shard) {
                                    shared.grow(number, Part::Shard, sample.at_most()?)?;
                                }
                                writer.write(sample)?;
                            }
                            (None, Some(stream)) => {
                                let mut sample = sample;
                                stream.write(&mut sample)?;
                            }
                            (None, None) => return Err(Error::bug("a task has no sink")),
                        }
                    }
                }
                Err(e) if e.class != Class::Input => return Err(e),
                Err(e) if task.info.decision.is_some() => {
                    task.open.get_or_insert(format!(
                        "task {number} was decided before with {} in it, but now it fails: {e}",
                        unit.place()
                    ));
                }
                Err(e) => {
                    tracing::warn!("rejected: {e}");
                    shared.progress.reject(e.reject.unwrap_or(RejectKind::Corrupt));
                    task.rejects.push(Reject::new(&unit, &e));
                }
            }
        }
        let Some(task) = self.tasks.remove(&number) else { return Ok(()) };
        if let Some(why) = task.open {
            tracing::error!("{why}");
            shared.left_open(why);
            drop((task.writer, task.spool));
            shared.room.close(number);
            return Ok(());
        }
        let mut receipt = task.receipt;
        receipt.rejected = task.rejects.len() as u64;
        let mut rejects = task.rejects;
        // In the plan's order, also where some were decided before.
        let place = |r: &Reject| task.info.units.iter().position(|u| r.is_of(u));
        rejects.sort_by_key(place);
        drop(task.spool);
        shared.room.leave(number);
        let finish = Finish { writer: task.writer, rejects, receipt };
        shared.committing.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Failing to hand it on means stopping.
        let _ = shared.sink.send(&self.commit, finish);
        Ok(())
    }
}

/// Decides, publishes and receipts one task.
pub(super) fn commit(shared: &Shared, finish: Finish) -> Result<()> {
    let Finish { writer, rejects, mut receipt } = finish;
    let (Some(ledger), Some(writer)) = (&shared.ledger, writer) else {
        // A stream has no ledger: what was rejected is told at the end.
        shared.streamed(receipt, rejects);
        return Ok(());
    };
    match ledger.settle(Written(writer.finish()?), &rejects, &mut receipt)? {
        Settled::Otherwise => {
            tracing::info!(task = receipt.task, "another worker decided otherwise; the task is done again as it says");
            shared.again(receipt.task);
            return Ok(());
        }
        Settled::Before => {}
        Settled::Now => shared.committed(&receipt)?,
    }
    shared.leased(receipt.task);
    Ok(())
}

/// A shard that ends its process where a machine may vanish, if a test says so.
struct Written(Finished);

impl Shard for Written {
    fn objects(&self) -> &[Object] {
        &self.0.objects
    }
    fn publish(self) -> Result<()> {
        test_hook("FRAMEMILL_TEST_STOP_BEFORE_PUBLISH");
        self.0.publish()?;
        test_hook("FRAMEMILL_TEST_STOP_BEFORE_RECEIPT");
        Ok(())
    }
    fn abort(self) -> Result<()> {
        self.0.abort()
    }
}

/// Ends the process at a place where a machine may vanish, for tests.
fn test_hook(name: &str) {
    if std::env::var_os(name).is_some() {
        std::process::abort();
    }
}
