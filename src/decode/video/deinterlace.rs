//! Deinterlacing: the lines of the second field are made anew, as FFmpeg's filter `bwdif=send_frame` makes them, to the
//! bit: BBC R&D's three-field filter (Weston) with the checks of yadif, in integers.
//!
//! A picture needs the ones before and behind it. The first of a stream has none before it and is made from itself alone,
//! unless it is the only one, which stays as it is; the last stands for the one behind it. (Of the first one FFmpeg 7 makes
//! the outermost lines in another way than FFmpeg 5, which is followed here.)

use super::Fields;
use crate::frame::{Frame, Plane};

/// Weights of BBC's filter for low and high frequencies, and for a picture alone, of 2^13.
const LOW: [i32; 2] = [4309, 213];
const HIGH: [i32; 3] = [5570, 3801, 1016];
const ALONE: [i32; 2] = [5077, 981];

/// `now` with the lines of its second field made anew. A neighbour of another size or format is none; pictures of fewer
/// than four lines or three columns are left as they are.
pub(super) fn deinterlace(
    before: Option<&Frame>,
    now: &Frame,
    behind: Option<&Frame>,
    fields: Fields,
) -> Option<Vec<Plane>> {
    let rows = now.rows().ok()?;
    let wide = now.format.depth() > 8;
    let samples = |bytes: usize| if wide { bytes / 2 } else { bytes };
    if rows.iter().any(|(bytes, lines)| samples(*bytes) < 3 || *lines < 4) {
        return None;
    }
    let alike = |other: &&Frame| (other.width, other.height, other.format) == (now.width, now.height, now.format);
    let (before, behind) = (before.filter(alike), behind.filter(alike));
    let alone = before.is_none() && behind.is_some();
    let top_first = fields != Fields::BottomFirst;
    let most = (1 << now.format.depth()) - 1;
    let planes = rows.iter().enumerate().map(|(i, (bytes, lines))| {
        let of = |frame: &Frame| frame.planes[i].clone();
        let from = Three { before: of(before.unwrap_or(now)), now: of(now), behind: of(behind.unwrap_or(now)) };
        let size = Size { bytes: *bytes, samples: samples(*bytes), lines: *lines, most };
        let data =
            if wide { plane::<2>(&from, size, top_first, alone) } else { plane::<1>(&from, size, top_first, alone) };
        Plane { data: data.into(), stride: *bytes }
    });
    Some(planes.collect())
}

/// The same plane of three pictures.
struct Three {
    before: Plane,
    now: Plane,
    behind: Plane,
}

#[derive(Clone, Copy)]
struct Size {
    bytes: usize,
    samples: usize,
    lines: usize,
    /// Largest sample.
    most: i32,
}

/// A line's samples, of one byte or two.
#[derive(Clone, Copy)]
struct Line<'a, const BYTES: usize>(&'a [u8]);

impl<'a, const BYTES: usize> Line<'a, BYTES> {
    fn of(plane: &'a Plane, y: usize, size: Size) -> Self {
        Line(&plane.data[y * plane.stride..][..size.bytes])
    }

    fn at(self, x: usize) -> i32 {
        if BYTES == 1 {
            i32::from(self.0[x])
        } else {
            i32::from(u16::from_le_bytes([self.0[2 * x], self.0[2 * x + 1]]))
        }
    }
}

fn plane<const BYTES: usize>(from: &Three, size: Size, top_first: bool, alone: bool) -> Vec<u8> {
    let mut out = vec![0; size.bytes * size.lines];
    for (y, line) in out.chunks_exact_mut(size.bytes).enumerate() {
        // The first field's lines stay.
        if (y % 2 == 0) == top_first {
            line.copy_from_slice(Line::<BYTES>::of(&from.now, y, size).0);
            continue;
        }
        let value = made::<BYTES>(from, size, y, alone);
        for x in 0..size.samples {
            let v = value(x);
            if BYTES == 1 {
                line[x] = v as u8;
            } else {
                line[2 * x..][..2].copy_from_slice(&(v as u16).to_le_bytes());
            }
        }
    }
    out
}

/// How the samples of line `y` are made.
fn made<'a, const BYTES: usize>(from: &'a Three, size: Size, y: usize, alone: bool) -> Box<dyn Fn(usize) -> i32 + 'a> {
    let h = size.lines;
    // Deep samples mirror one line earlier at the edges: the filter counts bytes there.
    let below = if y + BYTES < h { y + 1 } else { y - 1 };
    let above = if y > BYTES - 1 { y - 1 } else { y + 1 };
    let line = |plane: &'a Plane, y: usize| Line::<BYTES>::of(plane, y, size);
    let both = |plane: &'a Plane, up: usize, down: usize| [line(plane, up), line(plane, down)];
    let near = both(&from.now, above, below);
    if alone {
        let far_below = if y + 3 * BYTES < h { y + 3 } else { y - 1 };
        let far_above = if y > 3 * BYTES - 1 { y - 3 } else { y + 1 };
        let far = both(&from.now, far_above, far_below);
        return Box::new(move |x| spatial(near, far, x).clamp(0, size.most));
    }
    let edge = y < 4 || y + 5 > h;
    let checked = !edge || (y >= 2 && y + 3 <= h);
    // Where nothing is checked, the lines beyond are not looked at.
    let (up, down) = if checked { (y - 2, y + 2) } else { (y, y) };
    let lines = Lines {
        near,
        before: both(&from.before, above, below),
        behind: both(&from.behind, above, below),
        same: [line(&from.before, y), line(&from.now, y)],
        second: [both(&from.before, up, down), both(&from.now, up, down)],
        checked,
    };
    if edge {
        return Box::new(move |x| lines.limited(x, size.most, |c, e, _| (c + e) >> 1));
    }
    let far = both(&from.now, y - 3, y + 3);
    let fourth = [both(&from.before, y - 4, y + 4), both(&from.now, y - 4, y + 4)];
    let sum = move |lines: [[Line<BYTES>; 2]; 2], x| lines.iter().flatten().map(|l| l.at(x)).sum::<i32>();
    Box::new(move |x| {
        lines.limited(x, size.most, |c, e, temporal| {
            if (c - e).abs() <= temporal {
                return spatial(near, far, x);
            }
            let same = lines.same[0].at(x) + lines.same[1].at(x);
            let high = HIGH[0] * same - HIGH[1] * sum(lines.second, x) + HIGH[2] * sum(fourth, x);
            ((high >> 2) + LOW[0] * (c + e) - LOW[1] * (far[0].at(x) + far[1].at(x))) >> 13
        })
    })
}

fn spatial<const BYTES: usize>(near: [Line<BYTES>; 2], far: [Line<BYTES>; 2], x: usize) -> i32 {
    (ALONE[0] * (near[0].at(x) + near[1].at(x)) - ALONE[1] * (far[0].at(x) + far[1].at(x))) >> 13
}

/// The lines around one that is made; of two the upper comes first, of two pictures the earlier.
#[derive(Clone, Copy)]
struct Lines<'a, const BYTES: usize> {
    near: [Line<'a, BYTES>; 2],
    before: [Line<'a, BYTES>; 2],
    behind: [Line<'a, BYTES>; 2],
    /// The line itself in the fields before and behind.
    same: [Line<'a, BYTES>; 2],
    /// The lines two away in them.
    second: [[Line<'a, BYTES>; 2]; 2],
    /// They limit the result, too.
    checked: bool,
}

impl<const BYTES: usize> Lines<'_, BYTES> {
    /// What `made` gives of the lines above and below and of the change in time, held within what the neighbours in time
    /// and space allow.
    fn limited(&self, x: usize, most: i32, made: impl Fn(i32, i32, i32) -> i32) -> i32 {
        let [c, e] = self.near.map(|l| l.at(x));
        let [was, is] = self.same.map(|l| l.at(x));
        let d = (was + is) >> 1;
        let temporal = (was - is).abs();
        let step = |other: [Line<BYTES>; 2]| ((other[0].at(x) - c).abs() + (other[1].at(x) - e).abs()) >> 1;
        let mut reach = (temporal >> 1).max(step(self.before)).max(step(self.behind));
        if reach == 0 {
            return d;
        }
        if self.checked {
            let beyond = |i: usize| (self.second[0][i].at(x) + self.second[1][i].at(x)) >> 1;
            let (b, f) = (beyond(0) - c, beyond(1) - e);
            let (dc, de) = (d - c, d - e);
            let (high, low) = (de.max(dc).max(b.min(f)), de.min(dc).min(b.max(f)));
            reach = reach.max(low).max(-high);
        }
        made(c, e, temporal).clamp(d - reach, d + reach).clamp(0, most)
    }
}
