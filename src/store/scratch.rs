//! Temporaries of processes that may be killed: each has files and folders `HOST-PID...` of its own, gone when it is done
//! with them, and swept where they were not.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::{create_folders, failed, host, moment, worker};
use crate::error::Result;

/// Age from which on nobody is taken to be at work on what another host has left.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// What tells this process from those that had its id before: in containers that is the rule.
fn process() -> String {
    static BEGUN: OnceLock<u64> = OnceLock::new();
    format!("{:x}", BEGUN.get_or_init(moment))
}

/// A name that no other process or thread uses: `HOST-PID-PROCESS-N`.
pub fn unique() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}-{}", worker(), process(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// How often a temporary may be swept under the writer's hands before that is an error.
const SWEPT: u32 = 20;

/// Does `work` with what `make` makes, and again with another where that `is_gone` meanwhile: swept by whoever finished the
/// job.
pub fn unswept<T, R>(
    make: impl Fn() -> Result<T>,
    is_gone: impl Fn(&T) -> bool,
    work: impl Fn(&T) -> Result<R>,
) -> Result<R> {
    for _ in 0..SWEPT {
        let temporary = make()?;
        match work(&temporary) {
            Err(_) if is_gone(&temporary) => {}
            done => return done,
        }
    }
    work(&make()?)
}

/// A folder of temporaries, `WORKER/NAME` below an output's scratch; gone when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A fresh, empty folder; what a crashed run of the same worker left there is removed.
    pub fn new(scratch: &Path, worker: &str, name: &str) -> Result<Self> {
        let worker = scratch.join(worker);
        let folder = worker.join(name);
        loop {
            create_folders(&worker)?;
            match fs::create_dir(&folder) {
                Ok(()) => return Ok(Scratch(folder)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    fs::remove_dir_all(&folder).map_err(|e| failed("clean up", &folder, &e))?;
                }
                // Another task of this worker ended just now and took the empty folder with it.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(failed("create the folder", &folder, &e)),
            }
        }
    }

    /// Does `work` in a fresh folder, and again in another where that is swept meanwhile by whoever finishes the job.
    pub fn within<T>(scratch: &Path, worker: &str, name: &str, work: impl Fn(&Scratch) -> Result<T>) -> Result<T> {
        unswept(|| Scratch::new(scratch, worker, name), |folder| !folder.0.exists(), work)
    }

    /// Where a temporary of that name lies.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Removes everything.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.0).map_err(|e| failed("clean up", &self.0, &e))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: what stays is in nobody's way and is cleaned up by the next run of this worker.
        let _ = fs::remove_dir_all(&self.0);
        // Only goes when no other task of this worker has a folder in it.
        if let Some(worker) = self.0.parent() {
            let _ = fs::remove_dir(worker);
        }
    }
}

/// The time by the clock that stamps the files of a folder, which for a mounted one is its server's; `None` where it cannot
/// be told.
fn stamp(folder: &Path) -> Option<SystemTime> {
    let probe = folder.join(unique());
    let now = fs::File::create(&probe).and_then(|file| file.metadata()?.modified());
    // A leftover harms nobody.
    let _ = fs::remove_file(&probe);
    now.ok()
}

/// Removes what processes that are gone left in a scratch: all of this host's that do not live any more. Of other hosts all,
/// where the job is `finished` and nothing is of use to anyone any more, and else what is older than an hour, by the clock of
/// the folder: this machine's may be wrong. An engine whose supervisor was killed may just be ending: it is waited for a
/// moment.
pub fn sweep(scratch: &Path, finished: bool) -> Result<()> {
    let own = format!("{}-", host());
    for wait in [0, 50, 200, 500, 1000, 2000] {
        std::thread::sleep(Duration::from_millis(wait));
        let mut living = false;
        for path in super::local::list(scratch)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut parts = name.strip_prefix(&own).unwrap_or_default().split('-');
            let pid = parts.next().and_then(|pid| pid.parse::<u32>().ok());
            let gone = match pid {
                // A restarted container has its predecessor's name and often its process id.
                Some(pid) if pid == std::process::id() => parts.next() != Some(&process()),
                Some(pid) => !Path::new("/proc").join(pid.to_string()).exists(),
                None if finished => true,
                None => {
                    let changed = fs::metadata(&path).and_then(|m| m.modified()).ok();
                    let age = stamp(scratch).zip(changed).and_then(|(now, then)| now.duration_since(then).ok());
                    age.is_some_and(|a| a > FORGOTTEN)
                }
            };
            living |= pid.is_some_and(|pid| pid != std::process::id()) && !gone;
            if gone {
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                if let Err(e) = removed {
                    tracing::debug!("{}: {e}", path.display());
                }
            }
        }
        if !living {
            break;
        }
    }
    leave(scratch);
    Ok(())
}

/// Removes a scratch in which nothing is any more, and the folder that is there for it.
pub fn leave(scratch: &Path) {
    // Both fail where something is in them.
    if let (Ok(()), Some(above)) = (fs::remove_dir(scratch), scratch.parent()) {
        let _ = fs::remove_dir(above);
    }
}
