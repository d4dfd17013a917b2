//! `framemill preview`: samples of a dataset to look at, on one sheet (JPEG, PNG) or page (HTML).
//!
//! Promises:
//! - Only the dataset's own files are read, as they were written; nothing of them is changed. One shard is in memory at a
//!   time, and of each sample only what is shown.
//! - The samples are spread evenly over the dataset: of n asked for and N there are, number i is row
//!   floor((2i + 1) N / 2n), counted through the tables in the order of their names, splits last.
//! - A dataset need not be finished: every shard that has its table is looked at.
//! - A sample that cannot be read has its place and says why. The page needs nothing from elsewhere, runs no script, and
//!   every text in it is escaped.
//! - Floats are shown as they are where they lie in 0..1; else they are stretched from their least to their greatest, and
//!   the caption says "normalised". Of a clip the first frame is shown, with what was found in it.

mod array;
#[path = "font.rs"]
mod font;
mod page;
mod samples;
mod sheet;

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::op::{Filter, Match, Op};
use crate::program::{DrawKey, Program, Settings};
use crate::sink::encode::{Encoding, encode};
use crate::sink::rle::Rle;
use crate::sink::table::read_rows;
use crate::store::{self, Output};
use crate::tensor::{Dtype, Layout, Tensor};

/// Largest picture of a sample that is looked at, and largest sheet, in pixels.
const MAX_PIXELS: u64 = 178_956_970;
/// Quality of a sheet's and a page's JPEGs.
const QUALITY: u8 = 90;
/// The object that is written where no file is named.
const DEFAULT: &str = "_framemill/preview.jpg";

/// Writes a contact sheet of up to `count` samples of the dataset in `out`, with their captions and detection boxes, and
/// gives its place: `file`, or `OUT/_framemill/preview.jpg`. The ending chooses the form: `.jpg`, `.jpeg`, `.png`, `.html`.
///
/// # Errors
/// Usage errors for another ending, a `count` of 0 or more than fit on a sheet, and a folder that is no dataset or has no
/// sample yet; store errors where a table or every chosen sample cannot be read, or the sheet not be written.
pub fn preview(out: &Output, file: Option<&Path>, count: usize) -> Result<String> {
    let form = Form::of(file.unwrap_or(Path::new(DEFAULT)))?;
    if count == 0 {
        return Err(Error::usage("a preview of 0 samples was asked for: ask for at least 1"));
    }
    let shards = shards(out)?;
    let total: usize = shards.iter().map(|s| s.rows).sum();
    if total == 0 {
        return Err(Error::usage(format!(
            "the dataset in {out} has no sample yet: wait until `framemill run` has written the first shard"
        )));
    }
    let chosen = spread(count, total);
    if form != Form::Page {
        sheet::check(chosen.len())?;
    }
    let shown = collect(out, &shards, &chosen, form.picture_size())?;
    let title = format!("{}: {} of {total} samples", name_of(out), shown.len());
    let bytes = match form {
        Form::Page => page::render(&title, &shown)?,
        Form::Sheet(encoding) => encode(&[sheet::render(&title, &shown)], false, &encoding)?,
    };
    match file {
        Some(file) => store::replace(file, &bytes).map(|()| file.display().to_string()),
        None => out.replace(DEFAULT, &bytes).map(|()| out.place(DEFAULT)),
    }
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Sheet(Encoding),
    Page,
}

impl Form {
    fn of(path: &Path) -> Result<Form> {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match ending.as_str() {
            "jpg" | "jpeg" => Ok(Form::Sheet(Encoding::Jpeg(QUALITY))),
            "png" => Ok(Form::Sheet(Encoding::Png)),
            "html" => Ok(Form::Page),
            _ => Err(Error::usage(format!(
                "the preview {}: its name must end in .jpg, .jpeg, .png or .html, which chooses the form",
                path.display()
            ))),
        }
    }

    /// Within what a sample's picture is shown.
    fn picture_size(self) -> (u32, u32) {
        match self {
            Form::Sheet(_) => sheet::PICTURE,
            Form::Page => (512, 384),
        }
    }
}

/// A shard that has its table.
struct Shard {
    /// Name of its table.
    table: String,
    split: Option<String>,
    rows: usize,
}

/// The shards of `out` and of its splits, in the order of their names.
fn shards(out: &Output) -> Result<Vec<Shard>> {
    let none = |why: &str| {
        Error::usage(format!(
            "{out} {why}: expected a dataset that `framemill run` wrote, with shard-000000.parquet and the like in it or in a \
             split's folder"
        ))
    };
    if let Some(folder) = out.folder().filter(|folder| !folder.is_dir()) {
        return Err(none(if folder.exists() { "is a file, not a folder" } else { "is not there" }));
    }
    let here = out.list("")?;
    let mut found = Vec::new();
    add_tables(out, "", &here, &mut found)?;
    for folder in here.iter().filter(|name| name.ends_with('/') && *name != "_framemill/") {
        add_tables(out, folder, &out.list(folder)?, &mut found)?;
    }
    if found.is_empty() && !here.iter().any(|name| name == "dataset.json" || name == "_framemill/") {
        return Err(none("is no dataset"));
    }
    Ok(found)
}

/// Appends the shards whose tables are among `names`, which are those in `folder`.
fn add_tables(out: &Output, folder: &str, names: &[String], found: &mut Vec<Shard>) -> Result<()> {
    for name in names.iter().filter(|name| shard_number(name).is_some()) {
        let table = format!("{folder}{name}");
        let file = out.file(&table)?;
        let opened = File::open(&file).map_err(|e| store::failed("read", file.as_ref(), &e))?;
        let reader = SerializedFileReader::new(opened)
            .map_err(|e| Error::store(format!("the record table {} cannot be read: {e}", out.place(&table))))?;
        let rows = usize::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
        let split = folder.strip_suffix('/').map(String::from);
        found.push(Shard { table, split, rows });
    }
    Ok(())
}

/// `000007` of `shard-000007.parquet`, wherever that lies.
fn shard_number(table: &str) -> Option<&str> {
    let name = table.rsplit('/').next()?.strip_prefix("shard-")?.strip_suffix(".parquet")?;
    (!name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

/// The last component of an output's place, also of `.`.
fn name_of(out: &Output) -> String {
    let full = out.folder().and_then(|folder| folder.canonicalize().ok());
    let place = full.map_or_else(|| out.place(""), |full| full.display().to_string());
    place.trim_end_matches('/').rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("dataset").into()
}

/// Rows to show: `count` of `total`, or all.
fn spread(count: usize, total: usize) -> Vec<usize> {
    let n = count.min(total);
    // In u128 no number of rows overflows.
    (0..n).map(|i| ((2 * i as u128 + 1) * total as u128 / (2 * n as u128)) as usize).collect()
}

/// A sample as it is shown.
struct Shown {
    record: Value,
    split: Option<String>,
    /// The picture, or why there is none.
    picture: std::result::Result<Thumb, String>,
}

/// A sample's picture, brought to the size that it is shown in.
struct Thumb {
    /// 8-bit RGB.
    pixels: Tensor,
    /// Size of the sample, which boxes refer to.
    sample: (u32, u32),
    /// What the caption adds.
    notes: Vec<String>,
}

/// Reads the chosen rows, ascending, and their pictures.
fn collect(out: &Output, shards: &[Shard], chosen: &[usize], within: (u32, u32)) -> Result<Vec<Shown>> {
    let backend = Cpu::new();
    let (mut shown, mut first_row, mut chosen) = (Vec::new(), 0, chosen);
    for shard in shards {
        let here = chosen.partition_point(|row| *row < first_row + shard.rows);
        let (mine, rest) = chosen.split_at(here);
        if !mine.is_empty() {
            let mut rows = read_rows(out.file(&shard.table)?.as_ref())?;
            let records: Vec<Value> =
                mine.iter().filter_map(|row| rows.get_mut(row - first_row).map(Value::take)).collect();
            let wanted: Vec<samples::Wanted> = mine
                .iter()
                .zip(&records)
                .map(|(row, record)| samples::Wanted { row: row - first_row, record })
                .collect();
            let pictures = samples::load(out, &shard.table, &wanted, |raw| shrink(&backend, raw, within));
            shown.extend(records.iter().zip(pictures).map(|(record, picture)| Shown {
                record: record.clone(),
                split: shard.split.clone(),
                picture,
            }));
        }
        (first_row, chosen) = (first_row + shard.rows, rest);
    }
    match shown.iter().map(|s| s.picture.as_ref().err()).collect::<Option<Vec<_>>>() {
        Some(reasons) if !reasons.is_empty() => {
            Err(Error::store(format!("none of the {} samples can be read; the first: {}", shown.len(), reasons[0])))
        }
        _ => Ok(shown),
    }
}

/// Brings a picture into `within`: a larger one resampled, a smaller one with whole-numbered, hard-edged pixels.
fn shrink(backend: &Cpu, raw: samples::Raw, within: (u32, u32)) -> std::result::Result<Thumb, String> {
    let (w, h) = (raw.width, raw.height);
    let (size, filter) = if w > within.0 || h > within.1 {
        let scale = (f64::from(within.0) / f64::from(w)).min(f64::from(within.1) / f64::from(h));
        let fit = |side: u32, limit: u32| (libm::round(f64::from(side) * scale) as u32).clamp(1, limit);
        ((fit(w, within.0), fit(h, within.1)), Filter::Bilinear)
    } else {
        let times = (within.0 / w).min(within.1 / h);
        ((w * times, h * times), Filter::Nearest)
    };
    let resize =
        Op::Resize { w: Some(size.0), h: Some(size.1), short: None, long: None, filter, matching: Match::default() };
    let program = Program::compile(&[resize], Settings::default()).map_err(|e| e.message)?;
    let key = DrawKey { asset: 0, time_us: 0, variant: 0 };
    let done = backend.run(&program, &Frame::rgb(w, h, raw.rgb), &key).map_err(|e| e.message)?;
    Ok(Thumb { pixels: done.tensor, sample: (w, h), notes: raw.notes })
}

/// A sample's caption: its source's name, its key, its time and what else is to be said.
fn caption(shown: &Shown) -> [String; 3] {
    let text = |name: &str| shown.record.get(name).and_then(Value::as_str).unwrap_or_default();
    let uri = text("uri");
    let source = uri.trim_end_matches('/').rsplit('/').next().unwrap_or(uri).to_string();
    let mut facts = Vec::new();
    if text("media") != "image" {
        facts.extend(shown.record.get("time_s").and_then(Value::as_f64).map(clock));
    }
    facts.extend(shown.split.clone());
    facts.extend(shown.picture.iter().flat_map(|p| p.notes.iter().cloned()));
    [source, text("key").to_string(), facts.join(", ")]
}

/// `1:02:03.500`, `2:03.500`; milliseconds are cut off.
fn clock(seconds: f64) -> String {
    // The nanosecond keeps 0.3 s, which binary floats hold as a little less, from showing as 0.299.
    let ms = (seconds.abs() * 1000.0 + 1e-6).floor() as u64;
    let sign = if seconds < 0.0 && ms > 0 { "-" } else { "" };
    let (h, m, s, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    if h > 0 { format!("{sign}{h}:{m:02}:{s:02}.{ms:03}") } else { format!("{sign}{m}:{s:02}.{ms:03}") }
}

/// A detection as it is drawn.
struct Mark {
    /// In pixels of the sample.
    corners: [f64; 4],
    /// Of a mask the vertical runs in it: column, first row, rows; in pixels of the sample.
    columns: Vec<[u64; 3]>,
    label: String,
    color: [u8; 3],
}

/// The vertical runs of a mask; a run that goes on in the next column is two.
fn columns(mask: &Rle) -> Vec<[u64; 3]> {
    let height = u64::from(mask.size[0]).max(1);
    let mut out = Vec::new();
    for (first, length) in mask.inside().unwrap_or_default() {
        let (mut at, end) = (first, first + length);
        while at < end {
            let rows = (height - at % height).min(end - at);
            out.push([at / height, at % height, rows]);
            at += rows;
        }
    }
    out
}

/// The record's detections, of a clip those of its first frame; one without a proper box, or that says no more than its
/// embedding, is left out.
fn marks(record: &Value) -> Vec<Mark> {
    /// Told apart on light and dark ground, and from one another; classes take turns.
    const COLORS: [[u8; 3]; 8] = [
        [255, 64, 64],
        [64, 224, 96],
        [96, 160, 255],
        [255, 208, 32],
        [240, 96, 240],
        [32, 224, 224],
        [255, 144, 32],
        [176, 255, 32],
    ];
    let mark = |detection: &Value| {
        let embedding = detection.get("embedding").is_some_and(|e| !e.is_null());
        if embedding || detection.get("frame").and_then(Value::as_i64).unwrap_or(0) > 0 {
            return None;
        }
        let mask = detection.get("mask").and_then(|mask| serde_json::from_value::<Rle>(mask.clone()).ok());
        let numbers: Option<Vec<f64>> = detection.get("box")?.as_array()?.iter().map(Value::as_f64).collect();
        let class = detection.get("class").and_then(Value::as_i64).unwrap_or(0);
        let name = detection.get("label").and_then(Value::as_str).map_or_else(|| format!("class {class}"), Into::into);
        let score = detection.get("score").and_then(Value::as_f64).map(|s| format!(" {s:.2}")).unwrap_or_default();
        Some(Mark {
            corners: numbers?.try_into().ok()?,
            columns: mask.as_ref().map(columns).unwrap_or_default(),
            label: name + &score,
            color: COLORS[class.rem_euclid(COLORS.len() as i64) as usize],
        })
    };
    record.get("detections").and_then(Value::as_array).into_iter().flatten().filter_map(mark).collect()
}

/// An opaque RGB picture of one colour.
fn plain(width: u32, height: u32, color: [u8; 3]) -> Tensor {
    let data = color.repeat(width as usize * height as usize);
    Tensor { width, height, dtype: Dtype::U8, layout: Layout::Hwc, data }
}

#[cfg(test)]
#[path = "preview/tests.rs"]
mod tests;
