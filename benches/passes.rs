//! Times of the CPU backend's passes and of the encoders: `cargo bench --bench passes`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use framemill::backend::Backend;
use framemill::backend::cpu::{Cpu, Level};
use framemill::color::{Color, ColorTags, Family};
use framemill::frame::{Frame, PixelFormat, Plane};
use framemill::geometry::Orientation;
use framemill::op::Op;
use framemill::program::{DrawKey, Program, Quality, Settings};
use framemill::sink::encode::{Encoding, encode};
use framemill::tensor::Tensor;

const WIDE: (u32, u32) = (1920, 1080);
const KEY: DrawKey = DrawKey { asset: 1, time_us: 0, variant: 0 };

/// Ramps with some noise: the loops have no branches on values, but encoders do.
fn samples(w: u32, h: u32, top: u32) -> impl Iterator<Item = u32> {
    (0..h).flat_map(move |y| {
        (0..w).map(move |x| {
            let noise = (x.wrapping_mul(2_654_435_761) ^ (y * 40_503)) >> 30;
            ((x * top / w + y * top / h) / 2) ^ noise
        })
    })
}

/// A 4:2:0 picture of `depth` bits.
fn yuv420(depth: u8) -> Frame {
    let (w, h) = WIDE;
    let plane = |w: u32, h: u32| {
        let values = samples(w, h, (1 << depth) - 1);
        let data: Vec<u8> = if depth == 8 {
            values.map(|v| v as u8).collect()
        } else {
            values.flat_map(|v| (v as u16).to_le_bytes()).collect()
        };
        Plane { stride: data.len() / h as usize, data: data.into() }
    };
    Frame {
        width: w,
        height: h,
        format: PixelFormat::Yuv { depth, sub_w: 1, sub_h: 1 },
        planes: vec![plane(w, h), plane(w / 2, h / 2), plane(w / 2, h / 2)],
        color: Color::resolve(&ColorTags::default(), w, h, true, Family::Yuv),
        orientation: Orientation::UPRIGHT,
        pts: 0,
        time_base: (1, 25),
        keyframe: true,
        sample_aspect: (1, 1),
        alpha: None,
        surface: None,
    }
}

fn rgb(w: u32, h: u32) -> Frame {
    Frame::rgb(w, h, samples(w * 3, h, 255).map(|v| v as u8).collect())
}

fn program(ops: &[&str], quality: Quality) -> Program {
    let ops: Vec<Op> = ops.iter().map(|op| Op::parse(op).unwrap()).collect();
    Program::compile(&ops, Settings { quality, ..Settings::default() }).unwrap()
}

fn time(c: &mut Criterion, group: &str, name: &str, frame: &Frame, ops: &[&str], quality: Quality) {
    let (cpu, program) = (Cpu::new(), program(ops, quality));
    let mut group = c.benchmark_group(group);
    group.bench_function(name, |b| b.iter(|| cpu.run(&program, black_box(frame), &KEY).unwrap()));
    group.finish();
}

fn convert(c: &mut Criterion) {
    time(c, "convert 1080p", "yuv420p", &yuv420(8), &[], Quality::Exact);
    time(c, "convert 1080p", "yuv420p10", &yuv420(10), &[], Quality::Exact);
}

fn resize(c: &mut Criterion) {
    let frame = yuv420(8);
    for filter in ["bilinear", "bicubic", "lanczos"] {
        let op = format!("resize:w=224,h=224,filter={filter}");
        time(c, "resize 1080p to 224", &format!("{filter} exact"), &frame, &[&op], Quality::Exact);
        time(c, "resize 1080p to 224", &format!("{filter} fast"), &frame, &[&op], Quality::Fast);
    }
    for level in Level::all() {
        let (cpu, program) = (Cpu::at(level), program(&["resize:w=224,h=224,filter=bicubic"], Quality::Exact));
        let mut group = c.benchmark_group("resize 1080p to 224, by instructions");
        group.bench_function(format!("{level:?}"), |b| b.iter(|| cpu.run(&program, black_box(&frame), &KEY).unwrap()));
        group.finish();
    }
    let photo = rgb(640, 427);
    let ops = ["resize:short=256,filter=bicubic", "center_crop:w=224,h=224"];
    time(c, "photo 640x427", "short 256 bicubic, crop 224", &photo, &ops, Quality::Exact);
}

fn small(c: &mut Criterion) {
    let frame = rgb(256, 256);
    for (name, ops) in [
        ("crop", ["center_crop:w=224,h=224"].as_slice()),
        ("crop, flip", &["center_crop:w=224,h=224", "flip"]),
        ("crop, pack f32", &["center_crop:w=224,h=224", "normalize:imagenet"]),
        ("crop, pack f16", &["center_crop:w=224,h=224", "normalize:imagenet", "to:f16"]),
    ] {
        time(c, "256 to 224", name, &frame, ops, Quality::Exact);
    }
}

fn augment(c: &mut Criterion) {
    let frame = rgb(224, 224);
    for (name, op) in [
        ("color_jitter", "color_jitter:brightness=0.4,contrast=0.4,saturation=0.4,hue=0.1"),
        ("gaussian_blur 9", "gaussian_blur:9"),
        ("random_affine", "random_affine:20,translate=0.1,0.1"),
    ] {
        time(c, "augment 224", name, &frame, &[op], Quality::Exact);
    }
    let mut film = yuv420(10);
    (film.color.primaries, film.color.transfer) = ("bt2020".into(), "smpte2084".into());
    time(c, "convert 1080p", "yuv420p10, tonemap", &film, &["tonemap"], Quality::Exact);
}

fn encoders(c: &mut Criterion) {
    let tensor: Tensor = Cpu::new().run(&program(&[], Quality::Exact), &rgb(224, 224), &KEY).unwrap().tensor;
    let mut group = c.benchmark_group("encode 224");
    for encoding in [Encoding::Jpeg(95), Encoding::Png] {
        group.bench_function(encoding.to_string(), |b| {
            b.iter(|| encode(std::slice::from_ref(black_box(&tensor)), false, &encoding).unwrap());
        });
    }
    group.finish();
}

criterion_group!(passes, convert, resize, small, augment, encoders);
criterion_main!(passes);
