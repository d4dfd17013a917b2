//! Decoding alone: the same threads, decoders and budgets as a run, and nothing behind them.
//!
//! It is the bound that the rest of a run is held against: what is decoded is counted and dropped.

use std::collections::VecDeque;
use std::sync::{Arc, RwLock};
use std::time::Instant;

use crossbeam_channel::bounded;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::collect::Message;
use super::decode::Work;
use super::fallbacks::Fallbacks;
use super::queue::Queue;
use super::{Observer, Progress, Shared, Stop, Suspects, UnitKey, decode_units, join, start};
use crate::backend::device;
use crate::error::Result;
use crate::job::{Fallback, Job};
use crate::plan::Plan;

/// What decoding alone came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alone {
    /// Wanted frames.
    pub frames: u64,
    /// Bytes that they hold as decoded.
    pub bytes: u64,
    /// Units of which nothing could be decoded.
    pub failed: u64,
    /// Seconds from the first unit's start to the last one's end, without opening the device.
    pub seconds: f64,
    /// Which decoders did how much.
    pub decoders: Value,
}

struct Deaf;

impl Observer for Deaf {
    fn began(&self, _: UnitKey) {}
    fn ended(&self, _: UnitKey) {}
}

/// Decodes every wanted frame of `plans`.
///
/// # Errors
/// The first error that is not an input's.
pub fn decode_alone(job: &Job, plans: &[Arc<Plan>]) -> Result<Alone> {
    let forbidden = job.file.fallback == Fallback::Forbid;
    let opened = device::open(job.device, forbidden, job.file.memory.0 / 4)?;
    let (stop, progress, suspects, solo) = (Stop::default(), Progress::default(), Suspects::default(), RwLock::new(()));
    let fallbacks = Fallbacks::new(false, &progress.fallbacks);
    let shared = Shared::new(job, plans, None, &stop, &progress, fallbacks, opened.backend.surfaces())?;
    let tasks: VecDeque<_> = plans.iter().flat_map(|plan| plan.tasks().map(|task| (plan.clone(), task))).collect();
    let queue = Queue::new(plans, tasks, 0);
    let threads = job.threads;
    let (work_out, work_in) = bounded::<Box<Work>>(threads.max(opened.backend.pace().items));
    let (end_out, end_in) = bounded::<Message>(threads * 4);
    let begun = Instant::now();
    let (mut frames, mut bytes, mut failed) = (0, 0, 0);
    std::thread::scope(|scope| {
        let mut handles = Vec::new();
        for i in 0..threads {
            let (work_out, end_out, shared, queue, suspects, solo) =
                (work_out.clone(), end_out.clone(), &shared, &queue, &suspects, &solo);
            let work = move || {
                shared.decode.thread(|| decode_units(shared, queue, &Deaf, suspects, solo, &work_out, &end_out))
            };
            start(scope, shared, &mut handles, format!("decode-{i}"), work);
        }
        drop((work_out, end_out));
        let (frames, bytes, failed) = (&mut frames, &mut bytes, &mut failed);
        scope.spawn(move || {
            for work in work_in {
                *frames += work.frames.len() as u64;
                *bytes += work.frames.iter().map(|frame| frame.bytes() as u64).sum::<u64>();
            }
        });
        scope.spawn(move || {
            *failed = end_in.into_iter().filter(|m| matches!(m, Message::End { outcome: Err(_), .. })).count() as u64;
        });
        join(&shared, handles);
    });
    let seconds = begun.elapsed().as_secs_f64();
    shared.first_error()?;
    Ok(Alone { frames, bytes, failed, seconds, decoders: shared.decoders() })
}
