//! Random operations: parameters drawn from torchvision v2's distributions, rounded once to the fixed point of the steps
//! that they give.
//!
//! Each returns what it drew, in full precision, for the record. Source: torchvision 0.20, `transforms/v2/_geometry.py`,
//! `_color.py`, `_misc.py`, `_augment.py`. All draws are uniform; a float has 24 bits, as torch's.

use serde_json::{Value, json};

use super::resample::Filter;
use super::{Base, Step, Steps, affine, blur, fixed};
use crate::error::{Error, RejectKind, Result};
use crate::op::{Match, Shear, Spread};
use crate::rng::Draw;

/// Tries for a rectangle that fits, as torchvision.
const TRIES: u32 = 10;

/// Bits of the fraction of a blend's factor and of a hue's shift.
const FRACTION: u32 = 16;

/// Sides of a rectangle with a share of `area` from `scale`, and a first side over second side from `ratio`.
fn rectangle(area: f64, scale: [f64; 2], ratio: [f64; 2], draw: &mut Draw) -> (f64, f64) {
    let area = area * draw.between(scale);
    let ratio = libm::exp(draw.between(ratio.map(libm::log)));
    // Python's round: halves to even.
    (libm::rint(libm::sqrt(area * ratio)), libm::rint(libm::sqrt(area / ratio)))
}

/// Left edge, top edge, width and height of the part that a random resized crop takes from `w` x `h` pixels.
fn part((w, h): (u32, u32), scale: [f64; 2], ratio: [f64; 2], draw: &mut Draw) -> [u32; 4] {
    let (width, height) = (f64::from(w), f64::from(h));
    for _ in 0..TRIES {
        let (part_w, part_h) = rectangle(width * height, scale, ratio, draw);
        if (1.0..=width).contains(&part_w) && (1.0..=height).contains(&part_h) {
            let (part_w, part_h) = (part_w as u32, part_h as u32);
            let y = draw.below(h - part_h + 1);
            let x = draw.below(w - part_w + 1);
            return [x, y, part_w, part_h];
        }
    }
    // The largest part in the middle whose shape is allowed.
    let own = width / height;
    let (part_w, part_h) = if own < ratio[0] {
        (w, (libm::rint(width / ratio[0]) as u32).max(1))
    } else if own > ratio[1] {
        ((libm::rint(height * ratio[1]) as u32).max(1), h)
    } else {
        (w, h)
    };
    [(w - part_w) / 2, (h - part_h) / 2, part_w, part_h]
}

/// Left edge, top edge, width and height of a rectangle to be erased in `w` x `h` pixels; `None` where none fits.
fn erased((w, h): (u32, u32), scale: [f64; 2], ratio: [f64; 2], draw: &mut Draw) -> Option<[u32; 4]> {
    let (width, height) = (f64::from(w), f64::from(h));
    for _ in 0..TRIES {
        let (high, wide) = rectangle(width * height, scale, ratio, draw);
        if high < height && wide < width {
            let (high, wide) = (high as u32, wide as u32);
            let y = draw.below(h - high + 1);
            let x = draw.below(w - wide + 1);
            return Some([x, y, wide, high]);
        }
    }
    None
}

impl Steps {
    pub(super) fn random_resized_crop(
        &mut self,
        size: (u32, u32),
        scale: [f64; 2],
        ratio: [f64; 2],
        filter: Filter,
        mut draw: Draw,
    ) -> Result<Value> {
        let [x, y, w, h] = part(self.size(), scale, ratio, &mut draw);
        self.crop((x, y), (w, h))?;
        self.resize(size, filter, Match::Pillow13)?;
        Ok(json!({ "op": "random_resized_crop", "x": x, "y": y, "w": w, "h": h }))
    }

    /// `ranges` of brightness, contrast, saturation and hue.
    pub(super) fn color_jitter(&mut self, ranges: [Option<[f64; 2]>; 4], mut draw: Draw) -> Value {
        const NAMES: [&str; 4] = ["brightness", "contrast", "saturation", "hue"];
        let mut order = [0, 1, 2, 3];
        for i in (1..order.len()).rev() {
            order.swap(i, draw.below(i as u32 + 1) as usize);
        }
        let values = ranges.map(|range| range.map(|range| draw.between(range)));
        let given: Vec<(usize, f64)> = order.into_iter().filter_map(|i| Some((i, values[i]?))).collect();
        let names: Vec<&str> = given.iter().map(|(i, _)| NAMES[*i]).collect();
        let mut drawn = json!({ "op": "color_jitter", "order": names });
        for (i, value) in given {
            drawn[NAMES[i]] = value.into();
            let factor = fixed(value, FRACTION);
            let step = match i {
                0 => Step::Blend { factor, base: Base::Black },
                1 => Step::Blend { factor, base: Base::Mean },
                2 => Step::Blend { factor, base: Base::Luma },
                _ => Step::Hue { shift: fixed(6.0 * value, FRACTION).rem_euclid(6 << FRACTION) },
            };
            self.push(step, self.size());
        }
        drawn
    }

    pub(super) fn random_grayscale(&mut self, p: f64, mut draw: Draw) -> Value {
        let gray = draw.unit() < p;
        if gray {
            self.push(Step::Grayscale, self.size());
        }
        json!({ "op": "random_grayscale", "gray": gray })
    }

    /// What was drawn is told only where `sigma` is a range.
    pub(super) fn gaussian_blur(
        &mut self,
        [kernel_w, kernel_h]: [u32; 2],
        sigma: Spread,
        draw: impl FnOnce() -> Draw,
    ) -> Result<Option<Value>> {
        let (w, h) = self.size();
        if kernel_w / 2 >= w || kernel_h / 2 >= h {
            return Err(Error::input(
                RejectKind::Op,
                format!(
                    "a kernel of {kernel_w}x{kernel_h} reaches across a picture of {w}x{h}; its half must be less than \
                     the side"
                ),
            ));
        }
        let (sigma, drawn) = match sigma {
            Spread::Number(sigma) => (sigma, None),
            Spread::Range(range) => {
                let sigma = draw().between(range);
                (sigma, Some(json!({ "op": "gaussian_blur", "sigma": sigma })))
            }
        };
        self.push(Step::Blur { x: blur::gaussian(kernel_w, sigma), y: blur::gaussian(kernel_h, sigma) }, (w, h));
        Ok(drawn)
    }

    pub(super) fn random_affine(
        &mut self,
        degrees: Spread,
        translate: Option<[f64; 2]>,
        scale: Option<[f64; 2]>,
        shear: Option<Shear>,
        fill: [u8; 3],
        mut draw: Draw,
    ) -> Result<Value> {
        let (w, h) = self.size();
        let angle = draw.between(degrees.symmetric());
        let translate = translate.map_or([0.0; 2], |[x, y]| {
            [x * f64::from(w), y * f64::from(h)].map(|most| libm::rint(draw.between([-most, most])))
        });
        let scale = scale.map_or(1.0, |range| draw.between(range));
        let shear = shear.map_or([0.0; 2], |shear| shear.ranges().map(|range| draw.between(range)));
        let drawn = json!({
            "op": "random_affine", "angle": angle, "translate": translate, "scale": scale, "shear": shear,
        });
        let back = affine::inverse((w, h), angle, translate, scale, shear);
        let (columns, rows) = affine::tables(back, (w, h)).ok_or_else(|| {
            Error::input(RejectKind::Op, format!("{drawn} maps a picture of {w}x{h} too far for the fixed point"))
        })?;
        self.push_mapped(Step::Affine { columns, rows, fill }, (w, h), back);
        Ok(drawn)
    }

    pub(super) fn random_erasing(
        &mut self,
        p: f64,
        scale: [f64; 2],
        ratio: [f64; 2],
        fill: [u8; 3],
        mut draw: Draw,
    ) -> Value {
        let rectangle = (draw.unit() < p).then(|| erased(self.size(), scale, ratio, &mut draw)).flatten();
        let Some([x, y, w, h]) = rectangle else { return json!({ "op": "random_erasing", "erased": false }) };
        if w > 0 && h > 0 {
            self.push(Step::Erase { x, y, w, h, fill }, self.size());
        }
        json!({ "op": "random_erasing", "erased": true, "x": x, "y": y, "w": w, "h": h })
    }
}

#[cfg(test)]
mod tests;
