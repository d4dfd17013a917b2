//! One unit: its frames are decoded, the wanted ones handed on.
//!
//! Promises: what a unit gives is a function of the input and the job. A video in which anything is wrong is decoded
//! again from the file's start with one thread and fixed concealment, and only that counts. What decodes is kept; a unit that
//! gives nothing at all is an error.

#[cfg(feature = "ffmpeg")]
mod video;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::budget::{Budget, Credit};
use super::{Shared, UnitKey, stopping};
use crate::bytes::ByteSource;
use crate::decode::image::{self, MediaKind, SNIFF_BYTES, sniff};
use crate::error::{Error, RejectKind, Result};
use crate::frame::Frame;
use crate::input::{self, Early, Expected, Life};
use crate::plan::Unit;
use crate::sample::stream_micros;
use crate::sink::record::{Media, Record};
use crate::sink::scenes::Scene;
use crate::store::Output;
use crate::task::Frames;

/// A chosen frame, or the frames of a clip, on the way to becoming samples.
pub(super) struct Work {
    /// Where it belongs.
    pub key: UnitKey,
    /// Which try of the unit.
    pub attempt: u32,
    /// Its number within the unit.
    pub seq: u64,
    /// The frames, none of them transparent.
    pub frames: Vec<Arc<Frame>>,
    /// The first as it was decoded: what a record tells of.
    pub decoded: Arc<Frame>,
    /// What is known of the source.
    pub source: Arc<Record>,
    /// Time of the first frame since the stream's start in microseconds.
    pub time_us: i64,
    /// Seconds since the stream's start.
    pub time_s: f64,
    /// How many frames of the unit had the same time before it.
    pub repeat: u32,
    /// What is wrong with the frames.
    pub damage: Option<Damage>,
    /// The list's own values and fields.
    pub unit: Arc<Unit>,
    /// Bytes that it holds.
    pub credit: Vec<Credit>,
}

/// What is wrong with a frame of a video; of several frames the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(feature = "ffmpeg"), expect(dead_code, reason = "without FFmpeg there are no videos"))]
pub(super) enum Damage {
    /// Something before it in the file did not decode: it may show traces of that.
    Before,
    /// It was itself decoded from damaged data.
    Itself,
}

impl Damage {
    /// As a record says it.
    pub fn text(self) -> &'static str {
        match self {
            Damage::Before => "the video is damaged before this frame, which may show traces of it",
            Damage::Itself => "decoded from damaged data",
        }
    }
}

/// What a unit came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Done {
    /// Frames.
    pub frames: Frames,
    /// How many [`Work`] items were handed on.
    pub items: u64,
    /// Bytes of the input, where this unit is its first.
    pub bytes: u64,
    /// The scenes that were found, where they were looked for.
    pub scenes: Vec<Scene>,
    /// What was wrong although something came out.
    pub warning: Option<String>,
}

/// How a unit ended early.
pub(super) enum Halt {
    /// The run is stopping: nothing that follows counts.
    Stopping,
    /// The unit is bad.
    Bad(Error),
}

impl From<Error> for Halt {
    fn from(e: Error) -> Halt {
        Halt::Bad(e)
    }
}

/// Where a unit's frames go.
pub(super) struct Exit<'a> {
    pub shared: &'a Shared<'a>,
    pub key: UnitKey,
    pub unit: Arc<Unit>,
    pub attempt: u32,
    pub items: u64,
    /// Grows while the unit lives.
    pub life: Life,
    /// Sees signs of life.
    pub pulse: &'a dyn Fn(),
    /// Hands an item on; false when stopping.
    pub send: &'a dyn Fn(Work) -> bool,
}

impl Exit<'_> {
    fn credit(&self, bytes: u64) -> Result<Credit, Halt> {
        credit(self, &self.shared.budget, bytes)
    }

    fn give(
        &mut self,
        frames: Vec<Arc<Frame>>,
        source: &Arc<Record>,
        moment: Moment,
        credit: Vec<Credit>,
    ) -> Result<(), Halt> {
        let decoded = frames.first().cloned().ok_or_else(|| Error::bug("a sample without a frame"))?;
        let opaque = |frame: &Arc<Frame>| self.shared.cpu.opaque(&self.shared.job.program, frame);
        let frames = frames.iter().map(opaque).collect::<Result<Vec<_>>>();
        let frames = frames.map_err(|e| e.context(self.unit.name()))?;
        let work = Work {
            key: self.key,
            attempt: self.attempt,
            seq: self.items,
            frames,
            decoded,
            source: source.clone(),
            time_us: moment.us,
            time_s: moment.s,
            repeat: moment.repeat,
            damage: moment.damage,
            unit: self.unit.clone(),
            credit,
        };
        self.items += 1;
        (self.pulse)();
        if (self.send)(work) { Ok(()) } else { Err(Halt::Stopping) }
    }
}

fn credit(exit: &Exit, budget: &Budget, bytes: u64) -> Result<Credit, Halt> {
    if bytes > budget.limit() {
        let (uri, limit) = (exit.unit.name(), budget.limit());
        tracing::warn!(uri, bytes, budget = limit, "an item larger than its part of --memory runs alone");
    }
    let waiting = || {
        (exit.pulse)();
        !stopping(exit.shared)
    };
    exit.shared.decode.blocked(|| budget.take(bytes, waiting)).ok_or(Halt::Stopping)
}

/// When a frame is shown, and whether anything is wrong with it.
#[derive(Clone, Copy)]
struct Moment {
    us: i64,
    s: f64,
    repeat: u32,
    damage: Option<Damage>,
}

/// What opening a unit's input is told of it.
pub(super) fn expected(unit: &Unit) -> Expected {
    // A copy elsewhere has an etag of its own.
    let etag = unit.version.clone().filter(|_| input::is_remote(&unit.path) && unit.path == unit.uri);
    Expected { bytes: unit.bytes, etag }
}

/// Decodes one unit, which may have been opened early.
pub(super) fn unit(exit: &mut Exit, early: Option<Early>, threads: usize) -> Result<Done, Halt> {
    test_hooks(&exit.unit.uri);
    let unit = exit.unit.clone();
    let source = match early {
        Some(early) => exit.shared.sources.finish(early, &exit.life)?,
        None => exit.shared.sources.open(&unit.path, expected(&unit), &exit.life)?,
    };
    let done = decoded(exit, &unit, &source, threads);
    match source.failure() {
        // Whatever a decoder made of missing bytes.
        Some(failure) if !matches!(done, Err(Halt::Stopping)) => Err(Halt::Bad(failure)),
        _ => done,
    }
}

fn decoded(exit: &mut Exit, unit: &Unit, source: &Arc<dyn ByteSource>, threads: usize) -> Result<Done, Halt> {
    unchanged(unit, &**source)?;
    if source.is_empty() {
        return Err(Error::input(RejectKind::Empty, format!("{}: the file has no bytes", unit.name())).into());
    }
    let head = source.head(SNIFF_BYTES).map_err(|e| unreadable(unit, &e))?;
    let mut done = match sniff(&head) {
        MediaKind::Photo(_) => photo(exit, &**source)?,
        MediaKind::Other => video(exit, source.clone(), threads)?,
    };
    done.items = exit.items;
    if unit.from.is_none() {
        done.bytes = source.len();
        if let Some(raw) = &exit.shared.raw {
            keep(unit, &**source, raw)?;
        }
    }
    Ok(done)
}

fn unreadable(unit: &Unit, error: &std::io::Error) -> Error {
    Error::input(
        RejectKind::Io,
        format!("{}: reading failed: {error}; see to the disk or mount and retry", unit.name()),
    )
}

/// Refuses a file that is not the one that was planned.
fn unchanged(unit: &Unit, source: &dyn ByteSource) -> Result<()> {
    let (Some(planned), now) = (unit.bytes, source.len()) else { return Ok(()) };
    if planned == now {
        // Copies of the same data have other times, so a time alone refuses nothing.
        let there = input::local_path(&unit.path).ok().and_then(|p| std::fs::metadata(p).ok());
        let version = there.map(|m| input::file_version(&m));
        if version.is_some() && unit.version.is_some() && version != unit.version {
            tracing::info!(uri = unit.name(), "modified since it was planned, with the same size");
        }
        return Ok(());
    }
    let text = format!(
        "{}: the file changed after it was planned (it had {planned} bytes, now {now}); restore it, or plan it again with \
         retry",
        unit.name()
    );
    Err(Error::input(RejectKind::Changed, text))
}

/// Keeps the source file under its identity.
fn keep(unit: &Unit, source: &dyn ByteSource, raw: &Output) -> Result<()> {
    let name = Path::new(unit.name());
    let ending = name.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    let name = format!("{}{ending}", unit.asset());
    if raw.size(&name)? == Some(source.len()) {
        return Ok(());
    }
    let mut at = 0;
    raw.write(&name, &mut |buffer| {
        let n = source.read_at(at, buffer).map_err(|e| unreadable(unit, &e))?;
        at += n as u64;
        Ok(n)
    })
}

/// Crashes and hangs on demand, for tests of the supervisor.
fn test_hooks(uri: &str) {
    let named = |name: &str| std::env::var(name).is_ok_and(|part| !part.is_empty() && uri.contains(&part));
    if named("FRAMEMILL_TEST_CRASH") {
        std::process::abort();
    }
    while named("FRAMEMILL_TEST_HANG") {
        std::hint::black_box(());
    }
    while named("FRAMEMILL_TEST_SLEEP") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// The fields of a record that are the same for all frames of a source.
fn about(unit: &Unit, media: Media, bytes: u64) -> Record {
    Record {
        uri: unit.name().to_string(),
        asset: unit.asset(),
        media,
        bytes: Some(bytes),
        columns: unit.cells.clone(),
        ..Record::default()
    }
}

fn photo(exit: &mut Exit, source: &dyn ByteSource) -> Result<Done, Halt> {
    let unit = exit.unit.clone();
    let data = source.read_all().map_err(|e| unreadable(&unit, &e))?;
    let credit = exit.credit(image::decoded_bytes(&data, &exit.shared.job.photo))?;
    let photo = image::decode(&data, unit.name(), &exit.shared.job.photo)?;
    let digest = Sha256::digest(&data);
    drop(data);
    let record = Record {
        source_sha256: Some(digest.iter().map(|b| format!("{b:02x}")).collect()),
        captured_at: photo.captured_at,
        codec: photo.codec.into(),
        pixel_format: photo.pixel_format,
        icc: photo.icc,
        warning: photo.warning.clone(),
        ..about(&unit, Media::Image, source.len())
    };
    if let Some(warning) = &photo.warning {
        tracing::warn!(uri = unit.name(), "{warning}");
    }
    let frames = Frames { packets: 1, decoded: 1, sampled: 1, corrupt: u64::from(photo.damaged), ..Frames::default() };
    let mut pictures = vec![Arc::new(photo.frame)];
    if let Some(clip) = exit.shared.job.sampling.clip {
        // A still lasts as long as it is looked at.
        pictures = vec![pictures[0].clone(); clip.frames as usize];
    }
    exit.give(pictures, &Arc::new(record), Moment { us: 0, s: 0.0, repeat: 0, damage: None }, vec![credit])?;
    Ok(Done { frames, warning: photo.warning, ..Done::default() })
}

#[cfg(not(feature = "ffmpeg"))]
fn video(exit: &mut Exit, _: Arc<dyn ByteSource>, _: usize) -> Result<Done, Halt> {
    let text = format!("{}: built without ffmpeg, so only photos can be read", exit.unit.name());
    Err(Error::input(RejectKind::Unsupported, text).into())
}

#[cfg(feature = "ffmpeg")]
fn video(exit: &mut Exit, source: Arc<dyn ByteSource>, threads: usize) -> Result<Done, Halt> {
    video::decode(exit, source, threads)
}
