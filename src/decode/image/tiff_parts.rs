//! The strips and tiles of a TIFF's first picture, put together. What is damaged is left out, and said.
//!
//! They are asked for one by one, since the `tiff` crate gives nothing of a picture of which one is broken. Those that
//! are JPEGs go through libjpeg-turbo, as all JPEGs do: the crate's own decoder is silent about damage.

use std::io::{Cursor, Read, Seek, SeekFrom};
use std::num::NonZeroUsize;

use ::tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits};
use ::tiff::tags::Tag;
use ::tiff::{ColorType, TiffError};

use super::pixels::{Samples, depth16_to_8};
use super::{Fault, PhotoOptions, check_size, jpeg};
use crate::error::RejectKind;

const WIDTH: u16 = 256;
const LENGTH: u16 = 257;
const COMPRESSION_JPEG: u32 = 7;
const PHOTOMETRIC_YCBCR: u32 = 6;
const PLANAR: u32 = 2;

/// A decoder over a file in memory.
pub type Reader<'a> = Decoder<Lenient<'a>>;

/// Opens the first picture.
pub fn open<'a>(data: &'a [u8], opts: &PhotoOptions) -> Result<Reader<'a>, Fault> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = usize::try_from(opts.max_pixels.saturating_mul(8)).unwrap_or(usize::MAX);
    limits.intermediate_buffer_size = limits.decoding_buffer_size;
    limits.ifd_value_size = 64 << 20;
    Ok(Decoder::new(Lenient(Cursor::new(data))).map_err(fault)?.with_limits(limits))
}

/// A tag's number.
pub fn tag(reader: &mut Reader<'_>, tag: Tag) -> Result<Option<u32>, Fault> {
    reader.find_tag_unsigned::<u32>(tag).map_err(fault)
}

/// A decoder's error as a reason to refuse the file.
pub fn fault(error: TiffError) -> Fault {
    match error {
        TiffError::UnsupportedError(e) => Fault::unsupported(e.to_string()),
        TiffError::LimitsExceeded => {
            Fault::new(RejectKind::TooLarge, "it needs more memory than the pixel limit allows")
        }
        other => Fault::corrupt(other.to_string()),
    }
}

/// A file whose last bytes are given also where more were asked for: a cursor gives none of them.
pub struct Lenient<'a>(Cursor<&'a [u8]>);

impl Read for Lenient<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(out)
    }
}

impl Seek for Lenient<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

/// A whole picture.
pub struct Whole {
    /// 8-bit samples, interleaved; those of fewer bits are packed, each row from a byte on.
    pub bytes: Vec<u8>,
    /// YCbCr was converted to RGB.
    pub converted: bool,
    /// What is wrong with it.
    pub damage: Option<String>,
}

/// How strips or tiles lie in the picture, all lengths as in [`Whole`].
struct Grid {
    tiles: bool,
    /// Width and height of one, in pixels.
    part: (usize, usize),
    across: usize,
    down: usize,
    planes: usize,
    /// Bits of a pixel in one plane.
    texel: usize,
    /// Bytes of a row of one plane.
    row: usize,
    height: usize,
}

/// Decodes the picture whose samples are `color`; 16-bit samples come rounded to 8.
///
/// # Errors
/// Whatever the first strip or tile has where none can be read.
pub fn read(data: &[u8], color: ColorType, opts: &PhotoOptions) -> Result<Whole, Fault> {
    let mut reader = open(data, opts)?;
    let grid = Grid::of(&mut reader, color, opts)?;
    let jpegs = Jpegs::of(data, &mut reader, color)?;
    // The crate trips over tiles that reach beyond the picture; of a picture of whole tiles it reads the same ones.
    let padded = if grid.tiles && jpegs.is_none() { grid.padded(data) } else { None };
    let mut reader = match &padded {
        Some(copy) => open(copy, opts)?,
        None => reader,
    };
    let parts = grid.across * grid.down;
    let mut planes = vec![0; grid.planes * grid.row * grid.height];
    let (mut kept, mut lost, mut first) = (false, 0, None);
    for (plane, out) in planes.chunks_exact_mut((grid.row * grid.height).max(1)).enumerate() {
        for i in 0..parts {
            let index = plane * parts + i;
            let (part, why) = match &jpegs {
                Some(jpegs) => jpegs.decode(index, opts)?,
                None => decode(&mut reader, index as u32)?,
            };
            if let Some(part) = part.filter(|part| !part.bytes.is_empty()) {
                kept = true;
                grid.place(&part, i, out);
            }
            lost += usize::from(why.is_some());
            first = first.or(why);
        }
    }
    let kind = if grid.tiles { "tiles" } else { "strips" };
    let all = grid.planes * parts;
    let damage = first.map(|why| format!("damaged, decoded partially: {lost} of {all} {kind}: {why}"));
    if let (Some(damage), false) = (&damage, kept) {
        return Err(Fault::corrupt(damage.replace("damaged, decoded partially", "nothing could be decoded")));
    }
    let bytes = if grid.planes > 1 { interleave(&planes, grid.planes) } else { planes };
    Ok(Whole { bytes, converted: jpegs.is_some(), damage })
}

impl Grid {
    fn of(reader: &mut Reader<'_>, color: ColorType, opts: &PhotoOptions) -> Result<Self, Fault> {
        let (width, height) = reader.dimensions().map_err(fault)?;
        check_size(width.into(), height.into(), opts)?;
        let layout = reader.image_buffer_layout().map_err(fault)?;
        if u64::try_from(layout.complete_len).unwrap_or(u64::MAX) > opts.max_pixels.saturating_mul(8) {
            return Err(Fault::new(RejectKind::TooLarge, "its planes together are larger than the pixel limit allows"));
        }
        let tiles = reader.get_chunk_type() == ChunkType::Tile;
        let (w, h) = reader.chunk_dimensions();
        if w == 0 || h == 0 {
            return Err(Fault::corrupt(format!("its strips or tiles are {w}x{h} pixels")));
        }
        let (width, height, part) = (width as usize, height as usize, (w as usize, h as usize));
        let samples = if layout.planes > 1 { 1 } else { usize::from(color.num_samples()) };
        let texel = samples * if color.bit_depth() == 16 { 8 } else { usize::from(color.bit_depth()) };
        let (across, down) = (if tiles { width.div_ceil(part.0) } else { 1 }, height.div_ceil(part.1));
        Ok(Grid { tiles, part, across, down, planes: layout.planes, texel, row: (width * texel).div_ceil(8), height })
    }

    /// The file, saying that its picture ends with its last tile; `None` where that cannot be said.
    fn padded(&self, data: &[u8]) -> Option<Vec<u8>> {
        let mut copy = data.to_vec();
        set_tag(&mut copy, WIDTH, u32::try_from(self.across * self.part.0).ok()?)?;
        set_tag(&mut copy, LENGTH, u32::try_from(self.down * self.part.1).ok()?)?;
        Some(copy)
    }

    /// Copies what of `part`, the `i`th, lies in the picture.
    fn place(&self, part: &Part, i: usize, out: &mut [u8]) {
        let (x, y) = (i % self.across * self.part.0 * self.texel / 8, i / self.across * self.part.1);
        for (from, to) in part.bytes.chunks_exact(part.stride).zip(out.chunks_exact_mut(self.row).skip(y)) {
            let n = (self.part.0 * self.texel).div_ceil(8).min(part.row).min(self.row.saturating_sub(x));
            to[x..x + n].copy_from_slice(&from[..n]);
        }
    }
}

/// Rows of one strip or tile.
struct Part {
    bytes: Vec<u8>,
    /// Bytes from row to row, and of a row's samples.
    stride: usize,
    row: usize,
}

/// What could be read of a part, and why that is not all.
type Decoded = (Option<Part>, Option<String>);

/// One part by the crate. Of a broken one the rows before the damage are kept.
fn decode(reader: &mut Reader<'_>, index: u32) -> Result<Decoded, Fault> {
    let why = match reader.read_chunk(index) {
        Ok(result) => {
            let stride = row_bytes(reader, index)?;
            return Ok((Some(Part::of(result, stride.get(), stride)?), None));
        }
        Err(TiffError::LimitsExceeded) => return Err(fault(TiffError::LimitsExceeded)),
        Err(TiffError::UnsupportedError(e)) => return Err(fault(TiffError::UnsupportedError(e))),
        Err(e) => e.to_string(),
    };
    // Rows that do not lie side by side in memory are finished one by one.
    let Ok(row) = row_bytes(reader, index) else { return Ok((None, Some(why))) };
    let stride = row.get() + 8;
    let mut rows = DecodingResult::U8(Vec::new());
    let _ = reader.read_chunk_to_buffer(&mut rows, index, stride);
    let mut part = Part::of(rows, stride, row)?;
    // The last row with anything in it may not be finished.
    let touched = part.bytes.chunks(part.stride).rposition(|row| row.iter().any(|b| *b != 0)).unwrap_or(0);
    part.bytes.truncate(touched * part.stride);
    Ok((Some(part), Some(why)))
}

fn row_bytes(reader: &mut Reader<'_>, index: u32) -> Result<NonZeroUsize, Fault> {
    let layout = reader.image_chunk_buffer_layout(index).map_err(fault)?;
    layout.row_stride.ok_or_else(|| Fault::corrupt("a strip or tile without width"))
}

impl Part {
    /// `stride` and `row` are in bytes as decoded.
    fn of(result: DecodingResult, stride: usize, row: NonZeroUsize) -> Result<Self, Fault> {
        match result {
            DecodingResult::U8(bytes) => Ok(Part { bytes, stride, row: row.get() }),
            DecodingResult::U16(words) => {
                let bytes = words.into_iter().map(depth16_to_8).collect();
                Ok(Part { bytes, stride: stride / 2, row: row.get() / 2 })
            }
            _ => Err(Fault::unsupported("samples that are neither of 8 nor of 16 bits are not supported")),
        }
    }
}

/// Strips or tiles that are JPEGs without the tables that they share.
struct Jpegs<'a> {
    data: &'a [u8],
    ranges: Vec<(u64, u64)>,
    /// What stands before a part's own segments: start, Adobe's marker with the colour transform, shared tables.
    head: Vec<u8>,
    /// Of a pixel in one of them.
    components: usize,
}

impl<'a> Jpegs<'a> {
    /// `None` for other pictures.
    fn of(data: &'a [u8], reader: &mut Reader<'_>, color: ColorType) -> Result<Option<Self>, Fault> {
        let planar = tag(reader, Tag::PlanarConfiguration)? == Some(PLANAR);
        let components = match color {
            ColorType::Gray(8) => 1,
            ColorType::RGB(8) | ColorType::CMYK(8) if planar => 1,
            ColorType::RGB(8) | ColorType::YCbCr(8) if !planar => 3,
            ColorType::CMYK(8) => 4,
            _ => return Ok(None),
        };
        if tag(reader, Tag::Compression)? != Some(COMPRESSION_JPEG) {
            return Ok(None);
        }
        let mut list = |strips, tiles| match reader.get_tag_u64_vec(strips) {
            Ok(list) => Ok(list),
            Err(_) => reader.get_tag_u64_vec(tiles).map_err(fault),
        };
        let offsets = list(Tag::StripOffsets, Tag::TileOffsets)?;
        let lengths = list(Tag::StripByteCounts, Tag::TileByteCounts)?;
        let transform = u8::from(tag(reader, Tag::PhotometricInterpretation)? == Some(PHOTOMETRIC_YCBCR));
        let mut head = vec![0xFF, 0xD8, 0xFF, 0xEE, 0, 14];
        head.extend_from_slice(b"Adobe\0\x64\0\0\0\0");
        head.push(transform);
        if let Ok(tables) = reader.get_tag_u8_vec(Tag::JPEGTables) {
            let tables = tables.strip_prefix(&[0xFF, 0xD8]).unwrap_or(&tables);
            head.extend_from_slice(tables.strip_suffix(&[0xFF, 0xD9]).unwrap_or(tables));
        }
        Ok(Some(Jpegs { data, ranges: offsets.into_iter().zip(lengths).collect(), head, components }))
    }

    fn decode(&self, index: usize, opts: &PhotoOptions) -> Result<Decoded, Fault> {
        let Some(mut own) = self.ranges.get(index).and_then(|(at, len)| {
            let (at, len) = (usize::try_from(*at).ok()?, usize::try_from(*len).ok()?);
            self.data.get(at..at.saturating_add(len).min(self.data.len()))?.strip_prefix(&[0xFF, 0xD8])
        }) else {
            return Ok((None, Some("no JPEG where one should be".into())));
        };
        // JFIF's marker would say YCbCr whatever the TIFF says.
        if let [0xFF, 0xE0, a, b, ..] = own {
            own = own.get(2 + usize::from(u16::from_be_bytes([*a, *b]))..).unwrap_or_default();
        }
        let picture = match jpeg::read(&[&self.head, own].concat(), opts) {
            Ok(picture) => picture,
            Err(e) if e.kind == RejectKind::Corrupt => return Ok((None, Some(e.what))),
            Err(e) => return Err(e),
        };
        let bytes: Vec<u8> = match (picture.samples, self.components) {
            (Samples::Rgb(rgb), 1) if picture.gray => rgb.into_iter().step_by(3).collect(),
            (Samples::Rgb(rgb), 3) if !picture.gray => rgb,
            // Ink is inverted in JPEGs alone.
            (Samples::Cmyk(ink), 4) => ink.into_iter().map(|v| 255 - v).collect(),
            _ => return Ok((None, Some("a JPEG of other components than the TIFF's".into()))),
        };
        let row = picture.width as usize * self.components;
        let why = (!picture.warnings.is_empty()).then(|| picture.warnings.join("; "));
        Ok((Some(Part { bytes, stride: row, row }), why))
    }
}

fn interleave(planar: &[u8], planes: usize) -> Vec<u8> {
    let mut out = vec![0; planar.len()];
    for (p, plane) in planar.chunks_exact((planar.len() / planes).max(1)).enumerate() {
        for (to, v) in out.iter_mut().skip(p).step_by(planes).zip(plane) {
            *to = *v;
        }
    }
    out
}

/// Sets a number in the first directory of a TIFF or BigTIFF; `None` where it is not there, or too large for its field.
pub fn set_tag(data: &mut [u8], tag: u16, value: u32) -> Option<()> {
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
    let entry = (0..count)
        .map(|i| directory.saturating_add(count_len + i * entry_len))
        .find(|entry| number(data, *entry, 2) == Some(tag.into()))?;
    let size = match number(data, entry + 2, 2)? {
        3 => 2,
        4 => 4,
        16 => 8,
        _ => return None,
    };
    let wide = u64::from(value).to_be_bytes();
    let (above, bytes) = wide.split_at(8 - size);
    if above.iter().any(|b| *b != 0) {
        return None;
    }
    let to = data.get_mut(entry + value_at..entry + value_at + size)?;
    to.copy_from_slice(bytes);
    if little {
        to.reverse();
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_interleave() {
        assert_eq!(interleave(&[1, 2, 3, 4, 5, 6], 3), [1, 3, 5, 2, 4, 6]);
    }

    #[test]
    fn a_number_is_set_where_it_fits() {
        // One entry: width, a short, 7.
        let mut little = b"II*\0\x08\0\0\0\x01\0\0\x01\x03\0\x01\0\0\0\x07\0\0\0\0\0\0\0".to_vec();
        assert_eq!(set_tag(&mut little, WIDTH, 0x1234), Some(()));
        assert_eq!(little[18..22], [0x34, 0x12, 0, 0]);
        assert_eq!(set_tag(&mut little, WIDTH, 0x10000), None);
        assert_eq!(set_tag(&mut little, LENGTH, 1), None);
        let mut big = b"MM\0*\0\0\0\x08\0\x01\x01\0\0\x04\0\0\0\x01\0\0\0\x07\0\0\0\0".to_vec();
        assert_eq!(set_tag(&mut big, WIDTH, 0x10203), Some(()));
        assert_eq!(big[18..22], [0, 1, 2, 3]);
    }
}
