use super::*;

fn leases(out: &Output, worker: &str, tasks: u64) -> Leases {
    Leases::join(&Ledger::new(out), worker, Duration::from_secs(8), 0..tasks).unwrap()
}

fn receipt(out: &Output, task: u64) {
    out.create_only(&crate::store::receipt_name(task), b"{}").unwrap();
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn each_task_is_taken_once_and_the_rest_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let out = Output::at(dir.path());
    let (a, b) = (leases(&out, "a", 5), leases(&out, "b", 5));
    let mut taken: Vec<u64> = Vec::new();
    for turn in 0..5 {
        let who = if turn % 2 == 0 { &a } else { &b };
        let Take::Fresh(task) = who.take_at(at(1)).unwrap() else { panic!("nothing for turn {turn}") };
        taken.push(task);
    }
    taken.sort();
    assert_eq!(taken, [0, 1, 2, 3, 4]);
    assert_eq!(b.take_at(at(2)).unwrap(), Take::Wait);
    let begun: Vec<u64> = a.state().begun.keys().copied().collect();
    for task in begun {
        receipt(&out, task);
        a.done(task);
    }
    assert_eq!(a.take_at(at(3)).unwrap(), Take::Wait, "b has not done its own");
    assert_eq!(b.take_at(at(3)).unwrap(), Take::Nothing, "its own are no reason to wait");
}

#[test]
fn a_silent_worker_loses_its_task_after_its_term_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let out = Output::at(dir.path());
    let (dead, other) = (leases(&out, "dead", 1), leases(&out, "other", 1));
    assert_eq!(dead.take_at(at(0)).unwrap(), Take::Fresh(0));
    for second in [100, 104, 108] {
        assert_eq!(other.take_at(at(second)).unwrap(), Take::Wait, "{second}");
    }
    dead.renew().unwrap();
    for second in [111, 119] {
        assert_eq!(other.take_at(at(second)).unwrap(), Take::Wait, "it was heard of at 111: {second}");
    }
    assert_eq!(other.take_at(at(120)).unwrap(), Take::Left(0));
    // Both are there now; a third one would have to see the second one die.
    let third = leases(&out, "third", 1);
    assert_eq!(third.take_at(at(0)).unwrap(), Take::Wait);
    receipt(&out, 0);
    other.done(0);
    assert!(out.list(LEASES).unwrap().is_empty(), "both attempts go");
    assert_eq!(third.take_at(at(1)).unwrap(), Take::Nothing);
}

#[test]
fn who_leaves_in_order_frees_its_tasks_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let out = Output::at(dir.path());
    let (gone, other) = (leases(&out, "gone", 1), leases(&out, "other", 1));
    assert_eq!(gone.take_at(at(0)).unwrap(), Take::Fresh(0));
    assert_eq!(other.take_at(at(0)).unwrap(), Take::Wait);
    leave(&out, "gone").unwrap();
    assert_eq!(other.take_at(at(0)).unwrap(), Take::Left(0));
    sweep(&out).unwrap();
    assert!(!dir.path().join(LEASES).exists() && !dir.path().join(WORKERS).exists());
}

#[test]
fn an_engine_goes_on_with_what_its_predecessor_held() {
    let dir = tempfile::tempdir().unwrap();
    let out = Output::at(dir.path());
    assert_eq!(leases(&out, "same", 1).take_at(at(0)).unwrap(), Take::Fresh(0));
    let next = leases(&out, "same", 1);
    assert_eq!(next.take_at(at(0)).unwrap(), Take::Left(0));
    assert_eq!(next.take_at(at(0)).unwrap(), Take::Nothing, "but only once");
}

#[test]
fn a_task_that_was_done_meanwhile_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let out = Output::at(dir.path());
    let (a, b) = (leases(&out, "a", 2), leases(&out, "b", 2));
    let Take::Fresh(first) = a.take_at(at(0)).unwrap() else { panic!() };
    // b has listed before a is done, and comes to a's task only after.
    b.state().free = vec![1 - first, first];
    receipt(&out, first);
    a.done(first);
    assert_eq!(b.take_at(at(0)).unwrap(), Take::Fresh(1 - first));
    assert!(!out.list(LEASES).unwrap().iter().any(|name| parsed(name).unwrap().0 == first), "no lease stays behind");
}

#[test]
fn where_little_is_left_each_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let out = Output::at(dir.path());
    let (a, b) = (leases(&out, "a", 3000), leases(&out, "b", 3000));
    for who in [&a, &b] {
        who.state().open.retain(|task| *task >= 2998);
    }
    assert_eq!((a.take_at(at(0)).unwrap(), a.take_at(at(0)).unwrap()), (Take::Fresh(2998), Take::Fresh(2999)));
    assert_eq!(b.take_at(at(0)).unwrap(), Take::Wait);
    receipt(&out, 2999);
    a.done(2999);
    assert_eq!(b.take_at(at(1)).unwrap(), Take::Wait);
    assert_eq!(b.state().open, BTreeSet::from([2998]));
    receipt(&out, 2998);
    a.done(2998);
    assert_eq!(b.take_at(at(2)).unwrap(), Take::Nothing);
}

#[test]
fn a_lease_that_stayed_behind_a_receipt_is_not_waited_for_long() {
    let dir = tempfile::tempdir().unwrap();
    let out = Output::at(dir.path());
    let (a, b) = (leases(&out, "a", 1), leases(&out, "b", 1));
    assert_eq!(a.take_at(at(0)).unwrap(), Take::Fresh(0));
    receipt(&out, 0);
    for look in 1..EACH {
        assert_eq!(b.take_at(at(1)).unwrap(), Take::Wait, "{look}");
    }
    assert_eq!(b.take_at(at(1)).unwrap(), Take::Nothing);
}

#[cfg(feature = "cloud")]
mod model;
