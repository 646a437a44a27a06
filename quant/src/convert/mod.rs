//! What llama.cpp's converter (`convert_hf_to_gguf.py`, b11434) writes into a GGUF file's metadata for a Hugging Face
//! directory: the same keys, in the same order, of the same types.
//!
//! [`config`] reads `config.json`; `general` derives names, authorship and sampling defaults; the tokenizer's keys come
//! from `crate::vocab`. Absent: tensors (see `checkpoint`) and writing files (see `gguf`, `quantize`).

pub(crate) mod architectures;
mod card;
pub mod config;
pub mod facts;
mod file_type;
mod general;
mod hybrid;
pub(crate) mod keys;
mod naming;
mod rope;
mod weights;
pub(crate) mod wrapper;

use std::path::Path;

use crate::gguf::{Metadata, Value};
use crate::safetensors::HfTensor;
use crate::tensor::Tensor;
use crate::{Result, vocab};
use config::Config;
pub use file_type::FileType;
pub use naming::model_name;
pub use rope::RopeConfig;
use weights::WeightCount;

/// All metadata of the converted model, and behind them `own`, the keys of our own (see [`facts`]). Where the tokenizer is not
/// supported its keys are left out; whoever writes a file asks for the vocabulary first and so gets the reason
/// (`Checkpoint::output_metadata`).
///
/// # Errors
/// A file beside `config.json` cannot be read.
pub(crate) fn metadata(config: &Config, stored: &[HfTensor], tensors: &[Tensor], own: &Metadata) -> Result<Metadata> {
    let dir = config.path.parent().unwrap_or(Path::new("."));
    let mut m = Metadata::new();
    m.set("general.architecture", Value::String(config.arch.name.to_owned()));
    architectures::computed(config, stored, &mut m)?;
    m.set("general.type", Value::String("model".to_owned()));
    general::add_keys(config, dir, &WeightCount::of(tensors), &mut m)?;
    architectures::add_keys(config, FileType::of(tensors), &mut m)?;
    m.set("general.quantization_version", Value::U32(GGML_QUANT_VERSION));
    let mut tokenizer = Metadata::new();
    if vocab::hf::add_keys(&vocab::TokenizerInput::of(config), &mut tokenizer).is_ok() {
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
