//! WebDataset shards: a tar in which the files of a sample (KEY.ext, its fields, KEY.json) stand in one run.
//!
//! Headers are USTAR with mode 0644 and nothing of the machine: time, user and group are zero.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::record::Column;
use super::{Body, HashedFile, Part, Sample, finish_file, hashed_file};
use crate::error::{Error, Result};
use crate::store::{self, Object};

/// Tar works in blocks of this many bytes.
const BLOCK: usize = 512;

/// Writes samples as one tar to `W`; for `-o -` this is all there is.
///
/// The end mark is written by [`TarStream::finish`] alone: a stream that breaks off is no complete tar to its reader.
/// (`tar::Builder` would complete it when dropped.)
pub struct TarStream<W: Write> {
    inner: W,
    columns: Vec<Column>,
    what: PathBuf,
}

impl<W: Write> TarStream<W> {
    /// Starts a tar; `what` names it in errors (a path, `standard output`), `columns` are those of the records.
    pub fn new(inner: W, what: impl Into<PathBuf>, columns: &[Column]) -> Self {
        TarStream { inner, columns: columns.to_vec(), what: what.into() }
    }

    /// Appends a sample's files and its record, which gets the digest of the data.
    pub fn write(&mut self, sample: &mut Sample) -> Result<()> {
        sample.seal();
        for (name, bytes) in sample.files()? {
            self.member(&name, bytes)?;
        }
        let mut json = serde_json::to_vec(&sample.record.to_json(&self.columns))
            .map_err(|e| Error::bug(format!("the record of sample {} is no JSON: {e}", sample.key)))?;
        json.push(b'\n');
        self.member(&format!("{}.json", sample.key), &json)
    }

    fn member(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(|e| Error::bug(format!("the name {name} does not fit into a tar: {e}")))?;
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.put(header.as_bytes())?;
        self.put(bytes)?;
        self.put(&[0; BLOCK][..bytes.len().next_multiple_of(BLOCK) - bytes.len()])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.write_all(bytes).map_err(|e| store::failed("write", &self.what, &e))
    }

    /// Writes the end mark and flushes; gives the writer back.
    pub fn finish(mut self) -> Result<W> {
        self.put(&[0; 2 * BLOCK])?;
        self.inner.flush().map_err(|e| store::failed("write", &self.what, &e))?;
        Ok(self.inner)
    }
}

/// A shard's tar.
pub(super) struct TarBody(TarStream<HashedFile>);

impl TarBody {
    pub fn create(path: PathBuf, columns: &[Column]) -> Result<Self> {
        Ok(TarBody(TarStream::new(hashed_file(&path)?, path, columns)))
    }
}

impl Body for TarBody {
    fn write(&mut self, sample: &mut Sample) -> Result<()> {
        self.0.write(sample)
    }

    fn finish(self: Box<Self>, prefix: &str, task: u64) -> Result<Part> {
        let temp = self.0.what.clone();
        let (bytes, sha256) = finish_file(self.0.finish()?, Path::new(&temp))?;
        Ok(Part { temp, object: Object { path: format!("{prefix}shard-{task:06}.tar"), bytes, sha256 } })
    }
}
