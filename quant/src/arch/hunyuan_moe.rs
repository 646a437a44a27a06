//! hunyuan-moe: Hunyuan A13B: the dense models' block with experts and a shared one beside them
//! (`conversion/hunyuan.py`, b11434).

use super::hunyuan_dense::{BLOCK_V1, CLASS_V1, NEUTRAL, STATED};
use super::rule::{experts, head, optional, routed, tensor};
use super::{ArchSpec, COMMON, Dim, HfClass, Role, TensorRule};

/// The row of the table.
pub(super) const HUNYUAN_MOE: ArchSpec = ArchSpec {
    name: "hunyuan-moe",
    hf: &[HfClass { name: "HunYuanMoEV1ForCausalLM", experts_used_key: None, ..CLASS_V1 }],
    tensors: TENSORS,
    stated: STATED,
    block: BLOCK_V1,
    neutral: NEUTRAL,
    understood: &["use_qk_norm", "num_experts"],
    dropped: &["lm_head.weight"],
    ..COMMON
};

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
    routed(Role::FfnGateInp, "model.layers.{}.mlp.gate.wg.weight", &[Dim::Embd, Dim::Experts]),
    experts(Role::FfnDownExps, "model.layers.{}.mlp.experts.{}.down_proj.weight", EXPERT_OUT),
    experts(Role::FfnGateExps, "model.layers.{}.mlp.experts.{}.gate_proj.weight", EXPERT_IN),
    experts(Role::FfnUpExps, "model.layers.{}.mlp.experts.{}.up_proj.weight", EXPERT_IN),
    routed(Role::FfnGateShexp, "model.layers.{}.mlp.shared_mlp.gate_proj.weight", &[Dim::Embd, Dim::SharedFeedForward]),
    routed(Role::FfnUpShexp, "model.layers.{}.mlp.shared_mlp.up_proj.weight", &[Dim::Embd, Dim::SharedFeedForward]),
    routed(Role::FfnDownShexp, "model.layers.{}.mlp.shared_mlp.down_proj.weight", &[Dim::SharedFeedForward, Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
