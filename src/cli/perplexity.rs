//! `bitworth perplexity`: as llama-perplexity scores a text.

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use super::reference::KeepArgs;
use super::scored::{Asked, Scoring};
use super::session::Session;
use super::text_args::{TextArgs, in_memory};
use super::{Outcome, ScoringArgs, job};
use bitworth_eval::job::ModelSpec;
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
