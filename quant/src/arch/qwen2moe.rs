//! qwen2moe: Qwen1.5-MoE and Qwen2-57B-A14B, with a shared expert beside the routed ones. Blocks without experts among those
//! with experts have no form in GGUF (`conversion/qwen.py`, b11434).

use super::rule::{dense, experts, head, routed, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HfClass, HfRouting, HfWindow, Normalizes, Role, TensorRule, neutral,
};

/// The row of the table.
pub(super) const QWEN2MOE: ArchSpec = ArchSpec {
    name: "qwen2moe",
    hf: &[HfClass {
        name: "Qwen2MoeForCausalLM",
        window: HfWindow::AlternateBelowMaxWindowLayers,
        defaults: &[
            ("num_key_value_heads", "16"),
            ("max_position_embeddings", "32768"),
            ("sliding_window", "4096"),
            ("max_window_layers", "28"),
            ("num_experts_per_tok", "4"),
            ("norm_topk_prob", "false"),
        ],
        routing: HfRouting { normalizes: Normalizes::Key, ..CLASS.routing },
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits { normalizes_experts: false, ..BLOCK },
    neutral: &[neutral("hidden_act", &["\"silu\""]), neutral("qkv_bias", &["true"])],
    understood: &["num_experts", "mlp_only_layers", "decoder_sparse_step"],
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
    dense(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    routed(Role::FfnGateInp, "model.layers.{}.mlp.gate.weight", &[Dim::Embd, Dim::Experts]),
    experts(Role::FfnDownExps, "model.layers.{}.mlp.experts.{}.down_proj.weight", EXPERT_OUT),
    experts(Role::FfnGateExps, "model.layers.{}.mlp.experts.{}.gate_proj.weight", EXPERT_IN),
    experts(Role::FfnUpExps, "model.layers.{}.mlp.experts.{}.up_proj.weight", EXPERT_IN),
    routed(Role::FfnGateInpShexp, "model.layers.{}.mlp.shared_expert_gate.weight", &[Dim::Embd, Dim::One]),
    routed(Role::FfnDownShexp, "model.layers.{}.mlp.shared_expert.down_proj.weight", &[Dim::SharedFeedForward, Dim::Embd]),
    routed(Role::FfnGateShexp, "model.layers.{}.mlp.shared_expert.gate_proj.weight", &[Dim::Embd, Dim::SharedFeedForward]),
    routed(Role::FfnUpShexp, "model.layers.{}.mlp.shared_expert.up_proj.weight", &[Dim::Embd, Dim::SharedFeedForward]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
