//! Metadata of Mamba-2: the sizes of the mixer; what it has nothing of is 0.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::hybrid::{self, StateKeys};
use crate::convert::keys;
use crate::gguf::Metadata;

const KEYS: StateKeys =
    StateKeys { heads: "num_heads", head_dim: "head_dim", groups: "n_groups", state: "state_size", kernel: "conv_kernel" };

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let inner = u64::from(config.keys().size("expand")?) * u64::from(config.embedding_length);
    let sizes = hybrid::state_sizes(config, &KEYS, Some(inner))?;
    let mut w = keys::Writer::new(config, m);
    w.u32("context_length", config.context_length);
    w.u32("embedding_length", config.embedding_length);
    w.u32("feed_forward_length", 0);
    w.u32("attention.head_count", 0);
    w.u32("block_count", config.block_count);
    sizes.add_mamba(&mut w);
    w.norm_epsilon();
    w.file_type(file_type);
    Ok(())
}
