//! Metadata of exaone4: the window, and which blocks have it.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::facts;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_base(config, file_type, m)?;
    let mut w = keys::Writer::new(config, m);
    w.u32("vocab_size", config.vocab_size);
    if let Some(width) = config.keys().count("sliding_window")? {
        w.u32("attention.sliding_window", width);
        w.bools("attention.sliding_window_pattern", facts::windowed_blocks(config)?);
    }
    Ok(())
}
