//! stablelm: StableLM 2, with layer normalization, a quarter of each head rotated, and in some models a norm for every query
//! and key head, or attention and MLP side by side. The file does not say the base of rotary embedding
//! (`conversion/stablelm.py`, b11434).

use super::rule::{changed, head, optional, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HfClass, Norm, NormEpsilon, Presence, Residual, Role, Stated, TensorRule,
    Transform, neutral,
};

/// The row of the table.
pub(super) const STABLELM: ArchSpec = ArchSpec {
    name: "stablelm",
    hf: &[HfClass {
        name: "StableLmForCausalLM",
        norm: NormEpsilon::Layer("layer_norm_eps", 1e-5),
        partial_rotary: Some(0.25),
        defaults: &[("num_key_value_heads", "32"), ("max_position_embeddings", "4096")],
        ..CLASS
    }],
    tensors: TENSORS,
    stated: &[
        Stated { key: "use_qkv_bias", default: false, roles: &[Role::AttnQBias, Role::AttnKBias, Role::AttnVBias] },
        Stated { key: "qk_layernorm", default: false, roles: &[Role::AttnQNorm, Role::AttnKNorm] },
    ],
    block: BlockTraits { norm: Norm::Layer, residual: Residual::Key, ..BLOCK },
    neutral: &[neutral("hidden_act", &["\"silu\""])],
    understood: &["qk_layernorm"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnNormBias, "model.layers.{}.input_layernorm.bias", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    optional(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries]),
    head_norms(Role::AttnQNorm, "model.layers.{}.self_attn.q_layernorm.norms.{}.weight", &[Dim::HeadDim, Dim::Heads], Dim::Heads),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    optional(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys]),
    head_norms(
        Role::AttnKNorm,
        "model.layers.{}.self_attn.k_layernorm.norms.{}.weight",
        &[Dim::HeadDim, Dim::KvHeads],
        Dim::KvHeads,
    ),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    optional(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    sequential(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    sequential(Role::FfnNormBias, "model.layers.{}.post_attention_layernorm.bias", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    tensor(Role::OutputNormBias, "model.norm.bias", &[Dim::Embd]),
    head("lm_head.weight"),
];

const fn sequential(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::Sequential, ..tensor(role, hf, shape) }
}

const fn head_norms(role: Role, hf: &'static str, shape: &'static [Dim], heads: Dim) -> TensorRule {
    TensorRule { presence: Presence::Optional, ..changed(role, hf, shape, Transform::Stack(heads)) }
}
