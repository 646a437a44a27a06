//! The middle and the spread of a few repeated measurements, without a model of how they are distributed.

use serde::Serialize;

use super::quantile;

/// What repetitions of one measurement say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Median absolute deviation from the median, unscaled.
    pub mad: f64,
    /// Arithmetic mean, for comparison with tools that report it.
    pub mean: f64,
    /// Sample standard deviation (divided by n - 1), as llama-bench has it; 0 for a single value.
    pub std_dev: f64,
}

impl Spread {
    /// The spread of `values`, in any order; `None` where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = quantile(&sorted, 0.5)?;
        let mut deviations: Vec<f64> = sorted.iter().map(|v| (v - median).abs()).collect();
        deviations.sort_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / n;
        let squares: f64 = sorted.iter().map(|v| (v - mean) * (v - mean)).sum();
        Some(Self {
            median,
            min: *sorted.first()?,
            max: *sorted.last()?,
            mad: quantile(&deviations, 0.5)?,
            mean,
            std_dev: (squares / (n - 1.0).max(1.0)).sqrt(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_outlier_moves_the_mean_and_not_the_median() {
        let s = Spread::of(&[3.0, 1.0, 2.0, 4.0, 100.0]).unwrap();
        assert_eq!((s.median, s.min, s.max, s.mad, s.mean), (3.0, 1.0, 100.0, 1.0, 22.0));
        assert!((s.std_dev - 43.617656975128774).abs() < 1e-12, "statistics.stdev of Python: {}", s.std_dev);
    }

    #[test]
    fn one_value_has_no_spread_and_none_no_middle() {
        let s = Spread::of(&[7.0]).unwrap();
        assert_eq!((s.median, s.mad, s.std_dev), (7.0, 0.0, 0.0));
        assert_eq!(Spread::of(&[]), None);
    }
}
