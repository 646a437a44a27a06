//! A `tokenizer.json` for the `tokenizers` crate, rebuilt from a GGUF file's vocabulary.
//!
//! What GGUF does not hold, such as the normalizers of byte-level BPE, is there only in files made here (see `beyond`). Absent:
//! reading a `tokenizer.json` (see `bpe`, `spm`).

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use super::normalizer::normalizer_of;
use super::{Algorithm, PreTokenizer, TokenType, Vocab, beyond, key, pre, unsupported_pre};
use crate::{Error, Result};

/// SentencePiece's pieces have at most 16 characters, runs of spaces a few dozen. The search for merges takes time that grows
/// with the square of a token's length, so that there has to be an end.
const MAX_PIECE_BYTES: usize = 512;

impl Vocab {
    /// The whole `tokenizer.json`. Control and user-defined tokens become added tokens, found in a text before it is cut;
    /// the post-processor adds the begin and end tokens as `add_bos` and `add_eos` say.
    ///
    /// # Errors
    /// [`Error::Key`] where two tokens are the same text, a merge is not two tokens, or nothing says what to merge.
    pub fn to_tokenizer_json(&self) -> Result<Value> {
        let mut model = json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": self.model_vocab()?,
        });
        let (normalizer, pre_tokenizer, decoder);
        match &self.algorithm {
            Algorithm::ByteLevel { pre, merges } => {
                let known = pre::find(pre);
                if known.is_none() && !self.beyond.contains_key("pre_tokenizer") {
                    return Err(Error::key(&self.path, key::PRE, unsupported_pre(pre)));
                }
                model["ignore_merges"] = known.is_some_and(|known| known.ignore_merges).into();
                model["merges"] = self.merge_pairs(key::MERGES, merges)?.into();
                normalizer = Value::Null;
                pre_tokenizer = known.map_or(Value::Null, PreTokenizer::to_json);
                decoder = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
            }
            Algorithm::SentencePiece { scores, merges, merges_key, add_space_prefix } => {
                model["unk_token"] = self.unk.map(|id| self.tokens[id as usize].as_str()).into();
                model["fuse_unk"] = true.into();
                model["byte_fallback"] = true.into();
                model["merges"] = match merges {
                    Some(merges) => self.merge_pairs(merges_key, merges)?.into(),
                    None => self.scored_merges(scores)?.into(),
                };
                normalizer = normalizer_of(*add_space_prefix);
                pre_tokenizer = Value::Null;
                decoder = decoder_of(*add_space_prefix);
            }
        }
        let mut tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_tokens(),
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": self.post_processor()?,
            "decoder": decoder,
            "model": model,
        });
        beyond::put(&self.beyond, &mut tokenizer);
        Ok(tokenizer)
    }

    fn added_tokens(&self) -> Vec<Value> {
        let added = self.tokens.iter().zip(&self.types).enumerate().filter_map(|(id, (token, kind))| {
            let special = match kind {
                TokenType::Control | TokenType::Unknown => true,
                TokenType::UserDefined => false,
                _ => return None,
            };
            Some(json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special}))
        });
        added.collect()
    }

    /// All tokens but the unused. Added tokens are among them so that each keeps its id.
    fn model_vocab(&self) -> Result<Map<String, Value>> {
        let mut vocab = Map::with_capacity(self.tokens.len());
        for (id, (token, kind)) in self.tokens.iter().zip(&self.types).enumerate() {
            if *kind == TokenType::Unused {
                continue;
            }
            if let Some(other) = vocab.insert(token.clone(), json!(id)) {
                return Err(Error::key(&self.path, key::TOKENS, format!("tokens {other} and {id} are both {token:?}")));
            }
        }
        Ok(vocab)
    }

    /// `merges`, which stand under `name`, as pairs.
    fn merge_pairs(&self, name: &str, merges: &[String]) -> Result<Vec<Value>> {
        let known: HashSet<&str> = self.tokens.iter().map(String::as_str).collect();
        let mut pairs = Vec::with_capacity(merges.len());
        for (rank, merge) in merges.iter().enumerate() {
            let error = |what: &str| Error::key(&self.path, name, format!("merge {rank}, {merge:?}, {what}"));
            // A space inside a token is written as another character, so the only space separates the two.
            let (a, b) = merge.split_once(' ').ok_or_else(|| error("is not two tokens"))?;
            if b.contains(' ') {
                return Err(error("is more than two tokens"));
            }
            if ![a, b, &format!("{a}{b}")].iter().all(|part| known.contains(*part)) {
                return Err(error("names or makes a token that does not exist"));
            }
            pairs.push(json!([a, b]));
        }
        Ok(pairs)
    }

    /// The merges that come to the same as merging those neighbours first whose merge scores highest: every way to make a
    /// token of two others, by the token's score, then by the ids of the two.
    fn scored_merges(&self, scores: &[f32]) -> Result<Vec<Value>> {
        let is_piece = |id: &usize| self.types[*id] == TokenType::Normal;
        let ids: HashMap<&str, usize> =
            (0..self.tokens.len()).filter(is_piece).map(|id| (self.tokens[id].as_str(), id)).collect();
        let mut merges = Vec::new();
        for id in (0..self.tokens.len()).filter(is_piece) {
            let token = self.tokens[id].as_str();
            if token.len() > MAX_PIECE_BYTES {
                let what = format!("token {id} has {} bytes; at most {MAX_PIECE_BYTES} are supported", token.len());
                return Err(Error::key(&self.path, key::TOKENS, what));
            }
            for (at, _) in token.char_indices().skip(1) {
                let (a, b) = token.split_at(at);
                if let (Some(&a), Some(&b)) = (ids.get(a), ids.get(b)) {
                    merges.push((scores[id], a, b));
                }
            }
        }
        if merges.len() > 1 && merges.iter().all(|merge| merge.0 == merges[0].0) {
            return Err(Error::key(&self.path, key::SCORES, "are all the same, so that nothing says what to merge first"));
        }
        merges.sort_by(|x, y| y.0.total_cmp(&x.0).then_with(|| (x.1, x.2).cmp(&(y.1, y.2))));
        Ok(merges.into_iter().map(|(_, a, b)| json!([self.tokens[a], self.tokens[b]])).collect())
    }

    fn post_processor(&self) -> Result<Value> {
        let special = |wanted: bool, id: Option<u32>, key: &str| match (wanted, id) {
            (false, _) => Ok(None),
            (true, Some(id)) => Ok(Some((id, self.tokens[id as usize].as_str()))),
            (true, None) => Err(Error::key(&self.path, key, "is true, but there is no such token")),
        };
        let bos = special(self.add_bos, self.bos, key::ADD_BOS)?;
        let eos = special(self.add_eos, self.eos, key::ADD_EOS)?;
        if bos.is_none() && eos.is_none() {
            if matches!(self.algorithm, Algorithm::SentencePiece { .. }) {
                return Ok(Value::Null);
            }
            return Ok(json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}));
        }
        let around = |sequence: &str, type_id: u32| {
            let token = |(_, text): (u32, &str)| json!({"SpecialToken": {"id": text, "type_id": type_id}});
            let middle = json!({"Sequence": {"id": sequence, "type_id": type_id}});
            bos.map(token).into_iter().chain([middle]).chain(eos.map(token)).collect::<Vec<_>>()
        };
        let mut special_tokens = Map::new();
        for (id, text) in bos.into_iter().chain(eos) {
            special_tokens.insert(text.to_owned(), json!({"id": text, "ids": [id], "tokens": [text]}));
        }
        let pair = [around("A", 0), around("B", 1)].concat();
        Ok(json!({
            "type": "TemplateProcessing",
            "single": around("A", 0),
            "pair": pair,
            "special_tokens": special_tokens,
        }))
    }
}

/// The reverse of [`normalizer_of`], with bytes put together to characters.
fn decoder_of(add_space_prefix: bool) -> Value {
    let mut steps = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if add_space_prefix {
        steps.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": steps})
}
