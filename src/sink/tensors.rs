//! Tensors as files: NumPy's `.npy` (format 1.0) and safetensors, one array each, and the writer that streams the samples
//! of a shard into one [N, ...] array.
//!
//! A streamed array learns N at its end, so its header has a fixed length and is written again when the last row is out. Where
//! N was guessed rightly, the header was right from the start, and the file was digested as it was written.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};

use super::{Body, Part, Sample};
use crate::error::{Error, RejectKind, Result};
use crate::store::{self, Object, file_digest, hex};
use crate::tensor::Dtype;

/// Bytes of the header of a streamed array. NumPy itself writes 128 for such shapes, and both formats want a multiple
/// of 64 and 8.
const STREAM_HEADER: usize = 128;

/// Which of the two file formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// NumPy's `.npy`, version 1.0.
    Npy,
    /// safetensors with one tensor named `data`.
    Safetensors,
}

impl Container {
    /// The file name's ending, without the dot.
    pub fn ext(self) -> &'static str {
        match self {
            Container::Npy => "npy",
            Container::Safetensors => "safetensors",
        }
    }

    /// What stands before the little-endian, C-ordered elements of an array of `dtype` and `shape`. `.npy` has no
    /// bfloat16: that is a usage error.
    pub fn header(self, dtype: Dtype, shape: &[usize]) -> Result<Vec<u8>> {
        match self {
            Container::Npy => npy_header(dtype, shape),
            Container::Safetensors => safetensors_header(dtype, shape, 0),
        }
    }
}

/// As `numpy.save` writes it, byte for byte: a Python dict, then spaces (room for the first axis to grow to 21 digits,
/// then up to a multiple of 64 bytes) and a newline.
fn npy_header(dtype: Dtype, shape: &[usize]) -> Result<Vec<u8>> {
    let descr = match dtype {
        Dtype::U8 => "|u1",
        Dtype::F16 => "<f2",
        Dtype::F32 => "<f4",
        Dtype::Bf16 => {
            return Err(Error::usage(
                "npy cannot hold bf16, because NumPy has no such type: use --encode safetensors, or another dtype",
            ));
        }
    };
    let axes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let tuple = match axes.as_slice() {
        [one] => format!("({one},)"),
        many => format!("({})", many.join(", ")),
    };
    let mut dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {tuple}, }}");
    let growth = 21_usize.saturating_sub(axes.first().map_or(21, String::len));
    dict.extend(std::iter::repeat_n(' ', growth));
    let prefix = 10;
    let padding = 64 - (prefix + dict.len() + 1) % 64;
    dict.extend(std::iter::repeat_n(' ', padding));
    dict.push('\n');
    let length = u16::try_from(dict.len())
        .map_err(|_| Error::bug(format!("an npy header of {} bytes for shape {shape:?} is too long", dict.len())))?;
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend(length.to_le_bytes());
    out.extend(dict.as_bytes());
    Ok(out)
}

/// As the safetensors library writes it: the length of the JSON, the JSON, spaces up to a multiple of 8; at least
/// `at_least` bytes in all.
fn safetensors_header(dtype: Dtype, shape: &[usize], at_least: usize) -> Result<Vec<u8>> {
    let name = match dtype {
        Dtype::U8 => "U8",
        Dtype::F16 => "F16",
        Dtype::Bf16 => "BF16",
        Dtype::F32 => "F32",
    };
    let bytes = byte_len(dtype, shape)?;
    let shape = serde_json::json!(shape);
    let mut json = format!(r#"{{"data":{{"dtype":"{name}","shape":{shape},"data_offsets":[0,{bytes}]}}}}"#);
    let length = (8 + json.len()).max(at_least).next_multiple_of(8) - 8;
    json.extend(std::iter::repeat_n(' ', length - json.len()));
    let mut out = (length as u64).to_le_bytes().to_vec();
    out.extend(json.as_bytes());
    Ok(out)
}

/// Bytes of all elements.
fn byte_len(dtype: Dtype, shape: &[usize]) -> Result<usize> {
    shape
        .iter()
        .try_fold(dtype.size(), |n, axis| n.checked_mul(*axis))
        .ok_or_else(|| Error::bug(format!("an array of shape {shape:?} does not fit into the address space")))
}

/// Streams equally shaped samples into one array file.
struct RowWriter {
    path: PathBuf,
    file: BufWriter<File>,
    container: Container,
    dtype: Dtype,
    shape: Vec<usize>,
    rows: usize,
    /// Guess of the number of rows, and the digest of what was written under it.
    digest: Option<(usize, Digesting)>,
    bytes: u64,
}

/// A digest that another thread computes while the file is written: a shard is mostly written in one go.
struct Digesting {
    to: SyncSender<Vec<u8>>,
    thread: JoinHandle<String>,
}

impl Digesting {
    /// `None` where no thread can be had.
    fn start() -> Option<Digesting> {
        // Rows wait for nobody's turn any more: few may be on their way.
        let (to, from) = mpsc::sync_channel::<Vec<u8>>(2);
        let work = move || {
            let mut sha = Sha256::new();
            from.iter().for_each(|bytes| sha.update(bytes));
            hex(&sha.finalize())
        };
        let thread = std::thread::Builder::new().name("digest".into()).spawn(work).ok()?;
        Some(Digesting { to, thread })
    }

    /// `None` where the thread is gone, which only a panic can do.
    fn finish(self) -> Option<String> {
        drop(self.to);
        self.thread.join().ok()
    }
}

impl RowWriter {
    /// Creates `path` for samples of `dtype` and `shape`, of which there may be `expected`.
    pub fn create(
        path: PathBuf,
        container: Container,
        dtype: Dtype,
        shape: &[usize],
        expected: Option<usize>,
    ) -> Result<Self> {
        let file = File::create_new(&path).map_err(|e| store::failed("create", &path, &e))?;
        let mut writer = RowWriter {
            path,
            // Rows are mostly larger, and go by it.
            file: BufWriter::with_capacity(1 << 16, file),
            container,
            dtype,
            shape: shape.to_vec(),
            rows: 0,
            digest: expected.and_then(|rows| Some((rows, Digesting::start()?))),
            bytes: 0,
        };
        let header = writer.header(expected.unwrap_or(0))?;
        writer.put(header)?;
        Ok(writer)
    }

    /// The file's header for so many rows.
    fn header(&self, rows: usize) -> Result<Vec<u8>> {
        let shape: Vec<usize> = std::iter::once(rows).chain(self.shape.iter().copied()).collect();
        let header = match self.container {
            Container::Npy => npy_header(self.dtype, &shape)?,
            Container::Safetensors => safetensors_header(self.dtype, &shape, STREAM_HEADER)?,
        };
        if header.len() != STREAM_HEADER {
            return Err(Error::bug(format!("the array header for shape {shape:?} has {} bytes", header.len())));
        }
        Ok(header)
    }

    fn put(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(&bytes).map_err(|e| store::failed("write", &self.path, &e))?;
        // Whose thread is gone has no digest at the end.
        self.digest.take_if(|(_, digest)| digest.to.send(bytes).is_err());
        Ok(())
    }

    /// Appends one sample; `key` names it in errors.
    pub fn write(&mut self, key: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) -> Result<()> {
        if shape != self.shape {
            return Err(Error::input(
                RejectKind::Op,
                format!(
                    "sample {key} has shape {shape:?}, but the samples before it in this shard have {:?}, and the tensors \
                     format needs one shape: add a resize, crop or letterbox that gives every picture the same size",
                    self.shape
                ),
            ));
        }
        if dtype != self.dtype || data.len() != byte_len(dtype, shape)? {
            return Err(Error::bug(format!(
                "sample {key} came as {} bytes of {dtype:?} for shape {shape:?} in a shard of {:?}",
                data.len(),
                self.dtype
            )));
        }
        self.rows += 1;
        self.put(data)
    }

    /// Makes the header right and syncs the file; its path, size and digest.
    pub fn finish(mut self) -> Result<(PathBuf, u64, String)> {
        let bytes = self.bytes;
        let digest = self.digest.take().filter(|(expected, _)| *expected == self.rows);
        let digest = digest.and_then(|(_, digest)| digest.finish());
        if digest.is_none() {
            let header = self.header(self.rows)?;
            self.file.seek(SeekFrom::Start(0)).map_err(|e| store::failed("seek in", &self.path, &e))?;
            self.put(header)?;
        }
        self.file.flush().map_err(|e| store::failed("write", &self.path, &e))?;
        self.file.get_ref().sync_all().map_err(|e| store::failed("sync", &self.path, &e))?;
        let (bytes, sha256) = match digest {
            Some(sha256) => (bytes, sha256),
            // The header, which comes first, was known last: the digest needs a second look at the file.
            None => file_digest(&self.path)?,
        };
        Ok((self.path, bytes, sha256))
    }
}

/// A shard's array. The first sample decides its file format, type and shape.
pub(super) struct ArrayBody {
    path: PathBuf,
    rows: Option<RowWriter>,
    expected: Option<usize>,
}

impl ArrayBody {
    pub fn new(path: PathBuf) -> Self {
        ArrayBody { path, rows: None, expected: None }
    }
}

impl Body for ArrayBody {
    fn expect(&mut self, samples: usize) {
        self.expected = Some(samples);
        if let Some(rows) = &mut self.rows {
            // Another guess than the header's: digesting on would be for nothing.
            rows.digest.take_if(|(expected, _)| *expected != samples);
        }
    }

    fn write(&mut self, sample: &mut Sample) -> Result<()> {
        // There are no encoded bytes to digest.
        sample.record.sha256 = None;
        let data = std::mem::take(&mut sample.data);
        let Sample { key, ext, shape, dtype, fields, .. } = &*sample;
        if let Some((field, _)) = fields.first() {
            return Err(Error::usage(format!(
                "format tensors has no file for the field {field} of sample {key}: leave out --field (the column is in the \
                 table anyway), or use --format webdataset"
            )));
        }
        let rows = match &mut self.rows {
            Some(rows) => rows,
            None => {
                let numpy = *ext == Container::Npy.ext() && *dtype != Dtype::Bf16;
                let container = if numpy { Container::Npy } else { Container::Safetensors };
                self.rows.insert(RowWriter::create(self.path.clone(), container, *dtype, shape, self.expected)?)
            }
        };
        rows.write(key, *dtype, shape, data)
    }

    fn finish(self: Box<Self>, prefix: &str, task: u64) -> Result<Part> {
        let rows = self.rows.ok_or_else(|| Error::bug(format!("task {task} has an array without a sample")))?;
        let ext = rows.container.ext();
        let (temp, bytes, sha256) = rows.finish()?;
        Ok(Part { temp, object: Object { path: format!("{prefix}shard-{task:06}.{ext}"), bytes, sha256 } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn npy_headers_are_those_of_numpy() {
        let header = npy_header(Dtype::U8, &[4, 5, 3]).unwrap();
        assert_eq!(header.len(), 128);
        assert!(
            header.starts_with(
                b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', 'fortran_order': False, 'shape': (4, 5, 3), }"
            )
        );
        assert_eq!(header.last(), Some(&b'\n'));
        assert!(npy_header(Dtype::F32, &[7]).unwrap().windows(4).any(|w| w == b"(7,)"));
        assert!(npy_header(Dtype::F32, &[]).unwrap().windows(2).any(|w| w == b"()"));
        assert!(npy_header(Dtype::Bf16, &[1]).is_err());
    }

    #[test]
    fn the_header_of_a_stream_never_changes_its_length() {
        for rows in [0, 1, 9, 10_000, 10_000_000] {
            for dtype in [Dtype::U8, Dtype::F16, Dtype::Bf16, Dtype::F32] {
                let shape = [rows, 64, 3, 2160, 3840];
                if dtype != Dtype::Bf16 {
                    assert_eq!(npy_header(dtype, &shape).unwrap().len(), STREAM_HEADER);
                }
                assert_eq!(safetensors_header(dtype, &shape, STREAM_HEADER).unwrap().len(), STREAM_HEADER);
            }
        }
    }

    proptest! {
        #[test]
        fn npy_headers_are_aligned_and_hold_the_shape(shape in prop::collection::vec(0usize..100_000, 0..7)) {
            let header = npy_header(Dtype::F32, &shape).unwrap();
            prop_assert_eq!(header.len() % 64, 0);
            prop_assert_eq!(u16::from_le_bytes([header[8], header[9]]) as usize, header.len() - 10);
            let text = std::str::from_utf8(&header[10..]).unwrap();
            let inside = text.split_once("'shape': (").unwrap().1.split_once(')').unwrap().0;
            let read: Vec<usize> = inside.split(", ").map(|a| a.trim_end_matches(',')).filter(|a| !a.is_empty())
                .map(|a| a.parse().unwrap()).collect();
            prop_assert_eq!(read, shape);
        }

        #[test]
        fn safetensors_headers_are_those_of_the_library(shape in prop::collection::vec(0usize..40, 1..5)) {
            for (dtype, theirs) in [(Dtype::U8, safetensors::Dtype::U8), (Dtype::F16, safetensors::Dtype::F16),
                                    (Dtype::Bf16, safetensors::Dtype::BF16), (Dtype::F32, safetensors::Dtype::F32)] {
                let data = vec![0; byte_len(dtype, &shape).unwrap()];
                let view = safetensors::tensor::TensorView::new(theirs, shape.clone(), &data).unwrap();
                let expected = safetensors::serialize([("data", view)], None).unwrap();
                let mut ours = safetensors_header(dtype, &shape, 0).unwrap();
                ours.extend(&data);
                prop_assert_eq!(ours, expected);
            }
        }
    }
}
