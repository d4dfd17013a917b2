//! Where the data is mounted. Below a root, neither a job's fingerprint nor a plan depends on where the root lies: the
//! same job goes on where its data is mounted elsewhere.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::spec::{Http, InputSpec};
use super::uri::{Namer, file_uri, unsigned};
use crate::error::Result;

/// The root of a spec that was made [`portable`](InputSpec::portable): there is one, wherever.
const ANYWHERE: &str = "";

impl InputSpec {
    /// The spec as it enters a fingerprint: without the root's place, and what lies below the root relative to it; without
    /// how stores are reached and hosts are asked; without queries, which may be signed and stand in records and reports
    /// no more than in identities of inputs. The version of an object stays.
    pub fn portable(&self) -> Result<InputSpec> {
        let http = Http { per_host: Http::default().per_host, ..self.http.clone() };
        let uri = self.uri.iter().map(|uri| unsigned(uri)).collect();
        let spec = InputSpec { uri, store: Default::default(), http, ..self.clone() };
        spec.relative()
    }

    fn relative(self) -> Result<InputSpec> {
        let Some(root) = self.mounted() else { return Ok(self) };
        let (namer, mut key) = (Namer::new(Some(root))?, Vec::new());
        let relative = |uri: &String| {
            namer.key(uri, &mut key)?;
            Ok(match namer.below(&key).map(String::from_utf8_lossy) {
                None => uri.clone(),
                Some(below) if below.is_empty() => ".".into(),
                Some(below) => below.into_owned(),
            })
        };
        let uri = self.uri.iter().map(relative).collect::<Result<_>>()?;
        Ok(InputSpec { uri, root: Some(ANYWHERE.into()), ..self })
    }

    /// The root, where it is known.
    pub fn mounted(&self) -> Option<&str> {
        self.root.as_deref().filter(|root| *root != ANYWHERE)
    }
}

/// A root as an absolute place.
pub fn absolute_root(root: &str) -> Result<String> {
    Ok(text(Namer::new(Some(root))?.root().to_vec()))
}

/// The way from the root that a plan was made under to where that is mounted now.
#[derive(Debug)]
pub struct Mount {
    from: Namer,
    to: Vec<u8>,
}

impl Mount {
    /// `None` where both are the same place.
    pub fn new(from: &str, to: &str) -> Result<Option<Mount>> {
        let (from, to) = (Namer::new(Some(from))?, Namer::new(Some(to))?.root().to_vec());
        Ok((from.root() != to).then_some(Mount { from, to }))
    }

    /// Where to find what lay at `uri`; what did not lie below the old root stays where it was.
    pub fn place(&self, uri: &str) -> Result<String> {
        let mut key = Vec::new();
        self.from.key(uri, &mut key)?;
        Ok(match self.from.below(&key) {
            None => uri.into(),
            Some(below) => text([&self.to, b"/".as_slice(), below].concat()),
        })
    }
}

/// A key as a URI: itself, unless it is no text.
fn text(key: Vec<u8>) -> String {
    String::from_utf8(key).unwrap_or_else(|e| file_uri(Path::new(&OsString::from_vec(e.into_bytes()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(root: Option<&str>, uris: &[&str]) -> InputSpec {
        InputSpec {
            uri: uris.iter().map(|u| u.to_string()).collect(),
            root: root.map(Into::into),
            ..Default::default()
        }
    }

    #[test]
    fn below_a_root_its_place_does_not_matter() {
        let a = spec(Some("/mnt/a/"), &["/mnt/a", "/mnt/a/x/**/*.mp4", "file:///mnt/a/p%20q", "/lists/l.csv"]);
        let b = spec(Some("s3://b/c"), &["s3://b/c", "s3://b/c/x/**/*.mp4", "s3://b/c/p q", "/lists/l.csv"]);
        let portable = a.portable().unwrap();
        assert_eq!(portable, b.portable().unwrap());
        assert_eq!(portable.uri, [".", "x/**/*.mp4", "p q", "/lists/l.csv"]);
        assert_eq!(portable.portable().unwrap(), portable, "once is enough");
        assert!(a.mounted().is_some() && portable.mounted().is_none());
        // That there is a root decides identities; without one every place matters.
        assert_ne!(portable, spec(None, &[".", "x/**/*.mp4", "p q", "/lists/l.csv"]).portable().unwrap());
        assert_ne!(spec(None, &["/mnt/a/x"]).portable().unwrap(), spec(None, &["/mnt/b/x"]).portable().unwrap());
    }

    #[test]
    fn signatures_are_no_part_of_a_job() {
        let signed =
            ["https://h/a.jpg?X-Amz-Signature=S", "s3://b/a?sig=S", "file:///a?S", "/a?b.jpg", "s3://b/a?b.jpg"];
        let portable = spec(None, &signed).portable().unwrap();
        assert_eq!(portable.uri, ["https://h/a.jpg", "s3://b/a", "file:///a", "/a?b.jpg", "s3://b/a?b.jpg"]);
        let kept =
            ["s3://b/a?versionId=1", "gs://b/a?generation=1", "s3://b/a?versionId=1?versionId=", "https://h/a", "a"];
        let portable = spec(None, &kept).portable().unwrap();
        assert_eq!(portable.uri, kept);
        assert_eq!(portable.portable().unwrap(), portable);
    }

    #[test]
    fn what_lay_below_the_old_root_is_found_below_the_new_one() {
        let mount = Mount::new("/mnt/a", "/mnt/b/").unwrap().unwrap();
        assert_eq!(mount.place("/mnt/a/x/1.mp4").unwrap(), "/mnt/b/x/1.mp4");
        assert_eq!(mount.place("file:///mnt/a/%FF").unwrap(), "file:///mnt/b/%FF");
        assert_eq!(mount.place("/mnt/ab/1.mp4").unwrap(), "/mnt/ab/1.mp4");
        assert!(Mount::new("/mnt/a", "file:///mnt/a").unwrap().is_none());
        assert_eq!(absolute_root("/mnt/./a/").unwrap(), "/mnt/a");
    }
}
