//! Metadata of phi3 in an order of its own, and LongRoPE's divisors as tensors.

use crate::Result;
use crate::arch::Role;
use crate::convert::config::Config;
use crate::convert::facts::longrope_original_context;
use crate::convert::file_type::FileType;
use crate::convert::keys::{self, ComputedTensor};
use crate::convert::rope::RopeConfig;
use crate::gguf::Metadata;
use crate::safetensors::HfTensor;

/// The rotated components of a head.
fn rope_dim(config: &Config) -> u32 {
    (config.rotary_part * f64::from(config.embedding_length)) as u32 / config.head_count
}

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let mut w = keys::Writer::new(config, m);
    w.u32("context_length", config.context_length);
    w.u32("rope.scaling.original_context_length", longrope_original_context(config)?);
    w.u32("embedding_length", config.embedding_length);
    w.u32("feed_forward_length", config.feed_forward_length);
    w.u32("block_count", config.block_count);
    w.heads();
    w.norm_epsilon();
    w.u32("rope.dimension_count", rope_dim(config));
    w.f32("rope.freq_base", config.rope_theta);
    w.file_type(file_type);
    // 0 tells Phi-4 from its predecessors.
    w.u32("attention.sliding_window", config.keys().count("sliding_window")?.unwrap_or(0));
    Ok(())
}

/// LongRoPE's divisors, and the factor by which it scales attention (Ding et al. 2024, as transformers computes it).
pub(super) fn rope_factors(config: &Config, _: &[HfTensor], m: &mut Metadata) -> Result<Vec<ComputedTensor>> {
    let RopeConfig::LongRope { short, long, .. } = &config.rope else { return Ok(Vec::new()) };
    let pairs = rope_dim(config) as usize / 2;
    for (name, list) in [("short_factor", short), ("long_factor", long)] {
        if list.len() != pairs {
            let what = format!("has {} numbers for {pairs} rotated pairs", list.len());
            return Err(config.keys().error(name, what));
        }
    }
    let original = f64::from(longrope_original_context(config)?);
    let stretch = f64::from(config.context_length) / original;
    let factor: f64 = if stretch > 1.0 { (1.0 + stretch.ln() / original.ln()).sqrt() } else { 1.0 };
    keys::Writer::new(config, m).f32("rope.scaling.attn_factor", factor);
    let tensor = |role, list: &[f64]| ComputedTensor { role, values: list.iter().map(|&v| v as f32).collect() };
    Ok(vec![tensor(Role::RopeFactorsLong, long), tensor(Role::RopeFactorsShort, short)])
}
