//! qwen3vl: the language models of Qwen3-VL, which are Qwen3's; its position embedding turns by time, height and width, which
//! for text are the same (`conversion/qwenvl.py`, b11434). Absent: the image encoder, whose inner layers are added to the first
//! blocks.

use super::biases::ATTENTION_BIAS;
use super::qwen3;
use super::{ArchSpec, CLASS, COMMON, HeadDim, HfClass, NormEpsilon};

/// The row of the table.
pub(super) const QWEN3VL: ArchSpec = ArchSpec {
    name: "qwen3vl",
    hf: &[HfClass {
        name: "Qwen3VLForConditionalGeneration",
        text_types: &["qwen3_vl_text"],
        head_dim: HeadDim::Fixed(128),
        norm: NormEpsilon::Rms("rms_norm_eps", 1e-6),
        rope_theta: 500_000.0,
        rope_keys: &["mrope_section", "mrope_interleaved"],
        defaults: &[("num_key_value_heads", "32"), ("max_position_embeddings", "128000")],
        ..CLASS
    }],
    tensors: qwen3::TENSORS,
    stated: &[ATTENTION_BIAS],
    neutral: qwen3::NEUTRAL,
    ..COMMON
};
