//! A lane against its reference on the same items: mean difference, standard error, interval, p; groups of tasks; the correction
//! for many comparisons. Absent: what follows from it (see [`super::verdict()`]).

use std::collections::HashMap;

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::clustered::mean_and_error;
use super::{Cluster, Estimate, Interval, UPPER, independent_error, normal, paired_accuracy, student};

/// A standard error below this share of the mean is rounding: all draws differ alike.
const ROUNDING: f64 = 1e-10;

/// One item that the reference and a lane answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedItem {
    /// The reference's value: 1 for right and 0 for wrong, or any other real number.
    pub reference: f64,
    /// The lane's.
    pub lane: f64,
    /// What the item shares with others, a passage for one. Items of one cluster are one draw; an item without one is a draw
    /// alone.
    pub cluster: Option<u64>,
}

/// How the p-value and the interval of a comparison were had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PairedTest {
    /// Right or wrong, every item a draw: McNemar's exact test, Agresti and Min's interval.
    #[serde(rename = "mcnemar")]
    McNemar,
    /// Other values, every item a draw: Student's t of the differences.
    PairedT,
    /// Items that share clusters: Student's t with the cluster-robust standard error.
    ClusteredT,
    /// The mean over several tasks.
    MacroMean,
}

/// A lane against its reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Paired {
    /// Items.
    pub items: u64,
    /// Independent draws: clusters, and items without one.
    pub clusters: u64,
    /// Draws in which the two differ.
    pub differing: u64,
    /// Items that only the reference got right; `None` where a value is neither 0 nor 1.
    pub only_reference: Option<u64>,
    /// Items that only the lane got right; `None` where a value is neither 0 nor 1.
    pub only_lane: Option<u64>,
    /// Mean of lane less reference with its 95 % interval. No interval for a single draw (but of one item right or wrong), where
    /// a value is not finite, and where nothing differs in values without bounds.
    pub difference: Estimate,
    /// Standard error of the difference; `None` for a single draw and where a value is not finite.
    pub standard_error: Option<f64>,
    /// Degrees of freedom of Student's t; `None` where p and interval are not of t.
    pub degrees: Option<f64>,
    /// Two-sided p of the hypothesis that both are equally good; 1 where the values do not allow a test.
    pub p_value: f64,
    /// How p and interval were had.
    pub test: PairedTest,
}

impl Paired {
    /// The standard error that the interval is made of: half its width by the critical value.
    pub(super) fn interval_error(&self) -> Option<f64> {
        let Interval { low, high } = self.difference.interval?;
        Some((high - low) / 2.0 / critical(self.degrees)?)
    }
}

/// Compares a lane with the reference by the differences on the same items.
///
/// Where all values are 0 or 1 and no two items share a cluster, p and interval are those of [`paired_accuracy`]. Otherwise both
/// are of Student's t with G - 1 degrees for G draws. The standard error is the cluster-robust one with the factor G / (G - 1)
/// (Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640, here of the differences; the factor as statsmodels has
/// it); where every item is a draw, it is that of the paired t test.
///
/// Two precautions, as scores are mostly equal, and t knows nothing of that:
///
/// - p is at least `2^(1 - k)` for k draws that differ: the least that the exact test by changing signs can give (Fisher 1935,
///   The Design of Experiments, section 21). Five items that all flip one way prove nothing, and neither do two clusters.
/// - Where some draws do not differ, or all differ alike, t's interval counts one more differing draw, half up and half down, of
///   the mean square of those seen. That is what Agresti and Min (2005) do for single items. Where none differs and all values
///   lie within 0 and 1, this draw is a cluster of mean size that flips as a whole.
///
/// `None` without an item.
pub fn paired(items: &[PairedItem]) -> Option<Paired> {
    let draws = draws(items.iter().map(|item| (item.lane - item.reference, item.cluster)));
    let count = items.len() as u64;
    let single = draws.len() == items.len();
    let (mean, error) = mean_and_error(&draws)?;
    let values = || items.iter().flat_map(|item| [item.reference, item.lane]);
    let binary = values().all(|value| value == 0.0 || value == 1.0);
    let flips = |from: f64, to: f64| items.iter().filter(|i| i.reference == from && i.lane == to).count() as u64;
    let differing = draws.iter().filter(|draw| draw.sum != 0.0).count() as u64;
    let common = Paired {
        items: count,
        clusters: draws.len() as u64,
        differing,
        only_reference: binary.then(|| flips(1.0, 0.0)),
        only_lane: binary.then(|| flips(0.0, 1.0)),
        difference: Estimate { value: mean, interval: None },
        standard_error: error,
        degrees: None,
        p_value: 1.0,
        test: PairedTest::McNemar,
    };
    if binary && single {
        let both: Vec<(bool, bool)> = items.iter().map(|item| (item.lane == 1.0, item.reference == 1.0)).collect();
        let pair = paired_accuracy(&both)?;
        return Some(Paired { difference: pair.difference, p_value: pair.p_value, ..common });
    }
    let test = if single { PairedTest::PairedT } else { PairedTest::ClusteredT };
    let Some(error) = error else {
        return Some(Paired { test, ..common });
    };
    let error = if error <= ROUNDING * mean.abs() { 0.0 } else { error };
    let degrees = Some(draws.len() as f64 - 1.0);
    let bounded = values().all(|value| (0.0..=1.0).contains(&value));
    let interval = one_more_draw(&draws, differing, error, bounded)
        .map(|more| error.hypot(more))
        .and_then(|error| Some(Interval::around(mean, error * critical(degrees)?)));
    Some(Paired {
        difference: Estimate { value: mean, interval: interval.filter(|i| i.low.is_finite() && i.high.is_finite()) },
        standard_error: Some(error),
        degrees,
        p_value: p_value(mean, error, degrees, differing),
        test,
        ..common
    })
}

/// What one more draw adds to the standard error of an interval, as [`paired`] says. `None` where nothing tells its size.
fn one_more_draw(draws: &[Cluster], differing: u64, error: f64, bounded: bool) -> Option<f64> {
    let groups = draws.len() as f64;
    let items: f64 = draws.iter().map(|draw| draw.count as f64).sum();
    let square = match differing {
        0 if bounded => (items / groups).powi(2),
        0 => return None,
        all if all == draws.len() as u64 && error > 0.0 => 0.0,
        some => draws.iter().map(|draw| draw.sum * draw.sum).sum::<f64>() / some as f64,
    };
    Some((groups / (groups - 1.0) * square).sqrt() / items)
}

/// Two-sided p of a mean: Student's t, or the normal distribution without degrees, and at least what changing signs can give.
fn p_value(mean: f64, error: f64, degrees: Option<f64>, differing: u64) -> f64 {
    if mean == 0.0 || differing == 0 {
        return 1.0;
    }
    let ratio = (mean / error).abs();
    let tail = match degrees.map(|degrees| StudentsT::new(0.0, 1.0, degrees)) {
        _ if ratio.is_infinite() => 0.0,
        Some(Ok(t)) => t.sf(ratio),
        Some(Err(_)) => return 1.0,
        None => Normal::standard().sf(ratio),
    };
    let least = libm::exp2(1.0 - differing as f64);
    (2.0 * tail).max(least).min(1.0)
}

/// The 97.5 % point of Student's t, or of the normal distribution without degrees.
pub(super) fn critical(degrees: Option<f64>) -> Option<f64> {
    match degrees {
        None => Some(normal()),
        Some(whole) if whole.fract() == 0.0 => student(whole as usize),
        Some(degrees) => Some(StudentsT::new(0.0, 1.0, degrees).ok()?.inverse_cdf(UPPER)),
    }
}

/// Sums by cluster, in the order of their first items.
fn draws(values: impl Iterator<Item = (f64, Option<u64>)>) -> Vec<Cluster> {
    let mut places = HashMap::new();
    let mut draws: Vec<Cluster> = Vec::new();
    for (value, cluster) in values {
        let next = draws.len();
        let place = cluster.map_or(next, |cluster| *places.entry(cluster).or_insert(next));
        match draws.get_mut(place) {
            Some(draw) => *draw = Cluster { sum: draw.sum + value, count: draw.count + 1 },
            None => draws.push(Cluster { sum: value, count: 1 }),
        }
    }
    draws
}

/// One lane alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct MeanWithError {
    /// Items.
    pub items: u64,
    /// Independent draws: clusters, and items without one.
    pub clusters: u64,
    /// Mean of the values.
    pub mean: f64,
    /// Sample standard deviation by the square root of the number of items: lm-evaluation-harness's standard error
    /// (`lm_eval/api/metrics.py`, `mean_stderr`). `None` for one item and where a value is not finite.
    pub standard_error: Option<f64>,
    /// Cluster-robust standard error, as in [`paired`]. `None` for one cluster and where a value is not finite.
    pub clustered_error: Option<f64>,
}

impl MeanWithError {
    /// The mean with Student's 95 % interval by clusters, as [`super::mean`] has it.
    pub fn estimate(&self) -> Estimate {
        let interval = |error: f64| Some(Interval::around(self.mean, error * student(self.clusters as usize - 1)?));
        Estimate { value: self.mean, interval: self.clustered_error.and_then(interval) }
    }
}

/// The mean of a lane's values, each with its cluster, and both standard errors. `None` without a value.
pub fn mean_with_error(values: &[(f64, Option<u64>)]) -> Option<MeanWithError> {
    let draws = draws(values.iter().copied());
    let (mean, clustered_error) = mean_and_error(&draws)?;
    let plain: Vec<f64> = values.iter().map(|value| value.0).collect();
    Some(MeanWithError {
        items: values.len() as u64,
        clusters: draws.len() as u64,
        mean,
        standard_error: independent_error(&plain),
        clustered_error,
    })
}

/// The plain mean over tasks, each with the same weight: difference, and standard error `sqrt(sum se^2) / n` of independent
/// tasks. p and interval are normal. Where tasks have degrees of freedom, they are of Student's t with Satterthwaite's degrees
/// (1946, "An approximate distribution of estimates of variance components"; Welch's test for two tasks), as five clusters are
/// not many. [`paired`]'s precautions hold: the interval is made of the tasks' intervals, and p is at least `2^(1 - k)`. One task
/// is itself. `None` without a task.
pub fn macro_mean(tasks: &[Paired]) -> Option<Paired> {
    let [_, _, ..] = tasks else {
        return tasks.first().copied();
    };
    let count = tasks.len() as f64;
    let sum = |of: fn(&Paired) -> u64| tasks.iter().map(of).sum::<u64>();
    let sum_known = |of: fn(&Paired) -> Option<u64>| tasks.iter().map(of).sum::<Option<u64>>();
    // The root of summed squares by the number of tasks.
    let joined = |of: fn(&Paired) -> Option<f64>| {
        let squares: Option<f64> = tasks.iter().map(|task| of(task).map(|error| error * error)).sum();
        squares.map(|squares| squares.sqrt() / count).filter(|error| error.is_finite())
    };
    let value = tasks.iter().map(|task| task.difference.value).sum::<f64>() / count;
    let (standard_error, wide) = (joined(|task| task.standard_error), joined(Paired::interval_error));
    let degrees = satterthwaite(tasks);
    let differing = sum(|task| task.differing);
    let interval = wide.and_then(|error| Some(Interval::around(value, error * critical(degrees)?)));
    Some(Paired {
        items: sum(|task| task.items),
        clusters: sum(|task| task.clusters),
        differing,
        only_reference: sum_known(|task| task.only_reference),
        only_lane: sum_known(|task| task.only_lane),
        difference: Estimate { value, interval: interval.filter(|i| i.low.is_finite() && i.high.is_finite()) },
        standard_error,
        degrees,
        p_value: standard_error.map_or(1.0, |error| p_value(value, error, degrees, differing)),
        test: PairedTest::MacroMean,
    })
}

/// Degrees of freedom of a sum of tasks: `(sum v)^2 / sum (v^2 / degrees)` of their variances. `None` where all are normal.
fn satterthwaite(tasks: &[Paired]) -> Option<f64> {
    // With standard errors of 0 the variances of intervals still say which task weighs most.
    let variance = |task: &Paired| task.interval_error().map_or(0.0, |error| error * error);
    let total: f64 = tasks.iter().map(variance).sum();
    let spent: f64 = tasks.iter().filter_map(|task| Some((variance(task) / total).powi(2) / task.degrees?)).sum();
    Some(1.0 / spent).filter(|degrees| degrees.is_finite() && *degrees > 0.0)
}

/// Holm's step-down p-values of one family of tests (1979, "A simple sequentially rejective multiple test procedure"), in the
/// order given: the i-th smallest of m times `m - i + 1`, at least the one before it, at most 1. Rejecting those below a level
/// keeps the chance of any false rejection below it, however the tests depend on each other. What is not a number counts as 1.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let known: Vec<f64> = p_values.iter().map(|&p| if p.is_nan() { 1.0 } else { p.clamp(0.0, 1.0) }).collect();
    let mut order: Vec<usize> = (0..known.len()).collect();
    order.sort_by(|&a, &b| known[a].total_cmp(&known[b]));
    let mut adjusted = vec![1.0; known.len()];
    let mut largest: f64 = 0.0;
    for (rank, &place) in order.iter().enumerate() {
        largest = largest.max((known.len() - rank) as f64 * known[place]).min(1.0);
        adjusted[place] = largest;
    }
    adjusted
}

#[cfg(test)]
mod tests;
