//! lfm2moe: LFM2 with experts in all blocks but the first: a sigmoid router whose bias decides who is chosen
//! (`conversion/lfm2.py`, b11434).

use super::lfm2::{
    BLOCK_LFM2, CLASS_LFM2, CONV, CONV_IN, CONV_OUT, EMBEDDING, FFN_NORM, FINAL_NORM, KEY_NORM, KEYS, MIXER_NORM, NEUTRAL,
    OUTPUT, QUERIES, QUERY_NORM, VALUES,
};
use super::rule::{dense, experts, head, routed};
use super::{
    ArchSpec, BlockTraits, COMMON, Dim, ExpertGroups, Gating, HfClass, HfRouting, Normalizes, Presence, Role, Stated, TensorRule,
};

/// The row of the table.
pub(super) const LFM2MOE: ArchSpec = ArchSpec {
    name: "lfm2moe",
    hf: &[HfClass {
        name: "Lfm2MoeForCausalLM",
        routing: HfRouting { gating: Gating::Sigmoid, normalizes: Normalizes::Key, groups: ExpertGroups::Never },
        defaults: &[
            ("vocab_size", "65536"),
            ("hidden_size", "2048"),
            ("intermediate_size", "7168"),
            ("moe_intermediate_size", "1792"),
            ("num_hidden_layers", "32"),
            ("num_attention_heads", "32"),
            ("num_key_value_heads", "8"),
            ("conv_L_cache", "3"),
            ("num_dense_layers", "2"),
            ("num_experts", "32"),
            ("num_experts_per_tok", "4"),
            ("norm_topk_prob", "true"),
        ],
        ..CLASS_LFM2
    }],
    tensors: TENSORS,
    block: BlockTraits {
        gating: Gating::Sigmoid,
        // Large beside the sigmoids of experts that are chosen by their bias (`modeling_lfm2_moe.py`, transformers 5.23).
        expert_sum_epsilon: 1e-6,
        ..BLOCK_LFM2
    },
    neutral: NEUTRAL,
    understood: &["num_experts"],
    stated: &[Stated { key: "use_expert_bias", default: true, roles: &[Role::ExpProbsBias] }],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    EMBEDDING,
    FINAL_NORM,
    CONV,
    CONV_IN,
    CONV_OUT,
    dense(Role::FfnGate, "model.layers.{}.feed_forward.w1.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnDown, "model.layers.{}.feed_forward.w2.weight", &[Dim::FeedForward, Dim::Embd]),
    dense(Role::FfnUp, "model.layers.{}.feed_forward.w3.weight", &[Dim::Embd, Dim::FeedForward]),
    TensorRule {
        presence: Presence::ExpertsOptional,
        ..routed(Role::ExpProbsBias, "model.layers.{}.feed_forward.expert_bias", &[Dim::Experts])
    },
    experts(Role::FfnGateExps, "model.layers.{}.feed_forward.experts.{}.w1.weight", EXPERT_IN),
    experts(Role::FfnDownExps, "model.layers.{}.feed_forward.experts.{}.w2.weight", EXPERT_OUT),
    experts(Role::FfnUpExps, "model.layers.{}.feed_forward.experts.{}.w3.weight", EXPERT_IN),
    routed(Role::FfnGateInp, "model.layers.{}.feed_forward.gate.weight", &[Dim::Embd, Dim::Experts]),
    FFN_NORM,
    MIXER_NORM,
    KEY_NORM,
    KEYS,
    OUTPUT,
    QUERY_NORM,
    QUERIES,
    VALUES,
    head("lm_head.weight"),
];

const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
