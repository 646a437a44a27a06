//! IQ4_NL: 32 weights with one scale and 4-bit codes of unevenly spaced values, 4.5 bits per weight. Weight `i` =
//! `d * value[code[i]]`; `iq4.rs` has the values.
//!
//! ```text
//! byte  0 1   2        3             17
//!       d     qs[0]    qs[1]   ...   qs[15]
//!       f16   hhhhllll               l code of weight i, h code of weight i + 16
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::search::transpose;
use super::simd::{F32x8, SIMD_WIDTH};
use super::{DType, Format, iq4};

pub(super) const FORMAT: Format = Format::of::<BlockIq4Nl, 32>(DType::IQ4_NL, "IQ4_NL", 20, include_str!("iq4_nl.wgsl"))
    .of_integers(integers::<BlockIq4Nl, 32, 1, 1>(CodeValues::Table(&iq4::VALUES), LevelValues::One, false));

/// 32 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockIq4Nl {
    d: F16,
    qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockIq4Nl>() == 18);

impl QuantBlock<32> for BlockIq4Nl {
    /// ggml's `quantize_iq4_nl`, which weighs by the mean square of the block.
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        let importance = importance.map(|w| w.as_chunks::<32>().0);
        for (i, (x, blocks)) in x.as_chunks::<32>().0.chunks(SIMD_WIDTH).zip(blocks.chunks_mut(SIMD_WIDTH)).enumerate() {
            let lanes = transpose(x);
            let squares = lanes.iter().fold(V::splat(0.0), |sum, x| sum + V::load(x) * V::load(x));
            let importance = importance.map(|w| &w[i * SIMD_WIDTH..][..x.len()]);
            let scales = iq4::scales(&lanes, importance, squares * V::splat(2.0 / 32.0));
            let codes = iq4::codes::<V>(&lanes, &scales);
            for ((block, d), qs) in blocks.iter_mut().zip(scales).zip(codes) {
                *block = Self { d: F16::from_f32(d), qs };
            }
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        iq4::decode(&self.qs, self.d.to_f32(), out);
    }
}

impl Affine<32, 1> for BlockIq4Nl {
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
        let x: [f32; 32] = std::array::from_fn(|i| 0.5 * f32::from(iq4::VALUES[i % 16]));
        let mut bytes = [0; 18];
        (FORMAT.encode)(&x, None, &mut bytes);
        assert_eq!(bytes[..4], [0x00, 0x38, 0x00, 0x11]);
        assert_eq!(bytes[17], 0xff);
        let mut back = [0.0; 32];
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back, x);
    }
}
