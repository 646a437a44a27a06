//! How far one model's predictions are from the reference's, token by token: KL divergence and change of the target's
//! probability.

use serde::Serialize;

use super::{Cluster, Estimate, Interval, mean};

/// KL divergence from the reference over all scored tokens, in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Divergence {
    /// Mean with its interval, clustered by sequence.
    pub mean: Estimate,
    /// Median.
    pub median: f64,
    /// 90 % quantile.
    pub p90: f64,
    /// 99 % quantile.
    pub p99: f64,
    /// 99.9 % quantile.
    pub p99_9: f64,
    /// Largest value.
    pub max: f64,
}

/// Summarizes the KL divergences of the tokens of each sequence. `None` without a token.
pub fn divergence(sequences: &[&[f64]]) -> Option<Divergence> {
    let clusters: Vec<Cluster> = sequences.iter().map(|kld| Cluster { sum: kld.iter().sum(), count: kld.len() as u64 }).collect();
    let mut sorted = sequences.concat();
    sorted.sort_unstable_by(f64::total_cmp);
    Some(Divergence {
        mean: mean(&clusters).map(at_least_zero)?,
        median: quantile(&sorted, 0.5)?,
        p90: quantile(&sorted, 0.9)?,
        p99: quantile(&sorted, 0.99)?,
        p99_9: quantile(&sorted, 0.999)?,
        max: *sorted.last()?,
    })
}

/// A divergence is never below 0, and so is no end of its interval.
pub fn at_least_zero(mean: Estimate) -> Estimate {
    Estimate { interval: mean.interval.map(|i| Interval { low: i.low.max(0.0), high: i.high }), ..mean }
}

/// The value at `fraction * (n - 1)` of ascending values, linear between neighbours, as llama-perplexity prints its
/// percentiles (type 7 of Hyndman and Fan 1996). `None` without a value.
pub fn quantile(sorted: &[f64], fraction: f64) -> Option<f64> {
    let place = fraction.clamp(0.0, 1.0) * (sorted.len().checked_sub(1)? as f64);
    let below = place.floor() as usize;
    let low = *sorted.get(below)?;
    let high = *sorted.get(below + 1).unwrap_or(&low);
    let weight = place - below as f64;
    Some(if weight == 0.0 { low } else { low * (1.0 - weight) + high * weight })
}

/// Change of the probability of the token that came (candidate less reference), from -1 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeltaP {
    /// Mean change: below 0 the candidate is worse.
    pub mean: Estimate,
    /// Root of the mean squared change.
    pub rms: Estimate,
}

/// Summarizes the changes of probability from their sums and their sums of squares per sequence. `None` without a token.
pub fn delta_p(sums: &[Cluster], squares: &[Cluster]) -> Option<DeltaP> {
    let square = mean(squares)?;
    let interval = square.interval.map(|i| Interval { low: i.low.max(0.0).sqrt(), high: i.high.sqrt() });
    Some(DeltaP { mean: mean(sums)?, rms: Estimate { value: square.value.sqrt(), interval } })
}

#[cfg(test)]
mod tests {
    use super::super::test_help::near;
    use super::*;

    const VALUES: [f64; 11] = [0.5, 0.1, 0.0, 2.0, 0.3, 0.25, 0.7, 0.05, 1.0, 0.4, 0.15];

    // numpy.quantile(values, fraction), its default (linear).
    #[track_caller]
    fn check_quantile(fraction: f64, expected: f64) {
        let mut sorted = VALUES;
        sorted.sort_by(f64::total_cmp);
        near(quantile(&sorted, fraction).unwrap(), expected);
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        check_quantile(0.0, 0.0);
        check_quantile(0.5, 0.3);
        check_quantile(0.9, 1.0);
        check_quantile(0.99, 1.9);
        check_quantile(0.999, 1.99);
        check_quantile(1.0, 2.0);
    }

    #[test]
    fn no_value_no_quantile_and_one_value_is_every_quantile() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[3.0], 0.99), Some(3.0));
    }

    #[test]
    fn infinite_neighbours_do_not_spoil_a_quantile_beside_them() {
        assert_eq!(quantile(&[1.0, 2.0, f64::INFINITY], 0.5), Some(2.0));
    }

    #[test]
    fn divergence_is_of_all_tokens_whatever_their_sequence() {
        let d = divergence(&[&VALUES[..4], &VALUES[4..9], &VALUES[9..]]).unwrap();
        near(d.mean.value, 5.45 / 11.0);
        near(d.median, 0.3);
        near(d.p90, 1.0);
        near(d.p99, 1.9);
        near(d.p99_9, 1.99);
        near(d.max, 2.0);
        assert!(d.mean.interval.unwrap().contains(d.mean.value));
        assert_eq!(divergence(&[]), None);
        assert_eq!(divergence(&[&[]]), None);
    }

    #[test]
    fn delta_p_has_mean_and_root_mean_square() {
        // Changes -0.5, 0.5 | 0.25, 0.25.
        let clusters = |a: f64, b: f64| [Cluster { sum: a, count: 2 }, Cluster { sum: b, count: 2 }];
        let d = delta_p(&clusters(0.0, 0.5), &clusters(0.5, 0.125)).unwrap();
        near(d.mean.value, 0.125);
        near(d.rms.value, 0.15625_f64.sqrt());
        assert_eq!(d.rms.low(), Some(0.0));
    }
}
