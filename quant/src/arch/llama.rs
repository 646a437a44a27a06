//! llama: Llama 1 to 3.2 and the many models that share its graph (Yi, SmolLM2, TinyLlama, DeepSeek-LLM, ...); Mistral and
//! Mixtral, which llama.cpp files under the same name.
//!
//! Tensor names, layout and the rope factors follow llama.cpp's converter (b11434, `conversion/llama.py`). The file does not
//! say Mistral's sliding window.

use super::rule::{changed, computed, dense, experts, head, optional, routed, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, HfWindow, NeutralKey, NormEpsilon, Role, RopePairing,
    Stated, TensorRule, Transform, neutral,
};

/// The row of the table.
pub(super) const LLAMA: ArchSpec = ArchSpec {
    name: "llama",
    hf: &[
        HfClass {
            name: "LlamaForCausalLM",
            head_dim: HeadDim::Even,
            context_length: Some(2048),
            scalings: LLAMA_SCALINGS,
            ..CLASS
        },
        HfClass {
            name: "MistralForCausalLM",
            head_dim: HeadDim::Even,
            window: HfWindow::All,
            defaults: &[("num_key_value_heads", "8"), ("sliding_window", "4096"), ("max_position_embeddings", "131072")],
            ..CLASS
        },
        HfClass {
            name: "MixtralForCausalLM",
            rope_theta: 1e6,
            norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
            window: HfWindow::All,
            defaults: &[
                ("num_key_value_heads", "8"),
                ("max_position_embeddings", "131072"),
                ("num_experts_per_tok", "2"),
                ("num_local_experts", "8"),
            ],
            ..CLASS
        },
    ],
    tensors: TENSORS,
    stated: &[
        Stated {
            key: "attention_bias",
            default: false,
            roles: &[Role::AttnQBias, Role::AttnKBias, Role::AttnVBias, Role::AttnOutputBias],
        },
        Stated { key: "mlp_bias", default: false, roles: &[Role::FfnGateBias, Role::FfnUpBias, Role::FfnDownBias] },
    ],
    block: BlockTraits { rope: RopePairing::Adjacent, ..BLOCK },
    neutral: NEUTRAL,
    understood: &["num_local_experts"],
    ..COMMON
};

/// The kinds of rotary scaling of the converter's llama class.
pub(super) const LLAMA_SCALINGS: &[&str] = &["default", "linear", "dynamic", "llama3", "yarn"];

pub(super) const NEUTRAL: &[NeutralKey] = &[neutral("hidden_act", &["\"silu\""])];

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    computed(Role::RopeFreqs, &[Dim::RopePairs]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    changed(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries], QUERIES),
    TensorRule { transform: QUERIES, ..optional(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries]) },
    changed(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys], KEYS),
    TensorRule { transform: KEYS, ..optional(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys]) },
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    optional(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    optional(Role::AttnOutputBias, "model.layers.{}.self_attn.o_proj.bias", &[Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    dense(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    optional(Role::FfnGateBias, "model.layers.{}.mlp.gate_proj.bias", &[Dim::FeedForward]),
    dense(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    optional(Role::FfnUpBias, "model.layers.{}.mlp.up_proj.bias", &[Dim::FeedForward]),
    dense(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    optional(Role::FfnDownBias, "model.layers.{}.mlp.down_proj.bias", &[Dim::Embd]),
    routed(Role::FfnGateInp, "model.layers.{}.block_sparse_moe.gate.weight", &[Dim::Embd, Dim::Experts]),
    experts(Role::FfnGateExps, "model.layers.{}.block_sparse_moe.experts.{}.w1.weight", EXPERT_IN),
    experts(Role::FfnDownExps, "model.layers.{}.block_sparse_moe.experts.{}.w2.weight", EXPERT_OUT),
    experts(Role::FfnUpExps, "model.layers.{}.block_sparse_moe.experts.{}.w3.weight", EXPERT_IN),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const QUERIES: Transform = Transform::InterleaveQueryHeads;
const KEYS: Transform = Transform::InterleaveKeyHeads;
const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
