//! `bitworth perplexity`: as llama-perplexity scores a text.

use std::num::NonZeroUsize;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::session::Session;
use super::{Outcome, ScoringArgs};
use crate::engine::model::Variant;
use crate::engine::sweep::{Lane, SweepLimits};
use crate::eval::metrics::TextMetrics;
use crate::on_device;
use crate::runner::models;
use crate::runner::text::{self, TextWindows};
use crate::tokenizer::Tokenizer;

/// Perplexity of a text: the second half of each window is scored.
#[derive(Args)]
pub struct PerplexityArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME.
    model: String,
    #[command(flatten)]
    text: TextArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

/// Which text, and how it is cut.
#[derive(Args)]
pub struct TextArgs {
    /// The text file.
    #[arg(long, value_name = "FILE")]
    text: String,
    /// Tokens in a window.
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub ctx: usize,
    /// Score only the first N windows.
    #[arg(long, value_name = "N")]
    chunks: Option<NonZeroUsize>,
    /// MiB of activations to hold at once; what does not fit is scored in another pass over the model.
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    activations: usize,
}

impl TextArgs {
    /// The text, cut into windows.
    pub fn cut(&self, tokenizer: &Tokenizer) -> Result<TextWindows> {
        let text = models::read_text(&self.text)?;
        TextWindows::windows(tokenizer, &text, self.ctx, self.chunks.map(NonZeroUsize::get)).with_context(|| self.text.clone())
    }

    /// How the sweep is cut.
    pub fn sweep_limits(&self) -> SweepLimits {
        SweepLimits { activation_bytes: self.activations.max(1).saturating_mul(1 << 20), ..SweepLimits::default() }
    }
}

pub fn run(args: &PerplexityArgs, session: &Session) -> Result<Outcome> {
    let checkpoint = models::open(&args.model, session.watch())?;
    let tokenizer = Tokenizer::new(&checkpoint)?;
    let cut = args.text.cut(&tokenizer)?;
    let lanes =
        [Lane { name: checkpoint.name().to_owned(), variant: Variant::Stored(checkpoint), arithmetic: args.scoring.arithmetic }];
    let device = args.scoring.open()?;
    let begin = std::time::Instant::now();
    let all = 0..cut.sequences.len();
    let scores = on_device!(&device, backend =>
        text::score(backend, &lanes, &cut, all, args.text.sweep_limits(), session.watch()))?;
    let seconds = begin.elapsed().as_secs_f64();
    let metrics = TextMetrics::of(&scores[0].iter().collect::<Vec<_>>()).context("nothing was scored")?;
    let ppl = metrics.perplexity;
    let (low, high) = (ppl.interval.map(|i| i.low), ppl.interval.map(|i| i.high));
    let document = json!({
        "model": lanes[0].name, "ppl": ppl.value, "ppl_low": low, "ppl_high": high,
        "nll": libm::log(ppl.value), "tokens": metrics.tokens, "windows": cut.sequences.len(), "ctx": args.text.ctx,
        "text_sha256": cut.sha256, "seconds": seconds, "device": device.info(),
        "arithmetic": args.scoring.arithmetic,
    });
    session.print(&document, || {
        let interval = ppl.interval.map_or(String::new(), |i| format!(" (95 %: {:.4} to {:.4})", i.low, i.high));
        format!(
            "perplexity {:.4}{interval}, {} tokens scored in {} windows of {}, {seconds:.1} s on {}",
            ppl.value,
            metrics.tokens,
            cut.sequences.len(),
            args.text.ctx,
            device.info().name
        )
    })?;
    Ok(Outcome::Done)
}
