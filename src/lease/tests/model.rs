//! The commit and the leases under schedules of requests: real code over a bucket in memory, whose every request waits for
//! its turn, or finds its process dead.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use object_store::memory::InMemory;
use sha2::{Digest, Sha256};

use super::super::*;
use crate::error::RejectKind;
use crate::store::gated::Gated;
use crate::store::{Object, hex};
use crate::task::rolls::{self, Roll};
use crate::task::{Receipt, Reject, Settled, Shard, Totals};

const NAME: &str = "shard-000000.tar";

/// What a worker does with its task: a shard whose bytes follow from what is left out.
struct Work {
    out: Output,
    folder: std::path::PathBuf,
    objects: Vec<Object>,
}

impl Work {
    fn new(out: &Output, folder: &std::path::Path, rejects: &[Reject]) -> Work {
        let content = content(rejects);
        std::fs::write(folder.join("part"), &content).unwrap();
        let object = Object { path: NAME.into(), bytes: content.len() as u64, sha256: hex(&Sha256::digest(&content)) };
        Work { out: out.clone(), folder: folder.into(), objects: vec![object] }
    }
}

impl Shard for Work {
    fn objects(&self) -> &[Object] {
        &self.objects
    }
    fn publish(self) -> Result<()> {
        self.out.publish(&self.folder.join("part"), &self.objects[0], &crate::store::receipt_name(0))
    }
    fn abort(self) -> Result<()> {
        Ok(())
    }
}

fn content(rejects: &[Reject]) -> Vec<u8> {
    format!("all but {:?}", rejects.iter().map(|r| &r.asset).collect::<Vec<_>>()).into_bytes()
}

fn reject(asset: &str) -> Reject {
    Reject {
        uri: asset.into(),
        place: asset.into(),
        kind: RejectKind::Io,
        message: String::new(),
        asset: asset.into(),
        from_pts: None,
    }
}

fn receipt() -> Receipt {
    Receipt { generation: 1, samples: 1, inputs: 1, ..Receipt::default() }
}

/// What a worker runs: as the pipeline does it, or wrongly.
#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Right,
    /// Publishes without a decision: the mistake that the model must find.
    Undecided,
}

/// Does the task until it is settled. This worker finds `bad` inputs, unless it was decided before.
fn work(out: &Output, folder: &std::path::Path, bad: &[Reject], protocol: Protocol) -> Result<()> {
    let ledger = Ledger::new(out);
    loop {
        if ledger.receipt(0)?.is_some() {
            return Ok(());
        }
        let rejects = ledger.decision(0)?.unwrap_or_else(|| bad.to_vec());
        let work = Work::new(out, folder, &rejects);
        if protocol == Protocol::Undecided {
            let mut receipt = receipt();
            receipt.objects = work.objects.clone();
            work.publish()?;
            ledger.commit(&receipt)?;
            return ledger.decide(0, &rejects).map(|_| ());
        }
        match ledger.settle(work, &rejects, &mut receipt())? {
            Settled::Otherwise => {}
            Settled::Now | Settled::Before => return Ok(()),
        }
    }
}

/// Whose turn it is.
#[derive(Default)]
struct Turns {
    /// Workers that wait before a request, and those that have ended.
    waiting: Vec<bool>,
    ended: Vec<bool>,
    /// Who may go on, and whether it dies instead.
    granted: Option<(usize, bool)>,
}

#[derive(Default)]
struct Schedule(Mutex<Turns>, Condvar);

impl Schedule {
    /// A request of `worker`: waits for its turn; false where it is dead.
    fn turn(&self, worker: usize) -> bool {
        let mut turns = self.0.lock().unwrap();
        turns.waiting[worker] = true;
        self.1.notify_all();
        loop {
            match turns.granted {
                Some((who, dies)) if who == worker => {
                    (turns.granted, turns.waiting[worker]) = (None, false);
                    return !dies;
                }
                _ => turns = self.1.wait(turns).unwrap(),
            }
        }
    }

    fn end(&self, worker: usize) {
        self.0.lock().unwrap().ended[worker] = true;
        self.1.notify_all();
    }

    /// Waits until nobody runs, and gives those who wait.
    fn ready(&self) -> Vec<usize> {
        let mut turns = self.0.lock().unwrap();
        while turns.granted.is_some() || !(0..turns.ended.len()).all(|i| turns.ended[i] || turns.waiting[i]) {
            turns = self.1.wait(turns).unwrap();
        }
        (0..turns.ended.len()).filter(|i| !turns.ended[*i]).collect()
    }

    fn grant(&self, worker: usize, dies: bool) {
        self.0.lock().unwrap().granted = Some((worker, dies));
        self.1.notify_all();
    }
}

/// One run of all workers, in a bucket where objects of more than `one_put` bytes are copied, under the choices that `choose` makes among so many; says what was wrong.
fn run(protocol: Protocol, one_put: u64, choose: &mut dyn FnMut(usize) -> usize) -> std::result::Result<(), String> {
    let bads = [vec![], vec![reject("x")]];
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(InMemory::new());
    let schedule = Schedule::default();
    *schedule.0.lock().unwrap() =
        Turns { waiting: vec![false; bads.len()], ended: vec![false; bads.len()], granted: None };
    let schedule = Arc::new(schedule);
    let view = |gate: Box<crate::store::gated::Gate>| {
        Output::over(Arc::new(Gated::new(&bucket, gate)), "job", one_put, dir.path())
    };
    let plain = view(Box::new(|_| true));
    let mut wrong = None;
    let mut results: Vec<(Result<()>, bool)> = Vec::new();
    std::thread::scope(|scope| {
        let handles: Vec<_> = bads
            .iter()
            .enumerate()
            .map(|(i, bad)| {
                let folder = dir.path().join(i.to_string());
                std::fs::create_dir(&folder).unwrap();
                let dead = Arc::new(AtomicUsize::new(0));
                let (turns, gone) = (schedule.clone(), dead.clone());
                // The dead ask for nothing any more.
                let out = view(Box::new(move |_| {
                    if gone.load(Ordering::Relaxed) == 0 && !turns.turn(i) {
                        gone.store(1, Ordering::Relaxed);
                    }
                    gone.load(Ordering::Relaxed) == 0
                }));
                let schedule = schedule.clone();
                scope.spawn(move || {
                    let result = work(&out, &folder, bad, protocol);
                    schedule.end(i);
                    (result, dead.load(Ordering::Relaxed) == 1)
                })
            })
            .collect();
        let (mut committed, mut deaths) = (None, 0);
        loop {
            let ready = schedule.ready();
            // What has a receipt stays.
            let shard = plain.read(NAME).unwrap();
            match &committed {
                None if plain.read(&crate::store::receipt_name(0)).unwrap().is_some() => committed = Some(shard),
                Some(then) if *then != shard => wrong = Some("a committed shard was changed".to_string()),
                _ => {}
            }
            if ready.is_empty() {
                break;
            }
            // One of them dies at most, so that the other's end is seen.
            let kinds = if deaths == 0 { 2 } else { 1 };
            let choice = choose(ready.len() * kinds);
            let dies = choice >= ready.len();
            deaths += usize::from(dies);
            schedule.grant(ready[choice % ready.len()], dies);
        }
        results = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
    });
    if let Some((Err(e), _)) = results.iter().find(|(result, dead)| result.is_err() && !dead) {
        return Err(format!("a living worker failed: {e}"));
    }
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    // Whoever comes later finds it done, or does it.
    let folder = dir.path().join("later");
    std::fs::create_dir(&folder).unwrap();
    work(&plain, &folder, &[reject("y")], protocol).map_err(|e| format!("who came later failed: {e}"))?;
    let ledger = Ledger::new(&plain);
    let (decision, receipt) = (ledger.decision(0).unwrap(), ledger.receipt(0).unwrap());
    let (Some(decision), Some(receipt)) = (decision, receipt) else { return Err("nothing was settled".into()) };
    let expected = content(&decision);
    if plain.read(NAME).unwrap().as_ref() != Some(&expected) {
        return Err(format!("the shard is not what was decided: {decision:?}"));
    }
    if receipt.objects[0].sha256 != hex(&Sha256::digest(&expected)) {
        return Err("the receipt names another shard".into());
    }
    Ok(())
}

/// Runs every schedule, or `most` random ones; how many there were, and what was wrong in how many.
fn explore(protocol: Protocol, one_put: u64, most: Option<u64>) -> (u64, BTreeMap<String, u64>) {
    let (mut runs, mut wrong) = (0u64, BTreeMap::new());
    let mut path: Vec<(usize, usize)> = Vec::new();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    loop {
        let mut depth = 0;
        let outcome = run(protocol, one_put, &mut |n| {
            if most.is_some() {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                return (random % n as u64) as usize;
            }
            if depth == path.len() {
                path.push((0, n));
            }
            depth += 1;
            path[depth - 1].0
        });
        runs += 1;
        if let Err(what) = outcome {
            *wrong.entry(what).or_insert(0) += 1;
        }
        if most.is_some_and(|most| runs >= most) {
            return (runs, wrong);
        }
        // The next path in order: the last choice that has another one after it.
        while path.last().is_some_and(|(choice, n)| choice + 1 == *n) {
            path.pop();
        }
        match path.last_mut() {
            Some((choice, _)) => *choice += 1,
            None if most.is_none() => return (runs, wrong),
            None => {}
        }
    }
}

fn full() -> bool {
    std::env::var("FRAMEMILL_TEST_FULL").is_ok_and(|v| v == "1")
}

#[test]
fn commits_hold_under_every_schedule_and_death() {
    // Of a shard in one piece there are some ten thousand; of one in parts far too many to try them all.
    for (one_put, most) in [(u64::MAX, None), (0, Some(20_000))] {
        let (runs, wrong) = explore(Protocol::Right, one_put, if full() { most } else { Some(1500) });
        println!("{runs} schedules with one PUT up to {one_put} bytes");
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn the_model_finds_a_protocol_without_decisions() {
    let (_, wrong) = explore(Protocol::Undecided, u64::MAX, Some(300));
    assert!(!wrong.is_empty());
}

/// Many workers share many tasks in simulated time; some die, some come, requests take time.
#[test]
fn shared_work_is_seldom_done_twice_and_costs_few_requests() {
    let (workers, tasks) = if full() { (64, 100_000) } else { (16, 3_000) };
    let dir = tempfile::tempdir().unwrap();
    let bucket = Arc::new(InMemory::new());
    let requests = Arc::new(AtomicU64::new(0));
    let kinds = Arc::new(Mutex::new(BTreeMap::<&'static str, u64>::new()));
    let (counted, sorted) = (requests.clone(), kinds.clone());
    let gate = Box::new(move |kind: &'static str| {
        counted.fetch_add(1, Ordering::Relaxed);
        *sorted.lock().unwrap().entry(kind).or_default() += 1;
        true
    });
    let out = Output::gated(Gated::new(&bucket, gate), dir.path());
    let (ledger, plans) = (Ledger::new(&out), [rolls::tests::plan(tasks)]);
    let term = Duration::from_secs(60);
    let mut random = 12345u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % n
    };
    /// A worker, and the task that it has.
    struct Worker {
        leases: Leases,
        roll: Roll,
        task: Option<u64>,
        renewed: u64,
    }
    let mut named = 0;
    let mut join = || {
        named += 1;
        let name = format!("w{named}");
        // What is done is listed by the process that supervises, and by the one that works.
        let before = requests.load(Ordering::Relaxed);
        let done = ledger.done(0..tasks).unwrap();
        requests.fetch_add(requests.load(Ordering::Relaxed) - before, Ordering::Relaxed);
        let leases = Leases::join(&ledger, &name, term, (0..tasks).filter(|task| !done.contains(task))).unwrap();
        Worker { leases, roll: Roll::new(&out, &name), task: None, renewed: 0 }
    };
    // What happens next, by time in milliseconds: which worker's turn it is.
    let mut all: Vec<Option<Worker>> = (0..workers).map(|_| Some(join())).collect();
    let mut events: std::collections::BTreeSet<(u64, usize)> = (0..workers).map(|i| (i as u64 * 37, i)).collect();
    let (mut begun, mut deaths, mut lost) = (0u64, 0, 0u64);
    while let Some((now, i)) = events.pop_first() {
        let Some(worker) = &mut all[i] else { continue };
        // Every thousandth time a worker dies, with its task; another one comes for it.
        if below(1000) == 0 {
            deaths += 1;
            lost += u64::from(worker.task.is_some());
            all[i] = Some(join());
            events.insert((now + 1000, i));
            continue;
        }
        if now - worker.renewed > worker.leases.pace().as_millis() as u64 {
            worker.leases.renew().unwrap();
            worker.renewed = now;
        }
        if let Some(task) = worker.task.take() {
            // The rest of a commit: the decision, the shard, its table.
            requests.fetch_add(3, Ordering::Relaxed);
            let receipt = rolls::tests::receipt(task);
            if ledger.commit(&receipt).unwrap() {
                worker.roll.add(&receipt).unwrap();
            }
            worker.leases.done(task);
        }
        match worker.leases.take_at(Duration::from_millis(now)).unwrap() {
            taken @ (Take::Fresh(task) | Take::Left(task)) => {
                // What was left may have been decided.
                requests.fetch_add(u64::from(taken == Take::Left(task)), Ordering::Relaxed);
                begun += 1;
                worker.task = Some(task);
                // Five to fifteen seconds a task, and now and then a store that hangs for a minute.
                let slow = if below(500) == 0 { 60_000 } else { 0 };
                events.insert((now + 5_000 + below(10_000) + slow, i));
            }
            Take::Wait => drop(events.insert((now + worker.leases.patience().as_millis() as u64, i))),
            Take::Nothing => {
                worker.roll.end().unwrap();
                all[i] = None;
            }
        }
    }
    let shared = requests.load(Ordering::Relaxed);
    println!("while they share, without the decision, the shard and its table: {:?}", kinds.lock().unwrap());
    // At the worst all end at the same time: each reads what all rolls hold, and finishes.
    let totals = Totals::read(&ledger, &plans).unwrap();
    assert!(totals.finished(), "{} of {tasks} are done", totals.done);
    let read = requests.load(Ordering::Relaxed) - shared;
    rolls::finish(&out, &totals.receipts, &totals.rolls).unwrap();
    sweep(&out).unwrap();
    let finished = requests.load(Ordering::Relaxed) - shared;
    let twice = begun - lost - tasks;
    let each = (shared + finished * workers as u64) as f64 / tasks as f64;
    println!(
        "{begun} begun, {lost} lost with {deaths} workers, {twice} done twice; {each:.2} requests a task: {:.2} while they \
         share, {finished} for each to end, {read} of them to read the totals",
        shared as f64 / tasks as f64
    );
    assert!(deaths > 0);
    assert!(twice * 100 < tasks, "{twice} of {tasks} were done twice");
    assert!(each <= 10.0, "{each} requests a task");
}
