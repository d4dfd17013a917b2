//! The same against s3s-fs, an S3 server that checks signatures and digests, which moto does not. `FRAMEMILL_S3S` names it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::server::{Child, SECRET, program};
use crate::support::*;
use crate::tools::*;

/// Starts the server on `folder`, whose folders are its buckets; says that the test is skipped where there is none.
fn serve(folder: &Path) -> Option<(Child, u16)> {
    let Some(s3s) = std::env::var_os("FRAMEMILL_S3S") else {
        println!("skipped: FRAMEMILL_S3S names no s3s-fs (scripts/test.sh --full installs it)");
        return None;
    };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(s3s);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--access-key", "AKIATEST"]);
    command.args(["--secret-key", SECRET]).arg(folder).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Child(command.spawn().unwrap());
    for _ in 0..600 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some((child, port));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("s3s-fs did not start");
}

#[test]
fn a_job_and_two_workers_on_another_server() {
    let dir = tempfile::tempdir().unwrap();
    let media = dir.path().join("root/media");
    std::fs::create_dir_all(&media).unwrap();
    let Some((_server, port)) = serve(&dir.path().join("root")) else { return };
    let inputs: Vec<String> =
        ["clips", "photos"].iter().map(|f| fixtures().join(f).to_str().unwrap().to_string()).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let folder = dir.path().join("folder");
    assert!(framemill(&job(&inputs, folder.to_str().unwrap(), &[])).status.success());
    let expected = tree(&folder);
    // What the server notes of its objects lies beside them.
    let objects = |prefix: &str| {
        let mut found = tree(&media.join(prefix));
        found.retain(|name, _| !name.split('/').any(|part| part.starts_with('.')));
        found
    };
    let run = |uri: &str| program(port).args(job(&inputs, uri, &[])).output().unwrap();
    for _ in 0..2 {
        let output = run("s3://media/one");
        assert!(output.status.success(), "{}", errors(&output));
        assert_eq!(objects("one"), expected);
    }
    assert!(program(port).args(["verify", "s3://media/one"]).output().unwrap().status.success());
    let args = job(&inputs, "s3://media/two", &["--tasks", "any"]);
    let log = dir.path().join("log");
    let workers: Vec<_> = (0..2).map(|_| start(program(port), &args, &log)).collect();
    for mut worker in workers {
        assert!(worker.wait().unwrap().success(), "{}", said(&log));
    }
    assert_eq!(objects("two"), expected);
    // The control: it knows who may not.
    let stranger =
        program(port).args(job(&inputs, "s3://media/three", &[])).env("AWS_SECRET_ACCESS_KEY", "other").output();
    assert_ne!(stranger.unwrap().status.code(), Some(0));
    assert!(!media.join("three").exists());
}
