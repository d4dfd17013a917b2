//! Finding files: folders, walked in the bytewise order of their paths, and globs.
//!
//! Hidden files and folders and the job's own output are passed over; a symbolic link that leads back to a folder above
//! itself ends there.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::kind;
use super::pattern::{Part, parts};
use super::table::Table;
use super::uri::file_uri;
use crate::error::{Error, Result};

/// A folder on its device, however it is called.
type Inode = (u64, u64);

fn inode(meta: &Metadata) -> Inode {
    (meta.dev(), meta.ino())
}

/// How found paths become URIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// As paths, except where a name is no text.
    Plain,
    /// As `file://` URIs, as the folder was given.
    FileUri,
}

impl Style {
    pub fn uri(self, path: &Path) -> Result<String> {
        match path.to_str() {
            Some(text) if self == Style::Plain => Ok(text.into()),
            _ => {
                let path = std::path::absolute(path).map_err(|e| unreadable("find", path, &e))?;
                Ok(file_uri(&path))
            }
        }
    }
}

fn unreadable(verb: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::usage(format!(
        "cannot {verb} {}: {error}; no input was taken: make it readable or leave it out",
        path.display()
    ))
}

/// The output folder, which is never searched.
pub(super) struct Excluded(Option<Inode>);

impl Excluded {
    /// A folder that does not exist cannot be met either.
    pub fn new(folder: Option<&Path>) -> Self {
        Excluded(folder.and_then(|folder| fs::metadata(folder).ok()).map(|meta| inode(&meta)))
    }

    fn is(&self, folder: Inode) -> bool {
        self.0 == Some(folder)
    }
}

pub(super) fn hidden(name: &[u8]) -> bool {
    name.first() == Some(&b'.')
}

/// Appends the media in a folder and the folders below it.
pub(super) fn folder(table: &mut Table, path: &Path, style: Style, excluded: &Excluded) -> Result<()> {
    let meta = fs::metadata(path).map_err(|e| unreadable("list", path, &e))?;
    if excluded.is(inode(&meta)) {
        return Err(Error::usage(format!(
            "the input folder {} is the output folder: choose another output",
            path.display()
        )));
    }
    walk(table, path, style, excluded, &mut vec![inode(&meta)])
}

/// `above` holds this folder and those above it.
fn walk(table: &mut Table, folder: &Path, style: Style, excluded: &Excluded, above: &mut Vec<Inode>) -> Result<()> {
    // A folder counts as its name with a slash: then the order is that of the whole paths.
    let mut entries: Vec<(Vec<u8>, Option<Inode>)> = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| unreadable("list", folder, &e))? {
        let entry = entry.map_err(|e| unreadable("list", folder, &e))?;
        let mut name = entry.file_name().into_vec();
        if hidden(&name) {
            continue;
        }
        let kind = entry.file_type().map_err(|e| unreadable("list", &entry.path(), &e))?;
        let meta = (kind.is_dir() || kind.is_symlink()).then(|| fs::metadata(entry.path())).transpose();
        let subfolder = match meta {
            Ok(None) => None,
            Ok(Some(meta)) => meta.is_dir().then(|| inode(&meta)),
            Err(e) if kind.is_dir() => return Err(unreadable("list", &entry.path(), &e)),
            // A broken link is a file that is not there.
            Err(_) => None,
        };
        if subfolder.is_some() {
            name.push(b'/');
        }
        entries.push((name, subfolder));
    }
    entries.sort_unstable();
    for (mut name, subfolder) in entries {
        match subfolder {
            None => found(table, &folder.join(OsString::from_vec(name)), style)?,
            Some(inode) if excluded.is(inode) || above.contains(&inode) => {}
            Some(inode) => {
                name.pop();
                above.push(inode);
                walk(table, &folder.join(OsString::from_vec(name)), style, excluded, above)?;
                above.pop();
            }
        }
    }
    Ok(())
}

/// Appends a file that was found if it is media, else counts it.
pub(super) fn found(table: &mut Table, path: &Path, style: Style) -> Result<()> {
    let meta = if kind::is_media(path) { fs::metadata(path).ok() } else { return ignore(table) };
    match meta {
        // A pipe or device with a media name.
        Some(meta) if !meta.is_file() => ignore(table),
        meta => table.push_file(&style.uri(path)?, meta.as_ref()),
    }
}

fn ignore(table: &mut Table) -> Result<()> {
    table.ignored += 1;
    Ok(())
}

/// What matches a glob, in the bytewise order of the paths. Wildcards match no hidden names, unless the pattern has the
/// dot, too. With `**` only files count, because folders stand for all that is below them.
pub(super) fn matches(pattern: &str, excluded: &Excluded) -> Result<Vec<PathBuf>> {
    let parts = parts(pattern)?;
    let recursive = parts.contains(&Part::Recursive);
    let start = if pattern.starts_with('/') { "/" } else { "" };
    let mut search = Search { excluded, files_only: recursive, out: BTreeSet::new() };
    search.expand(Path::new(start), &parts, &mut Vec::new())?;
    Ok(search.out.into_iter().map(|path| PathBuf::from(OsString::from_vec(path))).collect())
}

struct Search<'a> {
    excluded: &'a Excluded,
    files_only: bool,
    out: BTreeSet<Vec<u8>>,
}

impl Search<'_> {
    /// `above` holds the folders that a `**` went through.
    fn expand(&mut self, folder: &Path, parts: &[Part], above: &mut Vec<Inode>) -> Result<()> {
        let Some((part, rest)) = parts.split_first() else { return Ok(()) };
        let pattern = match part {
            Part::Literal(name) => return self.step(folder.join(name), rest, above),
            Part::Glob(pattern) => Some(pattern),
            Part::Recursive => None,
        };
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        if pattern.is_none() {
            let own = inode(&fs::metadata(here).map_err(|e| unreadable("list", here, &e))?);
            above.push(own);
            self.expand(folder, rest, above)?;
        }
        for entry in fs::read_dir(here).map_err(|e| unreadable("list", here, &e))? {
            let entry = entry.map_err(|e| unreadable("list", here, &e))?;
            let name = entry.file_name();
            let path = folder.join(&name);
            let dotted = pattern.is_some_and(|pattern| pattern.as_str().starts_with('.'));
            if hidden(name.as_bytes()) && !dotted {
                continue;
            }
            if let Some(pattern) = pattern {
                // What is no text can still be met by a `*`.
                if pattern.matches(&name.to_string_lossy()) && !self.is_excluded(&path) {
                    self.step(path, rest, above)?;
                }
                continue;
            }
            let kind = entry.file_type().map_err(|e| unreadable("list", &path, &e))?;
            if !kind.is_dir() && !kind.is_symlink() {
                continue;
            }
            let Some(meta) = fs::metadata(&path).ok().filter(Metadata::is_dir) else { continue };
            let inode = inode(&meta);
            if !self.excluded.is(inode) && !above.contains(&inode) {
                self.expand(&path, parts, above)?;
            }
        }
        if pattern.is_none() {
            above.pop();
        }
        Ok(())
    }

    fn step(&mut self, path: PathBuf, rest: &[Part], above: &mut Vec<Inode>) -> Result<()> {
        match rest {
            [] if fs::symlink_metadata(&path).is_err() || (self.files_only && path.is_dir()) => Ok(()),
            [] => {
                self.out.insert(path.into_os_string().into_vec());
                Ok(())
            }
            _ if path.is_dir() => self.expand(&path, rest, above),
            _ => Ok(()),
        }
    }

    fn is_excluded(&self, path: &Path) -> bool {
        self.excluded.0.is_some()
            && fs::metadata(path).is_ok_and(|meta| meta.is_dir() && self.excluded.is(inode(&meta)))
    }
}
