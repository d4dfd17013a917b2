//! PNG, WebP, BMP and GIF by the `image` crate's decoders; of animations the first picture. Of a file that ends too early
//! or breaks, what comes before that is kept.

use std::io::Cursor;

use image::codecs::{bmp::BmpDecoder, gif::GifDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{ColorType, ImageDecoder, ImageError, Limits};

use super::pixels::{Samples, depth16_to_8, gray_alpha_to_rgba, gray_to_rgb};
use super::{Fault, PhotoOptions, Stored, buffer, check_size, exif};
use crate::error::RejectKind;
use crate::ffi::{self, webp::Part};

/// PNG of every bit depth and colour type. The `eXIf` chunk may stand anywhere.
pub fn png(data: &[u8], opts: &PhotoOptions) -> Result<Stored, Fault> {
    let header = data.get(16..29).ok_or_else(|| Fault::corrupt("the file ends in its header"))?;
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    check_size(word(0).into(), word(4).into(), opts)?;
    let chunks = || png_chunks(data);
    let transparent = chunks().any(|(kind, _)| &kind == b"tRNS");
    let format = match (header[9], header[8], transparent) {
        (0, 1, false) => "monob",
        (0, ..=8, false) => "gray",
        (0, ..=8, true) | (4, 8, _) => "ya8",
        (0, _, false) => "gray16be",
        (0, ..) | (4, ..) => "ya16be",
        (2, ..=8, false) => "rgb24",
        (2, ..=8, true) | (6, 8, _) => "rgba",
        (2, _, false) => "rgb48be",
        (2, ..) | (6, ..) => "rgba64be",
        (3, ..) => "pal8",
        _ => "unknown",
    };
    let decoder = PngDecoder::with_limits(Cursor::new(data), limits(opts)).map_err(fault)?;
    let interlaced = header[12] == 1;
    let mut stored = match decode(decoder, format, !interlaced, opts) {
        Err(why) if interlaced && why.kind == RejectKind::Corrupt => {
            let Some(mut part) = passes(data, format, opts) else { return Err(why) };
            part.warnings.push(format!("damaged, decoded partially: {}", why.what));
            part
        }
        other => other?,
    };
    if let Some((_, block)) = chunks().find(|(kind, _)| kind == b"eXIf") {
        stored.exif = exif::parse(block.to_vec());
    }
    Ok(stored)
}

/// What there is of an interlaced PNG: each pixel stands for those around it that are missing. `None` for nothing.
fn passes(data: &[u8], format: &str, opts: &PhotoOptions) -> Option<Stored> {
    let bytes = usize::try_from(limits(opts).max_alloc?).unwrap_or(usize::MAX);
    let mut decoder = ::png::Decoder::new_with_limits(Cursor::new(data), ::png::Limits { bytes });
    decoder.set_transformations(::png::Transformations::EXPAND);
    let mut reader = decoder.read_info().ok()?;
    let (width, height) = reader.info().size();
    let icc = reader.info().icc_profile.as_ref().map(|profile| profile.to_vec());
    let (kind, depth) = reader.output_color_type();
    let deep = depth == ::png::BitDepth::Sixteen;
    let color = match (kind, deep) {
        (::png::ColorType::Grayscale, false) => ColorType::L8,
        (::png::ColorType::Grayscale, true) => ColorType::L16,
        (::png::ColorType::GrayscaleAlpha, false) => ColorType::La8,
        (::png::ColorType::GrayscaleAlpha, true) => ColorType::La16,
        (::png::ColorType::Rgb, false) => ColorType::Rgb8,
        (::png::ColorType::Rgb, true) => ColorType::Rgb16,
        (::png::ColorType::Rgba, false) => ColorType::Rgba8,
        (::png::ColorType::Rgba, true) => ColorType::Rgba16,
        (::png::ColorType::Indexed, _) => return None,
    };
    let mut pixels = buffer(width, height, color.bytes_per_pixel().into()).ok()?;
    let (stride, bits) = (reader.output_line_size(width)?, color.bits_per_pixel() as u8);
    let mut rows = 0;
    while let Ok(Some(row)) = reader.next_interlaced_row() {
        let ::png::InterlaceInfo::Adam7(place) = row.interlace() else { return None };
        ::png::splat_interlaced_row(&mut pixels, stride, row.data(), place, bits);
        rows += 1;
    }
    let mut stored = as_stored(width, height, color, pixels, u16::from_be_bytes, format).ok().filter(|_| rows > 0)?;
    stored.icc = icc;
    Some(stored)
}

/// (type, content) of a PNG's chunks.
fn png_chunks(data: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = data.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        let head = rest.get(..8)?;
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let content = rest.get(8..8usize.checked_add(len)?)?;
        rest = rest.get(12 + len..).unwrap_or_default();
        Some(([head[4], head[5], head[6], head[7]], content))
    })
}

/// WebP, lossy or lossless.
pub fn webp(data: &[u8], opts: &PhotoOptions) -> Result<Stored, Fault> {
    let mut stored = webp_pixels(data, opts)?;
    let find = |name: &[u8; 4]| webp_chunks(data).find(|(kind, _)| kind == name).map(|(_, content)| content);
    stored.exif = find(b"EXIF").map(|block| exif::parse(block.to_vec())).unwrap_or_default();
    stored.icc = stored.icc.or_else(|| find(b"ICCP").map(<[u8]>::to_vec));
    // EXIF stands behind the pixels: a cut may cost it alone, and with it the orientation.
    let announced = find(b"VP8X").and_then(|flags| flags.first()).is_some_and(|flags| flags & 0x08 != 0);
    if announced && find(b"EXIF").is_none() && data.len() < webp_len(data) {
        stored.warnings.push("damaged: its EXIF block, which may tell its orientation, is cut off".into());
    }
    Ok(stored)
}

/// The length that a WebP says it has.
fn webp_len(data: &[u8]) -> usize {
    data.get(4..8).map_or(0, |n| 8 + u32::from_le_bytes([n[0], n[1], n[2], n[3]]) as usize)
}

/// (type, content) of a WebP's chunks that are there whole.
fn webp_chunks(data: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = data.get(12..).unwrap_or_default();
    std::iter::from_fn(move || {
        let head = rest.get(..8)?;
        let len = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let content = rest.get(8..8usize.checked_add(len)?)?;
        rest = rest.get(8 + len + len % 2..).unwrap_or_default();
        Some(([head[0], head[1], head[2], head[3]], content))
    })
}

fn webp_pixels(data: &[u8], opts: &PhotoOptions) -> Result<Stored, Fault> {
    whole_webp(data, opts).or_else(|fault| {
        let fits = |width: u32, height: u32| check_size(width.into(), height.into(), opts).is_ok();
        let part = if fault.kind == RejectKind::Corrupt { ffi::webp::part(data, fits) } else { None };
        let Some(Part { width, height, rows, alpha, data }) = part else { return Err(fault) };
        let (samples, format) = if alpha { (Samples::Rgba(data), "yuva420p") } else { (Samples::Rgb(data), "yuv420p") };
        let mut stored = Stored::new(width, height, samples, format);
        let text = format!("damaged, decoded partially: {rows} of {height} rows: {}", fault.what);
        stored.warnings.push(text);
        Ok(stored)
    })
}

fn whole_webp(data: &[u8], opts: &PhotoOptions) -> Result<Stored, Fault> {
    let decoder = WebPDecoder::new(Cursor::new(data)).map_err(fault)?;
    let lossless = data.windows(4).take(4096).any(|w| w == b"VP8L");
    let format = match (decoder.color_type().has_alpha(), lossless) {
        (true, true) => "argb",
        (true, false) => "yuva420p",
        (false, true) => "rgb24",
        (false, false) => "yuv420p",
    };
    decode(decoder, format, false, opts)
}

/// Windows bitmap.
pub fn bmp(data: &[u8], opts: &PhotoOptions) -> Result<Stored, Fault> {
    let decoder = BmpDecoder::new(Cursor::new(data)).map_err(fault)?;
    let core_header = data.get(14) == Some(&12);
    let bits = if core_header { data.get(24) } else { data.get(28) };
    let format = match (bits, decoder.color_type().has_alpha()) {
        (Some(..=8), _) => "pal8",
        (Some(16), _) => "rgb555le",
        (Some(24), _) => "bgr24",
        (_, true) => "bgra",
        _ => "bgr0",
    };
    decode(decoder, format, true, opts)
}

/// The first picture of a GIF on its canvas; what it leaves open is transparent.
pub fn gif(data: &[u8], opts: &PhotoOptions) -> Result<Stored, Fault> {
    // Rows that come in another order are no part of a picture.
    let rows = gif_flags(data).is_some_and(|flags| flags & 0x40 == 0);
    decode(GifDecoder::new(Cursor::new(data)).map_err(fault)?, "pal8", rows, opts)
}

/// The flags of the first picture's descriptor.
fn gif_flags(data: &[u8]) -> Option<u8> {
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 6usize << (flags & 7) };
    let mut rest = data.get(13 + table(*data.get(10)?)..)?;
    loop {
        match rest {
            [0x2C, descriptor @ ..] => return descriptor.get(8).copied(),
            [0x21, _, blocks @ ..] => {
                rest = blocks;
                while let Some(len) = rest.first().filter(|len| **len > 0) {
                    rest = rest.get(1 + usize::from(*len)..)?;
                }
                rest = rest.get(1..)?;
            }
            _ => return None,
        }
    }
}

/// Size check, pixels, ICC profile. `rows`: the decoder gives row after row, so those before damage are kept.
fn decode(mut decoder: impl ImageDecoder, format: &str, rows: bool, opts: &PhotoOptions) -> Result<Stored, Fault> {
    let (width, height) = decoder.dimensions();
    check_size(width.into(), height.into(), opts)?;
    decoder.set_limits(limits(opts)).map_err(fault)?;
    let color = decoder.color_type();
    let icc = decoder.icc_profile().unwrap_or_default();
    let mut bytes = buffer(width, height, color.bytes_per_pixel().into())?;
    let damage = match decoder.read_image(&mut bytes) {
        Ok(()) => None,
        Err(e) if rows && bytes.iter().any(|b| *b != 0) => Some(format!("damaged, decoded partially: {e}")),
        Err(e) => return Err(fault(e)),
    };
    // Only PNG has 16 bit here, and its rows are turned from big endian when all of them are there.
    let sample = if damage.is_some() { u16::from_be_bytes } else { u16::from_ne_bytes };
    let mut stored = as_stored(width, height, color, bytes, sample, format)?;
    stored.icc = icc;
    stored.warnings.extend(damage);
    Ok(stored)
}

/// The picture of `bytes`, whose 16-bit samples are read by `sample`.
fn as_stored(
    width: u32,
    height: u32,
    color: ColorType,
    bytes: Vec<u8>,
    sample: fn([u8; 2]) -> u16,
    format: &str,
) -> Result<Stored, Fault> {
    let narrow =
        |bytes: Vec<u8>| -> Vec<u8> { bytes.chunks_exact(2).map(|b| depth16_to_8(sample([b[0], b[1]]))).collect() };
    let samples = match color {
        ColorType::L8 => Samples::Rgb(gray_to_rgb(&bytes)),
        ColorType::La8 => Samples::Rgba(gray_alpha_to_rgba(&bytes)),
        ColorType::Rgb8 => Samples::Rgb(bytes),
        ColorType::Rgba8 => Samples::Rgba(bytes),
        ColorType::L16 => Samples::Rgb(gray_to_rgb(&narrow(bytes))),
        ColorType::La16 => Samples::Rgba(gray_alpha_to_rgba(&narrow(bytes))),
        ColorType::Rgb16 => Samples::Rgb(narrow(bytes)),
        ColorType::Rgba16 => Samples::Rgba(narrow(bytes)),
        other => return Err(Fault::unsupported(format!("samples of type {other:?} are not supported"))),
    };
    let mut stored = Stored::new(width, height, samples, format);
    stored.gray = !color.has_color();
    Ok(stored)
}

/// Memory that a decoder may take: what 16-bit RGBA pixels up to the limit need, and something for itself.
fn limits(opts: &PhotoOptions) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(opts.max_pixels.saturating_mul(8).saturating_add(64 << 20));
    limits
}

/// A decoder's error as a reason to refuse the file.
fn fault(error: ImageError) -> Fault {
    match error {
        ImageError::Unsupported(e) => Fault::unsupported(e.to_string()),
        ImageError::Limits(e) => Fault::new(RejectKind::TooLarge, e.to_string()),
        other => Fault::corrupt(other.to_string()),
    }
}
