//! qwen35moe: the models of Qwen3.5 and later with experts: the dense models' mixers, routed experts and a gated shared one
//! (`conversion/qwen.py`, b11434). Experts stand one by one in the files, or all of a block in one tensor.

use super::biases::ATTENTION_BIAS;
use super::qwen35::{
    A_LOG, ALPHA, BETA, BIASES_35, BLOCK_35, CLASS_35, CONV, DT_BIAS, FFN_NORM, GATE, KEY_NORM, KEYS, MTP, NEUTRAL, OUTPUT, QKV,
    QUERIES, QUERY_NORM, STATE_NORM, STATE_OUT, VALUES,
};
use super::rule::{changed, experts, head, routed, routed_changed, tensor};
use super::{ArchSpec, COMMON, Dim, HfClass, MtpBlocks, Role, TensorRule, Transform};

/// The row of the table.
pub(super) const QWEN35MOE: ArchSpec = ArchSpec {
    name: "qwen35moe",
    hf: &[
        HfClass { name: "Qwen3_5MoeForCausalLM", ..CLASS_MOE },
        HfClass { name: "Qwen3_5MoeForConditionalGeneration", text_types: &["qwen3_5_moe_text"], ..CLASS_MOE },
    ],
    tensors: TENSORS,
    mtp: MtpBlocks::Kept,
    block: BLOCK_35,
    neutral: NEUTRAL,
    stated: &[ATTENTION_BIAS],
    understood: &["num_experts"],
    ..COMMON
};

const CLASS_MOE: HfClass = HfClass {
    feed_forward_keys: &[],
    defaults: &[
        ("num_key_value_heads", "2"),
        ("max_position_embeddings", "32768"),
        ("linear_conv_kernel_dim", "4"),
        ("linear_key_head_dim", "128"),
        ("linear_value_head_dim", "128"),
        ("linear_num_key_heads", "16"),
        ("linear_num_value_heads", "32"),
        ("num_experts", "256"),
        ("num_experts_per_tok", "8"),
        ("moe_intermediate_size", "512"),
        ("shared_expert_intermediate_size", "512"),
    ],
    ..CLASS_35
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    changed(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    A_LOG,
    CONV,
    DT_BIAS,
    ALPHA,
    BETA,
    QKV,
    GATE,
    STATE_NORM,
    STATE_OUT,
    QUERIES,
    QUERY_NORM,
    KEYS,
    KEY_NORM,
    VALUES,
    OUTPUT,
    BIASES_35[0],
    BIASES_35[1],
    BIASES_35[2],
    BIASES_35[3],
    routed(Role::FfnGateInp, "model.layers.{}.mlp.gate.weight", &[Dim::Embd, Dim::Experts]),
    experts(Role::FfnDownExps, "model.layers.{}.mlp.experts.{}.down_proj.weight", EXPERT_OUT),
    routed(Role::FfnDownExps, "model.layers.{}.mlp.experts.down_proj", EXPERT_OUT),
    experts(Role::FfnGateExps, "model.layers.{}.mlp.experts.{}.gate_proj.weight", EXPERT_IN),
    routed_changed(Role::FfnGateExps, "model.layers.{}.mlp.experts.gate_up_proj", EXPERT_IN, Transform::Half(0)),
    experts(Role::FfnUpExps, "model.layers.{}.mlp.experts.{}.up_proj.weight", EXPERT_IN),
    routed_changed(Role::FfnUpExps, "model.layers.{}.mlp.experts.gate_up_proj", EXPERT_IN, Transform::Half(1)),
    SHARED[0],
    SHARED[1],
    SHARED[2],
    SHARED[3],
    FFN_NORM,
    MTP[0],
    MTP[1],
    MTP[2],
    MTP[3],
    changed(Role::OutputNorm, "model.norm.weight", &[Dim::Embd], Transform::AddOne),
    head("lm_head.weight"),
];

/// The shared expert.
pub(super) const SHARED: [TensorRule; 4] = [
    routed(Role::FfnDownShexp, "model.layers.{}.mlp.shared_expert.down_proj.weight", &[Dim::SharedFeedForward, Dim::Embd]),
    routed(Role::FfnGateShexp, "model.layers.{}.mlp.shared_expert.gate_proj.weight", &[Dim::Embd, Dim::SharedFeedForward]),
    routed(Role::FfnUpShexp, "model.layers.{}.mlp.shared_expert.up_proj.weight", &[Dim::Embd, Dim::SharedFeedForward]),
    routed(Role::FfnGateInpShexp, "model.layers.{}.mlp.shared_expert_gate.weight", &[Dim::Embd, Dim::One]),
];

pub(super) const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
pub(super) const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
