//! gemma3: the text models of Gemma 3, with norms on query and key heads, and a sliding window with a rotary base of its own
//! in five of six blocks. The file does not say the scale of attention and which blocks have the window
//! (`conversion/gemma.py`, b11434). Absent: the image encoder of some of the models.

use super::biases::{ATTENTION_BIAS, ATTENTION_BIASES};
use super::rule::{changed, head, tensor};
use super::{
    ArchSpec, AttentionScale, BLOCK, BlockTraits, CLASS, COMMON, Dim, EmbeddingScale, HeadDim, HfClass, HfWindow, LocalRope, Mlp,
    Role, TensorRule, Transform, Windowed, neutral,
};

/// The row of the table.
pub(super) const GEMMA3: ArchSpec = ArchSpec {
    name: "gemma3",
    hf: &[
        TEXT,
        HfClass { name: "Gemma3ForConditionalGeneration", text_types: &["gemma3_text"], defaults: WRAPPED_DEFAULTS, ..TEXT },
    ],
    tensors: TENSORS,
    block: BlockTraits {
        mlp: Mlp::GeGlu,
        windowed: Windowed::AllBut(6),
        local_rope: LocalRope::Base(10000.0),
        attention_scale: AttentionScale::EvenHeadAt(62),
        embedding_scale: EmbeddingScale::RootOfWidth,
        ..BLOCK
    },
    stated: &[ATTENTION_BIAS],
    neutral: &[neutral("hidden_activation", &["\"gelu_pytorch_tanh\""]), neutral("use_bidirectional_attention", &["false"])],
    understood: &["final_logit_softcapping"],
    ..COMMON
};

const TEXT: HfClass = HfClass {
    name: "Gemma3ForCausalLM",
    head_dim: HeadDim::Fixed(256),
    context_length: Some(131_072),
    rope_theta: 1e6,
    local_rope_theta: Some(10000.0),
    tied: true,
    window: HfWindow::Pattern(6),
    attention_scalar: Some(("query_pre_attn_scalar", 256.0)),
    defaults: &[("num_key_value_heads", "4"), ("sliding_window", "4096")],
    ..CLASS
};

/// Published models with an image encoder leave out whatever is as here.
const WRAPPED_DEFAULTS: &[(&str, &str)] = &[
    ("vocab_size", "262208"),
    ("hidden_size", "2304"),
    ("intermediate_size", "9216"),
    ("num_hidden_layers", "26"),
    ("num_attention_heads", "8"),
    ("num_key_value_heads", "4"),
    ("sliding_window", "4096"),
];

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    changed(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd], Transform::AddOne),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    changed(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::HeadDim], Transform::AddOne),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    changed(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::HeadDim], Transform::AddOne),
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
