//! Q8_0: 32 weights with one scale and 8-bit codes, 8.5 bits per weight. Weight `i` = `d * qs[i]`.
//!
//! ```text
//! byte  0 1   2        3             33
//!       d     qs[0]    qs[1]   ...   qs[31]
//!       f16   i8
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::search::{largest_magnitude, reciprocal};
use super::simd::{F32x8, SIMD_WIDTH};
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<BlockQ8_0, 32>(DType::Q8_0, "Q8_0", 8, include_str!("q8_0.wgsl"))
    .of_integers(integers::<BlockQ8_0, 32, 1, 1>(CodeValues::Range { bits: 8, offset: 128 }, LevelValues::One, false));

/// 32 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockQ8_0 {
    d: F16,
    qs: [i8; 32],
}
const _: () = assert!(size_of::<BlockQ8_0>() == 34);

/// Rounds to nearest, halves away from zero. The addend is the largest float below one half, so that nothing short of a half
/// is carried over; exact under 2^22.
#[inline(always)]
fn rounded<V: F32x8>(x: &[f32; 32], inverse: f32) -> [i8; 32] {
    let (zero, half) = (V::splat(0.0), V::splat(0.499_999_97));
    let mut parts = [zero; 4];
    for (part, x) in parts.iter_mut().zip(x.as_chunks::<SIMD_WIDTH>().0) {
        let x = V::load(x) * V::splat(inverse);
        *part = V::select(x.lt(zero), x - half, x + half);
    }
    bytemuck::cast(V::bytes(parts))
}

impl QuantBlock<32> for BlockQ8_0 {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], _importance: Option<&[f32]>, blocks: &mut [Self]) {
        for (x, block) in x.as_chunks::<32>().0.iter().zip(blocks) {
            let d = largest_magnitude::<V, 32>(x) / 127.0;
            *block = Self { d: F16::from_f32(d), qs: rounded::<V>(x, reciprocal(d)) };
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 32]) {
        let d = self.d.to_f32();
        for (out, q) in out.iter_mut().zip(self.qs) {
            *out = f32::from(q) * d;
        }
    }
}

impl Affine<32, 1> for BlockQ8_0 {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<1, 1>) {
        (Self { d: F16::ONE, ..*self }, Factors::scales([self.d.to_f32()]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::Plain;
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let x: [f32; 32] = std::array::from_fn(|i| if i == 31 { 127.0 } else { -2.0 * i as f32 });
        let mut bytes = [0; 34];
        (FORMAT.encode)(&x, None, &mut bytes);
        assert_eq!(bytes[..4], [0x00, 0x3c, 0x00, 0xfe]);
        assert_eq!(bytes[33], 0x7f);
        let mut back = [0.0; 32];
        (FORMAT.decode)(&bytes, &mut back);
        assert_eq!(back, x);
    }

    #[test]
    fn halves_round_away_from_zero_and_nothing_else_does() {
        for tenths in -1_270..=1_270 {
            for x in [tenths as f32 / 10.0, (tenths as f32 / 10.0).next_up(), (tenths as f32 / 10.0).next_down()] {
                assert_eq!(f32::from(rounded::<Plain>(&[x; 32], 1.0)[9]), x.round(), "{x:?}");
            }
        }
    }
}
