//! Backends that are slow or wrong on demand, so that tests can see whether that is found.
//!
//! `FRAMEMILL_TEST_BACKEND` names the demanded device and the fault: `wgpu=wrong` changes a byte of every picture,
//! `cpu=slow:20` takes 20 ms longer for each.

use std::time::Duration;

use super::device::Device;
use super::{Backend, Item, Log, Pace, Pending, Processed, Speed};
use crate::error::{Error, Result};

const VARIABLE: &str = "FRAMEMILL_TEST_BACKEND";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Wrong,
    Slow(Duration),
}

/// A backend with a fault.
struct Faulty {
    inner: Box<dyn Backend>,
    fault: Fault,
}

/// The fault that `text` asks of `device`, if any.
fn fault(text: &str, device: Device) -> Result<Option<Fault>> {
    let unknown = || Error::usage(format!("{VARIABLE}: `{text}` is neither DEVICE=wrong nor DEVICE=slow:MS"));
    let (name, what) = text.split_once('=').ok_or_else(unknown)?;
    let fault = match what.split_once(':') {
        None if what == "wrong" => Fault::Wrong,
        Some(("slow", ms)) => Fault::Slow(Duration::from_millis(ms.parse().map_err(|_| unknown())?)),
        _ => return Err(unknown()),
    };
    Ok((name == device.to_string()).then_some(fault))
}

/// `backend`, which was demanded as `device`, with the fault that tests ask for; mostly itself.
///
/// # Errors
/// Usage, where the variable cannot be understood.
pub fn armed(device: Device, backend: Box<dyn Backend>) -> Result<Box<dyn Backend>> {
    let Ok(text) = std::env::var(VARIABLE) else { return Ok(backend) };
    Ok(match fault(&text, device)? {
        Some(fault) => Box::new(Faulty { inner: backend, fault }),
        None => backend,
    })
}

impl Fault {
    fn befall(self, result: &mut Result<Processed>) {
        match (self, result) {
            (Fault::Slow(time), _) => std::thread::sleep(time),
            (Fault::Wrong, Ok(done)) => {
                if let Some(byte) = done.tensor.data.first_mut() {
                    *byte ^= 0x80;
                }
            }
            (Fault::Wrong, Err(_)) => {}
        }
    }
}

impl Backend for Faulty {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn pace(&self) -> Pace {
        self.inner.pace()
    }

    fn surfaces(&self) -> bool {
        self.inner.surfaces()
    }

    fn log(&self) -> Option<Log> {
        self.inner.log()
    }

    fn speed(&self, items: &[Item], rounds: u32) -> Result<Option<Speed>> {
        self.inner.speed(items, rounds)
    }

    fn submit<'a>(&'a self, items: Vec<Item<'a>>) -> Pending<'a> {
        let pending = self.inner.submit(items);
        Box::new(move || {
            let mut results = pending();
            results.iter_mut().for_each(|result| self.fault.befall(result));
            results
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_the_named_devices_alone() {
        assert_eq!(fault("cpu=wrong", Device::Cpu).unwrap(), Some(Fault::Wrong));
        assert_eq!(fault("wgpu:1=slow:7", Device::Wgpu(Some(1))).unwrap(), Some(Fault::Slow(Duration::from_millis(7))));
        assert_eq!(fault("wgpu=wrong", Device::Cpu).unwrap(), None);
        for text in ["cpu", "cpu=fast", "cpu=slow:x", "cpu=slow"] {
            assert_eq!(fault(text, Device::Cpu).unwrap_err().exit_code(), 2, "{text}");
        }
    }
}
