//! How llama-perplexity keeps the log-probabilities of one row in 16 bits each (`log_softmax` of llama.cpp's
//! tools/perplexity/perplexity.cpp, b11434): the largest logit and what is up to 16 below it in 65535 equal steps, all others
//! as the smallest of these. What is absent: the file that the rows stand in.
//!
//! ```text
//! f32 scale | f32 min | u16 q[V] | a u16 of padding where V is odd          ln p[i] ~ scale * q[i] + min
//! ```

/// `u16`s that stand before the codes.
const PREFIX: usize = 4;
/// Log-probabilities reach this far below the largest, and count in a divergence where they are above minus this.
const REACH: f32 = 16.0;
/// What stands for the log-probability of a token that does not count: its probability is nothing beside the others', and the
/// number is small enough for differences from it to keep their digits in f32.
pub const NOTHING: f32 = -48.0;

/// `u16`s of a row of `vocab` codes.
pub const fn row_len(vocab: usize) -> usize {
    2 * vocab.div_ceil(2) + PREFIX
}

/// How the codes of a row are to be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CodeScale {
    /// The difference between neighbouring codes.
    pub scale: f32,
    /// The log-probability of code 0.
    pub min: f32,
}

impl CodeScale {
    /// From the beginning of a row; `None` where it is no scale of log-probabilities.
    pub fn of(row: [u8; 8]) -> Option<Self> {
        let [a, b, c, d, e, f, g, h] = row;
        let (scale, min) = (f32::from_le_bytes([a, b, c, d]), f32::from_le_bytes([e, f, g, h]));
        let this = Self { scale, min };
        // The largest log-probability is at most 0, but for roundings.
        let is_one = scale >= 0.0 && min.is_finite() && this.log_prob(u16::MAX) < 1e-3;
        is_one.then_some(this)
    }

    /// The log-probability of a code: two roundings, as without fused multiply-add.
    pub fn log_prob(self, code: u16) -> f32 {
        self.scale * f32::from(code) + self.min
    }

    /// The same, or [`NOTHING`] where llama-perplexity leaves the token out of a divergence.
    pub fn counted(self, code: u16) -> f32 {
        let log_prob = self.log_prob(code);
        if log_prob > -REACH { log_prob } else { NOTHING }
    }
}

/// Writes one row of logits `[V]` as [`row_len`] numbers. `None`, with `out` undefined, for logits whose softmax is no
/// numbers.
pub fn encode(logits: &[f32], out: &mut [u16]) -> Option<()> {
    let mut max = f32::NEG_INFINITY;
    let mut min = f32::INFINITY;
    for &logit in logits {
        max = max.max(logit);
        min = min.min(logit);
    }
    let min = min.max(max - REACH);
    // One after the other, as llama.cpp adds them: the sum decides the last bit of `min_log_prob`.
    let sum: f64 = logits.iter().map(|&logit| f64::from(libm::expf(logit - max))).sum();
    let log_sum = libm::log(sum) as f32;
    let min_log_prob = min - max - log_sum;
    if !min_log_prob.is_finite() {
        return None;
    }
    let scale = (max - min) / 65535.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let (prefix, codes) = out.split_at_mut(PREFIX);
    let [a, b] = [scale.to_bits(), min_log_prob.to_bits()];
    prefix.copy_from_slice(&[a as u16, (a >> 16) as u16, b as u16, (b >> 16) as u16]);
    for (code, &logit) in codes.iter_mut().zip(logits) {
        *code = if logit > min { (inverse * (logit - min)).round_ties_even() as u16 } else { 0 };
    }
    codes[logits.len()..].fill(0);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The formula in f64: scale, smallest log-probability, and codes before they are rounded.
    fn naive(logits: &[f32]) -> (f64, f64, Vec<f64>) {
        let logits: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let min = logits.iter().copied().fold(f64::INFINITY, f64::min).max(max - 16.0);
        let log_sum = logits.iter().map(|l| (l - max).exp()).sum::<f64>().ln();
        let scale = (max - min) / 65535.0;
        let codes = logits.iter().map(|l| if scale == 0.0 { 0.0 } else { (l.max(min) - min) / scale }).collect();
        (scale, min - max - log_sum, codes)
    }

    fn decoded(row: &[u16]) -> CodeScale {
        let bytes: Vec<u8> = row[..4].iter().flat_map(|v| v.to_le_bytes()).collect();
        CodeScale::of(bytes.try_into().unwrap()).unwrap()
    }

    fn check(logits: &[f32]) {
        let mut row = vec![7; row_len(logits.len())];
        encode(logits, &mut row).unwrap();
        let (scale, min, codes) = naive(logits);
        let ours = decoded(&row);
        assert!((f64::from(ours.scale) - scale).abs() <= 1e-6 * scale, "{ours:?} {scale}");
        assert!((f64::from(ours.min) - min).abs() <= 1e-6 * min.abs().max(1.0), "{ours:?} {min}");
        for (i, (&code, exact)) in row[4..].iter().zip(&codes).enumerate() {
            // The four roundings of f32 move a value by less than 0.02 codes.
            assert!((f64::from(code) - exact).abs() <= 0.52, "token {i}: {code} {exact}");
        }
        assert_eq!(row.len() % 2, 0);
        assert!(row[4 + logits.len()..].iter().all(|&padding| padding == 0));
    }

    proptest! {
        #[test]
        fn rows_are_those_of_the_formula(logits in prop::collection::vec(-60.0f32..60.0, 1..300)) {
            check(&logits);
        }

        #[test]
        fn flat_rows_are_those_of_the_formula(logits in prop::collection::vec(-0.01f32..0.01, 2..300)) {
            check(&logits);
        }

        /// llama.cpp rounds by adding 1.5 * 2^23 and taking the low bits.
        #[test]
        fn rounding_is_that_of_the_magic_number(value in 0.0f32..65535.4) {
            let bits = (value + 12_582_912.0).to_bits() as i32;
            prop_assert_eq!((bits & 0x007f_ffff) - 0x0040_0000, i32::from(value.round_ties_even() as u16));
        }

        #[test]
        fn a_decoded_row_is_within_half_a_step(logits in prop::collection::vec(-15.0f32..0.0, 2..300)) {
            let mut row = vec![0; row_len(logits.len())];
            encode(&logits, &mut row).unwrap();
            let scale = decoded(&row);
            let log_sum = logits.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
            for (&logit, &code) in logits.iter().zip(&row[4..]) {
                let error = f64::from(scale.log_prob(code)) - (f64::from(logit) - log_sum);
                prop_assert!(error.abs() <= 0.5 * f64::from(scale.scale) + 4e-6);
            }
        }
    }

    #[test]
    fn all_equal_logits_have_no_scale() {
        let mut row = vec![7; row_len(3)];
        encode(&[2.5; 3], &mut row).unwrap();
        let scale = decoded(&row);
        assert_eq!((scale.scale, &row[4..]), (0.0, &[0; 4][..]));
        assert!((scale.log_prob(0) + 3f32.ln()).abs() < 1e-6);
    }

    #[test]
    fn what_is_far_below_is_kept_as_16_below_and_counts_for_nothing() {
        let mut row = vec![0; row_len(3)];
        encode(&[0.0, -15.0, f32::NEG_INFINITY], &mut row).unwrap();
        let scale = decoded(&row);
        assert_eq!((row[4], row[6]), (65535, 0));
        assert!((scale.log_prob(row[6]) + 16.0).abs() < 1e-5);
        assert_eq!(scale.counted(row[6]), NOTHING);
        assert!((scale.counted(row[5]) + 15.0).abs() < 1e-3);
    }

    #[test]
    fn logits_that_are_no_numbers_are_none() {
        let mut row = vec![0; row_len(3)];
        for bad in [f32::NAN, f32::INFINITY] {
            assert_eq!(encode(&[0.0, bad, 1.0], &mut row), None);
        }
        assert_eq!(encode(&[f32::NEG_INFINITY; 3], &mut row), None);
        assert_eq!(encode(&[f32::NAN; 3], &mut row), None);
    }

    #[test]
    fn a_scale_that_is_none_is_refused() {
        let of = |scale: f32, min: f32| CodeScale::of([scale.to_le_bytes(), min.to_le_bytes()].concat().try_into().unwrap());
        assert!(of(0.0, -3.0).is_some());
        for (scale, min) in [
            (0.0, 1.0),
            (f32::NAN, 0.0),
            (-1.0, 0.0),
            (f32::INFINITY, 0.0),
            (1e-3, 0.0),
            (1.0, f32::NAN),
            (1.0, f32::NEG_INFINITY),
        ] {
            assert_eq!(of(scale, min), None);
        }
    }
}
