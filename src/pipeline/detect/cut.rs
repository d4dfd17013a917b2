//! What is done to pixels of a sample: boxes are hidden, or cut out.

use crate::detect::spec::Crop;
use crate::geometry::Transform;
use crate::pipeline::compute::Made;
use crate::sink::record::Detection;
use crate::tensor::{Layout, Tensor};

use super::objects::inside;

/// A box with so much of its sides more on each side.
pub fn grown([x1, y1, x2, y2]: [f64; 4], margin: f64) -> [f64; 4] {
    let (w, h) = ((x2 - x1) * margin, (y2 - y1) * margin);
    [x1 - w, y1 - h, x2 + w, y2 + h]
}

/// The whole pixels that a box touches: left, top, width, height; none where it is outside.
fn pixels([x1, y1, x2, y2]: [f64; 4], tensor: &Tensor) -> Option<(usize, usize, usize, usize)> {
    let lo = |v: f64, n: u32| v.floor().clamp(0.0, f64::from(n)) as usize;
    let hi = |v: f64, n: u32| v.ceil().clamp(0.0, f64::from(n)) as usize;
    let (x, y) = (lo(x1, tensor.width), lo(y1, tensor.height));
    let (w, h) = (hi(x2, tensor.width).saturating_sub(x), hi(y2, tensor.height).saturating_sub(y));
    (w > 0 && h > 0).then_some((x, y, w, h))
}

/// Where channel `c` of a pixel lies in 8-bit data.
fn at(tensor: &Tensor, x: usize, y: usize, c: usize) -> usize {
    let (w, h) = (tensor.width as usize, tensor.height as usize);
    match tensor.layout {
        Layout::Hwc => (y * w + x) * 3 + c,
        Layout::Chw => (c * h + y) * w + x,
    }
}

/// How many squares of a mosaic stand along the longer side of a hidden box.
const SQUARES: usize = 6;

/// Makes a box one colour, or a mosaic of squares, each of its mean colour: unlike a smooth blur it cannot be undone.
pub fn hide(tensor: &mut Tensor, bounds: [f64; 4], color: Option<[u8; 3]>) {
    let Some((x, y, w, h)) = pixels(bounds, tensor) else { return };
    let side = if color.is_some() { w.max(h) } else { w.max(h).div_ceil(SQUARES).max(2) };
    for top in (y..y + h).step_by(side) {
        for left in (x..x + w).step_by(side) {
            let (right, bottom) = ((left + side).min(x + w), (top + side).min(y + h));
            for c in 0..3 {
                let places = || (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y)));
                let value = color.map_or_else(
                    || {
                        let sum: u64 = places().map(|(x, y)| u64::from(tensor.data[at(tensor, x, y, c)])).sum();
                        let n = ((right - left) * (bottom - top)) as u64;
                        ((2 * sum + n) / (2 * n)) as u8
                    },
                    |color| color[c],
                );
                for (x, y) in places() {
                    let place = at(tensor, x, y, c);
                    tensor.data[place] = value;
                }
            }
        }
    }
}

/// The part of a sample that shows object `n` of its record, number `i` of those that are cut, as a sample of its own; none
/// where it is too small. Of the objects it has that one and what was found in it.
pub fn crop(made: &Made, n: usize, how: &Crop, i: usize) -> Option<Made> {
    let (tensor, detection) = (made.tensors.first()?, made.record.detections.get(n)?);
    let mut bounds = grown(detection.box_, how.margin);
    if how.square {
        let side = (bounds[2] - bounds[0]).max(bounds[3] - bounds[1]) / 2.0;
        let (cx, cy) = ((bounds[0] + bounds[2]) / 2.0, (bounds[1] + bounds[3]) / 2.0);
        bounds = [cx - side, cy - side, cx + side, cy + side];
    }
    let (x, y, w, h) = pixels(bounds, tensor)?;
    if w.min(h) < how.min_size.max(1) as usize {
        return None;
    }
    let part = part(tensor, (x, y, w, h));
    let (left, top) = (x as f64, y as f64);
    let mut record = made.record.clone();
    record.key = format!("{}-c{i}", record.key);
    (record.width, record.height) = (part.width, part.height);
    record.transform = Transform(record.transform).then_from(Transform([1.0, 0.0, left, 0.0, 1.0, top])).0;
    record.detections = with_descendants(&made.record.detections, n)
        .into_iter()
        .map(|d| moved(d, [x as u32, y as u32, part.width, part.height]))
        .collect();
    Some(Made { tensors: vec![part], record, fields: made.fields.clone(), rank: made.rank, ..Made::default() })
}

/// The rectangle of a picture.
fn part(tensor: &Tensor, (x, y, w, h): (usize, usize, usize, usize)) -> Tensor {
    let mut data = Vec::with_capacity(w * h * 3);
    match tensor.layout {
        Layout::Hwc => {
            for row in y..y + h {
                let from = at(tensor, x, row, 0);
                data.extend_from_slice(&tensor.data[from..from + 3 * w]);
            }
        }
        Layout::Chw => {
            for (c, row) in (0..3).flat_map(|c| (y..y + h).map(move |row| (c, row))) {
                let from = at(tensor, x, row, c);
                data.extend_from_slice(&tensor.data[from..from + w]);
            }
        }
    }
    Tensor { width: w as u32, height: h as u32, dtype: tensor.dtype, layout: tensor.layout, data }
}

/// Object `n` and all that was found in it, with places in the new list.
fn with_descendants(all: &[Detection], n: usize) -> Vec<Detection> {
    let mut kept: Vec<usize> = Vec::new();
    let mut out = Vec::new();
    // Objects stand behind those that they were found in.
    for (i, d) in all.iter().enumerate().skip(n) {
        let place = d.of.flatten().and_then(|of| kept.iter().position(|k| *k as i64 == of));
        if i == n || place.is_some() {
            kept.push(i);
            let of = d.of.map(|_| place.map(|place| place as i64));
            out.push(Detection { of, ..d.clone() });
        }
    }
    out
}

/// An object in pixels of the part of its sample: left, top, width, height.
fn moved(d: Detection, [x, y, w, h]: [u32; 4]) -> Detection {
    let (left, top) = (f64::from(x), f64::from(y));
    let [x1, y1, x2, y2] = d.box_;
    Detection {
        box_: inside([x1 - left, y1 - top, x2 - left, y2 - top], w, h),
        landmarks: d.landmarks.iter().map(|[x, y]| [x - left, y - top]).collect(),
        mask: d.mask.map(|mask| mask.map(|mask| mask.part([x, y, w, h]))),
        ..d
    }
}
