//! cohere2: Cohere's Command R7B, with a sliding window in three of four blocks, and no positions in the fourth
//! (`conversion/command_r.py`, b11434).

use super::biases::{ATTENTION_BIAS, ATTENTION_BIASES};
use super::rule::{head, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, HfWindow, Norm, NormEpsilon, Residual, Role, RopePairing,
    Rotated, TensorRule, Windowed, neutral,
};

/// The row of the table.
pub(super) const COHERE2: ArchSpec = ArchSpec {
    name: "cohere2",
    hf: &[HfClass {
        name: "Cohere2ForCausalLM",
        head_dim: HeadDim::Even,
        norm: NormEpsilon::Layer("layer_norm_eps", 1e-5),
        tied: true,
        window: HfWindow::Pattern(4),
        defaults: &[("max_position_embeddings", "8192"), ("sliding_window", "4096")],
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits {
        norm: Norm::Layer,
        rope: RopePairing::Adjacent,
        rotated: Rotated::Windowed,
        windowed: Windowed::AllBut(4),
        residual: Residual::Parallel,
        ..BLOCK
    },
    stated: &[ATTENTION_BIAS],
    neutral: &[
        neutral("hidden_act", &["\"silu\""]),
        neutral("rotary_pct", &["1", "1.0"]),
        neutral("position_embedding_type", &["\"rope_gptj\""]),
        neutral("use_gated_activation", &["true"]),
        neutral("use_parallel_block", &["true"]),
        neutral("order_of_interleaved_layers", &["\"local_attn_first\""]),
    ],
    understood: &["logit_scale"],
    dropped: &["lm_head.weight"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    ATTENTION_BIASES[0],
    ATTENTION_BIASES[1],
    ATTENTION_BIASES[2],
    ATTENTION_BIASES[3],
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];
