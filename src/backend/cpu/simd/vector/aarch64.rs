//! Vectors of 64-bit ARM.

use std::arch::aarch64::*;

use super::Vector;

/// Methods that are one instruction on lanes of some kind.
macro_rules! instructions {
    ($($name:ident $of:ident $to:ident $from:ident;)*) => {
        $(#[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: the type's invariant.
            Self(unsafe { $from($of($to(self.0), $to(other.0))) })
        })*
    };
}

/// 128 bits: NEON, which every such processor has.
#[derive(Clone, Copy)]
pub struct Neon(uint8x16_t);

/// Bytes as they are.
#[inline(always)]
fn bytes(v: uint8x16_t) -> uint8x16_t {
    v
}

impl Vector for Neon {
    const ROWS: usize = 4;

    #[inline(always)]
    unsafe fn splat(dword: i32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { vreinterpretq_u8_s32(vdupq_n_s32(dword)) })
    }
    #[inline(always)]
    unsafe fn repeat(quarter: [i8; 16]) -> Self {
        // SAFETY: the caller's promise; sixteen bytes.
        Self(unsafe { vld1q_u8(quarter.as_ptr().cast()) })
    }
    #[inline(always)]
    unsafe fn gather(from: impl Fn(usize) -> *const u8) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { vld1q_u8(from(0)) })
    }
    #[inline(always)]
    unsafe fn scatter(self, to: impl Fn(usize) -> *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_u8(to(0), self.0) }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { vld1q_u8(from) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_u8(to, self.0) }
    }
    instructions! {
        lo8 vzip1q_u8 bytes bytes;
        hi8 vzip2q_u8 bytes bytes;
        lo16 vzip1q_u16 vreinterpretq_u16_u8 vreinterpretq_u8_u16;
        hi16 vzip2q_u16 vreinterpretq_u16_u8 vreinterpretq_u8_u16;
        lo32 vzip1q_u32 vreinterpretq_u32_u8 vreinterpretq_u8_u32;
        hi32 vzip2q_u32 vreinterpretq_u32_u8 vreinterpretq_u8_u32;
        lo64 vzip1q_u64 vreinterpretq_u64_u8 vreinterpretq_u8_u64;
        hi64 vzip2q_u64 vreinterpretq_u64_u8 vreinterpretq_u8_u64;
        shuffle vqtbl1q_u8 bytes bytes;
        and vandq_u8 bytes bytes;
        add16 vaddq_u16 vreinterpretq_u16_u8 vreinterpretq_u8_u16;
        add32 vaddq_u32 vreinterpretq_u32_u8 vreinterpretq_u8_u32;
    }
    #[inline(always)]
    fn pack32(self, other: Self) -> Self {
        // SAFETY: the type's invariant.
        unsafe {
            let half = |v: Self| vqmovn_s32(vreinterpretq_s32_u8(v.0));
            Self(vreinterpretq_u8_s16(vcombine_s16(half(self), half(other))))
        }
    }
    #[inline(always)]
    fn pack16(self, other: Self) -> Self {
        // SAFETY: the type's invariant.
        unsafe {
            let half = |v: Self| vqmovun_s16(vreinterpretq_s16_u8(v.0));
            Self(vcombine_u8(half(self), half(other)))
        }
    }
    #[inline(always)]
    fn dot8(self, weights: Self) -> Self {
        // SAFETY: the type's invariant.
        unsafe {
            let weights = vreinterpretq_s8_u8(weights.0);
            let low = vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(self.0))), vmovl_s8(vget_low_s8(weights)));
            let high = vmulq_s16(vreinterpretq_s16_u16(vmovl_high_u8(self.0)), vmovl_high_s8(weights));
            Self(vreinterpretq_u8_s16(vpaddq_s16(low, high)))
        }
    }
    #[inline(always)]
    fn shr16<const BITS: u32>(self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { vreinterpretq_u8_u16(vshlq_u16(vreinterpretq_u16_u8(self.0), vdupq_n_s16(-(BITS as i16)))) })
    }
    #[inline(always)]
    fn shr32<const BITS: u32>(self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { vreinterpretq_u8_u32(vshlq_u32(vreinterpretq_u32_u8(self.0), vdupq_n_s32(-(BITS as i32)))) })
    }
    #[inline(always)]
    fn shl32(self, bits: u32) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { vreinterpretq_u8_u32(vshlq_u32(vreinterpretq_u32_u8(self.0), vdupq_n_s32(bits as i32))) })
    }
    #[inline(always)]
    fn sar32<const BITS: u32>(self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { vreinterpretq_u8_s32(vshlq_s32(vreinterpretq_s32_u8(self.0), vdupq_n_s32(-(BITS as i32)))) })
    }
    #[inline(always)]
    fn blend(self, other: Self) -> Self {
        // SAFETY: the type's invariant.
        Self(unsafe { vbslq_u8(vreinterpretq_u8_u32(vdupq_n_u32(0xFFFF_0000)), other.0, self.0) })
    }
    #[inline(always)]
    fn same(self, other: Self) -> bool {
        // SAFETY: the type's invariant.
        unsafe { vminvq_u8(vceqq_u8(self.0, other.0)) != 0 }
    }
    #[inline(always)]
    fn dot16(self, a: Self, b: Self) -> Self {
        // SAFETY: the type's invariant.
        unsafe {
            let (a, b) = (vreinterpretq_s16_u8(a.0), vreinterpretq_s16_u8(b.0));
            let products = vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
            Self(vreinterpretq_u8_s32(vaddq_s32(vreinterpretq_s32_u8(self.0), products)))
        }
    }
}
