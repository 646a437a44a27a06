//! Metadata of Nemotron-H: which block is a mixer of which kind and which a network, the sizes of Mamba-2, and experts.

use serde_json::Value as Json;

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::hybrid::{self, StateKeys};
use crate::convert::keys;
use crate::gguf::Metadata;

const KEYS: StateKeys = StateKeys {
    heads: "mamba_num_heads",
    head_dim: "mamba_head_dim",
    groups: "n_groups",
    state: "ssm_state_size",
    kernel: "conv_kernel",
};
/// What the converter writes as the context: there is no limit.
const NO_LIMIT: u32 = 1 << 20;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mamba,
    Attention,
    Network,
    Experts,
}

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    let c = config.keys();
    let kinds = kinds(config)?;
    let sizes = hybrid::state_sizes(config, &KEYS, None)?;
    let width = match config.experts {
        None => ("intermediate_size", config.feed_forward_length),
        Some(_) => ("moe_intermediate_size", c.size("moe_intermediate_size")?),
    };
    let networks = kinds.iter().map(|kind| matches!(kind, Kind::Network | Kind::Experts));
    let widths = hybrid::where_it_is(config, width.0, width.1, networks)?;
    let attends = kinds.iter().map(|&kind| kind == Kind::Attention);
    let heads = hybrid::where_it_is(config, "num_key_value_heads", config.head_count_kv, attends)?;
    let mut w = keys::Writer::new(config, m);
    w.u32("block_count", config.block_count);
    w.u32("context_length", NO_LIMIT);
    w.u32("embedding_length", config.embedding_length);
    w.i32s("feed_forward_length", widths);
    w.u32("attention.head_count", config.head_count);
    w.i32s("attention.head_count_kv", heads);
    if hybrid::states_rope_theta(config)? {
        w.f32("rope.freq_base", config.rope_theta);
    }
    add_rms_epsilon(config, &mut w)?;
    w.norm_epsilon();
    if let Some(experts) = config.experts {
        w.u32("expert_count", experts.count);
        w.optional_u32("expert_used_count", experts.used_count);
        w.optional_u32("expert_group_count", experts.group_count);
        w.optional_u32("expert_group_used_count", experts.group_used_count);
    }
    w.file_type(file_type);
    w.u32("vocab_size", config.vocab_size);
    w.u32("rope.dimension_count", config.embedding_length / config.head_count);
    sizes.add(&mut w);
    w.bool("rope.scaling.finetuned", false);
    w.head_dim();
    if config.experts.is_some() {
        w.u32("expert_feed_forward_length", width.1);
        w.u32("expert_shared_feed_forward_length", c.size("moe_shared_expert_intermediate_size")?);
        w.u32("expert_shared_count", c.count("n_shared_experts")?.unwrap_or(1));
        w.bool("expert_weights_norm", c.bool("norm_topk_prob")?.unwrap_or(true));
        w.f32("expert_weights_scale", c.number("routed_scaling_factor")?.unwrap_or(1.0));
        w.optional_u32("moe_latent_size", c.optional_size("moe_latent_size")?);
    }
    Ok(())
}

/// The converter takes another key for llama.cpp's epsilon, where the configuration has it; transformers does not read that.
fn add_rms_epsilon(config: &Config, w: &mut keys::Writer<'_>) -> Result<()> {
    let c = config.keys();
    for key in ["rms_norm_eps", "norm_eps"] {
        if let Some(epsilon) = c.number(key)? {
            if epsilon != config.norm_epsilon {
                return Err(c.error(key, format!("is {epsilon}, but layer_norm_epsilon is {}", config.norm_epsilon)));
            }
            w.f32("attention.layer_norm_rms_epsilon", epsilon);
            break;
        }
    }
    Ok(())
}

/// What the blocks are, by letters or by names.
fn kinds(config: &Config) -> Result<Vec<Kind>> {
    const LETTERS: &str = "hybrid_override_pattern";
    const NAMES: &str = "layers_block_type";
    let (c, count) = (config.keys(), config.block_count as usize);
    let network = if config.experts.is_some() { ("E", Kind::Experts) } else { ("-", Kind::Network) };
    if let Some(Json::String(pattern)) = c.get(LETTERS) {
        let known = [("M", Kind::Mamba), ("*", Kind::Attention), network];
        let kind = |letter: char| {
            let found = known.iter().find(|(known, _)| *known == letter.to_string());
            found.map(|(_, kind)| *kind).ok_or_else(|| {
                c.error(LETTERS, format!("{letter:?} is not supported for this model; known: M, *, {}", network.0))
            })
        };
        let kinds: Vec<Kind> = pattern.chars().map(kind).collect::<Result<_>>()?;
        if kinds.len() != count {
            return Err(c.error(LETTERS, format!("has {} letters for {count} blocks", kinds.len())));
        }
        return Ok(kinds);
    }
    let name = if config.experts.is_some() { ("moe", Kind::Experts) } else { ("mlp", Kind::Network) };
    let mamba = [("mamba", Kind::Mamba), ("linear_attention", Kind::Mamba)];
    let attention = [("attention", Kind::Attention), ("full_attention", Kind::Attention)];
    let known = [mamba[0], mamba[1], attention[0], attention[1], name];
    hybrid::kinds(config, NAMES, &known)?.ok_or_else(|| c.error(LETTERS, "is missing"))
}
