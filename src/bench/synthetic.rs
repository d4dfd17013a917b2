//! `--synthetic 1080p:h264:60s`: media for who has none at hand, made by FFmpeg's own program.
//!
//! The picture moves everywhere and has grain, as films do: a test pattern alone would decode far too quickly.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::child::watched;
use super::scratch::Scratch;
use crate::error::{Class, Error, Result};
use crate::sample::Rational;
use crate::supervise::Requests;

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    /// As it was written.
    pub text: String,
    size: (u32, u32),
    codec: &'static Codec,
    seconds: f64,
}

#[derive(Debug, PartialEq)]
struct Codec {
    name: &'static str,
    ending: &'static str,
    /// FFmpeg's encoder with its settings, but for the rate.
    arguments: &'static [&'static str],
}

const CODECS: [Codec; 4] = [
    Codec { name: "h264", ending: "mp4", arguments: &["-c:v", "libx264", "-preset", "veryfast", "-bf", "2"] },
    Codec {
        name: "hevc",
        ending: "mp4",
        arguments: &["-c:v", "libx265", "-preset", "veryfast", "-x265-params", "log-level=error", "-tag:v", "hvc1"],
    },
    Codec {
        name: "vp9",
        ending: "webm",
        arguments: &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-row-mt", "1"],
    },
    Codec { name: "mpeg4", ending: "mp4", arguments: &["-c:v", "mpeg4"] },
];

const SIZES: [(&str, u32, u32); 5] =
    [("360p", 640, 360), ("480p", 854, 480), ("720p", 1280, 720), ("1080p", 1920, 1080), ("2160p", 3840, 2160)];

impl std::str::FromStr for Synthetic {
    type Err = Error;
    fn from_str(text: &str) -> Result<Synthetic> {
        let names = |all: &mut dyn Iterator<Item = &'static str>| all.collect::<Vec<_>>().join(", ");
        let wrong = || {
            Error::usage(format!(
                "--synthetic {text}: expected SIZE:CODEC:SECONDS such as 1080p:h264:60s; sizes are {} or WxH, codecs {}",
                names(&mut SIZES.iter().map(|s| s.0)),
                names(&mut CODECS.iter().map(|c| c.name))
            ))
        };
        let mut parts = text.split(':');
        let (size, codec, time) = (parts.next(), parts.next(), parts.next());
        let (Some(size), Some(codec), Some(time), None) = (size, codec, time, parts.next()) else {
            return Err(wrong());
        };
        let named = SIZES.iter().find(|s| s.0 == size).map(|s| (s.1, s.2));
        let free = || size.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
        let size = named.or_else(free).filter(|(w, h)| [*w, *h].iter().all(|n| (16..=8192).contains(n) && n % 2 == 0));
        let seconds = Rational::parse_time(time).map_err(|_| wrong())?.as_f64();
        let codec = CODECS.iter().find(|c| c.name == codec);
        match (size, codec) {
            (Some(size), Some(codec)) if seconds > 0.0 && seconds <= 3600.0 => {
                Ok(Synthetic { text: text.into(), size, codec, seconds })
            }
            _ => Err(wrong()),
        }
    }
}

impl Synthetic {
    /// The clip in `folder`, made where it is not there yet.
    ///
    /// # Errors
    /// Unavailable, where there is no FFmpeg or it lacks the encoder; interrupted, where `stop` asks for it meanwhile.
    pub fn make(&self, folder: &Path, stop: &Requests) -> Result<PathBuf> {
        let name: String = self.text.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        let file = folder.join(format!("framemill-synthetic-{name}.{}", self.codec.ending));
        if file.exists() {
            return Ok(file);
        }
        // What is half made goes with it.
        let scratch = Scratch::make(folder)?;
        let making = scratch.path().join("making").with_extension(self.codec.ending);
        let (w, h) = self.size;
        let seconds = self.seconds;
        let picture = format!(
            "testsrc2=s={w}x{h}:r=25:d={seconds}[a];mandelbrot=s={w}x{h}:r=25[b];\
             [a][b]blend=all_mode=average:shortest=1,noise=alls=6:allf=t:all_seed=1,format=yuv420p[v]"
        );
        // 6 Mbit/s at 1080p, as surveillance and phones have it.
        let rate = (u64::from(w) * u64::from(h) * 3).max(200_000).to_string();
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-y", "-filter_complex", &picture, "-map", "[v]"]);
        command.args(self.codec.arguments).args(["-b:v", &rate, "-g", "50", "-t", &seconds.to_string()]).arg(&making);
        let failed = |why: &str| {
            Error::unavailable(format!(
                "--synthetic {} is made by the program ffmpeg: {why}; install it (Debian and Ubuntu: apt install ffmpeg), or \
                 give media of your own with --input",
                self.text
            ))
        };
        let output = match watched(&mut command, stop) {
            Err(e) if e.class != Class::Interrupted => return Err(failed(&e.message)),
            other => other?,
        };
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(failed(text.lines().find(|l| !l.trim().is_empty()).unwrap_or("it failed and said nothing")));
        }
        crate::store::rename(&making, &file)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood_or_refused_with_what_there_is() {
        let of = |text: &str| text.parse::<Synthetic>();
        let clip = of("1080p:h264:60s").unwrap();
        assert_eq!((clip.size, clip.codec.name, clip.seconds), ((1920, 1080), "h264", 60.0));
        assert_eq!(of("64x48:mpeg4:500ms").unwrap().seconds, 0.5);
        for text in
            ["1080p", "1080p:h264", "1080i:h264:1s", "1080p:h263:1s", "1080p:h264:0s", "63x48:h264:1s", "1x1:h264:1s:x"]
        {
            let e = of(text).unwrap_err();
            assert!(e.exit_code() == 2 && e.message.contains("2160p") && e.message.contains("vp9"), "{text}: {e}");
        }
    }
}
