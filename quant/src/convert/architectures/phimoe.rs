//! Metadata of phimoe: those of phi3, and the experts.

use super::phi3;
use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    phi3::add_keys(config, file_type, m)?;
    let (c, mut w) = (config.keys(), keys::Writer::new(config, m));
    w.u32("expert_used_count", c.size("num_experts_per_tok")?);
    w.u32("expert_count", c.size("num_local_experts")?);
    Ok(())
}
