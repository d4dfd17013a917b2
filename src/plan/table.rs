//! The plan's table of units, a Parquet file named by the digest of its content.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{Int64Type, UInt32Type, UInt64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::Unit;
use crate::error::{Error, Result};
use crate::sample::Rational;
use crate::sink::record::{Cell, Column};
use crate::store::{self, Output, Scratch};

/// Rows written at a time, which bounds the memory that planning millions takes.
const BATCH: usize = 65_536;

fn failed(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::store(format!("{}: {error}; restore it or choose another output", path.display()))
}

/// A function that gives units one by one.
pub(super) trait Units: FnOnce(&mut dyn FnMut(Unit) -> Result<()>) -> Result<()> {}
impl<F: FnOnce(&mut dyn FnMut(Unit) -> Result<()>) -> Result<()>> Units for F {}

/// Writes the units that `units` gives, and gives the file's name.
pub(super) fn write(out: &Output, columns: &[Column], units: impl Units) -> Result<String> {
    let scratch = Scratch::new(out.scratch(), &store::worker(), "plan")?;
    let temporary = scratch.path("plan.parquet");
    write_to(&temporary, columns, units)?;
    let name = name(&temporary)?;
    out.put(&temporary, &super::named(&name))?;
    Ok(name)
}

/// The name that a table's content gives it.
fn name(path: &Path) -> Result<String> {
    let (_, digest) = store::file_digest(path)?;
    Ok(format!("plan-{}.parquet", &digest[..16]))
}

/// Refuses a table, found at `place` under the name `named`, whose content is not the one that this name says.
pub(super) fn check(path: &Path, named: &str, place: &str) -> Result<()> {
    let there = name(path)?;
    if there == named {
        return Ok(());
    }
    Err(Error::store(format!(
        "{place}: the table of the plan is damaged: its content would be named {there}; restore it from a copy, or choose \
         another output"
    )))
}

fn write_to(path: &Path, columns: &[Column], units: impl Units) -> Result<()> {
    let file = File::create(path).map_err(|e| store::failed("create", path, &e))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(BATCH))
        .set_created_by("framemill".into())
        .build();
    let schema = batch(&[], columns)?.schema();
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(|e| failed(path, e))?;
    let mut held = Vec::new();
    units(&mut |unit| {
        held.push(unit);
        if held.len() == BATCH {
            writer.write(&batch(&held, columns)?).map_err(|e| failed(path, e))?;
            held.clear();
        }
        Ok(())
    })?;
    writer.write(&batch(&held, columns)?).map_err(|e| failed(path, e))?;
    let file = writer.into_inner().map_err(|e| failed(path, e))?;
    file.sync_all().map_err(|e| store::failed("sync", path, &e))
}

fn batch(units: &[Unit], columns: &[Column]) -> Result<RecordBatch> {
    let text =
        |get: fn(&Unit) -> Option<String>| -> ArrayRef { Arc::new(units.iter().map(get).collect::<StringArray>()) };
    let cells: StringArray =
        units.iter().map(|u| if columns.is_empty() { None } else { serde_json::to_string(&u.cells).ok() }).collect();
    let list: Vec<(&str, ArrayRef, bool)> = vec![
        ("task", Arc::new(units.iter().map(|u| Some(u.task as u32)).collect::<UInt32Array>()), false),
        ("input", Arc::new(units.iter().map(|u| Some(u.input)).collect::<UInt64Array>()), false),
        ("uri", text(|u| Some(u.uri.clone())), false),
        ("asset", Arc::new(units.iter().map(|u| Some(u.identity)).collect::<UInt64Array>()), false),
        ("bytes", Arc::new(units.iter().map(|u| u.bytes).collect::<UInt64Array>()), true),
        ("version", text(|u| u.version.clone()), true),
        ("start", text(|u| u.start.map(|t| t.to_string())), true),
        ("end", text(|u| u.end.map(|t| t.to_string())), true),
        ("split", Arc::new(units.iter().map(|u| u.split.map(|s| s as u32)).collect::<UInt32Array>()), true),
        ("from_pts", Arc::new(units.iter().map(|u| u.from).collect::<Int64Array>()), true),
        ("to_pts", Arc::new(units.iter().map(|u| u.to).collect::<Int64Array>()), true),
        ("cells", Arc::new(cells), true),
    ];
    RecordBatch::try_from_iter_with_nullable(list).map_err(|e| Error::bug(format!("the plan's table: {e}")))
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(|e| store::failed("read", path, &e))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| failed(path, e))
}

/// First row of each of `tasks` tasks from `first` on, and last the number of rows.
pub(super) fn task_rows(path: &Path, first: u64, tasks: u64) -> Result<Vec<usize>> {
    let builder = open(path)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["task"]);
    let reader = builder.with_projection(mask).with_batch_size(BATCH).build().map_err(|e| failed(path, e))?;
    let (mut rows, mut row) = (Vec::with_capacity(tasks as usize + 1), 0);
    for batch in reader {
        let batch = batch.map_err(|e| failed(path, e))?;
        for task in batch.column(0).as_primitive::<UInt32Type>().values() {
            if u64::from(*task) + 1 > first + rows.len() as u64 {
                rows.push(row);
            }
            row += 1;
        }
    }
    rows.push(row);
    if rows.len() as u64 != tasks + 1 {
        return Err(failed(path, format!("it holds {} tasks where plan.json says {tasks}", rows.len() - 1)));
    }
    Ok(rows)
}

/// `count` units from row `from` on.
pub(super) fn read(path: &Path, from: usize, count: usize, columns: &[Column]) -> Result<Vec<Unit>> {
    let selection = RowSelection::from(vec![RowSelector::skip(from), RowSelector::select(count)]);
    let reader = open(path)?.with_row_selection(selection).build().map_err(|e| failed(path, e))?;
    let mut units = Vec::with_capacity(count);
    for batch in reader {
        let batch = batch.map_err(|e| failed(path, e))?;
        for row in 0..batch.num_rows() {
            units.push(unit(path, &batch, row, columns)?);
        }
    }
    Ok(units)
}

fn unit(path: &Path, batch: &RecordBatch, row: usize, columns: &[Column]) -> Result<Unit> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| failed(path, format!("no column {name}")));
    let text = |name: &str| -> Result<Option<String>> {
        let a = column(name)?;
        Ok((!a.is_null(row)).then(|| a.as_string::<i32>().value(row).to_string()))
    };
    let big = |name: &str| -> Result<Option<u64>> {
        let a = column(name)?;
        Ok((!a.is_null(row)).then(|| a.as_primitive::<UInt64Type>().value(row)))
    };
    let small = |name: &str| -> Result<Option<u32>> {
        let a = column(name)?;
        Ok((!a.is_null(row)).then(|| a.as_primitive::<UInt32Type>().value(row)))
    };
    let pts = |name: &str| -> Result<Option<i64>> {
        let a = column(name)?;
        Ok((!a.is_null(row)).then(|| a.as_primitive::<Int64Type>().value(row)))
    };
    let time = |name: &str| -> Result<Option<Rational>> { text(name)?.map(|t| t.parse()).transpose() };
    let cells: Vec<Cell> = match text("cells")? {
        Some(json) => serde_json::from_str(&json).map_err(|e| failed(path, e))?,
        None => Vec::new(),
    };
    // A whole float is written without a point and would come back as an integer.
    let cells = cells.into_iter().zip(columns).map(|(cell, column)| match (cell, column.kind) {
        (Cell::Integer(n), crate::sink::record::ColumnType::Float) => Cell::Float(n as f64),
        (cell, _) => cell,
    });
    Ok(Unit {
        task: small("task")?.unwrap_or_default().into(),
        input: big("input")?.unwrap_or_default(),
        path: text("uri")?.unwrap_or_default(),
        uri: text("uri")?.unwrap_or_default(),
        identity: big("asset")?.unwrap_or_default(),
        bytes: big("bytes")?,
        version: text("version")?,
        start: time("start")?,
        end: time("end")?,
        split: small("split")?.map(|s| s as usize),
        from: pts("from_pts")?,
        to: pts("to_pts")?,
        cells: cells.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::ColumnType;

    fn units(n: u64) -> Vec<Unit> {
        (0..n)
            .map(|i| Unit {
                task: 5 + i / 3,
                input: i,
                uri: format!("/m/{i}.mp4"),
                path: format!("/m/{i}.mp4"),
                identity: u64::MAX - i,
                bytes: (i % 2 == 0).then_some(i),
                version: None,
                start: None,
                end: (i == 1).then(|| Rational::parse_time("1/3").unwrap()),
                split: (i % 2 == 1).then_some(1),
                from: (i > 2).then_some(-(i as i64)),
                to: None,
                cells: vec![Cell::Float(2.0), Cell::Null],
            })
            .collect()
    }

    fn write(folder: &Path, units: &[Unit], columns: &[Column]) -> Result<String> {
        super::write(&Output::at(folder), columns, |each| units.iter().cloned().try_for_each(each))
    }

    #[test]
    fn units_come_back_task_by_task() {
        let dir = tempfile::tempdir().unwrap();
        let columns =
            [("a", ColumnType::Float), ("b", ColumnType::Text)].map(|(n, kind)| Column { name: n.into(), kind });
        let all = units(8);
        let name = write(dir.path(), &all, &columns).unwrap();
        assert_eq!(name, write(dir.path(), &all, &columns).unwrap(), "the same units, the same file");
        let path = dir.path().join("_framemill").join(name);
        assert_eq!(task_rows(&path, 5, 3).unwrap(), [0, 3, 6, 8]);
        assert!(task_rows(&path, 5, 4).is_err());
        assert_eq!(read(&path, 3, 3, &columns).unwrap(), all[3..6]);
        assert_eq!(read(&path, 6, 2, &columns).unwrap(), all[6..]);
    }

    #[test]
    fn a_table_whose_content_is_not_its_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let named = write(dir.path(), &units(8), &[]).unwrap();
        let path = dir.path().join("_framemill").join(&named);
        check(&path, &named, "there").unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = check(&path, &named, "there").unwrap_err();
        assert!(error.exit_code() == 74 && error.message.starts_with("there: the table of the plan is"), "{error}");
    }

    #[test]
    fn an_empty_plan_is_a_plan() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("_framemill").join(write(dir.path(), &[], &[]).unwrap());
        assert_eq!(task_rows(&path, 0, 0).unwrap(), [0]);
    }
}
