//! Inputs that lie elsewhere: objects of stores, and files behind HTTP.
//!
//! Promises: an asset is one version of one object: what changes while it is read is noticed, and rejected by name. It
//! is read in ranges, ahead of who reads it in order, and never held whole where it is large. What may pass is tried
//! again, with jitter; what is bad is rejected at once; what is wrong with the store itself stops the run.

mod http;
mod listing;
mod object;
mod room;
mod spool;
mod window;

use std::collections::HashMap;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::bytes::ByteSource;
use crate::error::{Class, Error, RejectKind, Result};
use crate::store::cloud::{self, Cloud, Place, Settings};

use super::sources::{Expected, Life};
use super::spec::InputSpec;
use super::without_query;
pub(super) use listing::add;

/// Bytes at the start of an object that are read when it is opened: most photos are whole in them, and most containers
/// say there what they are.
const HEAD: u64 = 1 << 20;
/// Objects that are opened ahead of the decoders, at most.
const AHEAD: u64 = 32;

/// A future that gives `T`, wherever it runs.
type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Reads ranges of one version of one object.
trait Fetch: Send + Sync {
    /// The bytes of `range`, which lies within the object. Breaks are mended and passing failures tried again inside.
    fn fetch(&self, range: Range<u64>) -> Later<Result<Bytes>>;
}

/// What opening an object gave.
struct Opened {
    /// For messages: without a query.
    uri: String,
    len: u64,
    /// What tells this version of the object from others, if the server says.
    etag: Option<String>,
    /// The first bytes: all of them where the object is small.
    head: Bytes,
    rest: Rest,
}

/// Where the bytes behind the head come from.
enum Rest {
    Ranges(Arc<dyn Fetch>),
    /// The server gives no ranges: the whole was written to a file that has no name any more, and takes that room.
    File {
        source: crate::bytes::FileSource,
        _room: room::Taken,
    },
}

/// An input that is being opened.
pub struct Opening {
    opening: JoinHandle<Result<Opened>>,
    /// Told when somebody waits for it.
    wanted: Arc<Notify>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.opening.abort();
    }
}

/// Clients for all that a job reads from elsewhere; made as they are needed.
pub(super) struct Remote {
    settings: Settings,
    clouds: Mutex<HashMap<String, Result<Arc<Cloud>>>>,
    http: http::Client,
    /// Bytes of one input that are held, at most, beside its head.
    held: usize,
    ahead: usize,
}

impl Remote {
    /// `memory` is what all buffers may take together, for `readers` at a time.
    pub fn new(spec: &InputSpec, memory: u64, readers: usize) -> Self {
        Remote {
            settings: spec.store.clone(),
            clouds: Mutex::default(),
            http: http::Client::new(&spec.store, &spec.http),
            held: (memory / 3 / readers.max(1) as u64).clamp(4 * HEAD, 32 * HEAD) as usize,
            ahead: (memory / 2 / HEAD).clamp(1, AHEAD) as usize,
        }
    }

    /// The same, with so many bytes for bodies that have to be whole on disk.
    pub fn within(self, limit: Option<u64>) -> Self {
        Remote { http: self.http.within(limit), ..self }
    }

    /// How many inputs to open ahead.
    pub fn ahead(&self) -> usize {
        self.ahead
    }

    /// The client for the bucket of `uri`, made once.
    fn cloud(&self, uri: &str, place: &Place) -> Result<Arc<Cloud>> {
        let bucket = format!("{}://{}", place.kind.scheme(), place.bucket);
        let mut clouds = self.clouds.lock().unwrap_or_else(PoisonError::into_inner);
        let open = || Cloud::open(&bucket, &self.settings).map(Arc::new).map_err(|e| e.context(without_query(uri)));
        clouds.entry(bucket.clone()).or_insert_with(open).clone()
    }

    /// Begins to open `uri`; nothing is waited for, save where a client has to be made.
    pub fn begin(&self, uri: &str, expected: Expected) -> Result<Opening> {
        let wanted = Arc::new(Notify::new());
        let opening = match Place::of(uri) {
            // A list may name such places among others: that is the one input's fault, not the job's.
            Some(place) if !place.is_bucket() => {
                let text = format!("{}: {:?} is no bucket's name", without_query(uri), place.bucket);
                return Err(Error::input(RejectKind::Unsupported, text));
            }
            Some(place) => {
                // Nothing but the store is to blame by now, and the run can go on where it stopped.
                let unusable = |e: Error| if e.class == Class::Usage { Error::store(e.message) } else { e };
                object::open(self.cloud(uri, &place).map_err(unusable)?, uri, expected)?
            }
            None => self.http.open(uri, expected, wanted.clone())?,
        };
        Ok(Opening { opening: cloud::spawn(opening), wanted })
    }

    /// Waits until the input is open.
    pub fn finish(&self, opening: Opening, life: &Life) -> Result<Arc<dyn ByteSource>> {
        Ok(Arc::new(window::RemoteSource::new(self.wait(opening, life)?, self.held, life.clone())))
    }

    fn wait(&self, mut opening: Opening, life: &Life) -> Result<Opened> {
        opening.wanted.notify_one();
        let opened = waiting(life, &mut opening.opening);
        opened.map_err(|e| Error::bug(format!("opening an input ended: {e}")))?
    }
}

/// Waits for `future`, with signs of life.
fn waiting<F: Future>(life: &Life, future: F) -> F::Output {
    cloud::wait_ticking(future, || {
        life.fetch_add(1, Ordering::Relaxed);
    })
}

/// Whether `uri` is one of those that are read here.
pub(super) fn is_http(uri: &str) -> bool {
    super::uri::scheme(uri).is_some_and(|s| s.eq_ignore_ascii_case("http") || s.eq_ignore_ascii_case("https"))
}

/// The rejection of an object that is not the one it was.
fn changed(uri: &str, how: &str) -> Error {
    let text =
        format!("{uri}: the object changed after it was planned ({how}); restore it, or plan it again with retry");
    Error::input(RejectKind::Changed, text)
}

/// Refuses an object that is not the expected one.
fn as_expected(uri: &str, expected: &Expected, len: u64, etag: Option<&str>) -> Result<()> {
    if let Some(planned) = expected.bytes.filter(|planned| *planned != len) {
        return Err(changed(uri, &format!("it had {planned} bytes, now {len}")));
    }
    match (expected.etag.as_deref(), etag) {
        (Some(planned), Some(now)) if planned != now => {
            Err(changed(uri, &format!("its etag was {planned}, now {now}")))
        }
        _ => Ok(()),
    }
}
