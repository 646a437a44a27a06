//! Q2_0: 64 weights with one scale and 2-bit codes, 2.25 bits per weight. Weight `i` = `d * (code[i] - 1)`. The encoder never
//! uses code 3.
//!
//! ```text
//! byte  0 1   2 ........... 17
//!       d     qs[16]
//!       f16   ddccbbaa      codes of weights 4 i (a), 4 i + 1 (b), 4 i + 2 (c), 4 i + 3 (d)
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::search::{largest_magnitude, reciprocal};
use super::simd::F32x8;
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<BlockQ2_0, 64>(DType::Q2_0, "Q2_0", 42, include_str!("q2_0.wgsl"))
    .of_integers(integers::<BlockQ2_0, 64, 2, 1>(CodeValues::Range { bits: 2, offset: 1 }, LevelValues::One, false));

/// 64 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockQ2_0 {
    d: F16,
    qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ2_0>() == 18);

impl QuantBlock<64> for BlockQ2_0 {
    /// ggml's `quantize_row_q2_0_ref`: the largest magnitude is the scale; it takes no notice of importance.
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], _importance: Option<&[f32]>, blocks: &mut [Self]) {
        for (x, block) in x.as_chunks::<64>().0.iter().zip(blocks) {
            let d = largest_magnitude::<V, 64>(x);
            let inverse = reciprocal(d);
            block.d = F16::from_f32(d);
            // Halves away from zero; NaN becomes code 0, as in x86 builds of ggml.
            let codes = x.map(|x| u8::from(x * inverse >= 0.5) + u8::from(x * inverse > -0.5));
            for (byte, q) in block.qs.iter_mut().zip(codes.as_chunks::<4>().0) {
                *byte = q[0] | q[1] << 2 | q[2] << 4 | q[3] << 6;
            }
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 64]) {
        let d = self.d.to_f32();
        for (byte, out) in self.qs.iter().zip(out.as_chunks_mut::<4>().0) {
            for (i, out) in out.iter_mut().enumerate() {
                *out = (f32::from(byte >> (2 * i) & 3) - 1.0) * d;
            }
        }
    }
}

impl Affine<64, 2> for BlockQ2_0 {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<2, 1>) {
        (Self { d: F16::ONE, ..*self }, Factors::scales([self.d.to_f32()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let x: [f32; 64] = std::array::from_fn(|i| (i % 3) as f32 / 2.0 - 0.5);
        let mut bytes = [0; 18];
        (FORMAT.encode)(&x, None, &mut bytes);
        assert_eq!(bytes[..4], [0x00, 0x38, 0b00_10_01_00, 0b01_00_10_01]);
        let mut back = [0.0; 64];
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back, x);
        bytes[2] = 3;
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back[0], 1.0);
    }
}
