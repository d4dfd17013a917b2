//! Sinks: a task's samples become one shard and its record table.
//!
//! Promises: a shard's bytes depend on its samples alone (no clock, host, user or thread); nothing is visible under a
//! final name before all of it is on disk; a writer that is dropped, aborted or fails leaves nothing behind. Samples are
//! streamed: memory does not grow with the shard, but for its keys.

pub mod annotations;
pub mod encode;
pub mod images;
pub mod record;
pub mod rle;
pub mod scenes;
pub mod table;
pub mod tensors;
pub mod webdataset;

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::store::{self, Object, Output, Scratch, hex};
use crate::tensor::Dtype;
use encode::Encoding;
use record::{Cell, Column, Details, Record};
use scenes::Scene;
use table::TableWriter;

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A tar of KEY.ext and KEY.json.
    #[default]
    Webdataset,
    /// A folder of KEY.ext.
    Images,
    /// One array [N, ...].
    Tensors,
}

impl Format {
    /// All formats, in the order of the documentation.
    pub const ALL: [Format; 3] = [Format::Webdataset, Format::Images, Format::Tensors];

    /// The name on the command line and in job files.
    pub fn name(self) -> &'static str {
        match self {
            Format::Webdataset => "webdataset",
            Format::Images => "images",
            Format::Tensors => "tensors",
        }
    }

    /// The encoding where none is asked for.
    pub fn default_encoding(self, dtype: Dtype) -> Encoding {
        match self {
            Format::Webdataset | Format::Images => Encoding::default(),
            Format::Tensors if dtype == Dtype::Bf16 => Encoding::Safetensors,
            Format::Tensors => Encoding::Npy,
        }
    }

    /// Whether samples of `dtype`, clips or single pictures, can be written in this form and encoding; else a usage
    /// error. Asked before a job starts.
    pub fn check(self, encoding: &Encoding, dtype: Dtype, clip: bool) -> Result<()> {
        if self == Format::Tensors && encoding.container().is_none() {
            return Err(Error::usage(format!(
                "format tensors writes arrays, not {encoding}: use --encode npy or safetensors, or --format webdataset"
            )));
        }
        encode::check(encoding, dtype, clip)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Format::ALL.into_iter().find(|f| f.name() == text).ok_or_else(|| {
            Error::usage(format!("unknown format {text}: it is one of {}", Format::ALL.map(Format::name).join(", ")))
        })
    }
}

/// Bytes that a file has around it in a tar, at most: a header, and what fills its last block.
const FRAME: usize = 1024;

/// One sample as it is written.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Unique name, `ASSET-TIME`: letters, digits, `-` and `_`.
    pub key: String,
    /// Ending of the data's file name, without the dot.
    pub ext: &'static str,
    /// The encoded bytes; for the tensors format the elements without any header.
    pub data: Vec<u8>,
    /// Shape of the data ([H, W, 3] or [3, H, W], for a clip with the number of frames before it).
    pub shape: Vec<usize>,
    /// Element type of the data.
    pub dtype: Dtype,
    /// What is known of it.
    pub record: Record,
    /// Further files of the sample: ending and content (`cls`, `txt`).
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Sample {
    /// Notes the digest of the encoded bytes in the record, unless it is there. The sinks do it themselves; an encoder
    /// thread that does it first takes the work off the writer.
    pub fn seal(&mut self) {
        if self.record.sha256.is_none() {
            self.record.sha256 = Some(hex(&Sha256::digest(&self.data)));
        }
    }

    /// Bytes that it takes in a shard and its table, at most.
    pub fn at_most(&self) -> Result<u64> {
        let record =
            serde_json::to_vec(&self.record).map_err(|e| Error::bug(format!("the record {}: {e}", self.key)))?;
        let text = |cell: &Cell| if let Cell::Text(text) = cell { text.len() } else { 8 };
        let record = record.len() + self.record.columns.iter().map(text).sum::<usize>();
        let fields = self.fields.iter().map(|(_, bytes)| bytes.len() + FRAME);
        // The record stands in the shard and in the table.
        Ok((self.data.len() + FRAME + fields.sum::<usize>() + 2 * record + FRAME) as u64)
    }

    /// The sample's files without the record: names and contents. A name that would leave the folder or that two files
    /// would share is a bug for keys and a usage error for fields (see [`check_field`]).
    fn files(&self) -> Result<Vec<(String, &[u8])>> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.key.is_empty() || !self.key.chars().all(plain) {
            return Err(Error::bug(format!("the key {:?} is no plain name", self.key)));
        }
        let mut seen = HashSet::from([self.ext]);
        for (ext, _) in &self.fields {
            check_field(ext)?;
            if !seen.insert(ext) {
                return Err(Error::usage(format!(
                    "two files of sample {} would be called {}.{ext}: choose another ending with --field",
                    self.key, self.key
                )));
            }
        }
        let data = (format!("{}.{}", self.key, self.ext), self.data.as_slice());
        let fields = self.fields.iter().map(|(ext, bytes)| (format!("{}.{ext}", self.key), bytes.as_slice()));
        Ok(std::iter::once(data).chain(fields).collect())
    }
}

/// Whether `ext` can be the ending of a field's file: up to 32 letters, digits, `-`, `_` and inner dots, and not
/// `json`, which the record has; else a usage error.
pub fn check_field(ext: &str) -> Result<()> {
    let plain =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if ext.len() > 32 || !ext.split('.').all(plain) {
        return Err(Error::usage(format!(
            "field ending {ext:?}: it must be up to 32 letters, digits, - and _, with dots between, as in cls or txt"
        )));
    }
    if ext.eq_ignore_ascii_case("json") {
        return Err(Error::usage(
            "field ending json: KEY.json is the record's; choose another ending, as in meta.json",
        ));
    }
    Ok(())
}

/// Whether an object of this path is a record table.
pub fn is_records(path: &str) -> bool {
    path.ends_with(".parquet") && !scenes::is_table(path)
}

/// Counts and digests what passes through.
struct Hashing<W> {
    inner: W,
    sha: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Hashing { inner, sha: Sha256::new(), bytes: 0 }
    }
    fn result(&self) -> (u64, String) {
        (self.bytes, hex(&self.sha.clone().finalize()))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.sha.update(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A new file that is digested as it is written.
type HashedFile = Hashing<BufWriter<File>>;

fn hashed_file(path: &Path) -> Result<HashedFile> {
    let file = File::create_new(path).map_err(|e| store::failed("create", path, &e))?;
    Ok(Hashing::new(BufWriter::with_capacity(1 << 20, file)))
}

/// Writes out and syncs; size and digest.
fn finish_file(mut file: HashedFile, path: &Path) -> Result<(u64, String)> {
    file.flush().map_err(|e| store::failed("write", path, &e))?;
    file.inner.get_ref().sync_all().map_err(|e| store::failed("sync", path, &e))?;
    Ok(file.result())
}

/// Something finished in the scratch folder, on disk, with the name that it is to have.
struct Part {
    temp: PathBuf,
    object: Object,
}

/// The data of a shard in one of the formats.
trait Body: Send {
    /// Guesses how many samples there will be in all. A right guess, kept from before the first sample, saves time; a
    /// wrong one changes nothing.
    fn expect(&mut self, _samples: usize) {}
    /// Appends a sample; fills in what of its record only the sink knows.
    fn write(&mut self, sample: &mut Sample) -> Result<()>;
    /// Brings everything to disk. `prefix` is the split's folder with its slash, or empty.
    fn finish(self: Box<Self>, prefix: &str, task: u64) -> Result<Part>;
}

/// Writes one task's samples. Nothing is visible until [`Finished::publish`]; dropping it is [`ShardWriter::abort`].
pub struct ShardWriter {
    out: Output,
    prefix: String,
    task: u64,
    // The files are closed before the folder goes: fields drop in this order.
    body: Box<dyn Body>,
    table: TableWriter<HashedFile>,
    scenes: Vec<Scene>,
    keys: HashSet<String>,
    scratch: Scratch,
}

impl ShardWriter {
    /// Starts the shard of `task` in `out`, or in its folder `split`. `worker` names this process's temporaries: no two
    /// that live at the same time may share it. `details` are what its detections have.
    pub fn begin(
        out: &Output,
        split: Option<&str>,
        task: u64,
        worker: &str,
        format: Format,
        columns: &[Column],
        details: Details,
    ) -> Result<Self> {
        let scratch = Scratch::new(out.scratch(), worker, &format!("{task:06}"))?;
        let body: Box<dyn Body> = match format {
            Format::Webdataset => Box::new(webdataset::TarBody::create(scratch.path("data.tar"), columns)?),
            Format::Images => Box::new(images::FolderBody::create(scratch.path("images"))?),
            Format::Tensors => Box::new(tensors::ArrayBody::new(scratch.path("data.array"))),
        };
        let table = TableWriter::new(hashed_file(&scratch.path("table.parquet"))?, columns, details)?;
        let prefix = split.map(|s| format!("{s}/")).unwrap_or_default();
        let (scenes, keys) = (Vec::new(), HashSet::new());
        Ok(ShardWriter { out: out.clone(), prefix, task, body, table, scenes, keys, scratch })
    }

    /// Appends a sample. After an error the shard can only be aborted.
    pub fn write(&mut self, mut sample: Sample) -> Result<()> {
        if !self.keys.insert(sample.key.clone()) {
            return Err(Error::bug(format!("task {} has two samples with the key {}", self.task, sample.key)));
        }
        if sample.record.key != sample.key {
            return Err(Error::bug(format!("sample {} has a record with key {}", sample.key, sample.record.key)));
        }
        self.body.write(&mut sample)?;
        self.table.write(sample.record)
    }

    /// Appends scenes of an input, whose samples come in the same order. They make a table where the shard has samples.
    pub fn scenes(&mut self, scenes: Vec<Scene>) {
        self.scenes.extend(scenes);
    }

    /// Guesses how many samples there will be in all, before the next ones: it saves time where the guess stays the same
    /// and is right.
    pub fn expect(&mut self, samples: usize) {
        self.body.expect(samples);
    }

    /// Samples written so far.
    pub fn samples(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Writes out and syncs everything, still in the scratch folder.
    pub fn finish(self) -> Result<Finished> {
        let ShardWriter { out, prefix, task, body, table, scenes, keys, scratch } = self;
        let mut parts = Vec::new();
        if !keys.is_empty() {
            parts.push(body.finish(&prefix, task)?);
            let temp = scratch.path("table.parquet");
            let (bytes, sha256) = finish_file(table.finish()?, &temp)?;
            let path = format!("{prefix}shard-{task:06}.parquet");
            parts.push(Part { temp, object: Object { path, bytes, sha256 } });
            if !scenes.is_empty() {
                let temp = scratch.path("scenes.parquet");
                let (bytes, sha256) = finish_file(scenes::write(hashed_file(&temp)?, &scenes)?, &temp)?;
                let path = format!("{prefix}scenes-{task:06}.parquet");
                parts.push(Part { temp, object: Object { path, bytes, sha256 } });
            }
        }
        Ok(Finished {
            objects: parts.iter().map(|p| p.object.clone()).collect(),
            samples: keys.len() as u64,
            out,
            task,
            parts,
            scratch,
        })
    }

    /// Throws everything away.
    pub fn abort(self) -> Result<()> {
        let ShardWriter { body, table, scratch, .. } = self;
        drop((body, table));
        scratch.remove()
    }
}

/// A shard that is whole and on disk, but not visible yet. Dropping it is [`Finished::abort`].
pub struct Finished {
    /// What [`Finished::publish`] will make visible: the data, its table, then its scenes where there are any; nothing for a
    /// task without samples.
    pub objects: Vec<Object>,
    /// How many samples there are.
    pub samples: u64,
    out: Output,
    task: u64,
    parts: Vec<Part>,
    scratch: Scratch,
}

impl Finished {
    /// Gives everything its final name, each object whole or not at all, and returns the objects for the receipt. See
    /// [`store::Store::publish`].
    pub fn publish(self) -> Result<Vec<Object>> {
        for part in &self.parts {
            self.out.publish(&part.temp, &part.object, &store::receipt_name(self.task))?;
        }
        self.scratch.remove()?;
        Ok(self.objects)
    }

    /// Throws everything away.
    pub fn abort(self) -> Result<()> {
        self.scratch.remove()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn sample(i: u8, format: Format) -> Sample {
        let key = format!("00112233445566{i:02x}-000000000000");
        let record = Record { key: key.clone(), ..Default::default() };
        let ext = if format == Format::Tensors { "npy" } else { "jpg" };
        Sample { key, ext, data: vec![i; 12], shape: vec![2, 2, 3], dtype: Dtype::U8, record, fields: Vec::new() }
    }

    fn shard(out: &Path, worker: &str, format: Format, samples: &[u8]) -> Finished {
        let mut writer =
            ShardWriter::begin(&Output::at(out), Some("train"), 7, worker, format, &[], Details::default()).unwrap();
        samples.iter().for_each(|i| writer.write(sample(*i, format)).unwrap());
        writer.finish().unwrap()
    }

    /// Every file in `out`, relative, with its content.
    fn tree(out: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        let mut folders = vec![out.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(out).unwrap().to_string_lossy().into_owned();
                    files.push((name, fs::read(path).unwrap()));
                }
            }
        }
        files.sort();
        files
    }

    fn is_empty(folder: &Path) -> bool {
        fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
    }

    #[test]
    fn nothing_is_visible_before_publish_and_nothing_partial_after() {
        for (format, name) in [
            (Format::Webdataset, "train/shard-000007.tar"),
            (Format::Images, "train/images/000007/"),
            (Format::Tensors, "train/shard-000007.npy"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let finished = shard(dir.path(), "w", format, &[1, 2]);
            assert!(tree(dir.path()).iter().all(|(name, _)| name.starts_with("_framemill/partial/w/")));
            let objects = finished.publish().unwrap();
            assert_eq!(
                objects.iter().map(|o| o.path.as_str()).collect::<Vec<_>>(),
                [name, "train/shard-000007.parquet"]
            );
            for object in &objects {
                assert_eq!(&Output::at(dir.path()).measure(&object.path).unwrap(), object);
            }
            assert!(is_empty(&dir.path().join("_framemill/partial")), "{format}");
        }
    }

    #[test]
    fn dropped_and_aborted_shards_leave_nothing() {
        for format in Format::ALL {
            let dir = tempfile::tempdir().unwrap();
            drop(shard(dir.path(), "w", format, &[1]));
            shard(dir.path(), "w", format, &[1]).abort().unwrap();
            let mut writer =
                ShardWriter::begin(&Output::at(dir.path()), None, 0, "w", format, &[], Details::default()).unwrap();
            writer.write(sample(1, format)).unwrap();
            writer.abort().unwrap();
            assert!(tree(dir.path()).is_empty());
            assert!(is_empty(&dir.path().join("_framemill/partial")));
        }
    }

    #[test]
    fn guesses_of_the_number_of_samples_change_nothing() {
        let written = |guesses: [Option<usize>; 3]| {
            let dir = tempfile::tempdir().unwrap();
            let mut writer =
                ShardWriter::begin(&Output::at(dir.path()), None, 7, "w", Format::Tensors, &[], Details::default())
                    .unwrap();
            for (i, guess) in (1..).zip(guesses) {
                guess.into_iter().for_each(|samples| writer.expect(samples));
                writer.write(sample(i, Format::Tensors)).unwrap();
            }
            let objects = writer.finish().unwrap().publish().unwrap();
            assert_eq!(Output::at(dir.path()).measure(&objects[0].path).unwrap(), objects[0], "{guesses:?}");
            objects
        };
        let without = written([None; 3]);
        for guesses in
            [[Some(3); 3], [Some(3), None, None], [Some(2); 3], [Some(3), Some(4), Some(3)], [None, Some(3), None]]
        {
            assert_eq!(written(guesses), without, "{guesses:?}");
        }
    }

    #[test]
    fn a_task_without_samples_publishes_nothing() {
        for format in Format::ALL {
            let dir = tempfile::tempdir().unwrap();
            let finished = shard(dir.path(), "w", format, &[]);
            assert_eq!(finished.samples, 0);
            assert!(finished.publish().unwrap().is_empty() && tree(dir.path()).is_empty());
        }
    }

    #[test]
    fn leftovers_of_a_crash_are_cleared_by_the_same_worker() {
        let dir = tempfile::tempdir().unwrap();
        let crashed = shard(dir.path(), "w", Format::Images, &[1, 2, 3]);
        std::mem::forget(crashed);
        assert!(!tree(dir.path()).is_empty());
        shard(dir.path(), "w", Format::Images, &[1]).publish().unwrap();
        assert_eq!(tree(dir.path()).len(), 2);
    }

    #[test]
    fn the_same_again_is_fine_and_an_orphan_is_replaced() {
        for format in Format::ALL {
            let dir = tempfile::tempdir().unwrap();
            shard(dir.path(), "a", format, &[1, 2]).publish().unwrap();
            let first = tree(dir.path());
            shard(dir.path(), "b", format, &[1, 2]).publish().unwrap();
            assert_eq!(tree(dir.path()), first);
            let objects = shard(dir.path(), "c", format, &[1, 3]).publish().unwrap();
            assert_ne!(tree(dir.path()), first);
            assert_eq!(Output::at(dir.path()).measure(&objects[0].path).unwrap(), objects[0]);
            assert!(is_empty(&dir.path().join("_framemill/partial")));
        }
    }

    #[test]
    fn what_has_a_receipt_is_never_overwritten() {
        for format in Format::ALL {
            let dir = tempfile::tempdir().unwrap();
            shard(dir.path(), "a", format, &[1, 2]).publish().unwrap();
            Output::at(dir.path()).create_only(&store::receipt_name(7), b"{}").unwrap();
            let committed = tree(dir.path());
            let error = shard(dir.path(), "late", format, &[1, 3]).publish().unwrap_err();
            assert_eq!(error.exit_code(), 70, "{error}");
            assert_eq!(tree(dir.path()), committed);
            shard(dir.path(), "late", format, &[1, 2]).publish().unwrap();
            assert_eq!(tree(dir.path()), committed);
        }
    }

    #[test]
    fn racing_workers_publish_one_shard() {
        for format in Format::ALL {
            let dir = tempfile::tempdir().unwrap();
            let racers: Vec<Finished> = (0..4).map(|w| shard(dir.path(), &format!("w{w}"), format, &[5, 6])).collect();
            let results: Vec<Vec<Object>> = std::thread::scope(|scope| {
                let handles: Vec<_> = racers.into_iter().map(|f| scope.spawn(|| f.publish().unwrap())).collect();
                handles.into_iter().map(|h| h.join().unwrap()).collect()
            });
            assert!(results.iter().all(|objects| objects == &results[0]));
            assert!(is_empty(&dir.path().join("_framemill/partial")));
        }
    }

    #[test]
    fn writers_can_move_between_threads() {
        fn sendable<T: Send>() {}
        sendable::<ShardWriter>();
        sendable::<Finished>();
    }

    #[test]
    fn a_broken_stream_is_no_complete_tar() {
        let mut bytes = Vec::new();
        let mut tar = webdataset::TarStream::new(&mut bytes, "standard output", &[]);
        tar.write(&mut sample(1, Format::Webdataset)).unwrap();
        drop(tar);
        assert!(bytes.ends_with(&[0; 100]) && !bytes.ends_with(&[0; 1024]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_a_store_error_that_says_so() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut tar = webdataset::TarStream::new(full, "out/shard.tar", &[]);
        let error = tar.write(&mut sample(1, Format::Webdataset)).unwrap_err();
        assert_eq!(error.exit_code(), 74);
        assert!(error.message.contains("no space left") && error.message.contains("out/shard.tar"), "{error}");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = TableWriter::new(full, &[], Details::default()).and_then(TableWriter::finish).unwrap_err();
        assert_eq!(error.exit_code(), 74, "{error}");
    }

    #[test]
    fn wrong_samples_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer =
            ShardWriter::begin(&Output::at(dir.path()), None, 0, "w", Format::Tensors, &[], Details::default())
                .unwrap();
        writer.write(sample(1, Format::Tensors)).unwrap();
        assert_eq!(writer.write(sample(1, Format::Tensors)).unwrap_err().exit_code(), 70, "a key that is there");
        let other = Sample { shape: vec![1, 4, 3], ..sample(2, Format::Tensors) };
        let error = writer.write(other.clone()).unwrap_err();
        assert_eq!(error.reject, Some(crate::error::RejectKind::Op));
        for part in [other.key.as_str(), "[1, 4, 3]", "[2, 2, 3]"] {
            assert!(error.message.contains(part), "{error}");
        }
        let mut tar = webdataset::TarStream::new(Vec::new(), "standard output", &[]);
        for field in ["", "../x", "a/b", ".x", "JSON"] {
            let mut bad = Sample { fields: vec![(field.into(), Vec::new())], ..sample(3, Format::Webdataset) };
            assert_eq!(tar.write(&mut bad).unwrap_err().exit_code(), 2, "{field}");
        }
        let mut twice = Sample { fields: vec![("jpg".into(), Vec::new())], ..sample(3, Format::Webdataset) };
        assert_eq!(tar.write(&mut twice).unwrap_err().exit_code(), 2);
        assert!(check_field("cls").is_ok() && check_field("seg.png").is_ok());
    }

    #[test]
    fn tensors_in_bf16_go_to_safetensors() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer =
            ShardWriter::begin(&Output::at(dir.path()), None, 3, "w", Format::Tensors, &[], Details::default())
                .unwrap();
        for i in 0..3 {
            let data = vec![i; 24];
            writer.write(Sample { data, dtype: Dtype::Bf16, ..sample(i, Format::Tensors) }).unwrap();
        }
        let objects = writer.finish().unwrap().publish().unwrap();
        assert_eq!(objects[0].path, "shard-000003.safetensors");
        let bytes = fs::read(dir.path().join(&objects[0].path)).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.tensor("data").unwrap().shape(), [3, 2, 2, 3]);
    }
}
