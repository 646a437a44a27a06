//! gemma4: Gemma 4, with and without its encoders of images and sound: a sliding window in all blocks but some, which have wider
//! heads, fewer keys that may be the values too, and rotate a part of each head; a factor on what a block puts out. Some models
//! have experts beside a dense network; some have an input for each block beside the stream, and last blocks that use the keys
//! and values of earlier ones (`conversion/gemma.py`, b11434). Absent: the encoders.

use super::biases::{ATTENTION_BIAS, ATTENTION_BIASES};
use super::rule::{computed, head, layered, routed, tensor};
use super::{
    ArchSpec, AttentionScale, BLOCK, BlockTraits, CLASS, COMMON, Dim, EmbeddingScale, HeadDim, HfClass, HfWindow, Mlp, Presence,
    Role, Shapes, Spared, TensorRule, Windowed, neutral,
};

/// The row of the table.
pub(super) const GEMMA4: ArchSpec = ArchSpec {
    name: "gemma4",
    hf: &[TEXT, HfClass { name: "Gemma4ForConditionalGeneration", text_types: &["gemma4_text"], ..TEXT }],
    tensors: TENSORS,
    block: BlockTraits {
        mlp: Mlp::GeGlu,
        windowed: Windowed::AllBut(6),
        normalizes_values: true,
        attention_scale: AttentionScale::One,
        embedding_scale: EmbeddingScale::RootOfWidth,
        dense_beside_experts: true,
        shapes: Shapes::ByBlock,
        ..BLOCK
    },
    neutral: &[
        neutral("hidden_activation", &["\"gelu_pytorch_tanh\""]),
        neutral("use_bidirectional_attention", &["\"vision\""]),
        // transformers passes over the old description of rotary embedding.
        neutral("rope_scaling", &["{}"]),
    ],
    understood: &["final_logit_softcapping", "num_experts"],
    stated: &[ATTENTION_BIAS],
    spared: &[Spared {
        key: "attention_k_eq_v",
        default: false,
        role: Role::AttnV,
        of: |h, block| h.has_attention(block) && h.window_of(block).is_none(),
    }],
    ..COMMON
};

const TEXT: HfClass = HfClass {
    name: "Gemma4ForCausalLM",
    head_dim: HeadDim::Fixed(256),
    context_length: Some(131_072),
    rope_theta: 1e6,
    local_rope_theta: Some(10000.0),
    partial_rotary: Some(1.0),
    scalings: &["proportional"],
    tied: true,
    window: HfWindow::PatternButLast(6),
    experts_used_key: Some("top_k_experts"),
    defaults: &[
        ("vocab_size", "262144"),
        ("hidden_size", "2304"),
        ("intermediate_size", "9216"),
        ("num_hidden_layers", "30"),
        ("num_attention_heads", "8"),
        ("num_key_value_heads", "4"),
        ("global_head_dim", "512"),
        ("sliding_window", "512"),
        ("hidden_size_per_layer_input", "256"),
        ("vocab_size_per_layer_input", "262144"),
        ("num_kv_shared_layers", "0"),
        (
            "rope_parameters",
            r#"{"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}"#,
        ),
    ],
    ..CLASS
};

const TENSORS: &[TensorRule] = &[
    computed(Role::RopeFreqs, &[Dim::RopePairs]),
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    layered(Role::PerLayerTokenEmbd, "model.embed_tokens_per_layer.weight", &[Dim::LayerInputs, Dim::Vocab]),
    layered(Role::PerLayerModelProj, "model.per_layer_model_projection.weight", &[Dim::Embd, Dim::LayerInputs]),
    layered(Role::PerLayerProjNorm, "model.per_layer_projection_norm.weight", &[Dim::LayerInput]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries]),
    tensor(Role::AttnQNorm, "model.layers.{}.self_attn.q_norm.weight", &[Dim::HeadDim]),
    keys(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys]),
    keys(Role::AttnKNorm, "model.layers.{}.self_attn.k_norm.weight", &[Dim::HeadDim]),
    TensorRule {
        presence: Presence::OwnValues,
        ..tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values])
    },
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::AttnPostNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.pre_feedforward_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::FfnPostNorm, "model.layers.{}.post_feedforward_layernorm.weight", &[Dim::Embd]),
    routed(Role::FfnPostNorm1, "model.layers.{}.post_feedforward_layernorm_1.weight", &[Dim::Embd]),
    routed(Role::FfnPostNorm2, "model.layers.{}.post_feedforward_layernorm_2.weight", &[Dim::Embd]),
    routed(Role::FfnPreNorm2, "model.layers.{}.pre_feedforward_layernorm_2.weight", &[Dim::Embd]),
    routed(Role::FfnGateInp, "model.layers.{}.router.proj.weight", &[Dim::Embd, Dim::Experts]),
    routed(Role::FfnGateInpScale, "model.layers.{}.router.scale", &[Dim::Embd]),
    routed(Role::FfnDownExpsScale, "model.layers.{}.router.per_expert_scale", &[Dim::Experts]),
    routed(Role::FfnGateUpExps, "model.layers.{}.experts.gate_up_proj", &[Dim::Embd, Dim::ExpertGateUp, Dim::Experts]),
    routed(Role::FfnDownExps, "model.layers.{}.experts.down_proj", &[Dim::ExpertFeedForward, Dim::Embd, Dim::Experts]),
    layered(Role::InpGate, "model.layers.{}.per_layer_input_gate.weight", &[Dim::Embd, Dim::LayerInput]),
    layered(Role::Proj, "model.layers.{}.per_layer_projection.weight", &[Dim::LayerInput, Dim::Embd]),
    layered(Role::PostNorm, "model.layers.{}.post_per_layer_input_norm.weight", &[Dim::Embd]),
    tensor(Role::LayerOutputScale, "model.layers.{}.layer_scalar", &[Dim::One]),
    ATTENTION_BIASES[0],
    ATTENTION_BIASES[1],
    ATTENTION_BIASES[2],
    ATTENTION_BIASES[3],
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];

const fn keys(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::OwnKeys, ..tensor(role, hf, shape) }
}
