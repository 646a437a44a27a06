//! The same types and the same size, chosen by what the *outputs* of a matrix lose: rows of weights are rounded with error
//! feedback for the second moment `X^T X` of the matrix's input (GPTQ: Frantar et al. 2023), on ggml's own grids, so that any
//! program that reads the format reads the file.
//!
//! Feedback alone overfits at token counts that one can afford. So the moment is shrunk towards its diagonal, `H' = (1 - rho) H +
//! rho diag(H)`: the diagonal is the importance matrix, and with `rho = 1` no feedback is left. `rho` is chosen by what rows lose
//! on text that they were not fitted to, and where even that is not below what the importance matrix loses, its bytes are kept.
//! Absent: where moments come from (`bitworth-measure` collects them), and files.

mod factor;
mod rounding;

use rayon::prelude::*;
use serde::Serialize;

use self::factor::Factor;
use self::rounding::{ROWS, Rounding};
use crate::DType;
use crate::formats::CodeBits;

/// Shares of the diagonal that are tried.
pub const SHRINKAGES: [f32; 5] = [0.2, 0.35, 0.5, 0.7, 1.0];
/// Rows that `rho` is chosen with.
pub const SAMPLED_ROWS: usize = 64;
/// Most columns that `rho` is chosen with: the most important ones. The work grows with their third power.
const SAMPLED_COLUMNS: usize = 2048;
/// What is added to the diagonal, as a share of its mean.
const DAMPING: f32 = 1e-4;
/// How often damping is raised tenfold where a moment cannot be factored.
const MORE_DAMPING: usize = 4;
/// Rows of activations that one column needs at least; with fewer no feedback is used.
const ROWS_PER_COLUMN: f64 = 0.25;
/// Columns whose order is chosen together, and within them again: the blocks of formats.
const SUPER_BLOCK: usize = 256;
const BLOCK: usize = 32;

/// Sums of products of the columns of an input, from two halves of the text (its windows alternate).
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Columns, `K`.
    pub cols: usize,
    /// `[K, K]` each, row-major, both halves of the matrix filled.
    pub sums: [Vec<f32>; 2],
    /// Rows that were summed.
    pub counts: [u64; 2],
}

/// What the choice of `rho` said.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shrinkage {
    /// The chosen share of the diagonal.
    pub rho: f32,
    /// What the sampled rows lose on the half they were not fitted to, over what the importance matrix's bytes lose there.
    pub held_out: f64,
}

/// An input of matrices, ready to fit rows of weights that multiply it.
#[derive(Debug)]
pub struct FitInput {
    /// How much of the diagonal was taken.
    pub shrinkage: Shrinkage,
    importance: Vec<f32>,
    /// `None` where the importance matrix's bytes are kept.
    fitted: Option<Shrunk>,
}

/// A shrunk second moment in the order in which columns are rounded.
#[derive(Debug)]
struct Shrunk {
    moment: Vec<f32>,
    factor: Factor,
}

/// How many rows were fitted, and what that gained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct FitReport {
    /// Rows that have new bytes.
    pub fitted: usize,
    /// Rows that keep the importance matrix's, because they lose less.
    pub kept: usize,
    /// The loss of the outputs by the shrunk moment, with the importance matrix's bytes.
    pub loss_before: f64,
    /// The same with those that were taken.
    pub loss_after: f64,
}

/// Whether rows of this format can be fitted.
pub fn fits(dtype: DType) -> bool {
    matches!(dtype.block_len(), BLOCK | SUPER_BLOCK) && CodeBits::of(dtype).is_some()
}

impl FitInput {
    /// Prepares an input for weights in a format. `sample` are some rows of a matrix that multiplies it (`[rows, K]`), with which
    /// `rho` is chosen.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn new(moments: &Moments, dtype: DType, sample: &[f32]) -> Self {
        let n = moments.cols;
        assert!(moments.sums.iter().all(|sum| sum.len() == n * n) && sample.len().is_multiple_of(n));
        let count = (moments.counts[0] + moments.counts[1]).max(1) as f64;
        let both = |i: usize| f64::from(moments.sums[0][i]) + f64::from(moments.sums[1][i]);
        let mut importance: Vec<f32> = (0..n).map(|i| (both(i * n + i) / count) as f32).collect();
        let usable = importance.iter().all(|v| v.is_finite()) && importance.iter().any(|&v| v > 0.0);
        if !usable {
            // As for an expert that no token reached: all columns matter alike.
            importance.fill(1.0);
        }
        let kept = Self { shrinkage: Shrinkage { rho: 1.0, held_out: 1.0 }, importance, fitted: None };
        if !usable || !fits(dtype) {
            return kept;
        }
        let order = order(&kept.importance);
        let shrinkage = if count < ROWS_PER_COLUMN * n as f64 || moments.counts.contains(&0) {
            Shrinkage { rho: 1.0, held_out: 1.0 }
        } else {
            choose(moments, dtype, sample, &order)
        };
        if shrinkage.held_out > 1.0 {
            return Self { shrinkage, ..kept };
        }
        let total: Vec<f32> = (0..n * n).into_par_iter().map(|i| (both(i) / count) as f32).collect();
        let fitted = Shrunk::new(&total, n, order, shrinkage.rho);
        Self { shrinkage, fitted, ..kept }
    }

    /// The mean square of every column: the importance matrix.
    pub fn importance(&self) -> &[f32] {
        &self.importance
    }

    /// Encodes rows `w` (`[rows, K]`).
    ///
    /// # Panics
    /// If `out` is not what these rows take.
    pub fn encode(&self, dtype: DType, w: &[f32], out: &mut [u8]) -> FitReport {
        let n = self.importance.len();
        let rows = w.len() / n;
        let row_bytes = out.len() / rows.max(1);
        let encode = |(w, out): (&[f32], &mut [u8])| {
            for (w, out) in w.chunks_exact(n).zip(out.chunks_exact_mut(row_bytes)) {
                dtype.encode_row(w, Some(&self.importance), out);
            }
            let Some((shrunk, rounding)) = self.fitted.as_ref().zip(self.rounding(dtype)) else {
                return FitReport { kept: w.len() / n, ..FitReport::default() };
            };
            let mut fitted = vec![0; out.len()];
            rounding.round(w, &mut fitted);
            let before = shrunk.losses(dtype, w, out);
            let after = shrunk.losses(dtype, w, &fitted);
            let mut report = FitReport::default();
            for (r, (&before, &after)) in before.iter().zip(&after).enumerate() {
                report.loss_before += before;
                if after < before {
                    let bytes = r * row_bytes..(r + 1) * row_bytes;
                    out[bytes.clone()].copy_from_slice(&fitted[bytes]);
                    report.fitted += 1;
                    report.loss_after += after;
                } else {
                    report.kept += 1;
                    report.loss_after += before;
                }
            }
            report
        };
        // In order, so that the sums are the same for every number of threads.
        let reports: Vec<FitReport> = w.par_chunks(ROWS * n).zip(out.par_chunks_mut(ROWS * row_bytes)).map(encode).collect();
        reports.into_iter().fold(FitReport::default(), FitReport::and)
    }

    fn rounding(&self, dtype: DType) -> Option<Rounding<'_>> {
        Some(self.fitted.as_ref()?.rounding(dtype, CodeBits::of(dtype)?, &self.importance))
    }
}

impl FitReport {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            fitted: self.fitted + other.fitted,
            kept: self.kept + other.kept,
            loss_before: self.loss_before + other.loss_before,
            loss_after: self.loss_after + other.loss_after,
        }
    }
}

/// The order in which columns are rounded: super-blocks, in them blocks, in them columns, the most important first. Late columns
/// take the errors of early ones, and those of unimportant ones cost little.
fn order(importance: &[f32]) -> Vec<u32> {
    let mean = |columns: &[u32]| columns.iter().map(|&c| f64::from(importance[c as usize])).sum::<f64>() / columns.len() as f64;
    let all: Vec<u32> = (0..importance.len() as u32).collect();
    let sorted = |columns: &[u32], size: usize| {
        let mut parts: Vec<Vec<u32>> = columns.chunks(size).map(<[u32]>::to_vec).collect();
        // Stable: equal ones stay in their order.
        parts.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
        parts
    };
    let whole = importance.len() / SUPER_BLOCK * SUPER_BLOCK;
    let mut order = Vec::with_capacity(importance.len());
    for part in sorted(&all[..whole], SUPER_BLOCK).into_iter().chain((whole < all.len()).then(|| all[whole..].to_vec())) {
        for block in sorted(&part, BLOCK) {
            order.extend(sorted(&block, 1).concat());
        }
    }
    order
}

/// Tries every share of the diagonal: rows fitted to the first half of the text, judged by the second.
fn choose(moments: &Moments, dtype: DType, sample: &[f32], order: &[u32]) -> Shrinkage {
    let n = moments.cols;
    let block = dtype.block_len().max(BLOCK);
    // The most important blocks, as they lie in a row.
    let kept = n.min(SAMPLED_COLUMNS) / block * block;
    let mut columns: Vec<u32> = order[..kept].to_vec();
    columns.sort_unstable();
    let m = columns.len();
    let part = |sum: &[f32], count: u64| -> Vec<f32> {
        let count = count as f32;
        let row = |&i: &u32| columns.iter().map(move |&j| sum[i as usize * n + j as usize] / count);
        columns.iter().flat_map(row).collect()
    };
    let [a, b] = [0, 1].map(|half| part(&moments.sums[half], moments.counts[half]));
    let w: Vec<f32> =
        sample.chunks_exact(n).take(SAMPLED_ROWS).flat_map(|row| columns.iter().map(|&c| row[c as usize])).collect();
    let importance: Vec<f32> = (0..m).map(|i| a[i * m + i]).collect();
    let judge = Judge { moment: &b, m };
    let row_bytes = m / dtype.block_len() * dtype.block_bytes();
    let mut bytes = vec![0; w.len() / m * row_bytes];
    for (w, out) in w.chunks_exact(m).zip(bytes.chunks_exact_mut(row_bytes)) {
        dtype.encode_row(w, Some(&importance), out);
    }
    let before = judge.loss(dtype, &w, &bytes);
    let mut best = Shrinkage { rho: 1.0, held_out: f64::INFINITY };
    if m == 0 || !importance.iter().any(|&v| v > 0.0) {
        return best;
    }
    for rho in SHRINKAGES {
        let Some(shrunk) = Shrunk::new(&a, m, self::order(&importance), rho) else { continue };
        let Some(bits) = CodeBits::of(dtype) else { continue };
        let rounding = shrunk.rounding(dtype, bits, &importance);
        w.par_chunks(ROWS * m).zip(bytes.par_chunks_mut(ROWS * row_bytes)).for_each(|(w, out)| rounding.round(w, out));
        let held_out = judge.loss(dtype, &w, &bytes) / before;
        if held_out < best.held_out {
            best = Shrinkage { rho, held_out };
        }
    }
    // A matrix of zeros loses nothing before either.
    if before == 0.0 { Shrinkage { rho: 1.0, held_out: 1.0 } } else { best }
}

/// A second moment that rows were not fitted to, its columns as they lie in the row.
struct Judge<'a> {
    moment: &'a [f32],
    m: usize,
}

impl Judge<'_> {
    fn loss(&self, dtype: DType, w: &[f32], bytes: &[u8]) -> f64 {
        let rows = w.len() / self.m;
        let row_bytes = bytes.len() / rows.max(1);
        let one = |(w, bytes): (&[f32], &[u8])| {
            let mut decoded = vec![0.0; self.m];
            dtype.decode_row(bytes, &mut decoded);
            let errors: Vec<f32> = w.iter().zip(&decoded).map(|(w, q)| w - q).collect();
            quadratic(&errors, self.moment)
        };
        let losses: Vec<f64> = w.par_chunks(self.m).zip(bytes.par_chunks(row_bytes)).map(one).collect();
        losses.iter().sum()
    }
}

/// `e H e^T`
fn quadratic(errors: &[f32], moment: &[f32]) -> f64 {
    let row = |(&e, moment): (&f32, &[f32])| {
        let mut sums = [0.0f32; 8];
        for (errors, moment) in errors.as_chunks::<8>().0.iter().zip(moment.as_chunks::<8>().0) {
            for (sum, (e, h)) in sums.iter_mut().zip(errors.iter().zip(moment)) {
                *sum += e * h;
            }
        }
        let rest = errors.as_chunks::<8>().1.iter().zip(moment.as_chunks::<8>().1).map(|(e, h)| e * h).sum::<f32>();
        f64::from(e) * (sums.iter().map(|&s| f64::from(s)).sum::<f64>() + f64::from(rest))
    };
    errors.iter().zip(moment.chunks_exact(errors.len())).map(row).sum()
}

impl Shrunk {
    /// Shrinks, damps and factors a moment `[K, K]` whose columns lie as in a row; `None` where it cannot be factored.
    fn new(moment: &[f32], n: usize, order: Vec<u32>, rho: f32) -> Option<Self> {
        let diagonal = |i: usize| moment[i * n + i];
        // A column that nothing went into may become anything; it counts as the least of the others.
        let least = (0..n).map(diagonal).filter(|&h| h > 0.0).fold(f32::INFINITY, f32::min);
        let mean = (0..n).map(|i| f64::from(diagonal(i))).sum::<f64>() / n as f64;
        let mut damping = DAMPING;
        for _ in 0..=MORE_DAMPING {
            let add = damping * mean as f32;
            let mut shrunk = vec![0.0; n * n];
            shrunk.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
                let own = order[i] as usize;
                for (out, &column) in row.iter_mut().zip(&order) {
                    *out = (1.0 - rho) * moment[own * n + column as usize];
                }
                row[i] = (if diagonal(own) > 0.0 { diagonal(own) } else { least }) + add;
            });
            if let Some(factor) = Factor::new(shrunk.clone(), order.clone()) {
                return Some(Self { moment: shrunk, factor });
            }
            damping *= 10.0;
        }
        None
    }

    fn rounding<'a>(&'a self, dtype: DType, bits: &'static CodeBits, importance: &'a [f32]) -> Rounding<'a> {
        Rounding { dtype, bits, factor: &self.factor, moment: &self.moment, importance, block: dtype.block_len() }
    }

    /// The loss of each row.
    fn losses(&self, dtype: DType, w: &[f32], bytes: &[u8]) -> Vec<f64> {
        let n = self.factor.order.len();
        let row_bytes = bytes.len() / (w.len() / n);
        let mut decoded = vec![0.0; n];
        let one = |(w, bytes): (&[f32], &[u8])| {
            dtype.decode_row(bytes, &mut decoded);
            let errors: Vec<f32> = self.factor.order.iter().map(|&c| w[c as usize] - decoded[c as usize]).collect();
            quadratic(&errors, &self.moment)
        };
        w.chunks_exact(n).zip(bytes.chunks_exact(row_bytes)).map(one).collect()
    }
}

#[cfg(test)]
mod tests;
