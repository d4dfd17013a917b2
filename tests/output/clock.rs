//! Clocks that jump by days in the middle of a run: nobody's lease is lost, nothing waits for it, no number is absurd.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::server::{S3, program};
use crate::support::*;
use crate::tools::*;
use crate::workers::{borrowed, children, shared, undisturbed, visible};

const DAY: i64 = 86_400;

/// The library that shifts clocks; says that the test is skipped where it cannot be made.
fn library(dir: &Path) -> Option<PathBuf> {
    let (source, made) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/output/clock.c"), dir.join("clock.so"));
    match Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&made, &source]).output() {
        Ok(output) if output.status.success() => Some(made),
        Ok(output) => panic!("{}", errors(&output)),
        Err(e) => {
            println!("skipped: there is no C compiler (cc) to make a clock that jumps: {e}");
            None
        }
    }
}

/// The time of day of some processes.
struct Clock {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl Clock {
    fn new(library: &Path, path: PathBuf) -> Clock {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        let clock = Clock { library: library.into(), path, file };
        clock.set(0);
        clock
    }

    /// Shifts it by so many days from the true time.
    fn set(&self, days: i64) {
        self.file.write_all_at(&(days * DAY).to_ne_bytes(), 0).unwrap();
    }

    /// `command` under this clock.
    fn of(&self, mut command: Command) -> Command {
        command.env("LD_PRELOAD", &self.library).env("SHIFTED_CLOCK", &self.path);
        command
    }
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// Days by which the last beat of a heart is off the true time.
fn off(heart: &Path) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    ((read(heart)["updated"].as_f64().unwrap() - now) / DAY as f64).round() as i64
}

/// Every number of seconds in a report lies between nothing and all that can have been spent; how many there are.
fn sane(what: &Value, most: f64) -> usize {
    match what {
        Value::Number(n) => {
            let n = n.as_f64().unwrap();
            assert!((0.0..=most).contains(&n), "{n} seconds of {most}");
            1
        }
        Value::Object(of) => of.values().map(|v| sane(v, most)).sum(),
        Value::Array(of) => of.iter().map(|v| sane(v, most)).sum(),
        _ => 0,
    }
}

/// Threads of a run at most, whose seconds are added.
const THREADS: f64 = 32.0;

struct Worker {
    process: Child,
    clock: Clock,
    report: PathBuf,
    heart: PathBuf,
}

impl Worker {
    fn start(program: Command, args: &[String], library: &Path, dir: &Path, name: &str) -> Worker {
        let at = |ending: &str| dir.join(format!("{name}.{ending}"));
        let (clock, report, heart) = (Clock::new(library, at("clock")), at("json"), at("heart"));
        let mut args = args.to_vec();
        args.extend(["--report".into(), report.to_str().unwrap().into()]);
        args.extend(["--heartbeat".into(), heart.to_str().unwrap().into()]);
        let process = start(clock.of(program), &borrowed(&args), &at("log"));
        Worker { process, clock, report, heart }
    }
}

#[test]
fn workers_whose_clocks_jump_lose_no_lease_and_do_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = library(dir.path()) else { return };
    let Some(expected) = undisturbed(dir.path()) else { return };
    let (s3, folder) = (S3::start(), dir.path().join("shared"));
    let port = s3.as_ref().map_or(0, |s3| s3.port);
    let places = [Some(folder.to_str().unwrap().to_string()), s3.as_ref().map(|_| "s3://media/shared".to_string())];
    for (round, place) in places.into_iter().flatten().enumerate() {
        let out = match place.strip_prefix("s3://media/") {
            Some(prefix) => output(port, prefix),
            None => framemill::store::Output::at(&folder),
        };
        let begun = Instant::now();
        // Longer than the test, so that whoever loses a lease lost it for his clock's sake, or another's.
        let args = shared(&place, "10m").unwrap();
        let begin = |name: &str| Worker::start(program(port), &args, &library, dir.path(), &format!("{round}-{name}"));
        let mut workers = ["forwards", "backwards", "true"].map(begin);
        let mut stolen = Vec::new();
        let mut look = || {
            // What is done has no lease any more, so it is looked again and again, to the end.
            stolen.extend(out.list("_framemill/leases").unwrap().into_iter().filter(|l| !l.ends_with("-0000.json")));
        };
        for (tasks, [one, other]) in [(2, [3, -2]), (5, [-400, 10]), (9, [1, -1])] {
            wait_until("tasks are done", || {
                look();
                out.list("_framemill/receipts").unwrap().len() >= tasks
            });
            workers[0].clock.set(one);
            workers[1].clock.set(other);
        }
        wait_until("all have ended", || {
            look();
            workers.iter_mut().all(|worker| worker.process.try_wait().unwrap().is_some())
        });
        let (mut made, mut whole) = (0, 0);
        for worker in &mut workers {
            let status = worker.process.wait().unwrap();
            assert_eq!(status.code(), Some(0), "{place}: {}", said(&worker.heart.with_extension("log")));
            let report = read(&worker.report);
            made += report["this_run"]["samples"].as_u64().unwrap();
            whole = whole.max(report["samples"].as_u64().unwrap());
            assert!(sane(&report["seconds"], begun.elapsed().as_secs_f64() * THREADS) > 5, "{report}");
        }
        // What the clocks said did reach the programs.
        assert_eq!(workers.each_ref().map(|worker| off(&worker.heart)), [1, -1, 0]);
        assert_eq!(stolen, [""; 0], "{place}");
        assert!(whole > 0 && made == whole, "{place}: {made} of {whole} samples, by their own reports");
        assert_eq!(visible(objects(&out)), expected, "{place}");
        let verified = program(port).args(["verify", &place]).output().unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    }
}

#[test]
fn a_run_whose_clock_jumps_is_told_in_its_true_times() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = library(dir.path()) else { return };
    let Some(expected) = undisturbed(dir.path()) else { return };
    let (out, trace) = (dir.path().join("out"), dir.path().join("trace.json"));
    let text = out.to_str().unwrap();
    let begun = Instant::now();
    let mut args = shared(text, "10m").unwrap();
    // By itself: nobody shares the tasks.
    args.retain(|a| !["--tasks", "any", "--lease", "10m"].contains(&a.as_str()));
    args.extend(["--trace".into(), trace.to_str().unwrap().into()]);
    let mut run = Worker::start(program(0), &args, &library, dir.path(), "one");
    let receipts = |tasks: usize| {
        let there = || std::fs::read_dir(out.join("_framemill/receipts")).map_or(0, Iterator::count);
        wait_until("tasks are done", || there() >= tasks);
    };
    receipts(2);
    run.clock.set(3);
    receipts(4);
    // The next engine begins under another clock than its supervisor did.
    children(run.process.id()).into_iter().for_each(|pid| signal(pid, "KILL"));
    receipts(8);
    run.clock.set(-5);
    receipts(10);
    run.clock.set(8);
    assert_eq!(run.process.wait().unwrap().code(), Some(0), "{}", said(&dir.path().join("one.log")));
    let most = begun.elapsed().as_secs_f64();
    assert_eq!(off(&run.heart), 8, "what the clock said did not reach the program");
    assert!(read(&run.heart)["seconds"].as_f64().unwrap() <= most);
    assert!(sane(&read(&run.report)["seconds"], most * THREADS) > 5);
    assert_eq!(visible(tree(&out)), expected);

    let trace = read(&trace);
    let events = trace["traceEvents"].as_array().unwrap();
    let ends = events.iter().filter_map(|e| Some(e["ts"].as_f64()? + e["dur"].as_f64().unwrap_or(0.0)));
    let last = ends.fold(0.0, f64::max) / 1e6;
    assert!(last > 0.0 && last <= most, "the timeline ends after {last} s of {most}");
    assert!(events.iter().any(|e| e["ph"] == "X" && e["pid"] == 2), "a second engine worked");

    // The newest report is the last, although the clock was set back.
    run.clock.set(-30);
    let again = run.clock.of(program(0)).args(borrowed(&args)).output().unwrap();
    assert!(again.status.success(), "{}", errors(&again));
    let told = run.clock.of(program(0)).args(["status", text, "--json"]).output().unwrap();
    assert_eq!(report(&told)["last_report"]["this_run"]["tasks"], 0, "{}", String::from_utf8_lossy(&told.stdout));
}
