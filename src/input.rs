//! Listing of the inputs: files, folders, globs and lists become one table of [`Item`]s.
//!
//! Promises:
//! - The same spec over the same files gives the same inputs in the same order, on every machine.
//! - Planning stays cheap: a row of a list costs no look at its file, a file in a folder one; all is held in columns,
//!   so that tens of millions fit in memory.
//! - An identity depends on the input alone: its id, or its URI without query, relative to the root if there is one,
//!   and the part asked for. Its place in a shuffled order follows from the identity and the seed, its split from the
//!   identity of the whole file: parts of one file never land in different splits.
//! - Nothing is passed over in silence: what is no media is counted, and so is what is listed twice; a row that cannot
//!   be understood, or two inputs of one identity, end the listing.

mod column;
mod kind;
mod lists;
mod mount;
mod pattern;
#[cfg(feature = "cloud")]
mod remote;
mod sources;
mod spec;
mod table;
mod uri;
mod walk;

use std::fs;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sample::Rational;
use crate::sink::record::Cell;

pub use mount::{Mount, absolute_root};
pub use sources::{Early, Expected, Life, Sources, read_whole};
pub use spec::{Field, Http, InputSpec, OptOut, Split, parse_splits};
pub use table::{Inputs, file_version};
pub use uri::{is_remote, local_path, named_like_photo, without_query};

/// One input as listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// As given, query included; of a row with a relative path, that behind the list's folder as given. A found file
    /// whose name is no text has a `file://` URI.
    pub uri: String,
    /// Tells it from all others of the dataset.
    pub identity: u64,
    /// Size in bytes, where the listing saw the file.
    pub bytes: Option<u64>,
    /// [`file_version`], or an object's etag, where the listing saw it.
    pub version: Option<String>,
    /// Start of the part asked for, in seconds.
    pub start: Option<Rational>,
    /// End of the part asked for, not included.
    pub end: Option<Rational>,
    /// Its split, as an index into [`InputSpec::split`].
    pub split: Option<usize>,
    /// Its values of [`Inputs::columns`].
    pub cells: Vec<Cell>,
}

/// What the listing met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Inputs named or found, each as often as it was; before the limit.
    pub listed: u64,
    /// Files found in folders or by globs that are no media. Hidden ones are not even looked at.
    pub ignored: u64,
    /// Inputs that were named or found before.
    pub duplicates: u64,
}

/// Lists all inputs. `seed` decides a shuffled order; `output` is the job's, a folder or prefix that is never searched
/// (files that are named in so many words are taken from there, too).
///
/// Errors: usage errors for what does not exist, cannot be read or cannot be understood; store errors.
pub fn list(spec: &InputSpec, seed: u64, output: Option<&str>) -> Result<Inputs> {
    spec.check()?;
    let sources = Sources::new(spec, LISTING_MEMORY, 1);
    let folder = output.filter(|output| !is_remote(output)).map(local_path).transpose()?;
    let excluded = walk::Excluded::new(folder.as_deref());
    let mut table = table::Table::new(uri::Namer::new(spec.root.as_deref())?);
    for uri in &spec.uri {
        if is_remote(uri) {
            sources.list(&mut table, spec, uri, output)?;
        } else {
            add(&mut table, spec, uri, &excluded)?;
        }
    }
    table.finish(spec, seed)
}

/// Whether an input of that name is a list of others.
pub fn is_list(uri: &str) -> bool {
    lists::Form::of(without_query(uri)).is_some()
}

/// Bytes that the reading of lists may take for its buffers.
const LISTING_MEMORY: u64 = 64 << 20;

/// Appends what one `--input` names.
fn add(table: &mut table::Table, spec: &InputSpec, uri: &str, excluded: &walk::Excluded) -> Result<()> {
    let path = local_path(uri)?;
    let style = if uri::scheme(uri).is_some() { walk::Style::FileUri } else { walk::Style::Plain };
    match fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => walk::folder(table, &path, style, excluded),
        Ok(meta) if !meta.is_file() => {
            Err(Error::usage(format!("the input {uri} is neither a file nor a folder: copy it into a file first")))
        }
        Ok(meta) => match lists::Form::of(without_query(uri)) {
            Some(form) => lists::read_local(table, spec, &path, form),
            None => table.push_file(uri, Some(&meta)),
        },
        Err(error) => match path.to_str() {
            // What exists by the letter is no pattern, whatever its name.
            Some(text) if pattern::has_wildcards(text) => glob(table, spec, uri, text, style, excluded),
            _ if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Err(Error::usage(format!("the input {uri} does not exist")))
            }
            _ => Err(Error::usage(format!("the input {uri} cannot be read: {error}"))),
        },
    }
}

/// Appends what a glob matches: the media among files, what is in folders, and the rows of lists where the pattern
/// itself ends as a list does.
fn glob(
    table: &mut table::Table,
    spec: &InputSpec,
    uri: &str,
    pattern: &str,
    style: walk::Style,
    excluded: &walk::Excluded,
) -> Result<()> {
    let matches = walk::matches(pattern, excluded)?;
    if matches.is_empty() && !spec.allow_empty {
        return Err(Error::usage(format!(
            "the input {uri} matches nothing: check the pattern (quoted from the shell?); --allow-empty lets it"
        )));
    }
    let form = lists::Form::of(pattern);
    for path in matches {
        match form {
            _ if path.is_dir() => walk::folder(table, &path, style, excluded)?,
            Some(form) => lists::read_local(table, spec, &path, form)?,
            None => walk::found(table, &path, style)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
