//! The commit protocol: what a task contains is decided before anything of it is visible, and a receipt comes last.
//!
//! Promises: a task with a receipt is done and never touched again; whoever finds a decision (a `rejects` file, empty
//! when all is well) obeys it, so that a shard's bytes are a function of plan and decision; two workers on one task end
//! with one shard and one receipt.

pub mod rolls;
mod totals;

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::decode::losses::Losses;
use crate::error::{Error, RejectKind, Result};
use crate::plan::Unit;
use crate::store::{self, Created, Object, Output};
pub use totals::Totals;

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
    /// Clips that their video's end left incomplete, and that are no samples.
    #[serde(skip_serializing_if = "is_none", default)]
    pub incomplete_clips: u64,
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
        self.incomplete_clips += o.incomplete_clips;
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

/// Thousands of tasks that are listed each by itself.
const FEW: usize = 32;
/// Receipts of which the text is held in memory as they are read.
const AT_ONCE: usize = 1024;

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

    /// The receipts of those of many tasks that have one, in their order.
    pub fn receipts(&self, tasks: &[u64]) -> Result<Vec<Receipt>> {
        let mut receipts = Vec::new();
        for tasks in tasks.chunks(AT_ONCE) {
            let names: Vec<String> = tasks.iter().map(|task| store::receipt_name(*task)).collect();
            for (name, bytes) in names.iter().zip(self.out.read_all(&names)?) {
                receipts.extend(bytes.map(|bytes| self.parsed(name, &bytes)).transpose()?);
            }
        }
        Ok(receipts)
    }

    /// Those of `tasks` that have receipts.
    pub fn done(&self, tasks: impl IntoIterator<Item = u64>) -> Result<HashSet<u64>> {
        let tasks: HashSet<u64> = tasks.into_iter().collect();
        if tasks.is_empty() {
            return Ok(tasks);
        }
        let names = self.out.list_by("_framemill/receipts", &beginnings(&tasks))?;
        let there = names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok());
        Ok(there.filter(|task| tasks.contains(task)).collect())
    }

    fn parsed(&self, name: &str, bytes: &[u8]) -> Result<Receipt> {
        let broken = |e: &str| {
            Error::store(format!(
                "{}: {e}; restore it, or remove it and run the job again, which does its task anew",
                self.out.place(name)
            ))
        };
        let receipt: Receipt = serde_json::from_slice(bytes).map_err(|e| broken(&format!("it is damaged: {e}")))?;
        if store::receipt_name(receipt.task) != name {
            return Err(broken(&format!(
                "it is the receipt of task {}, not of the one that its name says",
                receipt.task
            )));
        }
        Ok(receipt)
    }

    /// What was decided about many tasks, in their order; nothing where nothing was.
    pub fn decisions(&self, tasks: &[u64]) -> Result<Vec<Vec<Reject>>> {
        let names: Vec<String> = tasks.iter().map(|task| rejects_name(*task)).collect();
        let read = self.out.read_all(&names)?;
        let parsed =
            |(name, bytes): (&String, Option<Vec<u8>>)| parse(&bytes.unwrap_or_default(), &self.out.place(name));
        names.iter().zip(read).map(parsed).collect()
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
        Ok(if self.commit(receipt)? { Settled::Now } else { Settled::Before })
    }

    /// Writes the receipt, unless the task has one; true where this one stands now. One with other objects is a bug that
    /// names both.
    pub fn commit(&self, receipt: &Receipt) -> Result<bool> {
        let text = serde_json::to_vec_pretty(receipt).map_err(|e| Error::bug(format!("a receipt: {e}")))?;
        let name = store::receipt_name(receipt.task);
        let Created::Other(_) = self.out.create_only(&name, &text)? else { return Ok(true) };
        let theirs = self.receipt(receipt.task)?;
        match theirs {
            Some(theirs) if theirs.objects == receipt.objects => Ok(false),
            Some(theirs) if self.mixed => self.stands(&theirs).map(|()| false),
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
                     the other's: remove that receipt, with all copies of receipts in {}, and run again",
                    theirs.task,
                    self.out.place(&object.path),
                    self.out.place(&store::receipt_name(theirs.task)),
                    self.out.place(rolls::ROLLS)
                )));
            }
        }
        tracing::info!(task = theirs.task, "another worker finished it first, on another provider: its shard stays");
        Ok(())
    }
}

/// How the names of the receipts of `tasks` begin: by the thousand, which is what a store gives in one answer, where those
/// are few, else by the ten thousand, since a listing that finds nothing is a request, too.
fn beginnings(tasks: &HashSet<u64>) -> Vec<String> {
    // Names of more than six digits begin as those of a tenth of their number do.
    let begin = |digits| tasks.iter().map(|task| format!("{task:06}")[..digits].to_string()).collect::<BTreeSet<_>>();
    let thousands = begin(3);
    Vec::from_iter(if thousands.len() > FEW { begin(2) } else { thousands })
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
    fn a_receipt_that_lies_under_anothers_name_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let out = Output::at(dir.path());
        let ledger = Ledger::new(&out);
        ledger.commit(&Receipt { task: 1, ..Receipt::default() }).unwrap();
        let copy = out.read(&store::receipt_name(1)).unwrap().unwrap();
        out.replace(&store::receipt_name(0), &copy).unwrap();
        for error in [ledger.receipt(0).unwrap_err(), ledger.receipts(&[0, 1]).unwrap_err()] {
            assert_eq!(error.exit_code(), 74);
            assert!(error.message.contains("receipts/000000.json: it is the receipt of task 1"), "{error}");
        }
        assert_eq!(ledger.receipt(1).unwrap().unwrap().task, 1);
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
}
