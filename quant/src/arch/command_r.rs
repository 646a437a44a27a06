//! command-r: Cohere's Command R and Aya 23, whose attention and MLP read one norm (`conversion/command_r.py`, b11434).

use super::biases::{ATTENTION_BIAS, ATTENTION_BIASES};
use super::rule::{head, optional, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HfClass, Norm, NormEpsilon, Residual, Role, RopePairing, Stated,
    TensorRule, neutral,
};

/// The row of the table.
pub(super) const COMMAND_R: ArchSpec = ArchSpec {
    name: "command-r",
    hf: &[HfClass {
        name: "CohereForCausalLM",
        // max_position_embeddings is less than what these models were trained for.
        context_keys: &["model_max_length", "max_position_embeddings"],
        norm: NormEpsilon::Layer("layer_norm_eps", 1e-5),
        rope_theta: 500_000.0,
        tied: true,
        defaults: &[("max_position_embeddings", "8192")],
        ..CLASS
    }],
    tensors: TENSORS,
    stated: &[ATTENTION_BIAS, Stated { key: "use_qk_norm", default: false, roles: &[Role::AttnQNorm, Role::AttnKNorm] }],
    block: BlockTraits { norm: Norm::Layer, rope: RopePairing::Adjacent, residual: Residual::Parallel, ..BLOCK },
    neutral: &[neutral("hidden_act", &["\"silu\""])],
    understood: &["logit_scale", "use_qk_norm"],
    dropped: &["lm_head.weight"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    optional(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::HeadDim, Dim::Heads]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    optional(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::HeadDim, Dim::KvHeads]),
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
