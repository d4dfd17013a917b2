//! [`Team`]: several devices as one; batches go to them in turns.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Backend, Item, Log, Pace, Pending};

/// Devices that share the work.
pub struct Team {
    name: String,
    members: Vec<Box<dyn Backend>>,
    next: AtomicUsize,
}

impl Team {
    /// Of at least one device.
    pub fn new(members: Vec<Box<dyn Backend>>) -> Team {
        let names: Vec<&str> = members.iter().map(|member| member.name()).collect();
        Team { name: names.join(" + "), members, next: AtomicUsize::new(0) }
    }
}

impl Backend for Team {
    fn name(&self) -> &str {
        &self.name
    }

    /// Batches are as large as every member takes; each member has threads of its own.
    fn pace(&self) -> Pace {
        let paces = self.members.iter().map(|member| member.pace());
        let both = |a: Pace, b: Pace| Pace {
            threads: a.threads + b.threads,
            items: a.items.min(b.items),
            bytes: a.bytes.min(b.bytes),
            ahead: a.ahead.max(b.ahead),
        };
        paces.reduce(both).unwrap_or(Pace { threads: 1, items: 1, bytes: 0, ahead: 0 })
    }

    fn log(&self) -> Option<Log> {
        let logs = self.members.iter().filter_map(|member| member.log());
        let seconds =
            |a: Log, b: Log| a.seconds.or(b.seconds).map(|_| a.seconds.unwrap_or(0.0) + b.seconds.unwrap_or(0.0));
        logs.reduce(|a, b| Log {
            batches: a.batches + b.batches,
            bytes_up: a.bytes_up + b.bytes_up,
            bytes_down: a.bytes_down + b.bytes_down,
            seconds: seconds(a, b),
        })
    }

    fn submit<'a>(&'a self, items: Vec<Item<'a>>) -> Pending<'a> {
        let member = self.next.fetch_add(1, Ordering::Relaxed) % self.members.len();
        self.members[member].submit(items)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::cpu::Cpu;
    use crate::frame::Frame;
    use crate::program::{DrawKey, Program, Settings};

    /// The CPU, counting batches.
    struct Counting(Arc<AtomicUsize>);

    impl Backend for Counting {
        fn name(&self) -> &str {
            "counting"
        }
        fn pace(&self) -> Pace {
            Pace { threads: 2, items: 3, bytes: 4, ahead: 1 }
        }
        fn submit<'a>(&'a self, items: Vec<Item<'a>>) -> Pending<'a> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::new(move || Cpu::new().submit(items)())
        }
    }

    #[test]
    fn batches_go_round() {
        let counts: Vec<Arc<AtomicUsize>> = (0..3).map(|_| Arc::default()).collect();
        let team = Team::new(counts.iter().map(|c| Box::new(Counting(c.clone())) as Box<dyn Backend>).collect());
        assert_eq!(team.pace(), Pace { threads: 6, items: 3, bytes: 4, ahead: 1 });
        let program = Program::compile(&[], Settings::default()).unwrap();
        for _ in 0..6 {
            let done = team.run(&program, &Frame::rgb(1, 1, vec![1, 2, 3]), &DrawKey::default()).unwrap();
            assert_eq!(done.tensor.data, [1, 2, 3]);
        }
        assert_eq!(counts.iter().map(|c| c.load(Ordering::Relaxed)).collect::<Vec<_>>(), [2, 2, 2]);
    }
}
