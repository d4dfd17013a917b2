//! A local or mounted file system: the few operations on files that exactly-once rests on, and [`Folder`], an output
//! that is made of them.
//!
//! Promises: what is visible under its final name is whole and on disk; [`create_only`] has one winner, whoever races;
//! nothing is overwritten unless the caller says so. Every error names the path and what to do.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use sha2::{Digest, Sha256};

use super::scratch::{unique, unswept};
use super::{Created, Fetched, Object, Source, Store, Version, differs, hex, listing_digest, unsound};
use crate::error::{Error, Result};

/// What [`publish`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Published {
    /// The name was free and is now taken by the new content.
    Placed,
    /// Something had the name already; both are as they were.
    Taken,
}

/// The store error for `error`, which happened when trying to `verb` `path`: what it means and what to do.
pub fn failed(verb: &str, path: &Path, error: &io::Error) -> Error {
    let remedy = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "there is no space left: free some (or raise the quota) and run the same command again, finished tasks are kept"
        }
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only: mount it writable or choose another output",
        ErrorKind::PermissionDenied => "permission denied: give this user write access or choose another output",
        ErrorKind::NotFound => {
            "it is not there (any more): check that the output is mounted and nothing else cleans it up"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::IsADirectory => {
            "something else has that name: move it away or choose another output"
        }
        _ => "check the disk or the mount, then run the same command again, finished tasks are kept",
    };
    Error::store(format!("could not {verb} {}: {error}; {remedy}", path.display()))
}

/// Syncs a folder: only then are the names in it durable.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match File::open(folder).and_then(|f| f.sync_all()) {
        // Some mounts cannot sync folders; their names are as durable as they get.
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::INVAL | Errno::NOTSUP)) => Ok(()),
        other => other.map_err(|e| failed("sync the folder", folder, &e)),
    }
}

/// How often a folder that others remove while it is made is made anew.
const TRIES: u32 = 256;

/// Creates `folder` and the folders above it, each durable.
pub fn create_folders(folder: &Path) -> Result<()> {
    create_within(folder, TRIES)
}

fn create_within(folder: &Path, tries: u32) -> Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new(""));
    create_within(parent, tries)?;
    match fs::create_dir(folder) {
        Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {
            match fs::symlink_metadata(folder) {
                Ok(there) if there.is_dir() || folder.is_dir() => Ok(()),
                Ok(_) => Err(failed("create the folder", folder, &e)),
                // Someone just removed it, or its parent, which had nothing in them. Below /proc, or in a current
                // folder that was removed, there is never one.
                Err(_) if tries > 0 => create_within(folder, tries - 1),
                Err(_) => Err(failed("create the folder", folder, &e)),
            }
        }
        Err(e) => Err(failed("create the folder", folder, &e)),
        Ok(()) => match sync_folder(parent) {
            Err(_) if tries > 0 && !folder.is_dir() => create_within(folder, tries - 1),
            synced => synced,
        },
    }
}

/// Gives `from` the name `to` if that is free; true if it was. Atomic, whoever races.
fn place(from: &Path, to: &Path) -> io::Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // Not known to this kernel or file system (NFS, some FUSE mounts).
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => place_by_link(from, to),
        Err(e) => Err(e.into()),
    }
}

/// [`place`] in the older way, for file systems that cannot rename without replacing.
fn place_by_link(from: &Path, to: &Path) -> io::Result<bool> {
    // A rename never replaces a folder that has something in it.
    let placed = if from.is_dir() { fs::rename(from, to) } else { fs::hard_link(from, to) };
    match placed {
        Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => Ok(false),
        Err(e) => Err(e),
        Ok(()) if from.is_file() => fs::remove_file(from).map(|()| true),
        Ok(()) => Ok(true),
    }
}

/// A file on its way to its name; removed when dropped, so that no error path leaves one behind.
struct Temporary {
    path: PathBuf,
    /// The folder is for such files only, and goes with the last of them.
    swept: bool,
}

impl Temporary {
    /// Beside `path`; hidden, so that [`list`] and globs pass over it.
    fn beside(path: &Path) -> Temporary {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Temporary { path: path.with_file_name(format!(".{name}.{}.tmp", unique())), swept: false }
    }

    /// In the scratch of an output, where what a killed process leaves is found and swept.
    fn within(scratch: &Path) -> Temporary {
        Temporary { path: scratch.join(unique()), swept: true }
    }

    /// Creates the file, and the folders above.
    fn create(&self) -> Result<File> {
        let parent = self.path.parent().unwrap_or(Path::new(""));
        loop {
            create_folders(parent)?;
            match File::create_new(&self.path) {
                // It went with another's last file.
                Err(e) if self.swept && e.kind() == ErrorKind::NotFound => {}
                other => return other.map_err(|e| failed("create", &self.path, &e)),
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        let mut file = self.create()?;
        file.write_all(bytes).map_err(|e| failed("write", &self.path, &e))?;
        file.sync_all().map_err(|e| failed("sync", &self.path, &e))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Mostly it has its final name by now; a leftover harms nobody.
        let _ = fs::remove_file(&self.path);
        if let (true, Some(scratch)) = (self.swept, self.path.parent()) {
            super::scratch::leave(scratch);
        }
    }
}

/// Creates `path` with `bytes`, by way of what `temporary` names, unless it exists. Of all who race, in this process or
/// another, exactly one sees [`Created::Written`]; a reader never sees half of it. For small objects: plans, rejects,
/// receipts.
fn create_only(path: &Path, bytes: &[u8], temporary: impl Fn() -> Temporary) -> Result<Created> {
    if let Some(there) = read(path)? {
        return Ok(if there == bytes { Created::Same } else { Created::Other(there) });
    }
    let published = by_way_of(temporary, |temporary| {
        temporary.write(bytes)?;
        publish(&temporary.path, path)
    })?;
    if published == Published::Placed {
        return Ok(Created::Written);
    }
    match read(path)? {
        Some(there) if there == bytes => Ok(Created::Same),
        Some(there) => Ok(Created::Other(there)),
        None => Err(failed("read", path, &io::Error::from(ErrorKind::NotFound))),
    }
}

/// Does `write` by way of a temporary.
fn by_way_of<T>(temporary: impl Fn() -> Temporary, write: impl Fn(&Temporary) -> Result<T>) -> Result<T> {
    unswept(|| Ok(temporary()), |temporary| temporary.swept && identity(&temporary.path).is_none(), write)
}

/// Writes `path` whole or not at all, in place of what was there. For files that are no part of an output.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = Temporary::beside(path);
    temporary.write(bytes)?;
    rename(&temporary.path, path)
}

/// Gives a synced file the name `to`, in place of what was there.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(Path::new(""));
    create_folders(folder)?;
    fs::rename(from, to).map_err(|e| failed("write", to, &e))?;
    sync_folder(folder)
}

/// Gives the synced file or folder `temp` its final name, if that is free, and makes the name durable.
fn publish(temp: &Path, to: &Path) -> Result<Published> {
    let folder = to.parent().unwrap_or(Path::new(""));
    create_folders(folder)?;
    let placed = place(temp, to).map_err(|e| failed("publish", to, &e))?;
    sync_folder(folder)?;
    Ok(if placed { Published::Placed } else { Published::Taken })
}

/// The names in `folder`, sorted; none if it is not there. Hidden ones (temporaries) are left out.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|e| failed("list", folder, &e))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| failed("list", folder, &e))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The content of `path`, or `None` where it is not there.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path, &e)),
    }
}

/// Size and digest of a file.
pub fn file_digest(path: &Path) -> Result<(u64, String)> {
    let mut sha = Sha256::new();
    let bytes = File::open(path).and_then(|mut f| io::copy(&mut f, &mut sha)).map_err(|e| failed("read", path, &e))?;
    Ok((bytes, hex(&sha.finalize())))
}

fn folder_digest(folder: &Path) -> Result<(u64, String)> {
    if !folder.is_dir() {
        return Err(failed("read", folder, &io::Error::from(ErrorKind::NotFound)));
    }
    let mut files = Vec::new();
    for path in list(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (bytes, sha256) = file_digest(&path)?;
        files.push((name, bytes, sha256));
    }
    Ok(listing_digest(&files))
}

/// Which file or folder has this name now, if any: it changes when another takes the name.
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// The version of a file; it keeps it where it is renamed.
fn version(path: &Path) -> Result<Option<Version>> {
    use std::os::unix::fs::MetadataExt;
    match fs::metadata(path) {
        Ok(m) => {
            let etag = format!("{}-{}-{}-{}.{}", m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec());
            Ok(Some(Version { etag: Some(etag), version: None }))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path, &e)),
    }
}

/// An output in a folder.
#[derive(Debug)]
pub struct Folder {
    folder: PathBuf,
    scratch: PathBuf,
}

impl Folder {
    /// `scratch` is for temporaries, on the same file system.
    pub fn new(folder: &Path, scratch: &Path) -> Folder {
        Folder { folder: folder.to_path_buf(), scratch: scratch.to_path_buf() }
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.folder.clone() } else { self.folder.join(name) }
    }

    fn temporary(&self) -> Temporary {
        Temporary::within(&self.scratch)
    }

    /// Deals with what has the name already. True if it is just what is to be published, false if the name should be
    /// free now. `aside` is a name beside the part.
    fn settle(&self, aside: &Path, object: &Object, receipt: &str) -> Result<bool> {
        let (to, receipt_path) = (self.path(&object.path), self.path(receipt));
        let Some(seen) = identity(&to) else { return Ok(false) };
        let there = match self.measure(&object.path) {
            // Another worker on the same task took the orphan away.
            Err(_) if identity(&to).is_none() => return Ok(false),
            other => other?,
        };
        if there == *object {
            return Ok(true);
        }
        if receipt_path.exists() {
            return Err(differs(&self.place(&object.path), receipt, &there, object));
        }
        match fs::rename(&to, aside) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            other => other.map_err(|e| failed("replace", &to, &e))?,
        }
        if identity(aside) != Some(seen) || receipt_path.exists() {
            // Not the orphan that was seen, or one no longer: it goes back, and is looked at again.
            publish(aside, &to)?;
            return Ok(false);
        }
        let removed = if aside.is_dir() { fs::remove_dir_all(aside) } else { fs::remove_file(aside) };
        removed.map_err(|e| failed("replace", &to, &e)).map(|()| false)
    }
}

impl Store for Folder {
    fn place(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        read(&self.path(name))
    }

    fn create_only(&self, name: &str, bytes: &[u8]) -> Result<Created> {
        create_only(&self.path(name), bytes, || self.temporary())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        by_way_of(
            || self.temporary(),
            |temporary| {
                temporary.write(bytes)?;
                rename(&temporary.path, &self.path(name))
            },
        )
    }

    fn version(&self, name: &str) -> Result<Option<Version>> {
        version(&self.path(name))
    }

    fn swap(&self, name: &str, bytes: &[u8], seen: Option<&Version>) -> Result<Option<Version>> {
        by_way_of(
            || self.temporary(),
            |temporary| {
                temporary.write(bytes)?;
                self.swap_file(&temporary.path, name, seen)
            },
        )
    }

    fn swap_file(&self, file: &Path, name: &str, seen: Option<&Version>) -> Result<Option<Version>> {
        let (to, ours) = (self.path(name), version(file)?);
        let written = match seen {
            None => publish(file, &to)? == Published::Placed,
            Some(_) => {
                let same = version(&to)?.as_ref() == seen;
                if same {
                    rename(file, &to)?;
                }
                same
            }
        };
        Ok(ours.filter(|_| written))
    }

    fn put(&self, file: &Path, name: &str) -> Result<()> {
        rename(file, &self.path(name))
    }

    fn write(&self, name: &str, from: &mut Source) -> Result<()> {
        let (to, temporary) = (self.path(name), self.temporary());
        let mut file = temporary.create()?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match from(&mut buffer)? {
                0 => break,
                n => file.write_all(&buffer[..n]).map_err(|e| failed("write", &to, &e))?,
            }
        }
        file.sync_all().map_err(|e| failed("sync", &to, &e))?;
        rename(&temporary.path, &to)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(failed("remove", &path, &e)),
            _ => Ok(()),
        }
    }

    fn remove_folder(&self, folder: &str) -> Result<()> {
        // It stays where someone is just writing into it.
        let _ = fs::remove_dir(self.path(folder));
        Ok(())
    }

    fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for path in list(&self.path(folder))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            names.push(if path.is_dir() { name + "/" } else { name });
        }
        Ok(names)
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        let path = self.path(name);
        match fs::metadata(&path) {
            Ok(meta) => Ok(meta.is_file().then_some(meta.len())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read", &path, &e)),
        }
    }

    fn measure(&self, name: &str) -> Result<Object> {
        let path = self.path(name);
        let (bytes, sha256) = if name.ends_with('/') { folder_digest(&path) } else { file_digest(&path) }?;
        Ok(Object { path: name.into(), bytes, sha256 })
    }

    fn fetch(&self, name: &str, _: &Path) -> Result<Fetched> {
        Ok(Fetched { path: self.path(name), own: false })
    }

    fn publish(&self, part: &Path, object: &Object, receipt: &str) -> Result<()> {
        let (to, aside) = (self.path(&object.path), part.with_file_name("orphan"));
        while publish(part, &to)? == Published::Taken && !self.settle(&aside, object, receipt)? {}
        Ok(())
    }

    fn probe(&self) -> Result<()> {
        let probe = self.temporary();
        let first = create_only(&probe.path, b"first", || self.temporary())?;
        let second = create_only(&probe.path, b"second", || self.temporary())?;
        let racing = self.temporary();
        racing.write(b"third")?;
        // create_only looks before it writes; this is what it rests on when two look at the same time.
        let third = place(&racing.path, &probe.path).map_err(|e| failed("write to", &self.folder, &e))?;
        let kept = read(&probe.path)?.is_some();
        if first == Created::Written && second == Created::Other(b"first".to_vec()) && !third && kept {
            return Ok(());
        }
        Err(unsound(&self.place(""), "choose an output on a file system with atomic rename and hard links"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    /// By way of a scratch that all share.
    fn create(path: &Path, bytes: &[u8]) -> Created {
        let scratch = path.with_file_name("scratch");
        create_only(path, bytes, || Temporary::within(&scratch)).unwrap()
    }

    #[test]
    fn create_only_has_one_winner_among_threads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("receipts/000000.json");
        let threads = 8;
        let barrier = Barrier::new(threads);
        let results: Vec<Created> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..threads)
                .map(|i| {
                    let (path, barrier) = (&path, &barrier);
                    scope.spawn(move || {
                        barrier.wait();
                        create(path, format!("worker {i}").as_bytes())
                    })
                })
                .collect();
            racers.into_iter().map(|r| r.join().unwrap()).collect()
        });
        let there = read(&path).unwrap().unwrap();
        for (i, result) in results.iter().enumerate() {
            let own = format!("worker {i}").into_bytes() == there;
            assert_eq!(result == &Created::Written, own, "worker {i}: {result:?}");
            assert!(own || result == &Created::Other(there.clone()));
        }
        let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(names, 1, "temporaries were left behind");
    }

    #[test]
    fn creating_the_same_again_is_success() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        assert_eq!(create(&path, b"a"), Created::Written);
        assert_eq!(create(&path, b"a"), Created::Same);
        assert_eq!(create(&path, b"b"), Created::Other(b"a".to_vec()));
        assert_eq!(read(&path).unwrap().unwrap(), b"a");
    }

    /// The other side of the test below: races for every name in the folder, and prints which it won.
    #[test]
    fn racer() {
        let Some(folder) = std::env::var_os("FRAMEMILL_TEST_RACE").map(PathBuf::from) else { return };
        while !folder.join("go").exists() {
            std::hint::spin_loop();
        }
        let own = std::process::id().to_string();
        for i in 0..RACES {
            if create(&folder.join(format!("{i}.json")), own.as_bytes()) == Created::Written {
                println!("won {i}.");
            }
        }
    }

    const RACES: usize = 30;

    #[test]
    fn create_only_has_one_winner_among_processes() {
        let dir = tempfile::tempdir().unwrap();
        let racers: Vec<_> = (0..3)
            .map(|_| {
                std::process::Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "store::local::tests::racer", "--nocapture"])
                    .env("FRAMEMILL_TEST_RACE", dir.path())
                    .stdout(std::process::Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        fs::write(dir.path().join("go"), "").unwrap();
        let mut wins = vec![Vec::new(); RACES];
        for racer in racers {
            let id = racer.id().to_string();
            let output = racer.wait_with_output().unwrap();
            assert!(output.status.success());
            let text = String::from_utf8(output.stdout).unwrap();
            (0..RACES).filter(|i| text.contains(&format!("won {i}."))).for_each(|i| wins[i].push(id.clone()));
        }
        for (i, winners) in wins.iter().enumerate() {
            let there = read(&dir.path().join(format!("{i}.json"))).unwrap().unwrap();
            assert_eq!(winners.as_slice(), [String::from_utf8(there).unwrap()]);
        }
    }

    #[test]
    fn both_ways_of_placing_take_only_free_names() {
        for way in [place, place_by_link] {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            for name in ["a", "b"] {
                fs::write(at(name), name).unwrap();
                let folder = at(&format!("folder-{name}"));
                fs::create_dir(&folder).unwrap();
                fs::write(folder.join("in"), name).unwrap();
            }
            assert!(way(&at("a"), &at("final")).unwrap() && !way(&at("b"), &at("final")).unwrap());
            assert!(way(&at("folder-a"), &at("images/")).unwrap() && !way(&at("folder-b"), &at("images/")).unwrap());
            assert_eq!(
                (fs::read(at("final")).unwrap(), fs::read(at("images/in")).unwrap()),
                (b"a".into(), b"a".into())
            );
            assert!(at("b").exists() && at("folder-b").exists() && !at("a").exists() && !at("folder-a").exists());
            assert!(way(&at("none"), &at("free")).is_err());
        }
    }

    #[test]
    fn publish_makes_the_folders_above() {
        let dir = tempfile::tempdir().unwrap();
        let (temp, to) = (dir.path().join("temp"), dir.path().join("x/y/final"));
        fs::write(&temp, "a").unwrap();
        assert_eq!(publish(&temp, &to).unwrap(), Published::Placed);
        fs::write(&temp, "b").unwrap();
        assert_eq!(publish(&temp, &to).unwrap(), Published::Taken);
        assert_eq!(fs::read(&to).unwrap(), b"a");
    }

    #[test]
    fn the_probe_accepts_this_file_system_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        Folder::new(dir.path(), &dir.path().join("_framemill/partial")).probe().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn errors_name_path_and_remedy() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let path = dir.path().join("file/x");
        let error = create_only(&path, b"", || Temporary::beside(&path)).unwrap_err();
        assert_eq!(error.exit_code(), 74);
        assert!(error.message.contains("file") && error.message.contains("another output"), "{error}");
        let full = failed("write", Path::new("/o/p"), &io::Error::from(ErrorKind::StorageFull));
        assert!(full.message.contains("/o/p") && full.message.contains("no space left"), "{full}");
    }

    #[test]
    fn lists_are_sorted_and_without_temporaries() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b", "a", ".c.tmp"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let names: Vec<_> = list(dir.path()).unwrap().iter().map(|p| p.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(list(&dir.path().join("none")).unwrap().is_empty());
    }
}
