//! TIFF: the first picture of the file, by the `tiff` crate (of which `image` would hide palettes and raw ink).

use std::io::Cursor;

use ::tiff::decoder::{Decoder, DecodingResult, Limits};
use ::tiff::tags::{ByteOrder, SampleFormat, Tag};
use ::tiff::{ColorType, TiffError};

use super::pixels::{Samples, depth16_to_8, gray_alpha_to_rgba, gray_to_rgb};
use super::{Fault, PhotoOptions, Stored, check_size, exif};
use crate::error::RejectKind;

const PHOTOMETRIC: u16 = 262;
const PALETTE: u16 = 3;
const BLACK_IS_ZERO: u16 = 1;
const DNG_VERSION: Tag = Tag::Unknown(50706);

type Reader<'a> = Decoder<Cursor<&'a [u8]>>;

/// Decodes 1 to 16-bit gray, palette, RGB, RGBA, CMYK and YCbCr.
pub fn read(data: &[u8], opts: &PhotoOptions) -> Result<Stored, Fault> {
    let mut reader = open(data, opts)?;
    let (width, height) = reader.dimensions().map_err(fault)?;
    check_size(width.into(), height.into(), opts)?;
    refuse_raw(&mut reader)?;
    let mut stored = if tag(&mut reader, Tag::PhotometricInterpretation)? == Some(u32::from(PALETTE)) {
        palette(data, &mut reader, opts)?
    } else {
        picture(&mut reader)?
    };
    stored.icc = reader.get_tag_u8_vec(Tag::IccProfile).ok();
    stored.exif = exif::parse(data.to_vec());
    Ok(stored)
}

fn open<'a>(data: &'a [u8], opts: &PhotoOptions) -> Result<Reader<'a>, Fault> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = usize::try_from(opts.max_pixels.saturating_mul(8)).unwrap_or(usize::MAX);
    limits.intermediate_buffer_size = limits.decoding_buffer_size;
    limits.ifd_value_size = 64 << 20;
    Ok(Decoder::new(Cursor::new(data)).map_err(fault)?.with_limits(limits))
}

fn tag(reader: &mut Reader<'_>, tag: Tag) -> Result<Option<u32>, Fault> {
    reader.find_tag_unsigned::<u32>(tag).map_err(fault)
}

/// Camera raw files are TIFFs whose first picture is a thumbnail: better no picture than that one.
fn refuse_raw(reader: &mut Reader<'_>) -> Result<(), Fault> {
    if matches!(reader.find_tag(DNG_VERSION), Ok(Some(_))) {
        return Err(Fault::unsupported("a camera raw file (DNG) is not supported"));
    }
    if tag(reader, Tag::NewSubfileType)?.is_some_and(|kind| kind & 1 == 1) {
        return Err(Fault::unsupported("its first picture is a thumbnail, as in camera raw files"));
    }
    Ok(())
}

fn picture(reader: &mut Reader<'_>) -> Result<Stored, Fault> {
    let (width, height) = reader.dimensions().map_err(fault)?;
    let color = reader.colortype().map_err(fault)?;
    let extra = tag_list(reader, Tag::ExtraSamples).first().copied();
    let alpha = matches!(extra, Some(1 | 2));
    let endian = if reader.byte_order() == ByteOrder::LittleEndian { "le" } else { "be" };
    let bytes = samples(reader, color)?;
    let deep = color.bit_depth() == 16;
    let name = |shallow: &str, deeper: &str| if deep { format!("{deeper}{endian}") } else { shallow.to_string() };
    let (samples, format, gray) = match color {
        ColorType::Gray(1) => (Samples::Rgb(gray_to_rgb(&bytes)), "monob".into(), true),
        ColorType::Gray(_) => (Samples::Rgb(gray_to_rgb(&bytes)), name("gray", "gray16"), true),
        ColorType::GrayA(_) | ColorType::Multiband { num_samples: 2, .. } if alpha => {
            (Samples::Rgba(gray_alpha_to_rgba(&bytes)), name("ya8", "ya16"), true)
        }
        ColorType::RGB(_) => (Samples::Rgb(bytes), name("rgb24", "rgb48"), false),
        ColorType::RGBA(_) if alpha => (Samples::Rgba(bytes), name("rgba", "rgba64"), false),
        // A fourth sample of unknown meaning is not alpha.
        ColorType::RGBA(_) => (Samples::Rgb(without_fourth(&bytes)), name("rgb0", "rgb064"), false),
        ColorType::CMYK(_) => (Samples::Cmyk(bytes), name("cmyk", "cmyk64"), false),
        ColorType::YCbCr(8) => (Samples::Rgb(ycbcr_to_rgb(bytes)), "ycbcr".into(), false),
        other => return Err(Fault::unsupported(format!("samples of type {other:?} are not supported"))),
    };
    let samples = match samples {
        Samples::Rgba(data) if extra == Some(1) => Samples::Rgba(unpremultiplied(data)),
        other => other,
    };
    let mut stored = Stored::new(width, height, samples, format);
    stored.gray = gray;
    Ok(stored)
}

/// The `tiff` crate decodes no palettes, but gray samples are stored alike: a copy of the file that calls its indices gray
/// gives them.
fn palette(data: &[u8], reader: &mut Reader<'_>, opts: &PhotoOptions) -> Result<Stored, Fault> {
    let (width, height) = reader.dimensions().map_err(fault)?;
    let map = reader.get_tag_u16_vec(Tag::ColorMap).map_err(fault)?;
    let mut copy = data.to_vec();
    let unreadable = || Fault::corrupt("the directory of a palette picture cannot be read");
    call_it_gray(&mut copy).ok_or_else(unreadable)?;
    let mut gray = open(&copy, opts)?;
    let bits = match gray.colortype().map_err(fault)? {
        ColorType::Gray(bits @ (1 | 2 | 4 | 8)) => bits,
        other => return Err(Fault::unsupported(format!("a palette with samples of type {other:?} is not supported"))),
    };
    let indices = unpack(&raw_bytes(&mut gray, ColorType::Gray(bits))?, width, bits);
    let entries = 1usize << bits;
    if map.len() < 3 * entries {
        return Err(Fault::corrupt(format!("a palette of {} values; {} are needed", map.len(), 3 * entries)));
    }
    // Some writers store 8-bit values; libtiff tells them by the same rule. The high byte else, as Pillow takes it.
    let shift = if map.iter().all(|v| *v < 256) { 0 } else { 8 };
    let rgb = indices.iter().flat_map(|i| [0, 1, 2].map(|c| (map[c * entries + usize::from(*i)] >> shift) as u8));
    Ok(Stored::new(width, height, Samples::Rgb(rgb.collect()), "pal8"))
}

/// Sets PhotometricInterpretation in the first directory of a TIFF or BigTIFF to "black is zero".
fn call_it_gray(data: &mut [u8]) -> Option<()> {
    let little = data.starts_with(b"II");
    let number = |data: &[u8], at: usize, len: usize| -> Option<u64> {
        let bytes = data.get(at..at.checked_add(len)?)?;
        let join = |acc: u64, b: &u8| acc << 8 | u64::from(*b);
        Some(if little { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) })
    };
    let big = number(data, 2, 2)? == 43;
    let (offset_at, offset_len, count_len, entry_len, value_at) =
        if big { (8, 8, 8, 20, 12) } else { (4, 4, 2, 12, 8) };
    let directory = usize::try_from(number(data, offset_at, offset_len)?).ok()?;
    let count = number(data, directory, count_len)?.min(u64::from(u16::MAX)) as usize;
    for i in 0..count {
        let entry = directory + count_len + i * entry_len;
        if number(data, entry, 2)? == u64::from(PHOTOMETRIC) {
            let value = if little { BLACK_IS_ZERO.to_le_bytes() } else { BLACK_IS_ZERO.to_be_bytes() };
            data.get_mut(entry + value_at..entry + value_at + 2)?.copy_from_slice(&value);
            return Some(());
        }
    }
    None
}

/// The picture's samples, interleaved, 8 bit each.
fn samples(reader: &mut Reader<'_>, color: ColorType) -> Result<Vec<u8>, Fault> {
    let unsigned = |format: &u32| *format == u32::from(SampleFormat::Uint.to_u16()) || *format == 4;
    if !tag_list(reader, Tag::SampleFormat).iter().all(unsigned) {
        return Err(Fault::unsupported("samples that are signed or floating point are not supported"));
    }
    let width = reader.dimensions().map_err(fault)?.0;
    let bytes = raw_bytes(reader, color)?;
    Ok(match (color, color.bit_depth()) {
        (_, 8 | 16) => bytes,
        (ColorType::Gray(_), bits @ (1 | 2 | 4)) => {
            let scale = 255 / ((1u16 << bits) - 1) as u8;
            unpack(&bytes, width, bits).into_iter().map(|v| v * scale).collect()
        }
        (_, bits) => return Err(Fault::unsupported(format!("{bits} bits a sample are not supported for {color:?}"))),
    })
}

/// Decodes; 16-bit samples come rounded to 8 bit, planes interleaved, samples below 8 bit still packed.
fn raw_bytes(reader: &mut Reader<'_>, color: ColorType) -> Result<Vec<u8>, Fault> {
    let mut result = DecodingResult::U8(Vec::new());
    let layout = reader.read_image_to_buffer(&mut result).map_err(fault)?;
    let whole = result.as_buffer(0).as_bytes().len() >= layout.complete_len;
    let size = if color.bit_depth() == 16 { 2 } else { 1 };
    let bytes = match result {
        DecodingResult::U8(bytes) => bytes,
        DecodingResult::U16(words) => words.into_iter().map(depth16_to_8).collect(),
        _ => return Err(Fault::unsupported(format!("samples of type {color:?} are not supported"))),
    };
    if !whole {
        return Err(Fault::new(RejectKind::TooLarge, "its planes together are larger than the pixel limit allows"));
    }
    match layout.plane_stride {
        Some(stride) if layout.planes > 1 => Ok(interleave(&bytes, stride.get() / size, layout.planes)),
        _ => Ok(bytes),
    }
}

fn interleave(planar: &[u8], plane_len: usize, planes: usize) -> Vec<u8> {
    let mut out = vec![0; plane_len * planes];
    for (p, plane) in planar.chunks_exact(plane_len).take(planes).enumerate() {
        for (to, v) in out.iter_mut().skip(p).step_by(planes).zip(plane) {
            *to = *v;
        }
    }
    out
}

/// Samples of 1, 2 or 4 bits, most significant first, rows padded to bytes; 8 pass through.
fn unpack(packed: &[u8], width: u32, bits: u8) -> Vec<u8> {
    if bits == 8 {
        return packed.to_vec();
    }
    let width = width as usize;
    let a_byte = 8 / usize::from(bits);
    let mask = (1u16 << bits) as u8 - 1;
    let rows = packed.chunks_exact(width.div_ceil(a_byte));
    rows.flat_map(|row| (0..width).map(move |x| row[x / a_byte] >> (8 - bits as usize * (x % a_byte + 1)) & mask))
        .collect()
}

fn without_fourth(data: &[u8]) -> Vec<u8> {
    data.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect()
}

/// Colour divided by alpha, as Pillow does it (truncated).
fn unpremultiplied(mut data: Vec<u8>) -> Vec<u8> {
    for p in data.chunks_exact_mut(4) {
        let a = u32::from(p[3]);
        if a != 0 && a != 255 {
            p[..3].iter_mut().for_each(|c| *c = (u32::from(*c) * 255 / a).min(255) as u8);
        }
    }
    data
}

/// Full-range BT.601, as in JPEG, rounded: the default coefficients of TIFF.
fn ycbcr_to_rgb(mut data: Vec<u8>) -> Vec<u8> {
    for p in data.chunks_exact_mut(3) {
        let (y, cb, cr) = (i32::from(p[0]) << 16, i32::from(p[1]) - 128, i32::from(p[2]) - 128);
        let channel = |v: i32| ((v + (1 << 15)) >> 16).clamp(0, 255) as u8;
        p[0] = channel(y + 91_881 * cr);
        p[1] = channel(y - 22_554 * cb - 46_802 * cr);
        p[2] = channel(y + 116_130 * cb);
    }
    data
}

/// A decoder's error as a reason to refuse the file.
fn fault(error: TiffError) -> Fault {
    match error {
        TiffError::UnsupportedError(e) => Fault::unsupported(e.to_string()),
        TiffError::LimitsExceeded => {
            Fault::new(RejectKind::TooLarge, "it needs more memory than the pixel limit allows")
        }
        other => Fault::corrupt(other.to_string()),
    }
}

fn tag_list(reader: &mut Reader<'_>, tag: Tag) -> Vec<u32> {
    reader.find_tag_unsigned_vec::<u32>(tag).ok().flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_samples_come_out_in_order() {
        assert_eq!(unpack(&[0b1010_0000, 0b0110_0000], 3, 1), [1, 0, 1, 0, 1, 1]);
        assert_eq!(unpack(&[0b11_01_10_00, 0b01_00_00_00], 5, 2), [3, 1, 2, 0, 1]);
        assert_eq!(unpack(&[0x1F, 0x20], 3, 4), [1, 15, 2]);
    }

    #[test]
    fn planes_interleave() {
        assert_eq!(interleave(&[1, 2, 3, 4, 5, 6], 2, 3), [1, 3, 5, 2, 4, 6]);
    }
}
