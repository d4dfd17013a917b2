//! A device behind [`Backend`]: batches that are halved until they fit, flights that overlap, devices that are replaced
//! when they are lost.
//!
//! Invariants: device memory is bounded, since batches in flight are as many as [`Pace`] allows, each of its share of the
//! budget; a frame that is larger than a share runs by itself and its buffers are not kept. A frame goes up once in a batch,
//! whatever number of items read it, as long as memory allows. A device that failed gets no further batch.

pub(super) mod cut;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::cut::{Numbered, Reach, bytes, halves, push};
use super::{Backend, Item, Log, Pace, Pending, Processed, Speed};
use crate::error::{Error, Result};
use crate::program::Steps;
use crate::program::passes::Batch;
use crate::program::resample::Cache;
use crate::program::tones::Tones;
use crate::tensor::Tensor;

/// Threads that feed the device: one copies up while another copies down.
const THREADS: usize = 2;
/// Batches that a thread begins before it finishes one.
const AHEAD: usize = 1;
/// Items of a batch: more would not fill a device better, but wait longer.
const ITEMS: usize = 64;
/// A slot holds a frame twice (staging and device) and what is made of it: at most so many times its bytes, as a rule.
const COPIES: u64 = 4;
/// Devices that may be lost in a run before the hardware counts as broken.
const LIVES: u32 = 4;

/// Buffers are larger by a part in so many, so that batches of about one size need no new ones.
pub const SPARE: u64 = 4;

/// What was asked for where so many bytes were taken.
pub fn without_spare(bytes: u64) -> u64 {
    bytes / (SPARE + 1) * SPARE
}

/// One interface to devices.
pub trait Driver: Send + Sync {
    /// An open device.
    type Gpu: Send + Sync;
    /// All buffers that a flight needs, used again for a later one.
    type Slot: Send;
    /// A batch on its way: uploaded, computed, downloaded.
    type Flight: Send;

    /// Opens the device.
    ///
    /// # Errors
    /// Unavailable, with what its driver said.
    fn open(&self) -> Result<Self::Gpu>;

    /// Whether an open device is sound.
    ///
    /// # Errors
    /// Unavailable, with the first thing that failed on it.
    fn check(&self, gpu: &Self::Gpu) -> Result<()>;

    /// Whether kernels read surfaces where decoders left them.
    fn surfaces(&self) -> bool {
        false
    }

    /// Whether the device can take `batch` at once.
    ///
    /// # Errors
    /// `device_unsupported`, with what is too large.
    fn fits(&self, gpu: &Self::Gpu, batch: &Batch) -> Result<()>;

    /// Uploads `batch` and starts all its kernels and the download; waits for nothing. `None` where there is no memory
    /// for so large a batch.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    fn begin(&self, gpu: &Arc<Self::Gpu>, slot: Option<Self::Slot>, batch: &Batch) -> Result<Option<Self::Flight>>;

    /// Waits until a flight has landed: its slot, the tensors in the order of the batch, and what it took.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    fn end(&self, gpu: &Arc<Self::Gpu>, flight: Self::Flight) -> Result<(Self::Slot, Vec<Tensor>, Journey)>;

    /// Runs the kernels of `batch` `rounds` times on end.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    fn speed(&self, gpu: &Arc<Self::Gpu>, batch: &Batch, rounds: u32) -> Result<Speed>;

    /// Bytes that a slot holds on the device and for it.
    fn held(&self, slot: &Self::Slot) -> u64;

    /// Loses the device, for tests.
    fn lose(&self, gpu: &Self::Gpu);
}

/// What a flight took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Journey {
    /// Bytes that went up.
    pub up: u64,
    /// Bytes that came down.
    pub down: u64,
    /// Seconds in kernels by the device's clock, where it tells.
    pub computed: Option<f64>,
}

/// A device in use.
pub struct Flights<D: Driver> {
    name: String,
    pub(super) driver: D,
    /// Bytes of one slot, but for the room that its buffers have to spare; less where memory turned out to be short.
    share: AtomicU64,
    weights: Cache,
    tones: Tones,
    state: Mutex<State<D>>,
    log: Mutex<Log>,
    pub(super) losing: Option<Losing>,
}

pub(super) struct State<D: Driver> {
    gpu: Option<Arc<D::Gpu>>,
    /// Slots of this device that are at rest.
    pub(super) slots: Vec<D::Slot>,
    opened: u32,
}

impl<D: Driver> Flights<D> {
    /// Opens the device of `driver`, with `memory` bytes for all buffers.
    ///
    /// # Errors
    /// Unavailable, with what the driver said.
    pub fn new(name: String, driver: D, memory: u64) -> Result<Self> {
        let backend = Flights {
            name,
            driver,
            share: without_spare(memory / (THREADS * (1 + AHEAD)) as u64).into(),
            weights: Cache::default(),
            tones: Tones::default(),
            state: Mutex::new(State { gpu: None, slots: Vec::new(), opened: 0 }),
            log: Mutex::default(),
            losing: Losing::from_environment(),
        };
        backend.gpu()?;
        Ok(backend)
    }

    pub(super) fn share(&self) -> u64 {
        self.share.load(Ordering::Relaxed)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device; a new one where the last has failed.
    pub(super) fn gpu(&self) -> Result<Arc<D::Gpu>> {
        let mut state = self.state();
        if let Some(gpu) = &state.gpu
            && self.driver.check(gpu).is_ok()
        {
            return Ok(gpu.clone());
        }
        // The slots go before their device.
        state.slots.clear();
        state.gpu = None;
        if state.opened == LIVES {
            return Err(Error::unavailable(format!("the device failed {LIVES} times and was given up")));
        }
        state.opened += 1;
        let gpu = Arc::new(self.driver.open()?);
        state.gpu = Some(gpu.clone());
        Ok(gpu)
    }

    /// Begins as many flights as these items need.
    fn begin<'a>(&self, items: Vec<Numbered<'a>>, parts: &mut Vec<Part<D>>) {
        let gpu = match self.gpu() {
            Ok(gpu) => gpu,
            Err(e) => return parts.push(Part::failed(&items, e)),
        };
        let (batch, pictures) = self.batch(&items);
        let fit = self.driver.fits(&gpu, &batch);
        if items.len() > 1 && (fit.is_err() || bytes(&batch) > self.room(&batch)) {
            return self.halve(items, parts);
        }
        if let Err(e) = fit {
            return parts.push(Part::failed(&items, e));
        }
        // Of one batch only one part is in the air: only batches overlap.
        parts.iter_mut().for_each(|part| part.land(self));
        let mut part = Part { pictures, flight: None, tensors: Ok(Vec::new()) };
        if !batch.tensors.is_empty() {
            match self.fly(&gpu, &batch).transpose() {
                Some(flight) => part.flight = Some(flight),
                None if items.len() > 1 => {
                    // What rests holds memory too.
                    self.state().slots.clear();
                    self.share.fetch_min(bytes(&batch) / 2, Ordering::Relaxed);
                    return self.halve(items, parts);
                }
                None => part.flight = Some(Err(Error::unavailable("the device has no memory for a single picture"))),
            }
        }
        parts.push(part);
    }

    /// The items as plain data, and the steps of each.
    fn batch<'a>(&'a self, items: &[Numbered<'a>]) -> (Batch<'a>, Vec<(usize, Result<Steps>)>) {
        let mut batch = Batch::new(&self.weights, &self.tones);
        let mut reach = Reach::new(self.driver.surfaces());
        let pictures = items.iter().map(|(n, item)| (*n, push(&mut batch, item, &mut reach))).collect();
        (batch, pictures)
    }

    /// Bytes that a batch may take: its share. That of a single frame may take as much beside the frame as half a share has,
    /// however large the frame is: a part of the batch would bring it up once more.
    fn room(&self, batch: &Batch) -> u64 {
        let share = self.share();
        match batch.frames().len() {
            1 => share.max(2 * batch.pixels as u64 + share / 2),
            _ => share,
        }
    }

    fn halve(&self, items: Vec<Numbered>, parts: &mut Vec<Part<D>>) {
        let (first, second) = halves(items);
        self.begin(first, parts);
        self.begin(second, parts);
    }

    /// Sends a batch off, if there is memory for it.
    fn fly(&self, gpu: &Arc<D::Gpu>, batch: &Batch) -> Result<Option<Airborne<D>>> {
        let slot = self.state().slots.pop();
        let flight = self.driver.begin(gpu, slot, batch)?;
        if self.losing.as_ref().is_some_and(Losing::now) {
            self.driver.lose(gpu);
        }
        Ok(flight.map(|flight| Airborne { gpu: gpu.clone(), flight }))
    }

    /// Keeps a slot for another flight, unless it is larger than its share or its device has gone.
    fn rest(&self, slot: D::Slot, of: &Arc<D::Gpu>) {
        let mut state = self.state();
        let small = without_spare(self.driver.held(&slot)) <= self.share();
        if small && state.gpu.as_ref().is_some_and(|gpu| Arc::ptr_eq(gpu, of)) {
            state.slots.push(slot);
        }
    }
}

/// A flight with the device that it is on.
struct Airborne<D: Driver> {
    gpu: Arc<D::Gpu>,
    flight: D::Flight,
}

/// Items that fly together.
struct Part<D: Driver> {
    /// Which items, and the steps of each.
    pictures: Vec<(usize, Result<Steps>)>,
    flight: Option<Result<Airborne<D>>>,
    /// Once it has landed: of the pictures that had no error.
    tensors: Result<Vec<Tensor>>,
}

impl<D: Driver> Part<D> {
    fn failed(items: &[Numbered], error: Error) -> Self {
        let pictures = items.iter().map(|(n, _)| (*n, Err(error.clone()))).collect();
        Part { pictures, flight: None, tensors: Ok(Vec::new()) }
    }

    fn land(&mut self, backend: &Flights<D>) {
        let Some(flight) = self.flight.take() else { return };
        self.tensors = flight.and_then(|Airborne { gpu, flight }| {
            let (slot, tensors, journey) = backend.driver.end(&gpu, flight)?;
            backend.rest(slot, &gpu);
            backend.log.lock().unwrap_or_else(PoisonError::into_inner).add(journey);
            Ok(tensors)
        });
    }

    fn results(mut self, backend: &Flights<D>) -> Vec<(usize, Result<Processed>)> {
        self.land(backend);
        let mut tensors = self.tensors.map(Vec::into_iter);
        let mut one = |picture: Result<Steps>| {
            let Steps { transform, source, augment, .. } = picture?;
            let tensors = tensors.as_mut().map_err(|e| e.clone())?;
            let tensor = tensors.next().ok_or_else(|| Error::bug("a device gave fewer pictures than it got"))?;
            Ok(Processed { tensor, transform, source_size: source, augment, fallback: None })
        };
        self.pictures.into_iter().map(|(n, picture)| (n, one(picture))).collect()
    }
}

/// A device that begins a batch and finishes it later.
impl<D: Driver> Backend for Flights<D> {
    fn name(&self) -> &str {
        &self.name
    }

    fn surfaces(&self) -> bool {
        self.driver.surfaces()
    }

    fn log(&self) -> Option<Log> {
        Some(*self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn pace(&self) -> Pace {
        Pace { threads: THREADS, items: ITEMS, bytes: self.share() / COPIES, ahead: AHEAD }
    }

    fn speed(&self, items: &[Item], rounds: u32) -> Result<Option<Speed>> {
        let gpu = self.gpu()?;
        let items: Vec<Numbered> = items.iter().cloned().enumerate().collect();
        let (batch, pictures) = self.batch(&items);
        pictures.into_iter().try_for_each(|(_, steps)| steps.map(drop))?;
        self.driver.fits(&gpu, &batch)?;
        self.driver.speed(&gpu, &batch, rounds).map(Some)
    }

    fn submit<'a>(&'a self, items: Vec<Item<'a>>) -> Pending<'a> {
        let mut parts = Vec::new();
        self.begin(items.into_iter().enumerate().collect(), &mut parts);
        Box::new(move || {
            let mut results: Vec<_> = parts.into_iter().flat_map(|part| part.results(self)).collect();
            // Parts go by frames, results by items.
            results.sort_unstable_by_key(|(n, _)| *n);
            results.into_iter().map(|(_, result)| result).collect()
        })
    }
}

/// Devices lost on demand, for tests: FRAMEMILL_TEST_DEVICE_LOST=3 loses the third batch's, 3+ that of every later one too.
pub(super) struct Losing {
    pub(super) batch: u64,
    pub(super) on: bool,
    pub(super) seen: AtomicU64,
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
