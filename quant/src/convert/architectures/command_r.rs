//! Metadata of Command R: a factor on logits, and no scaling of positions.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_base(config, file_type, m)?;
    let mut w = keys::Writer::new(config, m);
    w.f32("logit_scale", config.keys().number("logit_scale")?.unwrap_or(LOGIT_SCALE));
    w.str("rope.scaling.type", "none");
    Ok(())
}

/// transformers' default.
pub(super) const LOGIT_SCALE: f64 = 0.0625;
