//! NVIDIA's driver: devices, modules, and lanes of buffers on which kernels run. It is loaded when it is first asked for,
//! so a machine without it runs the program as well.
//!
//! Invariants: a lane's buffers are not freed, and its staging memory is not touched, while the device may use them; every
//! object keeps its context. That is the device's primary one, which decoders use as well, so that kernels can read what
//! those leave on the device.

use std::ffi::{CStr, CString, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{DriverError, result as cu, sys};

use crate::error::{Error, Result};

/// What a device is.
#[derive(Debug, Clone)]
pub struct Info {
    /// Its number.
    pub index: usize,
    /// The name that its driver gives.
    pub name: String,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Bytes of its memory.
    pub memory: u64,
    /// Bytes of shared memory that a block may ask for.
    pub shared: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// The newest CUDA version that the driver knows: 12080 is 12.8.
    pub driver: u32,
}

/// What to do where the driver is missing.
pub const MISSING: &str = "NVIDIA's driver was not found (libcuda): install it; CUDA's toolkit is not needed";

fn failed(what: &str, e: DriverError) -> Error {
    Error::unavailable(format!("CUDA could not {what}: {}", told(&e)))
}

fn told(e: &DriverError) -> String {
    let text = |text: std::result::Result<&CStr, _>| text.map(|t| t.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{} ({})", text(e.error_string()), text(e.error_name()))
}

/// Loads the driver.
fn init() -> Result<()> {
    // SAFETY: looks for a library by its usual names; loading NVIDIA's driver runs its own initialisers alone.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::unavailable(MISSING));
    }
    cu::init().map_err(|e| failed("start", e))
}

fn attribute(device: sys::CUdevice, which: sys::CUdevice_attribute) -> Result<u32> {
    // SAFETY: `device` came from the driver.
    let value = unsafe { cu::device::get_attribute(device, which) };
    value.map(|v| v as u32).map_err(|e| failed("describe the device", e))
}

/// All devices.
///
/// # Errors
/// Unavailable: no driver, or it finds no device.
pub fn list() -> Result<Vec<Info>> {
    init()?;
    let count = cu::device::get_count().map_err(|e| failed("count devices", e))?;
    let mut driver = 0;
    // SAFETY: writes one number.
    unsafe { sys::cuDriverGetVersion(&mut driver) }.result().map_err(|e| failed("tell its version", e))?;
    (0..count)
        .map(|index| {
            let device = cu::device::get(index).map_err(|e| failed("find a device", e))?;
            use sys::CUdevice_attribute as A;
            Ok(Info {
                index: index as usize,
                name: cu::device::get_name(device).map_err(|e| failed("name a device", e))?,
                capability: (
                    attribute(device, A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                    attribute(device, A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
                ),
                // SAFETY: `device` came from the driver.
                memory: unsafe { cu::device::total_mem(device) }.map_err(|e| failed("measure memory", e))? as u64,
                shared: attribute(device, A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
                multiprocessors: attribute(device, A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
                driver: driver as u32,
            })
        })
        .collect()
}

/// A device's primary context, kept until the last object that lies in it has gone.
struct Context {
    raw: sys::CUcontext,
    device: sys::CUdevice,
    failure: Mutex<Option<String>>,
}

// SAFETY: the driver's contexts, modules, streams and memory may be used from any thread that makes the context current,
// which every call here does first.
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks.
unsafe impl Sync for Context {}

impl Context {
    fn enter(&self) -> Result<()> {
        // SAFETY: the context lives as long as `self`.
        unsafe { cu::ctx::set_current(self.raw) }.map_err(|e| self.fail("use the device", e))
    }

    /// Keeps the first failure.
    fn fail(&self, what: &str, e: DriverError) -> Error {
        let error = failed(what, e);
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.message.clone());
        error
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained by this once. A context that a fault spoiled answers with its fault, and is let go all the same.
        let _ = unsafe { cu::primary_ctx::release(self.device) };
    }
}

/// An open device with its kernels.
pub struct Device {
    context: Arc<Context>,
    module: sys::CUmodule,
    kernels: Vec<sys::CUfunction>,
}

// SAFETY: as for its context.
unsafe impl Send for Device {}
// SAFETY: as for its context.
unsafe impl Sync for Device {}

impl Device {
    /// Opens device `index` and loads the first of `images` that it takes (machine code, or PTX ended by a zero byte);
    /// `names` are its kernels, each of which may ask for `shared` bytes of shared memory.
    ///
    /// # Errors
    /// Unavailable, with what the driver said.
    pub fn open(index: usize, images: &[&[u8]], names: &[&str], shared: u32) -> Result<Device> {
        init()?;
        let device = cu::device::get(index as i32).map_err(|e| failed("find the device", e))?;
        // SAFETY: `device` came from the driver; released when the context is dropped.
        let raw = unsafe { cu::primary_ctx::retain(device) }.map_err(|e| failed("open the device", e))?;
        let context = Arc::new(Context { raw, device, failure: Mutex::new(None) });
        context.enter()?;
        let mut last = Error::unavailable("no kernels were given for this device");
        for image in images {
            // SAFETY: the image is whole: machine code knows its length, and PTX ends with a zero byte.
            match unsafe { cu::module::load_data(image.as_ptr().cast()) } {
                Ok(module) => {
                    let mut device = Device { context, module, kernels: Vec::new() };
                    for name in names {
                        let c = CString::new(*name).map_err(|_| Error::bug("a kernel's name holds a zero byte"))?;
                        // SAFETY: the module was just loaded.
                        let kernel = unsafe { cu::module::get_function(device.module, c) };
                        let kernel = kernel.map_err(|e| failed(&format!("find the kernel {name}"), e))?;
                        let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                        // SAFETY: the kernel was just found.
                        unsafe { cu::function::set_function_attribute(kernel, most, shared as i32) }
                            .map_err(|e| failed("give a kernel its shared memory", e))?;
                        device.kernels.push(kernel);
                    }
                    return Ok(device);
                }
                Err(e) => last = failed("load the kernels", e),
            }
        }
        Err(last)
    }

    /// Whether the device is sound.
    ///
    /// # Errors
    /// Unavailable, with the first thing that failed on it.
    pub fn check(&self) -> Result<()> {
        match &*self.context.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(what) => Err(Error::unavailable(what.clone())),
            None => Ok(()),
        }
    }

    /// Marks the device as lost.
    pub fn lose(&self) {
        self.context.fail("go on", DriverError(sys::CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE));
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: loaded by this and used by nothing that is left: lanes wait for their kernels before they end.
            let _ = unsafe { cu::module::unload(self.module) };
        }
    }
}

/// Memory of the device.
struct Buffer {
    at: sys::CUdeviceptr,
    bytes: usize,
    context: Arc<Context>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes > 0 && self.context.enter().is_ok() {
            // SAFETY: allocated by this alone; its lane waited for what used it.
            let _ = unsafe { cu::free_sync(self.at) };
        }
    }
}

/// Memory of the host that the device reads and writes by itself.
struct Pinned {
    at: *mut u8,
    bytes: usize,
    context: Arc<Context>,
}

// SAFETY: plain memory, owned by this alone.
unsafe impl Send for Pinned {}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.bytes > 0 && self.context.enter().is_ok() {
            // SAFETY: allocated by this alone; its lane waited for what used it.
            let _ = unsafe { cu::free_host(self.at.cast()) };
        }
    }
}

/// Bytes that lie on the device.
#[cfg(test)]
pub struct Held(Buffer);

// SAFETY: as for its context.
#[cfg(test)]
unsafe impl Send for Held {}

#[cfg(test)]
impl Held {
    /// Brings `bytes` to the device.
    pub fn new(device: &Device, bytes: &[u8]) -> Result<Held> {
        device.context.enter()?;
        // SAFETY: written whole at once.
        let at = unsafe { cu::malloc_sync(bytes.len()) }.map_err(|e| failed("take memory", e))?;
        let held = Held(Buffer { at, bytes: bytes.len(), context: device.context.clone() });
        // SAFETY: of this size.
        unsafe { cu::memcpy_htod_sync(at, bytes) }.map_err(|e| failed("copy", e))?;
        Ok(held)
    }

    /// Where they lie.
    pub fn address(&self) -> u64 {
        self.0.at
    }
}

/// Sizes of a lane's buffers in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes {
    /// What goes up.
    pub input: usize,
    /// Pixels between passes.
    pub scratch: usize,
    /// Sums over pictures.
    pub sums: usize,
    /// What comes down.
    pub tensors: usize,
}

/// One launch of a kernel: its grid and block, and where its parts of the input lie.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Number of the kernel among those that the device was opened with.
    pub kernel: usize,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x and y.
    pub block: [u32; 2],
    /// Bytes of shared memory.
    pub shared: u32,
    /// First bytes of passes, sources, actions, tables and pixels in the input.
    pub parts: [u64; 5],
}

/// Everything that one flight needs: a stream with its buffers.
pub struct Lane {
    context: Arc<Context>,
    stream: sys::CUstream,
    /// Before the kernels, behind them, behind all.
    marks: [sys::CUevent; 3],
    staging: Pinned,
    input: Buffer,
    scratch: Buffer,
    sums: Buffer,
    tensors: Buffer,
    download: Pinned,
    /// Bytes that are on their way down.
    down: usize,
}

// SAFETY: as for its context.
unsafe impl Send for Lane {}

/// Why a lane could not be had.
pub enum Refusal {
    /// The memory, of the device or of the host for it, is used up.
    OutOfMemory(Error),
    /// The device failed.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Failed(error)
    }
}

impl Lane {
    /// A lane without room.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    pub fn new(device: &Device) -> Result<Lane> {
        let context = device.context.clone();
        context.enter()?;
        let buffer = || Buffer { at: 0, bytes: 0, context: context.clone() };
        let pinned = || Pinned { at: std::ptr::null_mut(), bytes: 0, context: context.clone() };
        let event = || cu::event::create(sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC);
        let marks = [event(), event(), event()];
        let [Ok(begun), Ok(ended), Ok(landed)] = marks else {
            return Err(context.fail("make an event", DriverError(sys::CUresult::CUDA_ERROR_UNKNOWN)));
        };
        let stream = cu::stream::create(cu::stream::StreamKind::NonBlocking);
        Ok(Lane {
            stream: stream.map_err(|e| context.fail("make a stream", e))?,
            marks: [begun, ended, landed],
            staging: pinned(),
            input: buffer(),
            scratch: buffer(),
            sums: buffer(),
            tensors: buffer(),
            download: pinned(),
            down: 0,
            context,
        })
    }

    /// Bytes that it holds on the device and for it.
    pub fn bytes(&self) -> u64 {
        let buffers = [&self.input, &self.scratch, &self.sums, &self.tensors].map(|b| b.bytes);
        (buffers.iter().sum::<usize>() + self.staging.bytes + self.download.bytes) as u64
    }

    /// Room for these sizes, of `spare` more where memory is taken anew.
    ///
    /// # Errors
    /// The memory is used up, or the device failed.
    pub fn fit(&mut self, sizes: &Sizes, spare: impl Fn(usize) -> usize) -> Result<(), Refusal> {
        self.context.enter()?;
        let context = self.context.clone();
        let failed = |e: DriverError| match e.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Refusal::OutOfMemory(failed("take memory", e)),
            _ => Refusal::Failed(context.fail("take memory", e)),
        };
        let room = |buffer: &mut Buffer, bytes: usize| -> Result<(), Refusal> {
            if buffer.bytes < bytes {
                // The old goes first, so that both need not fit.
                *buffer = Buffer { at: 0, bytes: 0, context: context.clone() };
                let bytes = spare(bytes);
                // SAFETY: the memory is written before it is read: by copies, or by kernels that leave what others read.
                let at = unsafe { cu::malloc_sync(bytes) }.map_err(failed)?;
                *buffer = Buffer { at, bytes, context: context.clone() };
            }
            Ok(())
        };
        room(&mut self.input, sizes.input)?;
        room(&mut self.scratch, sizes.scratch)?;
        room(&mut self.sums, sizes.sums)?;
        room(&mut self.tensors, sizes.tensors)?;
        let pinned = |pinned: &mut Pinned, bytes: usize| -> Result<(), Refusal> {
            if pinned.bytes < bytes {
                *pinned = Pinned { at: std::ptr::null_mut(), bytes: 0, context: context.clone() };
                let bytes = spare(bytes);
                // SAFETY: the memory is zeroed below before anything reads it.
                let at = unsafe { cu::malloc_host(bytes, 0) }.map_err(failed)?.cast::<u8>();
                // SAFETY: just allocated, of this size.
                unsafe { at.write_bytes(0, bytes) };
                *pinned = Pinned { at, bytes, context: context.clone() };
            }
            Ok(())
        };
        pinned(&mut self.staging, sizes.input)?;
        pinned(&mut self.download, sizes.tensors)
    }

    /// Memory for what goes up.
    pub fn staging(&mut self) -> &mut [u8] {
        if self.staging.bytes == 0 {
            return &mut [];
        }
        // SAFETY: owned by this, initialised, and the device reads it only while the lane is an [`Airborne`].
        unsafe { std::slice::from_raw_parts_mut(self.staging.at, self.staging.bytes) }
    }

    /// Seconds that something on the lane's stream takes.
    fn timed(&self, what: impl FnOnce() -> std::result::Result<(), DriverError>) -> Result<f64> {
        self.context.enter()?;
        let fail = |e| self.context.fail("measure", e);
        // SAFETY: the events and the stream are the lane's.
        unsafe {
            cu::event::record(self.marks[0], self.stream).map_err(fail)?;
            what().map_err(fail)?;
            cu::event::record(self.marks[1], self.stream).map_err(fail)?;
            cu::stream::synchronize(self.stream).map_err(fail)?;
            let milliseconds = cu::event::elapsed(self.marks[0], self.marks[1]).map_err(fail)?;
            Ok(f64::from(milliseconds) / 1000.0)
        }
    }

    /// Seconds that the launches take, `rounds` times on end, on what is in the lane.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    pub fn repeat(&self, device: &Device, launches: &[Launch], rounds: u32) -> Result<f64> {
        self.timed(|| (0..rounds).try_for_each(|_| launches.iter().try_for_each(|launch| self.launch(device, launch))))
    }

    /// Bytes a second that a copy of a GiB inside the device's memory reads and writes, the fastest of some.
    ///
    /// # Errors
    /// Unavailable: the device failed, or has no two GiB.
    pub fn copied(&self) -> Result<f64> {
        const BYTES: usize = 1 << 30;
        self.context.enter()?;
        let take = || {
            // SAFETY: only copied, never looked at.
            let at = unsafe { cu::malloc_sync(BYTES) }.map_err(|e| failed("take memory to measure its rate", e))?;
            Ok(Buffer { at, bytes: BYTES, context: self.context.clone() })
        };
        let (from, to): (Buffer, Buffer) = (take()?, take()?);
        let mut best = f64::MAX;
        for _ in 0..5 {
            // SAFETY: both have this size, and stay until the copy was waited for.
            best = best.min(self.timed(|| unsafe { cu::memcpy_dtod_async(to.at, from.at, BYTES, self.stream) })?);
        }
        Ok(2.0 * BYTES as f64 / best)
    }

    /// Bytes a second that go up from pinned memory, the fastest of some.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    pub fn raised(&self, sizes: &Sizes) -> Result<f64> {
        let bytes = sizes.input.min(self.input.bytes).min(self.staging.bytes);
        let mut best = f64::MAX;
        for _ in 0..3 {
            best = best.min(self.timed(|| {
                // SAFETY: both are of at least this size, and stay until the copy was waited for.
                unsafe {
                    let staging = std::slice::from_raw_parts(self.staging.at, bytes);
                    cu::memcpy_htod_async(self.input.at, staging, self.stream)
                }
            })?);
        }
        Ok(bytes as f64 / best)
    }

    fn launch(&self, device: &Device, launch: &Launch) -> std::result::Result<(), DriverError> {
        let mut work = Work {
            parts: launch.parts.map(|at| self.input.at + at),
            scratch: self.scratch.at,
            tensors: self.tensors.at,
            sums: self.sums.at,
        };
        let ([x, y, z], [w, h]) = (launch.grid, launch.block);
        let mut parameters = [(&raw mut work).cast::<c_void>()];
        // SAFETY: the kernel takes one [`Work`], copied at the call; its pointers are the lane's, which stay until the
        // stream was waited for. The number of the kernel was looked at before.
        unsafe {
            let (kernel, grid) = (device.kernels[launch.kernel], (x, y, z));
            cu::launch_kernel(kernel, grid, (w, h, 1), launch.shared, self.stream, &mut parameters)
        }
    }

    /// Sends it off: `sizes.input` bytes up, the launches, `sizes.tensors` bytes down. Waits for nothing. The room must
    /// have been made by [`Lane::fit`]; kernels keep inside it by the blocks that they are given.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    pub fn send(mut self, device: &Device, sizes: &Sizes, launches: &[Launch]) -> Result<Airborne> {
        let fits = sizes.input <= self.input.bytes.min(self.staging.bytes)
            && sizes.scratch <= self.scratch.bytes
            && sizes.sums <= self.sums.bytes
            && sizes.tensors <= self.tensors.bytes.min(self.download.bytes);
        if !fits || launches.iter().any(|launch| launch.kernel >= device.kernels.len()) {
            return Err(Error::bug("a lane is sent off without room or to no kernel"));
        }
        self.context.enter()?;
        self.down = sizes.tensors;
        let lane = Airborne { lane: Some(self) };
        lane.begin(device, sizes, launches)?;
        Ok(lane)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            for mark in self.marks {
                // SAFETY: made by this alone.
                let _ = unsafe { cu::event::destroy(mark) };
            }
            // SAFETY: made by this alone, and nothing is on it: an [`Airborne`] waits.
            let _ = unsafe { cu::stream::destroy(self.stream) };
        }
    }
}

/// A lane that the device works on.
pub struct Airborne {
    lane: Option<Lane>,
}

/// What a lane brought.
pub struct Landed {
    /// For another flight.
    pub lane: Lane,
    /// How long the kernels took.
    pub seconds: f64,
}

impl Landed {
    /// What came down.
    pub fn download(&self) -> &[u8] {
        if self.lane.down == 0 {
            return &[];
        }
        // SAFETY: owned by the lane, initialised, and the device has ended its writing.
        unsafe { std::slice::from_raw_parts(self.lane.download.at, self.lane.down) }
    }
}

/// The parameters of a kernel, as kernels/params.cu has them.
#[repr(C)]
struct Work {
    parts: [sys::CUdeviceptr; 5],
    scratch: sys::CUdeviceptr,
    tensors: sys::CUdeviceptr,
    sums: sys::CUdeviceptr,
}

impl Airborne {
    fn begin(&self, device: &Device, sizes: &Sizes, launches: &[Launch]) -> Result<()> {
        let Some(lane) = &self.lane else { return Ok(()) };
        let fail = |e: DriverError| lane.context.fail("begin a batch", e);
        if sizes.input > 0 {
            // SAFETY: both are of at least this size, and stay until this has landed.
            unsafe {
                let staging = std::slice::from_raw_parts(lane.staging.at, sizes.input);
                cu::memcpy_htod_async(lane.input.at, staging, lane.stream).map_err(fail)?;
            }
        }
        if sizes.sums > 0 {
            // SAFETY: of at least this size.
            unsafe { cu::memset_d8_async(lane.sums.at, 0, sizes.sums, lane.stream) }.map_err(fail)?;
        }
        // SAFETY: the event and the stream are the lane's.
        unsafe { cu::event::record(lane.marks[0], lane.stream) }.map_err(fail)?;
        for launch in launches {
            lane.launch(device, launch).map_err(fail)?;
        }
        // SAFETY: the event and the stream are the lane's.
        unsafe { cu::event::record(lane.marks[1], lane.stream) }.map_err(fail)?;
        if sizes.tensors > 0 {
            // SAFETY: both are of at least this size, and stay until this has landed.
            unsafe {
                let download = std::slice::from_raw_parts_mut(lane.download.at, sizes.tensors);
                cu::memcpy_dtoh_async(download, lane.tensors.at, lane.stream).map_err(fail)?;
            }
        }
        // SAFETY: the event and the stream are the lane's.
        unsafe { cu::event::record(lane.marks[2], lane.stream) }.map_err(fail)
    }

    /// Waits until it has landed.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    pub fn wait(mut self) -> Result<Landed> {
        let lane = self.lane.take().ok_or_else(|| Error::bug("a lane landed twice"))?;
        lane.context.enter()?;
        // The event sleeps; a wait for the stream would keep a core busy.
        // SAFETY: the event is the lane's, recorded behind everything.
        unsafe { cu::event::synchronize(lane.marks[2]) }.map_err(|e| lane.context.fail("finish a batch", e))?;
        // SAFETY: both events were recorded on the lane's stream, which has ended.
        let milliseconds = unsafe { cu::event::elapsed(lane.marks[0], lane.marks[1]) };
        let seconds = f64::from(milliseconds.map_err(|e| lane.context.fail("time a batch", e))?) / 1000.0;
        Ok(Landed { lane, seconds })
    }
}

impl Drop for Airborne {
    fn drop(&mut self) {
        if let Some(lane) = &self.lane
            && lane.context.enter().is_ok()
        {
            // SAFETY: the stream is the lane's. Whatever it answers, the device has stopped using the buffers.
            let _ = unsafe { cu::stream::synchronize(lane.stream) };
        }
    }
}
