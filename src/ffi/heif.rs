//! Repeatable decoding of HEIF pictures: libde265 leaves what it cannot decode unset, so a damaged picture would show
//! whatever was in memory. Decoding is strict, which finds some damage, and while it runs new memory is filled with one
//! value, which makes the rest look the same every time (with glibc's allocator; elsewhere only strictness helps). The
//! safe wrapper cannot pass decoding options, so this one call goes to the library itself.

use std::ffi::{CStr, c_int};
use std::ptr;

use libheif_sys as lh;

/// Interleaved samples as libheif decoded them.
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bits a sample.
    pub bits: u8,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// All rows.
    pub data: Vec<u8>,
}

/// Releases what libheif allocated, whatever way the function is left.
struct Context(*mut lh::heif_context);
struct Handle(*mut lh::heif_image_handle);
struct Options(*mut lh::heif_decoding_options);
struct Image(*mut lh::heif_image);

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: allocated by libheif, owned by this alone.
        unsafe { lh::heif_context_free(self.0) }
    }
}
impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: given out by libheif, owned by this alone.
        unsafe { lh::heif_image_handle_release(self.0) }
    }
}
impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: allocated by libheif, owned by this alone.
        unsafe { lh::heif_decoding_options_free(self.0) }
    }
}
impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: given out by libheif, owned by this alone.
        unsafe { lh::heif_image_release(self.0) }
    }
}

fn check(error: lh::heif_error) -> Result<(), String> {
    if error.code == lh::heif_error_code_heif_error_Ok {
        return Ok(());
    }
    if error.message.is_null() {
        return Err(format!("libheif error {}", error.code));
    }
    // SAFETY: libheif's messages are static C strings.
    Err(unsafe { CStr::from_ptr(error.message) }.to_string_lossy().trim().to_string())
}

/// While any lives, memory from glibc's allocator comes filled with one value.
struct Filled;

#[cfg(target_env = "gnu")]
mod filled {
    use std::ffi::c_int;
    use std::sync::{Mutex, PoisonError};

    /// glibc's `M_PERTURB`: the complement of this parameter fills memory that is allocated.
    const M_PERTURB: c_int = -6;
    static LIVE: Mutex<usize> = Mutex::new(0);

    unsafe extern "C" {
        fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }

    /// One more lives, or one less.
    pub fn count(more: bool) {
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *live;
        *live = if more { before + 1 } else { before - 1 };
        if before == 0 || *live == 0 {
            // SAFETY: glibc's allocator takes this parameter at any time, from any thread.
            unsafe { mallopt(M_PERTURB, if *live > 0 { 0x7F } else { 0 }) };
        }
    }
}

impl Filled {
    fn new() -> Filled {
        #[cfg(target_env = "gnu")]
        filled::count(true);
        Filled
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        #[cfg(target_env = "gnu")]
        filled::count(false);
    }
}

/// Decodes the primary picture of `data` to interleaved RGB(A), 8 bit or, where `deep`, 16-bit little-endian. Any damage
/// that the library notices is an error.
pub fn decode(data: &[u8], alpha: bool, deep: bool) -> Result<Picture, String> {
    let chroma = match (alpha, deep) {
        (false, false) => lh::heif_chroma_heif_chroma_interleaved_RGB,
        (true, false) => lh::heif_chroma_heif_chroma_interleaved_RGBA,
        (false, true) => lh::heif_chroma_heif_chroma_interleaved_RRGGBB_LE,
        (true, true) => lh::heif_chroma_heif_chroma_interleaved_RRGGBBAA_LE,
    };
    let _filled = Filled::new();
    // SAFETY: each object is allocated, checked and handed to its owner before it is used; `data` outlives the context,
    // which keeps a pointer to it; the plane's memory lives as long as the image, and its size is what libheif says.
    unsafe {
        let context = Context(lh::heif_context_alloc());
        let options = Options(lh::heif_decoding_options_alloc());
        if context.0.is_null() || options.0.is_null() {
            return Err("no memory".into());
        }
        lh::heif_context_set_max_decoding_threads(context.0, 0);
        check(lh::heif_context_read_from_memory_without_copy(
            context.0,
            data.as_ptr().cast(),
            data.len(),
            ptr::null(),
        ))?;
        let mut handle = ptr::null_mut();
        check(lh::heif_context_get_primary_image_handle(context.0, &mut handle))?;
        let handle = Handle(handle);
        if (*options.0).version >= 3 {
            (*options.0).strict_decoding = 1;
        }
        let mut image = ptr::null_mut();
        let space = lh::heif_colorspace_heif_colorspace_RGB;
        check(lh::heif_decode_image(handle.0, &mut image, space, chroma, options.0))?;
        let image = Image(image);
        let channel = lh::heif_channel_heif_channel_interleaved;
        let (width, height) = (lh::heif_image_get_width(image.0, channel), lh::heif_image_get_height(image.0, channel));
        let bits = lh::heif_image_get_bits_per_pixel_range(image.0, channel);
        let mut stride: c_int = 0;
        let plane = lh::heif_image_get_plane_readonly(image.0, channel, &mut stride);
        let (Ok(w), Ok(h), Ok(stride)) = (u32::try_from(width), u32::try_from(height), usize::try_from(stride)) else {
            return Err("libheif gave no pixels".into());
        };
        if plane.is_null() || w == 0 || h == 0 {
            return Err("libheif gave no pixels".into());
        }
        let data = std::slice::from_raw_parts(plane, stride * h as usize).to_vec();
        Ok(Picture { width: w, height: h, bits: u8::try_from(bits).unwrap_or(8), stride, data })
    }
}
