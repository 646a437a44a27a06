//! Proportions of independent items: Wilson's interval, and the paired difference of two accuracies on the same items.

use serde::Serialize;
use statrs::distribution::{Binomial, DiscreteCDF};

use super::{Estimate, Interval, normal};

/// `successes` of `trials` with Wilson's score interval (Wilson 1927). `None` without a trial.
pub fn wilson(successes: u64, trials: u64) -> Option<Estimate> {
    if trials == 0 {
        return None;
    }
    let share = successes as f64 / trials as f64;
    Some(Estimate { value: share, interval: Some(wilson_at(share, trials as f64, normal())) })
}

/// Wilson's interval of a share of `trials` (which need not be whole) at a critical value.
pub(super) fn wilson_at(share: f64, trials: f64, critical: f64) -> Interval {
    let c2 = critical * critical / trials;
    let centre = (share + c2 / 2.0) / (1.0 + c2);
    let half = (c2 * (share * (1.0 - share) + c2 / 4.0)).sqrt() / (1.0 + c2);
    let Interval { low, high } = Interval::around(centre, half);
    // In exact arithmetic the ends at 0 and 1 are exact; rounding must not push them past the share itself.
    Interval { low: low.clamp(0.0, share), high: high.clamp(share, 1.0) }
}

/// Two models on the same items.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairedAccuracy {
    /// Items.
    pub items: u64,
    /// Items that only the first got right.
    pub only_first: u64,
    /// Items that only the second got right.
    pub only_second: u64,
    /// Accuracy of the first less that of the second, with its interval.
    pub difference: Estimate,
    /// Exact two-sided p of McNemar's test that both are equally good.
    pub p_value: f64,
}

/// Compares two models by the items that one got right and the other wrong. The interval is that of Agresti and Min (2005,
/// "Simple improved confidence intervals for comparing matched proportions"): Wald's with half an item added to each of
/// the four cells, so that it keeps a width where no item differs. The p-value is exact: the binomial test on the items that
/// differ (McNemar 1947). `None` without an item.
pub fn paired_accuracy(pairs: &[(bool, bool)]) -> Option<PairedAccuracy> {
    let items = pairs.len() as u64;
    if items == 0 {
        return None;
    }
    let count = |wanted: (bool, bool)| pairs.iter().filter(|pair| **pair == wanted).count() as u64;
    let (only_first, only_second) = (count((true, false)), count((false, true)));
    let (n, b, c) = (items as f64 + 2.0, only_first as f64 + 0.5, only_second as f64 + 0.5);
    let centre = (b - c) / n;
    let error = ((b + c) - (b - c).powi(2) / n).sqrt() / n;
    let difference = Estimate {
        value: (only_first as f64 - only_second as f64) / items as f64,
        interval: Some(Interval::around(centre, normal() * error)),
    };
    Some(PairedAccuracy { items, only_first, only_second, difference, p_value: mcnemar(only_first, only_second) })
}

/// Twice the smaller tail of the binomial with p = 1/2, at most 1.
fn mcnemar(only_first: u64, only_second: u64) -> f64 {
    match Binomial::new(0.5, only_first + only_second) {
        Ok(flips) => (2.0 * flips.cdf(only_first.min(only_second))).min(1.0),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_help::near;
    use super::*;

    // scipy.stats.binomtest(k, n).proportion_ci(method='wilson').
    #[track_caller]
    fn check_wilson(successes: u64, trials: u64, low: f64, high: f64) {
        let e = wilson(successes, trials).unwrap();
        near(e.value, successes as f64 / trials as f64);
        near(e.low().unwrap(), low);
        near(e.high().unwrap(), high);
    }

    #[test]
    fn wilsons_interval_is_that_of_scipy() {
        check_wilson(279, 300, 0.8953639895740667, 0.9537630551728237);
        check_wilson(250, 250, 0.9848667005045555, 1.0);
        check_wilson(0, 10, 0.0, 0.27753279986288926);
        check_wilson(8, 100, 0.04109346148438061, 0.14998107700948735);
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn the_ends_hold_the_share_itself() {
        for n in 1..200 {
            for k in [0, n] {
                let e = wilson(k, n).unwrap();
                assert!(e.interval.unwrap().contains(e.value), "{k} of {n}: {e:?}");
            }
        }
    }

    fn pairs(items: usize, only_first: usize, only_second: usize) -> Vec<(bool, bool)> {
        let mut pairs = vec![(true, true); items - only_first - only_second];
        pairs.extend(vec![(true, false); only_first]);
        pairs.extend(vec![(false, true); only_second]);
        pairs
    }

    // p: scipy.stats.binomtest(only_first, only_first + only_second).pvalue; the interval: the formula above in NumPy.
    #[track_caller]
    fn check_pair(items: usize, only_first: usize, only_second: usize, ends: (f64, f64), p: f64) {
        let r = paired_accuracy(&pairs(items, only_first, only_second)).unwrap();
        near(r.difference.value, (only_first as f64 - only_second as f64) / items as f64);
        near(r.difference.low().unwrap(), ends.0);
        near(r.difference.high().unwrap(), ends.1);
        near(r.p_value, p);
    }

    #[test]
    fn paired_accuracies_have_agresti_and_mins_interval_and_mcnemars_p() {
        check_pair(250, 3, 9, (-0.05169767889984888, 0.004078631280801263), 0.14599609375);
        check_pair(100, 0, 0, (-0.019215333181765236, 0.019215333181765236), 1.0);
        check_pair(40, 10, 2, (0.032388638431370353, 0.3485637425210106), 0.03857421875);
    }

    #[test]
    fn mcnemars_p_is_that_of_scipy() {
        near(mcnemar(0, 6), 0.03125);
        near(mcnemar(12, 40), 0.0001275387838557407);
        near(mcnemar(5, 5), 1.0);
        assert_eq!(paired_accuracy(&[]), None);
    }
}
