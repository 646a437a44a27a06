//! How far decoding in one arithmetic is from f32, on text that the model makes itself: what a speed in that arithmetic costs.

use bitworth_engine::backend::{Arithmetic, Backend};
use bitworth_engine::generate::Generator;
use bitworth_engine::model::Variant;
use bitworth_quant::progress::Unit;
use bitworth_quant::random::SplitMix64;

use crate::Watch;
use crate::error::{Error, Result};

/// How far next-token distributions are from those in f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Divergence {
    /// Distributions that were compared.
    pub tokens: usize,
    /// Mean KL divergence from f32, in nats per token.
    pub kld: f64,
    /// Share of them with the same likeliest token.
    pub same_top: f64,
}

/// Decodes `tokens` tokens in `arithmetic` and in f32, each behind the same text: drawn from the model in f32 at temperature 1,
/// from the token `start` on, the same for every call.
///
/// # Errors
/// A model that cannot be opened twice, no tokens, a device that fails, an interruption.
pub fn divergence<B: Backend>(
    backend: &B,
    model: &Variant,
    arithmetic: Arithmetic,
    (start, tokens): (u32, usize),
    watch: Watch<'_>,
) -> Result<Divergence> {
    let mut exact = Generator::with_arithmetic(backend, model, Arithmetic::F32, tokens, 1)?;
    let mut other = Generator::with_arithmetic(backend, model, arithmetic, tokens, 1)?;
    let mut random = SplitMix64::new(0);
    let (mut token, mut sum, mut same) = (start, 0.0, 0);
    watch.progress.start(tokens as u64, Unit::Items, "comparing arithmetics");
    for _ in 0..tokens {
        if watch.stopped() {
            return Err(Error::interrupted());
        }
        let [p, q] = [exact.logits(0, &[token])?, other.logits(0, &[token])?].map(|logits| log_softmax(&logits));
        sum += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        same += usize::from(likeliest(&p) == likeliest(&q));
        token = drawn(&p, random.unit());
        watch.progress.advance(1);
    }
    watch.progress.finish();
    let count = tokens.max(1) as f64;
    // Of equal distributions rounding may leave a little less than nothing.
    Ok(Divergence { tokens, kld: (sum / count).max(0.0), same_top: same as f64 / count })
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum();
    let log_sum = max + sum.ln();
    logits.iter().map(|&logit| f64::from(logit) - log_sum).collect()
}

/// The first of the largest.
fn likeliest(log_p: &[f64]) -> usize {
    (1..log_p.len()).fold(0, |best, i| if log_p[i] > log_p[best] { i } else { best })
}

/// The token at which the probabilities, added up, exceed `at`.
fn drawn(log_p: &[f64], at: f64) -> u32 {
    let mut sum = 0.0;
    let found = log_p.iter().position(|log_p| {
        sum += log_p.exp();
        sum > at
    });
    found.unwrap_or_else(|| likeliest(log_p)) as u32
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use bitworth_engine::cpu::Cpu;
    use bitworth_quant::Checkpoint;
    use bitworth_quant::progress::Silent;

    use super::*;
    use crate::models;

    #[test]
    fn f32_is_not_apart_from_itself_and_q8_is_near_where_weights_are_integers() {
        let dir = tempfile::tempdir().unwrap();
        bitworth_eval::demo::materialize(dir.path()).unwrap();
        let checkpoint = Arc::new(Checkpoint::open(&dir.path().join("demo-model")).unwrap());
        let (cpu, stop) = (Cpu::new(), AtomicBool::new(false));
        let of = |model: &Variant, arithmetic| {
            divergence(&cpu, model, arithmetic, (1, 40), Watch { progress: &Silent, stop: &stop }).unwrap()
        };
        let floats = Variant::Stored(checkpoint.clone());
        let none = Divergence { tokens: 40, kld: 0.0, same_top: 1.0 };
        assert_eq!(Arithmetic::ALL.map(|arithmetic| of(&floats, arithmetic)), [none; 2]);
        let integers = models::candidate(&checkpoint, "@q4_0", None, Watch { progress: &Silent, stop: &stop }).unwrap().variant;
        assert_eq!(of(&integers, Arithmetic::F32), none);
        // Half a step of 127 in each activation. The likeliest token says little here: the demo's world often leaves two alike.
        let near = of(&integers, Arithmetic::Q8);
        assert!(near.kld > 0.0 && near.kld < 0.01 && near.same_top <= 1.0, "{near:?}");
    }

    #[test]
    fn tokens_are_drawn_where_the_sum_passes() {
        let log_p = [0.25f64, 0.5, 0.25].map(f64::ln);
        assert_eq!([0.0, 0.2, 0.3, 0.74, 0.76, 0.999].map(|at| drawn(&log_p, at)), [0, 0, 1, 1, 2, 2]);
        assert_eq!(likeliest(&log_p), 1);
    }
}
