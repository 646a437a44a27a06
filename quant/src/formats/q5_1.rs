//! Q5_1: 32 weights with one scale, one offset and 5-bit codes, 6 bits per weight. Weight `i` = `d * code[i] + m`.
//!
//! ```text
//! byte  0 1   2 3   4 5 6 7   8        9             23
//!       d     m     qh        qs[0]    qs[1]   ...   qs[15]
//!       f16   f16   bit i:    hhhhllll               l lower four bits of weight i, h those of weight i + 16
//!                   fifth bit of weight i
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::nibbles::fifth_bits;
use super::search::{AffineSearch, Loss, affine_row};
use super::simd::F32x8;
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<BlockQ5_1, 32>(DType::Q5_1, "Q5_1", 7, include_str!("q5_1.wgsl"))
    .of_integers(integers::<BlockQ5_1, 32, 1, 1>(CodeValues::Range { bits: 5, offset: 0 }, LevelValues::One, true));

/// 32 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockQ5_1 {
    d: F16,
    m: F16,
    qh: [u8; 4],
    qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ5_1>() == 24);

/// ggml's search with an importance matrix (`quantize_row_q5_1_impl`).
const WEIGHTED: AffineSearch =
    AffineSearch { max_code: 31, first: -0.9, delta: 0.05, count: 37, clamp_first: true, loss: Loss::Squared };

impl BlockQ5_1 {
    #[inline(always)]
    fn pack(d: f32, m: f32, codes: &[u8; 32]) -> Self {
        let qs = std::array::from_fn(|i| codes[i] & 15 | codes[i + 16] << 4);
        Self { d: F16::from_f32(d), m: F16::from_f32(m), qh: fifth_bits(codes).to_le_bytes(), qs }
    }
}

impl QuantBlock<32> for BlockQ5_1 {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        affine_row::<V, Self>(x, importance, &WEIGHTED, blocks, Self::pack);
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        let (d, m) = (self.d.to_f32(), self.m.to_f32());
        let fifth = u32::from_le_bytes(self.qh);
        for i in 0..16 {
            let low = u32::from(self.qs[i] & 15) | (fifth >> i & 1) << 4;
            let high = u32::from(self.qs[i] >> 4) | (fifth >> (i + 16) & 1) << 4;
            out[i] = low as f32 * d + m;
            out[i + 16] = high as f32 * d + m;
        }
    }
}

impl Affine<32, 1> for BlockQ5_1 {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<1, 1>) {
        (
            Self { d: F16::ONE, m: F16::ZERO, ..*self },
            Factors { offset_bases: [self.m.to_f32()], ..Factors::scales([self.d.to_f32()]) },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let x: [f32; 32] = std::array::from_fn(|i| 0.5 * i as f32 - 3.0);
        let mut bytes = [0; 24];
        (FORMAT.encode)(&x, None, &mut bytes);
        assert_eq!(bytes[..10], [0x00, 0x38, 0x00, 0xc2, 0x00, 0x00, 0xff, 0xff, 0x00, 0x11]);
        assert_eq!(bytes[23], 0xff);
        let mut back = [0.0; 32];
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back, x);
    }
}
