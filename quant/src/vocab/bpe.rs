//! Byte-level BPE vocabularies of a Hugging Face directory: tokens, types and merges as llama.cpp's converter (b11434,
//! `conversion/base.py` `get_vocab_base`) makes them of `tokenizer.json`. Absent: special tokens and templates (see
//! `special`).

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use serde_json::{Map, Value as Json};

use super::files::{Files, Token, looks_special};
use super::{TokenType, named, published, recognize, unsupported_model};
use crate::{Error, Result};

/// The name of the pre-tokenizer, for a model of `class`.
pub(super) fn pre(files: &Files, class: &str) -> Result<&'static str> {
    let tokenizer = Tokenizer::new(files)?;
    if let Some(name) = published::name(tokenizer.json, files.config.as_ref()) {
        return Ok(name);
    }
    let ignore_merges = tokenizer.flag("ignore_merges")?;
    recognize::name(tokenizer.json.get("pre_tokenizer").unwrap_or(&Json::Null), ignore_merges, class)
        .map_err(|why| tokenizer.error(format!("its pre_tokenizer is not known: {why}")))
}

/// The tokens by id, filled up with unused ones to the model's size.
pub(super) fn tokens(files: &Files, vocab_size: u32) -> Result<Vec<Token>> {
    let tokenizer = Tokenizer::new(files)?;
    tokenizer.check()?;
    tokenizer.tokens(vocab_size, files.config.as_ref())
}

/// The merges in order of rank.
pub(super) fn merges(files: &Files) -> Result<Vec<String>> {
    Tokenizer::new(files)?.merges()
}

/// An added token.
struct Added {
    content: String,
    special: bool,
    normalized: bool,
}

struct Tokenizer<'a> {
    path: PathBuf,
    json: &'a Map<String, Json>,
}

impl<'a> Tokenizer<'a> {
    fn new(files: &'a Files) -> Result<Self> {
        let path = files.path("tokenizer.json");
        match &files.tokenizer {
            Some(json) => Ok(Self { path, json }),
            None => Err(Error::file(
                path,
                "is missing, and vocab.json and merges.txt, of which it could be made, are not both there; fetch it",
            )),
        }
    }

    fn error(&self, what: impl Into<crate::message::Message>) -> Error {
        Error::file(&self.path, what)
    }

    fn model(&self) -> Result<&'a Map<String, Json>> {
        self.json.get("model").and_then(Json::as_object).ok_or_else(|| self.error("has no model"))
    }

    fn flag(&self, name: &str) -> Result<bool> {
        Ok(self.model()?.get(name).and_then(Json::as_bool).unwrap_or(false))
    }

    /// Refuses what is not BPE over bytes.
    fn check(&self) -> Result<()> {
        let model = self.model()?;
        match model.get("type").and_then(Json::as_str) {
            Some("BPE") => {}
            Some("WordPiece") => return Err(self.error(unsupported_model("bert"))),
            Some("Unigram") => return Err(self.error(unsupported_model("t5"))),
            // Old files leave the type out; what has merges is BPE.
            None if model.contains_key("merges") => {}
            other => return Err(self.error(unsupported_model(other.unwrap_or("without a type")))),
        }
        if self.flag("byte_fallback")? {
            return Err(
                self.error("has byte_fallback, as SentencePiece has; for this model's class only byte-level BPE is known")
            );
        }
        for name in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if model.get(name).and_then(Json::as_str).is_some_and(|text| !text.is_empty()) {
                return Err(self.error(format!("model.{name} is not supported")));
            }
        }
        self.check_normalizer(self.json.get("normalizer"))
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

    fn tokens(&self, vocab_size: u32, tokenizer_config: Option<&Map<String, Json>>) -> Result<Vec<Token>> {
        let mut by_id: BTreeMap<u32, &str> = BTreeMap::new();
        let vocab = self.model()?.get("vocab").and_then(Json::as_object).ok_or_else(|| self.error("has no model.vocab"))?;
        for (token, id) in vocab {
            let id = self.token_id(token, id, vocab_size)?;
            if let Some(other) = by_id.insert(id, token) {
                return Err(self.error(format!("gives the id {id} to both {other:?} and {token:?}")));
            }
        }
        let added = self.added(vocab, vocab_size, tokenizer_config)?;
        let token = |id| {
            let (text, kind) = match (added.get(&id), by_id.get(&id)) {
                (Some(added), _) => added_token(added),
                (None, Some(token)) => ((*token).to_owned(), TokenType::Normal),
                (None, None) => (format!("[PAD{id}]"), TokenType::Unused),
            };
            Token { text, score: 0.0, kind }
        };
        Ok((0..vocab_size).map(token).collect())
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
        for content in named::named_tokens(config) {
            if let Some(id) = vocab.get(content).filter(|_| !contents.contains(content)) {
                let one = Added { content: content.to_owned(), special: true, normalized: false };
                added.insert(self.token_id(content, id, vocab_size)?, one);
            }
        }
        Ok(added)
    }

    fn read_added<'t>(&self, token: &'t Json) -> Result<(&'t str, Added)> {
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

/// GPT-2's alphabet: a character for every byte.
pub(crate) fn byte_characters() -> impl Iterator<Item = char> {
    ('\0'..='\u{17f}').filter(|&c| byte_of(c).is_some())
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
        let mut bytes: Vec<u8> = byte_characters().filter_map(byte_of).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }
}
