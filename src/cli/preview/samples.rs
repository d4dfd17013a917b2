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
pub fn load<T>(table: &Path, wanted: &[Wanted], each: impl Fn(Raw) -> Result<T, String>) -> Vec<Result<T, String>> {
    let tar = table.with_extension("tar");
    let array = [Container::Npy, Container::Safetensors].map(|c| (table.with_extension(c.ext()), c));
    let folder = table.parent().unwrap_or(Path::new("")).join("images").join(shard_number(table).unwrap_or_default());
    if tar.is_file() {
        return from_tar(&tar, wanted, each);
    }
    if let Some((path, container)) = array.iter().find(|(path, _)| path.is_file()) {
        return wanted.iter().map(|w| from_array(path, *container, w).and_then(&each)).collect();
    }
    if folder.is_dir() {
        return wanted.iter().map(|w| from_folder(&folder, w).and_then(&each)).collect();
    }
    let missing = format!("the data of {} is missing", name(table));
    wanted.iter().map(|_| Err(missing.clone())).collect()
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

fn from_folder(folder: &Path, wanted: &Wanted) -> Result<Raw, String> {
    let key = wanted.key();
    // A key is a plain name; another one could lead out of the folder.
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err("the key is no plain name".into());
    }
    for ending in ENDINGS {
        if let Ok(file) = File::open(folder.join(format!("{key}.{ending}"))) {
            return decode(&mut BufReader::new(file), ending, wanted);
        }
    }
    Err(format!("the sample is missing in images/{}", name(folder)))
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
