//! All inputs, column by column: tens of bytes an input beside its URI and its cells.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use super::column::{Draft, Late, Scalar, Texts, Values};
use super::spec::{InputSpec, Splitter, order_key};
use super::uri::{Namer, holds_password};
use super::{Counts, Item};
use crate::error::{Error, Result};
use crate::sample::Rational;
use crate::sink::record::{Cell, Column, ColumnType};

/// All inputs, in order.
pub struct Inputs {
    rows: Rows,
    /// The rows that are inputs, in order; the others were duplicates or beyond the limit.
    order: Vec<u32>,
    columns: Vec<Column>,
    values: Vec<Values>,
    splitter: Splitter,
    /// What the listing met.
    pub counts: Counts,
}

impl Inputs {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The input at position `i`, below [`Inputs::len`].
    pub fn item(&self, i: usize) -> Item {
        let row = self.order[i] as usize;
        let identity = self.rows.identities[row];
        Item {
            uri: self.rows.uris.get(row).into(),
            identity,
            bytes: self.rows.bytes.get(row),
            version: self.rows.versions.get(row).map(version_text).or_else(|| self.rows.etag(row)),
            start: self.rows.starts.time(row),
            end: self.rows.ends.time(row),
            split: self.splitter.split(self.rows.wholes.get(row).unwrap_or(identity)),
            cells: self.values.iter().map(|values| values.get(row)).collect::<Vec<Cell>>(),
        }
    }

    /// The identity of the input at position `i`, without making the whole [`Item`].
    pub fn identity(&self, i: usize) -> u64 {
        self.rows.identities[self.order[i] as usize]
    }

    /// The URI of the input at position `i`, without making the whole [`Item`].
    pub fn uri(&self, i: usize) -> &str {
        self.rows.uris.get(self.order[i] as usize)
    }

    /// The columns that the lists bring along; every item has a cell for each.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        let rows = &self.rows;
        rows.uris.heap_bytes()
            + 8 * rows.identities.capacity()
            + rows.wholes.heap_bytes()
            + rows.bytes.heap_bytes()
            + rows.versions.heap_bytes()
            + rows.etags.heap_bytes()
            + rows.starts.heap_bytes()
            + rows.ends.heap_bytes()
            + 4 * self.order.capacity()
            + self.values.iter().map(Values::heap_bytes).sum::<usize>()
    }
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").field("len", &self.len()).field("columns", &self.columns).finish_non_exhaustive()
    }
}

/// Which version of a local file it is: the time of its last change in nanoseconds since 1970, in hex. What
/// [`Item::version`] holds.
pub fn file_version(meta: &Metadata) -> String {
    version_text(modified(meta))
}

fn modified(meta: &Metadata) -> i64 {
    meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec())
}

fn version_text(ns: i64) -> String {
    if ns < 0 { format!("-{:x}", ns.unsigned_abs()) } else { format!("{ns:x}") }
}

/// A time as numerator and denominator: two thirds of the size of an `Option<Rational>`.
type Time = (i64, i64);

impl Late<Time> {
    fn time(&self, row: usize) -> Option<Rational> {
        self.get(row).and_then(|(num, den)| Rational::new(num, den))
    }
}

struct Rows {
    uris: Texts,
    identities: Vec<u64>,
    /// Of parts, the identity that the whole file has: all its parts belong to one split.
    wholes: Late<u64>,
    bytes: Late<u64>,
    versions: Late<i64>,
    /// Of objects in stores, what takes the place of the version; empty for others.
    etags: Texts,
    starts: Late<Time>,
    ends: Late<Time>,
}

impl Rows {
    fn etag(&self, row: usize) -> Option<String> {
        (row < self.etags.len()).then(|| self.etags.get(row)).filter(|etag| !etag.is_empty()).map(Into::into)
    }
}

/// The inputs while they are listed.
pub(super) struct Table {
    rows: Rows,
    drafts: Vec<(String, Draft)>,
    by_name: HashMap<String, usize>,
    namer: Namer,
    key: Vec<u8>,
    scratch: String,
    /// Some list has the id column.
    pub has_ids: bool,
    /// Files that were passed over because they are no media.
    pub ignored: u64,
}

impl Table {
    pub fn new(namer: Namer) -> Self {
        Table {
            rows: Rows {
                uris: Texts::default(),
                identities: Vec::new(),
                wholes: Late::new(u64::MAX),
                bytes: Late::new(u64::MAX),
                versions: Late::new(i64::MIN),
                etags: Texts::default(),
                starts: Late::new((0, 0)),
                ends: Late::new((0, 0)),
            },
            drafts: Vec::new(),
            by_name: HashMap::new(),
            namer,
            key: Vec::new(),
            scratch: String::new(),
            has_ids: false,
            ignored: 0,
        }
    }

    /// The column called `name`, new if there is none.
    pub fn column(&mut self, name: &str) -> usize {
        if let Some(i) = self.by_name.get(name) {
            return *i;
        }
        self.drafts.push((name.into(), Draft::default()));
        self.by_name.insert(name.into(), self.drafts.len() - 1);
        self.drafts.len() - 1
    }

    /// Notes the type of a column, also where it has no values.
    pub fn declare(&mut self, column: usize, kind: ColumnType) {
        self.drafts[column].1.declare(kind);
    }

    /// Sets a cell of the input that is pushed next.
    pub fn set(&mut self, column: usize, value: Scalar) {
        self.drafts[column].1.set(self.rows.uris.len(), value, &mut self.scratch);
    }

    /// Appends a file that the listing saw; without `meta` one that is not there.
    pub fn push_file(&mut self, uri: &str, meta: Option<&Metadata>) -> Result<()> {
        let row = self.rows.uris.len();
        if let Some(meta) = meta {
            self.rows.bytes.set(row, meta.len());
            self.rows.versions.set(row, modified(meta));
        }
        self.push(uri, None, None, None)
    }

    /// Appends an object of a store as it was listed.
    #[cfg_attr(not(feature = "cloud"), allow(dead_code))]
    pub fn push_object(&mut self, uri: &str, bytes: u64, etag: Option<&str>) -> Result<()> {
        let row = self.rows.uris.len();
        self.rows.bytes.set(row, bytes);
        if let Some(etag) = etag {
            self.rows.etags.pad(row);
            self.rows.etags.push(etag);
        }
        self.push(uri, None, None, None)
    }

    /// Appends an input.
    pub fn push(&mut self, uri: &str, id: Option<&str>, start: Option<Rational>, end: Option<Rational>) -> Result<()> {
        let row = self.rows.uris.len();
        if u32::try_from(row).is_err() {
            return Err(Error::usage(format!("more than {} inputs: split the job by its lists", u32::MAX)));
        }
        if holds_password(uri) {
            return Err(Error::usage(format!(
                "a URL on {} holds a user or password, which would be written to the plan: leave it out",
                uri.rsplit('@').next().and_then(|rest| rest.split('/').next()).unwrap_or_default()
            )));
        }
        self.namer.key(uri, &mut self.key)?;
        let identity = self.namer.identity(uri, &self.key, id, start, end)?;
        if start.is_some() || end.is_some() {
            self.rows.wholes.set(row, self.namer.identity(uri, &self.key, id, None, None)?);
        }
        self.rows.uris.push(uri);
        self.rows.identities.push(identity);
        for (times, time) in [(&mut self.rows.starts, start), (&mut self.rows.ends, end)] {
            if let Some(time) = time {
                times.set(row, (time.num(), time.den()));
            }
        }
        Ok(())
    }

    /// Takes each input once, in the order and up to the number that `spec` asks for.
    pub fn finish(mut self, spec: &InputSpec, seed: u64) -> Result<Inputs> {
        self.check_columns(spec)?;
        let duplicates = self.duplicates()?;
        let listed = self.rows.uris.len();
        let mut order: Vec<u32> = match duplicates.is_empty() {
            true => (0..listed as u32).collect(),
            false => (0..listed as u32).filter(|row| duplicates.binary_search(row).is_err()).collect(),
        };
        if spec.shuffle {
            let identities = &self.rows.identities;
            order.sort_by_cached_key(|row| {
                let identity = identities[*row as usize];
                (order_key(seed, identity), identity)
            });
        }
        if let Some(limit) = spec.limit {
            order.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        order.shrink_to_fit();
        self.rows.uris.shrink();
        self.rows.etags.shrink();
        self.rows.identities.shrink_to_fit();
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        // One after the other, each text dropped before the next is turned into numbers.
        for (name, draft) in self.drafts {
            let (kind, done) = draft.finish();
            columns.push(Column { name, kind });
            values.push(done);
        }
        let counts = Counts { listed: listed as u64, ignored: self.ignored, duplicates: duplicates.len() as u64 };
        Ok(Inputs { rows: self.rows, order, columns, values, splitter: Splitter::new(&spec.split), counts })
    }

    /// Columns that the job names must be there, unless there is no input at all.
    fn check_columns(&self, spec: &InputSpec) -> Result<()> {
        if self.rows.uris.len() == 0 {
            return Ok(());
        }
        let columns = || {
            let names: Vec<&str> = self.drafts.iter().map(|(name, _)| name.as_str()).collect();
            if names.is_empty() {
                "no list has columns of its own".into()
            } else {
                format!("they have {}", names.join(", "))
            }
        };
        for field in &spec.field {
            if !self.by_name.contains_key(&field.column) {
                return Err(Error::usage(format!(
                    "--field {field}: no list has a column {} (uri, start and end are none): {}",
                    field.column,
                    columns()
                )));
            }
        }
        match &spec.id_column {
            Some(id) if !self.has_ids => {
                Err(Error::usage(format!("--id-column {id}: no list has a column {id}: {}", columns())))
            }
            _ => Ok(()),
        }
    }

    /// Rows that repeat an earlier one, ascending. Another input of the same identity is an error.
    fn duplicates(&mut self) -> Result<Vec<u32>> {
        // Sorted pairs take a third of the memory of a hash map.
        let identities = self.rows.identities.iter().zip(0u32..);
        let mut rows: Vec<(u64, u32)> = identities.map(|(identity, row)| (*identity, row)).collect();
        rows.sort_unstable();
        let mut duplicates = Vec::new();
        for same in rows.chunk_by(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
            let first = same[0].1 as usize;
            let mut key = Vec::new();
            self.namer.key(self.rows.uris.get(first), &mut key)?;
            for (identity, row) in &same[1..] {
                let other = *row as usize;
                self.namer.key(self.rows.uris.get(other), &mut self.key)?;
                if key != self.key || self.part(first) != self.part(other) {
                    return Err(Error::usage(format!(
                        "two different inputs have the same identity {identity:016x}: {} and {}; give each an id of its \
                         own with --id-column, or leave it out to tell them by their URIs",
                        self.describe(first),
                        self.describe(other)
                    )));
                }
                duplicates.push(*row);
            }
        }
        duplicates.sort_unstable();
        Ok(duplicates)
    }

    fn part(&self, row: usize) -> (Option<Rational>, Option<Rational>) {
        (self.rows.starts.time(row), self.rows.ends.time(row))
    }

    fn describe(&self, row: usize) -> String {
        let uri = self.rows.uris.get(row);
        match self.part(row) {
            (None, None) => uri.into(),
            (start, end) => {
                let text = |time: Option<Rational>| time.map(|time| time.to_string()).unwrap_or_default();
                format!("{uri} [{}, {})", text(start), text(end))
            }
        }
    }
}
