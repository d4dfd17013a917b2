//! Colour tags of a picture, in the terms of ITU-T H.273, and the one rule for tags that a stream does not give.

use serde::{Deserialize, Serialize};

/// Matrix coefficients (H.273 `MatrixCoefficients`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matrix {
    /// Already RGB.
    Rgb,
    /// BT.601 (also BT.470BG, SMPTE 170M).
    Bt601,
    /// BT.709.
    Bt709,
    /// BT.2020 non-constant luminance.
    Bt2020,
    /// SMPTE 240M.
    Smpte240m,
    /// US FCC Title 47.
    Fcc,
    /// YCgCo.
    Ycgco,
}

impl Matrix {
    /// (Kr, Kb) of a luma matrix; `None` for RGB and YCgCo.
    pub fn kr_kb(self) -> Option<(f64, f64)> {
        match self {
            Matrix::Bt601 => Some((0.299, 0.114)),
            Matrix::Bt709 => Some((0.2126, 0.0722)),
            Matrix::Bt2020 => Some((0.2627, 0.0593)),
            Matrix::Smpte240m => Some((0.212, 0.087)),
            Matrix::Fcc => Some((0.30, 0.11)),
            Matrix::Rgb | Matrix::Ycgco => None,
        }
    }
    /// The name written in records.
    pub fn name(self) -> &'static str {
        match self {
            Matrix::Rgb => "rgb",
            Matrix::Bt601 => "bt601",
            Matrix::Bt709 => "bt709",
            Matrix::Bt2020 => "bt2020nc",
            Matrix::Smpte240m => "smpte240m",
            Matrix::Fcc => "fcc",
            Matrix::Ycgco => "ycgco",
        }
    }
}

/// Quantisation range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Range {
    /// 16..235 (luma) and 16..240 (chroma) at 8 bit.
    Limited,
    /// 0..255.
    Full,
}

impl Range {
    /// The name written in records.
    pub fn name(self) -> &'static str {
        match self {
            Range::Limited => "limited",
            Range::Full => "full",
        }
    }
}

/// Where chroma samples sit relative to luma (H.273 `ChromaSampleLocType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Siting {
    /// Horizontally on luma, vertically between (MPEG-2, H.264 default).
    Left,
    /// Between in both directions (MPEG-1, JPEG).
    Center,
    /// On luma in both directions (BT.2020 video).
    TopLeft,
    /// Between horizontally, on the upper line vertically.
    Top,
    /// Horizontally on luma, on the lower line vertically.
    BottomLeft,
    /// Between horizontally, on the lower line vertically.
    Bottom,
}

impl Siting {
    /// The name written in records.
    pub fn name(self) -> &'static str {
        match self {
            Siting::Left => "left",
            Siting::Center => "center",
            Siting::TopLeft => "topleft",
            Siting::Top => "top",
            Siting::BottomLeft => "bottomleft",
            Siting::Bottom => "bottom",
        }
    }
    /// Offset of a chroma sample from the luma sample of the same index pair, (x, y), in quarter luma samples:
    /// 0 = co-sited, 2 = half way (1/2 luma sample), 4 = on the next line.
    pub fn quarter_offsets(self) -> (i32, i32) {
        match self {
            Siting::Left => (0, 2),
            Siting::Center => (2, 2),
            Siting::TopLeft => (0, 0),
            Siting::Top => (2, 0),
            Siting::BottomLeft => (0, 4),
            Siting::Bottom => (2, 4),
        }
    }
}

/// Everything that decides what a picture's numbers mean.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Color {
    /// Matrix coefficients used.
    pub matrix: Matrix,
    /// Quantisation range used.
    pub range: Range,
    /// Colour primaries as FFmpeg names them (`bt709`, ...; recorded, not converted).
    pub primaries: String,
    /// Transfer characteristic as FFmpeg names it.
    pub transfer: String,
    /// Chroma siting used.
    pub siting: Siting,
    /// Names of tags that were not in the stream and were assumed.
    pub assumed: Vec<&'static str>,
}

/// Tags as a stream gives them; `None` where it is silent.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ColorTags {
    /// Matrix coefficients.
    pub matrix: Option<Matrix>,
    /// Range.
    pub range: Option<Range>,
    /// Primaries, by FFmpeg's name.
    pub primaries: Option<String>,
    /// Transfer, by FFmpeg's name.
    pub transfer: Option<String>,
    /// Siting.
    pub siting: Option<Siting>,
}

/// What a picture's samples are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Luma and chroma.
    Yuv,
    /// Luma alone.
    Gray,
    /// Red, green and blue.
    Rgb,
}

impl Color {
    /// sRGB pixels of a photo.
    pub fn srgb() -> Self {
        Color {
            matrix: Matrix::Rgb,
            range: Range::Full,
            primaries: "bt709".into(),
            transfer: "iec61966-2-1".into(),
            siting: Siting::Center,
            assumed: Vec::new(),
        }
    }

    /// Fills what `tags` leaves open, by one documented rule: the matrix is taken from the primaries where these are
    /// given (BT.2020, BT.709, BT.601 families), else BT.709 from 720 lines on or 1280 columns, else BT.601; range is
    /// limited, but full for luma alone (as FFmpeg's scaler takes it; H.264 and HEVC say limited by their standards);
    /// siting is left for 4:2:0 and 4:2:2 (top-left where the matrix is BT.2020); primaries and transfer follow
    /// the matrix. Each such tag is named in [`Color::assumed`].
    pub fn resolve(tags: &ColorTags, width: u32, height: u32, chroma_subsampled: bool, family: Family) -> Self {
        let rgb = family == Family::Rgb;
        let mut assumed = Vec::new();
        let matrix = if rgb {
            Matrix::Rgb
        } else {
            match tags.matrix {
                Some(m) if m != Matrix::Rgb => m,
                _ => {
                    assumed.push("color_matrix");
                    match tags.primaries.as_deref() {
                        Some("bt2020") => Matrix::Bt2020,
                        Some("bt709") => Matrix::Bt709,
                        Some("bt470bg" | "smpte170m") => Matrix::Bt601,
                        Some("smpte240m") => Matrix::Smpte240m,
                        _ if height >= 720 || width >= 1280 => Matrix::Bt709,
                        _ => Matrix::Bt601,
                    }
                }
            }
        };
        let mut or = |name: &'static str, given: Option<String>, default: &str| {
            given.unwrap_or_else(|| {
                assumed.push(name);
                default.to_string()
            })
        };
        let primaries_default = match matrix {
            Matrix::Bt2020 => "bt2020",
            Matrix::Bt601 | Matrix::Fcc => "smpte170m",
            Matrix::Smpte240m => "smpte240m",
            _ => "bt709",
        };
        let primaries = or("color_primaries", tags.primaries.clone(), primaries_default);
        let transfer = or(
            "color_transfer",
            tags.transfer.clone(),
            match matrix {
                Matrix::Smpte240m => "smpte240m",
                Matrix::Bt601 => "smpte170m",
                Matrix::Rgb => "iec61966-2-1",
                _ => "bt709",
            },
        );
        let range = tags.range.unwrap_or_else(|| {
            assumed.push("color_range");
            if family == Family::Yuv { Range::Limited } else { Range::Full }
        });
        let siting = tags.siting.unwrap_or_else(|| {
            if chroma_subsampled {
                assumed.push("chroma_location");
            }
            if matrix == Matrix::Bt2020 { Siting::TopLeft } else { Siting::Left }
        });
        Color { matrix, range, primaries, transfer, siting, assumed }
    }
}

/// R, G, B and A over an opaque `background`: (c*a + bg*(255-a)) / 255, rounded to nearest.
pub fn over([r, g, b, a]: [u8; 4], background: [u8; 3]) -> [u8; 3] {
    let a = u32::from(a);
    let mix = |c: u8, bg: u8| ((u32::from(c) * a + u32::from(bg) * (255 - a) + 127) / 255) as u8;
    [mix(r, background[0]), mix(g, background[1]), mix(b, background[2])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_is_rounded_to_nearest() {
        let mut truncation_differs = 0;
        for c in 0..=255u8 {
            for a in 0..=255u8 {
                for bg in [0u8, 1, 77, 128, 255] {
                    let exact = (f64::from(c) * f64::from(a) + f64::from(bg) * (255.0 - f64::from(a))) / 255.0;
                    let [got, ..] = over([c, 0, 0, a], [bg, 0, 0]);
                    assert!((f64::from(got) - exact).abs() <= 0.5, "{c} {a} {bg}: {got} for {exact}");
                    truncation_differs += usize::from(exact as u8 != got);
                }
            }
        }
        // Negative control: the same test would catch a formula that truncates.
        assert!(truncation_differs > 1000);
        assert_eq!(over([10, 20, 30, 255], [9, 9, 9]), [10, 20, 30]);
        assert_eq!(over([10, 20, 30, 0], [7, 8, 9]), [7, 8, 9]);
    }

    #[test]
    fn silence_is_named() {
        let c = Color::resolve(&ColorTags::default(), 640, 480, true, Family::Yuv);
        assert_eq!((c.matrix, c.range, c.siting), (Matrix::Bt601, Range::Limited, Siting::Left));
        assert_eq!(c.assumed.len(), 5);
        let hd = Color::resolve(&ColorTags::default(), 1920, 1080, true, Family::Yuv);
        assert_eq!(hd.matrix, Matrix::Bt709);
        let gray = Color::resolve(&ColorTags::default(), 640, 480, false, Family::Gray);
        assert_eq!((gray.range, gray.assumed.contains(&"color_range")), (Range::Full, true));
    }

    #[test]
    fn given_tags_are_taken_and_not_named() {
        let tags = ColorTags { matrix: Some(Matrix::Bt709), range: Some(Range::Full), ..Default::default() };
        let c = Color::resolve(&tags, 320, 240, false, Family::Yuv);
        assert_eq!((c.matrix, c.range), (Matrix::Bt709, Range::Full));
        assert_eq!(c.assumed, ["color_primaries", "color_transfer"]);
    }
}
