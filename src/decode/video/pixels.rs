//! From FFmpeg's pixel formats to [`PixelFormat`]: planar formats in native order are shared without copying, all
//! others are unpacked exactly. Alpha is a plane of its own.

use std::sync::Arc;

use crate::error::{Error, RejectKind, Result};
use crate::ffi::av::{Layout, Picture};
use crate::frame::{PixelFormat, Pixels, Plane};

/// One plane of a picture that stays alive as long as this does.
struct SharedPlane {
    picture: Arc<Picture>,
    plane: usize,
}

impl AsRef<[u8]> for SharedPlane {
    fn as_ref(&self) -> &[u8] {
        self.picture.plane(self.plane).map_or(&[], |(bytes, _)| bytes)
    }
}

/// How a format is brought into ours.
pub(super) enum Way {
    /// Planes as they are, in this order.
    Share(Vec<usize>),
    /// Each component into a plane of its own, in this order.
    Split(Vec<usize>),
    /// R, G, B beside each other, 8 bit.
    Interleave,
    /// Through the palette to interleaved RGB.
    Palette,
}

/// Chooses format and way for `layout`; `None` for what has no place among ours.
pub(super) fn choose(layout: &Layout) -> Option<(PixelFormat, Way)> {
    if layout.palette {
        return Some((PixelFormat::Rgb8, Way::Palette));
    }
    let depth = layout.components.iter().map(|c| c.depth).max()?;
    if layout.opaque || !(1..=16).contains(&depth) || layout.name.starts_with("xyz") {
        return None;
    }
    // Shallower samples (one bit, RGB 5:6:5) are widened to 8 bit.
    let deep = depth.max(8) as u8;
    let native = !layout.bitstream
        && layout.components.iter().all(|c| {
            let bytes = if c.depth > 8 { 2 } else { 1 };
            c.depth == depth && depth >= 8 && c.shift == 0 && c.offset == 0 && c.step == bytes
        })
        && !(layout.big_endian && depth > 8);
    let format = match (layout.components.len(), layout.rgb) {
        (1, _) => PixelFormat::Gray { depth: deep },
        (3, false) => PixelFormat::Yuv { depth: deep, sub_w: layout.sub_w, sub_h: layout.sub_h },
        (3, true) if depth <= 8 && !native => PixelFormat::Rgb8,
        (3, true) => PixelFormat::Gbr { depth: deep },
        _ => return None,
    };
    let order: &[usize] = match format {
        PixelFormat::Gbr { .. } => &[1, 2, 0],
        PixelFormat::Gray { .. } => &[0],
        _ => &[0, 1, 2],
    };
    let way = match format {
        PixelFormat::Rgb8 if layout.name == "rgb24" => Way::Share(vec![0]),
        PixelFormat::Rgb8 => Way::Interleave,
        _ if native => Way::Share(order.iter().map(|&c| layout.components[c].plane).collect()),
        _ => Way::Split(order.to_vec()),
    };
    Some((format, way))
}

/// Scales a sample of `depth` bits, at most 16, to 8 bit, rounded.
fn to_8_bit(value: u16, depth: i32) -> u16 {
    let max = (1u32 << depth) - 1;
    ((u32::from(value).min(max) * 255 + max / 2) / max) as u16
}

/// Unpacks rows of components.
struct Unpacker<'a> {
    picture: &'a Picture,
    layout: &'a Layout,
}

impl Unpacker<'_> {
    /// Row `y` of component `c`.
    fn row(&self, c: usize, y: usize, out: &mut [u16]) -> Result<()> {
        if !self.picture.read_row(c, y, out) {
            return Err(Error::bug(format!("row {y} of component {c} of a {} frame cannot be read", self.layout.name)));
        }
        // The only format in which 1 is black.
        if self.layout.name == "monow" {
            out.iter_mut().for_each(|v| *v ^= 1);
        }
        if let Some(depth) = self.layout.components.get(c).map(|c| c.depth).filter(|&d| d < 8) {
            out.iter_mut().for_each(|v| *v = to_8_bit(*v, depth));
        }
        Ok(())
    }

    /// Component `c` as a plane of its own.
    fn split(&self, c: usize, size: (usize, usize), wide: bool) -> Result<Plane> {
        let (w, h) = size;
        let stride = w * if wide { 2 } else { 1 };
        let mut data = Vec::with_capacity(stride * h);
        let mut row = vec![0u16; w];
        for y in 0..h {
            self.row(c, y, &mut row)?;
            if wide {
                data.extend(row.iter().flat_map(|v| v.to_le_bytes()));
            } else {
                data.extend(row.iter().map(|&v| v as u8));
            }
        }
        Ok(Plane { data: data.into(), stride })
    }

    /// Interleaved RGB.
    fn interleave(&self, w: usize, h: usize) -> Result<Plane> {
        let mut data = vec![0u8; w * h * 3];
        let mut row = vec![0u16; w];
        for (y, line) in data.chunks_exact_mut(w * 3).enumerate() {
            for c in 0..3 {
                self.row(c, y, &mut row)?;
                line.chunks_exact_mut(3).zip(&row).for_each(|(pixel, &v)| pixel[c] = v as u8);
            }
        }
        Ok(Plane { data: data.into(), stride: w * 3 })
    }

    /// How opaque each pixel is, from component `c` of `depth` bits.
    fn alpha(&self, (c, depth): (usize, i32), w: usize, h: usize) -> Result<Vec<u8>> {
        let mut data = Vec::with_capacity(w * h);
        let mut row = vec![0u16; w];
        for y in 0..h {
            self.row(c, y, &mut row)?;
            data.extend(row.iter().map(|&v| to_8_bit(v, depth) as u8));
        }
        Ok(data)
    }

    /// The same from the palette; fully opaque where no entry says anything.
    fn palette_alpha(&self, w: usize, h: usize) -> Result<Vec<u8>> {
        let palette = self.picture.palette().ok_or_else(|| Error::bug("a frame with a palette lacks it"))?;
        let opaque = palette.map(|color| color.to_be_bytes()[0]);
        if opaque.iter().all(|&a| a == 0) {
            return Ok(Vec::new());
        }
        let mut data = self.split(0, (w, h), false)?.data.to_vec();
        data.iter_mut().for_each(|index| *index = opaque[usize::from(*index)]);
        Ok(data)
    }

    /// Interleaved RGB through the palette.
    fn palette(&self, w: usize, h: usize) -> Result<Plane> {
        let palette = self.picture.palette().ok_or_else(|| Error::bug("a frame with a palette lacks it"))?;
        let mut data = Vec::with_capacity(w * h * 3);
        let mut row = vec![0u16; w];
        for y in 0..h {
            if !self.picture.read_row(0, y, &mut row) {
                return Err(Error::bug(format!("row {y} of a {} frame cannot be read", self.layout.name)));
            }
            for &index in &row {
                let [_, r, g, b] = palette[usize::from(index) & 255].to_be_bytes();
                data.extend([r, g, b]);
            }
        }
        Ok(Plane { data: data.into(), stride: w * 3 })
    }
}

/// The picture's samples in one of our formats. Its rows may run upwards or be packed in any way that FFmpeg describes
/// with integers; other formats are an input error of kind `unsupported` that names them.
pub(super) fn planes(picture: &Arc<Picture>) -> Result<(PixelFormat, Vec<Plane>)> {
    let unsupported = |name: &str| {
        Error::input(
            RejectKind::Unsupported,
            format!("frames of pixel format {name} are not supported; convert the file"),
        )
    };
    let layout = picture.layout().ok_or_else(|| unsupported("unknown"))?;
    let (format, way) = choose(&layout).ok_or_else(|| unsupported(&layout.name))?;
    let (w, h) = picture.size();
    let (w, h) = (w as usize, h as usize);
    let unpack = Unpacker { picture, layout: &layout };
    let planes = match way {
        Way::Share(order) => {
            let shared: Option<Vec<Plane>> = order.iter().map(|&plane| share(picture, plane)).collect();
            match shared {
                Some(planes) => planes,
                // Rows that run upwards.
                None if format == PixelFormat::Rgb8 => vec![unpack.interleave(w, h)?],
                None => split_all(&unpack, &order_of(format), format, w, h)?,
            }
        }
        Way::Split(order) => split_all(&unpack, &order, format, w, h)?,
        Way::Interleave => vec![unpack.interleave(w, h)?],
        Way::Palette => vec![unpack.palette(w, h)?],
    };
    Ok((format, planes))
}

/// How opaque the picture's pixels are; `None` where all are, or where nothing says so.
pub(super) fn alpha(picture: &Picture) -> Result<Option<Plane>> {
    let Some(layout) = picture.layout().filter(|layout| layout.palette || layout.alpha.is_some()) else {
        return Ok(None);
    };
    let (w, h) = picture.size();
    let (w, h) = (w as usize, h as usize);
    let unpack = Unpacker { picture, layout: &layout };
    let data = match layout.alpha {
        Some(component) => unpack.alpha(component, w, h)?,
        None => unpack.palette_alpha(w, h)?,
    };
    Ok(data.iter().any(|&a| a < 255).then(|| Plane { data: data.into(), stride: w }))
}

/// The components of our planes, in order.
fn order_of(format: PixelFormat) -> Vec<usize> {
    match format {
        PixelFormat::Gray { .. } => vec![0],
        PixelFormat::Gbr { .. } => vec![1, 2, 0],
        _ => vec![0, 1, 2],
    }
}

fn split_all(unpack: &Unpacker, order: &[usize], format: PixelFormat, w: usize, h: usize) -> Result<Vec<Plane>> {
    let (wide, sub_w, sub_h) = match format {
        PixelFormat::Yuv { depth, sub_w, sub_h } => (depth > 8, sub_w, sub_h),
        PixelFormat::Gray { depth } | PixelFormat::Gbr { depth } => (depth > 8, 0, 0),
        PixelFormat::Rgb8 => (false, 0, 0),
    };
    let plane = |(i, &c): (usize, &usize)| {
        let chroma = i > 0;
        let down = |size: usize, by: u8| if chroma { size.div_ceil(1 << by) } else { size };
        unpack.split(c, (down(w, sub_w), down(h, sub_h)), wide)
    };
    order.iter().enumerate().map(plane).collect()
}

pub(super) fn share(picture: &Arc<Picture>, plane: usize) -> Option<Plane> {
    let (_, stride) = picture.plane(plane)?;
    let owner = SharedPlane { picture: picture.clone(), plane };
    Some(Plane { data: Pixels::shared(Arc::new(owner)), stride })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_depths_become_eight_bits() {
        assert_eq!([(0, 5), (31, 5), (16, 5), (1, 1)].map(|(v, depth)| to_8_bit(v, depth)), [0, 255, 132, 255]);
        assert_eq!([(1023, 10), (510, 10), (2, 10), (65535, 16)].map(|(v, d)| to_8_bit(v, d)), [255, 127, 0, 255]);
    }
}
