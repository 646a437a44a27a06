//! Metadata of Gemma 4: sizes that differ from block to block, and the divisors of the rotary frequencies, which leave a part of
//! each head unrotated (`Gemma4Model` in `conversion/gemma.py`, b11434).

use serde_json::Value;

use crate::Result;
use crate::arch::Role;
use crate::convert::config::{Config, MAX_HEAD_DIM};
use crate::convert::facts::windowed_blocks;
use crate::convert::file_type::FileType;
use crate::convert::keys::{self, ComputedTensor};
use crate::gguf::Metadata;
use crate::safetensors::HfTensor;

/// The width of a head in blocks without a window.
const GLOBAL_HEAD_DIM: &str = "global_head_dim";
/// What divides the frequency of a pair that is not to rotate.
const STILL: f32 = 1e30;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    const SHARED: &str = "num_kv_shared_layers";
    let c = config.keys();
    check(config)?;
    keys::add_base(config, file_type, m)?;
    let windowed = windowed_blocks(config)?;
    let (head_dim, count) = (head_dim(config)?, config.block_count);
    let mut w = keys::Writer::new(config, m);
    w.optional_f32("final_logit_softcapping", c.number("final_logit_softcapping")?);
    w.u32("attention.sliding_window", c.size("sliding_window")?);
    let shared = c.count(SHARED)?.unwrap_or(0);
    if shared >= count {
        return Err(c.error(SHARED, format!("is {shared}, but there are {count} blocks, of which some have their own")));
    }
    w.u32("attention.shared_kv_layers", shared);
    w.u32("embedding_length_per_layer_input", c.count("hidden_size_per_layer_input")?.unwrap_or(0));
    w.bools("attention.sliding_window_pattern", windowed.clone());
    w.u32("attention.key_length", head_dim);
    w.u32("attention.value_length", head_dim);
    w.u32("attention.key_length_swa", config.head_dim);
    w.u32("attention.value_length_swa", config.head_dim);
    w.optional_u32("expert_feed_forward_length", c.optional_size("moe_intermediate_size")?);
    let signed = |key: &str, size: u32| i32::try_from(size).map_err(|_| c.error(key, format!("{size} is too large")));
    if c.bool("use_double_wide_mlp")?.unwrap_or(false) {
        let wide = |block: u32| config.feed_forward_length.saturating_mul(if block < count - shared { 1 } else { 2 });
        w.i32s("feed_forward_length", (0..count).map(|block| signed("intermediate_size", wide(block))).collect::<Result<_>>()?);
    }
    if let Some(global) = c.optional_size("num_global_key_value_heads")? {
        let heads = |&windowed: &bool| signed("num_key_value_heads", if windowed { config.head_count_kv } else { global });
        w.i32s("attention.head_count_kv", windowed.iter().map(heads).collect::<Result<_>>()?);
    }
    w.u32("rope.dimension_count", head_dim);
    w.u32("rope.dimension_count_swa", config.head_dim);
    Ok(())
}

/// Refuses keys that contradict each other, or that transformers and the converter read differently.
fn check(config: &Config) -> Result<()> {
    const EXPERTS: &str = "enable_moe_block";
    const GLOBAL: &str = "num_global_key_value_heads";
    let c = config.keys();
    if c.bool(EXPERTS)?.unwrap_or(false) != config.experts.is_some() {
        return Err(c.error(EXPERTS, "says whether there are experts, and num_experts says otherwise"));
    }
    if config.experts.is_some() {
        c.size("moe_intermediate_size")?;
    }
    let global = c.optional_size(GLOBAL)?.filter(|&global| global != config.head_count_kv);
    if global.is_some() && !c.bool("attention_k_eq_v")?.unwrap_or(false) {
        return Err(c.error(GLOBAL, "counts only where attention_k_eq_v is true"));
    }
    let (own, all) = (c.count("vocab_size_per_layer_input")?.unwrap_or(0), config.vocab_size);
    check_per_layer(config)?;
    if c.count("hidden_size_per_layer_input")?.unwrap_or(0) > 0 && own != all {
        return Err(c.error("vocab_size_per_layer_input", format!("is {own}, but only vocab_size, {all}, is supported")));
    }
    Ok(())
}

/// Blocks with keys of their own: transformers 5 writes there, once more, the width of heads in blocks without a window.
fn check_per_layer(config: &Config) -> Result<()> {
    const KEY: &str = "per_layer_config";
    let c = config.keys();
    let Some(value) = c.get(KEY) else { return Ok(()) };
    let (windowed, wide) = (windowed_blocks(config)?, head_dim(config)?);
    let says_the_same = |(block, keys): (&String, &Value)| {
        let known = block.parse().ok().and_then(|block: usize| windowed.get(block)) == Some(&false);
        known && keys.as_object().is_some_and(|keys| keys.iter().all(|(key, value)| key == "head_dim" && *value == wide))
    };
    match value.as_object() {
        Some(blocks) if blocks.iter().all(says_the_same) => Ok(()),
        _ => {
            let what = format!("is supported where it gives head_dim = {wide} (global_head_dim) to blocks without a window only");
            Err(c.error(KEY, what))
        }
    }
}

fn head_dim(config: &Config) -> Result<u32> {
    let c = config.keys();
    match c.size(GLOBAL_HEAD_DIM)? {
        dim if dim % 2 != 0 || dim > MAX_HEAD_DIM => {
            Err(c.error(GLOBAL_HEAD_DIM, format!("is {dim}, but must be even and at most {MAX_HEAD_DIM}")))
        }
        dim => Ok(dim),
    }
}

/// Frequencies count over the whole head of a block without a window; the first pairs rotate (`proportional` in transformers
/// 5.24,
/// `modeling_rope_utils.py`).
pub(super) fn rope_factors(config: &Config, _: &[HfTensor], _: &mut Metadata) -> Result<Vec<ComputedTensor>> {
    let head_dim = head_dim(config)?;
    let rotated = (f64::from(head_dim) * config.rotary_part / 2.0) as u32;
    let values = (0..head_dim / 2).map(|pair| if pair < rotated { 1.0 } else { STILL }).collect();
    Ok(vec![ComputedTensor { role: Role::RopeFreqs, values }])
}
