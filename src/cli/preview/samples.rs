//! The pictures of a shard's samples, in any form that the sinks write.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

use super::array::Head;
use super::{MAX_PIXELS, shard_number};
use crate::decode::image::{self, PhotoOptions};
use crate::frame::{Frame, PixelFormat};
use crate::sink::tensors::Container;
use crate::store::{Fetched, Output};

/// Endings of samples' data.
const ENDINGS: [&str; 5] = ["jpg", "png", "webp", "npy", "safetensors"];

/// A sample that is to be shown.
pub struct Wanted<'a> {
    /// Its row in the shard's table.
    pub row: usize,
    /// That row.
    pub record: &'a Value,
}

impl Wanted<'_> {
    fn key(&self) -> &str {
        self.record.get("key").and_then(Value::as_str).unwrap_or_default()
    }
}

/// A sample's picture.
#[derive(Debug)]
pub struct Raw {
    pub width: u32,
    pub height: u32,
    /// Interleaved.
    pub rgb: Vec<u8>,
    /// What there is to say of it.
    pub notes: Vec<String>,
}

/// Reads the wanted samples of the shard with this table, one by one, and gives what `each` makes of them or why there is
/// none, in the order of `wanted`.
pub fn load<T>(
    out: &Output,
    table: &str,
    wanted: &[Wanted],
    each: impl Fn(Raw) -> Result<T, String>,
) -> Vec<Result<T, String>> {
    match find(out, table) {
        Ok(Data::Tar(file)) => from_tar(file.as_ref(), wanted, each),
        Ok(Data::Array(file, container)) => {
            wanted.iter().map(|w| from_array(file.as_ref(), container, w).and_then(&each)).collect()
        }
        Ok(Data::Folder(folder)) => wanted.iter().map(|w| from_folder(out, &folder, w).and_then(&each)).collect(),
        Err(why) => wanted.iter().map(|_| Err(why.clone())).collect(),
    }
}

/// Where a shard's samples are.
enum Data {
    Tar(Fetched),
    Array(Fetched, Container),
    Folder(String),
}

/// The data that belongs to a table.
fn find(out: &Output, table: &str) -> Result<Data, String> {
    let stem = table.strip_suffix(".parquet").unwrap_or(table);
    let there = |name: &str| out.size(name).map(|size| size.is_some()).map_err(|e| e.message);
    let fetch = |name: &str| out.file(name).map_err(|e| e.message);
    let tar = format!("{stem}.tar");
    if there(&tar)? {
        return Ok(Data::Tar(fetch(&tar)?));
    }
    for container in [Container::Npy, Container::Safetensors] {
        let array = format!("{stem}.{}", container.ext());
        if there(&array)? {
            return Ok(Data::Array(fetch(&array)?, container));
        }
    }
    let above = table.rsplit_once('/').map_or(String::new(), |(above, _)| format!("{above}/"));
    let folder = format!("{above}images/{}/", shard_number(table).unwrap_or_default());
    match out.list(&folder).map_err(|e| e.message)?.is_empty() {
        true => Err(format!("the data of {table} is missing")),
        false => Ok(Data::Folder(folder)),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn from_tar<T>(path: &Path, wanted: &[Wanted], each: impl Fn(Raw) -> Result<T, String>) -> Vec<Result<T, String>> {
    let mut found: Vec<Option<Result<T, String>>> = wanted.iter().map(|_| None).collect();
    let mut read = || -> std::io::Result<()> {
        let mut left = wanted.len();
        let mut archive = tar::Archive::new(File::open(path)?);
        for entry in archive.entries_with_seek()? {
            let mut entry = entry?;
            let member = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            // Fields may have such endings, too, but a sample's data comes before its fields.
            let Some((key, ending)) = member.split_once('.').filter(|(_, e)| ENDINGS.contains(e)) else { continue };
            let Some(i) = wanted.iter().position(|w| w.key() == key).filter(|i| found[*i].is_none()) else { continue };
            found[i] = Some(decode(&mut entry, ending, &wanted[i]).and_then(&each));
            left -= 1;
            if left == 0 {
                break;
            }
        }
        Ok(())
    };
    let missing = match read() {
        Ok(()) => format!("the sample is missing in {}", name(path)),
        Err(e) => format!("{} cannot be read: {e}", name(path)),
    };
    found.into_iter().map(|picture| picture.unwrap_or_else(|| Err(missing.clone()))).collect()
}

fn from_folder(out: &Output, folder: &str, wanted: &Wanted) -> Result<Raw, String> {
    let key = wanted.key();
    // A key is a plain name; another one could lead out of the folder.
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err("the key is no plain name".into());
    }
    for ending in ENDINGS {
        let data = out.read(&format!("{folder}{key}.{ending}")).map_err(|e| e.message)?;
        if let Some(data) = data {
            return decode(&mut data.as_slice(), ending, wanted);
        }
    }
    Err(format!("the sample is missing in {}", folder.trim_end_matches('/')))
}

fn from_array(path: &Path, container: Container, wanted: &Wanted) -> Result<Raw, String> {
    let unread = |e: std::io::Error| format!("{} cannot be read: {e}", name(path));
    let mut file = BufReader::new(File::open(path).map_err(unread)?);
    let (row, at) = Head::read(&mut file, container)?.row(wanted.row)?;
    file.seek(SeekFrom::Start(at)).map_err(unread)?;
    row.picture(&mut file, wanted.record)
}

/// Decodes a sample's data.
fn decode(from: &mut impl Read, ending: &str, wanted: &Wanted) -> Result<Raw, String> {
    let container = [Container::Npy, Container::Safetensors].into_iter().find(|c| c.ext() == ending);
    if let Some(container) = container {
        return Head::read(from, container)?.picture(from, wanted.record);
    }
    let mut data = Vec::new();
    from.read_to_end(&mut data).map_err(|e| e.to_string())?;
    let options = PhotoOptions { max_pixels: MAX_PIXELS, ..PhotoOptions::default() };
    let photo = image::decode(&data, "the sample", &options).map_err(|e| e.message)?;
    unpadded(&photo.frame)
}

fn unpadded(frame: &Frame) -> Result<Raw, String> {
    let (row, rows) = (frame.width as usize * 3, frame.height as usize);
    let plane = match (frame.format, frame.planes.first()) {
        (PixelFormat::Rgb8, Some(plane)) if row > 0 && rows > 0 => plane,
        _ => return Err("the sample is no RGB picture".into()),
    };
    let rgb: Vec<u8> =
        plane.data.chunks(plane.stride).take(rows).filter_map(|line| line.get(..row)).flatten().copied().collect();
    if rgb.len() != row * rows {
        return Err("the sample's picture is cut off".into());
    }
    Ok(Raw { width: frame.width, height: frame.height, rgb, notes: Vec::new() })
}
