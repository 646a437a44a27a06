//! ernie4_5: Baidu's dense ERNIE 4.5: llama's block, rotated by adjacent pairs without a permutation
//! (`conversion/ernie.py`, b11434).

use super::rule::{head, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, NeutralKey, NormEpsilon, Role, RopePairing, TensorRule,
    neutral,
};

/// The row of the table.
pub(super) const ERNIE4_5: ArchSpec = ArchSpec {
    name: "ernie4_5",
    hf: &[HfClass {
        name: "Ernie4_5ForCausalLM",
        head_dim: HeadDim::Fixed(128),
        context_length: Some(131_072),
        defaults: &[("num_key_value_heads", "2")],
        ..CLASS_4_5
    }],
    tensors: TENSORS,
    block: BLOCK_4_5,
    neutral: NEUTRAL,
    ..COMMON
};

/// What the dense models and those with experts have in common.
pub(super) const CLASS_4_5: HfClass =
    HfClass { norm: NormEpsilon::Rms("rms_norm_eps", 1e-5), rope_theta: 500_000.0, tied: true, ..CLASS };
pub(super) const BLOCK_4_5: BlockTraits = BlockTraits { rope: RopePairing::Adjacent, ..BLOCK };
pub(super) const NEUTRAL: &[NeutralKey] = &[neutral("hidden_act", &["\"silu\""]), neutral("use_bias", &["false"])];

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];
