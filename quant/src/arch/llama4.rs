//! llama4: Llama 4 Scout and Maverick: chunked attention in three of four blocks, no positions but a factor on queries in the
//! fourth, one expert a token, whose input is weighed, and a shared one (`conversion/llama.py`, b11434). llama.cpp has the
//! chunks, the factor and which blocks have them in its code. Absent: the image encoder.

use super::llama::LLAMA_SCALINGS;
use super::rule::{changed, computed, dense, head, optional, routed, routed_changed, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, ExpertGroups, Gating, HeadDim, HeadNorms, HfClass, HfRouting, HfWindow,
    NormEpsilon, Normalizes, QueryTemperature, Role, RopePairing, Rotated, Stated, TensorRule, Transform, Weighs, Windowed,
    neutral,
};

/// The row of the table.
pub(super) const LLAMA4: ArchSpec = ArchSpec {
    name: "llama4",
    hf: &[HfClass { text_types: &["llama4_text"], ..TEXT }, HfClass { name: "Llama4ForCausalLM", ..TEXT }],
    tensors: TENSORS,
    stated: &[Stated {
        key: "attention_bias",
        default: false,
        roles: &[Role::AttnQBias, Role::AttnKBias, Role::AttnVBias, Role::AttnOutputBias],
    }],
    block: BlockTraits {
        rope: RopePairing::Adjacent,
        rotated: Rotated::AllBut(4),
        chunk: Some(8192),
        windowed: Windowed::AllBut(4),
        temperature: QueryTemperature::Unrotated { scale: 0.1, floor: 8192 },
        head_norms: HeadNorms::AfterRopeUnweighted,
        gating: Gating::Sigmoid,
        normalizes_experts: false,
        shared_experts: 1,
        weighs: Weighs::Inputs,
        ..BLOCK
    },
    neutral: &[neutral("hidden_act", &["\"silu\""])],
    understood: &["num_local_experts", "use_qk_norm"],
    ..COMMON
};

const TEXT: HfClass = HfClass {
    name: "Llama4ForConditionalGeneration",
    head_dim: HeadDim::Even,
    context_length: Some(131_072),
    feed_forward_keys: &["intermediate_size_mlp"],
    norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
    rope_theta: 500_000.0,
    scalings: LLAMA_SCALINGS,
    window: HfWindow::Chunked,
    routing: HfRouting { gating: Gating::Sigmoid, normalizes: Normalizes::Never, groups: ExpertGroups::Never },
    defaults: &[
        ("num_key_value_heads", "8"),
        ("head_dim", "128"),
        ("intermediate_size_mlp", "16384"),
        ("intermediate_size", "8192"),
        ("attention_chunk_size", "8192"),
        ("num_experts_per_tok", "1"),
        ("num_local_experts", "16"),
        ("interleave_moe_layer_step", "1"),
    ],
    ..CLASS
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    computed(Role::RopeFreqs, &[Dim::RopePairs]),
    dense(Role::FfnGate, "model.layers.{}.feed_forward.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnUp, "model.layers.{}.feed_forward.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnDown, "model.layers.{}.feed_forward.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    routed_changed(Role::FfnDownExps, "model.layers.{}.feed_forward.experts.down_proj", EXPERT_OUT, Transform::Transpose),
    routed_changed(Role::FfnGateExps, "model.layers.{}.feed_forward.experts.gate_up_proj", EXPERT_IN, HALF[0]),
    routed_changed(Role::FfnUpExps, "model.layers.{}.feed_forward.experts.gate_up_proj", EXPERT_IN, HALF[1]),
    routed(Role::FfnGateInp, "model.layers.{}.feed_forward.router.weight", &[Dim::Embd, Dim::Experts]),
    routed(
        Role::FfnDownShexp,
        "model.layers.{}.feed_forward.shared_expert.down_proj.weight",
        &[Dim::SharedFeedForward, Dim::Embd],
    ),
    routed(
        Role::FfnGateShexp,
        "model.layers.{}.feed_forward.shared_expert.gate_proj.weight",
        &[Dim::Embd, Dim::SharedFeedForward],
    ),
    routed(Role::FfnUpShexp, "model.layers.{}.feed_forward.shared_expert.up_proj.weight", &[Dim::Embd, Dim::SharedFeedForward]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    changed(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries], QUERIES),
    TensorRule { transform: QUERIES, ..optional(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries]) },
    changed(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys], KEYS),
    TensorRule { transform: KEYS, ..optional(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys]) },
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    optional(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    optional(Role::AttnOutputBias, "model.layers.{}.self_attn.o_proj.bias", &[Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

// The checkpoint's heads are rotated by adjacent pairs already.
const QUERIES: Transform = Transform::Same;
const KEYS: Transform = Transform::Same;
const HALF: [Transform; 2] = [Transform::TransposeHalf(0), Transform::TransposeHalf(1)];
const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
