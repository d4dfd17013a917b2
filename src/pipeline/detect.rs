//! The detect stage: what is in the pictures, and what is done about it.
//!
//! Invariants: a batch never spans tasks; boxes go through exact transforms from the model's input to the source and to the
//! sample; where a detector that hides something failed, or one whose objects it was to see, no sample goes on.

mod cut;
mod objects;
mod settle;

use crossbeam_channel::{Receiver, Sender};

use super::collect::Message;
use super::compute::Made;
use super::{Numbered, Shared, stopping};
use crate::backend::cpu::Cpu;
use crate::backend::{Backend, Processed};
use crate::detect::heads::Found;
use crate::detect::spec::On;
use crate::detect::{Detector, Worker};
use crate::error::{Class, Error, Result};
use crate::program::DrawKey;
use crate::sink::record::Details;
use crate::tensor::Tensor;
use crate::trace;
use objects::{Look, Seen};
use settle::settle;

/// What a detector found in each sample of a batch.
type Batch = Vec<Result<Vec<Seen>>>;

/// One thread of the stage, until no more pictures come or the run stops.
pub(super) fn stage(
    shared: &Shared,
    from: &Receiver<Numbered<Vec<Made>>>,
    to: &Sender<Numbered<Vec<Made>>>,
    errors: &Sender<Message>,
) -> Result<()> {
    let detectors = &shared.job.detectors;
    let details = shared.job.details();
    let parents: Vec<Option<usize>> = detectors
        .iter()
        .map(|d| match &d.on {
            On::Objects(name) => detectors.iter().position(|other| other.name == *name),
            On::Source | On::Sample => None,
        })
        .collect();
    let mut workers = detectors.iter().map(|d| d.worker()).collect::<Result<Vec<_>>>()?;
    let cpu = Cpu::new();
    let most = detectors.iter().map(|d| d.batch).max().unwrap_or(1);
    let mut held = None;
    while let Some(first) = held.take().or_else(|| shared.detect.receive(from)) {
        let task = first.key.task;
        let mut batch = vec![first];
        // What is there already; waiting for more would make a slow decoder slower.
        while batch.len() < most
            && held.is_none()
            && let Some(next) = shared.detect.take(from)
        {
            if next.key.task == task { batch.push(next) } else { held = Some(next) }
        }
        let span = trace::work(|| (format!("detect in a batch of {}", batch.len()), vec![task]));
        let made: Vec<&Made> = batch.iter().flat_map(|numbered| &numbered.item).collect();
        let mut seen: Vec<Batch> = Vec::new();
        for (i, (worker, detector)) in workers.iter_mut().zip(detectors).enumerate() {
            let of = parents[i].and_then(|parent| seen.get(parent));
            seen.push(match of {
                Some(of) => in_objects(&made, of, detector, worker, &cpu, details),
                None => in_pictures(&made, i, detector, worker, details),
            });
        }
        drop(span);
        let mut seen: Vec<_> = seen.into_iter().map(Vec::into_iter).collect();
        for numbered in batch {
            let Numbered { key, attempt, seq, item, credit } = numbered;
            if stopping(shared) {
                return Ok(());
            }
            let mut all: Result<Vec<Made>> = Ok(Vec::new());
            for (whole, mut made) in (0..).zip(item) {
                made.rank.whole = whole;
                let found = seen.iter_mut().filter_map(Iterator::next).collect();
                let settled = settle(detectors.iter().map(|d| &**d), &parents, made, found);
                all = all.and_then(|mut all| {
                    all.extend(settled?);
                    Ok(all)
                });
            }
            let sent = match all {
                // Nothing goes straight to the collector, as errors do.
                Ok(made) if !made.is_empty() => {
                    shared.detect.send(to, Numbered { key, attempt, seq, item: made, credit }).is_ok()
                }
                Err(e) if e.class != Class::Input => return Err(e),
                other => {
                    let samples = Box::new(other.map(|_| Vec::new()));
                    shared.detect.send(errors, Message::Sample { key, attempt, seq, samples }).is_ok()
                }
            };
            if !sent {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The results of a worker, one after the other.
fn next(found: &mut impl Iterator<Item = Result<Vec<Found>>>) -> Result<Vec<Found>> {
    found.next().unwrap_or_else(|| Err(Error::bug("a detector gave no result")))
}

/// What detector `i` finds in each picture; errors where there is nothing that it could look at.
fn in_pictures(made: &[&Made], i: usize, detector: &Detector, worker: &mut Worker, details: Details) -> Batch {
    let views = || made.iter().flat_map(|made| made.views.get(i)).flatten();
    let good: Vec<&Tensor> = views().flatten().map(|view| &view.tensor).collect();
    let mut found = worker.detect(&good).into_iter();
    let one = |made: &&Made| {
        let views = made.views.get(i).filter(|views| !views.is_empty());
        let views = views.ok_or_else(|| Error::bug("a picture was not prepared"))?;
        // All of a sample's frames are taken, whatever one of them came to.
        let frames: Vec<Result<Vec<Seen>>> = (0..)
            .zip(views)
            .map(|(frame, view)| {
                let view = view.as_ref().map_err(Clone::clone)?;
                Look { detector, made, frame, view, parent: None, details }.objects(next(&mut found)?)
            })
            .collect();
        Ok(frames.into_iter().collect::<Result<Vec<_>>>()?.concat())
    };
    made.iter().map(one).collect()
}

/// What a detector finds in the objects `of` each picture that the one before it has found. Their parts of the frames are
/// prepared on this thread, a batch at a time: however many there are, no more of them are in memory.
fn in_objects(
    made: &[&Made],
    of: &[Result<Vec<Seen>>],
    detector: &Detector,
    worker: &mut Worker,
    cpu: &Cpu,
    details: Details,
) -> Batch {
    let mut out: Batch = of.iter().map(|seen| seen.as_ref().map(|_| Vec::new()).map_err(Clone::clone)).collect();
    let objects: Vec<(usize, usize, &Seen)> = of
        .iter()
        .enumerate()
        .flat_map(|(m, seen)| seen.iter().flatten().enumerate().map(move |(n, seen)| (m, n, seen)))
        .collect();
    for chunk in objects.chunks(detector.batch) {
        let parts: Vec<Result<Option<Processed>>> =
            chunk.iter().map(|(m, _, seen)| part(made[*m], seen, detector, cpu)).collect();
        let good: Vec<&Tensor> = parts.iter().flatten().flatten().map(|part| &part.tensor).collect();
        let mut found = worker.detect(&good).into_iter();
        for (part, (m, n, seen)) in parts.iter().zip(chunk) {
            let parent = Some((*n, *seen));
            let objects = match part {
                Ok(Some(view)) => next(&mut found).and_then(|found| {
                    Look { detector, made: made[*m], frame: seen.frame, view, parent, details }.objects(found)
                }),
                Ok(None) => Ok(Vec::new()),
                Err(e) => Err(e.clone()),
            };
            if let Ok(all) = &mut out[*m] {
                match objects {
                    Ok(objects) => all.extend(objects),
                    Err(e) => out[*m] = Err(e),
                }
            }
        }
    }
    out
}

/// The part of a frame around an object as a detector is to see it.
fn part(made: &Made, seen: &Seen, detector: &Detector, cpu: &Cpu) -> Result<Option<Processed>> {
    let frame = made.frames.get(seen.frame).ok_or_else(|| Error::bug("a frame was not kept"))?;
    // Nothing in it is random.
    let key = DrawKey { asset: 0, time_us: 0, variant: 0 };
    let program = detector.part(frame, seen.detection.source_box)?;
    program.map(|program| cpu.run(&program, frame, &key)).transpose()
}
