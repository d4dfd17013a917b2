//! [`Scratch`]: the folder of a benchmark's own, which goes with it; and the end of those that killed benchmarks left.
//!
//! Each holds a locked file as long as its benchmark lives, so that nobody takes away what another is at.

use std::fs::File;
use std::path::Path;

use super::child::Folder;
use crate::error::Result;
use crate::store;

const PREFIX: &str = "framemill-bench-";
const LOCK: &str = "lock";

/// A folder that goes when it is dropped.
pub struct Scratch {
    folder: Folder,
    // Behind the folder, so that it is held until that is gone.
    _lock: File,
}

impl Scratch {
    /// Makes one below `scratch`, after it has removed what is nobody's any more.
    ///
    /// # Errors
    /// Store.
    pub fn make(scratch: &Path) -> Result<Scratch> {
        let folder = scratch.join(format!("{PREFIX}{}", std::process::id()));
        sweep(scratch);
        store::create_folders(&folder)?;
        let failed = |e: std::io::Error| store::failed("make", &folder, &e);
        let folder = Folder(std::path::absolute(&folder).map_err(failed)?);
        // It has its name only once it is locked: another benchmark may begin just now.
        let (new, name) = (folder.0.join("lock.new"), folder.0.join(LOCK));
        let lock = File::create(&new).map_err(failed)?;
        if let Err(e) = lock.lock().and_then(|()| std::fs::rename(&new, &name)) {
            tracing::debug!("{}: {e}: if this benchmark is killed, what it leaves stays", name.display());
        }
        Ok(Scratch { folder, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder.0
    }
}

/// Removes the folders of benchmarks that are gone.
fn sweep(scratch: &Path) {
    let entries = std::fs::read_dir(scratch).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for left in named.map(|entry| entry.path()).filter(|path| is_left(path)) {
        match std::fs::remove_dir_all(&left) {
            Ok(()) => tracing::info!("{}: a benchmark that was killed left it; it is removed", left.display()),
            Err(e) => tracing::warn!("{}: {e}; remove it by hand", left.display()),
        }
    }
}

/// Whether a benchmark made it that lives no more.
fn is_left(folder: &Path) -> bool {
    File::open(folder.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nobodys_any_more_goes_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["framemill-bench-1", "framemill-bench-2", "framemill-bench-mine", "other"] {
            std::fs::create_dir_all(at(name).join("run-0/data")).unwrap();
        }
        for name in ["framemill-bench-1", "framemill-bench-2", "other"] {
            File::create(at(name).join(LOCK)).unwrap();
        }
        // That one is at work.
        let alive = File::open(at("framemill-bench-2").join(LOCK)).unwrap();
        alive.lock().unwrap();
        let own = Scratch::make(dir.path()).unwrap();
        let there = ["framemill-bench-1", "framemill-bench-2", "framemill-bench-mine", "other"].map(|n| at(n).exists());
        assert_eq!(there, [false, true, true, true]);
        let folder = own.path().to_path_buf();
        sweep(dir.path());
        assert!(folder.exists(), "its own is locked");
        drop(own);
        assert!(!folder.exists());
    }
}
