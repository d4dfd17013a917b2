//! What an ONNX Runtime library says of itself before it is used.

use std::ffi::{CStr, c_char, c_void};
use std::path::Path;

/// The first two entries of `OrtApiBase` (onnxruntime_c_api.h), which never change.
#[repr(C)]
struct ApiBase {
    get_api: unsafe extern "C" fn(u32) -> *const c_void,
    get_version: unsafe extern "C" fn() -> *const c_char,
}

/// Version of the library at `path`, as `1.32.0`. It stays loaded.
///
/// # Errors
/// Why it is not one.
pub fn version(path: &Path) -> Result<String, String> {
    // SAFETY: loading runs the library's constructors; the user named it, or it lies where ONNX Runtime is installed.
    let library = unsafe { libloading::Library::new(path) }.map_err(|e| e.to_string())?;
    // SAFETY: the type is the one that onnxruntime_c_api.h declares for this name.
    let base = unsafe { library.get::<unsafe extern "C" fn() -> *const ApiBase>(b"OrtGetApiBase\0") };
    let base = base.map_err(|_| "it is no ONNX Runtime: it has no OrtGetApiBase".to_string())?;
    // SAFETY: it takes nothing, may be called at any time, and gives a static table or null.
    let Some(base) = (unsafe { base().as_ref() }) else {
        return Err("its OrtGetApiBase gives nothing".to_string());
    };
    // SAFETY: it gives a static text that ends with a zero.
    let text = unsafe { CStr::from_ptr((base.get_version)()) }.to_string_lossy().into_owned();
    let _ = base.get_api;
    // It is about to be used: unloading and loading it again would gain nothing.
    std::mem::forget(library);
    Ok(text)
}
