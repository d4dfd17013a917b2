//! [`Sources`]: opens inputs, wherever they lie.

use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::spec::InputSpec;
use super::table::Table;
use super::uri::{is_remote, local_path, without_query};
use crate::bytes::{ByteSource, FileSource};
use crate::error::{Class, Error, RejectKind, Result};

#[cfg(feature = "cloud")]
use super::remote::{Opening, Remote};

/// What is known of an input before it is opened.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Its size when it was listed.
    pub bytes: Option<u64>,
    /// Its etag when it was listed.
    pub etag: Option<String>,
}

/// A number that grows while somebody waits for the network: waiting is no stall.
pub type Life = Arc<AtomicU64>;

/// Opens inputs. Clients for stores and servers are made as they are needed, once each.
pub struct Sources {
    #[cfg(feature = "cloud")]
    remote: Remote,
}

/// A remote input that is being opened before its turn.
pub struct Early(#[cfg(feature = "cloud")] Result<Opening>);

#[cfg_attr(not(feature = "cloud"), allow(unused_variables))]
impl Sources {
    /// `memory` is what the buffers of remote inputs may take together, where `readers` are read at a time.
    pub fn new(spec: &InputSpec, memory: u64, readers: usize) -> Sources {
        Sources {
            #[cfg(feature = "cloud")]
            remote: Remote::new(spec, memory, readers),
        }
    }

    /// The same, with so many bytes for inputs that have to be whole on disk; `None` for as many as it takes.
    pub fn within(self, limit: Option<u64>) -> Sources {
        Sources {
            #[cfg(feature = "cloud")]
            remote: self.remote.within(limit),
        }
    }

    /// How many inputs to open ahead of their turn.
    pub fn ahead(&self) -> usize {
        #[cfg(feature = "cloud")]
        return self.remote.ahead();
        #[cfg(not(feature = "cloud"))]
        0
    }

    /// Begins to open an input before its turn; `None` for local files, which do not keep anyone waiting.
    pub fn begin(&self, uri: &str, expected: Expected) -> Option<Early> {
        #[cfg(feature = "cloud")]
        return is_remote(uri).then(|| Early(self.remote.begin(uri, expected)));
        #[cfg(not(feature = "cloud"))]
        None
    }

    /// Waits for an input that is being opened.
    ///
    /// Errors: as [`Sources::open`].
    pub fn finish(&self, early: Early, life: &Life) -> Result<Arc<dyn ByteSource>> {
        #[cfg(feature = "cloud")]
        return self.remote.finish(early.0?, life);
        #[cfg(not(feature = "cloud"))]
        Err(Error::bug("nothing can be opened early without the feature cloud"))
    }

    /// Opens an input for reading.
    ///
    /// Errors: an input error of kind missing, forbidden, changed, not_media (a folder, a device, a page), too_large,
    /// opt_out, unsupported (nothing that can be opened) or io; store errors where it is the store that fails.
    pub fn open(&self, uri: &str, expected: Expected, life: &Life) -> Result<Arc<dyn ByteSource>> {
        if !is_remote(uri) {
            return open_file(uri);
        }
        match self.begin(uri, expected) {
            Some(early) => self.finish(early, life),
            None => {
                let refusal = crate::store::cloud::built_without(without_query(uri));
                Err(Error::input(RejectKind::Unsupported, refusal.message))
            }
        }
    }

    /// Appends what one remote `--input` names.
    pub(super) fn list(&self, table: &mut Table, spec: &InputSpec, uri: &str, output: Option<&str>) -> Result<()> {
        #[cfg(feature = "cloud")]
        return super::remote::add(&self.remote, table, spec, uri, output);
        #[cfg(not(feature = "cloud"))]
        Err(crate::store::cloud::built_without(without_query(uri)))
    }
}

/// Buffers for a file that is read whole.
const WHOLE: u64 = 64 << 20;

/// A file that a job names beside its inputs (a model, labels), wherever it lies; remote ones are reached as inputs are.
///
/// Errors: usage where it is not there or cannot be read; store errors where it is the store that fails.
pub fn read_whole(spec: &InputSpec, uri: &str) -> Result<Vec<u8>> {
    if !is_remote(uri) {
        return fs::read(local_path(uri)?).map_err(|e| Error::usage(e.to_string()));
    }
    let told = |e: Error| match (e.class, e.reject) {
        // Another try may find it.
        (Class::Input, Some(RejectKind::Io)) => Error::store(e.message),
        (Class::Input, _) => Error::usage(e.message),
        _ => e,
    };
    let source = Sources::new(spec, WHOLE, 1).open(uri, Expected::default(), &Life::default()).map_err(told)?;
    source.read_all().map_err(|e| source.failure().map_or_else(|| Error::store(e.to_string()), told))
}

fn open_file(uri: &str) -> Result<Arc<dyn ByteSource>> {
    // A list may name such places among others: that is the one input's fault, not the job's.
    let path = local_path(uri).map_err(|e| Error::input(RejectKind::Unsupported, e.message))?;
    let failed = |error: std::io::Error| match error.kind() {
        // A name that no file can have is missing, too.
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename | ErrorKind::InvalidInput => {
            Error::input(RejectKind::Missing, format!("{uri} does not exist"))
        }
        ErrorKind::IsADirectory => Error::input(RejectKind::NotMedia, format!("{uri} is a folder, not a file")),
        _ => Error::input(RejectKind::Io, format!("{uri} cannot be read: {error}")),
    };
    // Asked before it is opened: opening a pipe would wait for its other end.
    let meta = fs::metadata(&path).map_err(failed)?;
    if !meta.is_file() && !meta.is_dir() {
        return Err(Error::input(RejectKind::NotMedia, format!("{uri} is no regular file")));
    }
    Ok(Arc::new(FileSource::open(&path).map_err(failed)?))
}
