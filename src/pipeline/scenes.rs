//! The scenes of one unit: frames wait until it is known whether a scene begins with them, then go on in order.
//!
//! At most [`AHEAD`] frames wait. The frame in the middle of a scene is known only at the scene's end, and a scene may be
//! as long as the film: so for `middle` the stream is read twice, first to find the scenes, keeping no frame, then for the
//! frames themselves, jumping as for any other list of times.

use std::collections::VecDeque;

use crate::error::Result;
use crate::frame::Frame;
pub(super) use crate::sample::scenes::AHEAD;
use crate::sample::scenes::{Change, Detector, Threshold};

/// A scene in ticks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    /// Time of its first frame.
    pub start: i64,
    /// Time behind it.
    pub end: i64,
    /// Frames in it.
    pub frames: usize,
    /// How it begins; `None` for the first one.
    pub change: Option<Change>,
    /// Time of the frame that stands for it.
    pub sample: i64,
}

/// What waits with a frame until it is judged.
struct Waiting<T> {
    pts: i64,
    item: T,
}

/// The scene that frames are added to.
struct Open {
    change: Option<Change>,
    times: Vec<i64>,
}

/// Follows the scenes of a stream.
pub(super) struct Scenes<T> {
    detector: Detector,
    middle: bool,
    line: VecDeque<Waiting<T>>,
    open: Option<Open>,
    found: Vec<Span>,
}

impl<T> Scenes<T> {
    /// `middle`: the frame in the middle of a scene stands for it, else the first.
    pub fn new(threshold: Threshold, middle: bool) -> Self {
        Scenes {
            detector: Detector::new(threshold),
            middle,
            line: VecDeque::with_capacity(AHEAD + 1),
            open: None,
            found: Vec::new(),
        }
    }

    /// Takes the next frame of the part; gives the oldest waiting one, where it has been judged, and whether it begins a
    /// scene.
    pub fn push(&mut self, frame: &Frame, pts: i64, item: T) -> Result<Option<(T, bool)>> {
        self.line.push_back(Waiting { pts, item });
        Ok(self.detector.push(frame)?.and_then(|change| self.judged(change)))
    }

    /// After the last frame of the part: those that still wait, one a call.
    pub fn finish(&mut self) -> Option<(T, bool)> {
        let change = self.detector.finish()?;
        self.judged(change)
    }

    fn judged(&mut self, change: Option<Change>) -> Option<(T, bool)> {
        let Waiting { pts, item } = self.line.pop_front()?;
        let begins = change.is_some() || self.open.is_none();
        if begins {
            self.close(pts);
            self.open = Some(Open { change, times: Vec::new() });
        }
        self.open.iter_mut().for_each(|open| open.times.push(pts));
        Some((item, begins))
    }

    fn close(&mut self, end: i64) {
        let Some(Open { change, times }) = self.open.take() else { return };
        let at = if self.middle { times.len() / 2 } else { 0 };
        if let (Some(&start), Some(&sample)) = (times.first(), times.get(at)) {
            self.found.push(Span { start, end, frames: times.len(), change, sample });
        }
    }

    /// All scenes, when no frame waits any more. `behind` is the time of the frame behind the part, where there is one.
    pub fn spans(&mut self, behind: Option<i64>) -> Vec<Span> {
        if let Some(open) = &self.open {
            let last = open.times.last().copied().unwrap_or(0);
            let before = match open.times[..] {
                [.., before, _] => Some(before),
                // The step into it.
                _ => self.found.last().map(|s| s.end - (s.end - s.start) / s.frames.max(1) as i64),
            };
            let step = before.map_or(0, |before| (last - before).max(0));
            self.close(behind.filter(|b| *b > last).unwrap_or(last + step));
        }
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gray frame of stripes; another number, other stripes.
    fn frame(scene: u32) -> Frame {
        let value = |x: u32, y: u32| ((x / 8 * (scene * 7 + 3) + y / 8 * (scene * 5 + 1)) * 40 % 250) as u8;
        Frame::rgb(64, 64, (0..64 * 64).flat_map(|i| [value(i % 64, i / 64); 3]).collect())
    }

    fn run(scenes: &[u32], middle: bool, behind: Option<i64>) -> (Vec<i64>, Vec<Span>) {
        let mut all = Scenes::new(Threshold::default(), middle);
        let mut begun = Vec::new();
        let mut note = |judged: Option<(i64, bool)>| judged.map(|(pts, begins)| begins.then(|| begun.push(pts)));
        for (i, scene) in scenes.iter().enumerate() {
            let pts = i as i64 * 40;
            note(all.push(&frame(*scene), pts, pts).unwrap());
            assert!(all.line.len() <= AHEAD);
        }
        while note(all.finish()).is_some() {}
        (begun, all.spans(behind))
    }

    #[test]
    fn scenes_cover_the_part_without_gap() {
        let film = [vec![1; 20], vec![2; 15], vec![3; 9]].concat();
        let (begun, spans) = run(&film, false, None);
        assert_eq!(begun, [0, 800, 1400]);
        let found: Vec<_> = spans.iter().map(|s| (s.start, s.end, s.frames, s.sample)).collect();
        assert_eq!(found, [(0, 800, 20, 0), (800, 1400, 15, 800), (1400, 1760, 9, 1400)]);
        assert!(spans[0].change.is_none() && spans[1].change.is_some_and(|c| c.score > 10.0));
        let (_, spans) = run(&film, true, Some(2000));
        assert_eq!(spans.iter().map(|s| s.sample).collect::<Vec<_>>(), [400, 1080, 1560]);
        assert_eq!(spans[2].end, 2000);
    }

    #[test]
    fn short_parts_are_one_scene() {
        assert_eq!(run(&[], false, None), (vec![], vec![]));
        let (begun, spans) = run(&[1], false, None);
        assert_eq!((begun, spans[0].end), (vec![0], 0));
        assert_eq!(run(&[1; 5], false, None).1[0].end, 200);
    }
}
