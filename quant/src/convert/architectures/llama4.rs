//! Metadata of llama4: which blocks have experts, and how wide those are.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_llama(config, file_type, m)?;
    let c = config.keys();
    let mut w = keys::Writer::new(config, m);
    w.u32("interleave_moe_layer_step", c.size("interleave_moe_layer_step")?);
    w.u32("expert_feed_forward_length", c.size("intermediate_size")?);
    Ok(())
}
