//! gpt2: GPT-2, with learned positions, and matrices stored transposed (`conversion/gpt2.py`, b11434).

use super::rule::{changed, head, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HfClass, Mlp, Norm, NormEpsilon, Role, Rotated, TensorRule, Transform,
    neutral,
};

/// The row of the table.
pub(super) const GPT2: ArchSpec = ArchSpec {
    name: "gpt2",
    hf: &[HfClass {
        name: "GPT2LMHeadModel",
        context_keys: &["n_ctx", "n_positions"],
        context_length: Some(1024),
        feed_forward_factor: Some(4),
        norm: NormEpsilon::Layer("layer_norm_epsilon", 1e-5),
        tied: true,
        ..CLASS
    }],
    prefix: "transformer.",
    tensors: TENSORS,
    block: BlockTraits { norm: Norm::Layer, rotated: Rotated::Never, mlp: Mlp::Gelu, ..BLOCK },
    neutral: &[
        neutral("activation_function", &["\"gelu_new\"", "\"gelu_pytorch_tanh\""]),
        neutral("scale_attn_weights", &["true"]),
        neutral("scale_attn_by_inverse_layer_idx", &["false"]),
    ],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "transformer.wte.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::PositionEmbd, "transformer.wpe.weight", &[Dim::Embd, Dim::Positions]),
    tensor(Role::AttnNorm, "transformer.h.{}.ln_1.weight", &[Dim::Embd]),
    tensor(Role::AttnNormBias, "transformer.h.{}.ln_1.bias", &[Dim::Embd]),
    changed(Role::AttnQkv, "transformer.h.{}.attn.c_attn.weight", &[Dim::Embd, Dim::Qkv], Transform::Transpose),
    tensor(Role::AttnQkvBias, "transformer.h.{}.attn.c_attn.bias", &[Dim::Qkv]),
    changed(Role::AttnOutput, "transformer.h.{}.attn.c_proj.weight", &[Dim::AttnOutput, Dim::Embd], Transform::Transpose),
    tensor(Role::AttnOutputBias, "transformer.h.{}.attn.c_proj.bias", &[Dim::Embd]),
    tensor(Role::FfnNorm, "transformer.h.{}.ln_2.weight", &[Dim::Embd]),
    tensor(Role::FfnNormBias, "transformer.h.{}.ln_2.bias", &[Dim::Embd]),
    changed(Role::FfnUp, "transformer.h.{}.mlp.c_fc.weight", &[Dim::Embd, Dim::FeedForward], Transform::Transpose),
    tensor(Role::FfnUpBias, "transformer.h.{}.mlp.c_fc.bias", &[Dim::FeedForward]),
    changed(Role::FfnDown, "transformer.h.{}.mlp.c_proj.weight", &[Dim::FeedForward, Dim::Embd], Transform::Transpose),
    tensor(Role::FfnDownBias, "transformer.h.{}.mlp.c_proj.bias", &[Dim::Embd]),
    tensor(Role::OutputNorm, "transformer.ln_f.weight", &[Dim::Embd]),
    tensor(Role::OutputNormBias, "transformer.ln_f.bias", &[Dim::Embd]),
    head("lm_head.weight"),
];
