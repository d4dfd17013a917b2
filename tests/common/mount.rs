//! File systems that fill or cannot be written.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own, gone when dropped.
pub struct Mount(PathBuf);

impl Mount {
    /// `None`, said aloud, where none may be mounted (that takes root).
    pub fn new(at: &Path, options: &str) -> Option<Mount> {
        std::fs::create_dir_all(at).unwrap();
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output().ok()?;
        if !output.status.success() {
            println!("skipped: no file system can be mounted here: {}", String::from_utf8_lossy(&output.stderr).trim());
            return None;
        }
        Some(Mount(at.into()))
    }

    /// Mounts it once more, with other options.
    pub fn change(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.is_ok_and(|s| s.success()) || std::thread::panicking());
    }
}
