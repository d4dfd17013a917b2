//! A bucket in memory for tests, each of whose requests passes a gate first: it counts them, orders them, or says that who
//! asks is dead.

use std::fmt;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Hears of each request before it is done; false where it is not to be done, since its process is gone.
pub type Gate = dyn Fn(&'static str) -> bool + Send + Sync;

/// One process's view of a bucket.
pub struct Gated {
    pub bucket: Arc<InMemory>,
    pub gate: Box<Gate>,
}

impl Gated {
    fn pass(&self, request: &'static str) -> Result<()> {
        match (self.gate)(request) {
            true => Ok(()),
            false => Err(Error::Generic { store: "gated", source: "this process is dead".into() }),
        }
    }
}

impl fmt::Display for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gated")
    }
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gated")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Gated {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.pass("put")?;
        self.bucket.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.pass("put")?;
        self.bucket.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.pass("get")?;
        self.bucket.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.pass("delete") {
            Ok(()) => self.bucket.delete_stream(locations),
            Err(e) => futures_util::stream::once(async { Err(e) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.pass("list") {
            Ok(()) => self.bucket.list(prefix),
            Err(e) => futures_util::stream::once(async { Err(e) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.pass("list")?;
        let listed = self.bucket.list_with_delimiter(prefix).await?;
        // Real stores give a thousand names a request.
        (0..listed.objects.len() / 1000).try_for_each(|_| self.pass("list"))?;
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.pass("copy")?;
        self.bucket.copy_opts(from, to, options).await
    }
}
