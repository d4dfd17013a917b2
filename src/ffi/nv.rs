//! What NVIDIA's driver says that its decoders can do. Its libraries are loaded at run time: a machine without them
//! gets an answer that says so.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr;

use libloading::Library;

/// What the decoders of a GPU can do with one codec, chroma format and depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// FFmpeg's name of the codec.
    pub codec: &'static str,
    /// log2 of the chroma subsampling, horizontal and vertical.
    pub chroma: (u8, u8),
    /// Bits a sample.
    pub depth: u8,
    /// Smallest coded picture.
    pub min: (u32, u32),
    /// Largest coded picture.
    pub max: (u32, u32),
    /// Most macroblocks of 16x16 pixels.
    pub max_macroblocks: u32,
    /// Engines that can do it.
    pub engines: u8,
}

/// A GPU with its decoders.
#[derive(Debug, Clone)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// What its decoders can do.
    pub capabilities: Vec<Capability>,
    /// Where they work.
    pub context: Context,
}

/// A GPU's primary context, which all users of CUDA in a process share. It stays for the life of the process.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    context: *mut c_void,
    push: unsafe extern "C" fn(*mut c_void) -> c_int,
    pop: unsafe extern "C" fn(*mut *mut c_void) -> c_int,
    stream_create: unsafe extern "C" fn(*mut *mut c_void, c_uint) -> c_int,
    stream_destroy: unsafe extern "C" fn(*mut c_void) -> c_int,
    stream_synchronize: unsafe extern "C" fn(*mut c_void) -> c_int,
}

// SAFETY: a context may be made current by any thread, and the driver's functions may be called from any.
unsafe impl Send for Context {}
// SAFETY: as above; nothing here is changed.
unsafe impl Sync for Context {}

/// A stream of a context: an order of its own, which waits for no other.
#[derive(Debug)]
pub(super) struct Stream {
    context: Context,
    stream: *mut c_void,
}

impl Context {
    pub(super) fn as_ptr(&self) -> *mut c_void {
        self.context
    }

    /// Calls the driver with this context current.
    fn with(&self, call: impl FnOnce() -> c_int) -> c_int {
        let mut context = ptr::null_mut();
        // SAFETY: a live context is made current, and is no longer when this returns.
        unsafe {
            match (self.push)(self.context) {
                0 => {}
                code => return code,
            }
            let code = call();
            (self.pop)(&mut context);
            code
        }
    }

    pub(super) fn stream(&self) -> Result<Stream, String> {
        /// CU_STREAM_NON_BLOCKING.
        const FREE: c_uint = 1;
        let mut stream = ptr::null_mut();
        // SAFETY: writes a new stream of the context that is current.
        let code = self.with(|| unsafe { (self.stream_create)(&mut stream, FREE) });
        fine(code, "making a stream").map(|()| Stream { context: *self, stream })
    }
}

impl Stream {
    pub(super) fn as_ptr(&self) -> *mut c_void {
        self.stream
    }

    /// Waits until everything that was asked of it has ended.
    pub(super) fn wait(&self) -> Result<(), String> {
        // SAFETY: the stream is owned by this.
        let code = self.context.with(|| unsafe { (self.context.stream_synchronize)(self.stream) });
        fine(code, "waiting for a decoded picture")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: owned by this; what was asked of it is finished by the driver.
        self.context.with(|| unsafe { (self.context.stream_destroy)(self.stream) });
    }
}

/// Zero, or what failed.
fn fine(code: c_int, what: &str) -> Result<(), String> {
    match code {
        0 => Ok(()),
        code => Err(format!("{what} failed with CUDA's error {code}")),
    }
}

/// `CUVIDDECODECAPS`.
#[repr(C)]
#[derive(Default)]
struct DecodeCaps {
    codec: c_int,
    chroma: c_int,
    depth_minus_8: c_uint,
    reserved1: [c_uint; 3],
    supported: u8,
    engines: u8,
    output_formats: u16,
    max_width: c_uint,
    max_height: c_uint,
    max_macroblocks: c_uint,
    min_width: u16,
    min_height: u16,
    histogram: u8,
    counter_depth: u8,
    histogram_bins: u16,
    reserved3: [c_uint; 10],
}

const _: () = assert!(size_of::<DecodeCaps>() == 88);

/// FFmpeg's names and `cudaVideoCodec` of what NVDEC may know.
const CODECS: [(&str, c_int); 9] = [
    ("mpeg1video", 0),
    ("mpeg2video", 1),
    ("mpeg4", 2),
    ("vc1", 3),
    ("h264", 4),
    ("hevc", 8),
    ("vp8", 9),
    ("vp9", 10),
    ("av1", 11),
];

/// Subsampling and `cudaVideoChromaFormat`.
const CHROMAS: [((u8, u8), c_int); 3] = [((1, 1), 1), ((1, 0), 2), ((0, 0), 3)];

#[cfg(windows)]
const LIBRARIES: [&str; 2] = ["nvcuda.dll", "nvcuvid.dll"];
#[cfg(not(windows))]
const LIBRARIES: [&str; 2] = ["libcuda.so.1", "libnvcuvid.so.1"];

fn load(name: &str, what: &str) -> Result<Library, String> {
    // SAFETY: NVIDIA's driver library by its well-known name; its initialisers are made to be run by any program.
    unsafe { Library::new(name) }.map_err(|e| format!("{what} ({name}) cannot be loaded: {e}"))
}

/// Asks the first GPU.
///
/// # Errors
/// What is missing, as text.
pub fn ask() -> Result<Gpu, String> {
    let cuda = load(LIBRARIES[0], "NVIDIA's driver")?;
    let video = load(LIBRARIES[1], "NVIDIA's video decoding library, a part of the driver,")?;
    /// A function of a library, by its name and type.
    macro_rules! function {
        ($library:expr, $name:literal, fn($($argument:ty),*)) => {{
            // SAFETY: the type is the function's in NVIDIA's headers; the library outlives the call, as it is never
            // unloaded.
            let found = unsafe { $library.get::<unsafe extern "C" fn($($argument),*) -> c_int>($name.as_bytes()) };
            *found.map_err(|e| format!("NVIDIA's driver is too old: {e}"))?
        }};
    }
    let init = function!(cuda, "cuInit", fn(c_uint));
    let device_get = function!(cuda, "cuDeviceGet", fn(*mut c_int, c_int));
    let device_name = function!(cuda, "cuDeviceGetName", fn(*mut c_char, c_int, c_int));
    let retain = function!(cuda, "cuDevicePrimaryCtxRetain", fn(*mut *mut c_void, c_int));
    let push = function!(cuda, "cuCtxPushCurrent_v2", fn(*mut c_void));
    let pop = function!(cuda, "cuCtxPopCurrent_v2", fn(*mut *mut c_void));
    let stream_create = function!(cuda, "cuStreamCreate", fn(*mut *mut c_void, c_uint));
    let stream_destroy = function!(cuda, "cuStreamDestroy_v2", fn(*mut c_void));
    let stream_synchronize = function!(cuda, "cuStreamSynchronize", fn(*mut c_void));
    let caps = function!(video, "cuvidGetDecoderCaps", fn(*mut DecodeCaps));
    // FFmpeg loads the same libraries; unloading a driver with a live context is asking for trouble.
    std::mem::forget((cuda, video));

    let (mut device, mut context, mut name) = (0, ptr::null_mut(), [0 as c_char; 128]);
    // SAFETY: the functions are called as their headers say, with room for what they write; the name is terminated.
    unsafe {
        fine(init(0), "starting NVIDIA's driver")?;
        fine(device_get(&mut device, 0), "looking for a GPU")?;
        fine(device_name(name.as_mut_ptr(), name.len() as c_int, device), "asking for the GPU's name")?;
        fine(retain(&mut context, device), "opening the GPU's primary context")?;
    }
    let context = Context { context, push, pop, stream_create, stream_destroy, stream_synchronize };
    let mut capabilities = Vec::new();
    for (codec, codec_number) in CODECS {
        for (chroma, chroma_number) in CHROMAS {
            for depth in [8u8, 10, 12] {
                let mut c = DecodeCaps {
                    codec: codec_number,
                    chroma: chroma_number,
                    depth_minus_8: u32::from(depth) - 8,
                    ..DecodeCaps::default()
                };
                // SAFETY: the structure is the header's, and a context is current. Drivers that do not know a codec
                // answer with an error.
                if context.with(|| unsafe { caps(&mut c) }) == 0 && c.supported != 0 {
                    capabilities.push(Capability {
                        codec,
                        chroma,
                        depth,
                        min: (c.min_width.into(), c.min_height.into()),
                        max: (c.max_width, c.max_height),
                        max_macroblocks: c.max_macroblocks,
                        engines: c.engines,
                    });
                }
            }
        }
    }
    let name = name.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect::<Vec<u8>>();
    Ok(Gpu { name: String::from_utf8_lossy(&name).into_owned(), capabilities, context })
}
