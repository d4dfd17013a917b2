//! Weights of a Gaussian blur along one axis.

use super::fixed;

/// Bits of a weight's fraction: the weights sum to `1 << FRACTION`.
pub const FRACTION: u32 = 16;
/// Bits of fraction that values keep between the passes. With [`FRACTION`] the largest sum of the second pass is
/// 255 * 2^7 * 2^16, and half a unit of its shift by 23 bits, 2^22, still fits below 2^31.
pub const BETWEEN: u32 = 7;

/// torchvision's weights, exp(-d^2 / (2 sigma^2)) of the distance d from the middle, for an odd number of pixels.
///
/// Rounded in pairs from the outside in, what was rounded away carried on, and the middle takes the rest: so they are
/// symmetric, sum exactly, and each lies within one unit of its true value.
pub fn gaussian(kernel: u32, sigma: f64) -> Vec<i32> {
    let half = kernel / 2;
    let weight = |distance: u32| {
        let x = f64::from(distance) / sigma;
        libm::exp(-0.5 * x * x)
    };
    let sum = 1.0 + 2.0 * (1..=half).map(weight).sum::<f64>();
    let (mut reached, mut given) = (0.0, 0);
    let mut weights = Vec::with_capacity(kernel as usize);
    for distance in (1..=half).rev() {
        reached += weight(distance) / sum;
        let all = fixed(reached, FRACTION);
        weights.push(all - given);
        given = all;
    }
    let outer: Vec<i32> = weights.iter().rev().copied().collect();
    weights.push((1 << FRACTION) - 2 * given);
    weights.extend(outer);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn weights_sum_exactly_and_are_close(half in 0u32..128, sigma in 0.01f64..100.0) {
            let kernel = 2 * half + 1;
            let weights = gaussian(kernel, sigma);
            prop_assert_eq!(weights.len(), kernel as usize);
            prop_assert_eq!(weights.iter().sum::<i32>(), 1 << FRACTION);
            let lim = f64::from(kernel - 1) / 2.0;
            let real: Vec<f64> = (0..kernel).map(|i| (-((f64::from(i) - lim) / sigma).powi(2) / 2.0).exp()).collect();
            let sum: f64 = real.iter().sum();
            for (i, (own, real)) in weights.iter().zip(&real).enumerate() {
                prop_assert!(*own >= 0 && *own == weights[weights.len() - 1 - i]);
                let error = f64::from(*own) - real / sum * 65536.0;
                prop_assert!(error.abs() <= 1.0 + 1e-6, "weight {} of {}: {} off", i, kernel, error);
            }
        }
    }

    #[test]
    fn the_second_pass_fits() {
        let most: i64 = (255 << BETWEEN << FRACTION) + (1 << (BETWEEN + FRACTION - 1));
        assert!(most <= i64::from(i32::MAX));
    }
}
