//! Files behind HTTP: whoever gives them is somebody else's server, so it is asked politely, and not believed.
//!
//! A host gets few connections at a time, and the pause that it asks for. Failures that may pass are tried again, with
//! jitter; a body that breaks goes on where it broke. What the owner does not want used for training is left alone.

mod client;
mod judge;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use reqwest::Url;
use tokio::sync::Notify;

use super::super::spec::Http;
use super::room::{Room, Taken};
use super::{Expected, Fetch, HEAD, Later, Opened, Rest, as_expected, changed};
use crate::error::{Error, RejectKind, Result};
use crate::store::cloud::Settings;
pub(super) use client::{Asked, Stop};
use client::{Inner, Patience};
pub(super) use judge::size as too_large;

/// A client that is made when the first URL is opened.
pub(super) struct Client {
    settings: Settings,
    http: Http,
    room: Room,
    inner: OnceLock<Result<Arc<Inner>>>,
}

impl Client {
    pub fn new(settings: &Settings, http: &Http) -> Self {
        Client { settings: settings.clone(), http: http.clone(), room: Room::default(), inner: OnceLock::new() }
    }

    /// The same, with so many bytes for bodies that have to be whole on disk.
    pub fn within(self, limit: Option<u64>) -> Self {
        Client { room: Room::new(limit), ..self }
    }

    fn inner(&self) -> Result<Arc<Inner>> {
        self.inner.get_or_init(|| Inner::new(&self.settings, &self.http, self.room.clone()).map(Arc::new)).clone()
    }

    /// Opens what `uri` names with one request. What needs room on disk first waits until it is `wanted`: what is opened
    /// ahead must not take the room of what is needed now.
    pub fn open(&self, uri: &str, expected: Expected, wanted: Arc<Notify>) -> Result<Later<Result<Opened>>> {
        let shown = super::without_query(uri).to_string();
        let url = Url::parse(uri).ok().filter(Url::has_host);
        let url = url.ok_or_else(|| Error::input(RejectKind::Unsupported, format!("{shown} is no URL")))?;
        let file = File { inner: self.inner()?, url, uri: shown, len: 0, etag: None, modified: None };
        Ok(Box::pin(file.opened(expected, wanted)))
    }
}

/// One file behind HTTP.
#[derive(Clone)]
struct File {
    inner: Arc<Inner>,
    url: Url,
    /// For messages: without a query.
    uri: String,
    len: u64,
    etag: Option<String>,
    modified: Option<String>,
}

impl File {
    async fn opened(mut self, expected: Expected, wanted: Arc<Notify>) -> Result<Opened> {
        let mut patience = Patience::new(&self.inner);
        let (mut ranged, mut place) = (true, self.inner.room.free());
        loop {
            match self.try_open(&expected, ranged, &place).await {
                Ok(opened) => return Ok(opened),
                Err(Stop::Final(error)) => return Err(error),
                Err(Stop::NoRanges) if ranged => ranged = false,
                Err(Stop::NoRanges) => return Err(self.rejected("it refuses the request")),
                Err(Stop::Whole(len)) => {
                    wanted.notified().await;
                    place = Some(self.inner.room.take(&self.uri, len).await?);
                }
                Err(Stop::Again(why)) => patience.pause(&self.url, why).await.map_err(|e| self.rejected(&e))?,
            }
        }
    }

    fn rejected(&self, why: &str) -> Error {
        Error::input(RejectKind::Io, format!("{}: {why}; retry it later", self.uri))
    }

    async fn try_open(&mut self, expected: &Expected, ranged: bool, place: &Option<Taken>) -> Result<Opened, Stop> {
        let range = ranged.then_some(0..HEAD);
        let mut asked = self.inner.ask(&self.url, range, None).await?;
        judge::status(&self.uri, &asked)?;
        judge::opt_out(&self.uri, &asked, self.inner.honour)?;
        (self.etag, self.modified) = (asked.header("etag"), asked.header("last-modified"));
        let partial = asked.status() == 206;
        let total = if partial { asked.total().ok_or(Stop::NoRanges)? } else { asked.length().unwrap_or(0) };
        judge::size(&self.uri, total, self.inner.max_bytes)?;
        let mut head = Vec::new();
        asked.read(&mut head, HEAD).await?;
        judge::content(&self.uri, asked.header("content-type").as_deref(), &head)?;
        judge::encoding(&self.uri, asked.header("content-encoding").as_deref(), &head)?;
        let rest = if partial {
            if (head.len() as u64) < total.min(HEAD) {
                return Err(Stop::Again(client::Why::broken()));
            }
            self.len = total;
            Rest::Ranges(Arc::new(self.clone()))
        } else if asked.ended().await? {
            self.len = head.len() as u64;
            // All of it is in the head: nothing more will be asked.
            Rest::Ranges(Arc::new(self.clone()))
        } else {
            let place = place.as_ref().ok_or(Stop::Whole(asked.length()))?.clone();
            let (source, len) =
                super::spool::stream(&self.uri, &head, &mut asked, self.inner.max_bytes, &place).await?;
            self.len = len;
            Rest::File { source, _room: place }
        };
        as_expected(&self.uri, expected, self.len, self.etag.as_deref()).map_err(Stop::Final)?;
        Ok(Opened { uri: self.uri.clone(), len: self.len, etag: self.etag.clone(), head: head.into(), rest })
    }

    async fn range(self, range: Range<u64>) -> Result<Bytes> {
        let mut patience = Patience::new(&self.inner);
        let mut have = Vec::with_capacity((range.end - range.start) as usize);
        loop {
            let before = have.len();
            let why = match self.try_range(&range, &mut have).await {
                Ok(()) => return Ok(have.into()),
                Err(Stop::Final(error)) => return Err(error),
                Err(Stop::NoRanges | Stop::Whole(_)) => {
                    return Err(changed(&self.uri, "the server gives no parts of it any more"));
                }
                Err(Stop::Again(why)) => why,
            };
            if have.len() > before {
                patience = Patience::new(&self.inner);
            }
            patience.pause(&self.url, why).await.map_err(|e| self.rejected(&e))?;
        }
    }

    /// Appends what is missing of `range`, as far as it comes.
    async fn try_range(&self, range: &Range<u64>, have: &mut Vec<u8>) -> Result<(), Stop> {
        let missing = range.start + have.len() as u64..range.end;
        let condition = self.etag.as_deref().filter(|etag| !etag.starts_with("W/"));
        let mut asked = self.inner.ask(&self.url, Some(missing.clone()), condition).await?;
        if asked.status() == 412 {
            return Err(Stop::Final(changed(&self.uri, "its etag is another one")));
        }
        judge::status(&self.uri, &asked)?;
        self.same(&asked)?;
        if asked.status() != 206 {
            return Err(Stop::NoRanges);
        }
        asked.read(have, range.end - range.start - have.len() as u64).await?;
        if (have.len() as u64) < range.end - range.start { Err(Stop::Again(client::Why::broken())) } else { Ok(()) }
    }

    /// Whether the answer is about the file that was opened.
    fn same(&self, asked: &Asked) -> Result<(), Stop> {
        let marks = [
            ("etag", &self.etag, asked.header("etag")),
            ("time of change", &self.modified, asked.header("last-modified")),
        ];
        for (what, first, now) in marks {
            if let (Some(first), Some(now)) = (first, now)
                && *first != now
            {
                return Err(Stop::Final(changed(&self.uri, &format!("its {what} was {first}, now {now}"))));
            }
        }
        match asked.total() {
            Some(now) if now != self.len => {
                Err(Stop::Final(changed(&self.uri, &format!("it had {} bytes, now {now}", self.len))))
            }
            _ => Ok(()),
        }
    }
}

impl Fetch for File {
    fn fetch(&self, range: Range<u64>) -> Later<Result<Bytes>> {
        Box::pin(self.clone().range(range))
    }
}
