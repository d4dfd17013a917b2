//! Samples that wait on disk until their unit is whole and its turn comes, so that order never blocks memory.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sink::Sample;
use crate::sink::record::{Cell, Record};
use crate::store;
use crate::tensor::Dtype;

/// One file of waiting samples; gone when dropped.
pub(super) struct Spool {
    path: PathBuf,
    file: File,
    end: u64,
}

/// Where a sample lies in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    at: u64,
    head: usize,
    data: usize,
}

#[derive(Serialize, Deserialize)]
struct Head {
    key: String,
    shape: Vec<usize>,
    dtype: Dtype,
    record: Record,
    fields: Vec<(String, Vec<u8>)>,
}

impl Spool {
    /// A new file in `folder`.
    pub fn create(folder: &Path, name: &str) -> Result<Spool> {
        store::create_folders(folder)?;
        let path = folder.join(name);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(|e| store::failed("create", &path, &e))?;
        Ok(Spool { path, file, end: 0 })
    }

    /// Appends a sample, once `room` has let so many bytes in.
    pub fn put(&mut self, sample: Sample, room: impl FnOnce(u64) -> Result<()>) -> Result<Place> {
        let Sample { key, data, shape, dtype, record, fields, .. } = sample;
        let head = serde_json::to_vec(&Head { key, shape, dtype, record, fields });
        let head = head.map_err(|e| Error::bug(format!("a waiting sample: {e}")))?;
        let place = Place { at: self.end, head: head.len(), data: data.len() };
        room((head.len() + data.len()) as u64)?;
        let failed = |e| store::failed("write", &self.path, &e);
        self.file.write_all(&head).map_err(failed)?;
        self.file.write_all(&data).map_err(failed)?;
        self.end += (head.len() + data.len()) as u64;
        Ok(place)
    }

    /// Reads a sample back. `ext` and `columns` are those of its unit.
    pub fn get(&self, place: Place, ext: &'static str, columns: &[Cell]) -> Result<Sample> {
        let read = |at, len| {
            let mut bytes = vec![0; len];
            self.file.read_exact_at(&mut bytes, at).map_err(|e| store::failed("read", &self.path, &e))?;
            Ok::<_, Error>(bytes)
        };
        let head: Head = serde_json::from_slice(&read(place.at, place.head)?)
            .map_err(|e| Error::bug(format!("a waiting sample: {e}")))?;
        let data = read(place.at + place.head as u64, place.data)?;
        let Head { key, shape, dtype, mut record, fields } = head;
        record.columns = columns.to_vec();
        Ok(Sample { key, ext, data, shape, dtype, record, fields })
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // A leftover is hidden among the partial files and harms nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(dir.path(), "s").unwrap();
        let sample = |i: u8| Sample {
            key: format!("k{i}"),
            ext: "npy",
            data: vec![i; usize::from(i)],
            shape: vec![1, 2, 3],
            dtype: Dtype::U8,
            record: Record {
                key: format!("k{i}"),
                time_s: 0.1 + f64::from(i) / 3.0,
                augment: serde_json::json!([{ "op": "flip", "p": 0.1 }]),
                columns: vec![Cell::Float(f64::from(i) / 7.0)],
                ..Record::default()
            },
            fields: vec![("cls".into(), vec![i])],
        };
        let places: Vec<Place> = (0..50).map(|i| spool.put(sample(i), |_| Ok(())).unwrap()).collect();
        for i in (0..50u8).rev() {
            let back = spool.get(places[usize::from(i)], "npy", &sample(i).record.columns).unwrap();
            assert_eq!((back.record, back.data, back.fields), (sample(i).record, sample(i).data, sample(i).fields));
        }
        drop(spool);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
