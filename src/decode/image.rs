//! Photos: whole files in memory to 8-bit sRGB frames.
//!
//! Promises:
//! - The codec is known by content, never by name.
//! - The pixel limit is checked on the headers, before anything of the picture's size is allocated.
//! - No input panics or aborts: foreign decoders run behind `catch_unwind`, and a panic is a [`RejectKind::Corrupt`].
//! - The pixels are those of the reference decoder (libjpeg-turbo with accurate defaults, as Pillow; libpng's palette and
//!   bit-depth expansion), rounded once to 8 bit, colour-managed to sRGB, then laid over the background.
//! - Orientation is recorded in the frame, not applied. HEIF is the exception: its rotation belongs to the format and
//!   is applied by libheif, so an EXIF orientation beside it is ignored, as its standard says.
//! - What was not perfect (a truncated tail, a broken profile) is said in [`Photo::warning`].

mod animation;
mod exif;
#[cfg(feature = "heif")]
mod heif;
mod icc;
mod isobmff;
mod jpeg;
mod jpeg_segments;
mod pixels;
mod raster;
mod sniff;
mod tiff;
mod tiff_parts;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::color::Color;
use crate::error::{Error, RejectKind, Result};
use crate::frame::Frame;
use crate::geometry::Orientation;

pub use sniff::{MediaKind, SNIFF_BYTES, sniff};

/// How photos are decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhotoOptions {
    /// Largest accepted width x height, in pixels as stored.
    pub max_pixels: u64,
    /// Convert pixels with an ICC profile that is not sRGB to sRGB.
    pub icc_convert: bool,
    /// Hand the stored orientation on in [`Frame::orientation`]; else the picture counts as upright.
    pub apply_orientation: bool,
    /// sRGB colour under transparent pixels.
    pub background: [u8; 3],
}

impl Default for PhotoOptions {
    fn default() -> Self {
        PhotoOptions { max_pixels: 178_956_970, icc_convert: true, apply_orientation: true, background: [0, 0, 0] }
    }
}

/// A decoded photo and what its file says about it.
#[derive(Debug, Clone)]
pub struct Photo {
    /// Interleaved 8-bit RGB as stored; [`Frame::orientation`] shows it upright.
    pub frame: Frame,
    /// `jpeg`, `png`, `webp`, `tiff`, `bmp`, `gif`, `heic` or `avif`.
    pub codec: &'static str,
    /// Sample layout in the file, by FFmpeg's name where it has one (`yuv420p`, `gray16be`, `pal8`, `cmyk`, ...).
    pub pixel_format: String,
    /// EXIF `DateTimeOriginal` as ISO 8601, with its offset where `OffsetTimeOriginal` gives one.
    pub captured_at: Option<String>,
    /// Description of the ICC profile, where one that is not sRGB was there, and what became of it: `Display P3
    /// (converted, perceptual)` or `Display P3 (ignored)`.
    pub icc: Option<String>,
    /// What was wrong with the file although a picture came out of it.
    pub warning: Option<String>,
    /// That is damage: a part of the picture, or its orientation, is lost. Else it is about colours or a needless part.
    pub damaged: bool,
}

/// Version of the HEIF library; `None` where this was built without it.
pub fn heif_version() -> Option<String> {
    #[cfg(feature = "heif")]
    return Some(heif::version());
    #[cfg(not(feature = "heif"))]
    None
}

/// Bytes that decoding `data` will take, judged by its headers: the file, the samples, and as much again where they are
/// converted. A guess where the headers do not tell; the file alone where the picture will be refused for its size.
pub fn decoded_bytes(data: &[u8], opts: &PhotoOptions) -> u64 {
    let pixels = match sniff(&data[..data.len().min(SNIFF_BYTES)]) {
        MediaKind::Photo("jpeg") => turbojpeg::read_header(data).ok().map(|h| h.width as u64 * h.height as u64),
        MediaKind::Photo("png" | "webp" | "bmp" | "gif" | "tiff") => {
            let reader = ::image::ImageReader::new(std::io::Cursor::new(data)).with_guessed_format().ok();
            reader.and_then(|r| r.into_dimensions().ok()).map(|(w, h)| u64::from(w) * u64::from(h))
        }
        _ => None,
    };
    let samples = match pixels {
        None => data.len() as u64 * 12,
        Some(n) if n > opts.max_pixels => 0,
        Some(n) => n.saturating_mul(3),
    };
    data.len() as u64 + samples
}

/// Why a file gives no picture; the caller adds where.
#[derive(Debug)]
struct Fault {
    kind: RejectKind,
    what: String,
}

impl Fault {
    fn new(kind: RejectKind, what: impl Into<String>) -> Self {
        Fault { kind, what: what.into() }
    }
    fn corrupt(what: impl Into<String>) -> Self {
        Fault::new(RejectKind::Corrupt, what)
    }
    fn unsupported(what: impl Into<String>) -> Self {
        Fault::new(RejectKind::Unsupported, what)
    }
}

/// What a codec hands on: 8-bit samples and the metadata that decides what becomes of them.
struct Stored {
    width: u32,
    height: u32,
    samples: pixels::Samples,
    /// R = G = B in every pixel because the file stores one channel: a gray ICC profile may apply.
    gray: bool,
    pixel_format: String,
    icc: Option<Vec<u8>>,
    exif: exif::Exif,
    color: Color,
    warnings: Vec<String>,
}

impl Stored {
    /// A picture without metadata.
    fn new(width: u32, height: u32, samples: pixels::Samples, pixel_format: impl Into<String>) -> Self {
        Stored {
            width,
            height,
            samples,
            gray: false,
            pixel_format: pixel_format.into(),
            icc: None,
            exif: exif::Exif::default(),
            color: Color::srgb(),
            warnings: Vec::new(),
        }
    }
}

/// Decodes the photo (or the first picture of an animation) in `data`; `uri` is only named in errors.
///
/// # Errors
/// [`RejectKind::Empty`], [`RejectKind::NotMedia`], [`RejectKind::Corrupt`], [`RejectKind::Unsupported`] or
/// [`RejectKind::TooLarge`], each with a sentence that names `uri`. Never panics.
pub fn decode(data: &[u8], uri: &str, opts: &PhotoOptions) -> Result<Photo> {
    if data.is_empty() {
        return Err(Error::input(RejectKind::Empty, format!("{uri}: the file has no bytes")));
    }
    let MediaKind::Photo(codec) = sniff(&data[..data.len().min(SNIFF_BYTES)]) else {
        let what = "the content is not a photo that can be read (JPEG, PNG, WebP, TIFF, BMP, GIF, HEIC, AVIF)";
        return Err(Error::input(RejectKind::NotMedia, format!("{uri}: {what}")));
    };
    // Nothing that the closure touches outlives it half-changed: the thread's decoders reset themselves on each use.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut stored = read(data, codec, opts)?;
        if animation::is_animation(codec, data) {
            stored.warnings.push("an animation: its first picture was taken".into());
        }
        finish(stored, codec, opts)
    }));
    let fault = match outcome {
        Ok(Ok(photo)) => return Ok(photo),
        Ok(Err(fault)) => fault,
        Err(panic) => Fault::corrupt(format!("the decoder panicked: {}", panic_text(&*panic))),
    };
    Err(Error::input(fault.kind, format!("{uri}: {codec}: {}", fault.what)))
}

fn read(data: &[u8], codec: &'static str, opts: &PhotoOptions) -> Result<Stored, Fault> {
    match codec {
        "jpeg" => jpeg::read(data, opts),
        "png" => raster::png(data, opts),
        "webp" => raster::webp(data, opts),
        "bmp" => raster::bmp(data, opts),
        "gif" => raster::gif(data, opts),
        "tiff" => tiff::read(data, opts),
        #[cfg(feature = "heif")]
        "heic" | "avif" => heif::read(data, opts),
        _ => Err(Fault::unsupported("this framemill was built without heif; build it with the feature `heif`")),
    }
}

/// Colour management, background, frame.
fn finish(mut stored: Stored, codec: &'static str, opts: &PhotoOptions) -> Result<Photo, Fault> {
    let profile = stored.icc.take();
    let icc = match profile {
        Some(profile) => icc::apply(&mut stored, &profile, opts.icc_convert),
        None => None,
    };
    let Stored { width, height, samples, pixel_format, exif, color, warnings, .. } = stored;
    let mut frame = Frame::rgb(width, height, samples.into_rgb(opts.background));
    frame.color = color;
    frame.orientation = if opts.apply_orientation { exif.orientation } else { Orientation::UPRIGHT };
    let damaged = warnings.iter().any(|warning| warning.starts_with("damaged"));
    let warning = (!warnings.is_empty()).then(|| warnings.join("; "));
    Ok(Photo { frame, codec, pixel_format, captured_at: exif.captured_at, icc, warning, damaged })
}

/// Refuses a picture of no pixels or of more than `max_pixels`.
fn check_size(width: u64, height: u64, opts: &PhotoOptions) -> Result<(), Fault> {
    if width == 0 || height == 0 {
        return Err(Fault::corrupt(format!("the header says {width}x{height} pixels")));
    }
    if width.saturating_mul(height) > opts.max_pixels || width.max(height) > i32::MAX as u64 {
        return Err(Fault::new(
            RejectKind::TooLarge,
            format!("{width}x{height} is more than {} pixels; raise --max-pixels to accept it", opts.max_pixels),
        ));
    }
    Ok(())
}

/// Zeroed bytes for `width` x `height` pixels of `channels` bytes; an error, not an abort, where memory is short.
fn buffer(width: u32, height: u32, channels: usize) -> Result<Vec<u8>, Fault> {
    Ok(vec![0; bytes_of(width, height, channels)?])
}

/// The same, whatever the bytes are.
fn spare(width: u32, height: u32, channels: usize) -> Result<Vec<u8>, Fault> {
    Ok(crate::frame::spare(bytes_of(width, height, channels)?))
}

/// How many bytes that are, once it is known that there is memory for them.
fn bytes_of(width: u32, height: u32, channels: usize) -> Result<usize, Fault> {
    /// Below this an allocation that fails ends the process anyway, and asking first would cost a system call.
    const ASK_FIRST: usize = 64 << 20;
    let short = || Fault::new(RejectKind::TooLarge, format!("no memory for {width}x{height} pixels"));
    let len = (width as usize).checked_mul(height as usize).and_then(|n| n.checked_mul(channels)).ok_or_else(short)?;
    if len >= ASK_FIRST {
        Vec::<u8>::new().try_reserve_exact(len).map_err(|_| short())?;
    }
    Ok(len)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}
