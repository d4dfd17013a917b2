//! What the report counts and the records say: packets that were decoded, frames from damaged data.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::*;

/// Presentation time and key flag of every packet of the first video stream, in decoding order, as FFmpeg's own program
/// reads them.
fn packets(file: &Path) -> Vec<(i64, bool)> {
    let show = ["-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts,flags", "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(show).arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let (pts, flags) = line.split_once(',').unwrap();
        (pts.parse().unwrap(), flags.starts_with('K'))
    };
    text.lines().map(line).collect()
}

/// Times of the frames to which others refer, as FFmpeg's decoder knows them.
fn references(file: &Path) -> BTreeSet<i64> {
    let skip = ["-v", "error", "-skip_frame", "noref", "-select_streams", "v:0"];
    let show = ["-show_entries", "frame=pts", "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(skip).args(show).arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect()
}

/// How many packets the frames at `wanted` need: those from the key packet before each up to its own, without those to which
/// nothing refers.
fn needed(packets: &[(i64, bool)], references: &BTreeSet<i64>, wanted: &[i64]) -> u64 {
    let mut all = BTreeSet::new();
    for pts in wanted {
        let own = packets.iter().position(|p| p.0 == *pts).unwrap();
        let key = (0..=own).rev().find(|i| packets[*i].1).unwrap();
        all.extend((key..=own).filter(|i| *i == own || references.contains(&packets[*i].0)));
    }
    all.len() as u64
}

fn times(out: &Path) -> Vec<i64> {
    records(out).iter().map(|r| r["pts"].as_i64().unwrap()).collect()
}

fn run(file: &Path, out: &Path, more: &[&str]) -> Value {
    let output = framemill(&job(&[file.to_str().unwrap()], out.to_str().unwrap(), &[more, &["--json"]].concat()));
    assert!(output.status.success(), "{}", errors(&output));
    report(&output)
}

#[test]
fn keyframes_cost_exactly_the_key_packets() {
    let Some(media) = media() else { return };
    for file in ["derived/shots_public.mp4", "video/intel/one-by-one-person-detection.mp4"] {
        let dir = tempfile::tempdir().unwrap();
        let (file, out) = (media.join(file), dir.path().join("out"));
        let report = run(&file, &out, &["--keyframes"]);
        let keys: Vec<i64> = packets(&file).into_iter().filter(|p| p.1).map(|p| p.0).collect();
        assert_eq!(times(&out), keys);
        for count in ["/frames/packets", "/frames/decoded", "/samples", "/this_run/packets_fed"] {
            assert_eq!(report.pointer(count).unwrap(), keys.len(), "{count}");
        }
    }
}

#[test]
fn sparse_frames_cost_exactly_the_packets_that_they_need() {
    let Some(media) = media() else { return };
    let films: [(&str, &[&str]); 8] = [
        ("derived/shots_public.mp4", &["--every", "5s"]),
        ("derived/shots_public.mp4", &["--at", "1.5,14,20"]),
        ("derived/shots_public.mp4", &["--every", "3s", "--start", "11.3"]),
        ("derived/shots_public.mp4", &["--every", "3s", "--unit", "8s"]),
        ("video/intel/one-by-one-person-detection.mp4", &["--every", "4s"]),
        ("video/intel/one-by-one-person-detection.mp4", &["--count", "7"]),
        ("video/intel/bottle-detection.mp4", &["--every", "1s"]),
        ("video/androidx/mp4/long_1080p_lowbitrate.mp4", &["--count", "6"]),
    ];
    for (file, rule) in films {
        let dir = tempfile::tempdir().unwrap();
        let (file, out) = (media.join(file), dir.path().join("out"));
        let report = run(&file, &out, &[rule, &["--threads", "2"]].concat());
        let packets = packets(&file);
        let wanted = times(&out);
        // The stream's first frame is looked at where the part begins with it.
        let first = packets.iter().map(|p| p.0).min().filter(|_| !rule.contains(&"--start"));
        let bound = needed(&packets, &references(&file), &wanted.iter().copied().chain(first).collect::<Vec<_>>());
        let fed = report["this_run"]["packets_fed"].as_u64().unwrap();
        println!("{} {rule:?}: {fed} packets fed, {bound} needed, {} there", file.display(), packets.len());
        assert!(wanted.len() > 2 && 4 * bound < 3 * packets.len() as u64);
        assert_eq!(fed, bound, "packets for {} frames", wanted.len());
    }
}

#[test]
fn counts_do_not_depend_on_threads() {
    let Some(media) = media() else { return };
    let films =
        ["derived/shots_public.mp4", "video/intel/one-by-one-person-detection.mp4", "video/torchcodec/nasa_13013.mp4"];
    for rule in [["--every", "2s"], ["--at", "1,5"], ["--count", "3"]] {
        for film in films {
            let dir = tempfile::tempdir().unwrap();
            let trees = ["1", "2", "7"].map(|threads| {
                let out = dir.path().join(threads);
                run(&media.join(film), &out, &[&rule[..], &["--threads", threads]].concat());
                tree(&out)
            });
            assert!(trees[0] == trees[1] && trees[0] == trees[2], "{film} {rule:?}");
        }
    }
}

#[test]
fn a_damaged_sample_says_so_itself() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let list = dir.path().join("list.txt");
    let corrupt = media.join("derived/corrupt");
    let (cut, flipped) = (corrupt.join("000000000139.trunc50.jpg"), corrupt.join("bottle-detection.bitflip60.mp4"));
    let whole = media.join("image/coco/val2017/000000000139.jpg");
    std::fs::write(&list, [&cut, &flipped, &whole].map(|p| p.display().to_string()).join("\n")).unwrap();
    let output = framemill(&job(&[list.to_str().unwrap()], out.to_str().unwrap(), &["--every", "200ms", "--json"]));
    assert!(output.status.success(), "{}", errors(&output));
    let report = report(&output);
    let records = records(&out);
    let warnings = |file: &Path| -> Vec<Option<&str>> {
        let own = records.iter().filter(|r| r["uri"].as_str() == file.to_str());
        own.map(|r| r["warning"].as_str()).collect()
    };
    assert_eq!(warnings(&whole), [None]);
    assert!(matches!(warnings(&cut)[..], [Some(text)] if !text.is_empty()));
    let film = warnings(&flipped);
    assert_eq!(film[0], None, "what comes before the damage is whole");
    assert!(film.iter().flatten().any(|w| w.contains("decoded from damaged data")), "{film:?}");
    assert!(film.iter().rev().all(|w| w.is_some() || film[0].is_none()) && film.last().unwrap().is_some(), "{film:?}");
    assert_eq!(report["warnings"], 2);
    assert!(report["frames"]["corrupt"].as_u64() > Some(1));
    let text = framemill(&["status", out.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("2 inputs are damaged or odd"), "{}", errors(&text));
}

#[test]
fn an_input_without_samples_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (clips, out) = (fixtures().join("clips"), dir.path().join("out"));
    let args =
        job(&[clips.to_str().unwrap()], out.to_str().unwrap(), &["--at", "0,1000000", "--start", "900000", "--json"]);
    let output = framemill(&args);
    assert_eq!(output.status.code(), Some(3), "no sample came out: {}", errors(&output));
    let inputs = &report(&output)["inputs"];
    assert_eq!((&inputs["without_samples"], &inputs["rejected"]), (&inputs["found"], &Value::from(0)));
}
