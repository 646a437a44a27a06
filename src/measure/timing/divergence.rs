//! How far decoding in one arithmetic is from f32, on text that the model makes itself: what a speed in that arithmetic costs.

use bitworth_engine::backend::{Arithmetic, Backend};
use bitworth_engine::generate::Generator;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::{self, Lane, Sequence, SweepLimits};
use bitworth_quant::progress::Unit;
use bitworth_quant::random::SplitMix64;

use crate::Watch;
use crate::error::{Error, Result};
use crate::generation::draw;

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

/// Scores `tokens` tokens in `arithmetic` and in f32: a text drawn from the model in f32 at temperature 1, from the token `start`
/// on, the same for every call.
///
/// # Errors
/// A model that cannot be opened, fewer than two tokens, a device that fails, an interruption.
pub fn divergence<B: Backend>(
    backend: &B,
    model: &Variant,
    arithmetic: Arithmetic,
    (start, tokens): (u32, usize),
    watch: Watch<'_>,
) -> Result<Divergence> {
    if tokens < 2 {
        return Err(Error::unfit("a text of fewer than two tokens has nothing to compare"));
    }
    let said = drawn_text(backend, model, (start, tokens), watch)?;
    let lane = |arithmetic: Arithmetic| Lane { name: arithmetic.name().to_owned(), variant: model.clone(), arithmetic };
    let lanes = [lane(Arithmetic::F32), lane(arithmetic)];
    let text = [Sequence { scored: 0..said.len() - 1, tokens: said }];
    let scores = sweep::score(backend, &lanes, &text, SweepLimits::default(), watch.progress, watch.stop)?;
    let pairs: Vec<_> = scores[0][0].iter().zip(&scores[1][0]).collect();
    let count = pairs.len() as f64;
    let kld = pairs.iter().map(|(_, row)| row.kld).sum::<f64>() / count;
    let same_top = pairs.iter().filter(|(exact, row)| exact.argmax == row.argmax).count() as f64 / count;
    Ok(Divergence { tokens: pairs.len(), kld, same_top })
}

fn drawn_text<B: Backend>(backend: &B, model: &Variant, (start, tokens): (u32, usize), watch: Watch<'_>) -> Result<Vec<u32>> {
    let mut generator = Generator::new(backend, model, tokens, 1)?;
    let mut random = SplitMix64::new(0);
    let mut said = vec![start];
    watch.progress.start(tokens as u64, Unit::Items, "drawing a text to compare arithmetics on");
    while said.len() < tokens {
        if watch.stopped() {
            return Err(Error::interrupted());
        }
        let logits = generator.logits(0, &said[said.len() - 1..])?;
        said.push(draw(&logits, 1.0, 1.0, random.unit()));
        watch.progress.advance(1);
    }
    watch.progress.finish();
    Ok(said)
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
        let watch = Watch { progress: &Silent, stop: &stop };
        // The demo's texts begin with its token 0.
        let of = |model: &Variant, arithmetic| divergence(&cpu, model, arithmetic, (0, 101), watch).unwrap();
        let floats = Variant::Stored(checkpoint.clone());
        let none = Divergence { tokens: 100, kld: 0.0, same_top: 1.0 };
        assert_eq!(Arithmetic::ALL.map(|arithmetic| of(&floats, arithmetic)), [none; 2]);
        let integers = models::candidate(&checkpoint, "@q4_0", None, watch).unwrap().variant;
        assert_eq!(of(&integers, Arithmetic::F32), none);
        let near = of(&integers, Arithmetic::Q8);
        assert!(near.kld > 0.0 && near.kld < 0.01 && near.same_top > 0.9, "{near:?}");
        assert!(divergence(&cpu, &floats, Arithmetic::F32, (0, 1), watch).is_err());
    }
}
