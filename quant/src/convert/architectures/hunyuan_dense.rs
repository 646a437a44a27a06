//! Metadata of hunyuan-dense: the context that the enlarged base of rotary embedding serves.

use serde_json::Value as Json;

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_base(config, file_type, m)?;
    add_rope(config, m)
}

/// What the converter says where the base was enlarged: no scaling, and a context that no configuration states.
pub(super) fn add_rope(config: &Config, m: &mut Metadata) -> Result<()> {
    const CONTEXT: u32 = 256 * 1024;
    let rope = config.keys().rope_object()?;
    if rope.is_none_or(|rope| rope.get("alpha").is_none_or(Json::is_null)) {
        return Ok(());
    }
    let mut w = keys::Writer::new(config, m);
    w.str("rope.scaling.type", "none");
    w.f32("rope.scaling.factor", 1.0);
    w.u32("rope.scaling.original_context_length", CONTEXT);
    w.u32("context_length", CONTEXT);
    Ok(())
}
