//! Where scenes begin: a [`Detector`] sees every frame of a stream, in presentation order, and says of each whether a new
//! scene begins with it.
//!
//! Promises: what it says is a function of the frames alone (integer arithmetic on small pictures of 64 x 36), the same on
//! every machine; it says so at most [`AHEAD`] frames later; it keeps no frame, only small pictures of the last seconds.
//!
//! - The *change* between two frames is what of the second cannot be found in the first: each of 48 blocks is looked for
//!   within a tenth of the picture. It is told per sample, Y, Cb and Cr together, on the scale of 8 bits (0 to 765). What
//!   only moves changes by a few, another picture by 30 to 90.
//! - A *cut* is a change of at least the threshold that stands out from what surrounds it: at least 2.5 times the third
//!   largest of the five changes before and the five behind it. It is none where another light explains it (the picture is
//!   the one before, brighter or darker), and none where the picture before comes back within a few frames: a flash.
//! - A *gradual* change, a dissolve or a fade, is a stretch whose frames are mixtures of its first and its last one,
//!   proportional to time, which motion is not. What changed in all has to be three times the threshold. The new scene
//!   begins with the last frame of the transition, which shows next to nothing of the old one. A fade to black (or to any
//!   even tone) alone begins no scene; a fade from black does, where the scene had shown something before the black.

mod small;

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::frame::Frame;
use small::{SAMPLES, Small};

/// By how many frames an answer is late, at most.
pub const AHEAD: usize = 8;

/// The least change of a cut, per sample, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Threshold(u32);

/// Largest threshold: more cannot change.
const MOST: u32 = 765_000;

impl Default for Threshold {
    /// 6.5. Of the films it was tried on, what is no cut (and is not weeded out by one of the other rules) changes by at
    /// most 6, cuts between views of one place and speaker by 7 to 14, and others by 14 to 90.
    fn default() -> Self {
        Threshold(6500)
    }
}

impl FromStr for Threshold {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let value = text.trim().parse::<f64>().ok().map(|v| (v * 1000.0).round());
        let value = value.filter(|v| (1.0..=f64::from(MOST)).contains(v));
        value.map(|v| Threshold(v as u32)).ok_or_else(|| {
            Error::usage(format!(
                "`{text}` is no threshold of scenes: expected the least change of a cut, from 0.001 to 765 (by default {}); \
                 on the command line, a job file stands before --scenes",
                Threshold::default()
            ))
        })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

/// Frames that a gradual change is looked for in; longer ones are seen in parts.
const SPANS: [usize; 9] = [8, 12, 16, 20, 24, 28, 32, 40, 48];
/// Frames that are kept: the longest span and the latest answer.
const KEPT: usize = 48 + 2 * AHEAD;
/// Frames around a cut that tell how much changes anyway.
const AROUND: usize = 5;
/// What a gradual change must change in its span to be looked at, per sample.
const LEAST: u32 = 12;

/// How a scene begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From one frame to the next.
    Cut,
    /// By a dissolve or a fade.
    Gradual,
}

impl Kind {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cut => "cut",
            Kind::Gradual => "gradual",
        }
    }
}

/// The beginning of a scene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// How it begins.
    pub kind: Kind,
    /// How much changed, per sample: compared with the frame before, or with the one before the transition.
    pub score: f64,
}

struct Seen {
    small: Small,
    /// From the frame before, summed.
    change: u32,
    flat: bool,
    begins: Option<Change>,
}

/// A stretch of mixtures: the span in it that changes the most and is mixed the best.
#[derive(Clone, Copy)]
struct Stretch {
    quality: i64,
    /// Last frame of that span, and its length.
    at: usize,
    span: usize,
    last: usize,
    judged: bool,
}

/// Follows a stream.
pub struct Detector {
    limit: u32,
    seen: VecDeque<Seen>,
    /// Number of the first frame in `seen`.
    first: usize,
    /// Frames pushed, and frames answered.
    pushed: usize,
    answered: usize,
    stretch: Option<Stretch>,
    /// Up to this frame a flash lasts.
    flash: usize,
    /// Where the last scene began.
    began: usize,
    /// The first frame of the scene that shows something.
    shows: Option<usize>,
    /// The first frame behind an even one, where the scene had shown something before: it may fade in.
    emerges: Option<usize>,
}

impl Detector {
    /// Starts before the first frame.
    pub fn new(threshold: Threshold) -> Detector {
        Detector {
            limit: (threshold.0 * SAMPLES as u32).div_ceil(1000),
            seen: VecDeque::new(),
            first: 0,
            pushed: 0,
            answered: 0,
            stretch: None,
            flash: 0,
            began: 0,
            shows: None,
            emerges: None,
        }
    }

    /// Sees the next frame; what is known now of the oldest one without an answer: whether a scene begins there.
    ///
    /// # Errors
    /// Those of reading the frame's planes.
    pub fn push(&mut self, frame: &Frame) -> Result<Option<Option<Change>>> {
        let small = Small::new(&*frame.on_host()?)?;
        let change = self.seen.back().map_or(0, |before| small.change(&before.small));
        let flat = small.flat();
        if flat {
            self.emerges = None;
        } else if self.seen.back().is_some_and(|before| before.flat) && self.shows.is_some() {
            self.emerges = Some(self.pushed);
        }
        self.seen.push_back(Seen { small, change, flat, begins: None });
        self.pushed += 1;
        if self.shows.is_none() && !flat {
            self.shows = Some(self.pushed - 1);
        }
        self.mixtures();
        Ok(self.answer(self.pushed - 1))
    }

    /// After the last frame: the answers that are still due, one a call.
    pub fn finish(&mut self) -> Option<Option<Change>> {
        (self.answered < self.pushed).then(|| self.answer(self.answered + AHEAD)).flatten()
    }

    fn get(&self, at: usize) -> Option<&Seen> {
        self.seen.get(at.checked_sub(self.first)?)
    }

    /// The answer that is due when frame `now` is the newest, or would be.
    fn answer(&mut self, now: usize) -> Option<Option<Change>> {
        self.judge_stretch(now);
        self.judge_fade(now);
        let at = now.checked_sub(AHEAD)?;
        self.judge_cut(at);
        let begins = self.get(at).and_then(|s| s.begins);
        if begins.is_some() {
            self.emerges = self.emerges.filter(|e| *e > at);
            self.began = at;
            self.shows = (at..self.pushed).find(|i| self.get(*i).is_some_and(|s| !s.flat));
        }
        self.answered = at + 1;
        while self.seen.len() > KEPT {
            self.seen.pop_front();
            self.first += 1;
        }
        Some(begins)
    }

    fn judge_cut(&mut self, at: usize) {
        let (Some(before), Some(this)) = (at.checked_sub(1).and_then(|b| self.get(b)), self.get(at)) else { return };
        let change = this.change;
        let others = |reach: usize| {
            let range = at.saturating_sub(reach).max(1)..=at + reach;
            range.filter(|i| *i != at).filter_map(|i| Some((i, self.get(i)?.change)))
        };
        let mut around: Vec<u32> = others(AROUND).map(|(_, change)| change).collect();
        around.sort_unstable_by(|a, b| b.cmp(a));
        let usual = around.get(2).or(around.last()).copied().unwrap_or(0);
        // A cut is blurred over two frames at times, by interlacing or by conversion of rates: the larger step counts.
        let lesser = others(2).any(|(i, other)| other > change || (other == change && i < at));
        let stands_out = 2 * change >= 5 * usual + 3 * SAMPLES as u32;
        if change < self.limit || !stands_out || at < self.flash || light(before, this, change) {
            return;
        }
        let (limit, old) = (self.limit.max(change / 3), &before.small);
        let back = (at + 1..at + AHEAD)
            .find(|i| self.get(*i).is_some_and(|s| s.change >= limit && 5 * s.small.change(old) < 2 * change));
        if let Some(back) = back {
            self.flash = back + 1;
        } else if !lesser {
            self.begin(at, Change { kind: Kind::Cut, score: per_sample(change) });
        }
    }

    fn begin(&mut self, at: usize, change: Change) {
        let first = self.first;
        if let Some(seen) = at.checked_sub(first).and_then(|i| self.seen.get_mut(i)) {
            seen.begins.get_or_insert(change);
        }
    }

    /// Looks for spans that end with the newest frame and are mixtures throughout.
    fn mixtures(&mut self) {
        let now = self.pushed - 1;
        let spans = SPANS.iter().filter_map(|span| Some((*span, self.mixture(now, *span)?)));
        let Some((span, quality)) = spans.max_by_key(|(_, quality)| *quality) else { return };
        match &mut self.stretch {
            // In the middle of a long one all are alike: the later counts.
            Some(stretch) if 50 * quality < 49 * stretch.quality => stretch.last = now,
            Some(stretch) => *stretch = Stretch { quality, at: now, span, last: now, ..*stretch },
            None => self.stretch = Some(Stretch { quality, at: now, span, last: now, judged: false }),
        }
    }

    /// How much a span changes, less what it departs from mixtures; `None` where it is none.
    fn mixture(&self, now: usize, span: usize) -> Option<i64> {
        let small = |back: usize| now.checked_sub(back).and_then(|i| self.get(i)).map(|s| &s.small);
        let (a, b) = (small(span)?, small(0)?);
        let change = b.difference(a);
        if change < LEAST * SAMPLES as u32 {
            return None;
        }
        // Twelve times the mean departure at the quarters. It is none for a mixture, the whole change for a cut, and more
        // for most of what moves.
        let at = |back: usize, m: i32, n: i32| Some(small(back)?.off_mixture((m, a), (n, b)));
        let off = at(span / 4 * 3, 3, 1)? + 2 * at(span / 2, 1, 1)? + at(span / 4, 1, 3)?;
        let quality = 9 * i64::from(change) - 5 * i64::from(off);
        (quality > 0).then_some(quality)
    }

    /// Once no better span has come for a while, says whether the stretch is a change of scene.
    fn judge_stretch(&mut self, now: usize) {
        let Some(mut stretch) = self.stretch else { return };
        if !stretch.judged && now >= stretch.at + AHEAD - 2 {
            stretch.judged = true;
            self.stretch = Some(stretch);
            if let Some(score) = self.gradual(stretch) {
                // Two frames before the span's last one, which is the first without any of the old scene.
                self.begin(stretch.at - 2, Change { kind: Kind::Gradual, score: per_sample(score) });
            }
        }
        if stretch.judged && now > stretch.last + 3 {
            self.stretch = None;
        }
    }

    fn gradual(&self, stretch: Stretch) -> Option<u32> {
        let from = stretch.at - stretch.span;
        let (a, b) = (self.get(from)?, self.get(stretch.at)?);
        let change = b.small.change(&a.small);
        // What goes through an even tone is judged by `judge_fade`.
        let fades = (from..=stretch.at).any(|i| self.get(i).is_some_and(|s| s.flat)) || self.emerges.is_some();
        let known = self.began > 0 && self.began + 1 >= from;
        let is = change >= 3 * self.limit && !fades && !known && !light(a, b, change);
        is.then_some(change)
    }

    /// A picture that emerges from an even tone begins a scene when it has emerged: when its contrast grows no more.
    fn judge_fade(&mut self, now: usize) {
        let Some(emerges) = self.emerges else { return };
        // Until then a cut from the even tone has been judged, which begins the scene itself.
        if now < emerges + AHEAD + 1 {
            return;
        }
        if emerges < self.flash {
            self.emerges = None;
            return;
        }
        let contrast = |at: usize| self.get(at).map(|s| s.small.contrast());
        let grows = match (contrast(now), contrast(now - 4)) {
            (Some(now), Some(before)) => 20 * now > 21 * before,
            _ => false,
        };
        if grows && now < emerges + KEPT - 2 * AHEAD {
            return;
        }
        // The earliest frame that has nearly all of the contrast.
        let whole = contrast(now.min(self.pushed - 1)).unwrap_or(0);
        let mut late = (now - AHEAD..now - 4).filter(|i| contrast(*i).is_some_and(|c| 25 * c >= 22 * whole));
        let at = late.next().unwrap_or(now - 5).min(self.pushed - 1);
        let score = match (self.get(at), emerges.checked_sub(1).and_then(|i| self.get(i))) {
            (Some(shown), Some(even)) => shown.small.change(&even.small),
            _ => 0,
        };
        self.emerges = None;
        if score >= 3 * self.limit {
            self.begin(at, Change { kind: Kind::Gradual, score: per_sample(score) });
        }
    }
}

fn per_sample(sum: u32) -> f64 {
    f64::from(sum) / SAMPLES as f64
}

/// Whether another light explains the change.
fn light(before: &Seen, this: &Seen, change: u32) -> bool {
    if before.flat || this.flat {
        return false;
    }
    let left = this.small.change(&before.small.in_light_of(&this.small));
    20 * left < 9 * change && 20 * i64::from(left) < 11 * this.small.contrast()
}

#[cfg(test)]
mod tests;
