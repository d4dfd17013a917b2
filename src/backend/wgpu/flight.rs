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
    sums: Buffer,
    tensors: Buffer,
    download: Buffer,
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
        let Slot { staging, input, scratch, sums, tensors, download } = self;
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
        let old = old.map(|o| (o.staging, o.input, o.scratch, o.sums, o.tensors, o.download));
        let (staging, input, scratch, sums, tensors, download) = match old {
            Some((a, b, c, d, e, f)) => (Some(a), Some(b), Some(c), Some(d), Some(e), Some(f)),
            None => Default::default(),
        };
        Slot {
            staging: room(staging, sizes.input, BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC),
            input: room(input, sizes.input, BufferUsages::STORAGE | BufferUsages::COPY_DST),
            scratch: room(scratch, sizes.scratch, BufferUsages::STORAGE),
            sums: room(sums, sizes.sums, BufferUsages::STORAGE | BufferUsages::COPY_DST),
            tensors: room(tensors, sizes.tensors, BufferUsages::STORAGE | BufferUsages::COPY_SRC),
            download: room(download, sizes.tensors, BufferUsages::MAP_READ | BufferUsages::COPY_DST),
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
    /// Uploads `batch` and starts all its dispatches and the download; waits for nothing.
    ///
    /// # Errors
    /// Unavailable: the device failed.
    pub fn begin(gpu: &Arc<Gpu>, old: Option<Slot>, batch: &Batch) -> Result<Flight> {
        let dispatches = batch.dispatches();
        let mut parts = Parts { align: u64::from(gpu.limits.min_storage_buffer_offset_alignment).max(256), end: 0 };
        let passes: Vec<Range<u64>> = dispatches.iter().map(|(_, own)| parts.take(size_of_val(&own[..]))).collect();
        let sources = parts.take(size_of_val(&batch.sources[..]));
        let actions = parts.take(size_of_val(&batch.actions[..]));
        let tables = parts.take(size_of_val(&batch.tables.words[..]));
        let pixels = parts.take(batch.pixels);
        let sizes = Sizes {
            input: parts.end,
            scratch: bytes(batch.scratch),
            sums: bytes(batch.sums),
            tensors: bytes(batch.out),
        };
        let slot = Slot::fit(gpu, old, &sizes);
        gpu.check()?;
        let mut view = slot.staging.get_mapped_range_mut(..parts.end).map_err(|e| gpu.fail(&e.to_string()))?;
        let mut write = |at: u64, data: &[u8]| view.slice(at as usize..at as usize + data.len()).copy_from_slice(data);
        for (part, (_, own)) in passes.iter().zip(&dispatches) {
            write(part.start, bytemuck::cast_slice(own));
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
        if batch.sums > 0 {
            encoder.clear_buffer(&slot.sums, 0, None);
        }
        for (part, (entry, own)) in passes.into_iter().zip(&dispatches) {
            let group = gpu.bind([
                binding(&slot.input, part),
                binding(&slot.input, sources.clone()),
                binding(&slot.input, actions.clone()),
                binding(&slot.input, tables.clone()),
                binding(&slot.input, pixels.clone()),
                binding(&slot.scratch, 0..sizes.scratch),
                binding(&slot.tensors, 0..sizes.tensors),
                binding(&slot.sums, 0..sizes.sums),
            ]);
            let (x, y) = groups(own, stretch(*entry));
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(gpu.kernel(*entry));
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(x, y, own.len() as u32);
        }
        encoder.copy_buffer_to_buffer(&slot.tensors, 0, &slot.download, 0, sizes.tensors);
        let submission = gpu.queue.submit([encoder.finish()]);
        let (told, news) = mpsc::channel();
        let tell = |told: &mpsc::Sender<_>| {
            let told = told.clone();
            // A flight that was given up listens no more.
            move |result| drop(told.send(result))
        };
        slot.staging.map_async(MapMode::Write, .., tell(&told));
        slot.download.map_async(MapMode::Read, ..sizes.tensors, tell(&told));
        Ok(Flight { gpu: gpu.clone(), slot, submission, news, tensors: batch.tensors.clone(), down: sizes.tensors })
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

/// Workgroups along x and y that cover the largest picture of a dispatch.
fn groups(passes: &[Pass], stretch: u32) -> (u32, u32) {
    let most = |side: fn(&Pass) -> u32| passes.iter().map(side).max().unwrap_or(1);
    (most(|p| p.width).div_ceil(stretch).div_ceil(SIDE), most(|p| p.height).div_ceil(SIDE))
}
