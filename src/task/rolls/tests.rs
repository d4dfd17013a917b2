use super::*;
use crate::job::JobFile;
use crate::plan::{Plan, examples};
use crate::store::Object;
use crate::task::Totals;

/// A plan of so many photos, each of which is a task.
pub(crate) fn plan(tasks: u64) -> Plan {
    examples::photos(JobFile::default(), 1, 0, tasks).unfrozen().unwrap()
}

/// A receipt as a run writes them.
pub(crate) fn receipt(task: u64) -> Receipt {
    let object = |ending: &str| Object {
        path: format!("shard-{task:06}.{ending}"),
        bytes: 1000 + task,
        sha256: digest(&task.to_le_bytes()),
    };
    let objects = vec![object("parquet"), object("tar")];
    let frames = super::super::Frames { packets: 1, decoded: 1, sampled: 1, ..Default::default() };
    Receipt { task, generation: 1, objects, samples: 1 + task % 3, inputs: 1, frames, ..Receipt::default() }
}

/// All that is told of a job.
fn told(totals: &Totals) -> (serde_json::Value, &Vec<Receipt>, &Vec<(u64, super::super::Reject)>) {
    (serde_json::to_value(totals).unwrap(), &totals.receipts, &totals.rejects)
}

/// Totals by the receipts themselves.
fn single(ledger: &Ledger, plans: &[Plan]) -> Totals {
    let tasks: Vec<u64> = plans.iter().flat_map(Plan::tasks).collect();
    Totals::of(ledger, plans, ledger.receipts(&tasks).unwrap()).unwrap()
}

/// A job of `tasks` whose workers have done all but those of which `open` says so; every third of them has died before its
/// last roll. How many rolls there are.
fn worked(ledger: &Ledger, tasks: u64, workers: u64, open: &dyn Fn(u64) -> bool) -> usize {
    let name = |worker: u64| format!("host-{worker}");
    let all: Vec<Roll> = (0..workers).map(|worker| Roll::new(ledger.out(), &name(worker))).collect();
    for task in (0..tasks).filter(|task| !open(*task)) {
        let mut receipt = receipt(task);
        if task % 100 == 7 {
            let reject = super::super::Reject {
                uri: format!("/{task}.jpg"),
                place: format!("/{task}.jpg"),
                kind: crate::error::RejectKind::Corrupt,
                message: "broken".into(),
                asset: format!("{task:016x}"),
                from_pts: None,
            };
            (receipt.samples, receipt.rejected) = (0, 1);
            ledger.decide(task, &[reject]).unwrap();
        }
        assert!(ledger.commit(&receipt).unwrap());
        all[(task * 31 % workers) as usize].add(&receipt).unwrap();
    }
    all.iter().enumerate().filter(|(i, _)| i % 3 != 0).for_each(|(_, roll)| roll.end().unwrap());
    ledger.out().list(ROLLS).unwrap().len()
}

#[test]
fn a_small_job_has_no_rolls() {
    let dir = tempfile::tempdir().unwrap();
    let out = Output::at(dir.path());
    let (ledger, plans) = (Ledger::new(&out), [plan(SMALL)]);
    plans[0].tasks().for_each(|task| assert!(ledger.commit(&receipt(task)).unwrap()));
    let totals = Totals::read(&ledger, &plans).unwrap();
    assert_eq!(told(&totals), told(&single(&ledger, &plans)));
    finish(&out, &totals.receipts, &totals.rolls).unwrap();
    assert_eq!(out.list("_framemill").unwrap(), ["receipts/"]);
}

#[test]
fn what_two_rolls_tell_differently_or_one_has_lost_is_read_from_the_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let out = Output::at(dir.path());
    let (ledger, plans) = (Ledger::new(&out), [plan(200)]);
    assert_eq!(worked(&ledger, 200, 1, &|task| task == 150), 1);
    let totals = || Totals::read(&ledger, &plans).unwrap();
    let told_now = || serde_json::to_value(totals()).unwrap();
    let truth = single(&ledger, &plans);
    assert_eq!((told(&totals()), truth.done), (told(&truth), 199));
    assert!(faults(&out, &truth.receipts).unwrap().is_empty());

    // A roll alone makes nothing done.
    let ahead = format!("{ROLLS}/ahead.jsonl");
    out.replace(&ahead, line(&receipt(150)).unwrap().as_bytes()).unwrap();
    assert_eq!(told(&totals()), told(&truth));
    assert!(faults(&out, &truth.receipts).unwrap().is_empty());

    // Told otherwise than by another: the receipt decides.
    let lie = Receipt { samples: 1000, ..receipt(20) };
    out.replace(&ahead, line(&lie).unwrap().as_bytes()).unwrap();
    assert_eq!(told(&totals()), told(&truth));
    let found = faults(&out, &truth.receipts).unwrap();
    assert!(found.len() == 1 && found[0].contains("ahead.jsonl: task 20 is not as"), "{found:?}");

    // The control: a lie that nobody contradicts is believed, until verify reads receipts.
    let first = format!("{ROLLS}/{}", out.list(ROLLS).unwrap().iter().find(|name| name.starts_with("host")).unwrap());
    let text = String::from_utf8(out.read(&first).unwrap().unwrap()).unwrap();
    out.remove(&ahead).unwrap();
    out.replace(&first, text.replacen("\"samples\":2", "\"samples\":3", 2).as_bytes()).unwrap();
    assert_ne!(told_now(), serde_json::to_value(&truth).unwrap());
    let found = faults(&out, &truth.receipts).unwrap();
    assert!(found.len() == 1 && found[0].contains(&first) && found[0].contains("1 others are not"), "{found:?}");

    // Damaged ones are passed over.
    out.replace(&first, &text.as_bytes()[..text.len() - 9]).unwrap();
    assert_eq!(told(&totals()), told(&truth));
    let found = faults(&out, &truth.receipts).unwrap();
    assert!(found.len() == 1 && found[0].contains("damaged") && found[0].contains("only a copy"), "{found:?}");
}

#[cfg(feature = "cloud")]
mod bucket {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use object_store::memory::InMemory;

    use super::*;
    use crate::store::gated::{Gate, Gated};

    fn full() -> bool {
        std::env::var("FRAMEMILL_TEST_FULL").is_ok_and(|v| v == "1")
    }

    /// A bucket in memory, a view of it that counts its requests, and that count.
    fn counted(dir: &std::path::Path) -> (Arc<InMemory>, Output, Arc<AtomicU64>) {
        let (bucket, count) = (Arc::new(InMemory::new()), Arc::new(AtomicU64::new(0)));
        let counter = count.clone();
        let gate: Box<Gate> = Box::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            true
        });
        let out = Output::gated(Gated::new(&bucket, gate), dir);
        (bucket, out, count)
    }

    fn rolls(out: &Output) -> Vec<(String, Vec<u8>)> {
        let names = out.list(ROLLS).unwrap();
        names.into_iter().map(|name| (name.clone(), out.read(&format!("{ROLLS}/{name}")).unwrap().unwrap())).collect()
    }

    #[test]
    fn a_large_job_is_read_in_few_requests_while_it_goes_on_and_when_it_is_finished() {
        let (tasks, workers) = if full() { (100_000, 64) } else { (3000, 8) };
        let dir = tempfile::tempdir().unwrap();
        let (bucket, out, count) = counted(dir.path());
        let (ledger, plans) = (Ledger::new(&out), [plan(tasks)]);
        let open = |task| task % 10 == 3;
        let there = worked(&ledger, tasks, workers, &open) as u64;
        let requests = |work: &mut dyn FnMut()| {
            let before = count.load(Ordering::Relaxed);
            work();
            count.load(Ordering::Relaxed) - before
        };
        let (mut truth, mut totals) = (Totals::default(), Totals::default());
        let apart = requests(&mut || truth = single(&ledger, &plans));
        let together = requests(&mut || totals = Totals::read(&ledger, &plans).unwrap());
        assert_eq!(told(&totals), told(&truth));
        assert_eq!((totals.done, totals.rejected), (tasks * 9 / 10, tasks / 100));
        // Listings, rolls, what the dead had not written yet, and decisions.
        let most = tasks / 1000 + 10 + there + workers.div_ceil(3) * (STEP as u64 - 1) + tasks / 100;
        println!("{tasks} tasks: {together} requests with {there} rolls, {apart} without any");
        assert!(together <= most && most * 5 < apart, "{together} requests, {most} at most, {apart} without rolls");

        // The rest is done by another one.
        let last = Roll::new(&out, "last");
        for task in (0..tasks).filter(|task| open(*task)) {
            ledger.commit(&receipt(task)).unwrap();
            last.add(&receipt(task)).unwrap();
        }
        totals = Totals::read(&ledger, &plans).unwrap();
        finish(&out, &totals.receipts, &totals.rolls).unwrap();
        let left = rolls(&out);
        assert_eq!(left.len() as u64, tasks.div_ceil(PART));
        let done = requests(&mut || totals = Totals::read(&ledger, &plans).unwrap());
        assert_eq!(told(&totals), told(&single(&ledger, &plans)));
        let most = tasks / 1000 + 10 + tasks.div_ceil(PART) + tasks / 100;
        assert!(done <= most, "{done} requests when finished, {most} at most");
        let again = requests(&mut || finish(&out, &totals.receipts, &totals.rolls).unwrap());
        assert_eq!((again, rolls(&out) == left), (1, true), "nothing is written where all is right");

        // A worker that wakes up behind that writes what it still had.
        last.add(&receipt(tasks - 1)).unwrap();
        last.end().unwrap();
        assert_eq!(rolls(&out).len(), left.len() + 1);
        totals = Totals::read(&ledger, &plans).unwrap();
        assert_eq!((totals.done, faults(&out, &totals.receipts).unwrap().len()), (tasks, 0));
        // Who finishes after it, even with a view of its own that knows of no rolls, leaves the same.
        finish(&out, &single(&ledger, &plans).receipts, &Rolls::new()).unwrap();
        assert!(rolls(&out) == left);

        let far = Gated::new(&bucket, Box::new(|_| true)).slow(Duration::from_millis(20));
        let far = Ledger::new(&Output::gated(far, dir.path()));
        let begun = Instant::now();
        totals = Totals::read(&far, &plans).unwrap();
        println!("{tasks} tasks: totals in {:.2?} where a request takes 20 ms", begun.elapsed());
        assert!(totals.finished());
    }

    #[test]
    fn rolls_that_go_while_they_are_read_are_found_where_they_went() {
        let dir = tempfile::tempdir().unwrap();
        let (bucket, out, _) = counted(dir.path());
        let (ledger, plans) = (Ledger::new(&out), [plan(1500)]);
        assert!(worked(&ledger, 1500, 3, &|_| false) >= 3);
        let truth = single(&ledger, &plans);
        // The first roll is asked for when another worker has just finished the job.
        let (gets, others) = (Arc::new(AtomicU64::new(0)), (out.clone(), truth.receipts.clone()));
        let counter = gets.clone();
        let gate: Box<Gate> = Box::new(move |request| {
            if request == "get" && counter.fetch_add(1, Ordering::Relaxed) == 0 {
                let (out, receipts) = others.clone();
                std::thread::spawn(move || finish(&out, &receipts, &Rolls::new()).unwrap()).join().unwrap();
            }
            true
        });
        let view = Ledger::new(&Output::gated(Gated::new(&bucket, gate), dir.path()));
        let totals = Totals::read(&view, &plans).unwrap();
        assert_eq!(told(&totals), told(&truth));
        assert!(gets.load(Ordering::Relaxed) < 100, "{gets:?} requests");
        assert_eq!(rolls(&out).len(), 2);
    }
}
