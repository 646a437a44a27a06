//! SentencePiece vocabularies of a Hugging Face directory: tokens, scores and types as llama.cpp's converter (b11434,
//! `_create_vocab_sentencepiece`, `Phi3MiniModel.set_vocab`, `LlamaHfVocab`) makes them of `tokenizer.model` and of what lies
//! beside it, or where that is missing of a `tokenizer.json`.
//!
//! Absent: reading `tokenizer.model` itself (see `sentencepiece`).

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value as Json};

use super::classes::Source;
use super::files::{Files, Token, looks_special};
use super::{TokenType, bpe, named, sentencepiece};
use crate::json::read_json;
use crate::{Error, Result};

/// Score of tokens that exist only to fill the vocabulary up.
const PADDING_SCORE: f32 = -10000.0;
/// Score of added tokens.
const ADDED_SCORE: f32 = -1000.0;

/// The tokens by id of a `tokenizer.model`, replaced or joined by added tokens; `None` where there is no such file. Ids from
/// `vocab_size` on are left out.
pub(super) fn from_model(files: &Files, vocab_size: u32, source: Source) -> Result<Option<Vec<Token>>> {
    let Some(pieces) = sentencepiece::read(&files.path("tokenizer.model"))? else { return Ok(None) };
    let mut tokens: Vec<Token> = pieces
        .into_iter()
        .map(|piece| Token { text: piece.text, score: piece.score, kind: piece.kind })
        .take(vocab_size as usize)
        .collect();
    tokens.extend((tokens.len()..vocab_size as usize).map(padding));

    let path = files.path("added_tokens.json");
    for (text, id) in read_json(&path)?.unwrap_or_default() {
        let error = || Error::file(&path, format!("the id of {text:?} is no whole number"));
        put(&mut tokens, id.as_u64().ok_or_else(error)?, &text, TokenType::UserDefined);
    }
    let path = files.path("tokenizer_config.json");
    for (id, token) in files.setting("added_tokens_decoder").and_then(Json::as_object).into_iter().flatten() {
        let error = |what: &str| Error::file(&path, format!("added_tokens_decoder: {id}: {what}"));
        let text = content(token).ok_or_else(|| error("has no content"))?;
        let at = id.parse().map_err(|_| error("is no id"))?;
        put_added(&mut tokens, at, text, token, source);
    }
    if source == Source::SentencePiecePhi3 {
        for token in files.added_tokens() {
            let error = || Error::file(files.path("tokenizer.json"), "an added token has no content or no id");
            let id = token.get("id").and_then(Json::as_u64).ok_or_else(error)?;
            put_added(&mut tokens, id, content(token).ok_or_else(error)?, token, source);
        }
    }
    Ok(Some(tokens))
}

/// What fills an id that no token has.
fn padding(id: usize) -> Token {
    Token { text: format!("[PAD{id}]"), score: PADDING_SCORE, kind: TokenType::Unused }
}

fn content(token: &Json) -> Option<&str> {
    token.get("content")?.as_str()
}

fn put(tokens: &mut [Token], id: u64, text: &str, kind: TokenType) {
    if let Some(slot) = usize::try_from(id).ok().and_then(|id| tokens.get_mut(id)) {
        *slot = Token { text: text.to_owned(), score: ADDED_SCORE, kind };
    }
}

fn put_added(tokens: &mut [Token], id: u64, text: &str, token: &Json, source: Source) {
    let gemma = source == Source::SentencePiece;
    if token.get("special") == Some(&Json::Bool(true)) || gemma && looks_special(text) {
        put(tokens, id, text, TokenType::Control);
    } else if gemma {
        put(tokens, id, &text.replace('▁', " "), TokenType::UserDefined);
    } else {
        put(tokens, id, text, TokenType::UserDefined);
    }
}

/// The tokens by id of a `tokenizer.json` with BPE and byte fallback; `None` where it is missing or of another kind. It has
/// no scores, and what the vocabulary lacks is not filled up.
pub(super) fn from_json(files: &Files) -> Result<Option<Vec<Token>>> {
    let Some(texts) = texts_of_json(files)? else { return Ok(None) };
    let special: HashSet<&str> = files.config.as_ref().map(named::named_tokens).unwrap_or_default().into_iter().collect();
    let in_vocab = texts.len() as u64;
    let mut tokens: Vec<Token> = texts
        .into_iter()
        .map(|text| {
            let kind = match &text {
                _ if is_byte(&text) => TokenType::Byte,
                _ if special.contains(text.as_str()) => TokenType::Control,
                _ => TokenType::Normal,
            };
            Token { text, score: ADDED_SCORE, kind }
        })
        .collect();
    for (id, text, _) in added_tokens(files)?.into_iter().filter(|(id, ..)| *id >= in_vocab) {
        let kind = if special.contains(text) { TokenType::Control } else { TokenType::UserDefined };
        append(files, &mut tokens, id, Token { text: text.to_owned(), score: ADDED_SCORE, kind })?;
    }
    Ok(Some(tokens))
}

/// The same where the class wants a `tokenizer.model`, which transformers 5 does not save: as many tokens as the model has
/// rows, added ones by what the file says of them, scores that go down with the rank of the first merge that makes a token. By
/// these llama.cpp merges as the list of merges says.
pub(super) fn from_json_scored(files: &Files, vocab_size: u32) -> Result<Option<Vec<Token>>> {
    let Some(texts) = texts_of_json(files)? else { return Ok(None) };
    let merges = bpe::merges(files)?;
    let mut ranks: HashMap<String, usize> = HashMap::with_capacity(merges.len());
    for (rank, merge) in merges.iter().enumerate() {
        ranks.entry(merge.replacen(' ', "", 1)).or_insert(rank);
    }
    let score = |text: &str| -(ranks.get(text).copied().unwrap_or(merges.len()) as f32);
    let in_vocab = texts.len() as u64;
    let mut tokens: Vec<Token> = texts
        .into_iter()
        .map(|text| match is_byte(&text) {
            true => Token { score: 0.0, kind: TokenType::Byte, text },
            false => Token { score: score(&text), kind: TokenType::Normal, text },
        })
        .collect();
    for (id, text, special) in added_tokens(files)? {
        let kind = if special { TokenType::Control } else { TokenType::UserDefined };
        match id < in_vocab {
            true => put(&mut tokens, id, text, kind),
            false => append(files, &mut tokens, id, Token { text: text.to_owned(), score: ADDED_SCORE, kind })?,
        }
    }
    tokens.truncate(vocab_size as usize);
    tokens.extend((tokens.len()..vocab_size as usize).map(padding));
    Ok(Some(tokens))
}

/// The texts by id of the vocabulary, without what is added to it.
fn texts_of_json(files: &Files) -> Result<Option<Vec<String>>> {
    let Some(vocab) = files.tokenizer.as_ref().and_then(byte_fallback_vocab) else { return Ok(None) };
    let mut texts: Vec<Option<String>> = vec![None; vocab.len()];
    for (text, id) in vocab {
        let slot = id.as_u64().and_then(|id| texts.get_mut(usize::try_from(id).ok()?));
        let Some(slot) = slot.filter(|slot| slot.is_none()) else {
            let what = format!("the id {id} of {text:?} is not one of 0 to {}, each used once", vocab.len() - 1);
            return Err(Error::file(files.path("tokenizer.json"), what));
        };
        *slot = Some(text.clone());
    }
    // As many ids as slots, each used once: none is left empty.
    Ok(Some(texts.into_iter().flatten().collect()))
}

/// Id, text, and whether it is special, of every added token of a `tokenizer.json`.
fn added_tokens(files: &Files) -> Result<Vec<(u64, &str, bool)>> {
    let error = |what: String| Error::file(files.path("tokenizer.json"), what);
    let mut found = Vec::new();
    for token in files.added_tokens() {
        let text = content(token).ok_or_else(|| error("an added token has no content".to_owned()))?;
        let id = token.get("id").and_then(Json::as_u64).ok_or_else(|| error(format!("{text:?} has no id")))?;
        found.push((id, text, token.get("special") == Some(&Json::Bool(true))));
    }
    Ok(found)
}

/// Adds an added token, whose id is the next one.
fn append(files: &Files, tokens: &mut Vec<Token>, id: u64, token: Token) -> Result<()> {
    if id != tokens.len() as u64 {
        let what = format!("the added token {:?} has the id {id}, but the next one is {}", token.text, tokens.len());
        return Err(Error::file(files.path("tokenizer.json"), what));
    }
    tokens.push(token);
    Ok(())
}

/// The vocabulary of BPE with byte fallback whose decoder is a sequence of steps, as SentencePiece's is.
fn byte_fallback_vocab(tokenizer: &Map<String, Json>) -> Option<&Map<String, Json>> {
    let model = tokenizer.get("model")?;
    let sequence = tokenizer.get("decoder")?.get("type")? == "Sequence";
    let fits = model.get("type")? == "BPE" && model.get("byte_fallback")? == &Json::Bool(true) && sequence;
    model.get("vocab")?.as_object().filter(|_| fits)
}

/// `<0x0A>` and its like.
fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}
