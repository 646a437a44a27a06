//! Metadata of Gemma 2: those of Gemma 1, the caps of logits and the window.

use super::gemma;
use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    gemma::add_keys(config, file_type, m)?;
    let mut w = keys::Writer::new(config, m);
    // The converter has no form for `null`, which means no cap.
    w.optional_f32("attn_logit_softcapping", config.keys().number("attn_logit_softcapping")?);
    w.optional_f32("final_logit_softcapping", config.keys().number("final_logit_softcapping")?);
    w.u32("attention.sliding_window", config.keys().size("sliding_window")?);
    Ok(())
}
