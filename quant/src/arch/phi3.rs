//! phi3: Phi-3 and Phi-4-mini, with queries, keys and values in one matrix, gate and up in another, and LongRoPE's divisors
//! as tensors (`conversion/phi.py`, b11434).

use super::rule::{computed, head, tensor};
use super::{ArchSpec, CLASS, COMMON, Dim, HeadDim, HfClass, HfWindow, NormEpsilon, Role, TensorRule, neutral};

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
        defaults: &[("max_position_embeddings", "4096"), ("original_max_position_embeddings", "4096")],
        ..CLASS
    }],
    tensors: TENSORS,
    neutral: &[neutral("hidden_act", &["\"silu\""]), neutral("attention_bias", &["false"])],
    // `src/models/phi3.cpp`, b11434.
    window_is_unused: true,
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
