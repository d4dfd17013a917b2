//! JPEG by libjpeg-turbo with its accurate defaults (`islow` inverse DCT, fancy upsampling): the pixels that Pillow gives
//! with the same library.
//!
//! TurboJPEG reports a warning (a truncated tail, a corrupt stretch) as an error after it has filled the whole picture;
//! only the text tells it from a real failure. The texts are those of `jerror.h`, a fixed list, and are matched here.

use std::cell::RefCell;

use turbojpeg::{Decompressor, Image, PixelFormat};

use super::jpeg_segments::{FrameHeader, Segments};
use super::pixels::{Samples, gray_to_rgb};
use super::{Fault, PhotoOptions, Stored, check_size, exif, spare};

/// Scans that a progressive file may have; encoders write about ten, and each costs a pass over the whole picture.
const MAX_SCANS: u32 = 500;
/// Marker of a frame in lossless Huffman coding.
const LOSSLESS: u8 = 0xC3;

thread_local! {
    /// Setting up a decompressor costs as much as decoding a small picture, so each thread keeps one, for pictures that
    /// bring all of their tables: others would be decoded with those of the picture before.
    static DECOMPRESSOR: RefCell<Option<Decompressor>> = const { RefCell::new(None) };
}

/// Decodes `data` to RGB, or to CMYK where the file has four components.
pub fn read(data: &[u8], opts: &PhotoOptions) -> Result<Stored, Fault> {
    let segments = Segments::parse(data);
    let Some(frame) = &segments.frame else {
        return Err(Fault::corrupt("no frame header before the picture data"));
    };
    check_frame(frame, opts)?;
    let (width, height) = (u32::from(frame.width), u32::from(frame.height));
    let cmyk = frame.components.len() == 4;
    // Lossless coding is of samples as they are: nothing converts them.
    let gray = frame.marker == LOSSLESS && frame.components.len() == 1;
    let format = match (cmyk, gray) {
        (true, _) => PixelFormat::CMYK,
        (_, true) => PixelFormat::GRAY,
        _ => PixelFormat::RGB,
    };
    // libjpeg-turbo writes every pixel.
    let mut pixels = spare(width, height, format.size())?;
    let warning = decompress(data, &segments, &mut pixels, frame, format)?;
    let samples = if cmyk {
        // Adobe stores inverted ink, and everybody does as Adobe did; Pillow inverts whatever the markers say.
        pixels.iter_mut().for_each(|v| *v = 255 - *v);
        Samples::Cmyk(pixels)
    } else if gray {
        Samples::Rgb(gray_to_rgb(&pixels))
    } else {
        Samples::Rgb(pixels)
    };
    let mut stored = Stored::new(width, height, samples, pixel_format(frame, &segments));
    stored.gray = frame.components.len() == 1;
    stored.warnings.extend(warning);
    if let Some(block) = segments.exif {
        stored.exif = exif::parse(block.to_vec());
    }
    match segments.icc() {
        Ok(profile) => stored.icc = profile,
        Err(what) => stored.warnings.push(format!("{what}; ignored")),
    }
    Ok(stored)
}

fn check_frame(frame: &FrameHeader, opts: &PhotoOptions) -> Result<(), Fault> {
    let process = match frame.marker {
        0xC0..=0xC3 | 0xC9 | 0xCA => None,
        0xC5..=0xC7 | 0xCD..=0xCF => Some("hierarchical coding"),
        _ => Some("arithmetic lossless coding"),
    };
    if let Some(process) = process {
        return Err(Fault::unsupported(format!("{process} is not supported")));
    }
    if frame.precision != 8 {
        return Err(Fault::unsupported(format!("{} bits a sample; 8 are supported", frame.precision)));
    }
    if !matches!(frame.components.len(), 1 | 3 | 4) {
        return Err(Fault::unsupported(format!("{} components; 1, 3 and 4 are supported", frame.components.len())));
    }
    if frame.height == 0 {
        return Err(Fault::unsupported("the number of lines comes after the picture (DNL), which is not supported"));
    }
    check_size(frame.width.into(), frame.height.into(), opts)
}

/// Fills `pixels`; the text is what libjpeg-turbo warned of.
fn decompress(
    data: &[u8],
    segments: &Segments<'_>,
    pixels: &mut [u8],
    frame: &FrameHeader,
    format: PixelFormat,
) -> Result<Option<String>, Fault> {
    let (width, height) = (usize::from(frame.width), usize::from(frame.height));
    let mut run = |decompressor: &mut Decompressor, data: &[u8]| {
        let image = Image { pixels: &mut *pixels, width, pitch: width * format.size(), height, format };
        decompressor.decompress(data, image)
    };
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let kept = slot.take().filter(|_| segments.self_contained());
        let mut own = kept.map_or_else(new_decompressor, Ok)?;
        let decompressor = &mut own;
        let Err(first) = run(decompressor, data) else {
            *slot = Some(own);
            return Ok(None);
        };
        let first = warning_of(first)?;
        if segments.scan_at.is_none_or(|at| data.len() < at + 2) {
            return Err(Fault::corrupt(format!("no picture data: {first}")));
        }
        // Warned of in the header: TurboJPEG has not decoded anything. Without the oddity it will.
        if decompressor.read_header(data).is_ok() {
            return Ok(Some(damage(&first)));
        }
        let repaired = segments.repaired(data).ok_or_else(|| Fault::corrupt(first.clone()))?;
        match run(decompressor, &repaired) {
            Ok(()) => Ok(Some(format!("in the header, passed over: {first}"))),
            Err(second) => {
                let second = warning_of(second)?;
                match decompressor.read_header(&repaired) {
                    Ok(_) => Ok(Some(format!("{}; in the header, passed over: {first}", damage(&second)))),
                    Err(_) => Err(Fault::corrupt(second)),
                }
            }
        }
    })
}

fn new_decompressor() -> Result<Decompressor, Fault> {
    let failed = |e| Fault::unsupported(format!("libjpeg-turbo cannot be set up: {e}"));
    let mut decompressor = Decompressor::new().map_err(failed)?;
    decompressor.set_scan_limit(MAX_SCANS).map_err(failed)?;
    Ok(decompressor)
}

fn damage(text: &str) -> String {
    format!("damaged, decoded partially: {text}")
}

/// The text of a warning; a real failure is a fault.
fn warning_of(error: turbojpeg::Error) -> Result<String, Fault> {
    let text = match error {
        turbojpeg::Error::TurboJpegError(text) => text,
        turbojpeg::Error::OutputTooSmall(w, h) => {
            return Err(Fault::corrupt(format!("two frame headers; the second says {w}x{h}")));
        }
        other => return Err(Fault::unsupported(other.to_string())),
    };
    /// Every warning (`JWRN_*`) of libjpeg-turbo's `jerror.h`, as far as its text is fixed.
    const WARNINGS: [&str; 7] = [
        "Corrupt JPEG data",
        "Premature end of JPEG file",
        "Inconsistent progression sequence",
        "Invalid SOS parameters for sequential JPEG",
        "Warning: unknown JFIF revision",
        "Unknown Adobe color transform code",
        "Application transferred too many scanlines",
    ];
    if WARNINGS.iter().any(|w| text.starts_with(w)) {
        return Ok(text);
    }
    if text.starts_with("Unsupported") || text.contains("not supported") || text.contains("colorspace") {
        return Err(Fault::unsupported(text));
    }
    Err(Fault::corrupt(text))
}

/// FFmpeg's name of the stored layout. (FFmpeg itself says `yuvj...` for full range, which `Color` tells here.)
fn pixel_format(frame: &FrameHeader, segments: &Segments<'_>) -> String {
    match frame.components.as_slice() {
        [_] => "gray".into(),
        [_, _, _, _] if segments.adobe_transform == Some(2) => "ycck".into(),
        [_, _, _, _] => "cmyk".into(),
        parts if segments.stores_rgb() => {
            if parts.iter().all(|(_, h, v)| (*h, *v) == (parts[0].1, parts[0].2)) {
                "gbrp".into()
            } else {
                "rgb subsampled".into()
            }
        }
        [(_, h0, v0), (_, h1, v1), (_, h2, v2)] => {
            let ratio = |whole: &u8, part: &u8| (*part != 0 && whole.is_multiple_of(*part)).then(|| whole / part);
            match (ratio(h0, h1), ratio(v0, v1), (h1, v1) == (h2, v2)) {
                (Some(1), Some(1), true) => "yuv444p".into(),
                (Some(2), Some(1), true) => "yuv422p".into(),
                (Some(2), Some(2), true) => "yuv420p".into(),
                (Some(1), Some(2), true) => "yuv440p".into(),
                (Some(4), Some(1), true) => "yuv411p".into(),
                (Some(4), Some(4), true) => "yuv410p".into(),
                _ => format!("ycbcr {h0}x{v0} {h1}x{v1} {h2}x{v2}"),
            }
        }
        _ => "unknown".into(),
    }
}
