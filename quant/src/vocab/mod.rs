//! The vocabulary of a model as GGUF metadata hold it (`tokenizer.ggml.*`), and the `tokenizer.json` it amounts to.
//!
//! A Hugging Face tokenizer takes the same way: [`hf`] makes the metadata of it that llama.cpp's converter would write,
//! and [`Vocab::from_metadata`] reads those. Absent: tokenizing text (but for the sample that tells published tokenizers).
//! Byte-level BPE (`gpt2`), SentencePiece (`llama`) and BPE with byte fallback (`gemma4`) are the kinds supported.

mod beyond;
pub(crate) mod bpe;
mod classes;
mod files;
pub mod hf;
mod input;
mod named;
mod normalizer;
mod pre;
mod published;
mod rebuild;
mod recognize;
mod sentencepiece;
mod slow;
mod special;
mod spm;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::gguf::{Array, Metadata, Value};
use crate::{Error, Result};

pub use input::TokenizerInput;
pub use pre::{PRE_TOKENIZERS, PreTokenizer};
pub use special::template_file;

/// What a token is (llama.cpp's `LLAMA_TOKEN_TYPE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs)] // llama.cpp's own names
pub enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

impl TokenType {
    const ALL: [Self; 6] = [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];

    fn from_id(id: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|t| *t as i32 == id)
    }
}

/// Metadata keys of the tokenizer (gguf-py's `Keys.Tokenizer`, its spelling of "separator" included).
pub(crate) mod key {
    pub(crate) const MODEL: &str = "tokenizer.ggml.model";
    pub(crate) const PRE: &str = "tokenizer.ggml.pre";
    pub(crate) const TOKENS: &str = "tokenizer.ggml.tokens";
    pub(crate) const SCORES: &str = "tokenizer.ggml.scores";
    pub(crate) const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
    pub(crate) const MERGES: &str = "tokenizer.ggml.merges";
    /// Our own: the merges of a SentencePiece vocabulary that has no scores, for which llama.cpp has no key.
    pub(crate) const OWN_MERGES: &str = "bitworth.tokenizer.merges";
    /// Our own: what of the `tokenizer.json` llama.cpp has no key for.
    pub(crate) const OWN_JSON: &str = "bitworth.tokenizer.json";
    pub(crate) const BOS: &str = "tokenizer.ggml.bos_token_id";
    pub(crate) const EOS: &str = "tokenizer.ggml.eos_token_id";
    pub(crate) const EOT: &str = "tokenizer.ggml.eot_token_id";
    pub(crate) const EOM: &str = "tokenizer.ggml.eom_token_id";
    pub(crate) const UNK: &str = "tokenizer.ggml.unknown_token_id";
    pub(crate) const SEP: &str = "tokenizer.ggml.seperator_token_id";
    pub(crate) const PAD: &str = "tokenizer.ggml.padding_token_id";
    pub(crate) const MASK: &str = "tokenizer.ggml.mask_token_id";
    pub(crate) const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
    pub(crate) const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
    pub(crate) const ADD_SEP: &str = "tokenizer.ggml.add_sep_token";
    pub(crate) const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
    pub(crate) const CHAT_TEMPLATE: &str = "tokenizer.chat_template";
    pub(crate) const CHAT_TEMPLATES: &str = "tokenizer.chat_templates";
}

/// The name of byte-level BPE in `tokenizer.ggml.model`.
pub(crate) const BYTE_LEVEL_BPE: &str = "gpt2";
/// The name of BPE with byte fallback and merges in `tokenizer.ggml.model`: SentencePiece's form of BPE, but for its scores.
pub(crate) const BYTE_FALLBACK_BPE: &str = "gemma4";
/// The name of SentencePiece in `tokenizer.ggml.model`.
pub(crate) const SENTENCEPIECE: &str = "llama";
/// Vocabularies beyond this are no vocabularies: the largest published ones have a million tokens.
const MAX_TOKENS: usize = 1 << 22;
/// The pre-tokenizer that is written where there is none to name.
pub(crate) const DEFAULT_PRE: &str = "default";

/// Tokens that end a generation (llama.cpp b11434, `special_eog_ids` in `src/llama-vocab.cpp`).
const END_TEXTS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];

/// A vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocab {
    path: PathBuf,
    /// Parts of the `tokenizer.json` that the other fields do not hold.
    beyond: Map<String, Json>,
    /// What decides which tokens a text is cut into.
    pub algorithm: Algorithm,
    /// Tokens by id. Normal tokens are in the byte-level alphabet (`Ġ` for a space) or have `▁` for a space, the others are
    /// text.
    pub tokens: Vec<String>,
    /// What each token is; as long as `tokens`.
    pub types: Vec<TokenType>,
    /// Begin of text.
    pub bos: Option<u32>,
    /// End of text.
    pub eos: Option<u32>,
    /// End of a turn, where it is another token than `eos`.
    pub eot: Option<u32>,
    /// Unknown.
    pub unk: Option<u32>,
    /// Padding.
    pub pad: Option<u32>,
    /// Whether `bos` goes before a text.
    pub add_bos: bool,
    /// Whether `eos` goes after a text.
    pub add_eos: bool,
    /// Jinja template of a chat.
    pub chat_template: Option<String>,
}

/// The kind of a vocabulary (`tokenizer.ggml.model`), with what only that kind has.
#[derive(Debug, Clone, PartialEq)]
pub enum Algorithm {
    /// Byte-level BPE, `gpt2`.
    ByteLevel {
        /// `tokenizer.ggml.pre`: the name of the pre-tokenizer, one of [`PRE_TOKENIZERS`].
        pre: String,
        /// In order of rank: two tokens with a space between.
        merges: Vec<String>,
    },
    /// SentencePiece's BPE with byte fallback, `llama`.
    SentencePiece {
        /// As long as the tokens: of two neighbours whose merge is a token, those are merged first whose token scores highest.
        scores: Vec<f32>,
        /// As in byte-level BPE, instead of the scores. Only for vocabularies that never had scores.
        merges: Option<Vec<String>>,
        /// The key that has them.
        merges_key: &'static str,
        /// Whether a space goes before a text.
        add_space_prefix: bool,
    },
}

/// The texts of tokens that only keys of our own call special or added: llama.cpp takes them for ordinary ones and cuts them to
/// pieces.
pub fn cut_by_llama_cpp(metadata: &Metadata) -> Vec<String> {
    let Some(Value::String(text)) = metadata.get(key::OWN_JSON) else { return Vec::new() };
    let Ok(serde_json::Value::Object(beyond)) = serde_json::from_str(text) else { return Vec::new() };
    beyond::cut_elsewhere(&beyond).into_iter().map(str::to_owned).collect()
}

/// The keys of special tokens, but for that which begins a text, whose ids no token has, each with its id: they count as absent,
/// for llama.cpp too.
pub fn ids_beyond_the_tokens(metadata: &Metadata) -> Vec<(&'static str, u64)> {
    let Some(Value::Array(Array::String(tokens))) = metadata.get(key::TOKENS) else { return Vec::new() };
    let beyond = |id: &u64| *id >= tokens.len() as u64 && *id != u64::from(u32::MAX);
    let keys = [key::EOS, key::EOT, key::UNK, key::PAD].into_iter();
    keys.filter_map(|key| Some((key, metadata.u64(key).filter(beyond)?))).collect()
}

impl Vocab {
    /// Reads the `tokenizer.*` keys; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Key`] where a key is missing or broken, or the kind of vocabulary or its pre-tokenizer is not supported.
    pub fn from_metadata(path: &Path, metadata: &Metadata) -> Result<Self> {
        let keys = TokenizerReader { path, metadata };
        let model = keys.text(key::MODEL)?.ok_or_else(|| keys.error(key::MODEL, "is missing; this file has no tokenizer"))?;
        let tokens = keys.strings(key::TOKENS)?;
        let id = |name, default: Option<u32>| match keys.token_id(name, tokens.len())? {
            None => Ok(default.filter(|_| metadata.get(name).is_none())),
            id => Ok(id),
        };
        // llama.cpp warns of an id that no token has, and goes on without.
        let within = |name, default: Option<u32>| match metadata.u64(name) {
            Some(id) if id >= tokens.len() as u64 && id != u64::from(u32::MAX) => Ok(default),
            _ => id(name, default),
        };
        let beyond = match keys.text(key::OWN_JSON)?.map(serde_json::from_str) {
            None => Map::new(),
            Some(Ok(Json::Object(parts))) => parts,
            Some(_) => return Err(keys.error(key::OWN_JSON, "is no JSON object")),
        };
        // Ids and flags that llama.cpp takes where a file does not say.
        let (algorithm, add_bos, [bos, eos, unk]) = match model {
            BYTE_LEVEL_BPE => {
                // llama.cpp guesses here, with a warning that the model will be worse for it.
                let pre = keys.text(key::PRE)?.ok_or_else(|| {
                    keys.error(key::PRE, "is missing, so that nothing says how a text is cut; convert the model again")
                })?;
                let known = pre::find(pre);
                if known.is_none() && !beyond.contains_key("pre_tokenizer") {
                    return Err(keys.error(key::PRE, unsupported_pre(pre)));
                }
                let merges = keys.strings(key::MERGES)?.to_vec();
                (Algorithm::ByteLevel { pre: pre.to_owned(), merges }, known.is_some_and(|known| known.add_bos), [None; 3])
            }
            SENTENCEPIECE => {
                let (merges_key, add) = (key::OWN_MERGES, keys.bool(key::ADD_SPACE_PREFIX)?.unwrap_or(true));
                let merges = metadata.get(merges_key).map(|_| keys.strings(merges_key)).transpose()?.map(<[_]>::to_vec);
                let scores = keys.scores(tokens.len())?.to_vec();
                let default = |id: u32| Some(id).filter(|&id| (id as usize) < tokens.len());
                let algorithm = Algorithm::SentencePiece { scores, merges, merges_key, add_space_prefix: add };
                (algorithm, true, [1, 2, 0].map(default))
            }
            // llama.cpp passes over the scores.
            BYTE_FALLBACK_BPE => {
                let (merges_key, add) = (key::MERGES, keys.bool(key::ADD_SPACE_PREFIX)?.unwrap_or(false));
                let (scores, merges) = (vec![0.0; tokens.len()], Some(keys.strings(merges_key)?.to_vec()));
                (Algorithm::SentencePiece { scores, merges, merges_key, add_space_prefix: add }, true, [None; 3])
            }
            other => return Err(keys.error(key::MODEL, unsupported_model(other))),
        };
        Ok(Self {
            path: path.to_owned(),
            beyond,
            algorithm,
            types: keys.types(tokens.len())?,
            bos: id(key::BOS, bos)?,
            eos: within(key::EOS, eos)?,
            eot: within(key::EOT, None)?,
            unk: within(key::UNK, unk)?,
            pad: within(key::PAD, None)?,
            add_bos: keys.bool(key::ADD_BOS)?.unwrap_or(add_bos),
            add_eos: keys.bool(key::ADD_EOS)?.unwrap_or(false),
            chat_template: keys.text(key::CHAT_TEMPLATE)?.map(str::to_owned),
            tokens: tokens.to_vec(),
        })
    }

    /// What a model that has finished says: the end of text or of turn, and every special token that llama.cpp knows for one by
    /// its text.
    pub fn ends(&self) -> Vec<u32> {
        let by_text = (0u32..)
            .zip(self.tokens.iter().zip(&self.types))
            .filter_map(|(id, (token, kind))| (*kind != TokenType::Normal && END_TEXTS.contains(&token.as_str())).then_some(id));
        let mut ends: Vec<u32> = self.eos.into_iter().chain(self.eot).chain(by_text).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

/// Why a pre-tokenizer is refused.
fn unsupported_pre(pre: &str) -> String {
    let known: Vec<_> = pre::names().collect();
    format!("the pre-tokenizer {pre:?} is not supported; known: {}", known.join(", "))
}

/// Why a kind of vocabulary is refused.
fn unsupported_model(model: &str) -> String {
    let kind = match model {
        "none" | "no_vocab" => return format!("is {model:?}; this file has no tokenizer"),
        "rwkv" => "RWKV's vocabularies (rwkv) are",
        "bert" => "WordPiece vocabularies (bert) are",
        "t5" => "Unigram vocabularies (t5) are",
        other => &format!("the tokenizer {other:?} is"),
    };
    format!("{kind} not supported; byte-level BPE (gpt2), SentencePiece (llama) and BPE with byte fallback (gemma4) are")
}

struct TokenizerReader<'a> {
    path: &'a Path,
    metadata: &'a Metadata,
}

impl<'a> TokenizerReader<'a> {
    fn error(&self, key: &str, what: impl Into<crate::message::Message>) -> Error {
        Error::key(self.path, key, what)
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Bytes(_)) => Err(self.error(key, "is not UTF-8")),
            Some(_) => Err(self.error(key, "is not a string")),
        }
    }

    fn bool(&self, key: &str) -> Result<Option<bool>> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(*v)),
            Some(_) => Err(self.error(key, "is not a boolean")),
        }
    }

    fn strings(&self, key: &str) -> Result<&'a [String]> {
        match self.metadata.get(key) {
            None => Err(self.error(key, "is missing")),
            Some(Value::Array(Array::String(list))) => Ok(list),
            Some(Value::Array(Array::Bytes(list))) => {
                let at = list.iter().position(|bytes| std::str::from_utf8(bytes).is_err()).unwrap_or(0);
                Err(self
                    .error(key, format!("entry {at} is not UTF-8: the file can be inspected and quantized, not tokenized with")))
            }
            Some(_) => Err(self.error(key, "is not an array of strings")),
        }
    }

    fn scores(&self, count: usize) -> Result<&'a [f32]> {
        match self.metadata.get(key::SCORES) {
            None => Err(self.error(key::SCORES, "is missing")),
            Some(Value::Array(Array::F32(scores))) if scores.len() == count => Ok(scores),
            Some(Value::Array(Array::F32(scores))) => {
                Err(self.error(key::SCORES, format!("has {} entries for {count} tokens", scores.len())))
            }
            Some(_) => Err(self.error(key::SCORES, "is not an array of f32")),
        }
    }

    /// All normal where the key is absent, as llama.cpp reads it.
    fn types(&self, count: usize) -> Result<Vec<TokenType>> {
        let ids = match self.metadata.get(key::TOKEN_TYPE) {
            None => return Ok(vec![TokenType::Normal; count]),
            Some(Value::Array(Array::I32(ids))) => ids,
            Some(_) => return Err(self.error(key::TOKEN_TYPE, "is not an array of i32")),
        };
        if ids.len() != count {
            return Err(self.error(key::TOKEN_TYPE, format!("has {} entries for {count} tokens", ids.len())));
        }
        ids.iter()
            .enumerate()
            .map(|(i, &id)| {
                TokenType::from_id(id)
                    .ok_or_else(|| self.error(key::TOKEN_TYPE, format!("gives token {i} the type {id}; known: 1 to 6")))
            })
            .collect()
    }

    fn token_id(&self, key: &str, count: usize) -> Result<Option<u32>> {
        if self.metadata.get(key).is_none() {
            return Ok(None);
        }
        match self.metadata.u64(key) {
            // llama.cpp's way to write "none".
            Some(id) if id == u64::from(u32::MAX) => Ok(None),
            Some(id) if id < count as u64 => Ok(Some(id as u32)),
            Some(id) => Err(self.error(key, format!("is {id}, but there are {count} tokens"))),
            None => Err(self.error(key, "is not a whole number of 0 or more")),
        }
    }
}
