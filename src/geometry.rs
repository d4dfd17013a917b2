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

    /// Where a point of the output lies in the source.
    pub fn apply(self, x: f64, y: f64) -> (f64, f64) {
        let [a, b, c, d, e, f] = self.0;
        (a * x + b * y + c, d * x + e * y + f)
    }
}
