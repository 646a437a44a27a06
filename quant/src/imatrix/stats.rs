//! What an importance matrix says of a model: for each tensor how its inputs are distributed and how they changed since the
//! block before, as `llama-imatrix --show-statistics` computes it (tools/imatrix/imatrix.cpp, b11434), with what its earlier
//! versions showed (least, largest, active, ZD). What is absent: tables.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Entry, Sums};
use crate::arch::Role;

/// Mean squares up to this count as inactive, as in llama-imatrix.
const INACTIVE: f64 = 1e-6;

/// One tensor's inputs. Mean squares E\[a^2\] are by column; matrices that no row went to do not count.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorStats {
    /// GGUF name.
    pub tensor: String,
    /// Its block, where it has one.
    pub block: Option<usize>,
    /// Number of columns N.
    pub elements: usize,
    /// Sum of the mean squares.
    pub sum: f64,
    /// The least mean square.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Share of mean squares that are not all but zero.
    pub active: f64,
    /// Shannon entropy of the mean squares as shares of their sum, in bits.
    pub entropy: f64,
    /// The same divided by that of N equal shares, log2 N; `None` for a single column.
    pub entropy_normalized: Option<f64>,
    /// Share of mean squares more than a standard deviation above their mean (the z-score distribution of
    /// Dumitru et al. 2024, section 3.1).
    pub zd: f64,
    /// Whether the following are of mean activations E\[a\], or for lack of them of mean squares.
    pub of_activations: bool,
    /// Mean over the columns.
    pub mean: f64,
    /// Standard deviation (of the population).
    pub std_dev: f64,
    /// Third standardized moment.
    pub skewness: f64,
    /// Fourth standardized moment less 3.
    pub kurtosis: f64,
    /// Against the same tensor of the nearest block before that has it.
    pub previous: Option<InputChange>,
}

/// A tensor's inputs against those of the block before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct InputChange {
    /// Root mean square over that of the block before; `None` where that is zero.
    pub gain: Option<f64>,
    /// Euclidean distance.
    pub l2: f64,
    /// Cosine of the angle; `None` where one is zero throughout.
    pub cosine: Option<f64>,
    /// Pearson's correlation; `None` where one is constant.
    pub pearson: Option<f64>,
    /// Covariance (of the population).
    pub covariance: f64,
}

/// All tensors of a block together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerStats {
    /// The block.
    pub block: usize,
    /// Sum of the mean squares of its tensors.
    pub sum: f64,
    /// Against the block before, over the tensors that both have, as one vector.
    pub previous: Option<InputChange>,
}

/// Sums over the pairs of columns of two tensors, which add up over tensors.
#[derive(Clone, Copy, Default)]
struct Pairs {
    n: f64,
    dot: f64,
    squares: [f64; 2],
    distance: f64,
    covariance: f64,
    variances: [f64; 2],
    /// Sum and number of mean squares of either.
    energy: [(f64, f64); 2],
}

impl Pairs {
    fn of(a: &Entry, b: &Entry) -> Option<Self> {
        // Where one side lacks sums of activations, both are compared on their squares.
        let activations = a.activations.is_some() && b.activations.is_some();
        let (a_means, b_means) = (by_matrix(a, activations), by_matrix(b, activations));
        if a.squares.len() != b.squares.len() || a.counts.len() != b.counts.len() {
            return None;
        }
        let pairs: Vec<(f64, f64)> = a_means.iter().zip(&b_means).filter_map(|(a, b)| (*a).zip(*b)).collect();
        if pairs.is_empty() {
            return None;
        }
        let n = pairs.len() as f64;
        let (mean_a, mean_b) = (pairs.iter().map(|p| p.0).sum::<f64>() / n, pairs.iter().map(|p| p.1).sum::<f64>() / n);
        let mut sums = Self { n, energy: [energy(a), energy(b)], ..Self::default() };
        for (a, b) in pairs {
            sums.dot += a * b;
            sums.squares[0] += a * a;
            sums.squares[1] += b * b;
            sums.distance += (a - b).powi(2);
            sums.covariance += (a - mean_a) * (b - mean_b);
            sums.variances[0] += (a - mean_a).powi(2);
            sums.variances[1] += (b - mean_b).powi(2);
        }
        Some(sums)
    }

    fn add(&mut self, other: &Self) {
        self.n += other.n;
        self.dot += other.dot;
        self.distance += other.distance;
        self.covariance += other.covariance;
        for i in 0..2 {
            self.squares[i] += other.squares[i];
            self.variances[i] += other.variances[i];
            self.energy[i].0 += other.energy[i].0;
            self.energy[i].1 += other.energy[i].1;
        }
    }

    fn change(&self) -> InputChange {
        let over = |sum: f64, [a, b]: [f64; 2]| (a > 0.0 && b > 0.0).then(|| (sum / (a.sqrt() * b.sqrt())).clamp(-1.0, 1.0));
        let [(sum, n), (sum_before, n_before)] = self.energy;
        InputChange {
            gain: (sum_before > 0.0).then(|| (sum / n).sqrt() / (sum_before / n_before).sqrt()),
            l2: self.distance.sqrt(),
            cosine: over(self.dot, self.squares),
            pearson: over(self.covariance, self.variances),
            covariance: self.covariance / self.n,
        }
    }
}

/// Mean squares or mean activations by column, `None` where no row went to.
fn by_matrix(entry: &Entry, activations: bool) -> Vec<Option<f64>> {
    let columns = (entry.squares.len() / entry.counts.len().max(1)).max(1);
    let values = entry.activations.as_ref().filter(|_| activations).unwrap_or(&entry.squares);
    let mean = |(i, sum): (usize, &f64)| match entry.counts[i / columns] {
        0 => None,
        count => Some(sum / count as f64),
    };
    values.iter().enumerate().map(mean).collect()
}

fn energy(entry: &Entry) -> (f64, f64) {
    let squares: Vec<f64> = by_matrix(entry, false).into_iter().flatten().collect();
    (squares.iter().sum(), squares.len() as f64)
}

/// The entries of `sums` with the same tensor of the nearest block before that has it.
fn with_previous(sums: &Sums) -> Vec<(&str, Option<usize>, &Entry, Option<&Entry>)> {
    let rows = sums.entries.iter().map(|(name, entry)| {
        let (role, block) = Role::parse(name).map_or((None, None), |(role, block)| (Some(role), block));
        let before = |block: usize| (0..block).rev().find_map(|i| sums.entries.get(&role?.gguf_name(i)));
        (name.as_str(), block, entry, block.and_then(before))
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(_, block, _, _)| block.unwrap_or(usize::MAX));
    rows
}

/// One row for each entry, by block and name; entries outside of blocks last.
pub fn tensor_stats(sums: &Sums) -> Vec<TensorStats> {
    let rows = with_previous(sums).into_iter();
    rows.filter_map(|(name, block, entry, before)| {
        let change = before.and_then(|before| Pairs::of(entry, before)).map(|pairs| pairs.change());
        of_tensor(name, block, entry, change)
    })
    .collect()
}

/// One row for each block.
pub fn layer_stats(sums: &Sums) -> Vec<LayerStats> {
    let mut layers: BTreeMap<usize, (f64, Option<Pairs>)> = BTreeMap::new();
    for (_, block, entry, before) in with_previous(sums) {
        let Some(block) = block else { continue };
        let (sum, pairs) = layers.entry(block).or_default();
        *sum += energy(entry).0;
        if let Some(new) = before.and_then(|before| Pairs::of(entry, before)) {
            pairs.get_or_insert_default().add(&new);
        }
    }
    let row =
        |(block, (sum, pairs)): (usize, (f64, Option<Pairs>))| LayerStats { block, sum, previous: pairs.map(|p| p.change()) };
    layers.into_iter().map(row).collect()
}

fn of_tensor(name: &str, block: Option<usize>, entry: &Entry, previous: Option<InputChange>) -> Option<TensorStats> {
    let squares: Vec<f64> = by_matrix(entry, false).into_iter().flatten().collect();
    let of_activations = entry.activations.is_some();
    let values: Vec<f64> = by_matrix(entry, of_activations).into_iter().flatten().collect();
    if squares.is_empty() {
        return None;
    }
    let n = squares.len() as f64;
    let sum: f64 = squares.iter().sum();
    let shares = squares.iter().map(|v| v / sum).filter(|share| *share > 0.0);
    let entropy = if sum > 0.0 { -shares.map(|p| p * p.log2()).sum::<f64>() } else { 0.0 };
    let [mean, std_dev, skewness, kurtosis] = moments(&values);
    let [mean_square, deviation, ..] = moments(&squares);
    Some(TensorStats {
        tensor: name.to_owned(),
        block,
        elements: squares.len(),
        sum,
        min: squares.iter().copied().fold(f64::INFINITY, f64::min),
        max: squares.iter().copied().fold(0.0, f64::max),
        active: squares.iter().filter(|v| **v > INACTIVE).count() as f64 / n,
        entropy,
        entropy_normalized: (squares.len() > 1).then(|| entropy / n.log2()),
        zd: squares.iter().filter(|v| **v > mean_square + deviation).count() as f64 / n,
        of_activations,
        mean,
        std_dev,
        skewness,
        kurtosis,
        previous,
    })
}

/// Mean, standard deviation, skewness and excess kurtosis; the latter two 0 for what does not vary.
fn moments(values: &[f64]) -> [f64; 4] {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let central = |power: i32| values.iter().map(|v| (v - mean).powi(power)).sum::<f64>() / n;
    let variance = central(2);
    let varies = variance.sqrt() > 1e-10;
    let (skewness, kurtosis) =
        if varies { (central(3) / variance.powf(1.5), central(4) / variance.powi(2) - 3.0) } else { (0.0, 0.0) };
    [mean, variance.sqrt(), skewness, kurtosis]
}
