//! Medians and their intervals, by order statistics.
//!
//! The interval of a median of n rounds is [x(k), x(n+1-k)] of the sorted values. How often such an interval holds the
//! true median is exact, whatever the distribution: 1 - 2 P(B < k) for B binomial with n and 1/2 (David and Nagaraja, Order
//! Statistics, 7.1). k is the largest that gives at least 95 %; below six rounds none does, and the interval is the whole
//! range with what that covers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What intervals aim to cover.
pub const COVERAGE: f64 = 0.95;
/// Intervals that cover less than this are told, but decide nothing: fewer than five rounds.
pub const DECISIVE: f64 = 0.93;

/// How the numbers are reckoned, in words, for reports.
pub const METHOD: &str = "medians of rounds; intervals by order statistics (exact binomial coverage, 95% where there are \
    six rounds or more, else the range with the coverage that it has)";

/// A median with its interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// The middle of the rounds.
    pub median: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// How often an interval made this way holds the true median.
    pub coverage: f64,
    /// What was measured, round by round.
    pub rounds: Vec<f64>,
}

/// Of how many of `n` fair coins fewer than `k` show heads, as a probability.
fn below(n: usize, k: usize) -> f64 {
    let mut term = 0.5f64.powi(n as i32);
    let mut sum = 0.0;
    for i in 0..k {
        sum += term;
        term *= (n - i) as f64 / (i + 1) as f64;
    }
    sum
}

impl Estimate {
    /// The estimate of these rounds; none where there is no round.
    pub fn of(rounds: Vec<f64>) -> Option<Estimate> {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let median = match n {
            0 => return None,
            n if n % 2 == 1 => sorted[n / 2],
            n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
        };
        let covers = |k: usize| 1.0 - 2.0 * below(n, k);
        let k = (1..=n / 2).rev().find(|k| covers(*k) >= COVERAGE).unwrap_or(1);
        let coverage = if n == 1 { 0.0 } else { covers(k) };
        Some(Estimate { median, low: sorted[k - 1], high: sorted[n - k], coverage, rounds })
    }

    /// Half the interval over the median.
    pub fn spread(&self) -> f64 {
        (self.high - self.low) / 2.0 / self.median.abs().max(f64::MIN_POSITIVE)
    }

    /// The same in another unit: each value becomes `unit` of it, which must keep or reverse their order.
    pub fn map(&self, unit: impl Fn(f64) -> f64) -> Estimate {
        let (a, b) = (unit(self.low), unit(self.high));
        let rounds = self.rounds.iter().map(|x| unit(*x)).collect();
        Estimate { median: unit(self.median), low: a.min(b), high: a.max(b), coverage: self.coverage, rounds }
    }

    /// Whether its interval may decide anything.
    pub fn decisive(&self) -> bool {
        self.coverage >= DECISIVE
    }

    /// Whether two medians are told apart: neither interval reaches into the other.
    pub fn apart(&self, other: &Estimate) -> bool {
        self.decisive() && other.decisive() && (self.low > other.high || other.low > self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_the_narrowest_that_cover_enough() {
        // k, and the sum of the first k binomial coefficients of n, reckoned by hand: 1 + 20 + 190 + ... for the last.
        for (n, k, sum) in [(6, 1, 1), (8, 1, 1), (9, 2, 10), (10, 2, 11), (15, 4, 576), (20, 6, 21_700)] {
            let e = Estimate::of((1..=n).map(f64::from).rev().collect()).unwrap();
            assert_eq!((e.low, e.high), (f64::from(k), f64::from(n + 1 - k)), "{n}");
            let coverage = 1.0 - 2.0 * f64::from(sum) / 2f64.powi(n);
            assert!(coverage >= COVERAGE && (e.coverage - coverage).abs() < 1e-12, "{n}: {}", e.coverage);
            let next = f64::from(sum) + (0..k).fold(1.0, |c, i| c * f64::from(n - i) / f64::from(i + 1));
            assert!(1.0 - 2.0 * next / 2f64.powi(n) < COVERAGE, "a narrower one would not do");
        }
    }

    #[test]
    fn few_rounds_say_what_they_cover() {
        let e = Estimate::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((e.median, e.low, e.high, e.coverage), (2.0, 1.0, 3.0, 0.75));
        assert!(!e.decisive());
        assert_eq!(Estimate::of(vec![5.0]).unwrap().coverage, 0.0);
        assert_eq!(Estimate::of(Vec::new()), None);
        assert!(Estimate::of(vec![1.0, 2.0, 3.0, 4.0, 5.0]).unwrap().decisive());
    }

    #[test]
    fn only_intervals_that_separate_tell_medians_apart() {
        let of = |from: f64| Estimate::of((0..6).map(|i| from + f64::from(i)).collect()).unwrap();
        assert!(of(0.0).apart(&of(6.0)) && of(6.0).apart(&of(0.0)));
        assert!(!of(0.0).apart(&of(5.0)), "they touch");
        let few = Estimate::of(vec![100.0, 101.0]).unwrap();
        assert!(!few.apart(&of(0.0)), "two rounds decide nothing");
        let slower = of(2.0).map(|x| 1.0 / x);
        assert!(slower.low < slower.median && slower.median < slower.high);
    }
}
