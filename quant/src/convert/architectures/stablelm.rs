//! Metadata of StableLM in an order of their own.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let even = f64::from(config.embedding_length / config.head_count);
    let mut w = keys::Writer::new(config, m);
    w.u32("context_length", config.context_length);
    w.u32("embedding_length", config.embedding_length);
    w.u32("block_count", config.block_count);
    w.u32("feed_forward_length", config.feed_forward_length);
    w.u32("rope.dimension_count", (config.rotary_part * even) as u32);
    w.heads();
    w.bool("use_parallel_residual", config.keys().bool("use_parallel_residual")?.unwrap_or(false));
    w.norm_epsilon();
    w.file_type(file_type);
    Ok(())
}
