//! Jobs of so many tasks that workers copy their receipts into rolls.

use std::collections::BTreeMap;
use std::path::Path;

use framemill::store::Output;
use framemill::store::cloud::Settings;
use serde_json::Value;

use crate::gcs::Google;
use crate::server::{S3, Server, forward, program};
use crate::support::*;
use crate::tools::*;
use crate::workers::{borrowed, children, visible};

/// Photos, each of which is a task, one of them broken; and how many.
fn photos(dir: &Path) -> (String, u64) {
    let folder = dir.join("photos");
    std::fs::create_dir(&folder).unwrap();
    for i in 0..150 {
        std::fs::copy(fixtures().join("photos/palette.png"), folder.join(format!("{i:03}.png"))).unwrap();
    }
    std::fs::write(folder.join("broken.png"), "no photo").unwrap();
    (folder.to_str().unwrap().into(), 151)
}

fn arguments(photos: &str, out: &str, more: &[&str]) -> Vec<String> {
    let own = ["run", "-i", photos, "-o", out, "--op", "resize:w=16,h=16", "--shard-samples", "1", "--threads", "1"];
    let args = own.iter().chain(["--max-rejects", "100%", "--lease", "2s"].iter()).chain(more);
    args.map(|arg| arg.to_string()).collect()
}

/// The names and lines of all rolls.
fn rolls(out: &Output) -> BTreeMap<String, usize> {
    let lines = |name: &String| out.read(&format!("_framemill/rolls/{name}")).unwrap().unwrap_or_default();
    let lines = |name: &String| lines(name).iter().filter(|byte| **byte == b'\n').count();
    out.list("_framemill/rolls").unwrap().into_iter().map(|name| (name.clone(), lines(&name))).collect()
}

fn only(lines: usize) -> BTreeMap<String, usize> {
    [("000000.jsonl".to_string(), lines)].into()
}

/// Tasks done, samples and rejects, as `status` tells them; they must belong together.
fn status(port: u16, out: &str) -> (u64, String) {
    let output = program(port).args(["status", out, "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let told: Value = report(&output);
    let count = |path: &str| told.pointer(path).and_then(Value::as_u64).unwrap();
    assert_eq!(count("/samples") + count("/inputs/rejected"), count("/tasks/done"), "{told}");
    (count("/tasks/done"), errors(&output))
}

#[test]
fn workers_roll_up_their_receipts_and_what_is_left_is_an_undisturbed_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (photos, tasks) = photos(dir.path());
    let whole = dir.path().join("whole");
    let run = framemill(&borrowed(&arguments(&photos, whole.to_str().unwrap(), &[])));
    assert!(run.status.success(), "{}", errors(&run));
    let expected = tree(&whole);
    assert_eq!(rolls(&Output::at(&whole)), only(tasks as usize));

    let Some(s3) = S3::start() else { return };
    let (uri, out, log) = ("s3://media/many", output(s3.port, "many"), dir.path().join("log"));
    let args = arguments(&photos, uri, &["--tasks", "any"]);
    let begin = || start(program(s3.port), &borrowed(&args), &log);
    let mut workers: Vec<_> = (0..3).map(|_| begin()).collect();
    let done = || out.list("_framemill/receipts").unwrap().len() as u64;
    wait_until("several have written rolls", || rolls(&out).len() >= 2);
    let (before, (told, _)) = (done(), status(s3.port, uri));
    assert!(before <= told && told <= done() && told < tasks, "{told} of {before} and more are done");
    let mut dead = workers.pop().unwrap();
    children(dead.id()).into_iter().for_each(|pid| signal(pid, "KILL"));
    signal(dead.id(), "KILL");
    dead.wait().unwrap();
    for worker in &mut workers {
        assert_eq!(worker.wait().unwrap().code(), Some(0), "{}", said(&log));
    }
    assert_eq!(visible(objects(&out)), expected);
    assert_eq!(rolls(&out), only(tasks as usize), "no worker's");

    // A look at the finished job asks for no receipt.
    let port = s3.port;
    let counting = Server::start(move |request| forward(port, request));
    assert_eq!(status(counting.port, uri).0, tasks);
    let asked = counting.seen.requests().len();
    assert_eq!(counting.seen.count("GET", "receipts/0"), 0);
    assert!(asked < 20, "{asked} requests");

    // What a worker wrote that was killed behind that is in nobody's way, and goes with the next run.
    let roll = out.read("_framemill/rolls/000000.jsonl").unwrap().unwrap();
    out.replace("_framemill/rolls/host-1-2-3.jsonl", &roll).unwrap();
    assert_eq!(status(port, uri).0, tasks);
    assert!(program(port).args(borrowed(&args)).output().unwrap().status.success());
    assert_eq!(rolls(&out), only(tasks as usize));
    assert!(program(port).args(["verify", uri]).output().unwrap().status.success());
}

#[test]
fn a_worker_that_wakes_up_late_leaves_no_roll_and_later_generations_join_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let (photos, tasks) = photos(dir.path());
    let (whole, folder) = (dir.path().join("whole"), dir.path().join("out"));
    assert!(framemill(&borrowed(&arguments(&photos, whole.to_str().unwrap(), &[]))).status.success());
    let expected = tree(&whole);
    let (uri, out, log) = (folder.to_str().unwrap(), Output::at(&folder), dir.path().join("log"));
    let args = arguments(&photos, uri, &["--tasks", "any"]);
    let mut sleeper = start(crate::support::program(), &borrowed(&args), &log);
    wait_until("it has written a roll", || !out.list("_framemill/rolls").unwrap().is_empty());
    let engines = children(sleeper.id());
    engines.iter().for_each(|pid| signal(*pid, "STOP"));
    signal(sleeper.id(), "STOP");
    let half = out.list("_framemill/receipts").unwrap().len() as u64;
    assert!(half < tasks, "all was done before it slept");
    assert!(framemill(&borrowed(&args)).status.success());
    assert_eq!(rolls(&out), only(tasks as usize));
    engines.iter().for_each(|pid| signal(*pid, "CONT"));
    signal(sleeper.id(), "CONT");
    assert_eq!(sleeper.wait().unwrap().code(), Some(0), "{}", said(&log));
    assert_eq!(visible(tree(&folder)), expected);
    let verify = || framemill(&["verify", uri]);
    assert!(verify().status.success());

    // The control: a roll that lies is found by verify, which says what to do.
    let last = "_framemill/rolls/000000.jsonl";
    let roll = out.read(last).unwrap().unwrap();
    let lie = String::from_utf8(roll.clone()).unwrap().replacen("\"bytes_read\":", "\"bytes_read\":1", 1);
    out.replace(last, lie.as_bytes()).unwrap();
    let (found, text) = (verify(), String::from_utf8_lossy(&verify().stdout).into_owned());
    assert_eq!(found.status.code(), Some(74));
    assert!(text.contains("task 0 is not as the receipt says; it is only a copy") && text.contains(last), "{text}");
    out.remove(last).unwrap();
    assert!(framemill(&["finish", uri]).status.success());
    assert!(verify().status.success());
    assert_eq!(visible(tree(&folder)), expected);
    // One that is damaged is named, and does no harm.
    out.replace(last, &roll[..roll.len() / 2]).unwrap();
    let (told, said) = status(0, uri);
    assert!(told == tasks && said.contains(last) && said.contains("damaged"), "{told}: {said}");
    assert_eq!(verify().status.code(), Some(74));
    assert!(framemill(&["finish", uri]).status.success());
    assert_eq!(visible(tree(&folder)), expected);

    // A mended photo, and a new one.
    std::fs::copy(fixtures().join("photos/palette.png"), Path::new(&photos).join("broken.png")).unwrap();
    assert!(framemill(&["retry", uri]).status.success());
    assert_eq!(rolls(&out), only(tasks as usize + 1));
    std::fs::copy(fixtures().join("photos/palette.png"), Path::new(&photos).join("new.png")).unwrap();
    let appended = framemill(&borrowed(&arguments(&photos, uri, &["--append"])));
    assert!(appended.status.success(), "{}", errors(&appended));
    assert_eq!(rolls(&out), only(tasks as usize + 2));
    assert!(verify().status.success());
    let told = report(&framemill(&["status", uri, "--json"]));
    assert_eq!((&told["tasks"]["done"], &told["samples"]), (&(tasks + 2).into(), &(tasks + 1).into()), "{told}");
    assert_eq!((&told["inputs"]["found"], &told["inputs"]["rejected"]), (&(tasks + 1).into(), &0.into()), "{told}");
}

#[test]
fn stores_list_names_by_how_they_begin() {
    let google = Google::start();
    let settings = Settings { endpoint: Some(google.server.url()), anonymous: true, ..Settings::default() };
    let mut stores = vec![Output::remote("gs://media/listed", &settings).unwrap()];
    let s3 = S3::start();
    stores.extend(s3.as_ref().map(|s3| output(s3.port, "listed")));
    for out in stores {
        let names: Vec<String> = (0..64).map(|i| format!("{i:06}.json")).collect();
        names.iter().for_each(|name| out.replace(&format!("f/{name}"), b"{}").unwrap());
        out.replace("f/000010/below", b"").unwrap();
        out.replace("f2/000011.json", b"").unwrap();
        assert_eq!(out.list("f").unwrap().len(), 65, "{out}");
        // No others come: it is the store that looks at beginnings.
        let beginnings = ["00001".to_string(), "00003".into(), "00009".into()];
        let expected: Vec<&String> = names[10..20].iter().chain(&names[30..40]).collect();
        assert_eq!(out.list_by("f", &beginnings).unwrap().iter().collect::<Vec<_>>(), expected, "{out}");
        assert!(out.list_by("none", &beginnings).unwrap().is_empty(), "{out}");
        let all: Vec<String> = names.iter().map(|name| format!("f/{name}")).collect();
        out.remove_all(&all).unwrap();
        assert_eq!(out.list("f").unwrap(), ["000010/"], "{out}");
    }
}
