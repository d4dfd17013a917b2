//! [`ByteSource`]: how every decoder reads. A decoder never opens a path or a URL by itself, so a hostile file cannot
//! make it read another one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::Error;

/// Random-access bytes of one asset. Implementations are shared between threads.
pub trait ByteSource: Send + Sync {
    /// Total length in bytes.
    fn len(&self) -> u64;
    /// True when there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads up to `buf.len()` bytes from `offset`; 0 means the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize>;

    /// What tells this version of a remote object from others.
    fn etag(&self) -> Option<&str> {
        None
    }
    /// Why reading failed, if it ever did. Decoders may take what they cannot read for damage; then this counts, and
    /// nothing that they made of it.
    fn failure(&self) -> Option<Error> {
        None
    }

    /// The whole content (for photos).
    fn read_all(&self) -> std::io::Result<Vec<u8>> {
        let mut out = vec![0; self.len() as usize];
        let mut at = 0;
        while at < out.len() {
            match self.read_at(at as u64, &mut out[at..])? {
                0 => break,
                n => at += n,
            }
        }
        out.truncate(at);
        Ok(out)
    }

    /// The first `n` bytes, fewer if there are fewer.
    fn head(&self, n: usize) -> std::io::Result<Vec<u8>> {
        let mut out = vec![0; n.min(self.len() as usize)];
        let mut at = 0;
        while at < out.len() {
            match self.read_at(at as u64, &mut out[at..])? {
                0 => break,
                n => at += n,
            }
        }
        out.truncate(at);
        Ok(out)
    }
}

/// A local file.
pub struct FileSource {
    file: File,
    len: u64,
}

impl FileSource {
    /// Opens `path` for reading.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        Self::new(File::open(path)?)
    }

    /// Reads from an open file.
    pub fn new(file: File) -> std::io::Result<Self> {
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(std::io::Error::new(std::io::ErrorKind::IsADirectory, "is a folder, not a file"));
        }
        Ok(FileSource { len: meta.len(), file })
    }
}

impl ByteSource for FileSource {
    fn len(&self) -> u64 {
        self.len
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        self.file.read_at(buf, offset)
    }
}

impl ByteSource for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<usize> {
        let rest = self.get(offset as usize..).unwrap_or(&[]);
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
}
