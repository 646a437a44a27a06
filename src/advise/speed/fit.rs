//! The most probable constants of a formula given measurements: Levenberg-Marquardt on the posterior, with normal priors of the
//! effects and Student's t (4 degrees of freedom) for the measurements, so that a wrong row does not bend the others (Lange,
//! Little & Taylor 1989, "Robust Statistical Modeling Using the t Distribution").

use std::collections::BTreeMap;

use super::case::Case;
use super::formula::{Effect, SpeedFormula};

/// Degrees of freedom of the measurements' t distribution.
const NU: f64 = 4.0;

/// Most steps. The fits here take 10 to 30.
const STEPS: usize = 60;

/// Values of effects by name. An effect that is absent has its prior's mean.
pub type Values = BTreeMap<String, f64>;

/// A measurement: a case and the logarithm of the seconds it took.
#[derive(Debug, Clone, Copy)]
pub struct Measurement<'a> {
    /// What was measured.
    pub case: &'a Case,
    /// Natural logarithm of the seconds.
    pub log_seconds: f64,
}

/// The logarithm of the seconds of a case under fitted values.
pub fn predict(phase: &SpeedFormula, values: &Values, case: &Case) -> f64 {
    let mut slots = vec![0.0; phase.slots];
    for effect in (phase.effects)(case) {
        slots[effect.slot] += effect.weight * values.get(&effect.name).copied().unwrap_or(effect.mean);
    }
    (phase.log_seconds)(case, &slots)
}

/// One measurement with its effects as indices of unknowns.
struct DesignRow<'a> {
    measured: Measurement<'a>,
    effects: Vec<(usize, usize, f64)>,
}

/// The unknowns: names and priors.
#[derive(Default)]
struct Unknowns {
    index: BTreeMap<String, usize>,
    mean: Vec<f64>,
    sd: Vec<f64>,
}

impl Unknowns {
    fn index(&mut self, effect: &Effect) -> usize {
        *self.index.entry(effect.name.clone()).or_insert_with(|| {
            self.mean.push(effect.mean);
            self.sd.push(effect.sd);
            self.mean.len() - 1
        })
    }
}

/// What is fitted: measurements of one phase, and the unknowns in them.
struct Problem<'a> {
    phase: &'a SpeedFormula,
    rows: Vec<DesignRow<'a>>,
    unknowns: Unknowns,
}

/// Where the fit stands: the constants, their cost, and how much the next step is damped.
struct Point {
    values: Vec<f64>,
    cost: f64,
    damping: f64,
}

/// Fits a phase to measurements.
pub fn fit(phase: &SpeedFormula, data: &[Measurement<'_>]) -> Values {
    let mut unknowns = Unknowns::default();
    let rows: Vec<DesignRow<'_>> = data
        .iter()
        .map(|&measured| {
            let effects = (phase.effects)(measured.case);
            DesignRow { measured, effects: effects.iter().map(|e| (e.slot, unknowns.index(e), e.weight)).collect() }
        })
        .collect();
    let values = unknowns.mean.clone();
    let problem = Problem { phase, rows, unknowns };
    let cost = problem.cost(&values);
    let mut point = Point { values, cost, damping: 1e-3 };
    for _ in 0..STEPS {
        if problem.step(&mut point).is_none_or(|gain| gain < 1e-6) {
            break;
        }
    }
    problem.unknowns.index.into_iter().map(|(name, i)| (name, point.values[i])).collect()
}

impl Problem<'_> {
    /// Takes a step that lowers the cost, and says by how much; `None` where there is none.
    fn step(&self, point: &mut Point) -> Option<f64> {
        let (matrix, gradient) = self.normal_equations(&point.values);
        let n = point.values.len();
        for _ in 0..12 {
            let mut damped = matrix.clone();
            for i in 0..n {
                damped[i * n + i] *= 1.0 + point.damping;
            }
            let direction = solve(damped, gradient.clone())?;
            // The constants are logarithms: no step changes one by more than a factor of two.
            let next: Vec<f64> = point.values.iter().zip(&direction).map(|(v, d)| v + d.clamp(-0.7, 0.7)).collect();
            let gain = point.cost - self.cost(&next);
            if gain > 0.0 {
                *point = Point { values: next, cost: point.cost - gain, damping: (point.damping / 5.0).max(1e-9) };
                return Some(gain);
            }
            point.damping *= 5.0;
        }
        None
    }

    fn slots(&self, row: &DesignRow<'_>, values: &[f64]) -> Vec<f64> {
        let mut slots = vec![0.0; self.phase.slots];
        for &(slot, index, weight) in &row.effects {
            slots[slot] += weight * values[index];
        }
        slots
    }

    /// Twice the negative logarithm of the posterior, up to a constant.
    fn cost(&self, values: &[f64]) -> f64 {
        let Self { phase, rows, unknowns } = self;
        let square = |row: &DesignRow<'_>| {
            let forecast = (phase.log_seconds)(row.measured.case, &self.slots(row, values));
            let z = (row.measured.log_seconds - forecast) / phase.sigma;
            (NU + 1.0) * libm::log1p(z * z / NU)
        };
        let likelihood: f64 = rows.iter().map(square).sum();
        let prior: f64 = values.iter().zip(&unknowns.mean).zip(&unknowns.sd).map(|((v, m), sd)| ((v - m) / sd).powi(2)).sum();
        if likelihood.is_finite() { likelihood + prior } else { f64::INFINITY }
    }

    /// The matrix (row-major, symmetric) and the right side of the Gauss-Newton step.
    fn normal_equations(&self, values: &[f64]) -> (Vec<f64>, Vec<f64>) {
        const H: f64 = 1e-5;
        let Self { phase, rows, unknowns } = self;
        let n = values.len();
        let (mut matrix, mut right) = (vec![0.0; n * n], vec![0.0; n]);
        for row in rows {
            let case = row.measured.case;
            let mut slots = self.slots(row, values);
            let residual = row.measured.log_seconds - (phase.log_seconds)(case, &slots);
            let by_slot: Vec<f64> = (0..phase.slots)
                .map(|s| {
                    let centre = slots[s];
                    slots[s] = centre + H;
                    let above = (phase.log_seconds)(case, &slots);
                    slots[s] = centre - H;
                    let below = (phase.log_seconds)(case, &slots);
                    slots[s] = centre;
                    (above - below) / (2.0 * H)
                })
                .collect();
            let z = residual / phase.sigma;
            let weight = (NU + 1.0) / (NU + z * z) / (phase.sigma * phase.sigma);
            for &(slot, i, factor) in &row.effects {
                let di = by_slot[slot] * factor;
                right[i] += weight * di * residual;
                for &(other, j, times) in &row.effects {
                    matrix[i * n + j] += weight * di * by_slot[other] * times;
                }
            }
        }
        for i in 0..n {
            let precision = unknowns.sd[i].powi(-2);
            matrix[i * n + i] += precision;
            right[i] -= (values[i] - unknowns.mean[i]) * precision;
        }
        (matrix, right)
    }
}

/// The dot product in eight sums side by side, which the compiler turns into vectors: one sum waits for each addition.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Solves a symmetric positive definite system (row-major) by Cholesky's decomposition; `None` if it is not one.
pub(super) fn solve(mut matrix: Vec<f64>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let n = right.len();
    for i in 0..n {
        for j in 0..=i {
            let (head, tail) = matrix.split_at(i * n);
            let row_j = if j == i { &tail[..j] } else { &head[j * n..j * n + j] };
            let sum = tail[j] - dot(&tail[..j], row_j);
            matrix[i * n + j] = if i == j {
                if sum <= 0.0 || !sum.is_finite() {
                    return None;
                }
                sum.sqrt()
            } else {
                sum / matrix[j * n + j]
            };
        }
    }
    for i in 0..n {
        let sum: f64 = (0..i).map(|k| matrix[i * n + k] * right[k]).sum();
        right[i] = (right[i] - sum) / matrix[i * n + i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| matrix[k * n + i] * right[k]).sum();
        right[i] = (right[i] - sum) / matrix[i * n + i];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speed::formula::DECODE;
    use crate::speed::tests::case;

    #[test]
    fn a_positive_definite_system_is_solved_and_another_refused() {
        let x = solve(vec![4.0, 2.0, 2.0, 3.0], vec![10.0, 8.0]).unwrap();
        assert!((x[0] - 1.75).abs() < 1e-12 && (x[1] - 1.5).abs() < 1e-12, "{x:?}");
        assert_eq!(solve(vec![1.0, 2.0, 2.0, 1.0], vec![1.0, 1.0]), None);
    }

    #[test]
    fn without_measurements_the_prior_speaks() {
        let case = case();
        assert_eq!(fit(&DECODE, &[]), Values::new());
        let seconds = predict(&DECODE, &Values::new(), &case).exp();
        assert!(seconds > case.bytes / case.bandwidth, "{seconds}");
    }

    #[test]
    fn a_known_machine_is_found_again_and_one_wrong_row_does_not_bend_it() {
        // Truth: 70 % of the bandwidth, 50 us a layer.
        let cases: Vec<Case> =
            (1..=12).map(|i| Case { bytes: 1e9 * f64::from(i), weights: 2e9 * f64::from(i), ..case() }).collect();
        let truth = |c: &Case| (c.bytes / (c.bandwidth * 0.7) + c.layers * 50e-6).ln();
        let mut data: Vec<Measurement<'_>> = cases.iter().map(|case| Measurement { case, log_seconds: truth(case) }).collect();
        let clean = fit(&DECODE, &data);
        data[5].log_seconds += 2.0;
        let bent = fit(&DECODE, &data);
        for case in &cases {
            let (right, kept) = (predict(&DECODE, &clean, case), predict(&DECODE, &bent, case));
            assert!((right - truth(case)).abs() < 0.05, "{} {}", right, truth(case));
            assert!((kept - right).abs() < 0.1, "{kept} {right}");
        }
    }
}
