//! Metadata of Granite: a llama's, and the factors.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_llama(config, file_type, m)?;
    add_factors(config, &mut keys::Writer::new(config, m))
}

/// The factors on embedding, attention, residual stream and logits.
pub(super) fn add_factors(config: &Config, w: &mut keys::Writer<'_>) -> Result<()> {
    for (stem, key) in [
        ("attention.scale", "attention_multiplier"),
        ("embedding_scale", "embedding_multiplier"),
        ("residual_scale", "residual_multiplier"),
        ("logit_scale", "logits_scaling"),
    ] {
        // transformers' default, as for the rest of this class.
        w.f32(stem, config.keys().number(key)?.unwrap_or(1.0));
    }
    Ok(())
}
