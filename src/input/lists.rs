//! Lists: text files with an input a line, and tables.
//!
//! A row is taken as it is; whether its file exists is for the run to find out. A row that cannot be understood is an
//! error that names list and line, because a shorter dataset than the list says would be worse.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use super::column::Scalar;
use super::spec::InputSpec;
use super::table::Table;
use super::uri::scheme;
use super::walk::Style;
use crate::error::{Error, Result};
use crate::sample::Rational;
use crate::sink::record::ColumnType;

/// Rows of a Parquet list in memory at a time.
const BATCH_ROWS: usize = 8192;
/// Bytes of a list read at a time.
const BUFFER: usize = 1 << 20;

/// Form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Delimited(u8),
    JsonLines,
    Parquet,
}

impl Form {
    /// The form of the list called `name`; `None` where the name is none of a list.
    pub fn of(name: &str) -> Option<Form> {
        let ending = Path::new(name).extension()?.to_str()?.to_ascii_lowercase();
        Some(match ending.as_str() {
            "txt" => Form::Lines,
            "csv" => Form::Delimited(b','),
            "tsv" => Form::Delimited(b'\t'),
            "jsonl" | "ndjson" => Form::JsonLines,
            "parquet" => Form::Parquet,
            _ => return None,
        })
    }
}

/// Appends the rows of the list at `path`.
pub(super) fn read_local(table: &mut Table, spec: &InputSpec, path: &Path, form: Form) -> Result<()> {
    let file =
        File::open(path).map_err(|e| Error::usage(format!("the list {} cannot be read: {e}", path.display())))?;
    let folder = Folder::Local(path.parent().unwrap_or(Path::new("")).to_path_buf());
    rows(table, spec, file, &path.display().to_string(), folder, form)
}

/// Appends the rows of a list that lies elsewhere, at `uri` without its query.
#[cfg(feature = "cloud")]
pub(super) fn read(table: &mut Table, spec: &InputSpec, file: File, uri: &str, form: Form) -> Result<()> {
    let folder = Folder::Remote(uri.rsplit_once('/').map_or(uri, |(folder, _)| folder).into());
    rows(table, spec, file, uri, folder, form)
}

/// Where relative rows start from.
enum Folder {
    Local(PathBuf),
    #[cfg(feature = "cloud")]
    Remote(String),
}

fn rows(table: &mut Table, spec: &InputSpec, file: File, name: &str, folder: Folder, form: Form) -> Result<()> {
    let mut list = List {
        table,
        spec,
        name,
        unit: if form == Form::Parquet { "row" } else { "line" },
        folder,
        roles: HashMap::new(),
        row: Row::default(),
        scratch: String::new(),
    };
    match form {
        Form::Lines => list.lines(file),
        Form::Delimited(delimiter) => list.delimited(file, delimiter),
        Form::JsonLines => list.json_lines(file),
        Form::Parquet => list.parquet(file),
    }
}

/// What a column of a list is for.
#[derive(Debug, Clone, Copy)]
enum Role {
    Uri,
    Start,
    End,
    Id(usize),
    Cell(usize),
}

/// What is known of the row that is read.
#[derive(Default)]
struct Row {
    uri: Option<String>,
    id: Option<Option<String>>,
    start: Option<Rational>,
    end: Option<Rational>,
}

struct List<'a> {
    table: &'a mut Table,
    spec: &'a InputSpec,
    /// For messages.
    name: &'a str,
    /// What is counted in errors.
    unit: &'static str,
    folder: Folder,
    roles: HashMap<String, Role>,
    row: Row,
    scratch: String,
}

impl List<'_> {
    fn bad(&self, line: u64, what: impl std::fmt::Display) -> Error {
        Error::usage(format!("{}, {} {line}: {what}", self.name, self.unit))
    }

    fn unreadable(&self, error: impl std::fmt::Display) -> Error {
        Error::usage(format!("the list {} cannot be read: {error}", self.name))
    }

    fn role(&mut self, name: &str) -> Role {
        if let Some(role) = self.roles.get(name) {
            return *role;
        }
        let role = if name == self.spec.uri_column {
            Role::Uri
        } else if self.spec.id_column.as_deref() == Some(name) {
            self.table.has_ids = true;
            Role::Id(self.table.column(name))
        } else {
            match name {
                "start" => Role::Start,
                "end" => Role::End,
                name => Role::Cell(self.table.column(name)),
            }
        };
        self.roles.insert(name.into(), role);
        role
    }

    /// Gives every column of a header its role.
    fn header<'h>(&mut self, names: impl Iterator<Item = &'h str> + Clone) -> Result<Vec<Role>> {
        let mut roles = Vec::new();
        for name in names.clone() {
            // What pandas writes for an index without a name.
            let name = if name.is_empty() { "unnamed" } else { name };
            if self.roles.contains_key(name) {
                return Err(Error::usage(format!(
                    "the list {} has two columns called {name:?}: rename one",
                    self.name
                )));
            }
            roles.push(self.role(name));
        }
        if !roles.iter().any(|role| matches!(role, Role::Uri)) {
            return Err(self.no_uri(names));
        }
        Ok(roles)
    }

    fn no_uri<'h>(&self, names: impl Iterator<Item = &'h str>) -> Error {
        let names: Vec<&str> = names.collect();
        Error::usage(format!(
            "the list {} has no column {}; it has {}: name the one with the URIs with --uri-column",
            self.name,
            self.spec.uri_column,
            names.join(", ")
        ))
    }

    fn set(&mut self, role: Role, value: Scalar, line: u64) -> Result<()> {
        match role {
            Role::Cell(column) => self.table.set(column, value),
            Role::Id(column) => {
                self.row.id = Some(value.text(&mut self.scratch).map(Into::into));
                self.table.set(column, value);
            }
            Role::Uri => self.row.uri = value.text(&mut self.scratch).map(Into::into),
            Role::Start => self.row.start = self.time("start", value, line)?,
            Role::End => self.row.end = self.time("end", value, line)?,
        }
        Ok(())
    }

    fn time(&mut self, name: &str, value: Scalar, line: u64) -> Result<Option<Rational>> {
        let text = match value.text(&mut self.scratch) {
            None => return Ok(None),
            Some(text) => text.trim().to_owned(),
        };
        let time = match Rational::parse_time(&text) {
            Ok(time) => time,
            // Times that were computed in floats have more digits than any time base.
            Err(error) => nanoseconds(&text).ok_or_else(|| self.bad(line, error.context(name)))?,
        };
        Ok(Some(time))
    }

    /// Appends the row.
    fn end(&mut self, line: u64) -> Result<()> {
        let Row { uri, id, start, end } = std::mem::take(&mut self.row);
        let uri = uri.filter(|uri| !uri.is_empty()).ok_or_else(|| self.bad(line, "the URI is empty"))?;
        let id = match id {
            Some(id) => Some(id.filter(|id| !id.is_empty()).ok_or_else(|| self.bad(line, "the id is empty"))?),
            None => None,
        };
        if let (Some(start), Some(end)) = (start, end)
            && start >= end
        {
            return Err(self.bad(line, format!("the part [{start}, {end}) is empty: its end must be after its start")));
        }
        let uri = self.absolute_or_joined(uri).map_err(|e| self.bad(line, e))?;
        self.table.push(&uri, id.as_deref(), start, end).map_err(|e| self.bad(line, e))
    }

    /// Relative paths start from the list's folder.
    fn absolute_or_joined(&self, uri: String) -> Result<String> {
        // Whether such a place can be read is found out when it is opened.
        if scheme(&uri).is_some() {
            return Ok(uri);
        }
        if uri.starts_with('/') {
            return Ok(uri);
        }
        match &self.folder {
            Folder::Local(folder) if folder.as_os_str().is_empty() => Ok(uri),
            Folder::Local(folder) => Style::Plain.uri(&folder.join(uri)),
            #[cfg(feature = "cloud")]
            Folder::Remote(folder) => super::uri::joined(folder, &uri)
                .ok_or_else(|| Error::usage(format!("{uri} leads out of the bucket or host that the list lies in"))),
        }
    }

    fn lines(&mut self, file: File) -> Result<()> {
        for_each_line(file, |line, text| {
            let text = text.map_err(|e| self.bad(line, e))?.trim();
            if text.is_empty() || text.starts_with('#') {
                return Ok(());
            }
            self.row.uri = Some(text.into());
            self.end(line)
        })
        .map_err(|e| e.unwrap_or_else(|e| self.unreadable(e)))
    }

    fn delimited(&mut self, file: File, delimiter: u8) -> Result<()> {
        let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).buffer_capacity(BUFFER).from_reader(file);
        let header = reader.headers().map_err(|e| self.unreadable(e))?.clone();
        // A file of no bytes may be one that a program wrote that had nothing to list, or one that was lost on the way.
        if header.is_empty() && self.spec.allow_empty {
            return Ok(());
        }
        let roles = self.header(header.iter())?;
        let mut record = csv::StringRecord::new();
        // The reader's own errors name the line.
        while reader.read_record(&mut record).map_err(|e| self.unreadable(e))? {
            let line = record.position().map_or(0, csv::Position::line);
            for (role, value) in roles.iter().zip(&record) {
                self.set(*role, Scalar::Untyped(value), line)?;
            }
            self.end(line)?;
        }
        Ok(())
    }

    fn json_lines(&mut self, file: File) -> Result<()> {
        for_each_line(file, |line, text| {
            let text = text.map_err(|e| self.bad(line, e))?;
            if text.trim().is_empty() {
                return Ok(());
            }
            let object: Map<String, Value> =
                serde_json::from_str(text).map_err(|e| self.bad(line, format!("no JSON object: {e}")))?;
            if !object.contains_key(&self.spec.uri_column) {
                let error = self.no_uri(object.keys().map(String::as_str));
                return Err(self.bad(line, error));
            }
            for (name, value) in &object {
                let role = self.role(name);
                let nested;
                let scalar = match value {
                    Value::Null => Scalar::Null,
                    Value::Bool(value) => Scalar::Boolean(*value),
                    Value::String(text) => Scalar::Text(text),
                    Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                        (Some(value), _) => Scalar::Integer(value),
                        (None, Some(value)) if !number.is_u64() => Scalar::Float(value),
                        _ => {
                            nested = number.to_string();
                            Scalar::Text(&nested)
                        }
                    },
                    value => {
                        nested = value.to_string();
                        Scalar::Text(&nested)
                    }
                };
                self.set(role, scalar, line)?;
            }
            self.end(line)
        })
        .map_err(|e| e.unwrap_or_else(|e| self.unreadable(e)))
    }

    fn parquet(&mut self, file: File) -> Result<()> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| self.unreadable(e))?;
        let schema = builder.schema().clone();
        let roles = self.header(schema.fields().iter().map(|field| field.name().as_str()))?;
        for (role, field) in roles.iter().zip(schema.fields()) {
            if let (Role::Cell(column) | Role::Id(column), Some(kind)) = (role, column_type(field.data_type())) {
                self.table.declare(*column, kind);
            }
        }
        let batches = builder.with_batch_size(BATCH_ROWS).build().map_err(|e| self.unreadable(e))?;
        let mut line = 0;
        for batch in batches {
            let batch = batch.map_err(|e| self.unreadable(e))?;
            let columns: Vec<Typed> =
                batch.columns().iter().map(Typed::new).collect::<Result<_, _>>().map_err(|e| self.unreadable(e))?;
            let mut nested = String::new();
            for row in 0..batch.num_rows() {
                line += 1;
                for (role, column) in roles.iter().zip(&columns) {
                    let value = column.get(row, &mut nested).map_err(|e| self.bad(line, e))?;
                    self.set(*role, value, line)?;
                }
                self.end(line)?;
            }
        }
        Ok(())
    }
}

/// The nearest nanosecond to a decimal number of seconds.
fn nanoseconds(text: &str) -> Option<Rational> {
    let seconds: f64 = text.parse().ok()?;
    let ns = (seconds * 1e9).round();
    // Beyond 2^62 the fraction is out of bounds anyway.
    (ns.abs() < 4.6e18).then(|| Rational::new(ns as i64, 1_000_000_000)).flatten()
}

/// Calls `each` with the number of every line, from 1, and its text without a byte-order mark; one that is no UTF-8 comes
/// as an error. The outer error is that of `each` or of reading.
fn for_each_line(
    file: File,
    mut each: impl FnMut(u64, Result<&str, std::str::Utf8Error>) -> Result<()>,
) -> Result<(), Result<Error, std::io::Error>> {
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(Err)? == 0 {
            break;
        }
        let text = if line == 1 { bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes) } else { &bytes };
        each(line, std::str::from_utf8(text)).map_err(Ok)?;
    }
    Ok(())
}

/// The type of a Parquet column's cells; `None` for one without values.
fn column_type(data_type: &DataType) -> Option<ColumnType> {
    Some(match data_type {
        DataType::Null => return None,
        DataType::Boolean => ColumnType::Boolean,
        // Those beyond 63 bits come as text, which then wins.
        data_type if data_type.is_integer() => ColumnType::Integer,
        data_type if data_type.is_floating() => ColumnType::Float,
        DataType::Dictionary(_, values) => return column_type(values),
        _ => ColumnType::Text,
    })
}

/// A column of a Parquet batch.
enum Typed {
    Null,
    Boolean(ArrayRef),
    Integer(ArrayRef),
    Unsigned(ArrayRef),
    Float(ArrayRef),
    Text(ArrayRef),
    Bytes(ArrayRef),
    Other(ArrayRef),
}

impl Typed {
    fn new(array: &ArrayRef) -> std::result::Result<Typed, arrow::error::ArrowError> {
        let to = |data_type| cast(array, &data_type);
        Ok(match array.data_type() {
            DataType::Null => Typed::Null,
            DataType::Boolean => Typed::Boolean(array.clone()),
            DataType::UInt64 => Typed::Unsigned(array.clone()),
            data_type if data_type.is_integer() => Typed::Integer(to(DataType::Int64)?),
            data_type if data_type.is_floating() => Typed::Float(to(DataType::Float64)?),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Typed::Text(to(DataType::LargeUtf8)?),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Typed::Bytes(to(DataType::LargeBinary)?),
            // An instant is the same in every time zone, and Arrow knows offsets only.
            DataType::Timestamp(unit, Some(_)) => Typed::Other(to(DataType::Timestamp(*unit, Some("+00:00".into())))?),
            DataType::Dictionary(_, values) => Typed::new(&cast(array, values)?)?,
            _ => Typed::Other(array.clone()),
        })
    }

    fn get<'a>(&'a self, row: usize, nested: &'a mut String) -> std::result::Result<Scalar<'a>, String> {
        let (Typed::Boolean(array)
        | Typed::Integer(array)
        | Typed::Unsigned(array)
        | Typed::Float(array)
        | Typed::Text(array)
        | Typed::Bytes(array)
        | Typed::Other(array)) = self
        else {
            return Ok(Scalar::Null);
        };
        if array.is_null(row) {
            return Ok(Scalar::Null);
        }
        Ok(match self {
            Typed::Null => Scalar::Null,
            Typed::Boolean(array) => Scalar::Boolean(array.as_boolean().value(row)),
            Typed::Integer(array) => Scalar::Integer(array.as_primitive::<Int64Type>().value(row)),
            Typed::Float(array) => Scalar::Float(array.as_primitive::<Float64Type>().value(row)),
            Typed::Text(array) => Scalar::Text(array.as_string::<i64>().value(row)),
            Typed::Unsigned(array) => {
                let value = array.as_primitive::<UInt64Type>().value(row);
                match i64::try_from(value) {
                    Ok(value) => Scalar::Integer(value),
                    Err(_) => {
                        *nested = value.to_string();
                        Scalar::Text(nested)
                    }
                }
            }
            // Old writers leave texts unmarked.
            Typed::Bytes(bytes) => match std::str::from_utf8(bytes.as_binary::<i64>().value(row)) {
                Ok(text) => Scalar::Text(text),
                Err(_) => {
                    *nested = display(array, row)?;
                    Scalar::Text(nested)
                }
            },
            Typed::Other(array) => {
                *nested = match json(array, row)? {
                    Value::String(text) => text,
                    value => value.to_string(),
                };
                Scalar::Text(nested)
            }
        })
    }
}

/// Dates, decimals and the like as Arrow writes them.
fn display(array: &ArrayRef, row: usize) -> std::result::Result<String, String> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options).map_err(|e| e.to_string())?;
    formatter.value(row).try_to_string().map_err(|e| e.to_string())
}

/// A nested value as JSON.
fn json(array: &ArrayRef, row: usize) -> std::result::Result<Value, String> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let items = |items: ArrayRef| (0..items.len()).map(|i| json(&items, i)).collect::<Result<Vec<_>, _>>();
    Ok(match array.data_type() {
        DataType::List(_) => Value::Array(items(array.as_list::<i32>().value(row))?),
        DataType::LargeList(_) => Value::Array(items(array.as_list::<i64>().value(row))?),
        DataType::FixedSizeList(..) => Value::Array(items(array.as_fixed_size_list().value(row))?),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let object =
                fields.iter().zip(columns).map(|(field, column)| Ok((field.name().clone(), json(column, row)?)));
            Value::Object(object.collect::<Result<_, String>>()?)
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let object = (0..entries.len()).map(|i| Ok((display(keys, i)?, json(values, i)?)));
            Value::Object(object.collect::<Result<_, String>>()?)
        }
        _ => {
            let typed = Typed::new(array).map_err(|e| e.to_string())?;
            if let Typed::Other(array) = &typed {
                return display(array, row).map(Value::from);
            }
            let mut nested = String::new();
            match typed.get(row, &mut nested)? {
                Scalar::Null => Value::Null,
                Scalar::Boolean(value) => value.into(),
                Scalar::Integer(value) => value.into(),
                Scalar::Float(value) => value.into(),
                Scalar::Text(text) | Scalar::Untyped(text) => text.into(),
            }
        }
    })
}
