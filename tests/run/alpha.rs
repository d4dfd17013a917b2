//! Transparent videos are laid over `--background`, as photos are; FFmpeg's RGBA and float arithmetic say what comes out.

use std::path::Path;
use std::process::Command;

use crate::support::*;

const BACKGROUND: [u8; 3] = [0x20, 0xc0, 0x40];
const SIZE: (usize, usize) = (96, 64);
/// All of a picture: tensors have one size.
const WHOLE: &str = "crop:x=0,y=0,w=96,h=64";

fn ffmpeg(args: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg").args(["-nostdin", "-v", "error", "-y"]).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", errors(&output));
    output.stdout
}

/// Three seconds over which a soft edge of transparency moves.
fn film(folder: &Path, name: &str, opacity: &str, encoder: &str) -> String {
    let path = folder.join(name).to_str().unwrap().to_string();
    let source =
        format!("color=s={}x{}:r=10:d=3,format=rgba,geq=r='2*X':g='3*Y':b='X+Y+N':a='{opacity}'", SIZE.0, SIZE.1);
    ffmpeg(&[&["-f", "lavfi", "-i", &source][..], &encoder.split(' ').collect::<Vec<_>>(), &[&path]].concat());
    path
}

/// Pixels of the samples, one after the other, and their records.
fn taken(film: &str, out: &Path, more: &[&str]) -> (Vec<u8>, Vec<serde_json::Value>) {
    let args = ["run", "-i", film, "-o", out.to_str().unwrap(), "--format", "tensors", "--progress", "none"];
    let output = framemill(&[&args[..], &["--background", "20c040"], more].concat());
    assert!(output.status.success(), "{more:?}: {}", errors(&output));
    let array = std::fs::read(out.join("shard-000000.npy")).unwrap();
    let header = 10 + usize::from(u16::from_le_bytes([array[8], array[9]]));
    (array[header..].to_vec(), records(out))
}

/// Largest and mean distance of `ours` from FFmpeg's pixels over `background`, or from them alone.
fn distance(ours: &[u8], rgba: &[u8], background: Option<[u8; 3]>) -> (f64, f64) {
    assert_eq!(ours.len() / 3, rgba.len() / 4);
    let pixel = |(ours, p): (&[u8], &[u8])| {
        let opaque = if background.is_some() { f64::from(p[3]) / 255.0 } else { 1.0 };
        let behind = background.unwrap_or_default();
        [0, 1, 2].map(|c| (f64::from(ours[c]) - f64::from(p[c]) * opaque - f64::from(behind[c]) * (1.0 - opaque)).abs())
    };
    let all: Vec<f64> = ours.chunks_exact(3).zip(rgba.chunks_exact(4)).flat_map(pixel).collect();
    (all.iter().copied().fold(0.0, f64::max), all.iter().sum::<f64>() / all.len() as f64)
}

#[test]
fn transparent_films_are_laid_over_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let edge = "clip(4*(X+2*N-20),0,255)";
    // RGB is exact; the others go through two conversions of colour that are not ours.
    for (name, encoder, decoder, format, most) in [
        ("rle.mov", "-c:v qtrle -pix_fmt argb", "", "argb", (0.5, 0.5)),
        ("png.mov", "-c:v png -pix_fmt rgba", "", "rgba", (0.5, 0.5)),
        ("deep.mov", "-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le", "", "yuva444p12le", (2.0, 0.5)),
        ("vp9.webm", "-c:v libvpx-vp9 -pix_fmt yuva420p -lag-in-frames 10 -g 10", "libvpx-vp9", "yuva420p", (6.0, 1.0)),
        ("vp8.webm", "-c:v libvpx -pix_fmt yuva420p -auto-alt-ref 0 -g 10", "libvpx", "yuva420p", (6.0, 1.0)),
    ] {
        let film = film(dir.path(), name, edge, encoder);
        let (ours, records) = taken(&film, &dir.path().join(format!("{name}-all")), &["--all", "--op", WHOLE]);
        assert!(records.len() == 30 && records.iter().all(|r| r["pixel_format"] == format), "{name}: {}", records[0]);
        let mut args =
            vec!["-i", &film, "-vsync", "passthrough", "-sws_flags", "bilinear+accurate_rnd+full_chroma_int"];
        args.extend(["-f", "rawvideo", "-pix_fmt", "rgba", "-"]);
        if !decoder.is_empty() {
            args.splice(0..0, ["-c:v", decoder]);
        }
        let theirs = ffmpeg(&args);
        let (largest, mean) = distance(&ours, &theirs, Some(BACKGROUND));
        println!("{name}: {largest:.2} from FFmpeg's at most, {mean:.3} on average");
        assert!(largest <= most.0 && mean <= most.1, "{name}: {largest} {mean}");
        // Negative controls: no background, and another.
        assert!(distance(&ours, &theirs, None).1 > 5.0 && distance(&ours, &theirs, Some([0; 3])).1 > 5.0, "{name}");
        // Parts and sparse rules give the same pixels.
        let each = 3 * SIZE.0 * SIZE.1;
        let (sparse, told) = taken(
            &film,
            &dir.path().join(format!("{name}-sparse")),
            &["--every", "700ms", "--start", "1", "--op", WHOLE],
        );
        assert!(told.len() >= 2, "{name}: {told:?}");
        for (record, pixels) in told.iter().zip(sparse.chunks_exact(each)) {
            let at = records.iter().position(|r| r["pts"] == record["pts"]).unwrap();
            assert!(&ours[at * each..][..each] == pixels, "{name}: {record}");
        }
    }
}

#[test]
fn what_is_opaque_is_as_without_alpha() {
    let dir = tempfile::tempdir().unwrap();
    let same = ["-c:v ffv1 -pix_fmt yuva420p", "-c:v ffv1 -pix_fmt yuv420p"].map(|encoder| {
        let film = film(dir.path(), &format!("{}.mkv", encoder.len()), "255", encoder);
        let small = ["--op", "resize:w=40,h=30", "--quality", "fast"];
        taken(&film, &dir.path().join(encoder.len().to_string()), &[&["--all"][..], &small].concat()).0
    });
    assert!(same[0] == same[1]);
    // Four bytes a pixel of which the last says nothing.
    let raw = film(dir.path(), "raw.avi", "0", "-c:v rawvideo -pix_fmt bgra");
    let (pixels, _) = taken(&raw, &dir.path().join("raw"), &["--all", "--op", WHOLE]);
    assert_eq!(&pixels[..3], [0, 0, 0], "not the background");
    assert_eq!(&pixels[3 * (SIZE.0 - 1)..][..3], [190, 0, 95]);
}

#[test]
fn every_device_gets_the_same_opaque_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let film = film(dir.path(), "rle.mov", "clip(4*(X+2*N-20),0,255)", "-c:v qtrle -pix_fmt argb");
    let one = |device: &str| {
        let more = ["--every", "1s", "--op", "resize:w=40,h=30", "--device", device];
        taken(&film, &dir.path().join(device), &more)
    };
    let (cpu, wgpu) = (one("cpu"), one("wgpu"));
    assert!(cpu.0 == wgpu.0 && cpu.1 == wgpu.1);
}
