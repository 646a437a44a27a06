//! IQ1_M: 256 weights in 16 groups of 16, each with a 3-bit scale and two of 2048 grid points of eight weights, each of
//! these with a shift: 1.75 bits per weight. A weight of group `j` = `d * (2 s[j] + 1) * (code - 1 + 1/8)`, or `- 1/8` where
//! shifted down.
//!
//! ```text
//! byte  0 ...... 31         32 ................................ 47        48 .................................. 55
//!       qs[32]              qh[16]                                       scales[4], a u16 each
//!       index i,            -hhh-lll   upper three bits of indexes       ffffdddc ccbbbaaa   a, b, c, d s[4 i] to s[4 i + 3],
//!       lower eight         2 j (l) and 2 j + 1 (h), - shifted down                          f four bits of the f16 d
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

pub(super) const FORMAT: Format = Format::of::<BlockIQ1M, 256>(DType::IQ1_M, "IQ1_M", 29, include_str!("iq1_m.wgsl"))
    .on_grid(&grid_points::IQ1)
    .of_integers(integers::<BlockIQ1M, 256, 16, 1>(CodeValues::Grid, LevelValues::Bytes, false));

/// 256 weights.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct BlockIQ1M {
    qs: [[u8; 2]; 16],
    qh: [u8; 16],
    scales: [[u8; 2]; 4],
}
const _: () = assert!(size_of::<BlockIQ1M>() == 56);

impl BlockIQ1M {
    /// ggml's `quantize_row_iq1_m_impl` with the weights `w` of the squared errors.
    #[inline(always)]
    fn new<V: F32x8>(near: &Near, x: &[f32; 256], w: &[f32; 256]) -> Self {
        let mut found = [Found::default(); 16];
        let groups = x.as_chunks::<16>().0.chunks(SIMD_WIDTH).zip(w.as_chunks::<16>().0.chunks(SIMD_WIDTH));
        for ((x, w), found) in groups.zip(found.as_chunks_mut::<SIMD_WIDTH>().0) {
            let (x, w) = (transpose(x), transpose(w));
            let order = sorted::<V, 16>(&x);
            let (largest, cuts) = (largest::<V, 16>(&x).store(), Self::cut::<V>(&x, &w, &order));
            for l in 0..SIMD_WIDTH {
                if let Some((scale, at)) = cuts[l].filter(|_| largest[l] >= 1e-7) {
                    let down = (at / 2 % 2) | ((at % 2) << 1);
                    let cut = Cut { scale, first: at / 68, second: at / 4 % 17, down: down as u8 };
                    found[l] = settle::<V, 16>(near, &x, &w, &order, l, cut);
                }
            }
        }
        Self::store(x, w, &found)
    }

    /// The best of all cuts of each group, named `68 i1 + 4 i2`, two more where the levels of the first eight weights are
    /// shifted down, and one more where those of the other eight are.
    #[inline(always)]
    fn cut<V: F32x8>(x: &Groups<16>, w: &Groups<16>, order: &[Array8<u8>; 16]) -> Array8<Option<(f32, usize)>> {
        // Sums over the first so many numbers, those of each half of the group by themselves.
        let (mut sum_x, mut sum_w) = ([[[0.0; SIMD_WIDTH]; 2]; 17], [[[0.0; SIMD_WIDTH]; 2]; 17]);
        for (place, order) in order.iter().enumerate() {
            for half in 0..2 {
                let only = |values: &Groups<16>| {
                    let value = |l: usize| (order[l] / 8 == half as u8).then_some(values[usize::from(order[l])][l]);
                    V::load(&std::array::from_fn(|l| value(l).unwrap_or(0.0)))
                };
                let w = only(w);
                sum_x[place + 1][half] = (V::load(&sum_x[place][half]) + w * only(x)).store();
                sum_w[place + 1][half] = (V::load(&sum_w[place][half]) + w).store();
            }
        }

        let [up, down] = LEVELS;
        let shifts = [up, down]
            .map(|[low, middle, high]| [high, low * low - middle * middle, middle * middle - high * high].map(V::splat));
        // By shift and half.
        let total_x = shifts.map(|[high, ..]| sum_x[16].map(|sum| V::load(&sum) * high));
        let total_w = shifts.map(|[high, ..]| sum_w[16].map(|sum| V::load(&sum) * high * high));
        let mut cuts = Cuts::<V>::new();
        for i1 in 0..17 {
            let x1 = sum_x[i1].map(|sum| V::load(&sum));
            let w1: [[V; 2]; 2] = std::array::from_fn(|shift| {
                std::array::from_fn(|half| total_w[shift][half] + V::load(&sum_w[i1][half]) * shifts[shift][1])
            });
            for i2 in i1..17 {
                let x: [V; 2] = std::array::from_fn(|half| x1[half] + V::load(&sum_x[i2][half]));
                let w = sum_w[i2].map(|sum| V::load(&sum));
                let qx: [[V; 2]; 2] = std::array::from_fn(|shift| std::array::from_fn(|half| total_x[shift][half] - x[half]));
                let q2: [[V; 2]; 2] =
                    std::array::from_fn(|shift| std::array::from_fn(|half| w1[shift][half] + w[half] * shifts[shift][2]));
                for k in 0..4 {
                    let (first, second) = (k / 2, k % 2);
                    cuts.offer(qx[first][0] + qx[second][1], q2[first][0] + q2[second][1], 68 * i1 + 4 * i2 + k);
                }
            }
        }
        cuts.best()
    }

    /// The scale of the scales, whose bits are spread over these.
    #[inline(always)]
    fn base(&self) -> f32 {
        let d = self.scales.iter().enumerate().fold(0, |d, (i, scales)| d | u16::from_le_bytes(*scales) >> 12 << (4 * i));
        bytemuck::cast::<[u8; 2], F16>(d.to_le_bytes()).to_f32()
    }

    #[inline(always)]
    fn store(x: &[f32; 256], w: &[f32; 256], found: &[Found; 16]) -> Self {
        let qs = found.map(|found| [found.points[0] as u8, found.points[1] as u8]);
        let qh = found.map(|found| (found.points[0] >> 8 | found.points[1] >> 8 << 4) as u8);
        let Some((d, codes)) = scale_codes(&found.map(|found| found.scale), 7) else {
            return Self { qs, qh, scales: [[0; 2]; 4] };
        };

        // The scale of the scales that is best for all weights as they are coded now.
        let (mut sum_qx, mut sum_q2) = (0.0, 0.0);
        for (i, (x, w)) in x.iter().zip(w).enumerate() {
            let (j, k) = (i / 16, i / 8 % 2);
            let code = GRID.point(usize::from(found[j].points[k])) >> (2 * (i % 8)) & 3;
            let q = LEVELS[usize::from(found[j].down >> k & 1)][usize::from(code)] * f32::from(2 * codes[j] + 1);
            sum_qx += w * q * x;
            sum_q2 += w * q * q;
        }
        let d = if sum_q2 > 0.0 { sum_qx / sum_q2 } else { d };
        let d = u16::from_le_bytes(bytemuck::cast(F16::from_f32(d * 1.1125)));
        let scales = std::array::from_fn(|i| {
            let codes = (0..4).fold(0, |bits, k| bits | u16::from(codes[4 * i + k]) << (3 * k));
            (codes | d >> (4 * i) << 12).to_le_bytes()
        });
        let shifts = |down: u8| down << 3 & 0x08 | down << 6 & 0x80;
        Self { qs, qh: std::array::from_fn(|j| qh[j] | shifts(found[j].down)), scales }
    }
}

impl QuantBlock<256> for BlockIQ1M {
    #[inline(always)]
    fn encode<V: F32x8>(x: &[f32], importance: Option<&[f32]>, blocks: &mut [Self]) {
        let near = GRID.near();
        let importance = importance.map(|importance| importance.as_chunks().0);
        for (i, (x, block)) in x.as_chunks().0.iter().zip(blocks).enumerate() {
            let w = match importance {
                Some(importance) => weights::<V>(x, &importance[i]),
                None => x.map(|x| x * x),
            };
            *block = Self::new::<V>(near, x, &w);
        }
    }

    #[inline(always)]
    fn decode(&self, out: &mut [f32; 256]) {
        let scales = self.scales.map(u16::from_le_bytes);
        let d = self.base();
        for (i, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            let (j, k) = (i / 2, i % 2);
            let scale = d * f32::from(2 * (scales[j / 4] >> (3 * (j % 4)) & 7) + 1);
            let upper = self.qh[j] >> (4 * k);
            decode_eight(usize::from(self.qs[j][k]) | usize::from(upper & 7) << 8, upper & 8 != 0, scale, out);
        }
    }
}

impl Affine<256, 16> for BlockIQ1M {
    #[inline(always)]
    fn split(&self) -> (Self, Factors<16, 1>) {
        let scales = self.scales.map(u16::from_le_bytes);
        let levels = std::array::from_fn(|j| 2 * (scales[j / 4] >> (3 * (j % 4)) & 7) as i8 + 1);
        // Eighths, because the shift is one.
        let eight = u16::from_le_bytes(bytemuck::cast(F16::from_f32(8.0)));
        let unit = Self { scales: std::array::from_fn(|i| (eight >> (4 * i) << 12).to_le_bytes()), ..*self };
        (unit, Factors::leveled([0.125 * self.base()], levels))
    }

    #[inline(always)]
    fn codes(&self, codes: &mut [i8; 256]) {
        for (i, codes) in codes.as_chunks_mut().0.iter_mut().enumerate() {
            let (j, k) = (i / 2, i % 2);
            let upper = self.qh[j] >> (4 * k);
            *codes = codes_of_eight(usize::from(self.qs[j][k]) | usize::from(upper & 7) << 8, upper & 8 != 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_drawn_one() {
        let mut block = BlockIQ1M { qs: [[0; 2]; 16], qh: [0; 16], scales: [[0; 2]; 4] };
        // d = 0.5 is 0x3800. Point 2047 is 2 2 2 2 2 2 2 2; point 1 is 2 0 0 0 0 0 0 0.
        (block.scales[2], block.scales[3]) = ([0b1100_0000, 0x80], [0, 0x30]);
        (block.qs[10], block.qh[10]) = ([1, 0xff], 0b1111_0000);
        let mut out = [0.0; 256];
        block.decode(&mut out);
        assert_eq!(out[0], 0.5 * -0.875);
        assert_eq!(out[160..162], [0.5 * 7.0 * 1.125, 0.5 * 7.0 * -0.875]);
        assert_eq!(out[168..176], [0.5 * 7.0 * 0.875; 8]);
    }
}
