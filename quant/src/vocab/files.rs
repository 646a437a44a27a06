//! The tokenizer files of a Hugging Face directory that are JSON, and the tokens as their readers (`bpe`, `spm`) give them.
//!
//! Absent: what is read from them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::{TokenType, slow};
use crate::Result;
use crate::json::read_json;

/// The tokenizer files that are JSON, each read once.
pub(super) struct Files {
    dir: PathBuf,
    /// `tokenizer.json`
    pub tokenizer: Option<Map<String, Json>>,
    /// `tokenizer_config.json`
    pub config: Option<Map<String, Json>>,
}

impl Files {
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let read = |name| read_json(&dir.join(name));
        let (tokenizer, config) = (read("tokenizer.json")?, read("tokenizer_config.json")?);
        let tokenizer = match tokenizer {
            None => slow::tokenizer_json(dir, config.as_ref())?,
            found => found,
        };
        Ok(Self { dir: dir.to_owned(), tokenizer, config })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A value of `tokenizer_config.json`.
    pub(super) fn setting(&self, name: &str) -> Option<&Json> {
        self.config.as_ref()?.get(name)
    }

    /// The added tokens of `tokenizer.json`.
    pub(super) fn added_tokens(&self) -> &[Json] {
        let list = self.tokenizer.as_ref().and_then(|t| t.get("added_tokens")).and_then(Json::as_array);
        list.map_or(&[], Vec::as_slice)
    }
}

/// A token of the vocabulary.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub text: String,
    /// 0 for byte-level BPE, which does not write it.
    pub score: f32,
    pub kind: TokenType,
}

/// Control tokens that some models mark as ordinary (the converter's list).
pub(super) fn looks_special(text: &str) -> bool {
    let between = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}
