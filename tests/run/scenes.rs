//! One frame a scene: against the exact cuts of a film that was edited of known shots, against every frame of the same
//! film, and beside PySceneDetect.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::python::python;
use crate::support::*;

/// The film's time base is 1/12800, its rate 25.
const TICKS: i64 = 512;

fn run(media: &Path, out: &Path, more: &[&str]) -> Value {
    let film = media.join("derived/shots_public.mp4");
    let args = job(&[film.to_str().unwrap()], out.to_str().unwrap(), &[&encoded(more)[..], &["--json"], more].concat());
    let output = framemill(&args);
    assert!(output.status.success(), "{}", errors(&output));
    report(&output)
}

/// Without loss, so that digests tell of pixels.
fn encoded(rule: &[&str]) -> [&'static str; 2] {
    ["--encode", if rule.contains(&"--clip") { "npy" } else { "png" }]
}

/// Rows of the tables of scenes, in order.
fn scenes(out: &Path) -> Vec<Value> {
    let names: BTreeSet<String> = tree(out).into_keys().filter(|n| n.starts_with("scenes-")).collect();
    names.iter().flat_map(|name| framemill::sink::table::read_rows(&out.join(name)).unwrap()).collect()
}

fn frame(row: &Value, field: &str) -> i64 {
    row[field].as_i64().unwrap() / TICKS
}

/// The cuts and the gradual changes (first and last frame) of the film.
fn truth(media: &Path) -> (Vec<i64>, Vec<(i64, i64)>) {
    let text = std::fs::read_to_string(media.join("groundtruth/shots/shots_public.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let cuts = json["hard_cuts_first_frame_of_new_shot"].as_array().unwrap().iter().map(|c| c.as_i64().unwrap());
    let range = |g: &Value| match g["type"].as_str() {
        Some("dissolve") => (g["first_mixed_frame"].as_i64().unwrap(), g["last_mixed_frame"].as_i64().unwrap()),
        _ => (g["first_dark_ramp_frame"].as_i64().unwrap(), g["last_ramp_frame"].as_i64().unwrap()),
    };
    (cuts.collect(), json["gradual"].as_array().unwrap().iter().map(range).collect())
}

#[test]
fn every_cut_is_found_and_no_false_one() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let told = run(&media, &out, &["--scenes", "--metadata", "parquet,csv,sqlite"]);
    let (cuts, gradual) = truth(&media);
    let rows = scenes(&out);
    let of = |kind: &str| -> Vec<i64> {
        rows.iter().filter(|r| r["change"] == kind).map(|r| frame(r, "start_pts")).collect()
    };
    assert_eq!(of("cut"), cuts);
    let found = of("gradual");
    assert_eq!(found.len(), gradual.len(), "{found:?}");
    for (at, (first, last)) in found.iter().zip(&gradual) {
        assert!((first..=last).contains(&at), "{at} is not in {first}..={last}");
    }
    // Without gap, from the first frame to behind the last.
    assert!(rows[0]["change"].is_null() && rows[0]["start_pts"] == 0);
    assert!(rows.windows(2).all(|w| w[0]["end_pts"] == w[1]["start_pts"]));
    assert_eq!(rows.iter().map(|r| r["frames"].as_i64().unwrap()).sum::<i64>(), 658);
    assert_eq!(frame(&rows[rows.len() - 1], "end_pts"), 658);
    // A sample for each, with the first frame's time; what was looked at alone is skipped by rule.
    let samples: Vec<i64> = records(&out).iter().map(|r| r["pts"].as_i64().unwrap()).collect();
    assert_eq!(samples, rows.iter().map(|r| r["start_pts"].as_i64().unwrap()).collect::<Vec<_>>());
    assert_eq!((&told["frames"]["decoded"], &told["frames"]["skipped_by_rule"]), (&658.into(), &644.into()));
    assert_eq!(told["frames"]["redecoded"], 0);
    let csv = std::fs::read_to_string(out.join("scenes.csv")).unwrap();
    assert_eq!(csv.lines().count(), rows.len() + 1);
    let database = rusqlite::Connection::open(out.join("records.sqlite")).unwrap();
    let query = "SELECT count(*) FROM scenes s JOIN records r ON r.asset = s.asset AND r.pts = s.sample_pts";
    assert_eq!(database.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap(), rows.len() as i64);
    // It is one of the shard's objects: verify knows it, and notices when it is gone.
    let check = || framemill(&["verify", out.to_str().unwrap()]).status.success();
    assert!(check());
    std::fs::remove_file(out.join("scenes-000000.parquet")).unwrap();
    assert!(!check());
    // The control: with a threshold that few changes reach, cuts are missed.
    let few = dir.path().join("few");
    run(&media, &few, &["--scenes", "60"]);
    let left = scenes(&few).iter().filter(|r| r["change"] == "cut").count();
    assert!((1..cuts.len()).contains(&left), "{left}");
}

#[test]
fn the_frames_are_those_of_a_whole_decode() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let all = dir.path().join("all");
    run(&media, &all, &["--all"]);
    let pixels = |out: &Path| -> BTreeMap<i64, String> {
        let digest = |r: &Value| (r["pts"].as_i64().unwrap(), r["sha256"].as_str().unwrap().to_string());
        records(out).iter().map(digest).collect()
    };
    let all = pixels(&all);
    for (name, rule) in [
        ("first", &["--scenes"][..]),
        ("middle", &["--scenes", "--pick", "middle"]),
        ("part", &["--scenes", "--pick", "middle", "--start", "3s", "--end", "20s"]),
    ] {
        let out = dir.path().join(name);
        let told = run(&media, &out, rule);
        let (rows, found) = (scenes(&out), pixels(&out));
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), {
            rows.iter().map(|r| r["sample_pts"].as_i64().unwrap()).collect::<Vec<_>>()
        });
        assert!(found.iter().all(|(pts, digest)| all[pts] == *digest), "{name}");
        for row in &rows {
            let at = if name == "first" { 0 } else { row["frames"].as_i64().unwrap() / 2 };
            assert_eq!(frame(row, "sample_pts"), frame(row, "start_pts") + at, "{name}");
        }
        if name == "part" {
            assert_eq!((frame(&rows[0], "start_pts"), frame(&rows[rows.len() - 1], "end_pts")), (75, 500));
            assert_eq!(rows.len(), 10, "the cuts between are those of the whole film");
        } else {
            assert_eq!(told["frames"]["decoded"], 658);
        }
    }
}

#[test]
fn scenes_do_not_depend_on_threads_decoders_or_interruptions() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let film = media.join("derived/shots_public.mp4");
    for rule in [&["--scenes"][..], &["--scenes", "--pick", "middle", "--clip", "frames=3,stride=2"]] {
        let name = |what: &str| dir.path().join(format!("{}{what}", rule.len()));
        let truth = name("1");
        run(&media, &truth, &[rule, &["--threads", "1"]].concat());
        run(&media, &name("3"), &[rule, &["--threads", "3", "--unit", "5s"]].concat());
        assert_eq!(scenes(&name("3")), scenes(&truth), "a video is one unit, whatever --unit says");
        for fault in ["none", "drop:300", "die:400"] {
            let out = name(fault);
            let more = [rule, &encoded(rule), &["--decoder", "test"]].concat();
            let args = job(&[film.to_str().unwrap()], out.to_str().unwrap(), &more);
            let output = program().args(args).env("FRAMEMILL_TEST_DECODER", fault).output().unwrap();
            assert!(output.status.success(), "{fault}: {}", errors(&output));
            assert_eq!(tree(&out), tree(&truth), "{rule:?} {fault}");
        }
        for place in ["FRAMEMILL_TEST_STOP_BEFORE_PUBLISH", "FRAMEMILL_TEST_STOP_BEFORE_RECEIPT"] {
            let out = name(place);
            let args = job(&[film.to_str().unwrap()], out.to_str().unwrap(), &[rule, &encoded(rule)[..]].concat());
            let killed = program().args(&args).env(place, "1").output().unwrap();
            assert!(!killed.status.success(), "{place}");
            assert!(framemill(&args).status.success(), "{place}");
            assert_eq!(tree(&out), tree(&truth), "{rule:?} {place}");
        }
    }
}

#[test]
fn pick_belongs_to_its_rule() {
    let dir = tempfile::tempdir().unwrap();
    let clip = fixtures().join("clips/h264.mp4");
    let code = |more: &[&str]| {
        let out = dir.path().join("out");
        framemill(&job(&[clip.to_str().unwrap()], out.to_str().unwrap(), more)).status.code()
    };
    for wrong in
        [&["--pick", "middle"][..], &["--scenes", "--pick", "nearest"], &["--scenes", "--all"], &["--scenes", "0"]]
    {
        assert_eq!(code(wrong), Some(2), "{wrong:?}");
    }
    // Said or not said, it is the same job.
    assert_eq!(code(&["--scenes"]), Some(0));
    assert_eq!(code(&["--scenes", "6.5", "--pick", "first"]), Some(0));
    assert_eq!(code(&["--scenes", "7"]), Some(78));
}

#[test]
fn beside_pyscenedetect() {
    let (Some(media), Some(python)) = (media(), python()) else { return };
    let film = media.join("derived/shots_public.mp4");
    let script = "import sys, scenedetect as s\n\
                  for d in (s.ContentDetector(), s.AdaptiveDetector()):\n    \
                  print(*[scene[0].frame_num for scene in s.detect(sys.argv[1], d)][1:])";
    let output = Command::new(python).args(["-c", script]).arg(&film).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let (cuts, gradual) = truth(&media);
    let dir = tempfile::tempdir().unwrap();
    run(&media, dir.path(), &["--scenes"]);
    let ours: Vec<i64> = scenes(dir.path())[1..].iter().map(|r| frame(r, "start_pts")).collect();
    let judge = |found: &[i64]| {
        let missed = cuts.iter().filter(|c| !found.contains(c)).count();
        let in_gradual = |at: &i64| gradual.iter().any(|(first, last)| (first..=last).contains(&at));
        let wrong = found.iter().filter(|at| !cuts.contains(at) && !in_gradual(at)).count();
        (missed, wrong)
    };
    for (name, line) in ["content", "adaptive"].iter().zip(String::from_utf8_lossy(&output.stdout).lines()) {
        let theirs: Vec<i64> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
        assert!(theirs.len() > 5, "{line}");
        let (missed, wrong) = judge(&theirs);
        println!("PySceneDetect {name}: {missed} of {} cuts missed, {wrong} wrong", cuts.len());
        assert!(theirs.iter().filter(|at| cuts.contains(at)).all(|at| ours.contains(at)));
    }
    println!("ours: {ours:?}");
    assert_eq!(judge(&ours), (0, 0));
}

/// Films whose pictures become too large, or of a kind that cannot be converted, behind some scenes: what was seen before is
/// kept, whichever frame stands for it.
#[test]
fn scenes_before_an_end_in_disorder_are_kept() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let film = media.join("derived/shots_public.mp4");
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let ffmpeg = |args: &[&str]| {
        let output = Command::new("ffmpeg").args(["-nostdin", "-v", "error", "-y"]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
    };
    for (name, size) in [("small.ts", "320:180"), ("large.ts", "960:540")] {
        let filter = format!("scale={size}");
        let input = ["-i", film.to_str().unwrap(), "-an", "-vf", &filter, "-frames:v", "250", "-c:v", "libx264"];
        ffmpeg(&[&input[..], &["-preset", "veryfast", &path(name)]].concat());
    }
    let strange = ["-c", "copy", "-bsf:v", "h264_metadata=matrix_coefficients=14"];
    ffmpeg(&[&["-i", &path("small.ts")][..], &strange, &[&path("strange.ts")]].concat());
    let run = |name: &str, file: &str, more: &[&str]| {
        let (file, out) = (path(file), dir.path().join(name));
        let rule = ["--scenes", "--max-pixels", "100000", "--encode", "png", "--json"];
        let output = framemill(&job(&[&file], out.to_str().unwrap(), &[&rule[..], more].concat()));
        assert!(output.status.success(), "{}", errors(&output));
        (report(&output), scenes(&out), records(&out))
    };
    let (_, truth, _) = run("truth", "small.ts", &[]);
    assert!(truth.len() > 2);
    for end in ["large", "strange"] {
        let joined = format!("concat:{}|{}", path("small.ts"), path(&format!("{end}.ts")));
        ffmpeg(&["-i", &joined, "-c", "copy", &path("joined.ts")]);
        for pick in ["first", "middle"] {
            let (told, rows, samples) = run(&format!("{end}-{pick}"), "joined.ts", &["--pick", pick]);
            let inputs = (&told["inputs"]["done"], &told["inputs"]["rejected"], &told["warnings"]);
            assert_eq!(inputs, (&1.into(), &0.into(), &1.into()), "{end}, {pick}: {told}");
            let starts = |rows: &[Value]| rows.iter().map(|r| r["start_pts"].as_i64().unwrap()).collect::<Vec<_>>();
            assert_eq!(starts(&rows), starts(&truth), "{end}, {pick}");
            assert_eq!(samples.len(), rows.len(), "{end}, {pick}");
        }
    }
}

#[test]
fn the_plan_says_that_a_video_is_one_unit() {
    let clips = fixtures().join("clips");
    let plan = |rule: &str| {
        let args = ["plan", "-i", clips.to_str().unwrap(), rule];
        String::from_utf8(framemill(&args).stdout).unwrap()
    };
    assert!(plan("--scenes").contains("each video is one: a scene"), "{}", plan("--scenes"));
    assert!(plan("--keyframes").contains("each video is one: key frames"));
    assert!(!plan("--all").contains("each video is one"));
}
