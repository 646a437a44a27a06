//! How far decoding in one arithmetic is from f32, on text that the model makes itself: what a speed in that arithmetic costs.

use bitworth_engine::backend::{Arithmetic, Backend};
use bitworth_engine::generate::Generator;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::{self, Lane, Sequence, SweepLimits};
use bitworth_quant::progress::Unit;
use bitworth_quant::random::SplitMix64;
use bitworth_text::tokenizer::Tokenizer;
use serde::Serialize;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::generation::draw;
use crate::{Watch, on_device};

/// Tokens that arithmetics are compared on.
const COMPARED: usize = 128;

/// How far next-token distributions are from those in f32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArithmeticDivergence {
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
) -> Result<ArithmeticDivergence> {
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
    Ok(ArithmeticDivergence { tokens: pairs.len(), kld, same_top })
}

/// How far the decoding of a model is from that in f32.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FromF32 {
    /// The model's name.
    pub model: String,
    /// What it is decoded in.
    pub arithmetic: Arithmetic,
    /// See [`ArithmeticDivergence::tokens`].
    pub tokens: usize,
    /// See [`ArithmeticDivergence::kld`].
    pub kld: f64,
    /// See [`ArithmeticDivergence::same_top`].
    pub same_top: f64,
}

impl FromF32 {
    /// The same for people.
    pub fn sentence(&self) -> String {
        let Self { model, arithmetic, tokens, kld, same_top } = self;
        let (name, percent) = (arithmetic.name(), 100.0 * same_top);
        format!(
            "{model}: decoding in {name} is {kld:.5} nats a token from f32 (KL divergence over {tokens} tokens of the model's \
             own), with the same likeliest token in {percent:.1} %"
        )
    }
}

/// The [`divergence`] of every lane in the arithmetic `asked`, or else the device's own for decoding; `None` where that is f32.
///
/// # Errors
/// As [`divergence`].
pub fn from_f32(device: &Device, lanes: &[Lane], asked: Option<Arithmetic>, watch: Watch<'_>) -> Result<Option<Vec<FromF32>>> {
    let arithmetic = on_device!(device, backend => asked.unwrap_or_else(|| backend.decoding_arithmetic()));
    if arithmetic == Arithmetic::F32 {
        return Ok(None);
    }
    let one = |Lane { name, variant, .. }: &Lane| {
        // A model of random weights has no tokenizer.
        let start = Tokenizer::new(variant.checkpoint()).ok().and_then(|tokenizer| tokenizer.prefix()).unwrap_or(0);
        let tokens = (COMPARED + 1).min(sweep::longest_sequence(variant.hparams()));
        let ArithmeticDivergence { tokens, kld, same_top } =
            on_device!(device, backend => divergence(backend, variant, arithmetic, (start, tokens), watch))?;
        Ok(FromF32 { model: name.clone(), arithmetic, tokens, kld, same_top })
    };
    lanes.iter().map(one).collect::<Result<Vec<_>>>().map(Some)
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
        let none = ArithmeticDivergence { tokens: 100, kld: 0.0, same_top: 1.0 };
        assert_eq!(Arithmetic::ALL.map(|arithmetic| of(&floats, arithmetic)), [none; 2]);
        let integers = models::candidate(&checkpoint, "@q4_0", None, watch).unwrap().variant;
        assert_eq!(of(&integers, Arithmetic::F32), none);
        let near = of(&integers, Arithmetic::Q8);
        assert!(near.kld > 0.0 && near.kld < 0.01 && near.same_top > 0.9, "{near:?}");
        assert!(divergence(&cpu, &floats, Arithmetic::F32, (0, 1), watch).is_err());
        let (device, lanes) = (Device::Cpu(Cpu::new()), [models::candidate(&checkpoint, "@q4_0", None, watch).unwrap()]);
        assert_eq!(from_f32(&device, &lanes, Some(Arithmetic::F32), watch).unwrap(), None);
        let found = from_f32(&device, &lanes, Some(Arithmetic::Q8), watch).unwrap().unwrap();
        assert_eq!((found[0].model.as_str(), found[0].tokens), (lanes[0].name.as_str(), COMPARED));
        assert!(found[0].sentence().contains(": decoding in q8 is 0.00"), "{}", found[0].sentence());
    }
}
