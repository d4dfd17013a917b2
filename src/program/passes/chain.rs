//! Steps that need no neighbours, as actions on one pixel: a kernel walks them from the last to the first to find where
//! its pixel comes from, and from there back to the last to colour it.

use crate::error::{Error, RejectKind, Result};
use crate::op::FlipAxis;
use crate::program::params::{
    Action, BLEND_BLACK, BLEND_LUMA, BLEND_MEAN, CUBE, ERASE, GRAYSCALE, HUE, MOVE, TABLE, word,
};
use crate::program::passes::tables::Tables;
use crate::program::window::Window;
use crate::program::{Base, Step};

/// No bound: every position is inside.
const ANYWHERE: i32 = i32::MAX;

/// Most pixels of a picture whose mean is taken: the sum of their luma fits 32 bits.
const SUMMED: u64 = u32::MAX as u64 / 255;

/// A colour as a word.
pub fn packed([r, g, b]: [u8; 3]) -> u32 {
    u32::from_le_bytes([r, g, b, 0])
}

/// Appends what `step` does, on a picture of `w` x `h`; joins moves where they can be. `begun` is where the chain begins,
/// `sums` is how many means were taken before. A step that needs neighbours is no part of a chain and adds nothing.
///
/// Errors: `device_unsupported` for a mean over too many pixels.
pub fn push(
    actions: &mut Vec<Action>,
    begun: usize,
    step: &Step,
    (w, h): (u32, u32),
    tables: &mut Tables,
    sums: &mut usize,
) -> Result<()> {
    let pixels = u64::from(w) * u64::from(h);
    let (w, h) = (w as i32, h as i32);
    let colored = |kind, amount| Action { kind, amount, ..Action::default() };
    let moved = |x, y| Action { kind: MOVE, x, y, width: ANYWHERE, height: ANYWHERE, ..Action::default() };
    let action = match step {
        Step::Crop { x, y } => moved([1, 0, *x as i32], [0, 1, *y as i32]),
        Step::Pad { x, y, fill } => {
            Action { width: w, height: h, fill: packed(*fill), ..moved([1, 0, -(*x as i32)], [0, 1, -(*y as i32)]) }
        }
        Step::Flip(FlipAxis::H) => moved([-1, 0, w - 1], [0, 1, 0]),
        Step::Flip(FlipAxis::V) => moved([1, 0, 0], [0, -1, h - 1]),
        Step::Turn(1) => moved([0, 1, 0], [-1, 0, h - 1]),
        Step::Turn(2) => moved([-1, 0, w - 1], [0, -1, h - 1]),
        Step::Turn(_) => moved([0, -1, w - 1], [1, 0, 0]),
        Step::Erase { x, y, w, h, fill } => Action {
            kind: ERASE,
            x: [0, 0, *x as i32],
            y: [0, 0, *y as i32],
            width: *w as i32,
            height: *h as i32,
            fill: packed(*fill),
            ..Action::default()
        },
        Step::Grayscale => colored(GRAYSCALE, 0),
        Step::Blend { factor, base: Base::Black } => colored(BLEND_BLACK, *factor),
        Step::Blend { factor, base: Base::Luma } => colored(BLEND_LUMA, *factor),
        Step::Blend { factor, base: Base::Mean } => {
            if pixels > SUMMED {
                let text = format!("the mean of {pixels} pixels; a device takes {SUMMED}");
                return Err(Error::input(RejectKind::DeviceUnsupported, text));
            }
            *sums += 1;
            Action { table: word(*sums - 1), size: pixels as u32, ..colored(BLEND_MEAN, *factor) }
        }
        Step::Hue { shift } => colored(HUE, *shift),
        Step::Table(table) => Action { table: tables.table(table), ..colored(TABLE, 0) },
        Step::Cube(cube) => Action { table: tables.cube(cube), size: word(cube.size), ..colored(CUBE, 0) },
        Step::Resize { .. } | Step::Blur { .. } | Step::Affine { .. } => return Ok(()),
    };
    match actions[begun..].last_mut() {
        Some(before) if before.kind == MOVE && action.kind == MOVE && action.width == ANYWHERE => {
            *before = Action { x: after(before.x, &action), y: after(before.y, &action), ..*before };
        }
        _ => actions.push(action),
    }
    Ok(())
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
        Step::Blend { base: Base::Mean, .. } => Window { x: 0, y: 0, w, h },
        _ => window,
    }
}
