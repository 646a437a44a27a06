//! Metadata of glm4moe: experts, the rotated part of a head, and the blocks that predict further tokens.

use crate::Result;
use crate::arch::Gating;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_moe(config, file_type, m)?;
    let c = config.keys();
    let mut w = keys::Writer::new(config, m);
    w.u32("rope.dimension_count", (f64::from(config.head_dim) * config.rotary_part) as u32);
    w.u32("expert_feed_forward_length", c.size("moe_intermediate_size")?);
    w.u32("expert_shared_count", c.count("n_shared_experts")?.unwrap_or(0));
    w.u32("leading_dense_block_count", c.count("first_k_dense_replace")?.unwrap_or(0));
    w.u32("expert_gating_func", Gating::Sigmoid.number());
    w.optional_f32("expert_weights_scale", c.number("routed_scaling_factor")?);
    w.bool("expert_weights_norm", c.bool("norm_topk_prob")?.unwrap_or(true));
    w.optional_u32("nextn_predict_layers", c.count("num_nextn_predict_layers")?);
    Ok(())
}
