//! `H = U D U^T` of a symmetric matrix, `U` upper triangular with ones on its diagonal, in the order in which columns are
//! rounded. The error of a row of weights, `e H e^T`, is then the sum over columns of `D_k (e_k + sum_{j<k} e_j U_jk)^2`: each
//! column can be rounded knowing the errors of those before it, and no inverse is needed. (GPTQ, Frantar et al. 2023, takes the
//! same decomposition of the inverse.)
//!
//! Sums are in one order whatever the threads, and nothing is fused, so that every machine finds the same bits.

use std::ops::Range;

use rayon::prelude::*;

/// Columns that are eliminated together.
const PANEL: usize = 64;
/// Columns of a row that are updated together: they stay in the processor's nearest cache.
const TILE: usize = 512;
/// The share of a column that must be left when the columns behind it explained the rest.
const LEAST: f64 = 1e-6;

/// A factored second moment.
#[derive(Debug, Clone)]
pub struct Factor {
    /// The columns in the order in which they are rounded.
    pub order: Vec<u32>,
    /// `[K, K]` in that order, row-major; only what is right of the diagonal counts.
    pub upper: Vec<f32>,
    /// `[K]`, all above 0.
    pub diagonal: Vec<f32>,
}

impl Factor {
    /// Factors `moment` (`[K, K]`, its columns as `order` has them, both halves filled); `None` where it is not positive
    /// definite.
    pub fn new(mut moment: Vec<f32>, order: Vec<u32>) -> Option<Self> {
        let n = order.len();
        let mut diagonal: Vec<f32> = (0..n).map(|i| moment[i * n + i]).collect();
        let mut end = n;
        while end > 0 {
            let first = end.saturating_sub(PANEL);
            eliminate(&mut moment, n, first..end, &mut diagonal)?;
            update(&mut moment, n, first..end, &diagonal);
            end = first;
        }
        Some(Self { order, upper: moment, diagonal })
    }
}

/// The last columns that are left: their part of `U`, above and right of the diagonal, and of `D`.
fn eliminate(moment: &mut [f32], n: usize, panel: Range<usize>, diagonal: &mut [f32]) -> Option<()> {
    let width = panel.len();
    // What is smaller is rounding. The diagonal of the matrix itself stood there before.
    let least: Vec<f64> = diagonal[panel.clone()].iter().map(|&h| LEAST * f64::from(h)).collect();
    // In f64: what is left after thousands of products may be small beside them.
    // The half left of the diagonal is not kept up to date: there it is the other half's mirror.
    let at = |i: usize, k: usize| f64::from(if k < i { moment[k * n + i] } else { moment[i * n + k] });
    let mut columns: Vec<f64> = (0..panel.end).flat_map(|i| panel.clone().map(move |k| at(i, k))).collect();
    for k in (0..width).rev() {
        let (above, own) = columns.split_at_mut((panel.start + k) * width);
        let d = own[k];
        if !(d.is_finite() && d > least[k]) {
            return None;
        }
        diagonal[panel.start + k] = d as f32;
        let own: Vec<f64> = own[..k].iter().map(|h| h / d).collect();
        above.par_chunks_mut(64 * width).for_each(|rows| {
            for row in rows.chunks_exact_mut(width) {
                let h = row[k];
                row[k] = h / d;
                for (left, own) in row[..k].iter_mut().zip(&own) {
                    *left -= h * own;
                }
            }
        });
    }
    for (i, row) in columns.chunks_exact(width).enumerate() {
        for (k, &u) in row.iter().enumerate().filter(|(k, _)| panel.start + k > i) {
            moment[i * n + panel.start + k] = u as f32;
        }
    }
    Some(())
}

/// Takes what the panel explains from the columns before it. Only what is on and right of the diagonal is kept.
fn update(moment: &mut [f32], n: usize, panel: Range<usize>, diagonal: &[f32]) {
    let (end, width) = (panel.start, panel.len());
    // [panel, before]: what was found, turned, and the same times D.
    let mut turned = vec![0.0f32; width * end];
    for i in 0..end {
        for (k, &u) in moment[i * n..][panel.clone()].iter().enumerate() {
            turned[k * end + i] = u;
        }
    }
    moment[..end * n].par_chunks_mut(n).enumerate().for_each(|(i, row)| {
        let factors: Vec<f32> = (0..width).map(|k| row[panel.start + k] * diagonal[panel.start + k]).collect();
        let mut at = i;
        while at < end {
            let to = (at + TILE).min(end);
            let out = &mut row[at..to];
            for (k, &factor) in factors.iter().enumerate() {
                for (out, &u) in out.iter_mut().zip(&turned[k * end + at..k * end + to]) {
                    *out -= factor * u;
                }
            }
            at = to;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;

    fn moment(n: usize, rows: usize) -> Vec<f32> {
        let mut random = SplitMix64::new(9);
        let x: Vec<f64> = (0..rows * n).map(|_| random.unit() - 0.3).collect();
        let sum = |i: usize, j: usize| (0..rows).map(|r| x[r * n + i] * x[r * n + j]).sum::<f64>();
        (0..n * n).map(|at| sum(at / n, at % n) as f32).collect()
    }

    #[test]
    fn the_factors_are_the_matrix_again() {
        let n = 150;
        let h = moment(n, 400);
        let factor = Factor::new(h.clone(), (0..n as u32).collect()).unwrap();
        let u = |i: usize, k: usize| match i.cmp(&k) {
            std::cmp::Ordering::Less => f64::from(factor.upper[i * n + k]),
            std::cmp::Ordering::Equal => 1.0,
            std::cmp::Ordering::Greater => 0.0,
        };
        for i in 0..n {
            for j in 0..n {
                let product: f64 = (0..n).map(|k| u(i, k) * f64::from(factor.diagonal[k]) * u(j, k)).sum();
                let expected = f64::from(h[i * n + j]);
                assert!(
                    (product - expected).abs() < 1e-4 * f64::from(h[i * n + i].max(h[j * n + j])),
                    "{i} {j}: {product} {expected}"
                );
            }
        }
    }

    #[test]
    fn a_matrix_without_full_rank_is_not_factored() {
        assert!(Factor::new(moment(40, 10), (0..40).collect()).is_none());
        assert!(Factor::new(vec![f32::NAN; 4], vec![0, 1]).is_none());
        assert!(Factor::new(vec![0.0; 4], vec![0, 1]).is_none());
    }

    #[test]
    fn threads_change_no_bit() {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Factor::new(moment(200, 300), (0..200).collect()).unwrap().upper)
        };
        assert_eq!(run(1), run(3));
    }
}
