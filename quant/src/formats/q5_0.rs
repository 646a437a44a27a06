//! Q5_0: 32 weights with one scale and 5-bit codes, 5.5 bits per weight. Weight `i` = `d * (code[i] - 16)`.
//!
//! ```text
//! byte  0 1   2 3 4 5   6        7             21
//!       d     qh        qs[0]    qs[1]   ...   qs[15]
//!       f16   bit i:    hhhhllll               l lower four bits of weight i, h those of weight i + 16
//!             fifth bit of weight i
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::nibbles::fifth_bits;
use super::search::{reciprocal, signed_max, symmetric_row, truncated_codes};
use super::simd::F32x8;
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<BlockQ5_0, 32>(DType::Q5_0, "Q5_0", 6, include_str!("q5_0.wgsl"))
    .of_integers(integers::<BlockQ5_0, 32, 1, 1>(CodeValues::Range { bits: 5, offset: 16 }, LevelValues::One, false));

/// 32 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockQ5_0 {
    d: F16,
    qh: [u8; 4],
    qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ5_0>() == 22);

impl BlockQ5_0 {
    #[inline(always)]
    fn pack(&mut self, d: f32, codes: &[u8; 32]) {
        self.d = F16::from_f32(d);
        self.qh = fifth_bits(codes).to_le_bytes();
        self.qs = std::array::from_fn(|i| codes[i] & 15 | codes[i + 16] << 4);
    }
}

impl QuantBlock<32> for BlockQ5_0 {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        if let Some(importance) = importance {
            return symmetric_row::<V, Self>(x, importance, 16, blocks, Self::pack);
        }
        for (x, block) in x.as_chunks::<32>().0.iter().zip(blocks) {
            // The number of largest magnitude becomes -16 exactly; the truncation below rounds halves up.
            let d = signed_max::<V, 32>(x) / -16.0;
            let inverse = reciprocal(d);
            block.pack(d, &truncated_codes::<V>(x, inverse, 16.5, 31.0));
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        let fifth = u32::from_le_bytes(self.qh);
        for i in 0..16 {
            let low = u32::from(self.qs[i] & 15) | (fifth >> i & 1) << 4;
            let high = u32::from(self.qs[i] >> 4) | (fifth >> (i + 16) & 1) << 4;
            out[i] = (low as i32 - 16) as f32 * d;
            out[i + 16] = (high as i32 - 16) as f32 * d;
        }
    }
}

impl Affine<32, 1> for BlockQ5_0 {
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
        let x: [f32; 32] = std::array::from_fn(|i| 0.5 * i as f32 - 8.0);
        let mut bytes = [0; 22];
        (FORMAT.encode)(&x, None, &mut bytes);
        assert_eq!(bytes[..8], [0x00, 0x38, 0x00, 0x00, 0xff, 0xff, 0x00, 0x11]);
        assert_eq!(bytes[21], 0xff);
        let mut back = [0.0; 32];
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back, x);
    }
}
