//! `devices` and `selftest`: what this machine computes on, what it lacks and what would help, and whether it is sound.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{decoders, pretty, print};
use crate::backend::cpu::Cpu;
use crate::backend::device::{self, Device};
use crate::backend::{Backend, Item, selftest};
use crate::color::{Color, Matrix, Range, Siting};
use crate::detect::Runtime;
use crate::detect::provider::Provider;
use crate::error::{Error, Result};
use crate::frame::{Frame, PixelFormat};
use crate::op::Op;
use crate::program::{DrawKey, Program, Quality, Settings};

/// Budget of a device's buffers in a self-test, and where speed is measured.
const MEMORY: u64 = 64 << 20;
const SPEED_MEMORY: u64 = 4 << 30;

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
    for d in found["cuda"].as_array().into_iter().flatten() {
        text += &format!(
            "cuda:{}   {} (compute capability {}, {} multiprocessors, {} MiB; its driver knows CUDA {})\n",
            d["index"],
            word(&d["name"]),
            word(&d["capability"]),
            d["multiprocessors"],
            d["memory"].as_u64().unwrap_or(0) >> 20,
            word(&d["driver"]),
        );
    }
    text += &decoders::text(&found["decoders"]);
    if let Some(onnx) = found["onnxruntime"].as_object() {
        let names: Vec<String> = onnx["providers"].as_array().into_iter().flatten().map(word).collect();
        text += &format!(
            "onnx     ONNX Runtime {} at {}, built with {}\n",
            word(&onnx["version"]),
            word(&onnx["path"]),
            names.join(", ")
        );
    }
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
    let cuda = match cuda() {
        Ok(found) => found,
        Err(why) => {
            lack("cuda", &why);
            Vec::new()
        }
    };
    let onnx = match Runtime::load(None) {
        Ok(runtime) => {
            let names: Vec<&str> = runtime.providers().into_iter().map(Provider::name).collect();
            json!({ "path": runtime.path, "version": runtime.version, "providers": names })
        }
        Err(e) => {
            lack("object detection", &e.message);
            Value::Null
        }
    };
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
        "cuda": cuda,
        "decoders": decoders,
        "onnxruntime": onnx,
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

/// NVIDIA's devices, or why there is none.
#[cfg(feature = "cuda")]
fn cuda() -> Result<Vec<Value>, String> {
    let describe = |d: crate::ffi::cu::Info| {
        json!({
            "index": d.index,
            "name": d.name,
            "capability": format!("{}.{}", d.capability.0, d.capability.1),
            "multiprocessors": d.multiprocessors,
            "memory": d.memory,
            "driver": format!("{}.{}", d.driver / 1000, d.driver % 1000 / 10),
        })
    };
    match crate::ffi::cu::list() {
        Ok(all) if all.is_empty() => Err("NVIDIA's driver is here, but no device of it".to_string()),
        Ok(all) => Ok(all.into_iter().map(describe).collect()),
        Err(e) => Err(e.message),
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Result<Vec<Value>, String> {
    Err(device::NO_CUDA.to_string())
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

/// `framemill selftest`: 0 when every byte is right, 70 when one is not, 69 where the device is not there. `speed`
/// measures as well.
pub fn selftest(device: &str, speed: bool, as_json: bool) -> Result<u8> {
    let memory = if speed { SPEED_MEMORY } else { MEMORY };
    let backend: Box<dyn Backend> = match device::bare(device.parse()?, memory)? {
        Some(backend) => backend,
        None => Box::new(Cpu::new()),
    };
    let verdict = selftest::run(&*backend);
    let sound = verdict.faults.is_empty();
    let speeds = if speed { speeds(&*backend)? } else { Vec::new() };
    if as_json {
        print(&pretty(&json!({
            "device": backend.name(),
            "sound": sound,
            "pictures": verdict.pictures,
            "faults": verdict.faults,
            "seconds": verdict.seconds,
            "speeds": speeds,
        })))?;
    } else {
        let end = if sound { "every byte is right" } else { "this device computes wrong bytes" };
        let faults: String = verdict.faults.iter().map(|fault| format!("wrong: {fault}\n")).collect();
        let (name, pictures, seconds) = (backend.name(), verdict.pictures, verdict.seconds);
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let speeds: String = speeds
            .iter()
            .map(|s| {
                let (rate, bound) = (number(&s["pictures_per_second"]), number(&s["memory_bound"]));
                let gb = number(&s["copy_bytes_per_second"]) / 1e9;
                let list = s["list"].as_str().unwrap_or_default();
                format!("{list}: {rate:.0} pictures/s, {:.2} of what memory allows ({gb:.0} GB/s)\n", rate / bound)
            })
            .collect();
        print(&format!("{faults}{name}: {pictures} pictures in {seconds:.2} s; {end}\n{speeds}"))?;
    }
    Ok(if sound { 0 } else { 70 })
}

/// What is measured: from 1080p in the device's memory to 224 x 224 there.
const SPEEDS: [(&str, &[&str], Quality); 3] = [
    ("exact bicubic f32", &["resize:w=224,h=224,filter=bicubic", "normalize:imagenet"], Quality::Exact),
    ("fast bicubic f32", &["resize:w=224,h=224,filter=bicubic", "normalize:imagenet"], Quality::Fast),
    ("exact bilinear u8", &["resize:short=256", "center_crop:w=224,h=224"], Quality::Exact),
];

/// The device's speeds, each beside the bound of its memory: the bytes of a frame and of its tensor over the rate of a copy.
fn speeds(backend: &dyn Backend) -> Result<Vec<Value>> {
    const PICTURES: u64 = 64;
    const ROUNDS: u32 = 20;
    let color = Color { matrix: Matrix::Bt709, range: Range::Limited, siting: Siting::Left, ..Color::srgb() };
    let frame = selftest::noise(PixelFormat::Yuv { depth: 8, sub_w: 1, sub_h: 1 }, (1920, 1080), color, 1);
    let frame_bytes: usize = frame.planes.iter().map(|plane| plane.data.len()).sum();
    // Frames of their own, so that none is read from a cache.
    let frames: Vec<Arc<Frame>> = (0..PICTURES).map(|_| Arc::new(frame.clone())).collect();
    let mut speeds = Vec::new();
    for (list, ops, quality) in SPEEDS {
        let ops = ops.iter().map(|op| Op::parse(op)).collect::<Result<Vec<Op>>>()?;
        let program = Program::compile(&ops, Settings { quality, ..Settings::default() })?;
        let item = |frame: &Arc<Frame>| Item { program: &program, frame: frame.clone(), key: DrawKey::default() };
        let items: Vec<Item> = frames.iter().map(item).collect();
        let Some(speed) = backend.speed(&items, ROUNDS)? else {
            return Err(Error::usage(format!(
                "{}: --speed measures GPUs; a run's report tells the CPU's",
                backend.name()
            )));
        };
        let (dtype, _) = program.output();
        let moved = frame_bytes + 224 * 224 * 3 * dtype.size();
        speeds.push(json!({
            "list": list,
            "pictures_per_second": speed.pictures,
            "memory_bound": speed.copied / moved as f64,
            "copy_bytes_per_second": speed.copied,
            "upload_bound": speed.raised.map(|rate| rate / frame_bytes as f64),
            "upload_bytes_per_second": speed.raised,
        }));
    }
    Ok(speeds)
}
