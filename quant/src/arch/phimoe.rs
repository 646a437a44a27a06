//! phimoe: Phi-3.5-MoE, with layer norms, biases on attention and on the logits, and a router that chooses two experts one after
//! the other (`conversion/phi.py`, b11434; `modeling_phimoe.py`, transformers 5.24). llama.cpp runs it with RMS norms and another
//! router.

use super::biases::{ATTENTION_BIAS, ATTENTION_BIASES};
use super::rule::{computed, experts, head, optional, routed, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, Gating, HeadDim, HfClass, HfRouting, HfWindow, LongRope, Norm, NormEpsilon,
    Normalizes, Role, Stated, TensorRule, neutral,
};

/// The row of the table.
pub(super) const PHIMOE: ArchSpec = ArchSpec {
    name: "phimoe",
    hf: &[HfClass {
        name: "PhiMoEForCausalLM",
        head_dim: HeadDim::Ignored,
        // transformers gives its layer norms the key of RMS norms, and the converter writes it as theirs.
        norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
        rope_theta: 1e6,
        window: HfWindow::All,
        scalings: &["default", "longrope"],
        rope_keys: &["short_mscale", "long_mscale"],
        defaults: &[
            ("num_key_value_heads", "8"),
            ("max_position_embeddings", "131072"),
            ("num_experts_per_tok", "2"),
            ("num_local_experts", "16"),
        ],
        routing: HfRouting { gating: Gating::SparseMixer, normalizes: Normalizes::Never, ..CLASS.routing },
        ..CLASS
    }],
    tensors: TENSORS,
    stated: &[ATTENTION_BIAS, Stated { key: "lm_head_bias", default: false, roles: &[Role::OutputBias] }],
    block: BlockTraits {
        norm: Norm::Layer,
        gating: Gating::SparseMixer,
        normalizes_experts: false,
        long_rope: LongRope::ShortAlways,
        ..BLOCK
    },
    // transformers chooses two, whatever the configuration says.
    neutral: &[neutral("hidden_act", &["\"silu\""]), neutral("num_experts_per_tok", &["2"])],
    understood: &["num_local_experts"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    computed(Role::RopeFactorsLong, &[Dim::RopePairs]),
    computed(Role::RopeFactorsShort, &[Dim::RopePairs]),
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnNormBias, "model.layers.{}.input_layernorm.bias", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    ATTENTION_BIASES[0],
    ATTENTION_BIASES[1],
    ATTENTION_BIASES[2],
    ATTENTION_BIASES[3],
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnNormBias, "model.layers.{}.post_attention_layernorm.bias", &[Dim::Embd]),
    routed(Role::FfnGateInp, "model.layers.{}.block_sparse_moe.gate.weight", &[Dim::Embd, Dim::Experts]),
    experts(Role::FfnGateExps, "model.layers.{}.block_sparse_moe.experts.{}.w1.weight", EXPERT_IN),
    experts(Role::FfnDownExps, "model.layers.{}.block_sparse_moe.experts.{}.w2.weight", EXPERT_OUT),
    experts(Role::FfnUpExps, "model.layers.{}.block_sparse_moe.experts.{}.w3.weight", EXPERT_IN),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    tensor(Role::OutputNormBias, "model.norm.bias", &[Dim::Embd]),
    optional(Role::OutputBias, "lm_head.bias", &[Dim::Vocab]),
    head("lm_head.weight"),
];

const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
