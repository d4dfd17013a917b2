//! [`Small`]: a frame as 64 x 36 means of Y, Cb and Cr, and how two of them differ. All of it is integer arithmetic.

use crate::error::Result;
use crate::frame::{Frame, PixelFormat, Plane};

/// Columns and rows of a small picture, whatever the frame's shape.
const W: usize = 64;
const H: usize = 36;
/// Samples of one plane.
pub(super) const SAMPLES: usize = W * H;
/// A block that is looked for in the other picture, and how far it may have moved: a tenth of the picture each way.
const BLOCK: (usize, usize) = (8, 6);
const REACH: (usize, usize) = (6, 4);
/// Rows of a frame that a mean is taken of, at most: more would change it by less than noise does.
const ROWS: usize = 4;
/// A block that differs by less than this in the mean of a sample stands still.
const STILL: u32 = 2;
/// Mean distance of luma from its mean below which a picture shows nothing.
const FLAT: i64 = 3;

/// Means of Y, Cb and Cr in 8 bits.
#[derive(Clone)]
pub(super) struct Small([Vec<u8>; 3]);

impl Small {
    /// The small picture of a frame in host memory.
    ///
    /// # Errors
    /// Corrupt where the planes are smaller than the frame says.
    pub fn new(frame: &Frame) -> Result<Small> {
        let rows = frame.rows()?;
        let deep = frame.format.depth() > 8;
        let down = u32::from(frame.format.depth() - 8);
        let step = if matches!(frame.format, PixelFormat::Rgb8) { 3 } else { 1 };
        let means = |plane: &Plane, (bytes, rows): (usize, usize), first: usize| {
            let width = bytes / if deep { 2 } else { step };
            let size = (width, rows);
            if deep {
                means(plane, size, |row, from, to| {
                    let row = &row.as_chunks::<2>().0[from..to];
                    row.iter().map(|b| u32::from(u16::from_le_bytes(*b) >> down)).sum()
                })
            } else if step == 3 {
                means(plane, size, |row, from, to| {
                    row[from * 3 + first..].iter().step_by(3).take(to - from).map(|v| u32::from(*v)).sum()
                })
            } else {
                means(plane, size, |row, from, to| row[from..to].iter().map(|v| u32::from(*v)).sum())
            }
        };
        let plane = |i: usize| means(&frame.planes[i], rows[i], 0);
        Ok(match frame.format {
            PixelFormat::Yuv { .. } => Small([plane(0), plane(1), plane(2)]),
            PixelFormat::Gray { .. } => Small([plane(0), vec![128; SAMPLES], vec![128; SAMPLES]]),
            PixelFormat::Gbr { .. } => from_rgb([plane(2), plane(0), plane(1)]),
            PixelFormat::Rgb8 => from_rgb([0, 1, 2].map(|c| means(&frame.planes[0], rows[0], c))),
        })
    }

    /// How much of this picture cannot be found in `before`: the sum of the differences of Y, Cb and Cr between each
    /// block and what it resembles most within its reach.
    pub fn change(&self, before: &Small) -> u32 {
        let mut sum = 0;
        for y in (0..H).step_by(BLOCK.1) {
            for x in (0..W).step_by(BLOCK.0) {
                sum += self.block(before, x, y);
            }
        }
        sum
    }

    fn block(&self, before: &Small, x: usize, y: usize) -> u32 {
        let mut best = self.shifted(before, (x, y), (x, y), u32::MAX);
        if best < STILL * (BLOCK.0 * BLOCK.1) as u32 {
            return best;
        }
        // Every second place first, then all around the best of them.
        let mut place = (x, y);
        for ((across, down), step) in [(REACH, 2), ((1, 1), 1)] {
            let (from, to) = (place.1.saturating_sub(down), (place.1 + down).min(H - BLOCK.1));
            let columns = place.0.saturating_sub(across)..=(place.0 + across).min(W - BLOCK.0);
            for v in (from..=to).step_by(step) {
                for u in columns.clone().step_by(step) {
                    let other = self.shifted(before, (x, y), (u, v), best);
                    if other < best {
                        (best, place) = (other, (u, v));
                    }
                }
            }
        }
        best
    }

    /// Difference of the block at `to` from the one at `from` in `before`; anything of `enough` or more where it is that.
    fn shifted(&self, before: &Small, to: (usize, usize), from: (usize, usize), enough: u32) -> u32 {
        let mut sum = 0;
        for (ours, theirs) in self.0.iter().zip(&before.0) {
            for row in 0..BLOCK.1 {
                let ours = &ours[(to.1 + row) * W + to.0..][..BLOCK.0];
                let theirs = &theirs[(from.1 + row) * W + from.0..][..BLOCK.0];
                sum += ours.iter().zip(theirs).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
            }
            if sum >= enough {
                break;
            }
        }
        sum
    }

    /// Sum of the differences in place.
    pub fn difference(&self, other: &Small) -> u32 {
        let plane = |(a, b): (&Vec<u8>, &Vec<u8>)| a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>();
        self.0.iter().zip(&other.0).map(plane).sum()
    }

    /// Sum of the distances of `(a + b) samples` from `a * one + b * other`, times `a + b`: nothing where this picture is
    /// that mixture.
    pub fn off_mixture(&self, (a, one): (i32, &Small), (b, other): (i32, &Small)) -> u32 {
        let plane = |i: usize| {
            let mixed = one.0[i].iter().zip(&other.0[i]).map(|(x, y)| a * i32::from(*x) + b * i32::from(*y));
            self.0[i].iter().zip(mixed).map(|(v, m)| ((a + b) * i32::from(*v) - m).unsigned_abs()).sum::<u32>()
        };
        (0..3).map(plane).sum()
    }

    /// Sum of luma's distances from its mean.
    pub fn contrast(&self) -> i64 {
        let sum: i64 = self.0[0].iter().map(|v| i64::from(*v)).sum();
        let n = SAMPLES as i64;
        self.0[0].iter().map(|v| (n * i64::from(*v) - sum).abs()).sum::<i64>() / n
    }

    /// The picture shows nothing: black, white, or any other even tone.
    pub fn flat(&self) -> bool {
        self.contrast() < FLAT * SAMPLES as i64
    }

    /// This picture in the light of another: with its brightness and contrast.
    pub fn in_light_of(&self, other: &Small) -> Small {
        const ONE: i64 = 1 << 12;
        let mean = |s: &Small| s.0[0].iter().map(|v| i64::from(*v)).sum::<i64>() / SAMPLES as i64;
        let gain = (other.contrast() * ONE / self.contrast().max(1)).clamp(ONE / 10, ONE * 10);
        let plane = |i: usize, from: i64, to: i64| {
            let lit = |v: &u8| (to + (((i64::from(*v) - from) * gain + ONE / 2) >> 12)).clamp(0, 255) as u8;
            self.0[i].iter().map(lit).collect()
        };
        Small([plane(0, mean(self), mean(other)), plane(1, 128, 128), plane(2, 128, 128)])
    }
}

/// Means over a grid of the plane; `sum` adds a row's samples from one column to another.
fn means(plane: &Plane, (width, rows): (usize, usize), sum: impl Fn(&[u8], usize, usize) -> u32) -> Vec<u8> {
    let edges = |i: usize, parts: usize, size: usize| {
        let from = i * size / parts;
        (from, ((i + 1) * size / parts).max(from + 1))
    };
    let (mut out, data): (Vec<u8>, &[u8]) = (vec![0; SAMPLES], &plane.data);
    for (j, line) in out.chunks_exact_mut(W).enumerate() {
        let (top, bottom) = edges(j, H, rows);
        let step = (bottom - top).div_ceil(ROWS);
        let taken = (bottom - top).div_ceil(step);
        for (i, mean) in line.iter_mut().enumerate() {
            let (from, to) = edges(i, W, width);
            let lines = (top..bottom).step_by(step).map(|y| sum(&data[y * plane.stride..], from, to));
            let count = (taken * (to - from)) as u32;
            *mean = ((lines.sum::<u32>() + count / 2) / count) as u8;
        }
    }
    out
}

/// BT.601's full-range matrix in 8 bits: colours of all kinds need only be told apart alike.
fn from_rgb([r, g, b]: [Vec<u8>; 3]) -> Small {
    let pixels = || r.iter().zip(&g).zip(&b).map(|((r, g), b)| [r, g, b].map(|v| i32::from(*v)));
    let plane = |weights: [i32; 3], offset: i32| {
        let value = |p: [i32; 3]| ((p.iter().zip(weights).map(|(p, w)| p * w).sum::<i32>() + 128) >> 8) + offset;
        pixels().map(|p| value(p).clamp(0, 255) as u8).collect()
    };
    Small([plane([77, 150, 29], 0), plane([-43, -85, 128], 128), plane([128, -107, -21], 128)])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small picture by formula.
    pub fn drawn(value: impl Fn(i32, i32) -> i32) -> Small {
        let y = (0..SAMPLES).map(|i| value((i % W) as i32, (i / W) as i32).clamp(0, 255) as u8).collect();
        Small([y, vec![128; SAMPLES], vec![128; SAMPLES]])
    }

    fn texture(x: i32, y: i32) -> i32 {
        let wave = |at: i32, length: i32| (at.rem_euclid(length) - length / 2).abs() * 60 / length;
        60 + wave(x, 16) + wave(y, 14) + wave(x + y, 22) + wave(2 * x - y, 38)
    }

    #[test]
    fn what_moved_has_not_changed_much() {
        let still = drawn(texture);
        let moved = drawn(|x, y| texture(x + 5, y - 3));
        let other = drawn(|x, y| texture(y * 3, x * 2));
        assert_eq!(still.change(&still), 0);
        assert!(moved.change(&still) * 5 < moved.difference(&still), "{}", moved.change(&still));
        assert!(other.change(&still) > moved.change(&still) * 3);
    }

    #[test]
    fn light_explains_what_is_the_same_in_another_light() {
        let picture = drawn(texture);
        let darker = drawn(|x, y| texture(x, y) / 2 + 3);
        let other = drawn(|x, y| texture(y * 3, x * 2));
        assert!(darker.change(&picture) > 20 * SAMPLES as u32);
        assert!(darker.change(&picture.in_light_of(&darker)) < 2 * SAMPLES as u32);
        assert!(i64::from(other.change(&picture.in_light_of(&other))) * 2 > other.contrast());
        assert!(drawn(|_, _| 40).flat() && !picture.flat());
    }

    #[test]
    fn a_mixture_is_known_by_its_parts() {
        let (a, b) = (drawn(texture), drawn(|x, y| texture(y * 3, x * 2)));
        let mixed = drawn(|x, y| (3 * texture(x, y) + texture(y * 3, x * 2)) / 4);
        assert!(mixed.off_mixture((3, &a), (1, &b)) <= 3 * SAMPLES as u32);
        assert!(mixed.off_mixture((1, &a), (3, &b)) > 4 * a.difference(&b) / 3);
    }

    #[test]
    fn every_format_gives_the_same_picture() {
        use crate::frame::Frame;
        let (w, h) = (131usize, 77usize);
        let gray = |x: usize, y: usize| ((x * 255 / w + y * 100 / h) % 256) as u8;
        let rgb: Vec<u8> = (0..w * h).flat_map(|i| [gray(i % w, i / w); 3]).collect();
        let base = Frame::rgb(w as u32, h as u32, rgb);
        let luma: Vec<u8> = (0..w * h).map(|i| gray(i % w, i / w)).collect();
        let wide: Vec<u8> = luma.iter().flat_map(|v| (u16::from(*v) << 2).to_le_bytes()).collect();
        let planes = |planes: Vec<(Vec<u8>, usize)>| -> Vec<Plane> {
            planes.into_iter().map(|(data, stride)| Plane { data: data.into(), stride }).collect()
        };
        let (cw, ch) = (w.div_ceil(2), h.div_ceil(2));
        let even: Vec<u8> = std::iter::repeat_n(512u16.to_le_bytes(), cw * ch).flatten().collect();
        let formats = [
            (PixelFormat::Gray { depth: 8 }, planes(vec![(luma.clone(), w)])),
            (PixelFormat::Gray { depth: 10 }, planes(vec![(wide.clone(), w * 2)])),
            (PixelFormat::Gbr { depth: 10 }, planes(vec![(wide.clone(), w * 2); 3])),
            (
                PixelFormat::Yuv { depth: 10, sub_w: 1, sub_h: 1 },
                planes(vec![(wide, w * 2), (even.clone(), cw * 2), (even, cw * 2)]),
            ),
        ];
        let expected = Small::new(&base).unwrap();
        for (format, planes) in formats {
            let small = Small::new(&Frame { format, planes, ..base.clone() }).unwrap();
            assert!(small.0 == expected.0, "{format:?}");
        }
        // Smaller than the grid.
        let dot = Frame::rgb(3, 2, vec![9; 18]);
        assert!(Small::new(&dot).unwrap().0[0].iter().all(|v| *v == 9));
    }
}
