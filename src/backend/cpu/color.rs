//! Blends and turns of hue, pixel by pixel.

use super::picture::{Picture, luma};
use crate::program::Base;

/// 1 in the fixed point of factors and shifts.
const ONE: i32 = 1 << 16;
const HALF: i32 = ONE / 2;

fn mix(value: i16, factor: i32, bias: i32) -> i16 {
    ((factor * i32::from(value) + bias + HALF) >> 16).clamp(0, 255) as i16
}

/// Draws values to or away from `base`; for [`Base::Mean`] the picture must be whole.
pub fn blend(picture: &mut Picture, factor: i32, base: Base) {
    let rest = ONE - factor;
    let bias = match base {
        Base::Black => 0,
        Base::Mean => {
            let mean = mean(picture);
            // In two parts of 8 bits, since both together would not fit.
            rest * (mean >> 8) + ((rest * (mean & 255) + 128) >> 8)
        }
        Base::Luma => return blend_luma(picture, factor),
    };
    for y in 0..picture.h {
        for value in picture.rows_mut(y).into_iter().flatten() {
            *value = mix(*value, factor, bias);
        }
    }
}

fn blend_luma(picture: &mut Picture, factor: i32) {
    for y in 0..picture.h {
        let [r, g, b] = picture.rows_mut(y);
        for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
            let bias = (ONE - factor) * i32::from(luma(*r, *g, *b));
            [*r, *g, *b] = [*r, *g, *b].map(|value| mix(value, factor, bias));
        }
    }
}

/// Mean luma with 8 bits of fraction, rounded.
fn mean(picture: &Picture) -> i32 {
    let row_sum = |y: usize| -> u64 {
        let [r, g, b] = [0, 1, 2].map(|channel| picture.row(channel, y));
        r.iter().zip(g).zip(b).map(|((r, g), b)| luma(*r, *g, *b) as u64).sum()
    };
    let sum: u64 = (0..picture.h).map(row_sum).sum();
    let count = (picture.w * picture.h) as u64;
    ((sum * 256 + count / 2) / count) as i32
}

/// Turns hues by `shift` sixths of the circle.
///
/// With d the largest channel less the smallest, hue times d is a whole number from 0 to 6d, so that nothing has to be
/// divided: all is done at d times its scale.
pub fn turn_hue(picture: &mut Picture, shift: i32) {
    for y in 0..picture.h {
        let [r, g, b] = picture.rows_mut(y);
        for ((r, g), b) in r.iter_mut().zip(g).zip(b) {
            let rgb = [*r, *g, *b].map(i32::from);
            [*r, *g, *b] = turned(rgb, shift).map(|v| v as i16);
        }
    }
}

fn turned([r, g, b]: [i32; 3], shift: i32) -> [i32; 3] {
    let most = r.max(g).max(b);
    let d = most - r.min(g).min(b);
    let mut hue = if most == r {
        g - b
    } else if most == g {
        2 * d + b - r
    } else {
        4 * d + r - g
    };
    if hue < 0 {
        hue += 6 * d;
    }
    let circle = 6 * d * ONE;
    let within = |at: i32| if at >= circle { at - circle } else { at };
    let hue = within(hue * ONE + shift * d);
    // How far a channel lies below the largest, by its distance from where it is the smallest.
    [5, 3, 1].map(|n| {
        let at = within(hue + n * d * ONE);
        let below = at.min(4 * d * ONE - at).clamp(0, d * ONE);
        (most * ONE - below + HALF) >> 16
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::MAX_FACTOR;

    #[test]
    fn blends_fit_and_clamp() {
        let strongest = (MAX_FACTOR as i32) * ONE;
        for factor in [0, 1, ONE / 2, ONE, ONE + 1, strongest] {
            let rest = i64::from(ONE - factor);
            let (f, h) = (i64::from(factor), i64::from(HALF));
            for base in [0i64, 127 * 256 + 255, 65_280] {
                let bias = rest * (base >> 8) + ((rest * (base & 255) + 128) >> 8);
                for value in [0i64, 1, 255] {
                    let sum = f * value + bias;
                    assert!([f * value + h, rest * 255, bias, sum, sum + h].iter().all(|v| i32::try_from(*v).is_ok()));
                }
            }
        }
        assert_eq!([0, 100, 200].map(|v| mix(v, ONE + HALF, 0)), [0, 150, 255]);
        assert_eq!(mix(100, strongest, (ONE - strongest) * 255), 0);
    }

    #[test]
    fn the_mean_is_exact() {
        let mut picture = Picture::new(3, 1);
        for plane in &mut picture.planes {
            plane[..3].copy_from_slice(&[10, 20, 21]);
        }
        // 17 exactly, and the padding behind the row does not count.
        assert_eq!(mean(&picture), 17 * 256);
        blend(&mut picture, 0, Base::Mean);
        assert_eq!(picture.row(1, 0), [17, 17, 17]);
    }

    #[test]
    fn hue_turns_all_the_way_round() {
        let colors = (0..4096).map(|i| [i % 16 * 17, i / 16 % 16 * 17, i / 256 * 17]);
        for [r, g, b] in colors {
            assert_eq!(turned([r, g, b], 0), [r, g, b]);
            // Thirds of the circle exchange the channels.
            assert_eq!(turned([r, g, b], 2 * ONE), [b, r, g]);
            assert_eq!(turned([r, g, b], 4 * ONE), [g, b, r]);
            let near = turned(turned([r, g, b], ONE), 5 * ONE);
            assert_eq!(near, [r, g, b], "a sixth and five sixths");
        }
        assert_eq!(turned([255, 0, 0], ONE / 2), [255, 128, 0]);
    }
}
