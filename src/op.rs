//! The operations of a job, as they are written in job files and on the command line.
//!
//! Names and shapes are torchvision v2's where it has them. What depends on the picture's size is resolved later, by
//! [`crate::program`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
pub use crate::program::resample::Filter;
use crate::tensor::{Dtype, Layout};

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

/// ImageNet's mean and standard deviation, as torchvision's weights use them.
pub const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// Operations of the interface that this version does not have.
const UNBUILT: &[&str] = &[
    "lut",
    "tonemap",
    "random_resized_crop",
    "color_jitter",
    "random_grayscale",
    "gaussian_blur",
    "random_affine",
    "random_erasing",
];

impl Op {
    /// Reads `name:key=value,key=value`. A part without `=` continues the list of the key before it; a first word
    /// without `=` is a shorthand (`normalize:imagenet`, `resize:256` for the short side, `to:f16`, `flip:v`).
    pub fn parse(text: &str) -> Result<Op> {
        let fail = |why: String| Error::usage(format!("--op {text}: {why}"));
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
        if UNBUILT.contains(&name.as_str()) {
            return Err(Error::usage(format!("this version does not have the operation {name} yet; leave it out")));
        }
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
        if matches!(name.as_str(), "center_crop" | "pad" | "letterbox")
            && let Some(table) = value.as_object_mut()
            && let Some(size) = table.remove("size")
        {
            table.insert("w".into(), size.clone());
            table.insert("h".into(), size);
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
            Op::RandomFlip { p, .. } if !(0.0..=1.0).contains(p) => fail("the probability p is from 0 to 1"),
            Op::Normalize { mean, std } => {
                if mean.iter().chain(std).any(|v| !v.is_finite()) || std.iter().any(|v| *v as f32 == 0.0) {
                    return fail("normalize needs finite numbers, and std other than 0");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A colour written as RRGGBB.
pub fn rgb(text: &str) -> Result<[u8; 3]> {
    let bare = text.strip_prefix('#').unwrap_or(text);
    let value = (bare.len() == 6).then(|| u32::from_str_radix(bare, 16).ok()).flatten();
    let [_, r, g, b] =
        value.ok_or_else(|| Error::usage(format!("colour {text}: expected RRGGBB, as in ff8000")))?.to_be_bytes();
    Ok([r, g, b])
}

/// The value of `key`: a number where it reads as one, but for keys that are words.
fn word(key: &str, text: &str) -> Value {
    if matches!(key, "fill" | "filter" | "match" | "align" | "axis" | "dtype" | "layout" | "preset") {
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
        "center_crop" | "pad" | "letterbox" => Some("size"),
        "flip" | "random_flip" if word == "h" || word == "v" => Some("axis"),
        "random_flip" => Some("p"),
        "rotate90" => Some("k"),
        "to" if word == "hwc" || word == "chw" => Some("layout"),
        "to" => Some("dtype"),
        _ => None,
    }
}

/// Checks the order: `normalize` and `to` come last, once each, in this order.
pub fn validate(ops: &[Op]) -> Result<()> {
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
    fn what_is_wrong_is_refused() {
        for bad in [
            "resize",
            "resize:w=3",
            "resize:short=0",
            "resize:short=3,long=4",
            "blur",
            "crop:x=1",
            "flip:axis=q",
            "color_jitter:hue=0.1",
            "normalize:mean=1,2,std=1,1,1",
            "resize:short=3,short=4",
            "resize:shrot=3",
            "normalize:mean=0,0,0,std=0,1,1",
            "random_flip:p=2",
            "pad:w=3,h=3,fill=zz",
        ] {
            let error = Op::parse(bad).expect_err(bad);
            assert!(error.exit_code() == 2 && error.message.contains(bad), "{bad}: {error}");
        }
        let op = |text| Op::parse(text).unwrap();
        assert!(validate(&[op("normalize:imagenet"), op("flip:axis=h")]).is_err());
        assert!(validate(&[op("to:dtype=u8"), op("normalize:imagenet")]).is_err());
        assert!(validate(&[op("flip:axis=h"), op("normalize:imagenet"), op("to:dtype=f16")]).is_ok());
    }
}
