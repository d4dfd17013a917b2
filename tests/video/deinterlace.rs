//! Deinterlacing against FFmpeg's own filter, frame by frame, from the start and behind seeks and jumps.

use std::path::Path;
use std::process::Command;

use framemill::decode::video::{Deinterlace, Fields};

use crate::md5::md5;
use crate::support::*;

/// Interlaced films of one with motion in it: name, which field is first, pixel format, encoder.
const FILMS: [(&str, &str, &str, &[&str]); 4] = [
    ("top.mp4", "tff", "yuv420p", &["-c:v", "libx264", "-x264opts", "tff=1", "-g", "12", "-bf", "2", "-crf", "20"]),
    ("bottom.mkv", "bff", "yuv422p10le", &["-c:v", "ffv1", "-field_order", "bb"]),
    (
        "mpeg2.ts",
        "tff",
        "yuv420p",
        &["-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-top", "1", "-g", "9", "-q:v", "3"],
    ),
    (
        "deep.mp4",
        "bff",
        "yuv420p10le",
        &["-c:v", "libx264", "-x264opts", "bff=1", "-g", "15", "-bf", "1", "-crf", "18"],
    ),
];

fn ffmpeg(args: &[&str]) -> String {
    let output = Command::new("ffmpeg").args(["-v", "error", "-y"]).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes a film; its two fields are two frames of the source.
fn make(media: &Path, to: &Path, first: &str, format: &str, encoder: &[&str]) {
    let source = media.join("video/androidx/mp4/sample_with_increasing_timestamps_320w_240h_5s.mp4");
    let filter = format!("setpts=N/50/TB,fps=50,scale=322:244,interlace=scan={first}:lowpass=off,setfield={first}");
    let input = ["-i", source.to_str().unwrap(), "-an", "-vf", &filter, "-pix_fmt", format, "-frames:v", "60"];
    ffmpeg(&[&input[..], encoder, &[to.to_str().unwrap()]].concat());
}

/// Time and checksum of every frame that FFmpeg's filter gives.
fn reference(film: &Path, filter: &str) -> Vec<String> {
    let input = ["-flags", "bitexact", "-idct", "simple", "-i", film.to_str().unwrap(), "-vsync", "0", "-vf", filter];
    let text = ffmpeg(&[&input[..], &["-f", "framemd5", "-"]].concat());
    let rows = text.lines().filter(|l| !l.starts_with('#'));
    rows.map(|l| l.rsplit(',').next().unwrap().trim().to_string()).collect()
}

fn read(folder: &Path, name: &str, deinterlace: Deinterlace, threads: usize) -> Vec<(i64, String)> {
    let options = framemill::decode::video::VideoOptions { threads, deinterlace, ..Default::default() };
    let mut reader = open(folder, name, &options).unwrap();
    let mut all = Vec::new();
    while let Some(meta) = reader.advance().unwrap() {
        assert_ne!(meta.fields, Fields::Progressive, "{name}");
        all.push((meta.pts.unwrap(), md5(&packed(&reader.frame().unwrap()))));
    }
    assert!(!reader.damaged(), "{name}: {:?}", reader.first_error());
    all
}

#[test]
fn fields_become_frames_as_in_ffmpeg() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (mut compared, mut jumps) = (0, 0);
    let mut random = Random(11);
    for (name, first, format, encoder) in FILMS {
        let film = dir.path().join(name);
        make(&media, &film, first, format, encoder);
        let theirs = reference(&film, "bwdif=mode=send_frame:parity=auto:deint=all");
        let all = read(dir.path(), name, Deinterlace::All, 1);
        let sums: Vec<String> = all.iter().map(|f| f.1.clone()).collect();
        assert_eq!(sums, theirs, "{name}");
        assert_eq!(read(dir.path(), name, Deinterlace::Flagged, 2), all, "{name}");
        compared += all.len();
        // The control: as they are stored they are others, all of them.
        let stored = read(dir.path(), name, Deinterlace::Off, 1);
        assert_eq!(stored.iter().map(|f| f.1.clone()).collect::<Vec<_>>(), reference(&film, "null"), "{name}");
        assert!(stored.iter().zip(&all).all(|(a, b)| a.0 == b.0 && a.1 != b.1), "{name}");
        let options =
            framemill::decode::video::VideoOptions { deinterlace: Deinterlace::Flagged, ..Default::default() };
        for _ in 0..4 {
            let at = 1 + random.below(all.len() as u64 - 1) as usize;
            let mut sought = open(dir.path(), name, &options).unwrap();
            sought.seek_before(all[at].0).unwrap();
            for expected in &all[at..(at + 3).min(all.len())] {
                let meta = sought.advance().unwrap().unwrap();
                let seen = (meta.pts.unwrap(), md5(&packed(&sought.frame().unwrap())));
                assert_eq!(seen, *expected, "{name}: sought");
            }
            let mut jumped = open(dir.path(), name, &options).unwrap();
            jumped.advance().unwrap();
            jumps += usize::from(jumped.wanted_seek(all[at].0).unwrap());
            while let Some(meta) = jumped.advance().unwrap() {
                let expected = all.iter().find(|f| Some(f.0) == meta.pts).unwrap();
                assert_eq!(md5(&packed(&jumped.frame().unwrap())), expected.1, "{name}: jumped to {at}");
            }
        }
    }
    println!("{compared} frames compared, {jumps} jumps");
    assert!(compared > 200 && jumps > 2, "{compared} frames, {jumps} jumps");
}
