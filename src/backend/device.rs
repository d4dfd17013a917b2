//! `--device`: which backend runs, and what happens where it is not there.

use std::fmt;
use std::str::FromStr;

use super::Backend;
use super::cpu::Cpu;
use super::fallback::Guarded;
use super::faulty::armed;
use super::selftest;
#[cfg(feature = "cuda")]
use super::team::Team;
use crate::error::{Error, Result};

/// A demanded device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The best GPU that passes its self-test, else the CPU; never software that takes a GPU's place.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An adapter of wgpu's: this one, or the best, software included.
    Wgpu(Option<usize>),
    /// NVIDIA's own interface: this device, or the first.
    Cuda(Option<usize>),
    /// All devices of NVIDIA's interface, in turns.
    CudaAll,
}

impl FromStr for Device {
    type Err = Error;
    fn from_str(text: &str) -> Result<Device> {
        let (kind, number) = text.split_once(':').map_or((text, None), |(kind, number)| (kind, Some(number)));
        let index = number.map(str::parse::<usize>).transpose();
        match (kind, number, index) {
            ("auto", None, _) => Ok(Device::Auto),
            ("cpu", None, _) => Ok(Device::Cpu),
            ("wgpu", _, Ok(index)) => Ok(Device::Wgpu(index)),
            ("cuda", Some("all"), _) => Ok(Device::CudaAll),
            ("cuda", _, Ok(index)) => Ok(Device::Cuda(index)),
            _ => Err(Error::usage(format!("device {text}: it is one of auto, cpu, wgpu[:n], cuda[:n|:all]"))),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Wgpu(None) => f.write_str("wgpu"),
            Device::Wgpu(Some(index)) => write!(f, "wgpu:{index}"),
            Device::Cuda(None) => f.write_str("cuda"),
            Device::Cuda(Some(index)) => write!(f, "cuda:{index}"),
            Device::CudaAll => f.write_str("cuda:all"),
        }
    }
}

/// Why there is no CUDA here.
#[cfg(not(feature = "cuda"))]
pub const NO_CUDA: &str = "built without cuda: build with the feature cuda";

/// Why there is no wgpu here.
#[cfg(not(feature = "wgpu"))]
pub const NO_WGPU: &str = "built without wgpu: build with the feature wgpu";

/// What came of a demand.
pub struct Opened {
    /// What runs.
    pub backend: Box<dyn Backend>,
    /// Why it is not what was demanded.
    pub missing: Option<String>,
}

/// Looks whether what is demanded is there, without opening it.
///
/// # Errors
/// Unavailable, with what to do.
pub fn check(device: Device) -> Result<()> {
    match device {
        Device::Auto | Device::Cpu => Ok(()),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => super::wgpu::adapter::choose(index, true).map(drop),
        #[cfg(not(feature = "wgpu"))]
        Device::Wgpu(_) => Err(Error::unavailable(NO_WGPU)),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => super::cuda::choose(index).map(drop),
        #[cfg(feature = "cuda")]
        Device::CudaAll => super::cuda::choose(None).map(drop),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) | Device::CudaAll => Err(Error::unavailable(NO_CUDA)),
    }
}

/// The device with nothing behind it; `None` where the CPU itself is meant, or the best that there is. `memory` is the
/// budget of its buffers.
///
/// # Errors
/// Unavailable, with what to do.
pub fn bare(device: Device, memory: u64) -> Result<Option<Box<dyn Backend>>> {
    match device {
        Device::Cpu => Ok(None),
        Device::Auto => best(memory),
        #[cfg(feature = "wgpu")]
        Device::Wgpu(index) => {
            let adapter = super::wgpu::adapter::choose(index, true)?;
            Ok(Some(Box::new(super::wgpu::Wgpu::open(adapter, memory)?)))
        }
        #[cfg(not(feature = "wgpu"))]
        Device::Wgpu(_) => Err(Error::unavailable(NO_WGPU)),
        #[cfg(feature = "cuda")]
        Device::Cuda(index) => Ok(Some(Box::new(super::cuda::Cuda::open(super::cuda::choose(index)?, memory)?))),
        #[cfg(feature = "cuda")]
        Device::CudaAll => {
            super::cuda::choose(None)?;
            let all = crate::ffi::cu::list()?;
            let share = memory / all.len() as u64;
            let open = |info| Ok(Box::new(super::cuda::Cuda::open(info, share)?) as Box<dyn Backend>);
            Ok(Some(Box::new(Team::new(all.into_iter().map(open).collect::<Result<_>>()?))))
        }
        #[cfg(not(feature = "cuda"))]
        Device::Cuda(_) | Device::CudaAll => Err(Error::unavailable(NO_CUDA)),
    }
}

/// The best GPU, which must pass its self-test: by NVIDIA's own interface where it is there, else by wgpu's.
fn best(memory: u64) -> Result<Option<Box<dyn Backend>>> {
    let backend = match first(memory)? {
        Some(backend) => backend,
        None => return Ok(None),
    };
    let faults = selftest::run(&*backend).faults;
    match faults.first() {
        None => Ok(Some(backend)),
        Some(fault) => Err(Error::unavailable(format!("{} failed its self-test: {fault}", backend.name()))),
    }
}

#[cfg_attr(not(any(feature = "cuda", feature = "wgpu")), allow(unused_variables))]
fn first(memory: u64) -> Result<Option<Box<dyn Backend>>> {
    // Looking for adapters loads every driver, software ones too: tens of MB where there is nothing to find.
    if !may_have_gpu() {
        return Ok(None);
    }
    #[cfg(feature = "cuda")]
    if let Ok(info) = super::cuda::choose(None) {
        return Ok(Some(Box::new(super::cuda::Cuda::open(info, memory)?)));
    }
    #[cfg(feature = "wgpu")]
    if let Ok(adapter) = super::wgpu::adapter::choose(None, false) {
        return Ok(Some(Box::new(super::wgpu::Wgpu::open(adapter, memory)?)));
    }
    Ok(None)
}

/// Whether this machine may have a GPU: on Linux its kernel driver makes a device file.
pub fn may_have_gpu() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    // DRM's render nodes; NVIDIA's own; WSL's; those of phones' drivers.
    let own = ["/dev/nvidiactl", "/dev/dxg", "/dev/kgsl-3d0", "/dev/mali0"];
    let names = std::fs::read_dir("/dev/dri").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.into_iter().any(|name| name.to_string_lossy().starts_with("renderD"))
        || own.iter().any(|path| std::path::Path::new(path).exists())
}

/// The backend that a run uses: what is demanded, or the CPU where that may be. With `forbidden` a demanded device is
/// used or the run ends; to `auto` the CPU is as good as any. `memory` is the budget of a device's buffers.
///
/// # Errors
/// Unavailable, where the demanded device is missing and falling back forbidden.
pub fn open(device: Device, forbidden: bool, memory: u64) -> Result<Opened> {
    let forbidden = forbidden && device != Device::Auto;
    match bare(device, memory) {
        Ok(None) => Ok(Opened { backend: armed(device, Box::new(Cpu::new()))?, missing: None }),
        Ok(Some(found)) => {
            Ok(Opened { backend: armed(device, Box::new(Guarded::new(found, forbidden)))?, missing: None })
        }
        Err(e) if forbidden => Err(e.context(format!("device {device}"))),
        Err(e) => Ok(Opened { backend: Box::new(Cpu::new()), missing: Some(e.message) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        for text in ["auto", "cpu", "wgpu", "wgpu:2", "cuda", "cuda:1", "cuda:all"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        for text in ["tpu", "cpu:1", "wgpu:x", "cuda:-1", "auto:0", ""] {
            assert_eq!(text.parse::<Device>().unwrap_err().exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_refused_or_named() {
        let absent = Device::Cuda(Some(999));
        let refused = open(absent, true, 1 << 20).err().unwrap();
        assert_eq!(refused.exit_code(), 69);
        assert_eq!(check(absent).unwrap_err().exit_code(), 69);
        let opened = open(absent, false, 1 << 20).unwrap();
        assert_eq!(opened.backend.name(), "cpu");
        assert!(refused.message.ends_with(&opened.missing.unwrap()), "{}", refused.message);
        let cpu = open(Device::Cpu, true, 1 << 20).unwrap();
        assert_eq!((cpu.backend.name(), cpu.missing), ("cpu", None));
    }
}
