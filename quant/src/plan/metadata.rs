//! The metadata of a file to be made: what the plan changes in those of the model, in llama-quantize's order. What is absent:
//! the metadata of a model (see `checkpoint` and `convert`).

use std::collections::HashMap;

use super::options::PlanOptions;
use super::value::Plan;
use crate::convert::FileType;
use crate::gguf::{Array, Metadata, SPLIT_KEYS, Value};
use crate::recipe::{ModelFacts, ftype_of};
use crate::{DType, Recipe};

/// Key of llama.cpp's `llama_ftype`.
const FILE_TYPE_KEY: &str = "general.file_type";

/// File types of what stays as it is in files of floats.
const KEPT: [FileType; 2] = [FileType::Mxfp4Moe, FileType::Nvfp4];

/// llama.cpp marks file types that it guessed from the tensors (`LLAMA_FTYPE_GUESSED`).
const GUESSED: u32 = 1024;

/// The metadata of the file that `recipe` makes of a model with the metadata `source`, as llama-quantize writes them without
/// any option: the quantization version and the file type go to the end, the keys of split files go away.
pub fn quantized_metadata(source: &Metadata, recipe: &Recipe) -> Metadata {
    /// Version of ggml's quantized encodings (`GGML_QNT_VERSION`).
    const QUANTIZATION_VERSION: u32 = 2;
    let mut out = source.clone();
    append(&mut out, "general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    append(&mut out, FILE_TYPE_KEY, Value::U32(recipe.ftype));
    for key in SPLIT_KEYS {
        out.remove(key);
    }
    out
}

/// Sets `key` at the end, wherever it stood.
fn append(metadata: &mut Metadata, key: &str, value: Value) {
    metadata.remove(key);
    metadata.set(key, value);
}

/// The keys that `options` set, in llama-quantize's order: overrides, what is to be known of the importance matrix (unless
/// `plain`: floats are not weighed), the number of blocks that are left.
pub(super) fn chosen_keys(options: &PlanOptions, model: &ModelFacts, plain: bool) -> Vec<(String, Value)> {
    let mut keys = options.override_kv.clone();
    if let Some(matrix) = options.importance().filter(|_| !plain) {
        keys.extend(matrix.metadata().into_iter().map(|(key, value)| (key.to_owned(), value)));
    }
    if !options.prune_layers.is_empty() {
        let left = model.block_count - options.prune_layers.len();
        keys.push((format!("{}.block_count", model.arch), Value::U32(left as u32)));
    }
    keys
}

impl Plan {
    /// The metadata of the file to be made from a model with the metadata `source`.
    pub fn metadata(&self, source: &Metadata) -> Metadata {
        let mut out = if self.plain || self.keeps_all { source.clone() } else { quantized_metadata(source, &self.recipe) };
        if self.keeps_all {
            SPLIT_KEYS.iter().for_each(|key| drop(out.remove(key)));
        } else if self.recipe.only_copy {
            let known = source.u64(FILE_TYPE_KEY).and_then(|ftype| u32::try_from(ftype).ok());
            out.set(FILE_TYPE_KEY, Value::U32(known.unwrap_or_else(|| self.guessed_ftype())));
        } else if self.plain && !KEPT.iter().any(|&kept| source.u64(FILE_TYPE_KEY) == Some(kept as u64)) {
            // The converter's own file: only its type differs from what the checkpoint says, if any.
            out.set(FILE_TYPE_KEY, Value::U32(self.recipe.ftype));
        }
        for (key, value) in &self.keys {
            append(&mut out, key, value.clone());
        }
        // llama.cpp has no lists by block; ours lose the entries of the blocks that are gone.
        for (key, value) in crate::convert::facts::own_keys(&out).iter() {
            if let Value::Array(Array::Bool(blocks)) = value {
                let left = blocks.iter().enumerate().filter(|(block, _)| !self.pruned.contains(block));
                out.set(key, Value::Array(Array::Bool(left.map(|(_, &value)| value).collect())));
            }
        }
        out
    }

    /// The file type by the type that most tensors have; of equally many, the first that reaches the number.
    fn guessed_ftype(&self) -> u32 {
        let (mut counts, mut most) = (HashMap::new(), (0, DType::F32));
        for entry in &self.entries {
            let count = counts.entry(entry.from).or_insert(0);
            *count += 1;
            if *count > most.0 {
                most = (*count, entry.from);
            }
        }
        GUESSED | ftype_of(most.1).unwrap_or(0)
    }
}
