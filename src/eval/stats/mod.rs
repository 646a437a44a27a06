//! Statistics of a comparison: means with intervals clustered by sequence, proportions, paired differences, quantiles. Pure
//! functions of numbers; what is compared with what is the report's matter.
//!
//! All intervals are two-sided at 95 %. Tokens of one sequence are not independent, so everything that is counted per token is
//! clustered by sequence (Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640). Items of a task are taken as independent,
//! but for those that share a cluster in [`paired()`] and what is made from it.

mod choice;
mod clustered;
mod distribution;
mod divergence;
mod paired;
mod power;
mod proportion;
#[cfg(test)]
mod simulation;
mod spread;
mod verdict;

pub use choice::{ChoiceScores, choice_scores};
pub use clustered::{Cluster, agreement, bits_per_byte, mean, perplexity, perplexity_difference};
pub use distribution::{Distribution, correlation, independent_error};
pub use divergence::{DeltaP, Divergence, at_least_zero, delta_p, divergence, quantile};
pub use paired::{MeanWithError, Paired, PairedItem, PairedTest, holm, macro_mean, mean_with_error, paired};
pub use power::{detectable, items_for};
pub use proportion::{PairedAccuracy, paired_accuracy, wilson};
pub use spread::Spread;
pub use verdict::{LEVEL, POWER, Verdict, verdict};

use std::sync::OnceLock;

use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// The upper probability of a two-sided 95 % interval.
const UPPER: f64 = 0.975;

/// A range that holds the true value with 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies within, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    fn around(centre: f64, half: f64) -> Self {
        Self { low: centre - half, high: centre + half }
    }

    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self { low: f(self.low), high: f(self.high) }
    }
}

/// A measured value and, where the data allow one, its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its 95 % interval; `None` where a single cluster says nothing about the spread.
    pub interval: Option<Interval>,
}

impl Estimate {
    /// Value and interval through an increasing function.
    pub fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self { value: f(self.value), interval: self.interval.map(|i| i.map(&f)) }
    }

    /// Lower end of the interval.
    pub fn low(&self) -> Option<f64> {
        self.interval.map(|i| i.low)
    }

    /// Upper end of the interval.
    pub fn high(&self) -> Option<f64> {
        self.interval.map(|i| i.high)
    }
}

/// The 97.5 % point of Student's t distribution; `None` without a degree of freedom. It is searched for in some 10 microseconds,
/// and a report of many lanes asks for the same few a hundred thousand times: what was found is kept.
fn student(degrees: usize) -> Option<f64> {
    static KNOWN: [OnceLock<Option<f64>>; 4096] = [const { OnceLock::new() }; 4096];
    let find = || Some(StudentsT::new(0.0, 1.0, degrees as f64).ok()?.inverse_cdf(UPPER));
    KNOWN.get(degrees).map_or_else(find, |known| *known.get_or_init(find))
}

/// The 95 % interval of a value with a normal standard error.
pub fn normal_interval(value: f64, error: f64) -> Interval {
    Interval::around(value, normal() * error)
}

/// Student's 95 % interval of a mean with this standard error over that many clusters; `None` for one cluster.
pub fn student_interval(value: f64, error: f64, clusters: u64) -> Option<Interval> {
    let degrees = usize::try_from(clusters).ok()?.checked_sub(1)?;
    Some(Interval::around(value, error * student(degrees)?))
}

/// The 97.5 % point of the normal distribution.
fn normal() -> f64 {
    static KNOWN: OnceLock<f64> = OnceLock::new();
    *KNOWN.get_or_init(|| Normal::standard().inverse_cdf(UPPER))
}

#[cfg(test)]
pub(crate) mod test_help {
    /// Asserts equality to 9 significant digits, the accuracy of the quantile functions against SciPy's.
    #[track_caller]
    pub fn near(actual: f64, expected: f64) {
        let bound = 1e-9 * expected.abs().max(1e-3);
        assert!((actual - expected).abs() <= bound, "{actual} is not {expected}");
    }
}

#[cfg(test)]
mod tests {
    use super::test_help::near;
    use super::*;

    // scipy.stats.t.ppf(.975, n) and norm.ppf(.975), SciPy 1.x.
    #[test]
    fn critical_values_are_those_of_scipy() {
        near(student(1).unwrap(), 12.706204736174694);
        near(student(2).unwrap(), 4.302652729749462);
        near(student(3).unwrap(), 3.1824463052837078);
        near(student(10).unwrap(), 2.228138851986274);
        near(student(116).unwrap(), 1.9806260024590894);
        near(student(563).unwrap(), 1.9641865291611056);
        near(normal(), 1.959963984540054);
        assert_eq!(student(0), None);
        let interval = student_interval(1.0, 0.5, 11).unwrap();
        near(interval.high - 1.0, 0.5 * 2.228138851986274);
        near(1.0 - interval.low, 0.5 * 2.228138851986274);
        assert_eq!([0, 1].map(|clusters| student_interval(1.0, 0.5, clusters)), [None, None]);
    }
}
