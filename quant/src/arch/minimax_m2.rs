//! minimax-m2: MiniMax M2, with sigmoid routing, norms over all query and key heads together and a part of each head rotated
//! (`conversion/minimax.py`, b11434).

use super::rule::{experts, head, routed, tensor};
use super::{ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, Gating, HeadDim, HfClass, HfRouting, Role, TensorRule, neutral};

/// The row of the table.
pub(super) const MINIMAX_M2: ArchSpec = ArchSpec {
    name: "minimax-m2",
    hf: &[HfClass {
        name: "MiniMaxM2ForCausalLM",
        head_dim: HeadDim::Fixed(128),
        context_length: Some(196_608),
        rope_theta: 5e6,
        partial_rotary: Some(1.0),
        routing: HfRouting { gating: Gating::Sigmoid, ..CLASS.routing },
        defaults: &[("num_key_value_heads", "8"), ("num_experts_per_tok", "8"), ("num_local_experts", "256")],
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits { gating: Gating::Sigmoid, ..BLOCK },
    neutral: &[
        neutral("hidden_act", &["\"silu\""]),
        neutral("attention_bias", &["false"]),
        neutral("qk_norm_type", &["\"per_layer\""]),
        neutral("use_qk_norm", &["true"]),
        neutral("use_routing_bias", &["true"]),
        neutral("scoring_func", &["\"sigmoid\""]),
        neutral("shared_intermediate_size", &["0"]),
    ],
    understood: &["num_local_experts"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    routed(Role::ExpProbsBias, "model.layers.{}.block_sparse_moe.e_score_correction_bias", &[Dim::Experts]),
    experts(Role::FfnGateExps, "model.layers.{}.block_sparse_moe.experts.{}.w1.weight", EXPERT_IN),
    experts(Role::FfnDownExps, "model.layers.{}.block_sparse_moe.experts.{}.w2.weight", EXPERT_OUT),
    experts(Role::FfnUpExps, "model.layers.{}.block_sparse_moe.experts.{}.w3.weight", EXPERT_IN),
    routed(Role::FfnGateInp, "model.layers.{}.block_sparse_moe.gate.weight", &[Dim::Embd, Dim::Experts]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
