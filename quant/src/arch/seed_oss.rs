//! seed_oss: ByteDance's Seed-OSS: llama's block with biases on queries, keys and values; the norm before the feed-forward
//! network goes by the name of one behind attention (`conversion/llama.py`, b11434).

use super::rule::{head, optional, tensor};
use super::{ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, Role, Stated, TensorRule, neutral};

/// The row of the table.
pub(super) const SEED_OSS: ArchSpec = ArchSpec {
    name: "seed_oss",
    hf: &[HfClass {
        name: "SeedOssForCausalLM",
        head_dim: HeadDim::Fixed(128),
        context_length: Some(524_288),
        rope_theta: 1e7,
        defaults: &[("num_key_value_heads", "8")],
        ..CLASS
    }],
    tensors: TENSORS,
    stated: &[
        Stated { key: "attention_bias", default: true, roles: &[Role::AttnQBias, Role::AttnKBias, Role::AttnVBias] },
        Stated { key: "attention_out_bias", default: false, roles: &[Role::AttnOutputBias] },
        Stated { key: "mlp_bias", default: false, roles: &[Role::FfnGateBias, Role::FfnUpBias, Role::FfnDownBias] },
    ],
    block: BlockTraits { ffn_norm: Role::AttnPostNorm, ..BLOCK },
    neutral: &[neutral("hidden_act", &["\"silu\""])],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    optional(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    optional(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    optional(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    optional(Role::AttnOutputBias, "model.layers.{}.self_attn.o_proj.bias", &[Dim::Embd]),
    tensor(Role::AttnPostNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    optional(Role::FfnGateBias, "model.layers.{}.mlp.gate_proj.bias", &[Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    optional(Role::FfnUpBias, "model.layers.{}.mlp.up_proj.bias", &[Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    optional(Role::FfnDownBias, "model.layers.{}.mlp.down_proj.bias", &[Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];
