//! Metadata of gpt-oss: the window and the width of an expert.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_moe(config, file_type, m)?;
    let mut w = keys::Writer::new(config, m);
    w.u32("attention.sliding_window", config.keys().size("sliding_window")?);
    w.u32("expert_feed_forward_length", config.feed_forward_length);
    Ok(())
}
