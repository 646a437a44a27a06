//! Q1_0: 128 weights with one scale and a bit each, 1.125 bits per weight. Weight `i` = `d` where its bit is set, else `-d`.
//!
//! ```text
//! byte  0 1   2 ................ 17
//!       d     qs[16]
//!       f16   byte i, bit b: weight 8 i + b
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::simd::F32x8;
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<BlockQ1_0, 128>(DType::Q1_0, "Q1_0", 41, include_str!("q1_0.wgsl"))
    .of_integers(integers::<BlockQ1_0, 128, 4, 1>(CodeValues::Signs, LevelValues::One, false));

/// 128 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockQ1_0 {
    d: F16,
    qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ1_0>() == 18);

impl QuantBlock<128> for BlockQ1_0 {
    /// ggml's `quantize_row_q1_0_ref`: the mean magnitude and the signs; it takes no notice of importance.
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], _importance: Option<&[f32]>, blocks: &mut [Self]) {
        for (x, block) in x.as_chunks::<128>().0.iter().zip(blocks) {
            block.d = F16::from_f32(x.iter().fold(0.0, |sum, x| sum + x.abs()) / 128.0);
            for (byte, x) in block.qs.iter_mut().zip(x.as_chunks::<8>().0) {
                *byte = (0..8).fold(0, |bits, b| bits | u8::from(x[b] >= 0.0) << b);
            }
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 128]) {
        let d = self.d.to_f32();
        for (byte, out) in self.qs.iter().zip(out.as_chunks_mut::<8>().0) {
            for (b, out) in out.iter_mut().enumerate() {
                *out = if byte >> b & 1 == 1 { d } else { -d };
            }
        }
    }
}

impl Affine<128, 4> for BlockQ1_0 {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<4, 1>) {
        (Self { d: F16::ONE, ..*self }, Factors::scales([self.d.to_f32()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let x: [f32; 128] = std::array::from_fn(|i| if i % 3 == 0 { 0.5 } else { -0.5 });
        let mut bytes = [0; 18];
        (FORMAT.encode)(&x, None, &mut bytes);
        assert_eq!(bytes[..4], [0x00, 0x38, 0b0100_1001, 0b1001_0010]);
        let mut back = [0.0; 128];
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back, x);
    }
}
