//! `bitworth score`: log-probabilities of many prompts in one batch.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::files::{check_output, is_parquet};
use super::session::Session;
use super::sweep::{SweepArgs, inputs};
use super::{Outcome, ScoringArgs, job, output};
use bitworth_eval::job::{Job, ModelSpec};
use bitworth_eval::request::{Answer, Loglikelihood};
use bitworth_measure::execute::Ready;
use bitworth_report::export;
use bitworth_report::gather::{self, LeftOut};

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
    sweep: SweepArgs,
    #[command(flatten)]
    strict: job::StrictArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

impl ScoreArgs {
    fn job(&self) -> Result<Job> {
        let model = ModelSpec {
            model: self.models[0].clone(),
            candidates: self.models[1..].to_vec(),
            by_name: true,
            ..ModelSpec::default()
        };
        job::checked(Job {
            models: vec![model],
            requests: Some(self.requests.display().to_string()),
            arithmetic: Some(self.scoring.arithmetic.name().to_owned()),
            max_memory_mib: Some(self.sweep.memory.mib()),
            strict: self.strict.strict,
            ..Job::default()
        })
    }
}

pub fn run(args: &ScoreArgs, session: &Session) -> Result<Outcome> {
    let job = args.job()?;
    let device = args.scoring.open()?;
    let ready = Ready::new(&job, None, &device, session.watch())?.with_candidates()?;
    if args.sweep.dry_run {
        return job::print_plan(&ready, &device, session);
    }
    let lanes = ready.lanes()?;
    check_output(&args.out, inputs(&lanes).chain([args.requests.as_path()]), "parquet file", is_parquet)?;
    let resumed = args.sweep.is_resumed();
    let begin = std::time::Instant::now();
    let finished = ready.answer(args.sweep.resume())?;
    finished.notes.iter().for_each(|note| session.note(&note.describe(&output::flag)));
    let (answers, left_out) = (finished.answers, gather::left_out(&finished.records));
    let scores = |answers: &[Answer]| -> Vec<Loglikelihood> {
        let score = |answer: &Answer| if let Answer::Loglikelihood(score) = answer { Some(*score) } else { None };
        answers.iter().filter_map(score).collect()
    };
    let scored: Vec<(&str, Vec<Loglikelihood>)> =
        answers.iter().map(|(lane, answers)| (lane.as_str(), scores(answers))).collect();
    match &scored[..] {
        [(_, rows)] => export::scores(&args.out, rows)?,
        lanes => export::scores_of_lanes(&args.out, lanes)?,
    }
    let of_all = |count: fn(&Loglikelihood) -> usize| scored.iter().flat_map(|(_, rows)| rows).map(count).sum::<usize>();
    let (rows, tokens) = (of_all(|_| 1), of_all(|score| score.tokens));
    let seconds = begin.elapsed().as_secs_f64();
    let document = json!({
        "file": args.out, "rows": rows, "tokens": tokens, "seconds": seconds, "resumed": resumed, "device": device.info(),
        "arithmetic": args.scoring.arithmetic, "lanes": lanes.iter().map(|lane| &lane.name).collect::<Vec<_>>(),
        "left_out": left_out,
    });
    session.print(&document, || {
        let written = format!("{rows} rows, {tokens} scored tokens in {seconds:.1} s -> {}\n", args.out.display());
        left_out.iter().map(LeftOut::line).collect::<String>() + &written
    })?;
    Ok(Outcome::Done)
}
