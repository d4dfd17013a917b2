//! Which frames of a stream become samples, decided by presentation time in exact arithmetic.
//!
//! Promise: the choice is a function of the stream's timestamps and the [`Sampling`] alone. It is the same on every
//! machine, and the same whether a video is read in one go or in units: a unit's selector sees at least one frame
//! before the unit and the first one behind it, and gives away the frames with `unit.0 <= pts < unit.1`.
//!
//! Times are relative to the stream's start: `t = (pts - t0) * time_base`. The rules:
//!
//! - `every D`, pick `next`: a frame answers when `floor(t / D)` exceeds that of the frame before it. The first frame of
//!   the stream answers. The grid is fixed at the stream's start, `start` does not move it.
//! - `every D`, pick `shown`: a frame answers when some `k * D` lies in `[t, t of the frame behind it)`.
//! - `every D`, pick `nearest`: each `k * D` between two frames is answered by the nearer, the earlier where both are
//!   equally near. The first frame of the stream answers with every pick.
//! - `count K`: the frames shown at `S + (i + 1/2) (E - S) / K`; `at`: the frames shown at the given times. A time before
//!   the first frame is answered by the first frame, one at or behind the end of the stream by none.
//! - `scenes`: every frame of the part is looked at, and [`scenes`] says which of them begin a scene.
//! - `start` and `end` keep frames with `start <= t < end`; with `count` and `at` they keep wanted times instead, so
//!   that the frame on screen at `start` can answer.
//!
//! No frame is given away twice, however many times it answers. The part (and the unit) ends with the first frame at or
//! behind its end, whatever comes then. A stream whose timestamps repeat or run backwards is judged frame by frame by
//! the same rules.

pub mod scenes;
mod time;

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use scenes::Threshold;
use time::Exact;
pub use time::Rational;

/// Which times are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Every frame.
    All,
    /// One frame for each step of this many seconds; `fps N` is `Every(1/N)`.
    Every(Rational),
    /// What the container flags as key.
    Keyframes,
    /// This many frames spread evenly, each in the middle of its share.
    Count(u64),
    /// The frames shown at these times.
    At(Vec<Rational>),
    /// One frame a scene. The selector asks for every frame of the part.
    Scenes(Threshold),
}

/// Which frame stands for a wanted time of [`Rule::Every`], or for a scene.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pick {
    /// The first frame at or after it.
    #[default]
    Next,
    /// The frame on screen at it.
    Shown,
    /// The frame nearest to it.
    Nearest,
    /// Of scenes: the one that they begin with.
    First,
    /// Of scenes: the one with as many before it as behind it, or one more before.
    Middle,
}

/// Each chosen frame starts a clip of `frames` frames, every `stride`-th one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Clip {
    /// Frames in a clip, at least 1.
    pub frames: u32,
    /// Distance between them in frames of the stream, at least 1.
    pub stride: u32,
}

/// Everything that decides which frames of a stream are chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sampling {
    /// The wanted times.
    pub rule: Rule,
    /// Which frame stands for a wanted time of [`Rule::Every`], or for a scene; without effect for the other rules.
    #[serde(default)]
    pub pick: Pick,
    /// Start of the part of the media, since the stream's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Rational>,
    /// End of the part of the media (exclusive), since the stream's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Rational>,
    /// Clips instead of single frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<Clip>,
}

impl Default for Sampling {
    /// One frame a second, the command line's default.
    fn default() -> Self {
        let rule = Rule::Every(Rational::seconds(1));
        Sampling { rule, pick: Pick::Next, start: None, end: None, clip: None }
    }
}

/// Largest [`Rule::Count`], so that the exact products of its grid fit `i128`.
const MAX_COUNT: u64 = 1 << 31;

impl Sampling {
    /// Only what the container flags as key has to be decoded: no frame is judged by others, or goes on with them.
    pub fn keys_alone(&self) -> bool {
        self.rule == Rule::Keyframes && self.clip.is_none()
    }

    /// Checks what the types cannot: positive steps and counts, `start` before `end`.
    ///
    /// Errors: [`Error::usage`] naming the setting.
    pub fn validate(&self) -> Result<()> {
        let fail = |message: String| Err(Error::usage(message));
        match &self.rule {
            Rule::Every(step) if !step.is_positive() => {
                return fail(format!("the step between samples is {step} s; expected more than 0"));
            }
            Rule::Count(count) if !(1..=MAX_COUNT).contains(count) => {
                return fail(format!("the count of samples is {count}; expected 1 to {MAX_COUNT}"));
            }
            Rule::At(times) if times.is_empty() => return fail("the list of times to sample at is empty".into()),
            _ => {}
        }
        let (scenes, of_scenes) =
            (matches!(self.rule, Rule::Scenes(_)), matches!(self.pick, Pick::First | Pick::Middle));
        if scenes != of_scenes {
            return fail("pick: scenes take first or middle, and first and middle belong to scenes alone".into());
        }
        if let (Some(start), Some(end)) = (self.start, self.end)
            && start >= end
        {
            return fail(format!(
                "the part starts at {start} s and ends at {end} s; expected the end behind the start"
            ));
        }
        match self.clip {
            Some(Clip { frames, stride }) if frames == 0 || stride == 0 => {
                fail(format!("a clip of {frames} frames with stride {stride}; expected at least 1 of each"))
            }
            _ => Ok(()),
        }
    }
}

/// What to do with the frame just pushed and with the one pushed before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decision {
    /// Give away the frame pushed before (the one that was held). It comes before this frame.
    pub take_previous: bool,
    /// Give away this frame.
    pub take_this: bool,
    /// Hold this frame: the next [`Selector::push`] or [`Selector::finish`] may take it. Never set with `take_this`.
    pub hold_this: bool,
}

/// The wanted times of a rule, as counts that grow along the stream.
#[derive(Debug)]
enum Wanted {
    /// Every multiple of this many seconds.
    Grid(Rational),
    /// Ascending times.
    List(Vec<Exact>),
    /// `start + (2i + 1) * span / (2 * count)` for i in 0..count, over the common denominator `den`.
    Spread { start: i128, step: i128, den: i128, count: i128 },
}

impl Wanted {
    /// How many wanted times lie before `t`; for the grid, up to a constant.
    fn before(&self, t: Exact) -> i128 {
        match self {
            Wanted::Grid(step) => in_steps(t, *step).ceil(),
            Wanted::List(times) => times.partition_point(|wanted| *wanted < t) as i128,
            Wanted::Spread { count, .. } => {
                let (mut low, mut high) = (0, *count);
                while low < high {
                    let middle = (low + high) / 2;
                    if self.time(middle).is_some_and(|wanted| wanted < t) { low = middle + 1 } else { high = middle }
                }
                low
            }
        }
    }

    /// The wanted time that has `index` others before it (as counted by [`Wanted::before`]).
    fn time(&self, index: i128) -> Option<Exact> {
        match self {
            Wanted::Grid(step) => {
                Some(Exact { num: index.checked_mul(step.num().into())?, den: i128::from(step.den()) })
            }
            Wanted::List(times) => times.get(usize::try_from(index).ok()?).copied(),
            // 32 + 94 bits, added to 62 + 31 + 32 bits.
            Wanted::Spread { start, step, den, count } => {
                (0..*count).contains(&index).then(|| Exact { num: start + (2 * index + 1) * step, den: *den })
            }
        }
    }
}

/// `t / step`; 95 + 31 and 31 + 62 bits.
fn in_steps(t: Exact, step: Rational) -> Exact {
    Exact { num: t.num * i128::from(step.den()), den: t.den * i128::from(step.num()) }
}

/// How a rule turns frames into choices.
#[derive(Debug)]
enum Method {
    All,
    Keyframes,
    Next(Rational),
    Nearest(Rational),
    /// The frame on screen at each wanted time. `by_frame`: `start` keeps frames, not wanted times.
    Shown {
        wanted: Wanted,
        by_frame: bool,
    },
}

/// The frame pushed last.
#[derive(Debug, Clone, Copy)]
struct Last {
    pts: i64,
    t: Exact,
    /// It may be given away: inside the part and the unit.
    open: bool,
    taken: bool,
}

/// Decides frame by frame, in presentation order.
#[derive(Debug)]
pub struct Selector {
    method: Method,
    t0_pts: i64,
    time_base: (i32, i32),
    /// End of the stream since its start, where known.
    stream_end: Option<Exact>,
    start: Option<Exact>,
    end: Option<Exact>,
    unit: (Option<i64>, Option<i64>),
    last: Option<Last>,
    ended: bool,
}

impl Selector {
    /// A selector for one stream, or for one unit of it.
    ///
    /// `time_base` and `t0_pts` (the stream's start) turn timestamps into times. `duration` is the time from the
    /// stream's start to its end; [`Rule::Count`] needs it unless `sampling.end` is set, and it must be the same for
    /// all units of a stream. `unit` bounds the frames that are given away, `unit.0 <= pts < unit.1`, an absent side
    /// being open; [`Selector::push`] says which frames must be pushed all the same.
    ///
    /// Errors: [`Error::usage`] for an impossible sampling, [`Error::input`] for a time base that is not positive and
    /// for a count over a stream of unknown length.
    pub fn new(
        sampling: &Sampling,
        time_base: (i32, i32),
        t0_pts: i64,
        duration: Option<Rational>,
        unit: (Option<i64>, Option<i64>),
    ) -> Result<Selector> {
        use crate::error::RejectKind;
        sampling.validate()?;
        if time_base.0 <= 0 || time_base.1 <= 0 {
            let (num, den) = time_base;
            return Err(Error::input(
                RejectKind::Corrupt,
                format!("the stream's time base is {num}/{den}; expected a positive one to tell its frames' times"),
            ));
        }
        let part = |time: Rational| sampling.start.is_none_or(|s| s <= time) && sampling.end.is_none_or(|e| time < e);
        let method = match (&sampling.rule, sampling.pick) {
            (Rule::All | Rule::Scenes(_), _) => Method::All,
            (Rule::Keyframes, _) => Method::Keyframes,
            (Rule::Every(step), Pick::Nearest) => Method::Nearest(*step),
            (Rule::Every(step), Pick::Shown) => Method::Shown { wanted: Wanted::Grid(*step), by_frame: true },
            (Rule::Every(step), _) => Method::Next(*step),
            (Rule::At(times), _) => {
                let mut times: Vec<Rational> = times.iter().copied().filter(|time| part(*time)).collect();
                times.sort_unstable();
                Method::Shown {
                    wanted: Wanted::List(times.into_iter().map(Rational::exact).collect()),
                    by_frame: false,
                }
            }
            (Rule::Count(count), _) => {
                let end = match (sampling.end, duration) {
                    (Some(end), Some(duration)) => end.min(duration),
                    (Some(end), None) | (None, Some(end)) => end,
                    (None, None) => {
                        return Err(Error::input(
                            RejectKind::Unsupported,
                            "the stream's length is not known, so a count of frames cannot be spread over it; sample with \
                             --every, or give --end",
                        ));
                    }
                };
                let wanted = spread(sampling.start.unwrap_or(Rational::ZERO), end, *count);
                Method::Shown { wanted, by_frame: false }
            }
        };
        Ok(Selector {
            method,
            t0_pts,
            time_base,
            stream_end: duration.map(Rational::exact),
            start: sampling.start.map(Rational::exact),
            end: sampling.end.map(Rational::exact),
            unit,
            last: None,
            ended: false,
        })
    }

    /// Judges the next frame in presentation order.
    ///
    /// Every frame may be pushed. A frame may be left out when the frame behind it is not later than
    /// [`Selector::next_wanted`], and where [`Selector::chooses`] does not choose it; in a unit that does not begin with
    /// the stream, the first frame pushed must lie before the unit.
    pub fn push(&mut self, pts: i64, keyframe: bool) -> Decision {
        if self.ended {
            return Decision::default();
        }
        let t = self.time(pts);
        let behind = self.is_behind(pts, t);
        let before = self.unit.0.is_some_and(|start| pts < start)
            || (self.filters_frames() && self.start.is_some_and(|start| t < start));
        let open = !behind && !before;
        let (previous, this, may_hold) = self.judge(self.last.map(|last| last.t), t, keyframe);
        let take_previous = previous && self.last.is_some_and(|last| last.open && !last.taken);
        let take_this = this && open;
        self.last = Some(Last { pts, t, open, taken: take_this });
        self.ended = behind;
        // What nothing can ask for any more is not kept.
        Decision { take_previous, take_this, hold_this: may_hold && open && !take_this && !self.done() }
    }

    /// Says at the end of the stream whether the frame pushed last is given away after all. Call it when there are no
    /// more frames; where [`Selector::done`] was true before, the answer is `false`.
    pub fn finish(&mut self) -> bool {
        let Some(last) = self.last.filter(|last| last.open && !last.taken && !self.ended) else {
            return false;
        };
        self.ended = true;
        self.last_answers(last.t)
    }

    /// Whether a frame at `t` with none behind it answers a wanted time from there to the stream's end.
    fn last_answers(&self, t: Exact) -> bool {
        match &self.method {
            Method::All | Method::Keyframes | Method::Next(_) => false,
            Method::Nearest(step) => self.stream_end.is_some_and(|end| {
                // Some k * step lies in (t, end).
                in_steps(t, *step).floor() + 1 < in_steps(end, *step).ceil()
            }),
            Method::Shown { wanted, .. } => {
                let index = wanted.before(t);
                // The first wanted time not before the frame is the frame's own or lies before the end.
                wanted.time(index).is_some_and(|time| time == t || self.stream_end.is_some_and(|end| time < end))
            }
        }
    }

    /// The earliest time since the stream's start from which frames matter: all behind it must be pushed, and the frame
    /// directly before it unless one lies exactly there. `None` when nothing more can be wanted ([`Selector::done`]) and
    /// while every frame matters.
    ///
    /// It relies on timestamps that do not run backwards.
    pub fn next_wanted(&self) -> Option<Rational> {
        if self.done() {
            return None;
        }
        let from_rule = match (&self.method, self.last) {
            (Method::All | Method::Keyframes, _) => None,
            // The first frame of the stream answers.
            (Method::Shown { wanted: Wanted::Grid(_), .. } | Method::Next(_) | Method::Nearest(_), None) => None,
            (Method::Shown { wanted, .. }, None) => wanted.time(0),
            (Method::Next(step) | Method::Nearest(step), Some(last)) => Some(Exact {
                num: (in_steps(last.t, *step).floor() + 1) * i128::from(step.num()),
                den: step.den().into(),
            }),
            (Method::Shown { wanted, .. }, Some(last)) => wanted.time(wanted.before(last.t)),
        };
        // Where a frame is judged by the one before it, those before a part or a unit matter as well.
        let judged = matches!(self.method, Method::Next(_) | Method::Nearest(_)) && self.last.is_some();
        let from_start = self.start.filter(|_| self.filters_frames() && !judged);
        let from_unit = self.unit.0.filter(|_| !judged).map(|pts| self.time(pts));
        let time = [from_rule, from_start, from_unit].into_iter().flatten().max()?;
        // An earlier time is as good where the exact one does not fit the type.
        Rational::reduced(time.num, time.den).or_else(|| Rational::reduced(time.floor(), 1))
    }

    /// Whether the rule chooses the frame at `pts`, given those directly before and behind it, apart from where the part or the
    /// unit begins. Where it does not, the frame may be left out: what is chosen of the others stays the same. Key flags are
    /// not looked at.
    pub fn chooses(&self, before: Option<i64>, pts: i64, behind: Option<i64>) -> bool {
        let t = self.time(pts);
        // Where frames are judged by the next one, those behind the end matter.
        if matches!(self.method, Method::Next(_)) && self.is_behind(pts, t) {
            return false;
        }
        let (_, now, _) = self.judge(before.map(|pts| self.time(pts)), t, false);
        now || match behind {
            Some(behind) => self.judge(Some(t), self.time(behind), false).0,
            None => self.last_answers(t),
        }
    }

    /// True when no frame that comes later can be wanted; only then may the rest of the stream be left unread.
    pub fn done(&self) -> bool {
        let exhausted = match (&self.method, self.last) {
            (Method::Shown { wanted, .. }, Some(last)) => wanted.time(wanted.before(last.t)).is_none(),
            (Method::Shown { wanted: Wanted::List(times), .. }, None) => times.is_empty(),
            _ => false,
        };
        self.ended || exhausted
    }

    /// The pts pushed last.
    pub fn last_pts(&self) -> Option<i64> {
        self.last.map(|last| last.pts)
    }

    /// Whether the rule chooses (previous, this) after a frame shown at `last`, apart from the part and the unit, and
    /// whether it may choose this frame later.
    fn judge(&self, last: Option<Exact>, t: Exact, keyframe: bool) -> (bool, bool, bool) {
        match (&self.method, last) {
            (Method::All, _) => (false, true, false),
            (Method::Keyframes, _) => (false, keyframe, false),
            (Method::Next(_), None) => (false, true, false),
            (Method::Next(step), Some(last)) => {
                (false, in_steps(t, *step).floor() > in_steps(last, *step).floor(), false)
            }
            (Method::Nearest(_), None) => (false, true, true),
            (Method::Nearest(step), Some(last)) => {
                // (last + t) / 2: both have the time base's denominator; 96 bits, with the step 127.
                let middle = Exact { num: last.num + t.num, den: 2 * t.den };
                let [from, middle, to] = [last, middle, t].map(|time| in_steps(time, *step).floor());
                (middle > from, to > middle, true)
            }
            (Method::Shown { by_frame: true, .. }, None) => (false, true, true),
            (Method::Shown { wanted, .. }, None) => (false, wanted.before(t) > 0, true),
            (Method::Shown { wanted, .. }, Some(last)) => (wanted.before(t) > wanted.before(last), false, true),
        }
    }

    /// At or behind the end of the part or the unit.
    fn is_behind(&self, pts: i64, t: Exact) -> bool {
        // Wanted times lie before `end` too, so the part ends there also where they are what `end` keeps.
        self.unit.1.is_some_and(|end| pts >= end) || self.end.is_some_and(|end| t >= end)
    }

    /// `start` and `end` keep frames (else wanted times).
    fn filters_frames(&self) -> bool {
        !matches!(self.method, Method::Shown { by_frame: false, .. })
    }

    fn time(&self, pts: i64) -> Exact {
        let (num, den) = self.time_base;
        Exact { num: (i128::from(pts) - i128::from(self.t0_pts)) * i128::from(num), den: den.into() }
    }
}

/// The middles of `count` equal shares of [start, end); all of them at `start` where that is empty.
fn spread(start: Rational, end: Rational, count: u64) -> Wanted {
    let [start_num, start_den, end_num, end_den] = [start.num(), start.den(), end.num(), end.den()].map(i128::from);
    let count = i128::from(count);
    // 62 + 31 + 32 bits and 62 + 31 bits.
    Wanted::Spread {
        start: start_num * end_den * 2 * count,
        step: (end_num * start_den - start_num * end_den).max(0),
        den: start_den * end_den * 2 * count,
        count,
    }
}

/// A frame's time since the stream's start in microseconds, rounded down: the number in a sample's key. `None` where the
/// time base is not positive or the time does not fit.
pub fn stream_micros(pts: i64, t0_pts: i64, time_base: (i32, i32)) -> Option<i64> {
    let (num, den) = time_base;
    if num <= 0 || den <= 0 {
        return None;
    }
    // 64 + 31 + 20 bits.
    let micros = (i128::from(pts) - i128::from(t0_pts)) * i128::from(num) * 1_000_000;
    i64::try_from(micros.div_euclid(den.into())).ok()
}

/// A frame's place in a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipFrame {
    /// Ordinal of the clip in this unit, from 0 in the order of the clips' first frames.
    pub clip: u64,
    /// Place in the clip, 0 to `frames - 1`.
    pub position: u32,
    /// It is the frame pushed before that takes this place, not this one.
    pub previous: bool,
}

/// Follows the clips that chosen frames start. Every frame of the stream from the first chosen one on must pass through
/// it, so frames may be left out only while it is idle, and after the selector is done it is fed until it is idle.
#[derive(Debug)]
pub struct Clips {
    spec: Clip,
    pushed: u64,
    /// Ordinal of the oldest open clip.
    oldest: u64,
    /// Index of the first frame of each open clip.
    open: VecDeque<u64>,
}

impl Clips {
    /// No clip is open. `spec` has passed [`Sampling::validate`].
    pub fn new(spec: Clip) -> Clips {
        Clips { spec, pushed: 0, oldest: 0, open: VecDeque::new() }
    }

    /// Says which places the frame before and this frame take, given the selector's decision on this frame.
    pub fn push(&mut self, decision: Decision) -> Vec<ClipFrame> {
        let index = self.pushed;
        self.pushed += 1;
        let mut places = Vec::new();
        if decision.take_previous && index > 0 {
            places.push(ClipFrame { clip: self.begin(index - 1), position: 0, previous: true });
            self.close(index - 1);
        }
        if decision.take_this {
            self.begin(index);
        }
        let stride = u64::from(self.spec.stride.max(1));
        for (clip, first) in (self.oldest..).zip(&self.open) {
            let distance = index - first;
            if distance.is_multiple_of(stride) {
                places.push(ClipFrame { clip, position: (distance / stride) as u32, previous: false });
            }
        }
        self.close(index);
        places
    }

    /// Takes the answer of [`Selector::finish`]: the place of the frame pushed last, if it starts a clip after all.
    pub fn finish(&mut self, take_previous: bool) -> Option<ClipFrame> {
        let index = self.pushed.checked_sub(1).filter(|_| take_previous)?;
        let place = ClipFrame { clip: self.begin(index), position: 0, previous: true };
        self.close(index);
        Some(place)
    }

    /// True while no clip waits for frames.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Clips that still wait for frames; at the end of the stream these are incomplete.
    pub fn waiting(&self) -> std::ops::Range<u64> {
        self.oldest..self.oldest + self.open.len() as u64
    }

    fn begin(&mut self, index: u64) -> u64 {
        self.open.push_back(index);
        self.oldest + self.open.len() as u64 - 1
    }

    /// Closes the clips whose last frame is at or before `index`.
    fn close(&mut self, index: u64) {
        let length = u64::from(self.spec.frames.max(1) - 1) * u64::from(self.spec.stride.max(1));
        while self.open.front().is_some_and(|first| first + length <= index) {
            self.open.pop_front();
            self.oldest += 1;
        }
    }
}

#[cfg(test)]
mod tests;
