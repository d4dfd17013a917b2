//! [`Rational`]: exact times, durations and rates in seconds. No float takes part in choosing a frame, so every machine
//! chooses the same ones.
//!
//! Invariants: the fraction is reduced, `0 < den <= 2^31` and `|num| <= 2^62`. With 64-bit timestamps and 32-bit time
//! bases the products that frame selection needs then fit `i128` (the bounds stand beside each product).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

/// Largest denominator: nanoseconds and every 32-bit time base fit.
const MAX_DEN: i128 = 1 << 31;
/// Largest numerator: Unix time in nanoseconds fits.
const MAX_NUM: i128 = 1 << 62;

/// A time, duration (seconds) or rate (1/s) as a reduced fraction. In job files it is text as on the command line
/// (`1:30`, `500ms`, `30000/1001`) or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rational {
    num: i64,
    den: i64,
}

impl Rational {
    /// No time at all.
    pub const ZERO: Rational = Rational { num: 0, den: 1 };

    /// `num / den` reduced; `None` where `den` is 0 or the fraction is beyond the bounds of this type.
    pub fn new(num: i64, den: i64) -> Option<Rational> {
        Self::reduced(num.into(), den.into())
    }

    /// A whole number of seconds.
    pub const fn seconds(seconds: i32) -> Rational {
        Rational { num: seconds as i64, den: 1 }
    }

    /// The time since the stream's start of the timestamp `pts`; `None` where the time base is not positive or the
    /// time is beyond the bounds of this type.
    pub fn of_pts(pts: i64, t0_pts: i64, time_base: (i32, i32)) -> Option<Rational> {
        let (num, den) = time_base;
        if num <= 0 || den <= 0 {
            return None;
        }
        Self::reduced((i128::from(pts) - i128::from(t0_pts)) * i128::from(num), den.into())
    }

    /// `num / den` reduced; `None` where it is beyond the bounds.
    pub(super) fn reduced(num: i128, den: i128) -> Option<Rational> {
        if den == 0 {
            return None;
        }
        let common = gcd(num, den) * den.signum();
        let (num, den) = (num / common, den / common);
        (den <= MAX_DEN && num.abs() <= MAX_NUM).then_some(Rational { num: num as i64, den: den as i64 })
    }

    /// The numerator; it carries the sign.
    pub fn num(self) -> i64 {
        self.num
    }

    /// The denominator, positive.
    pub fn den(self) -> i64 {
        self.den
    }

    /// The sum; `None` where it is too large.
    pub fn checked_add(self, other: Rational) -> Option<Rational> {
        let (a, b) = (self.num.checked_mul(other.den)?, other.num.checked_mul(self.den)?);
        Rational::new(a.checked_add(b)?, self.den.checked_mul(other.den)?)
    }

    /// `1 / self`; `None` for zero and where the result is beyond the bounds of this type.
    pub fn recip(self) -> Option<Rational> {
        Self::new(self.den, self.num)
    }

    /// True above zero.
    pub fn is_positive(self) -> bool {
        self.num > 0
    }

    /// The nearest `f64`, for estimates and display only.
    pub fn as_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }

    /// Reads FFmpeg's time syntax (`90`, `1:30`, `00:01:30.5`, `-2.5`, `500ms`, `20us`), seconds, minutes and hours
    /// with a unit (`2s`, `10m`, `1h`), and exact fractions of a second (`1/3`).
    ///
    /// Errors: [`Error::usage`] naming the text.
    pub fn parse_time(text: &str) -> Result<Rational> {
        parse_time(text.trim()).ok_or_else(|| {
            Error::usage(format!(
                "`{text}` is not a time: expected seconds (90, 1.5, 1/3), [hours:]minutes:seconds (1:30, 00:01:30.5) or \
                 a number with a unit (500ms, 2s, 10m, 1h)"
            ))
        })
    }

    /// Reads a positive rate per second: `2`, `0.5`, `30000/1001`.
    ///
    /// Errors: [`Error::usage`] naming the text.
    pub fn parse_rate(text: &str) -> Result<Rational> {
        let trimmed = text.trim();
        fraction(trimmed).or_else(|| decimal(trimmed)).filter(|rate| rate.is_positive()).ok_or_else(|| {
            Error::usage(format!("`{text}` is not a rate: expected a positive number or fraction (2, 0.5, 30000/1001)"))
        })
    }

    /// The exact value as a pair for arithmetic in `i128`.
    pub(super) fn exact(self) -> Exact {
        Exact { num: self.num.into(), den: self.den.into() }
    }
}

impl Ord for Rational {
    fn cmp(&self, other: &Self) -> Ordering {
        // 62 + 31 bits on either side.
        (i128::from(self.num) * i128::from(other.den)).cmp(&(i128::from(other.num) * i128::from(self.den)))
    }
}

impl PartialOrd for Rational {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.den {
            1 => write!(f, "{}", self.num),
            den => write!(f, "{}/{den}", self.num),
        }
    }
}

impl FromStr for Rational {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Rational::parse_time(text)
    }
}

impl Serialize for Rational {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rational {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Rational;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a time or rate such as \"1:30\", \"500ms\", \"30000/1001\" or 2.5")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Rational, E> {
                Rational::parse_time(text).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Rational, E> {
                self.visit_str(&value.to_string())
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Rational, E> {
                self.visit_str(&value.to_string())
            }
            // The shortest decimal that reads back as the number is what the user wrote.
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Rational, E> {
                self.visit_str(&value.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for Rational {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rational".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "number"],
            "description": "An exact time in seconds or rate per second: 90, 2.5, \"1:30\", \"500ms\", \"10m\", \"30000/1001\".",
        })
    }
}

fn gcd(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a.abs(), b.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn parse_time(text: &str) -> Option<Rational> {
    let (sign, body) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let positive = if body.contains('/') {
        fraction(body)?
    } else if body.contains(':') {
        clock(body)?
    } else {
        // Longest unit first: `ms` and `us` also end in `s`.
        let units = [("ms", (1, 1_000)), ("us", (1, 1_000_000)), ("s", (1, 1)), ("m", (60, 1)), ("h", (3600, 1))];
        let (number, (num, den)) =
            units.iter().find_map(|(unit, scale)| Some((body.strip_suffix(unit)?, *scale))).unwrap_or((body, (1, 1)));
        scaled_decimal(number, num, den)?
    };
    Some(Rational { num: sign * positive.num, den: positive.den })
}

/// `[HH:]MM:SS[.frac]`; minutes and seconds stay below 60, as in FFmpeg.
fn clock(text: &str) -> Option<Rational> {
    let (whole, frac) = text.split_once('.').map_or((text, None), |(whole, frac)| (whole, Some(frac)));
    let parts: Vec<i128> = whole.split(':').map(digits).collect::<Option<_>>()?;
    let (hours, minutes, seconds) = match parts[..] {
        [minutes, seconds] => (0, minutes, seconds),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return None,
    };
    if minutes > 59 || seconds > 59 {
        return None;
    }
    let seconds = hours.checked_mul(3600)? + minutes * 60 + seconds;
    match frac {
        None => Rational::reduced(seconds, 1),
        Some(frac) => {
            let den = 10i128.checked_pow(u32::try_from(frac.len()).ok().filter(|n| *n <= 18)?)?;
            Rational::reduced(seconds.checked_mul(den)?.checked_add(digits(frac)?)?, den)
        }
    }
}

/// `A/B`, both whole numbers of at most 18 digits.
fn fraction(text: &str) -> Option<Rational> {
    let (num, den) = text.split_once('/')?;
    Rational::reduced(digits(num)?, digits(den)?)
}

fn decimal(text: &str) -> Option<Rational> {
    scaled_decimal(text, 1, 1)
}

/// `123`, `1.5` or `.5` times `num / den`, before the bounds are applied.
fn scaled_decimal(text: &str, num: i128, den: i128) -> Option<Rational> {
    let (whole, frac) = text.split_once('.').unwrap_or((text, ""));
    if (whole.is_empty() && frac.is_empty()) || frac.len() > 18 {
        return None;
    }
    let unit = 10i128.pow(frac.len() as u32);
    let whole = if whole.is_empty() { 0 } else { digits(whole)? };
    let frac = if frac.is_empty() { 0 } else { digits(frac)? };
    Rational::reduced((whole * unit + frac) * num, unit * den)
}

/// One to eighteen decimal digits and nothing else.
fn digits(text: &str) -> Option<i128> {
    let fits = (1..=18).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

/// An unreduced fraction for comparisons; `den > 0`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exact {
    pub num: i128,
    pub den: i128,
}

impl Exact {
    /// The larger whole number at or below.
    pub fn floor(self) -> i128 {
        self.num.div_euclid(self.den)
    }

    /// The smaller whole number at or above.
    pub fn ceil(self) -> i128 {
        let floor = self.floor();
        if self.num.rem_euclid(self.den) == 0 { floor } else { floor + 1 }
    }
}

impl Ord for Exact {
    /// Compares by continued fractions: cross products of two such fractions would not fit `i128`.
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut a, mut b, mut flipped) = (*self, *other, false);
        loop {
            let order = a.floor().cmp(&b.floor());
            let (ra, rb) = (a.num.rem_euclid(a.den), b.num.rem_euclid(b.den));
            let order = match (order, ra, rb) {
                (Ordering::Equal, 0, 0) => return Ordering::Equal,
                (Ordering::Equal, 0, _) => Ordering::Less,
                (Ordering::Equal, _, 0) => Ordering::Greater,
                (Ordering::Equal, ..) => {
                    (a, b) = (Exact { num: a.den, den: ra }, Exact { num: b.den, den: rb });
                    flipped = !flipped;
                    continue;
                }
                (order, ..) => order,
            };
            return if flipped { order.reverse() } else { order };
        }
    }
}

impl PartialOrd for Exact {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Exact {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Exact {}
