//! `tonemap` against the Recommendations' formulas (NumPy, needs FRAMEMILL_PYTHON) and, where no curve is in it, against
//! zimg through FFmpeg's `zscale`; and that SDR pictures stay as they are.
#![cfg(feature = "ffmpeg")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use framemill::backend::{Backend, cpu::Cpu};
use framemill::bytes::FileSource;
use framemill::color::{Color, Matrix, Range, Siting};
use framemill::decode::video::{VideoOptions, VideoReader};
use framemill::frame::{Frame, PixelFormat, Plane};
use framemill::op::Op;
use framemill::program::{DrawKey, Program, Quality, Settings};

const SIDE: u32 = 64;

/// 10-bit codes: all grays, then colours near them, then any colours; a stretch's pixels by its name.
const STRETCHES: [(&str, std::ops::Range<usize>); 3] =
    [("grays", 0..1024), ("pale colours", 1024..2560), ("any colours", 2560..4096)];

/// Planar Y, Cb, Cr.
fn codes() -> Vec<u16> {
    let mut state = 5u64;
    let mut next = move |from: u64, to: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (from + (state >> 33) % (to - from)) as u16
    };
    let pixels: Vec<[u16; 3]> = (0..SIDE * SIDE)
        .map(|i| match i {
            0..1024 => [i as u16, 512, 512],
            1024..2560 => [next(64, 940), next(472, 552), next(472, 552)],
            _ => [next(64, 940), next(64, 960), next(64, 960)],
        })
        .collect();
    (0..3).flat_map(|plane| pixels.iter().map(move |pixel| pixel[plane]).collect::<Vec<_>>()).collect()
}

fn bytes(codes: &[u16]) -> Vec<u8> {
    codes.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn frame(codes: &[u16], transfer: &str) -> Frame {
    let mut frame = Frame::rgb(1, 1, vec![0; 3]);
    (frame.width, frame.height) = (SIDE, SIDE);
    frame.format = PixelFormat::Yuv { depth: 10, sub_w: 0, sub_h: 0 };
    frame.color = Color {
        matrix: Matrix::Bt2020,
        range: Range::Limited,
        siting: Siting::TopLeft,
        primaries: "bt2020".into(),
        transfer: transfer.into(),
        ..Color::srgb()
    };
    let planes = codes.chunks(codes.len() / 3);
    frame.planes = planes.map(|p| Plane { data: bytes(p).into(), stride: SIDE as usize * 2 }).collect();
    frame
}

fn ours(frame: &Frame, ops: &[&str], quality: Quality) -> Vec<u8> {
    let ops: Vec<Op> = ops.iter().map(|op| Op::parse(op).unwrap()).collect();
    let program = Program::compile(&ops, Settings { quality, ..Settings::default() }).unwrap();
    Cpu::new().run(&program, frame, &DrawKey::default()).unwrap().tensor.data
}

fn piped(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// How far a stretch of pixels is from what it should be.
#[derive(Debug)]
struct Distance {
    mean: f64,
    /// All but one in a hundred values are nearer.
    far: f64,
    most: f64,
}

fn distance(ours: &[u8], theirs: &[f64], pixels: &std::ops::Range<usize>) -> Distance {
    assert_eq!(ours.len(), theirs.len());
    let mut each: Vec<f64> =
        (pixels.start * 3..pixels.end * 3).map(|i| (f64::from(ours[i]) - theirs[i]).abs()).collect();
    each.sort_by(f64::total_cmp);
    let (n, mean) = (each.len(), each.iter().sum::<f64>() / each.len() as f64);
    Distance { mean, far: each[n * 99 / 100], most: each[n - 1] }
}

/// Rounding makes 0.25 in the mean and 0.5 at most. Between nodes a table cannot follow gamma's vertical start where a
/// channel of a colour on the border of BT.709 is dark, nor white's corner where light rises steeply.
fn near(stretch: &str, d: &Distance) -> bool {
    match stretch {
        "grays" => d.mean < 0.3 && d.most < 0.9,
        _ => d.mean < 0.5 && d.far < 5.0,
    }
}

#[test]
fn curves_equal_the_recommendations() {
    let Ok(python) = std::env::var("FRAMEMILL_PYTHON") else {
        println!("skipped: FRAMEMILL_PYTHON is not set; scripts/test.sh sets it to a Python with NumPy");
        return;
    };
    let codes = codes();
    for (name, transfer) in [("pq", "smpte2084"), ("hlg", "arib-std-b67")] {
        let frame = frame(&codes, transfer);
        for (curve, peak) in [("bt2390", "1000"), ("bt2390", "4000"), ("clip", "1000")] {
            let mut command = Command::new(&python);
            command.args(["-c", include_str!("tonemap/reference.py"), name, curve, peak]);
            let output = piped(&mut command, &bytes(&codes));
            let theirs: Vec<f64> = output.chunks_exact(8).map(|v| f64::from_le_bytes(v.try_into().unwrap())).collect();
            let mapped = ours(&frame, &[&format!("tonemap:{curve},peak={peak}")], Quality::Exact);
            let plain = ours(&frame, &[], Quality::Exact);
            let other = ours(&frame, &["tonemap:peak=2000"], Quality::Exact);
            for (stretch, pixels) in &STRETCHES {
                let own = distance(&mapped, &theirs, pixels);
                println!("{name} {curve} {peak}, {stretch}: {own:.3?}");
                assert!(near(stretch, &own), "{name} {curve} {peak}, {stretch}: {own:?}");
                assert!(!near(stretch, &distance(&plain, &theirs, pixels)), "an unmapped picture is not told apart");
                if *stretch == "grays" {
                    assert!(!near(stretch, &distance(&other, &theirs, pixels)), "another peak is not told apart");
                }
            }
        }
    }
}

#[test]
fn light_without_a_curve_equals_zimg() {
    let filters = Command::new("ffmpeg").args(["-v", "error", "-filters"]).output();
    if !filters.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("zscale")) {
        println!("skipped: no ffmpeg with zscale is here");
        return;
    }
    let codes = codes();
    let filter = "zscale=matrixin=2020_ncl:rangein=limited:transferin=smpte2084:primariesin=2020:npl=203:matrix=gbr:\
                  range=full:transfer=709:primaries=709:dither=none:threads=1,format=gbrpf32le";
    let mut command = Command::new("ffmpeg");
    let size = format!("{SIDE}x{SIDE}");
    command.args(["-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv444p10le", "-s", &size, "-i", "-"]);
    command.args(["-vf", filter, "-f", "rawvideo", "-pix_fmt", "gbrpf32le", "-"]);
    let output = piped(&mut command, &bytes(&codes));
    let values: Vec<f64> =
        output.chunks_exact(4).map(|v| f64::from(f32::from_le_bytes(v.try_into().unwrap()))).collect();
    let n = (SIDE * SIDE) as usize;
    let theirs: Vec<f64> =
        (0..n).flat_map(|i| [values[2 * n + i], values[i], values[n + i]]).map(|v| v.clamp(0.0, 1.0) * 255.0).collect();
    let mapped = ours(&frame(&codes, "smpte2084"), &["tonemap:clip"], Quality::Exact);
    let curved = ours(&frame(&codes, "smpte2084"), &["tonemap"], Quality::Exact);
    // Of any codes many are colours outside of PQ's range, which are clipped here and go on in zimg.
    for (stretch, pixels) in &STRETCHES[..2] {
        let own = distance(&mapped, &theirs, pixels);
        println!("clip against zimg, {stretch}: {own:.3?}");
        assert!(near(stretch, &own), "{stretch}: {own:?}");
        assert!(!near(stretch, &distance(&curved, &theirs, pixels)), "{stretch}: a curve is not told apart");
    }
}

#[test]
fn it_comes_before_all_else_and_leaves_sdr_alone() {
    let codes = codes();
    let hdr = frame(&codes, "smpte2084");
    let (resize, crop) = ("resize:w=40,h=30", "crop:x=3,y=5,w=20,h=21");
    let first = ours(&hdr, &["tonemap", resize, crop], Quality::Exact);
    assert!(first == ours(&hdr, &[resize, crop, "tonemap"], Quality::Exact));
    assert!(first == ours(&hdr, &["tonemap", resize, crop], Quality::Fast));
    let (w, h) = (SIDE, SIDE);
    let whole = ours(&hdr, &["tonemap"], Quality::Exact);
    assert!(first == ours(&Frame::rgb(w, h, whole), &[resize, crop], Quality::Exact));
    assert!(first != ours(&hdr, &[resize, crop], Quality::Exact));

    let sdr = frame(&codes, "bt709");
    assert!(ours(&sdr, &["tonemap"], Quality::Exact) == ours(&sdr, &[], Quality::Exact));

    // Interleaved RGB, and gray, are codes as well: 8 bits of PQ's white and black.
    let mut rgb = Frame::rgb(2, 1, vec![255, 255, 255, 0, 0, 0]);
    rgb.color = hdr.color.clone();
    assert_eq!(ours(&rgb, &["tonemap"], Quality::Exact), [255, 255, 255, 0, 0, 0]);
    let mut gray = rgb.clone();
    gray.format = PixelFormat::Gray { depth: 8 };
    gray.planes = vec![Plane { data: vec![235, 16].into(), stride: 2 }];
    gray.color.range = Range::Limited;
    assert_eq!(ours(&gray, &["tonemap"], Quality::Exact), [255, 255, 255, 0, 0, 0]);

    let mut unknown = hdr.clone();
    unknown.color.primaries = "film".into();
    let program = Program::compile(&[Op::parse("tonemap").unwrap()], Settings::default()).unwrap();
    let error = Cpu::new().run(&program, &unknown, &DrawKey::default()).unwrap_err();
    assert!(error.reject.is_some() && error.message.contains("film"), "{error}");
}

/// Real films: what is tagged as PQ or HLG changes, and becomes neither black nor white.
#[test]
fn real_films_are_mapped() {
    let Some(media) = std::env::var_os("FRAMEMILL_TEST_MEDIA").map(std::path::PathBuf::from) else {
        println!("skipped: FRAMEMILL_TEST_MEDIA names no folder with test media");
        return;
    };
    let mut mapped = 0;
    for name in ["androidx/mp4/hdr10-av1.mp4", "androidx/mp4/hlg10-color-test.mp4", "torchcodec/nasa_13013_hdr.mp4"] {
        let path = media.join("video").join(name);
        let source = Arc::new(FileSource::open(&path).unwrap());
        let mut reader = VideoReader::open(source, name, &VideoOptions::default()).unwrap();
        reader.advance().unwrap().unwrap();
        let frame = reader.frame().unwrap();
        let (with, without) = (ours(&frame, &["tonemap"], Quality::Exact), ours(&frame, &[], Quality::Exact));
        let mean = |v: &[u8]| v.iter().map(|v| f64::from(*v)).sum::<f64>() / v.len() as f64;
        println!("{name}, {}: mean {:.1}, without {:.1}", frame.color.transfer, mean(&with), mean(&without));
        let hdr = ["smpte2084", "arib-std-b67"].contains(&frame.color.transfer.as_str());
        assert_eq!(with != without, hdr, "{name}");
        mapped += u32::from(hdr);
    }
    assert!(mapped >= 2, "only {mapped} of the films are HDR");
}
