//! What an orchestrator may rely on: one line of JSON at the end, a small summary, the same words in both.

use serde_json::{Value, json};

use crate::support::*;

#[test]
fn the_last_line_and_the_summary_tell_how_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let (out, summary) = (dir.path().join("out"), dir.path().join("summary.json"));
    let (clips, broken) = (fixtures().join("clips"), fixtures().join("broken"));
    let (clips, out) = (clips.to_str().unwrap(), out.to_str().unwrap());
    let small = || -> Value {
        let text = std::fs::read_to_string(&summary).unwrap();
        assert!(text.len() <= 4096 && text.ends_with('\n') && text.lines().count() == 1);
        serde_json::from_str(&text).unwrap()
    };
    let more = ["--json", "--summary", summary.to_str().unwrap()];
    let output = framemill(&job(&[clips], out, &more));
    assert!(output.status.success(), "{}", errors(&output));
    let told = report(&output);
    assert_eq!((&told["exit_code"], &small()["outcome"]), (&json!(0), &json!("done")));
    for key in ["samples", "fingerprint", "bytes"] {
        assert_eq!(small()[key], told[key], "{key}");
    }
    assert_eq!(small()["tasks"]["left"], 0);
    // Progress is lines of JSON, also of a short run.
    let other = dir.path().join("other");
    let args = job(&[clips], other.to_str().unwrap(), &["--progress", "json"]);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_framemill")).args(args).output().unwrap();
    let said = errors(&output);
    let line: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(line["progress"]["samples"], told["samples"], "{said}");
    assert!(line["progress"]["stages"].as_array().is_some_and(|s| s.iter().any(|s| s["stage"] == "encode")), "{line}");
    // Again, when all is done: the same, as it says so.
    let output = framemill(&job(&[clips], out, &more));
    assert_eq!((output.status.code(), &small()["samples"]), (Some(0), &told["samples"]));

    // Too many rejects, another job, and what cannot even begin.
    let rejecting = dir.path().join("rejecting");
    let (broken, rejecting) = (broken.to_str().unwrap(), rejecting.to_str().unwrap());
    let output = framemill(&[&["run", "-i", clips, "-i", broken, "-o", rejecting], &more[..]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    assert_eq!((&report(&output)["exit_code"], &small()["outcome"]), (&json!(3), &json!("rejects")));
    assert!(small()["inputs"]["rejected"].as_u64() > Some(0));
    let output = framemill(&job(&[clips], out, &[&more[..], &["--seed", "9"]].concat()));
    let (last, kept) = (report(&output), small());
    assert_eq!((output.status.code(), &last["outcome"], &kept), (Some(78), &json!("other_job"), &last));
    assert!(last["message"].as_str().unwrap().contains("seed: 0, here 9"), "{last}");
    let fresh = dir.path().join("fresh");
    let output = framemill(&job(&["/nowhere"], fresh.to_str().unwrap(), &more));
    assert_eq!((output.status.code(), &small()["exit_code"]), (Some(2), &json!(2)));
    assert!(small()["message"].as_str().unwrap().contains("/nowhere"));
    let output =
        framemill(&job(&[clips], out, &[&more[..], &["--device", "cuda:77", "--fallback", "forbid"]].concat()));
    assert_eq!((output.status.code(), &small()["outcome"]), (Some(69), &json!("unavailable")), "{}", errors(&output));
}

#[test]
fn variables_of_dagster_that_cannot_be_read_stop_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (clips, out) = (fixtures().join("clips"), dir.path().join("out"));
    let args = job(&[clips.to_str().unwrap()], out.to_str().unwrap(), &[]);
    let output = program().args(&args).env("DAGSTER_PIPES_CONTEXT", "torn").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("DAGSTER_PIPES_CONTEXT") && !out.exists(), "{}", errors(&output));
}

#[test]
fn a_retry_tells_as_a_run_does() {
    let dir = tempfile::tempdir().unwrap();
    let broken = fixtures().join("broken");
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (out, heart, trace, summary) = (at("out"), at("heart"), at("trace.json"), at("summary.json"));
    let clips = fixtures().join("clips");
    let inputs = [clips.to_str().unwrap(), broken.to_str().unwrap()];
    let output = framemill(&job(&inputs, &out, &[]));
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let telling = ["--heartbeat", &heart, "--trace", &trace, "--metrics", "127.0.0.1:0", "--price-per-hour", "2"];
    let output = program()
        .args(["retry", &out, "--max-rejects", "100%", "--json"])
        .args(telling)
        .env("FRAMEMILL_SUMMARY", &summary)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(errors(&output).contains("metrics at http://127.0.0.1:"), "{}", errors(&output));
    assert_eq!(report(&output)["cost"]["price_per_hour"], 2.0);
    for file in [heart, trace, summary] {
        let text = std::fs::read(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok_and(|v| v.is_object()), "{file}");
    }
}
