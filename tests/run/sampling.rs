//! Which frames, whole and in units, as one tar, and as clips.

use std::collections::BTreeMap;
use std::io::Read;

use crate::ffmpeg::ffmpeg;
use crate::support::*;

/// Files that may be cut, with B-frames, variable frame rates and open groups among them.
const FILMS: [&str; 3] = ["derived", "video/torchcodec", "video/intel"];

#[test]
fn units_give_what_whole_videos_give() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let films: Vec<String> = FILMS.iter().map(|f| media.join(f).to_string_lossy().into_owned()).collect();
    let films: Vec<&str> = films.iter().map(String::as_str).collect();
    let mut rules: Vec<&[&str]> = vec![&["--every", "700ms"], &["--count", "5"], &["--fps", "3", "--pick", "nearest"]];
    if full() {
        rules.extend([
            &["--all"][..],
            &["--every", "1s", "--pick", "shown"],
            &["--at", "0.5,1,2.25,9"],
            &["--keyframes"],
        ]);
    }
    for (i, rule) in rules.iter().enumerate() {
        let (whole, cut) = (dir.path().join(format!("{i}-whole")), dir.path().join(format!("{i}-cut")));
        let output = framemill(&job(&films, whole.to_str().unwrap(), rule));
        assert!(output.status.success(), "{rule:?} {}", errors(&output));
        let output = framemill(&job(&films, cut.to_str().unwrap(), &[rule, &["--unit", "1s"][..]].concat()));
        assert!(output.status.success(), "{rule:?} {}", errors(&output));
        let (expected, mut found) = (samples(&whole), samples(&cut));
        assert!(expected.len() > 30, "{rule:?}: {}", expected.len());
        let first_difference = expected.iter().zip(&found).find(|(a, b)| a != b);
        assert_eq!((first_difference, expected.len()), (None, found.len()), "{rule:?}");
        // A frame less is noticed.
        found.remove(7);
        assert_ne!(expected, found);
        let units = |out: &std::path::Path| {
            let text = std::fs::read_to_string(out.join("_framemill/plan.json")).unwrap();
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["units"].as_u64().unwrap()
        };
        assert!(units(&cut) > units(&whole) + 20 || rule[0] == "--keyframes", "{rule:?}: nothing was cut");
    }
}

/// With `--all` as many frames as FFmpeg's program gives, and the report says so.
#[test]
fn all_frames_are_all_that_ffmpeg_gives() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let truth = std::fs::read_to_string(media.join("groundtruth/decode_summary.tsv")).unwrap();
    let mut expected = BTreeMap::new();
    let list = dir.path().join("l.txt");
    let mut text = String::new();
    for line in truth.lines().filter(|l| !l.starts_with('#')).skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let frames: u64 = cells[4].parse().unwrap_or(0);
        let small = std::fs::metadata(media.join(cells[0])).is_ok_and(|m| m.len() < 3 << 20);
        let clean = cells[8] == "0" && cells[9] == "0";
        if clean && small && (1..=300).contains(&frames) && !cells[0].contains("corrupt/") && cells[0].ends_with("mp4")
        {
            expected.insert(media.join(cells[0]).to_string_lossy().into_owned(), frames);
            text += &format!("{}\n", media.join(cells[0]).display());
        }
    }
    std::fs::write(&list, text).unwrap();
    let out = dir.path().join("out");
    let output = framemill(&job(&[list.to_str().unwrap()], out.to_str().unwrap(), &["--all", "--json"]));
    assert!(output.status.success(), "{}", errors(&output));
    let total: u64 = expected.values().sum();
    assert_eq!(report(&output)["frames"]["decoded"], total);
    assert_eq!(report(&output)["samples"], total);
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for record in records(&out) {
        *found.entry(record["uri"].as_str().unwrap().into()).or_default() += 1;
    }
    assert_eq!(found, expected);
    println!("{} files, {total} frames", expected.len());
    assert!(expected.len() > 8);
}

fn members(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let mut all = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        all.push((name, bytes));
    }
    all
}

#[test]
fn a_stream_is_the_shards_one_after_the_other() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (input, out) = (media.join("derived"), dir.path().join("out"));
    let more = ["--op", "random_flip:h", "--epoch", "1"];
    let shards = framemill(&job(&[input.to_str().unwrap()], out.to_str().unwrap(), &more));
    assert!(shards.status.success(), "{}", errors(&shards));
    let mut expected = Vec::new();
    for name in tree(&out).into_keys().filter(|n| n.ends_with(".tar")) {
        expected.extend(members(&std::fs::read(out.join(name)).unwrap()));
    }
    let stream = framemill(&job(&[input.to_str().unwrap()], "-", &more));
    assert!(stream.status.success(), "{}", errors(&stream));
    assert_eq!(members(&stream.stdout), expected);
    let again = framemill(&job(&[input.to_str().unwrap()], "-", &["--op", "random_flip:h", "--epoch", "2"]));
    let (other, keys) =
        (members(&again.stdout), |m: &[(String, Vec<u8>)]| m.iter().map(|x| x.0.clone()).collect::<Vec<_>>());
    assert_eq!(keys(&other), keys(&expected), "the same samples");
    let same = other.iter().zip(&expected).filter(|(a, b)| a.0.ends_with("jpg") && a.1 == b.1).count();
    let all = other.len() / 2;
    assert!((all / 5..all * 4 / 5).contains(&same), "other draws: {same} of {all} are alike");
}

#[test]
fn a_stream_refuses_what_a_tar_cannot_hold_and_ends_with_its_reader() {
    let clips = fixtures().join("clips");
    let run = |more: &[&str]| framemill(&job(&[clips.to_str().unwrap()], "-", more));
    for more in [
        &["--format", "images"][..],
        &["--metadata", "csv"],
        &["--split", "a=0.5,b=0.5"],
        &["--tasks", "0/2"],
        &["--append"],
        &["--json"],
    ] {
        let output = run(more);
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(errors(&output).contains(more[0]) && output.stdout.is_empty(), "{more:?}: {}", errors(&output));
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let output = run(&["--report", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", errors(&output));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(report["bytes"]["written"], output.stdout.len());
    let all = ["--all", "--encode", "png", "--op", "resize:w=400,h=400"];
    let mut child = program()
        .args(job(&[clips.to_str().unwrap()], "-", &all))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 512]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141), "{}", errors(&output));
}

#[test]
fn nothing_is_decoded_behind_the_last_wanted_frame() {
    let Some(media) = media() else { return };
    let film = media.join("derived/shots_public.mp4");
    for (rule, most) in [(["--at", "0.5,1"], 40), (["--at", "0"], 5)] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let args = job(&[film.to_str().unwrap()], out.to_str().unwrap(), &[&rule[..], &["--json"]].concat());
        let frames = report(&framemill(&args))["frames"].clone();
        assert!(frames["decoded"].as_u64().unwrap() <= most, "{rule:?}: {frames}");
    }
}

#[test]
fn clips_have_the_frames_that_follow() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let input = media.join("derived");
    let input = input.to_str().unwrap();
    let (clips, frames) = (dir.path().join("clips"), dir.path().join("frames"));
    let tensors = ["--format", "tensors"];
    let more = [&["--every", "1s", "--clip", "frames=4,stride=2"][..], &tensors].concat();
    let output = framemill(&job(&[input], clips.to_str().unwrap(), &more));
    assert!(output.status.success(), "{}", errors(&output));
    let output = framemill(&job(&[input], frames.to_str().unwrap(), &[&["--all"][..], &tensors].concat()));
    assert!(output.status.success(), "{}", errors(&output));
    const PICTURE: usize = 48 * 32 * 3;
    let rows = |out: &std::path::Path, size: usize| -> Vec<Vec<u8>> {
        let arrays = tree(out).into_keys().filter(|n| n.ends_with(".npy"));
        let bytes = arrays.map(|n| std::fs::read(out.join(n)).unwrap());
        let data = bytes.map(|b| b[b.len() % size..].to_vec());
        data.flat_map(|d| d.chunks(size).map(<[u8]>::to_vec).collect::<Vec<_>>()).collect()
    };
    let (clip_rows, frame_rows) = (rows(&clips, 4 * PICTURE), rows(&frames, PICTURE));
    let (clip_records, frame_records) = (records(&clips), records(&frames));
    assert_eq!((clip_rows.len(), frame_rows.len()), (clip_records.len(), frame_records.len()));
    let mut videos = 0;
    for (record, clip) in clip_records.iter().zip(&clip_rows).filter(|(r, _)| r["media"] == "video") {
        videos += 1;
        let first = frame_records.iter().position(|r| r["key"] == record["key"]).unwrap();
        for t in 0..4 {
            assert_eq!(clip[t * PICTURE..][..PICTURE], frame_rows[first + 2 * t], "{} frame {t}", record["key"]);
        }
    }
    assert!(videos > 20, "{videos} clips");
}

/// Matroska, FLV and others state one length, that of their longest stream.
#[test]
fn a_longer_sound_track_makes_no_video_longer() {
    let dir = tempfile::tempdir().unwrap();
    let clip = fixtures().join("clips/h264.mp4");
    let long = |name: &str| {
        let path = dir.path().join(name);
        let sound = "sine=frequency=300:sample_rate=44100:duration=9";
        let both = ["-i", clip.to_str().unwrap(), "-f", "lavfi", "-i", sound, "-map", "0:v", "-map", "1:a"];
        ffmpeg(&[&both[..], &["-c:v", "copy", "-c:a", "aac", path.to_str().unwrap()]].concat());
        path
    };
    let taken = |path: &std::path::Path, rule: &[&str]| taken(path, rule).into_values().collect::<Vec<String>>();
    // MP4 states how long each stream is: 4 s.
    let plain = long("plain.mp4");
    let others = ["a.mkv", "a.flv", "a.nut"].map(long);
    let rules: [(&[&str], usize); 3] =
        [(&["--count", "3"], 3), (&["--every", "400ms", "--pick", "shown"], 10), (&["--at", "0.4,5"], 1)];
    for (rule, many) in rules {
        let expected = taken(&plain, rule);
        assert_eq!(expected.len(), many, "{rule:?}");
        for path in &others {
            assert_eq!(taken(path, rule), expected, "{} {rule:?}", path.display());
        }
    }
    // Its times are guessed.
    assert_eq!(taken(&long("a.asf"), &["--count", "3"]).len(), 3);
}

/// Keys and digests of what is taken of `film`.
fn taken(film: &std::path::Path, rule: &[&str]) -> BTreeMap<String, String> {
    let out = film.with_file_name(format!("{}-out{}", film.file_name().unwrap().to_str().unwrap(), rule.concat()));
    let output = framemill(&job(&[film.to_str().unwrap()], out.to_str().unwrap(), rule));
    assert!(output.status.success(), "{film:?} {rule:?}: {}", errors(&output));
    samples(&out).into_iter().collect()
}

/// AVI has times of decoding alone, which a copy into another container takes for those of showing.
#[test]
fn copies_from_avi_give_the_frames_of_reading_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let path = |name: &str| at(name).to_string_lossy().into_owned();
    let picture = ["-f", "lavfi", "-i", "testsrc2=s=96x64:r=25:d=4", "-pix_fmt", "yuv420p", "-g", "20", "-bf", "3"];
    ffmpeg(&[&picture[..], &["-c:v", "libx264", "-preset", "veryfast", &path("h264.avi")]].concat());
    ffmpeg(&[&picture[..], &["-c:v", "mpeg4", &path("mpeg4.avi")]].concat());
    ffmpeg(&["-fflags", "+genpts", "-i", &path("h264.avi"), "-c", "copy", &path("h264.mkv")]);
    ffmpeg(&["-i", &path("h264.avi"), "-c", "copy", &path("h264.mp4")]);
    ffmpeg(&["-i", &path("mpeg4.avi"), "-c", "copy", &path("mpeg4.mp4")]);
    for film in ["h264.mkv", "h264.mp4", "mpeg4.mp4"] {
        let all = taken(&at(film), &["--all"]);
        assert_eq!(all.len(), 100, "{film}");
        let rules: [&[&str]; 5] = [
            &["--at", "1.3"],
            &["--every", "0.7"],
            &["--keyframes"],
            &["--all", "--unit", "1s"],
            &["--all", "--start", "2"],
        ];
        for rule in rules {
            let some = taken(&at(film), rule);
            // Which of two frames of one time gets `-1` depends on what else is taken.
            let time = |(key, digest): (&String, &String)| (key[..29].to_string(), digest.clone());
            let known: Vec<_> = all.iter().map(time).collect();
            let same = some.iter().map(time).all(|frame| known.contains(&frame));
            assert!(!some.is_empty() && same, "{film} {rule:?}: {some:?}");
        }
        assert_eq!(taken(&at(film), &["--all", "--unit", "900ms"]).len(), 100, "{film}");
    }
}

/// The times that `--count` asks for lie between a stream's own start and end.
#[test]
fn a_stream_that_begins_late_is_counted_from_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let clip = fixtures().join("clips/h264.mp4");
    let times = |film: &std::path::Path| -> Vec<u64> {
        taken(film, &["--count", "4"]).keys().map(|key| key[key.len() - 12..].parse().unwrap()).collect()
    };
    let expected = times(&clip_in(dir.path(), &clip, "plain.mp4", &[]));
    assert_eq!(expected, [480_000, 1_480_000, 2_480_000, 3_480_000]);
    for name in ["late.mkv", "late.mp4", "late.ts"] {
        let film = clip_in(dir.path(), &clip, name, &["-output_ts_offset", "7"]);
        assert_eq!(times(&film), expected, "{name}");
    }
}

/// A copy of `clip` in another container.
fn clip_in(dir: &std::path::Path, clip: &std::path::Path, name: &str, more: &[&str]) -> std::path::PathBuf {
    let to = dir.join(name);
    ffmpeg(&[&["-i", clip.to_str().unwrap(), "-c", "copy"], more, &[to.to_str().unwrap()]].concat());
    to
}

#[test]
fn clips_that_do_not_fill_up_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let clip = fixtures().join("clips/h264.mp4");
    let run = |name: &str, rule: &str| {
        let out = dir.path().join(name);
        framemill(&job(&[clip.to_str().unwrap()], out.to_str().unwrap(), &["--every", "1s", "--clip", rule, "--json"]))
    };
    let some = run("some", "frames=50");
    assert_eq!(report(&some)["samples"], 3);
    assert_eq!(report(&some)["frames"]["incomplete_clips"], 1);
    let none = run("none", "frames=200");
    assert_eq!((none.status.code(), &report(&none)["frames"]["incomplete_clips"]), (Some(3), &4.into()));
    assert!(errors(&none).contains("4 clips begin in it"), "{}", errors(&none));
    assert!(report(&run("whole", "frames=25"))["frames"].get("incomplete_clips").is_none());
}
