//! The only modules that may contain `unsafe` (besides the SIMD kernels). Each wraps one C library behind safe types
//! that own what they hold, and exports nothing else.

#[cfg(feature = "ffmpeg")]
pub mod av;
#[cfg(feature = "cuda")]
pub mod cu;
#[cfg(feature = "heif")]
pub mod heif;
pub mod nv;
#[cfg(feature = "ort")]
pub mod onnx;
pub mod webp;
