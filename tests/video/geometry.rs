//! Cropping windows, and pictures whose size or sample aspect changes mid-stream, against FFmpeg's own program.

use std::path::Path;
use std::process::Command;

use crate::md5::md5;
use crate::support::*;

fn ffmpeg(args: &[&str]) -> String {
    let output = Command::new("ffmpeg").args(["-nostdin", "-v", "error", "-y"]).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A clip of 20 frames.
fn make(source: &Path, to: &Path, filter: &str, encoder: &[&str]) {
    let input = ["-i", source.to_str().unwrap(), "-an", "-vf", filter, "-frames:v", "20"];
    ffmpeg(&[&input[..], encoder, &[to.to_str().unwrap()]].concat());
}

/// Size and sample aspect of each frame as ffprobe tells them, with windows taken to the pixel.
fn shapes(file: &Path) -> Vec<(u32, u32, String)> {
    let show = "frame=width,height,sample_aspect_ratio";
    let ask = ["-v", "error", "-flags", "unaligned", "-select_streams", "v:0", "-show_entries", show, "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(ask).arg(file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let mut cells = line.split(',');
        let mut number = || cells.next().unwrap().parse().unwrap();
        let size = (number(), number());
        let aspect = cells.next().unwrap();
        (size.0, size.1, if aspect == "N/A" { "1:1" } else { aspect }.to_string())
    };
    text.lines().filter(|l| !l.is_empty()).map(line).collect()
}

fn read(folder: &Path, name: &str) -> Vec<((u32, u32, String), String)> {
    let mut reader = open(folder, name, &threads(2)).unwrap();
    let mut all = Vec::new();
    while reader.advance().unwrap().is_some() {
        let frame = reader.frame().unwrap();
        let (n, d) = frame.sample_aspect;
        all.push(((frame.width, frame.height, format!("{n}:{d}")), md5(&packed(&frame))));
    }
    all
}

#[test]
fn windows_are_cut_to_the_pixel() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let source = media.join("video/intel/asl_gestures/book.mkv");
    let path = |name: &str| dir.path().join(name);
    make(&source, &path("h264.mp4"), "scale=354:290", &["-c:v", "libx264", "-bf", "2"]);
    make(&source, &path("h265.mkv"), "scale=354:290", &["-c:v", "libx265", "-x265-params", "log-level=none"]);
    for (from, to, window) in [
        ("h264.mp4", "off.mp4", "h264_metadata=crop_left=6:crop_right=10:crop_top=4:crop_bottom=2"),
        ("h264.mp4", "off.ts", "h264_metadata=crop_left=2:crop_right=0:crop_top=50:crop_bottom=0"),
        ("h265.mkv", "off.mkv", "hevc_metadata=crop_left=38:crop_right=2:crop_top=6:crop_bottom=12"),
    ] {
        ffmpeg(&["-i", path(from).to_str().unwrap(), "-c", "copy", "-bsf:v", window, path(to).to_str().unwrap()]);
        let ours = read(dir.path(), to);
        assert_eq!(ours.iter().map(|f| f.0.clone()).collect::<Vec<_>>(), shapes(&path(to)), "{to}");
        let sums = |flags: &str| -> Vec<String> {
            let file = path(to);
            let args = ["-flags", flags, "-i", file.to_str().unwrap(), "-vsync", "passthrough", "-f", "framemd5", "-"];
            let text = ffmpeg(&args);
            let rows = text.lines().filter(|l| !l.starts_with('#'));
            rows.map(|l| l.rsplit(',').next().unwrap().trim().to_string()).collect()
        };
        assert_eq!(ours.iter().map(|f| f.1.clone()).collect::<Vec<_>>(), sums("unaligned"), "{to}");
        // The control: what the program does unasked moves the window for the processor's sake.
        assert_ne!(ours.iter().map(|f| f.1.clone()).collect::<Vec<_>>(), sums("0"), "{to}");
    }
}

#[test]
fn each_frame_has_its_own_size_and_aspect() {
    let Some(media) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let source = media.join("video/intel/asl_gestures/book.mkv");
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let encoder = ["-c:v", "libx264", "-g", "10", "-bf", "2"];
    for (name, filter) in
        [("a", "scale=352:288,setsar=16/11"), ("b", "scale=352:288,setsar=12/11"), ("c", "scale=256:144,setsar=1")]
    {
        make(&source, &dir.path().join(format!("{name}.ts")), filter, &encoder);
    }
    let joined = format!("concat:{}|{}|{}", path("a.ts"), path("b.ts"), path("c.ts"));
    ffmpeg(&["-fflags", "+genpts", "-i", &joined, "-c", "copy", &path("joined.ts")]);
    ffmpeg(&["-i", &path("joined.ts"), "-c", "copy", &path("joined.mkv")]);
    let ours: Vec<_> = read(dir.path(), "joined.ts").into_iter().map(|f| f.0).collect();
    assert_eq!(ours, shapes(&dir.path().join("joined.ts")));
    let mut kinds = ours.clone();
    kinds.dedup();
    let kind = |w, h, aspect: &str| (w, h, aspect.to_string());
    assert_eq!(kinds, [kind(352, 288, "16:11"), kind(352, 288, "12:11"), kind(256, 144, "1:1")]);
    // What the container states goes for all of it.
    let ours: Vec<_> = read(dir.path(), "joined.mkv").into_iter().map(|f| f.0).collect();
    assert_eq!(ours, shapes(&dir.path().join("joined.mkv")));
    assert!(ours.len() == 60 && ours.iter().all(|f| f.2 == "16:11"));
}
