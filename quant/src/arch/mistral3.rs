//! mistral3: Mistral Small 3.1 and later, Ministral 3, with and without their image encoders: llama's tensors, and for
//! Ministral 3 a factor on queries by position (`conversion/mistral3.py`, b11434). The file does not say Mistral's sliding
//! window.

use super::llama::{self, LLAMA_SCALINGS};
use super::rule::{changed, computed, head, tensor};
use super::{
    ArchSpec, BLOCK, BlockTraits, CLASS, COMMON, Dim, HeadDim, HfClass, HfWindow, NormEpsilon, QueryTemperature, Role,
    RopePairing, TensorRule, Transform, YarnLog,
};

/// The row of the table.
pub(super) const MISTRAL3: ArchSpec = ArchSpec {
    name: "mistral3",
    hf: &[
        MINISTRAL,
        HfClass { name: WRAPPER, text_types: &["ministral3"], tied: true, ..MINISTRAL },
        HfClass { name: WRAPPER, text_types: &["mistral"], tied: true, ..MISTRAL },
    ],
    tensors: TENSORS,
    block: BlockTraits { rope: RopePairing::Adjacent, yarn_log: YarnLog::Magnitude, temperature: QueryTemperature::Key, ..BLOCK },
    neutral: llama::NEUTRAL,
    ..COMMON
};

const WRAPPER: &str = "Mistral3ForConditionalGeneration";

const MISTRAL: HfClass = HfClass {
    head_dim: HeadDim::Even,
    window: HfWindow::All,
    scalings: LLAMA_SCALINGS,
    defaults: &[("num_key_value_heads", "8"), ("sliding_window", "4096"), ("max_position_embeddings", "131072")],
    ..CLASS
};

const MINISTRAL: HfClass = HfClass {
    name: "Ministral3ForCausalLM",
    norm: NormEpsilon::Rms("rms_norm_eps", 1e-5),
    scalings: &["yarn"],
    rope_keys: &["llama_4_scaling_beta"],
    defaults: &[
        ("num_key_value_heads", "8"),
        ("head_dim", "128"),
        ("max_position_embeddings", "262144"),
        ("rope_parameters", ROPE),
    ],
    ..MISTRAL
};

/// What transformers takes where the configuration says nothing of rotary embedding.
const ROPE: &str = r#"{"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0,
    "mscale": 1.0, "mscale_all_dim": 1.0, "original_max_position_embeddings": 16384, "llama_4_scaling_beta": 0.1}"#;

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    computed(Role::RopeFreqs, &[Dim::RopePairs]),
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    changed(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries], Transform::InterleaveQueryHeads),
    changed(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys], Transform::InterleaveKeyHeads),
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    head("lm_head.weight"),
];
