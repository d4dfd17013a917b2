//! Decoding.
pub mod image;
#[cfg(feature = "ffmpeg")]
pub mod video;
