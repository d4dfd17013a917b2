//! `devices` and `selftest`: what this machine computes on, what it lacks and what would help, and whether it is sound.

use serde_json::{Value, json};

use super::{decoders, pretty, print};
use crate::backend::cpu::Cpu;
use crate::backend::device::{self, Device};
use crate::backend::{Backend, selftest};
use crate::error::Result;

/// Budget of a device's buffers in a self-test.
const MEMORY: u64 = 64 << 20;

/// `framemill devices`.
pub fn devices(as_json: bool) -> Result<u8> {
    let found = found();
    if as_json {
        return print(&pretty(&found));
    }
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let mut text = format!("cpu      {} threads, {}\n", found["cpu"]["threads"], word(&found["cpu"]["simd"]));
    for a in found["wgpu"].as_array().into_iter().flatten() {
        text += &format!(
            "wgpu:{}   {} ({}, {}; {}), buffers up to {} MiB, {} MiB of one at a time\n",
            a["index"],
            word(&a["name"]),
            word(&a["type"]),
            word(&a["backend"]),
            word(&a["driver"]),
            a["max_buffer"].as_u64().unwrap_or(0) >> 20,
            a["max_binding"].as_u64().unwrap_or(0) >> 20,
        );
    }
    text += &decoders::text(&found["decoders"]);
    for lack in found["missing"].as_array().into_iter().flatten() {
        text += &format!("missing  {}: {}\n", word(&lack["what"]), word(&lack["why"]));
    }
    print(&(text + &format!("--device auto takes {}", word(&found["auto"]))))
}

fn found() -> Value {
    let simd = if cfg!(target_arch = "x86_64") && simd() { "AVX2" } else { "no SIMD of its own" };
    let (adapters, why) = adapters();
    let mut missing: Vec<Value> = Vec::new();
    let mut lack = |what: &str, why: &str| missing.push(json!({ "what": what, "why": why }));
    if let Some(why) = why {
        lack("wgpu", why);
    }
    lack("cuda", device::NO_CUDA);
    lack("object detection", "this version does not have ONNX Runtime yet");
    if cfg!(not(feature = "ffmpeg")) {
        lack("video", "built without ffmpeg: build with the feature ffmpeg");
    }
    if cfg!(not(feature = "heif")) {
        lack("HEIC and AVIF photos", "built without heif: build with the feature heif");
    }
    let (decoders, no_decoders) = decoders::found();
    missing.extend(no_decoders);
    let auto = match device::bare(Device::Auto, MEMORY) {
        Ok(Some(backend)) => backend.name().to_string(),
        Ok(None) => "cpu: there is no GPU, or only software that takes its place".to_string(),
        Err(e) => format!("cpu: {e}"),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    json!({
        "cpu": { "threads": threads, "simd": simd },
        "wgpu": adapters,
        "decoders": decoders,
        "missing": missing,
        "auto": auto,
    })
}

#[cfg(target_arch = "x86_64")]
fn simd() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn simd() -> bool {
    false
}

/// The adapters, or why there is none.
#[cfg(feature = "wgpu")]
fn adapters() -> (Vec<Value>, Option<&'static str>) {
    use crate::backend::wgpu::adapter;
    let describe = |a: adapter::Adapter| {
        json!({
            "index": a.index,
            "name": a.name,
            "type": a.kind,
            "software": a.software,
            "backend": a.backend,
            "driver": a.driver,
            "max_buffer": a.max_buffer,
            "max_binding": a.max_binding,
        })
    };
    let all: Vec<Value> = adapter::list().into_iter().map(describe).collect();
    let why = all.is_empty().then_some(adapter::MISSING);
    (all, why)
}

#[cfg(not(feature = "wgpu"))]
fn adapters() -> (Vec<Value>, Option<&'static str>) {
    (Vec::new(), Some(device::NO_WGPU))
}

/// `framemill selftest`: 0 when every byte is right, 70 when one is not, 69 where the device is not there.
pub fn selftest(device: &str, as_json: bool) -> Result<u8> {
    let backend: Box<dyn Backend> = match device::bare(device.parse()?, MEMORY)? {
        Some(backend) => backend,
        None => Box::new(Cpu::new()),
    };
    let verdict = selftest::run(&*backend);
    let sound = verdict.faults.is_empty();
    if as_json {
        print(&pretty(&json!({
            "device": backend.name(),
            "sound": sound,
            "pictures": verdict.pictures,
            "faults": verdict.faults,
            "seconds": verdict.seconds,
        })))?;
    } else {
        let end = if sound { "every byte is right" } else { "this device computes wrong bytes" };
        let faults: String = verdict.faults.iter().map(|fault| format!("wrong: {fault}\n")).collect();
        let (name, pictures, seconds) = (backend.name(), verdict.pictures, verdict.seconds);
        print(&format!("{faults}{name}: {pictures} pictures in {seconds:.2} s; {end}"))?;
    }
    Ok(if sound { 0 } else { 70 })
}
