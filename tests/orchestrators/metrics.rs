//! `--metrics`: scraped while a run lives, and read by Prometheus's own code.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;

use crate::python::python;
use crate::support::*;

/// A run of many samples, and the address where it serves its metrics.
fn start(out: &str, more: &[&str]) -> (Child, BufReader<ChildStderr>, String) {
    let (clips, broken) = (fixtures().join("clips"), fixtures().join("broken"));
    let inputs = [clips.to_str().unwrap(), broken.to_str().unwrap()];
    let work = ["--op", "random_flip:h", "--metrics", "127.0.0.1:0", "--price-per-hour", "3600"];
    let args = job(&inputs, out, &[&work[..], more].concat());
    let mut child = program().args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("framemill: metrics at http://").unwrap_or_else(|| panic!("{line}"));
    (child, said, address.trim_end_matches("/metrics").to_string())
}

/// Status line, headers and body; `None` where nobody listens any more.
fn get(address: &str, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.to_string(), body.to_string()))
}

/// The numbers by name and labels.
fn numbers(body: &str) -> BTreeMap<String, f64> {
    let lines = body.lines().filter(|l| !l.starts_with('#'));
    lines.map(|l| l.rsplit_once(' ').map(|(name, n)| (name.to_string(), n.parse().unwrap())).unwrap()).collect()
}

#[test]
fn a_run_is_scraped_while_it_lives() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (mut child, _said, address) = start(out.to_str().unwrap(), &["--variants", "3000"]);
    assert!(get(&address, "/").unwrap().0.starts_with("HTTP/1.1 404"));
    let (mut seen, mut last) = (Vec::<BTreeMap<String, f64>>::new(), String::new());
    // The run is long enough that all it counts shows, however slow the machine, and is stopped then.
    while !seen.last().is_some_and(all_shows) {
        let Some((head, body)) = get(&address, "/metrics") else {
            panic!("the run ended before all it counts was seen: {:?}\n{last}", child.wait());
        };
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
        seen.push(numbers(&body));
        last = body;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // A run that is told to stop says so while it brings its task to an end.
    let asked = Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap();
    assert!(asked.success());
    while seen.last().unwrap()["framemill_interrupted"] != 1.0 {
        let (_, body) = get(&address, "/metrics").expect("the run ended and never said that it was told to");
        seen.push(numbers(&body));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Counters only grow.
    for (before, after) in seen.iter().zip(&seen[1..]) {
        let counters = before.iter().filter(|(name, _)| name.contains("_total") && !name.contains("busy"));
        for (name, value) in counters {
            assert!(after[name] >= *value, "{name}: {value}, then {}", after[name]);
        }
    }
    let end = numbers(&last);
    let asset = (end["framemill_asset_cost"], end["framemill_asset_seconds"]);
    assert!(asset.0 > 0.0 && (asset.0 - asset.1).abs() < 1e-9, "a second costs 1: {last}");
    let (left, planned) = (end["framemill_tasks_left"], end["framemill_tasks_planned"]);
    assert!(planned >= 1.0 && left <= planned && end["framemill_interrupted"] == 0.0, "{last}");
    read_by_prometheus(&last, end["framemill_samples_total"]);
}

/// Something of each kind of number is there.
fn all_shows(numbers: &BTreeMap<String, f64>) -> bool {
    let positive = [
        "framemill_samples_total",
        "framemill_frames_total",
        "framemill_stage_seconds_total{stage=\"encode\",state=\"busy\"}",
        "framemill_queue_capacity{stage=\"encode\"}",
        "framemill_cost_total",
        "framemill_asset_cost",
    ];
    positive.iter().all(|name| numbers.get(*name).is_some_and(|n| *n > 0.0))
        && numbers.keys().any(|name| name.starts_with("framemill_rejects_total{kind="))
}

/// Prometheus's own parser for Python finds the same number, and would have refused a broken text.
fn read_by_prometheus(text: &str, samples: f64) {
    let Some(python) = python() else { return };
    let code = "import sys, json\n\
        from prometheus_client.parser import text_string_to_metric_families as parse\n\
        families = list(parse(sys.stdin.read()))\n\
        found = [s.value for f in families for s in f.samples if s.name == 'framemill_samples_total']\n\
        print(json.dumps({'found': found, 'types': sorted({f.type for f in families}), 'help': all(f.documentation for f in families)}))";
    let ask = |text: &str| {
        let mut command = Command::new(&python);
        command.args(["-c", code]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = ask(text);
    assert!(output.status.success(), "{}", errors(&output));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read["found"][0].as_f64(), Some(samples));
    assert_eq!((read["types"].to_string().as_str(), &read["help"]), (r#"["counter","gauge"]"#, &Value::Bool(true)));
    assert!(!ask(&text.replace("framemill_samples_total ", "framemill_samples_total{ ")).status.success());
}

#[test]
fn a_port_that_is_taken_is_a_wrong_use() {
    let dir = tempfile::tempdir().unwrap();
    let (clips, out) = (fixtures().join("clips"), dir.path().join("out"));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    for (address, word) in [(taken.as_str(), "in use"), ("nonsense", "HOST:PORT"), ("127.0.0.1:", "HOST:PORT")] {
        let output = framemill(&job(&[clips.to_str().unwrap()], out.to_str().unwrap(), &["--metrics", address]));
        assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
        assert!(errors(&output).contains("--metrics") && errors(&output).contains(word), "{}", errors(&output));
    }
    assert!(!out.exists());
}

/// Prometheus itself, where it is installed, scrapes a run and keeps what it read.
#[test]
fn prometheus_scrapes_a_run() {
    if Command::new("prometheus").arg("--version").output().is_err() {
        println!("skipped: there is no prometheus here (apt-get install prometheus)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let own = free();
    let (mut run, _said, address) = start(out.to_str().unwrap(), &["--variants", "3000"]);
    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 500ms\nscrape_configs:\n- job_name: framemill\n  static_configs:\n  - targets: ['{address}']\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("tsdb").display()))
        .arg(format!("--web.listen-address={own}"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut found = None;
    while found.is_none() && run.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(200));
        let Some((_, body)) = get(&own.to_string(), "/api/v1/query?query=framemill_frames_total%3E0") else {
            continue;
        };
        found = body.find("\"value\":[").map(|at| body[at..].to_string());
    }
    let ended = run.try_wait().unwrap();
    let _ = run.kill();
    run.wait().unwrap();
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
    println!("Prometheus has {found:?}");
    assert!(found.is_some(), "the run ended with {ended:?} before Prometheus had a sample");
}
