//! One choice: a model under a recipe on a machine, with what it needs, how fast it is forecast to be and what it costs in
//! quality. Values only; `rank` compares them, `advisor` makes them.

use serde::Serialize;

pub use super::memory::FitVerdict;
use super::quality::{Loss, RangedValue, scores};
use super::speed::Forecast;

/// What a choice takes of a machine's memory, bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Room {
    /// The verdict.
    pub fit: FitVerdict,
    /// Weights, KV cache and buffers at the context asked for.
    pub needed: u64,
    /// What the machine gives as it comes.
    pub usable: u64,
    /// What it gives with its limit raised, where it has one.
    pub raised: Option<u64>,
    /// The largest context that fits, with the limit raised where there is one; 0 for none.
    pub largest_context: u32,
    /// How the limit is raised, where that is what it takes.
    pub remedy: Option<String>,
}

/// A model under a recipe on a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// The model's name.
    pub model: String,
    /// The recipe's name.
    pub recipe: String,
    /// The machine's name.
    pub machine: String,
    /// Tokens of context that the model was trained for; 0 where that is not known.
    pub trained_context: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bits per weight.
    pub bpw: f64,
    /// Memory.
    pub room: Room,
    /// Making tokens, with half of the context filled.
    pub decode: Forecast,
    /// Taking in a prompt of half the context; `None` where nobody says how fast the machine computes.
    pub prefill: Option<Forecast>,
    /// What the recipe costs.
    pub loss: Loss,
    /// Share of right answers in the task that compares models: measured, or expected where the model has a score.
    pub accuracy: Option<RangedValue>,
}

impl Choice {
    /// Whether it fits, be it with a raised limit.
    pub fn fits(&self) -> bool {
        self.room.fit != FitVerdict::DoesNotFit
    }

    /// Decoding speed times the share of what the model knows beyond guessing that the recipe leaves, tokens per second.
    pub fn worth(&self) -> f64 {
        self.decode.tps * scores::kept(self.loss.kld.value)
    }

    /// `llama-3-70b q4_k_m`.
    pub fn title(&self) -> String {
        format!("{} {}", self.model, self.recipe)
    }
}

#[cfg(test)]
pub(super) mod sample {
    //! Choices for tests, by the figures that matter there.

    use super::*;
    use crate::quality::Basis;

    fn value(value: f64) -> RangedValue {
        RangedValue { value, low: value, high: value, basis: Basis::Published, source: "test".into() }
    }

    /// A choice that fits, with a range of 10 % around `tps`.
    pub fn choice(machine: &str, model: &str, recipe: &str, tps: f64, kld: f64, accuracy: Option<f64>) -> Choice {
        let room = Room {
            fit: FitVerdict::Fits,
            needed: 10 << 30,
            usable: 20 << 30,
            raised: None,
            largest_context: 16384,
            remedy: None,
        };
        Choice {
            model: model.into(),
            recipe: recipe.into(),
            machine: machine.into(),
            trained_context: 16384,
            bytes: 9,
            bpw: 4.5,
            room,
            decode: Forecast { tps, low: 0.9 * tps, high: 1.1 * tps },
            prefill: Some(Forecast { tps: 30.0 * tps, low: 20.0 * tps, high: 40.0 * tps }),
            loss: Loss { kld: value(kld), ppl_ratio: None, top1: None },
            accuracy: accuracy.map(value),
        }
    }

    /// The same, too large.
    pub fn too_large(choice: Choice, largest_context: u32) -> Choice {
        let room = Room { fit: FitVerdict::DoesNotFit, needed: 30 << 30, largest_context, ..choice.room };
        Choice { room, ..choice }
    }
}
