//! olmo2: OLMo 2, with norms after attention and MLP in place of before, and over all query and key heads together
//! (`conversion/olmo.py`, b11434). OLMo 3 has a sliding window in three of four blocks, whose positions are not stretched.

use super::biases::{ATTENTION_BIAS, ATTENTION_BIASES};
use super::rule::{head, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HfClass, HfWindow, LocalRope, NormEpsilon, Role, TensorRule, Windowed,
    neutral,
};

/// The row of the table.
pub(super) const OLMO2: ArchSpec = ArchSpec {
    name: "olmo2",
    hf: &[
        TEXT,
        HfClass {
            name: "Olmo3ForCausalLM",
            rope_theta: 500_000.0,
            local_rope_theta: Some(500_000.0),
            window: HfWindow::Pattern(4),
            defaults: &[("sliding_window", "4096")],
            ..TEXT
        },
    ],
    tensors: TENSORS,
    block: BlockTraits { local_rope: LocalRope::Unscaled, windowed: Windowed::AllBut(4), ..BLOCK },
    stated: &[ATTENTION_BIAS],
    neutral: &[neutral("hidden_act", &["\"silu\""])],
    ..COMMON
};

const TEXT: HfClass =
    HfClass { name: "Olmo2ForCausalLM", context_length: Some(2048), norm: NormEpsilon::Rms("rms_norm_eps", 1e-5), ..CLASS };

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::AttnPostNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::FfnPostNorm, "model.layers.{}.post_feedforward_layernorm.weight", &[Dim::Embd]),
    ATTENTION_BIASES[0],
    ATTENTION_BIASES[1],
    ATTENTION_BIASES[2],
    ATTENTION_BIASES[3],
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];
