//! Where the values of a quantity lie: the percentiles that llama-perplexity prints, and the correlation of two quantities.

use serde::Serialize;

use super::quantile;

/// Smallest, largest, and percentiles of a quantity over all scored tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[allow(missing_docs)] // `p001` is the 0.1 % quantile, `p01` that of 1 %, `p999` that of 99.9 %.
pub struct Distribution {
    pub min: f64,
    pub p001: f64,
    pub p01: f64,
    pub p05: f64,
    pub p10: f64,
    pub p25: f64,
    pub median: f64,
    pub p75: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Distribution {
    /// The distribution of these values, in any order; `None` without a value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |fraction| quantile(&sorted, fraction);
        Some(Self {
            min: at(0.0)?,
            p001: at(0.001)?,
            p01: at(0.01)?,
            p05: at(0.05)?,
            p10: at(0.1)?,
            p25: at(0.25)?,
            median: at(0.5)?,
            p75: at(0.75)?,
            p90: at(0.9)?,
            p95: at(0.95)?,
            p99: at(0.99)?,
            p999: at(0.999)?,
            max: at(1.0)?,
        })
    }

    /// Every value with its name and the share of values below it, the largest first.
    pub fn named(&self) -> [(&'static str, f64, f64); 13] {
        [
            ("max", 1.0, self.max),
            ("p999", 0.999, self.p999),
            ("p99", 0.99, self.p99),
            ("p95", 0.95, self.p95),
            ("p90", 0.9, self.p90),
            ("p75", 0.75, self.p75),
            ("median", 0.5, self.median),
            ("p25", 0.25, self.p25),
            ("p10", 0.1, self.p10),
            ("p05", 0.05, self.p05),
            ("p01", 0.01, self.p01),
            ("p001", 0.001, self.p001),
            ("min", 0.0, self.min),
        ]
    }
}

/// Pearson's correlation of pairs; `None` where one of the two does not vary, or is not finite.
pub fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let count = pairs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let product = |of: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|&(a, b)| of(a - x, b - y)).sum::<f64>();
    let r = product(&|a, b| a * b) / (product(&|a, _| a * a) * product(&|_, b| b * b)).sqrt();
    r.is_finite().then_some(r)
}

/// The standard error of the mean of independent values, `sqrt((mean(x^2) - mean(x)^2) / (n - 1))`, as llama-perplexity prints it
/// for tokens (tools/perplexity/perplexity.cpp). Tokens of a text are not independent: see [`super::mean`]. `None` for fewer than
/// two values and where one is not finite.
pub fn independent_error(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    Some((variance / (count - 1.0)).sqrt()).filter(|error| error.is_finite())
}

#[cfg(test)]
mod tests {
    use super::super::test_help::near;
    use super::*;

    const X: [f64; 7] = [0.5, -1.25, 3.0, 2.0, 0.0, 7.5, -4.0];
    const Y: [f64; 7] = [1.0, 0.25, 2.0, -2.0, 0.125, 6.0, -3.5];

    // numpy.quantile(X, [...]).
    #[test]
    fn percentiles_are_those_of_numpy_under_their_names() {
        let d = Distribution::of(X).unwrap();
        let expected = [
            (1.0, 7.5),
            (0.999, 7.472999999999999),
            (0.99, 7.229999999999998),
            (0.95, 6.149999999999997),
            (0.9, 4.800000000000002),
            (0.75, 2.5),
            (0.5, 0.5),
            (0.25, -0.625),
            (0.1, -2.3499999999999996),
            (0.05, -3.175),
            (0.01, -3.835),
            (0.001, -3.9835),
            (0.0, -4.0),
        ];
        for ((name, share, value), (expected_share, expected)) in d.named().into_iter().zip(expected) {
            near(share, expected_share);
            near(value, expected);
            let field = serde_json::to_value(d).unwrap()[name].as_f64();
            assert_eq!(field, Some(value), "{name}");
        }
        assert_eq!(Distribution::of([]), None);
    }

    // numpy.corrcoef(X, Y)[0, 1].
    #[test]
    fn correlation_is_that_of_numpy() {
        let pairs: Vec<_> = X.into_iter().zip(Y).collect();
        near(correlation(&pairs).unwrap(), 0.8645768471825648);
        near(correlation(&[(1.0, 2.0), (2.0, 0.0)]).unwrap(), -1.0);
        assert_eq!(correlation(&[(1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(correlation(&[]), None);
    }

    // scipy.stats.sem(X).
    #[test]
    fn the_error_of_independent_values_is_scipys_standard_error_of_the_mean() {
        near(independent_error(&X).unwrap(), 1.3669756577860455);
        assert_eq!(independent_error(&[1.0]), None);
        assert_eq!(independent_error(&[]), None);
        assert_eq!(independent_error(&[1.0, f64::INFINITY]), None);
    }
}
