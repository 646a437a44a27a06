//! BF16: the upper half of an IEEE single, little-endian, 16 bits per weight.
//!
//! ```text
//! byte  0        1
//!       emmmmmmm seeeeeee      s sign, e exponent, m mantissa
//! ```

use super::block::QuantBlock;
use super::simd::F32x8;
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<BF16, 1>(DType::BF16, "BF16", 30, include_str!("bf16.wgsl"));

/// One weight.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BF16([u8; 2]);
const _: () = assert!(size_of::<BF16>() == 2);

impl BF16 {
    /// Rounds to nearest, ties to even; a NaN keeps its upper bits and becomes quiet (`ggml_compute_fp32_to_bf16`).
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        let bits = x.to_bits();
        let nan = bits & 0x7fff_ffff > 0x7f80_0000;
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let upper = if nan { bits >> 16 | 0x40 } else { rounded };
        Self((upper as u16).to_le_bytes())
    }
}

impl QuantBlock<1> for BF16 {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], _importance: Option<&[f32]>, blocks: &mut [Self]) {
        for (x, block) in x.iter().zip(blocks) {
            *block = Self::from_f32(*x);
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 1]) {
        out[0] = f32::from_bits(u32::from(u16::from_le_bytes(self.0)) << 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rounding_case_encodes_as_the_half_crate_does() {
        for upper in 0..=u16::MAX {
            for lower in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(u32::from(upper) << 16 | lower);
                assert_eq!(u16::from_le_bytes(BF16::from_f32(x).0), half::bf16::from_f32(x).to_bits(), "{x:e}");
            }
        }
    }

    #[test]
    fn every_bfloat16_decodes_to_its_bits() {
        for upper in 0..=u16::MAX {
            let mut out = [0.0];
            (FORMAT.decode)(&upper.to_le_bytes(), &mut out);
            assert_eq!(out[0].to_bits(), u32::from(upper) << 16);
        }
    }
}
