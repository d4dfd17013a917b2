//! The kernels against the CPU: compiled for the host everywhere, and on a real device where there is one.

use std::cell::RefCell;

use super::host::Host;
use super::*;
use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::backend::fallback::Guarded;
use crate::backend::flights::Losing;
use crate::backend::parity::{self, items, mixed, random_lists, shrink, small, tensors};
use crate::backend::selftest;
use crate::ffi::cu::Held;

const MEMORY: u64 = 64 << 20;

/// The device to test on; says that the test is skipped where there is none.
fn device() -> Option<Cuda> {
    match choose(None) {
        Ok(info) => {
            let device = Cuda::open(info, MEMORY).unwrap();
            println!("on {}", device.name());
            Some(device)
        }
        Err(e) if std::env::var("FRAMEMILL_REQUIRE_GPU").is_ok_and(|v| v == "1") => panic!("{e}"),
        Err(e) => {
            println!("skipped: {e}");
            None
        }
    }
}

#[test]
fn on_the_host_random_lists_give_the_cpus_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let Some(host) = Host::compile(folder.path(), &[], MEMORY) else { return };
    random_lists(&host, 400, Some(&|bytes| host.driver.place(bytes)));
    let verdict = selftest::run(&host);
    assert!(verdict.faults.is_empty(), "{:#?}", verdict.faults);
}

#[test]
fn on_the_host_mixed_batches_give_the_cpus_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let Some(host) = Host::compile(folder.path(), &[], MEMORY) else { return };
    mixed::are_right(&host, 150, Some(&|bytes| host.driver.place(bytes)));
    mixed::frames_go_up_once(&host);
}

/// The negative control: each of these errors in a kernel is seen.
#[test]
fn on_the_host_a_planted_error_is_seen() {
    for (right, wrong) in [
        ("constexpr i32 HALF = 0x200000;", "constexpr i32 HALF = 0x100000;"),
        ("v.r * 19595", "v.r * 19500"),
        ("clamp(first + 1, 0, axis.last)", "clamp(first, 0, axis.last)"),
        // Only the fast kernels have these.
        ("((u32)sum.high << 16)", "((u32)sum.high << 15)"),
        ("before.v[1] * (whole - even)", "before.v[0] * (whole - even)"),
        ("weigh(out[k], unpacked(words.v[k]), weight);", "weigh(out[k], unpacked(words.v[0]), weight);"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let Some(host) = Host::compile(folder.path(), &[(right, wrong)], MEMORY) else { return };
        let faults = selftest::run(&host).faults;
        assert!(faults.iter().any(|fault| fault.contains("differs from the CPU's")), "{wrong}: {faults:?}");
    }
}

/// So is one that only reads where it must not.
#[test]
fn on_the_host_a_read_beyond_the_end_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let change =
        ("return s.mask > 0xff ?", "(void)*(volatile const u8 *)(at + s.stride[component]); return s.mask > 0xff ?");
    let Some(host) = Host::compile(folder.path(), &[change], MEMORY) else { return };
    assert!(!selftest::run(&host).faults.is_empty());
}

#[test]
fn random_lists_give_the_cpus_bytes() {
    let Some(device) = device() else { return };
    let (gpu, held) = (device.gpu().unwrap(), RefCell::new(Vec::new()));
    let place = |bytes: Vec<u8>| {
        let mut held = held.borrow_mut();
        held.push(Held::new(&gpu, &bytes).unwrap());
        held[held.len() - 1].address()
    };
    random_lists(&device, 4000, Some(&place));
    mixed::are_right(&device, 1500, Some(&place));
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

#[test]
fn batches_overlap_and_lanes_are_used_again() {
    device().iter().for_each(parity::batches_overlap);
}

#[test]
fn a_lost_device_costs_no_frame() {
    let Some(mut device) = device() else { return };
    device.losing = Some(Losing { batch: 1, on: false, seen: 0.into() });
    let guarded = Guarded::new(Box::new(device), false);
    let (program, frames) = (shrink(), small(1));
    let results = guarded.submit(items(&program, &frames))();
    assert!(results.iter().all(|r| r.as_ref().unwrap().fallback.is_none()), "a new device did it");
    assert_eq!(tensors(results), tensors(Cpu::new().submit(items(&program, &frames))()));
}
