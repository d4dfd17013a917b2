//! The program as a user runs it: real files in, a dataset out, whatever happens in between.
#![cfg(feature = "ffmpeg")]

#[path = "run/damage.rs"]
mod damage;
#[path = "run/inputs.rs"]
mod inputs;
#[path = "run/resume.rs"]
mod resume;
#[path = "run/sampling.rs"]
mod sampling;
#[path = "run/support.rs"]
mod support;
