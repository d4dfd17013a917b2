//! From what a model found in its input to objects of the sample and of the source.

use crate::backend::Processed;
use crate::detect::Detector;
use crate::detect::heads::{Found, masks::Patch};
use crate::detect::spec::On;
use crate::error::{Error, Result};
use crate::geometry::Transform;
use crate::pipeline::compute::Made;
use crate::sink::record::{Details, Detection};
use crate::sink::rle::Rle;

/// What one detector found in one sample.
#[derive(Clone)]
pub struct Seen {
    pub detection: Detection,
    /// The box in the sample, also where it goes beyond.
    pub whole: [f64; 4],
    /// Which frame of the sample it was found in.
    pub frame: usize,
    /// In which of what the detector before it found.
    pub parent: Option<usize>,
}

/// Where a model looked.
pub struct Look<'a> {
    pub detector: &'a Detector,
    pub made: &'a Made,
    /// Which frame of the sample.
    pub frame: usize,
    /// What the model saw of it.
    pub view: &'a Processed,
    /// The object that it saw, and its place among what the detector before found.
    pub parent: Option<(usize, &'a Seen)>,
    pub details: Details,
}

impl Look<'_> {
    /// What was found, in pixels of the sample and of the source.
    pub fn objects(&self, found: Vec<Found>) -> Result<Vec<Seen>> {
        let record = &self.made.record;
        let place = self.made.places.get(self.frame);
        let place = place.ok_or_else(|| Error::bug(format!("frame {} of {} has no place", self.frame, record.key)))?;
        // Every operation keeps an area.
        let none = || Error::bug(format!("the transform of {} has no inverse", record.key));
        let to_sample = place.transform.inverse().ok_or_else(none)?.then_from(self.view.transform);
        let from_sample = self.view.transform.inverse().ok_or_else(none)?.then_from(place.transform);
        let one = |f: Found| {
            let (whole, box_, source_box) = match self.detector.head.layout.is_whole() {
                true => self.picture(place.transform, place.source),
                false => {
                    let bounds = f.bounds.map(f64::from);
                    let whole = to_sample.apply_box(bounds);
                    let source = self.view.transform.apply_box(bounds);
                    (whole, inside(whole, record.width, record.height), inside(source, place.source.0, place.source.1))
                }
            };
            let point = |p: [f32; 2]| {
                let (x, y) = to_sample.apply(f64::from(p[0]), f64::from(p[1]));
                [sixteenth(x), sixteenth(y)]
            };
            let mask = |patch: &Patch| mask(patch, &f, from_sample, box_, (record.width, record.height));
            let detection = Detection {
                model: self.detector.name.clone(),
                class: f.class as i64,
                label: self.detector.label(f.class).filter(|_| !self.detector.embeds()),
                score: (f64::from(f.score) * 1e4).round() / 1e4,
                box_,
                source_box,
                landmarks: f.points.iter().map(|p| point(*p)).collect(),
                mask: self.details.masks.then(|| f.mask.as_ref().map(mask)),
                embedding: self.details.embeddings.then(|| rounded(&f.embedding)),
                of: self.details.parents.then_some(None),
                frame: self.details.frames.then_some(self.frame as i64),
            };
            Seen { detection, whole, frame: self.frame, parent: self.parent.map(|(n, _)| n) }
        };
        Ok(found.into_iter().map(one).collect())
    }

    /// The boxes of what the model saw as a whole: the object that it saw, else the picture.
    fn picture(&self, back: Transform, (w, h): (u32, u32)) -> ([f64; 4], [f64; 4], [f64; 4]) {
        if let Some((_, seen)) = self.parent {
            return (seen.whole, seen.detection.box_, seen.detection.source_box);
        }
        let (width, height) = (self.made.record.width, self.made.record.height);
        let all = [0.0, 0.0, f64::from(width), f64::from(height)];
        let source = match self.detector.on {
            On::Sample => inside(back.apply_box(all), w, h),
            On::Source | On::Objects(_) => [0.0, 0.0, f64::from(w), f64::from(h)],
        };
        (all, all, source)
    }
}

/// The pixels of the sample whose centres lie in the object's box and in its mask.
fn mask(patch: &Patch, f: &Found, from_sample: Transform, bounds: [f64; 4], (w, h): (u32, u32)) -> Rle {
    let [x1, y1, x2, y2] = bounds;
    let window = [x1.floor() as u32, y1.floor() as u32, x2.ceil() as u32, y2.ceil() as u32];
    Rle::of((w, h), window, |x, y| {
        let (x, y) = from_sample.apply(f64::from(x) + 0.5, f64::from(y) + 0.5);
        let (x, y) = (x as f32, y as f32);
        let [x1, y1, x2, y2] = f.bounds;
        (x1..x2).contains(&x) && (y1..y2).contains(&y) && patch.has(x, y)
    })
}

/// A vector to 15 bits of its largest value, which is noise between builds of a runtime; none of nothing.
fn rounded(vector: &[f32]) -> Option<Vec<f32>> {
    let largest = vector.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    // Powers of two, so that what is written is exact.
    let step = libm::exp2f(libm::ceilf(libm::log2f(largest.max(f32::MIN_POSITIVE))) - 15.0).max(f32::MIN_POSITIVE);
    (!vector.is_empty()).then(|| vector.iter().map(|v| (v / step).round() * step + 0.0).collect())
}

/// To 1/16 of a pixel: finer is noise, which differs between builds of a runtime.
fn sixteenth(v: f64) -> f64 {
    // Adding 0 makes -0 0.
    (v * 16.0).round() / 16.0 + 0.0
}

/// The part of a box that lies in a picture, rounded.
pub fn inside([x1, y1, x2, y2]: [f64; 4], w: u32, h: u32) -> [f64; 4] {
    let x = |v: f64| sixteenth(v.clamp(0.0, f64::from(w)));
    let y = |v: f64| sixteenth(v.clamp(0.0, f64::from(h)));
    [x(x1), y(y1), x(x2), y(y2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_keep_fifteen_bits_of_their_largest() {
        let vector = [0.75, -0.1, 1e-9, 0.0];
        let kept = rounded(&vector).unwrap();
        for (was, is) in vector.iter().zip(&kept) {
            assert!((was - is).abs() <= 0.5 / 32768.0 && (is * 32768.0).fract() == 0.0, "{was}: {is}");
        }
        assert_eq!(rounded(&[0.75, -0.1 + 1e-7, 0.0, -1e-8]).unwrap(), kept);
        let large: Vec<f32> = vector.iter().map(|v| v * 1024.0).collect();
        assert_eq!(rounded(&large).unwrap(), kept.iter().map(|v| v * 1024.0).collect::<Vec<_>>());
        assert_eq!((rounded(&[0.0]), rounded(&[])), (Some(vec![0.0]), None));
    }
}
