//! `--trace`: what each thread of a run did when, as a timeline that Perfetto and Chrome read.
//!
//! Promises: it holds no more than [`MOST`] slices, however long the run: when it is full, the shortest are left out and
//! counted, so that what is kept shows the whole run, coarser.

use std::path::Path;

use serde_json::{Value, json};

use super::{SUPERVISOR, Slice};
use crate::error::Result;
use crate::store;

/// Slices that a timeline holds at most: some 30 MB of JSON.
pub const MOST: usize = 200_000;

/// Something at one moment of a run.
#[derive(Debug)]
struct Mark {
    process: usize,
    name: String,
    at: u64,
}

/// A whole run's slices, of all its engine processes.
#[derive(Debug)]
pub struct Timeline {
    most: usize,
    /// The process that each belongs to: 0 is the one that supervises.
    slices: Vec<(usize, Slice)>,
    marks: Vec<Mark>,
    process: usize,
    left_out: u64,
    shortest: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Timeline::holding(MOST)
    }
}

impl Timeline {
    fn holding(most: usize) -> Self {
        Timeline { most, slices: Vec::new(), marks: Vec::new(), process: 0, left_out: 0, shortest: 0 }
    }

    /// Slices that follow are of another engine process.
    pub fn engine(&mut self) {
        self.process += 1;
    }

    /// Adds what an engine's threads did, and how many slices it had to drop.
    pub fn add(&mut self, slices: &[Slice], dropped: u64) {
        self.left_out += dropped;
        for slice in slices {
            self.put(self.process, slice.clone());
        }
    }

    /// Adds work of the supervising process.
    pub fn own(&mut self, slice: Slice) {
        self.put(0, slice);
    }

    /// Notes something that happened to the current engine, `at` nanoseconds since the Unix epoch.
    pub fn mark(&mut self, name: &str, at: u64) {
        self.marks.push(Mark { process: self.process, name: name.into(), at });
    }

    fn put(&mut self, process: usize, slice: Slice) {
        if slice.length < self.shortest {
            self.left_out += 1;
            return;
        }
        self.slices.push((process, slice));
        if self.slices.len() > self.most {
            let mut lengths: Vec<u64> = self.slices.iter().map(|(_, s)| s.length).collect();
            let (_, median, _) = lengths.select_nth_unstable(self.most / 2);
            // One more than the median, so that also slices of one length come down to less.
            self.shortest = *median + 1;
            let before = self.slices.len();
            self.slices.retain(|(_, s)| s.length >= self.shortest);
            self.left_out += (before - self.slices.len()) as u64;
        }
    }

    /// The events in the format of Chrome's tracing, which Perfetto reads too: times in microseconds since the first.
    pub fn events(&self) -> Value {
        let starts = self.slices.iter().map(|(_, s)| s.start).chain(self.marks.iter().map(|m| m.at));
        let zero = starts.min().unwrap_or(0);
        let micros = |ns: u64| ns as f64 / 1e3;
        let mut threads: Vec<(usize, &str)> = self.slices.iter().map(|(p, s)| (*p, &*s.thread)).collect();
        threads.sort_unstable_by_key(|(process, thread)| (*process, order(thread)));
        threads.dedup();
        let mut events = Vec::new();
        let meta = |name: &str, pid: usize, tid: usize, args: Value| json!({ "ph": "M", "name": name, "pid": pid, "tid": tid, "args": args });
        for process in 0..=self.process {
            let name = if process == 0 { "supervisor".to_string() } else { format!("engine {process}") };
            events.push(meta("process_name", process, 0, json!({ "name": name })));
            events.push(meta("process_sort_index", process, 0, json!({ "sort_index": process })));
        }
        for (i, (process, thread)) in threads.iter().enumerate() {
            events.push(meta("thread_name", *process, i + 1, json!({ "name": thread })));
            events.push(meta("thread_sort_index", *process, i + 1, json!({ "sort_index": i })));
        }
        let place =
            |process: usize, thread: &str| threads.iter().position(|t| *t == (process, thread)).unwrap_or(0) + 1;
        let mut slices: Vec<&(usize, Slice)> = self.slices.iter().collect();
        slices.sort_by_key(|(_, s)| s.start);
        for (process, slice) in slices {
            events.push(json!({
                "ph": "X",
                "name": slice.name,
                "cat": slice.kind.name(),
                "cname": slice.kind.color(),
                "pid": process,
                "tid": place(*process, &slice.thread),
                "ts": micros(slice.start - zero),
                "dur": micros(slice.length),
                "args": { "tasks": slice.tasks },
            }));
        }
        for mark in &self.marks {
            let ts = micros(mark.at.saturating_sub(zero));
            events.push(json!({ "ph": "i", "s": "p", "name": mark.name, "pid": mark.process, "tid": 0, "ts": ts }));
        }
        json!({
            "traceEvents": events,
            "displayTimeUnit": "ms",
            "otherData": {
                "framemill": env!("CARGO_PKG_VERSION"),
                "left_out": self.left_out,
                "shortest_us": micros(self.shortest),
            },
        })
    }

    /// Writes [`Timeline::events`] into a file.
    ///
    /// # Errors
    /// Store.
    pub fn write(&self, file: &Path) -> Result<()> {
        store::replace(file, self.events().to_string().as_bytes())
    }
}

/// Stages in the order of the pipeline, threads by their numbers.
fn order(thread: &str) -> (usize, usize, &str) {
    const STAGES: [&str; 7] = [SUPERVISOR, "decode", "compute", "detect", "encode", "sink", "commit"];
    let (stage, number) = thread.rsplit_once('-').unwrap_or((thread, "0"));
    let place = STAGES.iter().position(|s| *s == stage).unwrap_or(STAGES.len());
    (place, number.parse().unwrap_or(0), thread)
}

#[cfg(test)]
mod tests {
    use super::super::{Clock, Kind};
    use super::*;

    fn slice(thread: &str, start: u64, length: u64) -> Slice {
        Slice { thread: thread.into(), kind: Kind::Busy, name: "x".into(), start, length, waited: 0, tasks: vec![7] }
    }

    #[test]
    fn a_full_timeline_leaves_out_the_shortest_and_counts_them() {
        let mut timeline = Timeline::holding(100);
        timeline.engine();
        let slices: Vec<Slice> = (0..1000).map(|i| slice("encode-0", i * 1000, 1 + i % 50)).collect();
        timeline.add(&slices, 3);
        assert!(timeline.slices.len() <= 100 && !timeline.slices.is_empty());
        assert_eq!(timeline.slices.len() as u64 + timeline.left_out, 1003);
        assert!(timeline.slices.iter().all(|(_, s)| s.length >= timeline.shortest) && timeline.shortest > 1);
        let same: Vec<Slice> = (0..1000).map(|i| slice("sink", i, 7)).collect();
        let mut timeline = Timeline::holding(100);
        timeline.add(&same, 0);
        assert!(timeline.slices.len() <= 100, "slices of one length are bounded too");
    }

    #[test]
    fn events_are_chromes_with_named_threads_in_the_order_of_the_pipeline() {
        let mut timeline = Timeline::default();
        let now = || Clock::default().now();
        timeline.own(slice(SUPERVISOR, now(), 1_000));
        timeline.engine();
        timeline
            .add(&[slice("sink", now(), 5_000), slice("decode-10", now(), 5_000), slice("decode-2", now(), 1_500)], 0);
        timeline.mark("died", now());
        timeline.engine();
        timeline.add(&[slice("decode-0", now(), 1)], 0);
        let events = timeline.events();
        let all = events["traceEvents"].as_array().unwrap();
        let threads: Vec<&str> =
            all.iter().filter(|e| e["name"] == "thread_name").map(|e| e["args"]["name"].as_str().unwrap()).collect();
        assert_eq!(threads, ["supervisor", "decode-2", "decode-10", "sink", "decode-0"]);
        let whole: Vec<&Value> = all.iter().filter(|e| e["ph"] == "X").collect();
        assert_eq!(whole.len(), 5);
        assert!(whole.iter().all(|e| e["ts"].as_f64() >= Some(0.0) && e["cat"] == "busy"));
        assert!(whole.iter().any(|e| e["dur"] == 1.5 && e["pid"] == 1));
        assert!(all.iter().any(|e| e["ph"] == "i" && e["name"] == "died" && e["pid"] == 1));
    }
}
