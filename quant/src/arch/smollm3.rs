//! smollm3: SmolLM3, a llama whose every fourth block has no positions (`conversion/llama.py`, b11434). The file does not say
//! which blocks.

use super::biases::{ATTENTION_BIAS, INTERLEAVED_BIASES, MLP_BIAS, MLP_BIASES};
use super::llama::LLAMA_SCALINGS;
use super::rule::{changed, computed, head, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HfClass, HfWindow, Role, RopePairing, Rotated, TensorRule, Transform,
    neutral,
};

/// The row of the table.
pub(super) const SMOLLM3: ArchSpec = ArchSpec {
    name: "smollm3",
    hf: &[HfClass {
        name: "SmolLM3ForCausalLM",
        rope_theta: 2e6,
        scalings: LLAMA_SCALINGS,
        tied: true,
        window: HfWindow::Unrotated,
        defaults: &[("num_key_value_heads", "4"), ("max_position_embeddings", "32768")],
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits { rope: RopePairing::Adjacent, rotated: Rotated::AllBut(4), ..BLOCK },
    stated: &[ATTENTION_BIAS, MLP_BIAS],
    neutral: &[neutral("hidden_act", &["\"silu\""])],
    understood: &["no_rope_layers"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    computed(Role::RopeFreqs, &[Dim::RopePairs]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    changed(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries], Transform::InterleaveQueryHeads),
    changed(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys], Transform::InterleaveKeyHeads),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    INTERLEAVED_BIASES[0],
    INTERLEAVED_BIASES[1],
    INTERLEAVED_BIASES[2],
    INTERLEAVED_BIASES[3],
    MLP_BIASES[0],
    MLP_BIASES[1],
    MLP_BIASES[2],
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];
