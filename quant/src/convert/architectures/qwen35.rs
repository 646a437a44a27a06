//! Metadata of qwen35, qwen35moe and qwen3next: the sizes of gated delta nets, and which blocks have them.

use serde_json::Value as Json;

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::gguf::Metadata;

/// The dense models.
pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_base(config, file_type, m)?;
    add_nets(config, m)
}

/// Those with experts.
pub(super) fn add_moe_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_moe(config, file_type, m)?;
    let c = config.keys();
    let mut w = keys::Writer::new(config, m);
    w.u32("expert_feed_forward_length", c.size("moe_intermediate_size")?);
    w.u32("expert_shared_feed_forward_length", c.size("shared_expert_intermediate_size")?);
    add_nets(config, m)
}

fn add_nets(config: &Config, m: &mut Metadata) -> Result<()> {
    let c = config.keys();
    let (heads, value) = (c.size("linear_num_value_heads")?, c.size("linear_value_head_dim")?);
    let mut w = keys::Writer::new(config, m);
    if config.mtp_block_count > 0 {
        w.u32("nextn_predict_layers", config.mtp_block_count);
    }
    w.u32("ssm.conv_kernel", c.size("linear_conv_kernel_dim")?);
    w.u32("ssm.state_size", c.size("linear_key_head_dim")?);
    w.u32("ssm.group_count", c.size("linear_num_key_heads")?);
    w.u32("ssm.time_step_rank", heads);
    w.u32("ssm.inner_size", heads.saturating_mul(value));
    let interval = c.optional_size("full_attention_interval")?.unwrap_or(4);
    w.bools("attention.recurrent_layers", recurrent_blocks(config, interval)?);
    w.u32("full_attention_interval", interval);
    w.u32("rope.dimension_count", (f64::from(config.head_dim) * config.rotary_part) as u32);
    // The sections that these models have where the configuration does not say; for text they do not matter.
    if !config.class.rope_keys.is_empty() && c.rope_object()?.is_none_or(|rope| !rope.contains_key("mrope_section")) {
        w.i32s("rope.dimension_sections", vec![11, 11, 10, 0]);
    }
    Ok(())
}

/// Which blocks have a gated delta net, by `layer_types` or all but every so manieth.
fn recurrent_blocks(config: &Config, interval: u32) -> Result<Vec<bool>> {
    const KEY: &str = "layer_types";
    let c = config.keys();
    let count = config.block_count as usize;
    let mut blocks: Vec<bool> = match c.get(KEY) {
        None => (0..count).map(|block| !(block + 1).is_multiple_of(interval as usize)).collect(),
        Some(Json::Array(kinds)) if kinds.len() == count => {
            let recurrent = |kind: &Json| match kind.as_str() {
                Some("linear_attention") => Ok(true),
                Some("full_attention") => Ok(false),
                _ => Err(c.error(KEY, format!("{kind} is not supported; known: linear_attention, full_attention"))),
            };
            kinds.iter().map(recurrent).collect::<Result<_>>()?
        }
        Some(_) => return Err(c.error(KEY, format!("must be a list of {count} entries, one for each block"))),
    };
    blocks.resize(count + config.mtp_block_count as usize, false);
    Ok(blocks)
}
