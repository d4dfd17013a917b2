//! Vectors of x86-64.

use std::arch::x86_64::*;

use super::Vector;
use crate::program::resample::{HALF, PRECISION, Quads};

/// Methods that are one instruction.
macro_rules! instructions {
    ($($name:ident $of:ident;)*) => {
        $(#[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: the type's invariant.
            Self(unsafe { $of(self.0, other.0) })
        })*
    };
}

/// 256 bits: AVX2.
#[derive(Clone, Copy)]
pub struct Avx2(__m256i);

impl Vector for Avx2 {
    const ROWS: usize = 8;

    #[inline(always)]
    unsafe fn splat(dword: i32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_set1_epi32(dword) })
    }
    #[inline(always)]
    unsafe fn repeat(quarter: [i8; 16]) -> Self {
        // SAFETY: the caller's promise; sixteen bytes.
        Self(unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(quarter.as_ptr().cast())) })
    }
    #[inline(always)]
    unsafe fn gather(from: impl Fn(usize) -> *const u8) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_loadu2_m128i(from(1).cast(), from(0).cast()) })
    }
    #[inline(always)]
    unsafe fn scatter(self, to: impl Fn(usize) -> *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu2_m128i(to(1).cast(), to(0).cast(), self.0) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm256_loadu_si256(from.cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), self.0) }
    }
    #[inline(always)]
    fn expect(address: *const u8) {
        // SAFETY: every x86-64 processor has the instruction, and it cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    instructions! {
        lo8 _mm256_unpacklo_epi8;
        hi8 _mm256_unpackhi_epi8;
        lo16 _mm256_unpacklo_epi16;
        hi16 _mm256_unpackhi_epi16;
        lo32 _mm256_unpacklo_epi32;
        hi32 _mm256_unpackhi_epi32;
        lo64 _mm256_unpacklo_epi64;
        hi64 _mm256_unpackhi_epi64;
        pack32 _mm256_packs_epi32;
        pack16 _mm256_packus_epi16;
        shuffle _mm256_shuffle_epi8;
        dot8 _mm256_maddubs_epi16;
        and _mm256_and_si256;
        add16 _mm256_add_epi16;
        add32 _mm256_add_epi32;
    }
    #[inline(always)]
    fn shr16<const BITS: u32>(self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { _mm256_srl_epi16(self.0, _mm_cvtsi32_si128(BITS as i32)) })
    }
    #[inline(always)]
    fn shr32<const BITS: u32>(self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { _mm256_srl_epi32(self.0, _mm_cvtsi32_si128(BITS as i32)) })
    }
    #[inline(always)]
    fn shl32(self, bits: u32) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { _mm256_sll_epi32(self.0, _mm_cvtsi32_si128(bits as i32)) })
    }
    #[inline(always)]
    fn sar32<const BITS: u32>(self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { _mm256_sra_epi32(self.0, _mm_cvtsi32_si128(BITS as i32)) })
    }
    #[inline(always)]
    fn blend(self, other: Self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { _mm256_blend_epi16::<0b1010_1010>(self.0, other.0) })
    }
    #[inline(always)]
    fn same(self, other: Self) -> bool {
        // SAFETY: the type's invariant.
        unsafe { _mm256_movemask_epi8(_mm256_cmpeq_epi32(self.0, other.0)) == -1 }
    }
    #[inline(always)]
    fn dot16(self, a: Self, b: Self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { _mm256_add_epi32(self.0, _mm256_madd_epi16(a.0, b.0)) })
    }
}

/// 512 bits: AVX-512 with byte and word instructions (BW) and multiply-adds that accumulate (VNNI).
#[derive(Clone, Copy)]
pub struct Avx512(__m512i);

impl Avx512 {
    /// `self` and the products of unsigned with signed bytes, added by fours to dwords.
    #[inline(always)]
    pub fn dot4(self, a: Self, b: Self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { _mm512_dpbusd_epi32(self.0, a.0, b.0) })
    }
}

impl Vector for Avx512 {
    const ROWS: usize = 16;

    #[inline(always)]
    unsafe fn splat(dword: i32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm512_set1_epi32(dword) })
    }
    #[inline(always)]
    unsafe fn repeat(quarter: [i8; 16]) -> Self {
        // SAFETY: the caller's promise; sixteen bytes.
        Self(unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(quarter.as_ptr().cast())) })
    }
    #[inline(always)]
    unsafe fn gather(from: impl Fn(usize) -> *const u8) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let all = _mm512_castsi128_si512(_mm_loadu_si128(from(0).cast()));
            let all = _mm512_inserti32x4::<1>(all, _mm_loadu_si128(from(1).cast()));
            let all = _mm512_inserti32x4::<2>(all, _mm_loadu_si128(from(2).cast()));
            Self(_mm512_inserti32x4::<3>(all, _mm_loadu_si128(from(3).cast())))
        }
    }
    #[inline(always)]
    unsafe fn scatter(self, to: impl Fn(usize) -> *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            _mm_storeu_si128(to(0).cast(), _mm512_castsi512_si128(self.0));
            _mm_storeu_si128(to(1).cast(), _mm512_extracti32x4_epi32::<1>(self.0));
            _mm_storeu_si128(to(2).cast(), _mm512_extracti32x4_epi32::<2>(self.0));
            _mm_storeu_si128(to(3).cast(), _mm512_extracti32x4_epi32::<3>(self.0));
        }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm512_loadu_si512(from.cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast(), self.0) }
    }
    #[inline(always)]
    fn expect(address: *const u8) {
        // SAFETY: every x86-64 processor has the instruction, and it cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    instructions! {
        lo8 _mm512_unpacklo_epi8;
        hi8 _mm512_unpackhi_epi8;
        lo16 _mm512_unpacklo_epi16;
        hi16 _mm512_unpackhi_epi16;
        lo32 _mm512_unpacklo_epi32;
        hi32 _mm512_unpackhi_epi32;
        lo64 _mm512_unpacklo_epi64;
        hi64 _mm512_unpackhi_epi64;
        pack32 _mm512_packs_epi32;
        pack16 _mm512_packus_epi16;
        shuffle _mm512_shuffle_epi8;
        dot8 _mm512_maddubs_epi16;
        and _mm512_and_si512;
        add16 _mm512_add_epi16;
        add32 _mm512_add_epi32;
    }
    #[inline(always)]
    fn shr16<const BITS: u32>(self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { _mm512_srli_epi16::<BITS>(self.0) })
    }
    #[inline(always)]
    fn shr32<const BITS: u32>(self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { _mm512_srli_epi32::<BITS>(self.0) })
    }
    #[inline(always)]
    fn shl32(self, bits: u32) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { _mm512_sll_epi32(self.0, _mm_cvtsi32_si128(bits as i32)) })
    }
    #[inline(always)]
    fn sar32<const BITS: u32>(self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { _mm512_srai_epi32::<BITS>(self.0) })
    }
    #[inline(always)]
    fn blend(self, other: Self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { _mm512_mask_blend_epi16(0xAAAA_AAAA, self.0, other.0) })
    }
    #[inline(always)]
    fn same(self, other: Self) -> bool {
        // SAFETY: the type's invariant.
        unsafe { _mm512_cmpneq_epi32_mask(self.0, other.0) == 0 }
    }
    #[inline(always)]
    fn dot16(self, a: Self, b: Self) -> Self {
        // The saturating one, since no sum of ours comes near: the other one is taken apart by the compiler.
        // SAFETY: the type's invariant.
        Self(unsafe { _mm512_dpwssds_epi32(self.0, a.0, b.0) })
    }
    /// Three products of bytes give the exact sum for little more than a guess of two words costs, and half the bytes.
    #[inline(always)]
    unsafe fn position<const N: usize>(from: [*const u8; N], stride: usize, quads: &Quads, at: usize) -> [Self; N] {
        let digits = &quads.digits[at * quads.count..][..quads.count];
        let skipped = quads.starts[at] as usize * stride;
        // SAFETY: the caller's promise.
        unsafe {
            let (zero, half) = (Self::splat(0), Self::splat(HALF));
            let mut sums = [[half, zero, zero]; N];
            for (i, digits) in digits.iter().enumerate() {
                let digits = [digit(digits[0]), digit(digits[1]), digit(digits[2])];
                for (sums, from) in sums.iter_mut().zip(from) {
                    let inputs = Self::load(from.add(skipped + i * stride));
                    for (sum, digit) in sums.iter_mut().zip(digits) {
                        *sum = sum.dot4(inputs, digit);
                    }
                }
            }
            let mut out = [zero; N];
            for (out, [low, middle, high]) in out.iter_mut().zip(sums) {
                *out = high.shl32(16).add32(middle.shl32(8)).add32(low).sar32::<PRECISION>();
            }
            out
        }
    }
}

/// Four digits everywhere.
///
/// # Safety
/// The processor has AVX-512.
#[inline(always)]
unsafe fn digit(digits: [i8; 4]) -> Avx512 {
    // SAFETY: the caller's promise.
    unsafe { Avx512::splat(i32::from_ne_bytes(digits.map(|v| v as u8))) }
}
