//! Standard output as the beginning of a pipe.

use std::io::{ErrorKind, Result, Write, stdout};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The exit code where the reader has gone: what a shell gives for a program that SIGPIPE ended. WebDataset takes it for
/// a reader's own choice, and any other code but 0 for a failure.
pub const READER_GONE: u8 = 141;

/// Counts what is written, and notices that the reader has gone.
pub struct Pipe<'a> {
    /// Bytes written.
    pub bytes: &'a AtomicU64,
    /// Nobody reads any more.
    pub gone: &'a AtomicBool,
}

impl Pipe<'_> {
    fn noticed<T>(&self, result: Result<T>) -> Result<T> {
        if result.as_ref().is_err_and(|e| e.kind() == ErrorKind::BrokenPipe) {
            self.gone.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = self.noticed(stdout().write(bytes))?;
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        self.noticed(stdout().flush())
    }
}
