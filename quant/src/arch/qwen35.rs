//! qwen35: the dense models of Qwen3.5 and later, with and without their image encoders: three of four blocks have a gated delta
//! net in place of attention, the fourth attention with a gate on its output; a block behind the last predicts a further token
//! (`conversion/qwen.py`, b11434). llama.cpp wants the heads of values tiled.

use super::biases::{ATTENTION_BIAS, ATTENTION_BIASES};
use super::rule::{attention, changed, dense, head, mtp, mtp_changed, recurrent, tensor};
use super::{
    ArchSpec, AttentionGate, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, HfWindow, MtpBlocks, Recurs, Role,
    TensorRule, Tiled, Transform, neutral,
};

/// The row of the table.
pub(super) const QWEN35: ArchSpec = ArchSpec {
    name: "qwen35",
    hf: &[
        HfClass { name: "Qwen3_5ForCausalLM", ..CLASS_35 },
        HfClass { name: "Qwen3_5ForConditionalGeneration", text_types: &["qwen3_5_text"], ..CLASS_35 },
    ],
    tensors: TENSORS,
    mtp: MtpBlocks::Kept,
    block: BLOCK_35,
    neutral: NEUTRAL,
    stated: &[ATTENTION_BIAS],
    ..COMMON
};

/// What the dense models and those with experts have in common.
pub(super) const CLASS_35: HfClass = HfClass {
    head_dim: HeadDim::Fixed(256),
    partial_rotary: Some(0.25),
    rope_keys: &["mrope_section", "mrope_interleaved"],
    window: HfWindow::Recurrent,
    defaults: &[
        ("num_key_value_heads", "4"),
        ("max_position_embeddings", "32768"),
        ("linear_conv_kernel_dim", "4"),
        ("linear_key_head_dim", "128"),
        ("linear_value_head_dim", "128"),
        ("linear_num_key_heads", "16"),
        ("linear_num_value_heads", "32"),
    ],
    ..CLASS
};
pub(super) const BLOCK_35: BlockTraits = BlockTraits {
    recurs: Recurs::DeltaNet { tiled: true },
    attention_gate: AttentionGate::BehindQueries,
    ffn_norm: Role::AttnPostNorm,
    ..BLOCK
};
pub(super) const NEUTRAL: &[super::NeutralKey] = &[
    neutral("hidden_act", &["\"silu\""]),
    neutral("attn_output_gate", &["true"]),
    neutral("mtp_use_dedicated_embeddings", &["false"]),
];

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
    dense(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    dense(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    FFN_NORM,
    MTP[0],
    MTP[1],
    MTP[2],
    MTP[3],
    changed(Role::OutputNorm, "model.norm.weight", &[Dim::Embd], Transform::AddOne),
    head("lm_head.weight"),
];

const fn net(role: Role, hf: &'static str, shape: &'static [Dim], tiled: Tiled) -> TensorRule {
    recurrent(role, hf, shape, Transform::Tile(tiled))
}

// The parts that the models with experts share.
pub(super) const A_LOG: TensorRule =
    recurrent(Role::SsmA, "model.layers.{}.linear_attn.A_log", &[Dim::StateHeads], Transform::NegExpTiled);
pub(super) const CONV: TensorRule =
    net(Role::SsmConv1d, "model.layers.{}.linear_attn.conv1d.weight", &[Dim::ConvKernel, Dim::ConvChannels], Tiled::Convolution);
pub(super) const DT_BIAS: TensorRule =
    net(Role::SsmDtBias, "model.layers.{}.linear_attn.dt_bias", &[Dim::StateHeads], Tiled::Heads);
pub(super) const ALPHA: TensorRule =
    net(Role::SsmAlpha, "model.layers.{}.linear_attn.in_proj_a.weight", &[Dim::Embd, Dim::StateHeads], Tiled::Heads);
pub(super) const BETA: TensorRule =
    net(Role::SsmBeta, "model.layers.{}.linear_attn.in_proj_b.weight", &[Dim::Embd, Dim::StateHeads], Tiled::Heads);
pub(super) const QKV: TensorRule =
    net(Role::AttnQkv, "model.layers.{}.linear_attn.in_proj_qkv.weight", &[Dim::Embd, Dim::ConvChannels], Tiled::RowsBehindKeys);
pub(super) const GATE: TensorRule =
    net(Role::AttnGate, "model.layers.{}.linear_attn.in_proj_z.weight", &[Dim::Embd, Dim::StateValues], Tiled::Rows);
pub(super) const STATE_NORM: TensorRule =
    recurrent(Role::SsmNorm, "model.layers.{}.linear_attn.norm.weight", &[Dim::StateValueDim], Transform::Same);
pub(super) const STATE_OUT: TensorRule =
    net(Role::SsmOut, "model.layers.{}.linear_attn.out_proj.weight", &[Dim::StateValues, Dim::Embd], Tiled::Columns);
pub(super) const QUERIES: TensorRule =
    attention(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::QueriesAndGates], Transform::Same);
pub(super) const QUERY_NORM: TensorRule =
    attention(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::HeadDim], Transform::AddOne);
pub(super) const KEYS: TensorRule =
    attention(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys], Transform::Same);
pub(super) const KEY_NORM: TensorRule =
    attention(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::HeadDim], Transform::AddOne);
pub(super) const VALUES: TensorRule =
    attention(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values], Transform::Same);
pub(super) const OUTPUT: TensorRule =
    attention(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd], Transform::Same);
// Queries come with the gate of each head's output.
pub(super) const BIASES_35: [TensorRule; 4] = [
    TensorRule { shape: &[Dim::QueriesAndGates], ..ATTENTION_BIASES[0] },
    ATTENTION_BIASES[1],
    ATTENTION_BIASES[2],
    ATTENTION_BIASES[3],
];
pub(super) const FFN_NORM: TensorRule =
    changed(Role::AttnPostNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd], Transform::AddOne);
pub(super) const MTP: [TensorRule; 4] = [
    mtp(Role::NextnEhProj, "model.layers.{}.eh_proj.weight", &[Dim::TwiceEmbd, Dim::Embd]),
    mtp_changed(Role::NextnSharedHeadNorm, "model.layers.{}.shared_head.norm.weight"),
    mtp_changed(Role::NextnEnorm, "model.layers.{}.enorm.weight"),
    mtp_changed(Role::NextnHnorm, "model.layers.{}.hnorm.weight"),
];
