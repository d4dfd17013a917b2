//! `framemill probe`: what is in a file, as the engine would read it.
//!
//! Promises:
//! - A file is told by its content, and read by the decoders that a run uses: what is shown is what a run would do.
//! - Names are the record's where the record has such a field. `source_width` and `source_height` are upright, as there;
//!   `stored_width` and `stored_height` are before orientation.
//! - Colour is what pixels are converted by; `color_assumed` names what the file does not say.
//! - A video whose first frame does not decode is still described, by its container alone, with a `warning`.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::bytes::ByteSource;
use crate::color::{Color, Family};
use crate::decode::image::{self, MediaKind, PhotoOptions, SNIFF_BYTES};
use crate::error::{Error, RejectKind, Result};
use crate::geometry::Orientation;

/// How a run would read the file.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which video stream, counted from 0; `None`: the first that is no cover picture.
    pub stream: Option<usize>,
    /// How photos are read, and the largest picture of either kind.
    pub photo: PhotoOptions,
    /// Look at all packets of a video, which tells its keyframes and whether it can be cut. Matroska files are read
    /// through for it.
    pub scan: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { stream: None, photo: PhotoOptions::default(), scan: true }
    }
}

/// Describes the file behind `source` as one flat JSON object; `uri` names it there and in errors.
///
/// # Errors
/// Those of [`image::decode`] and `VideoReader::open`; input errors of kind `io` where reading fails. A build without
/// `ffmpeg` refuses what is no photo as `unsupported`.
pub fn probe(source: Arc<dyn ByteSource>, uri: &str, options: &Options) -> Result<Value> {
    if source.is_empty() {
        return Err(Error::input(RejectKind::Empty, format!("{uri}: the file has no bytes")));
    }
    let unread = |e: std::io::Error| Error::input(RejectKind::Io, format!("{uri}: reading failed: {e}"));
    match image::sniff(&source.head(SNIFF_BYTES).map_err(unread)?) {
        MediaKind::Photo(_) => photo(&source.read_all().map_err(unread)?, uri, options),
        MediaKind::Other => video(source, uri, options),
    }
}

/// The report in lines for people; `probe --json` shows all of it.
pub fn text(report: &Value) -> String {
    /// Keyframe times that are listed.
    const TIMES: usize = 8;
    let get = |name: &str| report.get(name).filter(|v| !v.is_null());
    let word = |name: &str| get(name).map(plain);
    let mut out = format!("{}\n", word("uri").unwrap_or_default());
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push_str(&format!("  {name:<14} {value}\n"));
        }
    };
    line("media", word("media"));
    line("container", word("container"));
    let videos = word("video_streams").unwrap_or_default();
    line("stream", word("stream_index").map(|n| format!("{n} of the container (video streams: {videos})")));
    let decoder = word("decoder").filter(|d| Some(d) != word("codec").as_ref());
    line("codec", word("codec").map(|c| decoder.map_or(c.clone(), |d| format!("{c} (decoder {d})"))));
    line("decoded by", word("decoded_by").map(|d| format!("{d}: {}", word("decoded_by_reason").unwrap_or_default())));
    line("pixel format", word("pixel_format"));
    let size = |kind: &str| Some(format!("{} x {}", word(&format!("{kind}_width"))?, word(&format!("{kind}_height"))?));
    let stored = size("stored").filter(|s| Some(s) != size("source").as_ref());
    line("size", size("source").map(|s| stored.map_or(s.clone(), |stored| format!("{s} (stored {stored})"))));
    line("sample aspect", word("sample_aspect").filter(|a| a != "1:1"));
    line("orientation", word("orientation").filter(|o| o != "1").map(|o| format!("EXIF {o}")));
    line("rotation", word("rotation").filter(|r| r != "0").map(|r| format!("{r} degrees clockwise")));
    line("mirrored", word("mirrored").filter(|m| m == "true").map(|_| "yes".into()));
    let assumed: Vec<&str> =
        get("color_assumed").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (title, name) in [
        ("matrix", "color_matrix"),
        ("range", "color_range"),
        ("primaries", "color_primaries"),
        ("transfer", "color_transfer"),
        ("chroma", "chroma_location"),
    ] {
        let note = if assumed.contains(&name) { " (assumed: the file does not say)" } else { "" };
        line(title, word(name).map(|v| format!("{v}{note}")));
    }
    line("ICC profile", word("icc"));
    line("captured at", word("captured_at"));
    line("duration", word("duration_s").map(|d| format!("{d} s")));
    line("start", word("start_s").map(|s| format!("{s} s (time base {})", word("time_base").unwrap_or_default())));
    line("frame rate", word("frame_rate"));
    let how = word("frames_from").map(|f| format!(" (from the {f})")).unwrap_or_default();
    line("frames", word("frames").map(|n| format!("{n}{how}")));
    if let Some(times) = get("keyframes_s").and_then(Value::as_array) {
        let shown: Vec<String> = times.iter().take(TIMES).map(plain).collect();
        let more = if times.len() > TIMES { ", ..." } else { "" };
        line("keyframes", Some(format!("{} (at {} s{more})", times.len(), shown.join(", "))));
    }
    line(
        "indexed",
        get("indexed").map(|indexed| match indexed.as_bool() {
            Some(true) => "yes: can be cut into units and sought in".into(),
            _ => "no: is read from the start, as one unit".into(),
        }),
    );
    line("Dolby Vision", word("dolby_vision").map(|profile| format!("profile {profile}; its base layer is decoded")));
    line("bit rate", word("bit_rate").map(|b| format!("{b} bit/s")));
    line("bytes", word("bytes"));
    line("warning", word("warning"));
    out
}

/// A value without quotes and without what could steer a terminal: names and dates come from the file.
fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The colour fields of a record.
fn colors(color: &Color, subsampled: bool) -> Map<String, Value> {
    object(json!({
        "color_matrix": color.matrix.name(),
        "color_range": color.range.name(),
        "color_primaries": color.primaries,
        "color_transfer": color.transfer,
        "chroma_location": subsampled.then(|| color.siting.name()),
        "color_assumed": color.assumed,
    }))
}

fn sizes(stored: (u32, u32), orientation: Orientation) -> Map<String, Value> {
    let upright = orientation.size(stored.0, stored.1);
    object(json!({
        "stored_width": stored.0,
        "stored_height": stored.1,
        "source_width": upright.0,
        "source_height": upright.1,
    }))
}

fn photo(data: &[u8], uri: &str, options: &Options) -> Result<Value> {
    // The file's own orientation is shown even where it would not be applied.
    let read = PhotoOptions { apply_orientation: true, ..options.photo.clone() };
    let photo = image::decode(data, uri, &read)?;
    let stated = photo.frame.orientation;
    let applied = if options.photo.apply_orientation { stated } else { Orientation::UPRIGHT };
    let mut out = object(json!({
        "uri": uri,
        "media": "image",
        "bytes": data.len(),
        "codec": photo.codec,
        "pixel_format": photo.pixel_format,
    }));
    out.extend(sizes((photo.frame.width, photo.frame.height), applied));
    out.extend(object(json!({
        "orientation": (1..=8).find(|&tag| Orientation::from_exif(tag) == Some(stated)),
        "rotation": u32::from(applied.turns) * 90,
        "mirrored": applied.flip_h,
    })));
    out.extend(colors(&photo.frame.color, false));
    out.extend(object(json!({
        "icc": photo.icc,
        "captured_at": photo.captured_at,
        "warning": photo.warning,
    })));
    Ok(Value::Object(out))
}

#[cfg(not(feature = "ffmpeg"))]
fn video(_: Arc<dyn ByteSource>, uri: &str, _: &Options) -> Result<Value> {
    let what = "the content is no photo, and this framemill was built without ffmpeg, which reads videos; build it with \
                the feature `ffmpeg`";
    Err(Error::input(RejectKind::Unsupported, format!("{uri}: {what}")))
}

#[cfg(feature = "ffmpeg")]
fn video(source: Arc<dyn ByteSource>, uri: &str, options: &Options) -> Result<Value> {
    use crate::decode::video::{VideoOptions, VideoReader};

    let bytes = source.len();
    let wanted =
        VideoOptions { stream: options.stream, max_pixels: options.photo.max_pixels, ..VideoOptions::default() };
    let mut reader = VideoReader::open(source, uri, &wanted)?;
    if options.scan {
        reader.scan()?;
    }
    let first = reader.advance().and_then(|meta| meta.map(|_| reader.frame()).transpose());
    let (frame, mut warning) = match first {
        Ok(Some(frame)) => (Some(frame), None),
        Ok(None) => (None, Some("no frame could be decoded".to_string())),
        Err(e) if matches!(e.reject, Some(RejectKind::Corrupt | RejectKind::Unsupported)) => {
            // The report names the file already.
            let text = e.message.strip_prefix(&format!("{uri}: ")).unwrap_or(&e.message).to_string();
            (None, Some(text))
        }
        Err(e) => return Err(e),
    };
    warning = warning.or_else(|| reader.first_error());

    let route = reader.route_of(crate::decode::route::Demand::Auto);
    let info = reader.info();
    let stored = frame.as_ref().map_or((info.width, info.height), |f| (f.width, f.height));
    let aspect = frame.as_ref().map_or(info.sample_aspect, |f| f.sample_aspect);
    // A frame may carry an orientation of its own, always in quarter turns.
    let (orientation, rotation) = match &frame {
        Some(f) if f.orientation != info.orientation => (f.orientation, i32::from(f.orientation.turns) * 90),
        _ => (info.orientation, info.rotation),
    };
    let (color, subsampled) = match frame {
        Some(frame) => (frame.color, subsampled(frame.format)),
        None => {
            let (subsampled, family) = by_name(&info.pixel_format, &info.codec);
            (Color::resolve(&info.tags, stored.0, stored.1, subsampled, family), subsampled)
        }
    };
    let seconds = |ticks: i64| ticks as f64 * f64::from(info.time_base.0) / f64::from(info.time_base.1);
    let t0 = info.start_pts.unwrap_or(0);
    let (frames, frames_from) = match (info.frames, info.packets) {
        (Some(n), _) => (Some(n), Some("container")),
        (None, Some(n)) => (Some(n), Some("packets")),
        (None, None) => (None, None),
    };
    let mut out = object(json!({
        "uri": uri,
        "media": "video",
        "bytes": bytes,
        "container": info.container,
        "stream_index": info.stream_index,
        "video_streams": info.video_streams,
        "codec": info.codec,
        "decoder": info.decoder,
        "decoded_by": route.name(),
        "decoded_by_reason": route.reason,
        "pixel_format": info.pixel_format,
    }));
    out.extend(sizes(stored, orientation));
    out.extend(object(json!({
        "sample_aspect": format!("{}:{}", aspect.0, aspect.1),
        "rotation": rotation,
        "mirrored": orientation.flip_h,
    })));
    out.extend(colors(&color, subsampled));
    out.extend(object(json!({
        "captured_at": info.captured_at,
        "time_base": format!("{}/{}", info.time_base.0, info.time_base.1),
        "start_pts": info.start_pts,
        "start_s": info.start_pts.map(seconds),
        "duration_s": info.duration_s,
        "frame_rate": info.frame_rate.map(|(n, d)| if d == 1 { n.to_string() } else { format!("{n}/{d}") }),
        "frames": frames,
        "frames_from": frames_from,
        "keyframes": info.keyframes.as_ref().map(Vec::len),
        "keyframes_s": info
            .keyframes
            .as_ref()
            .map(|all| all.iter().map(|pts| seconds(pts.saturating_sub(t0))).collect::<Vec<_>>()),
        "indexed": options.scan.then_some(info.indexed),
        "bit_rate": info.bit_rate,
        "dolby_vision": info.dolby_vision,
        "warning": warning,
    })));
    Ok(Value::Object(out))
}

#[cfg(feature = "ffmpeg")]
fn subsampled(format: crate::frame::PixelFormat) -> bool {
    matches!(format, crate::frame::PixelFormat::Yuv { sub_w, sub_h, .. } if sub_w + sub_h > 0)
}

/// Whether chroma is subsampled and what samples are, by FFmpeg's name of the format, for want of a frame.
#[cfg(feature = "ffmpeg")]
fn by_name(name: &str, codec: &str) -> (bool, Family) {
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if has(&["rgb", "bgr", "gbr"]) || name == "pal8" {
        (false, Family::Rgb)
    } else if ["gray", "ya8", "ya16", "mono"].iter().any(|gray| name.starts_with(gray)) {
        (false, crate::decode::video::luma_alone(codec))
    } else {
        (has(&["420", "422", "411", "410", "440", "nv12", "nv16", "nv21", "p01", "p21"]), Family::Yuv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::encode::{Encoding, encode};
    use crate::tensor::{Dtype, Layout, Tensor};

    fn probe_bytes(data: Vec<u8>) -> Result<Value> {
        probe(Arc::new(data), "dir/a.bin", &Options::default())
    }

    fn picture(encoding: Encoding) -> Vec<u8> {
        let tensor = Tensor { width: 6, height: 4, dtype: Dtype::U8, layout: Layout::Hwc, data: vec![90; 72] };
        encode(&[tensor], false, &encoding).unwrap()
    }

    /// The JPEG with an EXIF block that says `orientation` and nothing else.
    fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let mut exif = b"\xFF\xE1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        [&jpeg[..2], &exif, &jpeg[2..]].concat()
    }

    #[test]
    fn photos_are_described_in_the_records_words() {
        let report = probe_bytes(picture(Encoding::Png)).unwrap();
        assert_eq!(
            (&report["media"], &report["codec"], &report["pixel_format"]),
            (&json!("image"), &json!("png"), &json!("rgb24"))
        );
        assert_eq!((&report["source_width"], &report["source_height"]), (&json!(6), &json!(4)));
        assert_eq!(
            (&report["color_matrix"], &report["icc"], &report["orientation"]),
            (&json!("rgb"), &Value::Null, &json!(1))
        );
        assert!(report["chroma_location"].is_null() && report["warning"].is_null());
        let known: Vec<String> = crate::sink::record::field_names();
        for name in report.as_object().unwrap().keys() {
            let own = ["stored_width", "stored_height", "orientation", "mirrored", "warning"].contains(&name.as_str());
            assert!(own || known.contains(name), "{name}");
        }
        let lines = text(&report);
        assert!(lines.starts_with("dir/a.bin\n") && lines.contains("size           6 x 4\n"), "{lines}");
        assert!(!lines.contains("orientation") && !lines.contains("stored"), "{lines}");
    }

    #[test]
    fn orientation_is_told_and_applied_as_the_run_would() {
        let data = turned(&picture(Encoding::Jpeg(90)), 5);
        let report = probe_bytes(data.clone()).unwrap();
        assert_eq!(
            (&report["orientation"], &report["rotation"], &report["mirrored"]),
            (&json!(5), &json!(270), &json!(true))
        );
        assert_eq!((&report["source_width"], &report["stored_width"]), (&json!(4), &json!(6)));
        assert!(text(&report).contains("4 x 6 (stored 6 x 4)"));
        let photo = PhotoOptions { apply_orientation: false, ..Default::default() };
        let ignored = probe(Arc::new(data), "a", &Options { photo, ..Default::default() }).unwrap();
        assert_eq!(
            (&ignored["orientation"], &ignored["rotation"], &ignored["source_width"]),
            (&json!(5), &json!(0), &json!(6))
        );
    }

    #[test]
    fn bad_files_are_errors_that_name_them() {
        let error = probe_bytes(Vec::new()).unwrap_err();
        assert_eq!(error.reject, Some(RejectKind::Empty));
        let error = probe_bytes(b"a text that is no media at all".to_vec()).unwrap_err();
        let expected = if cfg!(feature = "ffmpeg") { RejectKind::NotMedia } else { RejectKind::Unsupported };
        assert_eq!(error.reject, Some(expected), "{error}");
        assert!(error.message.starts_with("dir/a.bin: "), "{error}");
        let small = Options { photo: PhotoOptions { max_pixels: 23, ..Default::default() }, ..Default::default() };
        let error = probe(Arc::new(picture(Encoding::Png)), "a", &small).unwrap_err();
        assert_eq!(error.reject, Some(RejectKind::TooLarge));
    }

    #[test]
    fn a_terminal_cannot_be_steered_by_a_file() {
        let lines = text(&json!({"uri": "a\u{1b}[2J", "captured_at": "x\ny"}));
        assert_eq!(lines, "a\u{fffd}[2J\n  captured at    x\u{fffd}y\n");
    }

    #[cfg(feature = "ffmpeg")]
    #[test]
    fn formats_are_known_by_name() {
        use Family::{Gray, Rgb, Yuv};
        for (name, expected) in [
            ("yuv420p10le", (true, Yuv)),
            ("yuvj422p", (true, Yuv)),
            ("nv12", (true, Yuv)),
            ("p010le", (true, Yuv)),
            ("yuv444p", (false, Yuv)),
            ("gray", (false, Gray)),
            ("ya8", (false, Gray)),
            ("gbrp12le", (false, Rgb)),
            ("bgra", (false, Rgb)),
            ("pal8", (false, Rgb)),
        ] {
            assert_eq!(by_name(name, "ffv1"), expected, "{name}");
        }
        assert_eq!(by_name("gray10le", "hevc"), (false, Yuv));
    }
}
