//! IQ3_S: 256 weights in 8 groups of 32, each with a 4-bit scale and eight of 512 grid points of four weights, and a sign for
//! each weight: 3.4375 bits per weight. A weight of group `j` = `d * (2 s[j] + 1) * (2 code + 1)`, negative by its sign.
//!
//! ```text
//! byte  0 1   2 ...... 65     66 .................... 73   74 ..... 105   106 .. 109
//!       d     qs[64]          qh[8]                        signs[32]      scales[4]
//!       f16   index i,        bit k of byte j: ninth bit   of eight       hhhhllll   l s[2 i], h s[2 i + 1]
//!             lower eight     of index 8 j + k             weights
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::grid::{Grid, decode_point};
use super::grid_search::{Found, GridSearch, Plain, Refine, scale_codes};
use super::integers::{Affine, CodeValues, Factors, LevelValues, SignedPoints, integers};
use super::simd::F32x8;
use super::{DType, Format, grid_points};

pub(super) const FORMAT: Format = Format::of::<BlockIQ3S, 256>(DType::IQ3_S, "IQ3_S", 21, include_str!("iq3_s.wgsl"))
    .on_grid_of_fours(&grid_points::IQ3_S)
    .of_integers(integers::<BlockIQ3S, 256, 8, 1>(CodeValues::Grid, LevelValues::Bytes, false).with_signs::<BlockIQ3S, 8>());

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockIQ3S {
    d: F16,
    qs: [[u8; 8]; 8],
    qh: [u8; 8],
    signs: [[u8; 4]; 8],
    scales: [u8; 4],
}
const _: () = assert!(size_of::<BlockIQ3S>() == 110);

/// ggml's `quantize_row_iq3_s_impl`.
static SEARCH: GridSearch<4> = GridSearch {
    grid: Grid::new(&grid_points::IQ3_S, 3),
    spread: 2.0,
    plain: Plain::Squares,
    even_signs: false,
    zero_below: f32::from_bits(1),
    steps: 9,
    step: 0.2,
    fit_first: false,
    refine: Refine::AllIfOffGrid,
};

impl BlockIQ3S {
    /// After a group of zeros ggml puts the lower bits of the indexes and the signs of the following groups where those of
    /// the zeros belong. That loses weights, but the bytes are to be the same.
    #[inline(always)]
    fn store(found: &[Found; 8]) -> Self {
        let (d, scales) = scale_codes(&found.map(|found| found.scale), 15).unwrap_or_default();
        let mut block: Self = bytemuck::Zeroable::zeroed();
        block.d = F16::from_f32(d * 1.033);
        block.scales = std::array::from_fn(|i| scales[2 * i] | scales[2 * i + 1] << 4);
        block.qh = found.map(|found| (0..8).fold(0, |bits, k| bits | ((found.points[k] >> 8) as u8) << k));
        let found = found.iter().filter(|found| !found.is_zero);
        for ((found, qs), signs) in found.zip(&mut block.qs).zip(&mut block.signs) {
            *qs = found.points.map(|point| point as u8);
            *signs = found.signs.to_le_bytes();
        }
        block
    }
}

impl QuantBlock<256> for BlockIQ3S {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        SEARCH.encode::<V, 32, 8, Self>(x, importance, blocks, Self::store);
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let scale = d * f32::from(1 + 2 * (self.scales[j / 2] >> (4 * (j % 2)) & 15));
            for (k, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let index = usize::from(self.qs[j][k]) | usize::from(self.qh[j] >> k & 1) << 8;
                let signs = u32::from(self.signs[j][k / 2] >> (4 * (k % 2)));
                decode_point::<4>(SEARCH.grid.point(index), signs, scale, |code| 2 * code + 1, out);
            }
        }
    }
}

impl Affine<256, 8> for BlockIQ3S {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<8, 1>) {
        let levels = std::array::from_fn(|j| 2 * (self.scales[j / 2] >> (4 * (j % 2)) & 15) as i8 + 1);
        (Self { d: F16::ONE, scales: [0; 4], ..*self }, Factors::leveled([self.d.to_f32()], levels))
    }

    #[inline(always)]
    fn codes(&self, codes: &mut [i8; 256]) {
        self.signed_codes(codes);
    }
}

impl SignedPoints for BlockIQ3S {
    #[inline(always)]
    fn points(&self, mut put: impl FnMut(usize, u64, u32)) {
        let levels = SEARCH.grid.levels(|code| 2 * code + 1);
        for j in 0..8 {
            let point = |k: usize| levels[usize::from(self.qs[j][k]) | usize::from(self.qh[j] >> k & 1) << 8];
            for k in 0..4 {
                put(4 * j + k, point(2 * k) | point(2 * k + 1) << 32, u32::from(self.signs[j][k]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let mut block: BlockIQ3S = bytemuck::Zeroable::zeroed();
        block.d = F16::from_f32(0.5);
        (block.qs[5][3], block.qh[5], block.signs[5][1], block.scales[2]) = (0xff, 0b1000, 0b1000_0100, 0x30);
        let mut out = [0.0; 256];
        block.decode(&mut out);
        assert_eq!(out[0], 0.5);
        let point: [f32; 4] = std::array::from_fn(|i| f32::from(SEARCH.grid.point(511) >> (3 * i) & 7));
        let expected =
            [1.0, 1.0, -1.0, 1.0, 2.0 * point[0] + 1.0, 2.0 * point[1] + 1.0, 2.0 * point[2] + 1.0, -2.0 * point[3] - 1.0];
        assert_eq!(out[5 * 32 + 8..][..8], expected.map(|level| 0.5 * 7.0 * level));
    }
}
