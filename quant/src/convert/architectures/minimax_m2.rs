//! Metadata of minimax-m2: the width of an expert and the rotated part of a head.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_moe(config, file_type, m)?;
    let rotated = config.keys().optional_size("rotary_dim")?;
    let mut w = keys::Writer::new(config, m);
    w.u32("expert_feed_forward_length", config.feed_forward_length);
    w.u32("rope.dimension_count", rotated.unwrap_or((f64::from(config.head_dim) * config.rotary_part) as u32));
    Ok(())
}
