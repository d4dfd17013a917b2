//! Plain image folders: `images/TASK/KEY.ext`, and the fields beside them. The folder becomes visible whole, by one
//! rename; its records are in the shard's table.

use std::fs::{self, File};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::{Body, Part, Sample};
use crate::error::{Error, Result};
use crate::store::{self, Object, hex, listing_digest};

/// A shard's folder.
pub(super) struct FolderBody {
    folder: PathBuf,
    files: Vec<(String, u64, String)>,
}

impl FolderBody {
    pub fn create(folder: PathBuf) -> Result<Self> {
        fs::create_dir(&folder).map_err(|e| store::failed("create the folder", &folder, &e))?;
        Ok(FolderBody { folder, files: Vec::new() })
    }

    /// Brings the files and their names to disk.
    fn sync(&self) -> Result<()> {
        // One call for the whole file system; a sync for each of thousands of small files would take minutes.
        #[cfg(target_os = "linux")]
        File::open(&self.folder)
            .and_then(|f| rustix::fs::syncfs(&f).map_err(Into::into))
            .map_err(|e| store::failed("sync", &self.folder, &e))?;
        #[cfg(not(target_os = "linux"))]
        for (name, ..) in &self.files {
            let path = self.folder.join(name);
            File::open(&path).and_then(|f| f.sync_all()).map_err(|e| store::failed("sync", &path, &e))?;
        }
        store::sync_folder(&self.folder)
    }
}

impl Body for FolderBody {
    fn write(&mut self, sample: &mut Sample) -> Result<()> {
        sample.seal();
        for (i, (name, bytes)) in sample.files()?.into_iter().enumerate() {
            let path = self.folder.join(&name);
            let mut file = File::create_new(&path).map_err(|e| store::failed("create", &path, &e))?;
            std::io::Write::write_all(&mut file, bytes).map_err(|e| store::failed("write", &path, &e))?;
            // The first file is the data, whose digest the record has.
            let sha256 = match (i, &sample.record.sha256) {
                (0, Some(sha256)) => sha256.clone(),
                _ => hex(&Sha256::digest(bytes)),
            };
            self.files.push((name, bytes.len() as u64, sha256));
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, prefix: &str, task: u64) -> Result<Part> {
        self.sync()?;
        self.files.sort();
        if let Some(pair) = self.files.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::bug(format!("two files of task {task} are called {}", pair[0].0)));
        }
        let (bytes, sha256) = listing_digest(&self.files);
        let object = Object { path: format!("{prefix}images/{task:06}/"), bytes, sha256 };
        Ok(Part { temp: self.folder, object })
    }
}
