//! Statistics of logits where they are: log-sum-exp, target, arg-max, and the KL divergence from a reference lane.
//!
//! Softmax sums are kept relative to a running maximum (Milakov and Gimelshein 2018), so that tiles of the vocabulary can
//! pass by once. The divergence of this lane's logits l from the reference's r is taken from d = r - l - shift, where the
//! shift (r - l at the reference's likeliest token of the first tile) cancels out: with means under the reference's distribution,
//! `KL = mean(d) + log(1 + mean(exp(-d) - 1))`, and `exp(-d) - 1` as `curvature(d) - d`, so that a divergence of 1e-8 is
//! not drowned by the rounding of log-sum-exps of size 10.

use rayon::prelude::*;

use super::isa::{Isa, per_isa};
use super::math;
use crate::engine::backend::{HeadRow, TileShape};

/// Logits taken together: exponentials of a block are written down, then added up, so that both loops vectorize.
const BLOCK: usize = 256;

/// One row's running sums; exponentials in f32, everything that is added up over tiles in f64.
#[derive(Debug, Clone)]
pub struct RowState {
    max: f32,
    sum: f64,
    target: f32,
    argmax: u32,
    reference_max: f32,
    reference_sum: f64,
    shift: f32,
    /// Sum of exp(r) d, relative to the reference's maximum, as are the next and `reference_sum`.
    difference: f64,
    /// Sum of exp(r) (d + exp(-d) - 1).
    curvature: f64,
}

impl RowState {
    /// Before the first tile.
    pub const EMPTY: Self = Self {
        max: f32::NEG_INFINITY,
        sum: 0.0,
        target: f32::NEG_INFINITY,
        argmax: 0,
        reference_max: f32::NEG_INFINITY,
        reference_sum: 0.0,
        shift: 0.0,
        difference: 0.0,
        curvature: 0.0,
    };

    /// After the last tile.
    pub fn finish(&self) -> HeadRow {
        let log_sum_exp = f64::from(self.max) + libm::log(self.sum);
        HeadRow { log_sum_exp, target_logit: f64::from(self.target), argmax: self.argmax, kld: self.divergence(log_sum_exp) }
    }

    fn divergence(&self, log_sum_exp: f64) -> f64 {
        if self.reference_sum == 0.0 {
            return 0.0;
        }
        let difference = self.difference / self.reference_sum;
        let excess = self.curvature / self.reference_sum - difference;
        if excess.abs() < 0.5 {
            difference + libm::log1p(excess)
        } else {
            // Lanes far apart: the textbook's formula is the more exact one.
            let reference = f64::from(self.reference_max) + libm::log(self.reference_sum);
            difference + f64::from(self.shift) - (reference - log_sum_exp)
        }
    }
}

/// See [`crate::engine::backend::Backend::head_tile`].
pub fn tile(isa: Isa, logits: &[f32], reference: Option<&[f32]>, shape: TileShape, targets: &[u32], state: &mut [RowState]) {
    let TileShape { rows, cols, first_token } = shape;
    state[..rows].par_iter_mut().enumerate().with_min_len(16).for_each(|(t, state)| {
        let row = &logits[t * cols..][..cols];
        let target = targets[t].wrapping_sub(first_token) as usize;
        if target < cols {
            state.target = row[target];
        }
        log_sum_exp(isa, row, first_token, state);
        if let Some(reference) = reference {
            divergence(isa, row, &reference[t * cols..][..cols], state);
        }
    });
}

/// Moves a sum of exponentials from one maximum to a larger one.
#[inline(always)]
fn rescale(from: f32, to: f32) -> f64 {
    if from == to { 1.0 } else { libm::exp(f64::from(from) - f64::from(to)) }
}

per_isa! {
    fn log_sum_exp(row: &[f32], first_token: u32, state: &mut RowState) {
        let max = math::max(row);
        if max > state.max {
            state.sum *= rescale(state.max, max);
            state.max = max;
            state.argmax = first_token + row.iter().position(|&l| l == max).unwrap_or(0) as u32;
        }
        let base = state.max;
        let mut exps = [0.0f32; BLOCK];
        for row in row.chunks(BLOCK) {
            let exps = &mut exps[..row.len()];
            for (e, &l) in exps.iter_mut().zip(row) {
                *e = math::exp(l - base);
            }
            state.sum += f64::from(math::sum(exps));
        }
    }
}

/// d + exp(-d) - 1: for small d by its Taylor series (the next term is below 2e-8 of the whole), else as it stands.
/// `times` is the weight exp(r), `other` is exp(r - d), which may be finite where exp(-d) is not.
#[inline(always)]
fn weighted_curvature(times: f32, d: f32, other: f32) -> f32 {
    let tail = d.mul_add(-(d.mul_add(-(d.mul_add(-1.0 / 5040.0, 1.0 / 720.0)), 1.0 / 120.0)), 1.0 / 24.0);
    let series = d * d * d.mul_add(-d.mul_add(-tail, 1.0 / 6.0), 0.5);
    if d.abs() < 0.25 { times * series } else { times.mul_add(d - 1.0, other) }
}

per_isa! {
    fn divergence(row: &[f32], reference: &[f32], state: &mut RowState) {
        let max = math::max(reference);
        if state.reference_sum == 0.0 {
            let likeliest = reference.iter().position(|&r| r == max).unwrap_or(0);
            state.shift = reference[likeliest] - row[likeliest];
        }
        if max > state.reference_max {
            let factor = rescale(state.reference_max, max);
            state.reference_sum *= factor;
            state.difference *= factor;
            state.curvature *= factor;
            state.reference_max = max;
        }
        let (base, shift) = (state.reference_max, state.shift);
        let (mut exps, mut differences, mut curvatures) = ([0.0f32; BLOCK], [0.0f32; BLOCK], [0.0f32; BLOCK]);
        for (row, reference) in row.chunks(BLOCK).zip(reference.chunks(BLOCK)) {
            let len = row.len();
            let (exps, differences, curvatures) = (&mut exps[..len], &mut differences[..len], &mut curvatures[..len]);
            for i in 0..len {
                let e = math::exp(reference[i] - base);
                let d = reference[i] - row[i] - shift;
                let other = math::exp(row[i] + shift - base);
                exps[i] = e;
                differences[i] = e * d;
                curvatures[i] = weighted_curvature(e, d, other);
            }
            state.reference_sum += f64::from(math::sum(exps));
            state.difference += f64::from(math::sum(differences));
            state.curvature += f64::from(math::sum(curvatures));
        }
    }
}
