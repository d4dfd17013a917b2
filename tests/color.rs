//! YCbCr to RGB against zimg (through FFmpeg's `zscale`): every matrix, range, depth, subsampling and siting that it
//! has, on random pictures of odd and even sizes.
#![cfg(feature = "ffmpeg")]

use std::io::Write;
use std::process::{Command, Stdio};

use framemill::backend::Backend;
use framemill::backend::cpu::Cpu;
use framemill::color::{Color, Matrix, Range, Siting};
use framemill::frame::{Frame, PixelFormat, Plane};
use framemill::program::{DrawKey, Program, Settings};

/// Largest difference that is allowed: both round, ours once, zimg's float path once or twice.
const TOLERANCE: u8 = 1;

struct Case {
    matrix: (Matrix, &'static str),
    range: (Range, &'static str),
    siting: (Siting, &'static str),
    depth: u8,
    sub: (u8, u8),
    size: (u32, u32),
}

/// Smooth noise within the range's codes, so that both agree about what clips: planes of little-endian samples.
fn planes(case: &Case, seed: u64) -> Vec<Vec<u8>> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let (w, h) = case.size;
    let scale = 1u64 << (case.depth - 8);
    (0..3)
        .map(|i| {
            let (pw, ph) = if i == 0 { (w, h) } else { (w.div_ceil(1 << case.sub.0), h.div_ceil(1 << case.sub.1)) };
            (0..pw * ph)
                .flat_map(|_| {
                    let value = 16 * scale + next() % (224 * scale);
                    let bytes = (value as u16).to_le_bytes();
                    bytes[..if case.depth > 8 { 2 } else { 1 }].to_vec()
                })
                .collect()
        })
        .collect()
}

fn ours(case: &Case, planes: &[Vec<u8>]) -> Vec<u8> {
    let (w, h) = case.size;
    let bytes = if case.depth > 8 { 2 } else { 1 };
    let mut frame = Frame::rgb(1, 1, vec![0; 3]);
    (frame.width, frame.height) = (w, h);
    frame.format = PixelFormat::Yuv { depth: case.depth, sub_w: case.sub.0, sub_h: case.sub.1 };
    frame.color = Color { matrix: case.matrix.0, range: case.range.0, siting: case.siting.0, ..Color::srgb() };
    frame.planes = planes
        .iter()
        .enumerate()
        .map(|(i, data)| {
            let width = if i == 0 { w } else { w.div_ceil(1 << case.sub.0) };
            Plane { data: data.clone().into(), stride: width as usize * bytes }
        })
        .collect();
    let program = Program::compile(&[], Settings::default()).unwrap();
    Cpu::new().run(&program, &frame, &DrawKey::default()).unwrap().tensor.data
}

/// What zimg makes of it: floats for the whole way, rounded once at the end.
fn zimg(case: &Case, planes: &[Vec<u8>]) -> Vec<u8> {
    let (w, h) = case.size;
    let sub = match case.sub {
        (1, 1) => "420",
        (1, 0) => "422",
        _ => "444",
    };
    let format = if case.depth > 8 { format!("yuv{sub}p{}le", case.depth) } else { format!("yuv{sub}p") };
    let filter = format!(
        "zscale=matrixin={m}:rangein={r}:chromalin={s}:matrix=gbr:range=full:filter=bilinear:dither=none:threads=1,\
         format=gbrpf32le,zscale=dither=none:threads=1,format=gbrp",
        m = case.matrix.1,
        r = case.range.1,
        s = case.siting.1,
    );
    let mut child = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "rawvideo", "-pix_fmt", &format, "-s", &format!("{w}x{h}"), "-i", "-"])
        .args(["-vf", &filter, "-f", "rawvideo", "-pix_fmt", "gbrp", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&planes.concat()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{filter}");
    let n = (w * h) as usize;
    assert_eq!(output.stdout.len(), 3 * n);
    (0..n).flat_map(|i| [output.stdout[2 * n + i], output.stdout[i], output.stdout[n + i]]).collect()
}

/// The same in f64, straight from H.273's equations, for the matrix that FFmpeg's zscale does not pass on.
fn reference(case: &Case, planes: &[Vec<u8>]) -> Vec<u8> {
    let (w, h) = (case.size.0 as usize, case.size.1 as usize);
    let sample = |plane: usize, x: usize, y: usize| -> f64 {
        let width = if plane == 0 { w } else { w.div_ceil(1 << case.sub.0) };
        let at = y * width + x;
        match case.depth {
            8 => planes[plane][at].into(),
            _ => u16::from_le_bytes([planes[plane][2 * at], planes[plane][2 * at + 1]]).into(),
        }
    };
    // Where luma position `at` lies among the chroma samples, and the two beside it.
    let place = |at: usize, sub: u8, cosited: bool, size: usize| {
        let scale = f64::from(1u32 << sub);
        let position = if cosited { at as f64 / scale } else { (at as f64 + 0.5) / scale - 0.5 };
        let (last, floor) = (size.div_ceil(1 << sub) - 1, position.floor());
        let clamp = |i: f64| i.clamp(0.0, last as f64) as usize;
        (clamp(floor), clamp(floor + 1.0), position - floor)
    };
    let (cosited_x, cosited_y) = match case.siting.0 {
        Siting::Left => (true, false),
        Siting::TopLeft => (true, true),
        _ => (false, false),
    };
    let step = f64::from(1u32 << (case.depth - 8));
    let top = f64::from((1u32 << case.depth) - 1);
    let limited = case.range.0 == Range::Limited;
    let (zero, luma_span, chroma_span) =
        if limited { (16.0 * step, 219.0 * step, 224.0 * step) } else { (0.0, top, top) };
    let (kr, kb) = case.matrix.0.kr_kb().unwrap();
    let mut out = Vec::new();
    for y in 0..h {
        for x in 0..w {
            let luma = (sample(0, x, y) - zero) / luma_span;
            let (x0, x1, fx) = place(x, case.sub.0, cosited_x, w);
            let (y0, y1, fy) = place(y, case.sub.1, cosited_y, h);
            let [cb, cr] = [1, 2].map(|plane| {
                let row = |y| sample(plane, x0, y) * (1.0 - fx) + sample(plane, x1, y) * fx;
                (row(y0) * (1.0 - fy) + row(y1) * fy - 128.0 * step) / chroma_span
            });
            let (r, b) = (luma + 2.0 * (1.0 - kr) * cr, luma + 2.0 * (1.0 - kb) * cb);
            let g = (luma - kr * r - kb * b) / (1.0 - kr - kb);
            out.extend([r, g, b].map(|v| (v * 255.0).round().clamp(0.0, 255.0) as u8));
        }
    }
    out
}

fn worst(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn conversion_is_within_one_of_zimg() {
    let filters = Command::new("ffmpeg").args(["-v", "error", "-filters"]).output();
    if !filters.is_ok_and(|o| String::from_utf8_lossy(&o.stdout).contains("zscale")) {
        println!("skipped: no ffmpeg with zscale is here");
        return;
    }
    let matrices =
        [(Matrix::Bt601, "170m"), (Matrix::Bt709, "709"), (Matrix::Bt2020, "2020_ncl"), (Matrix::Smpte240m, "240m")];
    let ranges = [(Range::Limited, "limited"), (Range::Full, "full")];
    let sitings = [(Siting::Left, "left"), (Siting::Center, "center"), (Siting::TopLeft, "topleft")];
    let full = std::env::var("FRAMEMILL_TEST_FULL").is_ok_and(|v| v == "1");
    let (mut count, mut most, mut controls) = (0, 0, 0);
    for (m, matrix) in matrices.into_iter().enumerate() {
        for range in ranges {
            for (s, siting) in sitings.into_iter().enumerate() {
                for depth in [8, 10, 12] {
                    for (k, sub) in [(1, 1), (1, 0), (0, 0)].into_iter().enumerate() {
                        // Where chroma is not subsampled its siting is nothing; the plain run takes every third.
                        let kept = full || (m + s + k + usize::from(depth)) % 3 == 0;
                        if !kept || (sub == (0, 0) && s > 0) {
                            continue;
                        }
                        // zimg refuses odd sizes of subsampled pictures; those are compared with themselves below.
                        let case = Case { matrix, range, siting, depth, sub, size: (70, 38) };
                        let planes = planes(&case, 7 + count);
                        let mine = ours(&case, &planes);
                        let exact = reference(&case, &planes);
                        let theirs = if matrix.0 == Matrix::Smpte240m { exact.clone() } else { zimg(&case, &planes) };
                        let difference = worst(&mine, &theirs).max(worst(&mine, &exact));
                        let name = format!("{} {} {} {depth} bit {sub:?}", matrix.1, range.1, siting.1);
                        assert!(difference <= TOLERANCE, "{name}: {difference}");
                        most = most.max(difference);
                        count += 1;
                        // Another range, or another siting, must be noticed.
                        let other = if range.0 == Range::Full { ranges[0] } else { ranges[1] };
                        let wrong = Case { range: other, ..case };
                        controls += u64::from(worst(&ours(&wrong, &planes), &theirs) > TOLERANCE);
                    }
                }
            }
        }
    }
    println!("{count} combinations, largest difference {most}");
    assert!(count >= 40 && controls == count, "{count} combinations, {controls} controls noticed");
}

/// An odd picture is the corner of the even one whose last chroma samples it repeats.
#[test]
fn odd_sizes_are_corners_of_even_ones() {
    let base = Case {
        matrix: (Matrix::Bt709, "709"),
        range: (Range::Limited, "limited"),
        siting: (Siting::Left, "left"),
        depth: 8,
        sub: (1, 1),
        size: (64, 32),
    };
    let all = planes(&base, 3);
    let even = ours(&base, &all);
    let odd = Case { size: (63, 31), ..base };
    let luma: Vec<u8> = all[0].chunks(64).take(31).flat_map(|row| row[..63].to_vec()).collect();
    let corner = ours(&odd, &[luma, all[1].clone(), all[2].clone()]);
    for y in 0..31 {
        assert_eq!(corner[y * 63 * 3..][..63 * 3], even[y * 64 * 3..][..63 * 3], "row {y}");
    }
}

/// `--quality fast` against the exact order on real films: prints the error, and that it is small but not nothing.
#[test]
fn the_error_of_fast_is_published() {
    use framemill::bytes::FileSource;
    use framemill::decode::video::{VideoOptions, VideoReader};
    use framemill::op::Op;
    use framemill::program::Quality;
    let Some(media) = std::env::var_os("FRAMEMILL_TEST_MEDIA").map(std::path::PathBuf::from) else {
        println!("skipped: FRAMEMILL_TEST_MEDIA names no folder with test media");
        return;
    };
    let ops = [Op::parse("resize:w=224,h=224,filter=bicubic").unwrap()];
    let program = |quality| Program::compile(&ops, Settings { quality, ..Settings::default() }).unwrap();
    let (exact, fast, cpu) = (program(Quality::Exact), program(Quality::Fast), Cpu::new());
    let (mut squares, mut count, mut most, mut frames) = (0u64, 0u64, 0u8, 0);
    let mut files: Vec<_> = std::fs::read_dir(media.join("video/intel")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "mp4")) {
        let source = std::sync::Arc::new(FileSource::open(file).unwrap());
        let mut reader = VideoReader::open(source, &file.to_string_lossy(), &VideoOptions::default()).unwrap();
        for _ in 0..10 {
            let Some(_) = reader.advance().unwrap() else { break };
            let frame = reader.frame().unwrap();
            let [a, b] = [&exact, &fast].map(|p| cpu.run(p, &frame, &DrawKey::default()).unwrap().tensor.data);
            most = most.max(worst(&a, &b));
            squares += a.iter().zip(&b).map(|(x, y)| u64::from(x.abs_diff(*y)).pow(2)).sum::<u64>();
            count += a.len() as u64;
            frames += 1;
        }
    }
    let rms = (squares as f64 / count as f64).sqrt();
    println!("fast against exact, bicubic to 224x224, {frames} frames: RMS error {rms:.3}, largest {most}, of 255");
    assert!(frames >= 20 && rms > 0.0 && rms < 2.0, "{frames} frames, {rms}");
}
