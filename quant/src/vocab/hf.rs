//! The `tokenizer.*` keys that llama.cpp's converter (b11434, `set_vocab` of its classes) writes for the tokenizer files of a
//! Hugging Face directory. Which files those are the class says (`classes`), what is in them `bpe` and `spm` read.
//!
//! Absent: special tokens and templates (see `special`).

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::beyond::{self, Known};
use super::classes::{self, ClassRule, Source};
use super::files::{Files, Token};
use super::input::TokenizerInput;
use super::{BYTE_FALLBACK_BPE, BYTE_LEVEL_BPE, DEFAULT_PRE, MAX_TOKENS, SENTENCEPIECE, TokenType, bpe, key, pre, special, spm};
use crate::gguf::{Array, Metadata, Value};
use crate::{Error, Result};

/// The `tokenizer.json` of a directory, or one made of `vocab.json` and `merges.txt`; `None` where there is none of them.
///
/// # Errors
/// [`Error::File`] where it is broken.
pub fn tokenizer_json(dir: &Path) -> Result<Option<Map<String, Json>>> {
    Ok(Files::read(dir)?.tokenizer)
}

/// Adds the tokenizer's keys for `model`.
///
/// # Errors
/// A file is missing or broken, or the tokenizer is of a kind that is not supported.
pub fn add_keys(model: &TokenizerInput, m: &mut Metadata) -> Result<()> {
    if model.vocab_size as usize > MAX_TOKENS {
        let what = format!("is {}; vocabularies of more than {MAX_TOKENS} tokens are not supported", model.vocab_size);
        return Err(Error::key(model.dir.join("config.json"), "vocab_size", what));
    }
    let files = Files::read(model.dir)?;
    let rule = classes::find(model.class);
    let model = &TokenizerInput { vocab_size: padded_size(model), ..*model };
    if let Some(Json::Bool(add)) = files.setting("add_prefix_space").filter(|_| rule.space_prefix) {
        m.set(key::ADD_SPACE_PREFIX, Value::Bool(*add));
    }
    let (source, mut tokens) = read_tokens(model, &files, rule)?;
    let visible = |token: &&mut Token| rule.visible.contains(&token.text.as_str());
    tokens.iter_mut().filter(visible).for_each(|token| token.kind = TokenType::UserDefined);
    let byte_level = source == Source::ByteLevel;
    let pre_name = if byte_level { bpe::pre(&files, model.class)? } else { DEFAULT_PRE };
    let model_name = match source {
        Source::ByteLevel => BYTE_LEVEL_BPE,
        Source::ByteFallbackMerges => BYTE_FALLBACK_BPE,
        Source::SentencePiece | Source::SentencePiecePhi3 | Source::ByteFallback | Source::ByteFallbackScored => SENTENCEPIECE,
    };
    m.set(key::MODEL, Value::String(model_name.to_owned()));
    if source != Source::ByteFallbackMerges {
        m.set(key::PRE, Value::String(pre_name.to_owned()));
    }

    let mut found = special::Special::find(&files, model.config, (!byte_level).then_some(tokens.len()))?;
    for &(kind, text) in rule.special_tokens {
        let id = tokens.iter().position(|t| t.text == text && t.kind != TokenType::Normal);
        let id = id.ok_or_else(|| Error::file(files.path("tokenizer.json"), format!("has no added token {text}, {kind}")))?;
        found.set_id(kind, id as u32);
    }
    let known_tokens: Vec<(TokenType, String)> = tokens.iter().map(|t| (t.kind, t.text.clone())).collect();
    let types = tokens.iter().map(|t| t.kind as i32).collect();
    let scores = tokens.iter().map(|t| t.score).collect();
    m.set(key::TOKENS, Value::Array(Array::String(tokens.into_iter().map(|t| t.text).collect())));
    if !byte_level {
        m.set(key::SCORES, Value::Array(Array::F32(scores)));
    }
    m.set(key::TOKEN_TYPE, Value::Array(Array::I32(types)));
    if byte_level || source == Source::ByteFallbackMerges {
        m.set(key::MERGES, Value::Array(Array::String(bpe::merges(&files)?)));
    }
    found.add_keys(m);
    special::add_templates(&files, m)?;
    (rule.finish)(source, model, m);
    if matches!(source, Source::ByteFallback | Source::ByteFallbackScored) {
        // Without scores llama.cpp merges from left to right; with these our own reader does better. Scores made of the merges
        // say the same only where these are a SentencePiece model's.
        m.set(key::OWN_MERGES, Value::Array(Array::String(bpe::merges(&files)?)));
    }
    if let Some(tokenizer) = &files.tokenizer {
        let add_space_prefix = m.get(key::ADD_SPACE_PREFIX) != Some(&Value::Bool(false));
        let known = if byte_level { Known::ByteLevel(pre::find(pre_name)) } else { Known::SentencePiece { add_space_prefix } };
        let beyond = beyond::of(tokenizer, &known, &known_tokens);
        if !beyond.is_empty() {
            m.set(key::OWN_JSON, Value::String(Json::Object(beyond).to_string()));
        }
    }
    Ok(())
}

/// How many tokens the converter writes: for some classes more than there are.
pub(crate) fn padded_size(model: &TokenizerInput) -> u32 {
    let (multiple, key) = classes::find(model.class).pad_to;
    let stated = key.and_then(|key| model.config.get(key)?.as_u64()).and_then(|n| u32::try_from(n).ok());
    let multiple = stated.filter(|&n| n > 0).unwrap_or(multiple);
    model.vocab_size.checked_next_multiple_of(multiple).unwrap_or(model.vocab_size)
}

/// The tokens by id, from the first source of the class that is there.
fn read_tokens(model: &TokenizerInput, files: &Files, rule: &ClassRule) -> Result<(Source, Vec<Token>)> {
    let class = files.setting("tokenizer_class").and_then(Json::as_str);
    let byte_level = rule.byte_level_class.is_some() && rule.byte_level_class == class;
    let sources = if byte_level { &[Source::ByteLevel] } else { rule.sources };
    for &source in sources {
        let tokens = match source {
            Source::SentencePiece | Source::SentencePiecePhi3 => spm::from_model(files, model.vocab_size, source)?,
            Source::ByteFallback | Source::ByteFallbackMerges => spm::from_json(files)?,
            Source::ByteFallbackScored => spm::from_json_scored(files, model.vocab_size)?,
            Source::ByteLevel => Some(bpe::tokens(files, model.vocab_size)?),
        };
        if let Some(tokens) = tokens {
            return Ok((source, tokens));
        }
    }
    if sources == [Source::ByteFallbackMerges] {
        let what = format!("is missing, or no BPE with byte fallback, which {} needs", model.class);
        return Err(Error::file(files.path("tokenizer.json"), what));
    }
    // Byte-level BPE is always the last source where it is one, and says itself what it misses.
    let what = format!(
        "is missing; {} needs a SentencePiece model (that of the model it was made from), or a tokenizer.json with BPE and byte \
         fallback",
        model.class
    );
    Err(Error::file(files.path("tokenizer.model"), what))
}
