//! IQ2_XS: 256 weights in 16 groups of 16, each with a 4-bit scale and two of 512 grid points of eight weights, signs with
//! even parity: 2.3125 bits per weight. A weight of group `j` = `d * (0.5 + s[j]) / 4 * level`, levels 8, 25, 43 (`grid.rs`).
//!
//! ```text
//! byte  0 1   2 .. 65                              66 ....... 73
//!       d     qs[32], a u16 for eight weights      scales[8]
//!       f16   sssssssp pppppppp   p index, s signs hhhhllll   l s[2 i], h s[2 i + 1]
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::grid::{Grid, decode_point, even_signs, iq2_level};
use super::grid_search::{Found, GridSearch, Plain, Refine, scale_codes};
use super::integers::{Affine, CodeValues, Factors, LevelValues, SignedPoints, integers};
use super::search::ZERO_GROUP;
use super::simd::F32x8;
use super::{DType, Format, grid_points};

pub(super) const FORMAT: Format = Format::of::<BlockIQ2XS, 256>(DType::IQ2_XS, "IQ2_XS", 17, include_str!("iq2_xs.wgsl"))
    .on_grid(&grid_points::IQ2_XS)
    .needing_importance()
    .of_integers(integers::<BlockIQ2XS, 256, 16, 1>(CodeValues::Grid, LevelValues::Bytes, false).with_signs::<BlockIQ2XS, 16>());

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockIQ2XS {
    d: F16,
    qs: [[u8; 2]; 32],
    scales: [u8; 8],
}
const _: () = assert!(size_of::<BlockIQ2XS>() == 74);

/// ggml's `quantize_row_iq2_xs_impl`.
static SEARCH: GridSearch<8> = GridSearch {
    grid: Grid::new(&grid_points::IQ2_XS, 2),
    spread: 1.0,
    plain: Plain::Ones,
    even_signs: true,
    zero_below: ZERO_GROUP,
    steps: 9,
    step: 0.1,
    fit_first: false,
    refine: Refine::OffGrid,
};

impl BlockIQ2XS {
    #[inline(always)]
    fn store(found: &[Found; 16]) -> Self {
        let Some((d, scales)) = scale_codes(&found.map(|found| found.scale), 15) else { return bytemuck::Zeroable::zeroed() };
        let qs = std::array::from_fn(|i| {
            let signs = (found[i / 2].signs >> (8 * (i % 2)) & 127) as u16;
            (found[i / 2].points[i % 2] | signs << 9).to_le_bytes()
        });
        Self { d: F16::from_f32(d), qs, scales: std::array::from_fn(|i| scales[2 * i] | scales[2 * i + 1] << 4) }
    }
}

impl QuantBlock<256> for BlockIQ2XS {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        SEARCH.encode::<V, 16, 16, Self>(x, importance, blocks, Self::store);
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (i, (q, out)) in self.qs.iter().zip(out.as_chunks_mut::<8>().0).enumerate() {
            let q = u16::from_le_bytes(*q);
            let scale = d * (0.5 + f32::from(self.scales[i / 4] >> (4 * (i / 2 % 2)) & 15)) * 0.25;
            let point = SEARCH.grid.point(usize::from(q & 511));
            decode_point::<8>(point, even_signs(u32::from(q >> 9)), scale, iq2_level, out);
        }
    }
}

impl Affine<256, 16> for BlockIQ2XS {
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

impl SignedPoints for BlockIQ2XS {
    #[inline(always)]
    fn points(&self, mut put: impl FnMut(usize, u64, u32)) {
        let levels = SEARCH.grid.levels(iq2_level);
        for (i, q) in self.qs.iter().enumerate() {
            let q = u16::from_le_bytes(*q);
            put(i, levels[usize::from(q & 511)], even_signs(u32::from(q >> 9)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let mut block = BlockIQ2XS { d: F16::from_f32(0.5), qs: [[0; 2]; 32], scales: [0; 8] };
        // Point 511 is 2 2 2 2 2 2 2 2.
        (block.qs[30], block.qs[31], block.scales[7]) = ([0xff, 0x01], [0x00, 0x06], 0x30);
        let mut out = [0.0; 256];
        block.decode(&mut out);
        assert_eq!(out[0], 0.5 * 0.5 * 0.25 * 8.0);
        let scale = 0.5 * 3.5 * 0.25;
        assert_eq!(out[240..248], [scale * 43.0; 8]);
        assert_eq!(out[248..], [-8.0, -8.0, 8.0, 8.0, 8.0, 8.0, 8.0, 8.0].map(|level| scale * level));
    }
}
