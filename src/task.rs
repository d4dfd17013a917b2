//! The commit protocol: what a task contains is decided before anything of it is visible, and a receipt comes last.
//!
//! Promises: a task with a receipt is done and never touched again; whoever finds a decision (a `rejects` file, empty
//! when all is well) obeys it, so that a shard's bytes are a function of plan and decision; two workers on one task end
//! with one shard and one receipt.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::decode::losses::Losses;
use crate::error::{Error, RejectKind, Result};
use crate::plan::{Plan, Unit};
use crate::store::{self, Created, Object, Output};

/// What became of the frames of a unit, a task, or a job. The same on every machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    /// Packets that were read to be decoded; a still is one. What a decoder only held when it was left is not among them.
    pub packets: u64,
    /// Frames decoded, each counted once; a still is one.
    pub decoded: u64,
    /// Frames of lead-ins after seeks, and of second decodes.
    pub redecoded: u64,
    /// Frames that became samples (of clips the first one).
    pub sampled: u64,
    /// Frames that no rule asked for.
    pub skipped_by_rule: u64,
    /// Frames decoded from damaged data.
    pub corrupt: u64,
    /// Frames that were chosen but could not be made into samples.
    pub failed: u64,
    /// Frames whose time the container did not give.
    pub guessed_pts: u64,
    /// Frames that were deinterlaced, also those that only waited whether they would be chosen.
    #[serde(skip_serializing_if = "is_none", default)]
    pub deinterlaced: u64,
    /// Frames of the decoding that counts that are others' or a lead-in's: a part of `redecoded`.
    #[serde(skip_serializing_if = "is_none", default)]
    pub lead_in: u64,
    /// Pictures beyond one a packet.
    #[serde(skip_serializing_if = "is_none", default)]
    pub extra: u64,
    /// Packets of which no picture came: `packets + extra = decoded + lead_in + lost`.
    #[serde(skip_serializing_if = "nothing_lost", default)]
    pub lost: Losses,
}

fn nothing_lost(lost: &Losses) -> bool {
    lost.total() == 0
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

impl std::ops::AddAssign for Frames {
    fn add_assign(&mut self, o: Frames) {
        self.packets += o.packets;
        self.decoded += o.decoded;
        self.redecoded += o.redecoded;
        self.sampled += o.sampled;
        self.skipped_by_rule += o.skipped_by_rule;
        self.corrupt += o.corrupt;
        self.failed += o.failed;
        self.guessed_pts += o.guessed_pts;
        self.deinterlaced += o.deinterlaced;
        self.lead_in += o.lead_in;
        self.extra += o.extra;
        self.lost += o.lost;
    }
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// The input, without its query.
    pub uri: String,
    /// Which part of it.
    #[serde(rename = "where")]
    pub place: String,
    /// Why, in a word.
    pub kind: RejectKind,
    /// Why, in a sentence.
    pub message: String,
    /// The asset's identity.
    pub asset: String,
    /// First presentation time of the part, where it is one of several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from_pts: Option<i64>,
}

impl Reject {
    /// The dead letter of `unit` for `error`.
    pub fn new(unit: &Unit, error: &Error) -> Reject {
        Reject {
            uri: unit.name().to_string(),
            place: unit.place(),
            kind: error.reject.unwrap_or(RejectKind::Corrupt),
            message: error.message.clone(),
            asset: unit.asset(),
            from_pts: unit.from,
        }
    }

    /// Whether it is `unit`'s.
    pub fn is_of(&self, unit: &Unit) -> bool {
        self.asset == unit.asset() && self.from_pts == unit.from
    }
}

/// Proof that a task is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The task.
    pub task: u64,
    /// Generation of its plan.
    pub generation: u32,
    /// Fingerprint of its job.
    pub fingerprint: String,
    /// What was written; nothing for a task without samples.
    pub objects: Vec<Object>,
    /// Samples in them.
    pub samples: u64,
    /// Inputs that begin in this task.
    pub inputs: u64,
    /// Units that were rejected.
    pub rejected: u64,
    /// What became of the frames.
    pub frames: Frames,
    /// Bytes of the inputs that begin in this task, as far as they could be opened.
    pub bytes_read: u64,
    /// Inputs that were read although something in them was wrong.
    pub warnings: u64,
    /// Whole inputs in which nothing was wrong, but no frame answered the rule.
    pub without_samples: u64,
}

/// A shard that is whole, but not visible yet.
pub trait Shard {
    /// What it will make visible.
    fn objects(&self) -> &[Object];
    /// Makes it visible under its final names.
    fn publish(self) -> Result<()>;
    /// Throws it away.
    fn abort(self) -> Result<()>;
}

/// What settling a task came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It has its receipt, by this worker.
    Now,
    /// It had its receipt before, with the same objects.
    Before,
    /// Another worker decided otherwise before: the task is to be done again as that says.
    Otherwise,
}

/// The files in `_framemill` of one output.
#[derive(Debug, Clone)]
pub struct Ledger {
    out: Output,
    /// Workers may rightly make other bytes of a task: the first receipt counts, and who comes later throws its own work
    /// away.
    mixed: bool,
}

/// What deciding came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// As asked, and nobody had decided before: so nobody has published either.
    First,
    /// As asked, like someone before.
    Agreed,
    /// Another worker decided otherwise before: its decision is to be obeyed.
    Otherwise(Vec<Reject>),
}

impl Ledger {
    /// The ledger of `out`.
    pub fn new(out: &Output) -> Ledger {
        Ledger { out: out.clone(), mixed: false }
    }

    /// The same where workers may rightly make other bytes of a task.
    pub fn mixed(self, mixed: bool) -> Ledger {
        Ledger { mixed, ..self }
    }

    /// The output that it belongs to.
    pub fn out(&self) -> &Output {
        &self.out
    }

    /// The receipt of `task`, if it is done.
    pub fn receipt(&self, task: u64) -> Result<Option<Receipt>> {
        let name = store::receipt_name(task);
        self.out.read(&name)?.map(|bytes| self.parsed(&name, &bytes)).transpose()
    }

    /// Whether `task` is done.
    pub fn has(&self, task: u64) -> Result<bool> {
        Ok(self.out.size(&store::receipt_name(task))?.is_some())
    }

    /// The receipts of many tasks, in their order.
    pub fn receipts(&self, tasks: &[u64]) -> Result<Vec<Option<Receipt>>> {
        let names: Vec<String> = tasks.iter().map(|task| store::receipt_name(*task)).collect();
        let read = self.out.read_all(&names)?;
        let parsed = |(name, bytes): (&String, Option<Vec<u8>>)| bytes.map(|b| self.parsed(name, &b)).transpose();
        names.iter().zip(read).map(parsed).collect()
    }

    /// The tasks that have receipts.
    pub fn done(&self) -> Result<HashSet<u64>> {
        let names = self.out.list("_framemill/receipts")?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    fn parsed(&self, name: &str, bytes: &[u8]) -> Result<Receipt> {
        serde_json::from_slice(bytes)
            .map_err(|e| Error::store(format!("{}: {e}; it is damaged, restore it", self.out.place(name))))
    }

    /// What was decided about `task`, if anything was.
    pub fn decision(&self, task: u64) -> Result<Option<Vec<Reject>>> {
        let name = rejects_name(task);
        self.out.read(&name)?.map(|bytes| parse(&bytes, &self.out.place(&name))).transpose()
    }

    /// Settles what `task` leaves out, before anything of it is visible.
    pub fn decide(&self, task: u64, rejects: &[Reject]) -> Result<Decided> {
        let mut text = String::new();
        for reject in rejects {
            text += &serde_json::to_string(reject).map_err(|e| Error::bug(format!("a reject: {e}")))?;
            text.push('\n');
        }
        let name = rejects_name(task);
        let bytes = match self.out.create_only(&name, text.as_bytes())? {
            Created::Written => return Ok(Decided::First),
            Created::Same => return Ok(Decided::Agreed),
            Created::Other(bytes) => bytes,
        };
        let theirs = parse(&bytes, &self.out.place(&name))?;
        let key = |r: &Reject| (r.asset.clone(), r.from_pts);
        // Messages may differ between machines; which inputs are left out decides the bytes.
        let same = theirs.iter().map(key).eq(rejects.iter().map(key));
        Ok(if same { Decided::Agreed } else { Decided::Otherwise(theirs) })
    }

    /// Decides, publishes and receipts a task, in that order. `receipt` gets the shard's objects.
    ///
    /// # Errors
    /// Store errors; a bug where the task is committed with other bytes, unless workers may rightly differ.
    pub fn settle(&self, shard: impl Shard, rejects: &[Reject], receipt: &mut Receipt) -> Result<Settled> {
        receipt.objects = shard.objects().to_vec();
        let decided = self.decide(receipt.task, rejects)?;
        if decided != Decided::First && self.has(receipt.task)? {
            // Another worker was faster; ours go. If it left out the same and its bytes are other ones, that is told.
            if decided == Decided::Agreed {
                self.commit(receipt)?;
            }
            return shard.abort().map(|()| Settled::Before);
        }
        if let Decided::Otherwise(_) = decided {
            return shard.abort().map(|()| Settled::Otherwise);
        }
        match shard.publish() {
            // Another worker's receipt came in between, and its shard stays.
            Err(_) if self.mixed && self.has(receipt.task)? => return Ok(Settled::Before),
            other => other?,
        }
        self.commit(receipt).map(|()| Settled::Now)
    }

    /// Writes the receipt, unless the task has the same one. Another one with other objects is a bug that names both.
    pub fn commit(&self, receipt: &Receipt) -> Result<()> {
        let text = serde_json::to_vec_pretty(receipt).map_err(|e| Error::bug(format!("a receipt: {e}")))?;
        let name = store::receipt_name(receipt.task);
        let Created::Other(_) = self.out.create_only(&name, &text)? else { return Ok(()) };
        let theirs = self.receipt(receipt.task)?;
        match theirs {
            Some(theirs) if theirs.objects == receipt.objects => Ok(()),
            Some(theirs) if self.mixed => self.stands(&theirs),
            theirs => {
                let show = |objects: Option<&[Object]>| serde_json::to_string(&objects).unwrap_or_default();
                Err(Error::bug(format!(
                    "task {}: {} names {}, but this worker made {}. The same plan must give the same bytes: please \
                     report this with both",
                    receipt.task,
                    self.out.place(&name),
                    show(theirs.as_ref().map(|t| t.objects.as_slice())),
                    show(Some(&receipt.objects))
                )))
            }
        }
    }

    /// Another worker finished the task first, with other bytes, as it may where providers are mixed: its shard must be there.
    fn stands(&self, theirs: &Receipt) -> Result<()> {
        for object in &theirs.objects {
            if self.out.measure(&object.path)? != *object {
                return Err(Error::store(format!(
                    "task {}: two workers published {} at the same moment, each with its own provider's bytes, and {} names \
                     the other's: remove that receipt and run again",
                    theirs.task,
                    self.out.place(&object.path),
                    self.out.place(&store::receipt_name(theirs.task))
                )));
            }
        }
        tracing::info!(task = theirs.task, "another worker finished it first, on another provider: its shard stays");
        Ok(())
    }
}

fn rejects_name(task: u64) -> String {
    format!("_framemill/rejects/{task:06}.jsonl")
}

fn parse(bytes: &[u8], place: &str) -> Result<Vec<Reject>> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().filter(|l| !l.trim().is_empty());
    lines
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(|e| Error::store(format!("{place}: {e}; it is damaged, restore it")))
}

/// What all receipts of an output say together.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    /// Tasks of all generations.
    pub tasks: u64,
    /// Those with a receipt.
    pub done: u64,
    /// Inputs of all generations, retried ones counted once.
    pub inputs: u64,
    /// Inputs of tasks that are done.
    pub inputs_done: u64,
    /// Inputs whose last word is a reject.
    pub rejected: u64,
    /// Samples.
    pub samples: u64,
    /// Frames.
    pub frames: Frames,
    /// Bytes of inputs.
    pub bytes_read: u64,
    /// Bytes of objects.
    pub bytes_written: u64,
    /// Inputs read although something in them was wrong.
    pub warnings: u64,
    /// Whole inputs in which nothing was wrong, but no frame answered the rule.
    pub without_samples: u64,
    /// All objects.
    #[serde(skip)]
    pub objects: Vec<Object>,
    /// The dead letters that count, with their tasks.
    #[serde(skip)]
    pub rejects: Vec<(u64, Reject)>,
}

impl Totals {
    /// True when every task has its receipt.
    pub fn finished(&self) -> bool {
        self.done == self.tasks
    }

    /// Digest of what all receipts name: another one is another dataset.
    pub fn digest(&self) -> String {
        let mut files: Vec<_> = self.objects.iter().map(|o| (o.path.clone(), o.bytes, o.sha256.clone())).collect();
        files.sort();
        store::listing_digest(&files).1
    }

    /// Rejected inputs that were not there any more when their turn came.
    pub fn missing(&self) -> u64 {
        let missing = self.rejects.iter().filter(|(_, r)| r.kind == RejectKind::Missing);
        missing.map(|(_, r)| &r.asset).collect::<BTreeSet<_>>().len() as u64
    }

    /// Reads all receipts and decisions of the tasks in `plans`. A rejected part that a later generation tries again
    /// counts as that generation says.
    pub fn read(ledger: &Ledger, plans: &[Plan]) -> Result<Totals> {
        let mut totals = Totals::default();
        let done = ledger.done()?;
        let mut last: BTreeMap<(String, Option<i64>), (u64, Reject)> = BTreeMap::new();
        for plan in plans {
            totals.tasks += plan.header.tasks;
            if !last.is_empty() {
                let mut again = BTreeSet::new();
                for task in plan.tasks() {
                    for unit in plan.units(task)? {
                        if last.remove(&(unit.asset(), unit.from)).is_some() {
                            // A receipt counts an input where its first part is, a plan wherever any part is.
                            totals.inputs_done -= u64::from(unit.from.is_none());
                            again.insert(unit.identity);
                        }
                    }
                }
                totals.inputs -= again.len() as u64;
            }
            totals.inputs += plan.header.inputs;
            let tasks: Vec<u64> = plan.tasks().filter(|task| done.contains(task)).collect();
            for (task, receipt) in tasks.iter().zip(ledger.receipts(&tasks)?) {
                let (task, Some(receipt)) = (*task, receipt) else { continue };
                totals.done += 1;
                totals.inputs_done += receipt.inputs;
                totals.samples += receipt.samples;
                totals.frames += receipt.frames;
                totals.bytes_read += receipt.bytes_read;
                totals.warnings += receipt.warnings;
                totals.without_samples += receipt.without_samples;
                totals.bytes_written += receipt.objects.iter().map(|o| o.bytes).sum::<u64>();
                totals.objects.extend(receipt.objects);
                if receipt.rejected > 0 {
                    for reject in ledger.decision(task)?.unwrap_or_default() {
                        last.insert((reject.asset.clone(), reject.from_pts), (task, reject));
                    }
                }
            }
        }
        let assets: BTreeSet<&String> = last.keys().map(|(asset, _)| asset).collect();
        totals.rejected = assets.len() as u64;
        totals.inputs_done = totals.inputs_done.saturating_sub(totals.rejected);
        totals.rejects = last.into_values().collect();
        totals.rejects.sort_by(|a, b| (a.0, &a.1.uri, a.1.from_pts).cmp(&(b.0, &b.1.uri, b.1.from_pts)));
        Ok(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(asset: &str, message: &str) -> Reject {
        Reject {
            uri: "a".into(),
            place: "a".into(),
            kind: RejectKind::Corrupt,
            message: message.into(),
            asset: asset.into(),
            from_pts: None,
        }
    }

    #[test]
    fn the_first_decision_counts() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&Output::at(dir.path()));
        assert_eq!(ledger.decision(3).unwrap(), None);
        assert_eq!(ledger.decide(3, &[reject("1", "x")]).unwrap(), Decided::First);
        assert_eq!(ledger.decide(3, &[reject("1", "said otherwise")]).unwrap(), Decided::Agreed);
        assert_eq!(ledger.decide(3, &[]).unwrap(), Decided::Otherwise(vec![reject("1", "x")]));
        assert_eq!(ledger.decide(4, &[]).unwrap(), Decided::First);
        assert_eq!(ledger.decision(4).unwrap(), Some(vec![]));
    }

    #[test]
    fn a_receipt_of_other_bytes_is_a_bug() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&Output::at(dir.path()));
        let object = |sha: &str| Object { path: "shard".into(), bytes: 1, sha256: sha.into() };
        let receipt = |sha: &str| Receipt { task: 1, objects: vec![object(sha)], ..Receipt::default() };
        ledger.commit(&receipt("a")).unwrap();
        ledger.commit(&receipt("a")).unwrap();
        let error = ledger.commit(&receipt("b")).unwrap_err();
        assert_eq!(error.exit_code(), 70);
        assert!(error.message.contains("\"a\"") && error.message.contains("\"b\""), "{error}");
    }

    /// A shard that is made, and never to be published here.
    struct Made(Vec<Object>);

    impl Shard for Made {
        fn objects(&self) -> &[Object] {
            &self.0
        }
        fn publish(self) -> Result<()> {
            unreachable!("it is settled already")
        }
        fn abort(self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_comes_too_late_leaves_what_was_settled_whatever_was_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(&Output::at(dir.path()));
        let object = |sha: &str| Object { path: "shard".into(), bytes: 1, sha256: sha.into() };
        let first = Receipt { task: 1, objects: vec![object("a")], ..Receipt::default() };
        ledger.decide(1, &[reject("1", "x")]).unwrap();
        ledger.commit(&first).unwrap();
        let late = |sha: &str, rejects: &[Reject]| {
            ledger.settle(Made(vec![object(sha)]), rejects, &mut Receipt { task: 1, ..Receipt::default() })
        };
        assert_eq!(late("a", &[reject("1", "y")]).unwrap(), Settled::Before);
        // It read what the first could not, so its shard is another one.
        assert_eq!(late("b", &[]).unwrap(), Settled::Before);
        assert_eq!(ledger.receipt(1).unwrap(), Some(first));
        // What left out the same is to be the same.
        assert_eq!(late("b", &[reject("1", "x")]).unwrap_err().exit_code(), 70);
    }

    #[test]
    fn where_providers_are_mixed_the_first_receipt_counts_if_its_shard_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let out = Output::at(dir.path());
        let ledger = Ledger::new(&out).mixed(true);
        let publish = |content: &[u8]| {
            out.replace("shard", content).unwrap();
            Receipt { task: 1, objects: vec![out.measure("shard").unwrap()], ..Receipt::default() }
        };
        let (second, first) = (publish(b"two"), publish(b"one"));
        ledger.commit(&first).unwrap();
        ledger.commit(&second).unwrap();
        assert_eq!(ledger.receipt(1).unwrap(), Some(first));
        let error = ledger.commit(&publish(b"two")).unwrap_err();
        assert!(error.exit_code() == 74 && error.message.contains("receipts/000001.json"), "{error}");
    }

    #[test]
    fn a_part_that_is_tried_again_is_no_further_input() {
        use crate::input::{self, InputSpec};
        use crate::job::{Job, JobFile};
        use crate::plan::Draft;
        let dir = tempfile::tempdir().unwrap();
        let (ledger, job) = (Ledger::new(&Output::at(dir.path())), Job::resolve(JobFile::default()).unwrap());
        let nothing = input::list(&InputSpec::default(), 0, None).unwrap();
        let like = Draft::new(&job, nothing, Default::default(), 1, 0, &|_, _| {}).unwrap().header().clone();
        let unit = |from: Option<i64>| Unit {
            task: 0,
            input: 0,
            uri: "/a.mp4".into(),
            path: "/a.mp4".into(),
            identity: 7,
            bytes: None,
            version: None,
            start: None,
            end: None,
            split: None,
            from,
            to: None,
            cells: Vec::new(),
        };
        let freeze = |units, generation, task| {
            Draft::again(&job, units, &like, generation, task).unwrap().freeze(&Output::at(dir.path())).unwrap()
        };
        let done = |task, inputs, rejects: &[Reject]| {
            ledger.decide(task, rejects).unwrap();
            let receipt = Receipt {
                task,
                generation: 1,
                fingerprint: String::new(),
                objects: Vec::new(),
                samples: 1,
                inputs,
                rejected: rejects.len() as u64,
                frames: Frames::default(),
                bytes_read: 0,
                warnings: 0,
                without_samples: 0,
            };
            ledger.commit(&receipt).unwrap();
        };
        let counts = |plans: &[Plan]| {
            let totals = Totals::read(&ledger, plans).unwrap();
            (totals.inputs, totals.inputs_done, totals.rejected)
        };
        // A video of two parts, of which the second fails, and then does not.
        let first = freeze(vec![unit(None), unit(Some(5))], 1, 0);
        let failed = Reject::new(&unit(Some(5)), &Error::input(RejectKind::Io, "gone for a while"));
        done(0, 1, &[failed]);
        let plans = [first, freeze(vec![unit(Some(5))], 2, 1)];
        assert_eq!(counts(&plans[..1]), (1, 0, 1));
        done(1, 0, &[]);
        assert_eq!(counts(&plans), (1, 1, 0));
    }
}
