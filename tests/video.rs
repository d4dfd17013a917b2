//! Videos through the library's API: real files against what FFmpeg's own program recorded of them, seeking and jumping
//! against reading from the start, damaged and hostile files.
#![cfg(feature = "ffmpeg")]

#[path = "video/deinterlace.rs"]
mod deinterlace;
#[path = "video/geometry.rs"]
mod geometry;
#[path = "video/md5.rs"]
mod md5;
#[path = "video/seeking.rs"]
mod seeking;
#[path = "video/support.rs"]
mod support;
#[path = "video/truth.rs"]
mod truth;
