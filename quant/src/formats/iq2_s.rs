//! IQ2_S: 256 weights in 16 groups of 16, each with a 4-bit scale and two of 1024 grid points of eight weights, and a sign
//! for each weight: 2.5625 bits per weight. A weight of group `j` = `d * (0.5 + s[j]) / 4 * level`, levels 8, 25, 43
//! (`grid.rs`).
//!
//! ```text
//! byte  0 1   2 ...... 33   34 ....... 65   66 ............................. 73   74 ....... 81
//!       d     qs[32]        signs[32]       qh[8]                                 scales[8]
//!       f16   index i,      of eight        ddccbbaa   upper two bits of          hhhhllll   l s[2 i], h s[2 i + 1]
//!             lower eight   weights                    indexes 4 i (a) .. 4 i + 3 (d)
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::grid::{Grid, decode_point, iq2_level};
use super::grid_search::{Found, GridSearch, Plain, Refine, scale_codes};
use super::integers::{Affine, CodeValues, Factors, LevelValues, SignedPoints, integers};
use super::simd::F32x8;
use super::{DType, Format, grid_points};

pub(super) const FORMAT: Format = Format::of::<BlockIQ2S, 256>(DType::IQ2_S, "IQ2_S", 22, include_str!("iq2_s.wgsl"))
    .on_grid(&grid_points::IQ2_S)
    .of_integers(integers::<BlockIQ2S, 256, 16, 1>(CodeValues::Grid, LevelValues::Bytes, false).with_signs::<BlockIQ2S, 16>());

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockIQ2S {
    d: F16,
    qs: [u8; 32],
    signs: [u8; 32],
    qh: [u8; 8],
    scales: [u8; 8],
}
const _: () = assert!(size_of::<BlockIQ2S>() == 82);

/// ggml's `quantize_row_iq2_s_impl`.
static SEARCH: GridSearch<8> = GridSearch {
    grid: Grid::new(&grid_points::IQ2_S, 1),
    spread: 2.0,
    plain: Plain::SquaresAndSpread,
    even_signs: false,
    zero_below: 1e-8,
    steps: 9,
    step: 0.1,
    fit_first: false,
    refine: Refine::OffGrid,
};

impl BlockIQ2S {
    #[inline(always)]
    fn store(found: &[Found; 16]) -> Self {
        let (d, scales) = scale_codes(&found.map(|found| found.scale), 15).unwrap_or_default();
        let point = |i: usize| found[i / 2].points[i % 2];
        Self {
            d: F16::from_f32(d * 0.9875),
            qs: std::array::from_fn(|i| point(i) as u8),
            signs: std::array::from_fn(|i| (found[i / 2].signs >> (8 * (i % 2))) as u8),
            qh: std::array::from_fn(|i| (0..4).fold(0, |bits, k| bits | ((point(4 * i + k) >> 8) as u8) << (2 * k))),
            scales: std::array::from_fn(|i| scales[2 * i] | scales[2 * i + 1] << 4),
        }
    }
}

impl QuantBlock<256> for BlockIQ2S {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        SEARCH.encode::<V, 16, 16, Self>(x, importance, blocks, Self::store);
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (i, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let scale = d * (0.5 + f32::from(self.scales[i / 4] >> (4 * (i / 2 % 2)) & 15)) * 0.25;
            let index = usize::from(self.qs[i]) | usize::from(self.qh[i / 4] >> (2 * (i % 4)) & 3) << 8;
            decode_point::<8>(SEARCH.grid.point(index), u32::from(self.signs[i]), scale, iq2_level, out);
        }
    }
}

impl Affine<256, 16> for BlockIQ2S {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<16, 1>) {
        let levels = std::array::from_fn(|j| 2 * (self.scales[j / 2] >> (4 * (j % 2)) & 15) as i8 + 1);
        // 8 * 0.5 * 0.25 = 1
        (Self { d: F16::from_f32(8.0), scales: [0; 8], ..*self }, Factors::leveled([0.125 * self.d.to_f32()], levels))
    }

    #[inline(always)]
    fn codes(&self, codes: &mut [i8; 256]) {
        self.signed_codes(codes);
    }
}

impl SignedPoints for BlockIQ2S {
    #[inline(always)]
    fn points(&self, mut put: impl FnMut(usize, u64, u32)) {
        let levels = SEARCH.grid.levels(iq2_level);
        for i in 0..32 {
            let index = usize::from(self.qs[i]) | usize::from(self.qh[i / 4] >> (2 * (i % 4)) & 3) << 8;
            put(i, levels[index], u32::from(self.signs[i]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let mut block = BlockIQ2S { d: F16::from_f32(0.5), qs: [0; 32], signs: [0; 32], qh: [0; 8], scales: [0; 8] };
        // Point 1023 is 2 2 2 2 2 2 2 0.
        (block.qs[30], block.qh[7], block.signs[30], block.scales[7]) = (0xff, 0b0011_0000, 0b1000_0001, 0x30);
        let mut out = [0.0; 256];
        block.decode(&mut out);
        assert_eq!(out[0], 0.5 * 0.5 * 0.25 * 8.0);
        let point: [u16; 8] = std::array::from_fn(|i| SEARCH.grid.point(1023) >> (2 * i) & 3);
        let expected: [f32; 8] = std::array::from_fn(|i| {
            let sign = if i == 0 || i == 7 { -1.0 } else { 1.0 };
            sign * 0.5 * 3.5 * 0.25 * [8.0, 25.0, 43.0][usize::from(point[i])]
        });
        assert_eq!(out[240..248], expected);
    }
}
