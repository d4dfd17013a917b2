//! Heads that tell something of the whole picture: its class, or a vector that stands for it.

use super::{Found, Output, Scores};

/// The one row of values that a picture has: `[C]`, also with sides of 1 around it.
fn row(outputs: &[Output]) -> Option<&[f32]> {
    let [output] = outputs else { return None };
    let long = output.shape.iter().filter(|n| **n != 1).count();
    (long <= 1 && !output.data.is_empty()).then_some(&output.data[..])
}

/// Every class at `score` or above. Rows that are a distribution, or a single share, are taken as they are where it is not
/// said what they are; others go through a softmax, a single one through a sigmoid.
pub fn classify(outputs: &[Output], (w, h): (u32, u32), scores: Scores, score: f32) -> Option<Vec<Found>> {
    let values = row(outputs)?;
    let shares = values.iter().all(|v| (0.0..=1.0).contains(v));
    let sum: f32 = values.iter().sum();
    let logits = match scores {
        Scores::Logits => true,
        Scores::Probabilities => false,
        Scores::Unsaid => !(shares && (values.len() == 1 || (sum - 1.0).abs() < 1e-3)),
    };
    let top = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = values.iter().map(|v| libm::expf(v - top)).sum();
    let probability = |v: f32| match logits {
        true if values.len() == 1 => super::sigmoid(v),
        true => libm::expf(v - top) / total,
        false => v,
    };
    let all = values.iter().map(|v| probability(*v)).enumerate().filter(|(_, p)| *p >= score);
    Some(all.map(|(class, p)| Found::of(class, p, [0.0, 0.0, w as f32, h as f32])).collect())
}

/// The vector.
pub fn embed(outputs: &[Output], (w, h): (u32, u32)) -> Option<Vec<Found>> {
    let mut found = Found::of(0, 1.0, [0.0, 0.0, w as f32, h as f32]);
    found.embedding = row(outputs)?.to_vec();
    Some(vec![found])
}
