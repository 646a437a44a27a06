//! What llama.cpp's converter (`convert_hf_to_gguf.py`, b11434) writes into a GGUF file's metadata for a Hugging Face
//! directory: the same keys, in the same order, of the same types.
//!
//! [`config`] reads `config.json`; `general` derives names, authorship and sampling defaults; the tokenizer's keys come
//! from `crate::vocab`. Absent: tensors (see `checkpoint`) and writing files (see `gguf`, `quantize`).

mod card;
pub mod config;
mod general;
mod naming;

use std::path::Path;

use crate::checkpoint::Tensor;
use crate::convert::config::{Config, Rope};
use crate::gguf::{Metadata, Value};
use crate::{DType, Result, vocab};

/// `general.file_type` of an unquantized file (llama.cpp's `LLAMA_FTYPE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum FileType {
    /// All tensors F32.
    F32 = 0,
    /// Matrices F16.
    F16 = 1,
    /// Matrices BF16.
    Bf16 = 32,
}

impl FileType {
    /// The file type of what is stored, by the first matrix.
    pub fn of(tensors: &[Tensor]) -> Self {
        match tensors.iter().find(|t| t.shape.len() > 1).map(|t| t.dtype) {
            Some(DType::BF16) => Self::Bf16,
            Some(DType::F32) => Self::F32,
            _ => Self::F16,
        }
    }
}

/// The name of a model directory, also where it was given as `.` or with a trailing slash.
pub fn model_name(dir: &Path) -> String {
    match dir.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => dir.canonicalize().ok().as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// All metadata of the converted model. Where the tokenizer is not supported its keys are left out; whoever writes a file
/// asks for the vocabulary first and so gets the reason (`Checkpoint::output_metadata`).
///
/// # Errors
/// A file beside `config.json` cannot be read.
pub fn metadata(config: &Config, dir: &Path, parameter_count: u64, file_type: FileType) -> Result<Metadata> {
    let mut m = Metadata::new();
    m.set("general.architecture", Value::String(config.arch.name.to_owned()));
    m.set("general.type", Value::String("model".to_owned()));
    general::add_keys(config, dir, parameter_count, &mut m)?;
    add_model_keys(config, file_type, &mut m)?;
    m.set("general.quantization_version", Value::U32(GGML_QUANT_VERSION));
    let mut tokenizer = Metadata::new();
    if vocab::hf::add_keys(config, &mut tokenizer).is_ok() {
        for (key, value) in tokenizer.iter() {
            m.set(key, value.clone());
        }
    }
    Ok(m)
}

/// Version of the quantization formats (ggml's `GGML_QNT_VERSION`).
const GGML_QUANT_VERSION: u32 = 2;

/// The keys that describe the model's computation, and its file type between them where the converter has it.
///
/// # Errors
/// Those of the architecture's own keys.
pub fn add_model_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let arch = config.arch;
    let u32 = |stem: &str, value: u32| (arch.key(stem), Value::U32(value));
    let f32 = |stem: &str, value: f64| (arch.key(stem), Value::F32(value as f32));
    let mut pairs = vec![
        u32("block_count", config.block_count),
        u32("context_length", config.context_length),
        u32("embedding_length", config.embedding_length),
        u32("feed_forward_length", config.feed_forward_length),
        u32("attention.head_count", config.head_count),
        u32("attention.head_count_kv", config.head_count_kv),
    ];
    if let Rope::Linear { factor } = config.rope {
        pairs.push((arch.key("rope.scaling.type"), Value::String("linear".to_owned())));
        pairs.push(f32("rope.scaling.factor", factor));
    }
    pairs.push(f32("rope.freq_base", config.rope_theta));
    pairs.push(f32("attention.layer_norm_rms_epsilon", config.rms_norm_eps));
    pairs.push(u32("attention.key_length", config.head_dim));
    pairs.push(u32("attention.value_length", config.head_dim));
    pairs.push(("general.file_type".to_owned(), Value::U32(file_type as u32)));
    for (key, value) in pairs {
        m.set(key, value);
    }
    (arch.extra_keys)(config, m)
}
