//! A store that is busy, breaks off, or goes away.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::server::{Answer, S3, Server, forward, program};
use crate::support::*;

#[test]
fn throttling_and_broken_bodies_change_nothing() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    s3.put_folder(&fixtures().join("clips"), "raw");
    s3.put_folder(&fixtures().join("photos"), "raw");
    let port = s3.port;
    let proxy = Server::start(move |request| {
        let slow_down = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
        match request.before {
            0 => Answer { body: slow_down.to_vec(), ..Answer::status(503) },
            1 => Answer::status(500),
            2 => Answer { cut: Some(700), ..forward(port, request) },
            _ => forward(port, request),
        }
    });
    let go = |port: u16, name: &str| {
        let out = dir.path().join(name);
        let args = job(&["s3://media/raw/"], out.to_str().unwrap(), &["--json"]);
        let output = program(port).args(args).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        tree(&out)
    };
    let expected = go(s3.port, "calm");
    assert_eq!(go(proxy.port, "storm"), expected);
    assert!(proxy.seen.count("GET", "h264.mp4") >= 4, "the faults were met");
}

#[test]
fn a_store_that_goes_away_stops_the_run_and_it_goes_on_later() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    s3.put_folder(&fixtures().join("photos"), "raw");
    let (port, away) = (s3.port, Arc::new(AtomicBool::new(false)));
    let gone = away.clone();
    // Away is away: the connection is closed without a word.
    let proxy = Server::start(move |request| match gone.load(Ordering::SeqCst) && request.method == "GET" {
        true => Answer { cut: Some(0), ..Answer::status(200) }.with("Content-Length", "x"),
        false => forward(port, request),
    });
    let out = dir.path().join("out");
    let config = dir.path().join("job.toml");
    std::fs::write(&config, "[input.store]\nretry_seconds = 2\n").unwrap();
    let mut args = job(&["s3://media/raw/"], out.to_str().unwrap(), &[]);
    args.insert(1, config.to_str().unwrap());
    let mut plan = args.clone();
    plan[0] = "plan";
    plan.push("--freeze");
    let run = |args: &[&str]| program(proxy.port).args(args).output().unwrap();
    assert!(run(&plan).status.success());
    away.store(true, Ordering::SeqCst);
    let output = run(&args);
    assert_eq!(output.status.code(), Some(74), "{}", errors(&output));
    assert!(errors(&output).contains("s3://media/raw/"), "{}", errors(&output));
    away.store(false, Ordering::SeqCst);
    let output = run(&args);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(!records(Path::new(&out)).is_empty());
}
