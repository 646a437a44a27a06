//! Language models inside of models with further parts (images, sound): the keys that stand in `text_config`, the names of their
//! tensors, and what is of the other parts and left out.
//!
//! Absent: which classes are such (see [`HfClass`](crate::arch::HfClass)) and what keys mean (see `config`).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use crate::json::JsonReader;
use crate::{Error, Result};

/// The object that holds the language model's keys.
pub(super) const TEXT: &str = "text_config";

/// What the names of tensors of other parts begin with, behind an optional `model.`, and the key whose object describes the part.
const OTHER_PARTS: &[(&str, &str)] = &[
    ("vision_tower.", "vision_config"),
    ("vision_model.", "vision_config"),
    ("vision_adapter.", "vision_config"),
    ("vision_projection.", "vision_config"),
    ("visual.", "vision_config"),
    ("multi_modal_projector.", "vision_config"),
    ("embed_vision.", "vision_config"),
    ("embed_audio.", "audio_config"),
    ("audio_tower.", "audio_config"),
];

/// Keys that both levels have and that may differ: they describe the level, or mean nothing to the computation.
const OWN_OF_EACH: &[&str] =
    &["architectures", "model_type", "dtype", "torch_dtype", "transformers_version", "initializer_range", "use_cache"];

/// The keys of the language model and, behind them, those of the outer level that it lacks, as the converter joins them
/// (b11434, `ModelBase.load_hparams`). Ids of tokens are the outer level's where it has them, as for gguf-py's `SpecialVocab`.
///
/// # Errors
/// There is no such object, or the two levels contradict each other.
pub(super) fn flatten(path: &Path, mut outer: Map<String, Value>) -> Result<Map<String, Value>> {
    let error = |key: &str, what: String| Error::key(path, key, what);
    let text = match outer.remove(TEXT) {
        Some(Value::Object(text)) => text,
        Some(other) => return Err(error(TEXT, format!("is {other}, but must be an object"))),
        None => return Err(error(TEXT, "is missing; it holds the keys of the language model".to_owned())),
    };
    for (key, inner) in text {
        let own = OWN_OF_EACH.contains(&key.as_str()) || key.starts_with('_');
        match outer.get(&key) {
            // The whole model is tied or not: transformers 5 writes its class's default inside.
            Some(found) if key == "tie_word_embeddings" && !found.is_null() => {}
            Some(found) if key == "architectures" || (key.ends_with("_token_id") && !found.is_null()) => {}
            Some(found) if !own && !found.is_null() && !inner.is_null() && *found != inner => {
                let what = format!("is {inner}, but {found} at the outer level of the file");
                return Err(error(&format!("{TEXT}.{key}"), what));
            }
            Some(found) if !found.is_null() && inner.is_null() => {}
            _ => {
                outer.insert(key, inner);
            }
        }
    }
    Ok(outer)
}

/// The kind of language model that `text_config` describes.
pub(super) fn text_type<'a>(keys: JsonReader<'a>) -> Option<&'a str> {
    keys.get(TEXT)?.get("model_type")?.as_str()
}

/// The key that describes the part other than the language model to which a tensor belongs.
fn other_part(name: &str) -> Option<&'static str> {
    let inner = name.strip_prefix("model.").unwrap_or(name);
    OTHER_PARTS.iter().find(|(part, _)| inner.starts_with(part)).map(|(_, key)| *key)
}

/// The first part that `keys` describe and of which no tensor is named among `names`: its key.
pub(crate) fn missing_part<'a>(keys: JsonReader<'_>, names: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    let found: BTreeSet<&str> = names.filter_map(other_part).collect();
    let described = |key: &&str| keys.get(key).is_some_and(|part| part.as_object().is_some_and(|part| !part.is_empty()));
    OTHER_PARTS.iter().map(|(_, key)| *key).find(|key| described(key) && !found.contains(key))
}

/// The name that a tensor has in the language model alone; `None` where it is of another part.
pub(crate) fn text_name(name: &str) -> Option<Cow<'_, str>> {
    let inner = name.strip_prefix("model.").unwrap_or(name);
    if other_part(name).is_some() {
        return None;
    }
    let Some(text) = inner.strip_prefix("language_model.") else { return Some(name.into()) };
    let whole = text.starts_with("model.") || text.starts_with("lm_head.");
    Some(if whole { text.into() } else { format!("model.{text}").into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_those_of_the_language_model_alone() {
        let check = |name: &str, expected: Option<&str>| assert_eq!(text_name(name).as_deref(), expected, "{name}");
        check("language_model.model.layers.0.mlp.up_proj.weight", Some("model.layers.0.mlp.up_proj.weight"));
        check("model.language_model.layers.0.mlp.up_proj.weight", Some("model.layers.0.mlp.up_proj.weight"));
        check("language_model.lm_head.weight", Some("lm_head.weight"));
        check("lm_head.weight", Some("lm_head.weight"));
        check("model.layers.0.mlp.up_proj.weight", Some("model.layers.0.mlp.up_proj.weight"));
        check("model.visual.blocks.0.norm1.weight", None);
        check("vision_tower.ln_pre.weight", None);
        check("multi_modal_projector.linear_1.weight", None);
        check("model.visionary.weight", Some("model.visionary.weight"));
    }

    #[test]
    fn levels_are_joined_unless_they_contradict() {
        let join = |json: Value| flatten(Path::new("config.json"), json.as_object().unwrap().clone());
        let joined =
            join(json!({"architectures": ["Outer"], "model_type": "outer", "tie_word_embeddings": true, "eos_token_id": 7,
            "text_config": {"architectures": ["Inner"], "model_type": "inner", "hidden_size": 64, "tie_word_embeddings": false,
                "eos_token_id": 3, "bos_token_id": 4}}));
        let expected = json!({"architectures": ["Outer"], "model_type": "inner", "tie_word_embeddings": true, "eos_token_id": 7,
            "hidden_size": 64, "bos_token_id": 4});
        assert_eq!(Value::Object(joined.unwrap()), expected);
        let refused = |json: Value, said: &str| {
            let error = join(json).unwrap_err().to_string();
            assert!(error.starts_with("config.json: text_config") && error.contains(said), "{error}");
        };
        refused(json!({"vocab_size": 5, "text_config": {"vocab_size": 6}}), ".vocab_size: is 6, but 5");
        refused(json!({"vocab_size": 5}), "is missing");
        refused(json!({"text_config": 5}), "must be an object");
    }
}
