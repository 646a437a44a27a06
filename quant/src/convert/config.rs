//! `config.json` of a Hugging Face directory, in the spelling of transformers 4 (`rope_theta`, `rope_scaling`) and of 5
//! (`rope_parameters`). A key that would change the result and is not understood is an error here, so that nothing later
//! computes another model than the one on disk.
//!
//! Absent: rotary embedding (see `rope`), GGUF (see `keys`) and the tokenizer's files (see `crate::vocab`).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::rope::RopeConfig;
use super::wrapper;
use crate::arch::{self, ArchSpec, HeadDim, HfClass, MtpBlocks, NeutralKey, NormEpsilon, neutral};
use crate::json::{JsonReader, read_json};
use crate::vocab::TokenizerInput;
use crate::{Error, Result};

/// The keys that conversion needs. Absent optional keys have the defaults of transformers' class (see [`HfClass`]).
#[derive(Debug, Clone)]
#[allow(missing_docs)] // config.json's own names, or the GGUF stems they become
pub struct Config {
    pub path: PathBuf,
    pub arch: &'static ArchSpec,
    pub class: &'static HfClass,
    pub block_count: u32,
    /// Blocks behind them that predict further tokens, where the architecture's conversion keeps them.
    pub mtp_block_count: u32,
    pub context_length: u32,
    pub embedding_length: u32,
    pub feed_forward_length: u32,
    /// The key that counts blocks behind the last, where the file has one.
    pub states_mtp: Option<&'static str>,
    pub head_count: u32,
    pub head_count_kv: u32,
    pub head_dim: u32,
    /// Whether the metadata say the width of a head, or leave it to be divided.
    pub states_head_dim: bool,
    pub vocab_size: u32,
    pub norm_epsilon: f64,
    pub rope_theta: f64,
    /// Base of the rotary frequencies of blocks with a sliding window, where it is another.
    pub local_rope_theta: Option<f64>,
    pub rope: RopeConfig,
    /// The part of a head that is rotated, above 0 and at most 1.
    pub rotary_part: f64,
    pub experts: Option<ExpertConfig>,
    pub tie_word_embeddings: bool,
    /// The whole file; of a class that wraps a language model, with its keys at the outer level.
    pub json: Map<String, Value>,
}

/// What the configuration of a mixture of experts says, beyond sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the GGUF stems
pub struct ExpertConfig {
    pub count: u32,
    pub used_count: Option<u32>,
    pub group_count: Option<u32>,
    pub group_used_count: Option<u32>,
    /// How the router's scores become weights (llama.cpp's `llama_expert_gating_func_type`).
    pub gating_func: Option<u32>,
}

/// The names of the number of blocks that predict further tokens.
const MTP_COUNTS: [&str; 2] = ["num_nextn_predict_layers", "mtp_num_hidden_layers"];
/// The names of the number of experts.
const EXPERT_COUNTS: [&str; 3] = ["num_local_experts", "num_experts", "n_routed_experts"];

/// Keys that mean another computation than most architectures', unless they have a neutral value. An architecture's own
/// lists stand in for these.
const NEUTRAL: &[NeutralKey] = &[
    neutral("text_config", &[]),
    neutral("sliding_window", &[]),
    neutral("num_local_experts", &["0"]),
    neutral("num_experts", &["0"]),
    neutral("n_routed_experts", &["0"]),
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
    neutral("layer_types", &[]),
    neutral("mlp_only_layers", &["[]"]),
    neutral("decoder_sparse_step", &["1"]),
];

/// What keys mean that are accepted with some values only.
const MEANINGS: &[(&str, &str)] = &[
    ("activation_function", "the function in the feed-forward network"),
    ("add_cross_attention", "attention to the states of an encoder"),
    ("attention_bias", "biases on the matrices of attention"),
    ("attention_multiplier", "a factor on the scores of attention"),
    ("attn_logit_softcapping", "a bound on the scores of attention, by tanh"),
    ("attn_output_gate", "a gate on what attention puts out"),
    ("attn_rotary_emb", "the part of a head that positions rotate"),
    ("block_use_swiglu", "a gate in the feed-forward network"),
    ("conv_bias", "a bias on the convolution"),
    ("decoder_sparse_step", "how often a block has experts"),
    ("draft_vocab_size", "a smaller vocabulary, of a model that drafts for another"),
    ("embedding_multiplier", "a factor on the embedding"),
    ("final_logit_softcapping", "a bound on the logits, by tanh"),
    ("hidden_act", "the function in the feed-forward network"),
    ("hidden_activation", "the function in the feed-forward network"),
    ("is_causal", "attention to earlier tokens only"),
    ("is_encoder_decoder", "an encoder beside the language model"),
    ("layer_types", "what each block is: attention with or without a window, or another mixer"),
    ("logit_scale", "a factor on the logits"),
    ("logits_scaling", "a divisor of the logits"),
    ("mamba_hidden_act", "the function behind the convolution of Mamba-2"),
    ("mamba_proj_bias", "biases on the matrices of Mamba-2"),
    ("mamba_use_mlp", "a feed-forward network beside Mamba-2"),
    ("mlp_bias", "biases on the matrices of the feed-forward network"),
    ("mlp_hidden_act", "the function in the feed-forward network"),
    ("mlp_only_layers", "blocks without experts"),
    ("mlp_type", "the kind of the feed-forward network"),
    ("moe_layer_freq", "how often a block has experts"),
    ("moe_norm_min", "the least sum that the weights of chosen experts are divided by"),
    ("mtp_use_dedicated_embeddings", "an embedding of its own for blocks that predict further tokens"),
    ("n_routed_experts", "the number of experts"),
    ("no_rope_layers", "blocks without positions"),
    ("norm_type", "the kind of norm"),
    ("normalization_function", "the kind of norm"),
    ("num_experts", "the number of experts"),
    ("num_local_experts", "the number of experts"),
    ("num_nextn_predict_layers", "blocks that predict further tokens"),
    ("order_of_interleaved_layers", "which blocks have a window"),
    ("position_embedding_type", "how positions enter"),
    ("projectors_bias", "biases on the matrices of Mamba-2"),
    ("qk_layernorm", "norms on queries and keys"),
    ("qk_norm", "norms on queries and keys"),
    ("qk_norm_type", "whether the norm of queries and keys is of a head or of all"),
    ("qkv_bias", "biases on queries, keys and values"),
    ("residual_multiplier", "a factor on what a block adds"),
    ("rms_norm", "whether norms are without means"),
    ("rope_interleave", "whether neighbours are rotated together"),
    ("rope_interleaved", "whether neighbours are rotated together"),
    ("rotary_pct", "the part of a head that positions rotate"),
    ("scale_attn_by_inverse_layer_idx", "scores of attention divided by the number of the block"),
    ("scale_attn_weights", "whether scores of attention are divided by the root of the width"),
    ("scoring_func", "how the router's scores become weights"),
    ("sliding_window", "how many tokens back attention sees"),
    ("text_config", "a language model inside of another model, whose class is another"),
    ("topk_method", "how experts are chosen"),
    ("use_bias", "biases on matrices"),
    ("use_bidirectional_attention", "attention to later tokens, too"),
    ("use_cla", "keys and values of earlier blocks"),
    ("use_gated_activation", "a gate in the feed-forward network"),
    ("use_parallel_block", "attention and feed-forward network side by side"),
    ("use_qk_norm", "norms on queries and keys"),
    ("use_routing_bias", "a bias on the choice of experts"),
];

/// More blocks and wider heads than any model has; lists of so many entries are made of them.
const MAX_BLOCKS: u32 = 1 << 12;
pub(super) const MAX_HEAD_DIM: u32 = 1 << 16;

/// Puts in what the class takes for keys that are missing; `null` is a value. Rotary embedding that is described under either
/// name has no default.
fn add_defaults(class: &HfClass, json: &mut Map<String, Value>) {
    for (key, text) in class.defaults {
        let described =
            *key == "rope_parameters" && ["rope_scaling", "rope_parameters"].iter().any(|k| is_described(json.get(*k)));
        if described || (*key != "rope_parameters" && json.contains_key(*key)) {
            continue;
        }
        if let Ok(value) = serde_json::from_str(text) {
            json.insert((*key).to_owned(), value);
        }
    }
}

/// transformers 5 writes a number of experts for models that have none, by the list of their blocks (Nemotron-H).
fn drop_unused_experts(json: &mut Map<String, Value>) {
    let blocks = json.get("layers_block_type").and_then(Value::as_array);
    if blocks.is_some_and(|blocks| blocks.iter().all(|block| block != "moe")) {
        for key in ["n_routed_experts", "num_experts_per_tok"] {
            json.remove(key);
        }
    }
}

/// transformers 5 writes the width of heads in blocks without a window by block only (Gemma 4); they all have one width.
fn add_width_by_block(json: &mut Map<String, Value>) {
    const WIDTH: &str = "global_head_dim";
    if json.get(WIDTH).is_some_and(|width| !width.is_null()) {
        return;
    }
    let blocks = json.get("per_layer_config").and_then(Value::as_object);
    let mut widths = blocks.into_iter().flat_map(|blocks| blocks.values()).map(|keys| keys.get("head_dim"));
    if let Some(Some(width)) = widths.next().map(|width| width.cloned()) {
        json.insert(WIDTH.to_owned(), width);
    }
}

/// Whether a description of rotary embedding says anything.
fn is_described(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Object(object)) => !object.is_empty(),
        Some(_) => true,
    }
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

    /// Reads the content of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// As [`Config::read`], but for those of the file itself.
    pub fn parse(path: PathBuf, mut json: Map<String, Value>) -> Result<Self> {
        drop_unused_experts(&mut json);
        let (arch, class) = JsonReader { path: &path, json: &json }.architecture()?;
        if !class.text_types.is_empty() {
            json = wrapper::flatten(&path, json)?;
        }
        add_width_by_block(&mut json);
        let states_mtp = MTP_COUNTS.into_iter().find(|key| json.get(*key).is_some_and(|count| !count.is_null()));
        add_defaults(class, &mut json);
        let keys = JsonReader { path: &path, json: &json };
        keys.check_all_neutral(arch, class)?;
        let embedding_length = keys.size_of(&["hidden_size", "n_embd"])?;
        let head_count = keys.size_of(&["num_attention_heads", "n_head"])?;
        let head_count_kv = keys.optional_size("num_key_value_heads")?.unwrap_or(head_count);
        if head_count % head_count_kv != 0 {
            let what = format!("{head_count_kv} key/value heads do not divide {head_count} query heads");
            return Err(keys.error("num_key_value_heads", what));
        }
        let (head_dim, states_head_dim) = keys.head_dim(class, embedding_length, head_count)?;
        let context_length = match class.context_keys.iter().find(|key| keys.get(key).is_some()) {
            Some(key) => keys.size(key)?,
            None => class.context_length.ok_or_else(|| keys.error(class.context_keys[0], "is missing"))?,
        };
        let feed_forward_length = match (keys.optional_size_of(class.feed_forward_keys)?, class.feed_forward_factor) {
            (Some(size), _) => size,
            (None, Some(factor)) => embedding_length.saturating_mul(factor),
            (None, None) if class.feed_forward_keys.is_empty() => 0,
            (None, None) => return Err(keys.error(class.feed_forward_keys[0], "is missing")),
        };
        let (NormEpsilon::Rms(epsilon, default) | NormEpsilon::Layer(epsilon, default)) = class.norm;
        let block_count = keys.block_count()?;
        if block_count > MAX_BLOCKS {
            let what = format!("is {block_count}, but must be at most {MAX_BLOCKS}");
            return Err(keys.error("num_hidden_layers", what));
        }
        let mtp_block_count = match arch.mtp {
            MtpBlocks::LeftOut => 0,
            MtpBlocks::Kept => keys.mtp_block_count()?,
        };
        let rope = keys.rope(class, context_length, head_dim)?;
        Ok(Self {
            arch,
            class,
            block_count,
            mtp_block_count,
            context_length,
            embedding_length,
            feed_forward_length,
            states_mtp,
            head_count,
            head_count_kv,
            head_dim,
            states_head_dim,
            vocab_size: keys.size("vocab_size")?,
            norm_epsilon: keys.positive(epsilon, &json)?.unwrap_or(default),
            rope_theta: rope.theta,
            local_rope_theta: rope.local_theta,
            rope: rope.scaling,
            rotary_part: rope.part,
            experts: keys.experts(class)?,
            tie_word_embeddings: keys.bool("tie_word_embeddings")?.unwrap_or(class.tied),
            path,
            json,
        })
    }

    /// Access to further keys.
    pub(crate) fn keys(&self) -> JsonReader<'_> {
        JsonReader { path: &self.path, json: &self.json }
    }
}

impl<'a> TokenizerInput<'a> {
    /// The model of a configuration.
    pub fn of(config: &'a Config) -> Self {
        let class = config.json.get("architectures").and_then(|classes| classes.get(0)).and_then(Value::as_str);
        Self {
            dir: config.path.parent().unwrap_or(Path::new(".")),
            class: class.unwrap_or_default(),
            vocab_size: config.vocab_size,
            config: &config.json,
        }
    }
}

impl<'a> JsonReader<'a> {
    fn architecture(self) -> Result<(&'static ArchSpec, &'static HfClass)> {
        match self.get("architectures").and_then(|v| v.get(0)) {
            Some(Value::String(class)) => {
                let text_type = wrapper::text_type(self);
                let found = arch::find_hf(class, text_type, |key| self.json.contains_key(key));
                found.map_err(|unknown| match unknown {
                    Error::Unknown { kind: arch::TEXT_KIND, .. } if text_type.is_none() => {
                        self.error(wrapper::TEXT, format!("is missing or has no model_type, of which {class} needs one"))
                    }
                    unknown => self.error("architectures", unknown.to_string()),
                })
            }
            _ => Err(self.error("architectures", "is missing or does not name a class, as [\"LlamaForCausalLM\"]")),
        }
    }

    fn check_all_neutral(self, arch: &ArchSpec, class: &HfClass) -> Result<()> {
        let own = |key: &str| {
            let listed = arch.neutral.iter().any(|rule| rule.key == key);
            arch.understood.contains(&key) || class.window.understands(key) || listed
        };
        let general = NEUTRAL.iter().filter(|rule| !own(rule.key));
        general.chain(arch.neutral).try_for_each(|rule| self.check_neutral(rule))
    }

    /// The width of a head, and whether the metadata say it.
    fn head_dim(self, class: &HfClass, embedding_length: u32, head_count: u32) -> Result<(u32, bool)> {
        let stated = match class.head_dim {
            HeadDim::Ignored => None,
            HeadDim::Of(key) | HeadDim::UnsaidOf(key) => Some(self.size(key)?),
            HeadDim::Fixed(default) => Some(self.optional_size("head_dim")?.unwrap_or(default)),
            HeadDim::Stated | HeadDim::Even => self.optional_size("head_dim")?,
        };
        let head_dim = match stated {
            Some(dim) => dim,
            None if embedding_length.is_multiple_of(head_count) => embedding_length / head_count,
            None => {
                let what = format!("is missing, and {head_count} heads do not divide a hidden_size of {embedding_length}");
                return Err(self.error("head_dim", what));
            }
        };
        if head_dim > MAX_HEAD_DIM {
            return Err(self.error("head_dim", format!("is {head_dim}, but must be at most {MAX_HEAD_DIM}")));
        }
        if !head_dim.is_multiple_of(2) {
            return Err(self.error("head_dim", format!("is {head_dim}, but rotary embedding needs an even width")));
        }
        let unsaid = matches!(class.head_dim, HeadDim::UnsaidOf(_));
        Ok((head_dim, (stated.is_some() && !unsaid) || class.head_dim == HeadDim::Even))
    }

    /// The number of blocks; transformers 5 writes only what each of them is where they are of several kinds (Nemotron-H).
    fn block_count(self) -> Result<u32> {
        const COUNTS: [&str; 2] = ["num_hidden_layers", "n_layer"];
        if let Some(count) = self.optional_size_of(&COUNTS)? {
            return Ok(count);
        }
        let listed = self.get("layers_block_type").and_then(Value::as_array).and_then(|list| u32::try_from(list.len()).ok());
        listed.filter(|&count| count > 0).ok_or_else(|| self.error(COUNTS[0], "is missing"))
    }

    /// Blocks that predict further tokens (multi-token prediction), under either name.
    pub(crate) fn mtp_block_count(self) -> Result<u32> {
        let count = MTP_COUNTS.iter().find_map(|key| self.count(key).transpose()).transpose()?.unwrap_or(0);
        if count > MAX_BLOCKS {
            return Err(self.error(MTP_COUNTS[0], format!("is {count}, but must be at most {MAX_BLOCKS}")));
        }
        Ok(count)
    }

    fn experts(self, class: &HfClass) -> Result<Option<ExpertConfig>> {
        let mut counts = EXPERT_COUNTS.iter().filter_map(|key| self.count(key).transpose());
        let count = match counts.next().transpose()? {
            None | Some(0) => return Ok(None),
            Some(count) => count,
        };
        let gating_func = match self.get("scoring_func") {
            None => None,
            Some(Value::String(name)) if name == "softmax" => Some(1),
            Some(Value::String(name)) if name == "sigmoid" => Some(2),
            Some(v) => return Err(self.error("scoring_func", format!("{v} is not supported; known: softmax, sigmoid"))),
        };
        Ok(Some(ExpertConfig {
            count,
            used_count: class.experts_used_key.map(|key| self.size(key)).transpose()?,
            group_count: self.count("n_group")?,
            group_used_count: self.count("topk_group")?,
            gating_func,
        }))
    }

    fn check_neutral(self, rule: &NeutralKey) -> Result<()> {
        let Some(value) = self.get(rule.key) else { return Ok(()) };
        let text = value.to_string();
        if rule.accepted.contains(&text.as_str()) {
            return Ok(());
        }
        let shown: String = if value.is_object() { "an object".into() } else { text.chars().take(80).collect() };
        let known = if rule.accepted.is_empty() { "null".to_owned() } else { rule.accepted.join(" or ") };
        let meaning = MEANINGS.iter().find(|(key, _)| *key == rule.key).map_or(String::new(), |(_, what)| format!(" ({what})"));
        Err(self.error(rule.key, format!("{shown} is not supported for this architecture{meaning}; only {known} is")))
    }

    /// Where rotary embedding is described: transformers 5 writes `rope_parameters`, 4 `rope_scaling`. Where a file has
    /// both, `rope_scaling` counts, as it does for transformers 5.23.
    pub(crate) fn rope_object(self) -> Result<Option<&'a Map<String, Value>>> {
        let key = if is_described(self.get("rope_scaling")) { "rope_scaling" } else { "rope_parameters" };
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(v) => Err(self.error(key, format!("is {v}, but must be an object"))),
        }
    }
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
        assert_eq!((c.norm_epsilon, c.rope_theta, c.rope, c.tie_word_embeddings), (1e-6, 10000.0, RopeConfig::Default, false));
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
        check_refused("use_qk_norm", json!(true), "use_qk_norm", "not supported");
        check_refused("num_experts", json!(8), "num_experts", "not supported");
        check_refused("logits_scaling", json!(8.0), "logits_scaling", "only 1");
        check_refused("text_config", json!({"hidden_size": 1}), "text_config", "only null");
    }

    #[test]
    fn experts_are_understood_where_the_architecture_has_them() {
        let read = |count: Value| {
            let mut json = sound();
            json["architectures"] = json!(["MixtralForCausalLM"]);
            json["num_local_experts"] = count;
            json["num_experts_per_tok"] = json!(2);
            parse(json)
        };
        let experts = read(json!(8)).unwrap().experts.unwrap();
        assert_eq!((experts.count, experts.used_count, experts.gating_func), (8, Some(2), None));
        assert_eq!(read(json!(0)).unwrap().experts, None);
        assert!(read(json!(-1)).unwrap_err().to_string().contains("num_local_experts: is -1"));
    }

    #[test]
    fn experts_that_no_block_has_are_of_no_account() {
        let read = |blocks: Value| {
            let mut json = sound();
            json["architectures"] = json!(["NemotronHForCausalLM"]);
            json["num_hidden_layers"] = Value::Null;
            json["layers_block_type"] = blocks;
            (json["n_routed_experts"], json["num_experts_per_tok"]) = (json!(8), json!(2));
            parse(json).unwrap()
        };
        let dense = read(json!(["linear_attention", "mlp", "full_attention"]));
        assert_eq!((dense.arch.name, dense.block_count, dense.experts), ("nemotron_h", 3, None));
        assert_eq!(read(json!(["linear_attention", "moe"])).arch.name, "nemotron_h_moe");
    }

    #[test]
    fn an_unknown_class_is_refused_with_the_known_ones() {
        let mut json = sound();
        json["architectures"] = json!(["BloomForCausalLM"]);
        let error = parse(json).unwrap_err().to_string();
        assert!(error.contains("BloomForCausalLM") && error.contains("LlamaForCausalLM"), "{error}");
    }
}
