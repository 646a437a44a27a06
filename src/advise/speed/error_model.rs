//! How far forecasts lie from the truth, learned from forecasts of rows that were left out of the fit: a scale of the error by
//! what is known of the case, and the quantiles of errors over that scale. Normalized conformal prediction (Papadopoulos et al.
//! 2002), with the scale as a regression of the logarithm under Laplace's distribution.

use serde::{Deserialize, Serialize};

use super::case::{Case, LlamaBackend};
use super::fit::{Values, solve};
use super::formula::SpeedFormula;

/// Share of truths that a range is to hold.
pub const SHARE: f64 = 0.8;

/// What the scale depends on, in the order of [`ErrorModel::scale`].
pub const FEATURES: [&str; 10] = [
    "always",
    "unknown machine",
    "unknown generation",
    "unknown model",
    "unknown type",
    "experts",
    "recurrent",
    "deep",
    "not CUDA or Metal",
    "before 2025",
];

/// Place of the feature of a type that nobody measured on a backend.
const UNKNOWN_TYPE: usize = 4;

/// Least logarithm of a range's ends for such a type: unscored figures of IQ types on Metal lay a third off and more, and the
/// rows left out, all of types that many tune, cannot say so.
const UNMEASURED: f64 = 0.3;

/// A left-out row: what is known of it, and the logarithm of seconds measured over seconds forecast.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// [`features`] of the case.
    pub features: [f64; FEATURES.len()],
    /// ln(measured / forecast) of the seconds.
    pub log_ratio: f64,
}

/// The features of a case, given what the fit knew.
pub fn features(phase: &SpeedFormula, values: &Values, case: &Case) -> [f64; FEATURES.len()] {
    let known = |word: &str| (phase.effects)(case).iter().any(|e| e.name.contains(word) && values.contains_key(&e.name));
    let flag = |condition: bool| f64::from(u8::from(condition));
    let deep = case.cache_bytes > 0.25 * case.bytes || case.attention > 0.5 * case.weights;
    [
        1.0,
        flag(!known(" machine=")),
        flag(!known(" generation=")),
        flag(!known(" shape=")),
        flag(!knows_type(phase, values, case)),
        flag(case.is_sparse()),
        flag(case.recurrent),
        flag(deep),
        flag(!matches!(case.backend, LlamaBackend::Cuda | LlamaBackend::Metal)),
        flag(case.year < 2025.0),
    ]
}

/// Whether the type of a case's weights was measured on its backend: kernels differ.
pub fn knows_type(phase: &SpeedFormula, values: &Values, case: &Case) -> bool {
    let of_type = |name: &str| name.contains(" type=") && name.contains(" backend=") && !name.contains("experts");
    (phase.effects)(case).iter().any(|e| of_type(&e.name) && values.contains_key(&e.name))
}

/// Ranges of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorModel {
    /// Coefficients of [`FEATURES`] for the logarithm of the error's scale.
    pub scale: Vec<f64>,
    /// Quantile of ln(measured / forecast) over the scale at (1 - [`SHARE`]) / 2.
    pub low: f64,
    /// The same at (1 + [`SHARE`]) / 2.
    pub high: f64,
}

impl ErrorModel {
    /// Learns scale and quantiles.
    pub fn learn(errors: &[Deviation]) -> Self {
        let scale = scale(errors);
        let mut ratios: Vec<f64> = errors.iter().map(|e| e.log_ratio / size(&scale, &e.features)).collect();
        ratios.sort_by(f64::total_cmp);
        let quantile = |at: f64| bitworth_eval::stats::quantile(&ratios, at).unwrap_or(0.0);
        Self { scale: scale.to_vec(), low: quantile((1.0 - SHARE) / 2.0), high: quantile((1.0 + SHARE) / 2.0) }
    }

    /// The range of ln(measured / forecast) of the seconds.
    pub fn range(&self, features: &[f64; FEATURES.len()]) -> (f64, f64) {
        let size = size(&self.scale, features);
        let least = UNMEASURED * features[UNKNOWN_TYPE];
        ((self.low * size).min(-least), (self.high * size).max(least))
    }
}

fn size(scale: &[f64], features: &[f64]) -> f64 {
    libm::exp(scale.iter().zip(features).map(|(b, x)| b * x).sum())
}

/// Newton's method on `sum(log s + |e| / s) + ridge`, with `log s` linear in the features: convex.
fn scale(errors: &[Deviation]) -> [f64; FEATURES.len()] {
    const N: usize = FEATURES.len();
    // A feature's effect is a factor of up to two or so; the first, the level, is free.
    const RIDGE: f64 = 4.0;
    let mut beta = [0.0; N];
    beta[0] = -2.0;
    for _ in 0..50 {
        let (mut matrix, mut right) = (vec![0.0; N * N], vec![0.0; N]);
        for error in errors {
            let ratio = error.log_ratio.abs() / size(&beta, &error.features);
            for i in 0..N {
                right[i] += (ratio - 1.0) * error.features[i];
                for j in 0..N {
                    matrix[i * N + j] += ratio * error.features[i] * error.features[j];
                }
            }
        }
        for i in 0..N {
            let ridge = if i == 0 { 1e-6 } else { RIDGE };
            matrix[i * N + i] += ridge;
            right[i] -= ridge * beta[i];
        }
        let Some(step) = solve(matrix, right) else { break };
        for (b, s) in beta.iter_mut().zip(&step) {
            *b += s.clamp(-0.5, 0.5);
        }
        if step.iter().all(|s| s.abs() < 1e-9) {
            break;
        }
    }
    beta
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors of two kinds: those with the feature are three times as large.
    fn errors() -> Vec<Deviation> {
        (0..400)
            .map(|i| {
                let sparse = i % 2 == 0;
                let mut features = [0.0; FEATURES.len()];
                (features[0], features[5]) = (1.0, f64::from(u8::from(sparse)));
                let uniform = (f64::from(i) * 0.618_033_988_75).fract() - 0.5;
                Deviation { features, log_ratio: uniform * if sparse { 0.6 } else { 0.2 } }
            })
            .collect()
    }

    #[test]
    fn ranges_hold_their_share_and_are_wider_where_errors_are() {
        let errors = errors();
        let spread = ErrorModel::learn(&errors);
        let within = errors
            .iter()
            .filter(|e| {
                let (low, high) = spread.range(&e.features);
                (low..=high).contains(&e.log_ratio)
            })
            .count();
        assert!((310..=330).contains(&within), "{within}");
        let width = |e: &Deviation| spread.range(&e.features).1;
        let ratio = width(&errors[0]) / width(&errors[1]);
        assert!((2.5..3.2).contains(&ratio), "{ratio}");
    }

    #[test]
    fn without_errors_there_is_no_range() {
        assert_eq!(ErrorModel::learn(&[]).range(&[0.0; FEATURES.len()]), (0.0, 0.0));
    }
}
