//! granitehybrid: IBM's Granite 4 with Mamba-2 in most blocks and attention without positions in the others, with and without
//! experts, beside which a shared one stands (`conversion/granite.py`, b11434).

use super::biases::{ATTENTION_BIAS, INTERLEAVED_BIASES};
use super::mamba2::mixer;
use super::rule::{attention, dense, head, routed, routed_changed, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, HfWindow, LogitScale, Recurs, Role, RopePairing, Rotated,
    Shapes, TensorRule, Transform, neutral,
};

/// The row of the table.
pub(super) const GRANITE_HYBRID: ArchSpec = ArchSpec {
    name: "granitehybrid",
    hf: &[HfClass {
        name: "GraniteMoeHybridForCausalLM",
        head_dim: HeadDim::Ignored,
        scalings: &["default"],
        window: HfWindow::Recurrent,
        defaults: &[
            ("vocab_size", "32000"),
            ("hidden_size", "4096"),
            ("intermediate_size", "11008"),
            ("num_hidden_layers", "32"),
            ("num_attention_heads", "32"),
            ("max_position_embeddings", "2048"),
            ("num_local_experts", "8"),
            ("num_experts_per_tok", "2"),
            ("shared_intermediate_size", "1024"),
            ("mamba_n_heads", "128"),
            ("mamba_n_groups", "1"),
            ("mamba_d_state", "256"),
            ("mamba_d_conv", "4"),
            ("mamba_expand", "2"),
        ],
        ..CLASS
    }],
    tensors: TENSORS,
    block: BlockTraits {
        rope: RopePairing::Adjacent,
        rotated: Rotated::Finetuned,
        logit_scale: LogitScale::Divides,
        recurs: Recurs::Mamba2 { beside_attention: false },
        shapes: Shapes::ByBlock,
        ..BLOCK
    },
    neutral: &[
        neutral("hidden_act", &["\"silu\""]),
        neutral("mamba_proj_bias", &["false"]),
        neutral("normalization_function", &["\"rmsnorm\""]),
        neutral("position_embedding_type", &["\"nope\"", "\"rope\""]),
        neutral("attn_rotary_emb", &[]),
        neutral("sliding_window", &[]),
    ],
    understood: &["attention_multiplier", "embedding_multiplier", "residual_multiplier", "logits_scaling", "num_local_experts"],
    stated: &[ATTENTION_BIAS, super::Stated { key: "mamba_conv_bias", default: true, roles: &[Role::SsmConv1dBias] }],
    ..COMMON
};

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    routed_changed(Role::FfnGateExps, EXPERTS_IN, EXPERT_IN, Transform::Half(0)),
    routed_changed(Role::FfnUpExps, EXPERTS_IN, EXPERT_IN, Transform::Half(1)),
    routed(
        Role::FfnDownExps,
        "model.layers.{}.block_sparse_moe.output_linear.weight",
        &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts],
    ),
    routed(Role::FfnGateInp, "model.layers.{}.block_sparse_moe.router.layer.weight", &[Dim::Embd, Dim::Experts]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    MIXER[0],
    MIXER[1],
    MIXER[2],
    MIXER[3],
    MIXER[4],
    MIXER[5],
    MIXER[6],
    MIXER[7],
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    attention(
        Role::AttnQ,
        "model.layers.{}.self_attn.q_proj.weight",
        &[Dim::Embd, Dim::Queries],
        Transform::InterleaveQueryHeads,
    ),
    attention(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys], Transform::InterleaveKeyHeads),
    attention(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values], Transform::Same),
    attention(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd], Transform::Same),
    INTERLEAVED_BIASES[0],
    INTERLEAVED_BIASES[1],
    INTERLEAVED_BIASES[2],
    INTERLEAVED_BIASES[3],
    routed_changed(Role::FfnGateShexp, SHARED_IN, &[Dim::Embd, Dim::SharedFeedForward], Transform::Half(0)),
    routed_changed(Role::FfnUpShexp, SHARED_IN, &[Dim::Embd, Dim::SharedFeedForward], Transform::Half(1)),
    routed(Role::FfnDownShexp, SHARED_OUT, &[Dim::SharedFeedForward, Dim::Embd]),
    // Without experts the shared one is all there is.
    TensorRule { transform: Transform::Half(0), ..dense(Role::FfnGate, SHARED_IN, &[Dim::Embd, Dim::FeedForward]) },
    TensorRule { transform: Transform::Half(1), ..dense(Role::FfnUp, SHARED_IN, &[Dim::Embd, Dim::FeedForward]) },
    dense(Role::FfnDown, SHARED_OUT, &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

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
const EXPERTS_IN: &str = "model.layers.{}.block_sparse_moe.input_linear.weight";
const EXPERT_IN: &[Dim] = &[Dim::Embd, Dim::ExpertFeedForward, Dim::Experts];
const SHARED_IN: &str = "model.layers.{}.shared_mlp.input_linear.weight";
const SHARED_OUT: &str = "model.layers.{}.shared_mlp.output_linear.weight";
