//! One submission on its way: uploaded, computed, downloaded.
//!
//! All that a submission needs lies in one [`Slot`] of buffers, which is used again for a later one. Slots in rotation
//! let the next batch go up while this one is computed and the one before comes down.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use wgpu::{
    Buffer, BufferAsyncError, BufferBinding, BufferDescriptor, BufferUsages, CommandEncoder, ComputePassDescriptor,
    ComputePassTimestampWrites, MapMode, PollType, QuerySet, QuerySetDescriptor, QueryType, SubmissionIndex,
};

use super::gpu::Gpu;
use crate::backend::flights::SPARE;
use crate::backend::load::Load;
use crate::error::{Error, RejectKind, Result};
use crate::program::params::Pass;
use crate::program::passes::{Batch, Entry, Placed};
use crate::tensor::Tensor;

/// Invocations of a workgroup along x and along y, as the shaders say.
const SIDE: u32 = 8;

/// Pixels of a row that one invocation makes, as the shaders say.
fn stretch(entry: Entry) -> u32 {
    match entry {
        Entry::Leave => 1,
        Entry::Total => 16,
        Entry::Finish => 4,
    }
}

/// How long a submission may take before its device counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the news of a finished submission may take.
const NEWS: Duration = Duration::from_secs(5);

/// The buffers of one submission.
pub struct Slot {
    /// Mapped for writing while the slot is at rest.
    staging: Buffer,
    input: Buffer,
    scratch: Buffer,
    sums: Buffer,
    tensors: Buffer,
    download: Buffer,
    clock: Option<Clock>,
}

/// Times before the first dispatch and behind the last, where the device tells them.
struct Clock {
    marks: QuerySet,
    times: Buffer,
}

/// Bytes of two times.
const TIMES: u64 = 16;

impl Clock {
    fn new(gpu: &Gpu) -> Clock {
        let marks = QuerySetDescriptor { label: None, ty: QueryType::Timestamp, count: 2 };
        let usage = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
        let times = BufferDescriptor { label: None, size: TIMES, usage, mapped_at_creation: false };
        Clock { marks: gpu.device.create_query_set(&marks), times: gpu.device.create_buffer(&times) }
    }
}

/// Bytes of a slot's buffers.
struct Sizes {
    input: u64,
    scratch: u64,
    sums: u64,
    tensors: u64,
}

impl Slot {
    /// Bytes that it holds on the device and for it.
    pub fn bytes(&self) -> u64 {
        let Slot { staging, input, scratch, sums, tensors, download, clock: _ } = self;
        [staging, input, scratch, sums, tensors, download].iter().map(|b| b.size()).sum()
    }

    /// Buffers of at least these sizes: those of `old` that are large enough, and new ones.
    fn fit(gpu: &Gpu, old: Option<Slot>, sizes: &Sizes) -> Slot {
        let room = |old: Option<Buffer>, size: u64, usage: BufferUsages| match old {
            Some(old) if old.size() >= size => old,
            _ => gpu.device.create_buffer(&BufferDescriptor {
                label: None,
                size: (size + size / SPARE).next_multiple_of(4).min(gpu.limits.max_buffer_size).max(size),
                usage,
                mapped_at_creation: usage.contains(BufferUsages::MAP_WRITE),
            }),
        };
        let old = old.map(|o| (o.staging, o.input, o.scratch, o.sums, o.tensors, o.download, o.clock));
        let (staging, input, scratch, sums, tensors, download, clock) = match old {
            Some((a, b, c, d, e, f, clock)) => (Some(a), Some(b), Some(c), Some(d), Some(e), Some(f), clock),
            None => Default::default(),
        };
        Slot {
            staging: room(staging, sizes.input, BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC),
            input: room(input, sizes.input, BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC),
            scratch: room(scratch, sizes.scratch, BufferUsages::STORAGE),
            sums: room(sums, sizes.sums, BufferUsages::STORAGE | BufferUsages::COPY_DST),
            tensors: room(tensors, sizes.tensors, BufferUsages::STORAGE | BufferUsages::COPY_SRC),
            download: room(download, sizes.tensors + TIMES, BufferUsages::MAP_READ | BufferUsages::COPY_DST),
            clock: clock.or_else(|| gpu.tells_time.then(|| Clock::new(gpu))),
        }
    }
}

impl Slot {
    /// All dispatches of a batch.
    fn compute(
        &self,
        gpu: &Gpu,
        encoder: &mut CommandEncoder,
        load: &Load,
        dispatches: &[(Entry, Vec<Pass>)],
        sizes: &Sizes,
    ) {
        let slot = self;
        for (n, (part, (entry, own))) in load.passes.iter().zip(dispatches).enumerate() {
            let group = gpu.bind([
                binding(&slot.input, part.clone()),
                binding(&slot.input, load.sources.clone()),
                binding(&slot.input, load.actions.clone()),
                binding(&slot.input, load.tables.clone()),
                binding(&slot.input, load.pixels.clone()),
                binding(&slot.scratch, 0..sizes.scratch),
                binding(&slot.tensors, 0..sizes.tensors),
                binding(&slot.sums, 0..sizes.sums),
            ]);
            let (x, y) = groups(own, stretch(*entry));
            let timestamp_writes = slot.clock.as_ref().map(|clock| ComputePassTimestampWrites {
                query_set: &clock.marks,
                beginning_of_pass_write_index: (n == 0).then_some(0),
                end_of_pass_write_index: (n + 1 == dispatches.len()).then_some(1),
            });
            // A pass in between has nothing to note.
            let timestamp_writes = timestamp_writes.filter(|_| n == 0 || n + 1 == dispatches.len());
            let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor { label: None, timestamp_writes });
            pass.set_pipeline(gpu.kernel(*entry));
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(x, y, own.len() as u32);
        }
    }

    /// Bytes a second that a copy inside the device's memory reads and writes: of the input to another buffer.
    pub fn copied(&self, gpu: &Gpu, bytes: u64) -> Result<f64> {
        const ROUNDS: u32 = 20;
        let to = gpu.device.create_buffer(&BufferDescriptor {
            label: None,
            size: bytes,
            usage: BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let seconds = timed(gpu, |encoder| {
            (0..ROUNDS).for_each(|_| encoder.copy_buffer_to_buffer(&self.input, 0, &to, 0, bytes));
        })?;
        Ok(2.0 * bytes as f64 * f64::from(ROUNDS) / seconds)
    }
}

/// Seconds from submission to the end of some work.
fn timed(gpu: &Gpu, work: impl FnOnce(&mut CommandEncoder)) -> Result<f64> {
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    work(&mut encoder);
    let commands = encoder.finish();
    let begun = Instant::now();
    let submission = gpu.queue.submit([commands]);
    let wait = PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
    gpu.device.poll(wait).map_err(|e| gpu.fail(&e.to_string()))?;
    gpu.check()?;
    Ok(begun.elapsed().as_secs_f64())
}

fn binding(buffer: &Buffer, part: Range<u64>) -> BufferBinding<'_> {
    BufferBinding { buffer, offset: part.start, size: NonZeroU64::new(part.end - part.start) }
}

/// Bytes of so many words, at least one binding's worth.
fn bytes(words: usize) -> u64 {
    (words as u64 * 4).max(256)
}

/// Whether the device can bind all parts of `batch`.
///
/// # Errors
/// `device_unsupported`, with what is too large.
pub fn fits(gpu: &Gpu, batch: &Batch) -> Result<()> {
    let binding = gpu.limits.max_storage_buffer_binding_size.min(u32::MAX.into());
    let parts = [
        ("pixels", batch.pixels as u64),
        ("tables", bytes(batch.tables.words.len())),
        ("pixels between passes", bytes(batch.scratch)),
        ("results", bytes(batch.out)),
    ];
    // Parts are rounded up to boundaries.
    let too_large = parts.iter().find(|(_, size)| size.next_multiple_of(256) > binding);
    let whole = parts[0].1 + parts[1].1 + (1 << 20);
    match too_large {
        Some((what, size)) => Err(Error::input(
            RejectKind::DeviceUnsupported,
            format!("{size} bytes of {what}; the device takes {binding} at a time"),
        )),
        None if whole > gpu.limits.max_buffer_size => Err(Error::input(
            RejectKind::DeviceUnsupported,
            format!("{whole} bytes go up; the device's largest buffer has {}", gpu.limits.max_buffer_size),
        )),
        None => Ok(()),
    }
}

/// How a batch lies in a slot.
fn plan(gpu: &Gpu, batch: &Batch, dispatches: &[(Entry, Vec<Pass>)]) -> (Load, Sizes) {
    let load = Load::new(batch, dispatches, u64::from(gpu.limits.min_storage_buffer_offset_alignment).max(256));
    let sizes = Sizes {
        input: load.bytes(),
        scratch: bytes(batch.scratch),
        sums: bytes(batch.sums),
        tensors: bytes(batch.out),
    };
    (load, sizes)
}

/// A submission that was begun.
pub struct Flight {
    slot: Slot,
    submission: SubmissionIndex,
    news: Receiver<Result<(), BufferAsyncError>>,
    tensors: Vec<Placed>,
    /// Bytes that go up.
    up: u64,
    /// Bytes of all tensors.
    down: u64,
}

impl Flight {
    /// Uploads `batch` and starts all its dispatches and the download; waits for nothing.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    pub fn begin(gpu: &Gpu, old: Option<Slot>, batch: &Batch) -> Result<Flight> {
        let dispatches = batch.dispatches();
        let (load, sizes) = plan(gpu, batch, &dispatches);
        let slot = Slot::fit(gpu, old, &sizes);
        gpu.check()?;
        let mut view = slot.staging.get_mapped_range_mut(..load.bytes()).map_err(|e| gpu.fail(&e.to_string()))?;
        load.write(batch, &dispatches, |at, data| view.slice(at..at + data.len()).copy_from_slice(data));
        drop(view);
        slot.staging.unmap();
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&slot.staging, 0, &slot.input, 0, load.bytes());
        if batch.sums > 0 {
            encoder.clear_buffer(&slot.sums, 0, None);
        }
        slot.compute(gpu, &mut encoder, &load, &dispatches, &sizes);
        encoder.copy_buffer_to_buffer(&slot.tensors, 0, &slot.download, 0, sizes.tensors);
        if let Some(clock) = &slot.clock {
            encoder.resolve_query_set(&clock.marks, 0..2, &clock.times, 0);
            encoder.copy_buffer_to_buffer(&clock.times, 0, &slot.download, sizes.tensors, TIMES);
        }
        let submission = gpu.queue.submit([encoder.finish()]);
        let (told, news) = mpsc::channel();
        let tell = |told: &mpsc::Sender<_>| {
            let told = told.clone();
            // A flight that was given up listens no more.
            move |result| drop(told.send(result))
        };
        slot.staging.map_async(MapMode::Write, .., tell(&told));
        slot.download.map_async(MapMode::Read, ..sizes.tensors + TIMES, tell(&told));
        Ok(Flight { slot, submission, news, tensors: batch.tensors.clone(), up: load.bytes(), down: sizes.tensors })
    }

    /// Seconds that the dispatches of `batch`, which this flight is of, take `rounds` times on end.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    pub fn repeat(&mut self, gpu: &Gpu, batch: &Batch, rounds: u32) -> Result<f64> {
        let dispatches = batch.dispatches();
        let (load, sizes) = plan(gpu, batch, &dispatches);
        timed(gpu, |encoder| {
            (0..rounds).for_each(|_| self.slot.compute(gpu, encoder, &load, &dispatches, &sizes));
        })
    }

    /// Bytes up and down.
    pub fn moves(&self) -> (u64, u64) {
        (self.up, self.down)
    }

    /// Waits until it has landed: the slot, for another flight, the tensors, and the seconds in kernels, where the device
    /// tells.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    pub fn end(self, gpu: &Gpu) -> Result<(Slot, Vec<Tensor>, Option<f64>)> {
        let Flight { slot, submission, news, tensors, down, .. } = self;
        let wait = PollType::Wait { submission_index: Some(submission), timeout: Some(PATIENCE) };
        gpu.device.poll(wait).map_err(|e| gpu.fail(&e.to_string()))?;
        for _ in 0..2 {
            match news.recv_timeout(NEWS) {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return Err(gpu.fail(&e.to_string())),
                Err(e) => return Err(gpu.fail(&format!("no news of its results: {e}"))),
            }
        }
        gpu.check()?;
        let view = slot.download.get_mapped_range(..down + TIMES).map_err(|e| gpu.fail(&e.to_string()))?;
        let (own, times) = view.split_at(down as usize);
        let tensors = tensors.iter().map(|placed| placed.tensor(own)).collect();
        let seconds = slot.clock.as_ref().map(|_| {
            let [from, to] = bytemuck::pod_read_unaligned::<[[u8; 8]; 2]>(times).map(u64::from_le_bytes);
            to.saturating_sub(from) as f64 * f64::from(gpu.queue.get_timestamp_period()) / 1e9
        });
        drop(view);
        slot.download.unmap();
        Ok((slot, tensors, seconds))
    }
}

/// Workgroups along x and y that cover the largest picture of a dispatch.
fn groups(passes: &[Pass], stretch: u32) -> (u32, u32) {
    let most = |side: fn(&Pass) -> u32| passes.iter().map(side).max().unwrap_or(1);
    (most(|p| p.width).div_ceil(stretch).div_ceil(SIDE), most(|p| p.height).div_ceil(SIDE))
}
