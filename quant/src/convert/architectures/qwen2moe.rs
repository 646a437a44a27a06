//! Metadata of qwen2moe: the widths of routed and shared experts.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let (moe, shared) = (config.keys().size("moe_intermediate_size")?, config.keys().size("shared_expert_intermediate_size")?);
    keys::add_moe(config, file_type, m)?;
    let mut w = keys::Writer::new(config, m);
    w.u32("expert_feed_forward_length", moe);
    w.u32("expert_shared_feed_forward_length", shared);
    Ok(())
}
