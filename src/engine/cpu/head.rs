//! Statistics of logits where they are: log-sum-exp, target, arg-max, and the KL divergence from a reference lane.
//!
//! Softmax sums are kept relative to a running maximum (Milakov and Gimelshein 2018), so that tiles of the vocabulary can
//! pass by once. With p the reference's and q this lane's distribution,
//! `KL(p || q) = sum_i p_i (a_i - b_i) - (lse(a) - lse(b))` for logits a (reference) and b.

use rayon::prelude::*;

use super::isa::{Isa, per_isa};
use super::math;
use crate::engine::backend::{HeadRow, TileShape};

/// One row's running sums; exponentials in f32, everything that is added up over tiles in f64.
#[derive(Debug, Clone)]
pub struct RowState {
    max: f32,
    sum: f64,
    target: f32,
    argmax: u32,
    reference_max: f32,
    reference_sum: f64,
    cross: f64,
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
        cross: 0.0,
    };

    /// After the last tile.
    pub fn finish(&self) -> HeadRow {
        let log_sum_exp = f64::from(self.max) + libm::log(self.sum);
        let kld = if self.reference_sum > 0.0 {
            let reference = f64::from(self.reference_max) + libm::log(self.reference_sum);
            self.cross / self.reference_sum - (reference - log_sum_exp)
        } else {
            0.0
        };
        HeadRow { log_sum_exp, target_logit: f64::from(self.target), argmax: self.argmax, kld }
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
        own(isa, row, first_token, state);
        if let Some(reference) = reference {
            cross(isa, row, &reference[t * cols..][..cols], state);
        }
    });
}

/// Moves a sum of exponentials from one maximum to a larger one.
#[inline(always)]
fn rescale(from: f32, to: f32) -> f64 {
    if from == to { 1.0 } else { libm::exp(f64::from(from) - f64::from(to)) }
}

#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    math::reduce(row.len(), f32::NEG_INFINITY, |m, i| if row[i] > m { row[i] } else { m }, f32::max)
}

per_isa! {
    fn own(row: &[f32], first_token: u32, state: &mut RowState) {
        let max = maximum(row);
        if max > state.max {
            state.sum *= rescale(state.max, max);
            state.max = max;
            state.argmax = first_token + row.iter().position(|&l| l == max).unwrap_or(0) as u32;
        }
        let base = state.max;
        state.sum += f64::from(math::reduce(row.len(), 0.0f32, |s, i| s + math::exp(row[i] - base), |a, b| a + b));
    }
}

per_isa! {
    fn cross(row: &[f32], reference: &[f32], state: &mut RowState) {
        let max = maximum(reference);
        if max > state.reference_max {
            let factor = rescale(state.reference_max, max);
            state.reference_sum *= factor;
            state.cross *= factor;
            state.reference_max = max;
        }
        let base = state.reference_max;
        let (sum, cross) = math::reduce(
            row.len(),
            (0.0f32, 0.0f32),
            |(s, c), i| {
                let e = math::exp(reference[i] - base);
                (s + e, e.mul_add(reference[i] - row[i], c))
            },
            |a, b| (a.0 + b.0, a.1 + b.1),
        );
        state.reference_sum += f64::from(sum);
        state.cross += f64::from(cross);
    }
}
