//! Masks as COCO writes them: runs along columns, from the top left down, in pycocotools' compressed text.

use serde::{Deserialize, Serialize};

/// A mask of a picture.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rle {
    /// Height and width of the picture in pixels.
    pub size: [u32; 2],
    /// Lengths of runs, by turns outside and inside, compressed.
    pub counts: String,
}

/// Runs on their way.
#[derive(Default)]
struct Runs {
    all: Vec<u64>,
    inside: bool,
    length: u64,
}

impl Runs {
    fn push(&mut self, inside: bool, length: u64) {
        if inside != self.inside && length > 0 {
            self.all.push(self.length);
            (self.inside, self.length) = (inside, 0);
        }
        self.length += length;
    }

    fn finish(mut self, size: [u32; 2]) -> Rle {
        if self.length > 0 || self.all.is_empty() {
            self.all.push(self.length);
        }
        Rle { size, counts: compressed(&self.all) }
    }
}

impl Rle {
    /// The mask of a picture of `w` x `h` in which only the pixels of a window (left, top, right, bottom) are asked for;
    /// what lies around is outside.
    pub fn of((w, h): (u32, u32), window: [u32; 4], has: impl Fn(u32, u32) -> bool) -> Rle {
        let [left, top, right, bottom] = window;
        let (right, bottom) = (right.min(w), bottom.min(h));
        let mut runs = Runs::default();
        if left < right && top < bottom {
            runs.push(false, u64::from(left) * u64::from(h));
            for x in left..right {
                runs.push(false, top.into());
                (top..bottom).for_each(|y| runs.push(has(x, y), 1));
                runs.push(false, (h - bottom).into());
            }
            runs.push(false, u64::from(w - right) * u64::from(h));
        } else {
            runs.push(false, u64::from(w) * u64::from(h));
        }
        runs.finish([h, w])
    }

    /// The lengths of the runs, the first of them outside; none where the text is damaged.
    pub fn runs(&self) -> Option<Vec<u64>> {
        let runs = expanded(&self.counts)?;
        let pixels = u64::from(self.size[0]) * u64::from(self.size[1]);
        (runs.iter().try_fold(0u64, |sum, n| sum.checked_add(*n)) == Some(pixels)).then_some(runs)
    }

    /// The runs inside: the first pixel of each, counted along columns, and how many there are.
    pub fn inside(&self) -> Option<Vec<(u64, u64)>> {
        let mut at = 0;
        let place = |(i, n): (usize, u64)| {
            let first = at;
            at += n;
            (i % 2 == 1).then_some((first, n))
        };
        Some(self.runs()?.into_iter().enumerate().filter_map(place).collect())
    }

    /// How many pixels it has.
    pub fn area(&self) -> u64 {
        self.inside().unwrap_or_default().iter().map(|(_, n)| n).sum()
    }

    /// The mask of a part of the picture: left, top, width, height.
    pub fn part(&self, [x, y, w, h]: [u32; 4]) -> Rle {
        let height = u64::from(self.size[0]);
        let inside = self.inside().unwrap_or_default();
        let has = |column: u32, row: u32| {
            let at = u64::from(x + column) * height + u64::from(y + row);
            let next = inside.partition_point(|(first, _)| *first <= at);
            next.checked_sub(1).is_some_and(|i| at < inside[i].0 + inside[i].1)
        };
        Rle::of((w, h), [0, 0, w, h], has)
    }
}

/// pycocotools' text: from the third on, runs are told as differences to the one before the last; five bits a character,
/// the lowest first, the sixth saying that more follow.
fn compressed(runs: &[u64]) -> String {
    let mut text = String::new();
    for (i, run) in runs.iter().enumerate() {
        let mut left = *run as i64 - if i > 2 { runs[i - 2] as i64 } else { 0 };
        loop {
            let bits = (left & 0x1f) as u8;
            left >>= 5;
            let more = if bits & 0x10 == 0 { left != 0 } else { left != -1 };
            text.push(char::from((bits | if more { 0x20 } else { 0 }) + 48));
            if !more {
                break;
            }
        }
    }
    text
}

fn expanded(text: &str) -> Option<Vec<u64>> {
    let (mut runs, mut value, mut shift): (Vec<u64>, i64, u32) = (Vec::new(), 0, 0);
    for byte in text.bytes() {
        let bits = byte.checked_sub(48).filter(|bits| *bits < 64)?;
        if shift > 55 {
            return None;
        }
        value |= i64::from(bits & 0x1f) << shift;
        shift += 5;
        if bits & 0x20 == 0 {
            if bits & 0x10 != 0 {
                value |= -1 << shift;
            }
            let before = if runs.len() > 2 { runs[runs.len() - 2] } else { 0 };
            runs.push(u64::try_from(value.checked_add_unsigned(before)?).ok()?);
            (value, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts by pycocotools 2.0.11's `mask.encode`.
    #[test]
    fn texts_are_those_of_pycocotools() {
        let block = |x: u32, y: u32| (2..5).contains(&x) && (1..3).contains(&y);
        let rle = Rle::of((7, 5), [0, 0, 7, 5], block);
        assert_eq!((rle.size, rle.counts.as_str()), ([5, 7], ";230009"));
        assert_eq!(rle, Rle::of((7, 5), [2, 1, 5, 3], |_, _| true), "a window is the same as the whole");
        assert_eq!((rle.area(), rle.runs().unwrap()), (6, vec![11, 2, 3, 2, 3, 2, 12]));
        assert_eq!(Rle::of((1000, 300), [0; 4], |_, _| true).counts, "PoT9");
        assert_eq!(Rle::of((1000, 300), [0, 0, 1000, 300], |_, _| true).counts, "0PoT9");
    }

    #[test]
    fn runs_come_back_and_parts_are_cut() {
        let has = |x: u32, y: u32| (x * 7 + y * 3) % 11 < 4;
        let rle = Rle::of((90, 70), [0, 0, 90, 70], has);
        let part = rle.part([10, 20, 30, 40]);
        assert_eq!(part, Rle::of((30, 40), [0, 0, 30, 40], |x, y| has(x + 10, y + 20)));
        assert_eq!(rle.part([0, 0, 90, 70]), rle);
        for damaged in ["", "~", "o", "0000"] {
            assert_eq!(Rle { counts: damaged.into(), ..rle.clone() }.runs(), None, "{damaged}");
        }
    }
}
