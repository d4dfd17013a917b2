//! `--keyframes` decodes key frames alone and still gives each its own time and pixels, in order; parts begin with the first
//! frame behind their start, however far apart frames are. FFmpeg says which frames are key, and when.

use std::path::Path;
use std::process::Command;

use crate::support::*;

/// Films whose key frames are not understood, ordered or timed without what lies between; the last has a frame in 10 s.
const FILMS: [(&str, &str); 6] = [
    ("open.mp4", "-t 18 -c:v libx265 -x265-params log-level=none:keyint=150:min-keyint=150:scenecut=0:open-gop=1"),
    ("open.mkv", "-t 18 -c:v libx264 -x264-params keyint=140:open-gop=1:scenecut=0:bframes=3"),
    ("untimed.ts", "-t 8 -c:v mpeg2video -g 60 -bf 2"),
    ("untimed.h264", "-t 8 -c:v libx264 -g 60"),
    ("refreshed.mp4", "-t 6 -c:v libx264 -x264-params intra-refresh=1:keyint=25"),
    ("slow.mp4", "-r 1/10 -t 70 -c:v libx264 -g 3"),
];

fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(["-v", "error"]).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", errors(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn film(folder: &Path, name: &str, encoder: &str) -> String {
    let path = folder.join(name).to_str().unwrap().to_string();
    let source = ["-nostdin", "-f", "lavfi", "-i", "testsrc2=s=160x120:r=25"];
    tool("ffmpeg", &[&source[..], &encoder.split(' ').collect::<Vec<_>>(), &["-pix_fmt", "yuv420p", &path]].concat());
    path
}

/// Frames that FFmpeg decodes: time stamp where it has one, and whether it is key, for the codec or for the container.
fn shown(film: &str) -> Vec<(Option<i64>, bool)> {
    let probe =
        |entries: &str| tool("ffprobe", &["-select_streams", "v:0", "-show_entries", entries, "-of", "csv=p=0", film]);
    let packets = probe("packet=pts,flags");
    let flagged: Vec<i64> = packets
        .lines()
        .filter_map(|line| line.split_once(',').filter(|p| p.1.contains('K')).and_then(|p| p.0.parse().ok()))
        .collect();
    let frame = |line: &str| {
        let mut cells = line.split(',');
        let key = cells.next() == Some("1");
        let time = cells.next().and_then(|t| t.parse().ok());
        (time, key || time.is_some_and(|time| flagged.contains(&time)))
    };
    probe("frame=key_frame,best_effort_timestamp").lines().filter(|line| !line.is_empty()).map(frame).collect()
}

/// Time stamp, seconds and digest of each sample.
fn taken(film: &str, out: &Path, rule: &[&str]) -> Vec<(i64, f64, String)> {
    let small = ["--op", "resize:w=16,h=16", "--encode", "png", "--allow-empty", "--progress", "none"];
    let args = [&["run", "-i", film, "-o", out.to_str().unwrap()][..], &small, rule].concat();
    let output = framemill(&args);
    let empty = output.status.code() == Some(3) && errors(&output).contains("no sample came out");
    assert!(output.status.success() || empty, "{args:?}: {}", errors(&output));
    let row = |r: &serde_json::Value| {
        (r["pts"].as_i64().unwrap(), r["time_s"].as_f64().unwrap(), r["sha256"].as_str().unwrap().to_string())
    };
    records(out).iter().map(row).collect()
}

#[test]
fn key_frames_alone_are_those_of_the_whole_film() {
    let dir = tempfile::tempdir().unwrap();
    for (name, encoder) in FILMS {
        let film = film(dir.path(), name, encoder);
        let shown = shown(&film);
        let out = |what: &str| dir.path().join(format!("{name}-{what}"));
        let whole = taken(&film, &out("all"), &["--all"]);
        assert_eq!(whole.len(), shown.len(), "{name}");
        let keys: Vec<_> = whole.iter().zip(&shown).filter(|(_, s)| s.1).map(|(frame, _)| frame.clone()).collect();
        let told: Vec<Option<i64>> = shown.iter().filter(|s| s.1).map(|s| s.0).collect();
        if told.iter().all(Option::is_some) {
            assert_eq!(keys.iter().map(|k| Some(k.0)).collect::<Vec<_>>(), told, "{name}");
        }
        assert!(keys.len() > 2 && keys.windows(2).all(|k| k[0].0 < k[1].0 && k[0].2 != k[1].2), "{name}: {keys:?}");
        for (part, range) in [
            (&[][..], 0.0..f64::INFINITY),
            (&["--start", "5"], 5.0..f64::INFINITY),
            (&["--end", "5.5"], 0.0..5.5),
            (&["--start", "11", "--end", "12.5"], 11.0..12.5),
        ] {
            let inside = |frames: &[(i64, f64, String)]| -> Vec<(i64, f64, String)> {
                frames.iter().filter(|f| range.contains(&f.1)).cloned().collect()
            };
            let rules = [
                ("--keyframes", "1", inside(&keys)),
                ("--keyframes", "3", inside(&keys)),
                ("--all", "3", inside(&whole)),
            ];
            for (rule, threads, expected) in rules {
                let args = [part, &[rule, "--threads", threads]].concat();
                assert_eq!(taken(&film, &out(&args.concat()), &args), expected, "{name} {args:?}");
            }
        }
    }
}

/// A film whose only key frame is cut off by its edit list has no key frame to show: nothing is wrong with it.
#[test]
fn a_film_that_shows_no_key_frame_is_no_reject() {
    let Some(media) = media() else { return };
    let film = media.join("video/androidx/mp4/sample_edit_list_only_preroll_sync_sample.mp4");
    let film = film.to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    assert!(taken(film, &dir.path().join("keys"), &["--keyframes"]).is_empty());
    let out = dir.path().join("keys");
    let told = report(&framemill(&["status", out.to_str().unwrap(), "--json"]));
    assert_eq!((&told["inputs"]["rejected"], &told["inputs"]["done"]), (&0.into(), &1.into()), "{told}");
    assert!(!taken(film, &dir.path().join("all"), &["--all"]).is_empty());
}

/// The elements of the one array in a dataset of 16x16 pictures.
fn elements(out: &Path) -> Vec<u8> {
    let array = std::fs::read(out.join("shard-000000.npy")).unwrap();
    array[10 + usize::from(u16::from_le_bytes([array[8], array[9]]))..].to_vec()
}

#[test]
fn clips_go_on_from_a_key_frame_with_the_frames_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let film = film(dir.path(), "film.mp4", "-t 6 -c:v libx264 -g 20 -bf 2");
    let frame = 16 * 16 * 3;
    let run = |out: &Path, rule: &[&str]| {
        let small = ["--op", "resize:w=16,h=16", "--format", "tensors"];
        let output = framemill(&[&["run", "-i", &film, "-o", out.to_str().unwrap()][..], &small, rule].concat());
        assert!(output.status.success(), "{rule:?}: {}", errors(&output));
        (records(out), elements(out))
    };
    let (whole, pictures) = run(&dir.path().join("all"), &["--all"]);
    let keys: Vec<usize> = (0..whole.len()).filter(|&i| whole[i]["keyframe"] == true).collect();
    assert!(keys.len() > 5);
    let expected: Vec<u8> = keys
        .iter()
        .filter(|&&key| key + 4 < whole.len())
        .flat_map(|key| [key, &(key + 2), &(key + 4)].map(|i| &pictures[i * frame..][..frame]).concat())
        .collect();
    for unit in ["10m", "2s"] {
        let rule = ["--keyframes", "--clip", "frames=3,stride=2", "--unit", unit];
        let (clips, got) = run(&dir.path().join(unit), &rule);
        assert_eq!(clips.len(), keys.len(), "{unit}");
        assert!(got == expected, "{unit}: other frames than those behind the key frames");
        assert!(got[frame..][..frame] != got[3 * frame..][..frame], "the second frame is the next key frame");
    }
}
