//! gpt-oss: OpenAI's gpt-oss, with attention sinks, a sliding window in every second block, and experts whose gate and up
//! rows alternate in one tensor, in BF16 or in MXFP4 (`conversion/gpt_oss.py`, b11434).

use super::rule::{changed, head, routed, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, Gating, HeadDim, HfClass, HfRouting, HfWindow, Mlp, NormEpsilon, Presence,
    Role, TensorRule, Transform, Windowed, neutral,
};

/// The row of the table.
pub(super) const GPT_OSS: ArchSpec = ArchSpec {
    name: "gpt-oss",
    hf: &[HfClass {
        name: "GptOssForCausalLM",
        head_dim: HeadDim::Fixed(64),
        norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
        rope_theta: 150_000.0,
        window: HfWindow::Pattern(2),
        defaults: &[
            ("rope_parameters", ROPE),
            ("num_key_value_heads", "8"),
            ("max_position_embeddings", "131072"),
            ("sliding_window", "128"),
            ("num_experts_per_tok", "4"),
        ],
        routing: HfRouting { gating: Gating::SoftmaxOfChosen, ..CLASS.routing },
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits {
        windowed: Windowed::AllBut(2),
        mlp: Mlp::SwiGluOai,
        ffn_norm: Role::AttnPostNorm,
        gating: Gating::SoftmaxOfChosen,
        ..BLOCK
    },
    neutral: &[neutral("attention_bias", &["true"]), neutral("swiglu_limit", &["7", "7.0"]), neutral("swiglu_alpha", &["1.702"])],
    understood: &["num_local_experts"],
    ..COMMON
};

/// What transformers takes where the configuration says nothing of rotary embedding.
const ROPE: &str = r#"{"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
    "original_max_position_embeddings": 4096}"#;

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries]),
    tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    tensor(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys]),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    tensor(Role::AttnSinks, "model.layers.{}.self_attn.sinks", &[Dim::Heads]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::AttnOutputBias, "model.layers.{}.self_attn.o_proj.bias", &[Dim::Embd]),
    tensor(Role::AttnPostNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    routed(Role::FfnGateInp, "model.layers.{}.mlp.router.weight", &[Dim::Embd, Dim::Experts]),
    routed(Role::FfnGateInpBias, "model.layers.{}.mlp.router.bias", &[Dim::Experts]),
    expert(Role::FfnDownExps, "model.layers.{}.mlp.experts.down_proj", OUT, Transform::Transpose),
    expert(Role::FfnDownExps, "model.layers.{}.mlp.experts.down_proj_blocks", OUT, Transform::Same),
    routed(Role::FfnDownExpsBias, "model.layers.{}.mlp.experts.down_proj_bias", &[Dim::Embd, Dim::Experts]),
    expert(Role::FfnGateExps, "model.layers.{}.mlp.experts.gate_up_proj", IN, Transform::TransposeAlternate(0)),
    expert(Role::FfnGateExps, "model.layers.{}.mlp.experts.gate_up_proj_blocks", IN, Transform::AlternateRows(0)),
    expert(Role::FfnGateExpsBias, "model.layers.{}.mlp.experts.gate_up_proj_bias", IN_BIAS, Transform::Alternate(0)),
    expert(Role::FfnUpExps, "model.layers.{}.mlp.experts.gate_up_proj", IN, Transform::TransposeAlternate(1)),
    expert(Role::FfnUpExps, "model.layers.{}.mlp.experts.gate_up_proj_blocks", IN, Transform::AlternateRows(1)),
    expert(Role::FfnUpExpsBias, "model.layers.{}.mlp.experts.gate_up_proj_bias", IN_BIAS, Transform::Alternate(1)),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const IN_BIAS: &[Dim] = &[Dim::ExpertFeedForward, Dim::Experts];
const OUT: &[Dim] = &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts];
const fn expert(role: Role, hf: &'static str, shape: &'static [Dim], transform: Transform) -> TensorRule {
    TensorRule { presence: Presence::Experts, ..changed(role, hf, shape, transform) }
}
