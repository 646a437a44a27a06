//! glm4: GLM-4-0414 and the language models of GLM-4.1V, with half of each head rotated, gate and up in one matrix, and norms
//! before and after attention and MLP (`conversion/glm.py`, b11434). The latter's position embedding turns by time, height and
//! width, which for text are the same; for it the converter brings the rows of queries and keys into another order. Absent: the
//! image encoder.

use super::rule::{changed, head, optional, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, NormEpsilon, Role, RopePairing, Stated, TensorRule,
    Transform, neutral,
};

/// The row of the table.
pub(super) const GLM4: ArchSpec = ArchSpec {
    name: "glm4",
    hf: &[
        HfClass {
            name: "Glm4ForCausalLM",
            head_dim: HeadDim::Fixed(128),
            norm: NormEpsilon::Rms("rms_norm_eps", 1.5625e-7),
            partial_rotary: Some(0.5),
            defaults: &[("num_key_value_heads", "2"), ("max_position_embeddings", "131072")],
            ..CLASS
        },
        HfClass {
            name: "Glm4vForConditionalGeneration",
            text_types: &["glm4v_text"],
            norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
            partial_rotary: Some(1.0),
            rope_keys: &["mrope_section"],
            defaults: &[("num_key_value_heads", "2"), ("max_position_embeddings", "32768")],
            ..CLASS
        },
    ],
    tensors: TENSORS,
    stated: &[Stated { key: "attention_bias", default: true, roles: &[Role::AttnQBias, Role::AttnKBias, Role::AttnVBias] }],
    block: BlockTraits { rope: RopePairing::Adjacent, rope_in_sections: Some(RopePairing::Halves), ..BLOCK },
    neutral: &[neutral("hidden_act", &["\"silu\""])],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    changed(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries], QUERIES),
    TensorRule { transform: QUERIES, ..optional(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries]) },
    changed(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys], KEYS),
    TensorRule { transform: KEYS, ..optional(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys]) },
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    optional(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::AttnPostNorm, "model.layers.{}.post_self_attn_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.gate_up_proj.weight", &[Dim::Embd, Dim::GateUp]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::FfnPostNorm, "model.layers.{}.post_mlp_layernorm.weight", &[Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const QUERIES: Transform = Transform::HalveQueryHeads;
const KEYS: Transform = Transform::HalveKeyHeads;
