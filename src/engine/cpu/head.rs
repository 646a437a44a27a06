//! Statistics of logits where they are: log-sum-exp, entropy, arg-max, the target's logit and rank, and the KL divergences from
//! and to a reference lane.
//!
//! Softmax sums are kept relative to a running maximum (Milakov and Gimelshein 2018), so that tiles of the vocabulary can
//! pass by once. The divergence of this lane's logits l from the reference's r is taken from d = r - l - shift, where the
//! shift (r - l at the reference's likeliest token of the first tile) cancels out: with means under the reference's distribution,
//! `KL = mean(d) + log(1 + mean(exp(-d) - 1))`, and `exp(-d) - 1` as `curvature(d) - d`, so that a divergence of 1e-8 is
//! not drowned by the rounding of log-sum-exps of size 10. The divergence the other way round is the same of -d, with means
//! under this lane's distribution.

use rayon::prelude::*;

use super::isa::{Isa, per_isa};
use super::math;
use crate::backend::{HeadRow, TileShape};

/// Logits taken together: exponentials of a block are written down, then added up, so that both loops vectorize.
const BLOCK: usize = 256;

/// The first of a row's largest logits; none where something is no number or infinitely large, or nothing else than infinitely
/// low.
pub fn likeliest(row: &[f32]) -> Option<usize> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // The maximum passes over what is no number.
    let sound = max.is_finite() && !row.iter().any(|logit| logit.is_nan());
    row.iter().position(|&logit| logit == max).filter(|_| sound)
}

/// One row's running sums; exponentials in f32, everything that is added up over tiles in f64.
#[derive(Debug, Clone)]
pub struct RowState {
    max: f32,
    sum: f64,
    /// Sum of exp(l) (l - max), relative to `max` as `sum` is.
    moment: f64,
    target: f32,
    rank: u32,
    argmax: u32,
    reference_max: f32,
    reference_sum: f64,
    shift: f32,
    /// KL(reference || lane): weights exp(r) relative to the reference's maximum.
    from_reference: Differences,
    /// KL(lane || reference): weights exp(l) relative to this lane's.
    to_reference: Differences,
}

/// What one divergence is made from: sums over the vocabulary with the weights of one distribution p, where d is log p less the
/// other's logarithm, but for a constant.
#[derive(Debug, Clone, Copy)]
struct Differences {
    /// Sum of p d.
    difference: f64,
    /// Sum of p (d + exp(-d) - 1).
    curvature: f64,
}

impl Differences {
    const NONE: Self = Self { difference: 0.0, curvature: 0.0 };

    fn scale(&mut self, factor: f64) {
        self.difference *= factor;
        self.curvature *= factor;
    }

    /// The divergence from the sum of the weights; `textbook` is given mean(d) for lanes so far apart that its formula is the
    /// more exact one.
    fn finish(self, sum: f64, textbook: impl Fn(f64) -> f64) -> f64 {
        let difference = self.difference / sum;
        let excess = self.curvature / sum - difference;
        if excess.abs() < 0.5 { difference + libm::log1p(excess) } else { textbook(difference) }
    }
}

impl RowState {
    /// Before the first tile.
    pub const EMPTY: Self = Self {
        max: f32::NEG_INFINITY,
        sum: 0.0,
        moment: 0.0,
        target: f32::NEG_INFINITY,
        rank: 0,
        argmax: 0,
        reference_max: f32::NEG_INFINITY,
        reference_sum: 0.0,
        shift: 0.0,
        from_reference: Differences::NONE,
        to_reference: Differences::NONE,
    };

    /// After the last tile.
    pub fn finish(&self) -> HeadRow {
        let log_sum = libm::log(self.sum);
        let log_sum_exp = f64::from(self.max) + log_sum;
        let (mut kld, mut reverse_kld) = (0.0, 0.0);
        if self.reference_sum > 0.0 {
            let reference = f64::from(self.reference_max) + libm::log(self.reference_sum);
            // Mean of r - l under the reference, of l - r under this lane, from that of d.
            let apart = f64::from(self.shift) - (reference - log_sum_exp);
            kld = self.from_reference.finish(self.reference_sum, |difference| difference + apart);
            reverse_kld = self.to_reference.finish(self.sum, |difference| difference - apart);
        }
        HeadRow {
            log_sum_exp,
            target_logit: f64::from(self.target),
            argmax: self.argmax,
            rank: self.rank,
            entropy: log_sum - self.moment / self.sum,
            kld,
            reverse_kld,
        }
    }

    /// Makes room for logits up to `max`; whether it is a new maximum.
    fn raise(&mut self, max: f32) -> bool {
        let higher = max > self.max;
        if higher {
            if self.sum > 0.0 {
                let by = f64::from(max) - f64::from(self.max);
                let factor = libm::exp(-by);
                self.moment = factor * (self.moment - self.sum * by);
                self.sum *= factor;
                self.to_reference.scale(factor);
            }
            self.max = max;
        }
        higher
    }

    /// The same for the reference's.
    fn raise_reference(&mut self, max: f32) {
        if max > self.reference_max {
            if self.reference_sum > 0.0 {
                let factor = libm::exp(f64::from(self.reference_max) - f64::from(max));
                self.reference_sum *= factor;
                self.from_reference.scale(factor);
            }
            self.reference_max = max;
        }
    }
}

/// See [`crate::backend::Backend::head_tile`]; `targets` are their tokens and their logits.
pub fn tile(
    isa: Isa,
    logits: &[f32],
    reference: Option<&[f32]>,
    shape: TileShape,
    targets: Option<(&[u32], &[f32])>,
    state: &mut [RowState],
) {
    let TileShape { rows, cols, first_token } = shape;
    state[..rows].par_iter_mut().enumerate().with_min_len(16).for_each(|(t, state)| {
        let row = &logits[t * cols..][..cols];
        if let Some((tokens, target_logits)) = targets {
            let target = i64::from(tokens[t]) - i64::from(first_token);
            if let Some(&logit) = usize::try_from(target).ok().and_then(|target| row.get(target)) {
                state.target = logit;
            }
            let before = target.clamp(0, cols as i64) as usize;
            state.rank += count_before(isa, row, before, target_logits[t]);
        }
        match reference {
            None => softmax(isa, row, first_token, state),
            Some(reference) => softmax_and_divergence(isa, row, &reference[t * cols..][..cols], first_token, state),
        }
    });
}

per_isa! {
    /// How many logits are larger than `target`, or stand among the first `before` and equal it.
    fn count_before(row: &[f32], before: usize, target: f32) -> u32 {
        let (smaller_ids, larger_ids) = row.split_at(before);
        let ties = smaller_ids.iter().fold(0u32, |count, &l| count + u32::from(l >= target));
        larger_ids.iter().fold(ties, |count, &l| count + u32::from(l > target))
    }
}

/// Logits so far below the maximum have no weight; infinite ones must not become 0 times infinity.
const LOWEST: f32 = -100.0;

/// Takes the tile's maximum into the state.
#[inline(always)]
fn raise(row: &[f32], first_token: u32, state: &mut RowState) {
    let max = math::max(row);
    if state.raise(max) {
        state.argmax = first_token + row.iter().position(|&l| l == max).unwrap_or(0) as u32;
    }
}

per_isa! {
    fn softmax(row: &[f32], first_token: u32, state: &mut RowState) {
        raise(row, first_token, state);
        let base = state.max;
        let (mut exps, mut moments) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        for row in row.chunks(BLOCK) {
            let (exps, moments) = (&mut exps[..row.len()], &mut moments[..row.len()]);
            for i in 0..row.len() {
                let below = (row[i] - base).max(LOWEST);
                let e = math::exp(below);
                exps[i] = e;
                moments[i] = e * below;
            }
            state.sum += f64::from(math::sum(exps));
            state.moment += f64::from(math::sum(moments));
        }
    }
}

/// p (d + exp(-d) - 1): for small d by its Taylor series (the next term is below 2e-8 of the whole), else as it stands.
/// `other` is p exp(-d), which may be finite where exp(-d) is not.
#[inline(always)]
fn weighted_curvature(p: f32, d: f32, other: f32) -> f32 {
    let tail = d.mul_add(-(d.mul_add(-(d.mul_add(-1.0 / 5040.0, 1.0 / 720.0)), 1.0 / 120.0)), 1.0 / 24.0);
    let series = d * d * d.mul_add(-d.mul_add(-tail, 1.0 / 6.0), 0.5);
    if d.abs() < 0.25 { p * series } else { p.mul_add(d - 1.0, other) }
}

per_isa! {
    fn softmax_and_divergence(row: &[f32], reference: &[f32], first_token: u32, state: &mut RowState) {
        raise(row, first_token, state);
        let max = math::max(reference);
        if state.reference_sum == 0.0 {
            let likeliest = reference.iter().position(|&r| r == max).unwrap_or(0);
            state.shift = reference[likeliest] - row[likeliest];
        }
        state.raise_reference(max);
        let (base, reference_base, shift) = (state.max, state.reference_max, state.shift);
        // exp(r - reference_base) exp(-d) is exp(l - base) times this, and the other way round its inverse.
        let ratio = f64::from(base) + f64::from(shift) - f64::from(reference_base);
        let [to_own, to_reference] = [ratio, -ratio].map(|log| libm::exp(log).min(f64::from(f32::MAX)) as f32);
        let mut terms = [[0.0f32; BLOCK]; 7];
        for (row, reference) in row.chunks(BLOCK).zip(reference.chunks(BLOCK)) {
            let len = row.len();
            let reference = &reference[..len];
            let parts = terms.each_mut().map(|terms| &mut terms[..len]);
            let [exps, moments, exps_reference, from, from_curved, to, to_curved] = parts;
            for i in 0..len {
                let below = (row[i] - base).max(LOWEST);
                let e = math::exp(below);
                let e_reference = math::exp(reference[i] - reference_base);
                let d = reference[i] - row[i] - shift;
                exps[i] = e;
                moments[i] = e * below;
                exps_reference[i] = e_reference;
                from[i] = e_reference * d;
                from_curved[i] = weighted_curvature(e_reference, d, e * to_own);
                to[i] = e * -d;
                to_curved[i] = weighted_curvature(e, -d, e_reference * to_reference);
            }
            let [exps, moments, exps_reference, from, from_curved, to, to_curved] =
                terms.each_ref().map(|terms| f64::from(math::sum(&terms[..len])));
            state.sum += exps;
            state.moment += moments;
            state.reference_sum += exps_reference;
            state.from_reference.difference += from;
            state.from_reference.curvature += from_curved;
            state.to_reference.difference += to;
            state.to_reference.curvature += to_curved;
        }
    }
}
