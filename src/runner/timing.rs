//! Speeds as llama-bench means them: prefill of a prompt, and decoding one token after the other, behind an optional depth of
//! earlier tokens. The same fixed token ids for every model; what they are does not change the work.

use std::time::Instant;

use anyhow::{Result, bail};

use super::Watch;
use quant::progress::Unit;

use crate::engine::backend::Backend;
use crate::engine::error::EngineError;
use crate::engine::generate::Generator;
use crate::engine::model::Variant;
use crate::engine::sweep;
use crate::eval::record::{Phase, Speed};

/// What to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// Tokens of a prompt; 0 leaves prefill out.
    pub prompt: usize,
    /// Tokens to decode; 0 leaves decoding out.
    pub generate: usize,
    /// Tokens that stand in the cache before.
    pub depth: usize,
    /// Sequences decoded at once.
    pub batch: usize,
    /// How often, after one warm-up that is not counted.
    pub repetitions: usize,
}

impl Workload {
    /// Most sequences at once, and most repetitions.
    const MOST: usize = 1 << 12;

    /// Whether a model with this context can do it.
    ///
    /// # Errors
    /// Nothing to do, more than anyone would wait for, or more tokens than the context holds.
    pub fn check(&self, context: usize) -> Result<()> {
        for (name, count) in [("batch", self.batch), ("repetitions", self.repetitions)] {
            if count == 0 || count > Self::MOST {
                bail!("{name} must lie between 1 and {}", Self::MOST);
            }
        }
        let tokens = self.prompt.max(self.generate);
        if tokens == 0 {
            bail!("nothing to time: prompt and generate are both 0");
        }
        if self.depth.saturating_add(tokens) > context {
            bail!("depth {} and {tokens} tokens do not fit the model's context of {context}", self.depth);
        }
        Ok(())
    }
}

/// Times one model.
///
/// # Errors
/// A workload longer than the model's context, a device that fails, an interruption.
pub fn measure<B: Backend>(backend: &B, variant: &Variant, load: Workload, watch: Watch<'_>) -> Result<Vec<Speed>> {
    load.check(sweep::longest_sequence(variant.hparams()))?;
    let (room, batch) = (load.depth + load.prompt.max(load.generate), load.batch);
    let vocab = variant.hparams().vocab_size as u32;
    let tokens: Vec<u32> = (0..room as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) % vocab).collect();
    let mut generator = Generator::new(backend, variant, room, batch)?;
    let mut speeds = Vec::new();
    watch.progress.start(load.repetitions as u64 + 1, Unit::Items, "timing");
    for repetition in 0..=load.repetitions {
        for phase in [Phase::Prefill, Phase::Decode] {
            let count = if phase == Phase::Prefill { load.prompt } else { load.generate };
            if count == 0 {
                continue;
            }
            if watch.stopped() {
                return Err(EngineError::Interrupted.into());
            }
            generator.clear();
            for index in 0..batch {
                generator.prefill(index, &tokens[..load.depth])?;
            }
            generator.synchronize()?;
            let begin = Instant::now();
            match phase {
                Phase::Prefill => (0..batch).try_for_each(|index| generator.prefill(index, &tokens[load.depth..][..count]))?,
                Phase::Decode => decode(&mut generator, batch, count)?,
            }
            generator.synchronize()?;
            if let Some(repetition) = repetition.checked_sub(1) {
                speeds.push(Speed {
                    phase,
                    tokens: (count * batch) as u32,
                    depth: load.depth as u32,
                    batch: batch as u32,
                    repetition: repetition as u32,
                    seconds: begin.elapsed().as_secs_f64(),
                    drifted: false,
                    joules: None,
                    footprint: Default::default(),
                });
            }
        }
        watch.progress.advance(1);
    }
    watch.progress.finish();
    Ok(speeds)
}

fn decode<B: Backend>(generator: &mut Generator<'_, B>, batch: usize, count: usize) -> Result<()> {
    let mut tokens = vec![1; batch];
    for _ in 0..count {
        tokens = generator.greedy_each(&tokens)?;
    }
    Ok(())
}
