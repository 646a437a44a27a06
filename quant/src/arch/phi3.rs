//! phi3: Phi-3 and Phi-4-mini, with queries, keys and values in one matrix, gate and up in another, and LongRoPE's divisors
//! as tensors (`conversion/phi.py`, b11434).

use super::rule::{computed, head, tensor};
use super::{ArchSpec, CLASS, COMMON, ComputedTensor, Dim, HeadDim, HfClass, HfWindow, NormEpsilon, Role, TensorRule, neutral};
use crate::Result;
use crate::convert::config::Config;
use crate::convert::rope::Rope;
use crate::convert::{FileType, keys};
use crate::gguf::Metadata;

/// The row of the table.
pub(super) const PHI3: ArchSpec = ArchSpec {
    name: "phi3",
    hf: &[HfClass {
        name: "Phi3ForCausalLM",
        head_dim: HeadDim::Ignored,
        norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
        partial_rotary: Some(1.0),
        window: HfWindow::All,
        scalings: &["default", "longrope", "su"],
        defaults: &[("max_position_embeddings", "4096")],
        ..CLASS
    }],
    tensors: TENSORS,
    neutral: &[neutral("hidden_act", &["\"silu\""]), neutral("attention_bias", &["false"])],
    keys,
    computed: rope_factors,
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    computed(Role::RopeFactorsLong, &[Dim::RopePairs]),
    computed(Role::RopeFactorsShort, &[Dim::RopePairs]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQkv, "model.layers.{}.self_attn.qkv_proj.weight", &[Dim::Embd, Dim::Qkv]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.gate_up_proj.weight", &[Dim::Embd, Dim::GateUp]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

/// Positions the model was first trained on, where the configuration does not say (transformers' default).
const ORIGINAL_CONTEXT: u32 = 4096;

pub(crate) fn original_context(config: &Config) -> Result<u32> {
    Ok(config.keys().optional_size("original_max_position_embeddings")?.unwrap_or(ORIGINAL_CONTEXT))
}

/// The rotated components of a head.
fn rope_dim(config: &Config) -> u32 {
    (config.rotary_part * f64::from(config.embedding_length)) as u32 / config.head_count
}

fn keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let mut w = keys::Writer::new(config, m);
    w.u32("context_length", config.context_length);
    w.u32("rope.scaling.original_context_length", original_context(config)?);
    w.u32("embedding_length", config.embedding_length);
    w.u32("feed_forward_length", config.feed_forward_length);
    w.u32("block_count", config.block_count);
    w.heads();
    w.norm_epsilon();
    w.u32("rope.dimension_count", rope_dim(config));
    w.f32("rope.freq_base", config.rope_theta);
    w.file_type(file_type);
    // 0 tells Phi-4 from its predecessors.
    w.u32("attention.sliding_window", config.keys().count("sliding_window")?.unwrap_or(0));
    Ok(())
}

/// LongRoPE's divisors, and the factor by which it scales attention (Ding et al. 2024, as transformers computes it).
fn rope_factors(config: &Config, m: &mut Metadata) -> Result<Vec<ComputedTensor>> {
    let Rope::LongRope { short, long, .. } = &config.rope else { return Ok(Vec::new()) };
    let pairs = rope_dim(config) as usize / 2;
    for (name, list) in [("short_factor", short), ("long_factor", long)] {
        if list.len() != pairs {
            let what = format!("has {} numbers for {pairs} rotated pairs", list.len());
            return Err(config.keys().error(name, what));
        }
    }
    let original = f64::from(original_context(config)?);
    let stretch = f64::from(config.context_length) / original;
    let factor: f64 = if stretch > 1.0 { (1.0 + stretch.ln() / original.ln()).sqrt() } else { 1.0 };
    keys::Writer::new(config, m).f32("rope.scaling.attn_factor", factor);
    let tensor = |role, list: &[f64]| ComputedTensor { role, values: list.iter().map(|&v| v as f32).collect() };
    Ok(vec![tensor(Role::RopeFactorsLong, long), tensor(Role::RopeFactorsShort, short)])
}
