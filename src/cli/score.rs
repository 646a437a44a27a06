//! `bitworth score`: log-probabilities of many prompts in one batch.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::files::{check_replaceable, is_parquet};
use super::session::Session;
use super::sweep::MemoryArgs;
use super::{Outcome, ScoringArgs};
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::Lane;
use bitworth_eval::request::{self, Answer};
use bitworth_measure::on_device;
use bitworth_measure::{models, requests};
use bitworth_report::export;
use bitworth_text::tokenizer::Tokenizer;

/// Score prompts in batches.
#[derive(Args)]
pub struct ScoreArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME.
    model: String,
    /// JSON lines: {"context": "...", "continuation": "..."} or {"text": "..."}.
    #[arg(long, value_name = "IN.jsonl")]
    requests: PathBuf,
    /// Parquet file to write, one row a line, in order: logprob, tokens, is_greedy, bytes.
    #[arg(long, value_name = "OUT.parquet")]
    out: PathBuf,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

pub fn run(args: &ScoreArgs, session: &Session) -> Result<Outcome> {
    let asked = request::read_jsonl(&args.requests)?;
    let checkpoint = models::open(&args.model, session.watch())?;
    let tokenizer = Tokenizer::new(&checkpoint)?;
    let inputs = checkpoint.files().iter().map(PathBuf::as_path).chain([args.requests.as_path()]);
    check_replaceable(&args.out, inputs, "parquet file", is_parquet)?;
    let lanes =
        [Lane { name: checkpoint.name().to_owned(), variant: Variant::Stored(checkpoint), arithmetic: args.scoring.arithmetic }];
    let device = args.scoring.open()?;
    // Begun before the work, so that a place that cannot be written is known at once.
    drop(bitworth_quant::atomic_file::AtomicFile::create(&args.out)?);
    let begin = std::time::Instant::now();
    let answers = on_device!(&device, backend =>
        requests::answer(backend, &lanes, &tokenizer, &asked, args.memory.limits(), session.watch()))
    .with_context(|| args.requests.display().to_string())?;
    let rows: Vec<_> = answers
        .into_iter()
        .flatten()
        .filter_map(|answer| match answer {
            Answer::Loglikelihood(score) => Some(score),
            Answer::Text(_) => None,
        })
        .collect();
    export::scores(&args.out, &rows)?;
    let tokens: usize = rows.iter().map(|row| row.tokens).sum();
    let seconds = begin.elapsed().as_secs_f64();
    let document = json!({
        "file": args.out, "rows": rows.len(), "tokens": tokens, "seconds": seconds, "device": device.info(),
        "arithmetic": args.scoring.arithmetic,
    });
    session.print(&document, || {
        format!("{} rows, {tokens} scored tokens in {seconds:.1} s -> {}", rows.len(), args.out.display())
    })?;
    Ok(Outcome::Done)
}
