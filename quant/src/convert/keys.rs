//! The metadata keys that describe a model's computation, in the order in which llama.cpp's converter writes them (b11434,
//! `TextModel.set_gguf_parameters` in `conversion/base.py`). Architectures with an order of their own use the [`Writer`].
//!
//! Absent: what only one architecture writes (see `architectures`) and `general.*` (see `general`).

use super::config::Config;
use super::file_type::FileType;
use super::rope::RopeConfig;
use crate::Result;
use crate::arch::{LocalRope, NormEpsilon, Role};
use crate::gguf::{Array, Metadata, Value};
use serde_json::Value as Json;

/// A tensor that is computed from the configuration.
#[derive(Debug)]
pub(crate) struct ComputedTensor {
    /// What it is for.
    pub(crate) role: Role,
    /// Its values; it has one dimension and is stored as F32.
    pub(crate) values: Vec<f32>,
}

/// Adds keys of one architecture by their stems. A key that is there keeps its place.
pub(crate) struct Writer<'a> {
    config: &'a Config,
    m: &'a mut Metadata,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(config: &'a Config, m: &'a mut Metadata) -> Self {
        Self { config, m }
    }

    fn set(&mut self, stem: &str, value: Value) {
        self.m.set(self.config.arch.key(stem), value);
    }

    pub(crate) fn u32(&mut self, stem: &str, value: u32) {
        self.set(stem, Value::U32(value));
    }

    pub(crate) fn f32(&mut self, stem: &str, value: f64) {
        self.set(stem, Value::F32(value as f32));
    }

    pub(crate) fn bool(&mut self, stem: &str, value: bool) {
        self.set(stem, Value::Bool(value));
    }

    pub(crate) fn str(&mut self, stem: &str, value: &str) {
        self.set(stem, Value::String(value.to_owned()));
    }

    pub(crate) fn optional_f32(&mut self, stem: &str, value: Option<f64>) {
        if let Some(value) = value {
            self.f32(stem, value);
        }
    }

    pub(crate) fn optional_u32(&mut self, stem: &str, value: Option<u32>) {
        if let Some(value) = value {
            self.u32(stem, value);
        }
    }

    pub(crate) fn bools(&mut self, stem: &str, values: Vec<bool>) {
        self.set(stem, Value::Array(Array::Bool(values)));
    }

    pub(crate) fn i32s(&mut self, stem: &str, values: Vec<i32>) {
        self.set(stem, Value::Array(Array::I32(values)));
    }

    /// The sections of a head that multimodal rotary embedding turns by time, height and width; for text all three are the same.
    pub(crate) fn rope_sections(&mut self) -> Result<()> {
        let keys = self.config.keys();
        let listed = keys.rope_object()?.and_then(|object| object.get("mrope_section")).filter(|v| !v.is_null());
        let number = |v: &Json| v.as_u64().and_then(|n| i32::try_from(n).ok());
        let sections = match listed {
            None => return Ok(()),
            Some(Json::Array(list)) if list.len() <= 4 => list.iter().map(number).collect::<Option<Vec<i32>>>(),
            Some(_) => None,
        };
        let mut sections = sections.ok_or_else(|| keys.error("mrope_section", "must be a list of at most 4 whole numbers"))?;
        sections.resize(4, 0);
        self.i32s("rope.dimension_sections", sections);
        Ok(())
    }

    pub(crate) fn heads(&mut self) {
        self.u32("attention.head_count", self.config.head_count);
        self.u32("attention.head_count_kv", self.config.head_count_kv);
    }

    pub(crate) fn norm_epsilon(&mut self) {
        let stem = match self.config.class.norm {
            NormEpsilon::Rms(..) => "attention.layer_norm_rms_epsilon",
            NormEpsilon::Layer(..) => "attention.layer_norm_epsilon",
        };
        self.f32(stem, self.config.norm_epsilon);
    }

    pub(crate) fn head_dim(&mut self) {
        self.u32("attention.key_length", self.config.head_dim);
        self.u32("attention.value_length", self.config.head_dim);
    }

    pub(crate) fn file_type(&mut self, file_type: FileType) {
        self.m.set("general.file_type", Value::U32(file_type as u32));
    }

    fn rope_scaling(&mut self) {
        match self.config.rope {
            RopeConfig::Linear { factor } => {
                self.str("rope.scaling.type", "linear");
                self.f32("rope.scaling.factor", factor);
            }
            RopeConfig::Yarn {
                factor,
                original_context,
                extrapolation_factor,
                attention_factor,
                attn_factor,
                beta_fast,
                beta_slow,
                ..
            } => {
                self.str("rope.scaling.type", "yarn");
                self.f32("rope.scaling.factor", factor);
                self.u32("rope.scaling.original_context_length", original_context);
                self.optional_f32("rope.scaling.yarn_ext_factor", extrapolation_factor);
                self.optional_f32("rope.scaling.yarn_attn_factor", attention_factor.or(attn_factor));
                self.optional_f32("rope.scaling.yarn_beta_fast", beta_fast);
                self.optional_f32("rope.scaling.yarn_beta_slow", beta_slow);
            }
            // Llama 3's factors and LongRoPE's are tensors; dynamic scaling has no key (see `facts`).
            RopeConfig::Default | RopeConfig::Dynamic { .. } | RopeConfig::Llama3 { .. } | RopeConfig::LongRope { .. } => {}
        }
    }
}

/// The keys that most architectures have.
///
/// # Errors
/// None; architectures that add their own keys have some.
pub(crate) fn add_base(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let mut w = Writer::new(config, m);
    w.u32("block_count", config.block_count + config.mtp_block_count);
    w.u32("context_length", config.context_length);
    w.u32("embedding_length", config.embedding_length);
    if config.feed_forward_length > 0 {
        w.u32("feed_forward_length", config.feed_forward_length);
    }
    w.heads();
    w.rope_scaling();
    w.rope_sections()?;
    w.f32("rope.freq_base", config.rope_theta);
    // The converter does not know of a base of their own in blocks that it takes for the same but unscaled (see `facts`).
    w.optional_f32("rope.freq_base_swa", config.local_rope_theta.filter(|_| config.arch.block.local_rope != LocalRope::Unscaled));
    w.norm_epsilon();
    if let Some(experts) = config.experts {
        w.u32("expert_count", experts.count);
        w.optional_u32("expert_used_count", experts.used_count);
        w.optional_u32("expert_group_count", experts.group_count);
        w.optional_u32("expert_group_used_count", experts.group_used_count);
        w.optional_u32("expert_gating_func", experts.gating_func);
    }
    if config.states_head_dim {
        w.head_dim();
    }
    w.file_type(file_type);
    Ok(())
}

/// The same for an architecture whose every model has experts.
///
/// # Errors
/// The configuration does not say how many.
pub(crate) fn add_moe(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    if config.experts.is_none() {
        return Err(config.keys().error("num_experts", "is missing, but models of this architecture have experts"));
    }
    add_base(config, file_type, m)
}

/// The same and what all heirs of the converter's llama class add: the vocabulary's size and the rotated width.
///
/// # Errors
/// None.
pub(crate) fn add_llama(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    add_base(config, file_type, m)?;
    let mut w = Writer::new(config, m);
    w.u32("vocab_size", config.vocab_size);
    w.u32("rope.dimension_count", config.head_dim);
    Ok(())
}
