//! Cutting: long videos become units, where that is sound.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::Unit;
use crate::error::Result;
use crate::input::{self, Expected, Inputs, Life, Sources};
use crate::job::Job;
use crate::sample::Rule;

/// Bytes a second below which a video is hardly ever encoded; a file too small to be longer than a unit at this rate is
/// not opened.
const LOWEST_RATE: f64 = 6_000.0;

/// How many remote videos are looked into at a time.
const REMOTE_READERS: usize = 16;

/// A time range of a long video.
pub(super) struct Part {
    /// First presentation time; open where `None`.
    pub from: Option<i64>,
    /// Presentation time behind it; open where `None`.
    pub to: Option<i64>,
    /// Its length, roughly.
    pub seconds: f64,
}

/// The parts of all inputs that were looked into. Only files that may be long videos are opened, several at a time;
/// `tick` hears how many of how many.
pub(super) fn cuts(
    job: &Job,
    inputs: &Inputs,
    known: &HashSet<u64>,
    tick: &dyn Fn(u64, u64),
) -> Result<BTreeMap<usize, Vec<Part>>> {
    let least = (job.file.unit.as_f64() * LOWEST_RATE) as u64;
    let may_be_long = |i: &usize| {
        let item = inputs.item(*i);
        // A row of a list that names something elsewhere costs no request: it stays whole.
        let unknown = item.bytes.is_none() && !input::is_remote(&item.uri);
        !known.contains(&item.identity)
            && !input::named_like_photo(&item.uri)
            && (unknown || item.bytes.is_some_and(|bytes| bytes > least))
    };
    let long: Vec<usize> = (0..inputs.len()).filter(may_be_long).collect();
    let remote = long.iter().any(|i| input::is_remote(inputs.uri(*i)));
    // Those who wait for the network need no core.
    let threads = if remote { job.threads.max(REMOTE_READERS) } else { job.threads };
    let sources = Sources::new(&job.file.input, job.file.memory.0 / 8, threads);
    let next = AtomicUsize::new(0);
    let (done, results) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.min(long.len()) {
            let done = done.clone();
            let (next, long, sources) = (&next, &long, &sources);
            scope.spawn(move || {
                while let Some(&i) = long.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // The receiver waits for all of them.
                    let _ = done.send((i, cut(job, sources, &Unit::new(i as u64, inputs.item(i)), least)));
                }
            });
        }
        drop(done);
        let mut found = BTreeMap::new();
        for (count, (i, parts)) in (1..).zip(results) {
            tick(count, long.len() as u64);
            parts.and_then(|parts| found.insert(i, parts));
        }
        Ok(found)
    })
}

/// Why a job's videos stay whole, whatever their length.
pub fn uncut(job: &Job) -> Option<&'static str> {
    match job.sampling.rule {
        _ if job.best().is_some() => Some("the best frames of a video are the best of all of it"),
        _ if job.sampling.keys_alone() => Some("key frames alone are decoded, which costs little"),
        Rule::Scenes(_) => Some("a scene is judged by the frames around it, and may be as long as the video"),
        _ => None,
    }
}

/// The parts of a long video; `None` where the input stays whole: a short one, one that cannot be cut soundly, or one
/// that cannot be opened (the run finds out why).
#[cfg(feature = "ffmpeg")]
fn cut(job: &Job, sources: &Sources, unit: &Unit, least: u64) -> Option<Vec<Part>> {
    use crate::decode::image::{MediaKind, SNIFF_BYTES, sniff};
    use crate::decode::video::{VideoOptions, VideoReader, stated_seconds};

    let source = sources.open(&unit.path, Expected::default(), &Life::default()).ok()?;
    let head = source.head(SNIFF_BYTES).ok()?;
    if source.len() <= least || sniff(&head) != MediaKind::Other || uncut(job).is_some() {
        return None;
    }
    let length = job.file.unit.as_f64();
    if let Some(seconds) = stated_seconds(source.clone(), job.file.sample.stream).filter(|s| *s <= length) {
        return Some(vec![Part { from: None, to: None, seconds }]);
    }
    let options =
        VideoOptions { stream: job.file.sample.stream, max_pixels: job.file.max_pixels, ..Default::default() };
    let mut reader = VideoReader::open(source, unit.name(), &options).ok()?;
    let info = reader.info();
    let (start, seconds, (num, den)) = (info.start_pts?, info.duration_s?, info.time_base);
    if seconds <= length || !reader.scan().ok()?.indexed {
        return Some(vec![Part { from: None, to: None, seconds }]);
    }
    // Edges in ticks from the stream's start, exactly the same on every machine.
    let edge = |k: u64| -> Option<i64> {
        let ticks = i128::from(k) * i128::from(job.file.unit.num()) * i128::from(den)
            / (i128::from(job.file.unit.den()) * i128::from(num));
        i64::try_from(i128::from(start) + ticks).ok()
    };
    let count = (seconds / length).ceil() as u64;
    let mut parts = Vec::new();
    for k in 0..count {
        let from = if k == 0 { None } else { Some(edge(k)?) };
        let to = if k + 1 == count { None } else { Some(edge(k + 1)?) };
        parts.push(Part { from, to, seconds: length });
    }
    Some(parts)
}

#[cfg(not(feature = "ffmpeg"))]
fn cut(_: &Job, _: &Sources, _: &Unit, _: u64) -> Option<Vec<Part>> {
    None
}
