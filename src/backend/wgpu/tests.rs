//! Equality with the CPU, to the byte, of random lists on random pictures; and that a wrong kernel would be seen.

use std::sync::atomic::AtomicU64;

use super::adapter::Adapter;
use super::*;
use crate::backend::cpu::Cpu;
use crate::backend::fallback::Guarded;
use crate::backend::flights::cut::{Reach, push};
use crate::backend::flights::{Losing, without_spare};
use crate::backend::parity::{self, items, mixed, shrink, small, tensors, told};
use crate::backend::selftest::{self, noise};
use crate::backend::{Backend, Item, Processed};
use crate::color::Color;
use crate::frame::{Frame, PixelFormat};
use crate::op::Op;
use crate::program::resample::Cache;
use crate::program::tones::Tones;
use crate::program::{DrawKey, Program, Settings};

const MEMORY: u64 = 64 << 20;

/// The adapter to test on; says that the test is skipped where there is none.
fn adapter() -> Option<Adapter> {
    match adapter::choose(None, true) {
        Ok(found) => Some(found),
        Err(e) if std::env::var("FRAMEMILL_REQUIRE_GPU").is_ok_and(|v| v == "1") => panic!("{e}"),
        Err(e) => {
            println!("skipped: {e}");
            None
        }
    }
}

fn device() -> Option<Wgpu> {
    let adapter = adapter()?;
    let (name, software) = (adapter.name.clone(), adapter.software);
    let device = Wgpu::open(adapter, MEMORY).unwrap();
    println!("on {}", device.name());
    assert!(device.name().contains(&name));
    assert!(!cfg!(target_os = "linux") || software == name.contains("llvmpipe"), "{name}");
    Some(device)
}

#[test]
fn random_lists_give_the_cpus_bytes() {
    let Some(device) = device() else { return };
    parity::random_lists(&device, 400, None);
}

#[test]
fn mixed_batches_give_the_cpus_bytes() {
    let Some(device) = device() else { return };
    mixed::are_right(&device, 150, None);
}

#[test]
fn frames_go_up_once() {
    device().iter().for_each(mixed::frames_go_up_once);
}

#[test]
fn the_device_passes_its_self_test() {
    let Some(device) = device() else { return };
    let verdict = selftest::run(&device);
    assert!(verdict.faults.is_empty(), "{:#?}", verdict.faults);
}

/// The negative control: each of these errors in a kernel is seen.
#[test]
fn a_planted_error_is_seen() {
    let Some(adapter) = adapter() else { return };
    for (right, wrong) in [
        ("const HALF: i32 = 0x200000;", "const HALF: i32 = 0x100000;"),
        ("v.x * 19595", "v.x * 19500"),
        ("rest -= part;", "rest -= 0u;"),
        ("let inside = abs(at);", "let inside = max(at, 0);"),
        ("if b.fraction < c.fraction {", "if b.fraction > c.fraction {"),
        ("clamp(first + 1, 0, axis.last)", "clamp(first, 0, axis.last)"),
        ("vec4<u32>(e[2].z, e[3].x, e[3].y, e[3].z)", "vec4<u32>(e[2].z, e[3].x, e[3].z, e[3].y)"),
    ] {
        let shader = gpu::SHADER.replace(right, wrong);
        assert_ne!(shader, gpu::SHADER, "{right} is in the shaders");
        let device = Wgpu::with_shader(adapter.clone(), MEMORY, shader).unwrap();
        let faults = selftest::run(&device).faults;
        assert!(faults.iter().any(|fault| fault.contains("differs from the CPU's")), "{wrong}: {faults:?}");
    }
}

#[test]
fn a_shader_that_does_not_compile_is_an_error() {
    let Some(adapter) = adapter() else { return };
    let error = Wgpu::with_shader(adapter, MEMORY, "no shader".into()).err().unwrap();
    assert_eq!(error.exit_code(), 69, "{error}");
}

#[test]
fn batches_overlap_and_buffers_are_used_again() {
    // lavapipe tells the time; so does every GPU that was met.
    device().iter().for_each(parity::batches_overlap);
}

#[test]
fn what_is_larger_than_its_share_flies_in_parts() {
    let Some(adapter) = adapter() else { return };
    let device = Wgpu::open(adapter, 4 * 6000).unwrap();
    let (program, frames) = (shrink(), small(1));
    let own = tensors(device.submit(items(&program, &frames))());
    assert_eq!(own, tensors(Cpu::new().submit(items(&program, &frames))()));
    assert!(
        device.state().slots.iter().all(|slot| without_spare(slot.bytes()) <= device.share()),
        "large buffers are not kept"
    );
}

#[test]
fn one_frame_in_many_variants_goes_up_once() {
    let frame = &small(3)[0];
    let program = Program::compile(&[Op::parse("random_flip").unwrap()], Settings::default()).unwrap();
    let (weights, tones) = (Cache::default(), Tones::default());
    let mut batch = Batch::new(&weights, &tones);
    for variant in 0..5 {
        let key = DrawKey { variant, ..DrawKey::default() };
        push(&mut batch, &Item { program: &program, frame: frame.clone(), key }, &mut Reach::new(false)).unwrap();
    }
    assert_eq!((batch.sources.len(), batch.uploads.len(), batch.tensors.len()), (1, 3, 5));
}

#[test]
fn deep_samples_are_refused_by_name() {
    let Some(device) = device() else { return };
    let deep = Arc::new(noise(PixelFormat::Gray { depth: 16 }, (9, 9), Color::srgb(), 1));
    let (program, frames) = (shrink(), [small(1)[0].clone(), deep, small(1)[1].clone()]);
    let results = told(device.submit(items(&program, &frames))());
    assert!(results[0].is_ok() && results[2].is_ok());
    assert_eq!(results[1], Err(Some(crate::error::RejectKind::DeviceUnsupported)));
    let guarded = Guarded::new(Box::new(device), false);
    let results = guarded.submit(items(&program, &frames))();
    let fallbacks: Vec<bool> = results.iter().map(|r| r.as_ref().unwrap().fallback.is_some()).collect();
    assert_eq!(fallbacks, [false, true, false]);
}

/// A device that is lost after some batches, guarded; what two batches of two Programs come to.
fn lost(batch: u64, on: bool) -> Option<(Vec<Processed>, Vec<Tensor>)> {
    let mut device = device()?;
    device.losing = Some(Losing { batch, on, seen: AtomicU64::new(0) });
    let guarded = Guarded::new(Box::new(device), false);
    let (programs, frames) = ([shrink(), parity::plain()], [small(1), small(2)]);
    let both = |frames: &[Arc<Frame>]| programs.iter().flat_map(|program| items(program, frames)).collect();
    let begun: Vec<_> = frames.iter().map(|f| guarded.submit(both(f))).collect();
    let results = begun.into_iter().flat_map(|begun| begun()).map(Result::unwrap).collect();
    let expected = frames.iter().flat_map(|f| tensors(Cpu::new().submit(both(f))()));
    Some((results, expected.collect()))
}

#[test]
fn a_lost_device_costs_no_frame() {
    let Some((results, expected)) = lost(1, false) else { return };
    assert!(results.iter().all(|p| p.fallback.is_none()), "a new device did it");
    assert_eq!(results.into_iter().map(|p| p.tensor).collect::<Vec<_>>(), expected);
}

#[test]
fn a_device_that_is_lost_again_and_again_is_replaced_by_the_cpu() {
    let Some((results, expected)) = lost(1, true) else { return };
    assert!(results.iter().all(|p| p.fallback.as_deref().is_some_and(|why| why.contains("device"))));
    assert_eq!(results.into_iter().map(|p| p.tensor).collect::<Vec<_>>(), expected);
}
