//! 8-bit samples as codecs leave them, and the arithmetic that makes RGB of them. Every formula rounds once, to nearest.

use crate::color::over;

/// Interleaved 8-bit samples.
pub enum Samples {
    /// 3 bytes a pixel.
    Rgb(Vec<u8>),
    /// 4 bytes a pixel, colour not multiplied by alpha.
    Rgba(Vec<u8>),
    /// 4 bytes a pixel, 255 = full ink.
    Cmyk(Vec<u8>),
}

impl Samples {
    /// RGB over `background`; ink by Pillow's rule for CMYK without a profile.
    pub fn into_rgb(self, background: [u8; 3]) -> Vec<u8> {
        match self {
            Samples::Rgb(data) => data,
            Samples::Rgba(data) => four_to_three(&data, |p| over(p, background)),
            Samples::Cmyk(data) => four_to_three(&data, cmyk_to_rgb),
        }
    }
}

fn four_to_three(data: &[u8], convert: impl Fn([u8; 4]) -> [u8; 3]) -> Vec<u8> {
    let mut out = vec![0; data.len() / 4 * 3];
    for (from, to) in data.chunks_exact(4).zip(out.chunks_exact_mut(3)) {
        to.copy_from_slice(&convert([from[0], from[1], from[2], from[3]]));
    }
    out
}

/// Pillow's conversion without colour management (`cmyk2rgb` in its Convert.c): (255 - k) - c * (255 - k) / 255.
fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let paper = 255 - u32::from(k);
    let channel = |ink: u8| {
        let t = u32::from(ink) * paper + 128;
        (paper - (((t >> 8) + t) >> 8)) as u8
    };
    [channel(c), channel(m), channel(y)]
}

/// v * 255 / 65535, rounded.
pub fn depth16_to_8(v: u16) -> u8 {
    ((u32::from(v) * 255 + 32767) / 65535) as u8
}

/// Each sample three times: gray to RGB.
pub fn gray_to_rgb(gray: &[u8]) -> Vec<u8> {
    let mut out = vec![0; gray.len() * 3];
    for (v, to) in gray.iter().zip(out.chunks_exact_mut(3)) {
        to.fill(*v);
    }
    out
}

/// Gray and alpha to RGBA.
pub fn gray_alpha_to_rgba(data: &[u8]) -> Vec<u8> {
    data.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ink_follows_pillow() {
        // Image.new("CMYK", (1, 1), ...).convert("RGB") in Pillow 13.0.0.
        let known = [
            ([0, 0, 0, 0], [255, 255, 255]),
            ([255, 0, 0, 0], [0, 255, 255]),
            ([10, 20, 30, 40], [207, 198, 190]),
            ([100, 150, 200, 50], [125, 84, 44]),
            ([1, 2, 3, 254], [1, 1, 1]),
        ];
        for (ink, rgb) in known {
            assert_eq!(cmyk_to_rgb(ink), rgb, "{ink:?}");
        }
        assert_eq!(Samples::Cmyk(vec![255, 0, 0, 0]).into_rgb([9; 3]), [0, 255, 255]);
    }

    #[test]
    fn sixteen_bits_are_rounded_to_eight() {
        for v in 0..=u16::MAX {
            let exact = f64::from(v) * 255.0 / 65535.0;
            assert!((f64::from(depth16_to_8(v)) - exact).abs() <= 0.5, "{v}");
        }
        // Dropping the low byte would be another answer.
        assert_ne!(depth16_to_8(0x00FF), 0x00);
    }
}
