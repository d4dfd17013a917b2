//! Parameters that can be written in more than one way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rgb;
use crate::error::{Error, Result};

/// A number, or a range that is drawn from uniformly.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number, or a range of two, the smaller one first")]
pub enum Spread {
    /// What a single number means depends on the parameter.
    Number(f64),
    /// From the first to the second.
    Range([f64; 2]),
}

impl Spread {
    /// The range; a number x stands for max(0, 1 - x) to 1 + x.
    pub fn factors(self) -> [f64; 2] {
        match self {
            Spread::Number(x) => [(1.0 - x).max(0.0), 1.0 + x],
            Spread::Range(range) => range,
        }
    }

    /// The range; a number x stands for -x to x.
    pub fn symmetric(self) -> [f64; 2] {
        match self {
            Spread::Number(x) => [-x, x],
            Spread::Range(range) => range,
        }
    }

    /// The range; a number stands for itself.
    pub fn exact(self) -> [f64; 2] {
        match self {
            Spread::Number(x) => [x, x],
            Spread::Range(range) => range,
        }
    }
}

/// Angles that a picture is sheared by, in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number, or two or four of them, the smaller one of each pair first")]
pub enum Shear {
    /// Along x: a number x stands for -x to x.
    X(Spread),
    /// Ranges along x and along y.
    Both([f64; 4]),
}

impl Shear {
    /// The ranges along x and along y.
    pub fn ranges(self) -> [[f64; 2]; 2] {
        match self {
            Shear::X(spread) => [spread.symmetric(), [0.0; 2]],
            Shear::Both([a, b, c, d]) => [[a, b], [c, d]],
        }
    }
}

/// Odd side lengths of a kernel, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a whole number of pixels, or two of them, for width and height")]
pub enum Kernel {
    /// Both sides.
    Square(u32),
    /// Width and height.
    Sides([u32; 2]),
}

impl Kernel {
    /// Width and height.
    pub fn sides(self) -> [u32; 2] {
        match self {
            Kernel::Square(side) => [side, side],
            Kernel::Sides(sides) => sides,
        }
    }
}

/// A colour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a colour RRGGBB, or a number from 0 to 255")]
pub enum Paint {
    /// The same value, 0 to 255, in all channels.
    Level(u8),
    /// RRGGBB.
    Color(String),
}

impl Paint {
    /// Its channels.
    ///
    /// # Errors
    /// Usage, for text that is no colour.
    pub fn rgb(&self) -> Result<[u8; 3]> {
        match self {
            Paint::Level(level) => Ok([*level; 3]),
            Paint::Color(text) if text == "random" => Err(Error::usage(
                "value=random (noise in the rectangle) is not supported: give a colour RRGGBB, or a number from 0 to 255",
            )),
            Paint::Color(text) => rgb(text),
        }
    }
}

/// How a picture of high dynamic range is brought to the standard one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Curve {
    /// The knee of ITU-R BT.2390.
    #[default]
    Bt2390,
    /// What is brighter than the standard's white becomes white.
    Clip,
}
