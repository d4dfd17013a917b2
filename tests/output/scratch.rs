//! `--scratch-limit`: temporaries stay within it, on a disk that has no more, and no byte depends on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::mount::Mount;
use crate::server::{Answer, Request, S3, Server, forward, program};
use crate::support::*;
use crate::tools::*;

/// A job of some shards of a megabyte or two.
fn arguments(out: &str, more: &[&str]) -> Vec<String> {
    let photos = fixtures().join("photos");
    let mut args = vec!["run", "-i", photos.to_str().unwrap(), "-o", out, "--op", "resize:w=640,h=480"];
    args.extend(["--op", "random_flip:h", "--encode", "png", "--shard-samples", "8", "--variants", "4", "--json"]);
    args.extend(["--threads", "2"]);
    args.extend(more);
    args.into_iter().map(String::from).collect()
}

/// Bytes that the small files of every run take, at most.
const BESIDE: u64 = 384 << 10;

/// A disk of so many bytes beside those.
fn disk(at: &Path, bytes: u64) -> Option<Mount> {
    Mount::new(at, &format!("size={}k", (bytes + BESIDE) / 1024))
}

/// How many tasks have a folder, `framemill/OUTPUT/WORKER/TASK`, among the temporaries in `place`.
fn open_tasks(place: &Path) -> usize {
    let inside = |folder: &PathBuf| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let outputs = inside(&place.join("framemill"));
    let workers = outputs.iter().flat_map(inside);
    let number = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().parse::<u64>().is_ok());
    workers.flat_map(|worker| inside(&worker)).filter(number).count()
}

fn on(disk: &Path, mut program: Command, args: &[String]) -> Output {
    program.args(args).env("TMPDIR", disk).output().unwrap()
}

#[test]
fn shards_for_a_bucket_wait_for_room_on_the_disk() {
    let Some(s3) = S3::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (folder, place) = (dir.path().join("folder"), dir.path().join("scratch"));
    let into = |name: &str, memory: &str| {
        let out = dir.path().join(name);
        let args = arguments(out.to_str().unwrap(), &["--scratch-limit", "1kB", "--memory", memory]);
        program(0).args(args).output().unwrap()
    };
    let output = into("folder", "1GB");
    assert!(output.status.success(), "in a folder, shards are where they are to stay: {}", errors(&output));
    let waiting = into("waiting", "2MB");
    assert_eq!(waiting.status.code(), Some(74), "samples that wait for their turn are not: {}", errors(&waiting));
    assert!(errors(&waiting).contains("--scratch-limit"), "{}", errors(&waiting));
    let expected = tree(&folder);
    let shards = expected.keys().filter(|name| name.ends_with(".tar"));
    let sizes: Vec<u64> = shards.map(|name| std::fs::metadata(folder.join(name)).unwrap().len()).collect();
    let largest = *sizes.iter().max().unwrap();
    let limit = largest * 3 / 2;
    assert!(sizes.len() > 4 && sizes[..3].iter().sum::<u64>() > limit + BESIDE, "{sizes:?}");
    let port = s3.port;
    let is_shard = |request: &Request| request.method == "PUT" && request.target.contains(".tar");

    // Without a limit more of them pile up than the disk below has room for, when the store is slow enough.
    let plain = dir.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    let (piled, below) = (Arc::new(AtomicUsize::new(0)), plain.clone());
    let most = piled.clone();
    let held = Server::start(move |request| {
        let begun = Instant::now();
        while is_shard(request) && most.load(Ordering::SeqCst) < 3 && begun.elapsed() < Duration::from_secs(25) {
            most.fetch_max(open_tasks(&below), Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
        }
        forward(port, request)
    });
    let without = on(&plain, program(held.port), &arguments("s3://media/without", &[]));
    assert!(without.status.success(), "{}", errors(&without));
    assert!(piled.load(Ordering::SeqCst) >= 3, "{piled:?} were open at once");

    let Some(_disk) = disk(&place, limit) else { return };
    // Shards go up slowly, so that those that are made meanwhile wait.
    let slow = Server::start(move |request| {
        let delay = Duration::from_millis(if is_shard(request) { 300 } else { 0 });
        Answer { delay, ..forward(port, request) }
    });
    let run =
        |name: &str, more: &[&str]| on(&place, program(slow.port), &arguments(&format!("s3://media/{name}"), more));
    let bytes = limit.to_string();
    let within = run("within", &["--scratch-limit", &bytes]);
    assert!(within.status.success(), "{}", errors(&within));
    let told = &report(&within)["budget"]["scratch"];
    assert_eq!(told["limit"], limit);
    let most = told["high_water"].as_u64().unwrap();
    assert!(most >= largest && most <= limit, "{told}");
    assert_eq!(objects(&crate::tools::output(port, "within")), expected, "no byte depends on it");

    // One that cannot fit is an error that says what to do, and the same job goes on with more.
    let small = (largest / 2).to_string();
    let failed = run("small", &["--scratch-limit", &small]);
    assert_eq!(failed.status.code(), Some(74), "{}", errors(&failed));
    let said = errors(&failed);
    for word in ["task ", "--scratch-limit is", place.to_str().unwrap(), "--shard-bytes"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    let out = crate::tools::output(port, "small");
    let there = objects(&out);
    assert!(there.iter().all(|(name, digest)| expected.get(name) == Some(digest)), "nothing torn is visible");
    let done = run("small", &["--scratch-limit", &bytes]);
    assert!(done.status.success(), "{}", errors(&done));
    assert_eq!(objects(&out), expected);
}

#[test]
fn inputs_that_must_be_whole_wait_for_room_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    // A clip with a megabyte and a half behind it that means nothing, so that it is not whole with its first request.
    let mut clip = std::fs::read(fixtures().join("clips/h264.mp4")).unwrap();
    let filling = 1_500_000u32;
    clip.extend(filling.to_be_bytes());
    clip.extend(b"free");
    clip.resize(clip.len() + filling as usize - 8, 0);
    let size = clip.len() as u64;
    // A server that gives no parts, and bodies slowly enough that several are on their way at once.
    let server =
        Server::start(move |_| Answer { body: clip.clone(), delay: Duration::from_millis(100), ..Answer::status(200) });
    let list = dir.path().join("urls.csv");
    let rows: String = (0..8).map(|i| format!("{}/{i}.mp4\n", server.url())).collect();
    std::fs::write(&list, format!("uri\n{rows}")).unwrap();
    let place = dir.path().join("scratch");
    // Lists are written there, too, one after the other.
    let limit = size * 3 / 2;
    let Some(_disk) = disk(&place, limit) else { return };
    let run = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        let mut args = job(&[list.to_str().unwrap()], out.to_str().unwrap(), &["--threads", "4", "--json"]);
        args.extend(more);
        let args: Vec<String> = args.into_iter().map(String::from).collect();
        (on(&place, program(1), &args), out)
    };
    let (without, _) = run("without", &[]);
    assert_eq!(without.status.code(), Some(74), "the disk has not room for four: {}", errors(&without));
    assert!(errors(&without).contains("TMPDIR"), "{}", errors(&without));

    let (within, out) = run("within", &["--scratch-limit", &limit.to_string()]);
    assert!(within.status.success(), "{}", errors(&within));
    let told = report(&within);
    assert_eq!((&told["inputs"]["done"], &told["inputs"]["rejected"]), (&8.into(), &0.into()), "{told}");
    assert!(records(&out).len() >= 8);

    let (small, out) = run("small", &["--scratch-limit", "1MB"]);
    assert_eq!(small.status.code(), Some(3), "no sample came out: {}", errors(&small));
    assert_eq!(report(&small)["inputs"]["rejected"], 8);
    let rejects = framemill(&["rejects", out.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&rejects.stdout).into_owned();
    assert!(text.contains("too_large") && text.contains("--scratch-limit"), "{text}");
}
