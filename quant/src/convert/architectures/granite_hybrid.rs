//! Metadata of Granite 4's hybrids: Granite's, which blocks have keys, and the sizes of Mamba-2.

use crate::Result;
use crate::convert::architectures::granite;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::hybrid::{self, StateKeys};
use crate::convert::keys;
use crate::gguf::Metadata;

const KEYS: StateKeys = StateKeys {
    heads: "mamba_n_heads",
    head_dim: "mamba_d_head",
    groups: "mamba_n_groups",
    state: "mamba_d_state",
    kernel: "mamba_d_conv",
};
/// What the converter writes as the context: there is no limit.
const NO_LIMIT: u32 = 1 << 20;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let c = config.keys();
    let attends = attends(config)?;
    let inner = u64::from(c.size("mamba_expand")?) * u64::from(config.embedding_length);
    let sizes = hybrid::state_sizes(config, &KEYS, Some(inner))?;
    let mut w = keys::Writer::new(config, m);
    w.u32("block_count", config.block_count);
    w.u32("context_length", NO_LIMIT);
    w.u32("embedding_length", config.embedding_length);
    w.u32("feed_forward_length", config.feed_forward_length);
    w.u32("attention.head_count", config.head_count);
    let heads = hybrid::where_it_is(config, "num_key_value_heads", config.head_count_kv, attends.into_iter())?;
    w.i32s("attention.head_count_kv", heads);
    if hybrid::states_rope_theta(config)? {
        w.f32("rope.freq_base", config.rope_theta);
    }
    w.norm_epsilon();
    // The converter says of models without experts that they have none.
    w.optional_u32("expert_count", c.count("num_local_experts")?);
    w.optional_u32("expert_used_count", c.count("num_experts_per_tok")?);
    w.file_type(file_type);
    w.u32("vocab_size", config.vocab_size);
    w.u32("rope.dimension_count", config.head_dim);
    granite::add_factors(config, &mut w)?;
    let shared = c.count("shared_intermediate_size")?.unwrap_or(0);
    if shared > 0 {
        w.u32("expert_shared_feed_forward_length", shared);
    }
    sizes.add(&mut w);
    w.bool("rope.scaling.finetuned", false);
    Ok(())
}

/// Which blocks have attention.
fn attends(config: &Config) -> Result<Vec<bool>> {
    const KEY: &str = "layer_types";
    let known = [("mamba", false), ("attention", true), ("linear_attention", false), ("full_attention", true)];
    let found = hybrid::kinds(config, KEY, &known)?;
    let attends = found.unwrap_or_else(|| vec![false; config.block_count as usize]);
    if !attends.contains(&false) {
        let what = "says attention in every block; such a model is another one to llama.cpp (granite), which is not supported";
        return Err(config.keys().error(KEY, what));
    }
    Ok(attends)
}
