//! deepseek2: DeepSeek-V2 and V3, and GLM-4.7-Flash, with multi-head latent attention, shared experts and routing by groups.
//! GGUF splits the matrix that expands keys and values, and describes attention as it runs after absorption, with one key head
//! (`conversion/deepseek.py`, b11434). Absent: the blocks that predict further tokens.

use super::rule::{changed, dense, experts, head, optional, routed, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, ExpertGroups, Gating, HeadDim, HfClass, HfRouting, NormEpsilon, Normalizes,
    Presence, Role, RopePairing, Stated, TensorRule, Transform, neutral,
};

/// The row of the table.
pub(super) const DEEPSEEK2: ArchSpec = ArchSpec {
    name: "deepseek2",
    hf: &[
        HfClass {
            name: "DeepseekV2ForCausalLM",
            head_dim: HeadDim::Of("qk_rope_head_dim"),
            // transformers passes over norm_topk_prob here.
            routing: HfRouting { gating: Gating::Softmax, normalizes: Normalizes::Never, groups: ExpertGroups::ByMethod },
            defaults: &[
                ("num_key_value_heads", "32"),
                ("max_position_embeddings", "2048"),
                ("routed_scaling_factor", "1.0"),
                ("n_shared_experts", "2"),
            ],
            ..CLASS
        },
        HfClass {
            name: "DeepseekV3ForCausalLM",
            head_dim: HeadDim::Of("qk_rope_head_dim"),
            routing: HfRouting { gating: Gating::Sigmoid, normalizes: Normalizes::Key, groups: ExpertGroups::Always },
            defaults: &[
                ("num_key_value_heads", "128"),
                ("max_position_embeddings", "4096"),
                ("routed_scaling_factor", "2.5"),
                ("norm_topk_prob", "true"),
                ("first_k_dense_replace", "3"),
                ("n_shared_experts", "1"),
                ("n_group", "8"),
                ("topk_group", "4"),
                ("num_experts_per_tok", "8"),
                ("num_nextn_predict_layers", "1"),
            ],
            ..CLASS
        },
        HfClass {
            name: "Glm4MoeLiteForCausalLM",
            head_dim: HeadDim::UnsaidOf("qk_rope_head_dim"),
            norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
            partial_rotary: Some(1.0),
            routing: HfRouting { gating: Gating::Sigmoid, normalizes: Normalizes::Key, groups: ExpertGroups::Always },
            defaults: &[
                ("num_key_value_heads", "20"),
                ("max_position_embeddings", "202752"),
                ("routed_scaling_factor", "1.8"),
                ("norm_topk_prob", "true"),
                ("first_k_dense_replace", "1"),
                ("n_shared_experts", "1"),
                ("n_group", "1"),
                ("topk_group", "1"),
                ("num_experts_per_tok", "4"),
            ],
            ..CLASS
        },
    ],
    tensors: TENSORS,
    block: BlockTraits { rope: RopePairing::Adjacent, normalizes_experts: false, ..BLOCK },
    neutral: &[
        neutral("hidden_act", &["\"silu\""]),
        neutral("moe_layer_freq", &["1"]),
        neutral("rope_interleave", &["true"]),
        neutral("topk_method", &["\"greedy\"", "\"group_limited_greedy\"", "\"noaux_tc\""]),
    ],
    understood: &["n_routed_experts"],
    stated: &[Stated {
        key: "attention_bias",
        default: false,
        roles: &[Role::AttnQABias, Role::AttnKvAMqaBias, Role::AttnOutputBias],
    }],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    queries(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::MlaQueries], Presence::PlainQueries),
    queries(Role::AttnQA, "model.layers.{}.self_attn.q_a_proj.weight", &[Dim::Embd, Dim::QRank], Presence::CompressedQueries),
    queries(Role::AttnQANorm, "model.layers.{}.self_attn.q_a_layernorm.weight", &[Dim::QRank], Presence::CompressedQueries),
    queries(
        Role::AttnQB,
        "model.layers.{}.self_attn.q_b_proj.weight",
        &[Dim::QRank, Dim::MlaQueries],
        Presence::CompressedQueries,
    ),
    tensor(Role::AttnKvAMqa, "model.layers.{}.self_attn.kv_a_proj_with_mqa.weight", &[Dim::Embd, Dim::KvRankAndRope]),
    tensor(Role::AttnKvANorm, "model.layers.{}.self_attn.kv_a_layernorm.weight", &[Dim::KvRank]),
    changed(Role::AttnKB, KV_B, &[Dim::MlaKey, Dim::KvRank, Dim::Heads], Transform::ExpandedKeys),
    changed(Role::AttnVB, KV_B, &[Dim::KvRank, Dim::MlaValue, Dim::Heads], Transform::ExpandedValues),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::MlaOutput, Dim::Embd]),
    optional(Role::AttnQABias, "model.layers.{}.self_attn.q_a_proj.bias", &[Dim::QRank]),
    optional(Role::AttnKvAMqaBias, "model.layers.{}.self_attn.kv_a_proj_with_mqa.bias", &[Dim::KvRankAndRope]),
    optional(Role::AttnOutputBias, "model.layers.{}.self_attn.o_proj.bias", &[Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    dense(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    routed(Role::FfnGateInp, "model.layers.{}.mlp.gate.weight", &[Dim::Embd, Dim::Experts]),
    TensorRule {
        presence: Presence::SigmoidRouter,
        ..tensor(Role::ExpProbsBias, "model.layers.{}.mlp.gate.e_score_correction_bias", &[Dim::Experts])
    },
    experts(Role::FfnDownExps, "model.layers.{}.mlp.experts.{}.down_proj.weight", EXPERT_OUT),
    experts(Role::FfnGateExps, "model.layers.{}.mlp.experts.{}.gate_proj.weight", EXPERT_IN),
    experts(Role::FfnUpExps, "model.layers.{}.mlp.experts.{}.up_proj.weight", EXPERT_IN),
    routed(Role::FfnGateShexp, "model.layers.{}.mlp.shared_experts.gate_proj.weight", &[Dim::Embd, Dim::SharedFeedForward]),
    routed(Role::FfnUpShexp, "model.layers.{}.mlp.shared_experts.up_proj.weight", &[Dim::Embd, Dim::SharedFeedForward]),
    routed(Role::FfnDownShexp, "model.layers.{}.mlp.shared_experts.down_proj.weight", &[Dim::SharedFeedForward, Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const fn queries(role: Role, hf: &'static str, shape: &'static [Dim], presence: Presence) -> TensorRule {
    TensorRule { presence, ..tensor(role, hf, shape) }
}

const KV_B: &str = "model.layers.{}.self_attn.kv_b_proj.weight";
const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
