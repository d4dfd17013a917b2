//! [`Tensor`]: what a Program produces.

use serde::{Deserialize, Serialize};

/// Element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Unsigned byte, 0..=255.
    U8,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// IEEE single.
    F32,
}

impl Dtype {
    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            Dtype::U8 => 1,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F32 => 4,
        }
    }
}

/// Axis order of one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Height, width, channel.
    Hwc,
    /// Channel, height, width.
    Chw,
}

/// Three-channel RGB picture data, little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Element type.
    pub dtype: Dtype,
    /// Axis order.
    pub layout: Layout,
    /// `width * height * 3` elements.
    pub data: Vec<u8>,
}

impl Tensor {
    /// [H, W, 3] or [3, H, W].
    pub fn shape(&self) -> [usize; 3] {
        let (w, h) = (self.width as usize, self.height as usize);
        match self.layout {
            Layout::Hwc => [h, w, 3],
            Layout::Chw => [3, h, w],
        }
    }
}
