//! A finer scale than right or wrong for items with choices: how much probability the right one has.

use serde::Serialize;

/// The scores of one item.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ChoiceScores {
    /// Natural logarithm of the right choice's probability among the choices; 0 is best.
    pub log_p_gold: f64,
    /// Brier's score (1950, "Verification of forecasts expressed in terms of probability"): the sum over all choices of the
    /// squared difference of probability and truth; 0 is best, 2 worst.
    pub brier: f64,
}

/// Scores the choices of an item from their log-probabilities, which need not sum to 1: the probability of a choice is its
/// softmax among them. `gold` is the place of the right one. `None` where there is no such choice, where a log-probability is not
/// a number or positive infinity, and where all are negative infinity.
pub fn choice_scores(logprobs: &[f64], gold: usize) -> Option<ChoiceScores> {
    let right = *logprobs.get(gold)?;
    let largest = logprobs.iter().copied().reduce(f64::max)?;
    if logprobs.iter().any(|l| l.is_nan()) || largest.is_infinite() {
        return None;
    }
    // The largest is taken out, so that no exponential overflows and their sum is at least 1.
    let sum: f64 = logprobs.iter().map(|l| libm::exp(l - largest)).sum();
    let term = |(place, l): (usize, &f64)| {
        let truth = if place == gold { 1.0 } else { 0.0 };
        (libm::exp(l - largest) / sum - truth).powi(2)
    };
    Some(ChoiceScores { log_p_gold: right - largest - libm::log(sum), brier: logprobs.iter().enumerate().map(term).sum() })
}

#[cfg(test)]
mod tests {
    use super::super::test_help::near;
    use super::*;

    // scipy.special.log_softmax(l)[gold] and ((softmax(l) - onehot) ** 2).sum().
    #[track_caller]
    fn check(logprobs: &[f64], gold: usize, log_p_gold: f64, brier: f64) {
        let scores = choice_scores(logprobs, gold).unwrap();
        near(scores.log_p_gold, log_p_gold);
        near(scores.brier, brier);
    }

    #[test]
    fn scores_are_those_of_scipys_softmax() {
        check(&[-1.5, -2.25, -0.75, -4.0], 2, -0.5505871064777274, 0.2704976014091563);
        check(&[-120.5, -118.25], 0, -2.350206558916747, 1.636785181316655);
        check(&[-3.0; 3], 1, -1.0986122886681098, 0.6666666666666667);
        check(&[-900.0, -1.0, -2.5, -1.25, -30.0], 0, -899.6941121864021, 1.4132810245938079);
    }

    #[test]
    fn an_impossible_choice_has_probability_zero() {
        check(&[f64::NEG_INFINITY, -2.0], 1, 0.0, 0.0);
        let scores = choice_scores(&[f64::NEG_INFINITY, -2.0], 0).unwrap();
        assert_eq!((scores.log_p_gold, scores.brier), (f64::NEG_INFINITY, 2.0));
        check(&[-7.5], 0, 0.0, 0.0);
    }

    #[test]
    fn what_has_no_softmax_has_no_scores() {
        assert_eq!(choice_scores(&[], 0), None);
        assert_eq!(choice_scores(&[-1.0, -2.0], 2), None);
        assert_eq!(choice_scores(&[-1.0, f64::NAN], 0), None);
        assert_eq!(choice_scores(&[f64::NAN, -1.0], 0), None);
        assert_eq!(choice_scores(&[-1.0, f64::INFINITY], 0), None);
        assert_eq!(choice_scores(&[f64::NEG_INFINITY; 2], 0), None);
    }
}
