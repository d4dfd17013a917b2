//! The inner loops of the CPU backend. Each is one plain function that the compiler vectorises twice: once for every
//! machine and once for AVX2, chosen when it runs. Integer arithmetic alone, so both give the same values; a test says so.

use crate::program::resample::{HALF, PRECISION, Weights};
use crate::program::yuv::{Axis, Coefficients, SHIFT};

macro_rules! twice {
    ($(#[$meta:meta])* pub fn $name:ident / $wide:ident / $body:ident ($($arg:ident: $type:ty),* $(,)?) $code:block) => {
        #[inline(always)]
        #[allow(clippy::too_many_arguments)]
        fn $body($($arg: $type),*) $code
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        #[allow(clippy::too_many_arguments)]
        fn $wide($($arg: $type),*) {
            $body($($arg),*)
        }
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2.
                return unsafe { $wide($($arg),*) };
            }
            $body($($arg),*)
        }
    };
}

twice! {
    /// Splits interleaved RGB into its channels.
    pub fn deinterleave / deinterleave_avx2 / deinterleave_plain(rgb: &[u8], r: &mut [i16], g: &mut [i16], b: &mut [i16]) {
        for (((p, r), g), b) in rgb.chunks_exact(3).zip(r).zip(g).zip(b) {
            *r = i16::from(p[0]);
            *g = i16::from(p[1]);
            *b = i16::from(p[2]);
        }
    }
}

twice! {
    /// Values of `depth` bits, limited or full range, to 0..=255, rounded.
    pub fn plain / plain_avx2 / plain_plain(values: &[i32], depth: u8, limited: bool, out: &mut [i16]) {
        if depth == 8 && !limited {
            for (v, out) in values.iter().zip(out) {
                *out = *v as i16;
            }
        } else {
            let (zero, span) = if limited { (16 << (depth - 8), 219 << (depth - 8)) } else { (0, (1 << depth) - 1) };
            for (v, out) in values.iter().zip(out) {
                *out = (((v - zero) * 510 + span).div_euclid(2 * span)).clamp(0, 255) as i16;
            }
        }
    }
}

twice! {
    /// `a * wa + b * wb` into `a`.
    pub fn blend / blend_avx2 / blend_plain(a: &mut [i32], b: &[i32], wa: i32, wb: i32) {
        for (a, b) in a.iter_mut().zip(b) {
            *a = *a * wa + b * wb;
        }
    }
}

twice! {
    /// Interpolates twofold subsampled chroma. `chroma[0]` is sample `first` of the row, `out[0]` luma position `x0`.
    pub fn upsample2 / upsample2_avx2 / upsample2_plain(chroma: &[i32], x: &Axis, x0: usize, first: usize, out: &mut [i32]) {
        let one = |at: usize| {
            let tap = x.tap(at);
            chroma[tap.a - first] * (4 - tap.weight) + chroma[tap.b - first] * tap.weight
        };
        let n = out.len();
        // Away from the edges even and odd positions have fixed weights, and their first samples advance by one.
        let begin = (4 - x0 % 2).min(n);
        let end = n.saturating_sub(4).max(begin);
        let pairs = (end - begin) / 2;
        if pairs > 0 {
            let (even, odd) = (x.tap(x0 + begin), x.tap(x0 + begin + 1));
            let e = &chroma[even.a - first..][..pairs + 1];
            let o = &chroma[odd.a - first..][..pairs + 1];
            for (i, pair) in out[begin..begin + 2 * pairs].chunks_exact_mut(2).enumerate() {
                pair[0] = e[i] * (4 - even.weight) + e[i + 1] * even.weight;
                pair[1] = o[i] * (4 - odd.weight) + o[i + 1] * odd.weight;
            }
        }
        for i in (0..begin).chain(begin + 2 * pairs..n) {
            out[i] = one(x0 + i);
        }
    }
}

twice! {
    /// Luma and chroma on one grid to R, G, B.
    pub fn matrix / matrix_avx2 / matrix_plain(
        luma: &[i32], cb: &[i32], cr: &[i32], c: &Coefficients, depth: u8, out: [&mut [i16]; 3],
    ) {
        let n = luma.len();
        let (cb, cr) = (&cb[..n], &cr[..n]);
        for (k, out) in c.k.iter().zip(out) {
            let out = &mut out[..n];
            if depth <= 12 {
                let [ky, kb, kr] = k.map(|v| v as i32);
                let constant = (1i64 << (SHIFT - 1)) - k[0] * c.luma_zero - (k[1] + k[2]) * c.chroma_zero;
                // The sum fits, the constant alone may not: wrapping adds give the sum.
                let constant = constant as i32;
                for i in 0..n {
                    let sum = constant
                        .wrapping_add(ky.wrapping_mul(luma[i]))
                        .wrapping_add(kb.wrapping_mul(cb[i]))
                        .wrapping_add(kr.wrapping_mul(cr[i]));
                    out[i] = (sum >> SHIFT).clamp(0, 255) as i16;
                }
            } else {
                for i in 0..n {
                    let y = k[0] * (i64::from(luma[i]) - c.luma_zero);
                    let chroma = k[1] * (i64::from(cb[i]) - c.chroma_zero) + k[2] * (i64::from(cr[i]) - c.chroma_zero);
                    out[i] = ((y + chroma + (1 << (SHIFT - 1))) >> SHIFT).clamp(0, 255) as i16;
                }
            }
        }
    }
}

twice! {
    /// The horizontal pass over one row: `out[i] = clip((HALF + sum(row * weight)) >> PRECISION)`. `row[0]` is column
    /// `first` of the picture; behind the row's columns there must be `Weights::PAD` values of any kind.
    pub fn horizontal / horizontal_avx2 / horizontal_plain(row: &[i16], first: usize, weights: &Weights, most: i32, out: &mut [i16]) {
        let taps = weights.padded;
        let parts = weights.high.chunks_exact(taps).zip(weights.low.chunks_exact(taps));
        for ((out, start), (high, low)) in out.iter_mut().zip(&weights.starts).zip(parts) {
            let values = &row[*start as usize - first..][..taps];
            let mut sums = (0i32, 0i32);
            for i in 0..taps {
                let v = i32::from(values[i]);
                sums.0 = sums.0.wrapping_add(v.wrapping_mul(i32::from(high[i])));
                sums.1 = sums.1.wrapping_add(v.wrapping_mul(i32::from(low[i])));
            }
            let sum = (sums.0 << Weights::LOW_BITS).wrapping_add(sums.1).wrapping_add(HALF);
            *out = (sum >> PRECISION).clamp(0, most) as i16;
        }
    }
}

twice! {
    /// Bytes to values.
    pub fn widen / widen_avx2 / widen_plain(bytes: &[u8], out: &mut [i16]) {
        for (byte, out) in bytes.iter().zip(out) {
            *out = i16::from(*byte);
        }
    }
}

twice! {
    /// [`blend`] for 8-bit samples: sums up to 4 times 255.
    pub fn blend8 / blend8_avx2 / blend8_plain(a: &mut [i16], b: &[u8], wa: i16, wb: i16) {
        for (a, b) in a.iter_mut().zip(b) {
            *a = *a * wa + i16::from(*b) * wb;
        }
    }
}

/// [`upsample2`] for 8-bit samples: sums up to 16 times 255.
pub fn upsample2_8(chroma: &[i16], x: &Axis, x0: usize, first: usize, out: &mut [i16]) {
    let one = |at: usize| {
        let tap = x.tap(at);
        chroma[tap.a - first] * (4 - tap.weight as i16) + chroma[tap.b - first] * tap.weight as i16
    };
    let n = out.len();
    let begin = (4 - x0 % 2).min(n);
    let end = n.saturating_sub(4).max(begin);
    let pairs = (end - begin) / 2;
    if pairs > 0 {
        let (even, odd) = (x.tap(x0 + begin), x.tap(x0 + begin + 1));
        let e = &chroma[even.a - first..][..pairs + 1];
        let o = &chroma[odd.a - first..][..pairs + 1];
        interleave(e, even.weight as i16, o, odd.weight as i16, &mut out[begin..begin + 2 * pairs]);
    }
    for i in (0..begin).chain(begin + 2 * pairs..n) {
        out[i] = one(x0 + i);
    }
}

/// `out[2 i] = e[i] (4 - we) + e[i + 1] we`, `out[2 i + 1]` the same of `o`; both hold one value more than pairs.
fn interleave(e: &[i16], we: i16, o: &[i16], wo: i16, out: &mut [i16]) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && e.len() > out.len() / 2 && o.len() > out.len() / 2 {
        // SAFETY: the processor has AVX2; both inputs hold a value more than there are pairs.
        done = unsafe { interleave_avx2(e, we, o, wo, out) };
    }
    for (i, pair) in out.chunks_exact_mut(2).enumerate().skip(done) {
        pair[0] = e[i] * (4 - we) + e[i + 1] * we;
        pair[1] = o[i] * (4 - wo) + o[i + 1] * wo;
    }
}

/// As many pairs as fill vectors; says how many.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn interleave_avx2(e: &[i16], we: i16, o: &[i16], wo: i16, out: &mut [i16]) -> usize {
    use std::arch::x86_64::*;
    const STEP: usize = 16;
    let count = out.len() / 2 / STEP * STEP;
    let weights = |w: i16| (_mm256_set1_epi16(4 - w), _mm256_set1_epi16(w));
    let (ew, ow) = (weights(we), weights(wo));
    for i in (0..count).step_by(STEP) {
        // SAFETY: `i + STEP` is at most the number of pairs, and the inputs hold one value more than that.
        unsafe {
            let sum = |from: *const i16, (first, second): (__m256i, __m256i)| {
                let a = _mm256_loadu_si256(from.add(i).cast());
                let b = _mm256_loadu_si256(from.add(i + 1).cast());
                _mm256_add_epi16(_mm256_mullo_epi16(a, first), _mm256_mullo_epi16(b, second))
            };
            let (even, odd) = (sum(e.as_ptr(), ew), sum(o.as_ptr(), ow));
            let (low, high) = (_mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd));
            let to = out.as_mut_ptr().add(2 * i);
            _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256::<0x20>(low, high));
            _mm256_storeu_si256(to.add(STEP).cast(), _mm256_permute2x128_si256::<0x31>(low, high));
        }
    }
    count
}

/// [`matrix`] for 8-bit samples.
pub fn matrix8(luma: &[i16], cb: &[i16], cr: &[i16], c: &Coefficients, out: [&mut [i16]; 3]) {
    let n = luma.len();
    for (k, out) in c.k.iter().zip(out) {
        let constant = (1i64 << (SHIFT - 1)) - k[0] * c.luma_zero - (k[1] + k[2]) * c.chroma_zero;
        // The sum fits, the constant alone may not: wrapping adds give the sum.
        let (constant, k) = (constant as i32, k.map(|v| v as i32));
        let (cb, cr, out) = (&cb[..n], &cr[..n], &mut out[..n]);
        let mut done = 0;
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2; all four slices hold `n` values.
            done = unsafe { matrix8_avx2(luma, cb, cr, k, constant, out) };
        }
        for i in done..n {
            let sum = constant
                .wrapping_add(k[0].wrapping_mul(luma[i].into()))
                .wrapping_add(k[1].wrapping_mul(cb[i].into()))
                .wrapping_add(k[2].wrapping_mul(cr[i].into()));
            out[i] = (sum >> SHIFT).clamp(0, 255) as i16;
        }
    }
}

/// As many values as fill vectors; says how many. Coefficients are split in two halves for 16-bit multiply-adds, as
/// weights are; chroma values have at most 12 bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn matrix8_avx2(luma: &[i16], cb: &[i16], cr: &[i16], k: [i32; 3], constant: i32, out: &mut [i16]) -> usize {
    use std::arch::x86_64::*;
    const LOW: i32 = 12;
    const STEP: usize = 16;
    let pair = |a: i32, b: i32| {
        let both = |a: i32, b: i32| _mm256_set1_epi32((a & 0xFFFF) | (b << 16));
        (both(a >> LOW, b >> LOW), both(a & ((1 << LOW) - 1), b & ((1 << LOW) - 1)))
    };
    // A channel that has only one kind of chroma needs one pair.
    let single = k[1] == 0 || k[2] == 0;
    let first = if k[1] == 0 { pair(k[0], k[2]) } else { pair(k[0], k[1]) };
    let second = pair(k[2], 0);
    let (constant, zero) = (_mm256_set1_epi32(constant), _mm256_setzero_si256());
    let top = _mm256_set1_epi16(255);
    let count = luma.len() / STEP * STEP;
    for i in (0..count).step_by(STEP) {
        // SAFETY: all slices hold `count` values at least.
        unsafe {
            let load = |from: &[i16]| _mm256_loadu_si256(from.as_ptr().add(i).cast());
            let y = load(luma);
            let a = load(if k[1] == 0 { cr } else { cb });
            let sum = |x: __m256i, (high, low): (__m256i, __m256i)| {
                let high = _mm256_slli_epi32::<LOW>(_mm256_madd_epi16(x, high));
                _mm256_add_epi32(high, _mm256_madd_epi16(x, low))
            };
            let mut s0 = _mm256_add_epi32(constant, sum(_mm256_unpacklo_epi16(y, a), first));
            let mut s1 = _mm256_add_epi32(constant, sum(_mm256_unpackhi_epi16(y, a), first));
            if !single {
                let b = load(cr);
                s0 = _mm256_add_epi32(s0, sum(_mm256_unpacklo_epi16(b, zero), second));
                s1 = _mm256_add_epi32(s1, sum(_mm256_unpackhi_epi16(b, zero), second));
            }
            let (s0, s1) = (_mm256_srai_epi32::<{ SHIFT as i32 }>(s0), _mm256_srai_epi32::<{ SHIFT as i32 }>(s1));
            // Unpacking and packing both work within halves, so the order is kept.
            let value = _mm256_min_epi16(_mm256_max_epi16(_mm256_packs_epi32(s0, s1), zero), top);
            _mm256_storeu_si256(out.as_mut_ptr().add(i).cast(), value);
        }
    }
    count
}

/// [`horizontal`] over three rows that share their weights: the channels of one row, or three rows of one plane.
pub fn horizontal3(rows: [&[i16]; 3], first: usize, weights: &Weights, most: i32, out: [&mut [i16]; 3]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        let n = out.iter().map(|o| o.len()).min().unwrap_or(0).min(weights.starts.len());
        let (least, most_read) = weights.span;
        let inside = least >= first && rows.iter().all(|r| r.len() + first >= most_read);
        if inside && out.iter().all(|o| o.len() == n) && weights.used <= weights.padded {
            // SAFETY: the processor has AVX2; every start lies in all rows with its padded taps, of which a multiple of
            // 8 is used; the outputs have as many values as are written.
            return unsafe { horizontal3_avx2(rows, first, weights, most, out) };
        }
    }
    for (row, out) in rows.into_iter().zip(out) {
        horizontal_plain(row, first, weights, most, out);
    }
}

/// Sixteen taps at a time. Both halves of a weight are summed on their own and joined before the lanes are added up:
/// wrapping sums, so the order does not matter.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn horizontal3_avx2(rows: [&[i16]; 3], first: usize, weights: &Weights, most: i32, out: [&mut [i16]; 3]) {
    use std::arch::x86_64::*;
    let taps = weights.padded;
    let [a, b, c] = rows.map(<[i16]>::as_ptr);
    let [out_a, out_b, out_c] = out;
    let (half, low, high) = (_mm_set1_epi32(HALF), _mm_setzero_si128(), _mm_set1_epi32(most));
    for i in 0..out_a.len() {
        // SAFETY: see the caller.
        unsafe {
            let start = *weights.starts.get_unchecked(i) as usize - first;
            let (wh, wl) = (weights.high.as_ptr().add(i * taps), weights.low.as_ptr().add(i * taps));
            let mut sums = [[_mm256_setzero_si256(); 2]; 3];
            let mut j = 0;
            while j + Weights::PAD <= weights.used {
                let h = _mm256_loadu_si256(wh.add(j).cast());
                let l = _mm256_loadu_si256(wl.add(j).cast());
                for (row, sums) in [a, b, c].into_iter().zip(&mut sums) {
                    let v = _mm256_loadu_si256(row.add(start + j).cast());
                    sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(v, h));
                    sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(v, l));
                }
                j += Weights::PAD;
            }
            if j < weights.used {
                let h = _mm_loadu_si128(wh.add(j).cast());
                let l = _mm_loadu_si128(wl.add(j).cast());
                for (row, sums) in [a, b, c].into_iter().zip(&mut sums) {
                    let v = _mm_loadu_si128(row.add(start + j).cast());
                    sums[0] = _mm256_add_epi32(sums[0], _mm256_zextsi128_si256(_mm_madd_epi16(v, h)));
                    sums[1] = _mm256_add_epi32(sums[1], _mm256_zextsi128_si256(_mm_madd_epi16(v, l)));
                }
            }
            let [x, y, z] =
                sums.map(|[h, l]| _mm256_add_epi32(_mm256_slli_epi32::<{ Weights::LOW_BITS as i32 }>(h), l));
            let lanes = _mm256_hadd_epi32(_mm256_hadd_epi32(x, y), _mm256_hadd_epi32(z, z));
            let sum = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
            let value = _mm_srai_epi32::<{ PRECISION as i32 }>(_mm_add_epi32(sum, half));
            let value = _mm_min_epi32(_mm_max_epi32(value, low), high);
            *out_a.get_unchecked_mut(i) = _mm_extract_epi32::<0>(value) as i16;
            *out_b.get_unchecked_mut(i) = _mm_extract_epi32::<1>(value) as i16;
            *out_c.get_unchecked_mut(i) = _mm_extract_epi32::<2>(value) as i16;
        }
    }
}

/// One row of the vertical pass: `rows` lie `stride` apart, `weights` one for each.
pub fn vertical(rows: &[i16], stride: usize, weights: &[i32], most: i32, out: &mut [i16]) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2")
        && let Some(above) = weights.len().checked_sub(1)
        && rows.len() >= above * stride + out.len()
    {
        // SAFETY: the processor has AVX2; each of as many rows as there are weights holds as many values as `out`.
        done = unsafe { vertical_avx2(rows, stride, weights, most, out) };
    }
    for (i, out) in out.iter_mut().enumerate().skip(done) {
        let sum = weights
            .iter()
            .enumerate()
            .fold(HALF, |sum, (row, weight)| sum.wrapping_add(i32::from(rows[row * stride + i]).wrapping_mul(*weight)));
        *out = (sum >> PRECISION).clamp(0, most) as i16;
    }
}

/// Two rows and sixteen columns at a time; says how many values it wrote. Weights are split as in [`horizontal`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn vertical_avx2(rows: &[i16], stride: usize, weights: &[i32], most: i32, out: &mut [i16]) -> usize {
    use std::arch::x86_64::*;
    const STEP: usize = 16;
    const LOW: i32 = Weights::LOW_BITS as i32;
    let (half, zero, top) = (_mm256_set1_epi32(HALF), _mm256_setzero_si256(), _mm256_set1_epi16(most as i16));
    let both = |a: i32, b: i32| _mm256_set1_epi32((a & 0xFFFF) | (b << 16));
    let count = out.len() / STEP * STEP;
    for x in (0..count).step_by(STEP) {
        // SAFETY: see the caller; an odd last row is paired with itself and a weight of zero.
        unsafe {
            let (mut h0, mut h1, mut l0, mut l1) = (zero, zero, zero, zero);
            for (pair, weights) in weights.chunks(2).enumerate() {
                let (first, second) = (weights[0], weights.get(1).copied().unwrap_or(0));
                let at = rows.as_ptr().add(2 * pair * stride + x);
                let a = _mm256_loadu_si256(at.cast());
                let b = if weights.len() == 2 { _mm256_loadu_si256(at.add(stride).cast()) } else { a };
                let high = both(first >> LOW, second >> LOW);
                let low = both(first & ((1 << LOW) - 1), second & ((1 << LOW) - 1));
                let (ab0, ab1) = (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
                h0 = _mm256_add_epi32(h0, _mm256_madd_epi16(ab0, high));
                h1 = _mm256_add_epi32(h1, _mm256_madd_epi16(ab1, high));
                l0 = _mm256_add_epi32(l0, _mm256_madd_epi16(ab0, low));
                l1 = _mm256_add_epi32(l1, _mm256_madd_epi16(ab1, low));
            }
            let join = |high: __m256i, low: __m256i| {
                let sum = _mm256_add_epi32(_mm256_slli_epi32::<LOW>(high), low);
                _mm256_srai_epi32::<{ PRECISION as i32 }>(_mm256_add_epi32(sum, half))
            };
            // Unpacking and packing both work within halves, so the order is kept.
            let value = _mm256_packs_epi32(join(h0, l0), join(h1, l1));
            let value = _mm256_min_epi16(_mm256_max_epi16(value, zero), top);
            _mm256_storeu_si256(out.as_mut_ptr().add(x).cast(), value);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::resample::{Filter, Span};
    use proptest::prelude::*;

    fn values(seed: u64, n: usize) -> Vec<i16> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as i16
        };
        (0..n).map(|_| next()).collect()
    }

    proptest! {
        #[test]
        fn short_and_long_conversion_agree(seed in any::<u64>(), n in 1usize..200, x0 in 0usize..5, kind in 0usize..6) {
            use crate::color::{Color, Matrix, Range};
            let all = [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020, Matrix::Smpte240m, Matrix::Fcc, Matrix::Ycgco];
            let range = if seed % 2 == 0 { Range::Full } else { Range::Limited };
            let color = Color { matrix: all[kind], range, ..Color::srgb() };
            let bytes = |s: u64, n: usize| values(s, n).iter().map(|v| *v as u8).collect::<Vec<u8>>();
            let axis = Axis::new(1, (seed % 3) as i32, (x0 + n).div_ceil(2), crate::program::yuv::Chroma::Linear);
            let (first, last) = (axis.tap(x0).a, axis.tap(x0 + n - 1).b);
            let mut short = [vec![0i16; n], vec![0i16; n]];
            let mut long = [vec![0i32; n], vec![0i32; n]];
            for c in 0..2 {
                let (a, b) = (bytes(seed ^ c, last + 1 - first), bytes(!seed ^ c, last + 1 - first));
                let mut row16: Vec<i16> = vec![0; a.len()];
                widen(&a, &mut row16);
                blend8(&mut row16, &b, 3, 1);
                let mut row32: Vec<i32> = a.iter().map(|v| i32::from(*v)).collect();
                blend(&mut row32, &b.iter().map(|v| i32::from(*v)).collect::<Vec<_>>(), 3, 1);
                prop_assert!(row16.iter().zip(&row32).all(|(a, b)| i32::from(*a) == *b));
                upsample2_8(&row16, &axis, x0, first, &mut short[c as usize]);
                upsample2(&row32, &axis, x0, first, &mut long[c as usize]);
                prop_assert!(short[c as usize].iter().zip(&long[c as usize]).all(|(a, b)| i32::from(*a) == *b));
            }
            let luma = values(seed ^ 9, n);
            let coefficients = Coefficients::new(&color, 8, 4);
            let mut narrow = [vec![0i16; n], vec![0i16; n], vec![0i16; n]];
            let mut wide = narrow.clone();
            let [r, g, b] = &mut narrow;
            matrix8(&luma, &short[0], &short[1], &coefficients, [r, g, b]);
            let luma: Vec<i32> = luma.iter().map(|v| i32::from(*v)).collect();
            let [r, g, b] = &mut wide;
            matrix(&luma, &long[0], &long[1], &coefficients, 8, [r, g, b]);
            prop_assert_eq!(narrow, wide);
        }

        #[test]
        fn wide_and_plain_loops_agree(seed in any::<u64>(), input in 1usize..300, out in 1usize..200) {
            let weights = Weights::new(Span::whole(input, out), Filter::Lanczos, 0, out);
            let row = values(seed, input + weights.padded);
            let (mut wide, mut narrow) = (vec![0; out], vec![1; out]);
            horizontal(&row, 0, &weights, 255, &mut wide);
            horizontal_plain(&row, 0, &weights, 255, &mut narrow);
            prop_assert_eq!(&wide, &narrow);
            let others = [values(seed ^ 1, input + weights.padded), values(seed ^ 2, input + weights.padded)];
            let mut three = [vec![0; out], vec![0; out], vec![0; out]];
            let [a, b, c] = &mut three;
            horizontal3([&row, &others[0], &others[1]], 0, &weights, 255, [a, b, c]);
            prop_assert_eq!(&three[0], &narrow);
            for (row, three) in others.iter().zip(&three[1..]) {
                horizontal_plain(row, 0, &weights, 255, &mut narrow);
                prop_assert_eq!(three, &narrow);
            }
            let taps: Vec<i32> = weights.full[..weights.lengths[0] as usize].to_vec();
            let rows = values(!seed, taps.len() * out);
            vertical(&rows, out, &taps, 255, &mut wide);
            for (i, value) in narrow.iter_mut().enumerate() {
                let sum: i64 = taps.iter().enumerate().map(|(r, w)| i64::from(rows[r * out + i]) * i64::from(*w)).sum();
                *value = ((sum + i64::from(HALF)) >> PRECISION).clamp(0, 255) as i16;
            }
            prop_assert_eq!(&wide, &narrow);
        }
    }
}
