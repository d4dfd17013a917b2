//! Orientation and the 2x3 transforms that map output pixels back to source pixels.

use serde::{Deserialize, Serialize};

/// One of the eight orientations of a picture, numbered as EXIF does: what has to be applied to show it upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Orientation {
    /// Mirror horizontally first ...
    pub flip_h: bool,
    /// ... then rotate clockwise by this many quarter turns (0..=3).
    pub turns: u8,
}

impl Orientation {
    /// As stored.
    pub const UPRIGHT: Orientation = Orientation { flip_h: false, turns: 0 };

    /// From EXIF's Orientation tag; `None` if it is not 1..=8.
    pub fn from_exif(tag: u32) -> Option<Self> {
        let (flip_h, turns) = match tag {
            1 => (false, 0),
            2 => (true, 0),
            3 => (false, 2),
            4 => (true, 2),
            5 => (true, 3),
            6 => (false, 1),
            7 => (true, 1),
            8 => (false, 3),
            _ => return None,
        };
        Some(Orientation { flip_h, turns })
    }

    /// Size after applying this to a `w` x `h` picture.
    pub fn size(self, w: u32, h: u32) -> (u32, u32) {
        if self.turns % 2 == 1 { (h, w) } else { (w, h) }
    }
}

/// An affine map [[a, b, c], [d, e, f]]: source x = a*x + b*y + c, source y = d*x + e*y + f, in continuous pixel
/// coordinates (the centre of the first pixel is at 0.5, 0.5).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transform(pub [f64; 6]);

impl Transform {
    /// The identity.
    pub const IDENTITY: Transform = Transform([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);

    /// `self` after `inner`: maps a point of the newest picture through `inner`, then through `self`.
    pub fn then_from(self, inner: Transform) -> Transform {
        let [a, b, c, d, e, f] = self.0;
        let [g, h, i, j, k, l] = inner.0;
        Transform([a * g + b * j, a * h + b * k, a * i + b * l + c, d * g + e * j, d * h + e * k, d * i + e * l + f])
    }

    /// The map back; none where this one leaves no area.
    pub fn inverse(self) -> Option<Transform> {
        let [a, b, c, d, e, f] = self.0;
        let det = a * e - b * d;
        (det.is_finite() && det != 0.0).then(|| {
            let (g, h, i, j) = (e / det, -b / det, -d / det, a / det);
            Transform([g, h, -(g * c + h * f), i, j, -(i * c + j * f)])
        })
    }

    /// The smallest upright box around where the box `[x1, y1, x2, y2]` of the output lies in the source.
    pub fn apply_box(self, [x1, y1, x2, y2]: [f64; 4]) -> [f64; 4] {
        let corners = [(x1, y1), (x2, y1), (x1, y2), (x2, y2)].map(|(x, y)| self.apply(x, y));
        let (mut lo, mut hi) = (corners[0], corners[0]);
        for (x, y) in corners {
            (lo, hi) = ((lo.0.min(x), lo.1.min(y)), (hi.0.max(x), hi.1.max(y)));
        }
        [lo.0, lo.1, hi.0, hi.1]
    }

    /// Where a point of the output lies in the source.
    pub fn apply(self, x: f64, y: f64) -> (f64, f64) {
        let [a, b, c, d, e, f] = self.0;
        (a * x + b * y + c, d * x + e * y + f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inverse_leads_back() {
        let turn = Transform([0.5, -2.0, 7.0, 3.0, 0.25, -1.0]);
        let back = turn.inverse().unwrap();
        let (x, y) = turn.apply(3.0, 5.0);
        let (x, y) = back.apply(x, y);
        assert!((x - 3.0).abs() < 1e-12 && (y - 5.0).abs() < 1e-12, "({x}, {y})");
        assert_eq!(Transform([1.0, 2.0, 0.0, 2.0, 4.0, 0.0]).inverse(), None);
    }

    #[test]
    fn a_turned_box_is_upright_again() {
        // A quarter turn: x' = 10 - y, y' = x.
        let turn = Transform([0.0, -1.0, 10.0, 1.0, 0.0, 0.0]);
        assert_eq!(turn.apply_box([1.0, 2.0, 4.0, 8.0]), [2.0, 1.0, 8.0, 4.0]);
    }
}
