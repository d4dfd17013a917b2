//! Backends run [`Program`]s over [`Frame`]s. All give the same bytes.

pub mod cpu;

use serde_json::Value;

use crate::error::Result;
use crate::frame::Frame;
use crate::geometry::Transform;
use crate::program::{DrawKey, Program};
use crate::tensor::Tensor;

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
}

/// Something that can run Programs.
pub trait Backend: Send + Sync {
    /// The name in reports.
    fn name(&self) -> &str;
    /// Runs `program` on `frame`.
    ///
    /// Errors: [`crate::error::RejectKind::Op`] where an operation does not fit the picture.
    fn run(&self, program: &Program, frame: &Frame, key: &DrawKey) -> Result<Processed>;
}
