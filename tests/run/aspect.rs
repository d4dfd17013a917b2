//! `--square-pixels`: the size is the display's shape, the pixels are those of Pillow's bicubic resize of the picture as it is
//! stored, and zimg agrees where they lie.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::python::python;
use crate::support::*;

fn ffmpeg(args: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg").args(["-nostdin", "-v", "error", "-y"]).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", errors(&output));
    output.stdout
}

/// Clips that are shown wider, narrower, turned, and in a shape that changes.
fn made(media: &Path, folder: &Path) -> Vec<PathBuf> {
    let source = media.join("video/intel/asl_gestures/book.mkv").to_str().unwrap().to_string();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let encoder = ["-frames:v", "12", "-c:v", "libx264", "-g", "6", "-bf", "2"];
    for (name, filter) in [
        ("pal.mp4", "scale=360:288,setsar=16/11"),
        ("tall.mkv", "scale=360:288,setsar=8/9"),
        ("a.ts", "scale=352:288,setsar=16/11"),
        ("b.ts", "scale=352:288,setsar=10/11"),
    ] {
        ffmpeg(&[&["-i", &source, "-an", "-vf", filter][..], &encoder, &[&path(name)]].concat());
    }
    ffmpeg(&["-i", &path("pal.mp4"), "-c", "copy", "-metadata:s:v", "rotate=90", &path("turned.mp4")]);
    ffmpeg(&["-i", &format!("concat:{}|{}", path("a.ts"), path("b.ts")), "-c", "copy", &path("changing.ts")]);
    ["pal.mp4", "tall.mkv", "turned.mp4", "changing.ts"].map(|name| folder.join(name)).to_vec()
}

/// Samples without loss by file and time: size and path.
type Pictures = BTreeMap<(String, i64), ((u64, u64), PathBuf)>;

fn run(list: &Path, out: &Path, more: &[&str]) -> Pictures {
    let args = [list.to_str().unwrap(), "-o", out.to_str().unwrap()];
    let rule = ["--every", "160ms", "--encode", "png", "--format", "images"];
    let output = program().args(["run", "-i"]).args(args).args(rule).args(more).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let files: BTreeMap<String, PathBuf> = tree(out)
        .into_keys()
        .filter_map(|name| Some((name.rsplit('/').next()?.strip_suffix(".png")?.to_string(), out.join(&name))))
        .collect();
    let picture = |r: &Value| {
        let file = Path::new(r["uri"].as_str().unwrap()).file_name().unwrap().to_str().unwrap().to_string();
        let size = (r["width"].as_u64().unwrap(), r["height"].as_u64().unwrap());
        ((file, r["pts"].as_i64().unwrap()), (size, files[r["key"].as_str().unwrap()].clone()))
    };
    records(out).iter().map(picture).collect()
}

/// Size of the shape in which FFmpeg says that a picture is shown, with no pixel fewer on either side; by file and part.
fn shown(stored: (u64, u64), (num, den): (u64, u64)) -> (u64, u64) {
    let scaled = |n: u64, a: u64, b: u64| (n as f64 * a as f64 / b as f64 + 0.5).floor() as u64;
    if num > den { (scaled(stored.0, num, den), stored.1) } else { (stored.0, scaled(stored.1, den, num)) }
}

/// Compares pairs of pictures: FROM resized by Pillow to TO's size is TO; prints how far a shifted one is off, for control.
const PILLOW: &str = r#"
import sys
import numpy as np
from PIL import Image
least = 255
for line in sys.stdin:
    a, b = (Image.open(p).convert("RGB") for p in line.rstrip("\n").split("\t"))
    ours, theirs = np.asarray(b), np.asarray(a.resize(b.size, Image.Resampling.BICUBIC))
    if (ours != theirs).any():
        sys.exit(f"{line}: {(ours != theirs).sum()} samples differ")
    least = min(least, int(np.abs(np.roll(ours, 1, 1).astype(int) - theirs).max()))
print(least)
"#;

#[test]
fn pixels_become_square() {
    let (Some(media), Some(python)) = (media(), python()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut films = made(&media, dir.path());
    films.extend(
        ["androidx/mp4/bbb_800x640_768kbps_30fps_avc_pyramid_3b.mp4", "torchcodec/test_non_zero_start.mp4"]
            .map(|name| media.join("video").join(name)),
    );
    films.push(fixtures().join("clips/vp9.webm"));
    let list = dir.path().join("l.txt");
    std::fs::write(&list, films.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join("\n")).unwrap();
    let stored = run(&list, &dir.path().join("stored"), &[]);
    let square = run(&list, &dir.path().join("square"), &["--square-pixels"]);
    assert!(stored.keys().eq(square.keys()) && stored.len() > 30, "{}", stored.len());
    let mut pairs = String::new();
    let mut kinds = BTreeMap::<&str, u64>::new();
    for ((file, pts), (size, picture)) in &square {
        let (own, plain) = &stored[&(file.clone(), *pts)];
        let aspect = match file.as_str() {
            "pal.mp4" => (16, 11),
            "turned.mp4" => (11, 16),
            "tall.mkv" => (8, 9),
            "changing.ts" if *size == shown(*own, (16, 11)) => (16, 11),
            "changing.ts" => (10, 11),
            "test_non_zero_start.mp4" => (224, 225),
            "vp9.webm" => (1, 1),
            _ => (64, 45),
        };
        assert_eq!(*size, shown(*own, aspect), "{file} at {pts}");
        *kinds.entry(if file == "changing.ts" && aspect.0 == 10 { "changed" } else { file }).or_default() += 1;
        if size != own {
            pairs += &format!("{}\t{}\n", plain.display(), picture.display());
        } else {
            assert!(std::fs::read(plain).unwrap() == std::fs::read(picture).unwrap(), "{file} at {pts}");
        }
    }
    assert_eq!(kinds.len(), films.len() + 1, "{kinds:?}");
    let names = dir.path().join("pairs");
    std::fs::write(&names, &pairs).unwrap();
    let output =
        Command::new(python).args(["-c", PILLOW]).stdin(std::fs::File::open(&names).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    let control: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    assert!(control > 16, "one pixel to the side is another picture: {control}");
    // zimg takes the same kernel; it rounds once where Pillow does after each pass.
    let (mut compared, mut worst) = (0, 0);
    for pair in pairs.lines() {
        let (from, to) = pair.split_once('\t').unwrap();
        let raw =
            |file: &str, filter: &str| ffmpeg(&["-i", file, "-vf", filter, "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]);
        let ours = raw(to, "null");
        let size = &square.values().find(|(_, path)| path.to_str() == Some(to)).unwrap().0;
        let filter = format!("format=gbrp,zscale=w={}:h={}:filter=bicubic", size.0, size.1);
        let theirs = raw(from, &filter);
        assert_eq!(ours.len(), theirs.len());
        worst = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max().unwrap().max(worst);
        compared += 1;
    }
    println!("{compared} pictures, zimg's differ by at most {worst}");
    assert!(compared > 25 && worst <= 4, "{compared} pictures, {worst}");
}
