//! Whether the engine can run a checkpoint: by its architecture, by metadata keys that change the computation in ways its
//! forward function does not know, and by keys of `config.json` that metadata do not carry.
//!
//! Absent: opening, converting, quantizing and inspecting, which ask less.

use std::path::Path;

use crate::arch::{ArchSpec, BlockTraits};
use crate::convert::config::Config;
use crate::gguf::Metadata;
use crate::{Error, Result};

/// Keys that mean "off" at 0 and another computation at all other values.
const OFF_AT_ZERO: &[(&str, &str)] = &[
    ("expert_count", "mixtures of experts are"),
    ("leading_dense_block_count", "mixtures of experts are"),
    ("attention.sliding_window", "sliding-window attention is"),
];

/// Keys and the two values that llama.cpp takes to mean "off".
const FACTORS: &[(&str, [f32; 2])] = &[
    ("rope.scaling.attn_factor", [1.0, 1.0]),
    ("attention.scale", [0.0, 0.0]),
    ("attention.clamp_kqv", [0.0, 0.0]),
    ("attention.max_alibi_bias", [0.0, 0.0]),
    ("attn_logit_softcapping", [0.0, 0.0]),
    ("final_logit_softcapping", [0.0, 0.0]),
    ("logit_scale", [1.0, 0.0]),
    ("embedding_scale", [1.0, 0.0]),
    ("residual_scale", [1.0, 0.0]),
];

/// What the block of the model computes. `config` is there where it comes from a Hugging Face directory.
///
/// # Errors
/// The model cannot be run; the error says for which reason.
pub(super) fn block_traits(
    path: &Path,
    arch: &'static ArchSpec,
    metadata: &Metadata,
    config: Option<&Config>,
) -> Result<&'static BlockTraits> {
    let Some(traits) = &arch.engine else {
        let what = format!("{} can be converted, quantized and inspected; running it is not supported yet", arch.name);
        return Err(Error::file(path, what));
    };
    let refused = |stem: &str, what: String| Err(Error::key(path, arch.key(stem), what));
    for (stem, what) in OFF_AT_ZERO {
        if metadata.get(&arch.key(stem)).is_some() && metadata.u64(&arch.key(stem)) != Some(0) {
            return refused(stem, format!("{what} not supported for running {}", arch.name));
        }
    }
    for (stem, off) in FACTORS {
        let key = arch.key(stem);
        if metadata.get(&key).is_some() && !metadata.f32(&key).is_some_and(|v| off.contains(&v)) {
            return refused(stem, format!("only {} is supported for running {}", off[0], arch.name));
        }
    }
    let scaling = metadata.str(&arch.key("rope.scaling.type")).unwrap_or("none");
    if !matches!(scaling, "none" | "linear") {
        return refused("rope.scaling.type", format!("{scaling:?} is not supported for running {}", arch.name));
    }
    let causal = arch.key("attention.causal");
    if metadata.get(&causal).is_some() && metadata.bool(&causal) != Some(true) {
        return refused("attention.causal", "only causal attention is supported".to_owned());
    }
    match config.and_then(|config| config.uncarried.first().map(|key| (config, key))) {
        Some((config, key)) => {
            let what = format!("{key} is not supported for running {}", arch.name);
            Err(Error::file(&config.path, what))
        }
        None => Ok(traits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{ARCHITECTURES, find_gguf};
    use crate::gguf::Value;

    fn check(key: &str, value: Value, said: Option<&str>) {
        let mut m = Metadata::new();
        m.set(format!("llama.{key}"), value);
        let found = block_traits(Path::new("m.gguf"), find_gguf("llama").unwrap(), &m, None);
        match (found, said) {
            (Ok(_), None) => {}
            (Err(error), Some(said)) => {
                let error = error.to_string();
                assert!(error.starts_with(&format!("m.gguf: llama.{key}: ")) && error.contains(said), "{error}");
            }
            (found, said) => panic!("{key}: {found:?}, not {said:?}"),
        }
    }

    #[test]
    fn keys_that_change_the_computation_are_refused_and_their_neutral_values_are_not() {
        check("expert_count", Value::U32(8), Some("mixtures of experts"));
        check("expert_count", Value::U32(0), None);
        check("attention.sliding_window", Value::U32(4096), Some("sliding-window"));
        check("rope.scaling.attn_factor", Value::F32(1.2), Some("only 1"));
        check("logit_scale", Value::F32(0.0), None);
        check("rope.scaling.type", Value::String("yarn".into()), Some("yarn"));
        check("rope.scaling.type", Value::String("linear".into()), None);
        check("attention.causal", Value::Bool(false), Some("causal"));
    }

    #[test]
    fn an_architecture_without_traits_is_refused_in_one_sentence() {
        for arch in ARCHITECTURES.iter().filter(|arch| arch.engine.is_none()) {
            let error = block_traits(Path::new("m"), arch, &Metadata::new(), None).unwrap_err().to_string();
            let said = format!("{} can be converted, quantized and inspected; running it is not supported yet", arch.name);
            assert_eq!(error, format!("m: {said}"));
        }
    }
}
