//! A vocabulary of the right size for a model without one: a token for each byte, so that any text can be tokenized, an
//! end token, and names for the rest, which no text gives. What is absent: merges.

use crate::Error;
use crate::Result;
use crate::convert::config::Config;
use crate::gguf::{Array, Metadata, Value};
use crate::vocab::{BYTE_LEVEL_BPE, DEFAULT_PRE, TokenType, bpe, key};

/// Begin and end of text.
const END: &str = "<|endoftext|>";

/// Adds the tokenizer's keys.
pub(super) fn add_keys(config: &Config, metadata: &mut Metadata) -> Result<()> {
    let mut tokens: Vec<String> = bpe::byte_characters().map(String::from).collect();
    let mut types = vec![TokenType::Normal as i32; config.vocab_size as usize];
    let end = tokens.len();
    let Some(kind) = types.get_mut(end) else {
        let what = format!("is {}, but a token for every byte and one for the end take {}", types.len(), end + 1);
        return Err(Error::key(&config.path, "vocab_size", what));
    };
    *kind = TokenType::Control as i32;
    tokens.push(END.to_owned());
    tokens.extend((end + 1..types.len()).map(|id| format!("[{id}]")));
    for (key, value) in [
        (key::MODEL, Value::String(BYTE_LEVEL_BPE.to_owned())),
        (key::PRE, Value::String(DEFAULT_PRE.to_owned())),
        (key::TOKENS, Value::Array(Array::String(tokens))),
        (key::TOKEN_TYPE, Value::Array(Array::I32(types))),
        (key::MERGES, Value::Array(Array::String(Vec::new()))),
        (key::BOS, Value::U32(end as u32)),
        (key::EOS, Value::U32(end as u32)),
        (key::ADD_BOS, Value::Bool(false)),
    ] {
        metadata.set(key, value);
    }
    Ok(())
}
