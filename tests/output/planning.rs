//! Signals that come while a run still waits for a server that holds its list.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::time::Duration;

use crate::support::*;
use crate::tools::signal;

/// Runs a list that a server holds back until `asked`, called with the process's id when the server was asked first, says
/// what it answers; nothing at all where it gives nothing.
fn run(out: &str, more: &[&str], asked: impl FnOnce(u32) -> Option<String>) -> Output {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let list = format!("http://{}/list.txt", server.local_addr().unwrap());
    let args = [&["run", "-i", &list, "-o", out, "--op", "resize:w=32,h=32", "--json"], more].concat();
    let child = program().args(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut first, _) = server.accept().unwrap();
    let Some(body) = asked(child.id()) else { return child.wait_with_output().unwrap() };
    let answer = move |connection: &mut std::net::TcpStream| {
        let _ = connection.read(&mut [0; 4096]);
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = connection.write_all((head + &body).as_bytes());
    };
    answer(&mut first);
    drop(first);
    std::thread::spawn(move || server.incoming().flatten().for_each(|mut next| answer(&mut next)));
    child.wait_with_output().unwrap()
}

fn photo() -> Option<String> {
    Some(format!("{}\n", fixtures().join("photos/gray.jpg").display()))
}

#[test]
fn a_signal_while_a_list_is_awaited_begins_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let run = |asked: &dyn Fn(u32) -> Option<String>| run(out.to_str().unwrap(), &["--grace", "1h"], asked);
    let output = run(&|process| {
        signal(process, "TERM");
        std::thread::sleep(Duration::from_secs(1));
        photo()
    });
    assert_eq!(output.status.code(), Some(75), "{}", errors(&output));
    assert!(errors(&output).contains("interrupted by SIGTERM while planning"), "{}", errors(&output));
    let told = report(&output);
    assert_eq!((&told["outcome"], &told["exit_code"]), (&"interrupted".into(), &75.into()), "{told}");
    assert!(!out.join("_framemill").exists() && !out.join("dataset.json").exists());
    // The control: the same list without a signal.
    let output = run(&|_| photo());
    assert!(output.status.success() && out.join("dataset.json").exists(), "{}", errors(&output));
}

#[test]
fn a_second_signal_or_the_end_of_the_grace_period_ends_planning_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for (grace, all) in [("1h", true), ("100ms", false)] {
        // The server never answers: only signals can end it so.
        let output = run(out.to_str().unwrap(), &["--grace", grace], |process| {
            signal(process, "INT");
            // Two that come at the same moment may be one.
            std::thread::sleep(Duration::from_secs(1));
            if all {
                signal(process, "TERM");
            }
            None
        });
        assert_eq!(output.status.code(), Some(75), "{}", errors(&output));
        assert!(errors(&output).contains("interrupted by SIGINT while planning"), "{}", errors(&output));
        assert!(!out.exists());
    }
}
