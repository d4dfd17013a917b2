//! Masks from prototypes, as Ultralytics' segmentation heads give them (after YOLACT): a mask is the sum of the picture's
//! prototypes, each times the object's coefficient for it, and is there where that is above 0.

use super::{Found, Output};

/// The part of an object's mask around its box, as values at the centres of cells; above 0 is the object.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// Column and row of the first cell.
    first: (usize, usize),
    /// Columns and rows.
    size: (usize, usize),
    /// Width and height of a cell in pixels of the model's input.
    cell: (f32, f32),
    values: Vec<f32>,
}

impl Patch {
    /// Whether a point of the model's input belongs to the object: the values around it are weighed linearly, as
    /// Ultralytics' `process_mask_native` scales its masks.
    pub fn has(&self, x: f32, y: f32) -> bool {
        let axis = |v: f32, cell: f32, first: usize, count: usize| {
            let at = (v / cell - 0.5 - first as f32).clamp(0.0, (count - 1) as f32);
            let low = (at as usize).min(count - 1);
            (low, (low + 1).min(count - 1), at - low as f32)
        };
        let (left, right, fx) = axis(x, self.cell.0, self.first.0, self.size.0);
        let (top, bottom, fy) = axis(y, self.cell.1, self.first.1, self.size.1);
        let value = |x: usize, y: usize| self.values[y * self.size.0 + x];
        let row = |y: usize| value(left, y) * (1.0 - fx) + value(right, y) * fx;
        row(top) * (1.0 - fy) + row(bottom) * fy > 0.0
    }
}

/// How many prototypes stand behind the objects in a second output: `[M, h, w]`.
pub fn count(outputs: &[Output]) -> usize {
    prototypes(outputs).map_or(0, |o| o.shape[0])
}

fn prototypes(outputs: &[Output]) -> Option<&Output> {
    outputs
        .get(1)
        .filter(|o| o.shape.len() == 3 && o.data.len() == o.shape.iter().product::<usize>() && !o.data.is_empty())
}

/// Gives objects with coefficients their masks.
pub fn attach(found: &mut [Found], outputs: &[Output], size: (u32, u32)) {
    let Some(prototypes) = prototypes(outputs) else { return };
    let [_, h, w] = prototypes.shape[..] else { return };
    let cell = (size.0 as f32 / w as f32, size.1 as f32 / h as f32);
    for one in found.iter_mut().filter(|f| f.coefficients.len() == prototypes.shape[0]) {
        let span = |lo: f32, hi: f32, cell: f32, count: usize| {
            let last = (count - 1) as f32;
            let first = (lo / cell - 0.5).floor().clamp(0.0, last) as usize;
            (first, (hi / cell - 0.5).ceil().clamp(first as f32, last) as usize + 1 - first)
        };
        let [x1, y1, x2, y2] = one.bounds;
        let ((x, columns), (y, rows)) = (span(x1, x2, cell.0, w), span(y1, y2, cell.1, h));
        let mut values = vec![0.0; columns * rows];
        for (coefficient, plane) in one.coefficients.iter().zip(prototypes.data.chunks_exact(w * h)) {
            for (row, into) in values.chunks_exact_mut(columns).enumerate() {
                let from = &plane[(y + row) * w + x..][..columns];
                into.iter_mut().zip(from).for_each(|(sum, value)| *sum += coefficient * value);
            }
        }
        one.mask = Some(Patch { first: (x, y), size: (columns, rows), cell, values });
    }
}
