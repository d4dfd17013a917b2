//! Listing of object stores: prefixes as folders, globs, single objects; and what a URL names.
//!
//! Names alone tell which objects are media, since looking into each would be a request an object; what they are decoded
//! as is for their content to say. Listing gives sizes and etags, by which what changes later is noticed.

use std::cell::Cell;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::super::lists::{self, Form};
use super::super::pattern::{Part, has_wildcards, parts};
use super::super::spec::InputSpec;
use super::super::table::Table;
use super::super::walk::hidden;
use super::super::{kind, without_query};
use super::{Remote, is_http, spool};
use crate::error::{Error, Result};
use crate::store::cloud::{self, Cloud, Depth, Listed, Place, Trouble};

/// Appends what one `--input` names. `output` is the job's, which is never searched.
pub(in super::super) fn add(
    remote: &Remote,
    table: &mut Table,
    spec: &InputSpec,
    uri: &str,
    output: Option<&str>,
) -> Result<()> {
    let shown = without_query(uri);
    if is_http(uri) {
        if shown.ends_with('/') {
            return Err(Error::usage(format!(
                "the input {shown}: folders cannot be listed over HTTP: give a list of URLs"
            )));
        }
        return match Form::of(shown) {
            Some(form) => list(remote, table, spec, uri, form),
            None => table.push(uri, None, None, None),
        };
    }
    let place = Place::of(uri).ok_or_else(|| Error::bug(format!("{shown} is neither an object's URI nor a URL")))?;
    let cloud = remote.cloud(uri, &place)?;
    let bucket = Bucket { cloud: &cloud, scheme: scheme(uri), name: place.bucket, output, odd: Cell::default() };
    let key = place.key;
    bucket.path(key)?;
    if !(key.is_empty() || key.ends_with('/')) {
        // What exists by the letter is no pattern, whatever its name.
        if let Some(meta) = bucket.look(key)? {
            return match Form::of(shown) {
                Some(form) => list(remote, table, spec, uri, form),
                None => table.push_object(uri, meta.size, etag(&meta).as_deref()),
            };
        }
        if has_wildcards(key) {
            return glob(remote, table, spec, &bucket, shown, key);
        }
    }
    let folder = key.trim_end_matches('/');
    if bucket.is_output(folder) {
        return Err(Error::usage(format!("the input {shown} is the output: choose another output")));
    }
    let found = bucket.below(folder)?;
    if found.is_empty() && bucket.odd.get() == 0 && !key.is_empty() && !spec.allow_empty {
        return Err(Error::usage(format!(
            "the input {shown} does not exist: no object has this key or lies below it; --allow-empty lets it"
        )));
    }
    table.ignored += bucket.odd.get();
    found.iter().try_for_each(|meta| bucket.found(table, meta))
}

/// The etag as answers have it: Azure lists them without their quotes.
fn etag(meta: &ObjectMeta) -> Option<String> {
    let etag = meta.e_tag.as_deref()?;
    Some(if etag.ends_with('"') { etag.into() } else { format!("\"{etag}\"") })
}

fn scheme(uri: &str) -> &str {
    uri.split("://").next().unwrap_or_default()
}

/// Appends the rows of a list.
fn list(remote: &Remote, table: &mut Table, spec: &InputSpec, uri: &str, form: Form) -> Result<()> {
    let unread = |e: Error| if e.exit_code() == 3 { Error::usage(e.message).context("the list") } else { e };
    let file = spool::whole(remote, uri).map_err(unread)?;
    lists::read(table, spec, file, without_query(uri), form)
}

/// A bucket while it is listed.
struct Bucket<'a> {
    cloud: &'a Arc<Cloud>,
    /// As the input has it.
    scheme: &'a str,
    name: &'a str,
    output: Option<&'a str>,
    /// Objects, or folders of them, that were listed but cannot be addressed.
    odd: Cell<u64>,
}

impl Bucket<'_> {
    /// The object called `key`, if there is one.
    fn look(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let Ok(path) = cloud::key(key) else { return Ok(None) };
        match self.cloud.wait(self.cloud.again(|| self.cloud.store().head(&path))) {
            Ok(meta) => Ok(Some(meta)),
            // Who may not list is told "forbidden" of what is not there, too.
            Err(e) if matches!(Trouble::of(&e), Trouble::Missing | Trouble::Forbidden) => Ok(None),
            Err(e) => Err(self.cloud.failed("look at", &path, &e)),
        }
    }

    /// Objects below `folder`, in the bytewise order of their keys.
    fn below(&self, folder: &str) -> Result<Vec<ObjectMeta>> {
        let mut listed = self.listed(folder, Depth::All)?.objects;
        listed.retain(|meta| self.is_visible(folder, meta));
        Ok(listed)
    }

    /// Objects and folders right below `folder`.
    fn level(&self, folder: &str) -> Result<(Vec<ObjectMeta>, Vec<String>)> {
        let listed = self.listed(folder, Depth::One)?;
        Ok((listed.objects, listed.folders.into_iter().map(String::from).collect()))
    }

    fn listed(&self, folder: &str, depth: Depth) -> Result<Listed> {
        let path = self.path(folder)?;
        let listed =
            self.cloud.wait(self.cloud.list(&path, depth)).map_err(|e| self.cloud.failed("list", &path, &e))?;
        self.odd.set(self.odd.get() + listed.odd.len() as u64);
        Ok(listed)
    }

    fn path(&self, key: &str) -> Result<Path> {
        cloud::key(key).map_err(|e| e.context(format!("{}://{}/{key}", self.scheme, self.name)))
    }

    /// Neither hidden below `folder` nor in the output, nor the mark of an empty folder.
    fn is_visible(&self, folder: &str, meta: &ObjectMeta) -> bool {
        let key = meta.location.as_ref();
        let below = key.strip_prefix(folder).unwrap_or(key);
        let is_hidden = below.split('/').any(|part| hidden(part.as_bytes()));
        !is_hidden && !below.is_empty() && !self.is_output_of(key)
    }

    /// Whether `folder` is the output.
    fn is_output(&self, folder: &str) -> bool {
        self.output_key().is_some_and(|output| output == folder)
    }

    fn is_output_of(&self, key: &str) -> bool {
        self.output_key().is_some_and(|output| {
            key.strip_prefix(output).is_some_and(|rest| output.is_empty() || rest.starts_with('/'))
        })
    }

    /// The output's key, where it lies in this bucket.
    fn output_key(&self) -> Option<&str> {
        let output = Place::of(self.output?)?;
        (output.kind == self.cloud.kind() && output.bucket == self.name).then(|| output.key.trim_matches('/'))
    }

    fn uri(&self, key: &Path) -> String {
        Place::literal(&format!("{}://{}/{key}", self.scheme, self.name))
    }

    /// Appends an object that was found if it is media, else counts it.
    fn found(&self, table: &mut Table, meta: &ObjectMeta) -> Result<()> {
        if kind::is_media_name(meta.location.as_ref(), meta.size) {
            return table.push_object(&self.uri(&meta.location), meta.size, etag(meta).as_deref());
        }
        table.ignored += 1;
        Ok(())
    }
}

/// Appends what a glob matches: as on disk, the media among objects, what is in folders, and the rows of lists where the
/// pattern itself ends as a list does.
fn glob(
    remote: &Remote,
    table: &mut Table,
    spec: &InputSpec,
    bucket: &Bucket,
    shown: &str,
    pattern: &str,
) -> Result<()> {
    let parts = parts(pattern)?;
    let mut search = Search { bucket, files_only: parts.contains(&Part::Recursive), found: Vec::new() };
    search.expand("", &parts)?;
    let mut found = search.found;
    found.sort_unstable_by(|a, b| a.location.as_ref().cmp(b.location.as_ref()));
    found.dedup_by(|a, b| a.location == b.location);
    table.ignored += bucket.odd.get();
    if found.is_empty() && bucket.odd.get() == 0 && !spec.allow_empty {
        return Err(Error::usage(format!(
            "the input {shown} matches nothing: check the pattern (quoted from the shell?); --allow-empty lets it"
        )));
    }
    let form = Form::of(pattern);
    for meta in found {
        match form.filter(|form| Form::of(meta.location.as_ref()) == Some(*form)) {
            Some(form) => list(remote, table, spec, &bucket.uri(&meta.location), form)?,
            None => bucket.found(table, &meta)?,
        }
    }
    Ok(())
}

struct Search<'a> {
    bucket: &'a Bucket<'a>,
    files_only: bool,
    found: Vec<ObjectMeta>,
}

impl Search<'_> {
    fn expand(&mut self, folder: &str, parts: &[Part]) -> Result<()> {
        let join = |name: &str| if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
        match parts {
            [] => {
                self.found.extend(self.bucket.below(folder)?);
                Ok(())
            }
            [Part::Literal(name)] => {
                self.found.extend(self.bucket.look(&join(name))?);
                if !self.files_only { self.expand(&join(name), &[]) } else { Ok(()) }
            }
            [Part::Literal(name), rest @ ..] => self.expand(&join(name), rest),
            [Part::Recursive, ..] => {
                let below = self.bucket.below(folder)?;
                let names = |meta: &ObjectMeta| {
                    let below = meta.location.as_ref()[folder.len()..].trim_start_matches('/').to_string();
                    below.split('/').map(String::from).collect::<Vec<_>>()
                };
                self.found.extend(below.into_iter().filter(|meta| fits(parts, &names(meta))));
                Ok(())
            }
            [part @ Part::Glob(_), rest @ ..] => {
                let (objects, folders) = self.bucket.level(folder)?;
                let last = |key: &str| key.rsplit('/').next().is_some_and(|name| part.matches(name));
                if rest.is_empty() {
                    let wanted = |meta: &ObjectMeta| {
                        last(meta.location.as_ref()) && !self.bucket.is_output_of(meta.location.as_ref())
                    };
                    let objects: Vec<_> = objects.into_iter().filter(wanted).collect();
                    self.found.extend(objects);
                }
                for below in folders.iter().filter(|key| last(key)) {
                    if !(rest.is_empty() && self.files_only) {
                        self.expand(below, rest)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Whether all of `names`, the parts of a key, match `parts`.
fn fits(parts: &[Part], names: &[String]) -> bool {
    match (parts, names) {
        ([], []) => true,
        ([Part::Recursive, rest @ ..], _) => {
            fits(rest, names)
                || names.split_first().is_some_and(|(name, more)| Part::Recursive.matches(name) && fits(parts, more))
        }
        ([part, rest @ ..], [name, more @ ..]) => part.matches(name) && fits(rest, more),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_are_quoted_whoever_lists_them() {
        let meta = |e_tag: &str| ObjectMeta {
            location: Path::from("a"),
            last_modified: Default::default(),
            size: 1,
            e_tag: Some(e_tag.into()),
            version: None,
        };
        for (listed, wanted) in [("0x1", "\"0x1\""), ("\"a-2\"", "\"a-2\""), ("W/\"a\"", "W/\"a\"")] {
            assert_eq!(etag(&meta(listed)).as_deref(), Some(wanted));
        }
    }

    #[test]
    fn patterns_match_as_on_disk() {
        let fits = |pattern: &str, key: &str| {
            let names: Vec<String> = key.split('/').map(String::from).collect();
            fits(&parts(pattern).unwrap(), &names)
        };
        for (pattern, key) in [
            ("**/*.mp4", "a.mp4"),
            ("**/*.mp4", "x/y/a.mp4"),
            ("raw/**/*.mp4", "raw/a.mp4"),
            ("raw/**", "raw/x/a"),
            ("**/cam?/*", "x/cam1/a"),
            ("**/.hidden/*", "x/.hidden/a"),
        ] {
            assert!(fits(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in [
            ("**/*.mp4", ".x/a.mp4"),
            ("**/*.mp4", "x/.a.mp4"),
            ("raw/**/*.mp4", "raws/a.mp4"),
            ("**/cam?/*", "x/cam12/a"),
            ("**/*.mp4", "a.mp4/x"),
        ] {
            assert!(!fits(pattern, key), "{pattern} {key}");
        }
        assert_eq!(parts("a[").unwrap_err().exit_code(), 2);
    }
}
