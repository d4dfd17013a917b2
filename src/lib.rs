//! framemill turns videos and photos into training datasets: the same bytes on every machine, the pixels people train
//! with, each sample exactly once, nothing silent.
//!
//! The modules lie on floors; each imports only from lower ones (see ARCHITECTURE.md).

// Floor 0: vocabulary.
pub mod bytes;
pub mod color;
pub mod error;
pub mod frame;
pub mod geometry;
pub mod tensor;
// Floor 1: the only unsafe code.
pub(crate) mod ffi;
// Floor 2: the plan of the pixel work.
pub mod op;
pub mod program;
pub mod rng;
// Floor 3: engines.
pub mod backend;
pub mod decode;
pub mod detect;
// Floor 4: edges.
pub mod sample;
pub mod sink;
pub mod store;
// Floor 5: the run.
pub mod bench;
pub mod finish;
pub mod input;
pub mod job;
pub mod lease;
pub mod notice;
pub mod pipeline;
pub mod plan;
pub mod report;
pub mod supervise;
pub mod task;
pub mod trace;
// Floor 6: the face.
pub mod cli;
