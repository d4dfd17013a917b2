//! The wgpu backend: any vendor's GPU through Vulkan, Metal or Direct3D 12; byte-equal to the CPU's.
//!
//! A batch is one submission: one upload, a dispatch or two for each level of its passes, one download.

pub mod adapter;
mod flight;
mod gpu;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::adapter::Adapter;
use self::flight::{Flight, Slot, fits};
use self::gpu::Gpu;
use super::Speed;
use super::flights::{Driver, Flights, Journey};
use crate::error::Result;
use crate::program::passes::Batch;
use crate::tensor::Tensor;

/// An adapter in use.
pub type Wgpu = Flights<Interface>;

/// An adapter and what it runs.
pub struct Interface {
    adapter: Adapter,
    shader: String,
}

impl Wgpu {
    /// Opens `adapter`, with `memory` bytes for all buffers.
    ///
    /// # Errors
    /// Unavailable, with what the driver said.
    pub fn open(adapter: Adapter, memory: u64) -> Result<Wgpu> {
        Wgpu::with_shader(adapter, memory, gpu::SHADER.to_string())
    }

    fn with_shader(adapter: Adapter, memory: u64, shader: String) -> Result<Wgpu> {
        let name = format!("wgpu: {} ({})", adapter.name, adapter.backend);
        Flights::new(name, Interface { adapter, shader }, memory)
    }
}

impl Driver for Interface {
    type Gpu = Gpu;
    type Slot = Slot;
    type Flight = Flight;

    fn open(&self) -> Result<Gpu> {
        Gpu::open(&self.adapter.handle, &self.shader)
    }

    fn check(&self, gpu: &Gpu) -> Result<()> {
        gpu.check()
    }

    fn fits(&self, gpu: &Gpu, batch: &Batch) -> Result<()> {
        fits(gpu, batch)
    }

    fn begin(&self, gpu: &Arc<Gpu>, slot: Option<Slot>, batch: &Batch) -> Result<Option<Flight>> {
        Flight::begin(gpu, slot, batch).map(Some)
    }

    fn end(&self, gpu: &Arc<Gpu>, flight: Flight) -> Result<(Slot, Vec<Tensor>, Journey)> {
        let (up, down) = flight.moves();
        let (slot, tensors, computed) = flight.end(gpu)?;
        Ok((slot, tensors, Journey { up, down, computed }))
    }

    fn speed(&self, gpu: &Arc<Gpu>, batch: &Batch, rounds: u32) -> Result<Speed> {
        let mut flight = Flight::begin(gpu, None, batch)?;
        flight.repeat(gpu, batch, rounds.div_ceil(4))?;
        let seconds = flight.repeat(gpu, batch, rounds)?;
        let (up, pictures) = (flight.moves().0, batch.tensors.len() as f64 * f64::from(rounds) / seconds);
        let (slot, ..) = flight.end(gpu)?;
        Ok(Speed { pictures, copied: slot.copied(gpu, up)?, raised: None })
    }

    fn held(&self, slot: &Slot) -> u64 {
        slot.bytes()
    }

    fn lose(&self, gpu: &Gpu) {
        gpu.device.destroy();
    }
}
