//! Metadata of qwen3vlmoe: those of qwen3moe, and how many blocks the image encoder adds to.

use super::{qwen3moe, qwen3vl};
use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    qwen3moe::add_keys(config, file_type, m)?;
    keys::Writer::new(config, m).u32("n_deepstack_layers", qwen3vl::deepstack_layers(config));
    Ok(())
}
