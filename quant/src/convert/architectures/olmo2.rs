//! Metadata of olmo2: for OLMo 3 the window, and which blocks have it.

use crate::Result;
use crate::arch::HfWindow;
use crate::convert::config::Config;
use crate::convert::facts;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_base(config, file_type, m)?;
    if config.class.window != HfWindow::None
        && let Some(width) = config.keys().count("sliding_window")?
    {
        let mut w = keys::Writer::new(config, m);
        w.u32("attention.sliding_window", width);
        w.bools("attention.sliding_window_pattern", facts::windowed_blocks(config)?);
    }
    Ok(())
}
