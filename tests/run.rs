//! The program as a user runs it: real files in, a dataset out, whatever happens in between.
#![cfg(feature = "ffmpeg")]

#[path = "run/account.rs"]
mod account;
#[path = "run/alpha.rs"]
mod alpha;
#[path = "run/aspect.rs"]
mod aspect;
#[path = "run/containers.rs"]
mod containers;
#[path = "run/damage.rs"]
mod damage;
#[path = "run/deinterlace.rs"]
mod deinterlace;
#[path = "common/ffmpeg.rs"]
mod ffmpeg;
#[path = "run/hardware.rs"]
mod hardware;
#[path = "run/inputs.rs"]
mod inputs;
#[path = "run/keyframes.rs"]
mod keyframes;
#[path = "run/memory.rs"]
mod memory;
#[path = "common/mount.rs"]
mod mount;
#[path = "common/python.rs"]
mod python;
#[path = "run/readers.rs"]
mod readers;
#[path = "run/resume.rs"]
mod resume;
#[path = "run/sampling.rs"]
mod sampling;
#[path = "run/scenes.rs"]
mod scenes;
#[path = "run/seeks.rs"]
mod seeks;
#[path = "run/store.rs"]
mod store;
#[path = "run/support.rs"]
mod support;
#[path = "run/tables.rs"]
mod tables;
#[path = "run/telling.rs"]
mod telling;
#[path = "run/trace.rs"]
mod trace;
