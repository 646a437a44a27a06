//! A `tokenizer.json` for the `tokenizers` crate, rebuilt from a GGUF file's vocabulary.
//!
//! What GGUF does not hold is gone: normalizers, and whether an added token swallows the spaces beside it. Absent: reading
//! a `tokenizer.json` (see `hf`).

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{TokenType, Vocab, key, pre};
use crate::{Error, Result};

impl Vocab {
    /// The whole `tokenizer.json`. Control and user-defined tokens become added tokens, found in a text before it is cut;
    /// the post-processor adds the begin and end tokens as `add_bos` and `add_eos` say.
    ///
    /// # Errors
    /// [`Error::Key`] where two tokens are the same text, or a merge is not two tokens.
    pub fn to_tokenizer_json(&self) -> Result<Value> {
        let pre = pre::find(&self.pre).ok_or_else(|| Error::unknown("pre-tokenizer", &self.pre, pre::names()))?;
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_tokens(),
            "normalizer": null,
            "pre_tokenizer": pre.to_json(),
            "post_processor": self.post_processor()?,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": pre.ignore_merges,
                "vocab": self.model_vocab()?,
                "merges": self.merge_pairs()?,
            },
        }))
    }

    fn added_tokens(&self) -> Vec<Value> {
        let added = self.tokens.iter().zip(&self.types).enumerate().filter_map(|(id, (token, kind))| {
            let special = match kind {
                TokenType::Control => true,
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

    fn merge_pairs(&self) -> Result<Vec<Value>> {
        let known: HashMap<&str, ()> = self.tokens.iter().map(|t| (t.as_str(), ())).collect();
        let mut pairs = Vec::with_capacity(self.merges.len());
        for (rank, merge) in self.merges.iter().enumerate() {
            let error = |what: &str| Error::key(&self.path, key::MERGES, format!("merge {rank}, {merge:?}, {what}"));
            // A space inside a token is written as another character, so the only space separates the two.
            let (a, b) = merge.split_once(' ').ok_or_else(|| error("is not two tokens"))?;
            if b.contains(' ') {
                return Err(error("is more than two tokens"));
            }
            if ![a, b, &format!("{a}{b}")].iter().all(|part| known.contains_key(*part)) {
                return Err(error("names or makes a token that does not exist"));
            }
            pairs.push(json!([a, b]));
        }
        Ok(pairs)
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
