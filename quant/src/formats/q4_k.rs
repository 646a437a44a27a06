//! Q4_K: 256 weights in 8 sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum, and 4-bit codes: 4.5 bits per
//! weight. Weight `i` of sub-block `j` = `d * sc[j] * code[i] - dmin * m[j]`; `six_bit.rs` draws the scales.
//!
//! ```text
//! byte  0 1   2 3    4 .. 15        16 ............................. 143
//!       d     dmin   scales[12]     qs[128], four runs of 32 bytes
//!       f16   f16                   run r, byte i: hhhhllll   l weight i of sub-block 2r, h of sub-block 2r + 1
//! ```

use super::block::QuantBlock;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::search::{AffineSearch, Loss};
use super::simd::F32x8;
use super::six_bit::{Codes, Searches, SixBit};
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<BlockQ4K, 256>(DType::Q4_K, "Q4_K", 12, include_str!("q4_k.wgsl"))
    .of_integers(integers::<BlockQ4K, 256, 8, 1>(CodeValues::Range { bits: 4, offset: 0 }, LevelValues::Bytes, true));

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockQ4K {
    scales: SixBit,
    qs: [u8; 128],
}
const _: () = assert!(size_of::<BlockQ4K>() == 144);

const SEARCHES: Searches = Searches {
    plain: AffineSearch { max_code: 15, first: -1.0, delta: 0.1, count: 21, clamp_first: false, loss: Loss::Squared },
    weighted: AffineSearch { max_code: 15, first: -0.9, delta: 0.05, count: 37, clamp_first: true, loss: Loss::Squared },
};

impl BlockQ4K {
    #[inline(always)]
    fn store(scales: SixBit, codes: &Codes) -> Self {
        let mut qs = [0; 128];
        for (run, codes) in qs.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<2>().0) {
            *run = std::array::from_fn(|i| codes[0][i] | codes[1][i] << 4);
        }
        Self { scales, qs }
    }
}

impl QuantBlock<256> for BlockQ4K {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        SixBit::encode::<V, Self>(x, importance, &SEARCHES, blocks, Self::store);
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let (scale, min) = self.scales.unpack();
        for (r, (run, out)) in self.qs.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<64>().0).enumerate() {
            for i in 0..32 {
                out[i] = scale[2 * r] * f32::from(run[i] & 15) - min[2 * r];
                out[i + 32] = scale[2 * r + 1] * f32::from(run[i] >> 4) - min[2 * r + 1];
            }
        }
    }
}

impl Affine<256, 8> for BlockQ4K {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<8, 1>) {
        (Self { scales: SixBit::UNIT, ..*self }, self.scales.factors())
    }
}

#[cfg(test)]
mod tests {
    use super::super::f16::F16;
    use super::super::six_bit::pack_scales;
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let scales = pack_scales(&[1, 2, 3, 4, 50, 60, 7, 8], &[9, 8, 7, 6, 5, 4, 3, 20]);
        let mut block = BlockQ4K { scales: SixBit { d: F16::from_f32(0.5), dmin: F16::from_f32(2.0), scales }, qs: [0; 128] };
        block.qs[96 + 5] = 0xa3;
        let mut out = [0.0; 256];
        block.decode(&mut out);
        assert_eq!(out[0], -18.0);
        assert_eq!(out[6 * 32 + 5], 0.5 * 7.0 * 3.0 - 2.0 * 3.0);
        assert_eq!(out[7 * 32 + 5], 0.5 * 8.0 * 10.0 - 2.0 * 20.0);
    }

    /// Where the numbers of any importance fit a minimum equal to the largest of them, the next range is empty. The bytes
    /// are ggml's.
    #[test]
    fn a_fitted_minimum_may_reach_the_largest_number() {
        let (mut x, mut importance) = ([0.0; 256], [1.0; 256]);
        for i in 0..256 {
            (x[i], importance[i]) = match i % 32 {
                9 => (-0.75, 0.0),
                5 => (-1.0 / 64.0, 0.125),
                i if i % 3 == 0 => (-3.0 / 256.0, 1.0),
                _ => (0.0, 1.0),
            };
        }
        let mut bytes = [0xaa; 144];
        (FORMAT.encode)(&x, Some(&importance), &mut bytes);
        let run: [u8; 32] = std::array::from_fn(|i| if i == 9 { 0x00 } else { 0xee });
        assert_eq!(bytes[..16], [0; 16]);
        assert_eq!(bytes[16..], [run; 4].concat());
    }
}
