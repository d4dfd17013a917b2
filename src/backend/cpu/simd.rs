//! The inner loops of the CPU backend. Each is one plain function that the compiler vectorises twice: once for every
//! machine and once for AVX2, chosen when it runs. Integer arithmetic alone, so both give the same values; a test says so.

#[cfg(target_arch = "x86_64")]
mod strip;

use crate::program::resample::{HALF, PRECISION, Weights};
use crate::program::yuv::{Axis, Coefficients, SHIFT, SHORT};

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
    pub fn deinterleave / deinterleave_avx2 / deinterleave_plain(rgb: &[u8], r: &mut [u8], g: &mut [u8], b: &mut [u8]) {
        for (((p, r), g), b) in rgb.chunks_exact(3).zip(r).zip(g).zip(b) {
            (*r, *g, *b) = (p[0], p[1], p[2]);
        }
    }
}

twice! {
    /// Values of `depth` bits, limited or full range, to 0..=255, rounded.
    pub fn plain / plain_avx2 / plain_plain(values: &[i32], depth: u8, limited: bool, out: &mut [u8]) {
        if depth == 8 && !limited {
            for (v, out) in values.iter().zip(out) {
                *out = *v as u8;
            }
        } else {
            let (zero, span) = if limited { (16 << (depth - 8), 219 << (depth - 8)) } else { (0, (1 << depth) - 1) };
            for (v, out) in values.iter().zip(out) {
                *out = (((v - zero) * 510 + span).div_euclid(2 * span)).clamp(0, 255) as u8;
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
        luma: &[i32], cb: &[i32], cr: &[i32], c: &Coefficients, depth: u8, out: [&mut [u8]; 3],
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
                    out[i] = (sum >> SHIFT).clamp(0, 255) as u8;
                }
            } else {
                for i in 0..n {
                    let y = k[0] * (i64::from(luma[i]) - c.luma_zero);
                    let chroma = k[1] * (i64::from(cb[i]) - c.chroma_zero) + k[2] * (i64::from(cr[i]) - c.chroma_zero);
                    out[i] = ((y + chroma + (1 << (SHIFT - 1))) >> SHIFT).clamp(0, 255) as u8;
                }
            }
        }
    }
}

twice! {
    /// [`blend`] for 8-bit samples, `a * wa + b * wb`: sums up to 4 times 255.
    pub fn blend8 / blend8_avx2 / blend8_plain(a: &[u8], b: &[u8], wa: i16, wb: i16, out: &mut [i16]) {
        for ((a, b), out) in a.iter().zip(b).zip(out) {
            *out = i16::from(*a) * wa + i16::from(*b) * wb;
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
        done = unsafe {
            match (we, wo) {
                (0, 2) => interleave_avx2::<0, 2>(e, o, out),
                (3, 1) => interleave_avx2::<3, 1>(e, o, out),
                _ => 0,
            }
        };
    }
    for (i, pair) in out.chunks_exact_mut(2).enumerate().skip(done) {
        pair[0] = e[i] * (4 - we) + e[i + 1] * we;
        pair[1] = o[i] * (4 - wo) + o[i + 1] * wo;
    }
}

/// As many pairs as fill vectors; says how many.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn interleave_avx2<const EVEN: i16, const ODD: i16>(e: &[i16], o: &[i16], out: &mut [i16]) -> usize {
    use std::arch::x86_64::*;
    const STEP: usize = 16;
    let count = out.len() / 2 / STEP * STEP;
    for i in (0..count).step_by(STEP) {
        // SAFETY: `i + STEP` is at most the number of pairs, and the inputs hold one value more than that.
        unsafe {
            let load = |from: &[i16], i: usize| _mm256_loadu_si256(from.as_ptr().add(i).cast());
            let even = quarters::<EVEN>(load(e, i), load(e, i + 1));
            let odd = quarters::<ODD>(load(o, i), load(o, i + 1));
            let (low, high) = (_mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd));
            let to = out.as_mut_ptr().add(2 * i);
            _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256::<0x20>(low, high));
            _mm256_storeu_si256(to.add(STEP).cast(), _mm256_permute2x128_si256::<0x31>(low, high));
        }
    }
    count
}

/// `a (4 - B) + b B` by additions, which processors have more units for than for products.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn quarters<const B: i16>(a: std::arch::x86_64::__m256i, b: std::arch::x86_64::__m256i) -> std::arch::x86_64::__m256i {
    use std::arch::x86_64::*;
    let triple = |v: __m256i| _mm256_add_epi16(_mm256_slli_epi16::<1>(v), v);
    match B {
        0 => _mm256_slli_epi16::<2>(a),
        1 => _mm256_add_epi16(triple(a), b),
        2 => _mm256_slli_epi16::<1>(_mm256_add_epi16(a, b)),
        _ => _mm256_add_epi16(a, triple(b)),
    }
}

/// [`matrix`] for 8-bit samples, whose coefficients have [`SHORT`] bits; chroma has `weight_bits` more, at most 4.
pub fn matrix8(luma: &[u8], cb: &[i16], cr: &[i16], c: &Coefficients, out: [&mut [u8]; 3]) {
    let n = luma.len();
    let (cb, cr) = (&cb[..n], &cr[..n]);
    let [r, g, b] = out.map(|out| &mut out[..n]);
    let short = Short::new(c);
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && short.k[0][1] == 0 && short.k[2][2] == 0 {
        // SAFETY: the processor has AVX2; all six slices hold `n` values.
        done = unsafe { matrix8_avx2(luma, cb, cr, &short, [&mut *r, &mut *g, &mut *b]) };
    }
    for i in done..n {
        let [y, cb, cr] = [i32::from(luma[i]) << short.weight_bits, cb[i].into(), cr[i].into()];
        let one = |k: &[i16; 3], constant: i32| {
            let sum = constant + i32::from(k[0]) * y + i32::from(k[1]) * cb + i32::from(k[2]) * cr;
            (sum >> short.shift()).clamp(0, 255) as u8
        };
        (r[i], g[i], b[i]) = (
            one(&short.k[0], short.constant[0]),
            one(&short.k[1], short.constant[1]),
            one(&short.k[2], short.constant[2]),
        );
    }
}

/// Coefficients of 16 bits, for luma brought to the scale of chroma.
struct Short {
    k: [[i16; 3]; 3],
    /// Half a value less the zeros.
    constant: [i32; 3],
    weight_bits: u32,
}

impl Short {
    fn new(c: &Coefficients) -> Short {
        let scale = SHIFT - SHORT;
        let k = c.k.map(|[y, cb, cr]| [y >> scale, cb >> (scale - c.weight_bits), cr >> (scale - c.weight_bits)]);
        let constant = k.map(|[y, cb, cr]| {
            (1 << (SHORT + c.weight_bits - 1)) - y * (c.luma_zero << c.weight_bits) - (cb + cr) * c.chroma_zero
        });
        // The largest coefficient is below 2.2, the largest product of a zero below 2^27.
        Short { k: k.map(|k| k.map(|v| v as i16)), constant: constant.map(|v| v as i32), weight_bits: c.weight_bits }
    }

    fn shift(&self) -> u32 {
        SHORT + self.weight_bits
    }
}

/// As many values as fill vectors; says how many. Red has no Cb and blue has no Cr.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn matrix8_avx2(luma: &[u8], cb: &[i16], cr: &[i16], short: &Short, out: [&mut [u8]; 3]) -> usize {
    use std::arch::x86_64::*;
    const HALF_STEP: usize = 16;
    const STEP: usize = 2 * HALF_STEP;
    let both = |a: i16, b: i16| _mm256_set1_epi32((i32::from(a) & 0xFFFF) | (i32::from(b) << 16));
    let [[ry, _, rr], [gy, gb, gr], [by, bb, _]] = short.k;
    let (red, blue, green, green_b) = (both(ry, rr), both(by, bb), both(gy, gr), both(0, gb));
    let [red_c, green_c, blue_c] = short.constant.map(|c| _mm256_set1_epi32(c));
    let (scale, shift) = (_mm_cvtsi32_si128(short.weight_bits as i32), _mm_cvtsi32_si128(short.shift() as i32));
    let out = out.map(<[u8]>::as_mut_ptr);
    let count = luma.len() / STEP * STEP;
    for i in (0..count).step_by(STEP) {
        // SAFETY: all slices hold `count` values at least.
        unsafe {
            let mut halves = [[_mm256_setzero_si256(); 3]; 2];
            for (half, out) in halves.iter_mut().enumerate() {
                let i = i + half * HALF_STEP;
                let y = _mm256_cvtepu8_epi16(_mm_loadu_si128(luma.as_ptr().add(i).cast()));
                let y = _mm256_sll_epi16(y, scale);
                let b = _mm256_loadu_si256(cb.as_ptr().add(i).cast());
                let r = _mm256_loadu_si256(cr.as_ptr().add(i).cast());
                let (yr0, yr1) = (_mm256_unpacklo_epi16(y, r), _mm256_unpackhi_epi16(y, r));
                let (yb0, yb1) = (_mm256_unpacklo_epi16(y, b), _mm256_unpackhi_epi16(y, b));
                let sum = |pairs: __m256i, k: __m256i, add: __m256i| _mm256_add_epi32(_mm256_madd_epi16(pairs, k), add);
                // Unpacking and packing both work within halves, so the order is kept.
                let pack =
                    |a: __m256i, b: __m256i| _mm256_packs_epi32(_mm256_sra_epi32(a, shift), _mm256_sra_epi32(b, shift));
                *out = [
                    pack(sum(yr0, red, red_c), sum(yr1, red, red_c)),
                    pack(sum(yr0, green, sum(yb0, green_b, green_c)), sum(yr1, green, sum(yb1, green_b, green_c))),
                    pack(sum(yb0, blue, blue_c), sum(yb1, blue, blue_c)),
                ];
            }
            for channel in 0..3 {
                let bytes = _mm256_packus_epi16(halves[0][channel], halves[1][channel]);
                let bytes = _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes);
                _mm256_storeu_si256(out[channel].add(i).cast(), bytes);
            }
        }
    }
    count
}

/// Up to [`STRIP`] rows, `stride` apart, each followed by as much room as a picture's rows have.
#[derive(Clone, Copy)]
pub struct Strip<'a> {
    /// From the first row's first value on.
    pub rows: &'a [u8],
    /// From row to row.
    pub stride: usize,
    /// How many rows.
    pub count: usize,
    /// Values of a row, the first of which is the first that the weights read.
    pub width: usize,
}

/// Rows that [`horizontal`] takes at most.
pub const STRIP: usize = 8;
/// Values that must be readable behind the start of a row's last ones.
pub const ROOM: usize = 16;

/// Where the rows of a strip go, `n` values each, `stride` apart.
pub struct Narrow<'a> {
    /// From the first row's first value on.
    pub rows: &'a mut [u8],
    /// From row to row.
    pub stride: usize,
    /// Values of a row.
    pub n: usize,
}

/// Lanes of strips, reused.
pub type Lanes<const N: usize> = [Vec<i16>; N];

/// The horizontal pass: `out[i] = clip((HALF + sum(row * weight)) >> PRECISION)` for each row of strips that share their
/// weights and their number of rows: the channels of a picture, or parts of one plane. `first` is the first input that
/// the weights read.
pub fn horizontal<const N: usize>(
    strips: [Strip; N],
    first: usize,
    weights: &Weights,
    lanes: &mut Lanes<N>,
    mut out: [Narrow; N],
) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2")
        && strips
            .iter()
            .all(|s| (1..=STRIP).contains(&s.count) && s.count == strips[0].count && s.width == strips[0].width)
        && strips.iter().all(|s| s.rows.len() >= (s.count - 1) * s.stride + s.width.next_multiple_of(ROOM))
        && out.iter().all(|o| o.rows.len() >= (strips[0].count - 1) * o.stride + o.n && o.n == out[0].n)
        && out[0].n <= weights.starts.len()
    {
        // SAFETY: the processor has AVX2; rows and outputs are as long as is asked for, and the weights read no column
        // behind the strips'.
        return unsafe {
            for (strip, lanes) in strips.iter().zip(lanes.iter_mut()) {
                strip::interleave(strip, lanes);
            }
            strip::horizontal(lanes, &weights.pairs, strips[0].count, &mut out);
        };
    }
    for (strip, out) in strips.iter().zip(&mut out) {
        for row in 0..strip.count {
            let values = &strip.rows[row * strip.stride..][..strip.width];
            horizontal_plain(values, first, weights, &mut out.rows[row * out.stride..][..out.n]);
        }
    }
}

fn horizontal_plain(row: &[u8], first: usize, weights: &Weights, out: &mut [u8]) {
    for (i, out) in out.iter_mut().enumerate() {
        let own = &weights.full[i * weights.padded..][..weights.lengths[i] as usize];
        let values = &row[weights.starts[i] as usize - first..][..own.len()];
        let sum = values.iter().zip(own).fold(HALF, |sum, (v, w)| sum.wrapping_add(i32::from(*v).wrapping_mul(*w)));
        *out = (sum >> PRECISION).clamp(0, 255) as u8;
    }
}

/// Row `at` of the vertical pass: `rows`, `stride` apart, begin with the first input that the weights read.
pub fn vertical(rows: &[u8], stride: usize, first: usize, weights: &Weights, at: usize, out: &mut [u8]) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        let last = weights.reads.len() - 1;
        if rows.len() >= last * stride + out.len() {
            // SAFETY: the processor has AVX2; each row that the weights read holds as many values as `out`.
            done = unsafe { strip::vertical(rows, stride, last, &weights.pairs, at, out) };
        }
    }
    let own = &weights.full[at * weights.padded..][..weights.lengths[at] as usize];
    let rows = &rows[(weights.starts[at] as usize - first) * stride..];
    for (i, out) in out.iter_mut().enumerate().skip(done) {
        let sum = own
            .iter()
            .enumerate()
            .fold(HALF, |sum, (row, weight)| sum.wrapping_add(i32::from(rows[row * stride + i]).wrapping_mul(*weight)));
        *out = (sum >> PRECISION).clamp(0, 255) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::resample::{Filter, Span};
    use proptest::prelude::*;

    fn values(seed: u64, n: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
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
            let axis = Axis::new(1, (seed % 3) as i32, (x0 + n).div_ceil(2), crate::program::yuv::Chroma::Linear);
            let (first, last) = (axis.tap(x0).a, axis.tap(x0 + n - 1).b);
            let mut short = [vec![0i16; n], vec![0i16; n]];
            let mut long = [vec![0i32; n], vec![0i32; n]];
            for c in 0..2 {
                let (a, b) = (values(seed ^ c, last + 1 - first), values(!seed ^ c, last + 1 - first));
                let mut row16: Vec<i16> = vec![0; a.len()];
                blend8(&a, &b, 3, 1, &mut row16);
                let mut row32: Vec<i32> = a.iter().map(|v| i32::from(*v)).collect();
                blend(&mut row32, &b.iter().map(|v| i32::from(*v)).collect::<Vec<_>>(), 3, 1);
                prop_assert!(row16.iter().zip(&row32).all(|(a, b)| i32::from(*a) == *b));
                upsample2_8(&row16, &axis, x0, first, &mut short[c as usize]);
                upsample2(&row32, &axis, x0, first, &mut long[c as usize]);
                prop_assert!(short[c as usize].iter().zip(&long[c as usize]).all(|(a, b)| i32::from(*a) == *b));
            }
            let luma = values(seed ^ 9, n);
            let coefficients = Coefficients::new(&color, 8, 4);
            let mut narrow = [vec![0u8; n], vec![0u8; n], vec![0u8; n]];
            let mut wide = narrow.clone();
            let [r, g, b] = &mut narrow;
            matrix8(&luma, &short[0], &short[1], &coefficients, [r, g, b]);
            let luma: Vec<i32> = luma.iter().map(|v| i32::from(*v)).collect();
            let [r, g, b] = &mut wide;
            matrix(&luma, &long[0], &long[1], &coefficients, 8, [r, g, b]);
            prop_assert_eq!(narrow, wide);
        }

        #[test]
        fn wide_and_plain_loops_agree(
            seed in any::<u64>(), input in 1usize..300, out in 1usize..200, count in 1usize..=STRIP, kind in 0usize..5,
        ) {
            let filters = [Filter::Lanczos, Filter::Bicubic, Filter::Bilinear, Filter::Box, Filter::Nearest];
            let first = seed as usize % out;
            let weights = Weights::new(Span::whole(input, out), filters[kind], first, out - first);
            let (reads, n) = (&weights.reads, out - first);
            let (width, stride) = (reads.len(), reads.len() + ROOM);
            let mut rows = [values(seed, stride * count), values(!seed, stride * count)];
            // Flat and extreme rows lie on the border between two values more often.
            if seed % 3 == 0 {
                rows[0].iter_mut().for_each(|v| *v = if *v > 127 { 255 } else { 0 });
            }
            let mut wide = [vec![0; n * count], vec![0; n * count]];
            let strips = rows.each_ref().map(|rows| Strip { rows, stride, count, width });
            let to = wide.each_mut().map(|rows| Narrow { rows, stride: n, n });
            horizontal(strips, reads.start, &weights, &mut Default::default(), to);
            for (rows, wide) in rows.iter().zip(&wide) {
                for row in 0..count {
                    let mut narrow = vec![1; n];
                    horizontal_plain(&rows[row * stride..][..width], reads.start, &weights, &mut narrow);
                    prop_assert_eq!(&wide[row * n..][..n], &narrow);
                }
            }
            // The same weights down columns.
            let across = count * 9;
            let plane = values(!seed, width * across);
            for at in 0..n {
                let (mut row, mut column) = (vec![0; across], vec![0]);
                vertical(&plane, across, reads.start, &weights, at, &mut row);
                for x in 0..across {
                    vertical(&plane[x..], across, reads.start, &weights, at, &mut column);
                    prop_assert_eq!(row[x], column[0]);
                }
            }
        }

        #[test]
        fn slack_bounds_what_guesses_leave_out(seed in any::<u64>(), input in 2usize..400, out in 1usize..100) {
            let weights = Weights::new(Span::whole(input, out), Filter::Bicubic, 0, out);
            let row = values(seed, input);
            let pairs = &weights.pairs;
            for i in 0..out {
                let own = &weights.full[i * weights.padded..][..weights.lengths[i] as usize];
                let start = weights.starts[i] as usize;
                let exact: i64 = own.iter().zip(&row[start..]).map(|(w, v)| i64::from(*w) * i64::from(*v)).sum();
                let guesses = pairs.guess[i * pairs.count..][..pairs.count].iter().flatten();
                let from = 2 * pairs.starts[i] as usize + weights.reads.start;
                let guess: i64 = guesses.zip(row[from..].iter().chain(&[0])).map(|(w, v)| i64::from(*w) * i64::from(*v)).sum();
                let beyond = exact + i64::from(HALF) - (guess << pairs.shift);
                let [least, most] = pairs.slack[i].map(i64::from);
                prop_assert!((least..=most).contains(&beyond), "{least} {beyond} {most}");
            }
        }
    }

    /// The slack is needed: guesses alone give other values now and then.
    #[test]
    fn guesses_alone_are_wrong_somewhere() {
        let weights = Weights::new(Span::whole(1920, 224), Filter::Bicubic, 0, 224);
        let (row, pairs) = (values(7, 1920), &weights.pairs);
        let mut exact = vec![0; 224];
        horizontal_plain(&row, weights.reads.start, &weights, &mut exact);
        let guessed = (0..224).map(|i| {
            let from = 2 * pairs.starts[i] as usize + weights.reads.start;
            let guesses = pairs.guess[i * pairs.count..][..pairs.count].iter().flatten();
            let sum: i32 =
                guesses.zip(row[from..].iter().chain(&[0])).map(|(w, v)| i32::from(*w) * i32::from(*v)).sum();
            (((sum << pairs.shift) + HALF) >> PRECISION).clamp(0, 255) as u8
        });
        let wrong = guessed.zip(&exact).filter(|(guessed, exact)| guessed != *exact).count();
        assert!((1..20).contains(&wrong), "{wrong} of 224");
    }
}
