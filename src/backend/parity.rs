//! Equality of devices with the CPU, to the byte, of random lists on random pictures: what all devices' tests share.

pub mod mixed;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::cpu::Cpu;
use super::flights::{Driver, Flights};
use super::selftest::noise;
use super::{Backend, Item, Pending, Processed};
use crate::color::{Color, Matrix, Range, Siting};
use crate::error::Result;
use crate::frame::{Frame, Lie, PixelFormat, Plane, Surface};
use crate::geometry::Orientation;
use crate::op::Op;
use crate::program::yuv::Chroma;
use crate::program::{DrawKey, Program, Quality, Settings};
use crate::tensor::Tensor;

fn format() -> impl Strategy<Value = PixelFormat> {
    let deep = prop_oneof![3 => Just(8u8), 1 => Just(10), 1 => Just(12), 1 => Just(9)];
    let sub =
        prop_oneof![3 => Just((1, 1)), 1 => Just((1, 0)), 1 => Just((0, 0)), 1 => Just((2, 0)), 1 => Just((0, 1))];
    prop_oneof![
        4 => (deep.clone(), sub).prop_map(|(depth, (sub_w, sub_h))| PixelFormat::Yuv { depth, sub_w, sub_h }),
        1 => deep.clone().prop_map(|depth| PixelFormat::Gray { depth }),
        1 => deep.prop_map(|depth| PixelFormat::Gbr { depth }),
        2 => Just(PixelFormat::Rgb8),
    ]
}

fn color() -> impl Strategy<Value = Color> {
    let matrix = prop::sample::select(vec![
        Matrix::Bt601,
        Matrix::Bt709,
        Matrix::Bt2020,
        Matrix::Smpte240m,
        Matrix::Fcc,
        Matrix::Ycgco,
    ]);
    let range = prop::sample::select(vec![Range::Limited, Range::Full]);
    let siting = prop::sample::select(vec![
        Siting::Left,
        Siting::Center,
        Siting::TopLeft,
        Siting::Top,
        Siting::BottomLeft,
        Siting::Bottom,
    ]);
    let transfer = prop::sample::select(vec!["bt709", "bt709", "smpte2084", "arib-std-b67"]);
    (matrix, range, siting, transfer).prop_map(|(matrix, range, siting, transfer)| {
        let (transfer, primaries) = (transfer.to_string(), "bt2020".to_string());
        Color { matrix, range, siting, transfer, primaries, ..Color::srgb() }
    })
}

fn frame() -> impl Strategy<Value = Arc<Frame>> {
    (format(), (1u32..60, 1u32..60), color(), any::<u64>(), (any::<bool>(), 0u8..4)).prop_map(
        |(format, size, color, seed, (flip_h, turns))| {
            let orientation = Orientation { flip_h, turns };
            Arc::new(Frame { orientation, sample_aspect: (4, 3), ..noise(format, size, color, seed) })
        },
    )
}

fn op() -> impl Strategy<Value = String> {
    let side = || 1u32..70;
    let filter = || prop::sample::select(vec!["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]);
    let axis = || prop::sample::select(vec!["h", "v"]);
    prop_oneof![
        4 => (side(), side(), filter()).prop_map(|(w, h, f)| format!("resize:w={w},h={h},filter={f}")),
        1 => (side(), filter()).prop_map(|(n, f)| format!("resize:short={n},filter={f},match=pillow12")),
        1 => (side(), filter()).prop_map(|(n, f)| format!("resize:long={n},filter={f}")),
        2 => (0u32..9, 0u32..9, 1u32..12, 1u32..12).prop_map(|(x, y, w, h)| format!("crop:x={x},y={y},w={w},h={h}")),
        2 => (1u32..30, 1u32..30).prop_map(|(w, h)| format!("center_crop:w={w},h={h}")),
        1 => (side(), side()).prop_map(|(w, h)| format!("pad:w={w},h={h},fill=40c0ff")),
        1 => (side(), side()).prop_map(|(w, h)| format!("pad:w={w},h={h},fill=102030,align=topleft")),
        1 => (side(), side(), filter()).prop_map(|(w, h, f)| format!("letterbox:w={w},h={h},filter={f},fill=0a0b0c")),
        1 => axis().prop_map(|a| format!("flip:{a}")),
        1 => axis().prop_map(|a| format!("random_flip:axis={a},p=0.5")),
        1 => (1i32..4).prop_map(|k| format!("rotate90:k={k}")),
        1 => Just("grayscale".to_string()),
        4 => augmentation(),
        1 => prop::sample::select(vec!["look.cube", "curve.cube"])
            .prop_map(|name| format!("lut:file={}", TABLES.path().join(name).display())),
    ]
}

/// Colour tables as files: a cube that bends colours and exchanges some, and a curve.
static TABLES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let part = |i: u32| f64::from(i) / 3.0;
    let node = |i: u32| {
        let [r, g, b] = [i % 4, i / 4 % 4, i / 16].map(part);
        format!("{:.4} {:.4} {:.4}\n", 1.2 * r * r - 0.1 * b, 0.6 * g + 0.4 * (1.0 - b) * r, b.sqrt())
    };
    let cube: String = (0..64).map(node).collect();
    std::fs::write(folder.path().join("look.cube"), format!("LUT_3D_SIZE 4\n{cube}")).unwrap();
    let curve: String = (0..4).map(|i| format!("{} {} {}\n", part(i), 1.0 - part(i), part(i) * part(i))).collect();
    std::fs::write(folder.path().join("curve.cube"), format!("LUT_1D_SIZE 4\n{curve}")).unwrap();
    folder
});

fn augmentation() -> impl Strategy<Value = String> {
    let side = || 1u32..50;
    let jitter = (any::<[bool; 4]>(), 0.0f64..3.0, 0.0f64..3.0, 0.0f64..3.0, 0.0f64..0.5);
    prop_oneof![
        1 => (side(), side()).prop_map(|(w, h)| format!("random_resized_crop:w={w},h={h},filter=bicubic")),
        4 => jitter.prop_map(|(on, brightness, contrast, saturation, hue)| {
            let all = [("brightness", brightness), ("contrast", contrast), ("saturation", saturation), ("hue", hue)];
            let given = all.iter().zip(on).filter(|(_, on)| *on);
            let given: Vec<String> = given.map(|((name, value), _)| format!("{name}={value:.3}")).collect();
            format!("color_jitter:{}", given.join(","))
        }),
        1 => Just("random_grayscale:p=0.5".to_string()),
        2 => (0u32..8, 0.2f64..4.0).prop_map(|(half, s)| format!("gaussian_blur:kernel={},sigma={s:.2}", 2 * half + 1)),
        2 => (0u32..180).prop_map(|a| format!("random_affine:degrees={a},translate=0.2,0.3,scale=0.5,1.5,shear=10,fill=3090c0")),
        1 => Just("random_erasing:p=0.7,value=90".to_string()),
    ]
}

fn ending() -> impl Strategy<Value = Vec<&'static str>> {
    let layout = ["to:layout=hwc", "to:layout=chw"].map(|to| vec![to]);
    let plain = ["to:dtype=f16,layout=chw", "to:dtype=bf16,layout=hwc", "to:dtype=f32,layout=chw"].map(|to| vec![to]);
    let normal = vec![
        vec!["normalize:imagenet"],
        vec!["normalize:mean=0.5,0.4,0.3,std=0.2,0.3,0.4", "to:dtype=f16,layout=hwc"],
        vec!["normalize:imagenet", "to:dtype=bf16"],
    ];
    prop::sample::select([vec![vec![]], layout.to_vec(), plain.to_vec(), normal].concat())
}

fn program() -> impl Strategy<Value = (Program, Vec<String>)> {
    let quality = prop::sample::select(vec![Quality::Exact, Quality::Fast]);
    let chroma = prop::sample::select(vec![Chroma::Linear, Chroma::Nearest]);
    let ops = (prop::collection::vec(op(), 0..5), prop::option::weighted(0.3, Just("tonemap".to_string())));
    (ops, ending(), quality, chroma, prop::bool::weighted(0.1)).prop_map(
        |(ops, end, quality, chroma, square_pixels)| {
            let (ops, tonemap) = ops;
            let end = end.into_iter().map(str::to_string);
            let ops: Vec<String> = ops.into_iter().chain(tonemap).chain(end).collect();
            let parsed: Vec<Op> = ops.iter().map(|op| Op::parse(op).unwrap()).collect();
            let settings = Settings { quality, chroma, square_pixels, seed: 5, ..Settings::default() };
            (Program::compile(&parsed, settings).unwrap(), ops)
        },
    )
}

/// Frames as a batch, each with draws of its own.
pub fn items<'a>(program: &'a Program, frames: &[Arc<Frame>]) -> Vec<Item<'a>> {
    let key = |time_us| DrawKey { asset: 7, time_us, variant: 0 };
    frames.iter().zip(0..).map(|(frame, n)| Item { program, frame: frame.clone(), key: key(n) }).collect()
}

/// Everything that a result says, but for the text of errors.
pub fn told(
    results: Vec<Result<Processed>>,
) -> Vec<std::result::Result<(Tensor, String), Option<crate::error::RejectKind>>> {
    let one = |result: Result<Processed>| match result {
        Ok(p) => Ok((p.tensor, format!("{:?} {:?} {} {:?}", p.transform, p.source_size, p.augment, p.fallback))),
        Err(e) => Err(e.reject),
    };
    results.into_iter().map(one).collect()
}

/// Brings bytes to where a device's kernels find them, and says at which address.
pub type Place<'a> = &'a dyn Fn(Vec<u8>) -> u64;

/// A frame on a device, with its planes here.
#[derive(Debug)]
struct Left {
    lie: Lie,
    planes: Vec<Plane>,
}

impl Surface for Left {
    fn lie(&self) -> Lie {
        self.lie
    }

    fn download(&self) -> Result<Vec<Plane>> {
        Ok(self.planes.clone())
    }
}

/// `frame` as hardware decoders leave it: both components of chroma together or each for itself, samples of more than a
/// byte in the high bits, rows padded.
fn left(frame: &Frame, together: bool, place: Place) -> Frame {
    let PixelFormat::Yuv { depth, .. } = frame.format else { return frame.clone() };
    let (bytes, low) = if depth > 8 { (2, 16 - u32::from(depth)) } else { (1, 0) };
    let rows = frame.rows().unwrap();
    let mut memory = Vec::new();
    let (mut offset, mut stride) = ([0; 3], [0; 3]);
    for (at, (row, count)) in rows.iter().enumerate() {
        let pair = together && at > 0;
        if !(pair && at == 2) {
            offset[at] = memory.len() as u32;
            stride[at] = (if pair { 2 * row } else { *row } as u32).next_multiple_of(64);
            memory.resize(memory.len() + stride[at] as usize * count, 0x5a);
        } else {
            (offset[2], stride[2]) = (offset[1] + bytes as u32, stride[1]);
        }
        let step = if pair { 2 * bytes } else { bytes };
        for y in 0..*count {
            let from = &frame.planes[at].data[y * frame.planes[at].stride..][..*row];
            for (x, sample) in from.chunks_exact(bytes).enumerate() {
                let to = offset[at] as usize + y * stride[at] as usize + x * step;
                match sample {
                    [a, b] => memory[to..to + 2].copy_from_slice(&(u16::from_le_bytes([*a, *b]) << low).to_le_bytes()),
                    _ => memory[to] = sample[0],
                }
            }
        }
    }
    let step = [bytes as u32, if together { 2 * bytes } else { bytes } as u32];
    let lie = Lie { address: place(memory), offset, stride, step, low };
    let surface = Arc::new(Left { lie, planes: frame.planes.clone() });
    Frame { planes: Vec::new(), surface: Some(surface), ..frame.clone() }
}

/// Runs `cases` random lists (ten times as many in a full run) on the device and on the CPU; with `place` on frames that
/// lie on the device already as well.
pub fn random_lists(device: &dyn Backend, cases: u32, place: Option<Place>) {
    let (cpu, done) = (Cpu::new(), AtomicU64::new(0));
    let cases = if std::env::var("FRAMEMILL_TEST_FULL").is_ok_and(|v| v == "1") { 10 * cases } else { cases };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let inputs = (program(), prop::collection::vec((frame(), any::<bool>(), any::<bool>()), 1..4));
    let outcome = TestRunner::new(config).run(&inputs, |((program, ops), frames)| {
        let there = |(frame, there, together): (Arc<Frame>, bool, bool)| match place {
            Some(place) if there => Arc::new(left(&frame, together, place)),
            _ => frame,
        };
        let frames: Vec<Arc<Frame>> = frames.into_iter().map(there).collect();
        let (own, theirs) = (device.submit(items(&program, &frames))(), cpu.submit(items(&program, &frames))());
        let (own, theirs) = (told(own), told(theirs));
        done.fetch_add(own.iter().filter(|r| r.is_ok()).count() as u64, Ordering::Relaxed);
        for ((own, theirs), frame) in own.iter().zip(&theirs).zip(&frames) {
            prop_assert!(own == theirs, "{ops:?} on {}x{} {:?}", frame.width, frame.height, frame.format);
        }
        Ok(())
    });
    outcome.unwrap();
    let done = done.into_inner();
    println!("{done} pictures of {} are the CPU's", device.name());
    assert!(done > u64::from(cases) / 2, "most lists must fit their pictures: {done}");
}

/// Four small pictures.
pub fn small(seed: u64) -> Vec<Arc<Frame>> {
    let yuv = PixelFormat::Yuv { depth: 8, sub_w: 1, sub_h: 1 };
    (0..4).map(|n| Arc::new(noise(yuv, (40 + n, 33), Color::srgb(), seed + u64::from(n)))).collect()
}

/// A list that shrinks them.
pub fn shrink() -> Program {
    Program::compile(&[Op::parse("resize:w=20,h=11").unwrap()], Settings::default()).unwrap()
}

/// A list that does nothing.
pub fn plain() -> Program {
    Program::compile(&[], Settings::default()).unwrap()
}

/// What came out.
pub fn tensors(results: Vec<Result<Processed>>) -> Vec<Tensor> {
    results.into_iter().map(|r| r.unwrap().tensor).collect()
}

/// Batches of a device that overlap give the CPU's bytes, in two slots that take turns, and are told of.
pub fn batches_overlap<D: Driver>(device: &Flights<D>) {
    let (program, cpu) = (shrink(), Cpu::new());
    let mut before: Option<(Pending, Vec<Arc<Frame>>)> = None;
    for seed in 0..12 {
        let frames = small(100 * seed);
        let begun = device.submit(items(&program, &frames));
        if let Some((begun, frames)) = before.replace((begun, frames)) {
            assert_eq!(tensors(begun()), tensors(cpu.submit(items(&program, &frames))()));
        }
    }
    let (last, _) = before.unwrap();
    assert_eq!(tensors(last()).len(), 4);
    assert_eq!(device.state().slots.len(), 2, "one that is computed and one that is filled");
    let log = device.log().unwrap();
    assert_eq!(log.batches, 12);
    assert!(log.bytes_up > log.bytes_down, "{log:?}");
    assert!(log.seconds.is_some_and(|s| s > 0.0 && s < 60.0), "{log:?}");
}
