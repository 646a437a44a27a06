//! qwen2: Qwen2 and Qwen2.5. The converter leaves out the sliding window (`conversion/qwen.py`, b11434).

use super::rule::{head, tensor};
use super::{ArchSpec, CLASS, COMMON, Dim, HfClass, HfWindow, Role, TensorRule, neutral};

/// The row of the table.
pub(super) const QWEN2: ArchSpec = ArchSpec {
    name: "qwen2",
    hf: &[HfClass {
        name: "Qwen2ForCausalLM",
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
    neutral: &[neutral("hidden_act", &["\"silu\""])],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];
