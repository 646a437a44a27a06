//! Metadata of ernie4_5-moe: which blocks have experts, how many and how wide.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_base(config, file_type, m)?;
    let c = config.keys();
    let mut w = keys::Writer::new(config, m);
    w.u32("expert_count", c.size("moe_num_experts")?);
    w.u32("expert_used_count", c.size("moe_k")?);
    w.u32("interleave_moe_layer_step", c.size("moe_layer_interval")?);
    w.u32("leading_dense_block_count", c.count("moe_layer_start_index")?.unwrap_or(0));
    w.u32("expert_feed_forward_length", c.size("moe_intermediate_size")?);
    let shared = c.count("moe_num_shared_experts")?.unwrap_or(0);
    w.u32("expert_shared_count", shared);
    if shared > 0 {
        // As the converter has it; `facts` says where it is another.
        w.u32("expert_shared_feed_forward_length", config.feed_forward_length / config.head_count_kv);
    }
    Ok(())
}
