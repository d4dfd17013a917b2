//! What a run tells beside its report: its heart, its price.

use serde_json::Value;

use crate::support::*;

#[test]
fn a_heartbeat_tells_the_end_and_a_price_what_it_cost() {
    let dir = tempfile::tempdir().unwrap();
    let (out, beat) = (dir.path().join("out"), dir.path().join("beat.json"));
    let clips = fixtures().join("clips");
    let inputs = [clips.to_str().unwrap()];
    let more = ["--heartbeat", beat.to_str().unwrap(), "--price-per-hour", "3.6", "--json"];
    let output = framemill(&job(&inputs, out.to_str().unwrap(), &more));
    assert!(output.status.success(), "{}", errors(&output));
    let report = report(&output);
    let (cost, wall) = (report["cost"]["this_run"].as_f64().unwrap(), report["seconds"]["wall"].as_f64().unwrap());
    assert!((cost - wall / 1000.0).abs() < 1e-5, "{cost} for {wall} s");
    let samples = report["samples"].as_f64().unwrap();
    assert!((report["cost"]["per_1000_samples"].as_f64().unwrap() - cost * 1000.0 / samples).abs() < 1e-9);
    let told: Value = serde_json::from_slice(&std::fs::read(&beat).unwrap()).unwrap();
    assert_eq!((told["state"].as_str(), told["progress"]["exit_code"].as_u64()), (Some("ended"), Some(0)));

    // Neither changes a byte, so neither is part of the job.
    let output = framemill(&job(&inputs, out.to_str().unwrap(), &["--json"]));
    assert!(output.status.success(), "{}", errors(&output));
    assert!(self::report(&output)["cost"].is_null());

    let nowhere = dir.path().join("none/beat.json");
    let output = framemill(&job(&inputs, out.to_str().unwrap(), &["--heartbeat", nowhere.to_str().unwrap()]));
    assert_eq!(output.status.code(), Some(74));
    assert!(errors(&output).contains("beat.json"), "{}", errors(&output));
    let output = framemill(&job(&inputs, out.to_str().unwrap(), &["--price-per-hour", "cheap"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("--price-per-hour") || errors(&output).contains("price_per_hour"));
}

#[test]
fn a_closed_standard_error_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let photo = fixtures().join("photos/gray.jpg");
    let empty = dir.path().join("empty.jpg");
    std::fs::write(&empty, []).unwrap();
    let run = |out: &str, closed: bool| {
        let out = dir.path().join(out);
        let inputs = [photo.to_str().unwrap(), empty.to_str().unwrap()];
        let mut command = program();
        command.args(["run", "-o", out.to_str().unwrap(), "-i", inputs[0], "-i", inputs[1], "-v"]);
        let (reader, writer) = std::io::pipe().unwrap();
        let reader = (!closed).then_some(reader);
        let command = command.env("FRAMEMILL_PROGRESS", "lines").stdout(std::process::Stdio::null()).stderr(writer);
        let status = command.status().unwrap();
        drop(reader);
        (status.code(), tree(&out))
    };
    let (open, closed) = (run("open", false), run("closed", true));
    assert_eq!(closed, open);
    assert_eq!(open.0, Some(3), "the empty file is one reject too many");
}

#[test]
fn who_listens_hears_that_a_job_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (out, summary) = (at("out"), at("summary.json"));
    std::fs::write(at("job.toml"), format!("json = true\nsummary = {summary:?}\n[sample]\nevery = \"1x\"\n")).unwrap();
    let (given, job, none) = (["--json", "--summary", &summary], at("job.toml"), at("none.toml"));
    let cases: [(&[&str], &str); 4] = [
        (&[&["--every", "1x"], &given[..]].concat(), "sample.every"),
        (&[&["--tasks", "3/3"], &given[..]].concat(), "--tasks 3/3"),
        (&[&[none.as_str()], &given[..]].concat(), "none.toml"),
        (&[&job], "sample.every"),
    ];
    for (more, what) in cases {
        let _ = std::fs::remove_file(&summary);
        let output = framemill(&[&["run", "-i", "nothing", "-o", &out], more].concat());
        assert_eq!(output.status.code(), Some(2), "{what}: {}", errors(&output));
        let told: Value = serde_json::from_slice(&std::fs::read(&summary).unwrap()).unwrap();
        assert_eq!((&told["outcome"], &told["output"]), (&"usage".into(), &out.as_str().into()));
        assert!(told["message"].as_str().unwrap().contains(what), "{told}");
        assert_eq!(report(&output), told);
    }
}
