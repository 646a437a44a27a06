//! falcon-h1: TII's Falcon-H1: Mamba-2 and attention side by side in every block. Its factors on what goes in and comes out are
//! multiplied into the weights; one norm's name has no suffix (`conversion/falcon_h1.py`, b11434).

use super::mamba2::mixer;
use super::rule::{changed, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, Factor, HeadDim, HfClass, NormEpsilon, Presence, Recurs, Role, Stated,
    TensorRule, Transform, neutral,
};

/// The row of the table.
pub(super) const FALCON_H1: ArchSpec = ArchSpec {
    name: "falcon-h1",
    hf: &[HfClass {
        name: "FalconH1ForCausalLM",
        head_dim: HeadDim::Even,
        context_length: Some(8192),
        norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
        rope_theta: 100_000.0,
        scalings: &["default"],
        defaults: &[
            ("vocab_size", "128000"),
            ("hidden_size", "4096"),
            ("intermediate_size", "14336"),
            ("num_hidden_layers", "32"),
            ("num_attention_heads", "32"),
            ("num_key_value_heads", "8"),
            ("mamba_d_ssm", "1024"),
            ("mamba_n_heads", "128"),
            ("mamba_n_groups", "1"),
            ("mamba_d_state", "256"),
            ("mamba_d_conv", "4"),
            ("attention_in_multiplier", "1.0"),
            ("attention_out_multiplier", "1.0"),
            ("key_multiplier", "1.0"),
            ("embedding_multiplier", "1.0"),
            ("lm_head_multiplier", "1.0"),
            ("ssm_in_multiplier", "1.0"),
            ("ssm_out_multiplier", "1.0"),
            ("mlp_multipliers", "[1.0, 1.0]"),
            ("ssm_multipliers", "[1.0, 1.0, 1.0, 1.0, 1.0]"),
        ],
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits { recurs: Recurs::Mamba2 { beside_attention: true }, ffn_norm: Role::FfnNormUnsuffixed, ..BLOCK },
    neutral: &[
        neutral("hidden_act", &["\"silu\""]),
        neutral("attention_bias", &["false"]),
        neutral("mlp_bias", &["false"]),
        neutral("projectors_bias", &["false"]),
        neutral("mamba_proj_bias", &["false"]),
        neutral("mamba_use_mlp", &["true"]),
        neutral("sliding_window", &[]),
    ],
    understood: &["embedding_multiplier"],
    stated: &[
        Stated { key: "mamba_conv_bias", default: true, roles: &[Role::SsmConv1dBias] },
        Stated { key: "mamba_rms_norm", default: false, roles: &[Role::SsmNorm] },
    ],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    TensorRule {
        presence: Presence::TiedToTokenEmbd,
        ..scaled(Role::Output, "lm_head.weight", &[Dim::Embd, Dim::Vocab], &[Factor::Key("lm_head_multiplier")])
    },
    scaled(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab], &[Factor::Key("embedding_multiplier")]),
    tensor(Role::OutputNorm, "model.final_layernorm.weight", &[Dim::Embd]),
    scaled(
        Role::FfnDown,
        "model.layers.{}.feed_forward.down_proj.weight",
        &[Dim::FeedForward, Dim::Embd],
        &[Factor::Item("mlp_multipliers", 1)],
    ),
    scaled(
        Role::FfnGate,
        "model.layers.{}.feed_forward.gate_proj.weight",
        &[Dim::Embd, Dim::FeedForward],
        &[Factor::Item("mlp_multipliers", 0)],
    ),
    tensor(Role::FfnUp, "model.layers.{}.feed_forward.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    MIXER[0],
    MIXER[1],
    MIXER[2],
    MIXER[3],
    MIXER[4],
    TensorRule { transform: Transform::ScaledStateInputs(&[Factor::Key("ssm_in_multiplier")]), ..MIXER[5] },
    TensorRule { presence: Presence::RecurrentOptional, ..MIXER[6] },
    TensorRule { transform: Transform::Scaled(&[Factor::Key("ssm_out_multiplier")]), ..MIXER[7] },
    tensor(Role::FfnNormUnsuffixed, "model.layers.{}.pre_ff_layernorm.weight", &[Dim::Embd]),
    scaled(
        Role::AttnK,
        "model.layers.{}.self_attn.k_proj.weight",
        &[Dim::Embd, Dim::Keys],
        &[Factor::Key("key_multiplier"), Factor::Key("attention_in_multiplier")],
    ),
    scaled(
        Role::AttnOutput,
        "model.layers.{}.self_attn.o_proj.weight",
        &[Dim::AttnOutput, Dim::Embd],
        &[Factor::Key("attention_out_multiplier")],
    ),
    scaled(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries], ATTENTION_IN),
    scaled(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values], ATTENTION_IN),
];

const ATTENTION_IN: &[Factor] = &[Factor::Key("attention_in_multiplier")];

const fn scaled(role: Role, hf: &'static str, shape: &'static [Dim], factors: &'static [Factor]) -> TensorRule {
    changed(role, hf, shape, Transform::Scaled(factors))
}

const MIXER: [TensorRule; 8] = mixer([
    "model.layers.{}.mamba.A_log",
    "model.layers.{}.mamba.D",
    "model.layers.{}.mamba.conv1d.bias",
    "model.layers.{}.mamba.conv1d.weight",
    "model.layers.{}.mamba.dt_bias",
    "model.layers.{}.mamba.in_proj.weight",
    "model.layers.{}.mamba.norm.weight",
    "model.layers.{}.mamba.out_proj.weight",
]);
