//! Steps that need no neighbours, as actions on one pixel: a kernel walks them from the last to the first to find where
//! its pixel comes from, and from there back to the last to colour it.

use crate::op::FlipAxis;
use crate::program::Step;
use crate::program::params::{Action, GRAYSCALE, MOVE};
use crate::program::window::Window;

/// No bound: every position is inside.
const ANYWHERE: i32 = i32::MAX;

/// Appends what `step` does, on a picture of `w` x `h`; joins moves where they can be. `begun` is where the chain begins.
///
/// Panics: never; a step that needs neighbours is no part of a chain and adds nothing.
pub fn push(actions: &mut Vec<Action>, begun: usize, step: &Step, (w, h): (u32, u32)) {
    let (w, h) = (w as i32, h as i32);
    let moved = |x, y| Action { kind: MOVE, x, y, width: ANYWHERE, height: ANYWHERE, fill: 0 };
    let action = match step {
        Step::Crop { x, y } => moved([1, 0, *x as i32], [0, 1, *y as i32]),
        Step::Pad { x, y, fill: [r, g, b] } => Action {
            width: w,
            height: h,
            fill: u32::from_le_bytes([*r, *g, *b, 0]),
            ..moved([1, 0, -(*x as i32)], [0, 1, -(*y as i32)])
        },
        Step::Flip(FlipAxis::H) => moved([-1, 0, w - 1], [0, 1, 0]),
        Step::Flip(FlipAxis::V) => moved([1, 0, 0], [0, -1, h - 1]),
        Step::Turn(1) => moved([0, 1, 0], [-1, 0, h - 1]),
        Step::Turn(2) => moved([-1, 0, w - 1], [0, -1, h - 1]),
        Step::Turn(_) => moved([0, -1, w - 1], [1, 0, 0]),
        Step::Grayscale => Action { kind: GRAYSCALE, ..Action::default() },
        Step::Resize { .. } => return,
    };
    match actions[begun..].last_mut() {
        Some(before) if before.kind == MOVE && action.kind == MOVE && action.width == ANYWHERE => {
            *before = Action { x: after(before.x, &action), y: after(before.y, &action), ..*before };
        }
        _ => actions.push(action),
    }
}

/// A row of the map that first applies `later`'s.
fn after([a, b, c]: [i32; 3], later: &Action) -> [i32; 3] {
    let ([g, h, i], [j, k, l]) = (later.x, later.y);
    [a * g + b * j, a * h + b * k, a * i + b * l + c]
}

/// The window of the picture before `step`, of `w` x `h`, that `window` behind it needs.
pub fn reads(step: &Step, window: Window, (w, h): (u32, u32), size: (u32, u32)) -> Window {
    let (w, h) = (w as usize, h as usize);
    match step {
        Step::Crop { x, y } => Window { x: window.x + *x as usize, y: window.y + *y as usize, ..window },
        Step::Pad { x, y, .. } => {
            let (x, y) = (*x as usize, *y as usize);
            match window.overlap(Window { x, y, w, h }) {
                Some(inner) => Window { x: inner.x - x, y: inner.y - y, ..inner },
                // All of it is fill: one pixel stands for what nobody reads.
                None => Window { x: 0, y: 0, w: 1, h: 1 },
            }
        }
        Step::Flip(axis) => window.flipped(*axis, size.0 as usize, size.1 as usize),
        Step::Turn(turns) => window.turned_back(*turns, w, h),
        Step::Grayscale | Step::Resize { .. } => window,
    }
}
