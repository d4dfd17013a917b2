//! The passes of a resize on vectors. Four neighbouring inputs share a dword, so that multiply-adds take them together, and
//! nothing is summed across dwords. Two layouts:
//!
//! - *lanes*, for the horizontal pass: a vector has four columns of as many rows as it has dwords, a dword for each row.
//! - a *stack*, for the vertical one: a dword has four rows of one column. Vectors of a block have columns 0..4, 4..8, 8..12
//!   and 12..16 in their first quarters, the next sixteen in their second, and so on: the order in which dwords that are
//!   packed to bytes stand in a row.
//!
//! All kernels are inlined into functions that have the vector's instructions enabled. So must be all that they call on the
//! way to an instruction: closures and adapters of iterators would not be, hence the loops.

#[cfg(target_arch = "aarch64")]
use super::vector::Neon;
#[cfg(target_arch = "x86_64")]
use super::vector::{Avx2, Avx512};
use super::vector::{MOST_ROWS, Portable, Vector};
use super::{Chroma, Kind, Level, Matrix};
use crate::program::resample::{HALF, PRECISION, Quads};

/// Where the rows of a strip begin, as many as a vector has.
pub type Starts = [*const u8; MOST_ROWS];

/// Bytes of a quarter.
const QUARTER: usize = 16;
/// Columns that [`yuv`] takes at once.
pub const BLOCK: usize = 2 * QUARTER;
/// No place in a quarter.
const OUT: i8 = -1;

/// Compiles kernels for all kinds of vectors.
macro_rules! compiled {
    ($(fn $name:ident / $kernel:ident $(<const $const:ident: $kind:ty>)? (
        $($arg:ident: $type:ty),* $(,)?
    );)*) => {
        $(/// The kernel of that name, as it was compiled for `level`.
        ///
        /// # Safety
        /// As the kernel, but for the processor, which has what the level says.
        pub unsafe fn $name$(<const $const: $kind>)?(level: Level, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            unsafe fn avx2$(<const $const: $kind>)?($($arg: $type),*) {
                // SAFETY: the caller's promise.
                unsafe { $kernel::<Avx2 $(, $const)?>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
            unsafe fn avx512$(<const $const: $kind>)?($($arg: $type),*) {
                // SAFETY: the caller's promise.
                unsafe { $kernel::<Avx512 $(, $const)?>($($arg),*) }
            }
            // SAFETY: the caller's promise; the processor has what the level says.
            unsafe {
                match level.0 {
                    Kind::Portable => $kernel::<Portable $(, $const)?>($($arg),*),
                    // What is built for such processors may use it anywhere.
                    #[cfg(target_arch = "aarch64")]
                    Kind::Neon => $kernel::<Neon $(, $const)?>($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Kind::Avx2 => avx2$(::<$const>)?($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Kind::Avx512 => avx512$(::<$const>)?($($arg),*),
                }
            }
        })*
    };
}

compiled! {
    fn fill_plane / plane(rows: &Starts, ahead: usize, columns: usize, to: *mut u8);
    fn fill_rgb / rgb(rows: &Starts, columns: usize, to: [*mut u8; 3]);
    fn fill_yuv / yuv<const HALF_WIDTH: bool>(
        luma: &Starts, chroma: &[Starts; 2], layout: &Chroma, matrix: &Matrix, columns: usize, to: [*mut u8; 3],
    );
    fn across / horizontal<const N: usize>(
        lanes: [*const u8; N], quads: &Quads, columns: usize, to: [*mut u8; N], stride: usize,
    );
    fn down / vertical(stack: *const u8, stride: usize, quads: &Quads, at: usize, columns: usize, to: *mut u8);
    fn stack / stacked(rows: [*const u8; 4], columns: usize, to: *mut u8);
    fn unstack / unstacked(from: *const u8, columns: usize, to: [*mut u8; 4]);
    fn interleave / interleaved(rows: [*const u8; 3], columns: usize, to: *mut u8);
}

/// Four vectors' dwords change places, in each quarter: dword `r` of vector `j` is dword `j` of vector `r`.
#[inline(always)]
fn transpose<V: Vector>([a, b, c, d]: [V; 4]) -> [V; 4] {
    let (ab, cd, ab_hi, cd_hi) = (a.lo32(b), c.lo32(d), a.hi32(b), c.hi32(d));
    [ab.lo64(cd), ab.hi64(cd), ab_hi.lo64(cd_hi), ab_hi.hi64(cd_hi)]
}

/// Sixteen columns of rows, in lanes.
///
/// # Safety
/// The processor has the vector's instructions; each row can be read there.
#[inline(always)]
unsafe fn lanes<V: Vector>(rows: &Starts, at: usize, ahead: usize) -> [V; 4] {
    if at.is_multiple_of(64) {
        for row in &rows[..V::ROWS] {
            V::expect(row.wrapping_add(at + ahead));
        }
    }
    let four = |row: usize| move |quarter: usize| rows[4 * quarter + row].wrapping_add(at);
    // SAFETY: the caller's promise.
    unsafe { transpose([V::gather(four(0)), V::gather(four(1)), V::gather(four(2)), V::gather(four(3))]) }
}

/// Brings a plane's rows into lanes.
///
/// # Safety
/// The processor has the vector's instructions; `rows` can be read, and `to` written, for the columns rounded up to sixteen.
#[inline(always)]
unsafe fn plane<V: Vector>(rows: &Starts, ahead: usize, columns: usize, to: *mut u8) {
    for at in (0..columns).step_by(QUARTER) {
        // SAFETY: the caller's promise.
        unsafe {
            for (i, quad) in lanes::<V>(rows, at, ahead).into_iter().enumerate() {
                quad.store(to.add((at / 4 + i) * size_of::<V>()));
            }
        }
    }
}

/// The same of interleaved RGB, each channel to lanes of its own.
///
/// # Safety
/// The processor has the vector's instructions; `rows` can be read for the columns rounded up to four and four bytes more;
/// each of `to` can be written for so many columns.
#[inline(always)]
unsafe fn rgb<V: Vector>(rows: &Starts, columns: usize, to: [*mut u8; 3]) {
    // SAFETY: the caller's promise.
    unsafe {
        let channels = V::repeat([0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, OUT, OUT, OUT, OUT]);
        for quad in 0..columns.div_ceil(4) {
            let mut parts = [channels; 4];
            for (row, part) in parts.iter_mut().enumerate() {
                *part = V::gather(|quarter| rows[4 * quarter + row].wrapping_add(12 * quad)).shuffle(channels);
            }
            let [r, g, b, _] = transpose(parts);
            for (channel, to) in [r, g, b].into_iter().zip(to) {
                channel.store(to.add(quad * size_of::<V>()));
            }
        }
    }
}

/// Converts a strip of 8-bit YCbCr to RGB in lanes. Chroma has half of luma's columns (`HALF_WIDTH`), its samples on the even
/// ones, or all.
///
/// Luma and chroma are brought to 8 times their scale: so the result stands in a dword's upper word.
///
/// # Safety
/// The processor has the vector's instructions. `luma` can be read for the columns rounded up to [`BLOCK`], and chroma for
/// the samples that belong to them, or the next block's too where `layout.last` lies there; each of `to` can be written for
/// so many columns.
#[inline(always)]
unsafe fn yuv<V: Vector, const HALF_WIDTH: bool>(
    luma: &Starts,
    chroma: &[Starts; 2],
    layout: &Chroma,
    matrix: &Matrix,
    columns: usize,
    to: [*mut u8; 3],
) {
    /// Quads of luma in a block.
    const QUADS: usize = BLOCK / 4;
    // SAFETY: the caller's promise.
    unsafe {
        let matrix = Multiplier::<V>::new(matrix);
        let eight = [V::splat(0x0008_0008), V::splat(0x0800_0800)];
        let weights = V::load(layout.weights.as_ptr().cast());
        let places = [V::load(layout.places[0].as_ptr().cast()), V::load(layout.places[1].as_ptr().cast())];
        // Words of a dword: the lower one twice, the upper one twice, and both turned.
        let (lower, upper, turned) = (
            V::repeat([0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13]),
            V::repeat([2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15]),
            V::repeat([2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13]),
        );
        let mut next = [[weights; 4]; 2];
        if HALF_WIDTH {
            next = [lanes(&chroma[0], 0, layout.ahead[1]), lanes(&chroma[1], 0, layout.ahead[1])];
        }
        for block in 0..columns.div_ceil(BLOCK) {
            // For each quad of luma, chroma of its even and of its odd columns; the later one in the lower word.
            let mut grid = [[[weights; 2]; QUADS]; 2];
            if HALF_WIDTH {
                let now = next;
                let behind = (block + 1) * QUARTER;
                if behind <= layout.last {
                    next = [lanes(&chroma[0], behind, layout.ahead[1]), lanes(&chroma[1], behind, layout.ahead[1])];
                }
                for plane in 0..2 {
                    let mut samples = [weights; QUADS + 1];
                    for i in 0..4 {
                        samples[2 * i] = now[plane][i].shuffle(places[0]).dot8(weights);
                        samples[2 * i + 1] = now[plane][i].shuffle(places[1]).dot8(weights);
                    }
                    samples[QUADS] = next[plane][0].shuffle(places[0]).dot8(weights);
                    if layout.last < behind {
                        // The last sample counts on behind itself.
                        let last = layout.last - block * QUARTER;
                        if last.is_multiple_of(2) {
                            samples[last / 2] = samples[last / 2].shuffle(upper);
                        } else {
                            samples[last / 2 + 1] = samples[last / 2].shuffle(lower);
                        }
                    }
                    for i in 0..QUADS {
                        let own = samples[i];
                        let following = own.blend(samples[i + 1]).shuffle(turned);
                        grid[plane][i] = [own.add16(own), own.add16(following)];
                    }
                }
            } else {
                for plane in 0..2 {
                    for half in 0..2 {
                        let quads = lanes::<V>(&chroma[plane], block * BLOCK + half * QUARTER, layout.ahead[1]);
                        for (i, quad) in quads.into_iter().enumerate() {
                            for turn in 0..2 {
                                grid[plane][4 * half + i][turn] = quad.shuffle(places[turn]).dot8(weights);
                            }
                        }
                    }
                }
            }
            for half in 0..2 {
                for (i, quad) in
                    lanes::<V>(luma, block * BLOCK + half * QUARTER, layout.ahead[0]).into_iter().enumerate()
                {
                    let i = 4 * half + i;
                    let ([cb_even, cb_odd], [cr_even, cr_odd]) = (grid[0][i], grid[1][i]);
                    let even = matrix.run(quad.dot8(eight[0]), cb_even, cr_even);
                    let odd = matrix.run(quad.dot8(eight[1]), cb_odd, cr_odd);
                    for channel in 0..3 {
                        let color = matrix.join(even[channel], odd[channel]);
                        color.store(to[channel].add((block * QUADS + i) * size_of::<V>()));
                    }
                }
            }
        }
    }
}

/// A [`Matrix`] in vectors. Red has no Cb and blue has no Cr.
struct Multiplier<V> {
    constant: [V; 3],
    /// Of words (luma, chroma): red, green and blue; and Cb of green.
    earlier: [V; 4],
    /// Of (chroma, luma).
    later: [V; 4],
    /// Places of the bytes that [`Multiplier::join`] packs.
    order: V,
}

impl<V: Vector> Multiplier<V> {
    /// # Safety
    /// The processor has the vector's instructions.
    #[inline(always)]
    unsafe fn new(matrix: &Matrix) -> Self {
        let [[ry, _, rr], [gy, gb, gr], [by, bb, _]] = matrix.k;
        let [red, green, blue] = matrix.constant;
        // SAFETY: the caller's promise.
        unsafe {
            let order = V::repeat([0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15]);
            let (mut earlier, mut later) = ([order; 4], [order; 4]);
            for (i, [a, b]) in [[ry, rr], [gy, gr], [by, bb], [0, gb]].into_iter().enumerate() {
                let two = |a: i16, b: i16| (i32::from(a) & 0xFFFF) | (i32::from(b) << 16);
                (earlier[i], later[i]) = (V::splat(two(a, b)), V::splat(two(b, a)));
            }
            Multiplier { constant: [V::splat(red), V::splat(green), V::splat(blue)], earlier, later, order }
        }
    }

    /// Colours of two columns as words, the earlier one's lower. Of luma the earlier one's is the lower word, of chroma the
    /// upper: so that one blend brings a column's words together.
    #[inline(always)]
    fn run(&self, luma: V, cb: V, cr: V) -> [V; 3] {
        let earlier = self.column(&self.earlier, luma.blend(cb), luma.blend(cr));
        let later = self.column(&self.later, cb.blend(luma), cr.blend(luma));
        let words = |i: usize| (earlier[i], later[i]);
        let ((r, r_later), (g, g_later), (b, b_later)) = (words(0), words(1), words(2));
        [r.shr32::<16>().blend(r_later), g.shr32::<16>().blend(g_later), b.shr32::<16>().blend(b_later)]
    }

    #[inline(always)]
    fn column(&self, weights: &[V; 4], with_cb: V, with_cr: V) -> [V; 3] {
        let [red, green, blue] = self.constant;
        [
            red.dot16(with_cr, weights[0]),
            green.dot16(with_cb, weights[3]).dot16(with_cr, weights[1]),
            blue.dot16(with_cb, weights[2]),
        ]
    }

    /// Four columns' bytes of words of the even and of the odd ones.
    #[inline(always)]
    fn join(&self, even: V, odd: V) -> V {
        even.pack16(odd).shuffle(self.order)
    }
}

/// The horizontal pass over strips in lanes, to their rows of stacks, which are `stride` bytes apart.
///
/// # Safety
/// The processor has the vector's instructions; `lanes` hold all inputs that `quads` read for so many outputs; `to` has room
/// for the columns, rounded up to whole blocks, of all rows.
#[inline(always)]
unsafe fn horizontal<V: Vector, const N: usize>(
    lanes: [*const u8; N],
    quads: &Quads,
    columns: usize,
    to: [*mut u8; N],
    stride: usize,
) {
    for four in 0..columns.div_ceil(4) {
        // SAFETY: the caller's promise.
        unsafe {
            let column = |i: usize| (4 * four + i).min(columns - 1);
            let a = V::position(lanes, size_of::<V>(), quads, column(0));
            let b = V::position(lanes, size_of::<V>(), quads, column(1));
            let c = V::position(lanes, size_of::<V>(), quads, column(2));
            let d = V::position(lanes, size_of::<V>(), quads, column(3));
            // A block's groups of four columns: see the module's text.
            let (block, group) = (four / V::ROWS, four % V::ROWS);
            let at = block * 4 * size_of::<V>() + group % 4 * size_of::<V>() + group / 4 * QUARTER;
            for i in 0..N {
                let bytes = a[i].pack32(b[i]).pack16(c[i].pack32(d[i]));
                bytes.scatter(|quarter| to[i].add(quarter * stride + at));
            }
        }
    }
}

/// Row `at` of the vertical pass over a stack.
///
/// # Safety
/// The processor has the vector's instructions; the stack holds all rows that `quads` read there, `stride` bytes for every
/// four, of the columns rounded up to whole blocks; `to` has room for so many.
#[inline(always)]
unsafe fn vertical<V: Vector>(stack: *const u8, stride: usize, quads: &Quads, at: usize, columns: usize, to: *mut u8) {
    for block in 0..columns.div_ceil(size_of::<V>()) {
        // SAFETY: the caller's promise.
        unsafe {
            let part = |i: usize| stack.add((4 * block + i) * size_of::<V>());
            let [a, b, c, d] = V::position([part(0), part(1), part(2), part(3)], stride, quads, at);
            a.pack32(b).pack16(c.pack32(d)).store(to.add(block * size_of::<V>()));
        }
    }
}

/// Four rows to a stack's.
///
/// # Safety
/// The processor has the vector's instructions; `rows` can be read, and `to` written, for the columns rounded up to blocks.
#[inline(always)]
unsafe fn stacked<V: Vector>(rows: [*const u8; 4], columns: usize, to: *mut u8) {
    for block in 0..columns.div_ceil(size_of::<V>()) {
        // SAFETY: the caller's promise.
        unsafe {
            let row = |i: usize| rows[i].add(block * size_of::<V>());
            let (a, b, c, d) = (V::load(row(0)), V::load(row(1)), V::load(row(2)), V::load(row(3)));
            let (ab, cd, ab_hi, cd_hi) = (a.lo8(b), c.lo8(d), a.hi8(b), c.hi8(d));
            let parts = [ab.lo16(cd), ab.hi16(cd), ab_hi.lo16(cd_hi), ab_hi.hi16(cd_hi)];
            for (i, part) in parts.into_iter().enumerate() {
                part.store(to.add((4 * block + i) * size_of::<V>()));
            }
        }
    }
}

/// Four rows of a stack's.
///
/// # Safety
/// The processor has the vector's instructions; `from` can be read, and `to` written, for the columns rounded up to blocks.
#[inline(always)]
unsafe fn unstacked<V: Vector>(from: *const u8, columns: usize, to: [*mut u8; 4]) {
    // SAFETY: the caller's promise.
    unsafe {
        let by_row = V::repeat([0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15]);
        for block in 0..columns.div_ceil(size_of::<V>()) {
            let mut parts = [by_row; 4];
            for (i, part) in parts.iter_mut().enumerate() {
                *part = V::load(from.add((4 * block + i) * size_of::<V>())).shuffle(by_row);
            }
            for (row, to) in transpose(parts).into_iter().zip(to) {
                row.store(to.add(block * size_of::<V>()));
            }
        }
    }
}

/// A row of three channels, interleaved.
///
/// # Safety
/// The processor has the vector's instructions; `rows` can be read, and `to` written, for the columns rounded up to whole
/// vectors' bytes.
#[inline(always)]
unsafe fn interleaved<V: Vector>(rows: [*const u8; 3], columns: usize, to: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        // Which pixels' bytes of each channel stand in each of three quarters.
        let mut places = [[V::splat(0); 3]; 3];
        for (part, places) in places.iter_mut().enumerate() {
            for (channel, places) in places.iter_mut().enumerate() {
                let mut quarter = [OUT; QUARTER];
                for (i, place) in quarter.iter_mut().enumerate() {
                    let at = part * QUARTER + i;
                    if at % 3 == channel {
                        *place = (at / 3) as i8;
                    }
                }
                *places = V::repeat(quarter);
            }
        }
        for at in (0..columns).step_by(size_of::<V>()) {
            let (r, g, b) = (V::load(rows[0].add(at)), V::load(rows[1].add(at)), V::load(rows[2].add(at)));
            for (part, [of_r, of_g, of_b]) in places.into_iter().enumerate() {
                // Each byte is of one channel, and 0 in the others.
                let bytes = r.shuffle(of_r).add16(g.shuffle(of_g)).add16(b.shuffle(of_b));
                bytes.scatter(|quarter| to.add(3 * at + (3 * quarter + part) * QUARTER));
            }
        }
    }
}

/// [`Vector::position`] by words: a guess where it is sure.
///
/// # Safety
/// As [`Vector::position`].
#[inline(always)]
pub unsafe fn by_guess<V: Vector, const N: usize>(
    from: [*const u8; N],
    stride: usize,
    quads: &Quads,
    at: usize,
) -> [V; N] {
    let own = at * quads.count..(at + 1) * quads.count;
    let (guesses, rests) = (&quads.guess[own.clone()], &quads.rest[own]);
    let skipped = quads.starts[at] as usize * stride;
    // SAFETY: the caller's promise.
    unsafe {
        let (least, most) = (V::splat(quads.slack[at][0]), V::splat(quads.slack[at][1]));
        let from = from.map(|from| from.wrapping_add(skipped));
        let mut sums = sum::<V, N>(from, stride, guesses);
        for (sum, from) in sums.iter_mut().zip(from) {
            let guess = sum.shl32(quads.shift);
            *sum = guess.add32(least).sar32::<PRECISION>();
            if !sum.same(guess.add32(most).sar32::<PRECISION>()) {
                let [rest] = self::sum::<V, 1>([from], stride, rests);
                *sum = guess.add32(rest).add32(V::splat(HALF)).sar32::<PRECISION>();
            }
        }
        sums
    }
}

/// Products of quads of inputs with weights, summed.
///
/// # Safety
/// The processor has the vector's instructions; each of `from` can be read for as many quads, `stride` bytes apart.
#[inline(always)]
unsafe fn sum<V: Vector, const N: usize>(from: [*const u8; N], stride: usize, weights: &[[[i16; 2]; 2]]) -> [V; N] {
    // SAFETY: the caller's promise; a pair of weights is a dword.
    unsafe {
        // The lower byte of each word.
        let low = V::splat(0x00FF_00FF);
        let mut sums = [V::splat(0); N];
        for (i, [even, odd]) in weights.iter().enumerate() {
            let even = V::splat(even.as_ptr().cast::<i32>().read_unaligned());
            let odd = V::splat(odd.as_ptr().cast::<i32>().read_unaligned());
            for (sum, from) in sums.iter_mut().zip(from) {
                let inputs = V::load(from.add(i * stride));
                *sum = sum.dot16(inputs.and(low), even).dot16(inputs.shr16::<8>(), odd);
            }
        }
        sums
    }
}
