//! The Pareto front: which points no other point beats; and what counts as no divergence at all. Pure.

/// Mean KL divergences below this, in nats per token, count as 0: 32-bit logits round by about 1e-7 of their size, so that a
/// lossless copy of a model measures up to some 1e-8, now and then below 0 (the demo model in F16: -5e-10).
pub const ROUNDING: f64 = 1e-6;

/// A mean divergence as a cost: without what is only rounding (see [`ROUNDING`]).
pub fn divergence_cost(mean: f64) -> f64 {
    if mean < ROUNDING { 0.0 } else { mean }
}

/// For every point (two costs, less is better) whether it lies on the front: no other point is at most as large in both costs and
/// smaller in one. Equal points stand or fall together; a point with a cost that is not a number is never on it.
pub fn front(costs: &[(f64, f64)]) -> Vec<bool> {
    let on_front = |p: &(f64, f64)| !p.0.is_nan() && !p.1.is_nan() && !costs.iter().any(|q| beats(&[q.0, q.1], &[p.0, p.1]));
    costs.iter().map(on_front).collect()
}

/// Whether `a` costs at most as much as `b` everywhere and less somewhere.
pub fn beats(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b) && a.iter().zip(b).any(|(a, b)| a < b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(costs: &[(f64, f64)], expected: &[bool]) {
        assert_eq!(front(costs), expected);
    }

    #[test]
    fn a_point_that_another_beats_is_not_on_the_front() {
        check(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0), (3.0, 2.0), (2.5, 2.5)], &[true, true, true, false, false]);
    }

    #[test]
    fn less_in_one_cost_at_the_same_other_is_enough() {
        check(&[(1.0, 1.0), (1.0, 2.0), (2.0, 1.0)], &[true, false, false]);
    }

    #[test]
    fn equal_points_share_the_front() {
        check(&[(1.0, 1.0), (1.0, 1.0), (0.5, 2.0)], &[true, true, true]);
    }

    #[test]
    fn rounding_is_no_divergence() {
        assert_eq!([-5e-10, 0.0, 9e-7, 1e-6, 0.5].map(divergence_cost), [0.0, 0.0, 0.0, 1e-6, 0.5]);
        assert!(divergence_cost(f64::NAN).is_nan());
    }

    #[test]
    fn what_is_not_a_number_is_not_on_the_front_and_beats_nothing() {
        check(&[(f64::NAN, 0.0), (1.0, 1.0), (f64::INFINITY, 0.5)], &[false, true, true]);
        check(&[], &[]);
    }
}
