//! How FFmpeg reads: an `AVIOContext` over one [`ByteSource`], and nothing else.
//!
//! Invariants: the callbacks' `opaque` is a boxed [`State`] that outlives the context; reading never panics across the
//! border; a failed read is remembered with its cause, since FFmpeg often reports it as the end of the file.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;

use ffmpeg_next::ffi::*;
use rustix::io::Errno;

use crate::bytes::ByteSource;
use crate::error::{Error, Result};

/// Bytes FFmpeg asks for at once: large enough to make few requests, small enough to throw little away at a seek.
const BUFFER: usize = 128 * 1024;

/// What the callbacks work on.
struct State {
    source: Arc<dyn ByteSource>,
    position: u64,
    /// Answer reads without reading: for walking a sample table whose payloads do not matter.
    blank: bool,
    failure: Option<String>,
}

/// An `AVIOContext` reading a [`ByteSource`].
pub(super) struct Io {
    context: *mut AVIOContext,
    state: *mut State,
}

impl Io {
    pub(super) fn new(source: Arc<dyn ByteSource>) -> Result<Io> {
        let state = Box::into_raw(Box::new(State { source, position: 0, blank: false, failure: None }));
        // SAFETY: plain allocation; the buffer is handed to the context, which frees it through `Drop` below.
        let context = unsafe {
            let buffer = av_malloc(BUFFER).cast::<u8>();
            if buffer.is_null() {
                ptr::null_mut()
            } else {
                let context =
                    avio_alloc_context(buffer, BUFFER as c_int, 0, state.cast(), Some(read), None, Some(seek));
                if context.is_null() {
                    av_free(buffer.cast());
                }
                context
            }
        };
        // From here on `Drop` releases the state, whether or not there is a context.
        let io = Io { context, state };
        if io.context.is_null() {
            return Err(Error::bug("FFmpeg could not allocate its reading buffer; is the machine out of memory?"));
        }
        Ok(io)
    }

    pub(super) fn context(&self) -> *mut AVIOContext {
        self.context
    }

    /// The first read that failed since the last call.
    pub(super) fn take_failure(&mut self) -> Option<String> {
        // SAFETY: callbacks run only inside FFmpeg calls made through `&mut` of the owner, so nothing else holds this.
        unsafe { (*self.state).failure.take() }
    }

    /// From now on answers reads with whatever lies in FFmpeg's buffer instead of the source's bytes (or stops doing so).
    pub(super) fn set_blank(&mut self, blank: bool) {
        // SAFETY: as in `take_failure`.
        unsafe { (*self.state).blank = blank };
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // SAFETY: both were allocated in `new`; FFmpeg may have replaced the buffer, so it is freed through the context,
        // and the state last, since the context names it.
        unsafe {
            if !self.context.is_null() {
                av_freep(ptr::addr_of_mut!((*self.context).buffer).cast());
                avio_context_free(&mut self.context);
            }
            drop(Box::from_raw(self.state));
        }
    }
}

/// AVIO's read callback.
unsafe extern "C" fn read(opaque: *mut c_void, buffer: *mut u8, size: c_int) -> c_int {
    // SAFETY: `opaque` is the `State` given to avio_alloc_context, used by one thread at a time.
    let state = unsafe { &mut *opaque.cast::<State>() };
    let Ok(size) = usize::try_from(size) else { return AVERROR(Errno::INVAL.raw_os_error()) };
    let rest = usize::try_from(state.source.len().saturating_sub(state.position)).unwrap_or(usize::MAX);
    let size = size.min(rest);
    // At the end the buffer stays as it is: FFmpeg may still read what it has there, after seeking back.
    if size == 0 {
        return AVERROR_EOF;
    }
    if state.blank {
        state.position += size as u64;
        return size as c_int;
    }
    // SAFETY: FFmpeg gives so many writable bytes; they are initialised first because a `&mut [u8]` must be.
    let buffer = unsafe {
        ptr::write_bytes(buffer, 0, size);
        std::slice::from_raw_parts_mut(buffer, size)
    };
    let answer = loop {
        match catch_unwind(AssertUnwindSafe(|| state.source.read_at(state.position, buffer))) {
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            answer => break answer,
        }
    };
    let failure = match answer {
        Ok(Ok(0)) => format!("the source ended; it was {} bytes long", state.source.len()),
        Ok(Ok(n)) if n <= size => {
            state.position += n as u64;
            return n as c_int;
        }
        Ok(Ok(n)) => format!("the source gave {n} bytes where {size} were asked for"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the source panicked".to_string(),
    };
    state.failure.get_or_insert_with(|| format!("{failure} (at byte {})", state.position));
    AVERROR(Errno::IO.raw_os_error())
}

/// AVIO's seek callback.
unsafe extern "C" fn seek(opaque: *mut c_void, offset: i64, whence: c_int) -> i64 {
    // SAFETY: as in `read`.
    let state = unsafe { &mut *opaque.cast::<State>() };
    let length = i64::try_from(state.source.len()).unwrap_or(i64::MAX);
    let target = match whence & !(AVSEEK_FORCE as c_int) {
        0 => Some(offset),
        1 => i64::try_from(state.position).ok().and_then(|at| at.checked_add(offset)),
        2 => length.checked_add(offset),
        w if w == AVSEEK_SIZE as c_int => return length,
        _ => None,
    };
    match target.and_then(|t| u64::try_from(t).ok()) {
        Some(t) => {
            state.position = t;
            t as i64
        }
        None => i64::from(AVERROR(Errno::INVAL.raw_os_error())),
    }
}
