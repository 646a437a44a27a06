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

use std::ffi::OsStr;
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

/// The name of a model directory, also where it was given as `.` or with a trailing slash. A commit's directory in the cache of
/// Hugging Face's tools has the name of its repository, as if that had been cloned; the converter would take the commit for a
/// name.
pub fn model_name(dir: &Path) -> String {
    let text = |name: Option<&OsStr>| name.unwrap_or_default().to_string_lossy().into_owned();
    let full = || dir.canonicalize().unwrap_or_default();
    match dir.file_name() {
        Some(name) if is_commit(&name.to_string_lossy()) => repository_of(&full()).unwrap_or_else(|| text(Some(name))),
        Some(name) => text(Some(name)),
        None => repository_of(&full()).unwrap_or_else(|| text(full().file_name())),
    }
}

/// The repository's name of `.../models--OWNER--NAME/snapshots/COMMIT`.
fn repository_of(snapshot: &Path) -> Option<String> {
    let mut parts = snapshot.iter().rev().map(OsStr::to_string_lossy);
    let (commit, snapshots, repository) = (parts.next()?, parts.next()?, parts.next()?);
    let name = repository.strip_prefix("models--")?.rsplit("--").next()?;
    (is_commit(&commit) && snapshots == "snapshots" && !name.is_empty()).then(|| name.to_owned())
}

/// Whether a directory's name is a commit's hash, SHA-1 or SHA-256.
fn is_commit(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// All metadata of the converted model, and behind them `own`, the keys of our own (see [`facts`]). Where the tokenizer is not
/// supported its keys are left out; whoever writes a file asks for the vocabulary first and so gets the reason
/// (`Checkpoint::output_metadata`).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_the_shared_cache_has_its_repositorys_name() {
        let cache = tempfile::TempDir::new().unwrap();
        let check = |path: &str, expected: &str| {
            let dir = cache.path().join(path);
            std::fs::create_dir_all(&dir).unwrap();
            assert_eq!(model_name(&dir), expected, "{path}");
        };
        let commit = "0123456789abcdef0123456789abcdef01234567";
        check(&format!("models--owner--My-Model-1B/snapshots/{commit}"), "My-Model-1B");
        check(&format!("models--gpt2/snapshots/{commit}"), "gpt2");
        check(&format!("models--o--n/snapshots/{commit}/deeper"), "deeper");
        check("models--o--n/snapshots/main", "main");
        check(&format!("models--o--n/other/{commit}"), commit);
        check(&format!("elsewhere/snapshots/{commit}"), commit);
        check("My-Model-1B", "My-Model-1B");
    }
}
