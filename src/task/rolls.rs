//! Rolls: copies of many receipts in one object, so that whoever asks what a job has come to reads a few objects and not one
//! for each task.
//!
//! Promises: receipts alone say what is done. A roll only says in fewer requests what they say: what it holds of a task
//! without a receipt is passed over, and what is in no roll, or in two that differ, is read from its receipt. One that is
//! damaged is passed over with a warning. While a job goes on each worker writes rolls of its own; when it is finished, those
//! that are left are a function of its receipts. A job of at most [`SMALL`] tasks has none.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::{Ledger, Receipt};
use crate::error::{Error, Result};
use crate::store::{self, Output};

/// Where they lie.
pub const ROLLS: &str = "_framemill/rolls";
/// Tasks of the largest job that has none: so few receipts are soon read.
pub const SMALL: u64 = 128;
/// Receipts in a worker's roll, about 250 kB.
const ROLL: usize = 512;
/// Receipts that a worker gathers before it writes its roll once more. They are what is read one by one where it dies: the
/// fewer they are the cheaper is every look at the job, and an eighth of a request a task is little.
const STEP: usize = 8;
/// Tasks in a roll of a finished job: about half a megabyte.
const PART: u64 = 1024;
/// Rolls of which the text is held in memory as they are read.
const AT_ONCE: usize = 64;
/// How often it is looked again for what went while it was read: into the rolls of the finished job, most likely.
const LOOKS: u32 = 3;
/// What to do with a roll that is not right.
const COPY: &str = "it is only a copy of receipts: remove it, and framemill finish writes what is missing";

/// The rolls that were read, with the digests of their contents.
pub type Rolls = BTreeMap<String, String>;

/// The roll that a worker writes now.
#[derive(Debug)]
pub struct Roll {
    out: Output,
    worker: String,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    name: String,
    text: String,
    receipts: usize,
    unwritten: usize,
}

impl Roll {
    /// Of a worker whose name no other has, except for those whose place it takes.
    pub fn new(out: &Output, worker: &str) -> Roll {
        Roll { out: out.clone(), worker: worker.into(), open: Mutex::default() }
    }

    /// Adds a receipt that is in the store as it is here.
    pub fn add(&self, receipt: &Receipt) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.receipts == 0 {
            open.name = format!("{ROLLS}/{}-{:x}.jsonl", self.worker, store::moment());
        }
        open.text += &line(receipt)?;
        open.receipts += 1;
        open.unwritten += 1;
        if open.unwritten >= STEP {
            self.write(&mut open)?;
        }
        if open.receipts >= ROLL {
            *open = Open::default();
        }
        Ok(())
    }

    /// Writes what is left, unless it is a single receipt, which says as much.
    pub fn end(&self) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.unwritten > 0 && open.receipts > 1 { self.write(&mut open) } else { Ok(()) }
    }

    fn write(&self, open: &mut Open) -> Result<()> {
        self.out.replace(&open.name, open.text.as_bytes())?;
        open.unwritten = 0;
        Ok(())
    }
}

fn line(receipt: &Receipt) -> Result<String> {
    let text = serde_json::to_string(receipt).map_err(|e| Error::bug(format!("a receipt: {e}")))?;
    Ok(text + "\n")
}

fn parsed(text: &[u8]) -> serde_json::Result<Vec<Receipt>> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice).collect()
}

fn digest(text: &[u8]) -> String {
    store::hex(&Sha256::digest(text))
}

/// Gives `each` every roll but those in `known`, with its content; false where one went in between.
fn read(out: &Output, known: &Rolls, each: &mut dyn FnMut(&str, Vec<u8>)) -> Result<bool> {
    let names = out.list(ROLLS)?.into_iter().map(|name| format!("{ROLLS}/{name}"));
    let names: Vec<String> = names.filter(|name| !known.contains_key(name)).collect();
    let mut whole = true;
    for names in names.chunks(AT_ONCE) {
        for (name, text) in names.iter().zip(out.read_all(names)?) {
            match text {
                Some(text) => each(name, text),
                None => whole = false,
            }
        }
    }
    Ok(whole)
}

/// The receipts of the tasks that are `done`, in order, and the rolls that were read for them.
pub(super) fn receipts(ledger: &Ledger, done: HashSet<u64>) -> Result<(Vec<Receipt>, Rolls)> {
    let out = ledger.out();
    let (mut found, mut rolls) = (BTreeMap::<u64, Receipt>::new(), Rolls::new());
    let mut doubtful = BTreeSet::new();
    let mut each = |rolls: &mut Rolls, name: &str, text: Vec<u8>| match parsed(&text) {
        Ok(receipts) => {
            rolls.insert(name.into(), digest(&text));
            for receipt in receipts.into_iter().filter(|receipt| done.contains(&receipt.task)) {
                let task = receipt.task;
                if found.get(&task).is_some_and(|other| *other != receipt) {
                    doubtful.insert(task);
                }
                found.insert(task, receipt);
            }
        }
        Err(e) => tracing::warn!("{}: {e}; it is damaged, and not used; {COPY}", out.place(name)),
    };
    for _ in 0..LOOKS {
        if done.len() as u64 <= SMALL {
            break;
        }
        let known = rolls.clone();
        if read(out, &known, &mut |name, text| each(&mut rolls, name, text))? {
            break;
        }
    }
    found.retain(|task, _| !doubtful.contains(task));
    let mut single: Vec<u64> = done.into_iter().filter(|task| !found.contains_key(task)).collect();
    single.sort_unstable();
    found.extend(ledger.receipts(&single)?.into_iter().map(|receipt| (receipt.task, receipt)));
    Ok((found.into_values().collect(), rolls))
}

/// Leaves the rolls of a finished job, whose `receipts` are all here in order: the same whoever does it. Those in `rolls`
/// are not written again where they are right.
pub fn finish(out: &Output, receipts: &[Receipt], rolls: &Rolls) -> Result<()> {
    if receipts.len() as u64 <= SMALL {
        return Ok(());
    }
    let mut stay = BTreeSet::new();
    for part in receipts.chunk_by(|a, b| a.task / PART == b.task / PART) {
        let name = format!("{ROLLS}/{:06}.jsonl", part[0].task / PART);
        let text = part.iter().map(line).collect::<Result<String>>()?;
        if rolls.get(&name) != Some(&digest(text.as_bytes())) {
            out.replace(&name, text.as_bytes())?;
        }
        stay.insert(name);
    }
    // Whoever reads a worker's roll now finds what it held in these.
    let there = out.list(ROLLS)?.into_iter().map(|name| format!("{ROLLS}/{name}"));
    let go: Vec<String> = there.filter(|name| !stay.contains(name)).collect();
    out.remove_all(&go)
}

/// What is off with the rolls of `out`, given its receipts in order.
pub fn faults(out: &Output, receipts: &[Receipt]) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let same = |copy: &Receipt| match receipts.binary_search_by_key(&copy.task, |receipt| receipt.task) {
        Ok(i) => receipts[i] == *copy,
        Err(_) => true,
    };
    read(out, &Rolls::new(), &mut |name, text| match parsed(&text) {
        Err(e) => faults.push(format!("{name}: {e}; it is damaged; {COPY}")),
        Ok(copies) => {
            let other: Vec<String> = copies.iter().filter(|c| !same(c)).map(|c| c.task.to_string()).collect();
            if let [first, ..] = &other[..] {
                let more = if other.len() > 1 { format!(" and {} others are", other.len() - 1) } else { " is".into() };
                faults.push(format!("{name}: task {first}{more} not as the receipt says; {COPY}"));
            }
        }
    })?;
    Ok(faults)
}

#[cfg(test)]
pub(crate) mod tests;
