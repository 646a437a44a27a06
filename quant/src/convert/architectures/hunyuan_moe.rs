//! Metadata of hunyuan-moe: how many experts are used and how wide they are, which the configuration says block by block.

use serde_json::Value as Json;

use super::hunyuan_dense;
use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_moe(config, file_type, m)?;
    let mut w = keys::Writer::new(config, m);
    w.u32("expert_shared_feed_forward_length", config.feed_forward_length);
    w.u32("expert_feed_forward_length", same(config, "moe_intermediate_size")?);
    w.u32("expert_used_count", same(config, "moe_topk")?);
    w.u32("expert_shared_count", same(config, "num_shared_expert")?);
    hunyuan_dense::add_rope(config, m)
}

/// A number that may be listed block by block, and is the same in all of them.
fn same(config: &Config, key: &str) -> Result<u32> {
    let keys = config.keys();
    let whole = |v: &Json| v.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
    let found = match keys.get(key) {
        None => return Err(keys.error(key, "is missing")),
        Some(Json::Array(list)) => list.first().and_then(whole).filter(|&n| list.iter().all(|v| whole(v) == Some(n))),
        Some(value) => whole(value),
    };
    found.ok_or_else(|| keys.error(key, "must be a whole number above 0, the same for every block"))
}
