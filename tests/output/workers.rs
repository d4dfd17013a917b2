//! Workers that share a job by leases, come, go, die and sleep.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::server::{S3, program};
use crate::support::*;
use crate::tools::*;

/// A job of some seconds and some dozen tasks; `None` where there is no media for it.
fn arguments(out: &str) -> Option<Vec<String>> {
    shared(out, "2s")
}

/// The same with another time of leases.
pub fn shared(out: &str, lease: &str) -> Option<Vec<String>> {
    let media = media()?;
    let (photos, films) = (media.join("image/coco/val2017"), media.join("derived"));
    let inputs = [photos.to_str().unwrap(), films.to_str().unwrap()];
    let more = ["--every", "300ms", "--tasks", "any", "--lease", lease, "--grace", "200ms", "--variants", "2"];
    let mut args: Vec<String> = job(&inputs, out, &more).into_iter().map(String::from).collect();
    args.extend(["--op".into(), "random_flip:h".into(), "--threads".into(), "1".into()]);
    Some(args)
}

pub fn borrowed(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// The tree of one undisturbed worker.
pub fn undisturbed(dir: &Path) -> Option<BTreeMap<String, String>> {
    let whole = dir.join("whole");
    let output = framemill(&borrowed(&arguments(whole.to_str().unwrap())?));
    assert!(output.status.success(), "{}", errors(&output));
    let expected = tree(&whole);
    assert!(expected.len() > 60, "{} files", expected.len());
    Some(expected)
}

/// Without what a process that was killed after the job was finished left.
pub fn visible(mut files: BTreeMap<String, String>) -> BTreeMap<String, String> {
    files.retain(|name, _| !name.contains("/partial/"));
    files
}

pub fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

/// Tasks that a worker's report says it did.
fn did(report: &Path) -> u64 {
    let text = std::fs::read(report).unwrap();
    serde_json::from_slice::<serde_json::Value>(&text).unwrap()["this_run"]["tasks"].as_u64().unwrap()
}

#[test]
fn workers_share_a_job_and_outlive_the_one_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(expected) = undisturbed(dir.path()) else { return };
    let (s3, log) = (S3::start(), dir.path().join("log"));
    let folder = dir.path().join("shared");
    let port = s3.as_ref().map_or(0, |s3| s3.port);
    let places = [Some(folder.to_str().unwrap().to_string()), s3.as_ref().map(|_| "s3://media/shared".to_string())];
    for place in places.into_iter().flatten() {
        let args = arguments(&place).unwrap();
        let start_one = |i: usize| {
            let mut args = args.clone();
            let report = dir.path().join(format!("{i}.json"));
            args.extend(["--report".into(), report.to_str().unwrap().into()]);
            (start(program(port), &borrowed(&args), &log), report)
        };
        let mut workers: Vec<_> = (0..3).map(start_one).collect();
        let out = match place.strip_prefix("s3://media/") {
            Some(prefix) => output(port, prefix),
            None => framemill::store::Output::at(&folder),
        };
        wait_until("some tasks are done", || out.list("_framemill/receipts").unwrap().len() >= 3);
        // Both its processes go, as when a machine does.
        let (mut dead, _) = workers.pop().unwrap();
        children(dead.id()).into_iter().for_each(|pid| signal(pid, "KILL"));
        signal(dead.id(), "KILL");
        dead.wait().unwrap();
        let mut done = 0;
        for (worker, report) in &mut workers {
            assert_eq!(worker.wait().unwrap().code(), Some(0), "{place}: {}", said(&log));
            done += did(report);
        }
        assert!(done > 0);
        assert_eq!(visible(objects(&out)), expected, "{place}");
    }
}

#[test]
fn a_worker_that_wakes_up_late_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(expected) = undisturbed(dir.path()) else { return };
    let out = dir.path().join("out");
    let args = arguments(out.to_str().unwrap()).unwrap();
    let log = dir.path().join("log");
    let mut sleeper = start(crate::support::program(), &borrowed(&args), &log);
    wait_until("it has a lease", || std::fs::read_dir(out.join("_framemill/leases")).is_ok_and(|l| l.count() > 0));
    let engines = children(sleeper.id());
    engines.iter().for_each(|pid| signal(*pid, "STOP"));
    signal(sleeper.id(), "STOP");
    let other = Command::new(env!("CARGO_BIN_EXE_framemill"))
        .env("FRAMEMILL_PROGRESS", "none")
        .args(borrowed(&args))
        .output()
        .unwrap();
    assert!(other.status.success(), "{}", errors(&other));
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(out.join(name)).unwrap().ino()
    };
    let shards: Vec<(String, u64)> =
        expected.keys().filter(|n| n.contains("shard-")).map(|n| (n.clone(), inode(n))).collect();
    // On another machine, whoever finishes the job sweeps what this one has begun.
    let _ = std::fs::remove_dir_all(out.join("_framemill/partial"));
    signal(sleeper.id(), "CONT");
    engines.iter().for_each(|pid| signal(*pid, "CONT"));
    assert_eq!(sleeper.wait().unwrap().code(), Some(0), "{}", said(&log));
    assert_eq!(visible(tree(&out)), expected);
    shards.iter().for_each(|(name, before)| assert_eq!(inode(name), *before, "{name} was written again"));
}

#[test]
fn kills_and_a_bad_store_at_random_end_as_an_undisturbed_run() {
    let dir = tempfile::tempdir().unwrap();
    let Some(expected) = undisturbed(dir.path()) else { return };
    let seed = std::env::var("FRAMEMILL_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1u64);
    // The rounds mostly wait, so many of them go in two lanes, each with a store of its own.
    let (lanes, rounds) = if full() { (2, 100) } else { (1, 3) };
    let hit: Option<usize> = std::thread::scope(|scope| {
        let (dir, expected) = (dir.path(), &expected);
        let begin = |lane| scope.spawn(move || disturbed(dir, expected, rounds, (seed, lane)));
        let lanes: Vec<_> = (0..lanes).map(begin).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    let Some(hit) = hit else { return };
    println!("{hit} workers were ended early");
    assert!(hit > 0);
}

/// Rounds of two workers that are ended at random over a bad store, each compared with the undisturbed run; how many workers
/// were ended early, `None` where there is no store.
fn disturbed(
    dir: &Path,
    expected: &BTreeMap<String, String>,
    rounds: usize,
    (seed, lane): (u64, u64),
) -> Option<usize> {
    let s3 = S3::start()?;
    let (mut random, mut hit) = (Random(seed + (lane << 32)), 0);
    for round in 0..rounds {
        let round = format!("{lane}-{round}");
        println!("round {round} of seed {seed}");
        let bad = spoiling(s3.port, random.below(1 << 40), 60);
        let prefix = format!("random-{round}");
        let args = arguments(&format!("s3://media/{prefix}")).unwrap();
        let log = dir.join(format!("{round}.log"));
        let begin = || start(program(bad.port), &borrowed(&args), &log);
        let mut workers: Vec<_> = (0..2).map(|_| begin()).collect();
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(200 + random.below(1500)));
            let i = random.below(workers.len() as u64) as usize;
            let worker = &mut workers[i];
            match (random.below(3), children(worker.id()).first()) {
                (0, Some(engine)) => signal(*engine, "KILL"),
                (1, _) => signal(worker.id(), "TERM"),
                (_, engine) => {
                    engine.into_iter().for_each(|pid| signal(*pid, "KILL"));
                    signal(worker.id(), "KILL");
                }
            }
            if let Ok(Some(status)) = worker.try_wait() {
                hit += usize::from(!status.success());
                assert!(matches!(status.code(), None | Some(0 | 75)), "{status}: {}", said(&log));
                workers[i] = begin();
            }
        }
        for worker in &mut workers {
            let status = worker.wait().unwrap();
            hit += usize::from(!status.success());
            assert!(matches!(status.code(), None | Some(0 | 75)), "{status}: {}", said(&log));
        }
        let last = program(s3.port).args(borrowed(&args)).output().unwrap();
        assert!(last.status.success(), "{}", errors(&last));
        let uri = format!("s3://media/{prefix}");
        let verified = program(s3.port).args(["verify", &uri]).output().unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        assert_eq!(objects(&output(s3.port, &prefix)), *expected, "round {round} of seed {seed}");
    }
    Some(hit)
}
