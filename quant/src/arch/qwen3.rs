//! qwen3: Qwen3, with norms on the query and key heads. The converter leaves out the sliding window (`conversion/qwen.py`,
//! b11434).

use super::biases::{ATTENTION_BIAS, ATTENTION_BIASES};
use super::rule::{head, tensor};
use super::{ArchSpec, CLASS, COMMON, Dim, HeadDim, HfClass, HfWindow, NeutralKey, Role, TensorRule, neutral};

/// The row of the table.
pub(super) const QWEN3: ArchSpec = ArchSpec {
    name: "qwen3",
    hf: &[HfClass {
        name: "Qwen3ForCausalLM",
        head_dim: HeadDim::Fixed(128),
        window: HfWindow::FromMaxWindowLayers,
        defaults: &[
            ("num_key_value_heads", "32"),
            ("max_position_embeddings", "32768"),
            ("sliding_window", "4096"),
            ("max_window_layers", "28"),
        ],
        ..CLASS
    }],
    tensors: TENSORS,
    stated: &[ATTENTION_BIAS],
    neutral: NEUTRAL,
    ..COMMON
};

pub(super) const NEUTRAL: &[NeutralKey] = &[neutral("hidden_act", &["\"silu\""])];

pub(super) const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    ATTENTION_BIASES[0],
    ATTENTION_BIASES[1],
    ATTENTION_BIASES[2],
    ATTENTION_BIASES[3],
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];
