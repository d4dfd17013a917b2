//! What containers say, and what they leave to be known.

use std::path::Path;

use serde_json::Value;

use crate::ffmpeg::ffmpeg;
use crate::support::*;

/// What a run gives of `film` alone.
fn told(film: &Path, more: &[&str]) -> (std::process::Output, Vec<Value>) {
    let out = film.with_file_name(format!("{}-out", film.file_name().unwrap().to_str().unwrap()));
    let output = framemill(&[&["run", "-i", film.to_str().unwrap(), "-o", out.to_str().unwrap()], more].concat());
    let records = if output.status.success() { records(&out) } else { Vec::new() };
    (output, records)
}

/// FFmpeg reads 128 KiB at a time, and reads what it has there again after it met the end.
#[test]
fn files_as_long_as_a_buffer_are_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let film = dir.path().join("film.ts");
    let clip = fixtures().join("clips/h264.mp4");
    ffmpeg(&["-i", clip.to_str().unwrap(), "-frames:v", "50", "-c", "copy", film.to_str().unwrap()]);
    let mut data = std::fs::read(&film).unwrap();
    let null = [&[0x47, 0x1F, 0xFF, 0x10][..], &[0xFF; 184]].concat();
    for (i, size) in [97_000, 99_000, 110_000, 120_000, 130_000, 132_000].into_iter().enumerate() {
        assert!(data.len() < size, "{}", data.len());
        while data.len() < size {
            data.extend(&null);
        }
        let film = dir.path().join(format!("{i}.ts"));
        std::fs::write(&film, &data).unwrap();
        let (output, records) = told(&film, &["--all"]);
        assert_eq!(records.len(), 50, "{size} bytes: {}", errors(&output));
    }
}

/// Luma alone is of full range where nothing is said, as FFmpeg's scaler takes it.
#[test]
fn gray_without_a_range_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let ramp = "color=black:s=256x16:r=25:d=0.2,format=gray,geq=lum=X";
    for (name, codec, range) in [
        ("raw.avi", &["-c:v", "rawvideo"][..], "full"),
        ("ffv1.nut", &["-c:v", "ffv1"], "full"),
        ("hevc.mkv", &["-c:v", "libx265", "-x265-params", "log-level=none:lossless=1"], "limited"),
    ] {
        let film = dir.path().join(name);
        ffmpeg(&[&["-f", "lavfi", "-i", ramp], codec, &[film.to_str().unwrap()]].concat());
        let (output, records) = told(&film, &["--all", "--encode", "npy"]);
        assert_eq!(records.len(), 5, "{name}: {}", errors(&output));
        assert_eq!(records[0]["color_range"], range, "{name}");
        // x265 says which it is.
        let assumed = records[0]["color_assumed"].to_string().contains("color_range");
        assert_eq!(assumed, range == "full", "{name}: {}", records[0]);
        let tar = std::fs::read(dir.path().join(format!("{name}-out/shard-000000.tar"))).unwrap();
        let at = tar.windows(6).position(|w| w == b"\x93NUMPY").unwrap();
        let row = &tar[at + 10 + usize::from(u16::from_le_bytes([tar[at + 8], tar[at + 9]]))..];
        let whole = (0..256).all(|x| usize::from(row[3 * x]) == x);
        assert_eq!(whole, range == "full", "{name}: {:?}", &row[..48]);
    }
}

/// A box of `content`.
fn boxed(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 8).to_be_bytes(), &name[..], content].concat()
}

/// The same MP4, its video described as Dolby Vision. Its header stands behind the media, so that no offset changes.
fn dolby_vision(mp4: &[u8], profile: u8, compatibility: u8) -> Vec<u8> {
    fn nested(data: &[u8], path: &[&[u8; 4]], add: &[u8]) -> Vec<u8> {
        let Some((name, rest)) = path.split_first() else { return [data, add].concat() };
        // The table of sample entries begins with no box.
        let mut at = if *name == b"hvc1" { 8 } else { 0 };
        let (mut out, mut found) = (data[..at].to_vec(), false);
        while at < data.len() {
            let size = u32::from_be_bytes(data[at..at + 4].try_into().unwrap()) as usize;
            let (head, content) = (&data[at + 4..at + 8], &data[at + 8..at + size]);
            if head == &name[..] && !found {
                found = true;
                out.extend(boxed(name, &nested(content, rest, add)));
            } else {
                out.extend(&data[at..at + size]);
            }
            at += size;
        }
        assert!(found, "{}", String::from_utf8_lossy(&name[..]));
        out
    }
    let level = 6;
    let mut record = vec![1, 0, profile << 1 | level >> 5, level << 3 | 0b101, compatibility << 4];
    record.resize(24, 0);
    let path = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hvc1"];
    nested(mp4, &path, &boxed(b"dvcC", &record))
}

#[test]
fn dolby_vision_without_a_base_layer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (clip, plain) = (fixtures().join("clips/hevc10.mkv"), dir.path().join("plain.mp4"));
    ffmpeg(&["-i", clip.to_str().unwrap(), "-an", "-c", "copy", "-tag:v", "hvc1", plain.to_str().unwrap()]);
    let data = std::fs::read(&plain).unwrap();
    let probed = |film: &Path| {
        let output = framemill(&["probe", film.to_str().unwrap(), "--json"]);
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{}", errors(&output)))
    };
    let make = |name: &str, profile, compatibility| {
        let film = dir.path().join(name);
        std::fs::write(&film, dolby_vision(&data, profile, compatibility)).unwrap();
        film
    };
    let (five, eight) = (make("five.mp4", 5, 0), make("eight.mp4", 8, 1));
    let (output, _) = told(&five, &[]);
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    assert!(errors(&output).contains("Dolby Vision profile 5"), "{}", errors(&output));
    let (output, records) = told(&eight, &[]);
    assert!(!records.is_empty(), "{}", errors(&output));
    let (probe, without) = (probed(&eight).to_string(), probed(&plain).to_string());
    assert!(probe.contains("\"dolby_vision\":8") && !without.contains("dolby_vision\":8"), "{probe}");
}

#[test]
fn of_an_animation_the_first_picture_is_taken_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.gif", "a.apng", "a.webp"] {
        for (frames, animated) in [("1", false), ("25", true)] {
            let film = dir.path().join(format!("{frames}-{name}"));
            ffmpeg(&["-f", "lavfi", "-i", "testsrc2=s=64x48", "-frames:v", frames, film.to_str().unwrap()]);
            let (output, records) = told(&film, &["--all"]);
            assert_eq!(records.len(), 1, "{name}: {}", errors(&output));
            let said = records[0]["warning"].as_str().is_some_and(|w| w.contains("animation"));
            assert_eq!(said, animated, "{name}: {}", records[0]["warning"]);
        }
    }
}
