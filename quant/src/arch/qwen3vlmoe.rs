//! qwen3vlmoe: the language models of Qwen3-VL with experts. All experts of a block are one tensor of the file, transposed where
//! it was published so (`conversion/qwenvl.py`, b11434), not so where transformers 5 saved it (5.23, `Transpose` with
//! `check_dims` in `core_model_loading.py`), which the converter misreads. Absent: the image encoder.

use super::biases::{ATTENTION_BIAS, ATTENTION_BIASES};
use super::rule::{head, routed, routed_changed, tensor};
use super::{ArchSpec, CLASS, COMMON, Dim, HeadDim, HfClass, NormEpsilon, Role, TensorRule, Transform, neutral};

/// The row of the table.
pub(super) const QWEN3VLMOE: ArchSpec = ArchSpec {
    name: "qwen3vlmoe",
    hf: &[HfClass {
        name: "Qwen3VLMoeForConditionalGeneration",
        text_types: &["qwen3_vl_moe_text"],
        head_dim: HeadDim::Stated,
        norm: NormEpsilon::Rms("rms_norm_eps", 1e-6),
        rope_theta: 500_000.0,
        rope_keys: &["mrope_section", "mrope_interleaved"],
        defaults: &[
            ("num_key_value_heads", "16"),
            ("max_position_embeddings", "128000"),
            ("num_experts", "60"),
            ("num_experts_per_tok", "4"),
            ("moe_intermediate_size", "1408"),
        ],
        ..CLASS
    }],
    tensors: TENSORS,
    stated: &[ATTENTION_BIAS],
    neutral: &[neutral("hidden_act", &["\"silu\""])],
    understood: &["num_experts", "num_local_experts", "mlp_only_layers", "decoder_sparse_step"],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::HeadDim]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    routed(Role::FfnGateInp, "model.layers.{}.mlp.gate.weight", &[Dim::Embd, Dim::Experts]),
    routed_changed(Role::FfnDownExps, "model.layers.{}.mlp.experts.down_proj", EXPERT_OUT, Transform::EitherWay(None)),
    routed_changed(Role::FfnGateExps, "model.layers.{}.mlp.experts.gate_up_proj", EXPERT_IN, Transform::EitherWay(Some(0))),
    routed_changed(Role::FfnUpExps, "model.layers.{}.mlp.experts.gate_up_proj", EXPERT_IN, Transform::EitherWay(Some(1))),
    ATTENTION_BIASES[0],
    ATTENTION_BIASES[1],
    ATTENTION_BIASES[2],
    ATTENTION_BIASES[3],
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const EXPERT_OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
