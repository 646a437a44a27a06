//! starcoder2: StarCoder2, with layer normalization and biases throughout. The converter leaves out the sliding window
//! (`conversion/starcoder.py`, b11434).

use super::rule::{head, optional, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HfClass, HfWindow, Mlp, Norm, NormEpsilon, Role, Stated, TensorRule,
    neutral,
};

/// The row of the table.
pub(super) const STARCODER2: ArchSpec = ArchSpec {
    name: "starcoder2",
    hf: &[HfClass {
        name: "Starcoder2ForCausalLM",
        norm: NormEpsilon::Layer("norm_epsilon", 1e-5),
        tied: true,
        window: HfWindow::All,
        defaults: &[("num_key_value_heads", "2"), ("max_position_embeddings", "4096")],
        ..CLASS
    }],
    tensors: TENSORS,
    stated: &[Stated {
        key: "use_bias",
        default: true,
        roles: &[Role::AttnQBias, Role::AttnKBias, Role::AttnVBias, Role::AttnOutputBias, Role::FfnUpBias, Role::FfnDownBias],
    }],
    block: BlockTraits { norm: Norm::Layer, mlp: Mlp::Gelu, ..BLOCK },
    neutral: &[
        neutral("hidden_act", &["\"gelu_pytorch_tanh\""]),
        neutral("norm_type", &["\"layer_norm\""]),
        neutral("mlp_type", &["\"default\""]),
    ],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnNormBias, "model.layers.{}.input_layernorm.bias", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    optional(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    optional(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    optional(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    optional(Role::AttnOutputBias, "model.layers.{}.self_attn.o_proj.bias", &[Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnNormBias, "model.layers.{}.post_attention_layernorm.bias", &[Dim::Embd]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.c_fc.weight", &[Dim::Embd, Dim::FeedForward]),
    optional(Role::FfnUpBias, "model.layers.{}.mlp.c_fc.bias", &[Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.c_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    optional(Role::FfnDownBias, "model.layers.{}.mlp.c_proj.bias", &[Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    tensor(Role::OutputNormBias, "model.norm.bias", &[Dim::Embd]),
    head("lm_head.weight"),
];
