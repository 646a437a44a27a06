//! The `tokenizer.*` keys that llama.cpp's converter (b11434, `conversion/base.py` `get_vocab_base`) writes for the
//! tokenizer files of a Hugging Face directory. Absent: special tokens and templates (see `special`).

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::{BYTE_LEVEL_BPE, TokenType, key, pre, special, unsupported_model};
use crate::convert::config::{Config, read_json};
use crate::gguf::{Array, Metadata, Value};
use crate::{Error, Result};

/// The `tokenizer.json` of a directory.
///
/// # Errors
/// [`Error::File`] where there is none or it is broken.
pub fn tokenizer_json(dir: &Path) -> Result<Map<String, Json>> {
    let path = dir.join("tokenizer.json");
    read_json(&path)?.ok_or_else(|| match dir.join("tokenizer.model").exists() {
        true => Error::file(dir.join("tokenizer.model"), unsupported_model("llama")),
        false => Error::file(path, "is missing; tokenizers in other forms are not supported"),
    })
}

/// Adds the tokenizer's keys for the model of `config`.
///
/// # Errors
/// A file is missing or broken, or the tokenizer is of a kind that is not supported.
pub fn add_keys(config: &Config, m: &mut Metadata) -> Result<()> {
    let dir = config.path.parent().unwrap_or(Path::new("."));
    let tokenizer_config = read_json(&dir.join("tokenizer_config.json"))?;
    if let Some(Json::Bool(add)) = tokenizer_config.as_ref().and_then(|c| c.get("add_prefix_space")) {
        m.set(key::ADD_SPACE_PREFIX, Value::Bool(*add));
    }
    if dir.join("tokenizer.model").exists() {
        return Err(Error::file(dir.join("tokenizer.model"), unsupported_model("llama")));
    }
    let json = tokenizer_json(dir)?;
    let tokenizer = Tokenizer { path: &dir.join("tokenizer.json"), json: &json };
    let pre = tokenizer.pre()?;
    let (tokens, types) = tokenizer.tokens(config.vocab_size, tokenizer_config.as_ref())?;
    m.set(key::MODEL, Value::String(BYTE_LEVEL_BPE.to_owned()));
    m.set(key::PRE, Value::String(pre.to_owned()));
    m.set(key::TOKENS, Value::Array(Array::String(tokens)));
    m.set(key::TOKEN_TYPE, Value::Array(Array::I32(types.into_iter().map(|t| t as i32).collect())));
    m.set(key::MERGES, Value::Array(Array::String(tokenizer.merges()?)));
    special::add_keys(dir, &json, tokenizer_config, &config.json, m)?;
    (config.arch.tokenizer_keys)(config, m);
    Ok(())
}

/// An added token.
struct Added {
    content: String,
    special: bool,
    normalized: bool,
}

struct Tokenizer<'a> {
    path: &'a Path,
    json: &'a Map<String, Json>,
}

impl Tokenizer<'_> {
    fn error(&self, what: impl Into<String>) -> Error {
        Error::file(self.path, what)
    }

    fn model(&self) -> Result<&Map<String, Json>> {
        self.json.get("model").and_then(Json::as_object).ok_or_else(|| self.error("has no model"))
    }

    /// The pre-tokenizer's name, once the rest is known to be byte-level BPE.
    fn pre(&self) -> Result<&'static str> {
        let model = self.model()?;
        match model.get("type").and_then(Json::as_str) {
            Some("BPE") => {}
            Some("WordPiece") => return Err(self.error(unsupported_model("bert"))),
            Some("Unigram") => return Err(self.error(unsupported_model("t5"))),
            // Old files leave the type out; what has merges is BPE.
            None if model.contains_key("merges") => {}
            other => return Err(self.error(unsupported_model(other.unwrap_or("without a type")))),
        }
        let flag = |name| model.get(name).and_then(Json::as_bool).unwrap_or(false);
        if flag("byte_fallback") {
            return Err(self.error(unsupported_model("llama")));
        }
        for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if model.get(name).and_then(Json::as_str).is_some_and(|text| !text.is_empty()) {
                return Err(self.error(format!("model.{name} is not supported")));
            }
        }
        self.check_normalizer(self.json.get("normalizer"))?;
        pre::recognize(self.json.get("pre_tokenizer").unwrap_or(&Json::Null), flag("ignore_merges"))
            .map_err(|why| self.error(format!("its pre_tokenizer is not known: {why}")))
    }

    /// Unicode composition is what published byte-level tokenizers have at most; GGUF cannot hold it and llama.cpp leaves
    /// it out.
    fn check_normalizer(&self, normalizer: Option<&Json>) -> Result<()> {
        let Some(object) = normalizer.filter(|n| !n.is_null()) else { return Ok(()) };
        match object.get("type").and_then(Json::as_str) {
            Some("NFC") => Ok(()),
            Some("Sequence") => {
                let members = object.get("normalizers").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
                members.iter().try_for_each(|member| self.check_normalizer(Some(member)))
            }
            other => Err(self.error(format!("the normalizer {} is not supported", other.unwrap_or("without a type")))),
        }
    }

    /// Tokens and types by id, filled up with unused ones to the model's size.
    fn tokens(&self, vocab_size: u32, tokenizer_config: Option<&Map<String, Json>>) -> Result<(Vec<String>, Vec<TokenType>)> {
        let mut by_id: BTreeMap<u32, &str> = BTreeMap::new();
        let vocab = self.model()?.get("vocab").and_then(Json::as_object).ok_or_else(|| self.error("has no model.vocab"))?;
        for (token, id) in vocab {
            let id = self.token_id(token, id, vocab_size)?;
            if let Some(other) = by_id.insert(id, token) {
                return Err(self.error(format!("gives the id {id} to both {other:?} and {token:?}")));
            }
        }
        let added = self.added(vocab, vocab_size, tokenizer_config)?;
        let size = vocab_size as usize;
        let (mut tokens, mut types) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for id in 0..vocab_size {
            let (token, kind) = match (added.get(&id), by_id.get(&id)) {
                (Some(added), _) => added_token(added),
                (None, Some(token)) => ((*token).to_owned(), TokenType::Normal),
                (None, None) => (format!("[PAD{id}]"), TokenType::Unused),
            };
            tokens.push(token);
            types.push(kind);
        }
        Ok((tokens, types))
    }

    fn token_id(&self, token: &str, id: &Json, vocab_size: u32) -> Result<u32> {
        let id = id.as_u64().ok_or_else(|| self.error(format!("the id of {token:?} is no whole number")))?;
        match u32::try_from(id) {
            Ok(id) if id < vocab_size => Ok(id),
            _ => Err(self.error(format!("{token:?} has the id {id}, but config.json has a vocab_size of {vocab_size}"))),
        }
    }

    /// Added tokens as transformers sees them: those of `tokenizer.json`, replaced or joined by those of
    /// `tokenizer_config.json`, and the tokens that it names as special.
    fn added(
        &self,
        vocab: &Map<String, Json>,
        vocab_size: u32,
        tokenizer_config: Option<&Map<String, Json>>,
    ) -> Result<BTreeMap<u32, Added>> {
        let mut added = BTreeMap::new();
        for token in self.json.get("added_tokens").and_then(Json::as_array).map_or(&[][..], Vec::as_slice) {
            let (content, one) = self.read_added(token)?;
            added.insert(self.token_id(content, token.get("id").unwrap_or(&Json::Null), vocab_size)?, one);
        }
        let Some(config) = tokenizer_config else { return Ok(added) };
        if let Some(decoder) = config.get("added_tokens_decoder").and_then(Json::as_object) {
            for (id, token) in decoder {
                let (content, one) = self.read_added(token)?;
                let id = id.parse::<u32>().map(Json::from).unwrap_or(Json::Null);
                added.insert(self.token_id(content, &id, vocab_size)?, one);
            }
        }
        let contents: HashSet<String> = added.values().map(|a| a.content.clone()).collect();
        for content in special::named_tokens(config) {
            if let Some(id) = vocab.get(content).filter(|_| !contents.contains(content)) {
                let one = Added { content: content.to_owned(), special: true, normalized: false };
                added.insert(self.token_id(content, id, vocab_size)?, one);
            }
        }
        Ok(added)
    }

    fn read_added<'a>(&self, token: &'a Json) -> Result<(&'a str, Added)> {
        let content = token.get("content").and_then(Json::as_str).ok_or_else(|| self.error("an added token has no content"))?;
        let flag = |name| token.get(name).and_then(Json::as_bool);
        // An added token without the flag is normalized unless it is special, in the `tokenizers` crate.
        let special = flag("special").unwrap_or(false);
        let normalized = flag("normalized").unwrap_or(!special);
        Ok((content, Added { content: content.to_owned(), special, normalized }))
    }

    /// Merges as text. In the newer form, pairs, a space inside a token is written as the character 256 above it.
    fn merges(&self) -> Result<Vec<String>> {
        let list = self.model()?.get("merges").and_then(Json::as_array).ok_or_else(|| self.error("has no model.merges"))?;
        let broken = |rank: usize| self.error(format!("merge {rank} is not two tokens"));
        list.iter()
            .enumerate()
            .map(|(rank, merge)| match merge {
                Json::String(text) => Ok(text.clone()),
                Json::Array(pair) => match pair.as_slice() {
                    [Json::String(a), Json::String(b)] => Ok(format!("{} {}", a.replace(' ', "Ġ"), b.replace(' ', "Ġ"))),
                    _ => Err(broken(rank)),
                },
                _ => Err(broken(rank)),
            })
            .collect()
    }
}

/// Text and type of an added token. The converter encodes and decodes what is not normalized, and spells the spaces of
/// user-defined tokens out.
fn added_token(added: &Added) -> (String, TokenType) {
    let text = if added.normalized { added.content.clone() } else { byte_level_decode(&added.content) };
    if added.special || looks_special(&text) {
        (text, TokenType::Control)
    } else {
        (text.replace('\u{2581}', " "), TokenType::UserDefined)
    }
}

/// Control tokens that some models mark as ordinary (the converter's list).
fn looks_special(text: &str) -> bool {
    let between = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    matches!(text, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}

/// What the byte-level decoder makes of a token: bytes where all characters stand for bytes, else the text itself.
fn byte_level_decode(token: &str) -> String {
    let bytes: Option<Vec<u8>> = token.chars().map(byte_of).collect();
    bytes.map_or_else(|| token.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The byte a character of GPT-2's alphabet stands for: printable Latin-1 for itself, from U+0100 on the others in order.
fn byte_of(c: char) -> Option<u8> {
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(c);
    match u8::try_from(code) {
        Ok(byte) => printable(byte).then_some(byte),
        Err(_) => (0..=255u8).filter(|&b| !printable(b)).nth(code.checked_sub(256)? as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_level_alphabet_is_undone_where_it_applies() {
        for (token, expected) in [
            ("<|endoftext|>", "<|endoftext|>"),
            ("Ġthe", " the"),
            ("Ċ", "\n"),
            ("<｜begin▁of▁sentence｜>", "<｜begin▁of▁sentence｜>"),
            ("  ", "  "),
            ("Ã©", "é"),
            ("é", "\u{fffd}"),
        ] {
            assert_eq!(byte_level_decode(token), expected, "{token}");
        }
    }

    #[test]
    fn every_byte_has_one_character() {
        let mut bytes: Vec<u8> = ('\0'..='\u{17f}').filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }
}
