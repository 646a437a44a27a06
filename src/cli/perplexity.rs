//! `bitworth perplexity`: as llama-perplexity scores a text.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use super::reference::KeepArgs;
use super::scored::{Asked, Scoring};
use super::session::Session;
use super::sweep::SweepArgs;
use super::{Outcome, ScoringArgs, job};
use bitworth_eval::job::{Job, ModelSpec, TextSpec};
use bitworth_measure::execute::Ready;

/// Perplexity of a text: the second half of each window is scored.
#[derive(Args)]
pub struct PerplexityArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME.
    model: String,
    #[command(flatten)]
    text: TextArgs,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

/// How a text is cut.
#[derive(Args)]
pub struct WindowArgs {
    /// Tokens in a window of the text.
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub ctx: usize,
    /// Score only the first N windows.
    #[arg(long, value_name = "N")]
    chunks: Option<NonZeroUsize>,
}

impl WindowArgs {
    /// A text, cut so.
    pub fn cut(&self, file: &str) -> TextSpec {
        TextSpec::windows(file, self.ctx, self.chunks.map(NonZeroUsize::get))
    }
}

/// Which text, and how it is cut.
#[derive(Args)]
pub struct TextArgs {
    /// The text file; `compare` takes several.
    #[arg(long = "text", required = true, value_name = "FILE")]
    pub texts: Vec<String>,
    #[command(flatten)]
    pub windows: WindowArgs,
    #[command(flatten)]
    pub sweep: SweepArgs,
    /// Print all statistics of each lane, in the manner of llama-perplexity.
    #[arg(long)]
    pub full: bool,
    /// Write what is known of every scored token and every window to tokens.parquet and sequences.parquet in this folder.
    #[arg(long, value_name = "DIR")]
    pub records: Option<PathBuf>,
}

impl TextArgs {
    /// The job that scores `model` and its candidates on the texts.
    ///
    /// # Errors
    /// As [`job::checked`].
    pub fn job(&self, model: ModelSpec, scoring: &ScoringArgs) -> Result<Job> {
        job::checked(Job {
            models: vec![model],
            texts: self.texts.iter().map(|file| self.windows.cut(file)).collect(),
            arithmetic: Some(scoring.arithmetic.name().to_owned()),
            max_memory_mib: Some(self.sweep.memory.mib()),
            strict: true,
            ..Job::default()
        })
    }
}

/// A job without a folder: its reference goes by the model's name, and its one text is scored without a pause.
pub fn in_memory(mut job: Job) -> Job {
    job.models.iter_mut().for_each(|model| model.by_name = true);
    job.texts = job.texts.into_iter().map(TextSpec::at_once).collect();
    job
}

pub fn run(args: &PerplexityArgs, session: &Session) -> Result<Outcome> {
    if args.text.texts.len() > 1 {
        bail!("--text: this takes one text; `bitworth compare` takes several");
    }
    let job = in_memory(args.text.job(ModelSpec { model: args.model.clone(), ..ModelSpec::default() }, &args.scoring)?);
    let device = args.scoring.open()?;
    let ready = Ready::new(&job, None, &device, session.watch())?;
    if args.text.sweep.dry_run {
        return job::print_plan(&ready, &device, session);
    }
    let asked = Asked { text: &args.text, keep: &args.keep, source: None, write: None, layers: false };
    let scoring = Scoring::of(ready, &device, &asked, session)?;
    let (lane, windows, seconds) = (&scoring.scored[0], scoring.windows, scoring.seconds);
    let mut document = scoring.row(0);
    let more = json!({
        "model": lane.name, "windows": windows, "ctx": args.text.windows.ctx, "text_sha256": scoring.text_sha256,
        "seconds": seconds, "device": device.info(), "arithmetic": args.scoring.arithmetic, "warnings": scoring.warnings(),
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        document[key] = value.clone();
    }
    if let Some(files) = &scoring.records {
        document["records"] = json!(files);
    }
    session.print(&document, || {
        let ppl = lane.metrics.perplexity;
        let interval = ppl.interval.map_or(String::new(), |i| format!(" (95 %: {:.4} to {:.4})", i.low, i.high));
        let mut text = format!(
            "perplexity {:.4}{interval}, {} tokens scored in {windows} windows of {}, {seconds:.1} s on {}\n",
            ppl.value,
            lane.metrics.tokens,
            args.text.windows.ctx,
            device.info().name
        );
        text.extend(scoring.warnings().iter().map(|warning| format!("{warning}\n")));
        if args.text.full {
            text += &lane.block(lane);
        }
        text
    })?;
    Ok(Outcome::Done)
}
