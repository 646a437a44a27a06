//! Metadata of qwen3moe: the width of an expert.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let moe = config.keys().size("moe_intermediate_size")?;
    keys::add_moe(config, file_type, m)?;
    keys::Writer::new(config, m).u32("expert_feed_forward_length", moe);
    Ok(())
}
