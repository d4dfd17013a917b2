//! Heads whose boxes are decoded already.

use super::{Found, Output, best, centred, masks, rows, scaled, sigmoid, table};

/// A class that a model tells as a number among others.
fn class(number: f32) -> usize {
    number.round() as usize
}

pub fn yolov5(outputs: &[Output], points: usize, score: f32) -> Option<Vec<Found>> {
    let (data, columns) = table(outputs.first()?, None)?;
    let (classes, behind) = (5 + 2 * points, columns.checked_sub(masks::count(outputs))?);
    if behind <= classes {
        return None;
    }
    let one = |row: &[f32]| {
        let (class, probability) = best(row[classes..behind].iter().copied())?;
        let score_here = row[4] * probability;
        (score_here >= score).then(|| Found {
            points: row[5..classes].chunks_exact(2).map(|p| [p[0], p[1]]).collect(),
            coefficients: row[behind..].to_vec(),
            ..Found::of(class, score_here, centred(row[0], row[1], row[2], row[3]))
        })
    };
    Some(data.chunks_exact(columns).filter_map(one).collect())
}

pub fn yolov8(outputs: &[Output], score: f32) -> Option<Vec<Found>> {
    let output = outputs.first()?;
    let [channels, n] = output.shape[..] else { return None };
    let classes = channels.checked_sub(4 + masks::count(outputs)).filter(|c| *c > 0)?;
    if channels * n != output.data.len() {
        return None;
    }
    let at = |channel: usize, i: usize| output.data[channel * n + i];
    let one = |i: usize| {
        let (class, probability) = best((0..classes).map(|c| at(4 + c, i)))?;
        (probability >= score).then(|| Found {
            coefficients: (4 + classes..channels).map(|c| at(c, i)).collect(),
            ..Found::of(class, probability, centred(at(0, i), at(1, i), at(2, i), at(3, i)))
        })
    };
    Some((0..n).filter_map(one).collect())
}

pub fn end2end(outputs: &[Output], score: f32) -> Option<Vec<Found>> {
    let (data, columns) = table(outputs.first()?, Some(6 + masks::count(outputs)))?;
    let one = |row: &[f32]| {
        // Some exports fill up with rows of -1.
        (row[4] >= score && row[5] >= 0.0).then(|| Found {
            coefficients: row[6..].to_vec(),
            ..Found::of(class(row[5]), row[4], [row[0], row[1], row[2], row[3]])
        })
    };
    Some(data.chunks_exact(columns).filter_map(one).collect())
}

pub fn ssd(outputs: &[Output], (w, h): (u32, u32), score: f32) -> Option<Vec<Found>> {
    let (scores, classes) = rows(outputs, "scores", None)?;
    let (boxes, _) = rows(outputs, "boxes", Some(4))?;
    if classes < 2 || scores.len() / classes != boxes.len() / 4 {
        return None;
    }
    let (w, h) = (w as f32, h as f32);
    let mut found = Vec::new();
    for (row, b) in scores.chunks_exact(classes).zip(boxes.chunks_exact(4)) {
        // Each class by itself, as the reference does it: one prior may hold two.
        for (class, probability) in row[1..].iter().enumerate().filter(|(_, p)| **p >= score) {
            let bounds = [b[0] * w, b[1] * h, b[2] * w, b[3] * h];
            found.push(Found::of(class, *probability, bounds));
        }
    }
    Some(found)
}

pub fn detr(outputs: &[Output], size: (u32, u32), score: f32) -> Option<Vec<Found>> {
    let (logits, classes) = rows(outputs, "logits", None)?;
    let (boxes, _) = rows(outputs, "boxes", Some(4))?;
    if classes < 2 || logits.len() / classes != boxes.len() / 4 {
        return None;
    }
    let one = |(row, b): (&[f32], &[f32])| {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = row.iter().map(|v| libm::expf(v - top)).sum();
        let (class, logit) = best(row[..classes - 1].iter().copied())?;
        let probability = libm::expf(logit - top) / sum;
        let bounds = || scaled(b, size);
        (probability >= score).then(|| Found::of(class, probability, bounds()))
    };
    Some(logits.chunks_exact(classes).zip(boxes.chunks_exact(4)).filter_map(one).collect())
}

pub fn rtdetr(outputs: &[Output], size: (u32, u32), score: f32) -> Option<Vec<Found>> {
    let one = |probabilities: &mut dyn Iterator<Item = f32>, b: &[f32]| {
        let (class, probability) = best(probabilities)?;
        let bounds = || scaled(b, size);
        (probability >= score).then(|| Found::of(class, probability, bounds()))
    };
    if let [output] = outputs {
        let (data, columns) = table(output, None).filter(|(_, c)| *c > 4)?;
        return Some(
            data.chunks_exact(columns).filter_map(|row| one(&mut row[4..].iter().copied(), &row[..4])).collect(),
        );
    }
    let (logits, classes) = rows(outputs, "logits", None)?;
    let (boxes, _) = rows(outputs, "boxes", Some(4))?;
    if logits.len() / classes != boxes.len() / 4 {
        return None;
    }
    let pairs = logits.chunks_exact(classes).zip(boxes.chunks_exact(4));
    Some(pairs.filter_map(|(row, b)| one(&mut row.iter().map(|v| sigmoid(*v)), b)).collect())
}

pub fn tf_ssd(outputs: &[Output], (w, h): (u32, u32), score: f32) -> Option<Vec<Found>> {
    let part = |name: &str| outputs.iter().find(|o| o.name.to_ascii_lowercase().contains(name));
    let (boxes, classes) = (part("detection_boxes")?, part("detection_classes")?);
    let (scores, count) = (part("detection_scores")?, part("num_detections"));
    let n = scores.data.len();
    if boxes.data.len() != 4 * n || classes.data.len() != n {
        return None;
    }
    let count = count.and_then(|o| o.data.first()).map_or(n, |c| (*c as usize).min(n));
    let (w, h) = (w as f32, h as f32);
    let one = |i: usize| {
        let b = &boxes.data[4 * i..4 * i + 4];
        (scores.data[i] >= score && classes.data[i] >= 0.0)
            .then(|| Found::of(class(classes.data[i]), scores.data[i], [b[1] * w, b[0] * h, b[3] * w, b[2] * h]))
    };
    Some((0..count).filter_map(one).collect())
}
