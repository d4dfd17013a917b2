//! The detect stage: what is in the pictures, and what is done about it.
//!
//! Invariants: a batch never spans tasks; boxes go through exact transforms from the model's input to the source and to the
//! sample; where a detector that hides something failed, no sample goes on.

use crossbeam_channel::{Receiver, Sender};

use super::collect::Message;
use super::compute::Made;
use super::{Numbered, Shared, stopping};
use crate::backend::Processed;
use crate::detect::heads::Found;
use crate::detect::spec::{Crop, OnError};
use crate::detect::{Act, Detector, Worker};
use crate::error::{Class, Error, Result};
use crate::geometry::Transform;
use crate::sink::record::Detection;
use crate::tensor::{Layout, Tensor};
use crate::trace;

/// What one detector found in one sample.
struct Seen {
    detection: Detection,
    /// The box in the sample, also where it goes beyond.
    whole: [f64; 4],
}

/// One thread of the stage, until no more pictures come or the run stops.
pub(super) fn stage(
    shared: &Shared,
    from: &Receiver<Numbered<Vec<Made>>>,
    to: &Sender<Numbered<Vec<Made>>>,
    errors: &Sender<Message>,
) -> Result<()> {
    let detectors = &shared.job.detectors;
    let mut workers = detectors.iter().map(|d| d.worker()).collect::<Result<Vec<_>>>()?;
    let most = detectors.iter().map(|d| d.batch).max().unwrap_or(1);
    let mut held = None;
    while let Some(first) = held.take().or_else(|| shared.detect.receive(from)) {
        let task = first.key.task;
        let mut batch = vec![first];
        // What is there already; waiting for more would make a slow decoder slower.
        while batch.len() < most
            && held.is_none()
            && let Some(next) = shared.detect.take(from)
        {
            if next.key.task == task { batch.push(next) } else { held = Some(next) }
        }
        let span = trace::work(|| (format!("detect in a batch of {}", batch.len()), vec![task]));
        let mut seen: Vec<Vec<Result<Vec<Found>>>> = Vec::new();
        for (i, worker) in workers.iter_mut().enumerate() {
            seen.push(look(&batch, i, worker));
        }
        drop(span);
        let mut seen: Vec<_> = seen.into_iter().map(Vec::into_iter).collect();
        for numbered in batch {
            let Numbered { key, attempt, seq, item, credit } = numbered;
            if stopping(shared) {
                return Ok(());
            }
            let mut all: Result<Vec<Made>> = Ok(Vec::new());
            for made in item {
                let found = seen.iter_mut().filter_map(Iterator::next).collect();
                let settled = settle(detectors.iter().map(|d| &**d), made, found);
                all = all.and_then(|mut all| {
                    all.extend(settled?);
                    Ok(all)
                });
            }
            let sent = match all {
                // Nothing goes straight to the collector, as errors do.
                Ok(made) if !made.is_empty() => {
                    shared.detect.send(to, Numbered { key, attempt, seq, item: made, credit }).is_ok()
                }
                Err(e) if e.class != Class::Input => return Err(e),
                other => {
                    let samples = Box::new(other.map(|_| Vec::new()));
                    shared.detect.send(errors, Message::Sample { key, attempt, seq, samples }).is_ok()
                }
            };
            if !sent {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What detector `i` finds in each picture of a batch; errors where there is nothing that it could look at.
fn look(batch: &[Numbered<Vec<Made>>], i: usize, worker: &mut Worker) -> Vec<Result<Vec<Found>>> {
    let made = || batch.iter().flat_map(|numbered| &numbered.item);
    let view =
        |made: &'_ Made| made.views.get(i).cloned().unwrap_or_else(|| Err(Error::bug("a picture was not prepared")));
    let views: Vec<Result<Processed>> = made().map(view).collect();
    let good: Vec<&Tensor> = views.iter().flatten().map(|view| &view.tensor).collect();
    let mut found = worker.detect(&good).into_iter();
    let gone = || Err(Error::bug("a detector gave no result"));
    views
        .iter()
        .map(|view| view.as_ref().map_err(Clone::clone).and_then(|_| found.next().unwrap_or_else(gone)))
        .collect()
}

/// A sample with what was found in it, after everything that is to be done with that: none, itself, or crops of it.
fn settle<'a>(
    detectors: impl Iterator<Item = &'a Detector>,
    mut made: Made,
    found: Vec<Result<Vec<Found>>>,
) -> Result<Vec<Made>> {
    let views = std::mem::take(&mut made.views);
    let place = format!("{} at {} s", made.record.uri, made.record.time_s);
    let mut all = Vec::new();
    for ((detector, view), found) in detectors.zip(views).zip(found) {
        match (view, found) {
            (Ok(view), Ok(found)) => all.push((detector, seen(detector, &made, &view, found)?)),
            (Err(e), _) | (_, Err(e)) => {
                let e = e.context(format!("detector {}", detector.name));
                if e.class != Class::Input || detector.on_error == OnError::Reject {
                    return Err(e.context(&place));
                }
                tracing::warn!("{place}: {e}; it is written without this detector's objects");
                made.record.warning.get_or_insert(e.message);
            }
        }
    }
    for (detector, seen) in &all {
        for act in &detector.rules {
            let shows = |of: &crate::detect::Selection| {
                seen.iter().any(|s| shown(&s.detection) && of.has(s.detection.class, s.detection.score))
            };
            match act {
                Act::Keep(of) if !shows(of) => return Ok(Vec::new()),
                Act::Drop(of) if shows(of) => return Ok(Vec::new()),
                Act::Hide { of, margin, color } => {
                    let boxes = seen.iter().filter(|s| of.has(s.detection.class, s.detection.score));
                    for hidden in boxes.map(|s| grown(s.whole, *margin)) {
                        made.tensors.iter_mut().for_each(|tensor| hide(tensor, hidden, *color));
                    }
                }
                Act::Keep(_) | Act::Drop(_) | Act::Crop { .. } => {}
            }
        }
    }
    let crops = all.last().and_then(|(detector, seen)| match detector.rules.last() {
        Some(Act::Crop { of, how }) => {
            Some((of.clone(), how.clone(), seen.iter().map(|s| s.detection.clone()).collect()))
        }
        _ => None,
    });
    let visible = |s: Seen| shown(&s.detection).then_some(s.detection);
    made.record.detections.extend(all.into_iter().flat_map(|(_, seen)| seen).filter_map(visible));
    let Some((of, how, detections)) = crops else { return Ok(vec![made]) };
    let detections: Vec<Detection> = detections;
    let mut out = Vec::new();
    for (i, detection) in detections.iter().filter(|d| shown(d) && of.has(d.class, d.score)).enumerate() {
        out.extend(crop(&made, detection, &how, i));
    }
    if how.beside {
        out.insert(0, made);
    }
    Ok(out)
}

/// Whether anything of it lies in the sample.
fn shown(d: &Detection) -> bool {
    d.box_[2] > d.box_[0] && d.box_[3] > d.box_[1]
}

/// Objects in pixels of the model's input as objects of the sample and of the source.
fn seen(detector: &Detector, made: &Made, view: &Processed, found: Vec<Found>) -> Result<Vec<Seen>> {
    let record = &made.record;
    // Every operation keeps an area.
    let back = Transform(record.transform).inverse();
    let back = back.ok_or_else(|| Error::bug(format!("the transform of {} has no inverse", record.key)))?;
    let to_sample = back.then_from(view.transform);
    let one = |f: Found| {
        let bounds = f.bounds.map(f64::from);
        let whole = to_sample.apply_box(bounds);
        let point = |p: [f32; 2]| {
            let (x, y) = to_sample.apply(f64::from(p[0]), f64::from(p[1]));
            [sixteenth(x), sixteenth(y)]
        };
        let detection = Detection {
            model: detector.name.clone(),
            class: f.class as i64,
            label: detector.label(f.class),
            score: (f64::from(f.score) * 1e4).round() / 1e4,
            box_: inside(whole, record.width, record.height),
            source_box: inside(view.transform.apply_box(bounds), record.source_width, record.source_height),
            landmarks: f.points.into_iter().map(point).collect(),
        };
        Seen { detection, whole }
    };
    Ok(found.into_iter().map(one).collect())
}

/// To 1/16 of a pixel: finer is noise, which differs between builds of a runtime.
fn sixteenth(v: f64) -> f64 {
    // Adding 0 makes -0 0.
    (v * 16.0).round() / 16.0 + 0.0
}

/// The part of a box that lies in a picture, rounded.
fn inside([x1, y1, x2, y2]: [f64; 4], w: u32, h: u32) -> [f64; 4] {
    let x = |v: f64| sixteenth(v.clamp(0.0, f64::from(w)));
    let y = |v: f64| sixteenth(v.clamp(0.0, f64::from(h)));
    [x(x1), y(y1), x(x2), y(y2)]
}

/// A box with so much of its sides more on each side.
fn grown([x1, y1, x2, y2]: [f64; 4], margin: f64) -> [f64; 4] {
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
fn hide(tensor: &mut Tensor, bounds: [f64; 4], color: Option<[u8; 3]>) {
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

/// The part of a sample that shows a detection, as a sample of its own; none where it is too small.
fn crop(made: &Made, detection: &Detection, how: &Crop, i: usize) -> Option<Made> {
    let tensor = made.tensors.first()?;
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
    let mut data = Vec::with_capacity(w * h * 3);
    let mut part =
        Tensor { width: w as u32, height: h as u32, dtype: tensor.dtype, layout: tensor.layout, data: Vec::new() };
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
    part.data = data;
    let (left, top) = (x as f64, y as f64);
    let mut record = made.record.clone();
    record.key = format!("{}-c{i}", record.key);
    (record.width, record.height) = (part.width, part.height);
    record.transform = Transform(record.transform).then_from(Transform([1.0, 0.0, left, 0.0, 1.0, top])).0;
    let [x1, y1, x2, y2] = detection.box_;
    record.detections = vec![Detection {
        box_: inside([x1 - left, y1 - top, x2 - left, y2 - top], part.width, part.height),
        landmarks: detection.landmarks.iter().map(|[x, y]| [x - left, y - top]).collect(),
        ..detection.clone()
    }];
    Some(Made { tensors: vec![part], record, fields: made.fields.clone(), views: Vec::new() })
}
