//! Devices as a user meets them: the same dataset on every one, and plain words where one is missing.
#![cfg(all(feature = "ffmpeg", feature = "wgpu"))]

#[path = "common/adapter.rs"]
mod adapter;
#[path = "run/support.rs"]
#[allow(dead_code)]
mod support;

use std::path::Path;
use std::process::Output;

use adapter::adapter;
use serde_json::Value;
use support::*;

/// `run` of the fixtures into `out`, with an order of operations that meets most kernels.
fn run(out: &Path, device: &str, more: &[&str], variable: Option<&str>) -> Output {
    let fixtures = fixtures();
    let (clips, photos) = (fixtures.join("clips"), fixtures.join("photos"));
    let mut command = program();
    command.args(["run", "--json", "-i", clips.to_str().unwrap(), "-i", photos.to_str().unwrap()]);
    command.args(["-o", out.to_str().unwrap(), "--device", device, "--max-rejects", "100%"]);
    command.args([
        "--every",
        "400ms",
        "--shard-samples",
        "9",
        "--variants",
        "2",
        "--op",
        "resize:short=60,filter=bicubic",
    ]);
    command.args(["--op", "center_crop:w=50,h=40", "--op", "random_flip:h"]).args(more);
    command.envs(variable.map(|value| ("FRAMEMILL_TEST_DEVICE_LOST", value)));
    command.output().unwrap()
}

#[test]
fn the_dataset_is_the_cpus_byte_for_byte() {
    if !adapter() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cpu = dir.path().join("cpu");
    let output = run(&cpu, "cpu", &[], None);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(report(&output)["device"], "cpu");
    let expected = tree(&cpu);
    assert!(expected.len() > 12, "{} files", expected.len());
    for (name, more, variable) in [
        ("plain", &["--fallback", "forbid"][..], None),
        ("one by one", &["--fallback", "forbid", "--batch", "1"], None),
        ("tight", &["--fallback", "forbid", "--memory", "4MB", "--threads", "1"], None),
        ("lost once", &["--fallback", "forbid"], Some("2")),
        ("lost for good", &["--fallback", "allow"], Some("2+")),
    ] {
        let out = dir.path().join(name);
        let output = run(&out, "wgpu", more, variable);
        assert!(output.status.success(), "{name}: {}", errors(&output));
        let report = report(&output);
        assert!(report["device"].as_str().unwrap().starts_with("wgpu: "), "{name}: {}", report["device"]);
        let fallbacks = report["fallbacks"].as_array().unwrap();
        if name == "one by one" {
            // Both variants of a picture go together.
            let least = report["samples"].as_u64().unwrap() / 2;
            assert!(report["device_work"]["batches"].as_u64().unwrap() >= least, "{}", report["device_work"]);
        }
        if variable == Some("2+") {
            assert!(
                fallbacks.iter().any(|f| f["what"] == "program" && f["frames"].as_u64() > Some(0)),
                "{fallbacks:?}"
            );
            assert!(fallbacks.iter().all(|f| f["to"] == "cpu" && f["uri"].is_string()), "{fallbacks:?}");
        } else {
            assert!(fallbacks.is_empty(), "{name}: {fallbacks:?}");
        }
        assert_eq!(tree(&out), expected, "{name}");
    }
}

#[test]
fn a_run_whose_device_is_gone_is_finished_on_another() {
    if !adapter() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (whole, out) = (dir.path().join("whole"), dir.path().join("out"));
    assert!(run(&whole, "cpu", &[], None).status.success());
    let output = run(&out, "wgpu", &["--fallback", "forbid"], Some("3+"));
    assert_eq!(output.status.code(), Some(69), "{}", errors(&output));
    assert!(!out.join("dataset.json").exists());
    let output = run(&out, "cpu", &[], None);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(tree(&out), tree(&whole), "begun on a device, finished on the CPU");
}

#[test]
fn tensors_are_the_cpus_too() {
    if !adapter() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let more = ["--format", "tensors", "--op", "normalize:imagenet", "--op", "to:f16", "--quality", "fast"];
    let trees = ["cpu", "wgpu"].map(|device| {
        let out = dir.path().join(device);
        let output = run(&out, device, &more, None);
        assert!(output.status.success(), "{}", errors(&output));
        tree(&out)
    });
    assert_eq!(trees[0], trees[1]);
}

#[test]
fn what_is_missing_is_69_or_named() {
    let dir = tempfile::tempdir().unwrap();
    for device in ["cuda", "wgpu:99"] {
        let out = dir.path().join(device);
        let output = run(&out, device, &["--fallback", "forbid"], None);
        assert_eq!(output.status.code(), Some(69), "{}", errors(&output));
        assert!(!out.exists(), "nothing was started");
    }
    let out = dir.path().join("allowed");
    let output = run(&out, "cuda", &["--fallback", "warn", "--limit", "2"], None);
    assert!(output.status.success() && errors(&output).contains("CUDA"), "{}", errors(&output));
    let report = report(&output);
    assert_eq!((&report["device"], &report["fallbacks"][0]["what"]), (&Value::from("cpu"), &Value::from("device")));
    assert_eq!(report["fallbacks"][0]["from"], "cuda");
    let output = framemill(&["selftest", "--device", "cuda"]);
    assert_eq!(output.status.code(), Some(69), "{}", errors(&output));
    assert_eq!(framemill(&["selftest", "--device", "tpu"]).status.code(), Some(2));
}

#[test]
fn devices_and_selftest_tell() {
    let output = framemill(&["devices", "--json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(found["cpu"]["threads"].as_u64() > Some(0));
    let adapters = found["wgpu"].as_array().unwrap();
    assert!(found["missing"].as_array().unwrap().iter().any(|m| m["what"] == "cuda" && m["why"].is_string()));
    if adapters.iter().all(|a| a["software"] == true) {
        assert!(found["auto"].as_str().unwrap().starts_with("cpu"), "auto never takes software: {}", found["auto"]);
    }
    assert!(framemill(&["devices"]).status.success());
    assert!(framemill(&["selftest", "--device", "cpu"]).status.success());
    if !adapter() {
        return;
    }
    assert!(adapters.iter().all(|a| a["max_binding"].as_u64() > Some(0)), "{adapters:?}");
    let output = framemill(&["selftest", "--device", "wgpu", "--json"]);
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", errors(&output)));
    assert_eq!((output.status.code(), &verdict["sound"]), (Some(0), &Value::from(true)), "{verdict}");
    assert!(verdict["device"].as_str().unwrap().starts_with("wgpu: ") && verdict["pictures"].as_u64() > Some(50));
}
