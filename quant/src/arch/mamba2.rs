//! mamba2: Mamba-2 (Dao and Gu 2024): blocks that are a state-space mixer and nothing else (`conversion/mamba.py`, b11434). The
//! parts that hybrid models share with it stand here.

use super::rule::{head, recurrent, recurrent_optional, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, NormEpsilon, Recurs, Role, Rotated, Shapes, Stated,
    TensorRule, Transform, neutral,
};

/// The row of the table.
pub(super) const MAMBA2: ArchSpec = ArchSpec {
    name: "mamba2",
    hf: &[HfClass {
        name: "Mamba2ForCausalLM",
        head_dim: HeadDim::Ignored,
        context_keys: &[],
        // What llama.cpp's converter writes: there is no limit.
        context_length: Some(1 << 20),
        feed_forward_keys: &[],
        norm: NormEpsilon::Rms("layer_norm_epsilon", 1e-5),
        scalings: &["default"],
        defaults: &[
            ("vocab_size", "32768"),
            ("hidden_size", "4096"),
            ("num_hidden_layers", "64"),
            ("num_heads", "128"),
            ("head_dim", "64"),
            ("state_size", "128"),
            ("n_groups", "8"),
            ("conv_kernel", "4"),
            ("expand", "2"),
            // There is no attention; its heads are not read.
            ("num_attention_heads", "1"),
        ],
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits {
        rotated: Rotated::Never,
        recurs: Recurs::Mamba2 { beside_attention: false },
        shapes: Shapes::NoneOfThem,
        ..BLOCK
    },
    neutral: &[neutral("hidden_act", &["\"silu\""]), neutral("use_bias", &["false"]), neutral("rms_norm", &["true"])],
    stated: &[Stated { key: "use_conv_bias", default: true, roles: &[Role::SsmConv1dBias] }],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "backbone.embeddings.weight", &[Dim::Embd, Dim::Vocab]),
    MIXER[0],
    MIXER[1],
    MIXER[2],
    MIXER[3],
    MIXER[4],
    MIXER[5],
    MIXER[6],
    MIXER[7],
    tensor(Role::AttnNorm, "backbone.layers.{}.norm.weight", &[Dim::Embd]),
    tensor(Role::OutputNorm, "backbone.norm_f.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

/// Those of the models whose blocks are called so.
pub(super) const MIXER: [TensorRule; 8] = mixer([
    "backbone.layers.{}.mixer.A_log",
    "backbone.layers.{}.mixer.D",
    "backbone.layers.{}.mixer.conv1d.bias",
    "backbone.layers.{}.mixer.conv1d.weight",
    "backbone.layers.{}.mixer.dt_bias",
    "backbone.layers.{}.mixer.in_proj.weight",
    "backbone.layers.{}.mixer.norm.weight",
    "backbone.layers.{}.mixer.out_proj.weight",
]);

/// The tensors of Mamba-2 under these names of theirs: decays, skips, the convolution's bias and weights, the steps' bias, the
/// projection into it, the gated norm, the projection out of it.
pub(super) const fn mixer(hf: [&'static str; 8]) -> [TensorRule; 8] {
    [
        recurrent(Role::SsmA, hf[0], &[Dim::One, Dim::StateHeads], Transform::NegExpFlat),
        recurrent(Role::SsmD, hf[1], &[Dim::One, Dim::StateHeads], Transform::Flat),
        recurrent_optional(Role::SsmConv1dBias, hf[2], &[Dim::ConvChannels]),
        recurrent(Role::SsmConv1d, hf[3], &[Dim::ConvKernel, Dim::ConvChannels], Transform::Squeeze),
        recurrent(Role::SsmDtBias, hf[4], &[Dim::StateHeads], Transform::Same),
        recurrent(Role::SsmIn, hf[5], &[Dim::Embd, Dim::StateInputs], Transform::Same),
        recurrent(Role::SsmNorm, hf[6], &[Dim::StateGroupValues, Dim::StateGroups], Transform::Flat),
        recurrent(Role::SsmOut, hf[7], &[Dim::StateValues, Dim::Embd], Transform::Same),
    ]
}
