//! lfm2: Liquid AI's LFM2: short gated convolutions in most blocks, attention with norms of heads in the others. The final norm
//! goes by the name of one behind the embedding (`conversion/lfm2.py`, b11434).

use super::rule::{attention, head, recurrent, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HfClass, HfWindow, NormEpsilon, Recurs, Role, Shapes, TensorRule,
    Transform, neutral,
};

/// The row of the table.
pub(super) const LFM2: ArchSpec = ArchSpec {
    name: "lfm2",
    hf: &[HfClass {
        name: "Lfm2ForCausalLM",
        feed_forward_keys: &["block_ff_dim", "intermediate_size"],
        defaults: &[
            ("vocab_size", "65536"),
            ("hidden_size", "2560"),
            ("intermediate_size", "12288"),
            ("num_hidden_layers", "32"),
            ("num_attention_heads", "32"),
            ("num_key_value_heads", "8"),
            ("conv_L_cache", "3"),
            ("block_multiple_of", "256"),
            ("block_ffn_dim_multiplier", "1.0"),
            ("block_auto_adjust_ff_dim", "true"),
        ],
        ..CLASS_LFM2
    }],
    tensors: TENSORS,
    block: BLOCK_LFM2,
    neutral: NEUTRAL,
    ..COMMON
};

/// What the dense models and those with experts have in common.
pub(super) const CLASS_LFM2: HfClass = HfClass {
    context_length: Some(128_000),
    norm: NormEpsilon::Rms("norm_eps", 1e-5),
    rope_theta: 1e6,
    tied: true,
    window: HfWindow::Recurrent,
    ..CLASS
};
pub(super) const BLOCK_LFM2: BlockTraits =
    BlockTraits { recurs: Recurs::ShortConv, shapes: Shapes::ByBlock, output_norm: Role::TokenEmbdNorm, ..BLOCK };
pub(super) const NEUTRAL: &[super::NeutralKey] =
    &[neutral("conv_bias", &["false"]), neutral("block_use_swiglu", &["true"]), neutral("sliding_window", &[])];

const TENSORS: &[TensorRule] = &[
    EMBEDDING,
    FINAL_NORM,
    CONV,
    CONV_IN,
    CONV_OUT,
    tensor(Role::FfnGate, "model.layers.{}.feed_forward.w1.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.feed_forward.w2.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::FfnUp, "model.layers.{}.feed_forward.w3.weight", &[Dim::Embd, Dim::FeedForward]),
    FFN_NORM,
    MIXER_NORM,
    KEY_NORM,
    KEYS,
    OUTPUT,
    QUERY_NORM,
    QUERIES,
    VALUES,
    head("lm_head.weight"),
];

// The parts that the models with experts share.
pub(super) const EMBEDDING: TensorRule = tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]);
pub(super) const FINAL_NORM: TensorRule = tensor(Role::TokenEmbdNorm, "model.embedding_norm.weight", &[Dim::Embd]);
pub(super) const CONV: TensorRule =
    recurrent(Role::ShortConv, "model.layers.{}.conv.conv.weight", &[Dim::ConvKernel, Dim::ConvChannels], Transform::Squeeze);
pub(super) const CONV_IN: TensorRule =
    recurrent(Role::ShortConvIn, "model.layers.{}.conv.in_proj.weight", &[Dim::Embd, Dim::ThriceEmbd], Transform::Same);
pub(super) const CONV_OUT: TensorRule =
    recurrent(Role::ShortConvOut, "model.layers.{}.conv.out_proj.weight", &[Dim::Embd, Dim::Embd], Transform::Same);
pub(super) const FFN_NORM: TensorRule = tensor(Role::FfnNorm, "model.layers.{}.ffn_norm.weight", &[Dim::Embd]);
pub(super) const MIXER_NORM: TensorRule = tensor(Role::AttnNorm, "model.layers.{}.operator_norm.weight", &[Dim::Embd]);
pub(super) const QUERIES: TensorRule =
    attention(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries], Transform::Same);
pub(super) const QUERY_NORM: TensorRule =
    attention(Role::AttnQNorm, "model.layers.{}.self_attn.q_layernorm.weight", &[Dim::HeadDim], Transform::Same);
pub(super) const KEYS: TensorRule =
    attention(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys], Transform::Same);
pub(super) const KEY_NORM: TensorRule =
    attention(Role::AttnKNorm, "model.layers.{}.self_attn.k_layernorm.weight", &[Dim::HeadDim], Transform::Same);
pub(super) const VALUES: TensorRule =
    attention(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values], Transform::Same);
pub(super) const OUTPUT: TensorRule =
    attention(Role::AttnOutput, "model.layers.{}.self_attn.out_proj.weight", &[Dim::AttnOutput, Dim::Embd], Transform::Same);
