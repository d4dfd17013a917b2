//! Which decoder a stream gets, and why: a table without side effects.
//!
//! The same bytes come out whichever decoder is used. So hardware decodes only what its standard binds to the bit: H.264,
//! HEVC, VP8, VP9, and AV1 without film grain. MPEG-2, MPEG-4 part 2, VC-1 and the like leave the rounding of their
//! transforms open, and stay in software with a pinned one.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::ffi::nv::Capability;

/// A kind of hardware decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// NVIDIA's.
    Nvdec,
    /// Linux's interface to Intel's and AMD's.
    Vaapi,
    /// Vulkan Video.
    Vulkan,
    /// Apple's.
    VideoToolbox,
    /// Windows' interface.
    D3d11va,
    /// Intel's own interface.
    Qsv,
    /// Software that takes the place of hardware and fails as it is told, for tests.
    Test,
}

impl Kind {
    /// All that a user can ask for.
    pub const ALL: [Kind; 6] = [Kind::Nvdec, Kind::Vaapi, Kind::Vulkan, Kind::VideoToolbox, Kind::D3d11va, Kind::Qsv];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Nvdec => "nvdec",
            Kind::Vaapi => "vaapi",
            Kind::Vulkan => "vulkan",
            Kind::VideoToolbox => "videotoolbox",
            Kind::D3d11va => "d3d11va",
            Kind::Qsv => "qsv",
            Kind::Test => "test",
        }
    }
}

/// The word for decoding in software.
pub const SOFTWARE: &str = "software";

/// `--decoder`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Demand {
    /// Whatever is faster, with the same bytes.
    Auto,
    /// Software.
    #[default]
    Software,
    /// This hardware.
    Hardware(Kind),
}

/// The variable that tells the test decoder how to fail, and without which it is not there.
pub const TEST_DECODER: &str = "FRAMEMILL_TEST_DECODER";

impl FromStr for Demand {
    type Err = Error;
    fn from_str(text: &str) -> Result<Demand> {
        match text {
            "auto" => return Ok(Demand::Auto),
            SOFTWARE => return Ok(Demand::Software),
            "test" if std::env::var_os(TEST_DECODER).is_some() => return Ok(Demand::Hardware(Kind::Test)),
            _ => {}
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == text);
        kind.map(Demand::Hardware).ok_or_else(|| {
            let names = Kind::ALL.map(Kind::name).join(", ");
            Error::usage(format!("decoder {text}: it is one of auto, {SOFTWARE}, {names}"))
        })
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Demand::Auto => "auto",
            Demand::Software => SOFTWARE,
            Demand::Hardware(kind) => kind.name(),
        })
    }
}

/// What a decoder has to know of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// FFmpeg's name of the codec.
    pub codec: String,
    /// FFmpeg's number of its profile.
    pub profile: i32,
    /// FFmpeg's name of the pixel format.
    pub pixel_format: String,
    /// Size in pixels.
    pub size: (u32, u32),
    /// How many frames there are, where that is known.
    pub frames: Option<u64>,
    /// AV1's film grain may be there.
    pub film_grain: bool,
}

/// Where a stream is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The hardware, or `None` for software.
    pub hardware: Option<Kind>,
    /// Why.
    pub reason: String,
}

impl Route {
    /// In software.
    pub fn software(reason: impl Into<String>) -> Route {
        Route { hardware: None, reason: reason.into() }
    }

    /// The word for it.
    pub fn name(&self) -> &'static str {
        self.hardware.map_or(SOFTWARE, Kind::name)
    }
}

/// Codecs whose standards bind every bit of a decoded picture.
pub const EXACT: [&str; 5] = ["h264", "hevc", "vp8", "vp9", "av1"];

/// Pixels of a whole video below which opening a hardware decoder costs more than it spares: about 240 frames of 1080p.
/// Reckoned from an H200 with 8 threads (benches/results/h200-gpu-check.json): 60 clips of 32 frames took 6.1 s, so about
/// ten decoders open in a second, and once open they gave about 3,400 frames a second, where software gave 1,400.
pub const WORTH: u64 = 500_000_000;

/// H.264's Extended profile, which no hardware knows.
const H264_EXTENDED: i32 = 88;
/// HEVC's Main, Main 10 and range extensions; others (scalable, screen content) are software's.
const HEVC_PROFILES: [i32; 3] = [1, 2, 4];

/// Subsampling and depth of the planar YUV formats by FFmpeg's names of them.
fn planar(name: &str) -> Option<((u8, u8), u8)> {
    let rest = name.strip_prefix("yuvj").or_else(|| name.strip_prefix("yuv"))?;
    let (digits, rest) = rest.split_at_checked(3)?;
    let chroma = match digits {
        "420" => (1, 1),
        "422" => (1, 0),
        "444" => (0, 0),
        _ => return None,
    };
    let depth = rest.strip_prefix('p')?.trim_end_matches("le").trim_end_matches("be");
    Some((chroma, if depth.is_empty() { 8 } else { depth.parse().ok()? }))
}

/// Why hardware cannot decode a stream to the very samples that software gives, whatever the device.
fn unfit(facts: &Facts) -> Option<String> {
    let codec = facts.codec.as_str();
    if !EXACT.contains(&codec) {
        return Some(format!("the standard of {codec} does not bind every bit, so it is always decoded in software"));
    }
    let Some(_) = planar(&facts.pixel_format) else {
        return Some(format!("hardware does not decode to {}", facts.pixel_format));
    };
    match codec {
        "h264" if facts.profile & 0xFF == H264_EXTENDED => {
            Some("hardware does not know H.264's Extended profile".into())
        }
        "hevc" if !HEVC_PROFILES.contains(&facts.profile) => {
            Some("hardware decodes HEVC's Main, Main 10 and range extension profiles alone".into())
        }
        "av1" if facts.film_grain => Some("AV1 does not bind every bit of film grain".into()),
        // FFmpeg copies half a chroma row less from a surface of odd height.
        _ if facts.size.0 % 2 + facts.size.1 % 2 > 0 => Some("hardware does not decode odd sizes exactly".into()),
        _ => None,
    }
}

/// Why a device cannot decode a stream.
fn beyond(facts: &Facts, capabilities: &[Capability]) -> Option<String> {
    let (chroma, depth) = planar(&facts.pixel_format)?;
    let codec = &facts.codec;
    let Some(able) = capabilities.iter().find(|c| c.codec == codec && c.chroma == chroma && c.depth == depth) else {
        return Some(format!("the device does not decode {codec} as {}", facts.pixel_format));
    };
    // Coded pictures are whole macroblocks.
    let coded = (facts.size.0.next_multiple_of(16), facts.size.1.next_multiple_of(16));
    let blocks = u64::from(coded.0 / 16) * u64::from(coded.1 / 16);
    if coded.0 > able.max.0.next_multiple_of(16)
        || coded.1 > able.max.1.next_multiple_of(16)
        || blocks > u64::from(able.max_macroblocks)
    {
        return Some(format!("the device decodes {codec} up to {}x{} alone", able.max.0, able.max.1));
    }
    if coded.0 < able.min.0 || coded.1 < able.min.1 {
        return Some(format!("the device decodes {codec} from {}x{} on", able.min.0, able.min.1));
    }
    None
}

/// Where `facts` is decoded, on a machine that has hardware of `kind` with `capabilities` (`None` where that does not tell
/// what it can do: then it is tried). `auto` says that the user left the choice: what does not pay is software's.
pub fn route(facts: &Facts, kind: Kind, capabilities: Option<&[Capability]>, auto: bool) -> Route {
    let cannot = unfit(facts).or_else(|| beyond(facts, capabilities?));
    if let Some(reason) = cannot {
        return Route::software(reason);
    }
    let pixels = facts.frames.map(|n| n.saturating_mul(u64::from(facts.size.0) * u64::from(facts.size.1)));
    if auto && pixels.is_some_and(|n| n < WORTH) {
        return Route::software("opening a hardware decoder would cost more than it spares for so few pixels");
    }
    let reason = if auto { "the device decodes it, to the same samples as software" } else { "demanded" };
    Route { hardware: Some(kind), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capability(codec: &'static str, chroma: (u8, u8), depth: u8, max: u32) -> Capability {
        let max_macroblocks = max * max / 256;
        Capability { codec, chroma, depth, min: (48, 16), max: (max, max), max_macroblocks, engines: 7 }
    }

    /// What an H200 says of itself, in part.
    fn device() -> Vec<Capability> {
        let mut all = vec![capability("h264", (1, 1), 8, 4096), capability("mpeg2video", (1, 1), 8, 4080)];
        for depth in [8, 10, 12] {
            all.extend([capability("hevc", (1, 1), depth, 8192), capability("hevc", (0, 0), depth, 8192)]);
            all.push(capability("vp9", (1, 1), depth, 8192));
        }
        all
    }

    fn facts(codec: &str, pixel_format: &str, size: (u32, u32)) -> Facts {
        let profile = if codec == "hevc" { 1 } else { 100 };
        let (codec, pixel_format) = (codec.to_string(), pixel_format.to_string());
        Facts { codec, profile, pixel_format, size, frames: Some(1000), film_grain: false }
    }

    #[test]
    fn streams_go_where_they_are_decoded_exactly() {
        let hd = (1920, 1080);
        for (codec, format, size, expected) in [
            ("h264", "yuv420p", hd, ""),
            ("h264", "yuvj420p", hd, ""),
            ("h264", "yuv420p", (4096, 2304), ""),
            ("hevc", "yuv420p10le", hd, ""),
            ("hevc", "yuv444p12le", hd, ""),
            ("vp9", "yuv420p", (7680, 4320), ""),
            ("h264", "yuv420p", (4112, 2160), "up to 4096x4096"),
            ("h264", "yuv420p", (32, 32), "from 48x16"),
            ("h264", "yuv420p10le", hd, "does not decode h264 as yuv420p10le"),
            ("h264", "yuv422p10le", hd, "does not decode h264 as yuv422p10le"),
            ("hevc", "gray", hd, "does not decode to gray"),
            ("vp9", "gbrp", hd, "does not decode to gbrp"),
            ("vp9", "yuv420p", (1919, 1080), "odd sizes"),
            ("av1", "yuv420p", hd, "does not decode av1"),
            ("mpeg2video", "yuv420p", hd, "does not bind every bit"),
            ("mjpeg", "yuvj422p", hd, "does not bind every bit"),
        ] {
            for auto in [false, true] {
                let found = route(&facts(codec, format, size), Kind::Nvdec, Some(&device()), auto);
                assert_eq!(found.hardware.is_some(), expected.is_empty(), "{codec} {format} {size:?}: {found:?}");
                assert!(found.reason.contains(expected), "{codec} {format} {size:?}: {found:?}");
            }
        }
    }

    #[test]
    fn profiles_and_film_grain_count() {
        let with = |change: fn(&mut Facts), codec: &str| {
            let mut facts = facts(codec, "yuv420p", (1920, 1080));
            change(&mut facts);
            route(&facts, Kind::Vaapi, None, true)
        };
        assert_eq!(with(|f| f.profile = 77, "h264").hardware, Some(Kind::Vaapi));
        assert_eq!(with(|f| f.profile = 66 | 512, "h264").hardware, Some(Kind::Vaapi), "constrained baseline");
        assert!(with(|f| f.profile = 88, "h264").reason.contains("Extended"));
        assert!(with(|f| f.profile = 9, "hevc").reason.contains("Main"), "screen content");
        assert_eq!(with(|_| {}, "av1").hardware, Some(Kind::Vaapi), "a device that does not tell is tried");
        assert!(with(|f| f.film_grain = true, "av1").reason.contains("film grain"));
    }

    #[test]
    fn short_clips_stay_on_the_cpu_unless_hardware_is_demanded() {
        let of = |frames, auto| {
            let facts = Facts { frames, ..facts("h264", "yuv420p", (1280, 720)) };
            route(&facts, Kind::Nvdec, Some(&device()), auto).hardware.is_some()
        };
        let least = WORTH.div_ceil(1280 * 720);
        assert!(!of(Some(least - 1), true) && of(Some(least), true) && of(None, true) && of(Some(1), false));
    }

    #[test]
    fn words_are_read_and_written() {
        for text in ["auto", "software", "nvdec", "vaapi", "vulkan", "videotoolbox", "d3d11va", "qsv"] {
            assert_eq!(text.parse::<Demand>().unwrap().to_string(), text);
        }
        for text in ["test", "cuda", ""] {
            assert_eq!(text.parse::<Demand>().unwrap_err().exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn formats_are_told_by_name() {
        assert_eq!(planar("yuvj422p"), Some(((1, 0), 8)));
        assert_eq!(planar("yuv420p12be"), Some(((1, 1), 12)));
        for name in ["gray", "nv12", "yuva420p", "yuv410p", "unknown", "yuv"] {
            assert_eq!(planar(name), None, "{name}");
        }
    }
}
