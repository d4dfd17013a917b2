//! Batches of several Programs that share frames, against each item by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Place, frame, left, program, tensors, told};
use crate::backend::cpu::Cpu;
use crate::backend::flights::{Driver, Flights};
use crate::backend::selftest::noise;
use crate::backend::{Backend, Item, Pace, Pending};
use crate::color::Color;
use crate::frame::{Frame, PixelFormat};
use crate::op::Op;
use crate::program::{DrawKey, Program, Settings};

/// Runs `cases` random batches (ten times as many in a full run), of several Programs that share some frames, on `device` and
/// each item by itself on the CPU; with `place` on frames that lie on the device already as well. How many pictures of
/// frames that several Programs read were the CPU's.
///
/// # Errors
/// What differs.
fn batches(device: &dyn Backend, cases: u32, place: Option<Place>) -> std::result::Result<u64, String> {
    let (cpu, done) = (Cpu::new(), AtomicU64::new(0));
    let cases = if std::env::var("FRAMEMILL_TEST_FULL").is_ok_and(|v| v == "1") { 10 * cases } else { cases };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 50, ..Config::default() };
    let items = prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u32..2), 2..9);
    let frames = prop::collection::vec((frame(), any::<bool>(), any::<bool>()), 1..4);
    let inputs = (prop::collection::vec(program(), 2..4), frames, items);
    let outcome = TestRunner::new(config).run(&inputs, |(programs, frames, picks)| {
        let there = |(frame, there, together): (Arc<Frame>, bool, bool)| match place {
            Some(place) if there => Arc::new(left(&frame, together, place)),
            _ => frame,
        };
        let frames: Vec<Arc<Frame>> = frames.into_iter().map(there).collect();
        let item = |(program, frame, variant): &(prop::sample::Index, prop::sample::Index, u32)| Item {
            program: &program.get(&programs).0,
            frame: frame.get(&frames).clone(),
            key: DrawKey { asset: 7, time_us: 0, variant: *variant },
        };
        let items: Vec<Item> = picks.iter().map(item).collect();
        let own = told(device.submit(items.clone())());
        let theirs = told(items.iter().map(|item| cpu.run(item.program, &item.frame, &item.key)).collect());
        prop_assert_eq!(own.len(), items.len());
        for ((own, theirs), item) in own.iter().zip(&theirs).zip(&items) {
            let ops = &programs.iter().find(|(program, _)| std::ptr::eq(program, item.program)).unwrap().1;
            let frame = &item.frame;
            prop_assert!(own == theirs, "{ops:?} on {}x{} {:?}", frame.width, frame.height, frame.format);
            let shares = |other: &&Item| Arc::ptr_eq(&other.frame, frame) && !std::ptr::eq(other.program, item.program);
            if own.is_ok() && items.iter().any(|other| shares(&other)) {
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    });
    let done = done.into_inner();
    println!(
        "{done} pictures of frames that Programs share on {}: {}",
        device.name(),
        if outcome.is_ok() { "right" } else { "wrong" }
    );
    outcome.map(|()| done).map_err(|e| e.to_string())
}

/// Gives each item of a frame the Program of that frame's first one, as who mixed them up would.
struct Confused<'b>(&'b dyn Backend);

impl Backend for Confused<'_> {
    fn name(&self) -> &str {
        "confused"
    }
    fn pace(&self) -> Pace {
        self.0.pace()
    }
    fn submit<'a>(&'a self, items: Vec<Item<'a>>) -> Pending<'a> {
        let first =
            |item: &Item<'a>| items.iter().find(|other| Arc::ptr_eq(&other.frame, &item.frame)).unwrap().program;
        let mixed = items.iter().map(|item| Item { program: first(item), ..item.clone() }).collect();
        self.0.submit(mixed)
    }
}

/// Mixed batches on `device` are right; and that Programs which are mixed up would be seen.
pub fn are_right(device: &dyn Backend, cases: u32, place: Option<Place>) {
    let shared = batches(device, cases, place).unwrap();
    assert!(shared > u64::from(cases), "most batches must have pictures of shared frames: {shared}");
    let seen = batches(&Confused(device), cases, place).unwrap_err();
    assert!(seen.contains(" on "), "{seen}");
}

/// A frame goes up once, whatever number of Programs and variants read it; all that they make comes down.
pub fn frames_go_up_once<D: Driver>(device: &Flights<D>) {
    let yuv = PixelFormat::Yuv { depth: 8, sub_w: 1, sub_h: 1 };
    let frames: Vec<Arc<Frame>> = (0..4).map(|n| Arc::new(noise(yuv, (640, 480), Color::srgb(), n))).collect();
    let pixels = frames.iter().map(|frame| frame.bytes() as u64).sum::<u64>();
    let compile = |ops: &[&str]| {
        let ops: Vec<Op> = ops.iter().map(|op| Op::parse(op).unwrap()).collect();
        Program::compile(&ops, Settings::default()).unwrap()
    };
    let programs = [compile(&["resize:w=40,h=30"]), compile(&["letterbox:w=32,h=32", "to:dtype=f32,layout=chw"])];
    let moved = |programs: &[Program], variants: u32, frames: &[Arc<Frame>]| {
        let before = device.log().unwrap();
        let key = |variant| DrawKey { variant, ..DrawKey::default() };
        let of = |frame: &Arc<Frame>| -> Vec<Item> {
            let item =
                |variant| programs.iter().map(move |program| Item { program, frame: frame.clone(), key: key(variant) });
            (0..variants).flat_map(item).collect()
        };
        let items: Vec<Item> = frames.iter().flat_map(of).collect();
        assert_eq!(tensors(device.submit(items.clone())()), tensors(Cpu::new().submit(items)()));
        let after = device.log().unwrap();
        assert_eq!(after.batches, before.batches + 1);
        (after.bytes_up - before.bytes_up, after.bytes_down - before.bytes_down)
    };
    let (up, down) = moved(&programs[..1], 1, &frames);
    assert!(up >= pixels, "{up} of {pixels}");
    for (programs, variants) in [(&programs[..], 1), (&programs[..1], 3), (&programs[..], 3)] {
        let (more_up, more_down) = moved(programs, variants, &frames);
        // The rest are tables and parameters.
        assert!(more_up < up + pixels / 10, "{more_up} after {up} of {pixels}");
        assert!(more_down > down, "{more_down} after {down}");
    }
    let copies: Vec<Arc<Frame>> = frames.iter().chain(&frames).map(|frame| Arc::new(Frame::clone(frame))).collect();
    let (twice, _) = moved(&programs[..1], 1, &copies);
    assert!(twice >= 2 * pixels, "frames of their own go up each: {twice} of {pixels}");
}
