//! Object stores: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.
//!
//! Promises: one place turns a URI and its settings into a client, with the credentials that the clouds' own tools
//! would find; every call has a time limit and is retried, with jitter, while the store is only busy or away; no error
//! holds a secret, a signed query or a password of a URI.

#[cfg(feature = "cloud")]
mod aws;
#[cfg(feature = "cloud")]
mod client;
#[cfg(feature = "cloud")]
mod listing;
#[cfg(feature = "cloud")]
mod others;
#[cfg(feature = "cloud")]
mod runtime;
#[cfg(feature = "cloud")]
mod trouble;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

#[cfg(feature = "cloud")]
pub use client::{Cloud, USER_AGENT, key};
#[cfg(feature = "cloud")]
pub use listing::{Depth, Listed};
#[cfg(feature = "cloud")]
pub use runtime::{jittered, prepare_tls, spawn, wait, wait_ticking};
#[cfg(feature = "cloud")]
pub use trouble::{Trouble, redacted};

/// How a store is reached. What is left out is found as the cloud's own tools find it. Secrets have no place here: they
/// come from variables, profiles, files and roles.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the store's API is, as in "http://127.0.0.1:9000", instead of the cloud's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region of the bucket (S3).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The profile in ~/.aws/config and ~/.aws/credentials (S3); goes before variables with keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The storage account (Azure).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Requests are not signed: for public data.
    pub anonymous: bool,
    /// This user pays for the requests (S3, Google).
    pub requester_pays: bool,
    /// The project that pays where the requester does (Google).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_project: Option<String>,
    /// How the bucket is named in requests (S3): in the path, or in the host. In the path unless this says otherwise.
    pub addressing: Addressing,
    /// Seconds that one request may take.
    pub timeout_seconds: u64,
    /// Seconds during which a request that fails for a passing reason is tried again.
    pub retry_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            endpoint: None,
            region: None,
            profile: None,
            account: None,
            anonymous: false,
            requester_pays: false,
            user_project: None,
            addressing: Addressing::Path,
            timeout_seconds: 30,
            retry_seconds: 180,
        }
    }
}

impl Settings {
    /// Whether the parts can be meant; else a usage error.
    pub fn check(&self) -> Result<()> {
        if let Some(endpoint) = &self.endpoint
            && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
        {
            return Err(Error::usage(format!(
                "store.endpoint: expected a URL as in https://store.example.com:9000, not `{endpoint}`"
            )));
        }
        if self.endpoint.as_deref().is_some_and(|endpoint| endpoint.contains('@')) {
            return Err(Error::usage("store.endpoint holds a user or password: give those by variables or a profile"));
        }
        if self.timeout_seconds == 0 {
            return Err(Error::usage("store.timeout_seconds must be at least 1"));
        }
        if self.anonymous && self.profile.is_some() {
            return Err(Error::usage(
                "store.anonymous and store.profile exclude each other: requests are signed or not",
            ));
        }
        Ok(())
    }
}

/// Where S3 requests name the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// `https://host/bucket/key`.
    Path,
    /// `https://bucket.host/key`.
    Virtual,
}

/// The kinds of object stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `s3://`.
    S3,
    /// `gs://`.
    Google,
    /// `az://`.
    Azure,
}

impl Kind {
    /// The scheme of its URIs.
    pub fn scheme(self) -> &'static str {
        match self {
            Kind::S3 => "s3",
            Kind::Google => "gs",
            Kind::Azure => "az",
        }
    }

    /// What its queries call an object's version.
    fn version(self) -> &'static str {
        if self == Kind::Google { "generation" } else { "versionId" }
    }
}

/// What an object store's URI names. Such a URI is taken by the letter, as the clouds' tools do: `%41` is no `A`, and a
/// `?` belongs to the key, unless what follows asks for a version, as in `?versionId=x`, or is signed. An empty version is
/// the current one: behind it any key can be told by the letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// Which store.
    pub kind: Kind,
    /// Bucket or container.
    pub bucket: &'a str,
    /// What follows the slash behind it.
    pub key: &'a str,
    /// The version asked for by `?versionId=` (Google: `?generation=`).
    pub version: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// What `uri` names; `None` where it is no object store's.
    pub fn of(uri: &'a str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        let kinds = [Kind::S3, Kind::Google, Kind::Azure];
        let kind = kinds.into_iter().find(|kind| scheme.eq_ignore_ascii_case(kind.scheme()))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let (key, query) = key.rsplit_once('?').filter(|(_, query)| is_query(kind, query)).unwrap_or((key, ""));
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let version = pairs.find(|(key, _)| *key == kind.version()).map(|(_, value)| value);
        Some(Place { kind, bucket, key, version: version.filter(|version| !version.is_empty()) })
    }

    /// The URI of the current version of what `bare`, without a query, names by the letter: the same, unless its key ends
    /// like a query.
    pub fn literal(bare: &str) -> String {
        match Place::of(bare) {
            Some(place) if !bare.ends_with(place.key) => format!("{bare}?{}=", place.kind.version()),
            _ => bare.into(),
        }
    }

    /// [`Place::literal`] of `bare`, or the version that this place asks for.
    pub fn asked(&self, bare: &str) -> String {
        match self.version {
            Some(version) => format!("{bare}?{}={version}", self.kind.version()),
            None => Place::literal(bare),
        }
    }

    /// Whether the bucket's name can be one.
    pub fn is_bucket(&self) -> bool {
        let named = |c: char| c.is_ascii_alphanumeric() || "-_.$".contains(c);
        !self.bucket.is_empty() && self.bucket.chars().all(named)
    }
}

/// Names in queries of signed URLs. What was copied from one into an object's URI is as secret there.
const SIGNATURES: [&str; 3] = ["X-Amz-Signature", "X-Goog-Signature", "sig"];

/// Whether what follows a `?` is a query and no further part of a key: pairs of `name=value`, of which one asks for a
/// version or signs.
fn is_query(kind: Kind, text: &str) -> bool {
    let mut names = text.split('&').map(|pair| pair.split_once('=').map(|(name, _)| name));
    let known = |name: Option<&str>| name.is_some_and(|name| name == kind.version() || SIGNATURES.contains(&name));
    !text.contains('/') && names.clone().all(|name| name.is_some()) && names.any(known)
}

/// The refusal of `uri` by a program that was built without the feature `cloud`.
pub fn built_without(uri: &str) -> Error {
    let scheme = uri.split_once("://").map_or("", |(scheme, _)| scheme);
    Error::usage(format!(
        "{scheme}:// URIs need object stores and HTTP, but this framemill was built without cloud: build it with the \
         feature cloud, or mount or copy the files"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_taken_by_the_letter() {
        let place = Place::of("s3://b/a b/%41?.mp4").unwrap();
        assert_eq!((place.kind, place.bucket, place.key), (Kind::S3, "b", "a b/%41?.mp4"));
        assert_eq!(Place::of("GS://b").map(|p| (p.kind, p.bucket, p.key)), Some((Kind::Google, "b", "")));
        assert_eq!(Place::of("az://c/").map(|p| (p.kind, p.bucket, p.key)), Some((Kind::Azure, "c", "")));
        let versioned = Place::of("s3://b/a?b.mp4?versionId=x1").unwrap();
        assert_eq!((versioned.key, versioned.version), ("a?b.mp4", Some("x1")));
        let (key, version) =
            Place::of("s3://b/what?/a.mp4?X-Amz-Date=1&X-Amz-Signature=S").map(|p| (p.key, p.version)).unwrap();
        assert_eq!((key, version), ("what?/a.mp4", None));
        for key in
            ["q?x=1.jpg", "a.jpg?size=large.jpg", "a?versionId", "a?versionId=1/b", "a?v=1&versionId", "a?generation=1"]
        {
            let uri = format!("s3://b/{key}");
            assert_eq!(Place::of(&uri).map(|p| (p.key, p.version)), Some((key, None)));
            assert_eq!(Place::literal(&uri), uri);
        }
        let generation = Place::of("gs://b/a?generation=12").unwrap();
        assert_eq!((generation.key, generation.version), ("a", Some("12")));
        for other in ["https://b/k", "file:///k", "s3", "/s3://b"] {
            assert_eq!(Place::of(other), None, "{other}");
        }
    }

    #[test]
    fn every_key_has_a_uri() {
        for (uri, literal) in [
            ("s3://b/c?versionId=7.jpg", "s3://b/c?versionId=7.jpg?versionId="),
            ("s3://b/c?sig=x?versionId=", "s3://b/c?sig=x?versionId=?versionId="),
            ("gs://b/c?generation=7", "gs://b/c?generation=7?generation="),
            ("az://b/c?sig=1.jpg", "az://b/c?sig=1.jpg?versionId="),
            ("s3://b/c", "s3://b/c"),
            ("s3://b/", "s3://b/"),
            ("https://h/c?sig=1", "https://h/c?sig=1"),
        ] {
            assert_eq!(Place::literal(uri), literal);
            let key = uri.splitn(4, '/').last().unwrap();
            if let Some(place) = Place::of(literal) {
                assert_eq!((place.key, place.version), (key, None));
                assert_eq!(place.asked(uri), literal);
            }
        }
        assert_eq!(Place::of("s3://b/c?versionId=7").unwrap().asked("s3://b/c"), "s3://b/c?versionId=7");
    }

    #[test]
    fn settings_are_read_and_checked() {
        let settings: Settings = toml::from_str("endpoint = 'http://127.0.0.1:9000'\naddressing = 'virtual'").unwrap();
        assert!(settings.check().is_ok() && settings.addressing == Addressing::Virtual && !settings.anonymous);
        for bad in [
            "endpoint = '127.0.0.1:9000'",
            "endpoint = 'https://key:secret@host'",
            "timeout_seconds = 0",
            "anonymous = true\nprofile = 'x'",
        ] {
            let error = toml::from_str::<Settings>(bad).unwrap().check().unwrap_err();
            assert!(error.exit_code() == 2 && !error.message.contains("secret@"), "{bad}: {error}");
        }
        assert!(toml::from_str::<Settings>("secret_access_key = 'x'").is_err());
    }
}
