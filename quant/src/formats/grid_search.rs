//! ggml's search for the scale and the grid points of a group of weights, shared by the IQ2 and IQ3 types.
//!
//! Eight groups are searched side by side, one in each lane of a vector, so that each still adds up in ggml's order. The
//! algorithm is that of `quantize_row_iq2_xxs_impl` and its four sisters in llama.cpp's `ggml/src/ggml-quants.c` (b11434);
//! each expression keeps its order of operations, because the bytes must be the same. Packing is left to the formats.

use super::grid::{Grid, GridMatch, Near, cheapest};
use super::search::{Groups, mean_square, positive, scale_importance, transpose};
use super::simd::{Array8, F32x8, SIMD_WIDTH, nearest_int};

/// How a type searches.
pub(super) struct GridSearch<const D: usize> {
    pub grid: Grid<D>,
    /// What the mean square of the 256 weights is multiplied by for [`scale_importance`].
    pub spread: f32,
    /// The weights of the squared errors without importance.
    pub plain: Plain,
    /// Whether each eight weights have an even number of minus signs, so that the eighth need not be stored.
    pub even_signs: bool,
    /// A group whose largest magnitude is smaller counts as all zeros.
    pub zero_below: f32,
    /// Largest number of steps away from the first scale.
    pub steps: i32,
    /// A step, as a part of half a code.
    pub step: f32,
    /// Whether the first scale is fitted (`make_qp_quants`) and not that at which the largest weight has the largest code.
    pub fit_first: bool,
    pub refine: Refine,
}

/// The weights of the squared errors without importance.
pub(super) enum Plain {
    /// As if all importance were 1.
    Ones,
    /// `x^2`.
    Squares,
    /// `x^2` and a quarter of what importance would be scaled with.
    SquaresAndSpread,
}

/// Which tuples are chosen anew at the scale found best.
pub(super) enum Refine {
    All,
    /// Those off the grid.
    OffGrid,
    /// All, if one was off the grid.
    AllIfOffGrid,
}

/// What was found for a group.
#[derive(Clone, Copy, Default)]
pub(super) struct Found {
    /// Weight = `scale * (2 code + 1)`.
    pub scale: f32,
    /// Indexes of the grid's points.
    pub points: [u16; 8],
    /// Bit `i`: weight `i` is negative.
    pub signs: u32,
    /// The group counts as zeros, and the rest is 0.
    pub is_zero: bool,
}

/// Tuples, by place in the group, of each of eight groups; bit `k` says that the rounded tuple `k` was off the grid.
#[derive(Default)]
struct Tuples {
    packed: [Array8<u16>; 8],
    off_grid: Array8<u8>,
}

impl<const D: usize> GridSearch<D> {
    const LARGEST_CODE: i32 = Grid::<D>::LEVELS as i32 - 1;
    /// Twice the largest code and 1.
    const TOP: f32 = (2 * Self::LARGEST_CODE + 1) as f32;

    /// Calls `store` with each block of 256 weights and what was found for its `M` groups of `N` weights.
    #[inline(always)]
    pub(super) fn encode<V: F32x8, const N: usize, const M: usize, B>(
        &self,
        x: &[f32],
        importance: Option<&[f32]>,
        blocks: &mut [B],
        store: impl Fn(&[Found; M]) -> B,
    ) {
        let near = self.grid.near();
        let importance = importance.map(|importance| importance.as_chunks::<N>().0);
        for (i, (block, x)) in blocks.iter_mut().zip(x.as_chunks::<256>().0).enumerate() {
            let sigma2 = mean_square(x, self.spread);
            let mut found = [Found::default(); M];
            for (first, found) in (i * M..).step_by(SIMD_WIDTH).zip(found.as_chunks_mut::<SIMD_WIDTH>().0) {
                let importance = importance.map(|importance| &importance[first..first + SIMD_WIDTH]);
                *found = self.groups::<V, N>(near, &x.as_chunks().0[first - i * M..][..SIMD_WIDTH], importance, sigma2);
            }
            *block = store(&found);
        }
    }

    /// What is best for eight groups.
    #[inline(always)]
    fn groups<V: F32x8, const N: usize>(
        &self,
        near: &Near,
        x: &[[f32; N]],
        importance: Option<&[[f32; N]]>,
        sigma2: f32,
    ) -> [Found; SIMD_WIDTH] {
        let (mut x, zero) = (transpose(x), V::splat(0.0));
        let w = self.weights::<V, N>(&x, importance, sigma2);
        let mut signs = self.take_signs::<V, N>(&mut x, &w);
        let (mut root_w, mut wx) = ([[0.0; SIMD_WIDTH]; N], [[0.0; SIMD_WIDTH]; N]);
        let mut max = V::load(&x[0]);
        for i in 0..N {
            let (x, w) = (V::load(&x[i]), V::load(&w[i]));
            root_w[i] = w.sqrt().store();
            wx[i] = (w * x).store();
            max = max.max(x);
        }
        let largest = max.store();
        let mut is_zero = largest.map(|max| max < self.zero_below);
        let mut reach = max;
        let mut scale = max / V::splat(Self::TOP);
        if self.fit_first {
            let fitted = std::array::from_fn(|l| match is_zero[l] {
                true => 0.0,
                false => positive::<N>(&x.map(|x| x[l]), &w.map(|w| w[l]), Grid::<D>::LEVELS as u8 + 1, &mut [0; N]),
            });
            scale = V::load(&fitted);
            reach = scale * V::splat(Grid::<D>::LEVELS as f32);
            is_zero = reach.store().map(|reach| reach <= 0.0);
        }

        let (mut best, mut tuples) = (zero, Tuples::default());
        if let Refine::AllIfOffGrid = self.refine {
            tuples.off_grid = [0xff; SIMD_WIDTH]; // unless a trial says otherwise
        }
        for step in -self.steps..=self.steps {
            let inverse = V::splat(Self::TOP + step as f32 * self.step) / reach;
            let trial = self.round::<V, N>(near, &x, &root_w, inverse, V::splat(1.0) / inverse);
            let (sum_qx, sum_q2) = sums::<V, D, N>(&wx, &w, &trial);
            let better = V::and(zero.lt(sum_q2), (best * sum_q2).lt(sum_qx * sum_qx));
            if V::any(better) {
                scale = V::select(better, sum_qx / sum_q2, scale);
                best = V::select(better, scale * sum_qx, best);
                let better = V::select(better, V::splat(1.0), zero).store();
                tuples.take(&trial, better.map(|better| if better == 1.0 { 0xff } else { 0 }));
            }
        }

        let scales = scale.store();
        let anew = std::array::from_fn(|l| match self.refine {
            Refine::OffGrid if scales[l] > 0.0 => tuples.off_grid[l],
            Refine::All if scales[l] > 0.0 => 0xff,
            Refine::AllIfOffGrid if scales[l] > 0.0 && tuples.off_grid[l] != 0 => 0xff,
            _ => 0,
        });
        if anew != [0; SIMD_WIDTH] {
            let refined = self.round::<V, N>(near, &x, &root_w, V::splat(1.0) / scale, scale);
            tuples.take(&refined, anew);
            let (sum_qx, sum_q2) = sums::<V, D, N>(&wx, &w, &tuples);
            let anew = V::load(&anew.map(|anew| if anew == 0 { 0.0 } else { 1.0 }));
            scale = V::select(V::and(zero.lt(anew), zero.lt(sum_q2)), sum_qx / sum_q2, scale);
        }

        let scales = scale.store();
        std::array::from_fn(|l| {
            if is_zero[l] {
                return Found { is_zero: true, ..Found::default() };
            }
            if scales[l] < 0.0 {
                signs[l] = !signs[l];
            }
            Found { scale: scales[l].abs(), points: tuples.packed.map(|k| near.index(k[l])), signs: signs[l], is_zero: false }
        })
    }

    #[inline(always)]
    fn weights<V: F32x8, const N: usize>(&self, x: &Groups<N>, importance: Option<&[[f32; N]]>, sigma2: f32) -> Groups<N> {
        let squares = |spread: f32| x.map(|x| (V::splat(spread) + V::load(&x) * V::load(&x)).store());
        let mut w = match (importance, &self.plain) {
            (Some(importance), _) => transpose(importance),
            (None, Plain::Ones) => [[1.0; SIMD_WIDTH]; N],
            (None, Plain::Squares) => return squares(0.0),
            (None, Plain::SquaresAndSpread) => return squares(0.25 * sigma2),
        };
        scale_importance::<V, N>(x, &mut w, V::splat(sigma2));
        w
    }

    /// Leaves the magnitudes. With `even_signs`, of each eight weights with an odd number of minus signs the one that
    /// matters least has its sign turned.
    #[inline(always)]
    fn take_signs<V: F32x8, const N: usize>(&self, x: &mut Groups<N>, w: &Groups<N>) -> Array8<u32> {
        let (zero, one) = (V::splat(0.0), V::splat(1.0));
        let mut signs = [0; SIMD_WIDTH];
        for k in 0..N / 8 {
            let (mut bits, mut odd) = (zero, zero);
            let (mut least, mut least_at) = (V::splat(f32::INFINITY), zero);
            for i in 0..8 {
                let (w, number) = (V::load(&w[8 * k + i]), V::load(&x[8 * k + i]));
                let negative = number.lt(zero);
                bits = bits + V::select(negative, V::splat((1 << i) as f32), zero);
                odd = V::select(negative, one - odd, odd);
                let matters = w * number * number;
                let less = matters.lt(least);
                least = V::select(less, matters, least);
                least_at = V::select(less, V::splat(i as f32), least_at);
                x[8 * k + i] = number.abs().store();
            }
            let (bits, odd, least_at) = (bits.store(), odd.store(), least_at.store());
            for l in 0..SIMD_WIDTH {
                let mut bits = bits[l] as u32;
                if self.even_signs && odd[l] == 1.0 {
                    bits ^= 1 << least_at[l] as u32;
                    let turned = &mut x[8 * k + least_at[l] as usize][l];
                    *turned = -*turned;
                }
                signs[l] |= bits << (8 * k);
            }
        }
        signs
    }

    /// The tuples nearest to `x * inverse`, or, where that one is off the grid, the point near by that loses least at
    /// `scale`.
    #[inline(always)]
    fn round<V: F32x8, const N: usize>(&self, near: &Near, x: &Groups<N>, root_w: &Groups<N>, inverse: V, scale: V) -> Tuples {
        let (half, one) = (V::splat(0.5), V::splat(1.0));
        let levels = levels::<V, D>();
        let scales = scale.store();
        let mut tuples = Tuples::default();
        for k in 0..N / D {
            // Beyond 2^23 a number shows its lower bits as an integer.
            let mut packed = V::splat(8_388_608.0);
            for i in 0..D {
                let code = (half * (inverse * V::load(&x[k * D + i]) - one)).nearest_int(0, Self::LARGEST_CODE);
                packed = packed + code * V::splat((1 << (i as u32 * Grid::<D>::BITS)) as f32);
            }
            let packed = packed.store();
            for l in 0..SIMD_WIDTH {
                let mut tuple = packed[l].to_bits() as u16;
                if let GridMatch::Off(lists) = near.lookup(tuple) {
                    tuples.off_grid[l] |= 1 << k;
                    let reached = V::splat(scales[l]) * levels;
                    let costs: [V; D] = std::array::from_fn(|i| {
                        let lost = reached - V::splat(x[k * D + i][l]);
                        V::splat(root_w[k * D + i][l]) * lost * lost
                    });
                    tuple = cheapest::<V, D>(lists, &costs);
                }
                tuples.packed[k][l] = tuple;
            }
        }
        tuples
    }
}

impl Tuples {
    /// Takes over tuple `k` of a group where bit `k` is set.
    #[inline(always)]
    fn take(&mut self, other: &Self, which: Array8<u8>) {
        for (l, which) in which.into_iter().enumerate() {
            for k in (0..8).filter(|k| which >> k & 1 != 0) {
                self.packed[k][l] = other.packed[k][l];
            }
            self.off_grid[l] = self.off_grid[l] & !which | other.off_grid[l] & which;
        }
    }
}

/// What each code stands for: `2 code + 1`.
#[inline(always)]
fn levels<V: F32x8, const D: usize>() -> V {
    V::load(&std::array::from_fn(|l| (2 * (l & ((1 << Grid::<D>::BITS) - 1)) + 1) as f32))
}

/// `sum w x q` and `sum w q^2`, `wx` being `w * x`.
#[inline(always)]
fn sums<V: F32x8, const D: usize, const N: usize>(wx: &Groups<N>, w: &Groups<N>, tuples: &Tuples) -> (V, V) {
    let levels = levels::<V, D>();
    let (mut sum_qx, mut sum_q2) = (V::splat(0.0), V::splat(0.0));
    for k in 0..N / D {
        let packed = V::packed(&tuples.packed[k]);
        for i in 0..D {
            let q = levels.pick(packed, i as u32 * Grid::<D>::BITS);
            sum_qx = sum_qx + V::load(&wx[k * D + i]) * q;
            sum_q2 = sum_q2 + V::load(&w[k * D + i]) * q * q;
        }
    }
    (sum_qx, sum_q2)
}

/// Scales as codes `l` that mean `d * (2 l + 1)`, `max_code` for the largest; nothing if all are zeros.
#[inline(always)]
pub(super) fn scale_codes<const M: usize>(scales: &[f32; M], max_code: i32) -> Option<(f32, [u8; M])> {
    let max = scales.iter().fold(0.0, |max, &scale| if max > scale { max } else { scale });
    let d = max / (2 * max_code + 1) as f32;
    let inverse = 1.0 / d;
    let code = |scale: f32| nearest_int(0.5 * (inverse * scale - 1.0)).clamp(0, max_code) as u8;
    (max != 0.0).then(|| (d, scales.map(code)))
}
