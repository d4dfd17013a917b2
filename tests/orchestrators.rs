//! framemill as a step of something larger: what clouds tell it, what it tells, the examples and manifests.
#![cfg(feature = "ffmpeg")]

#[path = "orchestrators/contract.rs"]
mod contract;
#[path = "orchestrators/examples.rs"]
mod examples;
#[path = "orchestrators/manifests.rs"]
mod manifests;
#[path = "orchestrators/metrics.rs"]
mod metrics;
#[path = "orchestrators/notices.rs"]
mod notices;
#[path = "common/python.rs"]
mod python;
#[cfg(feature = "otlp")]
#[path = "orchestrators/traces.rs"]
mod traces;
// What the tests of runs need is more than these do.
#[allow(dead_code)]
#[path = "run/support.rs"]
mod support;
