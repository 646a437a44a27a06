//! TQ2_0: 256 ternary weights with one scale and 2-bit codes, 2.0625 bits per weight. Weight `i` = `d * (code[i] - 1)`.
//!
//! ```text
//! byte  0 ............ 63    64 65
//!       qs[64]               d
//!       see two_bit.rs       f16
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::search::{largest_magnitude, reciprocal};
use super::simd::F32x8;
use super::{DType, Format, two_bit};

pub(super) const FORMAT: Format = Format::of::<BlockTq2_0, 256>(DType::TQ2_0, "TQ2_0", 35, include_str!("tq2_0.wgsl"))
    .of_integers(integers::<BlockTq2_0, 256, 8, 1>(CodeValues::Range { bits: 2, offset: 1 }, LevelValues::One, false));

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockTq2_0 {
    qs: [u8; 64],
    d: F16,
}
const _: () = assert!(size_of::<BlockTq2_0>() == 66);

/// The largest magnitude as scale, and codes 0, 1, 2 of each number divided by it, halves away from zero; NaN becomes
/// code 1, as in x86 builds of ggml. For TQ1_0 too.
#[inline(always)]
pub(super) fn ternary<V: F32x8>(x: &[f32; 256]) -> (F16, [u8; 256]) {
    let d = largest_magnitude::<V, 256>(x);
    let inverse = reciprocal(d);
    (F16::from_f32(d), x.map(|x| 1 + u8::from(x * inverse >= 0.5) - u8::from(x * inverse <= -0.5)))
}

impl QuantBlock<256> for BlockTq2_0 {
    /// ggml's `quantize_row_tq2_0_ref`; it takes no notice of importance.
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], _importance: Option<&[f32]>, blocks: &mut [Self]) {
        for (x, block) in x.as_chunks::<256>().0.iter().zip(blocks) {
            let (d, codes) = ternary::<V>(x);
            *block = Self { qs: two_bit::pack(&codes), d };
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        *out = two_bit::unpack(&self.qs).map(|code| (f32::from(code) - 1.0) * d);
    }
}

impl Affine<256, 8> for BlockTq2_0 {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<8, 1>) {
        (Self { d: F16::ONE, ..*self }, Factors::scales([self.d.to_f32()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let x: [f32; 256] = std::array::from_fn(|i| ((i / 32 * 2 + i) % 3) as f32 / 2.0 - 0.5);
        let mut bytes = [0; 66];
        (FORMAT.encode)(&x, None, &mut bytes);
        assert_eq!(bytes[..2], [0b00_10_01_00, 0b01_00_10_01]);
        assert_eq!(bytes[64..], [0x00, 0x38]);
        let mut back = [0.0; 256];
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back, x);
    }
}
