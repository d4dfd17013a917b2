//! One submission on its way: uploaded, computed, downloaded.
//!
//! All that a submission needs lies in one [`Slot`] of buffers, which is used again for a later one. Slots in rotation
//! let the next batch go up while this one is computed and the one before comes down.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use wgpu::{
    Buffer, BufferAsyncError, BufferBinding, BufferDescriptor, BufferUsages, MapMode, PollType, SubmissionIndex,
};

use super::gpu::Gpu;
use crate::error::{Error, RejectKind, Result};
use crate::program::params::Pass;
use crate::program::passes::{Batch, Placed};
use crate::tensor::Tensor;

/// Invocations of a workgroup along x and along y, as the shaders say.
const SIDE: u32 = 8;
/// Pixels of a row that one invocation of the last level finishes.
const GROUP: u32 = 4;
/// How long a submission may take before its device counts as hung.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the news of a finished submission may take.
const NEWS: Duration = Duration::from_secs(5);

/// Buffers are larger by a part in so many, so that batches of about one size need no new ones.
const SPARE: u64 = 4;

/// What was asked for where so many bytes were taken.
pub fn without_spare(bytes: u64) -> u64 {
    bytes / (SPARE + 1) * SPARE
}

/// The buffers of one submission.
pub struct Slot {
    /// Mapped for writing while the slot is at rest.
    staging: Buffer,
    input: Buffer,
    scratch: Buffer,
    tensors: Buffer,
    download: Buffer,
}

impl Slot {
    /// Bytes that it holds on the device and for it.
    pub fn bytes(&self) -> u64 {
        [&self.staging, &self.input, &self.scratch, &self.tensors, &self.download].iter().map(|b| b.size()).sum()
    }

    /// Buffers of at least these sizes: those of `old` that are large enough, and new ones.
    fn fit(gpu: &Gpu, old: Option<Slot>, input: u64, scratch: u64, tensors: u64) -> Slot {
        let room = |old: Option<Buffer>, size: u64, usage: BufferUsages| match old {
            Some(old) if old.size() >= size => old,
            _ => gpu.device.create_buffer(&BufferDescriptor {
                label: None,
                size: (size + size / SPARE).next_multiple_of(4).min(gpu.limits.max_buffer_size).max(size),
                usage,
                mapped_at_creation: usage.contains(BufferUsages::MAP_WRITE),
            }),
        };
        let (staging, old_input, old_scratch, old_tensors, download) = match old {
            Some(o) => (Some(o.staging), Some(o.input), Some(o.scratch), Some(o.tensors), Some(o.download)),
            None => (None, None, None, None, None),
        };
        Slot {
            staging: room(staging, input, BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC),
            input: room(old_input, input, BufferUsages::STORAGE | BufferUsages::COPY_DST),
            scratch: room(old_scratch, scratch, BufferUsages::STORAGE),
            tensors: room(old_tensors, tensors, BufferUsages::STORAGE | BufferUsages::COPY_SRC),
            download: room(download, tensors, BufferUsages::MAP_READ | BufferUsages::COPY_DST),
        }
    }
}

/// The parts of the input buffer, each on a boundary that it may be bound at.
struct Parts {
    align: u64,
    end: u64,
}

impl Parts {
    /// The next part; never empty, since a binding cannot be.
    fn take(&mut self, bytes: usize) -> Range<u64> {
        let at = self.end;
        self.end = (at + bytes.max(1) as u64).next_multiple_of(self.align);
        at..self.end
    }
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

/// A submission that was begun.
pub struct Flight {
    gpu: Arc<Gpu>,
    slot: Slot,
    submission: SubmissionIndex,
    news: Receiver<Result<(), BufferAsyncError>>,
    tensors: Vec<Placed>,
    /// Bytes of all tensors.
    down: u64,
}

/// A flight that has landed.
pub struct Landed {
    pub gpu: Arc<Gpu>,
    /// For another flight.
    pub slot: Slot,
    pub tensors: Vec<Tensor>,
}

impl Flight {
    /// Uploads `batch` and starts all its levels and the download; waits for nothing.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    pub fn begin(gpu: &Arc<Gpu>, old: Option<Slot>, batch: &Batch) -> Result<Flight> {
        let levels = batch.levels();
        let mut parts = Parts { align: u64::from(gpu.limits.min_storage_buffer_offset_alignment).max(256), end: 0 };
        let passes: Vec<Range<u64>> = levels.iter().map(|level| parts.take(size_of_val(&level[..]))).collect();
        let sources = parts.take(size_of_val(&batch.sources[..]));
        let actions = parts.take(size_of_val(&batch.actions[..]));
        let tables = parts.take(size_of_val(&batch.tables.words[..]));
        let pixels = parts.take(batch.pixels);
        let (scratch, tensors) = (bytes(batch.scratch), bytes(batch.out));
        let slot = Slot::fit(gpu, old, parts.end, scratch, tensors);
        gpu.check()?;
        let mut view = slot.staging.get_mapped_range_mut(..parts.end).map_err(|e| gpu.fail(&e.to_string()))?;
        let mut write = |at: u64, data: &[u8]| view.slice(at as usize..at as usize + data.len()).copy_from_slice(data);
        for (part, level) in passes.iter().zip(&levels) {
            write(part.start, bytemuck::cast_slice(level));
        }
        write(sources.start, bytemuck::cast_slice(&batch.sources));
        write(actions.start, bytemuck::cast_slice(&batch.actions));
        write(tables.start, bytemuck::cast_slice(&batch.tables.words));
        for upload in &batch.uploads {
            upload.copy(batch.frame(upload), |at, row| write(pixels.start + at as u64, row));
        }
        drop(view);
        slot.staging.unmap();
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&slot.staging, 0, &slot.input, 0, parts.end);
        for (n, (part, level)) in passes.into_iter().zip(&levels).enumerate() {
            let group = gpu.bind([
                binding(&slot.input, part),
                binding(&slot.input, sources.clone()),
                binding(&slot.input, actions.clone()),
                binding(&slot.input, tables.clone()),
                binding(&slot.input, pixels.clone()),
                binding(&slot.scratch, 0..scratch),
                binding(&slot.tensors, 0..tensors),
            ]);
            let last = n + 1 == levels.len();
            let (x, y) = groups(level, if last { GROUP } else { 1 });
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(if last { &gpu.finish } else { &gpu.leave });
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(x, y, level.len() as u32);
        }
        encoder.copy_buffer_to_buffer(&slot.tensors, 0, &slot.download, 0, tensors);
        let submission = gpu.queue.submit([encoder.finish()]);
        let (told, news) = mpsc::channel();
        let tell = |told: &mpsc::Sender<_>| {
            let told = told.clone();
            // A flight that was given up listens no more.
            move |result| drop(told.send(result))
        };
        slot.staging.map_async(MapMode::Write, .., tell(&told));
        slot.download.map_async(MapMode::Read, ..tensors, tell(&told));
        Ok(Flight { gpu: gpu.clone(), slot, submission, news, tensors: batch.tensors.clone(), down: tensors })
    }

    /// Waits until it has landed.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    pub fn end(self) -> Result<Landed> {
        let Flight { gpu, slot, submission, news, tensors, down } = self;
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
        let view = slot.download.get_mapped_range(..down).map_err(|e| gpu.fail(&e.to_string()))?;
        let tensors = tensors.iter().map(|placed| placed.tensor(&view)).collect();
        drop(view);
        slot.download.unmap();
        Ok(Landed { gpu, slot, tensors })
    }
}

/// Workgroups along x and y that cover the largest picture of a level.
fn groups(level: &[Pass], pixels: u32) -> (u32, u32) {
    let most = |side: fn(&Pass) -> u32| level.iter().map(side).max().unwrap_or(1);
    (most(|p| p.width).div_ceil(pixels).div_ceil(SIDE), most(|p| p.height).div_ceil(SIDE))
}
