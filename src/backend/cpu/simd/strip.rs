//! The passes of a resize on vectors: eight rows lie beside each other in a vector's lanes, or sixteen columns. Neighbouring
//! inputs share a lane, so that one multiply-add takes two of them, and nothing is summed across lanes.

use std::arch::x86_64::*;

use super::{Lanes, Narrow, ROOM, STRIP, Strip};
use crate::program::resample::{HALF, PRECISION, Pairs};

/// Brings rows into lanes: pair `p` of row `r` is dword `r` of vector `p`. Rows that are not there repeat the last.
///
/// # Safety
/// The processor has AVX2; each row can be read for the strip's width, rounded up to [`ROOM`].
#[target_feature(enable = "avx2")]
pub unsafe fn interleave(strip: &Strip, lanes: &mut Vec<i16>) {
    let blocks = strip.width.div_ceil(ROOM);
    lanes.resize(blocks * ROOM * STRIP, 0);
    let starts: [usize; STRIP] = std::array::from_fn(|r| r.min(strip.count - 1) * strip.stride);
    for block in 0..blocks {
        // SAFETY: the caller's promise; `lanes` holds eight vectors for each block.
        unsafe {
            let row = |r: usize| _mm_loadu_si128(strip.rows.as_ptr().add(starts[r] + block * ROOM).cast());
            let to = lanes.as_mut_ptr().add(block * ROOM * STRIP).cast::<__m256i>();
            for (i, pairs) in transpose(std::array::from_fn(row)).into_iter().enumerate() {
                _mm256_storeu_si256(to.add(i), _mm256_cvtepu8_epi16(pairs));
            }
        }
    }
}

/// Turns eight rows of eight words into columns.
#[target_feature(enable = "avx2")]
fn transpose(r: [__m128i; 8]) -> [__m128i; 8] {
    let words = |i: usize| (_mm_unpacklo_epi16(r[i], r[i + 1]), _mm_unpackhi_epi16(r[i], r[i + 1]));
    let ((a0, a1), (b0, b1), (c0, c1), (d0, d1)) = (words(0), words(2), words(4), words(6));
    let dwords = |a: __m128i, b: __m128i| (_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
    let ((p0, p1), (p2, p3)) = (dwords(a0, b0), dwords(a1, b1));
    let ((q0, q1), (q2, q3)) = (dwords(c0, d0), dwords(c1, d1));
    let halves = |p: __m128i, q: __m128i| [_mm_unpacklo_epi64(p, q), _mm_unpackhi_epi64(p, q)];
    let ([o0, o1], [o2, o3]) = (halves(p0, q0), halves(p1, q1));
    let ([o4, o5], [o6, o7]) = (halves(p2, q2), halves(p3, q3));
    [o0, o1, o2, o3, o4, o5, o6, o7]
}

/// The horizontal pass over what [`interleave`] made, of strips of `count` rows.
///
/// # Safety
/// The processor has AVX2; `lanes` hold all inputs that `weights` read for as many outputs as there are; `out` has room
/// for the rows.
#[target_feature(enable = "avx2")]
pub unsafe fn horizontal<const N: usize>(lanes: &Lanes<N>, weights: &Pairs, count: usize, out: &mut [Narrow; N]) {
    let n = out[0].n;
    for from in (0..n).step_by(STRIP) {
        let columns = STRIP.min(n - from);
        let mut values = [[_mm256_setzero_si256(); STRIP]; N];
        for i in 0..columns {
            // SAFETY: the caller's promise.
            let sums = unsafe { position(lanes, weights, from + i) };
            for (values, sum) in values.iter_mut().zip(sums) {
                values[i] = sum;
            }
        }
        for (values, out) in values.iter().zip(out.iter_mut()) {
            for (row, value) in bytes(values).into_iter().enumerate().take(count) {
                let to = &mut out.rows[row * out.stride + from..][..columns];
                match to.first_chunk_mut() {
                    Some(to) => *to = value,
                    None => to.copy_from_slice(&value[..columns]),
                }
            }
        }
    }
}

/// Eight columns of eight rows to rows of bytes, clamped.
#[target_feature(enable = "avx2")]
fn bytes(columns: &[__m256i; STRIP]) -> [[u8; STRIP]; STRIP] {
    let words = |i: usize| {
        let sum = columns[i];
        _mm_packs_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum))
    };
    // Columns i and i + 4.
    let two = |i: usize| _mm_packus_epi16(words(i), words(i + 4));
    let (c04, c15, c26, c37) = (two(0), two(1), two(2), two(3));
    let (c01, c45) = (_mm_unpacklo_epi8(c04, c15), _mm_unpackhi_epi8(c04, c15));
    let (c23, c67) = (_mm_unpacklo_epi8(c26, c37), _mm_unpackhi_epi8(c26, c37));
    let quarter = |a: __m128i, b: __m128i| (_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b));
    let ((top_a, bottom_a), (top_b, bottom_b)) = (quarter(c01, c23), quarter(c45, c67));
    let mut out = [[0; STRIP]; STRIP];
    let rows = [
        _mm_unpacklo_epi32(top_a, top_b),
        _mm_unpackhi_epi32(top_a, top_b),
        _mm_unpacklo_epi32(bottom_a, bottom_b),
        _mm_unpackhi_epi32(bottom_a, bottom_b),
    ];
    for (out, two) in out.as_flattened_mut().chunks_exact_mut(2 * STRIP).zip(rows) {
        // SAFETY: sixteen bytes.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), two) };
    }
    out
}

/// One output position of eight rows of each strip, rounded, not clamped.
///
/// # Safety
/// As [`horizontal`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn position<const N: usize>(lanes: &Lanes<N>, weights: &Pairs, i: usize) -> [__m256i; N] {
    // SAFETY: the caller's promise; the weights have `count` pairs for each position.
    unsafe {
        let start = *weights.starts.get_unchecked(i) as usize * 2 * STRIP;
        let from = lanes.each_ref().map(|lanes| lanes.as_ptr().add(start).cast::<__m256i>());
        let own = i * weights.count..(i + 1) * weights.count;
        let guess = Guess::new(weights, i);
        let mut sums = sum(from, weights.guess.get_unchecked(own.clone()));
        for (sums, from) in sums.iter_mut().zip(from) {
            *sums = match guess.round(*sums) {
                Some(values) => values,
                None => {
                    let high = sum([from], weights.high.get_unchecked(own.clone()));
                    let low = sum([from], weights.low.get_unchecked(own.clone()));
                    exact(high[0], low[0])
                }
            };
        }
        sums
    }
}

/// Products of pairs of inputs with pairs of weights, summed, over as many vectors as there are weights.
///
/// # Safety
/// The processor has AVX2; each of `from` holds so many.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn sum<const N: usize>(from: [*const __m256i; N], weights: &[[i16; 2]]) -> [__m256i; N] {
    let mut sums = [_mm256_setzero_si256(); N];
    for (pair, weight) in weights.iter().enumerate() {
        // SAFETY: the caller's promise; a pair of weights is a dword.
        unsafe {
            let weight = _mm256_set1_epi32(weight.as_ptr().cast::<i32>().read_unaligned());
            for (sum, from) in sums.iter_mut().zip(from) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_loadu_si256(from.add(pair)), weight));
            }
        }
    }
    sums
}

/// Sums of both halves of the weights, joined and rounded.
#[inline]
#[target_feature(enable = "avx2")]
fn exact(high: __m256i, low: __m256i) -> __m256i {
    let sum = _mm256_add_epi32(_mm256_slli_epi32::<{ Pairs::LOW_BITS as i32 }>(high), low);
    _mm256_srai_epi32::<{ PRECISION as i32 }>(_mm256_add_epi32(sum, _mm256_set1_epi32(HALF)))
}

/// What a sum of guesses can be.
struct Guess {
    shift: __m128i,
    least: __m256i,
    most: __m256i,
}

impl Guess {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(weights: &Pairs, i: usize) -> Guess {
        let [least, most] = weights.slack[i].map(|slack| _mm256_set1_epi32(slack));
        Guess { shift: _mm_cvtsi32_si128(weights.shift as i32), least, most }
    }

    /// The rounded values where all of them are sure.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn round(&self, sum: __m256i) -> Option<__m256i> {
        let sum = _mm256_sll_epi32(sum, self.shift);
        let least = _mm256_srai_epi32::<{ PRECISION as i32 }>(_mm256_add_epi32(sum, self.least));
        let most = _mm256_srai_epi32::<{ PRECISION as i32 }>(_mm256_add_epi32(sum, self.most));
        (_mm256_movemask_epi8(_mm256_cmpeq_epi32(least, most)) == -1).then_some(least)
    }
}

/// Row `at` of the vertical pass, sixteen columns at a time; says how many values it wrote. `last` is the last row that
/// the weights read.
///
/// # Safety
/// The processor has AVX2; `rows` up to and with the last, `stride` apart, hold as many values as `out`.
#[target_feature(enable = "avx2")]
pub unsafe fn vertical(rows: &[u8], stride: usize, last: usize, weights: &Pairs, at: usize, out: &mut [u8]) -> usize {
    const STEP: usize = 16;
    let guess = Guess::new(weights, at);
    let first = 2 * weights.starts[at] as usize;
    let own = at * weights.count..(at + 1) * weights.count;
    let count = out.len() / STEP * STEP;
    for x in (0..count).step_by(STEP) {
        // SAFETY: the caller's promise; a pair whose second row is behind the last has no weight there.
        unsafe {
            let sum = |parts: &[[i16; 2]]| {
                let mut sums = [_mm256_setzero_si256(); 2];
                for (pair, weight) in parts[own.clone()].iter().enumerate() {
                    let row = |row: usize| _mm_loadu_si128(rows.as_ptr().add(row.min(last) * stride + x).cast());
                    let (a, b) = (row(first + 2 * pair), row(first + 2 * pair + 1));
                    let weight = _mm256_set1_epi32(weight.as_ptr().cast::<i32>().read_unaligned());
                    let both = [_mm_unpacklo_epi8(a, b), _mm_unpackhi_epi8(a, b)];
                    for (sum, both) in sums.iter_mut().zip(both) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(_mm256_cvtepu8_epi16(both), weight));
                    }
                }
                sums
            };
            let [left, right] = match sum(&weights.guess).map(|sum| guess.round(sum)) {
                [Some(left), Some(right)] => [left, right],
                _ => {
                    let (high, low) = (sum(&weights.high), sum(&weights.low));
                    [exact(high[0], low[0]), exact(high[1], low[1])]
                }
            };
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(left, right));
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(out.as_mut_ptr().add(x).cast(), bytes);
        }
    }
    count
}
