//! [`Window`]: the part of a picture that is wanted, and where it lay before a step.

use crate::op::FlipAxis;

/// A rectangle of a picture, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Left edge.
    pub x: usize,
    /// Top edge.
    pub y: usize,
    /// Width.
    pub w: usize,
    /// Height.
    pub h: usize,
}

impl Window {
    /// All of a picture.
    pub fn whole((w, h): (u32, u32)) -> Window {
        Window { x: 0, y: 0, w: w as usize, h: h as usize }
    }

    /// What both cover.
    pub fn overlap(self, other: Window) -> Option<Window> {
        let (x, y) = (self.x.max(other.x), self.y.max(other.y));
        let (right, bottom) = ((self.x + self.w).min(other.x + other.w), (self.y + self.h).min(other.y + other.h));
        (x < right && y < bottom).then(|| Window { x, y, w: right - x, h: bottom - y })
    }

    /// With `half` more on each side, as far as a picture of `size` goes.
    pub fn grown(self, half: (usize, usize), size: (usize, usize)) -> Window {
        let along = |at: usize, n: usize, half: usize, all: usize| {
            let from = at.saturating_sub(half);
            (from, (at + n + half).min(all) - from)
        };
        let (x, w) = along(self.x, self.w, half.0, size.0);
        let (y, h) = along(self.y, self.h, half.1, size.1);
        Window { x, y, w, h }
    }

    /// Where it lay in a picture of `w` x `h` before it was mirrored.
    pub fn flipped(self, axis: FlipAxis, w: usize, h: usize) -> Window {
        match axis {
            FlipAxis::H => Window { x: w - self.x - self.w, ..self },
            FlipAxis::V => Window { y: h - self.y - self.h, ..self },
        }
    }

    /// Where it lay in a picture of `w` x `h` before that was turned clockwise.
    pub fn turned_back(self, turns: u8, w: usize, h: usize) -> Window {
        match turns {
            1 => Window { x: self.y, y: h - self.x - self.w, w: self.h, h: self.w },
            2 => Window { x: w - self.x - self.w, y: h - self.y - self.h, ..self },
            3 => Window { x: w - self.y - self.h, y: self.x, w: self.h, h: self.w },
            _ => self,
        }
    }
}
