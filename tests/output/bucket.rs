//! A job into a bucket gives what the same job gives in a folder.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::mount::Mount;
use crate::server::{Answer, S3, SECRET, Server, forward, program};
use crate::support::*;
use crate::tools::*;

fn photos() -> String {
    fixtures().join("photos").to_str().unwrap().into()
}

#[test]
fn a_bucket_holds_what_a_folder_holds_in_every_form() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let fixtures = fixtures();
    let inputs: Vec<String> =
        ["clips", "photos", "broken"].iter().map(|f| fixtures.join(f).to_str().unwrap().to_string()).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let forms: [(&str, &[&str]); 3] = [
        ("shards", &["--metadata", "parquet,csv,sqlite", "--split", "train=0.8,val=0.2"]),
        ("images", &["--format", "images", "--encode", "png"]),
        ("arrays", &["--format", "tensors"]),
    ];
    for (form, more) in forms {
        let folder = dir.path().join(form);
        let output = framemill(&job(&inputs, folder.to_str().unwrap(), more));
        assert!(output.status.success(), "{form}: {}", errors(&output));
        let (expected, uri) = (tree(&folder), format!("s3://media/{form}"));
        let output_s3 = program(s3.port).args(job(&inputs, &uri, more)).output().unwrap();
        assert!(output_s3.status.success(), "{form}: {}", errors(&output_s3));
        let out = crate::tools::output(s3.port, form);
        assert_eq!(objects(&out), expected, "{form}");
        let command = |name: &str| program(s3.port).args([name, &uri, "--json"]).output().unwrap();
        assert_eq!(command("verify").status.code(), Some(0), "{}", errors(&command("verify")));
        assert_eq!(report(&command("status"))["finished"], true);
        assert_eq!(report(&command("rejects"))["rejected"], report(&rejects(&folder))["rejected"]);
        // Done already, and finished once more: nothing changes.
        assert!(program(s3.port).args(job(&inputs, &uri, more)).status().unwrap().success());
        assert!(program(s3.port).args(["finish", &uri]).output().unwrap().status.success());
        assert_eq!(objects(&out), expected, "{form}");
        let (here, there) = (dir.path().join("here.png"), dir.path().join("there.png"));
        for (at, file) in [(folder.to_str().unwrap(), &here), (uri.as_str(), &there)] {
            let shown = program(s3.port).args(["preview", at, "-o", file.to_str().unwrap()]).output().unwrap();
            assert!(shown.status.success(), "{}", errors(&shown));
        }
        assert_eq!(std::fs::read(here).unwrap(), std::fs::read(there).unwrap());
        // The control: what is damaged is found.
        let shard = expected.keys().find(|name| name.contains("shard-") && name.ends_with(".parquet")).unwrap();
        let whole = out.read(shard).unwrap().unwrap();
        out.replace(shard, b"other").unwrap();
        assert_eq!(command("verify").status.code(), Some(74));
        assert_ne!(objects(&out), expected);
        out.replace(shard, &whole).unwrap();
        assert_eq!(objects(&out), expected);
        let retried = program(s3.port).args(["retry", &uri, "--max-rejects", "100%"]).output().unwrap();
        assert!(retried.status.success(), "{}", errors(&retried));
        assert!(out.size("_framemill/plan-0002.json").unwrap().is_some(), "what is broken is planned again");
        assert_eq!(command("verify").status.code(), Some(0));
    }
}

fn rejects(folder: &std::path::Path) -> std::process::Output {
    framemill(&["rejects", folder.to_str().unwrap(), "--json"])
}

#[test]
fn another_job_and_a_store_without_conditions_are_refused() {
    let Some(s3) = S3::start() else { return };
    let run = |port: u16, out: &str, more: &[&str]| program(port).args(job(&[&photos()], out, more)).output().unwrap();
    assert!(run(s3.port, "s3://media/one", &[]).status.success());
    let other = run(s3.port, "s3://media/one", &["--seed", "7"]);
    assert_eq!(other.status.code(), Some(78), "{}", errors(&other));
    assert!(errors(&other).contains("seed") && errors(&other).contains("s3://media/one"), "{}", errors(&other));
    let port = s3.port;
    let careless = Server::start(move |request| {
        let mut request = request.clone();
        let keep = |line: &&str| !line.to_ascii_lowercase().starts_with("if-none-match:");
        request.head = request.head.lines().filter(keep).map(|line| format!("{line}\r\n")).collect();
        forward(port, &request)
    });
    let refused = run(careless.port, "s3://media/two", &[]);
    assert_eq!(refused.status.code(), Some(74), "{}", errors(&refused));
    assert!(errors(&refused).contains("lets two writers create the same object"), "{}", errors(&refused));
    assert!(objects(&output(port, "two")).is_empty(), "nothing was begun");
    let missing = run(s3.port, "s3://nobucket/x", &[]);
    assert_eq!(missing.status.code(), Some(74), "{}", errors(&missing));
    assert!(errors(&missing).contains("no such bucket") && !errors(&missing).contains(SECRET), "{}", errors(&missing));
}

#[test]
fn a_store_that_is_away_for_a_while_is_waited_for_and_one_that_stays_away_is_an_error_that_resumes() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    assert!(framemill(&job(&[&photos()], folder.to_str().unwrap(), &[])).status.success());
    let expected = tree(&folder);
    let away = Arc::new(AtomicBool::new(false));
    let (refused, until) = (Arc::new(AtomicUsize::new(0)), Mutex::new(None));
    let (port, gone, counted) = (s3.port, away.clone(), refused.clone());
    let server = Server::start(move |request| {
        // Gone for two seconds once the first shard is to be written.
        let mut until = until.lock().unwrap();
        if request.method == "PUT" && request.target.contains("/brief/shard-") {
            until.get_or_insert_with(|| Instant::now() + Duration::from_secs(2));
        }
        let brief = until.is_some_and(|until| Instant::now() < until);
        drop(until);
        if brief || gone.load(Ordering::Relaxed) {
            counted.fetch_add(1, Ordering::Relaxed);
            return Answer::status(503);
        }
        forward(port, request)
    });
    let waited = program(server.port).args(job(&[&photos()], "s3://media/brief", &[])).output().unwrap();
    assert!(waited.status.success(), "{}", errors(&waited));
    assert!(refused.load(Ordering::Relaxed) > 1, "the store was never away");
    assert_eq!(objects(&output(port, "brief")), expected);
    // Gone for longer than it is waited for.
    let file = dir.path().join("job.toml");
    std::fs::write(&file, "[output.store]\nretry_seconds = 1\n").unwrap();
    let mut args = job(&[], "s3://media/stays", &[]);
    let photos = photos();
    args.extend(["-i", &photos, file.to_str().unwrap()]);
    away.store(true, Ordering::Relaxed);
    let failed = program(server.port).args(&args).output().unwrap();
    assert_eq!(failed.status.code(), Some(74), "{}", errors(&failed));
    assert!(
        errors(&failed).contains("stayed busy or away") && !errors(&failed).contains(SECRET),
        "{}",
        errors(&failed)
    );
    away.store(false, Ordering::Relaxed);
    let again = program(server.port).args(&args).output().unwrap();
    assert!(again.status.success(), "{}", errors(&again));
    assert_eq!(objects(&output(port, "stays")), expected);
}

#[test]
fn sources_are_kept_in_a_bucket_too() {
    let Some(s3) = S3::start() else { return };
    let args = job(&[&photos()], "s3://media/data", &["--keep-raw", "s3://media/raw"]).join("\n");
    let run = program(s3.port).args(args.lines()).output().unwrap();
    assert!(run.status.success(), "{}", errors(&run));
    let kept = objects(&output(s3.port, "raw"));
    let own = tree(&fixtures().join("photos"));
    let digests = |files: &std::collections::BTreeMap<String, String>| {
        files.values().cloned().collect::<std::collections::BTreeSet<_>>()
    };
    assert!(!kept.is_empty() && digests(&kept).is_subset(&digests(&own)), "{kept:?}");
}

#[test]
fn a_shard_of_more_than_one_request_is_whole_and_leaves_no_parts() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (folder, photo) = (dir.path().join("folder"), fixtures().join("photos/plain.bmp"));
    let args = |out: &str| -> Vec<String> {
        let more = ["--format", "tensors", "--variants", "500", "--op", "resize:w=224,h=224", "--shard-bytes", "1GB"];
        let mut args = vec!["run", "-i", photo.to_str().unwrap(), "-o", out];
        args.extend(more);
        args.into_iter().map(String::from).collect()
    };
    assert!(program(0).args(args(folder.to_str().unwrap())).output().unwrap().status.success());
    let expected = tree(&folder);
    let array = std::fs::metadata(folder.join("shard-000000.npy")).unwrap().len();
    assert!(array > 64 << 20, "{array} bytes go up in one request");
    for round in 0..2 {
        // The second time an orphan of another content has the name.
        let prefix = format!("large-{round}");
        let out = output(s3.port, &prefix);
        if round == 1 {
            out.replace("shard-000000.npy", b"orphan").unwrap();
        }
        let run = program(s3.port).args(args(&format!("s3://media/{prefix}"))).output().unwrap();
        assert!(run.status.success(), "{}", errors(&run));
        assert_eq!(objects(&out), expected, "{prefix}");
    }
}

#[test]
fn a_scratch_that_fills_is_an_error_that_resumes() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("scratch");
    let Some(disk) = Mount::new(&place, "size=256k") else { return };
    let (clips, folder) = (fixtures().join("clips"), dir.path().join("folder"));
    let (clips, more) = (clips.to_str().unwrap(), ["--op", "resize:w=320,h=240", "--encode", "png"]);
    assert!(framemill(&job(&[clips], folder.to_str().unwrap(), &more)).status.success());
    let args = job(&[clips], "s3://media/filled", &more);
    let run = || program(s3.port).args(&args).env("TMPDIR", &place).output().unwrap();
    for _ in 0..2 {
        let output = run();
        assert_eq!(output.status.code(), Some(74), "{}", errors(&output));
        let said = errors(&output);
        assert!(said.contains("no space left") && said.contains(place.to_str().unwrap()), "{said}");
    }
    // Nothing torn is visible: what there is, is an undisturbed run's.
    let (expected, out) = (tree(&folder), output(s3.port, "filled"));
    let there = objects(&out);
    let torn: Vec<_> = there.iter().filter(|(name, digest)| expected.get(*name) != Some(digest)).collect();
    assert!(torn.is_empty() && there.len() < expected.len(), "{torn:?}");
    disk.change("size=64m");
    let output = run();
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(objects(&out), expected);
}
