//! Rotary embedding in `config.json`: base, scaling and the part of a head that is rotated, in the spelling of transformers 4
//! (`rope_theta`, `rope_scaling`, `rope_local_base_freq`) and of 5 (`rope_parameters`).
//!
//! Absent: frequencies (the engine computes them) and the metadata they become (see `keys`).

use serde_json::{Map, Value};

use crate::arch::HfClass;
use crate::json::JsonReader;
use crate::{Error, Result};

/// Rotary scaling as the configuration asks for it.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeConfig {
    /// None.
    Default,
    /// Positions divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// A larger base for sequences beyond the context, by their length.
    Dynamic {
        /// How fast it grows.
        factor: f64,
    },
    /// Llama 3.1's scaling of low frequencies.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Turns within the original context below which a frequency is low.
        low_freq_factor: f64,
        /// Turns above which it is high.
        high_freq_factor: f64,
        /// Positions the model was first trained on.
        original_context: f64,
    },
    /// YaRN (Peng et al. 2023).
    Yarn {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Positions the model was first trained on.
        original_context: u32,
        /// Weight of the unscaled high frequencies.
        extrapolation_factor: Option<f64>,
        /// Factor on cosines and sines, where it is stated.
        attention_factor: Option<f64>,
        /// The same under a name that transformers does not know.
        attn_factor: Option<f64>,
        /// Turns above which frequencies are not scaled.
        beta_fast: Option<f64>,
        /// Turns below which frequencies are scaled in full.
        beta_slow: Option<f64>,
        /// Weight of the logarithm of `factor` in the factor on cosines and sines, beside the next.
        mscale: Option<f64>,
        /// Weight of the logarithm of `factor` in the scale of attention.
        mscale_all_dim: Option<f64>,
    },
    /// LongRoPE (Ding et al. 2024): a divisor for each pair, one set for short and one for long sequences.
    LongRope {
        /// Up to the original context.
        short: Vec<f64>,
        /// Beyond it.
        long: Vec<f64>,
        /// Positions the model was first trained on, where the description says so.
        original_context: Option<u32>,
        /// Stretching of the context, where it is not the quotient of the two lengths.
        factor: Option<f64>,
        /// Factor on cosines and sines, where it is stated.
        attention_factor: Option<f64>,
        /// The same up to the original context and beyond it, in the classes that state both.
        magnitudes: Option<[f64; 2]>,
    },
}

/// What a configuration says about rotary embedding.
pub(super) struct RopeKeys {
    pub(super) theta: f64,
    pub(super) local_theta: Option<f64>,
    pub(super) scaling: RopeConfig,
    pub(super) part: f64,
}

/// LongRoPE's factors on cosines and sines, which most classes pass over.
const SHORT_MAGNITUDE: &str = "short_mscale";
const LONG_MAGNITUDE: &str = "long_mscale";

/// The keys that the object can have. Anything else could change the result.
const KNOWN: &[&str] = &[
    "rope_type",
    "type",
    "rope_theta",
    "factor",
    "partial_rotary_factor",
    "original_max_position_embeddings",
    "low_freq_factor",
    "high_freq_factor",
    "extrapolation_factor",
    "attention_factor",
    "attn_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "short_factor",
    "long_factor",
    SHORT_MAGNITUDE,
    LONG_MAGNITUDE,
    "finetuned",
];
/// More pairs than any head has.
const MAX_FACTORS: usize = 1 << 16;

impl<'a> JsonReader<'a> {
    /// Base, scaling and rotated part. As for transformers 5.23, the original context is the whole one where the scaling
    /// does not say.
    pub(super) fn rope(self, class: &HfClass, context_length: u32, head_dim: u32) -> Result<RopeKeys> {
        let object = self.rope_object()?;
        let part_of = |name: &str| object.and_then(|o| o.get(name)).filter(|v| !v.is_null());
        let inner = |name: &str| match part_of(name) {
            None => Ok(None),
            Some(Value::Object(inner)) if class.local_rope_theta.is_some() => Ok(Some(inner)),
            Some(_) => Err(self.error(name, "rotary embedding by kind of block is not supported for this architecture")),
        };
        let (full, sliding) = (inner("full_attention")?, inner("sliding_attention")?);
        let by_kind = full.is_some() || sliding.is_some();
        let empty = Map::new();
        let main = if by_kind { full } else { object }.unwrap_or(&empty);
        // Where blocks differ, transformers puts a flat description over one whose kind is "default" by its new name, so that the
        // old name of the kind says nothing.
        let without_kind = Map::from_iter(main.iter().filter(|(key, _)| *key != "type").map(|(k, v)| (k.clone(), v.clone())));
        let main = if class.local_rope_theta.is_some() && !by_kind { &without_kind } else { main };

        let theta = self.positive("rope_theta", main)?.or(self.number("rope_theta")?).unwrap_or(class.rope_theta);
        let local_theta = match class.local_rope_theta {
            None => None,
            Some(default) => {
                let sliding = sliding.unwrap_or(&empty);
                if !matches!(kind(self, sliding)?, "default") {
                    return Err(self.error("sliding_attention", "scaled frequencies are not supported for these blocks"));
                }
                if self.positive("partial_rotary_factor", sliding)?.is_some_and(|part| part != 1.0) {
                    return Err(self.error("sliding_attention", "only whole heads are supported for these blocks"));
                }
                let stated = self.positive("rope_theta", sliding)?.or(self.number("rope_local_base_freq")?);
                Some(stated.unwrap_or(default))
            }
        };
        let (theta, scaling) = match self.alpha(class, main)? {
            Some(alpha) => {
                let dim = f64::from(head_dim);
                (theta * alpha.powf(dim / (dim - 2.0)), RopeConfig::Default)
            }
            None => (theta, self.scaling(class, main, context_length)?),
        };
        Ok(RopeKeys { theta, local_theta, scaling, part: self.part(class, main)? })
    }

    /// The factor by which Hunyuan's dynamic scaling enlarges the base once and for all, where the class has that.
    fn alpha(self, class: &HfClass, object: &Map<String, Value>) -> Result<Option<f64>> {
        const KEY: &str = "alpha";
        if !class.rope_keys.contains(&KEY) || kind(self, object)? != "dynamic" {
            return Ok(None);
        }
        let alpha = self.positive(KEY, object)?.ok_or_else(|| self.error(KEY, "is missing from rope_scaling"))?;
        Ok(Some(alpha))
    }

    /// The part of a head that is rotated.
    fn part(self, class: &HfClass, object: &Map<String, Value>) -> Result<f64> {
        const KEY: &str = "partial_rotary_factor";
        let stated = self.positive(KEY, object)?.or(self.number(KEY)?);
        match (stated, class.partial_rotary) {
            (None, default) => Ok(default.unwrap_or(1.0)),
            (Some(part), _) if part > 1.0 => Err(self.error(KEY, format!("is {part}, but must be at most 1"))),
            (Some(part), None) if part < 1.0 => Err(self.error(KEY, "only 1 is supported for this architecture")),
            (Some(part), _) => Ok(part),
        }
    }

    fn scaling(self, class: &HfClass, object: &Map<String, Value>, context_length: u32) -> Result<RopeConfig> {
        if let Some(key) = object.keys().find(|key| !KNOWN.contains(&key.as_str()) && !class.rope_keys.contains(&key.as_str())) {
            return Err(self.error(key, "is not understood in the description of rotary embedding"));
        }
        let kind = kind(self, object)?;
        if !class.scalings.contains(&kind) {
            let what = format!("{kind:?} is not supported for this architecture; known: {}", class.scalings.join(", "));
            return Err(self.error("rope_type", what));
        }
        let optional = |name: &'static str| self.positive(name, object);
        // 0 is as good as not there.
        let weight = |name: &'static str| match object.get(name).and_then(Value::as_f64) {
            Some(0.0) => Ok(None),
            _ => optional(name),
        };
        let need = |name| optional(name)?.ok_or_else(|| self.error(name, "is missing from rope_scaling"));
        let original = || Ok::<_, Error>(optional("original_max_position_embeddings")?.unwrap_or(f64::from(context_length)));
        Ok(match kind {
            "proportional" if optional("factor")?.is_some_and(|factor| factor != 1.0) => {
                return Err(self.error("factor", "only 1 is supported for proportional frequencies"));
            }
            "linear" => RopeConfig::Linear { factor: need("factor")? },
            "dynamic" => RopeConfig::Dynamic { factor: need("factor")? },
            "llama3" => {
                let (low_freq_factor, high_freq_factor) = (need("low_freq_factor")?, need("high_freq_factor")?);
                // Llama 4 Scout has the same for both, and nothing in between.
                if high_freq_factor < low_freq_factor {
                    let what = format!("is {high_freq_factor}, but must be at least low_freq_factor, {low_freq_factor}");
                    return Err(self.error("high_freq_factor", what));
                }
                // transformers takes the key of the whole configuration first.
                let whole = self.number("original_max_position_embeddings")?;
                let original_context = whole.map_or_else(original, Ok)?;
                RopeConfig::Llama3 { factor: need("factor")?, low_freq_factor, high_freq_factor, original_context }
            }
            "yarn" => RopeConfig::Yarn {
                factor: need("factor")?,
                original_context: original()? as u32,
                extrapolation_factor: optional("extrapolation_factor")?,
                attention_factor: optional("attention_factor")?,
                attn_factor: optional("attn_factor")?,
                beta_fast: optional("beta_fast")?,
                beta_slow: optional("beta_slow")?,
                mscale: weight("mscale")?,
                mscale_all_dim: weight("mscale_all_dim")?,
            },
            "longrope" | "su" => RopeConfig::LongRope {
                short: self.factors("short_factor", object)?,
                long: self.factors("long_factor", object)?,
                original_context: optional("original_max_position_embeddings")?.map(|v| v as u32).filter(|&v| v > 0),
                factor: optional("factor")?,
                attention_factor: optional("attention_factor")?,
                magnitudes: match class.rope_keys.contains(&SHORT_MAGNITUDE) {
                    true => Some([need(SHORT_MAGNITUDE)?, need(LONG_MAGNITUDE)?]),
                    false => None,
                },
            },
            _ => RopeConfig::Default,
        })
    }

    /// A list of numbers above 0.
    fn factors(self, name: &str, object: &Map<String, Value>) -> Result<Vec<f64>> {
        let list = object.get(name).and_then(Value::as_array).filter(|list| !list.is_empty() && list.len() <= MAX_FACTORS);
        let list = list.ok_or_else(|| self.error(name, "must be a list of numbers, one for each rotated pair"))?;
        let number = |v: &Value| v.as_f64().filter(|n| *n > 0.0 && (*n as f32).is_finite());
        let numbers: Option<Vec<f64>> = list.iter().map(number).collect();
        numbers.ok_or_else(|| self.error(name, "must be a list of finite numbers above 0"))
    }
}

/// The kind of scaling; older files call it `type`.
fn kind<'o>(keys: JsonReader<'_>, object: &'o Map<String, Value>) -> Result<&'o str> {
    match object.get("rope_type").or_else(|| object.get("type")).filter(|v| !v.is_null()) {
        None => Ok("default"),
        Some(Value::String(kind)) => Ok(kind),
        Some(v) => Err(keys.error("rope_type", format!("is {v}, but must be a string"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::config::Config;
    use serde_json::json;

    /// A sound configuration of `class` with the keys of `changes`.
    fn parse(class: &str, changes: &Value) -> Result<Config> {
        let mut json = json!({
            "architectures": [class], "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 512, "max_position_embeddings": 512, "vocab_size": 384,
            "rope_theta": 500000.0, "head_dim": 64
        });
        let object = json.as_object_mut().unwrap();
        object.extend(changes.as_object().unwrap().clone());
        Config::parse("config.json".into(), object.clone())
    }

    fn check_refused(class: &str, changes: Value, named: &str, what: &str) {
        let error = parse(class, &changes).unwrap_err().to_string();
        assert!(error.starts_with(&format!("config.json: {named}: ")) && error.contains(what), "{changes}: {error}");
    }

    #[test]
    fn both_spellings_of_rope_mean_the_same() {
        let check = |rope: Value, expected: &(f64, RopeConfig)| {
            let c = parse("LlamaForCausalLM", &rope).unwrap();
            assert_eq!((c.rope_theta, c.rope), *expected, "{rope}");
        };
        let linear = (500000.0, RopeConfig::Linear { factor: 4.0 });
        check(json!({"rope_scaling": {"type": "linear", "factor": 4.0}}), &linear);
        check(json!({"rope_scaling": {"rope_type": "linear", "factor": 4}}), &linear);
        check(
            json!({"rope_theta": null, "rope_parameters": {"rope_theta": 500000.0, "rope_type": "linear", "factor": 4.0}}),
            &linear,
        );
        check(json!({"rope_parameters": {"rope_type": "default"}}), &(500000.0, RopeConfig::Default));
        let llama3 =
            (500000.0, RopeConfig::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 64.0 });
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64});
        check(json!({"rope_scaling": scaling}), &llama3);
        check(json!({"rope_scaling": scaling, "rope_parameters": {"rope_type": "default"}}), &llama3);
        let without = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0});
        let whole =
            (500000.0, RopeConfig::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 512.0 });
        check(json!({"rope_scaling": without}), &whole);
    }

    #[test]
    fn yarn_and_longrope_keep_their_numbers() {
        let yarn = json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "attn_factor": 1.5, "beta_fast": 32}});
        let RopeConfig::Yarn { factor, original_context, attn_factor, beta_fast, beta_slow, .. } =
            parse("Qwen2ForCausalLM", &yarn).unwrap().rope
        else {
            panic!("{yarn}")
        };
        assert_eq!((factor, original_context), (4.0, 512));
        assert_eq!((attn_factor, beta_fast, beta_slow), (Some(1.5), Some(32.0), None));
        let long = json!({"rope_scaling": {"type": "su", "short_factor": [1, 1.5], "long_factor": [2.0, 4.0]}});
        let expected = RopeConfig::LongRope {
            short: vec![1.0, 1.5],
            long: vec![2.0, 4.0],
            original_context: None,
            factor: None,
            attention_factor: None,
            magnitudes: None,
        };
        assert_eq!(parse("Phi3ForCausalLM", &long).unwrap().rope, expected);
    }

    #[test]
    fn blocks_with_a_window_can_have_a_base_of_their_own() {
        let gemma = |changes: Value| {
            let c = parse("Gemma3ForCausalLM", &changes).unwrap();
            (c.rope_theta, c.local_rope_theta, c.rope)
        };
        let linear = RopeConfig::Linear { factor: 8.0 };
        let old = json!({"rope_local_base_freq": 20000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}});
        assert_eq!(gemma(old), (500000.0, Some(20000.0), linear.clone()));
        let full = json!({"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6});
        let new = json!({"rope_parameters": {"full_attention": full, "sliding_attention": {"rope_theta": 20000.0}}});
        assert_eq!(gemma(new.clone()), (1e6, Some(20000.0), linear));
        assert_eq!(gemma(json!({})), (500000.0, Some(10000.0), RopeConfig::Default));
        check_refused("LlamaForCausalLM", new, "full_attention", "by kind of block");
        let scaled = json!({"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}});
        check_refused("Gemma3ForCausalLM", scaled, "sliding_attention", "scaled");
    }

    #[test]
    fn a_part_of_a_head_is_rotated_where_the_architecture_has_that() {
        let part = |class: &str, changes: Value| parse(class, &changes).unwrap().rotary_part;
        assert_eq!(part("Glm4ForCausalLM", json!({})), 0.5);
        assert_eq!(part("Glm4ForCausalLM", json!({"partial_rotary_factor": 0.25})), 0.25);
        assert_eq!(part("StableLmForCausalLM", json!({"rope_parameters": {"partial_rotary_factor": 0.75}})), 0.75);
        check_refused("LlamaForCausalLM", json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor", "only 1");
        check_refused("Glm4ForCausalLM", json!({"partial_rotary_factor": 1.5}), "partial_rotary_factor", "at most 1");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let check = |scaling: Value, named: &str, what: &str| {
            check_refused("LlamaForCausalLM", json!({"rope_scaling": scaling}), named, what);
        };
        check(json!({"rope_type": "longrope"}), "rope_type", "known: default, linear, dynamic, llama3, yarn");
        check(json!({"type": "proportional", "factor": 4.0}), "rope_type", "proportional");
        check(json!({"rope_type": 4}), "rope_type", "string");
        check(json!({"type": "linear"}), "factor", "missing from rope_scaling");
        check(json!({"type": "linear", "factor": 0}), "factor", "above 0");
        check(json!({"rope_type": "llama3", "factor": 8.0}), "low_freq_factor", "missing");
        let crossed = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 2.0, "high_freq_factor": 1.0});
        check(crossed, "high_freq_factor", "at least low_freq_factor, 2");
        check(json!({"type": "linear", "factor": 2.0, "alpha": 3}), "alpha", "not understood");
        check(json!("linear"), "rope_scaling", "object");
        let factors = |list: Value| json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": list}});
        for list in [json!([]), json!(["1"]), json!([0.0]), json!([1e300]), json!(null)] {
            check_refused("Phi3ForCausalLM", factors(list), "long_factor", "numbers");
        }
    }
}
