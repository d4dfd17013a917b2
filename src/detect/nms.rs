//! Suppression of boxes that show the same object.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::heads::Found;
use crate::error::{Error, Result};

/// How boxes of one object are joined to one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Value", into = "serde_json::Value")]
pub enum Nms {
    /// Of two boxes of one class that overlap by more than this (intersection over union), the weaker one goes.
    Hard(f64),
    /// Boxes lose score, by a Gaussian of 0.5 of how much they overlap with stronger ones of their class (Bodla et al.,
    /// Soft-NMS).
    Soft,
    /// All are kept: the model has done it.
    None,
}

impl FromStr for Nms {
    type Err = Error;
    fn from_str(text: &str) -> Result<Nms> {
        let wrong = || Error::usage(format!("nms {text:?}: expected an overlap of 0 to 1, soft or none"));
        match text.trim() {
            "soft" => Ok(Nms::Soft),
            "none" => Ok(Nms::None),
            number => {
                let iou: f64 = number.parse().map_err(|_| wrong())?;
                if (0.0..=1.0).contains(&iou) { Ok(Nms::Hard(iou)) } else { Err(wrong()) }
            }
        }
    }
}

impl TryFrom<serde_json::Value> for Nms {
    type Error = Error;
    fn try_from(value: serde_json::Value) -> Result<Nms> {
        value.as_str().map_or_else(|| value.to_string(), str::to_string).parse()
    }
}

impl From<Nms> for serde_json::Value {
    fn from(nms: Nms) -> Self {
        match nms {
            Nms::Hard(iou) => iou.into(),
            Nms::Soft => "soft".into(),
            Nms::None => "none".into(),
        }
    }
}

impl schemars::JsonSchema for Nms {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Nms".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [{ "type": "number", "minimum": 0, "maximum": 1 }, { "enum": ["soft", "none"] }] })
    }
}

/// Intersection over union of two boxes; 0 where one has no area.
pub fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |lo: f32, hi: f32| (hi - lo).max(0.0);
    let both = side(a[0].max(b[0]), a[2].min(b[2])) * side(a[1].max(b[1]), a[3].min(b[3]));
    let area = |b: &[f32; 4]| side(b[0], b[2]) * side(b[1], b[3]);
    let union = area(a) + area(b) - both;
    if union > 0.0 { both / union } else { 0.0 }
}

/// The boxes that stay, strongest first, at most `max`, each at `score` or above. Boxes of equal score keep their order.
pub fn suppress(mut found: Vec<Found>, nms: Nms, score: f32, max: usize) -> Vec<Found> {
    let strongest = |found: &mut Vec<Found>| found.sort_by(|a, b| b.score.total_cmp(&a.score));
    strongest(&mut found);
    match nms {
        Nms::None => {}
        Nms::Hard(limit) => {
            let mut kept: Vec<Found> = Vec::new();
            for one in found {
                if kept.len() == max {
                    break;
                }
                let hidden = |k: &Found| k.class == one.class && f64::from(iou(&k.bounds, &one.bounds)) > limit;
                if !kept.iter().any(hidden) {
                    kept.push(one);
                }
            }
            return kept;
        }
        Nms::Soft => {
            let mut kept: Vec<Found> = Vec::new();
            while !found.is_empty() && kept.len() < max {
                let one = found.remove(0);
                for other in found.iter_mut().filter(|o| o.class == one.class) {
                    let overlap = iou(&one.bounds, &other.bounds);
                    other.score *= libm::expf(-overlap * overlap / 0.5);
                }
                found.retain(|o| o.score >= score);
                strongest(&mut found);
                kept.push(one);
            }
            return kept;
        }
    }
    found.truncate(max);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(class: usize, score: f32, x: f32) -> Found {
        Found::of(class, score, [x, 0.0, x + 10.0, 10.0])
    }

    fn scores(found: &[Found]) -> Vec<f32> {
        found.iter().map(|f| f.score).collect()
    }

    #[test]
    fn the_weaker_of_one_class_goes() {
        let all = vec![found(0, 0.5, 1.0), found(0, 0.9, 0.0), found(1, 0.8, 0.0), found(0, 0.7, 20.0)];
        assert_eq!(scores(&suppress(all.clone(), Nms::Hard(0.45), 0.1, 300)), [0.9, 0.8, 0.7]);
        // They overlap by 90 / 110.
        assert_eq!(suppress(all.clone(), Nms::Hard(0.82), 0.1, 300).len(), 4);
        assert_eq!(scores(&suppress(all.clone(), Nms::None, 0.1, 2)), [0.9, 0.8]);
        let soft = suppress(all, Nms::Soft, 0.1, 300);
        assert_eq!(scores(&soft)[..3], [0.9, 0.8, 0.7]);
        let left = 0.5 * (-(90.0f32 / 110.0).powi(2) / 0.5).exp();
        assert!((soft[3].score - left).abs() < 1e-6, "{soft:?}");
    }

    #[test]
    fn boxes_without_area_overlap_with_nothing() {
        assert_eq!(iou(&[0.0; 4], &[0.0; 4]), 0.0);
        assert_eq!(iou(&[5.0, 5.0, 1.0, 1.0], &[0.0, 0.0, 9.0, 9.0]), 0.0);
        assert_eq!(iou(&[0.0, 0.0, 2.0, 2.0], &[1.0, 0.0, 3.0, 2.0]), 1.0 / 3.0);
    }

    #[test]
    fn settings_are_read_from_numbers_and_words() {
        assert_eq!("0.45".parse::<Nms>().unwrap(), Nms::Hard(0.45));
        assert_eq!("soft".parse::<Nms>().unwrap(), Nms::Soft);
        assert!("1.5".parse::<Nms>().unwrap_err().message.contains("0 to 1"));
        let back: Nms = serde_json::from_value(serde_json::to_value(Nms::Hard(0.3)).unwrap()).unwrap();
        assert_eq!(back, Nms::Hard(0.3));
    }
}
