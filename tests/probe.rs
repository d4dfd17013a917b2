//! What `framemill probe` says of real files, against what FFmpeg's own program recorded of them.
#![cfg(feature = "ffmpeg")]

#[allow(dead_code, unused_imports)]
#[path = "video/support.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;

use framemill::bytes::FileSource;
use framemill::cli::probe::{Options, probe, text};
use framemill::error::{RejectKind, Result};
use serde_json::{Value, json};

fn report(path: &Path) -> Result<Value> {
    probe(Arc::new(FileSource::open(path).unwrap()), &path.to_string_lossy(), &Options::default())
}

#[test]
fn clean_videos_are_described_as_ffmpeg_does() {
    let Some(media) = support::media() else { return };
    let (mut seen, mut counted) = (0, 0);
    for record in support::records(&media).iter().filter(|r| r.clean && r.streams > 0 && r.frames > 0) {
        // The two largest are looked at by the long tests elsewhere.
        let path = media.join(&record.file);
        if std::fs::metadata(&path).is_ok_and(|m| m.len() > 32 << 20) {
            continue;
        }
        let report = match report(&path) {
            Ok(report) => report,
            Err(error) => panic!("{}: {error}", record.file),
        };
        if record.file.ends_with("jpeg_named.mp4") {
            // FFmpeg's program takes a photo for a video of one frame.
            assert_eq!((&report["media"], &report["codec"]), (&json!("image"), &json!("jpeg")));
            continue;
        }
        assert_eq!((&report["media"], &report["codec"]), (&json!("video"), &json!(record.codec)), "{}", record.file);
        assert_eq!(report["time_base"], format!("{}/{}", record.time_base.0, record.time_base.1), "{}", record.file);
        assert!(report["warning"].is_null(), "{}: {}", record.file, report["warning"]);
        if report["frames_from"] == "packets" {
            counted += 1;
            assert_eq!(report["frames"], record.frames, "{}", record.file);
        }
        assert_eq!(report["indexed"] == true, !report["keyframes_s"].is_null(), "{}", record.file);
        assert!(!text(&report).contains("null"), "{}", text(&report));
        seen += 1;
    }
    assert!(seen > 50 && counted > 5, "{seen} {counted}");
}

#[test]
fn turned_videos_damaged_ones_and_sound_are_told_apart() {
    let Some(media) = support::media() else { return };
    let video = media.join("video/androidx/mp4");
    let portrait = report(&video.join("sample_portrait.mp4")).unwrap();
    println!("{}", text(&portrait));
    let reflected = report(&video.join("sample_rotate_and_reflect.mp4")).unwrap();
    println!("{}", text(&reflected));
    assert_eq!(reflected["mirrored"], true);
    let hlg = report(&video.join("hlg10-color-test.mp4")).unwrap();
    println!("{}", text(&hlg));
    assert_eq!((&hlg["color_matrix"], &hlg["color_transfer"]), (&json!("bt2020nc"), &json!("arib-std-b67")));
    assert_eq!(report(&video.join("sample_audio_only.mp4")).unwrap_err().reject, Some(RejectKind::NoVideo));
    let damaged = report(&media.join("video/androidx/vp9/invalid-bitstream.webm")).unwrap();
    println!("{}", text(&damaged));
    assert!(damaged["warning"].as_str().is_some_and(|w| w.contains("no frame")), "{}", damaged["warning"]);
    let photo = report(&media.join("image/coco/val2017/000000000139.jpg")).unwrap();
    println!("{}", text(&photo));
    assert_eq!((&photo["source_width"], &photo["source_height"]), (&json!(640), &json!(426)));
}
