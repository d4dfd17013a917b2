//! [`VideoInfo`]: what a container says of its video stream, and how tags are read from FFmpeg's numbers.

use serde::Serialize;

use crate::color::{Color, ColorTags, Family, Matrix, Range, Siting};
use crate::error::{Error, RejectKind, Result};
use crate::ffi::av::{Input, Look, Stream};
use crate::frame::PixelFormat;
use crate::geometry::Orientation;

/// What is known of a video before it is decoded.
#[derive(Debug, Clone, Serialize)]
pub struct VideoInfo {
    /// FFmpeg's name of the container (`mov,mp4,m4a,3gp,3g2,mj2`, ...).
    pub container: String,
    /// FFmpeg's name of the codec.
    pub codec: String,
    /// FFmpeg's name of the decoder used.
    pub decoder: String,
    /// FFmpeg's name of the pixel format; `unknown` where the first packets do not tell.
    pub pixel_format: String,
    /// Width in pixels as stored (before orientation).
    pub width: u32,
    /// Height in pixels as stored.
    pub height: u32,
    /// Sample aspect ratio, (1, 1) when square or unknown.
    pub sample_aspect: (u32, u32),
    /// Seconds a tick: numerator, denominator.
    pub time_base: (i32, i32),
    /// The stream's start in ticks.
    pub start_pts: Option<i64>,
    /// Duration in seconds, as stated or estimated.
    pub duration_s: Option<f64>,
    /// Frames, as the container counts them.
    pub frames: Option<u64>,
    /// Average frames a second: numerator, denominator.
    pub frame_rate: Option<(i32, i32)>,
    /// Colour tags; frames may refine them.
    pub tags: ColorTags,
    /// What to apply to show it upright.
    pub orientation: Orientation,
    /// Clockwise degrees that show it upright (after mirroring); 0..=359. Only quarter turns are in `orientation`.
    pub rotation: i32,
    /// Index of the stream in the container.
    pub stream_index: usize,
    /// Number of video streams that are not cover pictures.
    pub video_streams: usize,
    /// `creation_time`, as the container or stream gives it.
    pub captured_at: Option<String>,
    /// Profile of Dolby Vision; what is decoded is its base layer, by that layer's tags.
    pub dolby_vision: Option<u8>,
    /// Bits a second, of the stream or else the file.
    pub bit_rate: Option<u64>,
    /// Presentation times of the key samples, ascending; known once the packets are indexed.
    pub keyframes: Option<Vec<i64>>,
    /// Packets of frames that are shown; known once the packets are indexed.
    pub packets: Option<u64>,
    /// The packets are indexed and regular: the video may be cut into units and jumped in.
    pub indexed: bool,
}

/// Ticks of `time_base` in seconds.
pub(super) fn seconds(ticks: i64, time_base: (i32, i32)) -> f64 {
    ticks as f64 * f64::from(time_base.0) / f64::from(time_base.1)
}

impl VideoInfo {
    pub(super) fn new(input: &Input, stream: &Stream, video_streams: usize, decoder: String) -> Result<VideoInfo> {
        let (orientation, rotation) = orientation(stream.look.display.as_ref());
        Ok(VideoInfo {
            container: input.container(),
            codec: stream.codec.clone(),
            decoder,
            pixel_format: stream.pixel_format.clone(),
            width: stream.size.0,
            height: stream.size.1,
            sample_aspect: aspect(stream.look.aspect, (1, 1)),
            time_base: stream.time_base,
            start_pts: stream.start,
            duration_s: stream.duration.map(|ticks| seconds(ticks, stream.time_base)).or(input.duration()),
            frames: stream.frames,
            frame_rate: stream.rate,
            tags: tags(&stream.look, &stream.pixel_format)?,
            orientation,
            rotation,
            stream_index: stream.index,
            video_streams,
            captured_at: stream.created.clone().or(input.created()),
            dolby_vision: stream.dolby_vision.map(|(profile, _)| profile),
            bit_rate: stream.bit_rate.or(input.bit_rate()),
            keyframes: None,
            packets: None,
            indexed: false,
        })
    }
}

/// A sample aspect ratio, or `fallback` where it is unknown.
pub(super) fn aspect(given: (i32, i32), fallback: (u32, u32)) -> (u32, u32) {
    match given {
        (n, d) if n > 0 && d > 0 => (n as u32, d as u32),
        _ => fallback,
    }
}

/// What a display matrix asks for: a mirroring and quarter turns, and the turn in degrees, which may be another.
pub(super) fn orientation(matrix: Option<&[i32; 9]>) -> (Orientation, i32) {
    let Some(&[a, b, _, c, d, ..]) = matrix else { return (Orientation::UPRIGHT, 0) };
    let [a, b, c, d] = [a, b, c, d].map(f64::from);
    // The matrix maps (x, y), y down, to (a x + c y, b x + d y). A negative determinant mirrors: undo that first.
    let flip_h = a * d - b * c < 0.0;
    let (a, b) = if flip_h { (-a, -b) } else { (a, b) };
    let degrees = libm::round(libm::atan2(b, a).to_degrees()) as i32;
    let degrees = degrees.rem_euclid(360);
    let near = (degrees + 1).rem_euclid(360);
    // Half a degree of rounding in the file must not make a quarter turn a crooked one.
    let turns = if near % 90 <= 2 { Some((near / 90) as u8) } else { None };
    (Orientation { flip_h, turns: turns.unwrap_or(0) }, degrees)
}

/// Colour tags from FFmpeg's numbers. The one error: a matrix that is given but that nothing here can convert.
pub(super) fn tags(look: &Look, pixel_format: &str) -> Result<ColorTags> {
    let range = match look.range {
        1 => Some(Range::Limited),
        2 => Some(Range::Full),
        // The deprecated formats whose very name says full range.
        _ if pixel_format.starts_with("yuvj") => Some(Range::Full),
        _ => None,
    };
    let siting = match look.siting {
        1 => Some(Siting::Left),
        2 => Some(Siting::Center),
        3 => Some(Siting::TopLeft),
        4 => Some(Siting::Top),
        5 => Some(Siting::BottomLeft),
        6 => Some(Siting::Bottom),
        _ => None,
    };
    let name = |number: i32, names: &[&str]| {
        let text = usize::try_from(number).ok().and_then(|n| names.get(n)).filter(|n| !n.is_empty());
        text.map(|n| n.to_string())
    };
    Ok(ColorTags {
        matrix: matrix(look.matrix, look.primaries)?,
        range,
        primaries: name(look.primaries, &PRIMARIES),
        transfer: name(look.transfer, &TRANSFERS),
        siting,
    })
}

fn matrix(number: i32, primaries: i32) -> Result<Option<Matrix>> {
    let unsupported = |name: &str| {
        let text = format!("the colour matrix {name} is not supported; convert the file to bt709 or bt2020nc");
        Err(Error::input(RejectKind::Unsupported, text))
    };
    Ok(match number {
        0 => Some(Matrix::Rgb),
        1 => Some(Matrix::Bt709),
        4 => Some(Matrix::Fcc),
        5 | 6 => Some(Matrix::Bt601),
        7 => Some(Matrix::Smpte240m),
        8 => Some(Matrix::Ycgco),
        9 => Some(Matrix::Bt2020),
        10 => return unsupported("bt2020c"),
        11 => return unsupported("smpte2085"),
        // Derived from the primaries, non-constant luminance.
        12 => match primaries {
            1 => Some(Matrix::Bt709),
            9 => Some(Matrix::Bt2020),
            _ => return unsupported("chroma-derived-nc"),
        },
        13 => return unsupported("chroma-derived-c"),
        14 => return unsupported("ictcp"),
        _ => None,
    })
}

/// H.273 ColourPrimaries by FFmpeg's names; empty where reserved or unspecified.
const PRIMARIES: [&str; 23] = [
    "",
    "bt709",
    "",
    "",
    "bt470m",
    "bt470bg",
    "smpte170m",
    "smpte240m",
    "film",
    "bt2020",
    "smpte428",
    "smpte431",
    "smpte432",
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "ebu3213",
];

/// H.273 TransferCharacteristics by FFmpeg's names.
const TRANSFERS: [&str; 19] = [
    "",
    "bt709",
    "",
    "",
    "bt470m",
    "bt470bg",
    "smpte170m",
    "smpte240m",
    "linear",
    "log100",
    "log316",
    "iec61966-2-4",
    "bt1361e",
    "iec61966-2-1",
    "bt2020-10",
    "bt2020-12",
    "smpte2084",
    "smpte428",
    "arib-std-b67",
];

/// `frame`'s tags where it has them, else the stream's.
pub(super) fn refine(frame: ColorTags, stream: &ColorTags) -> ColorTags {
    ColorTags {
        matrix: frame.matrix.or(stream.matrix),
        range: frame.range.or(stream.range),
        primaries: frame.primaries.or_else(|| stream.primaries.clone()),
        transfer: frame.transfer.or_else(|| stream.transfer.clone()),
        siting: frame.siting.or(stream.siting),
    }
}

/// The colour of a frame of a given format, as `codec` means it.
pub(super) fn color(tags: &ColorTags, size: (u32, u32), format: PixelFormat, codec: &str) -> Color {
    let subsampled = matches!(format, PixelFormat::Yuv { sub_w, sub_h, .. } if sub_w + sub_h > 0);
    Color::resolve(tags, size.0, size.1, subsampled, family(format, codec))
}

fn family(format: PixelFormat, codec: &str) -> Family {
    match format {
        PixelFormat::Rgb8 | PixelFormat::Gbr { .. } => Family::Rgb,
        PixelFormat::Gray { .. } => luma_alone(codec),
        PixelFormat::Yuv { .. } => Family::Yuv,
    }
}

/// What luma without chroma is: H.264 and HEVC say by their standards what range is meant where nothing is said.
pub fn luma_alone(codec: &str) -> Family {
    if matches!(codec, "h264" | "hevc") { Family::Yuv } else { Family::Gray }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: i32 = 65536;

    fn shown(a: i32, b: i32, c: i32, d: i32) -> (Orientation, i32) {
        orientation(Some(&[a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30]))
    }

    /// Where (x, y) goes by mirroring, then turning clockwise (y down).
    fn apply(o: Orientation, (x, y): (i32, i32)) -> (i32, i32) {
        let start = if o.flip_h { (-x, y) } else { (x, y) };
        (0..o.turns).fold(start, |(x, y), _| (-y, x))
    }

    #[test]
    fn all_eight_matrices_are_told_apart() {
        let mut seen = std::collections::HashSet::new();
        for (a, b, c, d) in [
            (1, 0, 0, 1),
            (0, 1, -1, 0),
            (-1, 0, 0, -1),
            (0, -1, 1, 0),
            (-1, 0, 0, 1),
            (1, 0, 0, -1),
            (0, 1, 1, 0),
            (0, -1, -1, 0),
        ] {
            let (o, degrees) = shown(a, b, c, d);
            assert_eq!(degrees, i32::from(o.turns) * 90);
            for (x, y) in [(1, 0), (0, 1), (2, 3)] {
                assert_eq!(apply(o, (x, y)), (a * x + c * y, b * x + d * y), "{a} {b} {c} {d}");
            }
            seen.insert((o.flip_h, o.turns));
        }
        assert_eq!(seen.len(), 8);
    }

    #[test]
    fn crooked_matrices_are_not_applied() {
        let (o, degrees) = orientation(Some(&[46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30]));
        assert_eq!((o, degrees), (Orientation::UPRIGHT, 45));
    }

    #[test]
    fn unconvertible_matrices_are_refused_and_silence_is_not() {
        let look = |matrix| Look { matrix, primaries: 2, transfer: 2, ..Look::default() };
        assert_eq!(tags(&look(14), "yuv420p10le").unwrap_err().reject, Some(RejectKind::Unsupported));
        assert!(tags(&look(2), "yuv420p").unwrap().matrix.is_none());
        assert_eq!(tags(&look(2), "yuvj420p").unwrap().range, Some(Range::Full));
    }
}
