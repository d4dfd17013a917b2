//! What is left to decode, unit by unit: tasks that are given, then those that are leased.
//!
//! Invariant: a task is open with the collector before any of its units is handed out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::collect::Message;
use super::{Shared, TaskInfo, decode, lock, stopping};
use crate::error::{Error, Result};
use crate::input::Early;
use crate::lease::{Leases, Take};
use crate::plan::Plan;

/// Tasks that are not begun, and the one that is, with the index of its next unit.
type Waiting = (VecDeque<(Arc<Plan>, u64)>, Option<Begun>);

/// The task that is handed out.
struct Begun {
    info: Arc<TaskInfo>,
    /// Its next unit.
    next: usize,
    /// Its units from `next` on that are being opened already, in order: the network is waited for while others decode.
    early: VecDeque<Option<Early>>,
}

impl Begun {
    fn skips(&self, index: usize) -> bool {
        self.info.decision.iter().flatten().any(|r| r.is_of(&self.info.units[index]))
    }

    /// Opens what comes after the next unit.
    fn look_ahead(&mut self, shared: &Shared) {
        while self.early.len() < shared.sources.ahead() {
            let index = self.next + self.early.len();
            let Some(unit) = self.info.units.get(index) else { return };
            let wanted = !self.skips(index);
            let early = wanted.then(|| shared.sources.begin(&unit.path, decode::expected(unit))).flatten();
            self.early.push_back(early);
        }
    }
}

/// What a decoder thread takes: a unit of a task, perhaps open.
pub(super) type Taken = (Arc<TaskInfo>, usize, Option<Early>);

/// What is left to decode.
pub(super) struct Queue<'a> {
    plans: &'a [Arc<Plan>],
    tasks: Mutex<Waiting>,
    /// Units that nobody has decoded yet, those that other workers may take among them.
    pub left: AtomicU64,
}

impl<'a> Queue<'a> {
    /// The given tasks of `plans`, and `shared` units of others that may be leased.
    pub fn new(plans: &'a [Arc<Plan>], tasks: VecDeque<(Arc<Plan>, u64)>, shared: u64) -> Self {
        let units = tasks.iter().map(|(plan, task)| plan.len_of(*task)).sum::<u64>() + shared;
        Queue { plans, tasks: Mutex::new((tasks, None)), left: AtomicU64::new(units) }
    }

    /// The next unit. Opens tasks as they come, telling the collector first.
    pub fn next(&self, shared: &Shared, to: &Sender<Message>) -> Result<Option<Taken>> {
        let mut inner = lock(&self.tasks);
        loop {
            if stopping(shared) {
                return Ok(None);
            }
            if let Some(begun) = inner.1.as_mut()
                && begun.next < begun.info.units.len()
            {
                begun.look_ahead(shared);
                let (index, early) = (begun.next, begun.early.pop_front().flatten());
                begun.next += 1;
                if begun.skips(index) {
                    self.left.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                return Ok(Some((begun.info.clone(), index, early)));
            }
            inner.1 = None;
            // Before anything is leased: what waits here may be somebody else's.
            shared.room.admit(|| !stopping(shared) && !shared.stop.draining());
            if shared.stop.draining() {
                return Ok(None);
            }
            let next = match (inner.0.pop_front(), &shared.leases) {
                (Some((plan, task)), _) => Some((plan, task, false)),
                (None, Some(leases)) => self.lease(shared, leases)?,
                (None, None) => None,
            };
            let Some((plan, task, fresh)) = next else { return Ok(None) };
            let decision = match &shared.ledger {
                // Whoever may have decided it held a lease. Where a run without leases did, the commit finds out.
                Some(ledger) if !fresh => ledger.decision(task)?,
                _ => None,
            };
            let units = plan.units(task)?.into_iter().map(Arc::new).collect();
            let info = Arc::new(TaskInfo { task, plan, units, decision });
            shared.room.open(task);
            if shared.decode.send(to, Message::Open(info.clone())).is_err() {
                return Ok(None);
            }
            inner.1 = Some(Begun { info, next: 0, early: VecDeque::new() });
        }
    }

    /// A task of those that workers share, and whether nobody had it before; waits while others may still lose theirs.
    fn lease(&self, shared: &Shared, leases: &Leases) -> Result<Option<(Arc<Plan>, u64, bool)>> {
        loop {
            let (task, fresh) = match leases.take()? {
                Take::Fresh(task) => (task, true),
                Take::Left(task) => (task, false),
                Take::Nothing => return Ok(None),
                Take::Wait => {
                    let until = Instant::now() + leases.patience();
                    while Instant::now() < until {
                        if stopping(shared) || shared.stop.draining() {
                            return Ok(None);
                        }
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    continue;
                }
            };
            let plan = self.plans.iter().find(|p| p.tasks().contains(&task));
            let plan = plan.ok_or_else(|| Error::bug(format!("task {task} is in no plan")))?;
            return Ok(Some((plan.clone(), task, fresh)));
        }
    }
}
