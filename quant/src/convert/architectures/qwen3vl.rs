//! Metadata of qwen3vl: how many blocks the image encoder adds to.

use serde_json::Value as Json;

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_base(config, file_type, m)?;
    keys::Writer::new(config, m).u32("n_deepstack_layers", deepstack_layers(config));
    Ok(())
}

/// Blocks to which inner layers of the image encoder are added.
pub(super) fn deepstack_layers(config: &Config) -> u32 {
    let vision = config.keys().get("vision_config");
    let indexes = vision.and_then(|vision| vision.get("deepstack_visual_indexes")).and_then(Json::as_array);
    indexes.map_or(0, |list| list.len() as u32)
}
