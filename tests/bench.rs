//! `framemill bench` as a user meets it: equal work ranked, other work refused, reports that other programs can read.
#![cfg(feature = "ffmpeg")]

#[path = "common/python.rs"]
mod python;
#[path = "run/support.rs"]
#[allow(dead_code)]
mod support;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::*;

/// `bench run` of the small clips, so many rounds, with the report that it writes.
fn command(dir: &Path, name: &str, rounds: &str, more: &[&str]) -> (Command, PathBuf) {
    let (clips, scratch) = (fixtures().join("clips"), dir.join("scratch"));
    let report = dir.join(format!("{name}.json"));
    let mut command = program();
    command.args(["bench", "run", "-i", clips.to_str().unwrap(), "--limit", "2", "--op", "resize:w=48,h=32"]);
    command.args(["-o", scratch.to_str().unwrap(), "--quick", "--rounds", rounds]);
    command.args(["--report", report.to_str().unwrap()]).args(more);
    // A variable of the job counts once, in the benchmark; not again in its runs.
    command.env("FRAMEMILL_EVERY", "500ms").env("FRAMEMILL_DEVICE", "cpu");
    (command, report)
}

/// Names in the scratch folder.
fn left(dir: &Path) -> Vec<OsString> {
    let entries = std::fs::read_dir(dir.join("scratch"));
    entries.map_or(Vec::new(), |entries| entries.map(|entry| entry.unwrap().file_name()).collect())
}

/// `bench run` of the small clips: two configurations, so many rounds.
fn bench(dir: &Path, name: &str, rounds: &str, more: &[&str], fault: Option<&str>) -> (Output, Value) {
    let (mut command, report) = command(dir, name, rounds, more);
    command.envs(fault.map(|fault| ("FRAMEMILL_TEST_BACKEND", fault)));
    let output = command.output().unwrap();
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    let value = serde_json::from_str(&text).unwrap_or(Value::Null);
    assert_eq!(left(dir), [""; 0], "nothing stays in the scratch folder");
    (output, value)
}

fn configuration<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["configurations"].as_array().unwrap_or_else(|| panic!("{report}"));
    all.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name} is not in {report}"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn equal_work_is_measured_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let more = [
        "--devices",
        "cpu,auto",
        "--decoders",
        "software,nvdec",
        "--price",
        "cpu=0.36",
        "--page",
        page.to_str().unwrap(),
    ];
    let (output, report) = bench(dir.path(), "equal", "5", &more, None);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let (cpu, auto) = (configuration(&report, "cpu/software"), configuration(&report, "auto/software"));
    assert_eq!((&cpu["verdict"], &auto["verdict"]), (&Value::from("reference"), &Value::from("equal")));
    assert_eq!(cpu["content"], auto["content"]);
    let rate = &cpu["samples_per_second"];
    assert_eq!(rate["rounds"].as_array().unwrap().len(), 5);
    let n = |v: &Value| v.as_f64().unwrap_or_else(|| panic!("{v} is no number"));
    assert!(
        n(&rate["low"]) <= n(&rate["median"])
            && n(&rate["median"]) <= n(&rate["high"])
            && n(&rate["coverage"]) == 0.9375
    );
    // Samples over seconds, and seconds over video, are the same runs told in other words.
    assert!((n(&rate["median"]) * n(&cpu["wall"]["median"]) / n(&cpu["samples"]) - 1.0).abs() < 0.2);
    let video = n(&report["sample"]["video_seconds"]["value"]);
    assert!(
        (n(&cpu["video_hours_per_hour"]["value"]["median"]) * n(&cpu["wall"]["median"]) / video - 1.0).abs() < 1e-6
    );
    let cost = n(&cpu["cost"]["value"]["per_million_samples"]["median"]);
    assert!((cost * n(&rate["median"]) / (0.36 * 1e6 / 3600.0) - 1.0).abs() < 1e-6, "{cost}");
    assert!(auto["cost"]["value"].is_null() && auto["cost"]["why"].is_string());
    assert!(n(&cpu["cpu_seconds_per_sample"]["median"]) > 0.0 && n(&cpu["peak_memory"]) > 1e6);
    let decode = cpu["bounds"].as_array().unwrap().iter().find(|b| b["name"] == "decode").unwrap();
    assert!(n(&decode["samples_per_second"]["value"]) > 0.0, "{decode}");
    assert!(cpu["bottleneck"]["what"].is_string() && cpu["stages"].as_array().unwrap().len() == 5);
    let lanes = cpu["timeline"].as_array().unwrap();
    assert!(lanes.iter().any(|l| l["thread"] == "sink" && !l["slices"].as_array().unwrap().is_empty()));
    for name in ["cpu/nvdec", "auto/nvdec"] {
        let here = report["not_here"].as_array().unwrap().iter().find(|m| m["name"] == name);
        match here {
            Some(missing) => assert!(missing["why"].as_str().unwrap().len() > 10),
            None => assert!(configuration(&report, name)["verdict"].is_string(), "it is on this machine"),
        }
    }
    let table = text(&output);
    assert!(
        table.contains("samples/s") && table.contains("cpu/software") && table.contains("the same bytes"),
        "{table}"
    );
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("</html>") && page.matches("<svg").count() >= 6 && !page.contains("http"));

    // The same again: no verdict where nothing changed, and no other samples.
    let report_file = dir.path().join("equal.json");
    let file = report_file.to_str().unwrap();
    let output = framemill(&["bench", "compare", file, file, "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        told["changes"].as_array().unwrap().iter().all(|c| c["verdict"] == "same: the intervals overlap"),
        "{told}"
    );
    let output = framemill(&["bench", "rank", file, "--price", "equal=2"]);
    assert!(output.status.success() && text(&output).contains("2.00"), "{}", errors(&output));
    let output = framemill(&["bench", "rank", file, "--price", "another=2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("another"), "{}", errors(&output));
}

#[test]
fn a_slow_backend_is_found_and_named() {
    // Three seconds a run: far more than a busy machine makes of it.
    let dir = tempfile::tempdir().unwrap();
    let more = ["--devices", "cpu,auto", "--decoders", "software"];
    let (output, slowed) = bench(dir.path(), "slowed", "5", &more, Some("auto=slow:500"));
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let (cpu, auto) = (configuration(&slowed, "cpu/software"), configuration(&slowed, "auto/software"));
    assert_eq!(auto["verdict"], "equal", "slow is not wrong");
    assert!(auto["samples_per_second"]["high"].as_f64() < cpu["samples_per_second"]["low"].as_f64(), "{auto}");
    assert_eq!(auto["bottleneck"]["what"], "compute", "{}", auto["bottleneck"]);
    let (_, whole) = bench(dir.path(), "whole", "5", &more, None);
    assert_eq!(configuration(&whole, "auto/software")["content"], auto["content"]);
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let output = framemill(&["bench", "compare", &file("whole.json"), &file("slowed.json"), "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let change = told["changes"].as_array().unwrap().iter().find(|c| c["name"] == "auto/software").unwrap();
    assert_eq!(change["verdict"], "slower", "{told}");
}

#[test]
fn a_wrong_backend_is_named_and_never_ranked() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--devices", "cpu,auto", "--decoders", "software"];
    let (output, report) = bench(dir.path(), "wrong", "1", &more, Some("auto=wrong"));
    assert_eq!(output.status.code(), Some(70), "{}", errors(&output));
    let wrong = configuration(&report, "auto/software");
    assert_eq!((&wrong["verdict"], &wrong["ranked"]), (&Value::from("different"), &Value::from(false)));
    assert!(wrong["compared"].as_str().unwrap().contains("samples have other bytes"), "{wrong}");
    assert!(wrong["samples_per_second"].is_null(), "its speed is not even measured");
    assert_eq!(configuration(&report, "cpu/software")["ranked"], true);
    let table = text(&output);
    assert!(table.contains("not ranked: auto/software: its output is not equal"), "{table}");
}

#[test]
fn what_fell_back_or_is_not_here_is_not_ranked_as_what_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    let clips = fixtures().join("clips");
    let report = dir.path().join("r.json");
    command.args(["bench", "-i", clips.to_str().unwrap(), "--op", "resize:w=48,h=32", "--rounds", "1", "--quick"]);
    command.args(["--devices", "cpu", "--decoders", "software,test", "--report", report.to_str().unwrap()]);
    command.args(["-o", dir.path().join("scratch").to_str().unwrap()]);
    let output = command.env("FRAMEMILL_TEST_DECODER", "refuse").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    let value: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let fell = configuration(&value, "cpu/test");
    assert_eq!((&fell["verdict"], &fell["ranked"]), (&Value::from("equal"), &Value::from(false)));
    assert!(fell["fallbacks"][0].as_str().unwrap().contains("software instead of test"), "{fell}");
    assert!(text(&output).contains("it fell back"), "{}", text(&output));

    let output =
        framemill(&["bench", "-i", clips.to_str().unwrap(), "--devices", "cuda:999", "--decoders", "software"]);
    assert_eq!(output.status.code(), Some(69), "{}", errors(&output));
    // What may not run elsewhere must be there.
    let forbid = ["--devices", "cpu,cuda:999", "--decoders", "software", "--fallback", "forbid"];
    let output = framemill(&[&["bench", "-i", clips.to_str().unwrap()], &forbid[..]].concat());
    let said = errors(&output);
    assert!(output.status.code() == Some(69) && said.contains("not all") && said.contains("cuda:999"), "{said}");
    for wrong in [
        &["--devices", "tpu"][..],
        &["--synthetic", "1080p"],
        &["--price", "cpu"],
        &["--devices", "cpu", "--price", "gpu=1"],
        &["-o", "s3://bucket/scratch"],
        &["--report", dir.path().to_str().unwrap()],
        &["--time-limit", "0"],
        &["--threads", "x"],
        &["--rounds", "0"],
    ] {
        let mut args = vec!["bench", "-i", clips.to_str().unwrap()];
        args.extend(wrong);
        assert_eq!(framemill(&args).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(framemill(&["bench", "compare", "none.json", "none.json"]).status.code(), Some(2));
}

/// A benchmark measures what a run does, but what it is to leave beside its data is the benchmark's, not every run's.
#[test]
fn what_is_rejected_is_told_and_what_runs_leave_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (media, raw, summary) = (dir.path().join("media"), dir.path().join("raw"), dir.path().join("summary.json"));
    std::fs::create_dir(&media).unwrap();
    std::fs::copy(fixtures().join("photos/gray.jpg"), media.join("a.jpg")).unwrap();
    std::fs::write(media.join("b.mp4"), [0; 500]).unwrap();
    let (scratch, report) = (dir.path().join("scratch"), dir.path().join("r.json"));
    let killed = scratch.join("framemill-bench-1");
    std::fs::create_dir_all(killed.join("run-0/data")).unwrap();
    std::fs::write(killed.join("lock"), "").unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_string();
    let mut args = vec!["bench".to_string(), "-i".into(), path(&media), "-o".into(), path(&scratch)];
    args.extend([
        "--report".into(),
        path(&report),
        "--keep-raw".into(),
        path(&raw),
        "--summary".into(),
        path(&summary),
    ]);
    args.extend(["--devices", "cpu", "--decoders", "software", "--rounds", "1", "--quick"].map(String::from));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let output = framemill(&args);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let value: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!((&value["sample"]["inputs"], &value["sample"]["videos"]), (&2.into(), &0.into()));
    assert!(text(&output).contains("1 of 2 inputs were rejected"), "{}", text(&output));
    assert!(value["noise"].to_string().contains("1 of 2 inputs were rejected"), "{value}");
    assert!(!raw.exists() && !summary.exists());
    assert_eq!(left(dir.path()), [""; 0], "of a benchmark that was killed, either");
}

#[test]
fn quick_takes_a_part_of_long_media_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (clip, long) = (fixtures().join("clips/h264.mp4"), dir.path().join("long.mp4"));
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-stream_loop", "17", "-i", clip.to_str().unwrap(), "-c", "copy"]).arg(&long);
    if !command.status().is_ok_and(|status| status.success()) {
        println!("skipped: there is no program ffmpeg here to make a long film with");
        return;
    }
    let scratch = dir.path().join("scratch");
    let run = |more: &[&str]| {
        let args = ["bench", "-i", long.to_str().unwrap(), "-o", scratch.to_str().unwrap(), "--every", "2s"];
        let ways =
            ["--devices", "cpu", "--decoders", "software", "--rounds", "1", "--json", "--op", "resize:w=48,h=32"];
        let output = framemill(&[&args[..], &ways, more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let samples = |report: &Value| configuration(report, "cpu/software")["samples"].as_u64().unwrap();
    let (quick, whole) = (run(&["--quick"]), run(&[]));
    assert_eq!((samples(&quick), samples(&whole)), (30, 36));
    assert!(quick["sample"]["part"].as_str().unwrap().contains("60.0 s of each video"), "{}", quick["sample"]);
    assert_eq!((&whole["sample"]["part"], &whole["job"]["sample"]["end"]), (&Value::Null, &Value::Null));
}

#[test]
fn media_can_be_made_and_are_made_once() {
    let there = Command::new("ffmpeg").arg("-version").output();
    let dir = tempfile::tempdir().unwrap();
    let scratch = dir.path().join("scratch");
    let run = |path: Option<&str>| {
        let mut command = program();
        command.args(["bench", "--synthetic", "64x48:mpeg4:2s", "-o", scratch.to_str().unwrap(), "--rounds", "1"]);
        command.args(["--devices", "cpu", "--decoders", "software", "--quick", "--json"]);
        command.envs(path.map(|path| ("PATH", path))).output().unwrap()
    };
    let output = run(Some(dir.path().to_str().unwrap()));
    assert_eq!(output.status.code(), Some(69));
    assert!(errors(&output).contains("ffmpeg") && errors(&output).contains("--input"), "{}", errors(&output));
    if there.is_err() {
        println!("skipped: there is no program ffmpeg here to make media with");
        return;
    }
    let output = run(None);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["sample"]["synthetic"], "64x48:mpeg4:2s");
    let seconds = report["sample"]["video_seconds"]["value"].as_f64().unwrap();
    assert!((seconds - 2.0).abs() < 0.1, "{seconds}");
    let output = run(Some(dir.path().to_str().unwrap()));
    assert_eq!(output.status.code(), Some(0), "what was made is kept: {}", errors(&output));
}

/// Waits until something is there, two minutes at most.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Starts a benchmark, sends it a signal as soon as `look` finds something, and sees that nothing stays.
fn interrupted<T>(dir: &Path, mut command: Command, signal: &str, look: impl FnMut() -> Option<T>) -> T {
    let benchmark = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let found = wait_for("what the signal is to interrupt", look);
    let sent = Command::new("kill").args(["-s", signal, &benchmark.id().to_string()]).status().unwrap();
    assert!(sent.success(), "it ended before");
    let output = benchmark.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", errors(&output));
    assert!(errors(&output).contains(&format!("SIG{signal}: the benchmark stops")), "{}", errors(&output));
    assert!(output.stdout.is_empty() && left(dir).is_empty(), "{:?} stays", left(dir));
    found
}

#[test]
fn a_benchmark_that_is_interrupted_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("scratch");
    let inside = |part: &str| {
        let own = left(dir.path()).into_iter().find(|name| name.to_string_lossy().starts_with("framemill-bench-"))?;
        let names = std::fs::read_dir(folder.join(own)).ok()?.flatten().map(|entry| entry.file_name());
        names.into_iter().find(|name| name.to_string_lossy().starts_with(part))
    };

    // In the middle of a run that would take long.
    let (mut run, report) = command(dir.path(), "run", "5", &["--devices", "cpu", "--decoders", "software"]);
    run.env("FRAMEMILL_TEST_BACKEND", "cpu=slow:3000");
    interrupted(dir.path(), run, "INT", || inside("run-0"));
    assert!(!report.exists(), "half a benchmark is no report");

    // In the middle of another program, which has children of its own.
    let mark = dir.path().join("mark");
    let line = format!("other=sh -c 'sleep 600 & echo $! $$ > {}.new; mv {0}.new {0}; wait'", mark.display());
    let more = ["--devices", "cpu", "--decoders", "software", "--peer", &line];
    let (peer, report) = command(dir.path(), "peer", "5", &more);
    let pids = interrupted(dir.path(), peer, "TERM", || std::fs::read_to_string(&mark).ok());
    for pid in pids.split_whitespace() {
        // Whoever has no parent any more is somebody else's to reap: it may still be named, but does nothing.
        let gone = || std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
        wait_for("the end of what the peer began", || gone().then_some(()));
    }
    assert!(!report.exists());

    if Command::new("ffmpeg").arg("-version").output().is_err() {
        println!("skipped: there is no program ffmpeg here to make media with");
        return;
    }
    let mut making = program();
    making.args(["bench", "--synthetic", "2160p:h264:600s", "-o", folder.to_str().unwrap(), "--quick"]);
    interrupted(dir.path(), making, "TERM", || left(dir.path()).pop());
}

const VALIDATE: &str = r#"
import json, sys
import jsonschema
schema, report = (json.load(open(name)) for name in sys.argv[1:])
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
errors = list(validator.iter_errors(report))
assert not errors, [f"{list(e.path)}: {e.message}"[:200] for e in errors[:5]]
report["configurations"][0]["samples_per_second"]["median"] = "fast"
assert not validator.is_valid(report), "a wrong report passes"
"#;

#[test]
fn reports_are_what_the_schema_says() {
    let Some(python) = python::python() else { return };
    let there = Command::new(&python).args(["-c", "import jsonschema"]).output().unwrap();
    if !there.status.success() {
        println!("skipped: {} has no jsonschema: {}", python.display(), errors(&there).trim());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let schema = dir.path().join("schema.json");
    std::fs::write(&schema, framemill(&["bench", "schema"]).stdout).unwrap();
    let (output, _) = bench(dir.path(), "report", "1", &["--devices", "cpu,auto", "--decoders", "software"], None);
    assert!(output.status.success(), "{}", errors(&output));
    let report = dir.path().join("report.json");
    let checked = Command::new(&python).args(["-c", VALIDATE]).args([&schema, &report]).output().unwrap();
    assert!(checked.status.success(), "{}", errors(&checked));
    // What the project publishes is checked as well.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|n| n.to_string_lossy().ends_with("-bench.json")) {
            let checked = Command::new(&python).args(["-c", VALIDATE]).args([&schema, &path]).output().unwrap();
            assert!(checked.status.success(), "{}: {}", path.display(), errors(&checked));
        }
    }
}

/// The page in a browser: everything that is drawn lies inside its picture, in light and dark.
#[test]
fn a_browser_shows_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let browser = ["chromium", "google-chrome", "chromium-browser"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success()));
    let Some(browser) = browser else {
        println!("skipped: there is no chromium or google-chrome here to open the page with");
        return;
    };
    let page = dir.path().join("page.html");
    let more =
        ["--devices", "cpu,auto", "--decoders", "software", "--price", "cpu=1", "--page", page.to_str().unwrap()];
    let (output, _) = bench(dir.path(), "page", "1", &more, None);
    assert!(output.status.success(), "{}", errors(&output));
    // The page itself holds no script; this copy measures what the browser made of it.
    let check = r#"<script>
        const bad = [];
        for (const svg of document.querySelectorAll("svg")) {
            const view = svg.viewBox.baseVal;
            if (svg.getBoundingClientRect().width < 300) bad.push("a chart has no width");
            for (const part of svg.querySelectorAll("rect, path, line, circle, text")) {
                const box = part.getBBox();
                if (part.closest("text[transform]")) continue;
                if (box.x < -1 || box.y < -1 || box.x + box.width > view.width + 1 || box.y + box.height > view.height + 1)
                    bad.push(`${part.tagName} ${part.textContent.slice(0, 30)} lies outside: ${[box.x, box.y, box.width, box.height].map(Math.round)}`);
            }
        }
        const bars = document.querySelectorAll("rect.bar").length, lanes = document.querySelectorAll("rect.lane").length;
        document.title = JSON.stringify({ bad, bars, lanes, wide: document.documentElement.scrollWidth > innerWidth });
        </script>"#;
    let text = std::fs::read_to_string(&page).unwrap();
    let probe = dir.path().join("probe.html");
    std::fs::write(&probe, text.replace("</body>", &format!("{check}</body>"))).unwrap();
    let profile = format!("--user-data-dir={}", dir.path().join("profile").display());
    let open = |more: &[&str], file: &Path| {
        let mut command = Command::new(browser);
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,2400", &profile]).args(more);
        command.arg(format!("file://{}", file.display())).output().unwrap()
    };
    let dump = String::from_utf8_lossy(&open(&["--dump-dom"], &probe).stdout).into_owned();
    let title = dump.split("<title>").nth(1).and_then(|t| t.split("</title>").next()).unwrap_or_default();
    let seen: Value = serde_json::from_str(&title.replace("&amp;", "&").replace("&quot;", "\""))
        .unwrap_or_else(|e| panic!("{e}: {title}"));
    assert_eq!(seen["bad"], serde_json::json!([]));
    assert_eq!((&seen["bars"], &seen["wide"]), (&Value::from(2), &Value::from(false)), "{seen}");
    assert!(seen["lanes"].as_u64() > Some(6), "{seen}");
    let shot = |name: &str, more: &[&str]| {
        let file = dir.path().join(name);
        let to = format!("--screenshot={}", file.display());
        let args: Vec<&str> = [&[&*to], more].concat();
        let output = open(&args, &page);
        std::fs::read(&file).unwrap_or_else(|e| panic!("{e}: {}", errors(&output)))
    };
    let light = shot("light.png", &[]);
    let dark = shot("dark.png", &["--blink-settings=preferredColorScheme=0"]);
    assert!(light.len() > 10_000 && dark.len() > 10_000 && light != dark, "dark is another picture");
}

#[test]
fn other_programs_are_timed_beside_where_they_do_the_same_work() {
    let dir = tempfile::tempdir().unwrap();
    let clips = fixtures().join("clips");
    // A peer that is framemill itself, with `OPS` before what the job does; its pictures are numbered in their order.
    let script = dir.path().join("peer.sh");
    let body = format!(
        "set -e\ntest -s \"$2\"\n\
         '{}' run -i '{}' --limit 2 $1 --op resize:w=48,h=32 -o \"$3/made\" --progress none >/dev/null\n\
         mkdir \"$3/all\" && tar -xf \"$3/made/shard-000000.tar\" -C \"$3/all\"\ni=1000\n\
         for f in $(tar -tf \"$3/made/shard-000000.tar\" | grep jpg); do i=$((i + 1)); mv \"$3/all/$f\" \"$3/$i.jpg\"; done\n\
         echo noise; echo 'itself 1.0'\n",
        env!("CARGO_BIN_EXE_framemill"),
        clips.display()
    );
    std::fs::write(&script, body).unwrap();
    let peer = |name: &str, ops: &str| format!("{name}=sh {} '{ops}'", script.display());
    let page = dir.path().join("page.html");
    let (same, turned) = (peer("same", ""), peer("turned", "--op rotate90:k=2"));
    let (fewer, smaller) = (peer("fewer", "--every 1s"), peer("smaller", "--op resize:w=8,h=8"));
    let more = ["--devices", "cpu", "--decoders", "software", "--page", page.to_str().unwrap()];
    let mut more = more.to_vec();
    let refuses = "refuses=sh -c 'echo no filter of that name >&2; exit 69'";
    for peer in [&same, &turned, &fewer, &smaller, refuses] {
        more.extend(["--peer", peer]);
    }
    let (output, report) = bench(dir.path(), "peers", "2", &more, None);
    assert_eq!(output.status.code(), Some(0), "what peers do is no fault of the job: {}", errors(&output));
    let all = report["peers"].as_array().unwrap();
    let verdict = |name: &str| {
        let peer = all.iter().find(|p| p["name"] == name).unwrap_or_else(|| panic!("{report}"));
        (peer["verdict"].as_str().unwrap(), peer["compared"].as_str().unwrap(), peer)
    };
    let (word, found, same) = verdict("same");
    assert!(word == "tolerated" && found.contains("differ by 0.00 of 255"), "{same}");
    assert_eq!((&same["says"], &same["of"]), (&"itself 1.0".into(), &"cpu/software".into()));
    assert_eq!(same["samples"], configuration(&report, "cpu/software")["samples"]);
    assert_eq!(same["ratio"]["rounds"].as_array().unwrap().len(), 2);
    assert!(same["samples_per_second"]["median"].as_f64() > Some(0.0), "{same}");
    let (word, found, turned) = verdict("turned");
    assert!(word == "different" && found.contains("of 255") && turned["ratio"].is_null(), "{turned}");
    let (word, found, _) = verdict("fewer");
    assert!(word == "different" && found.contains("framemill has more"), "{found}");
    // It enlarges what it made too small: pictures of the right size, and other ones.
    assert_eq!(verdict("smaller").0, "different", "{report}");
    let (word, found, _) = verdict("refuses");
    assert!(word == "failed" && found.contains("no filter of that name"), "{found}");
    let told = text(&output);
    assert!(told.contains("of cpu/software") && told.contains("turned: not measured"), "{told}");
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("Beside other programs") && html.contains("other work"), "the page shows them");
}
