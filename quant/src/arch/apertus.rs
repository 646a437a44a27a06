//! apertus: the Swiss AI initiative's Apertus: llama's block with norms on query and key heads and a feed-forward network without
//! a gate, whose function has learned parameters that become metadata (`conversion/apertus.py`, b11434).

use super::llama::LLAMA_SCALINGS;
use super::rule::{computed, head, optional, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, Mlp, NormEpsilon, Role, Stated, TensorRule, neutral,
};

/// The row of the table.
pub(super) const APERTUS: ArchSpec = ArchSpec {
    name: "apertus",
    hf: &[HfClass {
        name: "ApertusForCausalLM",
        head_dim: HeadDim::Ignored,
        context_length: Some(65_536),
        norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
        rope_theta: 12e6,
        scalings: LLAMA_SCALINGS,
        defaults: &[("rope_parameters", ROPE)],
        ..CLASS
    }],
    tensors: TENSORS,
    stated: &[Stated {
        key: "attention_bias",
        default: false,
        roles: &[Role::AttnQBias, Role::AttnKBias, Role::AttnVBias, Role::AttnOutputBias],
    }],
    as_metadata: &[
        "model.layers.{}.mlp.act_fn.alpha_p",
        "model.layers.{}.mlp.act_fn.alpha_n",
        "model.layers.{}.mlp.act_fn.beta",
        "model.layers.{}.mlp.act_fn.eps",
    ],
    block: BlockTraits { mlp: Mlp::Xielu, ..BLOCK },
    neutral: &[
        neutral("hidden_act", &["\"xielu\""]),
        neutral("mlp_bias", &["false"]),
        neutral("post_norm", &["false"]),
        neutral("qk_norm", &["true"]),
    ],
    ..COMMON
};

/// What transformers takes where the configuration says nothing of rotary embedding.
const ROPE: &str = r#"{"rope_type": "llama3", "rope_theta": 12000000.0, "factor": 8.0, "original_max_position_embeddings": 8192,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0}"#;

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    computed(Role::RopeFreqs, &[Dim::RopePairs]),
    tensor(Role::AttnNorm, "model.layers.{}.attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    optional(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries]),
    tensor(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    optional(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys]),
    tensor(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    optional(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    optional(Role::AttnOutputBias, "model.layers.{}.self_attn.o_proj.bias", &[Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.feedforward_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];
