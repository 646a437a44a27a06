//! gemma: Gemma 1. Norm weights are stored as the difference from 1. The file does not say the base of rotary embedding
//! (`conversion/gemma.py`, b11434).

use super::rule::{changed, head, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, EmbeddingScale, HeadDim, HfClass, Mlp, Role, TensorRule, Transform, neutral,
};
use crate::convert::config::Config;
use crate::convert::{FileType, keys};
use crate::gguf::Metadata;

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
    neutral: &[
        // transformers takes the old name for the same function.
        neutral("hidden_act", &["\"gelu_pytorch_tanh\"", "\"gelu\""]),
        neutral("hidden_activation", &["\"gelu_pytorch_tanh\""]),
        neutral("attention_bias", &["false"]),
        neutral("use_bidirectional_attention", &["false"]),
    ],
    dropped: &["lm_head.weight"],
    keys: |config, file_type, m| {
        add_keys(config, file_type, m);
        Ok(())
    },
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
    changed(Role::OutputNorm, "model.norm.weight", &[Dim::Embd], Transform::AddOne),
    head("lm_head.weight"),
];

/// The keys that Gemma 1 and 2 share, in an order of their own.
pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) {
    let mut w = keys::Writer::new(config, m);
    w.u32("context_length", config.context_length);
    w.u32("embedding_length", config.embedding_length);
    w.u32("block_count", config.block_count);
    w.u32("feed_forward_length", config.feed_forward_length);
    w.heads();
    w.norm_epsilon();
    w.head_dim();
    w.file_type(file_type);
}
