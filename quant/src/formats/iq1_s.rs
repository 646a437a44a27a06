//! IQ1_S: 256 weights in 8 groups of 32, each with a 3-bit scale, a shift and four of 2048 grid points of eight weights:
//! 1.5625 bits per weight. A weight of group `j` = `d * (2 s[j] + 1) * (code - 1 + 1/8)`, or `- 1/8` where shifted down.
//!
//! ```text
//! byte  0 1   2 ..... 33     34 .. 49
//!       d     qs[32]         qh[8], a u16 for a group
//!       f16   index i,       -sssdddc ccbbbaaa   a, b, c, d upper three bits of the four indexes, s scale, - shifted down
//!             lower eight
//! ```

use super::block::QuantBlock;
use super::f16::F16;
use super::grid::Near;
use super::grid_search::scale_codes;
use super::integers::{Affine, CodeValues, Factors, LevelValues, integers};
use super::search::{Groups, transpose};
use super::simd::{Array8, F32x8, SIMD_WIDTH};
use super::ternary::{Cut, Cuts, Found, GRID, LEVELS, codes_of_eight, decode_eight, largest, settle, sorted, weights};
use super::{DType, Format, grid_points};

pub(super) const FORMAT: Format = Format::of::<BlockIQ1S, 256>(DType::IQ1_S, "IQ1_S", 19, include_str!("iq1_s.wgsl"))
    .on_grid(&grid_points::IQ1)
    .needing_importance()
    .of_integers(integers::<BlockIQ1S, 256, 8, 1>(CodeValues::Grid, LevelValues::Bytes, false));

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockIQ1S {
    d: F16,
    qs: [[u8; 4]; 8],
    qh: [[u8; 2]; 8],
}
const _: () = assert!(size_of::<BlockIQ1S>() == 50);

impl BlockIQ1S {
    /// ggml's `quantize_row_iq1_s_impl`.
    #[inline(always)]
    fn new<V: F32x8>(near: &Near, x: &[f32; 256], importance: &[f32; 256]) -> Self {
        let w = weights::<V>(x, importance);
        let (x, w): (Groups<32>, Groups<32>) = (transpose(x.as_chunks().0), transpose(w.as_chunks().0));
        let order = sorted::<V, 32>(&x);
        let (largest, cuts) = (largest::<V, 32>(&x).store(), Self::cut::<V>(&x, &w, &order));
        let mut found = [Found::default(); SIMD_WIDTH];
        for l in 0..SIMD_WIDTH {
            if let Some((scale, at)) = cuts[l].filter(|_| largest[l] >= 1e-12) {
                let cut = Cut { scale, first: at / 66, second: at / 2 % 33, down: if at % 2 == 0 { 0 } else { 0xf } };
                found[l] = settle::<V, 32>(near, &x, &w, &order, l, cut);
            }
        }
        Self::store(&found)
    }

    /// The best of all cuts of each group, named `66 i1 + 2 i2` and one more where the levels are shifted down.
    #[inline(always)]
    fn cut<V: F32x8>(x: &Groups<32>, w: &Groups<32>, order: &[Array8<u8>; 32]) -> Array8<Option<(f32, usize)>> {
        let (mut sum_x, mut sum_w) = ([[0.0; SIMD_WIDTH]; 33], [[0.0; SIMD_WIDTH]; 33]);
        for (place, order) in order.iter().enumerate() {
            let x = V::load(&std::array::from_fn(|l| x[usize::from(order[l])][l]));
            let w = V::load(&std::array::from_fn(|l| w[usize::from(order[l])][l]));
            sum_x[place + 1] = (V::load(&sum_x[place]) + w * x).store();
            sum_w[place + 1] = (V::load(&sum_w[place]) + w).store();
        }

        let [up, down] = LEVELS.map(|levels| levels.map(V::splat));
        // What the numbers of level 1 add to the sums, by their place and shift.
        let mut top = [[[0.0; SIMD_WIDTH]; 4]; 33];
        for i2 in 0..33 {
            let x = V::load(&sum_x[32]) - V::load(&sum_x[i2]);
            let w = V::load(&sum_w[32]) - V::load(&sum_w[i2]);
            top[i2] = [x * up[2], w * up[2] * up[2], x * down[2], w * down[2] * down[2]].map(V::store);
        }
        let mut cuts = Cuts::<V>::new();
        for i1 in 0..33 {
            let (x1, w1) = (V::load(&sum_x[i1]), V::load(&sum_w[i1]));
            let bottom = [x1 * up[0], w1 * up[0] * up[0], x1 * down[0], w1 * down[0] * down[0]];
            for i2 in i1..33 {
                let (x, w) = (V::load(&sum_x[i2]) - x1, V::load(&sum_w[i2]) - w1);
                let top = top[i2].map(|sum| V::load(&sum));
                let middle = w * up[1] * up[1];
                cuts.offer(bottom[0] + x * up[1] + top[0], bottom[1] + middle + top[1], 66 * i1 + 2 * i2);
                cuts.offer(bottom[2] + x * down[1] + top[2], bottom[3] + middle + top[3], 66 * i1 + 2 * i2 + 1);
            }
        }
        cuts.best()
    }

    #[inline(always)]
    fn store(found: &[Found; 8]) -> Self {
        let scales = scale_codes(&found.map(|found| found.scale), 7);
        let d = scales.map_or(0.0, |(d, _)| d);
        let qh = std::array::from_fn(|j| {
            let upper = (0..4).fold(0, |bits, k| bits | found[j].points[k] >> 8 << (3 * k));
            let scale = scales.map_or(0, |(_, codes)| u16::from(codes[j] | found[j].down & 8));
            (upper | scale << 12).to_le_bytes()
        });
        Self { d: F16::from_f32(d * 1.125), qs: found.map(|found| found.points.map(|point| point as u8)), qh }
    }
}

impl QuantBlock<256> for BlockIQ1S {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        let near = GRID.near();
        let importance = importance.map(|importance| importance.as_chunks().0);
        for (i, (x, block)) in x.as_chunks().0.iter().zip(blocks).enumerate() {
            *block = Self::new::<V>(near, x, importance.map_or(&[1.0; 256], |importance| &importance[i]));
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let d = self.d.to_f32();
        for ((qs, qh), out) in self.qs.iter().zip(&self.qh).zip(out.as_chunks_mut::<32>().0) {
            let qh = usize::from(u16::from_le_bytes(*qh));
            let scale = d * (2 * (qh >> 12 & 7) + 1) as f32;
            for (k, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
                decode_eight(usize::from(qs[k]) | (qh >> (3 * k) & 7) << 8, qh >> 15 == 1, scale, out);
            }
        }
    }
}

impl Affine<256, 8> for BlockIQ1S {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<8, 1>) {
        let levels = self.qh.map(|[_, high]| 2 * (high >> 4 & 7) as i8 + 1);
        // Eighths, because the shift is one.
        let qh = self.qh.map(|[low, high]| [low, high & 0x8f]);
        (Self { d: F16::from_f32(8.0), qh, ..*self }, Factors::leveled([0.125 * self.d.to_f32()], levels))
    }

    #[inline(always)]
    fn codes(&self, codes: &mut [i8; 256]) {
        for ((qs, qh), codes) in self.qs.iter().zip(&self.qh).zip(codes.as_chunks_mut::<32>().0) {
            let qh = usize::from(u16::from_le_bytes(*qh));
            for (k, codes) in codes.as_chunks_mut().0.iter_mut().enumerate() {
                *codes = codes_of_eight(usize::from(qs[k]) | (qh >> (3 * k) & 7) << 8, qh >> 15 == 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let mut block = BlockIQ1S { d: F16::from_f32(0.5), qs: [[0; 4]; 8], qh: [[0; 2]; 8] };
        // Point 2047 is 2 2 2 2 2 2 2 2; point 1 is 2 0 0 0 0 0 0 0.
        (block.qs[5], block.qh[5]) = ([0, 0, 1, 0xff], [0, 0b1011_1110]);
        let mut out = [0.0; 256];
        block.decode(&mut out);
        assert_eq!(out[0], 0.5 * -0.875);
        assert_eq!(out[5 * 32 + 15..][..3], [-1.125, 0.875, -1.125].map(|level| 0.5 * 7.0 * level));
        assert_eq!(out[5 * 32 + 24..][..8], [0.5 * 7.0 * 0.875; 8]);
    }
}
