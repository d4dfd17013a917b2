//! Hardware decoders without hardware: the test decoder takes the same way and fails as it is told. Whatever it does, the
//! dataset is software's.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::*;

/// Runs the fixtures' clips with the test decoder failing like `fault`.
fn run(out: &Path, decoder: &str, fault: &str, more: &[&str]) -> std::process::Output {
    let clips = fixtures().join("clips");
    let more = [&["--decoder", decoder, "--threads", "2", "--json"], more].concat();
    let args = job(&[clips.to_str().unwrap()], out.to_str().unwrap(), &more);
    program().args(args).env("FRAMEMILL_TEST_DECODER", fault).output().unwrap()
}

/// Frames and units by decoder.
fn share(report: &Value, decoder: &str) -> (u64, u64) {
    let all = report["decoders"].as_array().unwrap();
    let found = all.iter().find(|d| d["decoder"] == decoder);
    found.map_or((0, 0), |d| (d["frames"].as_u64().unwrap(), d["units"].as_u64().unwrap()))
}

#[test]
fn what_hardware_does_wrong_software_does_again() {
    let dir = tempfile::tempdir().unwrap();
    for rule in [&["--all"][..], &["--every", "500ms"], &["--every", "300ms", "--start", "0.7s"]] {
        let truth = dir.path().join(format!("truth{}", rule.len()) + rule[0]);
        let output = run(&truth, "software", "none", rule);
        assert!(output.status.success(), "{}", errors(&output));
        let told = report(&output);
        let decoded = told["frames"]["decoded"].as_u64().unwrap();
        assert_eq!(share(&told, "software"), (decoded, 5));
        // Missing pictures are met by those that follow, the last one by the end.
        for fault in ["none", "refuse", "drop:0", "drop:3", "drop:12", "corrupt:5", "die:4", "die:0"] {
            let out = dir.path().join(format!("{}{fault}", rule.len()) + rule[0]);
            let output = run(&out, "test", fault, rule);
            assert!(output.status.success(), "{fault}: {}", errors(&output));
            assert_eq!(tree(&out), tree(&truth), "{rule:?} {fault}");
            let told = report(&output);
            assert_eq!(told["frames"]["decoded"].as_u64(), Some(decoded), "{rule:?} {fault}");
            let (by_test, by_software) = (share(&told, "test"), share(&told, "software"));
            assert_eq!(by_test.0 + by_software.0, decoded, "{rule:?} {fault}: {told}");
            assert_eq!(by_test.1 + by_software.1, 5, "{rule:?} {fault}: {told}");
            let fallbacks = told["fallbacks"].as_array().unwrap();
            let units: u64 = fallbacks.iter().map(|f| f["units"].as_u64().unwrap()).sum();
            assert_eq!(units, by_software.1, "{rule:?} {fault}: each unit that software did is named: {told}");
            match fault {
                "none" => assert_eq!((by_software, fallbacks.len()), ((0, 0), 0), "{rule:?}: {told}"),
                "refuse" | "drop:3" | "corrupt:5" | "die:4" | "die:0" if rule == ["--all"] => {
                    assert_eq!(by_test, (0, 0), "{rule:?} {fault}: {told}");
                }
                _ => {}
            }
            if let Some(first) = fallbacks.first() {
                assert_eq!(
                    (&first["what"], &first["from"], &first["to"]),
                    (&"decoder".into(), &"test".into(), &"software".into())
                );
            }
        }
    }
}

#[test]
fn a_last_picture_that_is_missing_is_met_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let clip = fixtures().join("clips/vp9.webm");
    let of = |fault: &str| {
        let out = dir.path().join(fault);
        let args = job(&[clip.to_str().unwrap()], out.to_str().unwrap(), &["--all", "--decoder", "test", "--json"]);
        let output = program().args(args).env("FRAMEMILL_TEST_DECODER", fault).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        (tree(&out), report(&output))
    };
    let (truth, told) = of("none");
    assert_eq!(share(&told, "test"), (50, 1));
    let (mended, told) = of("drop:49");
    assert_eq!((mended, share(&told, "software")), (truth.clone(), (50, 1)));
    let reason = told["fallbacks"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("no picture for a packet"), "{reason}");
    // One beyond the end never happens: the control.
    let (whole, told) = of("drop:50");
    assert_eq!((whole, share(&told, "test")), (truth, (50, 1)));
}

#[test]
fn falling_back_can_be_forbidden() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("forbidden");
    let output = run(&out, "test", "corrupt:5", &["--all", "--fallback", "forbid"]);
    assert_eq!(output.status.code(), Some(3), "nothing comes out: {}", errors(&output));
    let rejects = report(&framemill(&["rejects", out.to_str().unwrap(), "--json"]));
    let refused = rejects["kinds"]["device_unsupported"].as_array().unwrap();
    assert_eq!(refused.len(), 5, "{rejects}");
    let message = refused[0]["message"].as_str().unwrap();
    assert!(message.contains("test cannot decode it") && message.contains("--fallback warn"), "{message}");
    let sound = dir.path().join("sound");
    let output = run(&sound, "test", "none", &["--all", "--fallback", "forbid"]);
    assert!(output.status.success() && report(&output)["inputs"]["rejected"] == 0, "{}", errors(&output));
}

#[test]
fn a_missing_decoder_is_named_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    // There is none of this kind anywhere.
    let output = run(&dir.path().join("forbidden"), "qsv", "none", &["--fallback", "forbid"]);
    assert_eq!(output.status.code(), Some(69), "{}", errors(&output));
    assert!(errors(&output).contains("vaapi"), "{}", errors(&output));
    let out = dir.path().join("named");
    let output = run(&out, "qsv", "none", &["--fallback", "allow"]);
    assert!(output.status.success(), "{}", errors(&output));
    let told = report(&output);
    assert_eq!(told["fallbacks"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told["fallbacks"][0]["from"], "qsv");
    assert_eq!(share(&told, "software").1, 5);
    // The decoder is no part of the job.
    let output = run(&out, "auto", "none", &[]);
    assert!(output.status.success(), "{}", errors(&output));
    let output = run(&dir.path().join("nonsense"), "gpu", "none", &[]);
    assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
}

/// Makes a clip of a moving picture of its own; false where this FFmpeg has no such encoder.
fn make(file: &Path, hue: usize, size: &str, encoder: &[&str]) -> bool {
    let source = format!("testsrc2=s={size}:r=25:d=2,hue=h={}", hue * 40);
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &source, "-pix_fmt", "yuv420p", "-c:v"]);
    ffmpeg.args(encoder).arg(file).output().is_ok_and(|output| output.status.success())
}

/// Makes an MP4 one that is shown turned by a right angle: of its header's matrix, not of its stream.
fn turn(file: &Path, to: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let header = bytes.windows(4).position(|name| name == b"tkhd").unwrap();
    let turned: [i32; 9] = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30];
    let matrix = &mut bytes[header + 44..][..36];
    assert_eq!(matrix[..4], (1i32 << 16).to_be_bytes(), "not upright before");
    turned.iter().zip(matrix.chunks_mut(4)).for_each(|(n, place)| place.copy_from_slice(&n.to_be_bytes()));
    std::fs::write(to, bytes).unwrap();
}

/// What the report says of hardware's sessions.
fn sessions(report: &Value) -> Value {
    let all = report["decoders"].as_array().unwrap();
    all.iter().find(|d| d["decoder"] != "software").map_or(Value::Null, |d| d["sessions"].clone())
}

#[test]
fn sessions_are_used_again_for_files_of_the_same_parameters_alone() {
    let dir = tempfile::tempdir().unwrap();
    let clips = dir.path().join("clips");
    std::fs::create_dir(&clips).unwrap();
    let h264: &[&str] = &["libx264", "-preset", "veryfast", "-g", "10", "-bf", "2", "-threads", "1"];
    let (mut kinds, mut files) = (0, 0);
    let sets: [(&str, &str, &[&str]); 4] = [
        ("a.mp4", "320x240", h264),
        ("b.mp4", "352x288", h264),
        ("c.mkv", "320x240", &["libx265", "-x265-params", "log-level=none:keyint=10:pools=none"]),
        ("d.webm", "320x240", &["libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]),
    ];
    for (name, size, encoder) in sets {
        let made = (0..3).filter(|i| make(&clips.join(format!("{i}{name}")), *i, size, encoder)).count();
        (kinds, files) = (kinds + u64::from(made > 0), files + made as u64);
    }
    if kinds == 0 {
        println!("skipped: there is no ffmpeg here with an encoder");
        return;
    }
    if clips.join("1a.mp4").exists() {
        turn(&clips.join("1a.mp4"), &clips.join("1e.mp4"));
        files += 1;
    }
    println!("{files} files of {kinds} kinds");
    let run = |name: String, decoder: &str, fault: &str, rule: &[&str]| {
        let out = dir.path().join(name);
        let more = [&["--decoder", decoder, "--threads", "1", "--json"], rule].concat();
        let args = job(&[clips.to_str().unwrap()], out.to_str().unwrap(), &more);
        let output = program().args(args).env("FRAMEMILL_TEST_DECODER", fault).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        (tree(&out), sessions(&report(&output)))
    };
    for (i, rule) in
        [&["--all"][..], &["--every", "300ms"], &["--every", "500ms", "--start", "0.7s"]].iter().enumerate()
    {
        let (expected, none) = run(format!("software{i}"), "software", "none", rule);
        assert!(expected.len() > 10 && none.is_null());
        let (found, sessions) = run(format!("test{i}"), "test", "none", rule);
        assert_eq!(found, expected, "{rule:?}");
        let told = (sessions["opened"].as_u64().unwrap(), sessions["reused"].as_u64().unwrap());
        assert_eq!(told, (kinds, files - kinds), "{rule:?}");
        let (found, _) = run(format!("corrupt{i}"), "test", "corrupt:2", rule);
        assert_eq!(found, expected, "{rule:?}");
    }
    // What met damage is not used again: behind a damaged clip another session is opened.
    if clips.join("1a.mp4").exists() {
        let mut bytes = std::fs::read(clips.join("1a.mp4")).unwrap();
        let data = bytes.windows(4).position(|name| name == b"mdat").unwrap();
        let middle = data + (bytes.len() - data) / 3;
        bytes[middle..][..2000].fill(0);
        std::fs::write(clips.join("1aa.mp4"), bytes).unwrap();
        let (expected, _) = run("damaged".into(), "software", "none", &["--all"]);
        let (found, sessions) = run("damaged-test".into(), "test", "none", &["--all"]);
        assert_eq!(found, expected);
        let told = (sessions["opened"].as_u64().unwrap(), sessions["reused"].as_u64().unwrap());
        assert_eq!(told, (kinds + 1, files - kinds));
    }
}
