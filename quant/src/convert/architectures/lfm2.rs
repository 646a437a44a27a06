//! Metadata of LFM2: which blocks have keys, the width of the feed-forward network after it was rounded, the short convolution.

use serde_json::Value as Json;

use crate::Result;
use crate::arch::Gating;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::{hybrid, keys};
use crate::gguf::Metadata;

/// The dense models.
pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let width = feed_forward_length(config)?;
    keys::add_base(config, file_type, m)?;
    let mut w = keys::Writer::new(config, m);
    w.u32("feed_forward_length", width);
    add_blocks(config, &mut w)
}

/// Those with experts.
pub(super) fn add_moe_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_moe(config, file_type, m)?;
    let c = config.keys();
    let mut w = keys::Writer::new(config, m);
    w.u32("expert_feed_forward_length", c.size("moe_intermediate_size")?);
    w.u32("leading_dense_block_count", c.count("num_dense_layers")?.unwrap_or(0));
    w.u32("expert_gating_func", Gating::Sigmoid.number());
    add_blocks(config, &mut w)
}

fn add_blocks(config: &Config, w: &mut keys::Writer<'_>) -> Result<()> {
    check_other_names(config)?;
    let attends = attends(config)?;
    let heads = hybrid::where_it_is(config, "num_key_value_heads", config.head_count_kv, attends.into_iter())?;
    w.i32s("attention.head_count_kv", heads);
    w.u32("vocab_size", config.vocab_size);
    w.u32("shortconv.l_cache", config.keys().size("conv_L_cache")?);
    Ok(())
}

/// Which blocks have attention.
fn attends(config: &Config) -> Result<Vec<bool>> {
    const LISTED: &str = "full_attn_idxs";
    let c = config.keys();
    if let Some(kinds) = hybrid::kinds(config, "layer_types", &[("conv", false), ("full_attention", true)])? {
        return Ok(kinds);
    }
    let count = config.block_count as usize;
    match c.get(LISTED) {
        None => Ok(vec![true; count]),
        Some(Json::Array(list)) => Ok((0..count).map(|block| list.contains(&Json::from(block))).collect()),
        Some(_) => Err(c.error(LISTED, "must be a list of blocks")),
    }
}

/// Two thirds of what the configuration says, times a factor, rounded up (transformers 5.24, `Lfm2MLP`).
fn feed_forward_length(config: &Config) -> Result<u32> {
    const FACTOR: &str = "block_ffn_dim_multiplier";
    const MULTIPLE: &str = "block_multiple_of";
    let c = config.keys();
    let width = f64::from(config.feed_forward_length);
    if !c.bool("block_auto_adjust_ff_dim")?.unwrap_or(true) {
        return Ok(config.feed_forward_length);
    }
    let width = (2.0 * width / 3.0).floor();
    let Some(factor) = c.number(FACTOR)? else { return Ok(width as u32) };
    let (width, multiple) = ((factor * width).floor(), f64::from(c.size(MULTIPLE)?));
    let rounded = multiple * (width / multiple).ceil();
    if rounded < 1.0 || rounded > f64::from(u32::MAX) {
        return Err(c.error(FACTOR, format!("makes a feed-forward network {rounded} wide")));
    }
    Ok(rounded as u32)
}

/// Published configurations say some things under an older name, too, which transformers takes first and the converter not at
/// all.
fn check_other_names(config: &Config) -> Result<()> {
    let c = config.keys();
    if let Some(theta) = c.number("theta")?.filter(|&theta| theta != config.rope_theta) {
        return Err(c.error("theta", format!("is {theta}, but rope_theta is {}", config.rope_theta)));
    }
    if let Some(tied) = c.bool("tie_embedding")?.filter(|&tied| tied != config.tie_word_embeddings) {
        return Err(c.error("tie_embedding", format!("is {tied}, but tie_word_embeddings is {}", config.tie_word_embeddings)));
    }
    Ok(())
}
