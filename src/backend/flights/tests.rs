//! How batches are cut, on a device of paper: it computes nothing, and takes only so much.

use super::*;
use crate::backend::cpu::Cpu;
use crate::backend::selftest::noise;
use crate::color::Color;
use crate::error::RejectKind;
use crate::frame::{Frame, PixelFormat};
use crate::op::Op;
use crate::program::{DrawKey, Program, Settings};

/// Takes batches of so many frames and pictures, and notes those that it took.
struct Paper {
    frames: usize,
    pictures: usize,
    taken: Mutex<Vec<(usize, usize)>>,
}

impl Driver for Paper {
    type Gpu = ();
    type Slot = u64;
    type Flight = (u64, Vec<Tensor>);

    fn open(&self) -> Result<()> {
        Ok(())
    }

    fn check(&self, (): &()) -> Result<()> {
        Ok(())
    }

    fn fits(&self, (): &(), _: &Batch) -> Result<()> {
        Ok(())
    }

    fn begin(&self, _: &Arc<()>, _: Option<u64>, batch: &Batch) -> Result<Option<(u64, Vec<Tensor>)>> {
        let (frames, pictures) = (batch.frames().len(), batch.tensors.len());
        if frames > self.frames || pictures > self.pictures {
            return Ok(None);
        }
        self.taken.lock().unwrap().push((frames, pictures));
        let down = vec![0; 4 * batch.out];
        let tensors = batch.tensors.iter().map(|placed| placed.tensor(&down)).collect();
        Ok(Some((bytes(batch), tensors)))
    }

    fn end(&self, _: &Arc<()>, (slot, tensors): (u64, Vec<Tensor>)) -> Result<(u64, Vec<Tensor>, Journey)> {
        Ok((slot, tensors, Journey::default()))
    }

    fn speed(&self, _: &Arc<()>, _: &Batch, _: u32) -> Result<Speed> {
        Err(Error::unavailable("this is paper"))
    }

    fn held(&self, slot: &u64) -> u64 {
        *slot
    }

    fn lose(&self, (): &()) {}
}

/// Frames of about one size, and Programs, such that no two pictures have the same sides.
fn frames() -> Vec<Arc<Frame>> {
    let yuv = PixelFormat::Yuv { depth: 8, sub_w: 1, sub_h: 1 };
    let sizes = [(256, 1024), (1024, 256), (512, 512), (340, 771)];
    sizes.iter().map(|size| Arc::new(noise(yuv, *size, Color::srgb(), 1))).collect()
}

fn programs() -> Vec<Program> {
    let compile = |side: u32| {
        let ops = [Op::parse(&format!("resize:short={side}")).unwrap()];
        Program::compile(&ops, Settings::default()).unwrap()
    };
    (10..13).map(compile).collect()
}

/// What every Program makes of every frame, Program by Program.
fn all<'a>(programs: &'a [Program], frames: &[Arc<Frame>]) -> Vec<Item<'a>> {
    let of = |program| frames.iter().map(move |frame| Item { program, frame: frame.clone(), key: DrawKey::default() });
    programs.iter().flat_map(of).collect()
}

/// The batches that a device with `memory` takes, of frames and pictures at most; the results are in order.
fn taken(memory: u64, frames_at_most: usize, pictures: usize) -> Vec<(usize, usize)> {
    let paper = Paper { frames: frames_at_most, pictures, taken: Mutex::default() };
    let device = Flights::new("paper".into(), paper, memory).unwrap();
    let (programs, frames) = (programs(), frames());
    let size = |result: Result<Processed>| {
        let done = result.unwrap();
        (done.tensor.width, done.tensor.height, done.source_size)
    };
    let sizes =
        |backend: &dyn Backend| -> Vec<_> { backend.submit(all(&programs, &frames))().into_iter().map(size).collect() };
    assert_eq!(sizes(&device), sizes(&Cpu::new()));
    std::mem::take(&mut *device.driver.taken.lock().unwrap())
}

/// Frames and pictures of all batches.
fn sums(batches: &[(usize, usize)]) -> (usize, usize) {
    batches.iter().fold((0, 0), |(frames, pictures), batch| (frames + batch.0, pictures + batch.1))
}

#[test]
fn all_that_is_made_of_a_frame_flies_together() {
    const MUCH: u64 = 1 << 30;
    assert_eq!(taken(MUCH, 4, 12), [(4, 12)]);
    // Where memory turns out to be short, each frame still goes up once.
    assert_eq!(sums(&taken(MUCH, 2, 12)), (4, 12));
    assert_eq!(taken(MUCH, 1, 12), [(1, 3); 4]);
    assert_eq!(taken(MUCH, 4, 3), [(1, 3); 4]);
    // Only what is made of one frame is cut then.
    let own = taken(MUCH, 4, 2);
    assert!(own.iter().all(|(frames, pictures)| *frames == 1 && *pictures <= 2), "{own:?}");
    assert_eq!(sums(&own).1, 12);
    assert_eq!(taken(MUCH, 4, 1), [(1, 1); 12]);
}

#[test]
fn a_frame_that_is_larger_than_a_share_still_goes_up_once() {
    // A frame takes 790 kB, here and there; what is made of it less than 200.
    let memory = 450_000 * (SPARE + 1) / SPARE * (THREADS * (1 + AHEAD)) as u64;
    assert_eq!(taken(memory, 4, 12), [(1, 3); 4]);
    // What is made of one is bounded all the same.
    assert_eq!(taken(memory / 16, 4, 12), [(1, 1); 12]);
}

#[test]
fn a_picture_that_fails_leaves_the_others_their_places() {
    let paper = Paper { frames: 1, pictures: 2, taken: Mutex::default() };
    let device = Flights::new("paper".into(), paper, 1 << 30).unwrap();
    let deep = Arc::new(noise(PixelFormat::Gray { depth: 16 }, (256, 256), Color::srgb(), 1));
    let (programs, mut frames) = (programs(), frames());
    frames[1] = deep;
    let told = |result: Result<Processed>| {
        result.map(|done| (done.tensor.width, done.tensor.height, done.source_size)).map_err(|e| e.reject)
    };
    let results =
        |backend: &dyn Backend| -> Vec<_> { backend.submit(all(&programs, &frames))().into_iter().map(told).collect() };
    let (own, cpu) = (results(&device), results(&Cpu::new()));
    assert_eq!(own.len(), cpu.len());
    for (n, (own, cpu)) in own.iter().zip(&cpu).enumerate() {
        match n % 4 {
            1 => assert_eq!(*own, Err(Some(RejectKind::DeviceUnsupported)), "item {n}"),
            _ => assert_eq!(own, cpu, "item {n}"),
        }
    }
}

#[test]
fn halves_cut_between_frames() {
    let (programs, frames) = (programs(), frames());
    let numbered = |frames: &[Arc<Frame>]| all(&programs, frames).into_iter().enumerate().collect::<Vec<_>>();
    let numbers = |items: Vec<Numbered>| items.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
    let (first, second) = halves(numbered(&frames[..3]));
    assert_eq!((numbers(first), numbers(second)), (vec![0, 3, 6], vec![1, 2, 4, 5, 7, 8]));
    let (first, second) = halves(numbered(&frames[..1]));
    assert_eq!((numbers(first), numbers(second)), (vec![0], vec![1, 2]));
}
