//! One video: passes over it, what each chooses, and what becomes of a pass that meets damage.

use std::sync::atomic::Ordering;

use super::*;
use crate::decode::route::{Demand, Kind};
use crate::decode::video::{Deinterlace, Fields, FrameMeta, VideoOptions, VideoReader};
use crate::frame::PixelFormat;
use crate::geometry::Orientation;
use crate::job::{self, Fallback, Orient};
use crate::pipeline::scenes::{AHEAD, Scenes, Span};
use crate::sample::{ClipFrame, Clips, Decision, Pick, Rational, Rule, Sampling, Selector};

/// How one pass ended.
enum Pass {
    Whole(Box<Done>),
    /// Something was wrong: only a second, careful pass counts.
    Damaged,
    /// Hardware met something that it cannot do, for this reason: software has to do it, from the start.
    HandOver(String),
    /// A frame is interlaced: the frames beside it have to be decoded, too.
    Interlaced,
    /// Key frames were decoded alone, and one has no time or no whole picture by itself: what lies between is needed, too.
    Between,
}

/// How a pass decodes.
#[derive(Clone, Copy)]
struct How {
    decoder: Demand,
    threads: usize,
    careful: bool,
    deinterlace: Deinterlace,
    /// What lies between key frames is decoded though key frames alone are wanted.
    between: bool,
}

pub(super) fn decode(exit: &mut Exit, source: Arc<dyn ByteSource>, threads: usize) -> Result<Done, Halt> {
    let deinterlace = match exit.shared.job.file.deinterlace {
        // Until an interlaced frame is met.
        job::Deinterlace::Auto | job::Deinterlace::Off => Deinterlace::Off,
        job::Deinterlace::Bwdif => Deinterlace::All,
    };
    let mut how = How { decoder: exit.shared.decoder, threads, careful: false, deinterlace, between: false };
    loop {
        // What makes damaged videos decode alike everywhere.
        let careful = How { decoder: Demand::Software, threads: 1, careful: true, ..how };
        let next = match pass(exit, source.clone(), how) {
            Ok(Pass::Whole(done)) => return Ok(*done),
            Ok(Pass::HandOver(reason)) => {
                tracing::info!(uri = exit.unit.name(), reason, "decoding again in software");
                How { decoder: Demand::Software, ..how }
            }
            Ok(Pass::Interlaced) => {
                tracing::info!(uri = exit.unit.name(), "interlaced: decoding again with the frames beside each");
                How { deinterlace: Deinterlace::Flagged, ..how }
            }
            Ok(Pass::Between) => {
                tracing::info!(
                    uri = exit.unit.name(),
                    "key frames do not stand alone: decoding again with the frames between"
                );
                How { between: true, ..how }
            }
            // Threads look ahead, and damage behind the last wanted frame is none of this unit's.
            Ok(Pass::Damaged) if how.threads > 1 && !to_the_end(exit) => {
                How { decoder: Demand::Software, threads: 1, ..how }
            }
            Ok(Pass::Damaged) if !how.careful => careful,
            Ok(Pass::Damaged) => return Err(Error::bug("a second pass gave up for damage").into()),
            Err(halt) => return Err(halt),
        };
        if next.careful && !how.careful {
            tracing::info!(uri = exit.unit.name(), "damaged: decoding again with one thread");
        }
        how = next;
        exit.attempt += 1;
        exit.items = 0;
    }
}

/// The unit is read to its end whatever comes, so that whoever looks ahead sees nothing else.
fn to_the_end(exit: &Exit) -> bool {
    let sampling = part(&exit.shared.job.sampling, &exit.unit);
    let all = matches!(sampling.rule, Rule::All | Rule::Scenes(_));
    all && sampling.end.is_none() && exit.unit.to.is_none()
}

fn pass(exit: &mut Exit, source: Arc<dyn ByteSource>, how: How) -> Result<Pass, Halt> {
    let job = exit.shared.job;
    let sampling = part(&job.sampling, &exit.unit);
    let How { mut decoder, threads, careful, deinterlace, between } = how;
    let fields = deinterlace != Deinterlace::Off;
    if let (Demand::Hardware(kind), true) = (decoder, fields) {
        fall_back(exit, kind, "frames are deinterlaced in software, so they are decoded there")?;
    }
    if fields {
        decoder = Demand::Software;
    }
    let options = VideoOptions {
        stream: job.file.sample.stream,
        threads,
        max_pixels: job.file.max_pixels,
        keyframes_only: sampling.keys_alone() && !fields && !between,
        concealment_fixed: careful,
        decoder,
        // Scenes are found on the host, where every frame comes to.
        surfaces: exit.shared.surfaces && !matches!(sampling.rule, Rule::Scenes(_)),
        deinterlace,
        sessions: Some(exit.shared.sessions.clone()),
    };
    let about = (source.len(), source.etag().map(str::to_string));
    let uri = exit.unit.name().to_string();
    let reader = VideoReader::open(source.clone(), &uri, &options)?;
    let route = reader.route().clone();
    if let (Demand::Hardware(kind), None) = (decoder, route.hardware) {
        fall_back(exit, kind, &route.reason)?;
    }
    // Its reference pictures and those that its threads work on, at most what a codec allows.
    let info = reader.info();
    let picture = u64::from(info.width) * u64::from(info.height) * 3 / 2;
    // Three pictures make one that is deinterlaced.
    let beside = if fields { 3 } else { 0 };
    let waiting = if matches!(sampling.rule, Rule::Scenes(_)) { AHEAD as u64 } else { 0 };
    let _references = credit(exit, &exit.shared.references, picture * (6 + threads as u64 + waiting + beside))?;
    let mut walk = Walk::new(exit, reader, sampling, about.clone(), how)?;
    let end = walk.run();
    let mut end = walk.keep(end);
    let shared = walk.exit.shared;
    if let Ok(Pass::Whole(looked)) = &mut end
        && let Some(sampling) = walk.second(&looked.scenes)
    {
        shared.packets_fed.fetch_add(walk.reader.counters().packets_fed, Ordering::Relaxed);
        let looked = std::mem::take(&mut **looked);
        let Walk { exit, reader, .. } = walk;
        reader.retire();
        let reader = VideoReader::open(source.clone(), &uri, &options)?;
        walk = Walk::new(exit, reader, sampling, about, how)?;
        walk.looked = Some(looked);
        let read = walk.run();
        end = walk.keep(read);
    }
    shared.packets_fed.fetch_add(walk.reader.counters().packets_fed, Ordering::Relaxed);
    if let Some(kind) = route.hardware {
        let reason = match &end {
            Ok(Pass::Damaged) => Some(walk.reader.first_error().unwrap_or_else(|| "it met damage".into())),
            Err(Halt::Bad(e)) if e.reject != Some(RejectKind::Io) => {
                // Reasons are counted; the report names the file beside them.
                let text = e.message.strip_prefix(&format!("{uri}: "));
                Some(text.unwrap_or(&e.message).to_string())
            }
            _ => None,
        };
        if let Some(reason) = reason {
            fall_back(walk.exit, kind, &reason)?;
            return Ok(Pass::HandOver(reason));
        }
    }
    let end = match end {
        Err(Halt::Bad(e)) if walk.left_out() && may_be_damage(&e) => Ok(Pass::Between),
        Err(Halt::Bad(e)) if !careful && walk.gave() && may_be_damage(&e) => Ok(Pass::Damaged),
        end => end,
    };
    if let Ok(Pass::Whole(done)) = &end {
        if done.frames.lost.unexplained > 0 {
            tracing::warn!(
                uri,
                packets = done.frames.lost.unexplained,
                "packets gave no picture, and nothing tells why"
            );
        }
        shared.decoders.add(route.name(), &route.reason, done.frames.decoded);
        walk.reader.retire();
    }
    end
}

/// Another try may give more.
fn may_be_damage(error: &Error) -> bool {
    !matches!(error.reject, Some(RejectKind::Io | RejectKind::DeviceUnsupported))
}

/// Counts that software does what `kind` was to do, or refuses it.
fn fall_back(exit: &Exit, kind: Kind, reason: &str) -> Result<(), Halt> {
    let (uri, name) = (exit.unit.name(), kind.name());
    let demanded = matches!(exit.shared.decoder, Demand::Hardware(_));
    if demanded && exit.shared.job.file.fallback == Fallback::Forbid {
        let text = format!("{uri}: {name} cannot decode it: {reason}; use --decoder auto, or --fallback warn");
        return Err(Error::input(RejectKind::DeviceUnsupported, text).into());
    }
    exit.shared.fallbacks.decoder(Some(uri), name, &format!("decoder {name}: {reason}"));
    Ok(())
}

/// The sampling with the part that a list row selects.
fn part(sampling: &Sampling, unit: &Unit) -> Sampling {
    Sampling { start: unit.start.or(sampling.start), end: unit.end.or(sampling.end), ..sampling.clone() }
}

/// A frame that may become part of a sample.
struct Held {
    frame: Arc<Frame>,
    moment: Moment,
    credit: Option<Credit>,
}

struct OpenClip {
    frames: Vec<Arc<Frame>>,
    moment: Moment,
    credit: Vec<Credit>,
}

struct Walk<'a, 'b> {
    exit: &'a mut Exit<'b>,
    reader: VideoReader,
    selector: Option<Selector>,
    sampling: Sampling,
    clips: Option<Clips>,
    open: HashMap<u64, OpenClip>,
    held: Option<Held>,
    record: Arc<Record>,
    t0: i64,
    last_pts: Option<i64>,
    /// The frame before the part, which was not decoded: up to it everything is lead-in.
    before: Option<i64>,
    /// The second pass over a damaged video: everything is decoded from the file's start, so that a unit gives what
    /// the whole video would have given.
    careful: bool,
    deinterlace: Deinterlace,
    /// How often a time occurred, to tell keys apart; only times that may come again are kept.
    times: HashMap<i64, u32>,
    latest: Option<i64>,
    frames: Frames,
    /// Scenes that are looked for, with the frames that wait to be judged.
    scenes: Option<Scenes<Waiting>>,
    /// Time of the first frame behind the part.
    behind: Option<i64>,
    /// What a first reading of the stream came to, which found the scenes whose frames this one takes.
    looked: Option<Done>,
}

/// A frame of which it is not known yet whether a scene begins with it.
struct Waiting {
    /// None where the stream is only looked at.
    frame: Option<Arc<Frame>>,
    moment: Moment,
}

impl<'a, 'b> Walk<'a, 'b> {
    fn new(
        exit: &'a mut Exit<'b>,
        reader: VideoReader,
        sampling: Sampling,
        (bytes, etag): (u64, Option<String>),
        how: How,
    ) -> Result<Self, Halt> {
        let info = reader.info();
        let record = Record {
            captured_at: info.captured_at.clone(),
            codec: info.codec.clone(),
            pixel_format: info.pixel_format.clone(),
            time_base: format!("{}/{}", info.time_base.0, info.time_base.1),
            etag,
            ..about(&exit.unit, Media::Video, bytes)
        };
        let scenes = match sampling.rule {
            Rule::Scenes(threshold) => Some(Scenes::new(threshold, sampling.pick == Pick::Middle)),
            _ => None,
        };
        Ok(Walk {
            scenes,
            behind: None,
            looked: None,
            clips: sampling.clip.map(Clips::new),
            exit,
            reader,
            selector: None,
            sampling,
            open: HashMap::new(),
            held: None,
            record: Arc::new(record),
            t0: 0,
            last_pts: None,
            before: None,
            careful: how.careful,
            deinterlace: how.deinterlace,
            times: HashMap::new(),
            latest: None,
            frames: Frames::default(),
        })
    }

    fn run(&mut self) -> Result<Pass, Halt> {
        let mut meta = self.begin()?;
        while let Some(m) = meta {
            if stopping(self.exit.shared) {
                return Err(Halt::Stopping);
            }
            if self.reader.untimed() || (self.reader.damaged() && self.left_out()) {
                return Ok(Pass::Between);
            }
            if self.reader.damaged() && !self.careful {
                return Ok(Pass::Damaged);
            }
            if m.fields != Fields::Progressive && self.deinterlace == Deinterlace::Off && self.may_deinterlace() {
                return Ok(Pass::Interlaced);
            }
            (self.exit.pulse)();
            if self.frame(m)? {
                break;
            }
            self.skip()?;
            meta = self.reader.advance()?;
        }
        let counters = self.reader.counters();
        let without = self.reader.damaged() || counters.lost.unexplained > 0;
        if self.reader.untimed() || (without && self.left_out()) {
            return Ok(Pass::Between);
        }
        if self.reader.damaged() && !self.careful {
            return Ok(Pass::Damaged);
        }
        self.end()?;
        // In a part that begins behind others, nothing may be wanted; and no key frame may be shown.
        let needless = self.before.is_some() && counters.packets_fed == 0 || self.left_out();
        if counters.decoded == 0 && !needless {
            let why = self.reader.first_error().unwrap_or_else(|| "it holds no picture".into());
            let text = format!("{}: no frame could be decoded: {why}", self.exit.unit.name());
            return Err(Error::input(RejectKind::Corrupt, text).into());
        }
        let warning = if self.careful { self.reader.first_error() } else { None };
        if let Some(warning) = &warning {
            tracing::warn!(uri = self.exit.unit.name(), "damaged: {warning}");
        }
        Ok(self.whole(warning))
    }

    /// Packets between key frames were not decoded. What looks like damage may be that.
    fn left_out(&self) -> bool {
        self.reader.counters().between > 0
    }

    fn whole(&mut self, warning: Option<String>) -> Pass {
        let mut done = self.done(warning);
        if self.careful && self.second(&done.scenes).is_none() {
            done.frames.redecoded += done.frames.decoded;
        }
        Pass::Whole(Box::new(done))
    }

    /// Something came of the input.
    fn gave(&self) -> bool {
        self.exit.items > 0 || (self.looking() && self.frames.decoded > 0)
    }

    /// In a careful pass an error is the end of the stream: what decoded before it is kept, what is lost is said.
    fn keep(&mut self, end: Result<Pass, Halt>) -> Result<Pass, Halt> {
        match end {
            Err(Halt::Bad(e)) if self.careful && self.gave() && may_be_damage(&e) => {
                tracing::warn!(uri = self.exit.unit.name(), "{e}; what was decoded before is kept");
                self.end()?;
                self.frames.failed += 1;
                Ok(self.whole(Some(e.message)))
            }
            end => end,
        }
    }

    fn may_deinterlace(&self) -> bool {
        self.exit.shared.job.file.deinterlace != job::Deinterlace::Off
    }

    /// Only looks at the stream: the frames are another reading's.
    fn looking(&self) -> bool {
        self.scenes.is_some() && self.sampling.pick == Pick::Middle
    }

    /// The sampling of the second reading, where there is one.
    fn second(&self, scenes: &[Scene]) -> Option<Sampling> {
        let time_base = self.reader.info().time_base;
        let time = |s: &Scene| Rational::of_pts(s.sample_pts, self.t0, time_base);
        let times: Vec<Rational> = scenes.iter().filter_map(time).collect();
        let read = self.looking() && !times.is_empty();
        read.then(|| Sampling { rule: Rule::At(times), pick: Pick::Next, ..self.sampling.clone() })
    }

    fn done(&mut self, mut warning: Option<String>) -> Done {
        let counters = self.reader.counters();
        let mut frames = self.frames;
        frames.lead_in = counters.decoded.saturating_sub(frames.decoded);
        frames.redecoded += frames.lead_in;
        let scenes = if let Some(looked) = self.looked.take() {
            // The first reading decoded everything; this one only decodes again.
            let first = looked.frames;
            frames.redecoded += frames.decoded + first.redecoded;
            frames.failed += first.failed;
            warning = looked.warning.or(warning);
            (frames.packets, frames.decoded) = (first.packets, first.decoded);
            (frames.corrupt, frames.guessed_pts) = (first.corrupt, first.guessed_pts);
            (frames.lead_in, frames.extra, frames.lost) = (first.lead_in, first.extra, first.lost);
            looked.scenes
        } else {
            (frames.packets, frames.corrupt, frames.guessed_pts) =
                (counters.packets, counters.corrupt, counters.guessed_pts);
            (frames.extra, frames.lost) = (counters.extra, counters.lost);
            self.rows()
        };
        frames.skipped_by_rule = frames.decoded.saturating_sub(frames.sampled + frames.failed);
        Done { frames, warning, scenes, ..Done::default() }
    }

    /// The scenes that were found, as they are written.
    fn rows(&mut self) -> Vec<Scene> {
        let spans = self.scenes.as_mut().map(|s| s.spans(self.behind)).unwrap_or_default();
        let row = |(scene, span): (i64, Span)| Scene {
            asset: self.exit.unit.asset(),
            uri: self.record.uri.clone(),
            scene,
            start_s: self.seconds(span.start),
            end_s: self.seconds(span.end),
            start_pts: span.start,
            end_pts: span.end,
            time_base: self.record.time_base.clone(),
            frames: span.frames as i64,
            score: span.change.map(|c| c.score),
            change: span.change.map(|c| c.kind.name()),
            sample_pts: span.sample,
        };
        (0..).zip(spans).map(row).collect()
    }

    /// Goes to the first frame that the selector has to see.
    fn begin(&mut self) -> Result<Option<FrameMeta>, Halt> {
        let (time_base, start) = (self.reader.info().time_base, self.reader.info().start_pts);
        let (from, to) = (self.exit.unit.from, self.exit.unit.to);
        let (sampling, unit) = (self.sampling.clone(), self.exit.unit.clone());
        let selector = |t0: i64, length: Option<Rational>| {
            Selector::new(&sampling, time_base, t0, length, (from, to)).map_err(|e| e.context(unit.name()))
        };
        let Some(t0) = start else {
            // The first frame's time is the start where the container does not say.
            let first = self.reader.advance()?;
            self.t0 = first.and_then(|m| m.pts).unwrap_or(0);
            let length = self.length()?;
            self.selector = Some(selector(self.t0, length)?);
            return Ok(first);
        };
        self.t0 = t0;
        let length = self.length()?;
        if self.sparse() {
            let rule = selector(t0, length)?;
            self.reader.spare(Box::new(move |before, pts, behind| rule.chooses(before, pts, behind)))?;
        }
        let selector = selector(t0, length)?;
        let wanted = selector.next_wanted().and_then(|t| self.ticks(t)).into_iter().chain(from).max();
        self.selector = Some(selector);
        // A frame that is shown at a time is found from the key sample before it, as when jumping on: the first frame
        // is all that has to be seen. Elsewhere the frame before the first wanted one decides.
        let shown = from.is_none() && matches!(self.sampling.rule, Rule::At(_) | Rule::Count(_));
        let Some(wanted) = wanted.filter(|w| *w > t0 && !shown && !self.careful) else {
            return Ok(self.reader.advance()?);
        };
        // A frame that is shown at a time may begin long before that.
        let listed = matches!(self.sampling.rule, Rule::At(_) | Rule::Count(_));
        let bound = from.filter(|_| listed).unwrap_or(wanted);
        if let Some(before) = self.reader.begin_at(bound)? {
            if let Some(selector) = self.selector.as_mut() {
                selector.push(before, false);
            }
            self.before = Some(before);
            return Ok(self.reader.advance()?);
        }
        // One frame before the wanted time has to be seen; how far back it lies is not known.
        let second = (i64::from(time_base.1) / i64::from(time_base.0.max(1))).max(1);
        let mut back = second;
        loop {
            let target = wanted.saturating_sub(back);
            if !self.indexed()? {
                return Ok(self.reader.advance()?);
            }
            if target <= t0 {
                // What was looked at before is behind the reader.
                if back > second {
                    self.reader.seek_before(i64::MIN)?;
                }
                return Ok(self.reader.advance()?);
            }
            self.reader.seek_before(target)?;
            match self.reader.advance()? {
                Some(m) if m.pts.is_some_and(|p| p < wanted) => return Ok(Some(m)),
                _ if self.reader.damaged() => return Ok(None),
                _ => back = back.saturating_mul(4),
            }
        }
    }

    /// From the stream's start to its end, where it is known and some rule asks for it.
    fn length(&mut self) -> Result<Option<Rational>, Halt> {
        let asked = match self.sampling.rule {
            Rule::Every(_) => self.sampling.pick != Pick::Next,
            Rule::At(_) | Rule::Count(_) => true,
            Rule::All | Rule::Keyframes | Rule::Scenes(_) => false,
        };
        let end = if asked { self.reader.shown_until()? } else { None };
        let (num, den) = self.reader.info().time_base;
        let measured = end.and_then(|end| {
            let ticks = end.checked_sub(self.t0)?.checked_mul(num.into())?;
            Rational::new(ticks, den.into())
        });
        let stated = self.reader.info().duration_s.and_then(|d| Rational::new((d * 1e6).round() as i64, 1_000_000));
        Ok(measured.or(stated))
    }

    /// Only the frames that the rule chooses matter.
    fn sparse(&self) -> bool {
        let chosen = matches!(self.sampling.rule, Rule::Every(_) | Rule::At(_) | Rule::Count(_));
        chosen && self.clips.is_none() && self.scenes.is_none() && !self.careful
    }

    fn indexed(&mut self) -> Result<bool, Halt> {
        Ok(self.reader.scan()?.indexed)
    }

    /// Ticks of a time since the stream's start, rounded down.
    fn ticks(&self, time: Rational) -> Option<i64> {
        let (num, den) = self.reader.info().time_base;
        let ticks = i128::from(time.num()) * i128::from(den);
        let unit = i128::from(time.den()) * i128::from(num);
        i64::try_from(i128::from(self.t0) + ticks.div_euclid(unit)).ok()
    }

    /// Jumps over what no rule asks for, where that is sound.
    fn skip(&mut self) -> Result<(), Halt> {
        if self.careful || self.reader.spares() || self.clips.as_ref().is_some_and(|c| !c.is_idle()) {
            return Ok(());
        }
        let Some(selector) = &self.selector else { return Ok(()) };
        let wanted = selector.next_wanted();
        if let Some(wanted) = wanted.and_then(|t| self.ticks(t)) {
            self.reader.wanted_seek(wanted)?;
        }
        Ok(())
    }

    /// Judges the reader's current frame; true when no later one can be wanted.
    fn frame(&mut self, meta: FrameMeta) -> Result<bool, Halt> {
        // A frame without any time follows the one before it.
        let pts = meta.pts.unwrap_or_else(|| self.last_pts.map_or(self.t0, |p| p + 1));
        self.last_pts = Some(pts);
        if self.before.is_some_and(|before| pts <= before) {
            return Ok(false);
        }
        let own = self.exit.unit.from.is_none_or(|f| pts >= f) && self.exit.unit.to.is_none_or(|t| pts < t);
        self.frames.decoded += u64::from(own);
        let Some(selector) = self.selector.as_mut() else { return Ok(true) };
        let decision = selector.push(pts, meta.keyframe);
        let done = selector.done();
        if self.scenes.is_some() {
            if decision.take_this {
                self.watch(meta, pts)?;
                return Ok(false);
            }
            if done {
                self.behind.get_or_insert(pts);
                self.drain()?;
            }
        }
        if decision.take_previous {
            self.take_held()?;
        }
        let needed = decision.take_this || decision.hold_this;
        // A clip that the frame before begins goes on with this one.
        let clipping = self.clips.as_ref().is_some_and(|c| !c.is_idle() || decision.take_previous);
        if needed || clipping || self.clips.is_some() {
            let moment = self.moment(&meta, pts)?;
            let frame = if needed || clipping { Some(self.picture(meta, pts)?) } else { None };
            self.place(frame, moment, decision)?;
        }
        if !decision.hold_this {
            self.held = None;
        }
        Ok(done && self.held.is_none() && self.clips.as_ref().is_none_or(Clips::is_idle))
    }

    /// Shows a frame of the part to what looks for scenes, and goes on with the one that has been judged now.
    fn watch(&mut self, meta: FrameMeta, pts: i64) -> Result<(), Halt> {
        let moment = self.moment(&meta, pts)?;
        let frame = self.picture(meta, pts)?;
        let kept = (!self.looking()).then(|| frame.clone());
        let Some(scenes) = self.scenes.as_mut() else { return Ok(()) };
        let judged = scenes.push(&frame, pts, Waiting { frame: kept, moment });
        match judged.map_err(|e| e.context(self.exit.unit.name()))? {
            Some((waiting, begins)) => self.choose(waiting, begins),
            None => Ok(()),
        }
    }

    /// Goes on with the frames that wait: no other follows in the part.
    fn drain(&mut self) -> Result<(), Halt> {
        while let Some((waiting, begins)) = self.scenes.as_mut().and_then(Scenes::finish) {
            self.choose(waiting, begins)?;
        }
        Ok(())
    }

    fn choose(&mut self, waiting: Waiting, begins: bool) -> Result<(), Halt> {
        match waiting.frame {
            Some(frame) if begins || self.clips.is_some() => {
                self.place(Some(frame), waiting.moment, Decision { take_this: begins, ..Decision::default() })
            }
            _ => Ok(()),
        }
    }

    /// The held frame is wanted after all.
    fn take_held(&mut self) -> Result<(), Halt> {
        if self.clips.is_some() {
            // `place` begins its clip.
            return Ok(());
        }
        let Some(held) = self.held.take() else {
            return Err(Error::bug("a frame was chosen that was not kept").into());
        };
        self.frames.sampled += 1;
        let moment = self.unique(held.moment);
        let credit = match held.credit {
            Some(credit) => credit,
            None => self.exit.credit(weight(&held.frame))?,
        };
        self.exit.give(vec![held.frame], &self.record.clone(), moment, vec![credit])
    }

    /// Hands a frame on, holds it, or puts it into clips; it is there where any of these needs it.
    fn place(&mut self, frame: Option<Arc<Frame>>, moment: Moment, decision: Decision) -> Result<(), Halt> {
        let places = self.clips.as_mut().map(|c| c.push(decision));
        let Some(places) = places else {
            let frame = frame.ok_or_else(|| Error::bug("a chosen frame was not converted"))?;
            if decision.take_this {
                self.frames.sampled += 1;
                let credit = self.exit.credit(weight(&frame))?;
                let moment = self.unique(moment);
                return self.exit.give(vec![frame], &self.record.clone(), moment, vec![credit]);
            }
            self.held = Some(Held { frame, moment, credit: None });
            return Ok(());
        };
        for place in places {
            let (frame, moment) = if place.previous {
                let held = self.held.as_ref().ok_or_else(|| Error::bug("a clip's first frame was not kept"))?;
                (held.frame.clone(), held.moment)
            } else {
                let frame = frame.clone().ok_or_else(|| Error::bug("a clip's frame was not converted"))?;
                (frame, moment)
            };
            self.put(place, frame, moment)?;
        }
        if decision.hold_this {
            self.held = frame.map(|frame| Held { frame, moment, credit: None });
        }
        Ok(())
    }

    /// Puts a frame into its clip, and hands the clip on when it is whole.
    fn put(&mut self, place: ClipFrame, frame: Arc<Frame>, moment: Moment) -> Result<(), Halt> {
        if place.position == 0 {
            // Clips overlap, and whoever holds credit must not wait for more.
            let want = self.sampling.clip.map_or(1, |c| u64::from(c.frames));
            let bytes = weight(&frame) * want;
            let credit =
                if self.open.is_empty() { self.exit.credit(bytes)? } else { self.exit.shared.budget.overdraw(bytes) };
            self.frames.sampled += 1;
            let moment = self.unique(moment);
            self.open.insert(place.clip, OpenClip { frames: Vec::new(), moment, credit: vec![credit] });
        }
        let whole = {
            let clip =
                self.open.get_mut(&place.clip).ok_or_else(|| Error::bug("a frame of a clip that is not open"))?;
            clip.frames.push(frame);
            clip.moment.damage = clip.moment.damage.max(moment.damage);
            clip.frames.len() as u32 == self.sampling.clip.map_or(1, |c| c.frames)
        };
        if whole && let Some(clip) = self.open.remove(&place.clip) {
            self.exit.give(clip.frames, &self.record.clone(), clip.moment, clip.credit)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Halt> {
        self.drain()?;
        if let (Some(pts), Some(selector)) = (self.reader.left_out(), self.selector.as_mut()) {
            // Reading ended before it; it says how long the last frame was shown.
            if selector.push(pts, false).take_previous {
                self.take_held()?;
            }
            return Ok(());
        }
        let take = self.selector.as_mut().is_some_and(Selector::finish);
        if let Some(clips) = self.clips.as_mut() {
            if let Some(place) = clips.finish(take)
                && let Some(held) = self.held.take()
            {
                self.put(place, held.frame, held.moment)?;
            }
            // Clips that the stream's end leaves incomplete are no samples.
            let cut = self.open.len() as u64;
            self.frames.sampled -= cut;
            self.frames.incomplete_clips += cut;
            self.open.clear();
        } else if take {
            self.take_held()?;
        }
        Ok(())
    }

    /// The reader's current frame in host memory.
    fn picture(&mut self, meta: FrameMeta, pts: i64) -> Result<Arc<Frame>, Halt> {
        let mut frame = self.reader.frame()?;
        let flagged = meta.fields != Fields::Progressive;
        self.frames.deinterlaced +=
            u64::from(self.deinterlace == Deinterlace::All || (flagged && self.deinterlace == Deinterlace::Flagged));
        frame.pts = pts;
        frame.keyframe = meta.keyframe;
        if self.exit.shared.job.file.orient == Orient::Ignore {
            frame.orientation = Orientation::UPRIGHT;
        }
        Ok(Arc::new(frame))
    }

    fn moment(&self, meta: &FrameMeta, pts: i64) -> Result<Moment, Halt> {
        let time_base = self.reader.info().time_base;
        let us = stream_micros(pts, self.t0, time_base).ok_or_else(|| {
            let text =
                format!("{}: the time {pts} x {}/{} cannot be told", self.exit.unit.name(), time_base.0, time_base.1);
            Error::input(RejectKind::Corrupt, text)
        })?;
        let s = self.seconds(pts);
        let before = self.reader.damaged().then_some(Damage::Before);
        let damage = if meta.corrupt { Some(Damage::Itself) } else { before };
        Ok(Moment { us, s, repeat: 0, damage })
    }

    /// Seconds since the stream's start.
    fn seconds(&self, pts: i64) -> f64 {
        let (num, den) = self.reader.info().time_base;
        (pts as f64 - self.t0 as f64) * f64::from(num) / f64::from(den)
    }

    /// Numbers a time that occurs again.
    fn unique(&mut self, mut moment: Moment) -> Moment {
        if self.latest.is_none_or(|l| moment.us > l) && self.times.len() > 4096 {
            // Far behind the latest time nothing comes again in any stream that was seen.
            let latest = self.latest.unwrap_or(moment.us);
            self.times.retain(|t, _| *t > latest - 600_000_000);
        }
        self.latest = self.latest.max(Some(moment.us));
        let seen = self.times.entry(moment.us).or_insert(0);
        moment.repeat = *seen;
        *seen += 1;
        moment
    }
}

/// Bytes that a frame and what is made of it hold.
fn weight(frame: &Frame) -> u64 {
    let pixels = u64::from(frame.width) * u64::from(frame.height);
    let made = if matches!(frame.format, PixelFormat::Rgb8) { pixels } else { pixels / 2 };
    frame.held() as u64 + made + if frame.alpha.is_some() { 3 * pixels } else { 0 }
}
