//! `bitworth score`: log-probabilities of many prompts in one batch.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::files::{check_replaceable, is_parquet};
use super::session::Session;
use super::sweep::{MemoryArgs, inputs};
use super::{Outcome, ScoringArgs};
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::Lane;
use bitworth_eval::request::{self, Answer, Loglikelihood};
use bitworth_measure::on_device;
use bitworth_measure::{models, requests};
use bitworth_report::export;
use bitworth_text::tokenizer::Tokenizer;

/// Score prompts in batches.
#[derive(Args)]
pub struct ScoreArgs {
    /// Hugging Face directories, GGUF files or hf:OWNER/NAME; @RECIPE is the first model quantized on the fly. All of them are
    /// asked in one walk.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// JSON lines: {"context": "...", "continuation": "..."} or {"text": "..."}.
    #[arg(long, value_name = "IN.jsonl")]
    requests: PathBuf,
    /// Parquet file to write, one row a line, in order: logprob, tokens, is_greedy, bytes. With several models one row a model
    /// and line, the model's name in the column lane.
    #[arg(long, value_name = "OUT.parquet")]
    out: PathBuf,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

pub fn run(args: &ScoreArgs, session: &Session) -> Result<Outcome> {
    let asked = request::read_jsonl(&args.requests)?;
    let checkpoint = models::open(&args.models[0], session.watch())?;
    let tokenizer = Tokenizer::new(&checkpoint)?;
    let arithmetic = args.scoring.arithmetic;
    let name = checkpoint.name().to_owned();
    let mut lanes = vec![Lane { name, variant: Variant::Stored(checkpoint.clone()), arithmetic }];
    for model in &args.models[1..] {
        lanes.push(Lane { arithmetic, ..models::candidate(&checkpoint, model, None, session.watch())? });
    }
    models::number_duplicates(&mut lanes);
    check_replaceable(&args.out, inputs(&lanes).chain([args.requests.as_path()]), "parquet file", is_parquet)?;
    let device = args.scoring.open()?;
    // Begun before the work, so that a place that cannot be written is known at once.
    drop(bitworth_quant::atomic_file::AtomicFile::create(&args.out)?);
    let begin = std::time::Instant::now();
    let answers = on_device!(&device, backend =>
        requests::answer(backend, &lanes, &tokenizer, &asked, args.memory.limits(), session.watch()))
    .with_context(|| args.requests.display().to_string())?;
    let scores = |answers: Vec<Answer>| -> Vec<Loglikelihood> {
        let score = |answer| if let Answer::Loglikelihood(score) = answer { Some(score) } else { None };
        answers.into_iter().filter_map(score).collect()
    };
    let scored: Vec<(&str, Vec<Loglikelihood>)> =
        lanes.iter().zip(answers).map(|(lane, answers)| (lane.name.as_str(), scores(answers))).collect();
    match &scored[..] {
        [(_, rows)] => export::scores(&args.out, rows)?,
        lanes => export::scores_of_lanes(&args.out, lanes)?,
    }
    let of_all = |count: fn(&Loglikelihood) -> usize| scored.iter().flat_map(|(_, rows)| rows).map(count).sum::<usize>();
    let (rows, tokens) = (of_all(|_| 1), of_all(|score| score.tokens));
    let seconds = begin.elapsed().as_secs_f64();
    let document = json!({
        "file": args.out, "rows": rows, "tokens": tokens, "seconds": seconds, "device": device.info(),
        "arithmetic": arithmetic, "lanes": lanes.iter().map(|lane| &lane.name).collect::<Vec<_>>(),
    });
    session.print(&document, || format!("{rows} rows, {tokens} scored tokens in {seconds:.1} s -> {}", args.out.display()))?;
    Ok(Outcome::Done)
}
