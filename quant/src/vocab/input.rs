//! What the keys of a Hugging Face tokenizer are made from beside its files.
//!
//! Absent: making them (see `hf`), and taking it from a configuration (see `convert::config`).

use std::path::Path;

use serde_json::{Map, Value as Json};

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
