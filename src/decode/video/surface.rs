//! From what devices give to [`PixelFormat`]: NV12, P010, P016 and planar formats whose samples lie in the high bits of
//! 16 are unpacked to the very samples that software decoding gives, or described where they lie, for kernels that read
//! them there.

use std::sync::Arc;

use super::pixels::{choose, share};
use crate::error::{Error, RejectKind, Result};
use crate::ffi::av::{Component, Layout, OnCuda, Picture};
use crate::frame::{Lie, PixelFormat, Plane, Surface};

/// The samples of `picture`, which came from a device, as software would give them: in the format that `wanted` is.
pub(super) fn planes(picture: &Arc<Picture>, wanted: &Layout) -> Result<(PixelFormat, Vec<Plane>)> {
    let source = picture.layout();
    let unsupported = || {
        let from = source.as_ref().map_or("unknown", |l| &l.name);
        let text = format!("surfaces of pixel format {from} cannot be brought to {}", wanted.name);
        Error::input(RejectKind::DeviceUnsupported, text)
    };
    let format = choose(wanted).map(|(format, _)| format).ok_or_else(unsupported)?;
    let (Some(source), PixelFormat::Yuv { depth, sub_w, sub_h }) = (source.as_ref(), format) else {
        return Err(unsupported());
    };
    let alike = source.components.len() == 3 && !source.rgb && !source.opaque && !source.palette && !source.bitstream;
    if !alike || (source.sub_w, source.sub_h) != (sub_w, sub_h) || source.big_endian {
        return Err(unsupported());
    }
    let (w, h) = picture.size();
    let chroma = ((w as usize).div_ceil(1 << sub_w), (h as usize).div_ceil(1 << sub_h));
    let planes = source.components.iter().enumerate().map(|(i, c)| {
        let (width, height) = if i == 0 { (w as usize, h as usize) } else { chroma };
        let wide = c.depth + c.shift > 8;
        let down = c.depth + c.shift - i32::from(depth);
        let bytes = if wide { 2 } else { 1 };
        if c.step == bytes && c.offset == 0 && down == 0 {
            return share(picture, c.plane).ok_or_else(unsupported);
        }
        let (data, from) = picture.plane(c.plane).ok_or_else(unsupported)?;
        let down = u32::try_from(down).ok().filter(|d| *d < 16 && wide == (depth > 8)).ok_or_else(unsupported)?;
        let offset = c.offset as usize;
        let stride = width * bytes as usize;
        let mut out = vec![0; stride * height];
        for (row, out) in data.chunks(from).zip(out.chunks_exact_mut(stride)) {
            match c.step {
                2 if !wide => bytes_of::<2>(row, offset, out),
                2 => words_of::<2>(row, offset, down, out),
                4 if wide => words_of::<4>(row, offset, down, out),
                _ => return Err(unsupported()),
            }
        }
        Ok(Plane { data: out.into(), stride })
    });
    Ok((format, planes.collect::<Result<_>>()?))
}

/// A picture that stays on CUDA's device.
struct Kept {
    picture: Picture,
    wanted: Layout,
    lie: Lie,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("wanted", &self.wanted.name).field("lie", &self.lie).finish()
    }
}

impl Surface for Kept {
    fn lie(&self) -> Lie {
        self.lie
    }

    fn download(&self) -> Result<Vec<Plane>> {
        planes(&Arc::new(self.picture.download()?), &self.wanted).map(|(_, planes)| planes)
    }
}

/// `picture` where it lies on CUDA's device, and the format that software would give it in, which is `wanted`; `None`
/// where kernels could not read it there.
pub(super) fn kept(picture: &Picture, wanted: &Layout) -> Result<Option<(PixelFormat, Arc<dyn Surface>)>> {
    let Some((format @ PixelFormat::Yuv { depth, sub_w, sub_h }, _)) = choose(wanted) else { return Ok(None) };
    let Some(there) = picture.on_cuda()? else { return Ok(None) };
    let Some(lie) = lie(&there, depth, (sub_w, sub_h)) else { return Ok(None) };
    Ok(Some((format, Arc::new(Kept { picture: picture.share()?, wanted: wanted.clone(), lie }))))
}

/// How samples of `depth` bits lie; `None` where this is no way to read them.
fn lie(there: &OnCuda, depth: u8, sub: (u8, u8)) -> Option<Lie> {
    let layout = &there.layout;
    let [luma, cb, cr] = layout.components[..] else { return None };
    let bytes = if depth > 8 { 2 } else { 1 };
    let alike = [luma, cb, cr].iter().all(|c| {
        let wide = if c.depth + c.shift > 8 { 2 } else { 1 };
        // Low bits are what is left below `depth` in a byte or two.
        wide == bytes && c.depth + c.shift >= i32::from(depth)
    });
    let same = (cb.step, cb.depth + cb.shift) == (cr.step, cr.depth + cr.shift);
    if !alike || !same || layout.rgb || layout.big_endian || (layout.sub_w, layout.sub_h) != sub {
        return None;
    }
    let address = *there.planes.first()?;
    let place = |c: &Component| {
        let from = there.planes.get(c.plane)?.checked_sub(address)?.checked_add(u64::try_from(c.offset).ok()?)?;
        u32::try_from(from).ok().zip(there.strides.get(c.plane).copied())
    };
    let places = [place(&luma)?, place(&cb)?, place(&cr)?];
    // Kernels read words of rows, and two words where both components of chroma lie together.
    let whole = address % 8 == 0 && places.iter().all(|(offset, stride)| stride % 8 == 0 && offset % 8 <= 2);
    whole.then_some(Lie {
        address,
        offset: places.map(|(offset, _)| offset),
        stride: places.map(|(_, stride)| stride),
        step: [u32::try_from(luma.step).ok()?, u32::try_from(cb.step).ok()?],
        low: u32::try_from(luma.depth + luma.shift - i32::from(depth)).ok()?,
    })
}

/// Every byte at `offset` of `STEP`.
fn bytes_of<const STEP: usize>(row: &[u8], offset: usize, out: &mut [u8]) {
    row.as_chunks::<STEP>().0.iter().zip(out).for_each(|(from, to)| *to = from[offset]);
}

/// Every word at `offset` of `STEP` bytes, shifted down.
fn words_of<const STEP: usize>(row: &[u8], offset: usize, down: u32, out: &mut [u8]) {
    for (from, to) in row.as_chunks::<STEP>().0.iter().zip(out.as_chunks_mut::<2>().0) {
        *to = (u16::from_le_bytes([from[offset], from[offset + 1]]) >> down).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_taken_apart_and_shifted_down() {
        let mut out = [0; 3];
        bytes_of::<2>(&[1, 2, 3, 4, 5, 6], 1, &mut out);
        assert_eq!(out, [2, 4, 6]);
        let wide: Vec<u8> = [1u16, 1023, 512, 4].iter().flat_map(|v| (v << 6).to_le_bytes()).collect();
        let mut out = [0; 4];
        words_of::<4>(&wide, 2, 6, &mut out);
        assert_eq!(out, [255, 3, 4, 0]);
    }
}
