//! Encoding of samples: a picture as JPEG, PNG or WebP, a picture or a clip as `.npy` or safetensors.
//!
//! The same tensor gives the same bytes on every machine: all settings are fixed here, no encoder uses threads, and the
//! SIMD paths of libjpeg-turbo (slow integer DCT) and libwebp are exact.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use image::ImageEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

use super::tensors::Container;
use crate::error::{Error, RejectKind, Result};
use crate::tensor::{Dtype, Layout, Tensor};

/// Quality of `jpeg` without a number.
const JPEG_QUALITY: u8 = 95;
/// Longest side that a JPEG can have, by libjpeg's limit.
const JPEG_MAX_SIDE: u32 = 65_500;
/// Longest side that a WebP can have, by its format.
const WEBP_MAX_SIDE: u32 = 16_383;

/// How a sample is encoded. Written `jpeg`, `jpeg:90`, `png`, `webp` (lossless), `webp:80`, `npy`, `safetensors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Baseline JPEG, 4:4:4, standard tables scaled to a quality of 1..=100.
    Jpeg(u8),
    /// 8-bit RGB PNG.
    Png,
    /// WebP of a quality of 0..=100, or lossless.
    Webp(Option<u8>),
    /// NumPy array.
    Npy,
    /// safetensors with one tensor `data`.
    Safetensors,
}

impl Encoding {
    /// The file name's ending, without the dot.
    pub fn ext(self) -> &'static str {
        match self {
            Encoding::Jpeg(_) => "jpg",
            Encoding::Png => "png",
            Encoding::Webp(_) => "webp",
            Encoding::Npy => Container::Npy.ext(),
            Encoding::Safetensors => Container::Safetensors.ext(),
        }
    }

    /// The array format, where this is one.
    pub fn container(self) -> Option<Container> {
        match self {
            Encoding::Npy => Some(Container::Npy),
            Encoding::Safetensors => Some(Container::Safetensors),
            Encoding::Jpeg(_) | Encoding::Png | Encoding::Webp(_) => None,
        }
    }
}

impl Default for Encoding {
    fn default() -> Self {
        Encoding::Jpeg(JPEG_QUALITY)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Encoding::Jpeg(quality) => write!(f, "jpeg:{quality}"),
            Encoding::Png => f.write_str("png"),
            Encoding::Webp(None) => f.write_str("webp"),
            Encoding::Webp(Some(quality)) => write!(f, "webp:{quality}"),
            Encoding::Npy => f.write_str("npy"),
            Encoding::Safetensors => f.write_str("safetensors"),
        }
    }
}

impl FromStr for Encoding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, quality) = match text.split_once(':') {
            Some((name, quality)) => (name, Some(quality)),
            None => (text, None),
        };
        let within = |range: std::ops::RangeInclusive<u8>| {
            quality
                .map(|q| {
                    q.parse().ok().filter(|q| range.contains(q)).ok_or_else(|| {
                        let (low, high) = (range.start(), range.end());
                        Error::usage(format!(
                            "encoding {text}: the quality must be a whole number from {low} to {high}"
                        ))
                    })
                })
                .transpose()
        };
        match (name, quality) {
            ("jpeg" | "jpg", _) => Ok(Encoding::Jpeg(within(1..=100)?.unwrap_or(JPEG_QUALITY))),
            ("webp", _) => Ok(Encoding::Webp(within(0..=100)?)),
            ("png", None) => Ok(Encoding::Png),
            ("npy", None) => Ok(Encoding::Npy),
            ("safetensors", None) => Ok(Encoding::Safetensors),
            ("png" | "npy" | "safetensors", Some(_)) => {
                Err(Error::usage(format!("encoding {text}: {name} takes no quality: write {name}")))
            }
            _ => Err(Error::usage(format!(
                "unknown encoding {text}: it is one of jpeg[:1-100], png, webp[:0-100] (without a number lossless), npy, \
                 safetensors"
            ))),
        }
    }
}

impl Serialize for Encoding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Encoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Encoding {
    fn schema_name() -> Cow<'static, str> {
        "Encoding".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "How a sample is encoded: jpeg[:1-100], png, webp[:0-100] (without a number lossless), npy, \
                            safetensors",
            "pattern": "^(jpe?g(:[0-9]{1,3})?|png|webp(:[0-9]{1,3})?|npy|safetensors)$",
            "examples": ["jpeg:95", "png", "npy"]
        })
    }
}

/// Whether samples of `dtype`, clips or single pictures, can be encoded this way; else a usage error. Asked before a job
/// starts.
pub fn check(encoding: &Encoding, dtype: Dtype, clip: bool) -> Result<()> {
    match encoding.container() {
        Some(Container::Npy) if dtype == Dtype::Bf16 => {
            Err(Error::usage("encoding npy cannot hold bf16, because NumPy has no such type: use --encode safetensors"))
        }
        Some(_) => Ok(()),
        None if clip => Err(Error::usage(format!(
            "encoding {encoding} holds one picture, but --clip makes samples of many: use --encode npy or safetensors"
        ))),
        None if dtype != Dtype::U8 => Err(Error::usage(format!(
            "encoding {encoding} holds bytes, but the ops end in {dtype:?} elements: use --encode npy or safetensors, or \
             leave out normalize and to"
        ))),
        None => Ok(()),
    }
}

/// Shape of a sample: [H, W, 3] or [3, H, W], for a clip with the number of frames before it. The frames of a clip must
/// be alike; a sample without frames, or a picture of several, is a bug.
pub fn shape(frames: &[Tensor], clip: bool) -> Result<Vec<usize>> {
    let [first, rest @ ..] = frames else {
        return Err(Error::bug("a sample without a frame came to be encoded"));
    };
    if !clip {
        return match rest {
            [] => Ok(first.shape().to_vec()),
            _ => Err(Error::bug(format!("a picture of {} frames came to be encoded", frames.len()))),
        };
    }
    if let Some(other) = rest.iter().find(|t| t.shape() != first.shape() || t.dtype != first.dtype) {
        return Err(Error::input(
            RejectKind::Op,
            format!(
                "the frames of a clip have shapes {:?} and {:?}, but a clip needs one: add a resize, crop or letterbox",
                first.shape(),
                other.shape()
            ),
        ));
    }
    Ok(std::iter::once(frames.len()).chain(first.shape()).collect())
}

/// The elements of all frames one after the other, as the tensors format takes them.
pub fn raw(mut frames: Vec<Tensor>) -> Vec<u8> {
    match frames.len() {
        1 => std::mem::take(&mut frames[0].data),
        _ => frames.iter().flat_map(|t| t.data.iter().copied()).collect(),
    }
}

/// Encodes one picture, or with `clip` the frames of one clip as [T, ...].
///
/// What [`check`] refuses is the same usage error here; a picture too large for the file format is an input error.
pub fn encode(frames: &[Tensor], clip: bool, encoding: &Encoding) -> Result<Vec<u8>> {
    let shape = shape(frames, clip)?;
    let first = &frames[0];
    check(encoding, first.dtype, clip)?;
    if let Some(odd) = frames.iter().find(|t| t.data.len() != t.shape().iter().product::<usize>() * t.dtype.size()) {
        return Err(Error::bug(format!("a tensor of shape {:?} has {} bytes", odd.shape(), odd.data.len())));
    }
    match encoding {
        Encoding::Jpeg(quality) => jpeg(first, *quality),
        Encoding::Png => png(first),
        Encoding::Webp(quality) => webp(first, *quality),
        Encoding::Npy => array(Container::Npy, frames, &shape),
        Encoding::Safetensors => array(Container::Safetensors, frames, &shape),
    }
}

fn array(container: Container, frames: &[Tensor], shape: &[usize]) -> Result<Vec<u8>> {
    let mut out = container.header(frames[0].dtype, shape)?;
    out.reserve_exact(frames.iter().map(|t| t.data.len()).sum());
    frames.iter().for_each(|t| out.extend_from_slice(&t.data));
    Ok(out)
}

/// The picture's bytes as interleaved RGB.
fn interleaved(tensor: &Tensor) -> Cow<'_, [u8]> {
    match tensor.layout {
        Layout::Hwc => Cow::Borrowed(&tensor.data),
        Layout::Chw => {
            let (r, gb) = tensor.data.split_at(tensor.data.len() / 3);
            let (g, b) = gb.split_at(gb.len() / 2);
            r.iter().zip(g).zip(b).flat_map(|((r, g), b)| [*r, *g, *b]).collect()
        }
    }
}

fn fits(tensor: &Tensor, format: &str, side: u32) -> Result<()> {
    if tensor.width.max(tensor.height) <= side {
        return Ok(());
    }
    Err(Error::input(
        RejectKind::Op,
        format!(
            "a picture of {}x{} is too large for {format}, whose sides end at {side}: resize it, or use --encode png",
            tensor.width, tensor.height
        ),
    ))
}

fn jpeg(tensor: &Tensor, quality: u8) -> Result<Vec<u8>> {
    // A compressor holds buffers that are worth keeping from one picture to the next.
    thread_local!(static COMPRESSOR: RefCell<Option<Compressor>> = const { RefCell::new(None) });
    fits(tensor, "JPEG", JPEG_MAX_SIDE)?;
    let pixels = interleaved(tensor);
    let (width, height) = (tensor.width as usize, tensor.height as usize);
    let failed = |e| Error::bug(format!("libjpeg-turbo could not encode a picture of {width}x{height}: {e}"));
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(Compressor::new().map_err(failed)?),
        };
        compressor.set_quality(i32::from(quality)).map_err(failed)?;
        compressor.set_subsamp(Subsamp::None).map_err(failed)?;
        let image = Image { pixels: &*pixels, width, pitch: width * 3, height, format: PixelFormat::RGB };
        compressor.compress_to_vec(image).map_err(failed)
    })
}

/// One fixed filter: on a 12-megapixel photo Paeth takes under half the time of choosing a filter for each row, for a file
/// that is 0.3% larger.
fn png(tensor: &Tensor) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    PngEncoder::new_with_quality(&mut out, CompressionType::Fast, FilterType::Paeth)
        .write_image(&interleaved(tensor), tensor.width, tensor.height, image::ExtendedColorType::Rgb8)
        .map_err(|e| Error::bug(format!("could not encode a PNG of {}x{} pixels: {e}", tensor.width, tensor.height)))?;
    Ok(out)
}

fn webp(tensor: &Tensor, quality: Option<u8>) -> Result<Vec<u8>> {
    // Effort of a lossless encoding, libwebp's default.
    const LOSSLESS_EFFORT: f32 = 75.0;
    fits(tensor, "WebP", WEBP_MAX_SIDE)?;
    let pixels = interleaved(tensor);
    webp::Encoder::from_rgb(&pixels, tensor.width, tensor.height)
        .encode_simple(quality.is_none(), quality.map_or(LOSSLESS_EFFORT, f32::from))
        .map(|memory| memory.to_vec())
        .map_err(|e| {
            Error::bug(format!("libwebp could not encode a picture of {}x{}: {e:?}", tensor.width, tensor.height))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(layout: Layout) -> Tensor {
        let data = (0..7 * 5 * 3).map(|i| (i * 37 % 251) as u8).collect();
        Tensor { width: 7, height: 5, dtype: Dtype::U8, layout, data }
    }

    fn all() -> [Encoding; 6] {
        [
            Encoding::Jpeg(90),
            Encoding::Png,
            Encoding::Webp(Some(80)),
            Encoding::Webp(None),
            Encoding::Npy,
            Encoding::Safetensors,
        ]
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for encoding in all() {
            assert_eq!(encoding.to_string().parse::<Encoding>().unwrap(), encoding);
            let json = serde_json::to_value(encoding).unwrap();
            assert_eq!(serde_json::from_value::<Encoding>(json).unwrap(), encoding);
        }
        assert_eq!("jpeg".parse::<Encoding>().unwrap(), Encoding::Jpeg(95));
        for bad in ["", "jpeg:0", "jpeg:101", "jpeg:x", "jpeg:", "png:3", "webp:101", "gif"] {
            assert_eq!(bad.parse::<Encoding>().unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn equal_pictures_give_equal_bytes() {
        for encoding in all() {
            let first = encode(&[picture(Layout::Hwc)], false, &encoding).unwrap();
            assert_eq!(first, encode(&[picture(Layout::Hwc)], false, &encoding).unwrap(), "{encoding}");
            let mut other = picture(Layout::Hwc);
            other.data[0] ^= 0x80;
            assert_ne!(first, encode(&[other], false, &encoding).unwrap(), "{encoding}");
        }
    }

    #[test]
    fn lossless_encodings_give_the_pixels_back_in_either_layout() {
        for (encoding, format) in
            [(Encoding::Png, image::ImageFormat::Png), (Encoding::Webp(None), image::ImageFormat::WebP)]
        {
            for layout in [Layout::Hwc, Layout::Chw] {
                let tensor = picture(layout);
                let bytes = encode(std::slice::from_ref(&tensor), false, &encoding).unwrap();
                let read = image::load_from_memory_with_format(&bytes, format).unwrap().to_rgb8();
                assert_eq!(read.as_raw().as_slice(), &*interleaved(&tensor), "{encoding} {layout:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_encoded_is_refused_early() {
        assert_eq!(check(&Encoding::Npy, Dtype::Bf16, false).unwrap_err().exit_code(), 2);
        assert_eq!(check(&Encoding::Png, Dtype::F32, false).unwrap_err().exit_code(), 2);
        assert_eq!(check(&Encoding::Jpeg(9), Dtype::U8, true).unwrap_err().exit_code(), 2);
        assert!(check(&Encoding::Safetensors, Dtype::Bf16, true).is_ok());
        let wide = Tensor { width: 20_000, height: 1, dtype: Dtype::U8, layout: Layout::Hwc, data: vec![0; 60_000] };
        let error = encode(&[wide], false, &Encoding::Webp(None)).unwrap_err();
        assert_eq!(error.reject, Some(RejectKind::Op));
    }

    #[test]
    fn clips_are_stacked() {
        let frames = [picture(Layout::Chw), picture(Layout::Chw)];
        assert_eq!(shape(&frames, true).unwrap(), [2, 3, 5, 7]);
        let bytes = encode(&frames, true, &Encoding::Npy).unwrap();
        assert_eq!(&bytes[128..], raw(frames.to_vec()));
        assert!(shape(&frames, false).is_err() && shape(&[], true).is_err());
        let mixed = [picture(Layout::Chw), picture(Layout::Hwc)];
        assert_eq!(shape(&mixed, true).unwrap_err().reject, Some(RejectKind::Op));
    }
}
