//! Inputs that lie elsewhere: a real S3 server, and HTTP servers that behave as badly as those of the world.
#![cfg(all(feature = "cloud", feature = "ffmpeg"))]

#[path = "cloud/azure.rs"]
mod azure;
#[path = "cloud/faults.rs"]
mod faults;
#[path = "cloud/http.rs"]
mod http;
#[path = "cloud/keys.rs"]
mod keys;
#[path = "common/python.rs"]
mod python;
#[path = "cloud/roles.rs"]
mod roles;
#[path = "cloud/s3.rs"]
mod s3;
#[path = "cloud/secrets.rs"]
mod secrets;
#[path = "cloud/server.rs"]
mod server;
#[path = "run/support.rs"]
mod support;
