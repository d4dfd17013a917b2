//! [`Guarded`]: a device whose failures cost time, never a frame.
//!
//! What the device cannot do, the CPU does, and says why. What fails on it (lost, out of memory) is tried once more
//! there, frame by frame, so that a smaller batch may fit; then the CPU does it. Where falling back is forbidden, a frame
//! that the device cannot take is an input's error, and a device that failed twice ends the run.

use std::sync::Arc;

use super::cpu::Cpu;
use super::{Backend, Item, Log, Pace, Pending, Processed, Speed};
use crate::error::{Class, Error, RejectKind, Result};

/// A device with the CPU behind it.
pub struct Guarded {
    device: Box<dyn Backend>,
    cpu: Cpu,
    forbidden: bool,
}

impl Guarded {
    /// Guards `device`; with `forbidden` the CPU never takes its place.
    pub fn new(device: Box<dyn Backend>, forbidden: bool) -> Self {
        Guarded { device, cpu: Cpu::new(), forbidden }
    }

    /// Results with which the caller can go on.
    fn settle(&self, items: &[Item], mut results: Vec<Result<Processed>>) -> Vec<Result<Processed>> {
        for again in failed(items, &results) {
            let frame: Vec<Item> = again.iter().map(|n| items[*n].clone()).collect();
            for (n, result) in again.into_iter().zip(self.device.submit(frame)()) {
                if let Err(e) = std::mem::replace(&mut results[n], result) {
                    tracing::warn!("{}: {e}; tried once more", self.name());
                }
            }
        }
        let settled = |(item, result): (&Item, Result<Processed>)| match result {
            Err(e) if e.class == Class::Unavailable || e.reject == Some(RejectKind::DeviceUnsupported) => {
                self.elsewhere(item, e)
            }
            other => other,
        };
        items.iter().zip(results).map(settled).collect()
    }

    fn elsewhere(&self, item: &Item, why: Error) -> Result<Processed> {
        if self.forbidden {
            return Err(why.context(format!("{} cannot do it, and falling back is forbidden", self.name())));
        }
        let done = self.cpu.run(item.program, &item.frame, &item.key)?;
        Ok(Processed { fallback: Some(why.message), ..done })
    }
}

/// What failed on the device, frame by frame: all that is made of one goes together.
fn failed(items: &[Item], results: &[Result<Processed>]) -> Vec<Vec<usize>> {
    let mut frames: Vec<Vec<usize>> = Vec::new();
    for (n, result) in results.iter().enumerate() {
        if result.as_ref().is_err_and(|e| e.class == Class::Unavailable) {
            let same = |own: &&mut Vec<usize>| Arc::ptr_eq(&items[own[0]].frame, &items[n].frame);
            match frames.iter_mut().find(same) {
                Some(own) => own.push(n),
                None => frames.push(vec![n]),
            }
        }
    }
    frames
}

impl Backend for Guarded {
    fn name(&self) -> &str {
        self.device.name()
    }

    fn pace(&self) -> Pace {
        self.device.pace()
    }

    fn surfaces(&self) -> bool {
        self.device.surfaces()
    }

    fn log(&self) -> Option<Log> {
        self.device.log()
    }

    fn speed(&self, items: &[Item], rounds: u32) -> Result<Option<Speed>> {
        self.device.speed(items, rounds)
    }

    fn submit<'a>(&'a self, items: Vec<Item<'a>>) -> Pending<'a> {
        let begun = self.device.submit(items.clone());
        Box::new(move || self.settle(&items, begun()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::frame::Frame;
    use crate::op::Op;
    use crate::program::{DrawKey, Program, Settings};

    /// A device that fails so many times, or cannot do anything.
    struct Broken {
        failures: AtomicU32,
        calls: Arc<AtomicU32>,
        error: Error,
    }

    impl Backend for Broken {
        fn name(&self) -> &str {
            "broken"
        }
        fn pace(&self) -> Pace {
            Cpu::new().pace()
        }
        fn submit<'a>(&'a self, items: Vec<Item<'a>>) -> Pending<'a> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let left = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            if left.is_err() {
                return Box::new(move || Cpu::new().submit(items)());
            }
            Box::new(move || items.iter().map(|_| Err(self.error.clone())).collect())
        }
    }

    /// What one frame comes to, and how often the device was asked.
    fn outcome(failures: u32, error: Error, forbidden: bool) -> (Result<Processed>, u32) {
        let calls = Arc::new(AtomicU32::new(0));
        let device = Broken { failures: failures.into(), calls: calls.clone(), error };
        let guarded = Guarded::new(Box::new(device), forbidden);
        let program = Program::compile(&[], Settings::default()).unwrap();
        let item =
            Item { program: &program, frame: Arc::new(Frame::rgb(1, 1, vec![1, 2, 3])), key: DrawKey::default() };
        let result = guarded.submit(vec![item])().pop().unwrap();
        (result, calls.load(Ordering::Relaxed))
    }

    #[test]
    fn a_failure_is_tried_again_and_then_done_on_the_cpu() {
        let lost = || Error::unavailable("lost");
        let (result, calls) = outcome(1, lost(), true);
        let done = result.unwrap();
        assert_eq!((done.tensor.data, done.fallback, calls), (vec![1, 2, 3], None, 2), "the device did it after all");
        let (result, calls) = outcome(2, lost(), false);
        let done = result.unwrap();
        assert_eq!((done.tensor.data, done.fallback.as_deref(), calls), (vec![1, 2, 3], Some("lost"), 2));
        let (result, _) = outcome(2, lost(), true);
        assert_eq!(result.unwrap_err().exit_code(), 69);
    }

    #[test]
    fn what_is_made_of_a_frame_is_tried_again_together() {
        let calls = Arc::new(AtomicU32::new(0));
        let device = Broken { failures: 1.into(), calls: calls.clone(), error: Error::unavailable("lost") };
        let guarded = Guarded::new(Box::new(device), true);
        let compile = |ops: &[Op]| Program::compile(ops, Settings::default()).unwrap();
        let programs = [compile(&[]), compile(&[Op::parse("flip:h").unwrap()])];
        let frames =
            [[1u8, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]].map(|data| Arc::new(Frame::rgb(2, 1, data.to_vec())));
        let both =
            |program| frames.iter().map(move |frame| Item { program, frame: frame.clone(), key: DrawKey::default() });
        let results = guarded.submit(programs.iter().flat_map(both).collect())();
        let data: Vec<Vec<u8>> = results.into_iter().map(|result| result.unwrap().tensor.data).collect();
        assert_eq!(data[..2], [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]);
        assert_eq!(data[2..], [[4, 5, 6, 1, 2, 3], [10, 11, 12, 7, 8, 9]]);
        assert_eq!(calls.load(Ordering::Relaxed), 3, "once, then each frame by itself");
    }

    #[test]
    fn what_a_device_cannot_do_is_not_tried_again() {
        let cannot = || Error::input(RejectKind::DeviceUnsupported, "cannot");
        let (result, calls) = outcome(9, cannot(), false);
        assert_eq!((result.unwrap().fallback.as_deref(), calls), (Some("cannot"), 1));
        assert_eq!(outcome(9, cannot(), true).0.unwrap_err().reject, Some(RejectKind::DeviceUnsupported));
        let op = Error::input(RejectKind::Op, "too small");
        assert_eq!(outcome(9, op, false).0.unwrap_err().reject, Some(RejectKind::Op), "the picture's own fault stays");
    }
}
