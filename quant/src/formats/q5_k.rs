//! Q5_K: 256 weights in 8 sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum, and 5-bit codes: 5.5 bits per
//! weight. Weight `i` of sub-block `j` = `d * sc[j] * code[i] - dmin * m[j]`; `six_bit.rs` draws the scales.
//!
//! ```text
//! byte  0 1   2 3    4 .. 15       16 ............. 47            48 ............................. 175
//!       d     dmin   scales[12]    qh[32]                         qs[128], four runs of 32 bytes
//!       f16   f16                  byte i, bit j: fifth bit       run r, byte i: hhhhllll   lower four bits:
//!                                  of weight i of sub-block j     l weight i of sub-block 2r, h of sub-block 2r + 1
//! ```

use super::block::QuantBlock;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::search::{AffineSearch, Loss};
use super::simd::F32x8;
use super::six_bit::{Codes, Searches, SixBit};
use super::{DType, Format};

pub(super) const FORMAT: Format = Format::of::<BlockQ5K, 256>(DType::Q5_K, "Q5_K", 13, include_str!("q5_k.wgsl"))
    .of_integers(integers::<BlockQ5K, 256, 8, 1>(CodeValues::Range { bits: 5, offset: 0 }, LevelValues::Bytes, true));

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockQ5K {
    scales: SixBit,
    qh: [u8; 32],
    qs: [u8; 128],
}
const _: () = assert!(size_of::<BlockQ5K>() == 176);

const SEARCHES: Searches = Searches {
    plain: AffineSearch { max_code: 31, first: -0.5, delta: 0.1, count: 16, clamp_first: false, loss: Loss::Squared },
    weighted: AffineSearch { max_code: 31, first: -0.9, delta: 0.05, count: 37, clamp_first: true, loss: Loss::Squared },
};

impl BlockQ5K {
    #[inline(always)]
    fn store(scales: SixBit, codes: &Codes) -> Self {
        let mut qs = [0; 128];
        for (run, codes) in qs.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<2>().0) {
            *run = std::array::from_fn(|i| codes[0][i] & 15 | codes[1][i] << 4);
        }
        let fifths = |i: usize| (0..8).fold(0, |bits, j| bits | codes[j][i] >> 4 << j);
        Self { scales, qh: std::array::from_fn(fifths), qs }
    }
}

impl QuantBlock<256> for BlockQ5K {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        SixBit::encode::<V, Self>(x, importance, &SEARCHES, blocks, Self::store);
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let (scale, min) = self.scales.unpack();
        for (r, (run, out)) in self.qs.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<64>().0).enumerate() {
            for i in 0..32 {
                let fifths = self.qh[i] >> (2 * r);
                let (low, high) = (run[i] & 15 | (fifths & 1) << 4, run[i] >> 4 | (fifths >> 1 & 1) << 4);
                out[i] = scale[2 * r] * f32::from(low) - min[2 * r];
                out[i + 32] = scale[2 * r + 1] * f32::from(high) - min[2 * r + 1];
            }
        }
    }
}

impl Affine<256, 8> for BlockQ5K {
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
        let scales = SixBit { d: F16::from_f32(0.5), dmin: F16::from_f32(2.0), scales };
        let mut block = BlockQ5K { scales, qh: [0; 32], qs: [0; 128] };
        block.qs[96 + 5] = 0xa3;
        block.qh[5] = 1 << 7;
        let mut out = [0.0; 256];
        block.decode(&mut out);
        assert_eq!(out[0], -18.0);
        assert_eq!(out[6 * 32 + 5], 0.5 * 7.0 * 3.0 - 2.0 * 3.0);
        assert_eq!(out[7 * 32 + 5], 0.5 * 8.0 * 26.0 - 2.0 * 20.0);
    }
}
