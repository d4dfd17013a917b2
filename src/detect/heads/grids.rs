//! Heads whose boxes are told beside the cells of a grid.

use super::{BINS, Found, Output, STRIDES, best, cells, centred, grid, rows, scaled, sigmoid, table};

pub fn yolox(outputs: &[Output], size: (u32, u32), score: f32) -> Option<Vec<Found>> {
    let (data, columns) = table(outputs.first()?, None)?;
    if columns < 6 || (data.len() / columns) as i64 != cells(size, &STRIDES) {
        return None;
    }
    let one = |(row, (x, y, s)): (&[f32], (f32, f32, f32))| {
        let (class, probability) = best(row[5..].iter().copied())?;
        let score_here = row[4] * probability;
        (score_here >= score).then(|| {
            let (w, h) = (libm::expf(row[2]) * s, libm::expf(row[3]) * s);
            let bounds = centred((row[0] + x) * s, (row[1] + y) * s, w, h);
            Found::of(class, score_here, bounds)
        })
    };
    Some(data.chunks_exact(columns).zip(grid(size, &STRIDES)).filter_map(one).collect())
}

/// Mean of the distribution whose logits these are, in strides.
fn expectation(logits: &[f32]) -> f32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut mean) = (0.0, 0.0);
    for (i, logit) in logits.iter().enumerate() {
        let weight = libm::expf(logit - top);
        sum += weight;
        mean += weight * i as f32;
    }
    mean / sum
}

fn distances(row: &[f32], cx: f32, cy: f32, s: f32) -> [f32; 4] {
    let d = |side: usize| expectation(&row[side * BINS..(side + 1) * BINS]) * s;
    [cx - d(0), cy - d(1), cx + d(2), cy + d(3)]
}

pub fn nanodet(outputs: &[Output], size: (u32, u32), score: f32) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    for s in STRIDES {
        let (scores, classes) = rows(outputs, &format!("cls_pred_stride_{s}"), None)?;
        let (boxes, columns) = rows(outputs, &format!("dis_pred_stride_{s}"), Some(4 * BINS))?;
        if scores.len() / classes != boxes.len() / columns || (boxes.len() / columns) as i64 != cells(size, &[s]) {
            return None;
        }
        for ((row, dist), (x, y, s)) in
            scores.chunks_exact(classes).zip(boxes.chunks_exact(columns)).zip(grid(size, &[s]))
        {
            let Some((class, probability)) = best(row.iter().copied()).filter(|(_, p)| *p >= score) else { continue };
            let half = (s - 1.0) / 2.0;
            let bounds = distances(dist, x * s + half, y * s + half, s);
            found.push(Found::of(class, probability, bounds));
        }
    }
    Some(found)
}

pub fn nanodet_plus(outputs: &[Output], size: (u32, u32), score: f32) -> Option<Vec<Found>> {
    const ALL: [u32; 4] = [8, 16, 32, 64];
    let (data, columns) = table(outputs.first()?, None)?;
    let classes = columns.checked_sub(4 * BINS).filter(|c| *c > 0)?;
    if (data.len() / columns) as i64 != cells(size, &ALL) {
        return None;
    }
    let one = |(row, (x, y, s)): (&[f32], (f32, f32, f32))| {
        let (class, probability) = best(row[..classes].iter().copied())?;
        let bounds = || distances(&row[classes..], x * s, y * s, s);
        (probability >= score).then(|| Found::of(class, probability, bounds()))
    };
    Some(data.chunks_exact(columns).zip(grid(size, &ALL)).filter_map(one).collect())
}

pub fn yunet(outputs: &[Output], size: (u32, u32), score: f32) -> Option<Vec<Found>> {
    let mut found = Vec::new();
    for s in STRIDES {
        let part = |name: &str, columns: usize| rows(outputs, &format!("{name}_{s}"), Some(columns)).map(|r| r.0);
        let (cls, obj, boxes, points) = (part("cls", 1)?, part("obj", 1)?, part("bbox", 4)?, part("kps", 10)?);
        if [obj.len(), boxes.len() / 4, points.len() / 10, cells(size, &[s]) as usize].iter().any(|n| *n != cls.len()) {
            return None;
        }
        for (i, (x, y, s)) in grid(size, &[s]).enumerate() {
            let score_here = (cls[i].clamp(0.0, 1.0) * obj[i].clamp(0.0, 1.0)).sqrt();
            if score_here < score {
                continue;
            }
            let (b, k, px, py) = (&boxes[4 * i..4 * i + 4], &points[10 * i..10 * i + 10], x * s, y * s);
            let bounds = centred(b[0] * s + px, b[1] * s + py, libm::expf(b[2]) * s, libm::expf(b[3]) * s);
            let points = k.chunks_exact(2).map(|p| [p[0] * s + px, p[1] * s + py]).collect();
            found.push(Found { points, ..Found::of(0, score_here, bounds) });
        }
    }
    Some(found)
}

pub fn fastestdet(outputs: &[Output], (w, h): (u32, u32), score: f32) -> Option<Vec<Found>> {
    let output = outputs.first()?;
    let [channels, rows, columns] = output.shape[..] else { return None };
    if channels < 6 || channels * rows * columns != output.data.len() {
        return None;
    }
    let at = |channel: usize, i: usize| output.data[channel * rows * columns + i];
    let one = |i: usize| {
        let (class, probability) = best((5..channels).map(|c| at(c, i)))?;
        // The reference weighs the two so.
        let score_here = libm::powf(at(0, i).max(0.0), 0.6) * libm::powf(probability.max(0.0), 0.4);
        (score_here >= score).then(|| {
            let cx = ((i % columns) as f32 + libm::tanhf(at(1, i))) / columns as f32;
            let cy = ((i / columns) as f32 + libm::tanhf(at(2, i))) / rows as f32;
            let bounds = scaled(&[cx, cy, sigmoid(at(3, i)), sigmoid(at(4, i))], (w, h));
            Found::of(class, score_here, bounds)
        })
    };
    Some((0..rows * columns).filter_map(one).collect())
}
