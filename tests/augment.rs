//! The augmentations as a user runs them, against Pillow, NumPy and torchvision's formulas, and `lut` against FFmpeg.
//!
//! Each picture is made again from its record and the picture before the operation. Needs FRAMEMILL_PYTHON, a Python with
//! Pillow 13 and NumPy; skips and says so without it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use framemill::backend::{Backend, cpu::Cpu};
use framemill::frame::Frame;
use framemill::op::Op;
use framemill::program::{DrawKey, Program, Settings};
use framemill::rng::philox4x32;
use serde_json::{Value, json};

const REFERENCE: &str = include_str!("augment/reference.py");

fn python() -> Option<String> {
    let python = std::env::var("FRAMEMILL_PYTHON").ok();
    if python.is_none() {
        println!("skipped: FRAMEMILL_PYTHON is not set; scripts/test.sh sets it to a Python with Pillow and NumPy");
    }
    python
}

/// The fixtures' photos, and some of the outside media's.
fn photos() -> Vec<PathBuf> {
    let mut list = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/photos")];
    match std::env::var_os("FRAMEMILL_TEST_MEDIA") {
        None => println!("without outside photos: FRAMEMILL_TEST_MEDIA names no folder with test media"),
        Some(media) => {
            let folder = Path::new(&media).join("image/coco");
            let mut files: Vec<PathBuf> = walk(&folder).into_iter().filter(|p| p.extension().is_some()).collect();
            files.sort();
            assert!(files.len() > 12, "too few photos in {}", folder.display());
            list.extend(files.into_iter().step_by(9).take(12));
        }
    }
    list
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Runs the program on `inputs` with the operations.
fn run(inputs: &[PathBuf], out: &Path, ops: &[&str], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_framemill"));
    command.env("FRAMEMILL_PROGRESS", "none").arg("run");
    for input in inputs {
        command.arg("-i").arg(input);
    }
    for op in ops {
        command.args(["--op", op]);
    }
    command.args(["--encode", "png", "--max-rejects", "100%"]).args(more).arg("-o").arg(out).output().unwrap()
}

/// The tar that a run gives.
fn made(inputs: &[PathBuf], out: &Path, ops: &[&str], more: &[&str]) -> PathBuf {
    let output = run(inputs, out, ops, more);
    assert!(output.status.success(), "{ops:?}: {}", String::from_utf8_lossy(&output.stderr));
    out.join("shard-000000.tar")
}

/// What the reference says of the pictures in two tars.
fn compared(python: &str, before: &Path, after: &Path, op: &Value) -> Value {
    let output =
        Command::new(python).args(["-c", REFERENCE]).args([before, after]).arg(op.to_string()).output().unwrap();
    assert!(output.status.success(), "{op}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn pictures_can_be_made_again_from_their_records() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let inputs = photos();
    let small = "resize:w=160,h=120";
    let whole = made(&inputs, &folder.path().join("whole"), &[], &[]);
    let before = made(&inputs, &folder.path().join("before"), &[small], &[]);
    let jitter = || json!({ "op": "color_jitter" });
    // Operation, what the reference needs of it, largest distance to the formula in real numbers, largest difference to
    // torchvision's bytes. One half is rounding; a blend's further rounding is that of its factor, a blur's that of its
    // weights and of the values between its passes, an affine map's that of positions at hard edges.
    let cases: Vec<(&str, Value, f64, u64)> = vec![
        ("random_resized_crop:w=96,h=80,scale=0.2,1", json!({ "op": "random_resized_crop", "w": 96, "h": 80 }), 0.0, 0),
        ("random_grayscale:p=0.5", json!({ "op": "random_grayscale" }), 0.0, 0),
        ("random_erasing:p=0.8,value=204060", json!({ "op": "random_erasing", "value": [32, 64, 96] }), 0.0, 0),
        ("color_jitter:brightness=0.5", jitter(), 0.502, 1),
        ("color_jitter:contrast=0.5", jitter(), 0.502, 1),
        ("color_jitter:saturation=0.5", jitter(), 0.502, 1),
        ("color_jitter:hue=0.5", jitter(), 0.502, 1),
        // A value rounded the other way in one step is carried, and amplified, through the others.
        ("color_jitter:brightness=0.4,contrast=0.4,saturation=0.4,hue=0.1", jitter(), 6.0, 10),
        ("gaussian_blur:9,sigma=0.3,3", json!({ "op": "gaussian_blur", "kernel": 9 }), 0.52, 1),
        (
            "random_affine:30,translate=0.1,0.2,scale=0.7,1.5,shear=-10,10,-5,5,fill=ff8000",
            json!({ "op": "random_affine", "fill": [255, 128, 0] }),
            0.65,
            1,
        ),
    ];
    for (i, (op, table, exact, torchvision)) in cases.iter().enumerate() {
        let (ops, before) = if i == 0 { (vec![*op], &whole) } else { (vec![small, op], &before) };
        let after = made(&inputs, &folder.path().join(i.to_string()), &ops, &["--variants", "3"]);
        let told = compared(&python, before, &after, table);
        println!("{op}: {told}");
        let number = |key: &str| told[key].as_f64().unwrap();
        assert!(number("pictures") >= 33.0, "{told}");
        // Rounding alone makes a quarter.
        assert!(number("exact") <= *exact && number("exact_mean") < 0.27, "{op}: {told}");
        assert!(number("torchvision") <= *torchvision as f64, "{op}: {told}");
        assert!(number("control") > exact + 1.0, "wrong parameters are not told apart: {op}: {told}");
    }
}

/// A table that bends colours and exchanges some, of `size` nodes an axis.
fn cube(size: u32) -> String {
    let mut text = format!("TITLE \"bent\"\nLUT_3D_SIZE {size}\n");
    let last = f64::from(size - 1);
    for i in 0..size.pow(3) {
        let [r, g, b] = [i % size, i / size % size, i / size / size].map(|v| f64::from(v) / last);
        text += &format!("{:.6} {:.6} {:.6}\n", 1.1 * r * r - 0.05 * b, 0.7 * g + 0.3 * (1.0 - b) * r, b.sqrt());
    }
    text
}

#[test]
fn tables_equal_tetrahedral_interpolation() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let inputs = photos();
    let small = "resize:w=160,h=120";
    let before = made(&inputs, &folder.path().join("before"), &[small], &[]);
    for size in [2, 17, 33] {
        let file = folder.path().join(format!("{size}.cube"));
        std::fs::write(&file, cube(size)).unwrap();
        let op = format!("lut:{}", file.display());
        let after = made(&inputs, &folder.path().join(size.to_string()), &[small, &op], &[]);
        let told = compared(&python, &before, &after, &json!({ "op": "lut", "file": file }));
        println!("lut of {size} nodes: {told}");
        assert!(told["exact"].as_f64().unwrap() <= 0.51 && told["control"].as_f64().unwrap() > 20.0, "{told}");
    }
}

/// What FFmpeg's lut3d makes of RGB pixels at 16 bits, as values 0 to 255.
fn ffmpeg(rgb: &[u8], width: usize, filter: &str) -> Option<Vec<f64>> {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.rgb"), folder.path().join("out.rgb"));
    let wide: Vec<u8> = rgb.iter().flat_map(|v| [*v, *v]).collect();
    std::fs::write(&input, wide).unwrap();
    let size = format!("{width}x{}", rgb.len() / 3 / width);
    let raw = ["-f", "rawvideo", "-pix_fmt", "rgb48le"];
    let ran = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(raw)
        .args(["-s", &size, "-i"])
        .arg(&input)
        .args(["-vf", filter])
        .args(raw)
        .arg(&output)
        .output();
    let Ok(ran) = ran else {
        println!("skipped: ffmpeg is not there");
        return None;
    };
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let bytes = std::fs::read(&output).unwrap();
    Some(bytes.chunks_exact(2).map(|v| f64::from(u16::from_le_bytes([v[0], v[1]])) / 257.0).collect())
}

#[test]
fn tables_equal_those_of_ffmpeg() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(0);
    let (w, h) = (256, 64);
    let rgb: Vec<u8> = (0..w * h * 3).map(|_| random.next() as u8).collect();
    let domain = "LUT_1D_SIZE 5\n0 0 1\n0.1 0.4 0.9\n0.5 0.5 0.6\n0.8 0.6 0.1\n1 1 0\n".to_string();
    let files = [("a.cube", cube(33), "lut3d", "interp=tetrahedral"), ("b.cube", domain, "lut1d", "interp=linear")];
    for (name, text, filter, how) in files {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let ours = made_of(&[&format!("lut:{}", file.display())], (w, h), &rgb);
        let Some(theirs) = ffmpeg(&rgb, w as usize, &format!("{filter}=file={}:{how}", file.display())) else { return };
        let distance =
            |a: &[u8], b: &[f64]| a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        let worst = distance(&ours, &theirs);
        println!("{filter}: largest distance to FFmpeg's value {worst:.4}");
        assert_eq!(ours.len(), theirs.len());
        assert!(worst <= 0.52, "{filter}: {worst}");
        assert!(distance(&rgb, &theirs) > 20.0, "the picture itself is not told apart");
    }
}

struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 += 1;
        philox4x32([self.0, 0, 0, 0], [3, 14])[0]
    }
}

/// What the operations make of a picture.
fn made_of(ops: &[&str], (w, h): (u32, u32), rgb: &[u8]) -> Vec<u8> {
    let ops: Vec<Op> = ops.iter().map(|op| Op::parse(op).unwrap()).collect();
    let program = Program::compile(&ops, Settings::default()).unwrap();
    let frame = Frame::rgb(w, h, rgb.to_vec());
    Cpu::new().run(&program, &frame, &DrawKey { asset: 5, time_us: 0, variant: 0 }).unwrap().tensor.data
}

#[test]
fn a_crop_afterwards_is_the_crop_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.cube");
    std::fs::write(&file, cube(5)).unwrap();
    let lut = format!("lut:{}", file.display());
    let lists: &[&[&str]] = &[
        &["gaussian_blur:9,sigma=2"],
        &["gaussian_blur:kernel=13,3,sigma=1.5", "gaussian_blur:3"],
        &["color_jitter:contrast=0.9"],
        &["color_jitter:brightness=0.5,contrast=0.5,saturation=0.5,hue=0.2"],
        &["random_affine:40,translate=0.2,0.2,scale=0.5,1.5,shear=-20,20,-10,10,fill=010203"],
        &["random_affine:180", "random_affine:180,scale=0.2,0.3"],
        &["random_erasing:p=1,value=200"],
        &[&lut],
        &["resize:w=50,h=61,filter=bicubic", "color_jitter:contrast=0.5", "rotate90", "gaussian_blur:5", "flip"],
        &[
            "gaussian_blur:7",
            "resize:w=47,h=70",
            &lut,
            "random_affine:20",
            "random_erasing:p=1",
            "color_jitter:hue=0.5",
        ],
    ];
    let mut random = Random(100);
    for ops in lists {
        let (w, h) = (40 + random.next() % 30, 40 + random.next() % 30);
        let rgb: Vec<u8> = (0..w * h * 3).map(|_| random.next() as u8).collect();
        let whole = made_of(ops, (w, h), &rgb);
        let frame =
            Program::compile(&ops.iter().map(|op| Op::parse(op).unwrap()).collect::<Vec<_>>(), Settings::default())
                .unwrap()
                .resolve((w, h), Default::default(), (1, 1), &DrawKey { asset: 5, time_us: 0, variant: 0 })
                .unwrap()
                .size();
        let mut told_apart = 0;
        for _ in 0..12 {
            let (cw, ch) = (1 + random.next() % 30, 1 + random.next() % 30);
            let (x, y) = (random.next() % (frame.0 - cw), random.next() % (frame.1 - ch));
            let crop = format!("crop:x={x},y={y},w={cw},h={ch}");
            let part = made_of(&[*ops, &[&crop]].concat(), (w, h), &rgb);
            let cut = |x: u32| made_of(&[&format!("crop:x={x},y={y},w={cw},h={ch}")], frame, &whole);
            assert!(part == cut(x), "{ops:?} of {w}x{h}, {crop}");
            told_apart += u32::from(part != cut(x + 1));
        }
        assert!(told_apart > 6, "{ops:?}: the crop one pixel further is told apart only {told_apart} times");
    }
}

#[test]
fn the_seed_the_epoch_and_the_file_decide() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = [Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/photos")];
    let ops = [
        "random_resized_crop:32",
        "color_jitter:brightness=0.4,contrast=0.4,saturation=0.4,hue=0.1",
        "gaussian_blur:5",
        "random_affine:20",
        "random_erasing:0.9",
    ];
    let tar = |name: &str, more: &[&str]| std::fs::read(made(&inputs, &folder.path().join(name), &ops, more)).unwrap();
    let first = tar("a", &["--threads", "1"]);
    assert!(first == tar("b", &["--threads", "2"]));
    assert!(first != tar("c", &["--epoch", "1"]) && first != tar("d", &["--seed", "1"]));

    // The table's content, not its place, is part of the job.
    let file = folder.path().join("look.cube");
    let op = format!("lut:{}", file.display());
    std::fs::write(&file, cube(3)).unwrap();
    let out = folder.path().join("lut");
    made(&inputs, &out, &["resize:32", &op], &[]);
    assert_eq!(run(&inputs, &out, &["resize:32", &op], &[]).status.code(), Some(0));
    let moved = folder.path().join("moved.cube");
    std::fs::copy(&file, &moved).unwrap();
    assert_eq!(run(&inputs, &out, &["resize:32", &format!("lut:{}", moved.display())], &[]).status.code(), Some(0));
    std::fs::write(&file, cube(4)).unwrap();
    let other = run(&inputs, &out, &["resize:32", &op], &[]);
    let errors = String::from_utf8_lossy(&other.stderr);
    assert!(other.status.code() == Some(78) && errors.contains("look.cube"), "{errors}");
    // What is wrong in it is said with its line, before anything is started.
    std::fs::write(&file, "LUT_3D_SIZE 2\n0 0 0\n0 0 x\n").unwrap();
    let broken = run(&inputs, &folder.path().join("broken"), &[&op], &[]);
    let errors = String::from_utf8_lossy(&broken.stderr);
    assert!(broken.status.code() == Some(2) && errors.contains("look.cube, line 3"), "{errors}");
}
