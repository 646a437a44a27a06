//! What a configuration says and llama.cpp's layout does not: a sliding window that its converter leaves out, which blocks have
//! it, a base of rotary embedding that llama.cpp has in its code, ... Each is written under a key of our own, which llama.cpp
//! passes over (`hparams` reads it), and only where the file would otherwise mean another model. `CONTRIBUTING.md` lists
//! the keys.
//!
//! What a missing key of `config.json` means follows transformers 5.23 (`configuration_*.py`, `modeling_rope_utils.py`).
//! Absent: the keys that the converter writes (see `keys`).

use serde_json::Value as Json;

use super::config::Config;
use super::hybrid;
use super::rope::RopeConfig;
use crate::arch::{ExpertGroups, Gating, HeadNorms, HfWindow, Normalizes, QueryTemperature, Rotated};
use crate::gguf::{Array, Metadata, Value};
use crate::hparams::{HParams, OWN_PREFIX, RopeScaling, Sight, Window, Yarn};
use crate::json::JsonReader;
use crate::{Error, Result};

/// Adds to `m`, which holds the converter's keys, those of our own that it takes.
///
/// # Errors
/// A key of the configuration that is missing, of the wrong type, or contradicts another; hyper-parameters out of range.
pub(crate) fn add_keys(config: &Config, m: &mut Metadata) -> Result<()> {
    let path = config.path.as_path();
    let read = |m: &Metadata| HParams::from_metadata(path, config.arch, m);
    let own = |m: &mut Metadata, stem: &str, value: Value| m.set(format!("{OWN_PREFIX}{stem}"), value);

    let window = window(config)?;
    let h = read(m)?;
    if h.window.as_ref().map(|w| w.sight) != window.as_ref().map(|w| w.sight) {
        let (chunk, last) = match window.as_ref().map(|w| w.sight) {
            None => (0, 0),
            Some(Sight::Chunk(width)) => (width, 0),
            Some(Sight::Last(width)) => (0, width),
        };
        if config.class.window == HfWindow::Chunked {
            own(m, "attention.chunk_size", Value::U32(chunk as u32));
        } else {
            own(m, "attention.sliding_window", Value::U32(last as u32));
        }
    }
    let h = read(m)?;
    if let (Some(found), Some(wanted)) = (&h.window, &window)
        && found.blocks[..h.block_count] != wanted.blocks
    {
        let rest = vec![false; h.mtp_block_count];
        own(m, "attention.sliding_window_blocks", Value::Array(Array::Bool([&wanted.blocks[..], &rest].concat())));
    }
    let h = read(m)?;
    let rotated = rotated(config, h.window.as_ref(), &h.rope_blocks)?;
    if h.rope_blocks != rotated {
        own(m, "rope.blocks", Value::Array(Array::Bool(rotated)));
    }
    for (stem, found, wanted) in [
        ("rope.freq_base", Some(h.rope_freq_base), Some(config.rope_theta as f32)),
        ("rope.freq_base_swa", h.rope_local_base, config.local_rope_theta.map(|v| v as f32).or(h.rope_local_base)),
    ] {
        if let Some(wanted) = wanted.filter(|_| found != wanted && h.rope_blocks.contains(&true)) {
            own(m, stem, Value::F32(wanted));
        }
    }
    add_rope_scaling(config, m)?;
    let h = read(m)?;
    if let Some(original) = original_context(config)?.filter(|&original| h.rope_original_context != original as usize) {
        own(m, "rope.scaling.original_context_length", Value::U32(original));
    }
    let h = read(m)?;
    let magnitude = magnitude(config)?;
    if differ(h.rope_magnitude, magnitude) {
        own(m, "rope.scaling.magnitude", Value::F32(magnitude));
    }
    if let RopeConfig::LongRope { magnitudes: Some([short, long]), .. } = config.rope
        && short != long
    {
        own(m, "rope.scaling.long_magnitude", Value::F32(long as f32));
    }
    add_temperature(config, m)?;
    if let Some(wanted) = config.keys().number("post_norm_eps")?.map(|v| v as f32).filter(|v| differ(*v, h.post_norm_epsilon)) {
        own(m, "attention.post_norm_epsilon", Value::F32(wanted));
    }
    if let Some((key, default)) = config.class.attention_scalar {
        let wanted = (1.0 / config.keys().number(key)?.unwrap_or(default).sqrt()) as f32;
        if differ(h.attention_scale, wanted) {
            own(m, "attention.scale", Value::F32(wanted));
        }
    }
    if h.expert_count > 0 {
        add_experts(config, &h, m)?;
    }
    hybrid::add_own_keys(config, m)
}

/// Whether two numbers differ by more than the rounding of the ways in which they were computed.
fn differ(a: f32, b: f32) -> bool {
    (a - b).abs() > 1e-6 * a.abs().max(b.abs())
}

/// One entry a block of a list in the configuration.
fn list<'a>(keys: JsonReader<'a>, key: &str, count: usize) -> Result<Option<&'a [Json]>> {
    match keys.get(key) {
        None => Ok(None),
        Some(Json::Array(list)) if list.len() == count => Ok(Some(list)),
        Some(_) => Err(keys.error(key, format!("must be a list of {count} entries, one for each block"))),
    }
}

/// The blocks that `layer_types` gives a window.
fn layer_types(keys: JsonReader<'_>, count: usize) -> Result<Option<Vec<bool>>> {
    const KEY: &str = "layer_types";
    let windowed = |kind: &Json| match kind.as_str() {
        Some("sliding_attention" | "chunked_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(keys.error(KEY, format!("{kind} is not supported; known: sliding_attention, full_attention"))),
    };
    list(keys, KEY, count)?.map(|kinds| kinds.iter().map(windowed).collect()).transpose()
}

/// Which blocks have a sliding window, and how wide it is.
fn window(config: &Config) -> Result<Option<Window>> {
    const WIDTH: &str = "sliding_window";
    let (keys, count) = (config.keys(), config.block_count as usize);
    let width = || keys.count(WIDTH).map(|width| width.filter(|&width| width > 0));
    let used = || Ok::<_, Error>(keys.bool("use_sliding_window")?.unwrap_or(false));
    let max_layers = || match keys.count("max_window_layers")? {
        Some(count) => Ok(count as usize),
        None => Err(keys.error("max_window_layers", "is missing")),
    };
    let by_layer = |otherwise: &dyn Fn(usize) -> bool| {
        Ok::<_, Error>(layer_types(keys, count)?.unwrap_or_else(|| (0..count).map(otherwise).collect()))
    };
    let (width, blocks) = match config.class.window {
        HfWindow::None | HfWindow::Recurrent => (None, Vec::new()),
        HfWindow::All => (width()?, vec![true; count]),
        HfWindow::AllIfUsed => (if used()? { width()? } else { None }, vec![true; count]),
        HfWindow::Pattern(default) => {
            let n = match keys.optional_size("sliding_window_pattern")? {
                Some(n) => n as usize,
                None => default,
            };
            (width()?, by_layer(&|block| (block + 1) % n != 0)?)
        }
        HfWindow::FromEnd(n) => (width()?, by_layer(&|block| (count - 1 - block) % n != 0)?),
        HfWindow::PatternButLast(n) => {
            let mut blocks = by_layer(&|block| (block + 1) % n != 0)?;
            blocks.last_mut().into_iter().for_each(|last| *last = false);
            (width()?, blocks)
        }
        HfWindow::Letters => {
            let windowed = letters(keys)?;
            (width()?, by_layer(&|block| windowed(block))?)
        }
        HfWindow::Chunked => {
            let rotated = no_rope_layers(keys, count)?;
            let width = keys.count("attention_chunk_size")?.filter(|&width| width > 0);
            (width, by_layer(&|block| rotated[block])?)
        }
        HfWindow::FromMaxWindowLayers if used()? => {
            let first = max_layers()?;
            (width()?, by_layer(&|block| block >= first)?)
        }
        HfWindow::AlternateBelowMaxWindowLayers if used()? => {
            let end = max_layers()?;
            (width()?, by_layer(&|block| (block + 1) % 2 != 0 && block < end)?)
        }
        HfWindow::Unrotated if used()? => {
            let rotated = no_rope_layers(keys, count)?;
            (width()?, by_layer(&|block| !rotated[block])?)
        }
        HfWindow::FromMaxWindowLayers | HfWindow::AlternateBelowMaxWindowLayers | HfWindow::Unrotated => (None, Vec::new()),
    };
    // Where no block has it, there is none, whatever its width.
    let sight = |width: u32| match config.class.window {
        HfWindow::Chunked => Sight::Chunk(width as usize),
        _ => Sight::Last(width as usize),
    };
    Ok(width.filter(|_| blocks.contains(&true)).map(|width| Window { sight: sight(width), blocks }))
}

/// Which blocks have the window, those that predict further tokens included; none where the model has no window.
pub(super) fn windowed_blocks(config: &Config) -> Result<Vec<bool>> {
    let mut blocks = window(config)?.map_or_else(|| vec![false; config.block_count as usize], |window| window.blocks);
    blocks.resize((config.block_count + config.mtp_block_count) as usize, false);
    Ok(blocks)
}

/// Which blocks have a window by `sliding_window_pattern`: all but every so manieth, or by letters that repeat.
fn letters(keys: JsonReader<'_>) -> Result<Box<dyn Fn(usize) -> bool>> {
    const KEY: &str = "sliding_window_pattern";
    Ok(match keys.get(KEY) {
        Some(Json::String(text)) if !text.is_empty() && text.bytes().all(|b| b == b'L' || b == b'G') => {
            let pattern = text.clone().into_bytes();
            Box::new(move |block| pattern[block % pattern.len()] == b'L')
        }
        Some(Json::String(text)) => return Err(keys.error(KEY, format!("is {text:?}, but must be made of the letters L and G"))),
        _ => {
            let n = keys.optional_size(KEY)?.unwrap_or(4) as usize;
            Box::new(move |block| (block + 1) % n != 0)
        }
    })
}

/// The blocks that rotate by `no_rope_layers` (1 means that a block does) or `no_rope_layer_interval`.
fn no_rope_layers(keys: JsonReader<'_>, count: usize) -> Result<Vec<bool>> {
    const KEY: &str = "no_rope_layers";
    if let Some(entries) = list(keys, KEY, count)? {
        let rotates = |entry: &Json| match entry {
            Json::Bool(v) => Ok(*v),
            v => v.as_u64().map(|v| v != 0).ok_or_else(|| keys.error(KEY, format!("{v} is neither 0 nor 1"))),
        };
        return entries.iter().map(rotates).collect();
    }
    let n = keys.optional_size("no_rope_layer_interval")?.unwrap_or(4) as usize;
    Ok((0..count).map(|block| (block + 1) % n != 0).collect())
}

/// Which blocks rotate.
fn rotated(config: &Config, window: Option<&Window>, found: &[bool]) -> Result<Vec<bool>> {
    let count = config.block_count as usize;
    let mut blocks = match config.arch.block.rotated {
        Rotated::All | Rotated::Never => found.to_vec(),
        Rotated::AllBut(_) => no_rope_layers(config.keys(), count)?,
        Rotated::Finetuned => {
            let kind = config.keys().get("position_embedding_type").and_then(Json::as_str);
            vec![kind == Some("rope"); count]
        }
        // Positions go by a list of their own there, of which only 0 means none (transformers 5.23, `modeling_muse_glimmer.py`).
        Rotated::Windowed if matches!(config.class.window, HfWindow::FromEnd(_)) => from_end(config)?,
        Rotated::Windowed => window.map_or_else(|| vec![false; count], |w| w.blocks[..count].to_vec()),
        // transformers asks for the width, whether a block has the window or not.
        Rotated::WindowedOrAll if config.keys().count("sliding_window")?.is_none() => vec![true; count],
        Rotated::WindowedOrAll => window.map_or_else(|| vec![false; count], |w| w.blocks[..count].to_vec()),
    };
    blocks.extend(found.iter().skip(blocks.len()));
    Ok(blocks)
}

/// The factor on queries by position, and norms of queries and keys without weights, where llama.cpp has them in its code.
fn add_temperature(config: &Config, m: &mut Metadata) -> Result<()> {
    let keys = config.keys();
    let h = HParams::from_metadata(&config.path, config.arch, m)?;
    if let QueryTemperature::Unrotated { scale, floor } = config.arch.block.temperature {
        let wanted = match keys.bool("attn_temperature_tuning")?.unwrap_or(true) {
            true => keys.number("attn_scale")?.map_or(scale, |v| v as f32),
            false => 0.0,
        };
        if h.temperature.map_or(0.0, |t| t.scale) != wanted {
            m.set(format!("{OWN_PREFIX}attention.temperature_scale"), Value::F32(wanted));
        }
        // transformers counts with a floating-point number, of which whole ones alone are known.
        let wanted = keys.number("floor_scale")?.map_or(floor, |v| v as usize);
        if wanted != h.temperature.map_or(floor, |t| t.floor) {
            m.set(format!("{OWN_PREFIX}attention.temperature_floor"), Value::U32(wanted as u32));
        }
    }
    if config.arch.block.head_norms == HeadNorms::AfterRopeUnweighted {
        let wanted = keys.bool("use_qk_norm")?.unwrap_or(true);
        if h.unweighted_head_norms != wanted {
            m.set(format!("{OWN_PREFIX}attention.head_norms"), Value::Bool(wanted));
        }
    }
    Ok(())
}

/// The blocks that rotate by `layer_rope_theta`, else all but every so manieth, counted from the last.
fn from_end(config: &Config) -> Result<Vec<bool>> {
    let count = config.block_count as usize;
    let n = match config.class.window {
        HfWindow::FromEnd(n) => n,
        _ => 1,
    };
    Ok(match list(config.keys(), "layer_rope_theta", count)? {
        Some(bases) => bases.iter().map(|base| base.as_f64().is_some_and(|base| base != 0.0)).collect(),
        None => (0..count).map(|block| !(count - 1 - block).is_multiple_of(n)).collect(),
    })
}

/// The scaling that the configuration asks for, where the converter's keys say another.
fn add_rope_scaling(config: &Config, m: &mut Metadata) -> Result<()> {
    let h = HParams::from_metadata(&config.path, config.arch, m)?;
    let truncate = match config.keys().rope_object()?.and_then(|object| object.get("truncate")) {
        None | Some(Json::Null) => true,
        Some(Json::Bool(v)) => *v,
        Some(v) => return Err(config.keys().error("truncate", format!("is {v}, but must be true or false"))),
    };
    let wanted = match config.rope {
        // These are tensors.
        RopeConfig::Default | RopeConfig::Llama3 { .. } | RopeConfig::LongRope { .. } => RopeScaling::None,
        RopeConfig::Linear { factor: 1.0 } => RopeScaling::None,
        RopeConfig::Linear { factor } => RopeScaling::Linear { factor: factor as f32 },
        RopeConfig::Dynamic { factor } => RopeScaling::Dynamic { factor: factor as f32 },
        // transformers reads no extrapolation factor, though the converter writes it.
        RopeConfig::Yarn { factor, beta_fast, beta_slow, .. } => RopeScaling::Yarn(Yarn {
            factor: factor as f32,
            extrapolation: 1.0,
            beta_fast: beta_fast.unwrap_or(32.0) as f32,
            beta_slow: beta_slow.unwrap_or(1.0) as f32,
            truncate,
        }),
    };
    if h.rope_scaling == wanted {
        return Ok(());
    }
    let mut own = |stem: &str, value: Value| m.set(format!("{OWN_PREFIX}rope.scaling.{stem}"), value);
    let mut say = |kind: &str, factor: f32| {
        own("type", Value::String(kind.to_owned()));
        own("factor", Value::F32(factor));
    };
    match (h.rope_scaling, wanted) {
        (_, RopeScaling::None) => own("type", Value::String("none".to_owned())),
        (_, RopeScaling::Linear { factor }) => say("linear", factor),
        (_, RopeScaling::Dynamic { factor }) => say("dynamic", factor),
        (RopeScaling::Yarn(found), RopeScaling::Yarn(wanted)) if (Yarn { truncate: wanted.truncate, ..found }) == wanted => {
            own("yarn_truncate", Value::Bool(wanted.truncate));
        }
        (_, RopeScaling::Yarn(yarn)) => {
            say("yarn", yarn.factor);
            own("yarn_ext_factor", Value::F32(yarn.extrapolation));
            own("yarn_beta_fast", Value::F32(yarn.beta_fast));
            own("yarn_beta_slow", Value::F32(yarn.beta_slow));
            own("yarn_truncate", Value::Bool(yarn.truncate));
        }
    }
    Ok(())
}

/// The positions that a scaling which depends on them counts from. transformers takes the key of the whole configuration before
/// that of the scaling; the converter knows the latter alone.
fn original_context(config: &Config) -> Result<Option<u32>> {
    match config.rope {
        RopeConfig::Yarn { original_context, .. } => {
            Ok(Some(config.keys().optional_size("original_max_position_embeddings")?.unwrap_or(original_context)))
        }
        RopeConfig::LongRope { .. } => longrope_original_context(config).map(Some),
        _ => Ok(None),
    }
}

/// Positions the model was first trained on: transformers takes the key of the whole configuration before that of the scaling,
/// and the context where there is neither.
pub(super) fn longrope_original_context(config: &Config) -> Result<u32> {
    let stated = match config.rope {
        RopeConfig::LongRope { original_context, .. } => original_context,
        _ => None,
    };
    let whole = config.keys().optional_size("original_max_position_embeddings")?;
    Ok(whole.or(stated).unwrap_or(config.context_length))
}

/// The factor on cosines and sines.
fn magnitude(config: &Config) -> Result<f32> {
    let yarn = |factor: f64, multiplier: f64| if factor <= 1.0 { 1.0 } else { 0.1 * multiplier * factor.ln() + 1.0 };
    Ok(match &config.rope {
        RopeConfig::LongRope { magnitudes: Some([short, _]), .. } => *short,
        RopeConfig::Yarn { attention_factor: Some(stated), .. } | RopeConfig::LongRope { attention_factor: Some(stated), .. } => {
            *stated
        }
        RopeConfig::Yarn { factor, mscale: Some(mscale), mscale_all_dim: Some(all), .. } => {
            yarn(*factor, *mscale) / yarn(*factor, *all)
        }
        RopeConfig::Yarn { factor, .. } => yarn(*factor, 1.0),
        RopeConfig::LongRope { factor, .. } => {
            let original = f64::from(longrope_original_context(config)?);
            let factor = factor.unwrap_or(f64::from(config.context_length) / original);
            if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() }
        }
        _ => 1.0,
    } as f32)
}

fn add_experts(config: &Config, h: &HParams, m: &mut Metadata) -> Result<()> {
    let keys = config.keys();
    let mut own = |stem: &str, value: Value| m.set(format!("{OWN_PREFIX}{stem}"), value);
    let (class, found) = (config.class.routing, h.routing);
    if found.gating != class.gating {
        own("expert_gating_func", Value::U32(class.gating.number()));
    }
    if class.gating == Gating::SparseMixer {
        const JITTER: &str = "router_jitter_noise";
        let none = keys.get(JITTER).and_then(Json::as_f64) == Some(0.0);
        let wanted = if none { Some(0.0) } else { keys.number(JITTER)? };
        if let Some(jitter) = wanted.map(|v| v as f32).filter(|v| differ(*v, found.jitter)) {
            own("expert_jitter", Value::F32(jitter));
        }
    }
    let normalizes = match class.normalizes {
        Normalizes::Always => true,
        Normalizes::Never => false,
        Normalizes::Key => keys.bool("norm_topk_prob")?.unwrap_or(false),
    };
    if found.normalizes != normalizes {
        own("expert_weights_norm", Value::Bool(normalizes));
    }
    let by_groups = match class.groups {
        ExpertGroups::Never => false,
        ExpertGroups::Always => true,
        ExpertGroups::ByMethod => keys.get("topk_method").and_then(Json::as_str) == Some("group_limited_greedy"),
    };
    if by_groups {
        // The converter's keys carry them.
        keys.size("n_group")?;
        keys.size("topk_group")?;
    } else if found.groups != 1 {
        own("expert_group_count", Value::U32(1));
        own("expert_group_used_count", Value::U32(1));
    }
    // transformers makes the shared ones so wide (`modeling_ernie4_5_moe.py`).
    if let Some(shared) = keys.count("moe_num_shared_experts")? {
        let wanted = u64::from(shared) * h.expert_feed_forward_length as u64;
        if wanted != h.shared_feed_forward_length as u64 {
            own("expert_shared_feed_forward_length", Value::U32(u32::try_from(wanted).unwrap_or(u32::MAX)));
        }
    }
    if let Some(scale) = keys.number("routed_scaling_factor")?.map(|v| v as f32).filter(|v| differ(*v, found.scale)) {
        own("expert_weights_scale", Value::F32(scale));
    }
    let blocks = expert_blocks(config, &h.expert_blocks)?;
    if blocks != h.expert_blocks {
        own("expert_blocks", Value::Array(Array::Bool(blocks)));
    }
    Ok(())
}

/// Which blocks have experts: every `decoder_sparse_step`th, but those of `mlp_only_layers`.
fn expert_blocks(config: &Config, found: &[bool]) -> Result<Vec<bool>> {
    const ONLY: &str = "mlp_only_layers";
    let keys = config.keys();
    let step = keys.optional_size("decoder_sparse_step")?.unwrap_or(1) as usize;
    let dense = match keys.get(ONLY) {
        None => &[][..],
        Some(Json::Array(list)) => list,
        Some(v) => return Err(keys.error(ONLY, format!("is {v}, but must be a list of blocks"))),
    };
    let mut blocks = found.to_vec();
    for (block, experts) in blocks.iter_mut().enumerate() {
        *experts &= (block + 1) % step == 0;
    }
    if let Some(last) = keys.get("moe_layer_end_index").and_then(Json::as_u64) {
        blocks.iter_mut().skip(last as usize + 1).for_each(|experts| *experts = false);
    }
    // Llama 4 can list the blocks that have experts.
    if let Some(listed) = keys.get("moe_layers") {
        let listed = listed.as_array().ok_or_else(|| keys.error("moe_layers", "must be a list of blocks"))?;
        blocks = (0..blocks.len()).map(|block| listed.contains(&Json::from(block))).collect();
    }
    for entry in dense {
        let block = entry.as_u64().and_then(|block| usize::try_from(block).ok());
        match block {
            // transformers passes over blocks that do not exist.
            Some(block) => blocks.get_mut(block).into_iter().for_each(|experts| *experts = false),
            None => return Err(keys.error(ONLY, format!("{entry} is not the number of a block"))),
        }
    }
    Ok(blocks)
}

/// Whether metadata describe a model that llama.cpp has no form for: blocks with and without experts in no set order.
pub fn has_no_form_in_llama_cpp(m: &Metadata) -> bool {
    m.get(&format!("{OWN_PREFIX}expert_blocks")).is_some()
}

/// The keys of our own among others.
pub fn own_keys(m: &Metadata) -> Metadata {
    let mut own = Metadata::new();
    for (key, value) in m.iter().filter(|(key, _)| key.starts_with(OWN_PREFIX)) {
        own.set(key, value.clone());
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::architectures;
    use serde_json::json;

    /// The keys of our own of a sound configuration of `class` with the keys of `changes`.
    fn own(class: &str, changes: Json) -> Result<Vec<(String, Value)>> {
        let mut json = json!({
            "architectures": [class], "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 512, "max_position_embeddings": 512, "vocab_size": 384,
            "head_dim": 64
        });
        let object = json.as_object_mut().unwrap();
        object.extend(changes.as_object().unwrap().clone());
        let config = Config::parse("config.json".into(), object.clone())?;
        let mut m = Metadata::new();
        architectures::computed(&config, &[], &mut m)?;
        architectures::add_keys(&config, crate::convert::FileType::F32, &mut m)?;
        m.set(config.arch.key("vocab_size"), Value::U32(config.vocab_size));
        add_keys(&config, &mut m)?;
        let own = m.iter().filter_map(|(key, value)| Some((key.strip_prefix(OWN_PREFIX)?.to_owned(), value.clone())));
        Ok(own.collect())
    }

    #[track_caller]
    fn check(class: &str, changes: Json, expected: &[(&str, Value)]) {
        let expected: Vec<_> = expected.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        assert_eq!(own(class, changes).unwrap(), expected);
    }

    fn blocks(blocks: [u8; 4]) -> Value {
        Value::Array(Array::Bool(blocks.map(|b| b != 0).to_vec()))
    }

    #[test]
    fn what_the_layout_carries_needs_no_key() {
        check("LlamaForCausalLM", json!({}), &[]);
        check("LlamaForCausalLM", json!({"rope_scaling": {"type": "linear", "factor": 4.0}}), &[]);
        check("MistralForCausalLM", json!({"sliding_window": null}), &[]);
        check("Qwen2ForCausalLM", json!({"sliding_window": 32, "use_sliding_window": false}), &[]);
        check(
            "Gemma2ForCausalLM",
            json!({"sliding_window": 32, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
            "query_pre_attn_scalar": 64}),
            &[],
        );
        check("SmolLM3ForCausalLM", json!({"no_rope_layers": [1, 1, 1, 0]}), &[]);
        let yarn = json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}});
        check("Qwen2ForCausalLM", yarn, &[]);
    }

    #[test]
    fn windows_are_said_where_the_converter_leaves_them_out() {
        check("MistralForCausalLM", json!({"sliding_window": 32}), &[("attention.sliding_window", Value::U32(32))]);
        check("MistralForCausalLM", json!({}), &[("attention.sliding_window", Value::U32(4096))]);
        let used = |first: u32| json!({"use_sliding_window": true, "sliding_window": 32, "max_window_layers": first});
        let width = ("attention.sliding_window", Value::U32(32));
        let of = |list| ("attention.sliding_window_blocks", blocks(list));
        check("Qwen2ForCausalLM", used(1), &[width.clone(), of([0, 1, 1, 1])]);
        check("Qwen2ForCausalLM", used(0), std::slice::from_ref(&width));
        check("Qwen2ForCausalLM", used(4), &[]);
        let caps = json!({"sliding_window": 32, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
            "query_pre_attn_scalar": 24, "rope_theta": 30000.0,
            "layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"]});
        let scale = ("attention.scale", Value::F32((1.0 / 24.0f64.sqrt()) as f32));
        check("Gemma2ForCausalLM", caps, &[of([0, 1, 0, 0]), ("rope.freq_base", Value::F32(30000.0)), scale]);
        check("SmolLM3ForCausalLM", json!({"no_rope_layers": [1, 1, 0, 1]}), &[("rope.blocks", blocks([1, 1, 0, 1]))]);
    }

    #[test]
    fn rotary_scaling_is_said_where_it_would_be_lost() {
        let say = |kind: &str| ("rope.scaling.type", Value::String(kind.to_owned()));
        let factor = ("rope.scaling.factor", Value::F32(2.0));
        let dynamic = json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}});
        check("LlamaForCausalLM", dynamic, &[say("dynamic"), factor.clone()]);
        let linear = json!({"rope_scaling": {"type": "linear", "factor": 2.0}});
        check("GemmaForCausalLM", linear, &[say("linear"), factor]);
        let yarn = |more: Json| {
            let mut rope = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128});
            rope.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"rope_scaling": rope})
        };
        let stated = ("rope.scaling.magnitude", Value::F32(1.25));
        check("Qwen2ForCausalLM", yarn(json!({"attention_factor": 1.25})), &[stated]);
        check("Qwen2ForCausalLM", yarn(json!({"truncate": false})), &[("rope.scaling.yarn_truncate", Value::Bool(false))]);
    }

    #[test]
    fn what_transformers_reads_counts_and_what_it_does_not_read_does_not() {
        let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128, "attn_factor": 1.5});
        check("Qwen2ForCausalLM", json!({"rope_scaling": yarn}), &[]);
        let original = ("rope.scaling.original_context_length", Value::U32(32));
        check("Qwen2ForCausalLM", json!({"rope_scaling": yarn, "original_max_position_embeddings": 32}), &[original]);
        // An empty description is none.
        let linear = json!({"rope_type": "linear", "factor": 2.0});
        check("LlamaForCausalLM", json!({"rope_scaling": {}, "rope_parameters": linear}), &[]);
        // Where blocks differ, the old name of the kind is passed over.
        let gemma3 = |kind: &str| {
            let json = json!({"architectures": ["Gemma3ForCausalLM"], "hidden_size": 64, "num_hidden_layers": 6,
                "vocab_size": 384, "num_attention_heads": 4, "intermediate_size": 64, "head_dim": 16,
                "rope_scaling": {kind: "linear", "factor": 8.0}});
            Config::parse("config.json".into(), json.as_object().unwrap().clone()).unwrap().rope
        };
        assert_eq!((gemma3("type"), gemma3("rope_type")), (RopeConfig::Default, RopeConfig::Linear { factor: 8.0 }));
    }

    #[test]
    fn missing_keys_mean_what_the_class_takes_them_for() {
        let experts = json!({"num_local_experts": 8, "num_key_value_heads": 4});
        check("GptOssForCausalLM", experts, &[("rope.scaling.yarn_truncate", Value::Bool(false))]);
        let mut json = json!({"architectures": ["DeepseekV3ForCausalLM"], "hidden_size": 64, "num_hidden_layers": 4,
            "vocab_size": 384, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 64, "kv_lora_rank": 16,
            "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 16, "moe_intermediate_size": 16});
        let keys = |json: &Json| {
            let config = Config::parse("config.json".into(), json.as_object().unwrap().clone()).unwrap();
            let mut m = Metadata::new();
            architectures::add_keys(&config, crate::convert::FileType::F32, &mut m).unwrap();
            add_keys(&config, &mut m).unwrap();
            HParams::from_metadata(&config.path, config.arch, &m).unwrap()
        };
        let h = keys(&json);
        assert_eq!((h.routing.scale, h.routing.normalizes, h.routing.groups, h.expert_used_count), (2.5, true, 8, 8));
        assert_eq!(h.expert_blocks, [false, false, false, true]);
        json["norm_topk_prob"] = json!(null);
        assert!(!keys(&json).routing.normalizes, "null is a value, and false");
        json["num_hidden_layers"] = json!(u32::MAX);
        let error = Config::parse("config.json".into(), json.as_object().unwrap().clone()).unwrap_err().to_string();
        assert!(error.contains("num_hidden_layers: is 4294967295"), "{error}");
    }

    #[test]
    fn a_list_that_does_not_fit_is_refused() {
        let refused = |class: &str, changes: Json, said: &str| {
            let error = own(class, changes).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        };
        refused("SmolLM3ForCausalLM", json!({"no_rope_layers": [1, 0]}), "list of 4 entries");
        refused(
            "Cohere2ForCausalLM",
            json!({"sliding_window": 8,
                "layer_types": ["linear_attention", "full_attention", "full_attention", "full_attention"]}),
            "linear_attention",
        );
    }
}
