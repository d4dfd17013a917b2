//! Decoding: videos and photos become [`Frame`](crate::frame::Frame)s.
pub mod image;
#[cfg(feature = "ffmpeg")]
pub mod video;
