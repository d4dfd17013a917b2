//! Backends run [`Program`]s over [`Frame`]s. All give the same bytes.
//!
//! Work comes in batches, which may hold items of several Programs: what is made of one frame belongs into one batch, since
//! a device then brings the frame up once for all of it. A backend that computes elsewhere begins a batch when it is
//! submitted and gives the results later, so that its caller can submit the next one in between; the CPU computes when the
//! results are asked for.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
pub mod fallback;
mod faulty;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub mod flights;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod load;
#[cfg(all(test, any(feature = "wgpu", feature = "cuda")))]
mod parity;
pub mod selftest;
#[cfg(feature = "cuda")]
mod team;
#[cfg(feature = "wgpu")]
pub mod wgpu;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::geometry::Transform;
use crate::program::{DrawKey, Program};
use crate::tensor::Tensor;

/// A frame that a Program is to be run on.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    /// What is to be done.
    pub program: &'a Program,
    /// The frame. It goes to a device once for all items of a batch that share it, whatever their Programs.
    pub frame: Arc<Frame>,
    /// Which frame, for random operations.
    pub key: DrawKey,
}

/// What became of a frame.
#[derive(Debug, Clone)]
pub struct Processed {
    /// The finished picture.
    pub tensor: Tensor,
    /// Output to upright source pixels.
    pub transform: Transform,
    /// Size of the upright source.
    pub source_size: (u32, u32),
    /// What random operations drew; null where there are none.
    pub augment: Value,
    /// Why another backend than the one that was asked did it.
    pub fallback: Option<String>,
}

/// A batch that was begun: called, it waits for the results and gives them in the order of the items.
pub type Pending<'a> = Box<dyn FnOnce() -> Vec<Result<Processed>> + 'a>;

/// How a backend is best fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Threads that feed it, at most.
    pub threads: usize,
    /// Items of a batch, at most.
    pub items: usize,
    /// Bytes of a batch's frames, each counted once, at most; a larger frame is a batch by itself.
    pub bytes: u64,
    /// Batches of a thread that are begun before one is finished.
    pub ahead: usize,
}

/// What a device did since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Log {
    /// Batches that came back.
    pub batches: u64,
    /// Bytes that went up.
    pub bytes_up: u64,
    /// Bytes that came down.
    pub bytes_down: u64,
    /// Seconds in kernels by the device's own clock; none where it does not tell.
    pub seconds: Option<f64>,
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl Log {
    fn add(&mut self, journey: flights::Journey) {
        self.batches += 1;
        self.bytes_up += journey.up;
        self.bytes_down += journey.down;
        if let Some(seconds) = journey.computed {
            *self.seconds.get_or_insert(0.0) += seconds;
        }
    }
}

/// How fast a device runs a Program by itself, and what its memory allows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// Pictures a second, from frames in the device's memory to tensors there.
    pub pictures: f64,
    /// Bytes a second that a copy inside its memory reads and writes.
    pub copied: f64,
    /// Bytes a second that a copy from the host brings up; none where it was not measured.
    pub raised: Option<f64>,
}

/// Something that can run Programs.
///
/// Errors of results: [`crate::error::RejectKind::Op`] where an operation does not fit the picture; from a device also
/// [`crate::error::RejectKind::DeviceUnsupported`] for what it cannot do, and [`crate::error::Class::Unavailable`] where
/// it failed.
pub trait Backend: Send + Sync {
    /// The name in reports.
    fn name(&self) -> &str;

    /// How it is best fed.
    fn pace(&self) -> Pace;

    /// Whether it reads frames where a decoder left them on a device.
    fn surfaces(&self) -> bool {
        false
    }

    /// What a device did since it was opened; none where there is no device.
    fn log(&self) -> Option<Log> {
        None
    }

    /// How fast it runs `items`, `rounds` times on end; none where there is no device.
    ///
    /// # Errors
    /// As the results of [`Backend::submit`].
    fn speed(&self, _items: &[Item], _rounds: u32) -> Result<Option<Speed>> {
        Ok(None)
    }

    /// Begins to run the Programs of `items` on their frames.
    fn submit<'a>(&'a self, items: Vec<Item<'a>>) -> Pending<'a>;

    /// Runs `program` on one frame.
    ///
    /// # Errors
    /// As the results of [`Backend::submit`].
    fn run(&self, program: &Program, frame: &Frame, key: &DrawKey) -> Result<Processed> {
        let item = Item { program, frame: Arc::new(frame.clone()), key: *key };
        let result = self.submit(vec![item])().pop();
        result.unwrap_or_else(|| Err(Error::bug(format!("{} gave no result", self.name()))))
    }
}
