//! `run --trace`: a timeline of every thread, of all engine processes, that changes no byte.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::*;

fn read(file: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// Names of threads by process, and all whole slices.
fn parts(trace: &Value) -> (BTreeMap<u64, BTreeSet<String>>, Vec<&Value>) {
    let events = trace["traceEvents"].as_array().unwrap();
    let mut threads: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for e in events.iter().filter(|e| e["name"] == "thread_name") {
        let name = e["args"]["name"].as_str().unwrap().to_string();
        threads.entry(e["pid"].as_u64().unwrap()).or_default().insert(name);
    }
    (threads, events.iter().filter(|e| e["ph"] == "X").collect())
}

#[test]
fn a_timeline_shows_every_stage_and_changes_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let clips = fixtures().join("clips");
    let inputs = [clips.to_str().unwrap()];
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (plain, traced, file) = (at("plain"), at("traced"), at("trace.json"));
    assert!(framemill(&job(&inputs, &plain, &["--threads", "2"])).status.success());
    let output = framemill(&job(&inputs, &traced, &["--threads", "2", "--trace", &file]));
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(tree(plain.as_ref()), tree(traced.as_ref()), "it is no part of the job");
    let trace = read(file.as_ref());
    let (threads, slices) = parts(&trace);
    assert!(threads[&0].contains("supervisor"));
    for name in ["decode-0", "decode-1", "compute-0", "encode-0", "encode-1", "sink", "commit"] {
        assert!(threads[&1].contains(name), "{name} is not in {threads:?}");
    }
    let named = |part: &str| slices.iter().filter(|s| s["name"].as_str().unwrap().contains(part)).count();
    let samples = records(traced.as_ref()).len();
    assert_eq!(named("encode "), samples);
    assert_eq!(
        (named("decode "), named("commit task")),
        (5, tree(traced.as_ref()).keys().filter(|n| n.ends_with(".tar")).count())
    );
    assert!(named("plan") == 1 && named("finish a batch") > 0 && named("sample of unit") == samples);
    let kinds: BTreeSet<&str> = slices.iter().map(|s| s["cat"].as_str().unwrap()).collect();
    assert!(kinds.contains("busy") && kinds.contains("starved"), "{kinds:?}");
    assert_eq!(trace["otherData"]["left_out"], 0);
    // Work of one thread may lie inside other work, but never beside it.
    for thread in 1..=threads.values().map(BTreeSet::len).sum::<usize>() as u64 {
        let mut own: Vec<(f64, f64)> = slices
            .iter()
            .filter(|s| s["tid"] == thread && s["cat"] == "busy")
            .map(|s| (s["ts"].as_f64().unwrap(), s["ts"].as_f64().unwrap() + s["dur"].as_f64().unwrap()))
            .collect();
        own.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        for pair in own.windows(2) {
            let [(_, end), (start, other)] = [pair[0], pair[1]];
            assert!(start >= end - 0.002 || other <= end + 0.002, "{pair:?} of thread {thread} overlap");
        }
    }
}

#[test]
fn engines_that_die_are_in_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let clips = fixtures().join("clips");
    let (out, file) = (dir.path().join("out"), dir.path().join("trace.json"));
    let inputs = [clips.to_str().unwrap()];
    let args = job(&inputs, out.to_str().unwrap(), &["--trace", file.to_str().unwrap()]);
    let names: Vec<String> =
        std::fs::read_dir(&clips).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    let victim = names.iter().min().unwrap();
    let output = program().args(args).env("FRAMEMILL_TEST_CRASH", victim).output().unwrap();
    assert!(errors(&output).contains("another takes over"), "{}", errors(&output));
    let trace = read(&file);
    let (threads, _) = parts(&trace);
    let engines = threads.keys().filter(|pid| **pid > 0).count();
    let deaths: Vec<&Value> = trace["traceEvents"].as_array().unwrap().iter().filter(|e| e["ph"] == "i").collect();
    assert!(!deaths.is_empty() && deaths.iter().all(|d| d["name"].as_str().unwrap().contains("signal")), "{deaths:?}");
    assert!(threads.keys().max() > Some(&1), "{engines} engines are shown");
}

#[test]
fn a_stream_has_a_timeline_too_and_a_bad_place_is_found_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let clips = fixtures().join("clips");
    let inputs = [clips.to_str().unwrap()];
    let file = dir.path().join("trace.json");
    let args = ["run", "-i", inputs[0], "-o", "-", "--op", "resize:w=48,h=32", "--trace", file.to_str().unwrap()];
    let output = framemill(&args);
    assert!(output.status.success(), "{}", errors(&output));
    let trace = read(&file);
    assert!(parts(&trace).0[&1].contains("sink"));

    std::fs::write(dir.path().join("a file"), "x").unwrap();
    let (out, nowhere) = (dir.path().join("out"), dir.path().join("a file/trace.json"));
    let output = framemill(&job(&inputs, out.to_str().unwrap(), &["--trace", nowhere.to_str().unwrap()]));
    assert_eq!(output.status.code(), Some(74), "{}", errors(&output));
    assert!(!out.exists(), "nothing was started");
}
