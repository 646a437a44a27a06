//! Metadata of Gemma 1, in an order that Gemma 2 shares.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

/// The keys that Gemma 1 and 2 share, in an order of their own.
pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let mut w = keys::Writer::new(config, m);
    w.u32("context_length", config.context_length);
    w.u32("embedding_length", config.embedding_length);
    w.u32("block_count", config.block_count);
    w.u32("feed_forward_length", config.feed_forward_length);
    w.heads();
    w.norm_epsilon();
    w.head_dim();
    w.file_type(file_type);
    Ok(())
}
