//! nemotron_h: NVIDIA's Nemotron-H: each block is Mamba-2, attention without positions, or a network of squared ReLU
//! (`conversion/nemotron.py`, b11434).

use super::mamba2::MIXER;
use super::rule::{attention, dense, dense_optional, head, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, HfWindow, Mlp, NormEpsilon, Recurs, Residual, Role,
    Rotated, Shapes, Stated, TensorRule, Transform, neutral,
};

/// `mlp_bias`, of networks without gates.
const MLP_BIAS: Stated = Stated { key: "mlp_bias", default: false, roles: &[Role::FfnUpBias, Role::FfnDownBias] };

/// The row of the table.
pub(super) const NEMOTRON_H: ArchSpec = ArchSpec {
    name: "nemotron_h",
    hf: &[HfClass {
        defaults: &[
            ("vocab_size", "131072"),
            ("hidden_size", "4096"),
            ("num_attention_heads", "32"),
            ("num_key_value_heads", "8"),
            ("intermediate_size", "21504"),
            ("ssm_state_size", "128"),
            ("mamba_num_heads", "128"),
            ("mamba_head_dim", "64"),
            ("n_groups", "8"),
            ("conv_kernel", "4"),
            ("time_step_min", "0.001"),
        ],
        ..CLASS_H
    }],
    tensors: TENSORS,
    block: BLOCK_H,
    neutral: NEUTRAL.split_at(1).1,
    stated: &[CONV_BIAS, MLP_BIAS],
    ..COMMON
};

/// What the models without and with experts have in common.
pub(super) const CLASS_H: HfClass = HfClass {
    name: "NemotronHForCausalLM",
    head_dim: HeadDim::Fixed(128),
    context_length: Some(4096),
    // The key has this name, but the norm is without means (transformers 5.24, `modeling_nemotron_h.py`).
    norm: NormEpsilon::Layer("layer_norm_epsilon", 1e-5),
    scalings: &["default"],
    window: HfWindow::Recurrent,
    // transformers' own code for the recurrence limits steps so (5.24, `modeling_nemotron_h.py`).
    least_step: Some("time_step_min"),
    ..CLASS
};
pub(super) const BLOCK_H: BlockTraits = BlockTraits {
    rotated: Rotated::Never,
    recurs: Recurs::Mamba2 { beside_attention: false },
    residual: Residual::OneOfThem,
    mlp: Mlp::ReluSquared,
    shapes: Shapes::ByBlock,
    ffn_norm: Role::AttnNorm,
    ..BLOCK
};
/// The first is one of the models with experts alone.
pub(super) const NEUTRAL: &[super::NeutralKey] = &[
    neutral("mlp_bias", &["false"]),
    neutral("mlp_hidden_act", &["\"relu2\""]),
    neutral("mamba_hidden_act", &["\"silu\""]),
    // transformers passes over attention_bias here (5.24, `modeling_nemotron_h.py`).
    neutral("use_bias", &["false"]),
    neutral("mamba_proj_bias", &["false"]),
    neutral("sliding_window", &[]),
    neutral("num_nextn_predict_layers", &["0"]),
    // Older names of other keys, which the converter does not know.
    neutral("mamba_n_groups", &[]),
    neutral("mamba_d_conv", &[]),
    neutral("mamba_dt_min", &[]),
    neutral("mamba_dt_limit", &[]),
    neutral("mamba_conv_bias", &[]),
];
pub(super) const CONV_BIAS: Stated = Stated { key: "use_conv_bias", default: true, roles: &[Role::SsmConv1dBias] };

const TENSORS: &[TensorRule] = &[
    EMBEDDING,
    MIXER[0],
    MIXER[1],
    MIXER[2],
    MIXER[3],
    MIXER[4],
    MIXER[5],
    MIXER[6],
    MIXER[7],
    KEYS,
    OUTPUT,
    QUERIES,
    VALUES,
    dense_optional(Role::FfnDownBias, "backbone.layers.{}.mixer.down_proj.bias", &[Dim::Embd]),
    dense(Role::FfnDown, "backbone.layers.{}.mixer.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    dense_optional(Role::FfnUpBias, "backbone.layers.{}.mixer.up_proj.bias", &[Dim::FeedForward]),
    dense(Role::FfnUp, "backbone.layers.{}.mixer.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    BLOCK_NORM,
    FINAL_NORM,
    head("lm_head.weight"),
];

// The parts that the models with experts share.
pub(super) const EMBEDDING: TensorRule = tensor(Role::TokenEmbd, "backbone.embeddings.weight", &[Dim::Embd, Dim::Vocab]);
// The converter brings queries and keys into llama's order, though nothing rotates them.
pub(super) const QUERIES: TensorRule =
    attention(Role::AttnQ, "backbone.layers.{}.mixer.q_proj.weight", &[Dim::Embd, Dim::Queries], Transform::InterleaveQueryHeads);
pub(super) const KEYS: TensorRule =
    attention(Role::AttnK, "backbone.layers.{}.mixer.k_proj.weight", &[Dim::Embd, Dim::Keys], Transform::InterleaveKeyHeads);
pub(super) const VALUES: TensorRule =
    attention(Role::AttnV, "backbone.layers.{}.mixer.v_proj.weight", &[Dim::Embd, Dim::Values], Transform::Same);
pub(super) const OUTPUT: TensorRule =
    attention(Role::AttnOutput, "backbone.layers.{}.mixer.o_proj.weight", &[Dim::AttnOutput, Dim::Embd], Transform::Same);
pub(super) const BLOCK_NORM: TensorRule = tensor(Role::AttnNorm, "backbone.layers.{}.norm.weight", &[Dim::Embd]);
pub(super) const FINAL_NORM: TensorRule = tensor(Role::OutputNorm, "backbone.norm_f.weight", &[Dim::Embd]);
