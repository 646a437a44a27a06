//! Whether the engine can run a checkpoint: metadata keys that change the computation in ways that its forward function does
//! not know.
//!
//! Absent: opening, converting, quantizing and inspecting, which ask less.

use std::path::Path;

use crate::arch::{ArchSpec, BlockTraits};
use crate::gguf::Metadata;
use crate::{Error, Result};

/// Keys that mean another computation at all values but 0.
const OFF_AT_ZERO: &[&str] = &["attention.clamp_kqv", "attention.max_alibi_bias"];

/// What the block of the model computes.
///
/// # Errors
/// The model cannot be run; the error says for which reason.
pub(super) fn block_traits(path: &Path, arch: &'static ArchSpec, metadata: &Metadata) -> Result<&'static BlockTraits> {
    for stem in OFF_AT_ZERO {
        let key = arch.key(stem);
        if metadata.get(&key).is_some() && metadata.f32(&key) != Some(0.0) {
            return Err(Error::key(path, key, format!("only 0 is supported for running {}", arch.name)));
        }
    }
    let causal = arch.key("attention.causal");
    if metadata.get(&causal).is_some() && metadata.bool(&causal) != Some(true) {
        return Err(Error::key(path, causal, "only causal attention is supported"));
    }
    Ok(&arch.block)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::find_gguf;
    use crate::gguf::Value;

    #[test]
    fn keys_that_change_the_computation_are_refused_and_their_neutral_values_are_not() {
        let check = |key: &str, value: Value, said: Option<&str>| {
            let mut m = Metadata::new();
            m.set(format!("llama.{key}"), value);
            let found = block_traits(Path::new("m.gguf"), find_gguf("llama").unwrap(), &m).err().map(|e| e.to_string());
            let start = format!("m.gguf: llama.{key}: ");
            assert_eq!(found.is_some(), said.is_some(), "{key}: {found:?}");
            assert!(found.is_none_or(|e| e.starts_with(&start) && e.contains(said.unwrap_or_default())), "{key}");
        };
        check("attention.causal", Value::Bool(false), Some("causal"));
        check("attention.causal", Value::Bool(true), None);
        check("attention.clamp_kqv", Value::F32(8.0), Some("only 0"));
        check("attention.max_alibi_bias", Value::F32(0.0), None);
    }
}
