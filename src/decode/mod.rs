//! Decoding: videos and photos become [`Frame`](crate::frame::Frame)s.
pub mod hardware;
pub mod image;
pub mod losses;
pub mod route;
#[cfg(feature = "ffmpeg")]
pub mod video;
