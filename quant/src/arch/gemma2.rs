//! gemma2: Gemma 2, with capped logits, norms after attention and MLP, and a sliding window in every second block. The file
//! does not say the base of rotary embedding and the scale of attention (`conversion/gemma.py`, b11434).

use super::biases::{ATTENTION_BIAS, ATTENTION_BIASES};
use super::rule::{changed, head, tensor};
use super::{
    ArchSpec, AttentionScale, BLOCK, BlockTraits, CLASS, COMMON, Dim, EmbeddingScale, HeadDim, HfClass, HfWindow, Mlp, Role,
    TensorRule, Transform, Windowed, neutral,
};

/// The row of the table.
pub(super) const GEMMA2: ArchSpec = ArchSpec {
    name: "gemma2",
    hf: &[HfClass {
        name: "Gemma2ForCausalLM",
        head_dim: HeadDim::Fixed(256),
        tied: true,
        window: HfWindow::Pattern(2),
        attention_scalar: Some(("query_pre_attn_scalar", 256.0)),
        defaults: &[
            ("num_key_value_heads", "4"),
            ("max_position_embeddings", "8192"),
            ("sliding_window", "4096"),
            ("attn_logit_softcapping", "50.0"),
            ("final_logit_softcapping", "30.0"),
        ],
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits {
        mlp: Mlp::GeGlu,
        windowed: Windowed::AllBut(2),
        attention_scale: AttentionScale::EvenHeadAt(46),
        embedding_scale: EmbeddingScale::RootOfWidth,
        ..BLOCK
    },
    stated: &[ATTENTION_BIAS],
    neutral: &[neutral("hidden_activation", &["\"gelu_pytorch_tanh\""]), neutral("use_bidirectional_attention", &["false"])],
    understood: &["attn_logit_softcapping", "final_logit_softcapping"],
    dropped: &["lm_head.weight"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    changed(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    changed(Role::AttnPostNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    changed(Role::FfnNorm, "model.layers.{}.pre_feedforward_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    changed(Role::FfnPostNorm, "model.layers.{}.post_feedforward_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    ATTENTION_BIASES[0],
    ATTENTION_BIASES[1],
    ATTENTION_BIASES[2],
    ATTENTION_BIASES[3],
    changed(Role::OutputNorm, "model.norm.weight", &[Dim::Embd], Transform::AddOne),
    head("lm_head.weight"),
];
