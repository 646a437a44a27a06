//! What to time, and with which program.

use bitworth_quant::message::Message;
use serde::{Deserialize, Serialize};

use super::forms::{TomlTable, one_or_many};
use super::{default_ctx, default_true};
use crate::record;

/// A program whose speed is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// This one.
    Bitworth,
    /// llama.cpp's own, on the same files.
    LlamaBench,
}

impl Engine {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 2] = [(record::OWN_ENGINE, Self::Bitworth), ("llama-bench", Self::LlamaBench)];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, engine)| engine)
    }
}

/// Timings; see `bitworth_measure::timing::Workload`. Counts are one number or a list of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeedSpec {
    /// Tokens of prompts; 0 stands for none.
    #[serde(default = "default_prompt", deserialize_with = "one_or_many")]
    pub prompt: Vec<usize>,
    /// Tokens to decode; 0 stands for none.
    #[serde(default = "default_generate", deserialize_with = "one_or_many")]
    pub generate: Vec<usize>,
    /// Tokens that stand in the cache before, per sequence.
    #[serde(default = "default_depth", deserialize_with = "one_or_many")]
    pub depth: Vec<usize>,
    /// Sequences at once.
    #[serde(default = "default_batch", deserialize_with = "one_or_many")]
    pub batch: Vec<usize>,
    /// How often.
    #[serde(default = "default_repetitions")]
    pub repetitions: usize,
    /// Whether every test is done once before, uncounted.
    #[serde(default = "default_true")]
    pub warm_up: bool,
    /// A pause before every timing, in seconds.
    #[serde(default)]
    pub delay: f64,
    /// By what share the machine's own speed may change before a timing has drifted.
    #[serde(default = "default_drift_bound")]
    pub drift_bound: f64,
    /// Whether models are timed one after the other, even where they fit into memory together and could take turns.
    #[serde(default)]
    pub sequential: bool,
    /// Of the products; the device's own for decoding, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arithmetic: Option<String>,
    /// What is timed.
    #[serde(default = "default_engine", deserialize_with = "one_or_many")]
    pub engine: Vec<Engine>,
    /// llama.cpp's llama-bench, seen from the configuration's folder [default: the one on the PATH].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llama_bench: Option<String>,
    /// In every lane's place, a model of this shape with random weights in the lane's types is timed: a name that
    /// `bitworth synth` knows, a .toml file or a config.json seen from the configuration's folder, or [`AUTO_SHAPE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
}

/// The shape that is chosen for the machine: see [`SpeedSpec::shape`].
pub const AUTO_SHAPE: &str = "auto";

impl Default for SpeedSpec {
    fn default() -> Self {
        Self {
            prompt: default_prompt(),
            generate: default_generate(),
            depth: default_depth(),
            batch: default_batch(),
            repetitions: default_repetitions(),
            warm_up: true,
            delay: 0.0,
            drift_bound: default_drift_bound(),
            sequential: false,
            arithmetic: None,
            engine: default_engine(),
            llama_bench: None,
            shape: None,
        }
    }
}

impl TomlTable for SpeedSpec {
    const TAKES: &'static str = "a table, as [speed] with prompt = 512 and generate = 128";
}

impl SpeedSpec {
    /// Checks what no model is needed for.
    pub(super) fn check(&self) -> Result<(), Message> {
        if self.engine.is_empty() {
            return Err("speed.engine is empty; name bitworth, llama-bench or both".into());
        }
        if (1..self.engine.len()).any(|i| self.engine[..i].contains(&self.engine[i])) {
            return Err("speed.engine names a program twice".into());
        }
        if self.llama_bench.is_some() && !self.engine.contains(&Engine::LlamaBench) {
            return Err(
                "speed.llama_bench names a program that speed.engine does not ask for; add llama-bench to speed.engine".into()
            );
        }
        if self.shape.as_ref().is_some_and(|shape| shape.trim().is_empty()) {
            return Err("speed.shape is empty: it names nothing".into());
        }
        if !(self.delay.is_finite() && self.delay >= 0.0) {
            return Err(format!("speed.delay = {}: must be 0 or more seconds", self.delay).into());
        }
        Ok(())
    }
}

fn default_prompt() -> Vec<usize> {
    vec![default_ctx()]
}

fn default_generate() -> Vec<usize> {
    vec![128]
}

fn default_depth() -> Vec<usize> {
    vec![0]
}

fn default_batch() -> Vec<usize> {
    vec![1]
}

fn default_drift_bound() -> f64 {
    0.1
}

fn default_engine() -> Vec<Engine> {
    vec![Engine::Bitworth]
}

fn default_repetitions() -> usize {
    3
}
