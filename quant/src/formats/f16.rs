//! F16: IEEE half precision, little-endian, 16 bits per weight. The block formats keep their scales in it too.
//!
//! ```text
//! byte  0        1
//!       mmmmmmmm seeeeemm      s sign, e exponent, m mantissa
//! ```
//!
//! The conversions are branch-free so that they vectorize, and written out here because every NaN must become the same
//! bits as in ggml (`ggml_compute_fp32_to_fp16`), which neither the F16C instructions nor the `half` crate give.

use super::block::QuantBlock;
use super::simd::F32x8;
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<F16, 1>(DType::F16, "F16", 1, include_str!("f16.wgsl"));

/// One number: a weight, or the scale of a block.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct F16([u8; 2]);
const _: () = assert!(size_of::<F16>() == 2);

impl F16 {
    pub(super) const ZERO: Self = Self([0, 0]);
    pub(super) const ONE: Self = Self([0, 0x3c]);

    /// Rounds to nearest, ties to even; too large becomes infinite, NaN the quiet NaN of the same sign.
    #[inline(always)]
    pub(super) fn from_f32(x: f32) -> Self {
        let bits = x.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        // The exponent's bias is 112 less in a half; adding just under half a unit (half where odd) rounds to even.
        let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13;
        // Under 2^-14 the addition of 0.5, whose last place is 2^-24 (that of a subnormal half), does the rounding.
        let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let finite = if magnitude < 113 << 23 { subnormal } else { normal };
        let special = if magnitude > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
        let half = if magnitude >= 0x477f_f000 { special } else { finite }; // 65520 and up round to infinity
        Self(((half | bits >> 16 & 0x8000) as u16).to_le_bytes())
    }

    /// Exact.
    #[inline(always)]
    pub(super) fn to_f32(self) -> f32 {
        let bits = u32::from(u16::from_le_bytes(self.0));
        let magnitude = bits & 0x7fff;
        let normal = (magnitude << 13) + (112 << 23);
        // 2^-14 (1 + m/1024) - 2^-14 = m 2^-24
        let subnormal = (f32::from_bits((magnitude << 13) + (113 << 23)) - f32::from_bits(113 << 23)).to_bits();
        let quiet = if magnitude > 0x7c00 { 0x40_0000 } else { 0 };
        let special = 0x7f80_0000 | magnitude << 13 | quiet;
        let finite = if magnitude < 0x400 { subnormal } else { normal };
        let single = if magnitude >= 0x7c00 { special } else { finite };
        f32::from_bits(single | (bits & 0x8000) << 16)
    }
}

impl QuantBlock<1> for F16 {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], _importance: Option<&[f32]>, blocks: &mut [Self]) {
        for (x, block) in x.iter().zip(blocks) {
            *block = Self::from_f32(*x);
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 1]) {
        out[0] = self.to_f32();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_decodes_as_the_half_crate_does_and_comes_back() {
        for bits in 0..=u16::MAX {
            let half = F16(bits.to_le_bytes());
            let expected = half::f16::from_bits(bits);
            assert_eq!(half.to_f32().to_bits(), expected.to_f32().to_bits(), "{bits:#06x}");
            if !expected.is_nan() {
                assert_eq!(F16::from_f32(half.to_f32()).0, half.0, "{bits:#06x}");
            }
        }
    }

    #[test]
    fn every_exponent_and_rounding_case_encodes_as_the_half_crate_does() {
        for high in 0..=u16::MAX {
            for low in [0, 1, 0x0fff, 0x1000, 0x1001, 0x2000, 0x3000, 0x5000, 0x8000, 0xefff, 0xf000, 0xf001, 0xffff] {
                let x = f32::from_bits(u32::from(high) << 16 | low);
                let expected = if x.is_nan() { 0x7e00 | high & 0x8000 } else { half::f16::from_f32(x).to_bits() };
                assert_eq!(u16::from_le_bytes(F16::from_f32(x).0), expected, "{x:e}");
            }
        }
    }
}
