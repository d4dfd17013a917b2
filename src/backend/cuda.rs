//! The CUDA backend: NVIDIA's GPUs through their driver alone; byte-equal to the CPU's.
//!
//! The kernels (`kernels/*.cu`) are in the program: as machine code for the usual architectures, and as PTX for all
//! others, which any driver of CUDA 12 compiles when it loads it. A batch is a flight on a stream of its own: one copy up
//! from pinned memory, a launch or two for each level of its passes, one copy down.

mod flight;
#[cfg(test)]
mod host;
pub mod images;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::flight::Plan;
use super::Speed;
use super::flights::{Driver, Flights, Journey, SPARE};
use crate::error::{Error, RejectKind, Result};
use crate::ffi::cu::{Airborne, Device, Info, Lane, Refusal, list};
use crate::frame::Frame;
use crate::program::passes::{Batch, Placed};
use crate::tensor::Tensor;

/// A device in use.
pub type Cuda = Flights<Interface>;

/// A device and what it is.
pub struct Interface {
    info: Info,
}

impl Cuda {
    /// Opens a device, with `memory` bytes for all buffers.
    ///
    /// # Errors
    /// Unavailable, with what the driver said.
    pub fn open(info: Info, memory: u64) -> Result<Cuda> {
        let (major, minor) = info.capability;
        let name = format!("cuda: {} (compute capability {major}.{minor})", info.name);
        Flights::new(name, Interface { info }, memory)
    }
}

/// Device `index`, or the first.
///
/// # Errors
/// Unavailable, with what there is and what to install.
pub fn choose(index: Option<usize>) -> Result<Info> {
    let mut all = list()?;
    let index = index.unwrap_or(0);
    match all.len() {
        0 => Err(Error::unavailable("NVIDIA's driver is here, but no device of it")),
        count if index >= count => {
            Err(Error::unavailable(format!("there is no CUDA device {index}, only 0 to {}", count - 1)))
        }
        _ => Ok(all.swap_remove(index)),
    }
}

/// A batch in the air.
pub struct Flight {
    airborne: Airborne,
    tensors: Vec<Placed>,
    up: u64,
    /// What is on the device must stay there until this has landed.
    _frames: Vec<Arc<Frame>>,
}

impl Driver for Interface {
    type Gpu = Device;
    type Slot = Lane;
    type Flight = Flight;

    fn open(&self) -> Result<Device> {
        Device::open(self.info.index, &images::of(self.info.capability), &flight::KERNELS, self.info.shared)
    }

    fn check(&self, gpu: &Device) -> Result<()> {
        gpu.check()
    }

    fn surfaces(&self) -> bool {
        // Decoders leave them on the first device.
        self.info.index == 0
    }

    fn fits(&self, _: &Device, batch: &Batch) -> Result<()> {
        // Kernels count bytes of pixels and words of all else in 32 bits.
        let words = batch.scratch.max(batch.out).max(batch.tables.words.len());
        match batch.pixels.max(words) {
            most if most < u32::MAX as usize => Ok(()),
            most => {
                let text = format!("{most} bytes or words; the device counts to {}", u32::MAX);
                Err(Error::input(RejectKind::DeviceUnsupported, text))
            }
        }
    }

    fn begin(&self, gpu: &Arc<Device>, slot: Option<Lane>, batch: &Batch) -> Result<Option<Flight>> {
        let plan = Plan::new(batch, self.info.shared);
        let mut lane = slot.map_or_else(|| Lane::new(gpu), Ok)?;
        match lane.fit(&plan.sizes, |bytes| bytes + bytes / SPARE as usize) {
            Ok(()) => {}
            Err(Refusal::OutOfMemory(e)) => {
                tracing::warn!("{e}: the batch is halved");
                return Ok(None);
            }
            Err(Refusal::Failed(e)) => return Err(e),
        }
        plan.write(batch, lane.staging());
        let airborne = lane.send(gpu, &plan.sizes, &plan.launches)?;
        let (tensors, up, _frames) = (batch.tensors.clone(), plan.sizes.input as u64, batch.frames().to_vec());
        Ok(Some(Flight { airborne, tensors, up, _frames }))
    }

    fn end(&self, _: &Arc<Device>, flight: Flight) -> Result<(Lane, Vec<Tensor>, Journey)> {
        let landed = flight.airborne.wait()?;
        let down = landed.download();
        let tensors = flight.tensors.iter().map(|placed| placed.tensor(down)).collect();
        let journey = Journey { up: flight.up, down: down.len() as u64, computed: Some(landed.seconds) };
        Ok((landed.lane, tensors, journey))
    }

    fn speed(&self, gpu: &Arc<Device>, batch: &Batch, rounds: u32) -> Result<Speed> {
        let plan = Plan::new(batch, self.info.shared);
        let mut lane = Lane::new(gpu)?;
        match lane.fit(&plan.sizes, |bytes| bytes) {
            Ok(()) => {}
            Err(Refusal::OutOfMemory(e) | Refusal::Failed(e)) => return Err(e),
        }
        plan.write(batch, lane.staging());
        let lane = lane.send(gpu, &plan.sizes, &plan.launches)?.wait()?.lane;
        // The first rounds bring the clocks up.
        lane.repeat(gpu, &plan.launches, rounds.div_ceil(4))?;
        let seconds = lane.repeat(gpu, &plan.launches, rounds)?;
        let pictures = batch.tensors.len() as f64 * f64::from(rounds) / seconds;
        Ok(Speed { pictures, copied: lane.copied()?, raised: Some(lane.raised(&plan.sizes)?) })
    }

    fn held(&self, lane: &Lane) -> u64 {
        lane.bytes()
    }

    fn lose(&self, gpu: &Device) {
        gpu.lose();
    }
}
