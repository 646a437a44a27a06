//! Metadata of muse-glimmer: the scale of logits and their cap, the window, and which blocks have it.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::facts;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_base(config, file_type, m)?;
    let c = config.keys();
    let mut w = keys::Writer::new(config, m);
    w.optional_f32("final_logit_softcapping", c.number("final_logit_softcapping")?);
    w.optional_f32("logit_scale", c.number("output_multiplier")?);
    w.u32("attention.sliding_window", c.size("sliding_window")?);
    w.bools("attention.sliding_window_pattern", facts::windowed_blocks(config)?);
    Ok(())
}
