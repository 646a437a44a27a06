//! olmo2: OLMo 2, with norms after attention and MLP in place of before, and over all query and key heads together
//! (`conversion/olmo.py`, b11434). Absent: OLMo 3's sliding window.

use super::rule::{head, tensor};
use super::{ArchSpec, CLASS, COMMON, Dim, HfClass, NormEpsilon, Role, TensorRule, neutral};

/// The row of the table.
pub(super) const OLMO2: ArchSpec = ArchSpec {
    name: "olmo2",
    hf: &[HfClass {
        name: "Olmo2ForCausalLM",
        context_length: Some(2048),
        norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
        ..CLASS
    }],
    tensors: TENSORS,
    neutral: &[neutral("hidden_act", &["\"silu\""]), neutral("attention_bias", &["false"])],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::AttnPostNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::FfnPostNorm, "model.layers.{}.post_feedforward_layernorm.weight", &[Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];
