//! muse-glimmer: Muse Glimmer's language model: a norm on embeddings, norms without weights on query and key heads with a
//! factor on queries, a sigmoid gate on what attention puts out, a sliding window in three of four blocks and no positions in
//! the fourth, scaled and capped logits (`conversion/muse_glimmer.py`, b11434). The file has the head norms as tensors that are
//! the same throughout. Absent: the image encoder.

use super::rule::{changed, head, tensor};
use super::{
    ArchSpec, AttentionGate, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, HfWindow, NormEpsilon, Role, RopePairing,
    Rotated, TensorRule, Transform, Windowed, neutral,
};

/// The row of the table.
pub(super) const MUSE_GLIMMER: ArchSpec = ArchSpec {
    name: "muse-glimmer",
    hf: &[HfClass {
        name: "MuseGlimmerForConditionalGeneration",
        text_types: &["muse_glimmer_text"],
        head_dim: HeadDim::Fixed(128),
        norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
        context_length: Some(131_072),
        window: HfWindow::FromEnd(4),
        defaults: &[
            ("num_key_value_heads", "2"),
            ("sliding_window", "2048"),
            ("final_logit_softcapping", "20.0"),
            ("output_multiplier", "0.19611613513818404"),
            ("qk_scale_factor", "3.87"),
            ("post_norm_eps", "1e-8"),
        ],
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits {
        rope: RopePairing::Adjacent,
        rotated: Rotated::Windowed,
        windowed: Windowed::AllBut(4),
        attention_gate: AttentionGate::Own,
        norms_embeddings: true,
        post_norm_epsilon: Some(1e-8),
        ..BLOCK
    },
    neutral: &[neutral("hidden_activation", &["\"silu\""]), neutral("attention_bias", &["false"])],
    understood: &["final_logit_softcapping"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    changed(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    changed(Role::AttnPostNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    changed(Role::FfnPostNorm, "model.layers.{}.post_feedforward_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    changed(Role::FfnNorm, "model.layers.{}.pre_feedforward_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    tensor(Role::AttnGate, "model.layers.{}.self_attn.gate_proj.weight", &[Dim::Embd, Dim::AttnOutput]),
    changed(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys], Transform::InterleaveKeyHeads),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    changed(Role::AttnQNorm, QUERIES, &[Dim::HeadDim], Transform::Filled(Some("qk_scale_factor"))),
    changed(Role::AttnKNorm, QUERIES, &[Dim::HeadDim], Transform::Filled(None)),
    changed(Role::AttnQ, QUERIES, &[Dim::Embd, Dim::Queries], Transform::InterleaveQueryHeads),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const QUERIES: &str = "model.layers.{}.self_attn.q_proj.weight";
