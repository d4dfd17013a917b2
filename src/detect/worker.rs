//! [`Worker`]: a detector in one thread.
//!
//! What it tells of a picture, a failure too, does not depend on the pictures that the model got with it. What is told can be
//! used: numbers everywhere, scores of 0 to 1, classes that have a label where there are labels.

use super::heads::{Found, Output, masks};
use super::{Detector, Elements, Session, nms, prepare};
use crate::error::{Error, RejectKind, Result};
use crate::tensor::Tensor;

/// Half a unit of the last digit that is written of a score: what rounds up to the least score counts.
const HALF_DIGIT: f32 = 5e-5;
/// How far above 1 a probability may be by rounding.
const ROUNDING: f32 = 1e-3;
/// More classes than any model has.
const CLASSES: usize = 1 << 24;

/// A detector in one thread.
pub struct Worker<'a> {
    session: Session,
    detector: &'a Detector,
}

impl<'a> Worker<'a> {
    pub(super) fn new(session: Session, detector: &'a Detector) -> Worker<'a> {
        Worker { session, detector }
    }

    /// What is in each of `pictures`, which the detector's Program made; strongest first, in pixels of the model's input.
    pub fn detect(&mut self, pictures: &[&Tensor]) -> Vec<Result<Vec<Found>>> {
        pictures.chunks(self.detector.batch).flat_map(|part| self.batch(part)).collect()
    }

    fn batch(&mut self, pictures: &[&Tensor]) -> Vec<Result<Vec<Found>>> {
        match self.decode(prepare::pack(pictures, self.detector)) {
            Ok(found) => found.into_iter().take(pictures.len()).collect(),
            // One of them may be to blame. Which others were with it is chance.
            Err(_) if pictures.len() > 1 => pictures.iter().flat_map(|one| self.batch(&[*one])).collect(),
            Err(e) => pictures.iter().map(|_| Err(e.clone())).collect(),
        }
    }

    /// What is in each picture of a whole batch.
    pub(super) fn decode(&mut self, elements: Elements) -> Result<Vec<Result<Vec<Found>>>> {
        let d = self.detector;
        let shape = prepare::input_shape(d.preprocess.size, d.preprocess.axes, d.batch);
        let outputs = self.session.run(elements, shape)?;
        Ok(outputs.iter().map(|outputs| self.found(outputs)).collect())
    }

    fn found(&self, outputs: &[Output]) -> Result<Vec<Found>> {
        let d = self.detector;
        finite(outputs)?;
        let score = d.score as f32 - HALF_DIGIT;
        let mut found = d.head.decode(outputs, d.preprocess.size, score)?;
        if let Some(classes) = &d.classes {
            found.retain(|f| classes.contains(&f.class));
        }
        found.iter_mut().try_for_each(|f| sound(f, &d.labels))?;
        let mut found = nms::suppress(found, d.nms, score, d.max);
        masks::attach(&mut found, outputs, d.preprocess.size);
        Ok(found)
    }
}

fn failed(why: &str) -> Error {
    Error::input(RejectKind::Detect, format!("the model failed: {why}"))
}

/// Whether a picture's outputs hold numbers alone.
///
/// # Errors
/// Detect, naming the output that does not.
pub(super) fn finite(outputs: &[Output]) -> Result<()> {
    match outputs.iter().find(|o| o.data.iter().any(|v| !v.is_finite())) {
        Some(output) => Err(failed(&format!("output {} holds values that are no numbers", output.name))),
        None => Ok(()),
    }
}

/// Holds an object against what every head promises. What its box is cannot be left out: it may be what is to be hidden.
fn sound(f: &mut Found, labels: &[String]) -> Result<()> {
    let numbers = f.bounds.iter().chain(f.points.iter().flatten());
    if !numbers.chain([&f.score]).all(|v| v.is_finite()) {
        return Err(failed(&format!("an object of class {} has a box without an end", f.class)));
    }
    if f.score > 1.0 + ROUNDING {
        return Err(failed(&format!(
            "a score is {}, expected 0 to 1: its outputs are no probabilities, or those of another head",
            f.score
        )));
    }
    f.score = f.score.min(1.0);
    if f.class >= CLASSES {
        return Err(failed("a class is no number that a class may have; its outputs may be those of another head"));
    }
    if !labels.is_empty() && f.class >= labels.len() {
        return Err(Error::usage(format!(
            "it found class {} (they begin with 0), and there are {} labels: give one for each class of the model",
            f.class,
            labels.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_told() {
        let of = |class, score, bounds| sound(&mut Found::of(class, score, bounds), &["a".into(), "b".into()]);
        let bounds = [0.0, 0.0, 4.0, 4.0];
        assert!(of(1, 0.5, bounds).is_ok());
        let infinite = of(0, 0.5, [f32::NEG_INFINITY, 0.0, f32::INFINITY, 4.0]).unwrap_err();
        assert!(infinite.message.contains("without an end"), "{infinite}");
        assert!(of(0, f32::NAN, bounds).is_err());
        assert!(of(0, 1.7, bounds).unwrap_err().message.contains("1.7"));
        let labels = of(2, 0.5, bounds).unwrap_err();
        assert!(labels.exit_code() == 2 && labels.message.contains("class 2") && labels.message.contains("2 labels"));
        let mut rounded = Found::of(0, 1.000_1, bounds);
        sound(&mut rounded, &[]).unwrap();
        assert_eq!(rounded.score, 1.0);
        assert!(sound(&mut Found::of(usize::MAX, 0.5, bounds), &[]).is_err());
    }
}
