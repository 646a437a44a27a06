//! What IQ1_S and IQ1_M share: three levels -1, 0, 1, all shifted up or down by an eighth, and a grid of 2048 points of eight.
//!
//! ggml sorts a group and tries every way to cut the sorted numbers into those of level -1, 0 and 1
//! (`quantize_row_iq1_s_impl`, `quantize_row_iq1_m_impl` in llama.cpp's `ggml/src/ggml-quants.c`, b11434); each expression
//! keeps its order of operations. Eight groups are searched side by side. The cuts themselves, whose sums differ between the
//! two, and packing are left to the formats.

use super::grid::{Grid, GridMatch, Near, cheapest};
use super::grid_points;
use super::search::{Groups, mean_square};
use super::simd::{Array8, F32x8, SIMD_WIDTH};

pub(super) static GRID: Grid<8> = Grid::new(&grid_points::IQ1, 3);

/// What codes 0, 1, 2 stand for, shifted up and shifted down.
pub(super) const LEVELS: [[f32; 3]; 2] = [[-0.875, 0.125, 1.125], [-1.125, -0.125, 0.875]];

/// What was found for a group; all 0 for one that counts as zeros.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    /// Weight = `scale * level`.
    pub scale: f32,
    /// Indexes of the grid's points.
    pub points: [u16; 4],
    /// Bit `k`: the levels of eight weights `k` are shifted down.
    pub down: u8,
}

/// The weights of the squared errors: `importance * sqrt(2 mean square of the block + x^2)`.
#[inline(always)]
pub(super) fn weights<V: F32x8>(x: &[f32; 256], importance: &[f32; 256]) -> [f32; 256] {
    let sigma2 = V::splat(mean_square(x, 2.0));
    let mut w = [0.0; 256];
    let rows = x.as_chunks().0.iter().zip(importance.as_chunks().0);
    for (w, (x, importance)) in w.as_chunks_mut().0.iter_mut().zip(rows) {
        let x = V::load(x);
        *w = (V::load(importance) * (sigma2 + x * x).sqrt()).store();
    }
    w
}

/// Which weight comes at each place when a group is sorted; equal ones keep their order (glibc's `qsort` is stable).
#[inline(always)]
pub(super) fn sorted<V: F32x8, const N: usize>(x: &Groups<N>) -> [Array8<u8>; N] {
    let (zero, one) = (V::splat(0.0), V::splat(1.0));
    let mut places = [[0.0; SIMD_WIDTH]; N];
    for j in 1..N {
        let this = V::load(&x[j]);
        let mut place = zero;
        for i in 0..j {
            let before = this.lt(V::load(&x[i]));
            place = place + V::select(before, zero, one);
            places[i] = (V::load(&places[i]) + V::select(before, one, zero)).store();
        }
        places[j] = place.store();
    }
    let mut order = [[0; SIMD_WIDTH]; N];
    for (i, places) in places.iter().enumerate() {
        for (l, &place) in places.iter().enumerate() {
            order[place as usize][l] = i as u8;
        }
    }
    order
}

/// The largest magnitude of each group.
#[inline(always)]
pub(super) fn largest<V: F32x8, const N: usize>(x: &Groups<N>) -> V {
    x.iter().fold(V::splat(0.0), |max, x| max.max(V::load(x).abs()))
}

/// The best cut so far of each group.
pub(super) struct Cuts<V> {
    score: V,
    scale: V,
    at: V,
}

impl<V: F32x8> Cuts<V> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { score: V::splat(-f32::MAX), scale: V::splat(0.0), at: V::splat(-1.0) }
    }

    /// Takes the cut named `at` where it is better than all before, given `sum w x q` and `sum w q^2`.
    #[inline(always)]
    pub(super) fn offer(&mut self, sum_qx: V, sum_q2: V, at: usize) {
        let better = V::and(V::splat(0.0).lt(sum_q2), (self.score * sum_q2).lt(sum_qx * sum_qx));
        if V::any(better) {
            self.scale = V::select(better, sum_qx / sum_q2, self.scale);
            self.score = V::select(better, self.scale * sum_qx, self.score);
            self.at = V::select(better, V::splat(at as f32), self.at);
        }
    }

    /// Scale and name of the best cut of each group; none where there is none.
    #[inline(always)]
    pub(super) fn best(&self) -> Array8<Option<(f32, usize)>> {
        let (scale, at) = (self.scale.store(), self.at.store());
        std::array::from_fn(|l| (at[l] >= 0.0).then_some((scale[l], at[l] as usize)))
    }
}

/// A group sorted and cut: its scale, where levels 0 and 1 begin, and which eights are shifted down.
pub(super) struct Cut {
    pub scale: f32,
    pub first: usize,
    pub second: usize,
    pub down: u8,
}

/// The points of the grid for a group `lane` of `x`, and the scale that is best for them.
#[inline(always)]
pub(super) fn settle<V: F32x8, const N: usize>(
    near: &Near,
    x: &Groups<N>,
    w: &Groups<N>,
    order: &[Array8<u8>; N],
    lane: usize,
    cut: Cut,
) -> Found {
    let negative = cut.scale < 0.0;
    let mut codes = [0; N];
    for (place, i) in order.iter().enumerate() {
        let code = u16::from(place >= cut.first) + u16::from(place >= cut.second);
        codes[usize::from(i[lane])] = if negative { 2 - code } else { code };
    }
    let down = if negative { !cut.down & ((1 << (N / 8)) - 1) } else { cut.down };
    let mut found = Found { scale: cut.scale.abs(), points: [0; 4], down };

    let mut all_on_grid = true;
    let mut tuples = [0; 4];
    for k in 0..N / 8 {
        let tuple = (0..8).fold(0, |tuple, i| tuple | codes[8 * k + i] << (2 * i));
        tuples[k] = match near.lookup(tuple) {
            GridMatch::On => tuple,
            GridMatch::Off(lists) => {
                all_on_grid = false;
                let levels = &LEVELS[usize::from(down >> k & 1)];
                let reached = V::splat(found.scale) * V::load(&std::array::from_fn(|l| levels[(l % 4).min(2)]));
                cheapest::<V, 8>(
                    lists,
                    &std::array::from_fn(|i| {
                        let lost = reached - V::splat(x[8 * k + i][lane]);
                        V::splat(w[8 * k + i][lane]) * lost * lost
                    }),
                )
            }
        };
        found.points[k] = near.index(tuples[k]);
    }
    if !all_on_grid {
        let (mut sum_qx, mut sum_q2) = (0.0, 0.0);
        for i in 0..N {
            let q = LEVELS[usize::from(down >> (i / 8) & 1)][usize::from(tuples[i / 8] >> (2 * (i % 8)) & 3)];
            sum_qx += w[i][lane] * q * x[i][lane];
            sum_q2 += w[i][lane] * q * q;
        }
        if sum_qx > 0.0 && sum_q2 > 0.0 {
            found.scale = sum_qx / sum_q2;
        }
    }
    found
}

/// The eight weights at a point: `scale * level`.
#[inline(always)]
pub(super) fn decode_eight(index: usize, down: bool, scale: f32, out: &mut [f32; 8]) {
    let point = u32::from(GRID.point(index));
    let shift = if down { -1.125 } else { -0.875 };
    *out = std::array::from_fn(|i| scale * ((point >> (2 * i) & 3) as f32 + shift));
}

/// The same as codes: eighths, because the shift is one.
#[inline(always)]
pub(super) fn codes_of_eight(index: usize, down: bool) -> [i8; 8] {
    // 8 * (0 - 0.875) + 8 = 1, and 2 less with the other shift: what is added keeps the table's bytes above 0.
    let levels: [i8; 8] = bytemuck::cast(GRID.levels(|code| 8 * code + 1)[index].to_le_bytes());
    let below = if down { 10 } else { 8 };
    levels.map(|level| level - below)
}

#[cfg(test)]
mod tests {
    use super::super::search::transpose;
    use super::super::simd::Plain;
    use super::*;

    #[test]
    fn equal_numbers_keep_their_order() {
        let groups = [[0.5, -0.0, 0.0, -1.0, 0.5, 0.0, -1.0, 2.0], [3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0, -4.0]];
        let order = sorted::<Plain, 8>(&transpose(&groups));
        assert_eq!(order.map(|place| place[0]), [3, 6, 1, 2, 5, 0, 4, 7]);
        assert_eq!(order.map(|place| place[1]), [7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(order.map(|place| place[7]), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
