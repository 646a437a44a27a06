//! A `tokenizer.json` made of `vocab.json` and `merges.txt`, as transformers makes it of what its slow tokenizers saved
//! (`GPT2Converter` and `Qwen2Converter` in its convert_slow_tokenizer.py). Absent: what is read from it.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::named;
use crate::json::{read_json, read_text};
use crate::{Error, Result};

/// Qwen 2's pattern (`PRETOKENIZE_REGEX` of its slow tokenizer).
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// `None` where one of the two files is missing, or SentencePiece's is there.
///
/// # Errors
/// A file is broken, or the folder's tokenizer is none of those that keep their vocabularies so.
pub(super) fn tokenizer_json(dir: &Path, config: Option<&Map<String, Json>>) -> Result<Option<Map<String, Json>>> {
    let (vocab_path, merges_path) = (dir.join("vocab.json"), dir.join("merges.txt"));
    if dir.join("tokenizer.model").exists() {
        return Ok(None);
    }
    let (Some(vocab), Some(merges)) = (read_json(&vocab_path)?, read_text(&merges_path)?) else { return Ok(None) };
    let setting = |name: &str| config.and_then(|config| config.get(name));
    let class = match setting("tokenizer_class").and_then(Json::as_str) {
        Some(class) => class.to_owned(),
        // As transformers' AutoTokenizer takes it.
        None => match read_json(&dir.join("config.json"))?.as_ref().and_then(|config| config.get("model_type")?.as_str()) {
            Some("qwen2" | "qwen2_moe" | "qwen3" | "qwen3_moe") => "Qwen2Tokenizer".to_owned(),
            Some("gpt2") => "GPT2Tokenizer".to_owned(),
            _ => "a folder whose tokenizer_config.json names no tokenizer_class".to_owned(),
        },
    };
    let prefix = setting("add_prefix_space").and_then(Json::as_bool).unwrap_or(false);
    let bytes = |prefix: bool, regex: bool| {
        let (kind, trim) = ("ByteLevel", true);
        json!({"type": kind, "add_prefix_space": prefix, "trim_offsets": trim, "use_regex": regex})
    };
    let (normalizer, pre) = match class.strip_suffix("Fast").unwrap_or(&class) {
        "GPT2Tokenizer" => (Json::Null, bytes(prefix, true)),
        "Qwen2Tokenizer" => {
            let split = json!({"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": false});
            (json!({"type": "NFC"}), json!({"type": "Sequence", "pretokenizers": [split, bytes(prefix, false)]}))
        }
        other => {
            let what = format!(
                "is missing, and is made of vocab.json and merges.txt for GPT2Tokenizer and Qwen2Tokenizer only, not for \
                 {other}; save it with transformers: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
            );
            return Err(Error::file(dir.join("tokenizer.json"), what));
        }
    };
    // The first line may say the version.
    let is_merge = |&(i, line): &(usize, &str)| !(line.is_empty() || i == 0 && line.starts_with("#version"));
    let lines = merges.lines().enumerate().filter(is_merge);
    let merges: Vec<&str> = lines.map(|(_, line)| line).collect();
    let added = added_tokens(dir, config, &vocab)?;
    let json = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre,
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
            "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges},
    });
    match json {
        Json::Object(json) => Ok(Some(json)),
        _ => Ok(None),
    }
}

/// The tokens that other files add or name, by id: `added_tokens.json`, `added_tokens_decoder`, and special tokens.
fn added_tokens(dir: &Path, config: Option<&Map<String, Json>>, vocab: &Map<String, Json>) -> Result<Vec<Json>> {
    let mut added: Vec<(u64, Json)> = Vec::new();
    let path = dir.join("added_tokens.json");
    let more = read_json(&path)?.unwrap_or_default();
    let special_map = read_json(&dir.join("special_tokens_map.json"))?;
    let named: Vec<&str> = [config, special_map.as_ref()].into_iter().flatten().flat_map(named::named_tokens).collect();
    let token = |id: u64, content: &str, special: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": !special,
            "special": special})
    };
    if let Some(decoder) = config.and_then(|config| config.get("added_tokens_decoder")).and_then(Json::as_object) {
        for (id, entry) in decoder {
            let content = entry.get("content").and_then(Json::as_str);
            let (Ok(number), Some(content)) = (id.parse(), content) else {
                let what = format!("the token {id:?} has no number or no content");
                return Err(Error::key(dir.join("tokenizer_config.json"), "added_tokens_decoder", what));
            };
            let flag = |name: &str| entry.get(name).and_then(Json::as_bool);
            let mut json = token(number, content, flag("special").unwrap_or(false));
            for name in ["single_word", "lstrip", "rstrip", "normalized"] {
                if let Some(value) = flag(name) {
                    json[name] = value.into();
                }
            }
            added.push((number, json));
        }
    }
    for (content, id) in &more {
        let id = id.as_u64().ok_or_else(|| Error::file(&path, format!("the id of {content:?} is no whole number")))?;
        added.push((id, token(id, content, named.contains(&content.as_str()))));
    }
    // What a GPT-2 tokenizer takes for its ends where nothing is said.
    let default = if named.is_empty() { &["<|endoftext|>"][..] } else { &[] };
    for content in named.iter().chain(default) {
        if let Some(id) = vocab.get(*content).and_then(Json::as_u64) {
            added.push((id, token(id, content, true)));
        }
    }
    added.sort_by_key(|(id, _)| *id);
    added.dedup_by_key(|(id, _)| *id);
    Ok(added.into_iter().map(|(_, json)| json).collect())
}
