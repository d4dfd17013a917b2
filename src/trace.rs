//! What each thread of a run did when, for who wants to know: a timeline in a file, spans for OpenTelemetry.
//!
//! Promises: without a [`Recorder`] a thread asks one thread-local and does nothing else. Slices leave the engine ten times
//! a second, so a crash costs only the last of them.

mod clock;
#[cfg(feature = "otlp")]
mod spans;
mod timeline;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;
use crate::job::JobFile;
pub use clock::Clock;
#[cfg(feature = "otlp")]
use spans::Spans;
pub use timeline::Timeline;

/// Waits below this are no more than the price of asking.
const SHORTEST_WAIT: Duration = Duration::from_micros(10);
/// Slices of one thread that wait to be taken, at most: more than a thread makes in the time between two looks.
const HELD: usize = 20_000;

/// What a thread was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Work. Waits inside it are slices of their own.
    Busy,
    /// Waiting for input.
    Starved,
    /// Waiting for room behind it.
    Blocked,
}

impl Kind {
    /// The word in reports and timelines.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Busy => "busy",
            Kind::Starved => "starved",
            Kind::Blocked => "blocked",
        }
    }

    /// The name of a colour in Chrome's viewer.
    fn color(self) -> &'static str {
        match self {
            Kind::Busy => "thread_state_running",
            Kind::Starved => "thread_state_sleeping",
            Kind::Blocked => "thread_state_iowait",
        }
    }
}

/// One stretch of time of one thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The thread.
    pub thread: String,
    /// What it did.
    pub kind: Kind,
    /// What it worked on, or what it waited for.
    pub name: String,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    /// Nanoseconds.
    pub length: u64,
    /// Nanoseconds of it in which the thread waited for input or for room.
    pub waited: u64,
    /// The tasks that it was for.
    pub tasks: Vec<u64>,
}

impl Slice {
    /// The stage that its thread is of.
    fn stage(&self) -> &str {
        self.thread.rsplit_once('-').map_or(&self.thread, |(stage, _)| stage)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one thread has done and nobody has taken yet.
#[derive(Debug)]
struct Track {
    thread: String,
    zero: (Instant, u64),
    slices: Mutex<(Vec<Slice>, u64)>,
}

impl Track {
    fn add(&self, kind: Kind, (name, tasks): (String, Vec<u64>), begun: Instant, length: Duration, waited: u64) {
        let mut held = lock(&self.slices);
        if held.0.len() >= HELD {
            held.1 += 1;
            return;
        }
        let start = self.zero.1 + begun.saturating_duration_since(self.zero.0).as_nanos() as u64;
        let (thread, length) = (self.thread.clone(), length.as_nanos() as u64);
        held.0.push(Slice { thread, kind, name, start, length, waited, tasks });
    }
}

thread_local! {
    static TRACK: RefCell<Option<Arc<Track>>> = const { RefCell::new(None) };
    /// Nanoseconds that this thread has waited.
    static WAITED: Cell<u64> = const { Cell::new(0) };
}

/// Collects the slices of a process's threads.
#[derive(Debug)]
pub struct Recorder {
    zero: (Instant, u64),
    tracks: Mutex<Vec<Arc<Track>>>,
}

impl Recorder {
    /// Slices are told in the time of the run's `clock`.
    pub fn new(clock: Clock) -> Self {
        Recorder { zero: (Instant::now(), clock.now()), tracks: Mutex::default() }
    }

    /// Records what the calling thread does from now on, under this name.
    pub fn enter(&self, thread: &str) {
        let track = Arc::new(Track { thread: thread.into(), zero: self.zero, slices: Mutex::default() });
        lock(&self.tracks).push(track.clone());
        TRACK.set(Some(track));
    }

    /// What came since it was last asked, and how many slices there was no room for.
    pub fn take(&self) -> (Vec<Slice>, u64) {
        let (mut all, mut lost) = (Vec::new(), 0);
        for track in lock(&self.tracks).iter() {
            let (slices, dropped) = std::mem::take(&mut *lock(&track.slices));
            all.extend(slices);
            lost += dropped;
        }
        (all, lost)
    }
}

/// Records a wait of this thread, where anybody wants to know.
pub fn wait(kind: Kind, begun: Instant, length: Duration) {
    if length < SHORTEST_WAIT {
        return;
    }
    TRACK.with_borrow(|track| {
        if let Some(track) = track {
            WAITED.set(WAITED.get() + length.as_nanos() as u64);
            track.add(kind, (kind.name().into(), Vec::new()), begun, length, 0);
        }
    });
}

/// A piece of work of this thread, from [`work`] until it is dropped.
pub struct Work(Option<Begun>);

struct Begun {
    track: Arc<Track>,
    what: (String, Vec<u64>),
    at: Instant,
    /// What the thread had waited by then.
    waited: u64,
}

/// Begins a piece of work; `what` gives its name and the tasks that it is for, and is asked only where anybody wants to know.
pub fn work(what: impl FnOnce() -> (String, Vec<u64>)) -> Work {
    let begin = |track: Arc<Track>| Begun { track, what: what(), at: Instant::now(), waited: WAITED.get() };
    Work(TRACK.with_borrow(Option::clone).map(begin))
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(Begun { track, what, at, waited }) = self.0.take() {
            track.add(Kind::Busy, what, at, at.elapsed(), WAITED.get() - waited);
        }
    }
}

/// The thread that the supervisor's own work is shown under.
const SUPERVISOR: &str = "supervisor";

/// Work of the supervising process that began at `begun` and ends now.
fn own(clock: Clock, name: &str, begun: Instant) -> Slice {
    let length = begun.elapsed().as_nanos() as u64;
    let (thread, start) = (SUPERVISOR.to_string(), clock.now().saturating_sub(length));
    Slice { thread, kind: Kind::Busy, name: name.into(), start, length, waited: 0, tasks: Vec::new() }
}

/// All that follow one run.
#[derive(Debug, Default)]
pub struct Traces {
    clock: Clock,
    timeline: Option<(PathBuf, Timeline)>,
    #[cfg(feature = "otlp")]
    spans: Option<Spans>,
}

impl Traces {
    /// What the job and the surroundings ask for.
    ///
    /// # Errors
    /// Store, where the timeline cannot be written.
    pub fn open(job: &JobFile) -> Result<Traces> {
        let clock = Clock::default();
        let timeline = job.trace.clone().map(|file| (file, Timeline::default()));
        if let Some((file, timeline)) = &timeline {
            // Better now than after hours that it cannot be written.
            timeline.write(file)?;
        }
        Ok(Traces {
            clock,
            timeline,
            #[cfg(feature = "otlp")]
            spans: Spans::open(job, clock),
        })
    }

    /// The clock by which threads are to be followed, where they are to be.
    pub fn wanted(&self) -> Option<Clock> {
        #[cfg(feature = "otlp")]
        if self.spans.is_some() {
            return Some(self.clock);
        }
        self.timeline.is_some().then_some(self.clock)
    }

    /// Slices that follow are of another engine process.
    pub fn engine(&mut self) {
        if let Some((_, timeline)) = &mut self.timeline {
            timeline.engine();
        }
    }

    /// Adds what an engine's threads did, and how many slices it had to drop.
    pub fn add(&mut self, slices: &[Slice], dropped: u64) {
        if let Some((_, timeline)) = &mut self.timeline {
            timeline.add(slices, dropped);
        }
        #[cfg(feature = "otlp")]
        if let Some(spans) = &mut self.spans {
            spans.add(slices);
        }
    }

    /// Adds work of the supervising process that began at `begun` and ends now.
    pub fn own(&mut self, name: &str, begun: Instant) {
        if let Some((_, timeline)) = &mut self.timeline {
            timeline.own(own(self.clock, name, begun));
        }
        #[cfg(feature = "otlp")]
        if let Some(spans) = &mut self.spans {
            spans.own(&own(self.clock, name, begun));
        }
    }

    /// Notes something that happened to the current engine just now.
    pub fn mark(&mut self, name: &str) {
        if let Some((_, timeline)) = &mut self.timeline {
            timeline.mark(name, self.clock.now());
        }
        #[cfg(feature = "otlp")]
        if let Some(spans) = &mut self.spans {
            spans.mark(name);
        }
    }

    /// The run has ended, with this exit code and report, or with an error.
    ///
    /// # Errors
    /// Store, where the timeline cannot be written.
    pub fn end(&mut self, ended: Result<(u8, Option<&Value>), String>) -> Result<()> {
        #[cfg(feature = "otlp")]
        if let Some(spans) = self.spans.take() {
            spans.end(ended);
        }
        #[cfg(not(feature = "otlp"))]
        let _ = ended;
        self.timeline.as_ref().map_or(Ok(()), |(file, timeline)| timeline.write(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_without_a_recorder_leave_nothing_and_those_with_one_all() {
        drop(work(|| unreachable!("nobody wants to know")));
        let recorder = Recorder::new(Clock::default());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                recorder.enter("decode-0");
                let outer = work(|| ("unit a".into(), vec![3]));
                wait(Kind::Blocked, Instant::now(), Duration::from_millis(2));
                wait(Kind::Starved, Instant::now(), Duration::from_nanos(50));
                drop(outer);
            });
        });
        let (slices, lost) = recorder.take();
        let told: Vec<_> = slices.iter().map(|s| (&*s.thread, s.kind, &*s.name)).collect();
        assert_eq!(told, [("decode-0", Kind::Blocked, "blocked"), ("decode-0", Kind::Busy, "unit a")]);
        let (wait, whole) = (&slices[0], &slices[1]);
        assert_eq!((&*whole.tasks, whole.waited, whole.stage()), (&[3][..], wait.length, "decode"));
        assert_eq!((lost, recorder.take().0.len()), (0, 0), "what was taken is gone");
    }
}
