//! A job on Google Cloud Storage gives what the same job gives on disk. The server is the tests' own, after Google's
//! documents: no emulator with preconditions can be had everywhere.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::gcs::Google;
use crate::support::*;

/// The program that finds the server as Google's tools would, without anyone's credentials.
fn program(google: &Google) -> Command {
    let mut command = crate::support::program();
    for name in ["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "SERVICE_ACCOUNT", "GOOGLE_BEARER_TOKEN"] {
        command.env_remove(name);
    }
    command.env("STORAGE_EMULATOR_HOST", format!("127.0.0.1:{}", google.server.port));
    command
}

fn done(command: &mut Command, args: &[&str]) {
    let output = command.args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", errors(&output));
}

fn photos() -> String {
    fixtures().join("photos").to_str().unwrap().into()
}

#[test]
fn inputs_are_read_and_listed_in_pages() {
    let google = Google::start();
    let dir = tempfile::tempdir().unwrap();
    for folder in ["photos", "clips"] {
        for entry in std::fs::read_dir(fixtures().join(folder)).unwrap().flatten().filter(|e| e.path().is_file()) {
            let name = format!("raw/{folder}/a b & ü/{}", entry.file_name().to_str().unwrap());
            google.put(&name, &std::fs::read(entry.path()).unwrap());
        }
    }
    let disk: Vec<String> = ["photos", "clips"].map(|f| fixtures().join(f).to_str().unwrap().into()).into();
    let run = |inputs: &[&str], name: &str| {
        let out = dir.path().join(name);
        done(&mut program(&google), &job(inputs, out.to_str().unwrap(), &[]));
        // Keys begin with the identity, which comes from the name.
        let mut contents: Vec<String> = samples(&out).into_iter().map(|(_, digest)| digest).collect();
        contents.sort();
        contents
    };
    let expected = run(&[&disk[0], &disk[1]], "disk");
    assert!(expected.len() > 20, "{}", expected.len());
    assert_eq!(run(&["gs://media/raw/"], "prefix"), expected);
    assert_eq!(run(&["gs://media/raw/**"], "pattern"), expected);
    let missing = program(&google).args(job(&["gs://other/x"], "nowhere", &[])).output().unwrap();
    assert!(errors(&missing).contains("gs://other") && !missing.status.success(), "{}", errors(&missing));
}

#[test]
fn outputs_hold_what_a_folder_holds_whatever_is_killed() {
    let google = Google::start();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    let more = ["--metadata", "parquet,csv,sqlite", "--split", "train=0.8,val=0.2", "--tasks", "any"];
    done(&mut crate::support::program(), &job(&[&photos()], folder.to_str().unwrap(), &more));
    let expected = tree(&folder);
    let (mut random, mut hit) = (Random(3), 0);
    for round in 0..if full() { 20 } else { 3 } {
        let uri = format!("gs://media/out{round}");
        let photos = photos();
        let args = job(&[&photos], &uri, &more);
        for _ in 0..2 {
            let mut child = program(&google).args(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(random.below(1500)));
            let _ = child.kill();
            hit += usize::from(!child.wait().unwrap().success());
        }
        done(&mut program(&google), &[&args[..], &["--lease", "1s"]].concat());
        done(&mut program(&google), &["verify", &uri]);
        assert_eq!(google.digests(&format!("out{round}/")), expected, "round {round}");
    }
    assert!(hit > 0, "no kill hit");
}

#[test]
fn large_shards_go_up_in_parts_and_are_copied() {
    let google = Google::start();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    let more = ["--op", "resize:w=900,h=900", "--op", "to:dtype=f32", "--format", "tensors"];
    done(&mut crate::support::program(), &job(&[&photos()], folder.to_str().unwrap(), &more));
    done(&mut program(&google), &job(&[&photos()], "gs://media/large", &more));
    assert!(google.copies.load(Ordering::Relaxed) > 0, "no shard was copied");
    assert_eq!(google.digests("large/"), tree(&folder));
}

#[test]
fn a_server_without_preconditions_is_refused() {
    let google = Google::start();
    google.careful.store(false, Ordering::Relaxed);
    let refused = program(&google).args(job(&[&photos()], "gs://media/out", &[])).output().unwrap();
    assert_eq!(refused.status.code(), Some(74), "{}", errors(&refused));
    assert!(errors(&refused).contains("lets two writers create the same object"), "{}", errors(&refused));
    assert!(google.digests("out/").is_empty());
}
