//! glm4moe: GLM-4.5 to 4.7 and the language model of GLM-4.5V, with sigmoid routing, a shared expert, half of each head rotated,
//! and a block behind the last that predicts a further token (`conversion/glm.py`, b11434). The norm before the feed-forward
//! network goes by the name of one behind attention. Absent: the image encoder; its positions, by time, height and width, are
//! the same for text.

use super::rule::{dense, experts, head, mtp, mtp_optional, optional, routed, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, ExpertGroups, Gating, HeadDim, HfClass, HfRouting, MtpBlocks, NormEpsilon,
    Normalizes, Presence, Role, Stated, TensorRule, neutral,
};

/// The row of the table.
pub(super) const GLM4MOE: ArchSpec = ArchSpec {
    name: "glm4moe",
    hf: &[
        TEXT,
        HfClass {
            name: "Glm4vMoeForConditionalGeneration",
            text_types: &["glm4v_moe_text"],
            context_length: Some(65_536),
            rope_keys: &["mrope_section"],
            defaults: &[
                ("attention_bias", "true"),
                ("num_key_value_heads", "8"),
                ("num_experts_per_tok", "8"),
                ("n_shared_experts", "1"),
                ("n_routed_experts", "128"),
                ("moe_intermediate_size", "1408"),
                ("routed_scaling_factor", "1.0"),
                ("n_group", "1"),
                ("topk_group", "1"),
                ("first_k_dense_replace", "1"),
                ("norm_topk_prob", "true"),
            ],
            ..TEXT
        },
    ],
    tensors: TENSORS,
    stated: &[
        Stated { key: "attention_bias", default: false, roles: &[Role::AttnQBias, Role::AttnKBias, Role::AttnVBias] },
        Stated { key: "use_qk_norm", default: false, roles: &[Role::AttnQNorm, Role::AttnKNorm] },
    ],
    mtp: MtpBlocks::Kept,
    block: BlockTraits { ffn_norm: Role::AttnPostNorm, gating: Gating::Sigmoid, normalizes_experts: false, ..BLOCK },
    neutral: &[neutral("hidden_act", &["\"silu\""])],
    understood: &["n_routed_experts", "use_qk_norm"],
    ..COMMON
};

const TEXT: HfClass = HfClass {
    name: "Glm4MoeForCausalLM",
    head_dim: HeadDim::Stated,
    context_length: Some(131_072),
    norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
    partial_rotary: Some(0.5),
    routing: HfRouting { gating: Gating::Sigmoid, normalizes: Normalizes::Key, groups: ExpertGroups::Always },
    defaults: &[
        ("num_key_value_heads", "8"),
        ("num_experts_per_tok", "8"),
        ("n_shared_experts", "1"),
        ("n_routed_experts", "128"),
        ("moe_intermediate_size", "1408"),
        ("routed_scaling_factor", "1.0"),
        ("n_group", "1"),
        ("topk_group", "1"),
        ("first_k_dense_replace", "1"),
        ("norm_topk_prob", "true"),
    ],
    ..CLASS
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    optional(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries]),
    optional(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    optional(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys]),
    optional(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    optional(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::AttnPostNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
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
    mtp(Role::NextnEhProj, "model.layers.{}.eh_proj.weight", &[Dim::TwiceEmbd, Dim::Embd]),
    mtp_optional(Role::NextnEmbedTokens, "model.layers.{}.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    mtp(Role::NextnEnorm, "model.layers.{}.enorm.weight", &[Dim::Embd]),
    mtp(Role::NextnHnorm, "model.layers.{}.hnorm.weight", &[Dim::Embd]),
    mtp_optional(Role::NextnSharedHeadHead, "model.layers.{}.shared_head.head.weight", &[Dim::Embd, Dim::Vocab]),
    mtp_optional(Role::NextnSharedHeadNorm, "model.layers.{}.shared_head.norm.weight", &[Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
