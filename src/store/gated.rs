//! A bucket in memory for tests, each of whose requests passes a gate first: it counts them, orders them, or says that who
//! asks is dead. Each may take a while.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, once};
use object_store::list::{PaginatedListOptions, PaginatedListResult, PaginatedListStore};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Names that real stores give in one answer.
const PAGE: usize = 1000;

/// Hears of each request before it is done; false where it is not to be done, since its process is gone.
pub type Gate = dyn Fn(&'static str) -> bool + Send + Sync;

/// One process's view of a bucket.
pub struct Gated {
    bucket: Arc<InMemory>,
    gate: Box<Gate>,
    delay: Duration,
    /// The folder that was listed last, since this view wrote last: to make it anew for each page takes long.
    listed: Mutex<Option<(Path, ListResult)>>,
}

impl Gated {
    /// A view whose requests take no time.
    pub fn new(bucket: &Arc<InMemory>, gate: Box<Gate>) -> Gated {
        Gated { bucket: bucket.clone(), gate, delay: Duration::ZERO, listed: Mutex::default() }
    }

    /// The same whose requests take so long each.
    pub fn slow(self, delay: Duration) -> Gated {
        Gated { delay, ..self }
    }

    async fn pass(&self, request: &'static str) -> Result<()> {
        let open = self.open(request);
        if request != "list" && request != "get" {
            *self.listed.lock().unwrap() = None;
        }
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        open
    }

    fn open(&self, request: &'static str) -> Result<()> {
        match (self.gate)(request) {
            true => Ok(()),
            false => Err(Error::Generic { store: "gated", source: "this process is dead".into() }),
        }
    }

    /// `stream` once the request has passed.
    fn passed<T: Send + 'static>(
        &self,
        request: &'static str,
        stream: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let (open, delay) = (self.open(request), self.delay);
        *self.listed.lock().unwrap() = None;
        once(async move {
            tokio::time::sleep(delay).await;
            match open {
                Ok(()) => stream,
                Err(e) => once(async { Err(e) }).boxed(),
            }
        })
        .flatten()
        .boxed()
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
        self.pass("put").await?;
        self.bucket.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.pass("put").await?;
        self.bucket.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.pass("get").await?;
        self.bucket.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.passed("delete", self.bucket.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.passed("list", self.bucket.list(prefix))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.pass("list").await?;
        let listed = self.bucket.list_with_delimiter(prefix).await?;
        for _ in 0..listed.objects.len() / PAGE {
            self.pass("list").await?;
        }
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.pass("copy").await?;
        self.bucket.copy_opts(from, to, options).await
    }
}

#[async_trait::async_trait]
impl PaginatedListStore for Gated {
    async fn list_paginated(&self, prefix: Option<&str>, options: PaginatedListOptions) -> Result<PaginatedListResult> {
        self.pass("list").await?;
        let prefix = prefix.unwrap_or_default();
        // What is behind the last delimiter is compared by the letter.
        let folder = Path::from(prefix.rsplit_once('/').map_or("", |(folder, _)| folder));
        let known = self.listed.lock().unwrap().take().filter(|(of, _)| *of == folder);
        let listed = match known {
            Some((_, listed)) => listed,
            None => self.bucket.list_with_delimiter(Some(&folder)).await?,
        };
        let from: usize = options.page_token.map_or(0, |token| token.parse().expect("a token of this store"));
        let begin = |meta: &&ObjectMeta| meta.location.as_ref().starts_with(prefix);
        let mut objects: Vec<_> = listed.objects.iter().filter(begin).skip(from).take(PAGE + 1).cloned().collect();
        *self.listed.lock().unwrap() = Some((folder, listed));
        let page_token = (objects.len() > PAGE).then(|| (from + PAGE).to_string());
        objects.truncate(PAGE);
        let result = ListResult { objects, common_prefixes: Vec::new(), extensions: Default::default() };
        Ok(PaginatedListResult { result, page_token })
    }
}
