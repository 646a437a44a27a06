//! gemma: Gemma 1. Norm weights are stored as the difference from 1. The file does not say the base of rotary embedding
//! (`conversion/gemma.py`, b11434).

use super::biases::{ATTENTION_BIAS, ATTENTION_BIASES};
use super::rule::{changed, head, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, EmbeddingScale, HeadDim, HfClass, Mlp, Role, TensorRule, Transform, neutral,
};

/// The row of the table.
pub(super) const GEMMA: ArchSpec = ArchSpec {
    name: "gemma",
    hf: &[HfClass {
        name: "GemmaForCausalLM",
        head_dim: HeadDim::Fixed(256),
        tied: true,
        defaults: &[("num_key_value_heads", "16"), ("max_position_embeddings", "8192")],
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits { mlp: Mlp::GeGlu, embedding_scale: EmbeddingScale::RootOfWidth, ..BLOCK },
    stated: &[ATTENTION_BIAS],
    neutral: &[
        // transformers takes the old name for the same function.
        neutral("hidden_act", &["\"gelu_pytorch_tanh\"", "\"gelu\""]),
        neutral("hidden_activation", &["\"gelu_pytorch_tanh\""]),
        neutral("use_bidirectional_attention", &["false"]),
    ],
    dropped: &["lm_head.weight"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    changed(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    changed(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    ATTENTION_BIASES[0],
    ATTENTION_BIASES[1],
    ATTENTION_BIASES[2],
    ATTENTION_BIASES[3],
    changed(Role::OutputNorm, "model.norm.weight", &[Dim::Embd], Transform::AddOne),
    head("lm_head.weight"),
];
