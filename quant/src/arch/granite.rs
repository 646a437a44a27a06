//! granite: IBM's Granite 3, a llama with factors on embedding, attention, residual stream and logits
//! (`conversion/granite.py`, b11434).

use super::biases::{ATTENTION_BIAS, INTERLEAVED_BIASES, MLP_BIAS, MLP_BIASES};
use super::llama::LLAMA_SCALINGS;
use super::rule::{changed, computed, head, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, LogitScale, Role, RopePairing, TensorRule, Transform,
    neutral,
};

/// The row of the table.
pub(super) const GRANITE: ArchSpec = ArchSpec {
    name: "granite",
    hf: &[HfClass {
        name: "GraniteForCausalLM",
        head_dim: HeadDim::Ignored,
        scalings: LLAMA_SCALINGS,
        defaults: &[("max_position_embeddings", "2048")],
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits { rope: RopePairing::Adjacent, logit_scale: LogitScale::Divides, ..BLOCK },
    stated: &[ATTENTION_BIAS, MLP_BIAS],
    neutral: &[neutral("hidden_act", &["\"silu\""])],
    understood: &["attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling"],
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
