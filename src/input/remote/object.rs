//! Objects of stores: every range is asked under the condition that the object is still the one that was opened.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};

use super::{Expected, Fetch, HEAD, Later, Opened, Rest, as_expected, changed};
use crate::error::{Error, RejectKind, Result};
use crate::store::cloud::{self, Cloud, Place, Trouble};

/// One version of one object.
#[derive(Clone)]
struct Object {
    cloud: Arc<Cloud>,
    key: Path,
    uri: String,
    version: Option<String>,
    etag: Option<String>,
}

/// Opens the object that `uri` names with one request.
pub(super) fn open(cloud: Arc<Cloud>, uri: &str, expected: Expected) -> Result<Later<Result<Opened>>> {
    let bare = super::without_query(uri).to_string();
    let place = Place::of(uri).ok_or_else(|| Error::bug(format!("{bare} is no object's URI")))?;
    let key = cloud::key(place.key).ok().filter(|key| !key.is_root() && !place.key.ends_with('/'));
    let key = key.ok_or_else(|| {
        let text = format!("{bare}: no object can be asked for by this key (empty parts, . or .., control characters)");
        Error::input(RejectKind::Unsupported, text)
    })?;
    let object =
        Object { cloud, key, uri: bare, version: place.version.map(String::from), etag: expected.etag.clone() };
    Ok(Box::pin(object.opened(expected)))
}

impl Object {
    async fn opened(mut self, expected: Expected) -> Result<Opened> {
        let (len, head) = match expected.bytes {
            // There is no range of nothing.
            Some(0) => self.empty().await?,
            _ => match self.get(0..expected.bytes.map_or(HEAD, |bytes| bytes.min(HEAD))).await {
                Ok((len, etag, head)) => {
                    self.etag = etag;
                    (len, head)
                }
                Err(error) if error.to_string().contains("status code: 416") => self.empty().await?,
                Err(error) => return Err(self.rejected(&error)),
            },
        };
        as_expected(&self.uri, &expected, len, self.etag.as_deref())?;
        Ok(Opened { uri: self.uri.clone(), len, etag: self.etag.clone(), head, rest: Rest::Ranges(Arc::new(self)) })
    }

    /// Asks about an object that has no bytes.
    async fn empty(&mut self) -> Result<(u64, Bytes)> {
        let options = GetOptions { head: true, version: self.version.clone(), ..GetOptions::default() };
        let asked = self.cloud.again(|| self.cloud.store().get_opts(&self.key, options.clone())).await;
        let found = asked.map_err(|e| self.rejected(&e))?;
        self.etag = found.meta.e_tag;
        if found.meta.size == 0 {
            return Ok((0, Bytes::new()));
        }
        Err(changed(&self.uri, &format!("it had no bytes, now {}", found.meta.size)))
    }

    /// The whole object's size and etag, and the bytes of `range` as far as there are any.
    async fn get(&self, range: Range<u64>) -> object_store::Result<(u64, Option<String>, Bytes)> {
        self.cloud.again(|| self.get_once(range.clone())).await
    }

    async fn get_once(&self, range: Range<u64>) -> object_store::Result<(u64, Option<String>, Bytes)> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: self.etag.clone(),
            version: self.version.clone(),
            ..GetOptions::default()
        };
        let got = self.cloud.store().get_opts(&self.key, options).await?;
        let (len, etag) = (got.meta.size, got.meta.e_tag.clone());
        Ok((len, etag, got.bytes().await?))
    }

    async fn range(self, range: Range<u64>) -> Result<Bytes> {
        let (_, etag, bytes) = self.get(range).await.map_err(|e| self.rejected(&e))?;
        // Not every server heeds the condition.
        match (&self.etag, etag) {
            (Some(first), Some(now)) if *first != now => {
                Err(changed(&self.uri, &format!("its etag was {first}, now {now}")))
            }
            _ => Ok(bytes),
        }
    }

    /// What `error` means for this input, or for the run.
    fn rejected(&self, error: &object_store::Error) -> Error {
        let told = self.cloud.failed("read", &self.key, error);
        let kind = match Trouble::of(error) {
            Trouble::Missing | Trouble::NoBucket => RejectKind::Missing,
            Trouble::Forbidden => RejectKind::Forbidden,
            Trouble::Changed => return changed(&self.uri, "its etag is another one"),
            Trouble::Passing | Trouble::Exists | Trouble::Lasting => RejectKind::Io,
            // Not this input's fault: every other one would be rejected as well.
            Trouble::Away | Trouble::Settings => return told,
        };
        Error::input(kind, told.message)
    }
}

impl Fetch for Object {
    fn fetch(&self, range: Range<u64>) -> Later<Result<Bytes>> {
        Box::pin(self.clone().range(range))
    }
}
