//! The inner loops of the CPU backend. Integer arithmetic alone, so all ways give the same values; tests say so.
//!
//! The passes of a resize are kernels, written once for vectors of any width and compiled for each kind ([`Level`]); the
//! others are plain functions that the compiler vectorises twice. What is used is chosen when it runs.

mod kernels;
mod vector;

use vector::{MOST_ROWS, Vector};

use crate::program::resample::Weights;
use crate::program::yuv::{Axis, Coefficients, SHIFT, SHORT};

/// Vectors that this processor has instructions for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// All that this processor has, the narrowest first.
    pub fn all() -> Vec<Level> {
        let mut all = vec![Level(Kind::Portable)];
        #[cfg(target_arch = "aarch64")]
        all.push(Level(Kind::Neon));
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") {
                all.push(Level(Kind::Avx2));
                if has!("avx512f") && has!("avx512bw") && has!("avx512vnni") {
                    all.push(Level(Kind::Avx512));
                }
            }
        }
        all
    }

    /// The widest.
    pub fn best() -> Level {
        Self::all().pop().unwrap_or(Level(Kind::Portable))
    }

    /// Rows of a strip.
    pub fn rows(self) -> usize {
        match self.0 {
            Kind::Portable => vector::Portable::ROWS,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => vector::Neon::ROWS,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => vector::Avx2::ROWS,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => vector::Avx512::ROWS,
        }
    }
}

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

/// Rows of a plane, from one of its columns on.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// The plane's bytes.
    pub data: &'a [u8],
    /// From row to row.
    pub stride: usize,
    /// The first byte of each row.
    pub from: usize,
}

impl<'a> Rows<'a> {
    /// Where each of `places` begins, if `width` bytes can be read of all of them; else copies of them, in `edge`.
    fn starts<const N: usize>(self, places: [usize; N], width: usize, edge: &mut Vec<u8>) -> [*const u8; N] {
        let rest = |y: usize| &self.data[y * self.stride + self.from..];
        if places.iter().all(|y| rest(*y).len() >= width) {
            return places.map(|y| rest(y).as_ptr());
        }
        edge.clear();
        edge.resize(N * width, 0);
        for (to, y) in edge.chunks_exact_mut(width).zip(places) {
            let n = width.min(rest(y).len());
            to[..n].copy_from_slice(&rest(y)[..n]);
        }
        std::array::from_fn(|i| edge[i * width..].as_ptr())
    }
}

/// A strip: neighbouring rows of a picture.
#[derive(Clone, Copy)]
pub struct Strip {
    /// The first.
    pub y: usize,
    /// How many: [`Level::rows`], or fewer at the end.
    pub count: usize,
    /// Columns.
    pub width: usize,
}

impl Strip {
    /// The rows of a vector; the last is repeated where there are fewer.
    fn places<const N: usize>(self) -> [usize; N] {
        std::array::from_fn(|i| self.y + i.min(self.count - 1))
    }
}

/// As long as a cache line, and begins where one does.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Block(#[expect(dead_code, reason = "read and written through pointers")] [u8; 64]);

/// Bytes in blocks.
#[derive(Default)]
struct Blocks(Vec<Block>);

impl Blocks {
    /// Room for `n` bytes, whatever they are.
    fn room(&mut self, n: usize) -> *mut u8 {
        let blocks = n.div_ceil(size_of::<Block>());
        if self.0.len() < blocks {
            self.0.resize(blocks, Block([0; 64]));
        }
        self.0.as_mut_ptr().cast()
    }

    fn len(&self) -> usize {
        size_of_val(self.0.as_slice())
    }

    /// The first `n` bytes.
    fn bytes(&self, n: usize) -> *const u8 {
        assert!(n <= self.len());
        self.0.as_ptr().cast()
    }
}

/// A strip of a plane as vectors have it: see [`kernels`].
#[derive(Default)]
pub struct Lanes {
    blocks: Blocks,
    /// Columns.
    width: usize,
    /// Copies of rows behind whose last values nothing may be read.
    edge: Vec<u8>,
}

impl Lanes {
    /// The memory that it holds.
    pub fn bytes(&self) -> usize {
        self.blocks.len()
    }

    /// Room for `width` columns, rounded up as the widest kernel does.
    fn room(&mut self, level: Level, width: usize) -> *mut u8 {
        self.width = width;
        self.blocks.room(width.next_multiple_of(kernels::BLOCK) * level.rows())
    }

    /// Takes a strip of a plane.
    pub fn fill_plane(&mut self, level: Level, rows: Rows, strip: Strip) {
        let to = self.room(level, strip.width);
        let starts = rows.starts(strip.places(), strip.width.next_multiple_of(16), &mut self.edge);
        // SAFETY: rows and lanes have room for the columns rounded up to sixteen.
        unsafe { kernels::fill_plane(level, &starts, rows.stride * level.rows(), strip.width, to) };
    }
}

/// Takes a strip of interleaved RGB.
pub fn fill_rgb(level: Level, rows: Rows, strip: Strip, lanes: &mut [Lanes; 3]) {
    let to = lanes.each_mut().map(|lanes| lanes.room(level, strip.width));
    let starts = rows.starts(strip.places(), 3 * strip.width.next_multiple_of(4) + 4, &mut lanes[0].edge);
    // SAFETY: rows and lanes have room for the columns rounded up to four.
    unsafe { kernels::fill_rgb(level, &starts, strip.width, to) };
}

/// Converts a strip of 8-bit YCbCr to RGB; false where the kind of picture has no such way. `luma` begins with an even
/// column, and `chroma` with that one's sample.
pub fn fill_yuv(
    level: Level,
    luma: Rows,
    chroma: [Rows; 2],
    strip: Strip,
    (x, y): (&Axis, &Axis),
    coefficients: &Coefficients,
    lanes: &mut [Lanes; 3],
) -> bool {
    let (Some(matrix), Some(mut layout)) = (Matrix::new(coefficients), Chroma::new(x, y, chroma[0].from, strip)) else {
        return false;
    };
    layout.ahead = [luma.stride * level.rows(), (chroma[0].stride * level.rows()) >> y.sub];
    let to = lanes.each_mut().map(|lanes| lanes.room(level, strip.width));
    let whole = strip.width.next_multiple_of(kernels::BLOCK);
    let samples = match x.sub {
        0 => whole,
        // The next block's too, where it begins before the end.
        _ if whole / 2 <= layout.last => whole / 2 + kernels::BLOCK / 2,
        _ => whole / 2,
    };
    let [r, g, b] = lanes;
    let luma = luma.starts(strip.places(), whole, &mut r.edge);
    let chroma =
        [chroma[0].starts(layout.rows, samples, &mut g.edge), chroma[1].starts(layout.rows, samples, &mut b.edge)];
    // SAFETY: rows and lanes have room for the columns in whole blocks.
    unsafe {
        match x.sub {
            0 => kernels::fill_yuv::<false>(level, &luma, &chroma, &layout, &matrix, strip.width, to),
            _ => kernels::fill_yuv::<true>(level, &luma, &chroma, &layout, &matrix, strip.width, to),
        }
    }
    true
}

/// Which chroma samples a strip's rows are made of: of four neighbouring rows for every four.
struct Chroma {
    /// The rows of a vector.
    rows: [usize; MOST_ROWS],
    /// The last sample, counted from the strip's first.
    last: usize,
    /// Where the samples of four columns lie among four rows of four columns: of two columns, the later first, both rows.
    /// Columns 0 and 1, then 2 and 3; where all columns have samples, 0 and 2, then 1 and 3.
    places: [[i8; 4 * MOST_ROWS]; 2],
    /// How much both rows count, for both columns.
    weights: [i8; 4 * MOST_ROWS],
    /// Bytes to the next strip's rows, of luma and of chroma.
    ahead: [usize; 2],
}

impl Chroma {
    /// `None` for siting that takes other weights.
    fn new(x: &Axis, y: &Axis, from: usize, strip: Strip) -> Option<Chroma> {
        // Where every other column has samples, the kernel adds two of four times their scale.
        let (scale, columns) = match (x.sub, x.bits, x.offset) {
            (0, 0, _) => (8, [[2, 0], [3, 1]]),
            (1, 2, 0) => (4, [[1, 0], [3, 2]]),
            _ => return None,
        };
        if y.sub > 1 || y.bits > 2 {
            return None;
        }
        let tap = |row: usize| y.tap(strip.y + row.min(strip.count - 1));
        let first = |row: usize| tap(row / 4 * 4).a;
        let mut out = Chroma {
            rows: std::array::from_fn(|row| (first(row) + row % 4).min(y.samples - 1)),
            last: x.samples - 1 - from,
            places: [[0; 4 * MOST_ROWS]; 2],
            weights: [0; 4 * MOST_ROWS],
            ahead: [0; 2],
        };
        for row in 0..MOST_ROWS {
            let tap = tap(row);
            let [a, b] = [tap.a, tap.b].map(|y| 4 * (y - first(row)) as i8);
            for (places, [later, earlier]) in out.places.iter_mut().zip(columns) {
                places[4 * row..][..4].copy_from_slice(&[a + later, b + later, a + earlier, b + earlier]);
            }
            let b = (scale >> y.bits) * tap.weight as i8;
            out.weights[4 * row..][..4].copy_from_slice(&[scale - b, b, scale - b, b]);
        }
        Some(out)
    }
}

/// Coefficients of 16 bits for samples of 8 times their scale: the result stands in the upper word.
struct Matrix {
    k: [[i16; 3]; 3],
    /// Half a value less the zeros.
    constant: [i32; 3],
}

impl Matrix {
    /// `None` where red has Cb or blue has Cr.
    fn new(c: &Coefficients) -> Option<Matrix> {
        const SCALE: u32 = u16::BITS - SHORT;
        let k = Short::new(c).k;
        let (luma, chroma) = (c.luma_zero << SCALE, (c.chroma_zero >> c.weight_bits) << SCALE);
        let constant = k.map(|k| {
            let [y, cb, cr] = k.map(i64::from);
            ((1 << (u16::BITS - 1)) - y * luma - (cb + cr) * chroma) as i32
        });
        (k[0][1] == 0 && k[2][2] == 0).then_some(Matrix { k, constant })
    }
}

/// Values that a picture's rows have room for behind their last: what the widest vector reads and writes.
pub const ROOM: usize = size_of::<Block>();

/// A plane, four rows to a dword: see [`kernels`].
#[derive(Default)]
pub struct Stack {
    blocks: Blocks,
    columns: usize,
    rows: usize,
}

impl Stack {
    /// The memory that it holds.
    pub fn bytes(&self) -> usize {
        self.blocks.len()
    }

    /// Makes it so large; what it holds is to be written.
    pub fn reset(&mut self, columns: usize, rows: usize) {
        (self.columns, self.rows) = (columns, rows);
        self.blocks.room(self.stride() * rows.next_multiple_of(MOST_ROWS) / 4);
    }

    /// From four rows to the next four.
    fn stride(&self) -> usize {
        4 * self.columns.next_multiple_of(ROOM)
    }

    /// Where row `y` lies.
    fn at(&mut self, y: usize) -> *mut u8 {
        assert!(y.is_multiple_of(4) && y < self.rows);
        let skipped = self.stride() * (y / 4);
        self.blocks.room(self.stride() * self.rows.next_multiple_of(MOST_ROWS) / 4).wrapping_add(skipped)
    }

    /// Where row `y` lies, with room for a vector's rows.
    fn strip(&mut self, level: Level, y: usize) -> *mut u8 {
        assert!(y.is_multiple_of(level.rows()));
        self.at(y)
    }

    /// Takes rows of a picture, which have [`ROOM`], from row `y` on.
    pub fn put(&mut self, level: Level, rows: Rows, strip: Strip, y: usize) {
        assert_eq!(strip.width, self.columns);
        let mut edge = Vec::new();
        for i in (0..strip.count).step_by(4) {
            let four = Strip { y: strip.y + i, count: (strip.count - i).min(4), ..strip };
            let starts = rows.starts(four.places(), strip.width.next_multiple_of(ROOM), &mut edge);
            // SAFETY: rows and stack have room for the columns in whole blocks.
            unsafe { kernels::stack(level, starts, strip.width, self.at(y + i)) };
        }
    }

    /// Gives its rows to `rows`, a picture's plane of the same size whose rows have [`ROOM`].
    pub fn rows(&self, level: Level, rows: &mut [u8], stride: usize) {
        assert!(stride >= self.columns.next_multiple_of(ROOM) && rows.len() >= stride * self.rows);
        let mut spare = vec![0; stride];
        for y in (0..self.rows).step_by(4) {
            let from = self.blocks.bytes(self.stride() * self.rows.div_ceil(4)).wrapping_add(self.stride() * (y / 4));
            let mut to = [spare.as_mut_ptr(); 4];
            for (to, row) in to.iter_mut().zip(rows[y * stride..self.rows * stride].chunks_exact_mut(stride)) {
                *to = row.as_mut_ptr();
            }
            // SAFETY: stack and rows have room for the columns in whole blocks.
            unsafe { kernels::unstack(level, from, self.columns, to) };
        }
    }
}

/// The horizontal pass: `out[i] = clip((HALF + sum(row * weight)) >> PRECISION)` for each row of strips that share their
/// weights, to their rows of stacks from row `y` on: of the channels of a picture, or of parts of one plane. Lanes begin with
/// column [`Weights::first`].
pub fn across<const N: usize>(level: Level, lanes: [&Lanes; N], weights: &Weights, stacks: &mut [Stack; N], y: usize) {
    let reads = weights.reads.end - weights.first();
    let (columns, stride) = (stacks[0].columns, stacks[0].stride());
    assert!(columns <= weights.starts.len() && stacks.iter().all(|stack| stack.columns == columns));
    assert!(lanes.iter().all(|lanes| lanes.width >= reads));
    let from = lanes.map(|lanes| lanes.blocks.bytes(reads.next_multiple_of(4) * level.rows()));
    let to = stacks.each_mut().map(|stack| stack.strip(level, y));
    // SAFETY: lanes hold what the weights read; a stack has room for a vector's rows.
    unsafe { kernels::across(level, from, &weights.quads, columns, to, stride) };
}

/// The vertical pass: row `at`, for a stack that begins with row [`Weights::first`], to `out`, which has [`ROOM`].
pub fn down(level: Level, stack: &Stack, weights: &Weights, at: usize, out: &mut [u8]) {
    let reads = weights.reads.end - weights.first();
    assert!(reads <= stack.rows && out.len() >= stack.columns.next_multiple_of(ROOM));
    let from = stack.blocks.bytes(stack.stride() * reads.div_ceil(4));
    // SAFETY: the stack holds what the weights read; the row has room for the columns in whole blocks.
    unsafe { kernels::down(level, from, stack.stride(), &weights.quads, at, stack.columns, out.as_mut_ptr()) };
}

/// Row `y` of three planes, `width` pixels of which [`ROOM`] more can be read, interleaved in `out`.
pub fn pixels<'a>(level: Level, planes: [Rows; 3], y: usize, width: usize, out: &'a mut Vec<u8>) -> &'a [u8] {
    let room = width.next_multiple_of(ROOM);
    out.resize(3 * room, 0);
    let rows = planes.map(|rows| &rows.data[y * rows.stride + rows.from..][..room]);
    if level.0 == Kind::Portable {
        // Without an instruction for it, moving bytes about is dear.
        for (((pixel, r), g), b) in out.chunks_exact_mut(3).zip(rows[0]).zip(rows[1]).zip(rows[2]) {
            pixel.copy_from_slice(&[*r, *g, *b]);
        }
    } else {
        // SAFETY: rows and output have room for the columns in whole vectors.
        unsafe { kernels::interleave(level, rows.map(<[u8]>::as_ptr), width, out.as_mut_ptr()) };
    }
    &out[..3 * width]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::resample::{Filter, HALF, PRECISION, Span};
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
        fn all_levels_give_the_formulas_values(
            seed in any::<u64>(), input in 1usize..300, out in 1usize..200, rows in 1usize..40, kind in 0usize..5,
        ) {
            let filters = [Filter::Lanczos, Filter::Bicubic, Filter::Bilinear, Filter::Box, Filter::Nearest];
            let first = seed as usize % out;
            let weights = Weights::new(Span::whole(input, out), filters[kind], first, out - first);
            let (width, n) = (weights.reads.end - weights.first(), out - first);
            // No room behind the last row: kernels must not need any.
            let stride = width + (seed % 7) as usize;
            let mut plane = values(seed, stride * (rows - 1) + width);
            // Flat and extreme rows lie on the border between two values more often.
            if seed % 3 == 0 {
                plane.iter_mut().for_each(|v| *v = if *v > 127 { 255 } else { 0 });
            }
            let rows_of = Rows { data: &plane, stride, from: 0 };
            let narrow: Vec<u8> =
                (0..rows).flat_map(|y| (0..n).map(|i| exact(&weights, i, |x| plane[y * stride + x])).collect::<Vec<_>>()).collect();
            // The same weights down columns.
            let across_n = (seed % 150) as usize + 1;
            let tall = values(!seed, width * (across_n + ROOM));
            let tall_rows = Rows { data: &tall, stride: across_n + ROOM, from: 0 };
            let low: Vec<Vec<u8>> = (0..n)
                .map(|at| (0..across_n).map(|x| exact(&weights, at, |y| tall[y * (across_n + ROOM) + x])).collect())
                .collect();
            for level in Level::all() {
                let (mut lanes, mut stack) = (Lanes::default(), Stack::default());
                stack.reset(n, rows);
                for y in (0..rows).step_by(level.rows()) {
                    let strip = Strip { y, count: level.rows().min(rows - y), width };
                    lanes.fill_plane(level, rows_of, strip);
                    across(level, [&lanes], &weights, std::array::from_mut(&mut stack), y);
                }
                let mut got = vec![0; (n + ROOM) * rows];
                stack.rows(level, &mut got, n + ROOM);
                for (got, wanted) in got.chunks(n + ROOM).zip(narrow.chunks(n)) {
                    prop_assert_eq!(&got[..n], wanted, "{:?}", level);
                }
                stack.reset(across_n, width);
                stack.put(level, tall_rows, Strip { y: 0, count: width, width: across_n }, 0);
                for (at, wanted) in low.iter().enumerate() {
                    let mut got = vec![0; across_n + ROOM];
                    down(level, &stack, &weights, at, &mut got);
                    prop_assert_eq!(&got[..across_n], wanted, "{:?}", level);
                }
            }
        }

        #[test]
        fn pixels_are_interleaved(seed in any::<u64>(), width in 1usize..200) {
            let planes = [values(seed, 2 * (width + ROOM)), values(!seed, 2 * (width + ROOM)), values(7, 2 * (width + ROOM))];
            let rows = planes.each_ref().map(|data| Rows { data, stride: width + ROOM, from: 0 });
            let wanted: Vec<u8> = (0..width).flat_map(|x| planes.each_ref().map(|plane| plane[width + ROOM + x])).collect();
            for level in Level::all() {
                let mut row = Vec::new();
                prop_assert_eq!(pixels(level, rows, 1, width, &mut row), &wanted, "{:?}", level);
            }
        }

        #[test]
        fn parts_of_weights_are_the_weights(seed in any::<u64>(), input in 2usize..400, out in 1usize..100) {
            let weights = Weights::new(Span::whole(input, out), Filter::Bicubic, 0, out);
            let row = values(seed, input + 8);
            let quads = &weights.quads;
            for i in 0..out {
                let own = &weights.full[i * weights.padded..][..weights.lengths[i] as usize];
                let start = weights.starts[i] as usize;
                let exact: i64 = own.iter().zip(&row[start..]).map(|(w, v)| i64::from(*w) * i64::from(*v)).sum();
                let inputs = &row[4 * quads.starts[i] as usize + weights.first()..];
                let range = i * quads.count..(i + 1) * quads.count;
                let words = |part: &[[[i16; 2]; 2]]| -> i64 {
                    let in_order = part.iter().flat_map(|[even, odd]| [even[0], odd[0], even[1], odd[1]]);
                    in_order.zip(inputs).map(|(w, v)| i64::from(w) * i64::from(*v)).sum()
                };
                let guess = words(&quads.guess[range.clone()]) << quads.shift;
                prop_assert_eq!(guess + words(&quads.rest[range.clone()]), exact);
                let [least, most] = quads.slack[i].map(i64::from);
                let beyond = exact + i64::from(HALF) - guess;
                prop_assert!((least..=most).contains(&beyond), "{least} {beyond} {most}");
                let digit = |k: usize| -> i64 {
                    let digits = quads.digits[range.clone()].iter().flat_map(|digits| digits[k]);
                    digits.zip(inputs).map(|(w, v)| i64::from(w) * i64::from(*v)).sum()
                };
                prop_assert_eq!(digit(0) + (digit(1) << 8) + (digit(2) << 16), exact);
            }
        }
    }

    /// The rounded and clamped sum, as it is defined.
    fn exact(weights: &Weights, i: usize, value: impl Fn(usize) -> u8) -> u8 {
        let own = &weights.full[i * weights.padded..][..weights.lengths[i] as usize];
        let start = weights.starts[i] as usize - weights.first();
        let sum: i64 = own.iter().enumerate().map(|(k, w)| i64::from(*w) * i64::from(value(start + k))).sum();
        ((sum + i64::from(HALF)) >> PRECISION).clamp(0, 255) as u8
    }

    #[test]
    fn levels_of_this_machine() {
        println!("levels: {:?}", Level::all());
        assert_eq!(Level::all()[0].0, Kind::Portable);
        assert_eq!(Level::all().last(), Some(&Level::best()));
    }

    /// The slack is needed: guesses alone give other values now and then.
    #[test]
    fn guesses_alone_are_wrong_somewhere() {
        let weights = Weights::new(Span::whole(1920, 224), Filter::Bicubic, 0, 224);
        let (row, quads) = (values(7, 1924), &weights.quads);
        let wrong = (0..224).filter(|i| {
            let inputs = &row[4 * quads.starts[*i] as usize + weights.first()..];
            let guesses = quads.guess[i * quads.count..][..quads.count].iter();
            let guesses = guesses.flat_map(|[even, odd]| [even[0], odd[0], even[1], odd[1]]);
            let sum: i32 = guesses.zip(inputs).map(|(w, v)| i32::from(w) * i32::from(*v)).sum();
            let guessed = (((sum << quads.shift) + HALF) >> PRECISION).clamp(0, 255) as u8;
            guessed != exact(&weights, *i, |x| row[x])
        });
        let wrong = wrong.count();
        assert!((1..20).contains(&wrong), "{wrong} of 224");
    }
}
