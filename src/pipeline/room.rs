//! The room that temporaries have on disk (`--scratch-limit`): shards on their way to a bucket, samples that wait for their
//! turn.
//!
//! Invariants: a task begins only where what the largest one before it took fits beside what is there and promised, or where it
//! is alone. Whatever grows asks before it is written, and waits for tasks that are being published and for nothing else: those
//! need nobody else to get done, so nothing can deadlock. Where there is none to wait for, a task that does not fit by itself is
//! an error, and several that do not fit together, because they are larger than those before, go beyond the limit, which is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::lock;
use crate::error::{Error, Result};
use crate::job::values::ByteSize;

/// How often one who waits looks whether the run goes on.
const TICK: Duration = Duration::from_millis(50);

/// What a task has on disk, in bytes.
#[derive(Debug, Default)]
struct Held {
    shard: u64,
    spool: u64,
    /// Its shard is whole: it is being published, and then gone.
    leaving: bool,
}

impl Held {
    fn bytes(&self) -> u64 {
        self.shard + self.spool
    }
}

/// What something is written to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Part {
    Shard,
    Spool,
}

#[derive(Debug, Default)]
struct State {
    tasks: BTreeMap<u64, Held>,
    largest: Option<u64>,
    high_water: u64,
    told: bool,
}

impl State {
    fn used(&self) -> u64 {
        self.tasks.values().map(Held::bytes).sum()
    }
}

/// The room of one process.
#[derive(Debug)]
pub(super) struct Room {
    /// `None` where whatever is written is right.
    limit: Option<u64>,
    /// Shards count: they lie where they are not to stay.
    shards: bool,
    /// About how much a task takes, as long as none has been done.
    expected: u64,
    state: Mutex<State>,
    changed: Condvar,
}

impl Room {
    /// Room for `limit` bytes. With `shards` those count, too; a task is expected to have `expected` bytes of them.
    pub fn new(limit: Option<u64>, shards: bool, expected: u64) -> Room {
        let expected = if shards { expected } else { 0 };
        Room { limit, shards, expected, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Whether anything is to be counted.
    pub fn counts(&self, part: Part) -> bool {
        self.limit.is_some() && (self.shards || part == Part::Spool)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits until one more task may begin, or `waiting` says that nobody wants to any more.
    pub fn admit(&self, waiting: impl Fn() -> bool) {
        let Some(limit) = self.limit else { return };
        let mut state = lock(&self.state);
        loop {
            let need = state.largest.map_or(self.expected, |largest| largest + largest / 4);
            let promised = |held: &Held| if held.leaving { held.bytes() } else { held.bytes().max(need) };
            let all = state.tasks.values().map(promised).sum::<u64>() + need;
            if state.tasks.is_empty() || all <= limit || !waiting() {
                return;
            }
            state = self.wait(state);
        }
    }

    /// A task begins.
    pub fn open(&self, task: u64) {
        lock(&self.state).tasks.insert(task, Held::default());
    }

    /// Asks for room to write so many bytes of `task`; waits for it while `waiting` says so.
    ///
    /// # Errors
    /// Store, where the task does not fit by itself, naming `folder`.
    pub fn grow(&self, task: u64, part: Part, bytes: u64, folder: &Path, waiting: impl Fn() -> bool) -> Result<()> {
        let Some(limit) = self.limit.filter(|_| self.counts(part)) else { return Ok(()) };
        let mut state = lock(&self.state);
        while state.used() + bytes > limit && waiting() {
            if state.tasks.iter().any(|(other, held)| *other != task && held.leaving) {
                state = self.wait(state);
                continue;
            }
            let own = state.tasks.get(&task).map_or(0, Held::bytes) + bytes;
            if own > limit {
                return Err(too_small(task, own, limit, folder));
            }
            if !std::mem::replace(&mut state.told, true) {
                tracing::warn!(
                    "the shards that are open are larger than those before and together need {} in {}, more than the \
                     --scratch-limit of {}: they go beyond it this time",
                    ByteSize(state.used() + bytes),
                    folder.display(),
                    ByteSize(limit)
                );
            }
            break;
        }
        let held = state.tasks.entry(task).or_default();
        match part {
            Part::Shard => held.shard += bytes,
            Part::Spool => held.spool += bytes,
        }
        state.high_water = state.high_water.max(state.used());
        Ok(())
    }

    /// The shard of a task is whole, what waited for its turn is gone.
    pub fn leave(&self, task: u64) {
        let mut state = lock(&self.state);
        if let Some(held) = state.tasks.get_mut(&task) {
            let peak = held.bytes();
            (held.spool, held.leaving) = (0, true);
            state.largest = state.largest.max(Some(peak));
        }
        self.changed.notify_all();
    }

    /// Nothing of a task is there any more.
    pub fn close(&self, task: u64) {
        lock(&self.state).tasks.remove(&task);
        self.changed.notify_all();
    }

    /// The limit and the most bytes that were there at one time; `None` where there is no limit.
    pub fn report(&self) -> Option<(u64, u64)> {
        self.limit.map(|limit| (limit, lock(&self.state).high_water))
    }
}

fn too_small(task: u64, need: u64, limit: u64, folder: &Path) -> Error {
    Error::store(format!(
        "task {task} needs {} or more in {} for its shard and the samples that wait for their turn, but --scratch-limit is {}: \
         raise that and run the same command again, finished tasks are kept; or begin another output with smaller shards \
         (--shard-bytes, --shard-samples)",
        ByteSize(need),
        folder.display(),
        ByteSize(limit)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const HERE: &str = "/scratch";

    fn grow(room: &Room, task: u64, bytes: u64) -> Result<()> {
        room.grow(task, Part::Shard, bytes, Path::new(HERE), || true)
    }

    /// Whether another task may begin at once.
    fn admits(room: &Room) -> bool {
        let asked = AtomicU64::new(0);
        room.admit(|| {
            asked.fetch_add(1, Ordering::Relaxed);
            false
        });
        asked.into_inner() == 0
    }

    #[test]
    fn a_task_begins_where_it_fits_beside_what_is_promised() {
        let room = Room::new(Some(100), true, 60);
        assert!(admits(&room), "one that is alone");
        room.open(1);
        assert!(!admits(&room), "two of 60");
        grow(&room, 1, 20).unwrap();
        room.leave(1);
        // 20 on their way out, and room for one of 25.
        assert!(admits(&room));
        room.open(2);
        assert!(admits(&room));
        room.open(3);
        room.open(4);
        assert!(!admits(&room), "20 that leave and four of 25");
        room.close(1);
        assert!(admits(&room));
        let room = Room::new(None, true, 60);
        (0..9).for_each(|task| room.open(task));
        assert!(admits(&room) && grow(&room, 0, u64::MAX / 2).is_ok() && room.report().is_none());
    }

    #[test]
    fn one_that_grows_waits_for_those_that_leave() {
        let room = Room::new(Some(100), true, 10);
        room.open(1);
        room.open(2);
        grow(&room, 1, 70).unwrap();
        room.leave(1);
        let grown = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                grow(&room, 2, 50).unwrap();
                grown.store(1, Ordering::SeqCst);
            });
            std::thread::sleep(Duration::from_millis(120));
            assert_eq!(grown.load(Ordering::SeqCst), 0, "it does not go beyond the limit");
            room.close(1);
        });
        assert_eq!((grown.into_inner(), room.report()), (1, Some((100, 70))));
    }

    #[test]
    fn what_cannot_fit_says_so_and_what_could_by_itself_goes_on() {
        let room = Room::new(Some(100), true, 10);
        room.open(1);
        grow(&room, 1, 90).unwrap();
        let error = grow(&room, 1, 11).unwrap_err();
        assert!(error.exit_code() == 74, "{error}");
        for word in ["task 1", HERE, "101", "--scratch-limit is 100", "--shard-bytes"] {
            assert!(error.message.contains(word), "{word} is not in: {error}");
        }
        room.open(2);
        grow(&room, 2, 40).unwrap();
        assert_eq!(room.report(), Some((100, 130)), "each fits by itself, and none leaves");
        let room = Room::new(Some(100), false, 1000);
        room.open(1);
        room.open(2);
        grow(&room, 1, 500).unwrap();
        assert!(admits(&room), "shards that stay where they are count for nothing");
        room.grow(1, Part::Spool, 101, Path::new(HERE), || true).unwrap_err();
    }
}
