//! Metadata of cohere2: a window and no positions in every fourth block, with a factor on logits.

use super::command_r::LOGIT_SCALE;
use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_base(config, file_type, m)?;
    let mut w = keys::Writer::new(config, m);
    w.f32("logit_scale", config.keys().number("logit_scale")?.unwrap_or(LOGIT_SCALE));
    w.u32("attention.sliding_window", config.keys().size("sliding_window")?);
    w.u32("vocab_size", config.vocab_size);
    w.u32("rope.dimension_count", config.embedding_length / config.head_count);
    w.str("rope.scaling.type", "none");
    Ok(())
}
