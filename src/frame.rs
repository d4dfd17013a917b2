//! [`Frame`]: a decoded picture, never a codec library's type.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::color::Color;
use crate::error::{Error, RejectKind, Result};
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

impl PixelFormat {
    /// Bits a sample.
    pub fn depth(self) -> u8 {
        match self {
            PixelFormat::Rgb8 => 8,
            PixelFormat::Yuv { depth, .. } | PixelFormat::Gray { depth } | PixelFormat::Gbr { depth } => depth,
        }
    }
}

/// Immutable bytes of a plane: memory of our own or a reference to a decoder's buffer, shared without copying.
#[derive(Clone)]
pub struct Pixels(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Pixels {
    /// Shares `owner`'s bytes; `as_ref` must give the same slice every time.
    pub fn shared(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        Pixels(owner)
    }
}

impl From<Vec<u8>> for Pixels {
    fn from(data: Vec<u8>) -> Self {
        Pixels(Arc::new(Owned(data)))
    }
}

/// Buffers of pictures that are gone, for the next ones: fresh memory costs a page fault every 4 KB, and zeros.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// How many are kept, and how large one may be: what is kept counts to nobody's budget.
const SPARES: usize = 4;
const LARGEST_SPARE: usize = 4 << 20;

/// A buffer of `len` bytes, whatever they are: all of them are to be written. It is used again after [`Pixels`] of it.
pub fn spare(len: usize) -> Vec<u8> {
    let mut buffer = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    buffer.resize(len, 0);
    buffer
}

/// Bytes that become a spare buffer.
struct Owned(Vec<u8>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARES && (1..=LARGEST_SPARE).contains(&self.0.capacity()) {
            spare.push(std::mem::take(&mut self.0));
        }
    }
}

impl std::ops::Deref for Pixels {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pixels({} bytes)", self.len())
    }
}

/// One plane: rows of `stride` bytes.
#[derive(Debug, Clone)]
pub struct Plane {
    /// Bytes of all rows, at least `stride * (rows - 1) + row bytes`.
    pub data: Pixels,
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// How a surface's samples lie in its device's memory. Components are in the order of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lie {
    /// Address of the first sample of the first component.
    pub address: u64,
    /// Bytes from there to the first sample of each component.
    pub offset: [u32; 3],
    /// Bytes from row to row of each component.
    pub stride: [u32; 3],
    /// Bytes from sample to sample: of the first component, and of the others.
    pub step: [u32; 2],
    /// Bits below a sample's lowest.
    pub low: u32,
}

/// Samples that a decoder left in the memory of a CUDA device, the process's first one, in its primary context. All
/// writing has ended.
pub trait Surface: Send + Sync + std::fmt::Debug {
    /// How they lie there.
    fn lie(&self) -> Lie;

    /// The same samples in host memory, as planes of the frame's format.
    ///
    /// # Errors
    /// `device_unsupported` where the device does not give them.
    fn download(&self) -> Result<Vec<Plane>>;
}

/// A decoded picture in host memory, or in a device's.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Width in luma samples.
    pub width: u32,
    /// Height in luma samples.
    pub height: u32,
    /// Sample layout.
    pub format: PixelFormat,
    /// Its planes, in the order of the format; none where they are on a device.
    pub planes: Vec<Plane>,
    /// How opaque each pixel is, 0 to 255, where not all are: colours are not multiplied by it. Such a frame is laid over
    /// the job's background before a device sees it.
    pub alpha: Option<Plane>,
    /// Its samples on a device.
    pub surface: Option<Arc<dyn Surface>>,
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
    /// Bytes of a row, and rows, of each plane that the format has.
    ///
    /// Errors: corrupt where the planes do not hold them.
    pub fn rows(&self) -> Result<Vec<(usize, usize)>> {
        let (w, h) = (self.width as usize, self.height as usize);
        let bytes = |depth: u8| if depth > 8 { 2 } else { 1 };
        let rows: Vec<(usize, usize)> = match self.format {
            PixelFormat::Rgb8 => vec![(w * 3, h)],
            PixelFormat::Gray { depth } => vec![(w * bytes(depth), h)],
            PixelFormat::Gbr { depth } => vec![(w * bytes(depth), h); 3],
            PixelFormat::Yuv { depth, sub_w, sub_h } => {
                let chroma = (w.div_ceil(1 << sub_w) * bytes(depth), h.div_ceil(1 << sub_h));
                vec![(w * bytes(depth), h), chroma, chroma]
            }
        };
        let fits = |(plane, &(row, rows)): (&Plane, &(usize, usize))| {
            plane.stride >= row && plane.data.len() >= plane.stride * (rows - 1) + row
        };
        let there =
            self.surface.is_some() || (self.planes.len() >= rows.len() && self.planes.iter().zip(&rows).all(fits));
        if w == 0 || h == 0 || !there {
            return Err(Error::input(
                RejectKind::Corrupt,
                format!("a decoded picture of {w}x{h} is smaller than it says"),
            ));
        }
        Ok(rows)
    }
    /// The frame with its planes in host memory.
    ///
    /// # Errors
    /// `device_unsupported` where its device does not give them.
    pub fn on_host(&self) -> Result<Cow<'_, Frame>> {
        let Some(surface) = &self.surface else { return Ok(Cow::Borrowed(self)) };
        Ok(Cow::Owned(Frame { planes: surface.download()?, surface: None, ..self.clone() }))
    }
    /// Bytes that it holds, here or on a device.
    pub fn held(&self) -> usize {
        match self.surface {
            Some(_) => self.rows().map_or(0, |rows| rows.iter().map(|(row, rows)| row * rows).sum()),
            None => self.bytes(),
        }
    }
    /// Bytes of all planes in host memory.
    pub fn bytes(&self) -> usize {
        self.planes.iter().chain(&self.alpha).map(|p| p.data.len()).sum()
    }
    /// An interleaved RGB picture without padding.
    pub fn rgb(width: u32, height: u32, data: Vec<u8>) -> Frame {
        debug_assert_eq!(data.len(), width as usize * height as usize * 3);
        Frame {
            width,
            height,
            format: PixelFormat::Rgb8,
            planes: vec![Plane { data: data.into(), stride: width as usize * 3 }],
            alpha: None,
            surface: None,
            color: Color::srgb(),
            orientation: Orientation::UPRIGHT,
            pts: 0,
            time_base: (1, 1_000_000),
            keyframe: true,
            sample_aspect: (1, 1),
        }
    }
}
