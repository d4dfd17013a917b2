//! Workers of an earlier generation that wake up while a further one is finished, or after that.

use std::path::Path;

use super::*;
use crate::plan::examples;
use crate::sink::record::{Details, Record};
use crate::sink::table::TableWriter;
use crate::task::Receipt;

/// Plans `count` photos, each a task, behind the `first` ones.
fn planned(out: &Output, generation: u32, first: u64, count: u64) -> Plan {
    let mut file = JobFile::default();
    file.output.metadata = vec![Metadata::Csv, Metadata::Sqlite];
    examples::photos(file, generation, first, count).freeze(out).unwrap()
}

/// Does the tasks of a plan.
fn done(out: &Output, plan: &Plan) {
    let ledger = Ledger::new(out);
    for task in plan.tasks() {
        let mut table = TableWriter::new(Vec::new(), &[], Details::default()).unwrap();
        table.write(Record { key: format!("k{task}"), ..Default::default() }).unwrap();
        let name = format!("shard-{task:06}.parquet");
        out.replace(&name, &table.finish().unwrap()).unwrap();
        ledger.decide(task, &[]).unwrap();
        let receipt = Receipt {
            task,
            generation: plan.header.generation,
            fingerprint: plan.header.fingerprint.clone(),
            objects: vec![out.measure(&name).unwrap()],
            samples: 1,
            inputs: 1,
            ..Receipt::default()
        };
        assert!(ledger.commit(&receipt).unwrap());
    }
}

/// What a worker knows when it has seen the last receipt.
fn seen(out: &Output) -> (Vec<Plan>, Totals) {
    let plans = Plan::load_all(out).unwrap();
    let totals = Totals::read(&Ledger::new(out), &plans).unwrap();
    (plans, totals)
}

/// A further generation, planned, done and finished.
fn appended(out: &Output) {
    done(out, &planned(out, 2, 2, 3));
    let (plans, totals) = seen(out);
    assert!(finish(out, &plans, &totals).unwrap());
}

fn faults(out: &Output) -> Vec<String> {
    verify(out, &Plan::load_all(out).unwrap()).unwrap().0
}

fn rows(out: &Output) -> usize {
    String::from_utf8(out.read(RECORDS_CSV).unwrap().unwrap()).unwrap().lines().count() - 1
}

fn folder(dir: &Path) -> Output {
    let out = Output::at(dir);
    done(&out, &planned(&out, 1, 0, 2));
    out
}

#[test]
fn plans_of_before_a_generation_that_is_finished_are_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let out = folder(dir.path());
    let (plans, totals) = seen(&out);
    appended(&out);
    let there = out.measure(DATASET).unwrap();
    assert!(finish(&out, &plans, &totals).unwrap());
    assert_eq!((faults(&out), rows(&out), out.measure(DATASET).unwrap()), (vec![], 5, there));
    // The control: what the sleeper would have written is found.
    let (view, records) = (View::of(&out, RECORDS_CSV).unwrap(), names_of(&totals, is_records));
    assert!(table::merge_csv(&view, &records).unwrap().is_some() && rows(&out) == 2);
    let found = faults(&out);
    assert!(found.len() == 1 && found[0].starts_with(RECORDS_CSV), "{found:?}");
    let (plans, totals) = seen(&out);
    assert!(finish(&out, &plans, &totals).unwrap() && faults(&out).is_empty());
}

#[test]
fn a_generation_that_is_not_done_is_left_to_its_workers() {
    let dir = tempfile::tempdir().unwrap();
    let out = folder(dir.path());
    let (plans, totals) = seen(&out);
    assert!(finish(&out, &plans, &totals).unwrap());
    let there = out.measure(DATASET).unwrap();
    let (_, lease) = (planned(&out, 2, 2, 3), "_framemill/leases/000002-0000.json");
    out.replace(lease, b"{}").unwrap();
    out.remove(RECORDS_CSV).unwrap();
    assert!(!finish(&out, &plans, &totals).unwrap());
    assert_eq!(out.measure(DATASET).unwrap(), there);
    assert!(out.size(lease).unwrap().is_some() && out.size(RECORDS_CSV).unwrap().is_none());
}

#[test]
fn what_is_finished_is_written_again_only_where_it_is_not_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let out = folder(dir.path());
    let again = || {
        let (plans, totals) = seen(&out);
        assert!(finish(&out, &plans, &totals).unwrap());
    };
    again();
    let versions = || [DATASET, CARD, RECORDS_CSV, RECORDS_SQLITE].map(|name| out.version(name).unwrap().unwrap());
    let before = versions();
    again();
    assert_eq!(versions(), before);
    for name in [CARD, RECORDS_CSV, RECORDS_SQLITE] {
        let whole = out.read(name).unwrap().unwrap();
        for damage in [Some(&whole[..whole.len() / 2]), None] {
            damage.map_or_else(|| out.remove(name), |half| out.replace(name, half)).unwrap();
            let found = faults(&out);
            assert!(found.len() == 1 && found[0].starts_with(name), "{found:?}");
            again();
            assert!(faults(&out).is_empty() && out.read(name).unwrap().as_ref() == Some(&whole), "{name}");
        }
    }
    let mut text: Value = serde_json::from_slice(&out.read(DATASET).unwrap().unwrap()).unwrap();
    text.as_object_mut().unwrap().remove("tables");
    out.replace(DATASET, text.to_string().as_bytes()).unwrap();
    assert_eq!(faults(&out).len(), 3, "what it does not name is not checked");
}

#[cfg(feature = "cloud")]
mod asleep {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use object_store::memory::InMemory;

    use super::*;
    use crate::store::gated::Gated;

    /// Finishes the first generation, and falls asleep before its request number `until`, while others add another one and
    /// finish; then it goes on, or only that request is still done. Whether there were so many requests.
    fn sleep(until: usize, dies: bool) -> bool {
        let (dir, bucket) = (tempfile::tempdir().unwrap(), Arc::new(InMemory::new()));
        let own = || Output::gated(Gated::new(&bucket, Box::new(|_| true)), &dir.path().join("others"));
        let (out, others) = (own(), own());
        done(&out, &planned(&out, 1, 0, 2));
        let (plans, totals) = seen(&out);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let gate = move |_: &str| {
            let now = count.fetch_add(1, Ordering::SeqCst);
            if now == until {
                let others = others.clone();
                std::thread::spawn(move || appended(&others)).join().unwrap();
            }
            !(dies && now > until)
        };
        let view = Output::gated(Gated::new(&bucket, Box::new(gate)), &dir.path().join("sleeper"));
        let ended = finish(&view, &plans, &totals);
        let reached = asked.load(Ordering::SeqCst) > until;
        if !reached {
            // Nobody came: the control that it is the first generation's dataset that the others replace.
            assert!(ended.unwrap() && rows(&out) == 2);
            return false;
        }
        if !dies {
            assert!(ended.unwrap(), "request {until}");
        }
        assert_eq!((faults(&out), rows(&out)), (vec![], 5), "request {until}, dies: {dies}");
        true
    }

    #[test]
    fn whenever_a_worker_sleeps_a_further_generation_stays_whole() {
        for dies in [false, true] {
            let requests = (0..).take_while(|until| sleep(*until, dies)).count();
            assert!((15..40).contains(&requests), "{requests} requests to finish");
        }
    }
}
