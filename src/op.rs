//! The operations of a job, as they are written in job files and on the command line.
//!
//! Names and shapes are torchvision v2's where it has them. What depends on the picture's size is resolved later, by
//! [`crate::program`]. Parameters of random operations have torchvision's distributions; each variant tells where its
//! pixels differ from torchvision's.

mod params;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
pub use crate::program::resample::Filter;
use crate::tensor::{Dtype, Layout};
pub use params::{Curve, Kernel, Paint, Shear, Spread};

/// Whose order of passes a resize follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Match {
    /// Vertical first exactly when it shrinks the picture more than the horizontal pass would.
    #[default]
    Pillow13,
    /// Horizontal first, always.
    Pillow12,
}

/// Where the picture lies in a larger area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Align {
    /// In the middle; an odd rest goes to the right and to the bottom.
    #[default]
    Center,
    /// At the top left.
    Topleft,
}

/// Along which axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlipAxis {
    /// Left and right change places.
    #[default]
    H,
    /// Top and bottom change places.
    V,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Resample to `w` x `h`, or until the short or the long side is as given (torchvision's rounding).
    Resize {
        /// Width in pixels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        w: Option<u32>,
        /// Height in pixels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        h: Option<u32>,
        /// The short side in pixels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        short: Option<u32>,
        /// The long side in pixels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        long: Option<u32>,
        /// How neighbouring pixels are weighed.
        #[serde(default)]
        filter: Filter,
        /// Whose order of passes.
        #[serde(default, rename = "match")]
        matching: Match,
    },
    /// The rectangle of `w` x `h` at (`x`, `y`).
    Crop {
        /// Left edge.
        x: u32,
        /// Top edge.
        y: u32,
        /// Width.
        w: u32,
        /// Height.
        h: u32,
    },
    /// The rectangle of `w` x `h` in the middle.
    CenterCrop {
        /// Width.
        w: u32,
        /// Height.
        h: u32,
    },
    /// Fill up to at least `w` x `h`; a larger side stays.
    Pad {
        /// Width.
        w: u32,
        /// Height.
        h: u32,
        /// Colour, RRGGBB.
        #[serde(default = "black")]
        fill: String,
        /// Where the picture lies.
        #[serde(default)]
        align: Align,
    },
    /// Resize to fit into `w` x `h`, keeping the shape, and fill the rest.
    Letterbox {
        /// Width.
        w: u32,
        /// Height.
        h: u32,
        /// Colour, RRGGBB.
        #[serde(default = "black")]
        fill: String,
        /// Where the picture lies.
        #[serde(default)]
        align: Align,
        /// How neighbouring pixels are weighed.
        #[serde(default)]
        filter: Filter,
    },
    /// Mirror.
    Flip {
        /// Along which axis.
        #[serde(default)]
        axis: FlipAxis,
    },
    /// Mirror with probability `p`.
    RandomFlip {
        /// Along which axis.
        #[serde(default)]
        axis: FlipAxis,
        /// Probability, 0 to 1.
        #[serde(default = "half")]
        p: f64,
    },
    /// Turn counter-clockwise by `k` quarter turns (as `torch.rot90`); negative ones turn clockwise.
    Rotate90 {
        /// Quarter turns.
        #[serde(default = "one")]
        k: i32,
    },
    /// Luma (ITU-R 601-2, Pillow's `convert("L")`) in all three channels.
    Grayscale,
    /// Colours through a table, a `.cube` file (Adobe's and Resolve's form) that is read when the job is compiled; its
    /// content is part of the job's fingerprint. A 3D table is interpolated tetrahedrally in fixed point, and its values
    /// are taken as -4 to 4; the result is rounded and clamped to 0..=255.
    Lut {
        /// The file.
        file: String,
    },
    /// Pictures of high dynamic range (PQ, HLG) to SDR BT.709; all others stay as they are. It is part of the conversion to
    /// RGB, from 12-bit codes and before any resize, wherever it stands in the list. SDR white is 203 cd/m2 (ITU-R BT.2408),
    /// the curve is applied to the brightest channel and the others follow, colours outside of BT.709 are clipped, and the
    /// result is BT.1886's (gamma 2.4).
    Tonemap {
        /// What becomes of light that SDR cannot show.
        #[serde(default)]
        curve: Curve,
        /// Where the curve ends, in cd/m2; for `bt2390`. The mastering display's peak, where that is known.
        #[serde(default = "mastering_peak")]
        peak: f64,
    },
    /// A part of random area and shape, resized to `w` x `h`. Differs from torchvision's in nothing but that the resize
    /// is Pillow's.
    RandomResizedCrop {
        /// Width of the result.
        w: u32,
        /// Height of the result.
        h: u32,
        /// Least and greatest share of the picture's area.
        #[serde(default = "crop_scale")]
        scale: [f64; 2],
        /// Least and greatest width over height of the part; its logarithm is uniform.
        #[serde(default = "crop_ratio")]
        ratio: [f64; 2],
        /// How neighbouring pixels are weighed.
        #[serde(default)]
        filter: Filter,
    },
    /// Brightness, contrast, saturation and hue, those that are given, in random order. Values are rounded to the nearest
    /// after each (torchvision cuts off), gray is [`Op::Grayscale`]'s, and hue turns in fixed point.
    ColorJitter {
        /// Factor: a range, or x for max(0, 1 - x) to 1 + x.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        brightness: Option<Spread>,
        /// Factor of the distance from the picture's mean gray, likewise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        contrast: Option<Spread>,
        /// Factor of the distance from the pixel's gray, likewise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        saturation: Option<Spread>,
        /// Part of the colour circle: a range within -0.5 to 0.5, or x for -x to x.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hue: Option<Spread>,
    },
    /// [`Op::Grayscale`] with probability `p`.
    RandomGrayscale {
        /// Probability, 0 to 1.
        #[serde(default = "tenth")]
        p: f64,
    },
    /// A Gaussian's weights over `kernel` pixels, the picture reflected at its edges. Weights are rounded to 16 bits, and
    /// between the two passes values keep 7 bits of fraction.
    GaussianBlur {
        /// Odd side length in pixels, or width and height.
        kernel: Kernel,
        /// Standard deviation in pixels: a number, or a range that is drawn from uniformly.
        #[serde(default = "blur_sigma")]
        sigma: Spread,
    },
    /// Turned, moved, scaled and sheared about the middle; the size stays. Sampled bilinearly (torchvision's default is
    /// nearest). A neighbour outside the picture counts as `fill`, once, so that edges are smooth: torchvision weighs it
    /// twice for tensors and not at all for PIL pictures.
    RandomAffine {
        /// Angle, clockwise: a range, or x for -x to x.
        degrees: Spread,
        /// Largest move along x and y, as shares of width and height; rounded to whole pixels.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        translate: Option<[f64; 2]>,
        /// Least and greatest factor.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scale: Option<[f64; 2]>,
        /// Angle along x: a range, or x for -x to x; or the ranges along x and y.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shear: Option<Shear>,
        /// Colour outside, RRGGBB.
        #[serde(default = "black")]
        fill: String,
    },
    /// A rectangle of random area and shape is painted over, with probability `p`. `value` is in 0..=255 (torchvision's is
    /// in the tensor's units), and `random` is not supported.
    RandomErasing {
        /// Probability, 0 to 1.
        #[serde(default = "half")]
        p: f64,
        /// Least and greatest share of the picture's area.
        #[serde(default = "erasing_scale")]
        scale: [f64; 2],
        /// Least and greatest height over width; its logarithm is uniform.
        #[serde(default = "erasing_ratio")]
        ratio: [f64; 2],
        /// RRGGBB, or a number from 0 to 255 for all channels.
        #[serde(default = "zero")]
        value: Paint,
    },
    /// `(x / 255 - mean) / std`, in f32 as torchvision computes it.
    Normalize {
        /// Mean of each channel, 0 to 1.
        mean: [f64; 3],
        /// Standard deviation of each channel, 0 to 1.
        std: [f64; 3],
    },
    /// Element type and axis order of the output. Floats without `normalize` are `x / 255`.
    To {
        /// Element type; u8, or f32 after `normalize`, if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dtype: Option<Dtype>,
        /// Axis order; hwc, or chw after `normalize`, if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        layout: Option<Layout>,
    },
}

fn black() -> String {
    "000000".into()
}
fn half() -> f64 {
    0.5
}
fn one() -> i32 {
    1
}
fn mastering_peak() -> f64 {
    1000.0
}
fn tenth() -> f64 {
    0.1
}
fn crop_scale() -> [f64; 2] {
    [0.08, 1.0]
}
fn crop_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}
fn blur_sigma() -> Spread {
    Spread::Range([0.1, 2.0])
}
fn erasing_scale() -> [f64; 2] {
    [0.02, 0.33]
}
fn erasing_ratio() -> [f64; 2] {
    [0.3, 3.3]
}
fn zero() -> Paint {
    Paint::Level(0)
}

/// The strongest factor of brightness, contrast and saturation; so much fits the fixed point of a blend.
pub const MAX_FACTOR: f64 = 100.0;
/// The widest kernel of a blur.
pub const MAX_KERNEL: u32 = 255;
/// The strongest shear, in degrees; at 90 a picture is a line.
const MAX_SHEAR: f64 = 89.0;

/// ImageNet's mean and standard deviation, as torchvision's weights use them.
pub const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

impl Op {
    /// Reads `name:key=value,key=value`. A part without `=` continues the list of the key before it; a first word
    /// without `=` is a shorthand (`normalize:imagenet`, `resize:256` for the short side, `to:f16`, `flip:v`).
    pub fn parse(text: &str) -> Result<Op> {
        // A URL's query may be signed.
        let shown = if text.contains("://") { text.split('?').next().unwrap_or_default() } else { text };
        let fail = |why: String| Error::usage(format!("--op {shown}: {why}"));
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut table: Map<String, Value> = Map::new();
        let mut last: Option<String> = None;
        for part in rest.split(',').filter(|part| !part.is_empty()) {
            match (part.split_once('='), &last) {
                (Some((key, value)), _) => {
                    if table.insert(key.into(), word(key, value)).is_some() {
                        return Err(fail(format!("{key} is given twice")));
                    }
                    last = Some(key.into());
                }
                (None, Some(key)) => {
                    let before = table[key].take();
                    let mut list = if let Value::Array(list) = before { list } else { vec![before] };
                    list.push(word(key, part));
                    table.insert(key.clone(), Value::Array(list));
                }
                (None, None) => {
                    let key =
                        shorthand(name, part).ok_or_else(|| fail(format!("{part} has no key: write KEY={part}")))?;
                    table.insert(key.into(), word(key, part));
                }
            }
        }
        table.insert("op".into(), Value::from(name));
        Op::from_value(Value::Object(table)).map_err(|e| fail(e.message))
    }

    /// Reads a table with `op` and the operation's parameters.
    pub fn from_value(mut value: Value) -> Result<Op> {
        let name = value.get("op").and_then(Value::as_str).unwrap_or_default().to_owned();
        if name == "normalize"
            && let Some(table) = value.as_object_mut()
            && let Some(preset) = table.remove("preset")
        {
            if preset != "imagenet" || table.len() > 1 {
                return Err(Error::usage(format!("{preset} is no preset: write imagenet, or mean=... and std=...")));
            }
            table.insert("mean".into(), IMAGENET.0.to_vec().into());
            table.insert("std".into(), IMAGENET.1.to_vec().into());
        }
        if matches!(name.as_str(), "center_crop" | "pad" | "letterbox" | "random_resized_crop")
            && let Some(table) = value.as_object_mut()
            && let Some(size) = table.remove("size")
        {
            table.insert("w".into(), size.clone());
            table.insert("h".into(), size);
        }
        // Without parameters of its own, serde does not look for others.
        if name == "grayscale" && value.as_object().is_some_and(|table| table.len() > 1) {
            return Err(Error::usage("grayscale takes no parameters"));
        }
        let op: Op = serde_json::from_value(value).map_err(|e| Error::usage(e.to_string()))?;
        op.check()?;
        Ok(op)
    }

    /// The name in jobs.
    pub fn name(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        value["op"].as_str().unwrap_or("?").to_owned()
    }

    /// Whether anything about it is drawn at random.
    pub fn is_random(&self) -> bool {
        match self {
            Op::RandomFlip { .. }
            | Op::RandomResizedCrop { .. }
            | Op::ColorJitter { .. }
            | Op::RandomGrayscale { .. }
            | Op::RandomAffine { .. }
            | Op::RandomErasing { .. } => true,
            Op::GaussianBlur { sigma, .. } => matches!(sigma, Spread::Range(_)),
            _ => false,
        }
    }

    fn check(&self) -> Result<()> {
        let fail = |why: &str| Err(Error::usage(why.to_owned()));
        let size = |sides: &[u32]| match sides.iter().find(|n| !(1..=65_535).contains(*n)) {
            Some(n) => Err(Error::usage(format!("a side of {n} pixels; expected 1 to 65535"))),
            None => Ok(()),
        };
        match self {
            Op::Resize { w, h, short, long, .. } => {
                if !matches!(
                    (w, h, short, long),
                    (Some(_), Some(_), None, None) | (None, None, Some(_), None) | (None, None, None, Some(_))
                ) {
                    return fail("resize takes w and h, or short, or long");
                }
                size(&[*w, *h, *short, *long].into_iter().flatten().collect::<Vec<_>>())
            }
            Op::Crop { w, h, .. } | Op::CenterCrop { w, h } => size(&[*w, *h]),
            Op::Pad { w, h, fill, .. } | Op::Letterbox { w, h, fill, .. } => {
                size(&[*w, *h])?;
                rgb(fill).map(|_| ())
            }
            Op::RandomFlip { p, .. } | Op::RandomGrayscale { p } => range("p", [*p; 2], 0.0, 1.0),
            Op::RandomResizedCrop { w, h, scale, ratio, .. } => {
                size(&[*w, *h])?;
                range("scale", *scale, 0.0, 1.0)?;
                positive("ratio", *ratio)
            }
            Op::ColorJitter { brightness, contrast, saturation, hue } => {
                let factors = [("brightness", brightness), ("contrast", contrast), ("saturation", saturation)];
                for (name, spread) in factors {
                    spread.map_or(Ok(()), |s| range(name, s.factors(), 0.0, MAX_FACTOR))?;
                }
                hue.map_or(Ok(()), |hue| range("hue", hue.symmetric(), -0.5, 0.5))
            }
            Op::Tonemap { peak, .. } => range("peak", [*peak; 2], 203.0, 10_000.0),
            Op::GaussianBlur { kernel, sigma } => {
                if let Some(n) = kernel.sides().into_iter().find(|n| n % 2 == 0 || *n > MAX_KERNEL) {
                    return Err(Error::usage(format!(
                        "a kernel of {n} pixels; expected an odd number up to {MAX_KERNEL}"
                    )));
                }
                positive("sigma", sigma.exact())
            }
            Op::RandomAffine { degrees, translate, scale, shear, fill } => {
                range("degrees", degrees.symmetric(), -360.0, 360.0)?;
                for share in translate.iter().flatten() {
                    range("translate", [*share; 2], 0.0, 1.0)?;
                }
                scale.map_or(Ok(()), |scale| positive("scale", scale))?;
                for angles in shear.map_or([[0.0; 2]; 2], Shear::ranges) {
                    range("shear", angles, -MAX_SHEAR, MAX_SHEAR)?;
                }
                rgb(fill).map(|_| ())
            }
            Op::RandomErasing { p, scale, ratio, value } => {
                range("p", [*p; 2], 0.0, 1.0)?;
                range("scale", *scale, 0.0, 1.0)?;
                positive("ratio", *ratio)?;
                value.rgb().map(|_| ())
            }
            Op::Normalize { mean, std } => {
                for (name, list) in [("mean", mean), ("std", std)] {
                    let outside = |v: &&f64| !(0.0..=1.0).contains(*v) || (name == "std" && **v as f32 == 0.0);
                    if let Some(v) = list.iter().find(outside) {
                        return Err(Error::usage(format!(
                            "{name}: {v}; expected 0 to 1, and std above 0: divide by 255 what is of 0 to 255"
                        )));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Checks that a range lies within `least` to `most`.
fn range(name: &str, [from, to]: [f64; 2], least: f64, most: f64) -> Result<()> {
    if least <= from && from <= to && to <= most {
        return Ok(());
    }
    Err(Error::usage(format!("{name}: {from} to {to}; expected a range, or a number, within {least} to {most}")))
}

/// Checks that a range lies above 0.
fn positive(name: &str, [from, to]: [f64; 2]) -> Result<()> {
    if 0.0 < from && from <= to && to.is_finite() {
        return Ok(());
    }
    Err(Error::usage(format!("{name}: {from} to {to}; expected numbers greater than 0, the smaller one first")))
}

/// A colour written as RRGGBB.
pub fn rgb(text: &str) -> Result<[u8; 3]> {
    let bare = text.strip_prefix('#').unwrap_or(text);
    let value = (bare.len() == 6).then(|| u32::from_str_radix(bare, 16).ok()).flatten();
    let [_, r, g, b] =
        value.ok_or_else(|| Error::usage(format!("colour {text}: expected RRGGBB, as in ff8000")))?.to_be_bytes();
    Ok([r, g, b])
}

/// The value of `key`: a number where it reads as one, but for keys that are words; six digits can be a colour.
fn word(key: &str, text: &str) -> Value {
    let words = ["fill", "filter", "match", "align", "axis", "dtype", "layout", "preset", "file", "curve"];
    if words.contains(&key) || (key == "value" && text.len() == 6) {
        return Value::from(text);
    }
    text.parse::<i64>()
        .map(Value::from)
        .or_else(|_| text.parse::<f64>().map(Value::from))
        .unwrap_or_else(|_| text.into())
}

fn shorthand(op: &str, word: &str) -> Option<&'static str> {
    match op {
        "normalize" => Some("preset"),
        "resize" => Some("short"),
        "center_crop" | "pad" | "letterbox" | "random_resized_crop" => Some("size"),
        "flip" | "random_flip" if word == "h" || word == "v" => Some("axis"),
        "random_flip" | "random_grayscale" | "random_erasing" => Some("p"),
        "lut" => Some("file"),
        "tonemap" => Some("curve"),
        "gaussian_blur" => Some("kernel"),
        "random_affine" => Some("degrees"),
        "rotate90" => Some("k"),
        "to" if word == "hwc" || word == "chw" => Some("layout"),
        "to" => Some("dtype"),
        _ => None,
    }
}

/// Checks the order: `normalize` and `to` come last, once each, in this order; `tonemap` stands there once.
pub fn validate(ops: &[Op]) -> Result<()> {
    if ops.iter().filter(|op| matches!(op, Op::Tonemap { .. })).count() > 1 {
        return Err(Error::usage("tonemap is listed twice: it is done once, in the conversion to RGB"));
    }
    let rank = |op: &Op| match op {
        Op::Normalize { .. } => 1,
        Op::To { .. } => 2,
        _ => 0,
    };
    for pair in ops.windows(2) {
        let (a, b) = (rank(&pair[0]), rank(&pair[1]));
        if a > b || (a == b && a > 0) {
            let (a, b) = (pair[0].name(), pair[1].name());
            return Err(Error::usage(format!(
                "{b} stands behind {a}: normalize and to come last, once each, in this order"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_and_the_table_say_the_same() {
        let table = serde_json::json!({"op": "resize", "short": 256, "filter": "bicubic"});
        assert_eq!(Op::parse("resize:short=256,filter=bicubic").unwrap(), Op::from_value(table).unwrap());
        assert_eq!(Op::parse("normalize:imagenet").unwrap(), Op::Normalize { mean: IMAGENET.0, std: IMAGENET.1 });
        let listed = Op::parse("normalize:mean=0.485,0.456,0.406,std=0.229,0.224,0.225").unwrap();
        assert_eq!(listed, Op::parse("normalize:imagenet").unwrap());
        assert_eq!(Op::parse("grayscale").unwrap(), Op::Grayscale);
        assert_eq!(Op::parse("pad:w=3,h=4,fill=112233").unwrap().name(), "pad");
    }

    #[test]
    fn random_operations_are_written_as_in_torchvision() {
        let op = |text| Op::parse(text).unwrap();
        let Op::ColorJitter {
            brightness: Some(brightness),
            contrast: Some(contrast),
            saturation: None,
            hue: Some(hue),
        } = op("color_jitter:brightness=0.4,contrast=0.5,2,hue=0.1")
        else {
            panic!("another operation")
        };
        assert_eq!((brightness.factors(), contrast.factors(), hue.symmetric()), ([0.6, 1.4], [0.5, 2.0], [-0.1, 0.1]));
        assert_eq!(Spread::Number(3.0).factors(), [0.0, 4.0]);
        let Op::RandomAffine { degrees, translate, shear: Some(shear), .. } =
            op("random_affine:10,translate=0.1,0.2,shear=-5,5,1,2")
        else {
            panic!("another operation")
        };
        assert_eq!((degrees.symmetric(), translate), ([-10.0, 10.0], Some([0.1, 0.2])));
        assert_eq!(shear.ranges(), [[-5.0, 5.0], [1.0, 2.0]]);
        assert_eq!(op("gaussian_blur:5"), op("gaussian_blur:kernel=5,sigma=0.1,2"));
        assert!(op("gaussian_blur:5").is_random() && !op("gaussian_blur:5,sigma=2").is_random());
        assert_eq!(op("random_resized_crop:224"), op("random_resized_crop:w=224,h=224,scale=0.08,1"));
        let erased = |text| match op(text) {
            Op::RandomErasing { value, .. } => value.rgb().unwrap(),
            _ => panic!("another operation"),
        };
        assert_eq!(erased("random_erasing:0.3"), [0; 3]);
        assert_eq!(erased("random_erasing:value=128"), [128; 3]);
        assert_eq!(erased("random_erasing:value=102030"), [0x10, 0x20, 0x30]);
        assert_eq!(op("lut:7.cube"), Op::Lut { file: "7.cube".into() });
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for bad in [
            "resize",
            "resize:w=3",
            "resize:short=0",
            "resize:short=3,long=4",
            "blur",
            "crop:x=1",
            "flip:axis=q",
            "tonemap:filmic",
            "tonemap:peak=100",
            "normalize:mean=1,2,std=1,1,1",
            "resize:short=3,short=4",
            "resize:shrot=3",
            "normalize:mean=0,0,0,std=0,1,1",
            "normalize:mean=124,116,104,std=58,57,57",
            "normalize:mean=0.5,0.5,nan,std=1,1,1",
            "grayscale:channels=3",
            "random_flip:p=2",
            "pad:w=3,h=3,fill=zz",
            "random_resized_crop:w=3,h=3,scale=0.5,0.1",
            "random_resized_crop:w=3,h=3,ratio=0,1",
            "random_resized_crop:scale=0.5,1",
            "color_jitter:hue=0.6",
            "color_jitter:brightness=-0.1",
            "color_jitter:contrast=0.1,0.2,0.3",
            "color_jitter:saturation=101",
            "random_grayscale:p=-1",
            "gaussian_blur",
            "gaussian_blur:kernel=4",
            "gaussian_blur:kernel=5,sigma=0",
            "random_affine:translate=0.1,0.1",
            "random_affine:degrees=-10",
            "random_affine:degrees=10,translate=0.1,2",
            "random_affine:degrees=10,shear=1,2,3",
            "random_affine:degrees=10,shear=90",
            "random_affine:degrees=10,scale=2,1",
            "random_erasing:value=random",
            "random_erasing:value=256",
            "random_erasing:scale=0.1",
            "lut",
        ] {
            let error = Op::parse(bad).expect_err(bad);
            assert!(error.exit_code() == 2 && error.message.contains(bad), "{bad}: {error}");
        }
        let op = |text| Op::parse(text).unwrap();
        assert!(validate(&[op("normalize:imagenet"), op("flip:axis=h")]).is_err());
        assert!(validate(&[op("to:dtype=u8"), op("normalize:imagenet")]).is_err());
        assert!(validate(&[op("flip:axis=h"), op("normalize:imagenet"), op("to:dtype=f16")]).is_ok());
        assert!(validate(&[op("tonemap"), op("flip"), op("tonemap:clip")]).is_err());
    }
}
