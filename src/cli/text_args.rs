//! Which text is scored, and how it is cut: arguments that `perplexity`, `compare` and `allocate` share, and the job that they
//! make.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::sweep::SweepArgs;
use super::{ScoringArgs, job};
use bitworth_eval::job::{Job, ModelSpec, TextSpec};

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
