//! qwen3next: Qwen3-Next: the mixers of Qwen3.5, whose queries, keys, values and gates stand in one matrix key by key, with
//! experts (`conversion/qwen.py`, b11434). Heads of values keep the order of their keys.

use super::biases::ATTENTION_BIAS;
use super::qwen35::{
    BIASES_35, BLOCK_35, CLASS_35, FFN_NORM, KEY_NORM, KEYS, MTP, NEUTRAL, OUTPUT, QUERIES, QUERY_NORM, STATE_NORM, VALUES,
};
use super::qwen35moe::{EXPERT_IN, EXPERT_OUT, SHARED};
use super::rule::{changed, experts, head, recurrent, routed, tensor};
use super::{
    ArchSpec, BlockTraits, CLASS, COMMON, Dim, HfClass, HfRouting, MtpBlocks, Normalizes, Recurs, Role, TensorRule, Transform,
};

/// The row of the table.
pub(super) const QWEN3NEXT: ArchSpec = ArchSpec {
    name: "qwen3next",
    hf: &[HfClass {
        name: "Qwen3NextForCausalLM",
        rope_keys: &[],
        routing: HfRouting { normalizes: Normalizes::Key, ..CLASS.routing },
        defaults: &[
            ("num_key_value_heads", "2"),
            ("max_position_embeddings", "32768"),
            ("linear_conv_kernel_dim", "4"),
            ("linear_key_head_dim", "128"),
            ("linear_value_head_dim", "128"),
            ("linear_num_key_heads", "16"),
            ("linear_num_value_heads", "32"),
            ("num_experts", "512"),
            ("num_experts_per_tok", "10"),
            ("norm_topk_prob", "true"),
            ("moe_intermediate_size", "512"),
            ("shared_expert_intermediate_size", "512"),
            // The configuration does not count it, though the files have it.
            ("mtp_num_hidden_layers", "1"),
        ],
        ..CLASS_35
    }],
    tensors: TENSORS,
    mtp: MtpBlocks::Kept,
    block: BlockTraits { recurs: Recurs::DeltaNet { tiled: false }, ..BLOCK_35 },
    neutral: NEUTRAL,
    stated: &[ATTENTION_BIAS],
    understood: &["num_experts"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    changed(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    recurrent(Role::SsmA, "model.layers.{}.linear_attn.A_log", &[Dim::StateHeads], Transform::NegExp),
    recurrent(
        Role::SsmConv1d,
        "model.layers.{}.linear_attn.conv1d.weight",
        &[Dim::ConvKernel, Dim::ConvChannels],
        Transform::Squeeze,
    ),
    recurrent(Role::SsmDtBias, "model.layers.{}.linear_attn.dt_bias", &[Dim::StateHeads], Transform::Same),
    recurrent(Role::SsmBa, "model.layers.{}.linear_attn.in_proj_ba.weight", &[Dim::Embd, Dim::TwiceStateHeads], Transform::Same),
    recurrent(Role::AttnQkv, QKVZ, &[Dim::Embd, Dim::ConvChannels], Transform::QueriesKeysValues),
    recurrent(Role::AttnGate, QKVZ, &[Dim::Embd, Dim::StateValues], Transform::ValueGates),
    STATE_NORM,
    recurrent(Role::SsmOut, "model.layers.{}.linear_attn.out_proj.weight", &[Dim::StateValues, Dim::Embd], Transform::Same),
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
    experts(Role::FfnGateExps, "model.layers.{}.mlp.experts.{}.gate_proj.weight", EXPERT_IN),
    experts(Role::FfnUpExps, "model.layers.{}.mlp.experts.{}.up_proj.weight", EXPERT_IN),
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

const QKVZ: &str = "model.layers.{}.linear_attn.in_proj_qkvz.weight";
