//! Vectors that kernels are written for, once for all of them.
//!
//! A vector is made of quarters of 128 bits (of an AVX-512 one), and arithmetic stays within quarters: so a kernel that is
//! right for one width is right for each. A quarter has a dword for each of four rows, or for four columns.
//!
//! Invariant: a value of a vector type exists only where the processor has the type's instructions. Who makes one from
//! nothing vouches for that, and what takes one relies on it.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub use aarch64::Neon;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

use super::kernels;
use crate::program::resample::Quads;

/// Rows of the widest vector.
pub const MOST_ROWS: usize = 16;

/// A vector. Names of lanes are as in Intel's `epi8`, `epi16`, `epi32`; `lo` and `hi` interleave the lower and upper
/// halves of each quarter.
pub trait Vector: Copy {
    /// Rows whose dwords lie beside each other.
    const ROWS: usize;

    /// The same dword everywhere.
    ///
    /// # Safety
    /// The processor has the type's instructions.
    unsafe fn splat(dword: i32) -> Self;

    /// The same quarter everywhere.
    ///
    /// # Safety
    /// The processor has the type's instructions.
    unsafe fn repeat(quarter: [i8; 16]) -> Self;

    /// Quarters from their addresses.
    ///
    /// # Safety
    /// The processor has the type's instructions; sixteen bytes each may be read.
    unsafe fn gather(from: impl Fn(usize) -> *const u8) -> Self;

    /// Quarters to their addresses.
    ///
    /// # Safety
    /// Sixteen bytes each may be written.
    unsafe fn scatter(self, to: impl Fn(usize) -> *mut u8);

    /// # Safety
    /// The processor has the type's instructions; so many bytes may be read.
    unsafe fn load(from: *const u8) -> Self;

    /// # Safety
    /// So many bytes may be written.
    unsafe fn store(self, to: *mut u8);

    /// Asks for the cache line at an address, which need not be one that may be read.
    #[inline(always)]
    fn expect(_address: *const u8) {}

    fn lo8(self, other: Self) -> Self;
    fn hi8(self, other: Self) -> Self;
    fn lo16(self, other: Self) -> Self;
    fn hi16(self, other: Self) -> Self;
    fn lo32(self, other: Self) -> Self;
    fn hi32(self, other: Self) -> Self;
    fn lo64(self, other: Self) -> Self;
    fn hi64(self, other: Self) -> Self;
    /// Words of dwords, clamped.
    fn pack32(self, other: Self) -> Self;
    /// Unsigned bytes of words, clamped.
    fn pack16(self, other: Self) -> Self;
    /// Bytes of each quarter by their places in it; 0 where a place is negative.
    fn shuffle(self, places: Self) -> Self;
    /// Products of unsigned with signed bytes, added by twos to words, which hold the sums.
    fn dot8(self, weights: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn add16(self, other: Self) -> Self;
    fn add32(self, other: Self) -> Self;
    fn shr16<const BITS: u32>(self) -> Self;
    fn shr32<const BITS: u32>(self) -> Self;
    fn shl32(self, bits: u32) -> Self;
    /// With copies of the sign.
    fn sar32<const BITS: u32>(self) -> Self;
    /// Lower words of `self` and upper ones of `other`.
    fn blend(self, other: Self) -> Self;
    fn same(self, other: Self) -> bool;
    /// `self` and the products of words, added by twos to dwords, which hold the sums.
    fn dot16(self, a: Self, b: Self) -> Self;

    /// One output position of a resize, rounded, not clamped: a dword for each of `from`'s. They hold the inputs that the
    /// weights read, a dword of four each, from the first quad on, `stride` bytes from one to the next.
    ///
    /// # Safety
    /// The processor has the type's instructions; `from` can be read for all quads of the position.
    #[inline(always)]
    unsafe fn position<const N: usize>(from: [*const u8; N], stride: usize, quads: &Quads, at: usize) -> [Self; N] {
        // SAFETY: the caller's promise.
        unsafe { kernels::by_guess(from, stride, quads, at) }
    }
}

/// 128 bits, for every machine: what the others are compared with.
#[derive(Clone, Copy)]
pub struct Portable([u8; 16]);

impl Portable {
    #[inline(always)]
    fn words(self) -> [i16; 8] {
        std::array::from_fn(|i| i16::from_le_bytes([self.0[2 * i], self.0[2 * i + 1]]))
    }
    #[inline(always)]
    fn dwords(self) -> [i32; 4] {
        std::array::from_fn(|i| i32::from_le_bytes(std::array::from_fn(|k| self.0[4 * i + k])))
    }
    #[inline(always)]
    fn of_words(word: impl Fn(usize) -> i16) -> Self {
        Portable(std::array::from_fn(|i| word(i / 2).to_le_bytes()[i % 2]))
    }
    #[inline(always)]
    fn of_dwords(dword: impl Fn(usize) -> i32) -> Self {
        Portable(std::array::from_fn(|i| dword(i / 4).to_le_bytes()[i % 4]))
    }
    /// Units of `SIZE` bytes from the half that begins at `from`, by turns.
    #[inline(always)]
    fn turns<const SIZE: usize>(self, other: Self, from: usize) -> Self {
        let unit = |i: usize| from + i / (2 * SIZE) * SIZE + i % SIZE;
        Portable(std::array::from_fn(|i| if (i / SIZE).is_multiple_of(2) { self.0[unit(i)] } else { other.0[unit(i)] }))
    }
}

impl Vector for Portable {
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(dword: i32) -> Self {
        Self::of_dwords(|_| dword)
    }
    #[inline(always)]
    unsafe fn repeat(quarter: [i8; 16]) -> Self {
        Portable(quarter.map(|v| v as u8))
    }
    #[inline(always)]
    unsafe fn gather(from: impl Fn(usize) -> *const u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::load(from(0)) }
    }
    #[inline(always)]
    unsafe fn scatter(self, to: impl Fn(usize) -> *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { self.store(to(0)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise; bytes have no alignment.
        Portable(unsafe { from.cast::<[u8; 16]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's promise; bytes have no alignment.
        unsafe { to.cast::<[u8; 16]>().write(self.0) }
    }
    #[inline(always)]
    fn lo8(self, other: Self) -> Self {
        self.turns::<1>(other, 0)
    }
    #[inline(always)]
    fn hi8(self, other: Self) -> Self {
        self.turns::<1>(other, 8)
    }
    #[inline(always)]
    fn lo16(self, other: Self) -> Self {
        self.turns::<2>(other, 0)
    }
    #[inline(always)]
    fn hi16(self, other: Self) -> Self {
        self.turns::<2>(other, 8)
    }
    #[inline(always)]
    fn lo32(self, other: Self) -> Self {
        self.turns::<4>(other, 0)
    }
    #[inline(always)]
    fn hi32(self, other: Self) -> Self {
        self.turns::<4>(other, 8)
    }
    #[inline(always)]
    fn lo64(self, other: Self) -> Self {
        self.turns::<8>(other, 0)
    }
    #[inline(always)]
    fn hi64(self, other: Self) -> Self {
        self.turns::<8>(other, 8)
    }
    #[inline(always)]
    fn pack32(self, other: Self) -> Self {
        let both = [self.dwords(), other.dwords()];
        Self::of_words(|i| both[i / 4][i % 4].clamp(i16::MIN.into(), i16::MAX.into()) as i16)
    }
    #[inline(always)]
    fn pack16(self, other: Self) -> Self {
        let both = [self.words(), other.words()];
        Portable(std::array::from_fn(|i| both[i / 8][i % 8].clamp(0, 255) as u8))
    }
    #[inline(always)]
    fn shuffle(self, places: Self) -> Self {
        Portable(places.0.map(|place| if place > 127 { 0 } else { self.0[usize::from(place % 16)] }))
    }
    #[inline(always)]
    fn dot8(self, weights: Self) -> Self {
        let product = |i: usize| i16::from(self.0[i]) * i16::from(weights.0[i] as i8);
        Self::of_words(|i| product(2 * i) + product(2 * i + 1))
    }
    #[inline(always)]
    fn and(self, other: Self) -> Self {
        Portable(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }
    #[inline(always)]
    fn add16(self, other: Self) -> Self {
        let (a, b) = (self.words(), other.words());
        Self::of_words(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn add32(self, other: Self) -> Self {
        let (a, b) = (self.dwords(), other.dwords());
        Self::of_dwords(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn shr16<const BITS: u32>(self) -> Self {
        let words = self.words();
        Self::of_words(|i| (words[i] as u16 >> BITS) as i16)
    }
    #[inline(always)]
    fn shr32<const BITS: u32>(self) -> Self {
        let dwords = self.dwords();
        Self::of_dwords(|i| (dwords[i] as u32 >> BITS) as i32)
    }
    #[inline(always)]
    fn shl32(self, bits: u32) -> Self {
        let dwords = self.dwords();
        Self::of_dwords(|i| dwords[i] << bits)
    }
    #[inline(always)]
    fn sar32<const BITS: u32>(self) -> Self {
        let dwords = self.dwords();
        Self::of_dwords(|i| dwords[i] >> BITS)
    }
    #[inline(always)]
    fn blend(self, other: Self) -> Self {
        let both = [self.words(), other.words()];
        Self::of_words(|i| both[i % 2][i])
    }
    #[inline(always)]
    fn same(self, other: Self) -> bool {
        self.0 == other.0
    }
    #[inline(always)]
    fn dot16(self, a: Self, b: Self) -> Self {
        let (sums, a, b) = (self.dwords(), a.words(), b.words());
        let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
        Self::of_dwords(|i| sums[i].wrapping_add(product(2 * i).wrapping_add(product(2 * i + 1))))
    }
}
