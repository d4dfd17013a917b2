//! What goes into a benchmark: the same list on every machine, whatever the folder that it lies in.

use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::brief::Most;
use super::result::{SampleList, Told};
use crate::decode::image::{MediaKind, SNIFF_BYTES, sniff};
use crate::error::{Error, Result};
use crate::input::{self, Expected, Life, Sources};
use crate::job::Job;

/// Videos that are asked for their length, at most.
const ASKED: usize = 2000;

/// The folder that all local inputs lie in; none where one is a list, whose rows may lie anywhere.
pub fn root(uris: &[String]) -> Option<String> {
    let mut common: Option<PathBuf> = None;
    for uri in uris {
        let path = input::local_path(uri).ok()?;
        if input::is_list(uri) {
            return None;
        }
        let path = std::path::absolute(&path).ok()?;
        let mut folder: PathBuf = match path.is_dir() {
            true => path,
            false => path.parent()?.to_path_buf(),
        };
        // Of a pattern, the part before the first wildcard.
        let wild = |c: Component| !folder.exists() && c.as_os_str().to_string_lossy().contains(['*', '?', '[']);
        folder = folder.components().take_while(|c| !wild(*c)).collect();
        common = Some(match common {
            None => folder,
            Some(common) => {
                let both = common.components().zip(folder.components());
                both.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
            }
        });
    }
    common.filter(|c| c.parent().is_some()).map(|c| c.to_string_lossy().into_owned())
}

/// Lists what `job` takes, up to `most`.
///
/// # Errors
/// Usage, where there is nothing or it cannot be listed.
pub fn list(job: &Job, synthetic: Option<&str>, most: Option<Most>) -> Result<SampleList> {
    let inputs = input::list(&job.file.input, job.file.seed, None)?;
    if inputs.is_empty() {
        return Err(Error::usage(format!(
            "no input: nothing to decode was found in {}",
            job.file.input.uri.join(", ")
        )));
    }
    let root = job.file.input.root.as_deref().and_then(|r| input::local_path(r).ok());
    let sources = Sources::new(&job.file.input, job.file.memory.0 / 8, 1);
    let mut digest = Sha256::new();
    let (mut taken, mut videos, mut photos, mut bytes) = (0, 0, 0, 0);
    let mut seconds: Result<f64, String> = Ok(0.0);
    for i in 0..inputs.len() {
        if most.is_some_and(|most| videos >= most.videos || photos >= most.photos) {
            break;
        }
        taken += 1;
        let item = inputs.item(i);
        let expected = Expected { bytes: item.bytes, etag: None };
        let source = sources.open(&item.uri, expected, &Life::default());
        let size = item.bytes.or_else(|| source.as_ref().ok().map(|s| s.len())).unwrap_or(0);
        bytes += size;
        digest.update(format!("{} {size}\n", name(&item.uri, root.as_deref())));
        // What cannot be opened is the runs' to reject.
        let Ok(source) = source else { continue };
        match source.head(SNIFF_BYTES).map(|head| sniff(&head)) {
            Ok(MediaKind::Photo(_)) => photos += 1,
            Ok(MediaKind::Other) => {
                let part = |known: f64| part(known, item.start.or(job.sampling.start), item.end.or(job.sampling.end));
                let length = match videos >= ASKED {
                    true => Err(format!("more than {ASKED} videos: their lengths were not asked for")),
                    false => length(source, &item.uri, job),
                };
                // What is none is the runs' to reject.
                videos += usize::from(length != Ok(None));
                seconds = seconds.and_then(|sum| Ok(sum + length?.map_or(0.0, part)));
            }
            Err(_) => {}
        }
    }
    let seconds = if videos == 0 { Err("there is no video".to_string()) } else { seconds };
    Ok(SampleList {
        inputs: taken,
        videos: videos as u64,
        photos: photos as u64,
        bytes,
        video_seconds: seconds.into(),
        digest: digest.finalize().iter().map(|b| format!("{b:02x}")).collect(),
        synthetic: synthetic.map(str::to_string),
        part: (taken < inputs.len() as u64).then(|| format!("the first {taken} of {} inputs", inputs.len())),
    })
}

/// The input's name below `root`, or without any folder where it lies elsewhere.
fn name(uri: &str, root: Option<&Path>) -> String {
    let path = input::local_path(uri).unwrap_or_else(|_| PathBuf::from(uri));
    let absolute = std::path::absolute(&path).unwrap_or(path);
    let below = root.and_then(|root| absolute.strip_prefix(root).ok());
    let name = below.map(Path::to_path_buf).or_else(|| absolute.file_name().map(PathBuf::from));
    name.unwrap_or(absolute).to_string_lossy().into_owned()
}

/// How much of a video lies between start and end.
fn part(length: f64, start: Option<crate::sample::Rational>, end: Option<crate::sample::Rational>) -> f64 {
    let from = start.map_or(0.0, |t| t.as_f64()).max(0.0);
    let to = end.map_or(length, |t| t.as_f64()).min(length);
    (to - from).max(0.0)
}

/// Seconds of a video; none of what is no video.
#[cfg(feature = "ffmpeg")]
fn length(source: std::sync::Arc<dyn crate::bytes::ByteSource>, uri: &str, job: &Job) -> Result<Option<f64>, String> {
    use crate::decode::video::{VideoOptions, VideoReader, stated_seconds};
    let stream = job.file.sample.stream;
    if let Some(seconds) = stated_seconds(source.clone(), stream) {
        return Ok(Some(seconds));
    }
    let options = VideoOptions { stream, threads: 1, max_pixels: job.file.max_pixels, ..VideoOptions::default() };
    match VideoReader::open(source, uri, &options) {
        Ok(reader) => match reader.info().duration_s {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(format!("{uri} does not say how long it is")),
        },
        Err(_) => Ok(None),
    }
}

#[cfg(not(feature = "ffmpeg"))]
fn length(_: std::sync::Arc<dyn crate::bytes::ByteSource>, _: &str, _: &Job) -> Result<Option<f64>, String> {
    Err("built without ffmpeg: the lengths of videos are not known".into())
}

impl SampleList {
    /// A line for people.
    pub fn text(&self) -> String {
        let seconds = match &self.video_seconds {
            Told { value: Some(s), .. } => format!(" of {s:.1} s"),
            Told { .. } => String::new(),
        };
        let part = self.part.as_ref().map_or(String::new(), |part| format!(" (--quick: {part})"));
        format!("{} videos{seconds}, {} photos, {:.1} MB{part}", self.videos, self.photos, self.bytes as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_folder_that_all_lie_in() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        for name in ["a/b", "a/c"] {
            std::fs::create_dir_all(base.join(name)).unwrap();
        }
        std::fs::write(base.join("a/b/x.mp4"), "x").unwrap();
        let of = |names: &[&str]| root(&names.iter().map(|n| format!("{}/{n}", base.display())).collect::<Vec<_>>());
        let at = |name: &str| Some(base.join(name).to_string_lossy().into_owned());
        assert_eq!(of(&["a/b"]), at("a/b"));
        assert_eq!(of(&["a/b/x.mp4"]), at("a/b"));
        assert_eq!(of(&["a/b/x.mp4", "a/c"]), at("a"));
        assert_eq!(of(&["a/*/y*.mp4"]), at("a"));
        assert_eq!(of(&["a/b", "list.csv"]), None);
    }

    #[test]
    fn names_do_not_know_where_they_are_mounted() {
        assert_eq!(name("/mnt/a/x/y.mp4", Some(Path::new("/mnt/a"))), "x/y.mp4");
        assert_eq!(name("/mnt/b/x/y.mp4", Some(Path::new("/mnt/b"))), "x/y.mp4");
        assert_eq!(name("/mnt/b/x/y.mp4", None), "y.mp4");
    }
}
