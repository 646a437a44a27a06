//! `bitworth tokenize`: token ids as the model's tokenizer gives them.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Outcome;
use super::session::Session;
use bitworth_measure::models;
use bitworth_text::tokenizer::{SpecialText, Tokenizer};

/// Print the token ids of a text.
#[derive(Args)]
pub struct TokenizeArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME.
    model: String,
    /// The text file.
    #[arg(long, value_name = "FILE")]
    text: String,
    /// Take the names of special tokens in the text as plain text.
    #[arg(long)]
    no_parse_special: bool,
    /// Leave the start token out.
    #[arg(long)]
    no_bos: bool,
}

pub fn run(args: &TokenizeArgs, session: &Session) -> Result<Outcome> {
    let checkpoint = models::open(&args.model, session.watch())?;
    let tokenizer = Tokenizer::new(&checkpoint)?;
    let text = models::read_text(&args.text)?;
    let special = if args.no_parse_special { SpecialText::Plain } else { SpecialText::Parse };
    let ids = if args.no_bos { tokenizer.encode(&text, special)? } else { tokenizer.encode_prompt(&text, special)? };
    session.print(&json!({ "tokens": ids }), || {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        ids.join(" ")
    })?;
    Ok(Outcome::Done)
}
