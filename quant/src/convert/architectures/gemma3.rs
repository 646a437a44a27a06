//! Metadata of Gemma 3: the cap of logits and the window.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_base(config, file_type, m)?;
    let mut w = keys::Writer::new(config, m);
    w.optional_f32("final_logit_softcapping", config.keys().number("final_logit_softcapping")?);
    // A pattern of 1 means that no block has the window.
    if config.keys().count("sliding_window_pattern")? != Some(1) {
        w.u32("attention.sliding_window", config.keys().size("sliding_window")?);
    }
    Ok(())
}
