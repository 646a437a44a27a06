//! llama: Llama 1 to 3.2 and the many models that share its graph (Yi, SmolLM2, TinyLlama, DeepSeek-LLM, ...). Those with a
//! SentencePiece tokenizer run on token ids only, until `vocab` reads it.
//!
//! Tensor names, row order and the rope factors follow llama.cpp's converter (b11434, `conversion/llama.py`). Absent:
//! mixtures of experts, sliding windows, YaRN: they are refused, not ignored.

use super::{ArchSpec, ComputedTensor, Dim, Mlp, NeutralKey, Norm, Presence, Role, RopePairing, RowOrder, TensorRule};
use crate::Result;
use crate::convert::config::{Config, Rope};
use crate::gguf::{Metadata, Value};
use crate::vocab::key;

/// The row of the table.
pub(super) const LLAMA: ArchSpec = ArchSpec {
    name: "llama",
    hf: &["LlamaForCausalLM"],
    tensors: TENSORS,
    norm: Norm::Rms,
    rope: RopePairing::Adjacent,
    mlp: Mlp::SwiGlu,
    neutral: NEUTRAL,
    extra_keys,
    tokenizer_keys,
    computed,
};

const NEUTRAL: &[NeutralKey] = &[NeutralKey { key: "hidden_act", accepted: &["\"silu\""] }];

const fn tensor(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { role, hf: Some(hf), shape, rows: RowOrder::Same, presence: Presence::Required }
}

const fn bias(role: Role, hf: &'static str, shape: &'static [Dim]) -> TensorRule {
    TensorRule { presence: Presence::Optional, ..tensor(role, hf, shape) }
}

const TENSORS: &[TensorRule] = &[
    tensor(Role::TokenEmbd, "model.embed_tokens.weight", &[Dim::Embd, Dim::Vocab]),
    TensorRule { role: Role::RopeFreqs, hf: None, shape: &[Dim::RopePairs], rows: RowOrder::Same, presence: Presence::Optional },
    tensor(Role::AttnNorm, "model.layers.{}.input_layernorm.weight", &[Dim::Embd]),
    TensorRule {
        rows: RowOrder::InterleaveQueryHeads,
        ..tensor(Role::AttnQ, "model.layers.{}.self_attn.q_proj.weight", &[Dim::Embd, Dim::Queries])
    },
    TensorRule {
        rows: RowOrder::InterleaveQueryHeads,
        ..bias(Role::AttnQBias, "model.layers.{}.self_attn.q_proj.bias", &[Dim::Queries])
    },
    TensorRule {
        rows: RowOrder::InterleaveKeyHeads,
        ..tensor(Role::AttnK, "model.layers.{}.self_attn.k_proj.weight", &[Dim::Embd, Dim::Keys])
    },
    TensorRule {
        rows: RowOrder::InterleaveKeyHeads,
        ..bias(Role::AttnKBias, "model.layers.{}.self_attn.k_proj.bias", &[Dim::Keys])
    },
    tensor(Role::AttnV, "model.layers.{}.self_attn.v_proj.weight", &[Dim::Embd, Dim::Values]),
    bias(Role::AttnVBias, "model.layers.{}.self_attn.v_proj.bias", &[Dim::Values]),
    tensor(Role::AttnOutput, "model.layers.{}.self_attn.o_proj.weight", &[Dim::AttnOutput, Dim::Embd]),
    bias(Role::AttnOutputBias, "model.layers.{}.self_attn.o_proj.bias", &[Dim::Embd]),
    tensor(Role::FfnNorm, "model.layers.{}.post_attention_layernorm.weight", &[Dim::Embd]),
    tensor(Role::FfnGate, "model.layers.{}.mlp.gate_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    bias(Role::FfnGateBias, "model.layers.{}.mlp.gate_proj.bias", &[Dim::FeedForward]),
    tensor(Role::FfnUp, "model.layers.{}.mlp.up_proj.weight", &[Dim::Embd, Dim::FeedForward]),
    bias(Role::FfnUpBias, "model.layers.{}.mlp.up_proj.bias", &[Dim::FeedForward]),
    tensor(Role::FfnDown, "model.layers.{}.mlp.down_proj.weight", &[Dim::FeedForward, Dim::Embd]),
    bias(Role::FfnDownBias, "model.layers.{}.mlp.down_proj.bias", &[Dim::Embd]),
    tensor(Role::OutputNorm, "model.norm.weight", &[Dim::Embd]),
    TensorRule { presence: Presence::TiedToTokenEmbd, ..tensor(Role::Output, "lm_head.weight", &[Dim::Embd, Dim::Vocab]) },
];

fn extra_keys(config: &Config, metadata: &mut Metadata) -> Result<()> {
    metadata.set("llama.vocab_size", Value::U32(config.vocab_size));
    metadata.set("llama.rope.dimension_count", Value::U32(config.head_dim));
    Ok(())
}

/// The vocabulary size by which the converter knows small Granite models; SmolLM2 has it too.
const GRANITE_SMALL_VOCAB: u32 = 49152;

fn tokenizer_keys(config: &Config, metadata: &mut Metadata) {
    if config.vocab_size == GRANITE_SMALL_VOCAB {
        metadata.set(key::ADD_BOS, Value::Bool(false));
    }
}

fn computed(config: &Config) -> Result<Vec<ComputedTensor>> {
    Ok(match config.rope {
        Rope::Llama3 { .. } => vec![ComputedTensor { role: Role::RopeFreqs, values: llama3_rope_factors(config) }],
        Rope::Default | Rope::Linear { .. } => Vec::new(),
    })
}

/// The divisor of each pair's frequency: 1 for wavelengths that turn often within the original context, `factor` for those
/// that turn less than once, blended in between (Llama 3.1's frequency scaling). To give the converter's bits, every step is
/// rounded to f32 and `a / tensor` is `1 / tensor * a`, as PyTorch computes it. The power goes through f64, so that it
/// does not depend on the system's `powf`.
fn llama3_rope_factors(config: &Config) -> Vec<f32> {
    let Rope::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } = config.rope else {
        return Vec::new();
    };
    let low_freq_wavelen = (original_context / low_freq_factor) as f32;
    let high_freq_wavelen = (original_context / high_freq_factor) as f32;
    let dim = config.head_dim as f32;
    (0..config.head_dim / 2)
        .map(|pair| {
            let exponent = (2 * pair) as f32 / dim;
            let freq = 1.0 / config.rope_theta.powf(f64::from(exponent)) as f32;
            let wavelen = 1.0 / freq * std::f32::consts::TAU;
            if wavelen < high_freq_wavelen {
                1.0
            } else if wavelen > low_freq_wavelen {
                factor as f32
            } else {
                let turns = 1.0 / wavelen * original_context as f32;
                let smooth = (turns - low_freq_factor as f32) / (high_freq_factor - low_freq_factor) as f32;
                1.0 / ((1.0 - smooth) / factor as f32 + smooth)
            }
        })
        .collect()
}
