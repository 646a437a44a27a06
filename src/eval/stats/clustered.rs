//! Means over tokens that come in sequences, and what is made from them: perplexity, bits per byte, top-1 agreement.

use super::{Estimate, Interval, proportion, student};

/// One sequence: the sum of a quantity over its tokens, and how many they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cluster {
    /// Sum over the tokens.
    pub sum: f64,
    /// Number of tokens.
    pub count: u64,
}

/// Mean over all tokens, with an interval that takes each sequence as one draw: the ratio estimator `m = sum s / sum n` with the
/// cluster-robust variance `G / (G - 1) * sum (s_g - m n_g)^2 / (sum n)^2` (Cochran 1977, Sampling Techniques, 6.3; finite
/// population correction left out) and Student's t with G - 1 degrees. With sequences of equal length this is Student's
/// interval of the sequence means. `None` without any token.
pub fn mean(clusters: &[Cluster]) -> Option<Estimate> {
    let (value, error) = mean_and_error(clusters)?;
    let interval = error.and_then(|e| Some(Interval::around(value, e * student(filled(clusters) - 1)?)));
    Some(Estimate { value, interval })
}

/// Perplexity: exp of the mean negative log-likelihood (in nats), its interval the exp of the mean's.
pub fn perplexity(nll: &[Cluster]) -> Option<Estimate> {
    Some(mean(nll)?.map(libm::exp))
}

/// Bits per byte: the clusters hold the negative log-likelihood in nats and the number of *bytes* that it covers.
pub fn bits_per_byte(nll_over_bytes: &[Cluster]) -> Option<Estimate> {
    Some(mean(nll_over_bytes)?.map(|nats| nats / std::f64::consts::LN_2))
}

/// Difference of two perplexities on the same sequences. The interval is the delta method's, paired: that of the mean of
/// `ppl nll - ppl_ref nll_ref`, around the difference. `None` without any token, or for clusters that do not match.
pub fn perplexity_difference(nll: &[Cluster], reference: &[Cluster]) -> Option<Estimate> {
    let same = nll.len() == reference.len() && nll.iter().zip(reference).all(|(a, b)| a.count == b.count);
    let (own, other) = (perplexity(nll)?.value, perplexity(reference).filter(|_| same)?.value);
    let pairs = nll.iter().zip(reference).map(|(a, b)| Cluster { sum: own * a.sum - other * b.sum, count: a.count });
    let linear = mean(&pairs.collect::<Vec<_>>())?;
    let value = own - other;
    Some(Estimate { value, interval: linear.interval.map(|i| i.map(|end| end - linear.value + value)) })
}

/// Share of tokens (clusters hold the matching ones and all). The interval is Wilson's at the effective number of tokens
/// `p (1 - p) / se^2` (Kish 1965; Korn and Graubard 1998), at most the real number, with Student's t as its critical value: it
/// stays within 0 and 1 and keeps a width where all tokens agree.
pub fn agreement(clusters: &[Cluster]) -> Option<Estimate> {
    let (share, error) = mean_and_error(clusters)?;
    let tokens: f64 = clusters.iter().map(|c| c.count as f64).sum();
    let interval = error.and_then(|error| {
        let effective = share * (1.0 - share) / (error * error);
        let effective = if effective.is_finite() && effective > 0.0 { effective.min(tokens) } else { tokens };
        Some(proportion::wilson_at(share, effective, student(filled(clusters) - 1)?))
    });
    Some(Estimate { value: share, interval })
}

/// The ratio estimator and its cluster-robust standard error, the latter only from two sequences on and for finite sums.
pub(super) fn mean_and_error(clusters: &[Cluster]) -> Option<(f64, Option<f64>)> {
    let total: f64 = clusters.iter().map(|c| c.count as f64).sum();
    if total == 0.0 {
        return None;
    }
    let value = clusters.iter().map(|c| c.sum).sum::<f64>() / total;
    let groups = filled(clusters) as f64;
    let squares: f64 = clusters.iter().map(|c| (c.sum - value * c.count as f64).powi(2)).sum();
    let error = (groups > 1.0).then(|| (groups / (groups - 1.0) * squares).sqrt() / total);
    Some((value, error.filter(|e| e.is_finite())))
}

/// Sequences that have tokens.
fn filled(clusters: &[Cluster]) -> usize {
    clusters.iter().filter(|c| c.count > 0).count()
}

#[cfg(test)]
mod tests {
    use super::super::test_help::near;
    use super::*;

    // The expected numbers come from NumPy/SciPy: the formulas above written with arrays, scipy.stats.t.ppf for t; for clusters
    // of equal size, scipy.stats.t.interval of the cluster means.

    fn clusters(sums: &[f64], counts: &[u64]) -> Vec<Cluster> {
        sums.iter().zip(counts).map(|(&sum, &count)| Cluster { sum, count }).collect()
    }

    #[track_caller]
    fn check(actual: Option<Estimate>, value: f64, low: f64, high: f64) {
        let actual = actual.unwrap();
        near(actual.value, value);
        near(actual.low().unwrap(), low);
        near(actual.high().unwrap(), high);
    }

    #[test]
    fn sequences_of_equal_length_give_students_interval_of_their_means() {
        let c = clusters(&[8.75, 5.25, 14.0, 10.5, 3.5], &[7; 5]);
        check(mean(&c), 1.2, 0.4588919587333463, 1.9411080412666535);
    }

    const SUMS: [f64; 4] = [10.0, 6.5, 3.0, 8.25];
    const COUNTS: [u64; 4] = [8, 5, 4, 6];

    #[test]
    fn sequences_of_unequal_length_give_the_cluster_robust_interval() {
        check(mean(&clusters(&SUMS, &COUNTS)), 1.2065217391304348, 0.8602942836990826, 1.552749194561787);
    }

    #[test]
    fn empty_sequences_change_nothing() {
        let mut c = clusters(&SUMS, &COUNTS);
        c.push(Cluster { sum: 0.0, count: 0 });
        assert_eq!(mean(&c), mean(&clusters(&SUMS, &COUNTS)));
    }

    #[test]
    fn perplexity_is_exp_of_mean_and_ends() {
        check(perplexity(&clusters(&SUMS, &COUNTS)), 3.3418406203355935, 2.363856235714583, 4.724440751934721);
    }

    #[test]
    fn a_difference_of_perplexities_is_paired() {
        let (own, other) = (clusters(&SUMS, &COUNTS), clusters(&[9.0, 6.25, 3.5, 7.0], &COUNTS));
        check(perplexity_difference(&own, &other), 0.2783186727065874, -0.38441954315873117, 0.941056888571906);
        assert_eq!(perplexity_difference(&own, &own).unwrap().interval, Some(Interval { low: 0.0, high: 0.0 }));
        assert_eq!(perplexity_difference(&own, &clusters(&SUMS, &[8, 5, 4, 7])), None);
    }

    #[test]
    fn one_nat_over_one_byte_is_one_over_ln_2_bits() {
        near(bits_per_byte(&clusters(&[3.0, 1.0], &[2, 2])).unwrap().value, 1.0 / std::f64::consts::LN_2);
    }

    #[test]
    fn one_sequence_has_a_mean_but_no_interval() {
        assert_eq!(mean(&clusters(&[3.0], &[2])), Some(Estimate { value: 1.5, interval: None }));
        assert_eq!(agreement(&clusters(&[1.0], &[2])), Some(Estimate { value: 0.5, interval: None }));
    }

    #[test]
    fn an_infinite_sum_gives_an_infinite_mean_and_no_interval() {
        let c = clusters(&[3.0, f64::INFINITY], &[2, 2]);
        assert_eq!(mean(&c), Some(Estimate { value: f64::INFINITY, interval: None }));
    }

    #[test]
    fn no_token_no_mean() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&clusters(&[0.0], &[0])), None);
    }

    #[test]
    fn agreement_is_wilsons_interval_at_the_effective_number_of_tokens() {
        let c = clusters(&[120.0, 118.0, 126.0, 127.0], &[128; 4]);
        check(agreement(&c), 0.958984375, 0.8638579097208329, 0.9885260324893917);
        // Sequences that agree with each other better than chance do not count as more tokens than there are.
        check(agreement(&clusters(&[1.0, 1.0, 2.0, 1.0], &[2; 4])), 0.625, 0.18662466472361577, 0.9237021180513085);
        // All or nothing within a sequence: four sequences weigh no more than three tokens.
        check(agreement(&clusters(&[5.0, 0.0, 5.0, 0.0], &[5; 4])), 0.5, 0.060830275920097376, 0.9391697240799026);
    }

    #[test]
    fn full_agreement_still_has_a_width() {
        check(agreement(&clusters(&[128.0; 4], &[128; 4])), 1.0, 0.9806025243333136, 1.0);
    }
}
