//! nemotron_h_moe: Nemotron 3: Nemotron-H with experts in place of its networks, chosen by a sigmoid, a shared one beside them;
//! in some models the experts read and write something narrower than the stream (`conversion/nemotron.py`, b11434). Absent:
//! blocks that predict further tokens.

use super::mamba2::MIXER;
use super::nemotron_h::{BLOCK_H, BLOCK_NORM, CLASS_H, CONV_BIAS, EMBEDDING, FINAL_NORM, KEYS, NEUTRAL, OUTPUT, QUERIES, VALUES};
use super::rule::{experts, head, routed};
use super::{
    ArchSpec, BlockTraits, COMMON, Dim, ExpertGroups, Gating, HfClass, HfRouting, Normalizes, Presence, Role, TensorRule,
};

/// The row of the table.
pub(super) const NEMOTRON_H_MOE: ArchSpec = ArchSpec {
    name: "nemotron_h_moe",
    hf: &[HfClass {
        told_by: Some("num_experts_per_tok"),
        routing: HfRouting { gating: Gating::Sigmoid, normalizes: Normalizes::Key, groups: ExpertGroups::Always },
        defaults: &[
            ("vocab_size", "131072"),
            ("hidden_size", "4096"),
            ("num_attention_heads", "32"),
            ("num_key_value_heads", "8"),
            ("intermediate_size", "21504"),
            ("ssm_state_size", "128"),
            ("mamba_num_heads", "128"),
            ("mamba_head_dim", "64"),
            ("n_groups", "8"),
            ("conv_kernel", "4"),
            ("time_step_min", "0.001"),
            ("n_routed_experts", "8"),
            ("n_shared_experts", "1"),
            ("moe_intermediate_size", "7688"),
            ("moe_shared_expert_intermediate_size", "7688"),
            ("routed_scaling_factor", "1.0"),
            ("n_group", "1"),
            ("topk_group", "1"),
            ("norm_topk_prob", "true"),
        ],
        ..CLASS_H
    }],
    tensors: TENSORS,
    block: BlockTraits { gating: Gating::Sigmoid, normalizes_experts: false, ..BLOCK_H },
    neutral: NEUTRAL,
    stated: &[CONV_BIAS],
    understood: &["n_routed_experts"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    EMBEDDING,
    MIXER[0],
    MIXER[1],
    MIXER[2],
    MIXER[3],
    MIXER[4],
    MIXER[5],
    MIXER[6],
    MIXER[7],
    experts(Role::FfnDownExps, "backbone.layers.{}.mixer.experts.{}.down_proj.weight", EXPERT_OUT),
    experts(Role::FfnUpExps, "backbone.layers.{}.mixer.experts.{}.up_proj.weight", EXPERT_IN),
    latent(Role::FfnLatentDown, "backbone.layers.{}.mixer.fc1_latent_proj.weight", &[Dim::Embd, Dim::ExpertLatent]),
    latent(Role::FfnLatentUp, "backbone.layers.{}.mixer.fc2_latent_proj.weight", &[Dim::ExpertLatent, Dim::Embd]),
    routed(Role::ExpProbsBias, "backbone.layers.{}.mixer.gate.e_score_correction_bias", &[Dim::Experts]),
    routed(Role::FfnGateInp, "backbone.layers.{}.mixer.gate.weight", &[Dim::Embd, Dim::Experts]),
    KEYS,
    OUTPUT,
    QUERIES,
    routed(Role::FfnDownShexp, "backbone.layers.{}.mixer.shared_experts.down_proj.weight", &[Dim::SharedFeedForward, Dim::Embd]),
    routed(Role::FfnUpShexp, "backbone.layers.{}.mixer.shared_experts.up_proj.weight", &[Dim::Embd, Dim::SharedFeedForward]),
    VALUES,
    BLOCK_NORM,
    FINAL_NORM,
    head("lm_head.weight"),
];

const fn latent(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::LatentExperts, ..routed(role, hf, shape) }
}

const EXPERT_IN: &[Dim] = &[Dim::ExpertEmbd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::ExpertEmbd, Dim::Experts];
