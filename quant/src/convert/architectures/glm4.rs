//! Metadata of glm4: the rotated part of a head.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_base(config, file_type, m)?;
    let rope_dim = (f64::from(config.head_dim) * config.rotary_part) as u32;
    keys::Writer::new(config, m).u32("rope.dimension_count", rope_dim);
    Ok(())
}
