//! Gaussian blur: weighted means of each row, then of each column.

use super::picture::Picture;
use crate::program::blur::{BETWEEN, FRACTION};
use crate::program::window::Window;

/// A blur, with symmetric weights, of a picture of `size`.
pub struct Blur<'a> {
    pub x: &'a [i32],
    pub y: &'a [i32],
    pub size: (usize, usize),
}

impl Blur<'_> {
    /// What of the picture is read for `window`.
    pub fn reads(&self, window: Window) -> Window {
        window.grown((self.x.len() / 2, self.y.len() / 2), self.size)
    }

    /// The blurred `window`, from what it reads.
    pub fn run(&self, input: &Picture, window: Window) -> Picture {
        let reads = self.reads(window);
        let mut wide = vec![0i16; window.w + self.x.len() - 1];
        let mut sums = vec![0i32; window.w];
        let mut between = vec![0i16; window.w * reads.h];
        let mut out = Picture::new(window.w, window.h);
        for channel in 0..3 {
            for (y, between) in between.chunks_exact_mut(window.w).enumerate() {
                let row = input.row(channel, y);
                for (i, value) in wide.iter_mut().enumerate() {
                    *value = row[reflected(window.x + i, self.x.len() / 2, self.size.0) - reads.x].into();
                }
                weigh(self.x, |tap| &wide[tap..][..window.w], &mut sums);
                between.iter_mut().zip(&sums).for_each(|(out, sum)| *out = round(*sum, FRACTION - BETWEEN) as i16);
            }
            for y in 0..window.h {
                let row = |tap| reflected(window.y + y + tap, self.y.len() / 2, self.size.1) - reads.y;
                weigh(self.y, |tap| &between[row(tap) * window.w..][..window.w], &mut sums);
                let out = &mut out.rows_mut(y)[channel];
                out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = round(*sum, FRACTION + BETWEEN) as u8);
            }
        }
        out
    }
}

/// Position `at - half` of `n`, reflected at the ends, which are not repeated.
fn reflected(at: usize, half: usize, n: usize) -> usize {
    let at = at.abs_diff(half);
    if at < n { at } else { 2 * (n - 1) - at }
}

/// Sums of rows by their weights; the outer ones first, in pairs that share a weight.
fn weigh<'a>(weights: &[i32], row: impl Fn(usize) -> &'a [i16], sums: &mut [i32]) {
    let half = weights.len() / 2;
    for (sum, value) in sums.iter_mut().zip(row(half)) {
        *sum = weights[half] * i32::from(*value);
    }
    for (tap, weight) in weights[..half].iter().enumerate() {
        for ((sum, a), b) in sums.iter_mut().zip(row(tap)).zip(row(weights.len() - 1 - tap)) {
            *sum += weight * (i32::from(*a) + i32::from(*b));
        }
    }
}

/// Shifted by `bits`, to the nearest. Weights are not negative and sum to one, so nothing has to be clamped.
fn round(sum: i32, bits: u32) -> i32 {
    (sum + (1 << (bits - 1))) >> bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::blur::gaussian;

    #[test]
    fn edges_are_reflected_without_being_repeated() {
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(|at| reflected(at, 2, 3)), [2, 1, 0, 1, 2, 1, 0]);
    }

    #[test]
    fn one_color_stays_to_the_last_bit() {
        for level in [0, 1, 127, 255] {
            let (x, y) = (gaussian(9, 1.7), gaussian(5, 0.6));
            let blur = Blur { x: &x, y: &y, size: (6, 4) };
            let window = Window { x: 0, y: 0, w: 6, h: 4 };
            let out = blur.run(&Picture::filled(6, 4, [level; 3]), window);
            assert!((0..4).all(|y| out.row(2, y).iter().all(|v| *v == level)));
        }
    }
}
