//! One thread of the compute stage: gathers frames into batches, keeps as many on their way as the backend likes.
//!
//! Invariants: results go on in the order in which frames came. All that is made of a frame, samples and what detectors are to
//! look at, is in one batch. A thread waits for frames only while it has no batch on its way, and asks for no credit: so
//! neither it nor the budget can deadlock.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::collect::Message;
use super::compute::{self, Made};
use super::decode::Work;
use super::{Numbered, Shared, stopping};
use crate::backend::{Backend, Item, Pending, Processed};
use crate::error::Result;
use crate::frame::Frame;
use crate::trace;

/// A batch on its way.
struct Begun<'a> {
    works: Vec<Work>,
    pending: Pending<'a>,
}

/// Takes frames until no more come, or the run stops.
pub(super) fn feed<'a>(
    shared: &'a Shared,
    backend: &'a dyn Backend,
    from: &Receiver<Box<Work>>,
    to: &Sender<Numbered<Vec<Made>>>,
    errors: &Sender<Message>,
) {
    let ahead = backend.pace().ahead;
    let mut begun = VecDeque::new();
    loop {
        let works = gather(shared, backend, from, begun.is_empty());
        let idle = works.is_empty();
        if !idle {
            let _work = trace::work(|| (format!("begin a batch of {}", works.len()), tasks(&works)));
            let items: Vec<Item> = works.iter().flat_map(|work| compute::items(shared.job, work)).collect();
            let pending = backend.submit(items);
            begun.push_back(Begun { works, pending });
        }
        if idle || begun.len() > ahead {
            // Nothing came and nothing is on its way: nothing will come.
            let Some(oldest) = begun.pop_front() else { return };
            if !finish(shared, backend, oldest, to, errors) {
                return;
            }
        }
    }
}

/// The tasks that a batch is of.
fn tasks(works: &[Work]) -> Vec<u64> {
    let mut tasks: Vec<u64> = works.iter().map(|work| work.key.task).collect();
    tasks.sort_unstable();
    tasks.dedup();
    tasks
}

/// The next batch: what is there already, after waiting for the first if told so.
fn gather(shared: &Shared, backend: &dyn Backend, from: &Receiver<Box<Work>>, wait: bool) -> Vec<Work> {
    let pace = backend.pace();
    let next = |first: bool| match first && wait {
        true => shared.compute.receive(from),
        false => shared.compute.take(from),
    };
    let most = shared.job.file.batch.map_or(pace.items, |most| most.min(pace.items));
    let (mut works, mut items, mut bytes) = (Vec::new(), 0, 0);
    let mut frames: HashSet<*const Frame> = HashSet::new();
    while items < most
        && bytes < pace.bytes
        && let Some(work) = next(works.is_empty())
    {
        items += compute::count(shared.job, &work);
        let new = work.frames.iter().filter(|frame| frames.insert(Arc::as_ptr(frame)));
        bytes += new.map(|frame| frame.bytes() as u64).sum::<u64>();
        works.push(*work);
    }
    works
}

/// Waits for a batch and hands its results on; false when stopping.
fn finish(
    shared: &Shared,
    backend: &dyn Backend,
    batch: Begun,
    to: &Sender<Numbered<Vec<Made>>>,
    errors: &Sender<Message>,
) -> bool {
    let span = trace::work(|| (format!("finish a batch of {}", batch.works.len()), tasks(&batch.works)));
    let mut works = batch.works.into_iter();
    let mut results = (batch.pending)().into_iter();
    drop(span);
    works.all(|work| {
        let note = |result: &Result<Processed>| {
            if let Ok(done) = result
                && let Some(reason) = &done.fallback
            {
                shared.fallbacks.frame(work.unit.name(), backend.name(), reason);
            }
        };
        let mut made = compute::make(shared.job, &work, &shared.columns, results.by_ref().inspect(note));
        for detector in &shared.job.detectors {
            for made in &mut made {
                // Each variant's are taken, whatever the sample itself came to.
                let seen: Vec<_> = results.by_ref().take(compute::seen(&work, detector)).inspect(note).collect();
                if let Ok(made) = made {
                    made.views.push(seen);
                }
            }
        }
        let kept = compute::kept(shared.job, &work);
        for result in &mut made {
            match (&mut *result, &kept) {
                (Ok(made), Ok(frames)) => made.frames.clone_from(frames),
                (Ok(_), Err(e)) => *result = Err(e.clone()),
                (Err(_), _) => {}
            }
        }
        hand_on(shared, work, made, to, errors)
    })
}

fn hand_on(
    shared: &Shared,
    mut work: Work,
    made: Vec<Result<Made>>,
    to: &Sender<Numbered<Vec<Made>>>,
    errors: &Sender<Message>,
) -> bool {
    let credit = Arc::new(std::mem::take(&mut work.credit));
    let (key, attempt, first) = (work.key, work.attempt, work.seq * made.len() as u64);
    // The decoder may have its picture back; the credit stays until the samples are on their way.
    drop(work);
    made.into_iter().zip(first..).all(|(result, seq)| {
        if stopping(shared) {
            return false;
        }
        match result {
            Ok(made) => {
                let item = Numbered { key, attempt, seq, item: vec![made], credit: credit.clone() };
                shared.compute.send(to, item).is_ok()
            }
            Err(error) => {
                let samples = Box::new(Err(error));
                shared.compute.send(errors, Message::Sample { key, attempt, seq, samples }).is_ok()
            }
        }
    })
}
