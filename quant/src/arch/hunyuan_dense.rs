//! hunyuan-dense: Tencent's dense Hunyuan models: llama's block with norms on query and key heads behind rotary embedding, and a
//! base enlarged once and for all in place of dynamic scaling (`conversion/hunyuan.py`, b11434).

use super::rule::{head, optional, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HeadNorms, HfClass, NeutralKey, NormEpsilon, Role, Stated,
    TensorRule, neutral,
};

/// The row of the table.
pub(super) const HUNYUAN_DENSE: ArchSpec = ArchSpec {
    name: "hunyuan-dense",
    hf: &[HfClass { name: "HunYuanDenseV1ForCausalLM", ..CLASS_V1 }],
    tensors: TENSORS,
    stated: STATED,
    block: BLOCK_V1,
    neutral: NEUTRAL,
    understood: &["use_qk_norm"],
    dropped: &["lm_head.weight"],
    ..COMMON
};

/// What the dense models and those with experts have in common.
pub(super) const CLASS_V1: HfClass = HfClass {
    head_dim: HeadDim::Stated,
    context_length: Some(2048),
    norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
    rope_keys: &["alpha"],
    ..CLASS
};
pub(super) const BLOCK_V1: BlockTraits = BlockTraits { head_norms: HeadNorms::AfterRope, ..BLOCK };
pub(super) const NEUTRAL: &[NeutralKey] = &[neutral("hidden_act", &["\"silu\""]), neutral("use_cla", &["false"])];
pub(super) const STATED: &[Stated] = &[
    Stated {
        key: "attention_bias",
        default: false,
        roles: &[Role::AttnQBias, Role::AttnKBias, Role::AttnVBias, Role::AttnOutputBias],
    },
    Stated { key: "mlp_bias", default: false, roles: &[Role::FfnGateBias, Role::FfnUpBias, Role::FfnDownBias] },
];

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    optional(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries]),
    tensor(Role::AttnQNorm, "model.layers.{}.self_attn.query_layernorm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    optional(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys]),
    tensor(Role::AttnKNorm, "model.layers.{}.self_attn.key_layernorm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    optional(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    optional(Role::AttnOutputBias, "model.layers.{}.self_attn.o_proj.bias", &[Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    optional(Role::FfnGateBias, "model.layers.{}.mlp.gate_proj.bias", &[Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    optional(Role::FfnUpBias, "model.layers.{}.mlp.up_proj.bias", &[Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    optional(Role::FfnDownBias, "model.layers.{}.mlp.down_proj.bias", &[Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];
