//! [`Picture`]: one reference to a decoded picture.

use std::ffi::{CStr, c_int};
use std::mem::ManuallyDrop;
use std::ptr;

use ffmpeg_next::ffi::*;

use super::{name, stamp};
use crate::error::{Error, Result};

/// An owned `AVFrame` with reference-counted buffers: one alias, immutable once filled.
pub struct Picture(*mut AVFrame);

// SAFETY: the AVFrame struct has this one owner, so only its buffers are shared: with the decoder and with other
// clones. Their counts are atomic, and a decoder never writes to the samples of a picture that it has given out (what
// it goes on working on it copies first, `av_frame_make_writable`). All access through `&Picture` reads.
unsafe impl Send for Picture {}
// SAFETY: as above: `&Picture` only reads memory that nobody writes.
unsafe impl Sync for Picture {}

/// What a picture says about itself.
#[derive(Debug, Clone)]
pub struct PictureInfo {
    /// Presentation time as the packet gave it.
    pub pts: Option<i64>,
    /// FFmpeg's best guess of it.
    pub best_effort: Option<i64>,
    /// Duration in ticks, 0 where unknown.
    pub duration: i64,
    /// The codec calls it a key frame.
    pub key: bool,
    /// Flagged corrupt.
    pub corrupt: bool,
    /// It consists of two fields, of two moments.
    pub interlaced: bool,
    /// The field with the top line is the first of them.
    pub top_first: bool,
    /// The decoder's error flags (`FF_DECODE_ERROR_*`), 0 when all is well.
    pub errors: i32,
    /// Its own colour tags, aspect and orientation.
    pub look: Look,
}

/// Tags of a picture or stream, as numbers of H.273 (FFmpeg's enums have the same values).
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Matrix coefficients, 2 = unspecified.
    pub matrix: i32,
    /// 0 unspecified, 1 limited, 2 full.
    pub range: i32,
    /// Primaries, 2 = unspecified.
    pub primaries: i32,
    /// Transfer, 2 = unspecified.
    pub transfer: i32,
    /// FFmpeg's chroma location, 0 = unspecified.
    pub siting: i32,
    /// Sample aspect ratio; a zero where unknown.
    pub aspect: (i32, i32),
    /// The display matrix (16.16 fixed point; every third value 2.30).
    pub display: Option<[i32; 9]>,
}

/// How the samples of a pixel format lie (FFmpeg's `AVPixFmtDescriptor`).
#[derive(Debug, Clone)]
pub struct Layout {
    /// Its name.
    pub name: String,
    /// Colour components without alpha, in the format's order (Y, Cb, Cr or R, G, B).
    pub components: Vec<Component>,
    /// Number and bits of the component that says how opaque a sample is.
    pub alpha: Option<(usize, i32)>,
    /// log2 of horizontal chroma subsampling.
    pub sub_w: u8,
    /// log2 of vertical chroma subsampling.
    pub sub_h: u8,
    /// Samples are R, G, B.
    pub rgb: bool,
    /// Big-endian samples.
    pub big_endian: bool,
    /// Samples are indices into a palette.
    pub palette: bool,
    /// Samples are not aligned to bytes.
    pub bitstream: bool,
    /// Not plain integers in host memory: a hardware surface, floats or a Bayer mosaic.
    pub opaque: bool,
    /// A surface of a device.
    pub device: bool,
}

/// Where one component lies.
#[derive(Debug, Clone, Copy)]
pub struct Component {
    /// Plane.
    pub plane: usize,
    /// Bytes from one sample to the next.
    pub step: i32,
    /// Bytes before the first sample.
    pub offset: i32,
    /// Bits to shift right.
    pub shift: i32,
    /// Bits.
    pub depth: i32,
}

/// The descriptor of a pixel format number; `None` where there is none.
fn descriptor(format: i32) -> Option<&'static AVPixFmtDescriptor> {
    let mut at: *const AVPixFmtDescriptor = ptr::null();
    // A stream's number may be none of the enum's, so the table is walked instead of making an enum of it.
    // SAFETY: av_pix_fmt_desc_next walks FFmpeg's static table from null to null; its entries live for ever.
    unsafe {
        loop {
            at = av_pix_fmt_desc_next(at);
            if at.is_null() {
                return None;
            }
            if av_pix_fmt_desc_get_id(at) as i32 == format {
                return Some(&*at);
            }
        }
    }
}

/// FFmpeg's name of a pixel format number.
pub(super) fn format_name(format: i32) -> String {
    // SAFETY: names in the static table are C strings.
    descriptor(format).map_or_else(|| "unknown".to_string(), |d| unsafe { name(d.name) })
}

/// How samples of a pixel format number lie.
pub(super) fn layout(format: i32) -> Option<Layout> {
    let d = descriptor(format)?;
    let has = |flag| d.flags & flag as u64 != 0;
    let transparent = has(AV_PIX_FMT_FLAG_ALPHA) && d.nb_components % 2 == 0;
    let count = usize::from(d.nb_components) - usize::from(transparent);
    let component = |c: &AVComponentDescriptor| Component {
        plane: c.plane as usize,
        step: c.step,
        offset: c.offset,
        shift: c.shift,
        depth: c.depth,
    };
    Some(Layout {
        // SAFETY: names in the static table are C strings.
        name: unsafe { CStr::from_ptr(d.name) }.to_string_lossy().into_owned(),
        components: d.comp[..count.min(3)].iter().map(component).collect(),
        alpha: transparent.then(|| (count, d.comp[count].depth)),
        sub_w: d.log2_chroma_w,
        sub_h: d.log2_chroma_h,
        rgb: has(AV_PIX_FMT_FLAG_RGB),
        big_endian: has(AV_PIX_FMT_FLAG_BE),
        palette: has(AV_PIX_FMT_FLAG_PAL),
        bitstream: has(AV_PIX_FMT_FLAG_BITSTREAM),
        opaque: has(AV_PIX_FMT_FLAG_HWACCEL) || has(AV_PIX_FMT_FLAG_FLOAT) || has(AV_PIX_FMT_FLAG_BAYER),
        device: has(AV_PIX_FMT_FLAG_HWACCEL),
    })
}

impl Picture {
    /// A picture without samples, to receive into.
    pub fn new() -> Result<Picture> {
        // SAFETY: plain allocation, released by `Drop`.
        let frame = unsafe { av_frame_alloc() };
        if frame.is_null() {
            return Err(Error::bug("FFmpeg could not allocate a frame; is the machine out of memory?"));
        }
        Ok(Picture(frame))
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut AVFrame {
        self.0
    }

    pub(super) fn as_ptr(&self) -> *const AVFrame {
        self.0
    }

    fn get(&self) -> &AVFrame {
        // SAFETY: non-null since `new`, owned by this.
        unsafe { &*self.0 }
    }

    /// Width and height in luma samples, after cropping.
    pub fn size(&self) -> (u32, u32) {
        (self.get().width.max(0) as u32, self.get().height.max(0) as u32)
    }

    /// What it says about itself.
    pub fn info(&self) -> PictureInfo {
        let f = self.get();
        // Some fields have other names in other versions of FFmpeg, which the crate knows.
        // SAFETY: only looked at; dropped it would free what it wraps.
        let frame = ManuallyDrop::new(unsafe { ffmpeg_next::frame::Frame::wrap(self.0) });
        // SAFETY: the same.
        let video = ManuallyDrop::new(unsafe { ffmpeg_next::frame::Video::wrap(self.0) });
        PictureInfo {
            pts: stamp(f.pts),
            best_effort: stamp(f.best_effort_timestamp),
            duration: frame.packet().duration,
            key: frame.is_key(),
            corrupt: f.flags & AV_FRAME_FLAG_CORRUPT as c_int != 0,
            interlaced: video.is_interlaced(),
            top_first: video.is_top_first(),
            errors: f.decode_error_flags,
            look: Look {
                matrix: raw!(f, colorspace),
                range: raw!(f, color_range),
                primaries: raw!(f, color_primaries),
                transfer: raw!(f, color_trc),
                siting: raw!(f, chroma_location),
                aspect: (f.sample_aspect_ratio.num, f.sample_aspect_ratio.den),
                display: self.display(),
            },
        }
    }

    fn display(&self) -> Option<[i32; 9]> {
        // SAFETY: side data belongs to the frame; its size is checked before it is read (unaligned, as raw bytes).
        unsafe {
            let side = av_frame_get_side_data(self.0, AVFrameSideDataType::AV_FRAME_DATA_DISPLAYMATRIX);
            let side = side.as_ref()?;
            super::display_matrix(side.data, side.size as usize)
        }
    }

    /// How its samples lie; `None` for a format FFmpeg does not describe.
    pub fn layout(&self) -> Option<Layout> {
        layout(self.get().format)
    }

    /// Width and height of plane `plane` in samples.
    fn plane_size(&self, d: &AVPixFmtDescriptor, plane: usize) -> (i32, i32) {
        let f = self.get();
        let chroma = (plane == 1 || plane == 2) && d.flags & AV_PIX_FMT_FLAG_RGB as u64 == 0;
        let down = |size: i32, by: u8| if chroma { -((-size) >> by) } else { size };
        (down(f.width, d.log2_chroma_w), down(f.height, d.log2_chroma_h))
    }

    /// Rows of plane `plane` as they lie in memory, and the bytes from one to the next; `None` where there is no such
    /// plane or its rows run upwards.
    pub fn plane(&self, plane: usize) -> Option<(&[u8], usize)> {
        let f = self.get();
        let d = descriptor(f.format)?;
        let (&start, &stride) = (f.data.get(plane)?, f.linesize.get(plane)?);
        let stride = usize::try_from(stride).ok()?;
        let rows = usize::try_from(self.plane_size(d, plane).1).ok()?;
        if start.is_null() || rows == 0 || d.flags & (AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_PAL) as u64 != 0 {
            return None;
        }
        // SAFETY: the format number is one that FFmpeg describes, since `descriptor` found it, so it is one of the enum.
        let format = unsafe { av_pix_fmt_desc_get_id(d) };
        // SAFETY: a pure function of its arguments.
        let row = usize::try_from(unsafe { av_image_get_linesize(format, f.width, plane as c_int) }).ok()?;
        if row > stride {
            return None;
        }
        // SAFETY: FFmpeg guarantees `rows` rows of `row` bytes, `stride` apart, from `start`, alive as long as the frame.
        Some((unsafe { std::slice::from_raw_parts(start, stride * (rows - 1) + row) }, stride))
    }

    /// Reads row `y` of component `component` (palette index where there is a palette) into `out`, of at most the
    /// component's width; false where there is no such row.
    pub fn read_row(&self, component: usize, y: usize, out: &mut [u16]) -> bool {
        let f = self.get();
        let Some(d) = descriptor(f.format) else { return false };
        let odd = (AV_PIX_FMT_FLAG_HWACCEL | AV_PIX_FMT_FLAG_FLOAT | AV_PIX_FMT_FLAG_BAYER) as u64;
        if component >= usize::from(d.nb_components) || d.flags & odd != 0 {
            return false;
        }
        let sub = component == 1 || component == 2;
        let sub = sub && d.flags & AV_PIX_FMT_FLAG_RGB as u64 == 0;
        let down = |size: i32, by: u8| if sub { -((-size) >> by) } else { size };
        let (w, h) = (down(f.width, d.log2_chroma_w), down(f.height, d.log2_chroma_h));
        let deep = d.comp[component].depth > 16;
        if deep || out.len() > w.max(0) as usize || y >= h.max(0) as usize {
            return false;
        }
        let mut data: [*const u8; 4] = [f.data[0], f.data[1], f.data[2], f.data[3]];
        if data[d.comp[component].plane as usize].is_null() {
            return false;
        }
        // SAFETY: row, width and component were checked against the frame's own format and size, for which FFmpeg
        // guarantees the memory; `out` has as many elements as are written.
        unsafe {
            av_read_image_line2(
                out.as_mut_ptr().cast(),
                data.as_mut_ptr(),
                f.linesize.as_ptr(),
                d,
                0,
                y as c_int,
                component as c_int,
                out.len() as c_int,
                0,
                size_of::<u16>() as c_int,
            );
        }
        true
    }

    /// The palette, 256 entries of native-endian ARGB, where there is one.
    pub fn palette(&self) -> Option<[u32; 256]> {
        let f = self.get();
        let d = descriptor(f.format)?;
        if d.flags & AV_PIX_FMT_FLAG_PAL as u64 == 0 || f.data[1].is_null() {
            return None;
        }
        let mut palette = [0; 256];
        // SAFETY: such formats keep 256 * 4 bytes in their second plane.
        unsafe { ptr::copy_nonoverlapping(f.data[1], palette.as_mut_ptr().cast(), 1024) };
        Some(palette)
    }

    /// A further reference to the same samples.
    pub fn share(&self) -> Result<Picture> {
        // SAFETY: clones a valid frame; null only when out of memory.
        let frame = unsafe { av_frame_clone(self.0) };
        if frame.is_null() {
            return Err(Error::bug("FFmpeg could not reference a frame; is the machine out of memory?"));
        }
        Ok(Picture(frame))
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        // SAFETY: owned by this; unreferences its buffers.
        unsafe { av_frame_free(&mut self.0) }
    }
}
