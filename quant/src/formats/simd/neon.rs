//! Eight f32 numbers in two NEON registers, which every 64-bit Arm processor has.

use std::arch::aarch64::*;
use std::array::from_fn;
use std::mem::transmute;
use std::ops::{Add, Div, Mul, Sub};

use super::{Array8, Codebook, F32x8, MAGIC};

/// Eight lanes.
#[derive(Clone, Copy)]
pub(in super::super) struct Neon([float32x4_t; 2]);

macro_rules! operator {
    ($trait:ident, $method:ident, $intrinsic:ident) => {
        impl $trait for Neon {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: NEON is part of the architecture.
                Self(unsafe { [$intrinsic(self.0[0], other.0[0]), $intrinsic(self.0[1], other.0[1])] })
            }
        }
    };
}
operator!(Add, add, vaddq_f32);
operator!(Sub, sub, vsubq_f32);
operator!(Mul, mul, vmulq_f32);
operator!(Div, div, vdivq_f32);

// SAFETY, for all of the following: NEON is part of the architecture; an array and two registers hold the same eight numbers.
impl F32x8 for Neon {
    type Mask = [uint32x4_t; 2];
    type Packed = [uint32x4_t; 2];

    #[inline(always)]
    fn load(from: &Array8) -> Self {
        // SAFETY: see above.
        Self(unsafe { transmute::<Array8, [float32x4_t; 2]>(*from) })
    }
    #[inline(always)]
    fn store(self) -> Array8 {
        // SAFETY: see above.
        unsafe { transmute::<[float32x4_t; 2], Array8>(self.0) }
    }
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see above.
        Self([unsafe { vdupq_n_f32(x) }; 2])
    }
    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: see above.
        Self(self.0.map(|x| unsafe { vabsq_f32(x) }))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        // SAFETY: see above.
        Self(self.0.map(|x| unsafe { vsqrtq_f32(x) }))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self::select(self.lt(other), self, other)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self::select(other.lt(self), self, other)
    }
    #[inline(always)]
    fn lt(self, other: Self) -> Self::Mask {
        // SAFETY: see above.
        from_fn(|i| unsafe { vcltq_f32(self.0[i], other.0[i]) })
    }
    #[inline(always)]
    fn eq(self, other: Self) -> Self::Mask {
        // SAFETY: see above.
        from_fn(|i| unsafe { vceqq_f32(self.0[i], other.0[i]) })
    }
    #[inline(always)]
    fn and(a: Self::Mask, b: Self::Mask) -> Self::Mask {
        // SAFETY: see above.
        from_fn(|i| unsafe { vandq_u32(a[i], b[i]) })
    }
    #[inline(always)]
    fn any(mask: Self::Mask) -> bool {
        // SAFETY: see above.
        unsafe { vmaxvq_u32(vorrq_u32(mask[0], mask[1])) != 0 }
    }
    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        // SAFETY: see above.
        Self(from_fn(|i| unsafe { vbslq_f32(mask[i], yes.0[i], no.0[i]) }))
    }
    #[inline(always)]
    fn nearest_int(self, low: i32, high: i32) -> Self {
        // SAFETY: see above.
        Self(self.0.map(|x| unsafe {
            let bits = vreinterpretq_s32_f32(vaddq_f32(x, vdupq_n_f32(MAGIC)));
            let int = vsubq_s32(vandq_s32(bits, vdupq_n_s32(0x7f_ffff)), vdupq_n_s32(0x40_0000));
            vcvtq_f32_s32(vminq_s32(vmaxq_s32(int, vdupq_n_s32(low)), vdupq_n_s32(high)))
        }))
    }
    #[inline(always)]
    fn nearest_in(self, book: &Codebook) -> (Self, Self) {
        // SAFETY: see above; a table of sixteen numbers is four registers of bytes.
        unsafe {
            let (m, values) = (&book.midpoints, transmute::<[f32; 16], uint8x16x4_t>(book.values));
            let midpoints = transmute::<[f32; 16], uint8x16x4_t>(from_fn(|i| m[i.min(14)]));
            let at = |table, index| vreinterpretq_f32_u8(vqtbl4q_u8(table, four_bytes(index)));
            let found = self.0.map(|x| {
                // Four comparisons down a tree: past a midpoint unless below it, so that NaN ends at the greatest.
                let step = |index, midpoint, size| vaddq_u32(index, vbicq_u32(vdupq_n_u32(size), vcltq_f32(x, midpoint)));
                let after = |index, add| at(midpoints, vaddq_u32(index, vdupq_n_u32(add)));
                let index = step(vdupq_n_u32(0), vdupq_n_f32(m[7]), 8);
                let index = step(index, after(index, 3), 4);
                let index = step(index, after(index, 1), 2);
                let index = step(index, after(index, 0), 1);
                (at(values, index), vcvtq_f32_u32(index))
            });
            (Self(found.map(|f| f.0)), Self(found.map(|f| f.1)))
        }
    }
    #[inline(always)]
    fn bytes(parts: [Self; 4]) -> [u8; 32] {
        // SAFETY: see above.
        unsafe {
            // What does not fit is held to the ends, whose lowest byte is not 0: such numbers go first.
            let whole = |x: float32x4_t| {
                let fits = vcltq_f32(vabsq_f32(x), vdupq_n_f32(2_147_483_648.0));
                vmovn_u32(vandq_u32(vreinterpretq_u32_s32(vcvtq_s32_f32(x)), fits))
            };
            let halves = parts.map(|part| vmovn_u16(vcombine_u16(whole(part.0[0]), whole(part.0[1]))));
            transmute::<[uint8x8_t; 4], [u8; 32]>(halves)
        }
    }
    #[inline(always)]
    fn packed(from: &Array8<u16>) -> Self::Packed {
        // SAFETY: see above.
        unsafe {
            let from = transmute::<Array8<u16>, uint16x8_t>(*from);
            [vmovl_u16(vget_low_u16(from)), vmovl_high_u16(from)]
        }
    }
    #[inline(always)]
    fn pick(self, packed: Self::Packed, shift: u32) -> Self {
        // SAFETY: see above; a table of eight numbers is two registers of bytes.
        Self(packed.map(|packed| unsafe {
            let table = transmute::<[float32x4_t; 2], uint8x16x2_t>(self.0);
            let index = vandq_u32(vshlq_u32(packed, vdupq_n_s32(-(shift as i32))), vdupq_n_u32(7));
            vreinterpretq_f32_u8(vqtbl2q_u8(table, four_bytes(index)))
        }))
    }
}

/// Where the four bytes of number `index` of a table are.
#[inline(always)]
fn four_bytes(index: uint32x4_t) -> uint8x16_t {
    // SAFETY: NEON is part of the architecture.
    unsafe { vreinterpretq_u8_u32(vmlaq_n_u32(vdupq_n_u32(0x0302_0100), index, 0x0404_0404)) }
}
