//! Metadata of deepseek2: the sizes of latent attention as it runs after absorption, and how experts are routed.

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::convert::rope::RopeConfig;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let c = config.keys();
    let (rank, rope) = (c.size("kv_lora_rank")?, c.size("qk_rope_head_dim")?);
    let (key, value) = (c.size("qk_nope_head_dim")?, c.size("v_head_dim")?);
    keys::add_moe(config, file_type, m)?;
    let mut w = keys::Writer::new(config, m);
    // After absorption all heads read one compressed key.
    w.u32("attention.head_count_kv", 1);
    w.u32("leading_dense_block_count", c.count("first_k_dense_replace")?.unwrap_or(0));
    w.u32("vocab_size", config.vocab_size);
    w.optional_u32("attention.q_lora_rank", c.optional_size("q_lora_rank")?);
    w.u32("attention.kv_lora_rank", rank);
    w.u32("attention.key_length", rank.saturating_add(rope));
    w.u32("attention.value_length", rank);
    w.u32("attention.key_length_mla", key.saturating_add(rope));
    w.u32("attention.value_length_mla", value);
    w.u32("expert_feed_forward_length", c.size("moe_intermediate_size")?);
    w.u32("expert_shared_count", c.size("n_shared_experts")?);
    w.optional_f32("expert_weights_scale", c.number("routed_scaling_factor")?);
    if c.bool("norm_topk_prob")? == Some(true) {
        w.bool("expert_weights_norm", true);
    }
    w.u32("rope.dimension_count", rope);
    if let RopeConfig::Yarn { mscale_all_dim: Some(mscale), .. } = config.rope {
        // A tenth of it, as YaRN's logarithm has that factor (Peng et al. 2023, section 3.4).
        w.f32("rope.scaling.yarn_log_multiplier", 0.1 * mscale);
    }
    Ok(())
}
