//! What is done about what was found in a sample: kept, left out, hidden, cut.

use super::cut::{crop, grown, hide};
use super::objects::Seen;
use crate::detect::spec::{Crop, OnError};
use crate::detect::{Act, Detector, Selection};
use crate::error::{Class, Result};
use crate::pipeline::compute::Made;
use crate::sink::record::Detection;

/// What a detector found, and which of the job's it is.
type Told<'a> = (usize, &'a Detector, Vec<Seen>);

/// A sample with what each detector found in it, after everything that is to be done with that: none, itself, or crops of
/// it. `parents` are, for each detector, the one whose objects it saw.
pub fn settle<'a>(
    detectors: impl Iterator<Item = &'a Detector>,
    parents: &[Option<usize>],
    mut made: Made,
    found: Vec<Result<Vec<Seen>>>,
) -> Result<Vec<Made>> {
    (made.views, made.frames) = (Vec::new(), Vec::new());
    let place = format!("{} at {} s", made.record.uri, made.record.time_s);
    let mut all: Vec<Told> = Vec::new();
    for (i, (detector, found)) in detectors.zip(found).enumerate() {
        match found {
            Ok(seen) => all.push((i, detector, seen)),
            Err(e) => {
                let e = e.context(format!("detector {}", detector.name));
                if e.class != Class::Input || detector.on_error == OnError::Reject {
                    return Err(e.context(&place));
                }
                tracing::warn!("{place}: {e}; it is written without this detector's objects");
                made.record.warning.get_or_insert(e.message);
            }
        }
    }
    if !all.iter().all(|(_, detector, seen)| applied(detector, seen, &mut made)) {
        return Ok(Vec::new());
    }
    made.rank.score = strongest(&all);
    let places = list(&mut made.record.detections, &all, parents);
    let cuts = all.iter().zip(&places).find_map(|((_, detector, seen), places)| match detector.rules.last() {
        Some(Act::Crop { of, how }) => Some((how, wanted(seen, places, of))),
        _ => None,
    });
    let Some((how, wanted)) = cuts else { return Ok(vec![made]) };
    let (how, wanted): (&Crop, Vec<usize>) = (how, wanted);
    let mut out: Vec<Made> = wanted.iter().enumerate().filter_map(|(i, n)| crop(&made, *n, how, i)).collect();
    if how.beside {
        out.insert(0, made);
    }
    Ok(out)
}

/// Does what a detector's rules say to the whole sample; false where it is left out.
fn applied(detector: &Detector, seen: &[Seen], made: &mut Made) -> bool {
    let shows =
        |of: &Selection| seen.iter().any(|s| shown(&s.detection) && of.has(s.detection.class, s.detection.score));
    for act in &detector.rules {
        match act {
            Act::Keep(of) | Act::Best { of, .. } if !shows(of) => return false,
            Act::Drop(of) if shows(of) => return false,
            Act::Hide { of, margin, color } => {
                for s in seen.iter().filter(|s| of.has(s.detection.class, s.detection.score)) {
                    if let Some(tensor) = made.tensors.get_mut(s.frame) {
                        hide(tensor, grown(s.whole, *margin), *color);
                    }
                }
            }
            Act::Keep(_) | Act::Drop(_) | Act::Best { .. } | Act::Crop { .. } => {}
        }
    }
    true
}

/// How strong the strongest object is by which samples are ranked.
fn strongest(all: &[Told]) -> f64 {
    let scores = all.iter().flat_map(|(_, detector, seen)| {
        let best = detector.rules.iter().find_map(|act| if let Act::Best { of, .. } = act { Some(of) } else { None });
        let counts = move |d: &&Detection| shown(d) && best.is_some_and(|of| of.has(d.class, d.score));
        seen.iter().map(|s| &s.detection).filter(counts).map(|d| d.score)
    });
    scores.fold(0.0, f64::max)
}

/// Puts what is to be seen into the record. For each of `all`, and each of what it found, the place in the record.
fn list(record: &mut Vec<Detection>, all: &[Told], parents: &[Option<usize>]) -> Vec<Vec<Option<usize>>> {
    let mut places: Vec<Vec<Option<usize>>> = Vec::new();
    for (i, _, seen) in all {
        // Whose objects it saw stands before it.
        let parent = parents.get(*i).copied().flatten().and_then(|p| all.iter().position(|(i, ..)| *i == p));
        let mut own = Vec::new();
        for s in seen {
            let visible = shown(&s.detection);
            own.push(visible.then_some(record.len()));
            if visible {
                let of = parent.zip(s.parent).and_then(|(p, n)| places.get(p)?.get(n).copied().flatten());
                let of = s.detection.of.map(|_| of.map(|n| n as i64));
                record.push(Detection { of, ..s.detection.clone() });
            }
        }
        places.push(own);
    }
    places
}

/// The places in the record of the objects that are to be cut out.
fn wanted(seen: &[Seen], places: &[Option<usize>], of: &Selection) -> Vec<usize> {
    let is = |(s, place): (&Seen, &Option<usize>)| place.filter(|_| of.has(s.detection.class, s.detection.score));
    seen.iter().zip(places).filter_map(is).collect()
}

/// Whether anything of it lies in the sample.
fn shown(d: &Detection) -> bool {
    d.box_[2] > d.box_[0] && d.box_[3] > d.box_[1]
}
