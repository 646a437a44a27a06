//! What llama.cpp's converter (`convert_hf_to_gguf.py`, b11434) writes into a GGUF file's metadata for a Hugging Face
//! directory: the same keys, in the same order, of the same types.
//!
//! [`config`] reads `config.json`; `general` derives names, authorship and sampling defaults; the tokenizer's keys come
//! from `crate::vocab`. Absent: tensors (see `checkpoint`) and writing files (see `gguf`, `quantize`).

mod card;
pub mod config;
pub mod facts;
mod general;
mod json;
pub(crate) mod keys;
mod naming;
pub mod rope;

use std::path::Path;

use crate::checkpoint::Tensor;
use crate::convert::config::Config;
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
    /// Experts MXFP4, whatever the other matrices are.
    Mxfp4Moe = 38,
}

impl FileType {
    /// The file type of what is stored, by the first matrix.
    pub fn of(tensors: &[Tensor]) -> Self {
        if tensors.iter().any(|t| !t.dtype.is_float()) {
            return Self::Mxfp4Moe;
        }
        match tensors.iter().find(|t| t.shape.len() > 1).map(|t| t.dtype) {
            Some(DType::BF16) => Self::Bf16,
            Some(DType::F32) => Self::F32,
            _ => Self::F16,
        }
    }
}

/// How many weights a model has, as gguf-py counts them for its size label (`get_total_parameter_count`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WeightCount {
    total: u64,
    /// Outside of experts.
    shared: u64,
    /// In one expert of every tensor that has them.
    expert: u64,
    /// The number of experts, 0 where there are none.
    experts: u64,
}

impl WeightCount {
    fn of(tensors: &[Tensor]) -> Self {
        let mut count = Self { total: 0, shared: 0, expert: 0, experts: 0 };
        let (mut experts, mut stacked) = (0, 0);
        for tensor in tensors {
            let elements = tensor.elements();
            count.total += elements;
            match tensor.shape.get(2) {
                Some(&n) if tensor.name.contains("_exps.") => {
                    count.expert += elements / (n as u64).max(1);
                    experts += n as u64;
                    stacked += 1;
                }
                _ => count.shared += elements,
            }
        }
        count.experts = experts / u64::max(stacked, 1);
        count
    }
}

/// The name of a model directory, also where it was given as `.` or with a trailing slash.
pub fn model_name(dir: &Path) -> String {
    match dir.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => dir.canonicalize().ok().as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// All metadata of the converted model, and behind them `own`, the keys of our own. Where the tokenizer is not supported its keys are left out; whoever writes a file
/// asks for the vocabulary first and so gets the reason (`Checkpoint::output_metadata`).
///
/// # Errors
/// A file beside `config.json` cannot be read.
pub fn metadata(config: &Config, dir: &Path, tensors: &[Tensor], own: &Metadata) -> Result<Metadata> {
    let mut m = Metadata::new();
    m.set("general.architecture", Value::String(config.arch.name.to_owned()));
    (config.arch.computed)(config, &mut m)?;
    m.set("general.type", Value::String("model".to_owned()));
    general::add_keys(config, dir, &WeightCount::of(tensors), &mut m)?;
    (config.arch.keys)(config, FileType::of(tensors), &mut m)?;
    m.set("general.quantization_version", Value::U32(GGML_QUANT_VERSION));
    let mut tokenizer = Metadata::new();
    if vocab::hf::add_keys(&vocab::hf::Model::of(config), &mut tokenizer).is_ok() {
        for (key, value) in tokenizer.iter() {
            m.set(key, value.clone());
        }
    }
    for (key, value) in own.iter() {
        m.set(key, value.clone());
    }
    Ok(m)
}

/// Version of the quantization formats (ggml's `GGML_QNT_VERSION`).
const GGML_QUANT_VERSION: u32 = 2;
