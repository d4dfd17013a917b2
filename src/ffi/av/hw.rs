//! Decoding on a device through FFmpeg's hwaccels: the device, the choice of its pixel format, and how a surface comes
//! to the host.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use ffmpeg_next::ffi::*;

use super::picture::{Layout, Picture};
use super::{describe, log, name};
use crate::error::{Error, RejectKind, Result};
use crate::ffi::nv;

/// A device that FFmpeg's hwaccels decode on.
#[derive(Debug)]
pub struct HwDevice {
    kind: i32,
    from: Origin,
}

/// How a decoder comes to a reference of its own.
#[derive(Debug)]
enum Origin {
    /// All share one.
    Shared(*mut AVBufferRef),
    /// Each has a stream of its own in one context of CUDA's, so that none waits for the copies of another.
    Cuda(nv::Context),
}

// SAFETY: the reference is owned by this alone, its count is atomic, and what it refers to is not changed after its
// creation: FFmpeg lets several threads open decoders on one device.
unsafe impl Send for HwDevice {}
// SAFETY: as above; `&HwDevice` only takes further references.
unsafe impl Sync for HwDevice {}

/// A kind by FFmpeg's name of it, if this FFmpeg was built with it.
fn kind_of(name: &CStr) -> std::result::Result<AVHWDeviceType, String> {
    log::capture();
    let mut built = AVHWDeviceType::AV_HWDEVICE_TYPE_NONE;
    // SAFETY: compares a C string with static names, and walks the list of what is built in until its end; all answers are
    // of the enum.
    unsafe {
        let wanted = av_hwdevice_find_type_by_name(name.as_ptr());
        loop {
            built = av_hwdevice_iterate_types(built);
            match built {
                AVHWDeviceType::AV_HWDEVICE_TYPE_NONE => {
                    return Err(format!("this FFmpeg was built without {}", name.to_string_lossy()));
                }
                kind if kind == wanted => return Ok(kind),
                _ => {}
            }
        }
    }
}

impl HwDevice {
    /// Opens the default device of a kind that FFmpeg calls `kind` (`vaapi`, `vulkan`, ...).
    ///
    /// # Errors
    /// What is missing, as text.
    pub fn open(kind: &CStr) -> std::result::Result<HwDevice, String> {
        let number = kind_of(kind)?;
        let mut reference = ptr::null_mut();
        // SAFETY: gives a new reference, or an error and none; no device is named, so the default one is opened.
        let code = unsafe { av_hwdevice_ctx_create(&mut reference, number, ptr::null(), ptr::null_mut(), 0) };
        if code < 0 {
            return Err(format!("FFmpeg cannot open a {} device: {}", kind.to_string_lossy(), describe(code)));
        }
        Ok(HwDevice { kind: number as i32, from: Origin::Shared(reference) })
    }

    /// NVIDIA's GPU of `context`.
    ///
    /// # Errors
    /// What is missing, as text.
    pub fn cuda(context: nv::Context) -> std::result::Result<HwDevice, String> {
        let device = HwDevice { kind: kind_of(c"cuda")? as i32, from: Origin::Cuda(context) };
        // Whether FFmpeg finds what it needs is to be known now.
        let mut first = device.reference()?;
        // SAFETY: owned here.
        unsafe { av_buffer_unref(&mut first) };
        Ok(device)
    }

    /// A reference for one decoder.
    fn reference(&self) -> std::result::Result<*mut AVBufferRef, String> {
        let context = match &self.from {
            // SAFETY: a further reference of a live one; null only when out of memory, which a decoder refuses.
            Origin::Shared(reference) => return Ok(unsafe { av_buffer_ref(*reference) }),
            Origin::Cuda(context) => context,
        };
        let stream = Box::new(context.stream()?);
        // SAFETY: a new device context, whose CUDA part FFmpeg has allocated and leaves to us to fill in until it is
        // initialised; it takes the context and stream for the caller's and does not free them. The stream belongs to it
        // until `free_stream`. A failed one is released whole.
        unsafe {
            let mut reference = av_hwdevice_ctx_alloc(AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA);
            let Some(device) = reference.as_ref().map(|r| r.data.cast::<AVHWDeviceContext>()) else {
                return Err("FFmpeg cannot make a cuda device".into());
            };
            let cuda = (*device).hwctx.cast::<CudaPart>();
            (*cuda).context = context.as_ptr();
            (*cuda).stream = stream.as_ptr();
            (*device).user_opaque = Box::into_raw(stream).cast();
            (*device).free = Some(free_stream);
            match av_hwdevice_ctx_init(reference) {
                code if code < 0 => {
                    av_buffer_unref(&mut reference);
                    Err(format!("FFmpeg cannot open a cuda device: {}", describe(code)))
                }
                _ => Ok(reference),
            }
        }
    }

    /// The pixel format of this device's surfaces with `codec`, where that codec can use it.
    pub(super) fn format_of(&self, codec: &AVCodec) -> Option<i32> {
        surface_format(codec, self.kind)
    }

    /// Makes a decoder that is not open yet use this device.
    pub(super) fn attach(&self, context: &mut AVCodecContext) -> std::result::Result<(), String> {
        // The context owns and releases it.
        context.hw_device_ctx = self.reference()?;
        context.get_format = Some(choose);
        // A picture is kept while the next ones are decoded.
        context.extra_hw_frames = 2;
        Ok(())
    }
}

impl Drop for HwDevice {
    fn drop(&mut self) {
        if let Origin::Shared(reference) = &mut self.from {
            // SAFETY: owned by this.
            unsafe { av_buffer_unref(reference) }
        }
    }
}

/// The part of FFmpeg's `AVCUDADeviceContext` that its users fill in.
#[repr(C)]
struct CudaPart {
    context: *mut c_void,
    stream: *mut c_void,
}

/// A device context goes, and its stream with it.
unsafe extern "C" fn free_stream(device: *mut AVHWDeviceContext) {
    // SAFETY: FFmpeg calls this once, with the context that was given the stream's box.
    drop(unsafe { Box::from_raw((*device).user_opaque.cast::<nv::Stream>()) });
}

/// The pixel format in which `codec` decodes on devices of a kind.
fn surface_format(codec: &AVCodec, kind: i32) -> Option<i32> {
    for i in 0.. {
        // SAFETY: asks a static codec for its i-th entry, which is static too, or null behind the last.
        let config = unsafe { avcodec_get_hw_config(codec, i).as_ref() }?;
        let by_device = config.methods & AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX as c_int != 0;
        if by_device && raw!(config, device_type) == kind {
            return Some(raw!(config, pix_fmt));
        }
    }
    None
}

/// FFmpeg asks which of `formats` to decode into: the device's, or none, which ends decoding with an error. Software is
/// never chosen here, so that nothing falls back unseen.
unsafe extern "C" fn choose(context: *mut AVCodecContext, formats: *const AVPixelFormat) -> AVPixelFormat {
    // SAFETY: FFmpeg gives an open context, whose codec is static and whose device is null or lives as long.
    let (codec, device) = unsafe {
        let device = (*context).hw_device_ctx.as_ref().map(|d| &*d.data.cast::<AVHWDeviceContext>());
        ((*context).codec.as_ref(), device)
    };
    let wanted = codec.zip(device).and_then(|(codec, device)| surface_format(codec, raw!(device, type_)));
    let mut at = formats;
    // SAFETY: the list ends with AV_PIX_FMT_NONE; its numbers are compared before one is taken as the enum, of which
    // FFmpeg's own list holds values alone.
    unsafe {
        while at.cast::<i32>().read() != AVPixelFormat::AV_PIX_FMT_NONE as i32 {
            if Some(at.cast::<i32>().read()) == wanted {
                return at.read();
            }
            at = at.add(1);
        }
    }
    AVPixelFormat::AV_PIX_FMT_NONE
}

impl Picture {
    /// Its samples are on a device.
    pub fn on_device(&self) -> bool {
        self.layout().is_some_and(|l| l.device)
    }

    /// The same picture in host memory, cropped as the stream says: FFmpeg cuts only the right and lower edge off a
    /// surface.
    ///
    /// # Errors
    /// An input error where the device cannot give it.
    pub fn download(&self) -> Result<Picture> {
        let mut host = Picture::new()?;
        // SAFETY: a decoded surface and an empty frame, which gets buffers of its own; then the properties, and a crop
        // window that FFmpeg holds against the size.
        let code = unsafe {
            let to = host.as_mut_ptr();
            match av_hwframe_transfer_data(to, self.as_ptr(), 0) {
                code if code < 0 => code,
                _ => match av_frame_copy_props(to, self.as_ptr()) {
                    code if code < 0 => code,
                    _ => av_frame_apply_cropping(to, AV_FRAME_CROP_UNALIGNED as c_int),
                },
            }
        };
        if code < 0 {
            let text = format!("a decoded surface cannot be copied to the host: {}", describe(code));
            return Err(Error::input(RejectKind::DeviceUnsupported, text));
        }
        Ok(host)
    }
}

/// The first libavcodec (FFmpeg 7.0's) that is sure to give out copies of NVDEC's surfaces. An older one gives out the few
/// surfaces themselves, and decodes no further while they are kept.
const COPIES_SURFACES: u32 = 61;

/// Where the samples of a picture lie in a CUDA device's memory.
#[derive(Debug)]
pub struct OnCuda {
    /// Address of each plane.
    pub planes: Vec<u64>,
    /// Bytes from row to row of each plane.
    pub strides: Vec<u32>,
    /// How samples lie in the planes.
    pub layout: Layout,
}

impl Picture {
    /// Where its samples lie on CUDA's first device, when all writing has ended; `None` where they do not or may not stay,
    /// or where rows or columns at their beginning do not belong to the picture.
    ///
    /// # Errors
    /// An input error where the device fails.
    pub fn on_cuda(&self) -> Result<Option<OnCuda>> {
        // SAFETY: a number.
        if unsafe { avcodec_version() } >> 16 < COPIES_SURFACES {
            return Ok(None);
        }
        // SAFETY: a live frame; the frames and device contexts of a surface live as long as it. Only a device that
        // `reference` filled in has `free_stream`, and then the user's part is a stream of ours.
        let (frame, frames, stream) = unsafe {
            let frame = &*self.as_ptr();
            let Some(frames) = frame.hw_frames_ctx.as_ref().map(|f| &*f.data.cast::<AVHWFramesContext>()) else {
                return Ok(None);
            };
            let device = &*frames.device_ctx;
            let ours = device.free.is_some_and(|f| f as usize == free_stream as *const () as usize);
            if !ours || frame.crop_left != 0 || frame.crop_top != 0 {
                return Ok(None);
            }
            (frame, frames, &*device.user_opaque.cast::<nv::Stream>())
        };
        let Some(layout) = super::picture::layout(raw!(frames, sw_format)) else { return Ok(None) };
        stream.wait().map_err(|text| Error::input(RejectKind::DeviceUnsupported, text))?;
        let count = layout.components.iter().map(|c| c.plane + 1).max().unwrap_or(0);
        let planes = frame.data[..count].iter().map(|data| *data as u64).collect();
        let strides: Option<Vec<u32>> = frame.linesize[..count].iter().map(|size| u32::try_from(*size).ok()).collect();
        Ok(strides.map(|strides| OnCuda { planes, strides, layout }))
    }
}

/// This FFmpeg flags the pictures that NVDEC could not decode (`scripts/nvdec-status.patch`).
pub fn nvdec_tells_damage() -> bool {
    // SAFETY: a static string.
    let version = unsafe { name(av_version_info()) };
    version.contains("framemill")
}
