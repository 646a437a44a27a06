//! What the keys of a Hugging Face tokenizer are made from beside its files.
//!
//! Absent: making them (see `hf`).

use std::path::Path;

use serde_json::{Map, Value as Json};

use crate::convert::config::Config;

/// What of a model its tokenizer's keys depend on.
#[derive(Debug, Clone, Copy)]
pub struct TokenizerInput<'a> {
    /// The directory.
    pub dir: &'a Path,
    /// `architectures[0]` of `config.json`.
    pub class: &'a str,
    /// `vocab_size` of `config.json`: how many tokens there are, used or not.
    pub vocab_size: u32,
    /// All of `config.json`.
    pub config: &'a Map<String, Json>,
}

impl<'a> TokenizerInput<'a> {
    /// The model of a configuration.
    pub fn of(config: &'a Config) -> Self {
        let class = config.json.get("architectures").and_then(|classes| classes.get(0)).and_then(Json::as_str);
        Self {
            dir: config.path.parent().unwrap_or(Path::new(".")),
            class: class.unwrap_or_default(),
            vocab_size: config.vocab_size,
            config: &config.json,
        }
    }
}
