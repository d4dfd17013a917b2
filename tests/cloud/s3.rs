//! A job from a bucket gives what the same job gives from the disk.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use crate::http::rejects;
use crate::server::{S3, Server, forward, program};
use crate::support::*;

fn run(port: u16, args: &[&str]) -> Output {
    program(port).args(args).output().unwrap()
}

fn done(output: &Output) -> Value {
    assert!(output.status.success(), "{}", errors(output));
    report(output)
}

/// Members of all shards by name; records without what tells where an input lay.
fn members(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for name in tree(out).into_keys().filter(|name| name.ends_with(".tar")) {
        let mut tar = tar::Archive::new(std::fs::File::open(out.join(&name)).unwrap());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let member = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if member.ends_with(".json") {
                let mut record: Value = serde_json::from_slice(&bytes).unwrap();
                let lies = |key: &str| record[key].as_str().map(str::to_string);
                let (uri, etag) = (lies("uri").unwrap(), lies("etag"));
                let video = record["media"] == "video";
                assert_eq!(etag.is_some(), video && uri.starts_with("s3://"), "{member}: {record}");
                ["uri", "etag"].iter().for_each(|key| drop(record.as_object_mut().unwrap().remove(*key)));
                bytes = serde_json::to_vec(&record).unwrap();
            }
            assert!(all.insert(format!("{name}/{member}"), bytes).is_none());
        }
    }
    all
}

/// The project's own media and some from outside, in a folder.
fn folder(at: &Path) {
    let mut files: Vec<_> = ["clips", "photos", "broken"]
        .iter()
        .flat_map(|name| std::fs::read_dir(fixtures().join(name)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    if let Some(media) = media() {
        files.push(media.join("derived/shots_public.mp4"));
        files.push(media.join("video/intel/one-by-one-person-detection.mp4"));
        let mut photos: Vec<_> =
            std::fs::read_dir(media.join("image/coco/val2017")).unwrap().map(|e| e.unwrap().path()).collect();
        photos.sort();
        files.extend(photos.into_iter().filter(|p| p.extension().is_some_and(|e| e == "jpg")).take(12));
    }
    for (i, file) in files.iter().enumerate() {
        let sub = at.join(["", "x", "x/y z"][i % 3]);
        std::fs::create_dir_all(&sub).unwrap();
        std::fs::copy(file, sub.join(file.file_name().unwrap())).unwrap();
    }
    std::fs::create_dir_all(at.join(".hidden")).unwrap();
    std::fs::copy(fixtures().join("photos/plain.bmp"), at.join(".hidden/plain.bmp")).unwrap();
    std::fs::write(at.join("notes.json"), "{}").unwrap();
}

#[test]
fn a_bucket_gives_what_the_disk_gives() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (disk, out) = (dir.path().join("disk"), |name: &str| dir.path().join(name).to_str().unwrap().to_string());
    folder(&disk);
    s3.put_folder(&disk, "raw");
    let local = disk.to_str().unwrap();
    let args = |input: &str, root: &str, out: &str| -> Vec<String> {
        job(&[input], out, &["--root", root, "--json", "--every", "500ms"]).into_iter().map(String::from).collect()
    };
    let go = |args: &[String]| run(s3.port, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let from_disk = done(&go(&args(local, local, &out("local"))));
    let expected = members(Path::new(&out("local")));
    assert!(expected.len() > 20, "{} members", expected.len());
    let from_bucket = done(&go(&args("s3://media/raw/", "s3://media/raw", &out("bucket"))));
    assert_eq!(from_bucket["inputs"], from_disk["inputs"]);
    assert_eq!(from_bucket["frames"], from_disk["frames"]);
    let found = members(Path::new(&out("bucket")));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(found == expected, "members differ");
    let fingerprint = |out: &str| {
        let text = std::fs::read(Path::new(out).join("_framemill/plan.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["fingerprint"].clone()
    };
    assert_eq!(fingerprint(&out("bucket")), fingerprint(&out("local")), "where the data lies decides nothing");
    // The control: another rule gives other members.
    let mut other = args("s3://media/raw/", "s3://media/raw", &out("other"));
    *other.last_mut().unwrap() = "400ms".into();
    done(&go(&other));
    assert!(members(Path::new(&out("other"))) != expected);
}

#[test]
fn globs_lists_and_single_objects_find_what_they_find_on_disk() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    folder(&disk);
    std::fs::write(disk.join("list.csv"), "uri,label\nx/y z/../../h264.mp4,a\nh264.mp4,b\n").unwrap();
    std::fs::write(disk.join("climb.txt"), "../../../etc/x.jpg\n").unwrap();
    s3.put_folder(&disk, "raw");
    let (local, bucket) = (disk.to_str().unwrap(), "s3://media/raw");
    let planned = |root: &str, inputs: &[&str]| {
        let out = tempfile::tempdir().unwrap();
        let inputs: Vec<String> = inputs.iter().map(|input| format!("{root}/{input}")).collect();
        let mut args = vec!["plan", "--freeze", "--root", root, "-o", out.path().to_str().unwrap()];
        inputs.iter().for_each(|input| args.extend(["-i", input]));
        let output = run(s3.port, &args);
        let plans = framemill::plan::Plan::load_all(&framemill::store::Output::at(out.path())).unwrap();
        let plan = plans.first().unwrap_or_else(|| panic!("{}", errors(&output)));
        let units = plan.tasks().flat_map(|task| plan.units(task).unwrap());
        let units: Vec<_> = units.map(|u| (u.identity, u.name()[root.len()..].to_string(), u.bytes, u.cells)).collect();
        (units, plan.header.counts)
    };
    let cases: [&[&str]; 8] = [
        &["**/*.mp4"],
        &["*.jpg"],
        &["x/*"],
        &["*/y z/*.[jp]*"],
        &["**"],
        &["x/**/*.*", "**/*.webp"],
        &["x"],
        &["x/y z/"],
    ];
    for case in cases {
        let (units, counts) = planned(local, case);
        assert!(!units.is_empty(), "{case:?}");
        // The kind of a file that its name does not tell is looked up on disk alone: the fixtures have none.
        assert_eq!(planned(bucket, case), (units, counts), "{case:?}");
    }
    // Rows of lists cost no look, so they have no sizes.
    let (units, counts) = planned(bucket, &["list.csv"]);
    assert_eq!((units.len(), counts.duplicates, units[0].1.as_str(), units[0].2), (1, 1, "/h264.mp4", None));
    let refused = |input: &str| {
        let output = run(s3.port, &["plan", "-i", input]);
        assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
        errors(&output)
    };
    assert!(refused("s3://media/raw/climb.txt").contains("climb.txt, line 1"));
    assert!(refused("s3://media/none/").contains("does not exist"));
    assert!(refused("s3://media/raw/*.mkvx").contains("matches nothing"));
    let output = run(s3.port, &["plan", "-i", "s3://no-such-bucket/x/"]);
    assert!(output.status.code() == Some(74) && errors(&output).contains("no such bucket"), "{}", errors(&output));
}

#[test]
fn what_changes_after_planning_is_rejected_by_name() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let clip = std::fs::read(fixtures().join("clips/h264.mp4")).unwrap();
    ["a.mp4", "b.mp4", "c.mp4", "d.mp4"].iter().for_each(|name| s3.put(&format!("raw/{name}"), &clip));
    let out = dir.path().join("out");
    let args = job(&["s3://media/raw/"], out.to_str().unwrap(), &["--json"]);
    let mut plan = args.clone();
    plan[0] = "plan";
    plan.retain(|arg| *arg != "--json");
    plan.push("--freeze");
    let output = run(s3.port, &plan);
    assert!(output.status.success(), "{}", errors(&output));
    // The same size, another content; another size; gone.
    let mut other = clip.clone();
    *other.last_mut().unwrap() ^= 1;
    s3.put("raw/b.mp4", &other);
    s3.put("raw/c.mp4", &clip[..clip.len() - 1]);
    let request = |method: &str, key: &str| crate::server::Request {
        method: method.into(),
        target: key.into(),
        headers: Default::default(),
        head: format!("{method} {key} HTTP/1.1\r\nHost: x\r\n{}", crate::server::SIGNED),
        body: Vec::new(),
        before: 0,
    };
    forward(s3.port, &request("DELETE", "/media/raw/d.mp4"));
    let report = done(&run(s3.port, &args));
    assert_eq!(report["inputs"]["done"], 1);
    let rejects = rejects(&out);
    for (name, kind) in [("b.mp4", "changed"), ("c.mp4", "changed"), ("d.mp4", "missing")] {
        assert_eq!(rejects[name].0, kind, "{rejects:?}");
    }
}

/// A long film: an outside one, many times over.
fn long_film(to: &Path, times: u32) -> Option<Vec<u8>> {
    let film = media()?.join("derived/shots_public.mp4");
    let ran = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-stream_loop", &times.to_string(), "-i", film.to_str().unwrap(), "-c", "copy"])
        .args(["-movflags", "-faststart", to.to_str().unwrap()])
        .status();
    if !ran.is_ok_and(|status| status.success()) {
        println!("skipped: no ffmpeg program to make a long film with");
        return None;
    }
    Some(std::fs::read(to).unwrap())
}

#[test]
fn few_frames_of_a_long_film_cost_few_requests_and_memory_stays() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.mp4");
    let Some(film) = long_film(&path, 59) else { return };
    s3.put("long.mp4", &film);
    let port = s3.port;
    let proxy = Server::start(move |request| forward(port, request));
    let go = |input: &str, name: &str, rule: [&str; 2]| {
        let out = dir.path().join(name);
        let more =
            ["--json", "--threads", "2", "--memory", "64MB", "--unit", "100h", "--device", "cpu", rule[0], rule[1]];
        let args = job(&[input], out.to_str().unwrap(), &more);
        let report = done(&run(proxy.port, &args));
        (
            samples(&out).into_iter().map(|(_, digest)| digest).collect::<Vec<_>>(),
            report["peak_memory"].as_u64().unwrap(),
        )
    };
    let local = path.to_str().unwrap();
    // Four frames: an index at the end, and a stretch for each.
    let (expected, _) = go(local, "few-local", ["--count", "4"]);
    proxy.seen.clear();
    assert_eq!(go("s3://media/long.mp4", "few", ["--count", "4"]).0, expected);
    let (requests, sent) = (proxy.seen.count("GET", "long.mp4"), proxy.seen.sent.load(Ordering::Relaxed));
    println!("4 frames of {} MB: {requests} requests, {} MB", film.len() / 1_000_000, sent / 1_000_000);
    assert!(requests <= 40 && sent < film.len() / 2, "{requests} requests, {sent} of {} bytes", film.len());
    // A good part, a frame a second: read in order.
    let part = ["--end", "400"];
    let (expected, base) = go(local, "all-local", part);
    proxy.seen.clear();
    let (found, peak) = go("s3://media/long.mp4", "all", part);
    assert_eq!(found, expected);
    let requests = proxy.seen.count("GET", "long.mp4");
    println!("400 s of it: {requests} requests; peak memory {peak}, from disk {base}");
    assert!(requests < 200, "{requests}");
    // What README says that remote inputs take on top, and what TLS, HTTP and a runtime need.
    assert!(peak < base + 8_000_000 + 30_000_000, "{base}, then {peak}");
}

#[test]
fn killed_runs_from_a_bucket_end_as_undisturbed_ones() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    folder(&disk);
    s3.put_folder(&disk, "raw");
    let whole = dir.path().join("whole");
    let begun = std::time::Instant::now();
    done(&run(s3.port, &job(&["s3://media/raw/"], whole.to_str().unwrap(), &["--every", "300ms", "--json"])));
    let length = begun.elapsed().as_millis() as u64;
    let (expected, mut random, mut hit) = (tree(&whole), Random(7), 0);
    for round in 0..if full() { 30 } else { 5 } {
        let out = dir.path().join(format!("{round}"));
        let args = job(&["s3://media/raw/"], out.to_str().unwrap(), &["--every", "300ms", "--json"]);
        for _ in 0..2 {
            let mut child = program(s3.port).args(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(random.below(length)));
            let _ = child.kill();
            hit += usize::from(!child.wait().unwrap().success());
        }
        done(&run(s3.port, &args));
        assert_eq!(tree(&out), expected, "round {round}");
    }
    assert!(hit > 0, "no kill hit");
}
