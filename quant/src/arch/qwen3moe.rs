//! qwen3moe: Qwen3-30B-A3B and its kin. Blocks without experts among those with experts have no form in GGUF, and llama.cpp
//! always normalizes the chosen experts' weights (`conversion/qwen.py`, b11434).

use super::biases::{ATTENTION_BIAS, ATTENTION_BIASES};
use super::rule::{dense, experts, head, routed, tensor};
use super::{ArchSpec, CLASS, COMMON, Dim, HeadDim, HfClass, HfRouting, HfWindow, Normalizes, Role, TensorRule, neutral};

/// The row of the table.
pub(super) const QWEN3MOE: ArchSpec = ArchSpec {
    name: "qwen3moe",
    hf: &[HfClass {
        name: "Qwen3MoeForCausalLM",
        head_dim: HeadDim::Stated,
        window: HfWindow::AllIfUsed,
        defaults: &[
            ("num_key_value_heads", "4"),
            ("max_position_embeddings", "32768"),
            ("sliding_window", "4096"),
            ("num_experts_per_tok", "8"),
            ("norm_topk_prob", "false"),
        ],
        routing: HfRouting { normalizes: Normalizes::Key, ..CLASS.routing },
        ..CLASS
    }],
    tensors: TENSORS,
    stated: &[ATTENTION_BIAS],
    neutral: &[neutral("hidden_act", &["\"silu\""])],
    understood: &["num_experts", "num_local_experts", "mlp_only_layers", "decoder_sparse_step"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    dense(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    routed(Role::FfnGateInp, "model.layers.{}.mlp.gate.weight", &[Dim::Embd, Dim::Experts]),
    experts(Role::FfnDownExps, "model.layers.{}.mlp.experts.{}.down_proj.weight", EXPERT_OUT),
    experts(Role::FfnGateExps, "model.layers.{}.mlp.experts.{}.gate_proj.weight", EXPERT_IN),
    experts(Role::FfnUpExps, "model.layers.{}.mlp.experts.{}.up_proj.weight", EXPERT_IN),
    ATTENTION_BIASES[0],
    ATTENTION_BIASES[1],
    ATTENTION_BIASES[2],
    ATTENTION_BIASES[3],
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
