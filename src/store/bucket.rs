//! An output below a prefix of an object store.
//!
//! What exactly-once rests on here is a PUT that creates and never replaces (`If-None-Match: *`, or a generation of 0).
//! Small objects go up by one such PUT. A shard that is too large for one goes up in parts under a name of its own,
//! which nobody else uses, and is then copied, create-only, to its final name by the store itself; so that is taken
//! whole or not at all there, too. An orphan is replaced by a PUT that names the etag that was seen.
//!
//! The store must be strongly consistent for reads behind writes and for conditional writes, as S3, Google's and Azure's
//! are. A listing that lags costs work that is thrown away, nothing else: receipts themselves are create-only.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as Key;
use object_store::{
    GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, PutResult, UpdateVersion,
    WriteMultipart,
};
use sha2::{Digest, Sha256};

use super::cloud::{Cloud, Depth, Settings, Trouble};
use super::{
    Created, Fetched, Object, Source, Store, Version, create_folders, differs, failed, hex, listing_digest, moment,
    unsound, worker,
};
use crate::error::{Error, Result};

/// Largest object that goes up in one request, which holds it in memory.
const ONE_PUT: u64 = 64 << 20;
/// Size of the parts of larger ones, and of what is read at once.
const PART: usize = 16 << 20;
/// Parts of one object on their way at once.
const PARTS: usize = 4;
/// Small objects on their way at once.
const MANY: usize = 64;
/// Listings on their way at once.
const LISTS: usize = 32;
/// Where uploads have names of their own.
const PARTIAL: &str = "_framemill/partial/";

/// Pauses between looks at an object that others create, replace or remove meanwhile, in milliseconds.
const LOOKS: [u64; 9] = [0, 20, 50, 100, 200, 500, 1000, 2000, 4000];

/// The bucket and the prefix in it.
pub struct Bucket {
    cloud: Cloud,
    /// Largest object that is created in one request.
    one_put: u64,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.cloud.uri())
    }
}

type Stored<T> = object_store::Result<T>;

impl Bucket {
    pub fn open(uri: &str, settings: &Settings) -> Result<Bucket> {
        Cloud::open(uri, settings).map(|cloud| Bucket { cloud, one_put: ONE_PUT })
    }

    /// The prefix in a bucket that tests made.
    #[cfg(test)]
    pub fn over(
        store: std::sync::Arc<dyn ObjectStore>,
        pages: Option<std::sync::Arc<dyn PaginatedListStore>>,
        prefix: &str,
        one_put: u64,
    ) -> Bucket {
        Bucket { cloud: Cloud::over(store, pages, prefix), one_put }
    }

    fn key(&self, name: &str) -> Key {
        name.split('/').filter(|part| !part.is_empty()).fold(self.cloud.prefix().clone(), |key, part| key.join(part))
    }

    fn failed(&self, verb: &str, name: &str, error: &object_store::Error) -> Error {
        self.cloud.failed(verb, &self.key(name), error)
    }

    /// `None` where the error says that there is no such object.
    fn there<T>(&self, verb: &str, name: &str, result: Stored<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(e) if Trouble::of(&e) == Trouble::Missing => Ok(None),
            Err(e) => Err(self.failed(verb, name, &e)),
        }
    }

    fn head(&self, name: &str) -> Result<Option<ObjectMeta>> {
        let key = self.key(name);
        self.there("read", name, self.cloud.wait(self.cloud.again(|| self.cloud.store().head(&key))))
    }

    /// One small object.
    async fn get(&self, store: &dyn ObjectStore, key: &Key, options: GetOptions) -> Stored<Bytes> {
        self.cloud.again(|| async { store.get_opts(key, options.clone()).await?.bytes().await }).await
    }

    /// A PUT of `payload` under that condition. One that creates and is done twice finds its own content.
    async fn send(&self, store: &dyn ObjectStore, key: &Key, payload: PutPayload, mode: PutMode) -> Stored<PutResult> {
        let options = PutOptions { mode, ..Default::default() };
        self.cloud.again(|| store.put_opts(key, payload.clone(), options.clone())).await
    }

    fn sent(&self, store: &dyn ObjectStore, name: &str, content: Vec<u8>, mode: PutMode) -> Stored<PutResult> {
        self.cloud.wait(self.send(store, &self.key(name), content.into(), mode))
    }

    /// Gives `each` the content of an object piece by piece, all from one version of it, and its size.
    fn pieces(&self, name: &str, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let key = self.key(name);
        let meta = self
            .cloud
            .wait(self.cloud.again(|| self.cloud.store().head(&key)))
            .map_err(|e| self.failed("read", name, &e))?;
        let ranges = (0..meta.size).step_by(PART).map(|from| from..meta.size.min(from + PART as u64));
        let pieces = stream::iter(ranges).map(|range| {
            let options = GetOptions { range: Some(range.into()), if_match: meta.e_tag.clone(), ..Default::default() };
            self.get(&**self.cloud.bulk(), &key, options)
        });
        let mut pieces = pieces.buffered(PARTS);
        while let Some(piece) = self.cloud.wait(pieces.next()) {
            each(&piece.map_err(|e| self.failed("read", name, &e))?)?;
        }
        Ok(meta.size)
    }

    /// Writes the file under `name` in parts.
    fn upload(&self, name: &str, from: &mut Source) -> Result<()> {
        let (key, wrong) = (self.key(name), |e: object_store::Error| self.failed("write", name, &e));
        let mut part = filled(from, PART)?;
        if part.len() < PART {
            return self.sent(&**self.cloud.bulk(), name, part, PutMode::Overwrite).map(|_| ()).map_err(wrong);
        }
        let upload = self.cloud.wait(self.cloud.again(|| self.cloud.bulk().put_multipart(&key))).map_err(wrong)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        let written = loop {
            if part.is_empty() {
                break Ok(());
            }
            let sent = self.cloud.wait(async {
                upload.wait_for_capacity(PARTS).await?;
                upload.put(part.into());
                Ok(())
            });
            if let Err(e) = sent {
                break Err(wrong(e));
            }
            match filled(from, PART) {
                Ok(next) => part = next,
                Err(e) => break Err(e),
            }
        };
        match written {
            Ok(()) => self.cloud.wait(upload.finish()).map(|_| ()).map_err(wrong),
            Err(error) => {
                // Parts of an upload that was given up are invisible; the store's own rules clear them.
                if let Err(e) = self.cloud.wait(upload.abort()) {
                    tracing::debug!("{}: giving up the upload: {e}", self.place(name));
                }
                Err(error)
            }
        }
    }

    /// Creates `name` from the file unless it exists; false if it does.
    fn create_from(&self, file: &Path, bytes: u64, name: &str) -> Result<bool> {
        if bytes <= self.one_put {
            let content = std::fs::read(file).map_err(|e| failed("read", file, &e))?;
            return self.created(name, self.sent(&**self.cloud.bulk(), name, content, PutMode::Create));
        }
        static ATTEMPT: AtomicU64 = AtomicU64::new(0);
        let attempt = format!("{PARTIAL}{}-{}-{:x}", worker(), ATTEMPT.fetch_add(1, Ordering::Relaxed), moment());
        self.put(file, &attempt)?;
        let (from, to) = (self.key(&attempt), self.key(name));
        let copied = self.cloud.wait(self.cloud.again(|| self.cloud.bulk().copy_if_not_exists(&from, &to)));
        // What stays of it is swept when the job is finished.
        if let Err(e) = self.remove(&attempt) {
            tracing::debug!("{e}");
        }
        match copied {
            // Swept already: another worker has finished the job.
            Err(e) if Trouble::of(&e) == Trouble::Missing => Ok(false),
            copied => self.created(name, copied),
        }
    }

    fn created<T>(&self, name: &str, result: Stored<T>) -> Result<bool> {
        match result {
            Ok(_) => Ok(true),
            Err(e) if matches!(Trouble::of(&e), Trouble::Exists | Trouble::Changed) => Ok(false),
            Err(e) => Err(self.failed("write", name, &e)),
        }
    }

    /// What `look` comes to, who gives nothing while others change `name` under its eyes.
    fn settled<T>(&self, name: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        for pause in LOOKS {
            std::thread::sleep(Duration::from_millis(pause));
            if let Some(done) = look()? {
                return Ok(done);
            }
        }
        Err(Error::store(format!(
            "{}: it cannot be created since it is there, and cannot be read since it is not, or changes again and again: see \
             what else writes or hides it, then run the same command again, finished tasks are kept",
            self.place(name)
        )))
    }

    /// Publishes one file: see [`Store::publish`].
    fn publish_file(&self, file: &Path, object: &Object, receipt: &str) -> Result<()> {
        self.settled(&object.path, || {
            if self.create_from(file, object.bytes, &object.path)? {
                return Ok(Some(()));
            }
            let Some(seen) = self.head(&object.path)? else { return Ok(None) };
            let there = match self.measure(&object.path) {
                // It was replaced or taken away while it was read.
                Err(_) if self.head(&object.path)?.map(|now| now.e_tag) != Some(seen.e_tag.clone()) => return Ok(None),
                other => other?,
            };
            if there == *object {
                return Ok(Some(()));
            }
            if self.read(receipt)?.is_some() {
                return Err(differs(&self.place(&object.path), receipt, &there, object));
            }
            Ok(self.replace_seen(file, &object.path, &seen)?.then_some(()))
        })
    }

    /// Replaces an orphan that is still as it was `seen`; false if it is not. It must go up in one request, whatever its
    /// size: only those can name an etag.
    fn replace_seen(&self, file: &Path, name: &str, seen: &ObjectMeta) -> Result<bool> {
        let content = std::fs::read(file).map_err(|e| failed("read", file, &e))?;
        Ok(self.swapped(&**self.cloud.bulk(), name, content, Some(&version(seen)))?.is_some())
    }

    /// One PUT in place of the version that was `seen`: see [`Store::swap`].
    fn swapped(
        &self,
        store: &dyn ObjectStore,
        name: &str,
        content: Vec<u8>,
        seen: Option<&Version>,
    ) -> Result<Option<Version>> {
        let update =
            |seen: &Version| PutMode::Update(UpdateVersion { e_tag: seen.etag.clone(), version: seen.version.clone() });
        match self.sent(store, name, content, seen.map_or(PutMode::Create, update)) {
            Ok(put) => Ok(Some(Version { etag: put.e_tag, version: put.version })),
            Err(e) => match Trouble::of(&e) {
                Trouble::Changed | Trouble::Exists => Ok(None),
                Trouble::Missing if seen.is_some() => Ok(None),
                _ => Err(self.failed("replace", name, &e)),
            },
        }
    }

    /// The names in a folder that begin so, page by page.
    async fn named(&self, pages: &dyn PaginatedListStore, folder: &str, beginning: &str) -> Stored<Vec<String>> {
        let prefix = format!("{}/{beginning}", self.key(folder));
        let (mut names, mut next) = (Vec::new(), None);
        loop {
            let page = self.cloud.again(|| {
                let (delimiter, page_token) = (Some("/".into()), next.clone());
                let options = PaginatedListOptions { delimiter, page_token, ..Default::default() };
                pages.list_paginated(Some(&prefix), options)
            });
            let page = page.await?;
            names.extend(page.result.objects.iter().filter_map(|meta| meta.location.filename()).map(str::to_string));
            next = page.page_token;
            if next.is_none() {
                return Ok(names);
            }
        }
    }

    /// Every object below a folder, with its name.
    fn below(&self, folder: &str) -> Result<Vec<(String, ObjectMeta)>> {
        let prefix = self.key(folder);
        let listed = self.cloud.wait(self.cloud.list(&prefix, Depth::All));
        let metas = listed.map_err(|e| self.failed("list", folder, &e))?.objects;
        let named = |meta: ObjectMeta| {
            let parts = meta.location.prefix_match(&prefix)?;
            let name = parts.map(|part| part.as_ref().to_string()).collect::<Vec<_>>().join("/");
            (!name.is_empty()).then_some((name, meta))
        };
        let mut found: Vec<_> = metas.into_iter().filter_map(named).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Publishes a folder's files, many at once; what an earlier try left beside them goes.
    fn publish_folder(&self, folder: &Path, object: &Object, receipt: &str) -> Result<()> {
        if self.read(receipt)?.is_some() {
            let there = self.measure(&object.path)?;
            return if there == *object {
                Ok(())
            } else {
                Err(differs(&self.place(&object.path), receipt, &there, object))
            };
        }
        let mut names = Vec::new();
        for path in super::local::list(folder)? {
            names.push(path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        let puts = stream::iter(&names).map(|name| {
            let (path, key) = (folder.join(name), self.key(&format!("{}{name}", object.path)));
            async move {
                let content = tokio::task::spawn_blocking({
                    let path = path.clone();
                    move || std::fs::read(path)
                });
                let content = content.await.map_err(std::io::Error::other).and_then(|read| read);
                let content = content.map_err(|e| failed("read", &path, &e))?;
                Ok((name, self.send(&**self.cloud.store(), &key, content.into(), PutMode::Create).await))
            }
        });
        let done: Result<Vec<_>> = self.cloud.wait(puts.buffered(MANY).try_collect());
        for (name, put) in done? {
            let whole = format!("{}{name}", object.path);
            if !self.created(&whole, put)? {
                let file = folder.join(name);
                let (bytes, sha256) = super::file_digest(&file)?;
                self.publish_file(&file, &Object { path: whole, bytes, sha256 }, receipt)?;
            }
        }
        for (name, _) in self.below(&object.path)? {
            if names.binary_search(&name).is_err() {
                if self.read(receipt)?.is_some() {
                    return Err(differs(&self.place(&object.path), receipt, &self.measure(&object.path)?, object));
                }
                self.remove(&format!("{}{name}", object.path))?;
            }
        }
        Ok(())
    }
}

fn version(meta: &ObjectMeta) -> Version {
    Version { etag: meta.e_tag.clone(), version: meta.version.clone() }
}

/// Up to `most` bytes of what `from` gives; fewer only at its end.
fn filled(from: &mut Source, most: usize) -> Result<Vec<u8>> {
    let (mut part, mut at) = (vec![0; most], 0);
    while at < most {
        match from(&mut part[at..])? {
            0 => break,
            n => at += n,
        }
    }
    part.truncate(at);
    Ok(part)
}

impl Store for Bucket {
    fn place(&self, name: &str) -> String {
        let uri = self.cloud.uri_of(&self.key(name));
        if name.ends_with('/') { uri + "/" } else { uri }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let (store, key) = (self.cloud.store(), self.key(name));
        let read = self.cloud.wait(self.get(&**store, &key, GetOptions::default()));
        Ok(self.there("read", name, read)?.map(Vec::from))
    }

    fn read_all(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let store = self.cloud.store();
        let reads = stream::iter(names).map(|name| {
            let key = self.key(name);
            async move { (name, self.get(&**store, &key, GetOptions::default()).await) }
        });
        let read: Vec<_> = self.cloud.wait(reads.buffered(MANY).collect());
        read.into_iter().map(|(name, read)| Ok(self.there("read", name, read)?.map(Vec::from))).collect()
    }

    fn create_only(&self, name: &str, bytes: &[u8]) -> Result<Created> {
        self.settled(name, || {
            if self.created(name, self.sent(&**self.cloud.store(), name, bytes.to_vec(), PutMode::Create))? {
                return Ok(Some(Created::Written));
            }
            // Nothing, where someone removed it in between.
            let there = self.read(name)?;
            Ok(there.map(|there| if there == bytes { Created::Same } else { Created::Other(there) }))
        })
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let put = self.sent(&**self.cloud.store(), name, bytes.to_vec(), PutMode::Overwrite);
        put.map(|_| ()).map_err(|e| self.failed("write", name, &e))
    }

    fn version(&self, name: &str) -> Result<Option<Version>> {
        Ok(self.head(name)?.as_ref().map(version))
    }

    fn swap(&self, name: &str, bytes: &[u8], seen: Option<&Version>) -> Result<Option<Version>> {
        self.swapped(&**self.cloud.store(), name, bytes.to_vec(), seen)
    }

    fn swap_file(&self, file: &Path, name: &str, seen: Option<&Version>) -> Result<Option<Version>> {
        let wrong = |e: std::io::Error| failed("read", file, &e);
        if std::fs::metadata(file).map_err(wrong)?.len() <= self.one_put {
            return self.swapped(&**self.cloud.bulk(), name, std::fs::read(file).map_err(wrong)?, seen);
        }
        if self.version(name)?.as_ref() != seen {
            return Ok(None);
        }
        self.put(file, name)?;
        self.version(name)
    }

    fn put(&self, file: &Path, name: &str) -> Result<()> {
        let mut opened = File::open(file).map_err(|e| failed("read", file, &e))?;
        self.upload(name, &mut |buffer| opened.read(buffer).map_err(|e| failed("read", file, &e)))
    }

    fn write(&self, name: &str, from: &mut Source) -> Result<()> {
        self.upload(name, from)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let key = self.key(name);
        let removed = self.cloud.wait(self.cloud.again(|| self.cloud.store().delete(&key)));
        self.there("remove", name, removed).map(|_| ())
    }

    fn remove_all(&self, names: &[String]) -> Result<()> {
        let store = self.cloud.store();
        let removals = stream::iter(names).map(|name| {
            let key = self.key(name);
            async move { (name, self.cloud.again(|| store.delete(&key)).await) }
        });
        let removed: Vec<_> = self.cloud.wait(removals.buffered(MANY).collect());
        removed.into_iter().try_for_each(|(name, removed)| self.there("remove", name, removed).map(|_| ()))
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = self.key(folder);
        let listed = self.cloud.wait(self.cloud.list(&prefix, Depth::One));
        let Some(listed) = self.there("list", folder, listed)? else { return Ok(Vec::new()) };
        let last = |key: &Key| key.filename().map(str::to_string);
        let folders = listed.folders.iter().filter_map(last).map(|name| name + "/");
        let mut names: Vec<String> = listed.objects.iter().filter_map(|meta| last(&meta.location)).collect();
        names.extend(folders);
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        Ok(names)
    }

    fn list_by(&self, folder: &str, beginnings: &[String]) -> Result<Vec<String>> {
        // One listing gives as many names a request.
        let (Some(pages), true) = (self.cloud.pages(), beginnings.len() > 1) else { return self.list(folder) };
        let lists = stream::iter(beginnings).map(|beginning| self.named(&**pages, folder, beginning));
        let listed: Stored<Vec<Vec<String>>> = self.cloud.wait(lists.buffered(LISTS).try_collect());
        let listed = self.there("list", folder, listed)?.unwrap_or_default();
        let mut names: Vec<String> = listed.into_iter().flatten().filter(|name| !name.starts_with('.')).collect();
        names.sort();
        Ok(names)
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.head(name)?.map(|meta| meta.size))
    }

    fn measure(&self, name: &str) -> Result<Object> {
        if !name.ends_with('/') {
            let mut sha = Sha256::new();
            let bytes = self.pieces(name, |piece| {
                sha.update(piece);
                Ok(())
            })?;
            return Ok(Object { path: name.into(), bytes, sha256: hex(&sha.finalize()) });
        }
        let files = self.below(name)?;
        if files.is_empty() {
            return Err(Error::store(format!("could not read {}: there is nothing in it", self.place(name))));
        }
        let store = self.cloud.bulk();
        let digests = stream::iter(&files).map(|(name, meta)| async move {
            let content = self.get(&**store, &meta.location, GetOptions::default()).await?;
            Ok::<_, object_store::Error>((name.clone(), content.len() as u64, hex(&Sha256::digest(&content))))
        });
        let digests: Stored<Vec<_>> = self.cloud.wait(digests.buffered(MANY).try_collect());
        let (bytes, sha256) = listing_digest(&digests.map_err(|e| self.failed("read", name, &e))?);
        Ok(Object { path: name.into(), bytes, sha256 })
    }

    fn fetch(&self, name: &str, scratch: &Path) -> Result<Fetched> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let folder = scratch.join(format!("{}-fetched", worker()));
        create_folders(&folder)?;
        let last = name.rsplit('/').next().unwrap_or(name);
        let fetched =
            Fetched { path: folder.join(format!("{}-{last}", COUNT.fetch_add(1, Ordering::Relaxed))), own: true };
        let wrong = |e: std::io::Error| failed("write", &fetched.path, &e);
        let mut file = File::create(&fetched.path).map_err(wrong)?;
        self.pieces(name, |piece| file.write_all(piece).map_err(wrong))?;
        Ok(fetched)
    }

    fn publish(&self, part: &Path, object: &Object, receipt: &str) -> Result<()> {
        match object.path.ends_with('/') {
            true => self.publish_folder(part, object, receipt),
            false => self.publish_file(part, object, receipt),
        }
    }

    fn clean(&self) -> Result<()> {
        self.below(PARTIAL)?.iter().try_for_each(|(name, _)| self.remove(&format!("{PARTIAL}{name}")))
    }

    fn probe(&self) -> Result<()> {
        let name = format!("{PARTIAL}probe-{}-{:x}", worker(), moment());
        let first = self.create_only(&name, b"first")?;
        let second = self.create_only(&name, b"second")?;
        self.remove(&name)?;
        // A reply that was lost on the way makes the first one its own second.
        if matches!(first, Created::Written | Created::Same) && second == Created::Other(b"first".to_vec()) {
            return Ok(());
        }
        Err(unsound(
            &self.place(""),
            "choose a store with conditional writes (If-None-Match), such as S3, Google Cloud Storage, Azure or a current \
             MinIO",
        ))
    }
}
