//! The kinds of special tokens, and the tokens that configuration files name as such.
//!
//! Absent: their ids, and what else says which tokens are special (see `special`).

use serde_json::{Map, Value as Json};

use super::key;

/// A kind of special token as configuration files name it, the GGUF key of its id, and of the flag that adds it, where the
/// converter writes them. The order is that of writing. `eot` counts only where the post-processor ends texts with another token
/// than `eos`.
pub(super) const KINDS: &[(&str, Option<&str>, Option<&str>)] = &[
    ("bos", Some(key::BOS), Some(key::ADD_BOS)),
    ("eos", Some(key::EOS), Some(key::ADD_EOS)),
    ("unk", Some(key::UNK), None),
    ("sep", Some(key::SEP), Some(key::ADD_SEP)),
    ("pad", Some(key::PAD), None),
    ("cls", None, None),
    ("mask", Some(key::MASK), None),
    ("eot", Some(key::EOT), None),
    ("eom", Some(key::EOM), None),
];
/// How many of the kinds always count.
pub(super) const PLAIN_KINDS: usize = 7;

/// The tokens that `tokenizer_config.json` names as special, whatever for.
pub(super) fn named_tokens(tokenizer_config: &Map<String, Json>) -> Vec<&str> {
    let mut named: Vec<&str> =
        KINDS[..PLAIN_KINDS].iter().filter_map(|(kind, ..)| content(tokenizer_config.get(&format!("{kind}_token")))).collect();
    for list in ["additional_special_tokens", "extra_special_tokens"] {
        match tokenizer_config.get(list) {
            Some(Json::Array(tokens)) => named.extend(tokens.iter().filter_map(|token| content(Some(token)))),
            Some(Json::Object(tokens)) => named.extend(tokens.values().filter_map(|token| content(Some(token)))),
            _ => {}
        }
    }
    named
}

/// A token given as text or as an object with its content.
pub(super) fn content(token: Option<&Json>) -> Option<&str> {
    match token? {
        Json::String(text) => Some(text),
        token => token.get("content")?.as_str(),
    }
}
