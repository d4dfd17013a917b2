//! One suite for every kind of store.

use std::fs;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A store with nothing in it, and a folder for local files.
struct Fresh {
    dir: tempfile::TempDir,
    out: Output,
}

impl Fresh {
    /// A local file to be published or put.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.out.scratch().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn folder(&self, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        files.iter().for_each(|(file, content)| drop(self.file(&format!("{name}/{file}"), content)));
        self.out.scratch().join(name)
    }
}

/// Every kind of store, fresh and empty: a folder, a bucket, one that creates all that is published by copies, and one that
/// lists names by how they begin.
fn stores() -> Vec<Fresh> {
    let dir = tempfile::tempdir().unwrap();
    let out = Output::at(&dir.path().join("out"));
    let mut all = vec![Fresh { dir, out }];
    #[cfg(feature = "cloud")]
    for one_put in [u64::MAX, 0] {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(object_store::memory::InMemory::new());
        let out = Output::over(store, "some/prefix", one_put, &dir.path().join("scratch"));
        all.push(Fresh { dir, out });
    }
    #[cfg(feature = "cloud")]
    {
        let (dir, bucket) = (tempfile::tempdir().unwrap(), Arc::new(object_store::memory::InMemory::new()));
        let out = Output::gated(gated::Gated::new(&bucket, Box::new(|_| true)), &dir.path().join("scratch"));
        all.push(Fresh { dir, out });
    }
    all
}

fn object(path: &str, content: &[u8]) -> Object {
    Object { path: path.into(), bytes: content.len() as u64, sha256: hex(&Sha256::digest(content)) }
}

const RECEIPT: &str = "_framemill/receipts/000007.json";

#[test]
fn what_is_created_stays_and_one_of_all_who_race_wins() {
    for Fresh { out, .. } in stores() {
        assert_eq!(out.read("a/b.json").unwrap(), None, "{out}");
        assert_eq!(out.create_only("a/b.json", b"1").unwrap(), Created::Written);
        assert_eq!(out.create_only("a/b.json", b"1").unwrap(), Created::Same);
        assert_eq!(out.create_only("a/b.json", b"2").unwrap(), Created::Other(b"1".to_vec()));
        assert_eq!(out.read("a/b.json").unwrap(), Some(b"1".to_vec()));
        assert_eq!(out.size("a/b.json").unwrap(), Some(1));
        let barrier = Barrier::new(8);
        let race = &|i: u8| {
            barrier.wait();
            out.create_only("race", &[i]).unwrap() == Created::Written
        };
        let wins = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8).map(|i| scope.spawn(move || race(i))).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(wins, 1, "{out}");
    }
}

#[test]
fn names_are_listed_in_order_without_what_is_hidden() {
    for Fresh { out, .. } in stores() {
        assert!(out.list("").unwrap().is_empty() && out.list("none").unwrap().is_empty());
        for name in ["f/b", "f/a", "f/.c.tmp", "f/sub/d", "top"] {
            out.replace(name, b"x").unwrap();
        }
        assert_eq!(out.list("f").unwrap(), ["a", "b", "sub/"], "{out}");
        assert_eq!(out.list("f/").unwrap(), out.list("f").unwrap());
        assert_eq!(out.list("").unwrap(), ["f/", "top"]);
        out.remove("f/a").unwrap();
        out.remove("f/a").unwrap();
        assert_eq!(out.list("f").unwrap(), ["b", "sub/"]);
        let names = ["f/b".to_string(), "f/a".into(), "top".into()];
        assert_eq!(out.read_all(&names).unwrap(), [Some(b"x".to_vec()), None, Some(b"x".to_vec())]);
    }
}

#[test]
fn names_are_listed_by_how_they_begin_and_removed_together() {
    for Fresh { out, .. } in stores() {
        let names = ["a1", "a2", "b1", "c1", "d/a3", ".a4"];
        names.iter().for_each(|name| out.replace(&format!("f/{name}"), b"x").unwrap());
        let listed = out.list_by("f", &["a".into(), "c".into(), "e".into()]).unwrap();
        assert!(listed.is_sorted() && listed.iter().all(|name| !name.starts_with('.')), "{out}: {listed:?}");
        let mut named: Vec<_> = listed.iter().filter(|name| ["a", "c"].contains(&&name[..1])).collect();
        named.dedup();
        assert_eq!(named, ["a1", "a2", "c1"], "{out}");
        assert!(out.list_by("none", &["a".into(), "b".into()]).unwrap().is_empty());
        out.remove_all(&["f/a1".into(), "f/none".into(), "f/c1".into()]).unwrap();
        assert_eq!(out.list("f").unwrap(), ["a2", "b1", "d/"], "{out}");
    }
}

#[cfg(feature = "cloud")]
#[test]
fn more_names_than_one_answer_holds_are_listed_too() {
    let Fresh { out, dir } = stores().pop().unwrap();
    let name = |n: u64| format!("{}{n:04}", if n.is_multiple_of(50) { 'b' } else { 'a' });
    (0..2500).for_each(|n| out.replace(&format!("f/{}", name(n)), b"").unwrap());
    let mut expected: Vec<String> = (0..2500).map(name).collect();
    expected.sort();
    assert_eq!(out.list_by("f", &["a".into(), "b".into()]).unwrap(), expected);
    assert_eq!(out.list("f").unwrap(), expected);
    drop(dir);
}

#[test]
fn what_another_has_written_since_it_was_seen_is_not_swapped() {
    for fresh in stores() {
        let out = &fresh.out;
        let put = |content: &[u8], seen: Option<&Version>, file: bool| match file {
            true => out.swap_file(&fresh.file("part", content), "view", seen).unwrap(),
            false => out.swap("view", content, seen).unwrap(),
        };
        for file in [false, true] {
            out.remove("view").unwrap();
            assert_eq!(out.version("view").unwrap(), None, "{out}");
            let first = put(b"first", None, file).unwrap();
            assert_eq!(put(b"late", None, file), None, "{out}: it was there");
            let second = put(b"other", Some(&first), file).unwrap();
            assert_ne!(first, second, "{out}");
            assert_eq!(put(b"late", Some(&first), file), None, "{out}: it was another one");
            assert_eq!(out.read("view").unwrap(), Some(b"other".to_vec()));
            assert_eq!(out.version("view").unwrap(), Some(second.clone()), "{out}");
            out.remove("view").unwrap();
            assert_eq!(put(b"late", Some(&second), file), None, "{out}: it was gone");
        }
        // A view tells another's same content, and a reply that was lost, from other content.
        let (one, two) = (View::of(out, "view").unwrap(), View::of(out, "view").unwrap());
        let written = one.write(b"same").unwrap().unwrap();
        assert_eq!(written.object, object("view", b"same"));
        assert!(two.write(b"same").unwrap().is_some() && two.write(b"more").unwrap().is_none(), "{out}");
        assert!(two.put(&fresh.file("part", b"more")).unwrap().is_none() && written.stands(out).unwrap(), "{out}");
        out.replace("view", b"more").unwrap();
        assert!(!written.stands(out).unwrap(), "{out}");
    }
}

#[test]
fn files_are_put_fetched_and_measured() {
    for fresh in stores() {
        let out = &fresh.out;
        let content: Vec<u8> = (0..40_000_000u32).map(|i| (i / 3) as u8).collect();
        out.put(&fresh.file("part", &content), "shards/large").unwrap();
        assert_eq!(out.measure("shards/large").unwrap(), object("shards/large", &content), "{out}");
        let fetched = out.file("shards/large").unwrap();
        assert!(fs::read(&fetched).unwrap() == content);
        let path = fetched.as_ref().to_path_buf();
        drop(fetched);
        assert_eq!(path.exists(), out.folder().is_some(), "only what was fetched goes");
        let mut left = &content[..20_000_001];
        let read = |buffer: &mut [u8]| Ok(std::io::Read::read(&mut left, buffer).unwrap());
        out.write("raw/large", &mut { read }).unwrap();
        assert_eq!(out.measure("raw/large").unwrap(), object("raw/large", &content[..20_000_001]));
        let broken = out.write("raw/broken", &mut |_| Err(Error::usage("no more")));
        assert_eq!(broken.unwrap_err().message, "no more");
        assert_eq!(out.size("raw/broken").unwrap(), None, "what broke is visible");
        let error = out.measure("none").unwrap_err();
        assert!(error.exit_code() == 74 && error.message.contains("none"), "{error}");
        drop(fresh.dir);
    }
}

#[test]
fn the_same_again_is_fine_and_an_orphan_is_replaced_until_there_is_a_receipt() {
    for fresh in stores() {
        let out = &fresh.out;
        let publish =
            |content: &[u8]| out.publish(&fresh.file("w/part", content), &object("x/shard", content), RECEIPT);
        publish(b"one").unwrap();
        publish(b"one").unwrap();
        assert_eq!(out.read("x/shard").unwrap().unwrap(), b"one");
        publish(b"two").unwrap();
        assert_eq!(out.read("x/shard").unwrap().unwrap(), b"two", "{out}");
        out.create_only(RECEIPT, b"{}").unwrap();
        let error = publish(b"three").unwrap_err();
        assert!(
            error.exit_code() == 70 && error.message.contains("x/shard") && error.message.contains(RECEIPT),
            "{error}"
        );
        assert_eq!(out.read("x/shard").unwrap().unwrap(), b"two");
        publish(b"two").unwrap();
    }
}

#[test]
fn folders_are_published_file_by_file_under_the_same_rules() {
    for fresh in stores() {
        let out = &fresh.out;
        let publish = |files: &[(&str, &[u8])]| {
            let listing: Vec<_> =
                files.iter().map(|(name, c)| (name.to_string(), c.len() as u64, hex(&Sha256::digest(c)))).collect();
            let (bytes, sha256) = listing_digest(&listing);
            let object = Object { path: "images/000007/".into(), bytes, sha256 };
            let part = fresh.folder("w/images", files);
            let published = out.publish(&part, &object, RECEIPT);
            let _ = fs::remove_dir_all(part);
            published.map(|()| object)
        };
        let first = publish(&[("a.jpg", b"a"), ("b.jpg", b"b")]).unwrap();
        assert_eq!(out.measure("images/000007/").unwrap(), first, "{out}");
        assert_eq!(publish(&[("a.jpg", b"a"), ("b.jpg", b"b")]).unwrap(), first);
        let second = publish(&[("a.jpg", b"A"), ("c.jpg", b"c")]).unwrap();
        assert_eq!(out.list("images/000007").unwrap(), ["a.jpg", "c.jpg"], "{out}");
        assert_eq!(out.measure("images/000007/").unwrap(), second);
        out.create_only(RECEIPT, b"{}").unwrap();
        for other in [[("a.jpg", b"x"), ("c.jpg", b"c")], [("a.jpg", b"A"), ("d.jpg", b"d")]] {
            assert_eq!(publish(&other.map(|(name, c)| (name, c.as_slice()))).unwrap_err().exit_code(), 70, "{out}");
        }
        assert_eq!(out.read("images/000007/a.jpg").unwrap().unwrap(), b"A");
        assert_eq!(out.read("images/000007/c.jpg").unwrap().unwrap(), b"c");
    }
}

/// A name in a scratch that no process on this machine has.
fn dead() -> String {
    format!("{}-{}-1-1", host(), u32::MAX)
}

#[test]
fn what_processes_that_are_gone_left_is_swept() {
    for fresh in stores() {
        let out = &fresh.out;
        let before = format!("{}-0-0", worker());
        let left = [dead(), before, format!("{}/task", dead().replace("-1-1", "-2"))];
        left.iter().for_each(|name| drop(fresh.file(name, b"half")));
        let own = fresh.file(&scratch::unique(), b"at work");
        let elsewhere = fresh.file("elsewhere-1-1-1", b"at work");
        let forgotten = fresh.file("elsewhere-2-1-1", b"half");
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
        fs::File::options().write(true).open(&forgotten).unwrap().set_modified(then).unwrap();
        out.tidy().unwrap();
        assert!(!forgotten.exists(), "{out}");
        assert!(left.iter().all(|name| !out.scratch().join(name).exists()), "{out}");
        assert!(own.exists() && elsewhere.exists(), "{out}");
        out.sweep().unwrap();
        assert!(own.exists() && !elsewhere.exists(), "of no use any more: {out}");
    }
}

#[test]
fn many_write_by_way_of_one_folder_that_comes_and_goes() {
    /// Tells that its thread has ended, by a panic too: else the one that sweeps would wait for ever.
    struct Steps<'a>(&'a AtomicUsize);
    impl Drop for Steps<'_> {
        fn drop(&mut self) {
            self.0.store(usize::MAX, Ordering::Relaxed);
        }
    }
    for Fresh { out, .. } in stores() {
        let (out, done) = (&out, &[const { AtomicUsize::new(0) }; 4]);
        std::thread::scope(|scope| {
            for (i, done) in done.iter().enumerate() {
                scope.spawn(move || {
                    let steps = Steps(done);
                    for j in 0..100 {
                        assert_eq!(out.create_only(&format!("a/{i}-{j}"), b"x").unwrap(), Created::Written);
                        out.replace(&format!("b/{j}"), b"y").unwrap();
                        steps.0.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            // Who finishes the job elsewhere takes all of it away, but not again and again from the same write, however slow
            // the disk is: each has moved on before the next time.
            scope.spawn(move || {
                let mut swept = 0;
                loop {
                    let slowest = done.iter().map(|done| done.load(Ordering::Relaxed)).min().unwrap_or(usize::MAX);
                    if slowest == usize::MAX {
                        break;
                    }
                    if slowest > swept {
                        let _ = fs::remove_dir_all(out.scratch());
                        swept = slowest;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
        });
        assert_eq!((out.list("a").unwrap().len(), out.list("b").unwrap().len()), (400, 100), "{out}");
        let tries = AtomicUsize::new(0);
        let put = Scratch::within(out.scratch(), "w", "t", |folder| {
            fs::write(folder.path("x"), "x").unwrap();
            if tries.fetch_add(1, Ordering::Relaxed) < 3 {
                fs::remove_dir_all(out.scratch()).unwrap();
            }
            out.put(&folder.path("x"), "x")
        });
        put.unwrap();
        assert_eq!((out.read("x").unwrap().unwrap(), tries.into_inner()), (b"x".to_vec(), 4), "{out}");
    }
}

#[test]
fn racing_workers_publish_one_object() {
    for fresh in stores() {
        let out = &fresh.out;
        let parts: Vec<PathBuf> = (0..4).map(|i| fresh.file(&format!("w{i}/part"), b"same")).collect();
        std::thread::scope(|scope| {
            for part in &parts {
                scope.spawn(move || out.publish(part, &object("shard", b"same"), RECEIPT).unwrap());
            }
        });
        assert_eq!(out.measure("shard").unwrap(), object("shard", b"same"), "{out}");
    }
}

#[test]
fn the_probe_accepts_them_and_leaves_nothing() {
    for Fresh { out, .. } in stores() {
        out.probe().unwrap();
        assert!(out.list("").unwrap().iter().all(|name| out.list(name).unwrap().is_empty()), "{out}");
    }
}
