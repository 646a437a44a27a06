//! Random weights: nearly normal, each a pure function of seed, tensor, row and column, so that they can be made in any
//! order, by any number of threads, anywhere. What is absent: tensors and their encodings.

use crate::arch::Role;
use crate::random::SplitMix64;
use crate::tensor::Tensor;

/// Mean and variance of the sum of four random bytes (Irwin-Hall): nearly normal, cut off at 3.45 standard deviations.
const BYTES_MEAN: f32 = 510.0;
const BYTES_VARIANCE: f64 = 21845.0;
/// How much the gains of norms differ from 1.
const GAIN_DEVIATION: f64 = 0.1;

/// What the weights of one tensor are drawn from.
pub(super) struct Distribution {
    key: u64,
    mean: f32,
    /// Standard deviation over that of the sum of four bytes.
    scale: f32,
}

impl Distribution {
    /// Gains near 1 for norms; factors near -1 where a state decays by their exponential, which must not let it grow; else a
    /// mean of 0 and a standard deviation of `1 / sqrt(columns)`, with which activations keep their size (0.022 for 2048
    /// columns, much like trained layers).
    pub(super) fn of(tensor: &Tensor, seed: u64) -> Self {
        use Role::{AttnNorm, FfnNorm, FfnNormUnsuffixed, OutputNorm, SsmA, TokenEmbdNorm};
        let (mean, deviation) = match tensor.role().map(|(role, _)| role) {
            Some(AttnNorm | FfnNorm | FfnNormUnsuffixed | OutputNorm | TokenEmbdNorm) => (1.0, GAIN_DEVIATION),
            Some(SsmA) => (-1.0, GAIN_DEVIATION),
            _ => (0.0, 1.0 / (tensor.cols() as f64).sqrt()),
        };
        let key = tensor.name.bytes().fold(mixed(seed), |key, byte| mixed(key ^ u64::from(byte)));
        Self { key, mean, scale: (deviation / BYTES_VARIANCE.sqrt()) as f32 }
    }

    /// Fills `out` with the weights of a row.
    pub(super) fn draw(&self, row: usize, out: &mut [f32]) {
        let key = mixed(self.key ^ row as u64);
        let keys = (key as u32, (key >> 32) as u32);
        for (column, weight) in (0u32..).zip(out) {
            *weight = self.mean + (sum_of_bytes(hash(column, keys)) as f32 - BYTES_MEAN) * self.scale;
        }
    }
}

/// Four random bytes: the rounds of Wellons' hash-prospector (`[16 21f0aaad 15 735a2d97 15]`), keyed before and within.
#[inline(always)]
fn hash(column: u32, keys: (u32, u32)) -> u32 {
    let mut h = column ^ keys.0;
    h = (h ^ h >> 16).wrapping_mul(0x21f0_aaad) ^ keys.1;
    h = (h ^ h >> 15).wrapping_mul(0x735a_2d97);
    h ^ h >> 15
}

/// From 0 to 1020.
#[inline(always)]
fn sum_of_bytes(x: u32) -> i32 {
    let pairs = (x & 0x00ff_00ff) + (x >> 8 & 0x00ff_00ff);
    ((pairs & 0xffff) + (pairs >> 16)) as i32
}

/// What a key becomes: the first number of its sequence.
fn mixed(key: u64) -> u64 {
    SplitMix64::new(key).bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType;

    fn distribution(name: &str, cols: usize) -> Distribution {
        Distribution::of(&Tensor { name: name.to_owned(), dtype: DType::F16, shape: vec![cols, 64] }, 7)
    }

    /// Mean, standard deviation and kurtosis.
    fn moments(weights: &[f32]) -> (f64, f64, f64) {
        let n = weights.len() as f64;
        let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / n;
        let central = |power| weights.iter().map(|&w| (f64::from(w) - mean).powi(power)).sum::<f64>() / n;
        (mean, central(2).sqrt(), central(4) / central(2).powi(2))
    }

    #[test]
    fn weights_are_nearly_normal() {
        for (name, cols, expected_mean, expected_deviation) in
            [("blk.0.ffn_up.weight", 2048, 0.0, 0.0221), ("blk.3.attn_norm.weight", 4096, 1.0, 0.1)]
        {
            let distribution = distribution(name, cols);
            let mut weights = vec![0.0; 64 * cols];
            weights.chunks_exact_mut(cols).enumerate().for_each(|(row, weights)| distribution.draw(row, weights));
            let (mean, deviation, kurtosis) = moments(&weights);
            assert!((mean - expected_mean).abs() < 0.01 * expected_deviation, "{name}: mean {mean}");
            assert!((deviation / expected_deviation - 1.0).abs() < 0.01, "{name}: deviation {deviation}");
            assert!((kurtosis - 2.7).abs() < 0.03, "{name}: kurtosis {kurtosis}"); // 3 - 1.2 / 4
        }
    }

    #[test]
    fn rows_tensors_and_columns_are_independent() {
        let row = |name, row| {
            let mut weights = vec![0.0; 8192];
            distribution(name, 8192).draw(row, &mut weights);
            weights
        };
        let correlation = |a: &[f32], b: &[f32]| {
            let product: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            (product / a.len() as f64 * 8192.0).abs()
        };
        let first = row("blk.0.ffn_up.weight", 0);
        let noise = 4.0 / 8192f64.sqrt();
        for other in [row("blk.0.ffn_up.weight", 1), row("blk.0.ffn_up.weight", 1 << 32), row("blk.1.ffn_up.weight", 0)] {
            assert!(correlation(&first, &other) < noise);
        }
        for shift in [1, 2, 3, 8, 64, 256] {
            assert!(correlation(&first[shift..], &first[..8192 - shift]) < noise, "shift {shift}");
        }
    }

    /// Expected values from the formulas written down again in another language.
    #[test]
    fn weights_are_what_the_formulas_say() {
        let mut weights = [0.0; 4];
        distribution("blk.0.ffn_up.weight", 4096).draw(49_999, &mut weights);
        assert_eq!(weights, [0.007_717_326_3, -0.009_831_662, -0.008_034_477, -0.043_661_036]);
    }

    #[test]
    fn the_sum_of_bytes_is_their_sum() {
        assert_eq!([0, u32::MAX, 0x0102_0304, 0xff00_00ff].map(sum_of_bytes), [0, 1020, 10, 510]);
    }
}
