//! URIs: what is a query, which local file one means, and the identity that follows from it.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::kind;
use crate::error::{Error, Result};
use crate::sample::Rational;
use crate::store::cloud::Place;

/// The scheme of `scheme://...`; `None` for plain paths.
pub(super) fn scheme(uri: &str) -> Option<&str> {
    let (scheme, _) = uri.split_once("://")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(plain)).then_some(scheme)
}

fn is_file(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("file")
}

/// `uri` without its query. A `?` in a plain path belongs to the name, and so it does in an object's key, unless a
/// query follows (see [`Place`]).
pub fn without_query(uri: &str) -> &str {
    if let Some(place) = Place::of(uri) {
        let slash = usize::from(!place.key.is_empty() || uri.ends_with('/'));
        let len = place.kind.scheme().len() + "://".len() + place.bucket.len() + slash + place.key.len();
        return uri.get(..len).unwrap_or(uri);
    }
    match scheme(uri) {
        Some(_) => uri.split_once('?').map_or(uri, |(before, _)| before),
        None => uri,
    }
}

/// `uri` without its query, unless that names an object's version.
pub(super) fn unsigned(uri: &str) -> String {
    let bare = without_query(uri);
    Place::of(uri).map_or_else(|| bare.into(), |place| place.asked(bare))
}

/// Whether `uri` is none of a local file, but one that is read over the network.
pub fn is_remote(uri: &str) -> bool {
    scheme(uri).is_some_and(|scheme| {
        Place::of(uri).is_some() || scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    })
}

/// What a relative row of a list in the remote `folder` names, `.` and `..` resolved by the letter; `None` where it leads
/// above the bucket or host.
#[cfg(feature = "cloud")]
pub(super) fn joined(folder: &str, row: &str) -> Option<String> {
    let (scheme, rest) = folder.split_once("://")?;
    let mut parts: Vec<&str> = rest.split('/').collect();
    for part in row.split('/') {
        match part {
            "." => {}
            ".." if parts.len() > 1 => {
                parts.pop();
            }
            ".." => return None,
            part => parts.push(part),
        }
    }
    Some(format!("{scheme}://{}", parts.join("/")))
}

/// Whether a URL names a user before its host.
pub(super) fn holds_password(uri: &str) -> bool {
    let authority = scheme(uri).map(|scheme| &uri[scheme.len() + "://".len()..]).map(|rest| {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        &rest[..end]
    });
    is_remote(uri) && authority.is_some_and(|authority| authority.contains('@'))
}

/// Whether the name ends like a still photo's, so that planning need not look inside. What it is decoded as is for the
/// content to say.
pub fn named_like_photo(uri: &str) -> bool {
    kind::photo_name(without_query(uri).as_bytes())
}

/// The path of a local `uri`: a plain path as it is, or what a `file://` URI means.
///
/// Errors: [`Error::usage`] for any other scheme or another host's files.
pub fn local_path(uri: &str) -> Result<PathBuf> {
    local_bytes(uri).map(|bytes| PathBuf::from(OsString::from_vec(bytes.into_owned())))
}

fn local_bytes(uri: &str) -> Result<Cow<'_, [u8]>> {
    let Some(scheme) = scheme(uri) else {
        return match uri {
            "" => Err(Error::usage("an empty URI names no file")),
            path => Ok(Cow::Borrowed(path.as_bytes())),
        };
    };
    let rest = &without_query(uri)[scheme.len() + "://".len()..];
    if !is_file(scheme) {
        return Err(Error::usage(format!(
            "{}: no local file, and {scheme}:// is not known: give a path, or file://, s3://, gs://, az:// or https://",
            without_query(uri)
        )));
    }
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if !(host.is_empty() || host.eq_ignore_ascii_case("localhost")) || path.is_empty() {
        return Err(Error::usage(format!(
            "{uri}: expected a local file as in file:///folder/name, with three slashes"
        )));
    }
    Ok(Cow::Owned(percent_decoded(path)))
}

/// `%41` becomes `A`; a `%` without two hex digits stays.
fn percent_decoded(text: &str) -> Vec<u8> {
    let (bytes, mut out, mut i) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    let hex = |i: usize| bytes.get(i).and_then(|b| char::from(*b).to_digit(16));
    while i < bytes.len() {
        match (bytes[i], hex(i + 1), hex(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                i += 3;
            }
            (byte, ..) => {
                out.push(byte);
                i += 1;
            }
        }
    }
    out
}

/// The `file://` URI of an absolute path.
pub(super) fn file_uri(path: &Path) -> String {
    let mut out = String::from("file://");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Gives URIs their identity.
#[derive(Debug)]
pub(super) struct Namer {
    cwd: Vec<u8>,
    root: Option<Root>,
}

#[derive(Debug)]
struct Root {
    given: String,
    /// Without a slash at its end.
    key: Vec<u8>,
}

impl Namer {
    pub fn new(root: Option<&str>) -> Result<Self> {
        let cwd =
            std::env::current_dir().map_err(|e| Error::usage(format!("the current folder cannot be found: {e}")))?;
        let mut namer = Namer { cwd: cwd.into_os_string().into_vec(), root: None };
        if let Some(given) = root {
            let mut key = Vec::new();
            namer.key(given, &mut key).map_err(|e| e.context("--root"))?;
            while key.last() == Some(&b'/') {
                key.pop();
            }
            namer.root = Some(Root { given: given.into(), key });
        }
        Ok(namer)
    }

    /// Writes what tells `uri` from others: the absolute path of a local one, `.` and `..` resolved by the letter
    /// (symbolic links are not followed); any other URI without its query.
    pub fn key(&self, uri: &str, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        if scheme(uri).is_some_and(|scheme| !is_file(scheme)) {
            out.extend_from_slice(without_query(uri).as_bytes());
            return Ok(());
        }
        let path = local_bytes(uri)?;
        let base: &[u8] = if path.starts_with(b"/") { b"" } else { &self.cwd };
        for part in base.split(|b| *b == b'/').chain(path.split(|b| *b == b'/')) {
            match part {
                b"" | b"." => {}
                b".." => out.truncate(out.iter().rposition(|b| *b == b'/').unwrap_or(0)),
                _ => {
                    out.push(b'/');
                    out.extend_from_slice(part);
                }
            }
        }
        if out.is_empty() {
            out.push(b'/');
        }
        Ok(())
    }

    /// The root's key without a slash at its end; empty where there is no root.
    pub fn root(&self) -> &[u8] {
        self.root.as_ref().map_or(b"", |root| &root.key)
    }

    /// What [`Namer::key`] wrote, as a place below the root; `None` where it lies elsewhere or there is no root. Empty
    /// for the root itself.
    pub fn below<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let rest = key.strip_prefix(self.root.as_ref()?.key.as_slice())?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
    }

    /// First 8 bytes, big endian, of the SHA-256 of the `id`, else of the key relative to the root; a part's start and
    /// end follow on lines of their own. `key` is what [`Namer::key`] wrote for `uri`.
    pub fn identity(
        &self,
        uri: &str,
        key: &[u8],
        id: Option<&str>,
        start: Option<Rational>,
        end: Option<Rational>,
    ) -> Result<u64> {
        let name = match (id, &self.root) {
            (Some(id), _) => id.as_bytes(),
            (None, None) => key,
            (None, Some(root)) => self.below(key).filter(|below| !below.is_empty()).ok_or_else(|| {
                Error::usage(format!(
                    "{uri} does not lie below --root {}, so it has no identity there: choose a root above all inputs",
                    root.given
                ))
            })?,
        };
        let mut hash = Sha256::new_with_prefix(name);
        if start.is_some() || end.is_some() {
            let text = |time: Option<Rational>| time.map(|time| time.to_string()).unwrap_or_default();
            hash.update(format!("\n{}\n{}", text(start), text(end)));
        }
        let digest: [u8; 32] = hash.finalize().into();
        Ok(digest[..8].iter().fold(0, |id, byte| id << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namer: &Namer, uri: &str) -> String {
        let mut out = Vec::new();
        namer.key(uri, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn namer(cwd: &str, root: Option<&str>) -> Namer {
        let mut namer = Namer::new(root).unwrap();
        namer.cwd = cwd.into();
        namer
    }

    #[test]
    fn only_uris_with_a_scheme_have_a_query() {
        assert_eq!(without_query("s3://b/a.mp4?versionId=1"), "s3://b/a.mp4");
        assert_eq!(without_query("s3://b/what?.mp4"), "s3://b/what?.mp4");
        assert_eq!(without_query("s3://b/c?versionId=7.jpg?versionId="), "s3://b/c?versionId=7.jpg");
        assert_eq!(without_query("https://h/a.jpg?sig=x?y"), "https://h/a.jpg");
        assert_eq!(without_query("file:///a.mp4?x"), "file:///a.mp4");
        assert_eq!(without_query("/data/what?.mp4"), "/data/what?.mp4");
        assert_eq!(without_query("http.//a?b"), "http.//a?b");
        assert!(named_like_photo("https://h/a.JPG?size=1") && !named_like_photo("https://h/a.mp4?x=.jpg"));
    }

    #[cfg(feature = "cloud")]
    #[test]
    fn rows_of_remote_lists_stay_in_their_bucket() {
        let joined = |row: &str| joined("s3://b/lists/v1", row);
        assert_eq!(joined("a b.mp4").as_deref(), Some("s3://b/lists/v1/a b.mp4"));
        assert_eq!(joined("../../raw/./a.mp4").as_deref(), Some("s3://b/raw/a.mp4"));
        assert_eq!(joined("../../../other/a.mp4"), None);
    }

    #[test]
    fn users_in_urls_are_seen() {
        for uri in ["https://u:p@h/a", "http://u@h", "s3://k@b/a"] {
            assert!(holds_password(uri), "{uri}");
        }
        for uri in ["https://h/a@b", "https://h?x=a@b", "/a@b", "file://u@h/a", "s3://b/a@2x.png"] {
            assert!(!holds_password(uri), "{uri}");
        }
    }

    #[test]
    fn local_paths_are_decoded() {
        assert_eq!(local_path("a b%20?.mp4").unwrap(), Path::new("a b%20?.mp4"));
        assert_eq!(local_path("file:///a%20b%2Fc%zz.mp4?q").unwrap(), Path::new("/a b/c%zz.mp4"));
        assert_eq!(local_path("FILE://localhost/a").unwrap(), Path::new("/a"));
        for uri in ["s3://b/a.mp4", "https://h/a", "file://server/a", "file://"] {
            let error = local_path(uri).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.message.contains(uri), "{error}");
        }
        assert!(local_path("gs://b/a").unwrap_err().message.contains("no local file"));
    }

    #[test]
    fn file_uris_hold_any_name() {
        let path = PathBuf::from(OsString::from_vec(b"/a b/\xFF?#%41.mp4".to_vec()));
        assert_eq!(file_uri(&path), "file:///a%20b/%FF%3F%23%2541.mp4");
        assert_eq!(local_path(&file_uri(&path)).unwrap(), path);
    }

    #[test]
    fn keys_are_absolute_and_normal() {
        let namer = namer("/abs", None);
        for uri in ["a", "./a", "/abs/a", "/abs//./b/../a", "file:///abs/a", "../abs/a", "/../abs/a"] {
            assert_eq!(key(&namer, uri), "/abs/a", "{uri}");
        }
        assert_eq!(key(&namer, "s3://b/../a?versionId=1"), "s3://b/../a");
        assert_eq!(key(&namer, "/.."), "/");
    }

    #[test]
    fn identities_are_the_documented_hashes() {
        let namer = namer("/abs", None);
        let rational = |t: &str| Some(Rational::parse_time(t).unwrap());
        // printf '/abs/a.mp4' | sha256sum, and so on.
        for (key, id, start, end, expected) in [
            ("/abs/a.mp4", None, None, None, 0x12f9_ad76_3cc7_e421_u64),
            ("/abs/a.mp4", Some("x"), None, None, 0x2d71_1642_b726_b044),
            ("/abs/a.mp4", None, rational("1.5"), None, 0xb73c_1252_acf8_8f3d),
            ("/abs/a.mp4", None, rational("1.5"), rational("2"), 0x322f_2707_d2d0_e891),
        ] {
            let identity = namer.identity(key, key.as_bytes(), id, start, end).unwrap();
            assert_eq!(identity, expected, "{key} {id:?} {start:?}");
        }
    }

    #[test]
    fn roots_make_identities_relative() {
        let id = |root: Option<&str>, cwd: &str, uri: &str| {
            let namer = namer(cwd, root);
            namer.identity(uri, key(&namer, uri).as_bytes(), None, None, None)
        };
        let moved = id(Some("/mnt/x/"), "/", "/mnt/x/sub/a.mp4").unwrap();
        assert_eq!(moved, id(Some("file:///other"), "/other", "sub/a.mp4").unwrap());
        assert_eq!(moved, id(Some("s3://bucket/p"), "/", "s3://bucket/p/sub/a.mp4?versionId=1").unwrap());
        assert_eq!(moved, id(Some("/"), "/", "/sub/a.mp4").unwrap());
        assert_ne!(moved, id(None, "/mnt/x", "sub/a.mp4").unwrap());
        for (root, uri) in
            [("/mnt/x", "/mnt/xy/a"), ("/mnt/x", "/mnt/x"), ("s3://b", "/b/a"), ("/mnt/x", "/mnt/x/../a")]
        {
            let error = id(Some(root), "/", uri).unwrap_err();
            assert!(error.exit_code() == 2 && error.message.contains(root) && error.message.contains(uri), "{error}");
        }
    }
}
