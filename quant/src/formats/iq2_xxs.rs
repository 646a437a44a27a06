//! IQ2_XXS: 256 weights in 8 groups of 32, each with a 4-bit scale and four of 256 grid points of eight weights, signs with
//! even parity: 2.0625 bits per weight. A weight of group `j` = `d * (0.5 + s[j]) / 4 * level`, levels 8, 25, 43 (`grid.rs`).
//!
//! ```text
//! byte  0 1   2 .. 65
//!       d     8 groups of 8 bytes: four indexes of points, then 32 bits
//!       f16   ssss ddddddd ccccccc bbbbbbb aaaaaaa   s scale; a, b, c, d signs 0..7 of each eight weights
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::grid::{Grid, decode_point, even_signs, iq2_level};
use super::grid_search::{Found, GridSearch, Plain, Refine, scale_codes};
use super::integers::{Affine, CodeValues, Factors, LevelValues, SignedPoints, integers};
use super::search::ZERO_GROUP;
use super::simd::F32x8;
use super::{DType, Format, grid_points};

pub(super) const FORMAT: Format = Format::of::<BlockIQ2XXS, 256>(DType::IQ2_XXS, "IQ2_XXS", 16, include_str!("iq2_xxs.wgsl"))
    .on_grid(&grid_points::IQ2_XXS)
    .needing_importance()
    .of_integers(integers::<BlockIQ2XXS, 256, 8, 1>(CodeValues::Grid, LevelValues::Bytes, false).with_signs::<BlockIQ2XXS, 8>());

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockIQ2XXS {
    d: F16,
    qs: [[u8; 8]; 8],
}
const _: () = assert!(size_of::<BlockIQ2XXS>() == 66);

/// ggml's `quantize_row_iq2_xxs_impl`.
static SEARCH: GridSearch<8> = GridSearch {
    grid: Grid::new(&grid_points::IQ2_XXS, 2),
    spread: 1.0,
    plain: Plain::Ones,
    even_signs: true,
    zero_below: ZERO_GROUP,
    steps: 6,
    step: 0.1,
    fit_first: true,
    refine: Refine::All,
};

impl BlockIQ2XXS {
    #[inline(always)]
    fn store(found: &[Found; 8]) -> Self {
        let Some((d, scales)) = scale_codes(&found.map(|found| found.scale), 15) else { return bytemuck::Zeroable::zeroed() };
        let qs = std::array::from_fn(|j| {
            let [a, b, c, d] = found[j].signs.to_le_bytes().map(|signs| u32::from(signs & 127));
            let [e, f, g, h] = (a | b << 7 | c << 14 | d << 21 | u32::from(scales[j]) << 28).to_le_bytes();
            let points = found[j].points.map(|point| point as u8);
            [points[0], points[1], points[2], points[3], e, f, g, h]
        });
        Self { d: F16::from_f32(d), qs }
    }
}

impl QuantBlock<256> for BlockIQ2XXS {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        SEARCH.encode::<V, 32, 8, Self>(x, importance, blocks, Self::store);
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for (&[p0, p1, p2, p3, a, b, c, e], out) in self.qs.iter().zip(out.as_chunks_mut::<32>().0) {
            let word = u32::from_le_bytes([a, b, c, e]);
            let scale = d * (0.5 + (word >> 28) as f32) * 0.25;
            for (k, (point, out)) in [p0, p1, p2, p3].into_iter().zip(out.as_chunks_mut::<8>().0).enumerate() {
                let signs = even_signs(word >> (7 * k));
                decode_point::<8>(SEARCH.grid.point(usize::from(point)), signs, scale, iq2_level, out);
            }
        }
    }
}

impl Affine<256, 8> for BlockIQ2XXS {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<8, 1>) {
        let levels = self.qs.map(|qs| 2 * (qs[7] >> 4) as i8 + 1);
        let qs = self.qs.map(|[a, b, c, d, e, f, g, h]| [a, b, c, d, e, f, g, h & 15]);
        // 8 * 0.5 * 0.25 = 1
        (Self { d: F16::from_f32(8.0), qs }, Factors::leveled([0.125 * self.d.to_f32()], levels))
    }

    #[inline(always)]
    fn codes(&self, codes: &mut [i8; 256]) {
        self.signed_codes(codes);
    }
}

impl SignedPoints for BlockIQ2XXS {
    #[inline(always)]
    fn points(&self, mut put: impl FnMut(usize, u64, u32)) {
        let levels = SEARCH.grid.levels(iq2_level);
        for (j, &[p0, p1, p2, p3, a, b, c, e]) in self.qs.iter().enumerate() {
            let word = u32::from_le_bytes([a, b, c, e]);
            for (k, point) in [p0, p1, p2, p3].into_iter().enumerate() {
                put(4 * j + k, levels[usize::from(point)], even_signs(word >> (7 * k)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let mut block = BlockIQ2XXS { d: F16::from_f32(0.5), qs: [[0; 8]; 8] };
        // Point 1 is 2 0 0 0 0 0 0 0; signs 0, 1 and 6 are given, and so is 7 by parity.
        block.qs[5] = [0, 0, 1, 0, 0, 0b1100_0000, 0b0001_0000, 0x30];
        let mut out = [0.0; 256];
        block.decode(&mut out);
        assert_eq!(out[0], 0.5 * 0.5 * 0.25 * 8.0);
        let scale = 0.5 * 3.5 * 0.25;
        let expected = [-43.0, -8.0, 8.0, 8.0, 8.0, 8.0, -8.0, -8.0].map(|level| scale * level);
        assert_eq!(out[5 * 32 + 16..][..8], expected);
    }
}
