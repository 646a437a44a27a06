//! Metadata of Falcon-H1: Mamba-2's, and beside them those of attention and the feed-forward network.

use crate::Result;
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

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let c = config.keys();
    check_norm(config)?;
    let sizes = hybrid::state_sizes(config, &KEYS, Some(c.size("mamba_d_ssm")?.into()))?;
    let mut w = keys::Writer::new(config, m);
    w.u32("context_length", config.context_length);
    w.u32("embedding_length", config.embedding_length);
    w.u32("feed_forward_length", config.feed_forward_length);
    w.u32("attention.head_count", config.head_count);
    w.u32("block_count", config.block_count);
    sizes.add_mamba(&mut w);
    w.norm_epsilon();
    w.file_type(file_type);
    w.u32("vocab_size", config.vocab_size);
    w.u32("attention.head_count_kv", config.head_count_kv);
    w.head_dim();
    w.f32("rope.freq_base", config.rope_theta);
    Ok(())
}

/// The norm of Mamba-2, where there is one, comes behind the gate. transformers takes the other order where the key is missing.
fn check_norm(config: &Config) -> Result<()> {
    const KEY: &str = "mamba_norm_before_gate";
    let c = config.keys();
    let said = c.bool(KEY)?;
    if !c.bool("mamba_rms_norm")?.unwrap_or(false) || said == Some(false) {
        return Ok(());
    }
    let found = if said.is_some() { "is true" } else { "is missing, which means true" };
    Err(c.error(KEY, format!("{found}: the norm of Mamba-2 comes before its gate, which is not supported; only false is")))
}
