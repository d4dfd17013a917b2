//! Nothing that a file contains stops a run, and what it gives does not depend on threads.

use crate::support::*;

#[test]
fn damaged_files_give_the_same_whatever_the_threads() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let corrupt = media.join("derived/corrupt");
    let mut trees = Vec::new();
    for threads in ["1", "2", "4"] {
        let out = dir.path().join(threads);
        let output = framemill(&job(
            &[corrupt.to_str().unwrap()],
            out.to_str().unwrap(),
            &["--every", "200ms", "--threads", threads, "--json"],
        ));
        assert!(output.status.success(), "{}", errors(&output));
        let report = report(&output);
        assert_eq!(
            report["inputs"]["found"],
            report["inputs"]["done"].as_u64().unwrap() + report["inputs"]["rejected"].as_u64().unwrap()
        );
        assert!(report["frames"]["corrupt"].as_u64() > Some(0) && report["samples"].as_u64() > Some(20));
        trees.push(tree(&out));
    }
    assert_eq!(trees[0], trees[1]);
    assert_eq!(trees[0], trees[2]);
}

/// Threads look ahead of the frames that they give.
#[test]
fn damage_behind_a_part_is_none_of_its() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut clean = 0;
    for name in ["bottle-detection.bitflip60.mp4", "sample_h264.bitflip60.ts", "book.bitflip60.mkv"] {
        let file = media.join("derived/corrupt").join(name);
        let run = |what: &str, more: &[&str]| {
            let out = dir.path().join(format!("{name}-{what}"));
            let more = [more, &["--json"]].concat();
            let output = framemill(&job(&[file.to_str().unwrap()], out.to_str().unwrap(), &more));
            assert!(output.status.success(), "{}", errors(&output));
            (report(&output), out)
        };
        let (told, whole) = run("whole", &["--every", "100ms"]);
        assert_eq!(told["warnings"], 1, "{name}");
        let damaged = records(&whole).into_iter().find(|r| r["warning"].is_string()).unwrap();
        let at = damaged["time_s"].as_f64().unwrap();
        for before in [0.02, 0.15, 0.4].into_iter().filter(|before| at - before > 0.1) {
            let end = format!("{:.6}", at - before);
            let runs = ["1", "8"].map(|threads| {
                let what = format!("{end}-{threads}");
                run(&what, &["--every", "100ms", "--end", &end, "--threads", threads])
            });
            assert_eq!(tree(&runs[0].1), tree(&runs[1].1), "{name} up to {end}");
            clean += usize::from(runs[0].0["warnings"] == 0);
        }
    }
    assert!(clean > 2, "{clean}");
}

#[test]
fn every_dead_letter_has_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (bad, out) = (dir.path().join("in"), dir.path().join("out"));
    std::fs::create_dir(&bad).unwrap();
    std::fs::write(bad.join("empty.mp4"), "").unwrap();
    std::fs::write(
        bad.join("text.mp4"),
        "this is no film, but a text that is long enough to be looked at\n".repeat(50),
    )
    .unwrap();
    let list = dir.path().join("l.txt");
    std::fs::write(&list, "in/empty.mp4\nin/text.mp4\nin/gone.jpg\n").unwrap();
    let args = ["run", "-i", list.to_str().unwrap(), "-o", out.to_str().unwrap()];
    let output = framemill(&args);
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    assert_eq!(framemill(&args).status.code(), Some(3), "a re-run of a finished job returns its code again");
    let rejects = framemill(&["rejects", out.to_str().unwrap(), "--json"]);
    let kinds = report(&rejects)["kinds"].clone();
    for (kind, name) in [("empty", "empty.mp4"), ("not_media", "text.mp4"), ("missing", "gone.jpg")] {
        let message = kinds[kind][0]["message"].as_str().unwrap_or_default();
        assert!(message.contains(name), "{kind}: {kinds}");
    }
    assert!(out.join("dataset.json").exists());
}

/// A codec that crashes, one that spins, one that sleeps.
#[test]
fn a_file_that_ends_its_process_twice_is_a_dead_letter() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let input = media.join("derived");
    let without = dir.path().join("without");
    assert!(framemill(&job(&[input.to_str().unwrap()], without.to_str().unwrap(), &[])).status.success());
    for (variable, kind) in
        [("FRAMEMILL_TEST_CRASH", "crash"), ("FRAMEMILL_TEST_HANG", "stall"), ("FRAMEMILL_TEST_SLEEP", "stall")]
    {
        let out = dir.path().join(variable);
        let args = job(&[input.to_str().unwrap()], out.to_str().unwrap(), &["--stall-timeout", "1s", "--json"]);
        let output = program().args(args).env(variable, "shots_").output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        assert!(report(&output)["this_run"]["engine_restarts"].as_array().unwrap().len() >= 2);
        let rejects = report(&framemill(&["rejects", out.to_str().unwrap(), "--json"]));
        assert!(rejects["kinds"][kind][0]["uri"].as_str().unwrap().contains("shots_"), "{rejects}");
        let rest = |out: &std::path::Path| {
            records(out)
                .iter()
                .filter(|r| !r["uri"].as_str().unwrap().contains("shots_"))
                .map(|r| (r["key"].to_string(), r["sha256"].to_string()))
                .collect::<Vec<_>>()
        };
        assert_eq!(rest(&out), rest(&without), "everything else is there");
    }
}

#[test]
fn a_changed_byte_is_found() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let photos = media.join("image/coco/val2017");
    let output = framemill(&job(&[photos.to_str().unwrap()], out.to_str().unwrap(), &["--limit", "20"]));
    assert!(output.status.success(), "{}", errors(&output));
    let out = out.to_str().unwrap();
    assert!(framemill(&["verify", out]).status.success());
    let shard = std::path::Path::new(out).join("shard-000000.tar");
    let mut bytes = std::fs::read(&shard).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    let output = framemill(&["verify", out]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stdout).contains("shard-000000.tar"));
}

#[test]
fn a_dataset_without_its_description_is_not_whole() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let photos = fixtures().join("photos");
    let output =
        framemill(&job(&[photos.to_str().unwrap()], out.to_str().unwrap(), &["--metadata", "parquet,csv,sqlite"]));
    assert!(output.status.success(), "{}", errors(&output));
    let before = tree(&out);
    let command = |name: &str| framemill(&[name, out.to_str().unwrap()]);
    let told = || String::from_utf8_lossy(&command("verify").stdout).into_owned();
    assert_eq!(command("verify").status.code(), Some(0), "{}", told());
    let description = std::fs::read_to_string(out.join("dataset.json")).unwrap();
    let changed = description.replacen("\"sha256\": \"", "\"sha256\": \"0", 1);
    assert_ne!(changed, description);
    for (name, content) in [
        ("dataset.json", None),
        ("dataset.json", Some("{}")),
        ("dataset.json", Some(&*changed)),
        ("records.csv", None),
        ("records.sqlite", None),
    ] {
        match content {
            Some(text) => std::fs::write(out.join(name), text).unwrap(),
            None => std::fs::remove_file(out.join(name)).unwrap(),
        }
        assert_eq!(command("verify").status.code(), Some(74), "{name}: {content:?}");
        assert!(told().contains(name), "{}", told());
        assert!(command("finish").status.success());
        assert_eq!(command("verify").status.code(), Some(0), "{}", told());
        assert_eq!(tree(&out), before, "finish writes the same {name} again");
    }
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let out = file.join("out");
    let output = framemill(&job(&[media.join("image/coco/val2017").to_str().unwrap()], out.to_str().unwrap(), &[]));
    assert_eq!(output.status.code(), Some(74), "{}", errors(&output));
    assert!(errors(&output).contains("file"), "{}", errors(&output));
}
