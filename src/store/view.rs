//! Views: objects that are made from others, and made anew where these have become more.
//!
//! Promises: who has looked at a view before it read what the view is made of does not replace what another, who may have
//! read more, has written since, as far as [`Store::swap`] can tell.
//!
//! [`Store::swap`]: super::Store::swap

use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Object, Output, Version, file_digest, hex};
use crate::error::Result;

/// An object as it was when it was looked at.
#[derive(Debug)]
pub struct View<'a> {
    out: &'a Output,
    name: &'a str,
    seen: Option<Version>,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// What it is.
    pub object: Object,
    version: Option<Version>,
}

impl<'a> View<'a> {
    /// Looks at the object of this name.
    pub fn of(out: &'a Output, name: &'a str) -> Result<View<'a>> {
        Ok(View { out, name, seen: out.version(name)? })
    }

    /// The output that it lies in.
    pub fn out(&self) -> &'a Output {
        self.out
    }

    /// Puts a synced local file in its place; nothing where another has written something else since.
    pub fn put(&self, file: &Path) -> Result<Option<Written>> {
        let (bytes, sha256) = file_digest(file)?;
        let version = self.out.swap_file(file, self.name, self.seen.as_ref())?;
        self.settled(Object { path: self.name.into(), bytes, sha256 }, version)
    }

    /// The same with these bytes.
    pub fn write(&self, bytes: &[u8]) -> Result<Option<Written>> {
        let version = self.out.swap(self.name, bytes, self.seen.as_ref())?;
        let sha256 = hex(&Sha256::digest(bytes));
        self.settled(Object { path: self.name.into(), bytes: bytes.len() as u64, sha256 }, version)
    }

    /// Another may have written the same, or the reply was lost.
    fn settled(&self, object: Object, version: Option<Version>) -> Result<Option<Written>> {
        let done = version.is_some() || is(self.out, &object)?;
        Ok(done.then_some(Written { object, version }))
    }
}

impl Written {
    /// Whether it is still there.
    pub fn stands(&self, out: &Output) -> Result<bool> {
        let same = self.version.is_some() && out.version(&self.object.path)? == self.version;
        // Stores may tell the version of the same content in two ways.
        Ok(same || is(out, &self.object)?)
    }
}

/// Whether the object is there with just that content.
fn is(out: &Output, object: &Object) -> Result<bool> {
    Ok(out.size(&object.path)? == Some(object.bytes) && out.measure(&object.path)? == *object)
}
