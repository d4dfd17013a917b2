//! [`Frame`]: a decoded picture, never a codec library's type.

use crate::color::Color;
use crate::geometry::Orientation;

/// Sample layout of a decoded picture. Samples deeper than 8 bit are little-endian `u16` with the value in the low bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// Planar Y, Cb, Cr; `sub_w`/`sub_h` are log2 of the chroma subsampling (4:2:0 is 1,1; 4:4:4 is 0,0).
    Yuv {
        /// Bits a sample, 8..=16.
        depth: u8,
        /// log2 of horizontal subsampling.
        sub_w: u8,
        /// log2 of vertical subsampling.
        sub_h: u8,
    },
    /// One luma plane.
    Gray {
        /// Bits a sample, 8..=16.
        depth: u8,
    },
    /// Interleaved 8-bit RGB, full range.
    Rgb8,
    /// Planar G, B, R (as FFmpeg's gbrp).
    Gbr {
        /// Bits a sample, 8..=16.
        depth: u8,
    },
}

/// One plane: rows of `stride` bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plane {
    /// Bytes of all rows.
    pub data: Vec<u8>,
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// A decoded picture in host memory.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Width in luma samples.
    pub width: u32,
    /// Height in luma samples.
    pub height: u32,
    /// Sample layout.
    pub format: PixelFormat,
    /// Its planes, in the order of the format.
    pub planes: Vec<Plane>,
    /// What the numbers mean.
    pub color: Color,
    /// What to apply to show it upright.
    pub orientation: Orientation,
    /// Presentation time stamp in `time_base` units.
    pub pts: i64,
    /// Seconds a tick: numerator, denominator.
    pub time_base: (i32, i32),
    /// The container or codec calls it a key frame.
    pub keyframe: bool,
    /// Sample (pixel) aspect ratio, (1, 1) when square or unknown.
    pub sample_aspect: (u32, u32),
}

impl Frame {
    /// Bytes of all planes.
    pub fn bytes(&self) -> usize {
        self.planes.iter().map(|p| p.data.len()).sum()
    }
    /// An interleaved RGB picture without padding.
    pub fn rgb(width: u32, height: u32, data: Vec<u8>) -> Frame {
        debug_assert_eq!(data.len(), width as usize * height as usize * 3);
        Frame {
            width,
            height,
            format: PixelFormat::Rgb8,
            planes: vec![Plane { data, stride: width as usize * 3 }],
            color: Color::srgb(),
            orientation: Orientation::UPRIGHT,
            pts: 0,
            time_base: (1, 1_000_000),
            keyframe: true,
            sample_aspect: (1, 1),
        }
    }
}
