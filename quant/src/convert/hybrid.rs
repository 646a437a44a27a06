//! Models whose blocks are of several kinds: which block is what, and the sizes of state-space mixers.
//!
//! Absent: the order in which an architecture's converter writes them (see `architectures`).

use serde_json::Value as Json;

use super::config::Config;
use super::keys::Writer;
use crate::arch::{Recurs, Shapes};
use crate::gguf::{Metadata, Value};
use crate::hparams::OWN_PREFIX;
use crate::vocab::TokenizerInput;
use crate::vocab::hf::padded_size;
use crate::{Error, Result};

/// One kind for each block by a list under `key`, of which `known` gives the names; `None` where there is no such key.
///
/// # Errors
/// The key is not a list with one entry for each block, or a name in it is not known.
pub(super) fn kinds<T: Copy>(config: &Config, key: &str, known: &[(&str, T)]) -> Result<Option<Vec<T>>> {
    let (c, count) = (config.keys(), config.block_count as usize);
    let kind = |entry: &Json| {
        let found = entry.as_str().and_then(|name| known.iter().find(|(known, _)| *known == name));
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        found.map(|(_, kind)| *kind).ok_or_else(|| {
            let shown: String = entry.to_string().chars().take(40).collect();
            c.error(key, format!("{shown} is not supported; known: {}", names.join(", ")))
        })
    };
    match c.get(key) {
        None => Ok(None),
        Some(Json::Array(list)) if list.len() == count => list.iter().map(kind).collect::<Result<_>>().map(Some),
        Some(_) => Err(c.error(key, format!("must be a list of {count} entries, one for each block"))),
    }
}

/// A size in the blocks that have it, and 0 in the others.
///
/// # Errors
/// It is larger than a file can say.
pub(super) fn where_it_is(config: &Config, key: &str, size: u32, blocks: impl Iterator<Item = bool>) -> Result<Vec<i32>> {
    let size = i32::try_from(size).map_err(|_| config.keys().error(key, format!("{size} is too large")))?;
    Ok(blocks.map(|has| if has { size } else { 0 }).collect())
}

/// What a state-space mixer's sizes are called in an architecture's `config.json`.
pub(super) struct StateKeys {
    pub(super) heads: &'static str,
    pub(super) head_dim: &'static str,
    pub(super) groups: &'static str,
    pub(super) state: &'static str,
    pub(super) kernel: &'static str,
}

/// The sizes of a state-space mixer.
pub(super) struct StateSizes {
    pub(super) heads: u32,
    pub(super) inner: u32,
    pub(super) groups: u32,
    pub(super) state: u32,
    pub(super) kernel: u32,
}

/// Reads them; `inner` is what the heads together must be wide, where something else says it too.
///
/// # Errors
/// A key that is missing or no size, or sizes that contradict each other.
pub(super) fn state_sizes(config: &Config, keys: &StateKeys, inner: Option<u64>) -> Result<StateSizes> {
    let c = config.keys();
    let heads = c.size(keys.heads)?;
    let head_dim = match (c.get(keys.head_dim), inner) {
        // What transformers takes it for.
        (None, Some(inner)) => inner / u64::from(heads),
        (Some(Json::String(auto)), Some(inner)) if auto == "auto" => inner / u64::from(heads),
        _ => u64::from(c.size(keys.head_dim)?),
    };
    let whole = u64::from(heads) * head_dim;
    if inner.is_some_and(|inner| inner != whole) || head_dim == 0 {
        let what = format!("{heads} heads of {head_dim} are {whole} wide, and not {}", inner.unwrap_or(0));
        return Err(c.error(keys.heads, what));
    }
    let inner = u32::try_from(whole).map_err(|_| c.error(keys.heads, format!("{whole} is too wide")))?;
    let (groups, state) = (c.size(keys.groups)?, c.size(keys.state)?);
    Ok(StateSizes { heads, inner, groups, state, kernel: c.size(keys.kernel)? })
}

impl StateSizes {
    /// In the order of the converter for hybrid models.
    pub(super) fn add(&self, w: &mut Writer<'_>) {
        w.u32("ssm.conv_kernel", self.kernel);
        w.u32("ssm.state_size", self.state);
        w.u32("ssm.group_count", self.groups);
        w.u32("ssm.inner_size", self.inner);
        w.u32("ssm.time_step_rank", self.heads);
    }

    /// In that of the converter for Mamba-2 alone.
    pub(super) fn add_mamba(&self, w: &mut Writer<'_>) {
        w.u32("ssm.conv_kernel", self.kernel);
        w.u32("ssm.inner_size", self.inner);
        w.u32("ssm.state_size", self.state);
        w.u32("ssm.time_step_rank", self.heads);
        w.u32("ssm.group_count", self.groups);
    }
}

/// Adds keys of our own for what llama.cpp's layout does not carry: the limits of steps, and the factor on logits of a tied model
/// whose output matrix has that of its embeddings in it (Falcon-H1).
///
/// # Errors
/// A key of the configuration that says something else than it can.
pub(super) fn add_own_keys(config: &Config, m: &mut Metadata) -> Result<()> {
    let c = config.keys();
    let own = |m: &mut Metadata, stem: &str, value: f64| m.set(format!("{OWN_PREFIX}{stem}"), Value::F32(value as f32));
    let [least, most] = match (config.arch.block.recurs, config.class.least_step) {
        (Recurs::Mamba2 { .. }, None) => time_step_limit(config)?,
        (Recurs::Mamba2 { .. }, Some(key)) => [c.number(key)?.unwrap_or(0.0), f64::INFINITY],
        _ => return Ok(()),
    };
    if least > 0.0 {
        own(m, "ssm.time_step_min", least);
    }
    // No step is as large as this.
    if most < 1e9 {
        own(m, "ssm.time_step_max", most);
    }
    // Files of Mamba-2 say it by their list of tokens, which may be filled up.
    let size = config.vocab_size;
    if config.arch.block.shapes == Shapes::NoneOfThem && padded_size(&TokenizerInput::of(config)) != size {
        m.set(format!("{OWN_PREFIX}vocab_size"), Value::U32(size));
    }
    if let Some(logits) = c.number("lm_head_multiplier")?.filter(|_| config.tie_word_embeddings) {
        let scale = logits / c.number("embedding_multiplier")?.unwrap_or(1.0);
        if scale != 1.0 {
            own(m, "logit_scale", scale);
        }
    }
    Ok(())
}

/// The limits of steps that `time_step_limit` says, from 0 on and without an end where it is missing.
///
/// # Errors
/// It is no pair of numbers in their order.
fn time_step_limit(config: &Config) -> Result<[f64; 2]> {
    const KEY: &str = "time_step_limit";
    let wrong = |value: &Json| -> Error {
        let shown: String = value.to_string().chars().take(60).collect();
        config.keys().error(KEY, format!("is {shown}, but must be two numbers, of which the first is the least and 0 or more"))
    };
    let Some(value) = config.keys().get(KEY) else { return Ok([0.0, f64::INFINITY]) };
    // transformers 5 writes infinity as an object.
    let number = |value: &Json| match value.get("__float__").and_then(Json::as_str) {
        Some("Infinity") => Some(f64::INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    };
    match value.as_array().map(Vec::as_slice) {
        Some([least, most]) => match (number(least), number(most)) {
            (Some(least), Some(most)) if 0.0 <= least && least <= most && most > 0.0 => Ok([least, most]),
            _ => Err(wrong(value)),
        },
        _ => Err(wrong(value)),
    }
}

/// Whether the configuration says a base of rotary embedding, in either spelling; the converter writes none that it does not say.
///
/// # Errors
/// Rotary embedding is described by something that is no object.
pub(super) fn states_rope_theta(config: &Config) -> Result<bool> {
    let c = config.keys();
    let described = c.rope_object()?.is_some_and(|object| object.get("rope_theta").is_some_and(|v| !v.is_null()));
    Ok(described || c.get("rope_theta").is_some())
}
