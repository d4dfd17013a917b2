//! The wgpu backend: any vendor's GPU through Vulkan, Metal or Direct3D 12; byte-equal to the CPU's.
//!
//! A batch is one submission: one upload, a dispatch or two for each level of its passes, one download. Batches that are too
//! large for the device are halved. Device memory is bounded: batches in flight are as many as [`Pace`] allows, each of
//! its share of the budget; a frame that is larger than a share runs by itself and its buffers are not kept.

pub mod adapter;
mod flight;
mod gpu;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::adapter::Adapter;
use self::flight::{Flight, Slot, fits, without_spare};
use self::gpu::Gpu;
use super::{Backend, Item, Pace, Pending, Processed};
use crate::error::{Error, Result};
use crate::program::passes::Batch;
use crate::program::resample::Cache;
use crate::program::tones::Tones;
use crate::program::{Program, Steps};
use crate::tensor::Tensor;

/// Threads that feed the device: one copies up while another copies down.
const THREADS: usize = 2;
/// Batches that a thread begins before it finishes one.
const AHEAD: usize = 1;
/// Items of a batch: more would not fill a device better, but wait longer.
const ITEMS: usize = 64;
/// A slot holds a frame twice (staging and device) and what is made of it: at most so many times its bytes, as a rule.
const COPIES: u64 = 4;
/// Devices that may be lost in a run before the adapter counts as broken.
const LIVES: u32 = 4;

/// An adapter in use.
pub struct Wgpu {
    name: String,
    adapter: Adapter,
    shader: String,
    /// Bytes of one slot, but for the room that its buffers have to spare.
    share: u64,
    weights: Cache,
    tones: Tones,
    state: Mutex<State>,
    losing: Option<Losing>,
}

#[derive(Default)]
struct State {
    gpu: Option<Arc<Gpu>>,
    /// Slots of this device that are at rest.
    slots: Vec<Slot>,
    opened: u32,
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
        let backend = Wgpu {
            name: format!("wgpu: {} ({})", adapter.name, adapter.backend),
            adapter,
            shader,
            share: without_spare(memory / (THREADS * (1 + AHEAD)) as u64),
            weights: Cache::default(),
            tones: Tones::default(),
            state: Mutex::default(),
            losing: Losing::from_environment(),
        };
        backend.gpu()?;
        Ok(backend)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device; a new one where the last has failed.
    fn gpu(&self) -> Result<Arc<Gpu>> {
        let mut state = self.state();
        if let Some(gpu) = &state.gpu
            && gpu.check().is_ok()
        {
            return Ok(gpu.clone());
        }
        *state = State { opened: state.opened, ..State::default() };
        if state.opened == LIVES {
            return Err(Error::unavailable(format!("the device failed {LIVES} times and was given up")));
        }
        state.opened += 1;
        let gpu = Arc::new(Gpu::open(&self.adapter.handle, &self.shader)?);
        state.gpu = Some(gpu.clone());
        Ok(gpu)
    }

    /// Begins as many flights as the items need.
    fn begin(&self, program: &Program, items: &[Item], parts: &mut Vec<Part>) {
        let gpu = match self.gpu() {
            Ok(gpu) => gpu,
            Err(e) => return parts.push(Part::failed(items.len(), e)),
        };
        let mut batch = Batch::new(program, &self.weights, &self.tones);
        let pictures: Vec<Result<Steps>> = items.iter().map(|item| push(&mut batch, program, item)).collect();
        let fit = fits(&gpu, &batch);
        if items.len() > 1 && (fit.is_err() || bytes(&batch) > self.share) {
            let (first, second) = items.split_at(items.len() / 2);
            self.begin(program, first, parts);
            return self.begin(program, second, parts);
        }
        if let Err(e) = fit {
            return parts.push(Part::failed(items.len(), e));
        }
        // Of one batch only one part is in the air: only batches overlap.
        parts.iter_mut().for_each(|part| part.land(self));
        parts.push(Part { pictures, flight: self.fly(&gpu, &batch), tensors: Ok(Vec::new()) });
    }

    /// Sends a batch off, if there is anything in it.
    fn fly(&self, gpu: &Arc<Gpu>, batch: &Batch) -> Option<Result<Flight>> {
        if batch.tensors.is_empty() {
            return None;
        }
        let slot = self.state().slots.pop();
        let flight = Flight::begin(gpu, slot, batch);
        if self.losing.as_ref().is_some_and(Losing::now) {
            gpu.device.destroy();
        }
        Some(flight)
    }

    /// Keeps a slot for another flight, unless it is larger than its share or its device has gone.
    fn rest(&self, slot: Slot, of: &Arc<Gpu>) {
        let mut state = self.state();
        if without_spare(slot.bytes()) <= self.share && state.gpu.as_ref().is_some_and(|gpu| Arc::ptr_eq(gpu, of)) {
            state.slots.push(slot);
        }
    }
}

/// Appends an item's picture to a batch.
fn push(batch: &mut Batch, program: &Program, item: &Item) -> Result<Steps> {
    let frame = &item.frame;
    let steps = program.resolve((frame.width, frame.height), frame.orientation, frame.sample_aspect, &item.key)?;
    batch.push(frame, &steps)?;
    Ok(steps)
}

/// Bytes of the slot that a batch needs, about.
fn bytes(batch: &Batch) -> u64 {
    let words = batch.tables.words.len() + batch.scratch + 2 * batch.out;
    2 * batch.pixels as u64 + 4 * words as u64
}

/// Items that fly together.
struct Part {
    pictures: Vec<Result<Steps>>,
    flight: Option<Result<Flight>>,
    /// Once it has landed: of the pictures that had no error.
    tensors: Result<Vec<Tensor>>,
}

impl Part {
    fn failed(items: usize, error: Error) -> Part {
        let pictures = (0..items).map(|_| Err(error.clone())).collect();
        Part { pictures, flight: None, tensors: Ok(Vec::new()) }
    }

    fn land(&mut self, backend: &Wgpu) {
        let Some(flight) = self.flight.take() else { return };
        self.tensors = flight.and_then(Flight::end).map(|landed| {
            backend.rest(landed.slot, &landed.gpu);
            landed.tensors
        });
    }

    fn results(mut self, backend: &Wgpu) -> Vec<Result<Processed>> {
        self.land(backend);
        let mut tensors = self.tensors.map(Vec::into_iter);
        let one = |picture: Result<Steps>| {
            let Steps { transform, source, augment, .. } = picture?;
            let tensors = tensors.as_mut().map_err(|e| e.clone())?;
            let tensor = tensors.next().ok_or_else(|| Error::bug("a device gave fewer pictures than it got"))?;
            Ok(Processed { tensor, transform, source_size: source, augment, fallback: None })
        };
        self.pictures.into_iter().map(one).collect()
    }
}

impl Backend for Wgpu {
    fn name(&self) -> &str {
        &self.name
    }

    fn pace(&self) -> Pace {
        Pace { threads: THREADS, items: ITEMS, bytes: self.share / COPIES, ahead: AHEAD }
    }

    fn submit<'a>(&'a self, program: &'a Program, items: Vec<Item>) -> Pending<'a> {
        let mut parts = Vec::new();
        self.begin(program, &items, &mut parts);
        Box::new(move || parts.into_iter().flat_map(|part| part.results(self)).collect())
    }
}

/// Devices lost on demand, for tests: FRAMEMILL_TEST_DEVICE_LOST=3 loses the third batch's, 3+ that of every later one too.
struct Losing {
    batch: u64,
    on: bool,
    seen: AtomicU64,
}

impl Losing {
    fn from_environment() -> Option<Losing> {
        let text = std::env::var("FRAMEMILL_TEST_DEVICE_LOST").ok()?;
        let batch = text.trim_end_matches('+').parse().ok()?;
        Some(Losing { batch, on: text.ends_with('+'), seen: AtomicU64::new(0) })
    }

    fn now(&self) -> bool {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        seen == self.batch || (self.on && seen > self.batch)
    }
}
