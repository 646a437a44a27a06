//! IQ3_XXS: 256 weights in 8 groups of 32, each with a 4-bit scale and eight of 256 grid points of four weights, signs with
//! even parity: 3.0625 bits per weight. A weight of group `j` = `d * (0.5 + s[j]) / 2 * level`, levels 4, 12, 20, 28, 36, 44,
//! 52, 62.
//!
//! ```text
//! byte  0 1   2 ...... 65    66 .. 97
//!       d     qs[64]         8 groups of 32 bits
//!       f16   index i        ssss ddddddd ccccccc bbbbbbb aaaaaaa   s scale; a, b, c, d signs 0..7 of each eight weights
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::grid::{Grid, decode_point, even_signs};
use super::grid_search::{Found, GridSearch, Plain, Refine, scale_codes};
use super::integers::{Affine, CodeValues, Factors, LevelValues, SignedPoints, integers};
use super::simd::F32x8;
use super::{DType, Format, grid_points};

pub(super) const FORMAT: Format = Format::of::<BlockIQ3XXS, 256>(DType::IQ3_XXS, "IQ3_XXS", 18, include_str!("iq3_xxs.wgsl"))
    .on_grid_of_fours(&grid_points::IQ3_XXS)
    .of_integers(integers::<BlockIQ3XXS, 256, 8, 1>(CodeValues::Grid, LevelValues::Bytes, false).with_signs::<BlockIQ3XXS, 8>());

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockIQ3XXS {
    d: F16,
    qs: [[u8; 8]; 8],
    scales_and_signs: [[u8; 4]; 8],
}
const _: () = assert!(size_of::<BlockIQ3XXS>() == 98);

/// ggml's `quantize_row_iq3_xxs_impl`.
static SEARCH: GridSearch<4> = GridSearch {
    grid: Grid::new(&grid_points::IQ3_XXS, 2),
    spread: 2.0,
    plain: Plain::Squares,
    even_signs: true,
    zero_below: 1e-8,
    steps: 15,
    step: 0.2,
    fit_first: false,
    refine: Refine::OffGrid,
};

#[inline(always)]
fn level(code: u32) -> u32 {
    4 + 8 * code + 2 * ((code + 1) >> 3)
}

impl BlockIQ3XXS {
    #[inline(always)]
    fn store(found: &[Found; 8]) -> Self {
        let Some((d, scales)) = scale_codes(&found.map(|found| found.scale), 15) else { return bytemuck::Zeroable::zeroed() };
        let scales_and_signs = std::array::from_fn(|j| {
            let [a, b, c, d] = found[j].signs.to_le_bytes().map(|signs| u32::from(signs & 127));
            (a | b << 7 | c << 14 | d << 21 | u32::from(scales[j]) << 28).to_le_bytes()
        });
        Self { d: F16::from_f32(d * 1.0125), qs: found.map(|found| found.points.map(|point| point as u8)), scales_and_signs }
    }
}

impl QuantBlock<256> for BlockIQ3XXS {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        SEARCH.encode::<V, 32, 8, Self>(x, importance, blocks, Self::store);
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for ((qs, word), out) in self.qs.iter().zip(self.scales_and_signs).zip(out.as_chunks_mut::<32>().0) {
            let word = u32::from_le_bytes(word);
            let scale = d * (0.5 + (word >> 28) as f32) * 0.5;
            for (k, (point, out)) in qs.iter().zip(out.as_chunks_mut::<4>().0).enumerate() {
                let signs = even_signs(word >> (7 * (k / 2))) >> (4 * (k % 2));
                decode_point::<4>(SEARCH.grid.point(usize::from(*point)), signs, scale, level, out);
            }
        }
    }
}

impl Affine<256, 8> for BlockIQ3XXS {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<8, 1>) {
        let levels = self.scales_and_signs.map(|word| 2 * (word[3] >> 4) as i8 + 1);
        let scales_and_signs = self.scales_and_signs.map(|[a, b, c, d]| [a, b, c, d & 15]);
        // 4 * 0.5 * 0.5 = 1
        (Self { d: F16::from_f32(4.0), scales_and_signs, ..*self }, Factors::leveled([0.25 * self.d.to_f32()], levels))
    }

    #[inline(always)]
    fn codes(&self, codes: &mut [i8; 256]) {
        self.signed_codes(codes);
    }
}

impl SignedPoints for BlockIQ3XXS {
    #[inline(always)]
    fn points(&self, mut put: impl FnMut(usize, u64, u32)) {
        let levels = SEARCH.grid.levels(level);
        for (j, (qs, word)) in self.qs.iter().zip(self.scales_and_signs).enumerate() {
            let word = u32::from_le_bytes(word);
            for (k, &[low, high]) in qs.as_chunks::<2>().0.iter().enumerate() {
                let (low, high) = (levels[usize::from(low)], levels[usize::from(high)]);
                put(4 * j + k, low | high << 32, even_signs(word >> (7 * k)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let mut block = BlockIQ3XXS { d: F16::from_f32(0.5), qs: [[0; 8]; 8], scales_and_signs: [[0; 4]; 8] };
        // Point 10 is 3 7 0 0; signs 0, 1 and 6 of the third eight are given, and so is 7 by parity.
        (block.qs[5][5], block.scales_and_signs[5]) = (10, [0, 0b1100_0000, 0b0001_0000, 0x30]);
        assert_eq!(SEARCH.grid.point(10), 3 | 7 << 3);
        let mut out = [0.0; 256];
        block.decode(&mut out);
        assert_eq!(out[0], 0.5 * 0.5 * 0.5 * 4.0);
        let expected = [-4.0, -4.0, 4.0, 4.0, 28.0, 62.0, -4.0, -4.0].map(|level| 0.5 * 3.5 * 0.5 * level);
        assert_eq!(out[5 * 32 + 16..][..8], expected);
    }
}
