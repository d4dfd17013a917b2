//! A byte budget: whoever makes something large takes credit first, and gives it back by dropping it.
//!
//! Invariants: what is out never exceeds the budget, but for one item that is larger than all of it, which runs alone;
//! first come, first served, so a large item is not starved by small ones.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
struct State {
    used: u64,
    high_water: u64,
    next_ticket: u64,
    served: u64,
}

#[derive(Debug)]
struct Inner {
    limit: u64,
    state: Mutex<State>,
    changed: Condvar,
}

/// A budget in bytes, shared by its clones.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

/// Bytes taken from a budget; given back when dropped.
#[derive(Debug)]
pub struct Credit {
    budget: Arc<Inner>,
    bytes: u64,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Budget {
        Budget(Arc::new(Inner { limit, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// Waits for `bytes`. `waiting` is asked now and then while it waits; when it says false, `None` comes back.
    pub fn take(&self, bytes: u64, waiting: impl Fn() -> bool) -> Option<Credit> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        while state.served != ticket || (state.used > 0 && state.used + bytes > self.0.limit) {
            let (next, _) =
                self.0.changed.wait_timeout(state, Duration::from_millis(50)).unwrap_or_else(PoisonError::into_inner);
            state = next;
            if !waiting() {
                // The queue behind must not wait for one who has left: stopping ends it for all.
                return None;
            }
        }
        state.served += 1;
        state.used += bytes;
        state.high_water = state.high_water.max(state.used);
        drop(state);
        self.0.changed.notify_all();
        Some(Credit { budget: self.0.clone(), bytes })
    }

    /// Takes `bytes` without waiting, beyond the limit if need be: for who already holds credit that others may be
    /// waiting for.
    pub fn overdraw(&self, bytes: u64) -> Credit {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.used += bytes;
        state.high_water = state.high_water.max(state.used);
        Credit { budget: self.0.clone(), bytes }
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Bytes out now.
    pub fn used(&self) -> u64 {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).used
    }

    /// The most bytes that were out at one time.
    pub fn high_water(&self) -> u64 {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).high_water
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.budget.state.lock().unwrap_or_else(PoisonError::into_inner).used -= self.bytes;
        self.budget.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn exactly_as_many_are_in_flight_as_fit() {
        let budget = Budget::new(10);
        let held: Vec<_> = (0..3).map(|_| budget.take(3, || true).unwrap()).collect();
        assert_eq!(budget.used(), 9);
        let tried = AtomicBool::new(false);
        let none = budget.take(3, || {
            tried.store(true, Ordering::Relaxed);
            false
        });
        assert!(none.is_none() && tried.load(Ordering::Relaxed), "the fourth waits");
        drop(held);
        assert_eq!((budget.used(), budget.high_water()), (0, 9));
    }

    #[test]
    fn what_is_larger_runs_alone() {
        let budget = Budget::new(10);
        let large = budget.take(25, || true).unwrap();
        assert!(budget.take(1, || false).is_none());
        drop(large);
        let budget = Budget::new(10);
        let _small = budget.take(1, || true).unwrap();
        assert!(budget.take(25, || false).is_none(), "not beside another");
    }

    #[test]
    fn threads_never_exceed_it() {
        let budget = Budget::new(100);
        std::thread::scope(|scope| {
            for n in 1..=8u64 {
                let budget = budget.clone();
                scope.spawn(move || {
                    for _ in 0..200 {
                        let credit = budget.take(n * 7, || true).unwrap();
                        std::thread::yield_now();
                        drop(credit);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
        assert!(budget.high_water() <= 100 && budget.high_water() >= 56);
    }
}
