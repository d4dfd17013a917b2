//! Exactly once: whatever ends a run, running it again gives the tree of an undisturbed one.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::support::*;

fn start(args: &[&str]) -> Child {
    program().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    // The process may have ended by itself.
    let _ = status.success();
}

/// Process ids of the children of `pid`.
fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

fn arguments<'a>(inputs: &[&'a str], out: &'a str) -> Vec<&'a str> {
    job(
        inputs,
        out,
        &[
            "--every",
            "300ms",
            "--variants",
            "2",
            "--op",
            "random_flip:h",
            "--grace",
            "100ms",
            "--metadata",
            "parquet,csv",
        ],
    )
}

#[test]
fn killed_runs_end_as_undisturbed_ones() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (photos, films) = (media.join("image/coco/val2017"), media.join("derived"));
    let inputs = [photos.to_str().unwrap(), films.to_str().unwrap()];
    let whole = dir.path().join("whole");
    let begun = std::time::Instant::now();
    let output = framemill(&arguments(&inputs, whole.to_str().unwrap()));
    let length = begun.elapsed().as_millis() as u64;
    assert!(output.status.success(), "{}", errors(&output));
    let expected = tree(&whole);
    assert!(expected.len() > 60, "{} files", expected.len());
    let (mut random, mut hit, mut resumed) = (Random(1), 0, 0);
    let rounds = if full() { 100 } else { 6 };
    for round in 0..4 * rounds {
        // How many hit depends on how busy the machine was when the length was taken.
        if round >= rounds && hit > 3 && resumed > 1 {
            break;
        }
        let out = dir.path().join(format!("{round}"));
        let args = arguments(&inputs, out.to_str().unwrap());
        for _ in 0..3 {
            let mut child = start(&args);
            std::thread::sleep(Duration::from_millis(random.below(length / 2)));
            let engine = children(child.id());
            match (random.below(4), engine.first()) {
                (0, Some(engine)) => signal(*engine, "KILL"),
                (1, _) => signal(child.id(), "TERM"),
                _ => signal(child.id(), "KILL"),
            }
            let status = child.wait().unwrap();
            hit += usize::from(!status.success());
            resumed += usize::from(out.join("_framemill/receipts").exists() && !out.join("dataset.json").exists());
            assert!(matches!(status.code(), None | Some(0 | 75)), "{status}");
            no_torn_file(&out);
        }
        let output = framemill(&args);
        assert!(output.status.success(), "{}", errors(&output));
        assert_eq!(tree(&out), expected);
        std::fs::remove_dir_all(&out).unwrap();
    }
    println!("{hit} runs were ended early, {resumed} of them in the middle");
    assert!(hit > 3 && resumed > 1, "{hit} hit, {resumed} resumed");
}

/// Who kills from outside may kill often before that counts against the input that was being decoded.
#[test]
fn only_the_fifth_kill_condemns_an_input() {
    let dir = tempfile::tempdir().unwrap();
    let (photos, out) = (fixtures().join("photos"), dir.path().join("out"));
    let args = job(&[photos.to_str().unwrap()], out.to_str().unwrap(), &["--threads", "1"]);
    let mut command = program();
    command.args(&args).env("FRAMEMILL_TEST_SLEEP", "gray.jpg").stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let (mut killed, begun) = (Vec::new(), std::time::Instant::now());
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} engines were killed", killed.len());
        // Long enough for an engine to get to the photo that keeps it.
        std::thread::sleep(Duration::from_millis(800));
        if let Some(engine) = children(child.id()).first().filter(|engine| !killed.contains(*engine)) {
            signal(*engine, "KILL");
            killed.push(*engine);
        }
    }
    assert!(child.wait().unwrap().success());
    assert!(killed.len() >= 5, "{} kills condemned", killed.len());
    let rejects = report(&framemill(&["rejects", out.to_str().unwrap(), "--json"]));
    let crashed = rejects["kinds"]["crash"].as_array().unwrap();
    assert!(crashed.len() == 1 && crashed[0]["uri"].as_str().unwrap().contains("gray.jpg"), "{rejects}");
}

/// Every shard that can be seen ends as a tar ends.
fn no_torn_file(out: &Path) {
    for entry in std::fs::read_dir(out).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|e| e == "tar") {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(bytes.len() > 1024 && bytes[bytes.len() - 1024..].iter().all(|b| *b == 0));
        }
    }
}

#[test]
fn a_machine_that_vanishes_between_publishing_and_receipt() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let photos = media.join("image/coco/val2017");
    let inputs = [photos.to_str().unwrap()];
    let whole = dir.path().join("whole");
    assert!(framemill(&job(&inputs, whole.to_str().unwrap(), &["--limit", "30"])).status.success());
    for place in ["FRAMEMILL_TEST_STOP_BEFORE_PUBLISH", "FRAMEMILL_TEST_STOP_BEFORE_RECEIPT"] {
        let out = dir.path().join(place);
        let args = job(&inputs, out.to_str().unwrap(), &["--limit", "30"]);
        let output = program().args(&args).env(place, "1").output().unwrap();
        assert_eq!(output.status.code(), Some(70), "engines that die for no input's sake: {}", errors(&output));
        assert!(!out.join("_framemill/receipts/000000.json").exists());
        // An orphan of other bytes is replaced, since no receipt names it.
        let orphan = out.join("shard-000000.tar");
        std::fs::write(&orphan, "orphan").unwrap();
        let output = framemill(&args);
        assert!(output.status.success(), "{}", errors(&output));
        assert_eq!(tree(&out), tree(&whole));
    }
}

#[test]
fn an_interrupt_leaves_a_resumable_state() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (photos, out) = (media.join("image"), dir.path().join("out"));
    let args = job(&[photos.to_str().unwrap()], out.to_str().unwrap(), &["--shard-samples=5"]);
    let args: Vec<&str> = args.into_iter().filter(|a| *a != "--shard-samples" && *a != "12").collect();
    let mut child = start(&args);
    // Any task's: the first one may be the last that is done.
    while !std::fs::read_dir(out.join("_framemill/receipts")).is_ok_and(|mut receipts| receipts.next().is_some()) {
        assert!(child.try_wait().unwrap().is_none(), "ended before it was interrupted");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(child.id(), "INT");
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert_eq!(framemill(&["finish", out.to_str().unwrap()]).status.code(), Some(75));
    let status = report(&framemill(&["status", out.to_str().unwrap(), "--json"]));
    assert!(status["tasks"]["left"].as_u64() > Some(0) && status["tasks"]["done"].as_u64() > Some(0), "{status}");
    let output = framemill(&args);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(framemill(&["verify", out.to_str().unwrap()]).status.success());
}

#[test]
fn workers_share_a_job() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let photos = media.join("image/coco/val2017");
    let inputs = [photos.to_str().unwrap()];
    let (alone, shared) = (dir.path().join("alone"), dir.path().join("shared"));
    let more = ["--limit", "60"];
    assert!(framemill(&job(&inputs, alone.to_str().unwrap(), &more)).status.success());
    let workers: Vec<Child> = ["0/3", "1/3", "2/3", "0/3"]
        .iter()
        .map(|part| start(&job(&inputs, shared.to_str().unwrap(), &[&more[..], &["--tasks", part]].concat())))
        .collect();
    for mut worker in workers {
        assert_eq!(worker.wait().unwrap().code(), Some(0));
    }
    assert!(framemill(&["finish", shared.to_str().unwrap()]).status.success());
    assert_eq!(tree(&alone), tree(&shared));
}

#[test]
fn another_job_is_refused_and_the_difference_named() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (photos, out) = (media.join("image/coco/val2017"), dir.path().join("out"));
    let inputs = [photos.to_str().unwrap()];
    let out = out.to_str().unwrap();
    assert!(framemill(&job(&inputs, out, &["--limit", "5"])).status.success());
    let output = framemill(&job(&inputs, out, &["--limit", "5", "--seed", "9"]));
    assert_eq!(output.status.code(), Some(78));
    assert!(errors(&output).contains("seed: 0, here 9"), "{}", errors(&output));
    let output = framemill(&job(&inputs, out, &["--limit", "5", "--threads", "1", "--memory", "200MB"]));
    assert!(output.status.success() && errors(&output).contains("done before"), "{}", errors(&output));
}

#[test]
fn appending_and_retrying_never_touch_what_is_committed() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (folder, out) = (dir.path().join("in"), dir.path().join("out"));
    std::fs::create_dir(&folder).unwrap();
    let mut photos: Vec<_> =
        std::fs::read_dir(media.join("image/coco/val2017")).unwrap().map(|e| e.unwrap().path()).collect();
    photos.retain(|p| p.extension().is_some_and(|e| e == "jpg"));
    photos.sort();
    std::fs::copy(&photos[0], folder.join("a.jpg")).unwrap();
    std::fs::write(folder.join("b.jpg"), "").unwrap();
    let (input, output) = (folder.to_str().unwrap(), out.to_str().unwrap());
    assert!(framemill(&job(&[input], output, &[])).status.success());
    let first = tree(&out);
    std::fs::copy(&photos[1], folder.join("c.jpg")).unwrap();
    let appended = framemill(&job(&[input], output, &["--append", "--json"]));
    assert!(appended.status.success(), "{}", errors(&appended));
    assert_eq!(report(&appended)["inputs"]["found"], 3);
    std::fs::copy(&photos[2], folder.join("b.jpg")).unwrap();
    let retried = framemill(&["retry", output, "--json"]);
    assert!(retried.status.success(), "{}", errors(&retried));
    let report = report(&retried);
    assert_eq!((&report["inputs"]["found"], &report["inputs"]["rejected"]), (&3.into(), &0.into()), "{report}");
    assert_eq!(report["samples"], 3);
    let now = tree(&out);
    for (name, digest) in first {
        if !["dataset.json", "README.md"].contains(&name.as_str()) {
            assert_eq!(now.get(&name), Some(&digest), "{name}");
        }
    }
    assert!(framemill(&["verify", output]).status.success());
    let names: Vec<String> =
        records(&out).iter().map(|r| r["uri"].as_str().unwrap().rsplit('/').next().unwrap().into()).collect();
    assert_eq!(names, ["a.jpg", "c.jpg", "b.jpg"]);
}
