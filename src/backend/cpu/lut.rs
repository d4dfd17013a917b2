//! Colours through tables.

use super::picture::Picture;
use crate::program::lut::{Cube, FRACTION, NODE_FRACTION};

/// Each channel through its own table.
pub fn table(picture: &mut Picture, tables: &[[u8; 256]; 3]) {
    for y in 0..picture.h {
        for (row, table) in picture.rows_mut(y).into_iter().zip(tables) {
            for value in row {
                *value = table[*value as usize].into();
            }
        }
    }
}

/// Each pixel through the cube.
pub fn cube(picture: &mut Picture, cube: &Cube) {
    for y in 0..picture.h {
        row(cube, picture.rows_mut(y));
    }
}

/// Codes through the cube.
pub fn row(cube: &Cube, [r, g, b]: [&mut [i16]; 3]) {
    for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
        [*r, *g, *b] = color(cube, [*r as usize, *g as usize, *b as usize]);
    }
}

/// Tetrahedral interpolation: from the cell's first node along the axis of the largest fraction, then of the middle one,
/// then of the smallest.
fn color(cube: &Cube, codes: [usize; 3]) -> [i16; 3] {
    const ONE: i32 = 1 << FRACTION;
    const SHIFT: u32 = FRACTION + NODE_FRACTION;
    let (mut at, mut stride) = (0, 1);
    let mut axes = [(0, 0); 3];
    for ((axis, positions), code) in axes.iter_mut().zip(&cube.positions).zip(codes) {
        let (cell, fraction) = ((positions[code] >> FRACTION) as usize, positions[code] & (ONE - 1));
        // On the last node nothing lies behind, and its fraction is 0.
        *axis = (fraction, if cell + 1 < cube.size { stride } else { 0 });
        at += cell * stride;
        stride *= cube.size;
    }
    let order = |axes: &mut [(i32, usize); 3], a: usize, b: usize| {
        if axes[a].0 < axes[b].0 {
            axes.swap(a, b);
        }
    };
    order(&mut axes, 0, 1);
    order(&mut axes, 1, 2);
    order(&mut axes, 0, 1);
    let [(first, a), (second, b), (third, c)] = axes;
    let weights = [ONE - first, first - second, second - third, third];
    let nodes = [at, at + a, at + a + b, at + a + b + c].map(|i| cube.nodes[i]);
    [0, 1, 2].map(|channel| {
        let sum: i32 = nodes.iter().zip(weights).map(|(node, weight)| node[channel] * weight).sum();
        ((sum + (1 << (SHIFT - 1))) >> SHIFT).clamp(0, 255) as i16
    })
}
