//! What all receipts of an output say together.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::rolls::{self, Rolls};
use super::{Frames, Ledger, Receipt, Reject};
use crate::error::{RejectKind, Result};
use crate::plan::Plan;
use crate::store::{self, Object};

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
    /// The receipts, in the order of their tasks.
    #[serde(skip)]
    pub receipts: Vec<Receipt>,
    /// The dead letters that count, with their tasks.
    #[serde(skip)]
    pub rejects: Vec<(u64, Reject)>,
    /// The rolls that were read on the way.
    #[serde(skip)]
    pub rolls: Rolls,
}

impl Totals {
    /// True when every task has its receipt.
    pub fn finished(&self) -> bool {
        self.done == self.tasks
    }

    /// All objects, in the order of their tasks.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.receipts.iter().flat_map(|receipt| &receipt.objects)
    }

    /// Digest of what all receipts name: another one is another dataset.
    pub fn digest(&self) -> String {
        let mut files: Vec<_> = self.objects().map(|o| (o.path.clone(), o.bytes, o.sha256.clone())).collect();
        files.sort();
        store::listing_digest(&files).1
    }

    /// Rejected inputs that were not there any more when their turn came.
    pub fn missing(&self) -> u64 {
        let missing = self.rejects.iter().filter(|(_, r)| r.kind == RejectKind::Missing);
        missing.map(|(_, r)| &r.asset).collect::<BTreeSet<_>>().len() as u64
    }

    /// Counts a task and what came of it; not its inputs, nor what was written.
    pub fn add(&mut self, receipt: &Receipt) {
        self.done += 1;
        self.samples += receipt.samples;
        self.frames += receipt.frames;
        self.bytes_read += receipt.bytes_read;
        self.warnings += receipt.warnings;
        self.without_samples += receipt.without_samples;
    }

    /// What the receipts of the tasks in `plans` say, by their copies in rolls where there are.
    pub fn read(ledger: &Ledger, plans: &[Plan]) -> Result<Totals> {
        let done = ledger.done(plans.iter().flat_map(Plan::tasks))?;
        let (receipts, rolls) = rolls::receipts(ledger, done)?;
        Ok(Totals { rolls, ..Totals::of(ledger, plans, receipts)? })
    }

    /// What these receipts, in the order of their tasks, and the decisions that they speak of say of the tasks in `plans`.
    /// A rejected part that a later generation tries again counts as that generation says.
    pub fn of(ledger: &Ledger, plans: &[Plan], receipts: Vec<Receipt>) -> Result<Totals> {
        let mut totals = Totals::default();
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
            let at = |task: u64| receipts.partition_point(|receipt| receipt.task < task);
            let mut rejecting = Vec::new();
            for receipt in &receipts[at(plan.tasks().start)..at(plan.tasks().end)] {
                totals.add(receipt);
                totals.inputs_done += receipt.inputs;
                totals.bytes_written += receipt.objects.iter().map(|o| o.bytes).sum::<u64>();
                rejecting.extend((receipt.rejected > 0).then_some(receipt.task));
            }
            for (task, rejects) in rejecting.iter().zip(ledger.decisions(&rejecting)?) {
                for reject in rejects {
                    last.insert((reject.asset.clone(), reject.from_pts), (*task, reject));
                }
            }
        }
        let assets: BTreeSet<&String> = last.keys().map(|(asset, _)| asset).collect();
        totals.rejected = assets.len() as u64;
        totals.inputs_done = totals.inputs_done.saturating_sub(totals.rejected);
        totals.rejects = last.into_values().collect();
        totals.rejects.sort_by(|a, b| (a.0, &a.1.uri, a.1.from_pts).cmp(&(b.0, &b.1.uri, b.1.from_pts)));
        totals.receipts = receipts;
        Ok(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::input::{self, InputSpec};
    use crate::job::{Job, JobFile};
    use crate::plan::{Draft, Unit};
    use crate::store::Output;

    #[test]
    fn a_part_that_is_tried_again_is_no_further_input() {
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
