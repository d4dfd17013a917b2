//! Bilinear sampling at tabulated positions.

use super::picture::Picture;
use crate::program::affine::{FRACTION, Position};
use crate::program::window::Window;

const ONE: i32 = 1 << FRACTION;

/// An affine map of a picture of `size` to itself, `fill` outside.
pub struct Affine<'a> {
    pub columns: &'a [Position],
    pub rows: &'a [Position],
    pub fill: [u8; 3],
    pub size: (usize, usize),
}

impl Affine<'_> {
    /// What of the picture is read for `window`; `None` where that lies outside altogether.
    pub fn reads(&self, window: Window) -> Option<Window> {
        let columns = &self.columns[window.x..window.x + window.w];
        let rows = &self.rows[window.y..window.y + window.h];
        // Both tables rise or fall from one end to the other.
        let ends = |table: &[Position], axis: usize| {
            let (a, b) = (table[0][axis], table[table.len() - 1][axis]);
            (a.min(b), a.max(b))
        };
        let stretch = |axis: usize, n: usize| {
            let ((a, b), (c, d)) = (ends(columns, axis), ends(rows, axis));
            let from = ((a + c) >> FRACTION).max(0);
            // The neighbour behind the last position is read too.
            let to = (((b + d) >> FRACTION) + 2).min(n as i32);
            (from < to).then(|| (from as usize, (to - from) as usize))
        };
        let ((x, w), (y, h)) = (stretch(0, self.size.0)?, stretch(1, self.size.1)?);
        Some(Window { x, y, w, h })
    }

    /// The mapped `window`, from what it reads.
    pub fn run(&self, input: &Picture, reads: Window, window: Window) -> Picture {
        let mut out = Picture::new(window.w, window.h);
        let stride = input.stride();
        let fill = self.fill.map(i32::from);
        // Neighbours outside of what is read are outside the picture.
        let index = |x: i32, y: i32| {
            let (x, y) = ((x as usize).wrapping_sub(reads.x), (y as usize).wrapping_sub(reads.y));
            (x < reads.w && y < reads.h).then(|| y * stride + x)
        };
        for y in 0..window.h {
            let row = self.rows[window.y + y];
            let columns = &self.columns[window.x..][..window.w];
            let rows = out.rows_mut(y);
            for (i, column) in columns.iter().enumerate() {
                let (px, py) = (column[0] + row[0], column[1] + row[1]);
                let (x, y) = (px >> FRACTION, py >> FRACTION);
                let (right, low) = (px & (ONE - 1), py & (ONE - 1));
                let around = [index(x, y), index(x + 1, y), index(x, y + 1), index(x + 1, y + 1)];
                for (channel, plane) in input.planes.iter().enumerate() {
                    let [a, b, c, d] = around.map(|at| at.map_or(fill[channel], |at| i32::from(plane[at])));
                    let top = a * (ONE - right) + b * right;
                    let bottom = c * (ONE - right) + d * right;
                    let sum = top * (ONE - low) + bottom * low;
                    rows[channel][i] = ((sum + (1 << (2 * FRACTION - 1))) >> (2 * FRACTION)) as u8;
                }
            }
        }
        out
    }
}
