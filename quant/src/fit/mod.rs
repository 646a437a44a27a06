//! The same types and the same size, chosen by what the *outputs* of a matrix lose: rows of weights are rounded with error
//! feedback for the second moment `X^T X` of the matrix's input (GPTQ: Frantar et al. 2023), on ggml's own grids, so that any
//! program that reads the format reads the file.
//!
//! Feedback alone overfits at token counts that one can afford. So the moment is shrunk towards its diagonal, `H' = (1 - rho) H +
//! rho diag(H)`: the diagonal is the importance matrix, and with `rho = 1` no feedback is left. `rho` is chosen by what rows lose
//! on text that they were not fitted to, and where even that is not below what the importance matrix loses, its bytes are kept.
//! Columns of inputs that are too wide go in groups, whose products with each other count as 0; experts share what all have seen.
//! Absent: where moments come from (`bitworth-measure` collects them), and files.

mod factor;
mod moments;
mod rounding;
mod wide;

use std::ops::Range;

use rayon::prelude::*;
use serde::Serialize;

use self::factor::Factor;
pub use self::moments::{Moments, column_groups};
use self::rounding::{ROWS, Rounding};
use self::wide::Wide;
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
/// Columns whose order is chosen together, and within them again: the blocks of formats.
pub const SUPER_BLOCK: usize = 256;
const BLOCK: usize = 32;

/// What the choice of `rho` said, or what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shrinkage {
    /// The share of the diagonal.
    pub rho: f32,
    /// What the sampled rows lose on the parts of the text that they were not fitted to, over what the importance matrix's bytes
    /// lose there.
    pub held_out: f64,
}

/// A matrix that `rho` is chosen with.
#[derive(Debug, Clone, Copy)]
pub struct FitSample<'a> {
    /// Of its input.
    pub moments: &'a Moments,
    /// Some of its rows, `[rows, K]`.
    pub rows: &'a [f32],
}

/// An input of matrices, ready to fit rows of weights that multiply it.
#[derive(Debug)]
pub struct FitInput {
    /// What the choice said, with the share of the diagonal that is used: 1 without feedback, the largest where groups of columns
    /// differ because some could not be factored with less.
    pub shrinkage: Shrinkage,
    importance: Vec<f32>,
    /// By group of columns; none where the importance matrix's bytes are kept.
    groups: Vec<Shrunk>,
}

/// The shrunk second moment of a group of columns, in the order in which they are rounded.
#[derive(Debug)]
struct Shrunk {
    columns: Range<usize>,
    /// The mean square of each column, as they lie in the row.
    importance: Vec<f32>,
    moment: Vec<f32>,
    factor: Factor,
}

/// What is known of the diagonal of a whole input.
#[derive(Debug, Clone, Copy)]
struct Diagonal {
    mean: f64,
    /// The least of those above 0.
    least: f32,
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
    matches!(dtype.block_len(), BLOCK | SUPER_BLOCK) && (CodeBits::of(dtype).is_some() || is_of_grids(dtype))
}

/// Whether one code stands for several weights. Such formats have feedback from block to block alone.
fn is_of_grids(dtype: DType) -> bool {
    use DType::{IQ1_M, IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};
    matches!(dtype, IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S)
}

impl Shrinkage {
    /// No feedback, and nothing that speaks for fitting: what is not judged by text that was left out must not be worse.
    pub const NONE: Self = Self { rho: 1.0, held_out: 1.0 };

    /// Chooses `rho` for all matrices of an input by some of them: every share of the diagonal is tried, parts of the text are
    /// left out in turn ([`Moments::left_out`]), rows are fitted to the others and judged by that one. Matrices with too few rows
    /// of activations say nothing.
    ///
    /// # Panics
    /// If sizes differ.
    pub fn choose(dtype: DType, samples: &[FitSample<'_>]) -> Self {
        let usable = |sample: &&FitSample<'_>| {
            assert!(sample.moments.is_whole() && sample.rows.len().is_multiple_of(sample.moments.cols));
            fits(dtype) && sample.moments.has_enough_rows()
        };
        let usable: Vec<_> = samples.iter().filter(usable).filter_map(|s| Some((s, s.moments.importance()?))).collect();
        if usable.is_empty() {
            return Self::NONE;
        }
        let (mut trials, mut before, mut losses) = (0, 0.0, [Some(0.0); SHRINKAGES.len()]);
        for (sample, importance) in &usable {
            // One after the other, as each takes several matrices.
            for part in sample.moments.left_out.clone() {
                let Some(trial) = Trial::new(dtype, sample, importance, part) else { continue };
                trials += 1;
                before += trial.before;
                for (sum, rho) in losses.iter_mut().zip(SHRINKAGES) {
                    *sum = sum.and_then(|sum| Some(sum + trial.loss(rho)?));
                }
            }
        }
        let mut best = Self { rho: 1.0, held_out: f64::INFINITY };
        if trials == 0 {
            return best;
        }
        if before == 0.0 {
            // Matrices of zeros lose nothing.
            return Self::NONE;
        }
        for (rho, loss) in SHRINKAGES.into_iter().zip(losses) {
            let Some(held_out) = loss.map(|loss| loss / before) else { continue };
            if held_out < best.held_out {
                best = Self { rho, held_out };
            }
        }
        best
    }

    /// Whether rows are to be fitted at all: only where they lose less on text that was left out.
    pub fn pays(&self) -> bool {
        self.held_out < 1.0
    }
}

impl FitInput {
    /// Prepares an input for weights in a format. `sample` are some rows of a matrix that multiplies it (`[rows, K]`), with which
    /// `rho` is chosen.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn new(moments: &Moments, dtype: DType, sample: &[f32]) -> Self {
        let shrinkage = Shrinkage::choose(dtype, &[FitSample { moments, rows: sample }]);
        Self::of(moments, moments, dtype, shrinkage)
    }

    /// The same with a choice that was made before. Feedback is for the moments `joined` ([`Moments::with_pool`] of an expert,
    /// else its own); the importance matrix is that of its own.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn of(own: &Moments, joined: &Moments, dtype: DType, shrinkage: Shrinkage) -> Self {
        assert!(own.is_whole() && joined.is_whole() && own.cols == joined.cols);
        // An expert that no token reached has what matters to all; where that is not known either, all columns matter alike.
        let importance = own.importance().or_else(|| joined.importance()).unwrap_or_else(|| vec![1.0; own.cols]);
        let kept = Self { shrinkage: Shrinkage { rho: 1.0, ..shrinkage }, importance, groups: Vec::new() };
        let Some(weights) = joined.importance().filter(|_| fits(dtype) && shrinkage.pays()) else { return kept };
        let rho = if own.has_enough_rows() { shrinkage.rho } else { 1.0 };
        let diagonal = Diagonal::of(&weights);
        let group = |columns: Range<usize>| {
            let moment = joined.means(&columns);
            let importance = &weights[columns.clone()];
            let shrunk = |rho| Some((Shrunk::new(&moment, (columns.clone(), importance), rho, diagonal)?, rho));
            // Where no damping helps, no feedback is left.
            shrunk(rho).or_else(|| shrunk(1.0))
        };
        match column_groups(joined.cols, joined.width).map(group).collect::<Option<Vec<_>>>() {
            Some(groups) => {
                let used = groups.iter().map(|(_, rho)| *rho).fold(rho, f32::max);
                let groups = groups.into_iter().map(|(shrunk, _)| shrunk).collect();
                Self { shrinkage: Shrinkage { rho: used, ..shrinkage }, groups, ..kept }
            }
            None => kept,
        }
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
            let count = w.len() / n;
            if self.groups.is_empty() {
                return FitReport { kept: count, ..FitReport::default() };
            }
            let mut fitted = out.to_vec();
            let (mut before, mut after) = (vec![0.0; count], vec![0.0; count]);
            for group in &self.groups {
                let Range { start, end } = group.columns;
                let block = |column: usize| column / dtype.block_len() * dtype.block_bytes();
                let bytes = block(start)..block(end);
                let w = parts(w, n, &group.columns);
                let plain = parts(out, row_bytes, &bytes);
                let mut rounded = vec![0; plain.len()];
                group.rounding(dtype).round(&w, &mut rounded);
                group.add_losses(dtype, &w, &plain, &mut before);
                group.add_losses(dtype, &w, &rounded, &mut after);
                for (row, rounded) in fitted.chunks_exact_mut(row_bytes).zip(rounded.chunks_exact(bytes.len())) {
                    row[bytes.clone()].copy_from_slice(rounded);
                }
            }
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
}

/// A range of every row, one behind the other.
fn parts<T: Copy>(rows: &[T], len: usize, range: &Range<usize>) -> Vec<T> {
    rows.chunks_exact(len).flat_map(|row| &row[range.clone()]).copied().collect()
}

impl Shrinkage {
    /// Both numbers as bits, to be kept exactly.
    pub fn to_bits(self) -> [u64; 2] {
        [self.rho.to_bits().into(), self.held_out.to_bits()]
    }

    /// The inverse of [`Self::to_bits`].
    pub fn from_bits([rho, held_out]: [u64; 2]) -> Self {
        Self { rho: f32::from_bits(rho as u32), held_out: f64::from_bits(held_out) }
    }
}

impl FitReport {
    /// Counts, and losses as bits, to be kept exactly.
    pub fn to_bits(self) -> [u64; 4] {
        let Self { fitted, kept, loss_before, loss_after } = self;
        [fitted as u64, kept as u64, loss_before.to_bits(), loss_after.to_bits()]
    }

    /// The inverse of [`Self::to_bits`].
    pub fn from_bits([fitted, kept, before, after]: [u64; 4]) -> Self {
        let (loss_before, loss_after) = (f64::from_bits(before), f64::from_bits(after));
        Self { fitted: fitted as usize, kept: kept as usize, loss_before, loss_after }
    }

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

/// Rows of a matrix with the most important of their columns, fitted to some parts of the text and judged by another.
struct Trial {
    dtype: DType,
    w: Vec<f32>,
    m: usize,
    /// Means of products in the part that judges, and in all others.
    judge: Vec<f32>,
    others: Vec<f32>,
    importance: Vec<f32>,
    row_bytes: usize,
    /// What the importance matrix's bytes lose.
    before: f64,
}

impl Trial {
    /// `None` where nothing went in during that part, or during the others.
    fn new(dtype: DType, sample: &FitSample<'_>, importance: &[f32], part: usize) -> Option<Self> {
        let FitSample { moments, rows } = *sample;
        let n = moments.cols;
        let block = dtype.block_len().max(BLOCK);
        // The most important blocks, as they lie in a row.
        let kept = n.min(SAMPLED_COLUMNS) / block * block;
        let mut columns: Vec<u32> = order(importance)[..kept].to_vec();
        columns.sort_unstable();
        let m = columns.len();
        let (judge, others) = moments.means_apart(part, &columns)?;
        let importance: Vec<f32> = (0..m).map(|i| others[i * m + i]).collect();
        if !importance.iter().any(|&v| v > 0.0) {
            return None;
        }
        let w: Vec<f32> =
            rows.chunks_exact(n).take(SAMPLED_ROWS).flat_map(|row| columns.iter().map(|&c| row[c as usize])).collect();
        let row_bytes = m / dtype.block_len() * dtype.block_bytes();
        let mut bytes = vec![0; w.len() / m * row_bytes];
        for (w, out) in w.chunks_exact(m).zip(bytes.chunks_exact_mut(row_bytes)) {
            dtype.encode_row(w, Some(&importance), out);
        }
        let before = Judge { moment: &judge, m }.loss(dtype, &w, &bytes);
        Some(Self { dtype, w, m, judge, others, importance, row_bytes, before })
    }

    /// What is lost on the part that judges with a share of the diagonal; `None` where the others cannot be factored.
    fn loss(&self, rho: f32) -> Option<f64> {
        let Self { dtype, m, row_bytes, .. } = *self;
        let diagonal = Diagonal::of(&self.importance);
        let shrunk = Shrunk::new(&self.others, (0..m, self.importance.as_slice()), rho, diagonal)?;
        let rounding = shrunk.rounding(dtype);
        let mut bytes = vec![0; self.w.len() / m * row_bytes];
        let parts = self.w.par_chunks(ROWS * m).zip(bytes.par_chunks_mut(ROWS * row_bytes));
        parts.for_each(|(w, out)| rounding.round(w, out));
        Some(Judge { moment: &self.judge, m }.loss(dtype, &self.w, &bytes))
    }
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

impl Diagonal {
    fn of(diagonal: &[f32]) -> Self {
        let least = diagonal.iter().copied().filter(|&h| h > 0.0).fold(f32::INFINITY, f32::min);
        Self { mean: diagonal.iter().map(|&h| f64::from(h)).sum::<f64>() / diagonal.len() as f64, least }
    }
}

impl Shrunk {
    /// Shrinks, damps and factors the moment of some columns, which lie in it as in a row; `None` where it cannot be factored.
    fn new(moment: &[f32], (columns, importance): (Range<usize>, &[f32]), rho: f32, whole: Diagonal) -> Option<Self> {
        let (n, order) = (columns.len(), order(importance));
        let diagonal = |i: usize| moment[i * n + i];
        let mut damping = DAMPING;
        for _ in 0..=MORE_DAMPING {
            let add = damping * whole.mean as f32;
            let mut shrunk = vec![0.0; n * n];
            shrunk.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
                let own = order[i] as usize;
                for (out, &column) in row.iter_mut().zip(&order) {
                    *out = (1.0 - rho) * moment[own * n + column as usize];
                }
                // A column that nothing went into may become anything; it counts as the least of the others.
                row[i] = (if diagonal(own) > 0.0 { diagonal(own) } else { whole.least }) + add;
            });
            if let Some(factor) = Factor::new(shrunk.clone(), order.clone()) {
                return Some(Self { columns, importance: importance.to_vec(), moment: shrunk, factor });
            }
            damping *= 10.0;
        }
        None
    }

    fn rounding(&self, dtype: DType) -> Rounding<'_> {
        let Self { importance, moment, factor, .. } = self;
        let bits = CodeBits::of(dtype);
        let wide = bits.zip(dtype.integers()).and_then(|(bits, integers)| Wide::new(bits, integers));
        Rounding { dtype, bits, wide, factor, moment, importance, block: dtype.block_len() }
    }

    /// Adds the loss of each row.
    fn add_losses(&self, dtype: DType, w: &[f32], bytes: &[u8], sums: &mut [f64]) {
        let n = self.factor.order.len();
        let row_bytes = bytes.len() / sums.len();
        let mut decoded = vec![0.0; n];
        for ((w, bytes), sum) in w.chunks_exact(n).zip(bytes.chunks_exact(row_bytes)).zip(sums) {
            dtype.decode_row(bytes, &mut decoded);
            let errors: Vec<f32> = self.factor.order.iter().map(|&c| w[c as usize] - decoded[c as usize]).collect();
            *sum += quadratic(&errors, &self.moment);
        }
    }
}

#[cfg(test)]
mod tests;
