//! `config.json` of a Hugging Face directory, in the spelling of transformers 4 (`rope_theta`, `rope_scaling`) and of 5
//! (`rope_parameters`). A key that would change the result and is not understood is an error here, so that nothing later
//! computes another model than the one on disk.
//!
//! Absent: GGUF (see `keys`) and the tokenizer's files.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::arch::{self, ArchSpec};
use crate::{Error, Result};

/// Rotary scaling as the configuration asks for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rope {
    /// None.
    Default,
    /// Positions divided by `factor`.
    Linear {
        /// The divisor.
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
}

/// The keys that conversion needs. Absent optional keys have the defaults of transformers' `LlamaConfig`.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // config.json's own names, or the GGUF stems they become
pub struct Config {
    pub path: PathBuf,
    pub arch: &'static ArchSpec,
    pub block_count: u32,
    pub context_length: u32,
    pub embedding_length: u32,
    pub feed_forward_length: u32,
    pub head_count: u32,
    pub head_count_kv: u32,
    pub head_dim: u32,
    pub vocab_size: u32,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub rope: Rope,
    pub tie_word_embeddings: bool,
    /// The whole file.
    pub json: Map<String, Value>,
}

/// A `config.json` holds a few kilobytes, a tokenizer at most some tens of megabytes; more is not one of them.
const MAX_JSON_BYTES: u64 = 1 << 28;
const DEFAULT_CONTEXT_LENGTH: u32 = 2048;
const DEFAULT_RMS_NORM_EPS: f64 = 1e-6;
const DEFAULT_ROPE_THETA: f64 = 10000.0;

/// Keys that mean another computation than the architecture's, whichever it is, unless they have a neutral value.
const NEUTRAL: &[arch::NeutralKey] = &[
    neutral("text_config", &[]),
    neutral("quantization_config", &[]),
    neutral("compression_config", &[]),
    neutral("sliding_window", &[]),
    neutral("num_local_experts", &["0"]),
    neutral("num_experts", &["0"]),
    neutral("n_routed_experts", &["0"]),
    neutral("partial_rotary_factor", &["1", "1.0"]),
    neutral("attn_logit_softcapping", &[]),
    neutral("final_logit_softcapping", &[]),
    neutral("embedding_multiplier", &["1", "1.0"]),
    neutral("residual_multiplier", &["1", "1.0"]),
    neutral("attention_multiplier", &[]),
    neutral("logits_scaling", &["1", "1.0"]),
    neutral("logit_scale", &["1", "1.0"]),
    neutral("use_qk_norm", &["false"]),
    neutral("qk_layernorm", &["false"]),
    neutral("is_causal", &["true"]),
    neutral("is_encoder_decoder", &["false"]),
    neutral("add_cross_attention", &["false"]),
    neutral("rope_interleaved", &["false"]),
    neutral("draft_vocab_size", &[]),
    neutral("no_rope_layers", &[]),
];

const fn neutral(key: &'static str, accepted: &'static [&'static str]) -> arch::NeutralKey {
    arch::NeutralKey { key, accepted }
}

impl Config {
    /// Reads `dir/config.json`.
    ///
    /// # Errors
    /// The file is missing or no JSON object; its architecture is unknown; a key is missing, of the wrong type, out of
    /// range, or asks for something not understood.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("config.json");
        let json = read_json(&path)?
            .ok_or_else(|| Error::file(dir, "has no config.json; give a Hugging Face model directory or a GGUF file"))?;
        Self::parse(path, json)
    }

    fn parse(path: PathBuf, json: Map<String, Value>) -> Result<Self> {
        let keys = Keys { path: &path, json: &json };
        let arch = keys.architecture()?;
        for rule in NEUTRAL.iter().chain(arch.neutral) {
            keys.check_neutral(rule)?;
        }
        let embedding_length = keys.size("hidden_size")?;
        let head_count = keys.size("num_attention_heads")?;
        let head_count_kv = keys.optional_size("num_key_value_heads")?.unwrap_or(head_count);
        if head_count % head_count_kv != 0 {
            let what = format!("{head_count_kv} key/value heads do not divide {head_count} query heads");
            return Err(keys.error("num_key_value_heads", what));
        }
        let head_dim = match keys.optional_size("head_dim")? {
            Some(dim) => dim,
            None if embedding_length.is_multiple_of(head_count) => embedding_length / head_count,
            None => {
                let what = format!("is missing, and {head_count} heads do not divide a hidden_size of {embedding_length}");
                return Err(keys.error("head_dim", what));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(keys.error("head_dim", format!("is {head_dim}, but rotary embedding needs an even width")));
        }
        let context_length = keys.optional_size("max_position_embeddings")?.unwrap_or(DEFAULT_CONTEXT_LENGTH);
        let (rope_theta, rope) = keys.rope(context_length)?;
        Ok(Self {
            arch,
            block_count: keys.size("num_hidden_layers")?,
            context_length,
            embedding_length,
            feed_forward_length: keys.size("intermediate_size")?,
            head_count,
            head_count_kv,
            head_dim,
            vocab_size: keys.size("vocab_size")?,
            rms_norm_eps: keys.positive("rms_norm_eps", &json)?.unwrap_or(DEFAULT_RMS_NORM_EPS),
            rope_theta,
            rope,
            tie_word_embeddings: keys.bool("tie_word_embeddings")?.unwrap_or(false),
            path,
            json,
        })
    }
}

struct Keys<'a> {
    path: &'a Path,
    json: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn error(&self, key: &str, what: impl Into<String>) -> Error {
        Error::key(self.path, key, what)
    }

    /// The value under `key`, where `null` counts as absent.
    fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|v| !v.is_null())
    }

    fn architecture(&self) -> Result<&'static ArchSpec> {
        match self.get("architectures").and_then(|v| v.get(0)) {
            Some(Value::String(class)) => arch::find_hf(class),
            _ => Err(self.error("architectures", "is missing or does not name a class, as [\"LlamaForCausalLM\"]")),
        }
    }

    fn check_neutral(&self, rule: &arch::NeutralKey) -> Result<()> {
        let Some(value) = self.get(rule.key) else { return Ok(()) };
        let text = value.to_string();
        if rule.accepted.contains(&text.as_str()) {
            return Ok(());
        }
        let shown: String = text.chars().take(80).collect();
        let known = if rule.accepted.is_empty() { "null".to_owned() } else { rule.accepted.join(" or ") };
        Err(self.error(rule.key, format!("{shown} is not supported for this architecture; only {known} is")))
    }

    fn optional_size(&self, key: &str) -> Result<Option<u32>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().map(u32::try_from) {
            Some(Ok(size)) if size > 0 => Ok(Some(size)),
            _ => Err(self.error(key, format!("is {value}, but must be a whole number from 1 to {}", u32::MAX))),
        }
    }

    fn size(&self, key: &str) -> Result<u32> {
        self.optional_size(key)?.ok_or_else(|| self.error(key, "is missing"))
    }

    fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(*v)),
            Some(v) => Err(self.error(key, format!("is {v}, but must be true or false"))),
        }
    }

    /// A finite number above 0 in `object` (the file or an object in it).
    fn positive(&self, key: &str, object: &Map<String, Value>) -> Result<Option<f64>> {
        match object.get(key).filter(|v| !v.is_null()) {
            None => Ok(None),
            Some(v) => match v.as_f64() {
                Some(n) if n > 0.0 && (n as f32).is_finite() && n as f32 > 0.0 => Ok(Some(n)),
                _ => Err(self.error(key, format!("is {v}, but must be a finite number above 0"))),
            },
        }
    }

    /// Base and scaling. transformers 5 writes both under `rope_parameters`, 4 the base at the top and the scaling under
    /// `rope_scaling`, whose kind is called `type` in older files. Where a file has both, `rope_scaling` counts, as it does
    /// for transformers 5.23; and as there, Llama 3's original context is the whole one where the scaling does not say.
    fn rope(&self, context_length: u32) -> Result<(f64, Rope)> {
        let top_theta = self.positive("rope_theta", self.json)?;
        let key = if self.get("rope_scaling").is_some() { "rope_scaling" } else { "rope_parameters" };
        let object = match self.get(key) {
            None => return Ok((top_theta.unwrap_or(DEFAULT_ROPE_THETA), Rope::Default)),
            Some(Value::Object(object)) => object,
            Some(v) => return Err(self.error(key, format!("is {v}, but must be an object"))),
        };
        let theta = self.positive("rope_theta", object)?.or(top_theta).unwrap_or(DEFAULT_ROPE_THETA);
        match object.get("partial_rotary_factor").filter(|v| !v.is_null()).map(Value::as_f64) {
            None | Some(Some(1.0)) => {}
            Some(_) => return Err(self.error("partial_rotary_factor", "only 1 is supported for this architecture")),
        }
        let kind = match object.get("rope_type").or_else(|| object.get("type")).filter(|v| !v.is_null()) {
            None => "default",
            Some(Value::String(kind)) => kind,
            Some(v) => return Err(self.error("rope_type", format!("is {v}, but must be a string"))),
        };
        let need = |name| self.positive(name, object)?.ok_or_else(|| self.error(name, format!("is missing from {key}")));
        let rope = match kind {
            "default" => Rope::Default,
            "linear" => Rope::Linear { factor: need("factor")? },
            "llama3" => {
                let low_freq_factor = need("low_freq_factor")?;
                let high_freq_factor = need("high_freq_factor")?;
                if high_freq_factor <= low_freq_factor {
                    let what = format!("is {high_freq_factor}, but must be above low_freq_factor, {low_freq_factor}");
                    return Err(self.error("high_freq_factor", what));
                }
                let original_context = self.positive("original_max_position_embeddings", object)?;
                let original_context = original_context.unwrap_or(f64::from(context_length));
                Rope::Llama3 { factor: need("factor")?, low_freq_factor, high_freq_factor, original_context }
            }
            other => return Err(self.error("rope_type", format!("{other:?} is not supported; known: default, linear, llama3"))),
        };
        Ok((theta, rope))
    }
}

/// The JSON object in `path`; `None` where there is no such file.
///
/// # Errors
/// The file cannot be read, is too large, or holds no JSON object.
pub fn read_json(path: &Path) -> Result<Option<Map<String, Value>>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Err(Error::file(path, "is no JSON object")),
        Err(e) => Err(Error::file(path, format!("is no JSON: {e}"))),
    }
}

/// The text of `path`; `None` where there is no such file.
///
/// # Errors
/// The file cannot be read, is too large, or holds no UTF-8.
pub fn read_text(path: &Path) -> Result<Option<String>> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, e)),
        Ok(m) if m.len() > MAX_JSON_BYTES => {
            return Err(Error::file(path, format!("has {} bytes; at most {MAX_JSON_BYTES} are read", m.len())));
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    String::from_utf8(bytes).map(Some).map_err(|_| Error::file(path, "is no UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sound() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 512, "max_position_embeddings": 512, "vocab_size": 384,
            "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu", "pretraining_tp": 4, "use_cache": true,
            "tie_word_embeddings": true
        })
    }

    fn parse(json: Value) -> Result<Config> {
        let Value::Object(object) = json else { panic!("tests give objects") };
        Config::parse(PathBuf::from("config.json"), object)
    }

    /// Sets `key` (or removes it, where `value` is null) and expects an error that names `named` and says `what`.
    fn check_refused(key: &str, value: Value, named: &str, what: &str) {
        let mut json = sound();
        json[key] = value;
        let error = parse(json).unwrap_err().to_string();
        assert!(error.starts_with(&format!("config.json: {named}: ")) && error.contains(what), "{key}: {error}");
    }

    #[test]
    fn absent_optional_keys_take_the_defaults_of_transformers() {
        let mut json = sound();
        for key in ["num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_theta", "tie_word_embeddings"] {
            json[key] = Value::Null;
        }
        let c = parse(json).unwrap();
        assert_eq!((c.head_count_kv, c.head_dim, c.context_length), (4, 64, 2048));
        assert_eq!((c.rms_norm_eps, c.rope_theta, c.rope, c.tie_word_embeddings), (1e-6, 10000.0, Rope::Default, false));
    }

    #[test]
    fn both_spellings_of_rope_mean_the_same() {
        let check = |rope: Value, expected: (f64, Rope)| {
            let mut json = sound();
            for (key, value) in rope.as_object().unwrap() {
                json[key] = value.clone();
            }
            let c = parse(json).unwrap();
            assert_eq!((c.rope_theta, c.rope), expected, "{rope}");
        };
        let linear = (500000.0, Rope::Linear { factor: 4.0 });
        check(json!({"rope_scaling": {"type": "linear", "factor": 4.0}}), linear);
        check(json!({"rope_scaling": {"rope_type": "linear", "factor": 4}}), linear);
        check(
            json!({"rope_theta": null, "rope_parameters": {"rope_theta": 500000.0, "rope_type": "linear", "factor": 4.0}}),
            linear,
        );
        check(json!({"rope_parameters": {"rope_type": "default"}}), (500000.0, Rope::Default));
        let llama3 = Rope::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 64.0 };
        let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64});
        check(json!({"rope_scaling": scaling}), (500000.0, llama3));
        check(json!({"rope_scaling": scaling, "rope_parameters": {"rope_type": "default"}}), (500000.0, llama3));
        let without = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0});
        let whole = Rope::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 512.0 };
        check(json!({"rope_scaling": without}), (500000.0, whole));
    }

    #[test]
    fn a_broken_configuration_is_refused_by_the_key_at_fault() {
        check_refused("architectures", json!(null), "architectures", "missing");
        check_refused("architectures", json!([]), "architectures", "missing");
        check_refused("architectures", json!([7]), "architectures", "does not name a class");
        check_refused("hidden_size", json!(null), "hidden_size", "missing");
        check_refused("hidden_size", json!(0), "hidden_size", "from 1");
        check_refused("hidden_size", json!(-256), "hidden_size", "from 1");
        check_refused("hidden_size", json!(1e300), "hidden_size", "from 1");
        check_refused("hidden_size", json!("256"), "hidden_size", "whole number");
        check_refused("hidden_size", json!(255), "head_dim", "do not divide");
        check_refused("num_hidden_layers", json!(null), "num_hidden_layers", "missing");
        check_refused("num_attention_heads", json!(0), "num_attention_heads", "from 1");
        check_refused("num_key_value_heads", json!(3), "num_key_value_heads", "do not divide");
        check_refused("head_dim", json!(63), "head_dim", "even");
        check_refused("vocab_size", json!(4294967296u64), "vocab_size", "4294967295");
        check_refused("rms_norm_eps", json!(0), "rms_norm_eps", "above 0");
        check_refused("rope_theta", json!(1e300), "rope_theta", "finite");
        check_refused("tie_word_embeddings", json!("yes"), "tie_word_embeddings", "true or false");
    }

    #[test]
    fn what_would_change_the_result_and_is_not_understood_is_refused() {
        check_refused("hidden_act", json!("gelu"), "hidden_act", "only \"silu\"");
        check_refused("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}), "rope_type", "known: default, linear, llama3");
        check_refused("rope_scaling", json!({"type": "dynamic", "factor": 4.0}), "rope_type", "dynamic");
        check_refused("rope_scaling", json!({"type": "linear"}), "factor", "missing from rope_scaling");
        check_refused("rope_scaling", json!({"type": "linear", "factor": 0}), "factor", "above 0");
        check_refused("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0}), "low_freq_factor", "missing");
        check_refused("rope_scaling", json!("linear"), "rope_scaling", "object");
        check_refused("rope_parameters", json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor", "only 1");
        check_refused("quantization_config", json!({"quant_method": "gptq"}), "quantization_config", "gptq");
        check_refused("sliding_window", json!(4096), "sliding_window", "not supported");
        check_refused("num_local_experts", json!(8), "num_local_experts", "not supported");
        check_refused("logits_scaling", json!(8.0), "logits_scaling", "only 1");
        check_refused("text_config", json!({"hidden_size": 1}), "text_config", "only null");
    }

    #[test]
    fn an_unknown_class_is_refused_with_the_known_ones() {
        let mut json = sound();
        json["architectures"] = json!(["BloomForCausalLM"]);
        let error = parse(json).unwrap_err().to_string();
        assert!(error.contains("BloomForCausalLM") && error.contains("LlamaForCausalLM"), "{error}");
    }
}
