//! Metadata of mistral3: a llama's, and for Ministral 3 the weight of YaRN's logarithm and the factor on queries by position.

use serde_json::Value as Json;

use crate::Result;
use crate::convert::config::Config;
use crate::convert::file_type::FileType;
use crate::convert::keys;
use crate::convert::rope::RopeConfig;
use crate::gguf::Metadata;

pub(super) fn add_keys(config: &Config, file_type: FileType, m: &mut Metadata) -> Result<()> {
    keys::add_llama(config, file_type, m)?;
    if config.keys().get("model_type").and_then(Json::as_str) != Some("ministral3") {
        return Ok(());
    }
    let c = config.keys();
    let RopeConfig::Yarn { mscale_all_dim, .. } = config.rope else {
        return Err(c.error("rope_parameters", "must describe YaRN for ministral3"));
    };
    let rope = c.rope_object()?;
    let number = |key: &str| {
        let number = rope.and_then(|rope| rope.get(key)).and_then(Json::as_f64).filter(|n| (*n as f32).is_finite() && *n >= 0.0);
        number.ok_or_else(|| c.error(key, "must be a number of 0 or more in rope_parameters"))
    };
    let mut w = keys::Writer::new(config, m);
    w.f32("rope.scaling.yarn_log_multiplier", mscale_all_dim.unwrap_or(0.0));
    w.f32("attention.temperature_scale", number("llama_4_scaling_beta")?);
    Ok(())
}
