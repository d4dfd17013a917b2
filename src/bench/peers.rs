//! Peers: other programs that do the job too, timed in the same rounds.
//!
//! A peer is a command. It is called with two arguments more, the job as JSON and a folder, and leaves there one picture for
//! each sample, encoded as the job asks, under names whose order is that of the samples; the last line that it prints says
//! what it is. 69 says that it cannot do such a job, with the reason as its last line of standard error. Promises: a peer is
//! timed as framemill is, as a whole process; before its speed counts, its pictures are held against framemill's.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Series;
use super::child::{Folder, Runner};
use super::result::{Peer as Told, Verdict};
use super::stats::Estimate;
use super::usage::Spent;
use crate::decode::image::{self, PhotoOptions};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::input;
use crate::job::{Job, JobFile};

/// How far a picture may lie from framemill's, in the mean over its pixels, of 255; and all of them in the mean.
const NEAR: f64 = 8.0;
const NEAR_IN_ALL: f64 = 3.0;

/// What counts as the same work, in words, for reports.
pub const SAME_WORK: &str = "a peer does the same work where it leaves as many pictures of the same sizes, that differ \
    from framemill's by at most 3 of 255 in the mean, and none by more than 8: filters and codecs of other programs are not \
    the same to the bit, other frames or colours are further away";

/// Endings of pictures.
const ENDINGS: [&str; 3] = ["jpg", "png", "webp"];

/// A program that is to be timed beside.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// What tables call it.
    pub name: String,
    /// What a shell is to run.
    pub line: String,
}

impl std::str::FromStr for Command {
    type Err = Error;

    fn from_str(text: &str) -> Result<Command> {
        let parts = text.split_once('=').map(|(name, line)| (name.trim(), line.trim()));
        match parts.filter(|(name, line)| !name.is_empty() && !line.is_empty()) {
            Some((name, line)) => Ok(Command { name: name.into(), line: line.into() }),
            None => Err(Error::usage(format!("--peer {text}: expected NAME=COMMAND"))),
        }
    }
}

/// A peer and what its runs gave.
pub(super) struct Peer {
    command: Command,
    says: Option<String>,
    verdict: Verdict,
    compared: String,
    samples: u64,
    spent: Vec<Spent>,
}

/// What peers are told of a job.
pub(super) fn order(job: &Job, runner: &Runner) -> Result<PathBuf> {
    let inputs = input::list(&job.file.input, job.file.seed, None)?;
    let mut paths = Vec::new();
    for i in 0..inputs.len() {
        let path = input::local_path(&inputs.item(i).uri)?;
        let path = std::path::absolute(&path).map_err(|e| Error::store(format!("{}: {e}", path.display())))?;
        paths.push(path.to_string_lossy().into_owned());
    }
    let order = json!({ "inputs": paths, "threads": job.threads, "job": told(&job.file) });
    let file = runner.folder().join("peers.json");
    std::fs::write(&file, order.to_string()).map_err(|e| Error::store(format!("{}: {e}", file.display())))?;
    Ok(file)
}

/// The job without what is empty in it.
fn told(job: &JobFile) -> Value {
    let mut value = serde_json::to_value(job).unwrap_or_default();
    if let Some(top) = value.as_object_mut() {
        top.retain(|_, value| !value.is_null());
        top.remove("input");
    }
    value
}

impl Peer {
    pub fn new(command: Command) -> Peer {
        Peer { command, says: None, verdict: Verdict::Failed, compared: String::new(), samples: 0, spent: Vec::new() }
    }

    /// The first run: its pictures are held against those of framemill in `ours`, its time does not count.
    pub fn warm(&mut self, runner: &Runner, order: &Path, ours: &Path) {
        let ran = match runner.peer(&self.command.line, order) {
            Ok(ran) => ran,
            Err(why) => return self.compared = why,
        };
        self.says = ran.said.clone();
        match compare(&ran.out, ours) {
            Ok(Compared { pictures, worst, mean }) => {
                self.samples = pictures;
                let found =
                    format!("{pictures} pictures differ by {mean:.2} of 255 in the mean, the furthest by {worst:.2}");
                let near = worst <= NEAR && mean <= NEAR_IN_ALL;
                self.verdict = if near { Verdict::Tolerated } else { Verdict::Different };
                self.compared = found;
            }
            Err(why) => (self.verdict, self.compared) = (Verdict::Different, why),
        }
    }

    /// Whether its time is worth taking.
    pub fn ran(&self) -> bool {
        self.verdict == Verdict::Tolerated
    }

    /// One round; gives its seconds.
    pub fn measure(&mut self, runner: &Runner, order: &Path) -> Option<f64> {
        match runner.peer(&self.command.line, order) {
            Ok(ran) => {
                self.spent.push(ran.spent.clone());
                Some(ran.spent.wall)
            }
            Err(why) => {
                (self.verdict, self.compared) = (Verdict::Failed, why);
                None
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.command.name
    }

    /// Seconds of a run; none where there was no round.
    pub fn wall(&self) -> Option<Estimate> {
        Estimate::of(self.spent.iter().map(|s| s.wall).collect())
    }

    /// All that is known of it; `reference` is what it was held against.
    pub fn tell(&self, reference: &Series) -> Told {
        let wall = self.wall().filter(|_| self.ran());
        let samples = self.samples as f64;
        let ours = reference.wall().map(|w| w.rounds).unwrap_or_default();
        let ratios = self.spent.iter().zip(&ours).map(|(theirs, ours)| ours / theirs.wall).collect();
        Told {
            name: self.command.name.clone(),
            command: self.command.line.clone(),
            says: self.says.clone(),
            verdict: self.verdict,
            compared: self.compared.clone(),
            samples: self.samples,
            samples_per_second: wall.as_ref().map(|w| w.map(|s| samples / s)),
            of: reference.way.name.clone(),
            ratio: wall.as_ref().and_then(|_| Estimate::of(ratios)),
            cpu_seconds_per_sample: Estimate::of(self.spent.iter().map(|s| s.cpu / samples.max(1.0)).collect())
                .filter(|_| self.ran()),
            wall,
        }
    }
}

/// What a peer left.
pub struct Ran {
    /// The folder with its pictures.
    pub out: Folder,
    /// What it cost.
    pub spent: Spent,
    /// The last line that it printed.
    pub said: Option<String>,
}

struct Compared {
    pictures: u64,
    worst: f64,
    mean: f64,
}

/// Holds a peer's pictures against those in framemill's shards.
fn compare(theirs: &Folder, ours: &Path) -> Result<Compared, String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(&theirs.0)
        .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
        .map_err(|e| format!("what it left cannot be read: {e}"))?;
    files.retain(|file| file.extension().is_some_and(|e| ENDINGS.iter().any(|known| e == *known)));
    files.sort();
    let mut files = files.into_iter();
    let mut found = Compared { pictures: 0, worst: 0.0, mean: 0.0 };
    each_picture(ours, |key, data| {
        let file = files.next().ok_or_else(|| format!("it left {} pictures, framemill has more", found.pictures))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = std::fs::read(&file).map_err(|e| format!("{name}: {e}"))?;
        let (a, b) = (decoded(&read).map_err(|e| format!("{name}: {e}"))?, decoded(data)?);
        if (a.width, a.height) != (b.width, b.height) {
            let (theirs, ours) = ((a.width, a.height), (b.width, b.height));
            return Err(format!("{name} is {}x{}, framemill's {key} {}x{}", theirs.0, theirs.1, ours.0, ours.1));
        }
        let distance = distance(&a, &b);
        found.worst = found.worst.max(distance);
        found.mean += distance;
        found.pictures += 1;
        Ok(())
    })?;
    match files.count() {
        _ if found.pictures == 0 => Err("framemill has no pictures to compare".into()),
        0 => Ok(Compared { mean: found.mean / found.pictures as f64, ..found }),
        more => Err(format!("it left {more} pictures more than framemill's {}", found.pictures)),
    }
}

/// Calls `each` with key and bytes of every sample in the shards of the dataset in `out`, in order.
fn each_picture(out: &Path, mut each: impl FnMut(&str, &[u8]) -> Result<(), String>) -> Result<(), String> {
    let unread = |e: std::io::Error| format!("framemill's dataset cannot be read: {e}");
    let mut shards: Vec<PathBuf> =
        std::fs::read_dir(out).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect()).map_err(unread)?;
    shards.retain(|file| file.extension().is_some_and(|e| e == "tar"));
    shards.sort();
    for shard in shards {
        let mut archive = tar::Archive::new(File::open(&shard).map_err(unread)?);
        for entry in archive.entries().map_err(unread)? {
            let mut entry = entry.map_err(unread)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some((key, _)) = name.split_once('.').filter(|(_, end)| ENDINGS.contains(end)) else { continue };
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut data).map_err(unread)?;
            each(key, &data)?;
        }
    }
    Ok(())
}

fn decoded(data: &[u8]) -> Result<Frame, String> {
    // Pixels are compared, whatever is said of their colours beside them.
    let options = PhotoOptions { icc_convert: false, ..PhotoOptions::default() };
    image::decode(data, "a picture", &options).map(|photo| photo.frame).map_err(|e| e.message)
}

/// The mean difference of two pictures of one size.
fn distance(a: &Frame, b: &Frame) -> f64 {
    let row = a.width as usize * 3;
    let lines = |frame: &Frame| -> Vec<u8> {
        let plane = &frame.planes[0];
        plane.data.chunks(plane.stride).take(frame.height as usize).flat_map(|line| &line[..row]).copied().collect()
    };
    let (a, b) = (lines(a), lines(b));
    let sum: u64 = a.iter().zip(&b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_and_a_command() {
        let peer: Command = "ffmpeg = python3 peer.py --mode=x".parse().unwrap();
        assert_eq!((&*peer.name, &*peer.line), ("ffmpeg", "python3 peer.py --mode=x"));
        for wrong in ["ffmpeg", "=x", "x="] {
            assert!(wrong.parse::<Command>().is_err(), "{wrong}");
        }
    }
}
