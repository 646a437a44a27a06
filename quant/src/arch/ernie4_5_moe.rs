//! ernie4_5-moe: ERNIE 4.5 with experts, the first blocks dense, with a bias that takes part in the choice of experts and shared
//! ones beside them (`conversion/ernie.py`, b11434).

use super::ernie4_5::{BLOCK_4_5, CLASS_4_5, NEUTRAL};
use super::rule::{dense, experts, head, routed, shared, tensor};
use super::{ArchSpec, COMMON, Dim, HfClass, Role, TensorRule, neutral};

/// The row of the table.
pub(super) const ERNIE4_5_MOE: ArchSpec = ArchSpec {
    name: "ernie4_5-moe",
    hf: &[HfClass {
        name: "Ernie4_5_MoeForCausalLM",
        context_length: Some(131_072),
        experts_used_key: None,
        defaults: &[
            ("num_key_value_heads", "4"),
            ("moe_num_experts", "64"),
            ("moe_k", "6"),
            ("moe_intermediate_size", "1536"),
            ("moe_num_shared_experts", "2"),
            ("moe_layer_start_index", "1"),
            ("moe_layer_interval", "1"),
        ],
        ..CLASS_4_5
    }],
    tensors: TENSORS,
    block: BLOCK_4_5,
    neutral: &[NEUTRAL[0], NEUTRAL[1], neutral("moe_norm_min", &["1e-12"])],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    dense(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    routed(Role::FfnGateInp, "model.layers.{}.mlp.gate.weight", &[Dim::Embd, Dim::Experts]),
    routed(Role::ExpProbsBias, "model.layers.{}.mlp.moe_statics.e_score_correction_bias", &[Dim::Experts, Dim::One]),
    experts(Role::FfnGateExps, "model.layers.{}.mlp.experts.{}.gate_proj.weight", EXPERT_IN),
    experts(Role::FfnUpExps, "model.layers.{}.mlp.experts.{}.up_proj.weight", EXPERT_IN),
    experts(Role::FfnDownExps, "model.layers.{}.mlp.experts.{}.down_proj.weight", EXPERT_OUT),
    shared(Role::FfnGateShexp, "model.layers.{}.mlp.shared_experts.gate_proj.weight", &[Dim::Embd, Dim::SharedFeedForward]),
    shared(Role::FfnUpShexp, "model.layers.{}.mlp.shared_experts.up_proj.weight", &[Dim::Embd, Dim::SharedFeedForward]),
    shared(Role::FfnDownShexp, "model.layers.{}.mlp.shared_experts.down_proj.weight", &[Dim::SharedFeedForward, Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
