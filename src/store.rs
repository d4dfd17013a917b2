//! The store: the few operations that exactly-once rests on, for folders and for object stores.
//!
//! Promises: what is visible under its final name is whole and durable; [`Store::create_only`] has one winner, whoever
//! races; what has a receipt is never overwritten. Names are relative to the output, with `/` between their parts; a
//! folder's ends in `/`. Every error names the place and what to do.

#[cfg(feature = "cloud")]
mod bucket;
pub mod cloud;
mod local;
mod scratch;
mod view;

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
pub use local::{create_folders, failed, file_digest, rename, replace, sync_folder};
pub use scratch::Scratch;
use scratch::sweep;
pub use view::{View, Written};

/// What [`Store::create_only`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The object was not there and is now.
    Written,
    /// It was there with the same content: as good as written (a retry after a lost reply).
    Same,
    /// It was there with this other content, and is left as it was.
    Other(Vec<u8>),
}

/// What tells the content that an object has from those that it had before and will have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    etag: Option<String>,
    version: Option<String>,
}

/// A file, or a folder of files, of the finished dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Relative to the output; a folder's ends in `/`.
    pub path: String,
    /// Size, of a folder that of all its files.
    pub bytes: u64,
    /// Digest of the content; of a folder that of its listing, see [`listing_digest`].
    pub sha256: String,
}

/// A file on this machine with the content of an object; one that was only fetched for the purpose goes when dropped.
#[derive(Debug)]
pub struct Fetched {
    path: PathBuf,
    own: bool,
}

impl AsRef<Path> for Fetched {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if self.own {
            // A leftover lies among the temporaries, which are swept.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Gives the next bytes of something into a buffer, and how many; 0 at its end.
pub type Source<'a> = dyn FnMut(&mut [u8]) -> Result<usize> + 'a;

/// Where an output lies. Implemented by folders and by buckets; `tests` holds both to the same rules.
pub trait Store: fmt::Debug + Send + Sync {
    /// What messages call the object of this name; the output itself for an empty one.
    fn place(&self, name: &str) -> String;

    /// The content of an object, or `None` where it is not there.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// The contents of many objects, in their order.
    fn read_all(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        names.iter().map(|name| self.read(name)).collect()
    }

    /// Creates an object unless it exists. Of all who race, in this process or another, exactly one sees
    /// [`Created::Written`]; a reader never sees half of it. For small objects: plans, rejects, receipts.
    fn create_only(&self, name: &str, bytes: &[u8]) -> Result<Created>;

    /// Writes an object whole or not at all, in place of what was there. For views that can be made again, and for what
    /// has one writer.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// The version of an object, or `None` where it is not there.
    fn version(&self, name: &str) -> Result<Option<Version>>;

    /// Writes an object whole or not at all in place of the version that was `seen` of it, where `None` says that it was
    /// not there. Gives its version now, or nothing, and has written nothing, where it is another one already: so may a
    /// write whose reply was lost. A bucket compares and writes at the same moment; a folder does so where nothing was
    /// there, else it compares just before it writes.
    fn swap(&self, name: &str, bytes: &[u8], seen: Option<&Version>) -> Result<Option<Version>>;

    /// The same with a synced local file, which is gone afterwards or not. One that is too large for one request is
    /// compared before it is written.
    fn swap_file(&self, file: &Path, name: &str, seen: Option<&Version>) -> Result<Option<Version>>;

    /// Moves a synced local file to that name, whole or not at all, in place of what was there.
    fn put(&self, file: &Path, name: &str) -> Result<()>;

    /// Writes what `from` gives, until that gives nothing more, whole or not at all, in place of what was there.
    ///
    /// # Errors
    /// Those of `from`, and store errors.
    fn write(&self, name: &str, from: &mut Source) -> Result<()>;

    /// Removes an object; one that is not there is removed already.
    fn remove(&self, name: &str) -> Result<()>;

    /// Removes many objects.
    fn remove_all(&self, names: &[String]) -> Result<()> {
        names.iter().try_for_each(|name| self.remove(name))
    }

    /// Removes a folder that has nothing in it any more, where folders are something.
    fn remove_folder(&self, _: &str) -> Result<()> {
        Ok(())
    }

    /// The names in a folder, sorted, without the folder's own before them; subfolders end in `/`. None where it is not
    /// there. Hidden ones (temporaries) are left out.
    fn list(&self, folder: &str) -> Result<Vec<String>>;

    /// The same, at least of the names that begin with one of `beginnings`, none of which begins another: a store that
    /// can asks for all of them at the same time.
    fn list_by(&self, folder: &str, _beginnings: &[String]) -> Result<Vec<String>> {
        self.list(folder)
    }

    /// Size of an object where it is there.
    fn size(&self, name: &str) -> Result<Option<u64>>;

    /// What an object, or a folder of objects, is now, read in full.
    ///
    /// # Errors
    /// A store error also where it is not there.
    fn measure(&self, name: &str) -> Result<Object>;

    /// The content of an object as a file; `scratch` is where it may be put.
    fn fetch(&self, name: &str, scratch: &Path) -> Result<Fetched>;

    /// Gives what lies at `part`, a synced local file or folder, the name that `object` says, each file whole or not at
    /// all. A name that is taken by the same content is fine. One that is taken by other content is an orphan of a run
    /// that did not get as far as its receipt, and is replaced, if it is still the one that was seen.
    ///
    /// # Errors
    /// A bug that names both where the content differs and `receipt` is there: what is committed stays.
    fn publish(&self, part: &Path, object: &Object, receipt: &str) -> Result<()>;

    /// Removes what killed uploads left, where that has names: only when every task has its receipt.
    fn clean(&self) -> Result<()> {
        Ok(())
    }

    /// Refuses an output where exactly-once cannot hold: writes a probe twice with different contents and wants exactly
    /// the first to count. Shows at the same time that the output is writable.
    fn probe(&self) -> Result<()>;
}

/// An output: its store, and where this process keeps its temporaries.
#[derive(Debug, Clone)]
pub struct Output {
    store: Arc<dyn Store>,
    scratch: PathBuf,
    folder: Option<PathBuf>,
}

impl Output {
    /// The output below a prefix of an object store. Its temporaries lie in this machine's own, in a folder for each
    /// output.
    ///
    /// # Errors
    /// Usage errors for URIs and settings that cannot be, and for all where this build has no object stores.
    #[cfg(feature = "cloud")]
    pub fn remote(uri: &str, settings: &cloud::Settings) -> Result<Output> {
        let store = bucket::Bucket::open(uri, settings)?;
        let name = &hex(&Sha256::digest(store.place("")))[..16];
        let scratch = std::env::temp_dir().join("framemill").join(name);
        Ok(Output { store: Arc::new(store), scratch, folder: None })
    }

    /// Refuses every URI: this build has no object stores.
    #[cfg(not(feature = "cloud"))]
    pub fn remote(uri: &str, _: &cloud::Settings) -> Result<Output> {
        Err(cloud::built_without(uri))
    }

    /// The output below a prefix of a bucket that tests made, in which objects of more than `one_put` bytes are created by
    /// a copy.
    #[cfg(all(test, feature = "cloud"))]
    pub(crate) fn over(
        store: Arc<dyn object_store::ObjectStore>,
        prefix: &str,
        one_put: u64,
        scratch: &Path,
    ) -> Output {
        let store = Arc::new(bucket::Bucket::over(store, None, prefix, one_put));
        Output { store, scratch: scratch.to_path_buf(), folder: None }
    }

    /// The same of a bucket that lists names by how they begin, as real ones do.
    #[cfg(all(test, feature = "cloud"))]
    pub(crate) fn gated(store: gated::Gated, scratch: &Path) -> Output {
        let store = Arc::new(store);
        let store = Arc::new(bucket::Bucket::over(store.clone(), Some(store), "job", u64::MAX));
        Output { store, scratch: scratch.to_path_buf(), folder: None }
    }

    /// The output in a folder. Its temporaries lie in it, since only there can they be renamed into place.
    pub fn at(folder: &Path) -> Output {
        let scratch = folder.join("_framemill").join("partial");
        let store = Arc::new(local::Folder::new(folder, &scratch));
        Output { store, scratch, folder: Some(folder.to_path_buf()) }
    }

    /// Where this machine's processes keep temporaries.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// The folder, where it is one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Removes temporaries, and what killed uploads left in the store: only when every task has its receipt. Whoever is
    /// still at work on one, on another machine, finds that it is done.
    pub fn sweep(&self) -> Result<()> {
        self.store.clean()?;
        sweep(&self.scratch, true)
    }

    /// Removes temporaries of processes that are gone.
    pub fn tidy(&self) -> Result<()> {
        sweep(&self.scratch, false)
    }

    /// An object's content as a file on this machine.
    pub fn file(&self, name: &str) -> Result<Fetched> {
        self.store.fetch(name, &self.scratch)
    }
}

impl Deref for Output {
    type Target = dyn Store;
    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.store.place(""))
    }
}

/// Names this process among those that share an output: `HOST-PID`.
pub fn worker() -> String {
    format!("{}-{}", host(), std::process::id())
}

/// This machine's name in letters and digits.
pub fn host() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    host.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// Nanoseconds of this machine's clock: for names and counts that only have to differ.
pub fn moment() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// Name of the receipt of a task: who finds one leaves the task's objects alone.
pub fn receipt_name(task: u64) -> String {
    format!("_framemill/receipts/{task:06}.json")
}

/// Bytes as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Size of all files of a folder and the digest of its listing, from (name, size, digest) of each, sorted by name: what
/// `LC_ALL=C sha256sum *` prints in it (digest, two spaces, name, newline).
pub fn listing_digest(files: &[(String, u64, String)]) -> (u64, String) {
    let mut sha = Sha256::new();
    for (name, _, sha256) in files {
        sha.update(format!("{sha256}  {name}\n"));
    }
    (files.iter().map(|f| f.1).sum(), hex(&sha.finalize()))
}

/// What is to be said where a committed task gave other bytes.
fn differs(place: &str, receipt: &str, there: &Object, ours: &Object) -> Error {
    Error::bug(format!(
        "{place} is committed ({receipt}) with other bytes than this worker made: it has sha256 {}, ours {}. The same job \
         must give the same bytes: please report this; the committed object was left as it is",
        there.sha256, ours.sha256
    ))
}

/// What is to be said of a store where two writers win.
fn unsound(place: &str, remedy: &str) -> Error {
    Error::store(format!(
        "the output {place} lets two writers create the same object, so no sample could be promised exactly once: {remedy}"
    ))
}

#[cfg(all(test, feature = "cloud"))]
pub(crate) mod gated;
#[cfg(test)]
mod tests;
