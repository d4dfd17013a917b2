//! `--heartbeat FILE`: a small JSON file that is written anew while a run lives, so that whoever started it can tell work
//! from a hang by its age.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::pipeline::Snapshot;
use crate::store;

/// Time between two beats.
const EVERY: Duration = Duration::from_secs(1);

/// Where to, and when last.
pub struct Heartbeat {
    file: Option<PathBuf>,
    begun: Instant,
    last: Instant,
}

impl Heartbeat {
    /// Writes the first beat.
    ///
    /// # Errors
    /// Store, where the file cannot be written.
    pub fn new(file: Option<&Path>) -> Result<Heartbeat> {
        let now = Instant::now();
        let heartbeat = Heartbeat { file: file.map(Path::to_path_buf), begun: now, last: now };
        heartbeat.write("planning", json!(null))?;
        Ok(heartbeat)
    }

    /// Another beat, where it is time for one.
    pub fn beat(&mut self, now: &Snapshot) {
        if self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            self.tell("running", json!(now));
        }
    }

    /// The last beat: how the run ended.
    pub fn end(&self, exit_code: u8) {
        self.tell("ended", json!({ "exit_code": exit_code }));
    }

    /// A run goes on without its heart being heard, but says so.
    fn tell(&self, state: &str, what: Value) {
        if let Err(e) = self.write(state, what) {
            tracing::warn!("{e}");
        }
    }

    fn write(&self, state: &str, what: Value) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let updated = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        let seconds = self.begun.elapsed().as_secs_f64();
        let pid = std::process::id();
        let beat = json!({ "state": state, "pid": pid, "updated": updated, "seconds": seconds, "progress": what });
        let mut name = file.file_name().ok_or_else(|| unnamed(file))?.to_os_string();
        name.push(format!(".{pid}"));
        let temporary = file.with_file_name(name);
        let failed = |e| store::failed("write the heartbeat", file, &e);
        // Nobody reads it after a crash of the machine, so it need not be synced.
        std::fs::write(&temporary, beat.to_string() + "\n").map_err(failed)?;
        std::fs::rename(&temporary, file).map_err(failed)
    }
}

fn unnamed(file: &Path) -> Error {
    Error::usage(format!("--heartbeat {}: expected the name of a file", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_whole_and_the_last_one_tells_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("beat.json");
        let read = || serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap();
        let mut heartbeat = Heartbeat::new(Some(&file)).unwrap();
        assert_eq!(read()["state"], "planning");
        heartbeat.last = heartbeat.last.checked_sub(EVERY).unwrap();
        heartbeat.beat(&Snapshot { samples: 7, ..Snapshot::default() });
        assert_eq!((&read()["state"], &read()["progress"]["samples"]), (&json!("running"), &json!(7)));
        heartbeat.end(75);
        assert_eq!(read()["progress"]["exit_code"], 75);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else stays");
        assert!(Heartbeat::new(Some(&dir.path().join("none/beat"))).is_err_and(|e| e.exit_code() == 74));
    }
}
