//! [`Cloud`]: a bucket or container and a prefix in it, with a client that can be driven from any thread.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use object_store::list::PaginatedListStore;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, HeaderValue, ObjectStore, RetryConfig};

use super::trouble::{Trouble, failed, told};
use super::{Kind, Place, Settings, aws, others, runtime};
use crate::error::{Error, Result};

/// How framemill names itself to servers.
pub const USER_AGENT: &str = concat!("framemill/", env!("CARGO_PKG_VERSION"));

/// The longest that one request with a large body may take.
const BULK_TIMEOUT: Duration = Duration::from_secs(3600);

/// A prefix in a bucket or container.
pub struct Cloud {
    kind: Kind,
    bucket: String,
    prefix: Path,
    builder: Builder,
    store: Arc<dyn ObjectStore>,
    pages: Option<Arc<dyn PaginatedListStore>>,
    bulk: OnceLock<Arc<dyn ObjectStore>>,
    patience: Duration,
}

impl Cloud {
    /// The client for `uri`, its bucket and all that is below its key. Nothing is asked of the store, save where an S3
    /// bucket's region is not said by anyone.
    ///
    /// # Errors
    /// Usage errors for a URI that names no bucket, settings that contradict each other and credentials that are not
    /// there or cannot be read.
    pub fn open(uri: &str, settings: &Settings) -> Result<Cloud> {
        settings.check()?;
        let place = Place::of(uri).ok_or_else(|| {
            Error::usage(format!("{uri}: expected an object store's URI, as in s3://bucket/folder, gs:// or az://"))
        })?;
        if !place.is_bucket() {
            return Err(Error::usage(format!(
                "{}: expected a bucket behind the two slashes, as in {}://bucket/folder",
                super::redacted(uri),
                place.kind.scheme()
            )));
        }
        let prefix = key(place.key).map_err(|e| e.context(uri))?;
        runtime::ready();
        let builder = match place.kind {
            Kind::S3 => Builder::S3(Box::new(aws::builder(place.bucket, settings)?)),
            Kind::Google => Builder::Google(Box::new(others::google(place.bucket, settings)?)),
            Kind::Azure => Builder::Azure(Box::new(others::azure(place.bucket, settings)?)),
        };
        let patience = Duration::from_secs(settings.retry_seconds);
        let timed = |options: ClientOptions| options.with_timeout(Duration::from_secs(settings.timeout_seconds));
        let client = builder.build(retrying(patience), timed).map_err(|e| unbuilt(uri, &e))?;
        // A directory bucket of S3 lists by whole folders only.
        let express = place.kind == Kind::S3 && place.bucket.ends_with("--x-s3");
        Ok(Cloud {
            kind: place.kind,
            bucket: place.bucket.into(),
            prefix,
            store: client.store,
            pages: client.pages.filter(|_| !express),
            builder,
            bulk: OnceLock::new(),
            patience,
        })
    }

    /// A bucket that tests made.
    #[cfg(test)]
    pub(in crate::store) fn over(
        store: Arc<dyn ObjectStore>,
        pages: Option<Arc<dyn PaginatedListStore>>,
        prefix: &str,
    ) -> Cloud {
        runtime::ready();
        Cloud {
            kind: Kind::S3,
            bucket: "memory".into(),
            prefix: Path::from(prefix),
            store: store.clone(),
            pages,
            builder: Builder::Given(store),
            bulk: OnceLock::new(),
            patience: Duration::ZERO,
        }
    }

    /// Which kind of store it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The client, whose requests may take [`Settings::timeout_seconds`] each, their bodies included.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The same as what lists keys by how they begin, where the store does that.
    pub fn pages(&self) -> Option<&Arc<dyn PaginatedListStore>> {
        self.pages.as_ref()
    }

    /// The same for requests with large bodies, which may take an hour each.
    pub fn bulk(&self) -> &Arc<dyn ObjectStore> {
        self.bulk.get_or_init(|| {
            let patient = |options: ClientOptions| options.with_timeout(BULK_TIMEOUT);
            // What was built once with these settings can be built again; were it not so, the first one serves, too.
            let built = self.builder.build(retrying(self.patience), patient);
            built.map_or_else(|_| self.store.clone(), |client| client.store)
        })
    }

    /// The key that the URI named: what is below it is the folder's. Empty for a whole bucket.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The printable URI of the prefix.
    pub fn uri(&self) -> String {
        self.uri_of(&self.prefix)
    }

    /// The printable URI of an object of the bucket.
    pub fn uri_of(&self, key: &Path) -> String {
        format!("{}://{}/{key}", self.kind.scheme(), self.bucket)
    }

    /// Waits for what the store is asked, on the calling thread.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        runtime::wait(future)
    }

    /// Does `call` again while it breaks off on its way, as long as [`Settings::retry_seconds`] allow: the client itself
    /// tries again only until an answer begins. For calls that may be done twice.
    pub async fn again<T, F>(&self, call: impl Fn() -> F) -> object_store::Result<T>
    where
        F: Future<Output = object_store::Result<T>>,
    {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            match call().await {
                Err(error) if Trouble::of(&error) == Trouble::Away && begun.elapsed() + pause < self.patience => {
                    tokio::time::sleep(runtime::jittered(pause)).await;
                    pause = (pause * 2).min(Duration::from_secs(15));
                }
                done => return done,
            }
        }
    }

    /// The store error for `error`, which happened when trying to `verb` the object `key`: what it means and what to do.
    pub fn failed(&self, verb: &str, key: &Path, error: &object_store::Error) -> Error {
        failed(verb, &self.uri_of(key), error)
    }
}

/// The key that `text` names, by the letter; one slash behind it marks a folder.
///
/// # Errors
/// A usage error for names that the clients cannot address.
pub fn key(text: &str) -> Result<Path> {
    // The client would drop a slash at the beginning, and mean another object.
    Path::parse(text).ok().filter(|_| !text.starts_with('/')).ok_or_else(|| {
        Error::usage(
            "keys with empty parts (//), with . or .. as a part or with control characters cannot be addressed",
        )
    })
}

/// The usage error for a client that cannot be made.
pub(super) fn unbuilt(uri: &str, error: &object_store::Error) -> Error {
    Error::usage(format!("{uri}: {}", told(error).0))
}

/// Retries go on until the time is over, whatever their number.
pub(super) fn retrying(retry_timeout: Duration) -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(15), base: 2.0 };
    RetryConfig { backoff, max_retries: if retry_timeout.is_zero() { 0 } else { 1000 }, retry_timeout }
}

/// What all clients have in common. Plain HTTP is spoken only with an `endpoint` that says so.
pub(super) fn options(endpoint: Option<&str>) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
        .with_user_agent(HeaderValue::from_static(USER_AGENT))
}

enum Builder {
    #[cfg(test)]
    Given(Arc<dyn ObjectStore>),
    S3(Box<(object_store::aws::AmazonS3Builder, ClientOptions)>),
    Google(Box<(object_store::gcp::GoogleCloudStorageBuilder, ClientOptions)>),
    Azure(Box<(object_store::azure::MicrosoftAzureBuilder, ClientOptions)>),
}

/// A client in both its roles.
struct Client {
    store: Arc<dyn ObjectStore>,
    pages: Option<Arc<dyn PaginatedListStore>>,
}

impl Client {
    fn new<T: ObjectStore + PaginatedListStore>(client: T) -> Client {
        let client = Arc::new(client);
        Client { store: client.clone(), pages: Some(client) }
    }
}

impl Builder {
    fn build(
        &self,
        retry: RetryConfig,
        with: impl FnOnce(ClientOptions) -> ClientOptions,
    ) -> object_store::Result<Client> {
        Ok(match self {
            #[cfg(test)]
            Builder::Given(store) => Client { store: store.clone(), pages: None },
            Builder::S3(b) => {
                Client::new(b.0.clone().with_retry(retry).with_client_options(with(b.1.clone())).build()?)
            }
            Builder::Google(b) => {
                Client::new(b.0.clone().with_retry(retry).with_client_options(with(b.1.clone())).build()?)
            }
            Builder::Azure(b) => {
                Client::new(b.0.clone().with_retry(retry).with_client_options(with(b.1.clone())).build()?)
            }
        })
    }
}
