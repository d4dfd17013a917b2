//! The record table: one Parquet file a shard, one row a sample in the shard's order, and the merged CSV and SQLite forms.
//!
//! The same rows give the same bytes: row groups are cut by what the rows hold, settings are fixed, no clock and no
//! version is written. Integers are 64-bit, `detections` is a list of structs, `augment` is JSON text.

mod detections;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value};

use super::record::{Cell, Column, ColumnType, Details, Record, output_names};
use crate::error::{Error, Result};
use crate::store::{self, Output, Scratch, View, Written};
use detections::detections;

/// Rows of a row group at most.
const GROUP_ROWS: usize = 16_384;
/// Rough bytes of a row group at most, so that rows full of detections do not fill the memory.
const GROUP_BYTES: usize = 16 << 20;
/// Rows turned into columns at a time.
const BATCH_ROWS: usize = 512;
/// Who wrote the file: the layout's version, not the program's, for that would change the bytes with every release.
const CREATED_BY: &str = "framemill version 1";

/// Streams records into a Parquet file on `W`.
pub struct TableWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: Arc<Schema>,
    columns: Vec<Column>,
    details: Details,
    pending: Vec<Record>,
    group_rows: usize,
    group_bytes: usize,
}

impl<W: Write + Send> TableWriter<W> {
    /// Starts a table whose records carry values of `columns` and whose detections have `details`.
    pub fn new(inner: W, columns: &[Column], details: Details) -> Result<Self> {
        let schema = schema(columns, details)?;
        let writer = ArrowWriter::try_new(inner, schema.clone(), Some(properties())).map_err(write_failed)?;
        let columns = columns.to_vec();
        Ok(TableWriter { writer, schema, columns, details, pending: Vec::new(), group_rows: 0, group_bytes: 0 })
    }

    /// Appends a row.
    pub fn write(&mut self, record: Record) -> Result<()> {
        self.group_rows += 1;
        self.group_bytes += rough_size(&record);
        self.pending.push(record);
        let full = self.group_rows >= GROUP_ROWS || self.group_bytes >= GROUP_BYTES;
        if full || self.pending.len() >= BATCH_ROWS {
            self.flush_pending()?;
        }
        if full {
            self.writer.flush().map_err(write_failed)?;
            (self.group_rows, self.group_bytes) = (0, 0);
        }
        Ok(())
    }

    fn flush_pending(&mut self) -> Result<()> {
        let arrays =
            arrays(&self.pending, &self.columns, self.details)?.into_iter().map(|(_, array, _)| array).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), arrays)
            .map_err(|e| Error::bug(format!("records do not make a table: {e}")))?;
        self.pending.clear();
        self.writer.write(&batch).map_err(write_failed)
    }

    /// Writes the rest and the footer; gives the writer back, not flushed.
    pub fn finish(mut self) -> Result<W> {
        self.flush_pending()?;
        self.writer.flush().map_err(write_failed)?;
        self.writer.sync().map_err(|e| write_failed(e.into()))?;
        // Only the footer is left, and its I/O errors come as plain text.
        self.writer.into_inner().map_err(|e| write_failed(std::io::Error::other(e.to_string()).into()))
    }
}

/// How all tables are written.
pub(super) fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by(CREATED_BY.into())
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build()
}

pub(super) fn write_failed(error: ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => store::failed("write", Path::new("the record table"), &io),
            Err(other) => Error::bug(format!("the record table cannot be written: {other}")),
        },
        other => Error::bug(format!("the record table cannot be written: {other}")),
    }
}

/// About what the record takes in memory.
fn rough_size(record: &Record) -> usize {
    let cells: usize = record.columns.iter().map(|c| if let Cell::Text(t) = c { t.len() } else { 8 }).sum();
    let augment = if record.augment.is_null() { 0 } else { 256 };
    512 + record.uri.len()
        + cells
        + augment
        + record.warning.as_ref().map_or(0, String::len)
        + record.detections.iter().map(detections::rough_size).sum::<usize>()
}

/// A table column: name, values, may be null.
type Filled = (String, ArrayRef, bool);

fn schema(columns: &[Column], details: Details) -> Result<Arc<Schema>> {
    let fields: Vec<Field> = arrays(&[], columns, details)?
        .into_iter()
        .map(|(name, array, nullable)| Field::new(name, array.data_type().clone(), nullable))
        .collect();
    Ok(Arc::new(Schema::new(fields)))
}

fn strings<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

/// The rows as columns, in the record's order. Without rows it still gives the types, which is where [`schema`] has them
/// from.
fn arrays(rows: &[Record], columns: &[Column], details: Details) -> Result<Vec<Filled>> {
    let text = |name: &str, get: fn(&Record) -> &str| -> Filled {
        (name.into(), strings(rows.iter().map(|r| Some(get(r)))), false)
    };
    let maybe =
        |name: &str, get: fn(&Record) -> Option<&str>| -> Filled { (name.into(), strings(rows.iter().map(get)), true) };
    let integer = |name: &str, get: fn(&Record) -> i64| -> Filled {
        (name.into(), Arc::new(Int64Array::from_iter_values(rows.iter().map(get))), false)
    };
    let float = |name: &str, get: fn(&Record) -> f64| -> Filled {
        (name.into(), Arc::new(Float64Array::from_iter_values(rows.iter().map(get))), false)
    };
    let bytes: Int64Array = rows.iter().map(|r| r.bytes.map(u64::cast_signed)).collect();
    let keyframe: BooleanArray = rows.iter().map(|r| Some(r.keyframe)).collect();
    let augment: StringArray = rows.iter().map(|r| (!r.augment.is_null()).then(|| r.augment.to_string())).collect();
    let mut out = vec![
        text("key", |r| &r.key),
        text("uri", |r| &r.uri),
        text("asset", |r| &r.asset),
        text("media", |r| r.media.name()),
        ("bytes".into(), Arc::new(bytes), true),
        maybe("source_sha256", |r| r.source_sha256.as_deref()),
        maybe("etag", |r| r.etag.as_deref()),
        maybe("captured_at", |r| r.captured_at.as_deref()),
        text("codec", |r| &r.codec),
        text("pixel_format", |r| &r.pixel_format),
        text("color_matrix", |r| &r.color_matrix),
        text("color_range", |r| &r.color_range),
        text("color_primaries", |r| &r.color_primaries),
        text("color_transfer", |r| &r.color_transfer),
        maybe("chroma_location", |r| r.chroma_location.as_deref()),
        ("color_assumed".into(), assumed(rows)?, false),
        maybe("icc", |r| r.icc.as_deref()),
        integer("rotation", |r| r.rotation.into()),
        float("time_s", |r| r.time_s),
        integer("pts", |r| r.pts),
        text("time_base", |r| &r.time_base),
        ("keyframe".into(), Arc::new(keyframe), false),
        integer("source_width", |r| r.source_width.into()),
        integer("source_height", |r| r.source_height.into()),
        integer("width", |r| r.width.into()),
        integer("height", |r| r.height.into()),
        ("transform".into(), fixed(rows.iter().map(|r| r.transform))?, false),
        ("augment".into(), Arc::new(augment), true),
        ("detections".into(), detections(rows, details)?, false),
        maybe("warning", |r| r.warning.as_deref()),
        maybe("sha256", |r| r.sha256.as_deref()),
    ];
    for (i, (name, column)) in output_names(columns).into_iter().zip(columns).enumerate() {
        out.push((name, cells(rows, i, column)?, true));
    }
    Ok(out)
}

/// The inner field of lists, named as the Parquet specification does.
fn element(data_type: DataType, nullable: bool) -> Arc<Field> {
    Arc::new(Field::new("element", data_type, nullable))
}

fn impossible(error: arrow::error::ArrowError) -> Error {
    Error::bug(format!("record columns do not fit together: {error}"))
}

fn list(lengths: impl IntoIterator<Item = usize>, values: ArrayRef) -> Result<ArrayRef> {
    let field = element(values.data_type().clone(), false);
    let list = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, None).map_err(impossible)?;
    Ok(Arc::new(list))
}

/// N floats in each row.
fn fixed<const N: usize>(values: impl Iterator<Item = [f64; N]>) -> Result<ArrayRef> {
    let flat = Arc::new(Float64Array::from_iter_values(values.flatten()));
    let list =
        FixedSizeListArray::try_new(element(DataType::Float64, false), N as i32, flat, None).map_err(impossible)?;
    Ok(Arc::new(list))
}

fn assumed(rows: &[Record]) -> Result<ArrayRef> {
    let names = rows.iter().flat_map(|r| &r.color_assumed).map(|name| Some(name.as_str()));
    list(rows.iter().map(|r| r.color_assumed.len()), strings(names))
}

/// Column `i` of the input list.
fn cells(rows: &[Record], i: usize, column: &Column) -> Result<ArrayRef> {
    Ok(match column.kind {
        ColumnType::Text => Arc::new(StringArray::from(values(rows, i, column, |cell| match cell {
            Cell::Text(v) => Some(v.as_str()),
            _ => None,
        })?)),
        ColumnType::Integer => Arc::new(Int64Array::from(values(rows, i, column, |cell| match cell {
            Cell::Integer(v) => Some(*v),
            _ => None,
        })?)),
        ColumnType::Float => Arc::new(Float64Array::from(values(rows, i, column, |cell| match cell {
            Cell::Float(v) => Some(*v),
            _ => None,
        })?)),
        ColumnType::Boolean => Arc::new(BooleanArray::from(values(rows, i, column, |cell| match cell {
            Cell::Boolean(v) => Some(*v),
            _ => None,
        })?)),
    })
}

/// The values of a list's column; one that `get` does not take and that is not null is of the wrong type: a bug.
fn values<'a, T>(
    rows: &'a [Record],
    i: usize,
    column: &Column,
    get: impl Fn(&'a Cell) -> Option<T>,
) -> Result<Vec<Option<T>>> {
    rows.iter()
        .map(|row| match row.columns.get(i) {
            None | Some(Cell::Null) => Ok(None),
            Some(cell) => get(cell).map(Some).ok_or_else(|| {
                Error::bug(format!("column {} of sample {} is {cell:?}, not {:?}", column.name, row.key, column.kind))
            }),
        })
        .collect()
}

/// A table opened for reading.
struct Rows {
    path: PathBuf,
    schema: Arc<Schema>,
    batches: parquet::arrow::arrow_reader::ParquetRecordBatchReader,
}

impl Rows {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| store::failed("read", path, &e))?;
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| damaged(path, &e))?;
        let schema = builder.schema().clone();
        let batches = builder.with_batch_size(BATCH_ROWS).build().map_err(|e| damaged(path, &e))?;
        Ok(Rows { path: path.into(), schema, batches })
    }

    /// Calls `each` with the values of every row, in order.
    fn for_each(self, mut each: impl FnMut(Vec<Value>) -> Result<()>) -> Result<()> {
        for batch in self.batches {
            let batch = batch.map_err(|e| damaged(&self.path, &e))?;
            for row in 0..batch.num_rows() {
                each(
                    batch
                        .columns()
                        .iter()
                        .map(|array| value(array, row).map_err(|e| damaged(&self.path, &e)))
                        .collect::<Result<_>>()?,
                )?;
            }
        }
        Ok(())
    }
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::store(format!(
        "the record table {} cannot be read: {error}; it was changed or damaged after it was written: restore it from a \
         copy, or remove the task's receipt and run the job again",
        path.display()
    ))
}

/// One value as JSON; the types are those that [`arrays`] makes.
fn value(array: &dyn Array, row: usize) -> std::result::Result<Value, String> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let items =
        |array: ArrayRef| (0..array.len()).map(|i| value(&array, i)).collect::<std::result::Result<_, String>>();
    Ok(match array.data_type() {
        DataType::Utf8 => Value::from(array.as_string::<i32>().value(row)),
        DataType::Int64 => Value::from(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Value::from(array.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => Value::from(array.as_primitive::<Float32Type>().value(row)),
        DataType::Boolean => Value::from(array.as_boolean().value(row)),
        DataType::List(_) => Value::Array(items(array.as_list::<i32>().value(row))?),
        DataType::FixedSizeList(..) => Value::Array(items(array.as_fixed_size_list().value(row))?),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let object =
                fields.iter().zip(columns).map(|(field, array)| Ok((field.name().clone(), value(array, row)?)));
            Value::Object(object.collect::<std::result::Result<Map<_, _>, String>>()?)
        }
        other => return Err(format!("a column of type {other} is none of a record table's")),
    })
}

/// The rows of a record table as flat JSON objects, equal to what [`Record::to_json`] gave.
pub fn read_rows(parquet: &Path) -> Result<Vec<Value>> {
    let rows = Rows::open(parquet)?;
    let names: Vec<String> = rows.schema.fields().iter().map(|f| f.name().clone()).collect();
    let mut out = Vec::new();
    rows.for_each(|values| {
        let mut object: Map<String, Value> = names.iter().cloned().zip(values).collect();
        if let Some(Value::String(text)) = object.get("augment") {
            let augment = serde_json::from_str(text).map_err(|e| damaged(parquet, &e))?;
            object.insert("augment".into(), augment);
        }
        out.push(Value::Object(object));
        Ok(())
    })?;
    Ok(out)
}

/// The schema that all tables share; that of a record without further columns where there is no table.
fn common_schema(out: &Output, tables: &[String]) -> Result<Arc<Schema>> {
    let Some(first) = tables.first() else { return schema(&[], Details::default()) };
    let expected = Rows::open(out.file(first)?.as_ref())?.schema;
    for table in &tables[1..] {
        if Rows::open(out.file(table)?.as_ref())?.schema.fields() != expected.fields() {
            return Err(Error::store(format!(
                "the record tables {} and {} have different columns, but all shards of a dataset have the same: one of \
                 them belongs to another dataset",
                out.place(first),
                out.place(table)
            )));
        }
    }
    Ok(expected)
}

/// Makes a view by `write` as a temporary file, then puts it in its place; nothing where another has written another one.
pub(super) fn whole(view: &View, write: impl Fn(&Path) -> Result<()>) -> Result<Option<Written>> {
    Scratch::within(view.out().scratch(), &format!("{}-merge", store::worker()), "table", |scratch| {
        let temp = scratch.path("table");
        write(&temp)?;
        File::open(&temp).and_then(|f| f.sync_all()).map_err(|e| store::failed("sync", &temp, &e))?;
        view.put(&temp)
    })
}

/// Merges record tables into one CSV, in the given order: a header, empty for null, nested values as JSON text.
pub fn merge_csv(view: &View, tables: &[String]) -> Result<Option<Written>> {
    let out = view.out();
    let schema = common_schema(out, tables)?;
    whole(view, |temp| {
        let file = File::create_new(temp).map_err(|e| store::failed("create", temp, &e))?;
        let mut csv = csv::Writer::from_writer(BufWriter::new(file));
        let failed = |e: csv::Error| store::failed("write", temp, &std::io::Error::from(e));
        csv.write_record(schema.fields().iter().map(|f| f.name())).map_err(failed)?;
        for table in tables {
            Rows::open(out.file(table)?.as_ref())?.for_each(|values| {
                csv.write_record(values.into_iter().map(|value| match value {
                    Value::Null => String::new(),
                    Value::String(text) => text,
                    other => other.to_string(),
                }))
                .map_err(failed)
            })?;
        }
        csv.flush().map_err(|e| store::failed("write", temp, &e))
    })
}

/// Merges record tables into one SQLite database with the table `records`, in the given order, and an index on its key;
/// tables of scenes, where there are any, into its table `scenes`. Nested values are JSON text, booleans 0 and 1.
pub fn merge_sqlite(view: &View, records: &[String], scenes: &[String]) -> Result<Option<Written>> {
    let out = view.out();
    whole(view, |temp| {
        let failed = |e: rusqlite::Error| sqlite_failed(temp, &e);
        let mut db = rusqlite::Connection::open(temp).map_err(failed)?;
        // The file is synced and renamed when whole: a journal would protect nothing.
        db.execute_batch("PRAGMA page_size = 4096; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            .map_err(failed)?;
        let transaction = db.transaction().map_err(failed)?;
        fill(&transaction, "records", records, out)?;
        transaction.execute_batch("CREATE INDEX records_key ON records (key)").map_err(failed)?;
        if !scenes.is_empty() {
            fill(&transaction, "scenes", scenes, out)?;
        }
        transaction.commit().map_err(failed)?;
        db.close().map_err(|(_, e)| failed(e))
    })
}

/// Makes the table `name` of the rows of `tables`.
fn fill(db: &rusqlite::Connection, name: &str, tables: &[String], out: &Output) -> Result<()> {
    let failed = |e: rusqlite::Error| sqlite_failed(Path::new(&out.place(name)), &e);
    let schema = common_schema(out, tables)?;
    let columns: Vec<String> = schema
        .fields()
        .iter()
        .map(|f| format!("\"{}\" {}", f.name().replace('"', "\"\""), sql_type(f.data_type())))
        .collect();
    db.execute_batch(&format!("CREATE TABLE {name} ({})", columns.join(", "))).map_err(failed)?;
    let marks = vec!["?"; columns.len()].join(", ");
    let mut insert = db.prepare(&format!("INSERT INTO {name} VALUES ({marks})")).map_err(failed)?;
    for table in tables {
        Rows::open(out.file(table)?.as_ref())?.for_each(|values| {
            insert.execute(rusqlite::params_from_iter(values.into_iter().map(sql_value))).map_err(failed)?;
            Ok(())
        })?;
    }
    Ok(())
}

fn sqlite_failed(out: &Path, error: &rusqlite::Error) -> Error {
    let kind = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => std::io::ErrorKind::StorageFull,
        Some(rusqlite::ErrorCode::ReadOnly) => std::io::ErrorKind::ReadOnlyFilesystem,
        _ => std::io::ErrorKind::Other,
    };
    store::failed("write", out, &std::io::Error::new(kind, error.to_string()))
}

fn sql_type(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Int64 => "INTEGER",
        DataType::Float64 => "REAL",
        DataType::Boolean => "BOOLEAN",
        _ => "TEXT",
    }
}

fn sql_value(value: Value) -> rusqlite::types::Value {
    use rusqlite::types::Value as Sql;
    match value {
        Value::Null => Sql::Null,
        Value::Bool(v) => Sql::Integer(v.into()),
        Value::Number(n) => match n.as_i64() {
            Some(i) => Sql::Integer(i),
            None => n.as_f64().map_or(Sql::Null, Sql::Real),
        },
        Value::String(text) => Sql::Text(text),
        nested => Sql::Text(nested.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::record::Detection;

    fn record(i: usize) -> Record {
        let detection = Detection {
            model: "faces".into(),
            class: i as i64,
            label: i.is_multiple_of(2).then(|| "face".into()),
            score: 0.1 + i as f64,
            box_: [0.5, 1.0, 2.0, 3.25],
            source_box: [1.0, 2.0, 3.0, 4.0],
            landmarks: vec![[0.25, i as f64]; i % 4],
            ..Default::default()
        };
        Record {
            key: format!("k{i}"),
            bytes: (!i.is_multiple_of(3)).then_some(i as u64),
            color_assumed: vec!["color_range".into(); i % 3],
            augment: if i.is_multiple_of(2) { Value::Null } else { serde_json::json!({"flip": true, "crop": [i, 2]}) },
            transform: [1.0, 0.1, i as f64, 0.0, 1.0, -0.5],
            detections: vec![detection; i % 3],
            columns: vec![
                Cell::Text(format!("t{i}")),
                if i.is_multiple_of(2) { Cell::Null } else { Cell::Float(i as f64 / 3.0) },
            ],
            ..Default::default()
        }
    }

    fn columns() -> Vec<Column> {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        vec![column("key", ColumnType::Text), column("weight", ColumnType::Float)]
    }

    fn table(n: usize) -> Vec<u8> {
        let mut writer = TableWriter::new(Vec::new(), &columns(), Details::default()).unwrap();
        (0..n).for_each(|i| writer.write(record(i)).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn rows_come_back_as_the_records_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        for n in [0, 1, BATCH_ROWS * 2 + 7] {
            let bytes = table(n);
            assert_eq!(bytes, table(n), "the same rows gave other bytes");
            std::fs::write(&path, bytes).unwrap();
            let expected: Vec<Value> = (0..n).map(|i| record(i).to_json(&columns())).collect();
            assert_eq!(read_rows(&path).unwrap(), expected);
        }
    }

    #[test]
    fn details_come_back_where_a_job_has_them() {
        use crate::sink::rle::Rle;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let details = Details { masks: true, embeddings: true, parents: true, frames: true };
        let detailed = |i: usize| {
            let mut record = record(i);
            for (n, d) in record.detections.iter_mut().enumerate() {
                d.mask = Some((n == 0).then(|| Rle::of((9, 4), [1, 0, 3, i as u32 % 5], |_, _| true)));
                d.embedding = Some((n > 0).then(|| vec![0.25, -1.0 / 3.0, i as f32]));
                (d.of, d.frame) = (Some((n > 0).then_some(0)), Some(n as i64));
            }
            record
        };
        let mut writer = TableWriter::new(Vec::new(), &columns(), details).unwrap();
        (0..20).for_each(|i| writer.write(detailed(i)).unwrap());
        std::fs::write(&path, writer.finish().unwrap()).unwrap();
        let rows = read_rows(&path).unwrap();
        let expected: Vec<Value> = (0..20).map(|i| detailed(i).to_json(&columns())).collect();
        assert_eq!(rows, expected);
        let first = &rows[2]["detections"][0];
        assert!(first["embedding"].is_null() && first["of"].is_null() && first["mask"]["size"][0] == 4, "{first}");
        // What waits on disk comes back the same.
        let text = serde_json::to_string(&detailed(2)).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap().detections, detailed(2).detections);
    }

    #[test]
    fn row_groups_are_bounded_by_what_they_hold() {
        let mut writer = TableWriter::new(Vec::new(), &[], Details::default()).unwrap();
        let heavy = Record { uri: "u".repeat(GROUP_BYTES / 4), ..Default::default() };
        for _ in 0..8 {
            writer.write(heavy.clone()).unwrap();
        }
        assert_eq!(writer.writer.flushed_row_groups().len(), 2);
    }

    #[test]
    fn a_cell_of_another_type_is_a_bug() {
        let mut writer = TableWriter::new(Vec::new(), &columns(), Details::default()).unwrap();
        writer.write(Record { columns: vec![Cell::Integer(1)], ..Default::default() }).unwrap();
        assert_eq!(writer.finish().unwrap_err().exit_code(), 70);
    }

    #[test]
    fn tables_of_other_columns_are_not_merged() {
        let dir = tempfile::tempdir().unwrap();
        let out = Output::at(dir.path());
        out.replace("a", &table(1)).unwrap();
        out.replace("b", &TableWriter::new(Vec::new(), &[], Details::default()).unwrap().finish().unwrap()).unwrap();
        let error = merge_csv(&View::of(&out, "records.csv").unwrap(), &["a".into(), "b".into()]).unwrap_err();
        assert!(error.message.contains("different columns"), "{error}");
        assert!(!dir.path().join("records.csv").exists());
    }
}
