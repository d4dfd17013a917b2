//! The pixel operations against Pillow, to the byte.
//!
//! Needs FRAMEMILL_PYTHON, a Python with Pillow 13; skips and says so without it.

use std::path::Path;
use std::process::Command;

use framemill::backend::{Backend, cpu::Cpu};
use framemill::frame::Frame;
use framemill::op::Op;
use framemill::program::{DrawKey, Program, Settings};
use framemill::rng::philox4x32;
use serde_json::{Value, json};

/// Reads cases.json and N.rgb, writes N.out.
const SCRIPT: &str = r#"
import json, sys
from PIL import Image, ImageOps
folder = sys.argv[1]
for i, case in enumerate(json.load(open(f"{folder}/cases.json"))):
    w, h = case["size"]
    image = Image.frombytes("RGB", (w, h), open(f"{folder}/{i}.rgb", "rb").read())
    for step in case["steps"]:
        if step[0] == "resize":
            image = image.resize(tuple(step[1]), getattr(Image.Resampling, step[2].upper()))
        elif step[0] == "short":
            w, h = image.size
            size = (step[1], int(step[1] * h / w)) if w <= h else (int(step[1] * w / h), step[1])
            image = image.resize(size, getattr(Image.Resampling, step[2].upper()))
        elif step[0] == "center_crop":
            x, y = int(round((image.size[0] - step[1]) / 2.0)), int(round((image.size[1] - step[2]) / 2.0))
            image = image.crop((x, y, x + step[1], y + step[2]))
        elif step[0] == "crop":
            x, y, w, h = step[1:]
            image = image.crop((x, y, x + w, y + h))
        elif step[0] == "transpose":
            image = image.transpose(getattr(Image.Transpose, step[1]))
        elif step[0] == "gray":
            image = image.convert("L").convert("RGB")
    open(f"{folder}/{i}.out", "wb").write(image.tobytes())
"#;

struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 += 1;
        philox4x32([self.0, 0, 0, 0], [20, 26])[0]
    }
    fn below(&mut self, n: u32) -> u32 {
        self.next() % n
    }
    /// Noise, or smooth ramps with hard edges, so that rounding and clamping are met.
    fn picture(&mut self, w: u32, h: u32) -> Vec<u8> {
        let (kind, period) = (self.below(3), 1 + self.below(9));
        (0..w * h * 3)
            .map(|i| match kind {
                0 => self.next() as u8,
                1 => ((i / 3 % w) * 255 / w) as u8 ^ ((i / 3 / w / period) as u8).wrapping_mul(31),
                _ => {
                    if (i / 3 % w / period + i / 3 / w / period).is_multiple_of(2) {
                        255
                    } else {
                        0
                    }
                }
            })
            .collect()
    }
}

struct Case {
    size: (u32, u32),
    rgb: Vec<u8>,
    ops: Vec<String>,
    steps: Value,
}

/// What Pillow makes of the cases; `None` where it is not there.
fn pillow(cases: &[Case]) -> Option<Vec<Vec<u8>>> {
    let Ok(python) = std::env::var("FRAMEMILL_PYTHON") else {
        eprintln!("skipped: FRAMEMILL_PYTHON is not set; scripts/test.sh sets it to a Python with Pillow");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: String| folder.path().join(name);
    let list: Vec<Value> = cases.iter().map(|c| json!({ "size": [c.size.0, c.size.1], "steps": c.steps })).collect();
    std::fs::write(path("cases.json".into()), serde_json::to_vec(&list).unwrap()).unwrap();
    for (i, case) in cases.iter().enumerate() {
        std::fs::write(path(format!("{i}.rgb")), &case.rgb).unwrap();
    }
    let output = Command::new(python).arg("-c").arg(SCRIPT).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some((0..cases.len()).map(|i| std::fs::read(path(format!("{i}.out"))).unwrap()).collect())
}

fn ours(case: &Case) -> Vec<u8> {
    let ops: Vec<Op> = case.ops.iter().map(|op| Op::parse(op).unwrap()).collect();
    let program = Program::compile(&ops, Settings::default()).unwrap();
    let key = DrawKey { asset: 1, time_us: 0, variant: 0 };
    let frame = Frame::rgb(case.size.0, case.size.1, case.rgb.clone());
    Cpu::new().run(&program, &frame, &key).unwrap().tensor.data
}

fn rounds(few: u32, many: u32) -> u32 {
    if std::env::var("FRAMEMILL_TEST_FULL").is_ok() { many } else { few }
}

const FILTERS: [&str; 6] = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"];

fn resize_case(random: &mut Random, filter: &str, matching: &str) -> Case {
    let mut side = || 1 + if random.below(4) == 0 { random.below(700) } else { random.below(90) };
    let (w, h, to_w, to_h) = (side(), side(), side(), side());
    let (to_w, to_h) = match random.below(6) {
        0 => (w, to_h),
        1 => (to_w, h),
        _ => (to_w, to_h),
    };
    Case {
        size: (w, h),
        rgb: random.picture(w, h),
        ops: vec![format!("resize:w={to_w},h={to_h},filter={filter},match={matching}")],
        steps: json!([["resize", [to_w, to_h], filter]]),
    }
}

#[test]
fn resizing_equals_pillow() {
    let mut random = Random(0);
    let cases: Vec<Case> = (0..rounds(240, 6000))
        .map(|i| resize_case(&mut random, FILTERS[i as usize % FILTERS.len()], "pillow13"))
        .collect();
    let Some(expected) = pillow(&cases) else { return };
    for (case, expected) in cases.iter().zip(&expected) {
        assert!(ours(case) == *expected, "{:?} {:?} differs from Pillow", case.size, case.ops);
    }
    // Negative controls: another filter, and the other order of passes, are told apart.
    let caught = |from: &str, to: &str| {
        cases
            .iter()
            .zip(&expected)
            .filter(|(case, expected)| {
                let ops = case.ops.iter().map(|op| op.replace(from, to)).collect();
                let wrong = Case { size: case.size, rgb: case.rgb.clone(), ops, steps: Value::Null };
                ours(&wrong) != **expected
            })
            .count()
    };
    assert!(caught("bicubic", "bilinear") > 20);
    let orders = caught("pillow13", "pillow12");
    println!("{} resizes equal; the other order of passes would differ in {orders}", cases.len());
    assert!(orders > 5);
}

#[test]
fn lists_of_operations_equal_pillow() {
    let mut random = Random(1 << 20);
    let mut cases = Vec::new();
    for i in 0..rounds(60, 1500) {
        let (w, h) = (40 + random.below(300), 40 + random.below(300));
        let filter = FILTERS[1 + random.below(5) as usize];
        let short = 32 + random.below(60);
        let (ops, steps) = match i % 4 {
            0 => (
                vec![format!("resize:short={short},filter={filter}"), "center_crop:w=29,h=32".into()],
                json!([["short", short, filter], ["center_crop", 29, 32]]),
            ),
            1 => (
                vec!["crop:x=3,y=5,w=30,h=31".into(), format!("resize:w={short},h=20,filter={filter}"), "flip".into()],
                json!([["crop", 3, 5, 30, 31], ["resize", [short, 20], filter], ["transpose", "FLIP_LEFT_RIGHT"]]),
            ),
            2 => (
                vec![
                    "rotate90".into(),
                    format!("resize:w=33,h={short},filter={filter}"),
                    "crop:x=1,y=2,w=30,h=25".into(),
                    "flip:v".into(),
                ],
                json!([
                    ["transpose", "ROTATE_90"],
                    ["resize", [33, short], filter],
                    ["crop", 1, 2, 30, 25],
                    ["transpose", "FLIP_TOP_BOTTOM"]
                ]),
            ),
            _ => (
                vec![
                    format!("resize:short={short},filter={filter}"),
                    "grayscale".into(),
                    "rotate90:k=-1".into(),
                    "resize:w=50,h=40,filter=box".into(),
                ],
                json!([["short", short, filter], ["gray"], ["transpose", "ROTATE_270"], ["resize", [50, 40], "box"]]),
            ),
        };
        cases.push(Case { size: (w, h), rgb: random.picture(w, h), ops, steps });
    }
    let Some(expected) = pillow(&cases) else { return };
    for (case, expected) in cases.iter().zip(&expected) {
        assert!(ours(case) == *expected, "{:?} {:?} differs from Pillow", case.size, case.ops);
    }
    let wrong = Case {
        ops: vec![cases[0].ops[0].clone(), "crop:x=0,y=0,w=29,h=32".into()],
        size: cases[0].size,
        rgb: cases[0].rgb.clone(),
        steps: Value::Null,
    };
    assert!(ours(&wrong) != expected[0], "another corner of the crop was not told apart");
}

#[test]
fn real_photos_equal_pillow() {
    let Ok(media) = std::env::var("FRAMEMILL_TEST_MEDIA") else {
        eprintln!("skipped: FRAMEMILL_TEST_MEDIA is not set");
        return;
    };
    let mut files: Vec<_> =
        walk(Path::new(&media)).into_iter().filter(|p| p.extension().is_some_and(|e| e == "jpg")).collect();
    files.sort();
    let mut cases = Vec::new();
    for path in files.iter().take(rounds(25, 400) as usize) {
        let Ok(photo) = framemill::decode::image::decode(
            &std::fs::read(path).unwrap(),
            &path.to_string_lossy(),
            &Default::default(),
        ) else {
            continue;
        };
        let frame = photo.frame;
        if frame.width.min(frame.height) < 64 {
            continue;
        }
        cases.push(Case {
            size: (frame.width, frame.height),
            rgb: frame.planes[0].data.to_vec(),
            ops: vec!["resize:short=64,filter=bicubic".into(), "center_crop:w=56,h=56".into()],
            steps: json!([["short", 64, "bicubic"], ["center_crop", 56, 56]]),
        });
    }
    assert!(cases.len() > 5, "too few photos under {media}");
    let Some(expected) = pillow(&cases) else { return };
    for (case, expected) in cases.iter().zip(&expected) {
        assert!(ours(case) == *expected, "{:?} differs from Pillow", case.size);
    }
    println!("{} photos equal", cases.len());
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { out.extend(walk(&path)) } else { out.push(path) }
    }
    out
}
