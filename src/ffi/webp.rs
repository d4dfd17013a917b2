//! What there is of a WebP picture that ends too early or breaks: libwebp gives the rows before that. Whole pictures take
//! another decoder.

use libwebp_sys as lw;

/// A picture that is not whole.
pub struct Part {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Rows that were decoded, from the top; the others are zero.
    pub rows: u32,
    /// The pixels are RGBA, not RGB.
    pub alpha: bool,
    /// All rows.
    pub data: Vec<u8>,
}

/// An incremental decoder, which writes into memory of its maker's.
struct Decoder(*mut lw::WebPIDecoder);

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: made by libwebp, owned by this alone.
        unsafe { lw::WebPIDelete(self.0) }
    }
}

/// Decodes what there is; `None` where that is not a row, where it is an animation, or where `fits` says no to the size.
pub fn part(data: &[u8], fits: impl FnOnce(u32, u32) -> bool) -> Option<Part> {
    // SAFETY: plain numbers, which the call below fills in.
    let mut features: lw::WebPBitstreamFeatures = unsafe { std::mem::zeroed() };
    // SAFETY: reads no more than `data`, writes the features.
    let told = unsafe { lw::WebPGetFeatures(data.as_ptr(), data.len(), &mut features) };
    let (width, height) = (u32::try_from(features.width).ok()?, u32::try_from(features.height).ok()?);
    if told != lw::VP8StatusCode::VP8_STATUS_OK || features.has_animation != 0 || !fits(width, height) {
        return None;
    }
    let alpha = features.has_alpha != 0;
    let (mode, bytes) = if alpha { (lw::WEBP_CSP_MODE::MODE_RGBA, 4) } else { (lw::WEBP_CSP_MODE::MODE_RGB, 3) };
    let stride = width as usize * bytes;
    let mut out = vec![0u8; stride * height as usize];
    let mut rows = 0;
    {
        // SAFETY: the decoder writes into `out` within the size given, and ends before `out` is used again.
        let decoder = Decoder(unsafe { lw::WebPINewRGB(mode, out.as_mut_ptr(), out.len(), stride.try_into().ok()?) });
        if decoder.0.is_null() {
            return None;
        }
        let none = std::ptr::null_mut();
        // SAFETY: a live decoder; it reads no more than `data`, and writes the number of rows that are there, also where
        // what follows is broken.
        unsafe {
            lw::WebPIUpdate(decoder.0, data.as_ptr(), data.len());
            lw::WebPIDecGetRGB(decoder.0, &mut rows, none, none, none);
        }
    }
    let rows = u32::try_from(rows).ok().filter(|rows| *rows > 0)?.min(height);
    out[rows as usize * stride..].fill(0);
    Some(Part { width, height, rows, alpha, data: out })
}
