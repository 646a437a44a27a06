//! Q4_0: 32 weights with one scale and 4-bit codes, 4.5 bits per weight. Weight `i` = `d * (code[i] - 8)`.
//!
//! ```text
//! byte  0 1   2        3             17
//!       d     qs[0]    qs[1]   ...   qs[15]
//!       f16   hhhhllll               l code of weight i, h code of weight i + 16
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::nibbles::nibbles;
use super::search::{reciprocal, signed_max, symmetric_row, truncated_codes};
use super::simd::F32x8;
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<BlockQ4_0, 32>(DType::Q4_0, "Q4_0", 2, include_str!("q4_0.wgsl"))
    .of_integers(integers::<BlockQ4_0, 32, 1, 1>(CodeValues::Range { bits: 4, offset: 8 }, LevelValues::One, false));

/// 32 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockQ4_0 {
    d: F16,
    qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ4_0>() == 18);

impl BlockQ4_0 {
    #[inline(always)]
    fn pack(&mut self, d: f32, codes: &[u8; 32]) {
        self.d = F16::from_f32(d);
        self.qs = std::array::from_fn(|i| codes[i] | codes[i + 16] << 4);
    }
}

impl QuantBlock<32> for BlockQ4_0 {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        if let Some(importance) = importance {
            return symmetric_row::<V, Self>(x, importance, 8, blocks, Self::pack);
        }
        for (x, block) in x.as_chunks::<32>().0.iter().zip(blocks) {
            // The number of largest magnitude becomes -8 exactly; the truncation below rounds halves up.
            let d = signed_max::<V, 32>(x) / -8.0;
            let inverse = reciprocal(d);
            block.pack(d, &truncated_codes::<V>(x, inverse, 8.5, 15.0));
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        let codes: [u8; 32] = nibbles(&self.qs);
        for i in 0..32 {
            out[i] = (f32::from(codes[i]) - 8.0) * d;
        }
    }
}

impl Affine<32, 1> for BlockQ4_0 {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<1, 1>) {
        (Self { d: F16::ONE, ..*self }, Factors::scales([self.d.to_f32()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let x: [f32; 32] = std::array::from_fn(|i| 0.5 * (i % 16) as f32 - 4.0);
        let mut bytes = [0; 18];
        (FORMAT.encode)(&x, None, &mut bytes);
        assert_eq!(bytes[..4], [0x00, 0x38, 0x00, 0x11]);
        assert_eq!(bytes[17], 0xff);
        let mut back = [0.0; 32];
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back, x);
    }
}
