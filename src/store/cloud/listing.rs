//! Listings of a bucket that go past objects whose keys the client cannot hold.
//!
//! Promises: one such key costs nothing but itself where the store lists from a key on; its name is told. An answer is lost
//! whole to the client by one such key in it, so smaller ones are asked for until the key stands alone, and the listing goes
//! on behind it.

use futures_util::TryStreamExt;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{ListResult, ObjectMeta, ObjectStoreExt};

use super::client::Cloud;
use super::trouble::{Trouble, unaddressed};

/// Names in one answer, at most.
const PAGE: usize = 1000;

/// What lies below a folder.
#[derive(Debug, Default)]
pub struct Listed {
    /// In the bytewise order of their keys, each once.
    pub objects: Vec<ObjectMeta>,
    /// Folders right below; none where all that is below was asked for.
    pub folders: Vec<Path>,
    /// Keys, or folders of them, that cannot be addressed.
    pub odd: Vec<String>,
}

impl Listed {
    fn add(&mut self, page: ListResult) {
        self.objects.extend(page.objects);
        self.folders.extend(page.common_prefixes);
    }
}

/// How far down a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Objects and folders right below.
    One,
    /// All objects below.
    All,
}

impl Cloud {
    /// What lies below `folder`. Keys that cannot be addressed are passed over and logged by name.
    ///
    /// # Errors
    /// The store's; of an invalid path where the store cannot list past such a key.
    pub async fn list(&self, folder: &Path, depth: Depth) -> object_store::Result<Listed> {
        let mut listed = match (self.again(|| self.whole(folder, depth)).await, self.pages()) {
            (Err(e), Some(pages)) if unaddressed(&e).is_some() => self.sifted(&**pages, folder, depth).await?,
            (whole, _) => whole?,
        };
        // Not every store keeps this order.
        listed.objects.sort_unstable_by(|a, b| a.location.as_ref().cmp(b.location.as_ref()));
        self.untwin(&mut listed).await?;
        for key in &listed.odd {
            tracing::warn!(
                "{}: passed over {key:?}: a key with // or a slash at an end, with . or .. as a part or with control \
                 characters cannot be addressed: rename it",
                self.uri_of(folder)
            );
        }
        Ok(listed)
    }

    async fn whole(&self, folder: &Path, depth: Depth) -> object_store::Result<Listed> {
        let prefix = (!folder.is_root()).then_some(folder);
        let mut listed = Listed::default();
        match depth {
            Depth::One => listed.add(self.store().list_with_delimiter(prefix).await?),
            Depth::All => listed.objects = self.store().list(prefix).try_collect().await?,
        }
        Ok(listed)
    }

    async fn sifted(
        &self,
        pages: &dyn PaginatedListStore,
        folder: &Path,
        depth: Depth,
    ) -> object_store::Result<Listed> {
        let prefix = (!folder.is_root()).then(|| format!("{folder}/"));
        let (mut listed, mut offset, mut page_token, mut most) = (Listed::default(), None, None, PAGE);
        loop {
            let options = PaginatedListOptions {
                offset: offset.clone(),
                delimiter: (depth == Depth::One).then(|| "/".into()),
                max_keys: Some(most),
                page_token: page_token.clone(),
                ..Default::default()
            };
            match self.again(|| pages.list_paginated(prefix.as_deref(), options.clone())).await {
                Ok(page) => {
                    listed.add(page.result);
                    page_token = page.page_token;
                    if page_token.is_none() {
                        return Ok(listed);
                    }
                    most = (most * 2).min(PAGE);
                }
                Err(error) => match unaddressed(&error) {
                    Some(_) if most > 1 => most = (most / 8).max(1),
                    Some(key) => {
                        let is_folder = depth == Depth::One && key.ends_with('/');
                        // Behind a folder's own name all that is in it would be gathered to that folder again.
                        let mut behind = if is_folder { format!("{key}{}", char::MAX) } else { key.to_string() };
                        if listed.odd.last().is_none_or(|last| last != key) {
                            listed.odd.push(key.to_string());
                        } else {
                            // XML that holds a carriage return as it is says newline.
                            behind = behind.replace('\n', "\r");
                        }
                        // A store that does not go on behind it would be asked for ever.
                        if offset.as_ref() == Some(&behind) {
                            return Err(error);
                        }
                        (offset, page_token) = (Some(behind), None);
                    }
                    None => return Err(error),
                },
            }
        }
    }

    /// Takes each key once. The client drops a slash at the ends of keys, so two that differ in nothing else look the same:
    /// the store says which of them has this key.
    async fn untwin(&self, listed: &mut Listed) -> object_store::Result<()> {
        let mut twins = Vec::new();
        listed.objects.dedup_by(|next, kept| {
            let same = next.location == kept.location;
            if same {
                twins.push(next.location.clone());
            }
            same
        });
        listed.odd.extend(twins.iter().map(|key| format!("{key} with a slash at an end")));
        twins.dedup();
        for key in twins {
            let Ok(at) = listed.objects.binary_search_by(|meta| meta.location.as_ref().cmp(key.as_ref())) else {
                continue;
            };
            match self.again(|| self.store().head(&key)).await {
                Ok(meta) => listed.objects[at] = meta,
                Err(e) if Trouble::of(&e) == Trouble::Missing => drop(listed.objects.remove(at)),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use object_store::list::PaginatedListResult;
    use object_store::memory::InMemory;

    use super::*;
    use crate::store::cloud::runtime;

    /// Lists keys as S3 does: what a page holds is lost with the first key of it that is none.
    #[derive(Default)]
    struct Keys {
        keys: Vec<&'static str>,
        asked: Mutex<usize>,
    }

    #[async_trait::async_trait]
    impl PaginatedListStore for Keys {
        async fn list_paginated(
            &self,
            prefix: Option<&str>,
            opts: PaginatedListOptions,
        ) -> object_store::Result<PaginatedListResult> {
            *self.asked.lock().unwrap() += 1;
            let prefix = prefix.unwrap_or_default();
            let after = opts.page_token.or(opts.offset).unwrap_or_default();
            let mut names: Vec<String> = Vec::new();
            for key in self.keys.iter().filter(|key| key.starts_with(prefix)) {
                let end = opts.delimiter.as_ref().and_then(|_| key[prefix.len()..].find('/'));
                let name = end.map_or(*key, |end| &key[..prefix.len() + end + 1]);
                if name > after.as_str() && *key > after.as_str() && names.last().is_none_or(|last| last != name) {
                    names.push(name.into());
                }
            }
            let most = opts.max_keys.unwrap_or(PAGE);
            let page_token = (names.len() > most).then(|| names[most - 1].clone());
            let (mut objects, mut common_prefixes) = (Vec::new(), Vec::new());
            for name in names.into_iter().take(most) {
                let location = Path::parse(name.replace('\r', "\n"))?;
                if opts.delimiter.is_some() && name.ends_with('/') {
                    common_prefixes.push(location);
                } else {
                    objects.push(meta(location));
                }
            }
            let result = ListResult { objects, common_prefixes, extensions: Default::default() };
            Ok(PaginatedListResult { result, page_token })
        }
    }

    fn meta(location: Path) -> ObjectMeta {
        ObjectMeta { location, last_modified: Default::default(), size: 1, e_tag: None, version: None }
    }

    fn sifted(keys: &Arc<Keys>, folder: &str, depth: Depth) -> Listed {
        let cloud = Cloud::over(Arc::new(InMemory::new()), Some(keys.clone()), "");
        runtime::wait(cloud.sifted(&**keys, &Path::from(folder), depth)).unwrap()
    }

    fn names(objects: &[ObjectMeta]) -> Vec<&str> {
        objects.iter().map(|meta| meta.location.as_ref()).collect()
    }

    #[test]
    fn a_key_that_is_none_costs_only_itself() {
        let mut all =
            vec!["raw/./dot", "raw//dbl", "raw//dbl2", "raw/a", "raw/b/c", "raw/cr\rx", "raw/t\tb", "raw/z", "x"];
        all.sort_unstable();
        let keys = Arc::new(Keys { keys: all, ..Keys::default() });
        let deep = sifted(&keys, "raw", Depth::All);
        assert_eq!(names(&deep.objects), ["raw/a", "raw/b/c", "raw/z"]);
        assert_eq!(deep.odd, ["raw/./dot", "raw//dbl", "raw//dbl2", "raw/cr\nx", "raw/t\tb"]);
        let level = sifted(&keys, "raw", Depth::One);
        assert_eq!(names(&level.objects), ["raw/a", "raw/z"]);
        assert_eq!(level.folders, [Path::from("raw/b")]);
        assert_eq!(level.odd, ["raw/./", "raw//", "raw/cr\nx", "raw/t\tb"]);
        assert_eq!(sifted(&keys, "", Depth::All).objects.len(), 4);
    }

    #[test]
    fn few_answers_are_asked_for_among_many_keys() {
        let mut all: Vec<&'static str> = (0..5000).map(|i| &*format!("k{i:05}").leak()).collect();
        all.push("k02500//x");
        all.sort_unstable();
        let keys = Arc::new(Keys { keys: all, ..Keys::default() });
        let listed = sifted(&keys, "", Depth::All);
        assert_eq!((listed.objects.len(), listed.odd.as_slice()), (5000, ["k02500//x".to_string()].as_slice()));
        assert!(*keys.asked.lock().unwrap() < 40, "{} answers", keys.asked.lock().unwrap());
    }

    #[test]
    fn of_keys_that_differ_by_a_slash_the_real_one_is_taken() {
        let store = Arc::new(InMemory::new());
        let cloud = Cloud::over(store.clone(), None, "");
        runtime::wait(store.put(&Path::from("a"), vec![0; 7].into())).unwrap();
        let twice = |key: &str| vec![meta(Path::from(key)), meta(Path::from(key))];
        let mut listed = Listed { objects: [twice("a"), twice("b")].concat(), ..Listed::default() };
        runtime::wait(cloud.untwin(&mut listed)).unwrap();
        assert_eq!((names(&listed.objects), listed.objects[0].size), (vec!["a"], 7));
        assert_eq!(listed.odd, ["a with a slash at an end", "b with a slash at an end"]);
    }
}
