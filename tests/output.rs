//! Outputs in object stores, and workers that share a job there or in a folder: the dataset is that of one undisturbed run.
#![cfg(all(feature = "cloud", feature = "ffmpeg"))]

#[path = "output/bucket.rs"]
mod bucket;
#[path = "output/clock.rs"]
mod clock;
#[path = "output/gcs.rs"]
mod gcs;
#[path = "output/google.rs"]
mod google;
#[path = "common/mount.rs"]
mod mount;
#[path = "output/planning.rs"]
mod planning;
#[path = "common/python.rs"]
mod python;
#[path = "output/rolls.rs"]
mod rolls;
#[path = "output/s3s.rs"]
mod s3s;
#[path = "output/scratch.rs"]
mod scratch;
#[path = "cloud/server.rs"]
#[allow(dead_code, reason = "the tests of inputs use the rest")]
mod server;
#[path = "run/support.rs"]
#[allow(dead_code, reason = "the tests of runs use the rest")]
mod support;
#[path = "output/tools.rs"]
mod tools;
#[path = "output/workers.rs"]
mod workers;
