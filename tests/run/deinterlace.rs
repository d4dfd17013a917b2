//! Interlaced video on its way through a run: each frame is the same however it is reached, and progressive video is left
//! alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::*;

/// A film of which every frame holds two moments.
fn film(media: &Path, folder: &Path) -> PathBuf {
    let (source, to) = (media.join("video/intel/one-by-one-person-detection.mp4"), folder.join("fields.mp4"));
    let filter = "setpts=N/50/TB,fps=50,scale=352:288,interlace=scan=tff:lowpass=off";
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-ss", "60", "-i", source.to_str().unwrap(), "-an", "-vf", filter])
        .args([
            "-frames:v",
            "150",
            "-c:v",
            "libx264",
            "-x264opts",
            "tff=1",
            "-g",
            "20",
            "-bf",
            "2",
            "-pix_fmt",
            "yuv420p",
        ])
        .arg(&to)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    to
}

fn run(film: &Path, out: &Path, more: &[&str]) -> Value {
    let args = job(&[film.to_str().unwrap()], out.to_str().unwrap(), &[&["--encode", "png", "--json"], more].concat());
    let output = program().args(args).env("FRAMEMILL_TEST_DECODER", "none").output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    report(&output)
}

fn pixels(out: &Path) -> BTreeMap<i64, String> {
    let digest = |r: &Value| (r["pts"].as_i64().unwrap(), r["sha256"].as_str().unwrap().to_string());
    records(out).iter().map(digest).collect()
}

#[test]
fn a_frame_is_the_same_however_it_is_reached() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let film = film(&media, dir.path());
    let (all, stored) = (dir.path().join("all"), dir.path().join("stored"));
    let told = run(&film, &all, &["--all", "--threads", "1"]);
    assert_eq!(told["frames"]["deinterlaced"], told["frames"]["decoded"]);
    let told = run(&film, &stored, &["--all", "--deinterlace", "off"]);
    assert!(told["frames"].get("deinterlaced").is_none(), "{told}");
    let (all, stored) = (pixels(&all), pixels(&stored));
    assert!(all.len() == 150 && all.keys().eq(stored.keys()));
    assert!(all.iter().filter(|(pts, digest)| stored[pts] != **digest).count() > 140, "the control");
    for (i, rule) in [
        &["--every", "1s"][..],
        &["--every", "700ms", "--pick", "shown", "--start", "1.5s"],
        &["--at", "0,1.01,3.3,5.9"],
        &["--count", "4", "--threads", "3"],
        &["--keyframes"],
        &["--all", "--deinterlace", "bwdif"],
        &["--every", "1s", "--unit", "2s"],
        &["--every", "1s", "--decoder", "test"],
    ]
    .iter()
    .enumerate()
    {
        let out = dir.path().join(i.to_string());
        let told = run(&film, &out, rule);
        let found = pixels(&out);
        assert!(found.len() > 2, "{rule:?}");
        let other: Vec<_> = found.iter().filter(|(pts, digest)| all[pts] != **digest).collect();
        assert!(other.is_empty(), "{rule:?}: {other:?}");
        if rule.contains(&"test") {
            let reason = told["fallbacks"][0]["reason"].as_str().unwrap();
            assert!(reason.contains("deinterlaced in software"), "{told}");
        }
    }
}

#[test]
fn progressive_video_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let clips = fixtures().join("clips");
    let trees = ["auto", "off"].map(|how| {
        let out = dir.path().join(how);
        run(&clips, &out, &["--every", "300ms", "--deinterlace", how]);
        (pixels(&out), records(&out))
    });
    assert_eq!(trees[0], trees[1]);
    // As a job that does not speak of it.
    let (said, unsaid) = (dir.path().join("auto"), dir.path().join("unsaid"));
    run(&clips, &unsaid, &["--every", "300ms"]);
    assert_eq!(tree(&said), tree(&unsaid));
}
