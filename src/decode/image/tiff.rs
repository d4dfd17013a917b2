//! TIFF: the first picture of the file, by the `tiff` crate (of which `image` would hide palettes and raw ink).

use ::tiff::ColorType;
use ::tiff::tags::{ByteOrder, SampleFormat, Tag};

use super::pixels::{Samples, gray_alpha_to_rgba, gray_to_rgb};
use super::tiff_parts::{self as parts, Reader, Whole, fault, open, set_tag, tag};
use super::{Fault, PhotoOptions, Stored, check_size, exif};

const PHOTOMETRIC: u16 = 262;
const PALETTE: u16 = 3;
const BLACK_IS_ZERO: u32 = 1;
const DNG_VERSION: Tag = Tag::Unknown(50706);

/// Decodes 1 to 16-bit gray, palette, RGB, RGBA, CMYK and YCbCr.
pub fn read(data: &[u8], opts: &PhotoOptions) -> Result<Stored, Fault> {
    let mut reader = open(data, opts)?;
    let (width, height) = reader.dimensions().map_err(fault)?;
    check_size(width.into(), height.into(), opts)?;
    refuse_raw(&mut reader)?;
    let mut stored = if tag(&mut reader, Tag::PhotometricInterpretation)? == Some(u32::from(PALETTE)) {
        palette(data, &mut reader, opts)?
    } else {
        picture(data, &mut reader, opts)?
    };
    stored.icc = reader.get_tag_u8_vec(Tag::IccProfile).ok();
    stored.exif = exif::parse(data.to_vec());
    Ok(stored)
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

fn picture(data: &[u8], reader: &mut Reader<'_>, opts: &PhotoOptions) -> Result<Stored, Fault> {
    let (width, height) = reader.dimensions().map_err(fault)?;
    let color = reader.colortype().map_err(fault)?;
    let extra = tag_list(reader, Tag::ExtraSamples).first().copied();
    let alpha = matches!(extra, Some(1 | 2));
    let endian = if reader.byte_order() == ByteOrder::LittleEndian { "le" } else { "be" };
    let Whole { bytes, converted, damage } = samples(data, reader, color, opts)?;
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
        ColorType::YCbCr(8) if converted => (Samples::Rgb(bytes), "ycbcr".into(), false),
        ColorType::YCbCr(8) => (Samples::Rgb(ycbcr_to_rgb(bytes)), "ycbcr".into(), false),
        other => return Err(Fault::unsupported(format!("samples of type {other:?} are not supported"))),
    };
    let samples = match samples {
        Samples::Rgba(data) if extra == Some(1) => Samples::Rgba(unpremultiplied(data)),
        other => other,
    };
    let mut stored = Stored::new(width, height, samples, format);
    stored.gray = gray;
    stored.warnings.extend(damage);
    Ok(stored)
}

/// The `tiff` crate decodes no palettes, but gray samples are stored alike: a copy of the file that calls its indices gray
/// gives them.
fn palette(data: &[u8], reader: &mut Reader<'_>, opts: &PhotoOptions) -> Result<Stored, Fault> {
    let (width, height) = reader.dimensions().map_err(fault)?;
    let map = reader.get_tag_u16_vec(Tag::ColorMap).map_err(fault)?;
    let mut copy = data.to_vec();
    let unreadable = || Fault::corrupt("the directory of a palette picture cannot be read");
    set_tag(&mut copy, PHOTOMETRIC, BLACK_IS_ZERO).ok_or_else(unreadable)?;
    let mut gray = open(&copy, opts)?;
    let bits = match gray.colortype().map_err(fault)? {
        ColorType::Gray(bits @ (1 | 2 | 4 | 8)) => bits,
        other => return Err(Fault::unsupported(format!("a palette with samples of type {other:?} is not supported"))),
    };
    let Whole { bytes, damage, .. } = parts::read(&copy, ColorType::Gray(bits), opts)?;
    let indices = unpack(&bytes, width, bits);
    let entries = 1usize << bits;
    if map.len() < 3 * entries {
        return Err(Fault::corrupt(format!("a palette of {} values; {} are needed", map.len(), 3 * entries)));
    }
    // Some writers store 8-bit values; libtiff tells them by the same rule. The high byte else, as Pillow takes it.
    let shift = if map.iter().all(|v| *v < 256) { 0 } else { 8 };
    let rgb = indices.iter().flat_map(|i| [0, 1, 2].map(|c| (map[c * entries + usize::from(*i)] >> shift) as u8));
    let mut stored = Stored::new(width, height, Samples::Rgb(rgb.collect()), "pal8");
    stored.warnings.extend(damage);
    Ok(stored)
}

/// The picture's samples, interleaved, 8 bit each.
fn samples(data: &[u8], reader: &mut Reader<'_>, color: ColorType, opts: &PhotoOptions) -> Result<Whole, Fault> {
    let unsigned = |format: &u32| *format == u32::from(SampleFormat::Uint.to_u16()) || *format == 4;
    if !tag_list(reader, Tag::SampleFormat).iter().all(unsigned) {
        return Err(Fault::unsupported("samples that are signed or floating point are not supported"));
    }
    let width = reader.dimensions().map_err(fault)?.0;
    match (color, color.bit_depth()) {
        (_, 8 | 16) => parts::read(data, color, opts),
        (ColorType::Gray(_), bits @ (1 | 2 | 4)) => {
            let scale = 255 / ((1u16 << bits) - 1) as u8;
            let mut whole = parts::read(data, color, opts)?;
            whole.bytes = unpack(&whole.bytes, width, bits).into_iter().map(|v| v * scale).collect();
            Ok(whole)
        }
        (_, bits) => Err(Fault::unsupported(format!("{bits} bits a sample are not supported for {color:?}"))),
    }
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
}
