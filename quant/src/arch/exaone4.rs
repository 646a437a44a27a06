//! exaone4: LG's EXAONE 4: norms behind attention and feed-forward network and on query and key heads; where the model has
//! windows, the blocks without one do not rotate (`conversion/exaone.py`, b11434).

use super::rule::{computed, head, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, HfWindow, NormEpsilon, Role, Rotated, TensorRule, neutral,
};

/// The row of the table.
pub(super) const EXAONE4: ArchSpec = ArchSpec {
    name: "exaone4",
    hf: &[HfClass {
        name: "Exaone4ForCausalLM",
        head_dim: HeadDim::Stated,
        context_length: Some(2048),
        norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
        scalings: &["default", "llama3"],
        window: HfWindow::Letters,
        defaults: &[("num_key_value_heads", "32"), ("sliding_window", "4096")],
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits { rotated: Rotated::WindowedOrAll, ..BLOCK },
    neutral: &[neutral("hidden_act", &["\"silu\""]), neutral("attention_bias", &["false"])],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    computed(Role::RopeFreqs, &[Dim::RopePairs]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::AttnPostNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::FfnPostNorm, "model.layers.{}.post_feedforward_layernorm.weight", &[Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];
