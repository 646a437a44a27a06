//! `bitworth perplexity`: as llama-perplexity scores a text.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::reference::KeepArgs;
use super::session::Session;
use super::statistics::{RecordsFolder, Scored};
use super::sweep::SweepArgs;
use super::sweep::inputs;
use super::{Outcome, ScoringArgs};
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::{self, Lane};
use bitworth_measure::models;
use bitworth_measure::on_device;
use bitworth_measure::reference::lane::{self, ReferenceSource};
use bitworth_measure::text::TextWindows;
use bitworth_text::tokenizer::Tokenizer;

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

/// Which text, and how it is cut.
#[derive(Args)]
pub struct TextArgs {
    /// The text file; `compare` takes several.
    #[arg(long = "text", required = true, value_name = "FILE")]
    pub texts: Vec<String>,
    /// Tokens in a window.
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub ctx: usize,
    /// Score only the first N windows.
    #[arg(long, value_name = "N")]
    pub chunks: Option<NonZeroUsize>,
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
    /// The text, cut into windows.
    pub fn cut(&self, tokenizer: &Tokenizer) -> Result<TextWindows> {
        let [file] = &self.texts[..] else { bail!("--text: this takes one text; `bitworth compare` takes several") };
        let text = models::read_text(file)?;
        let windows = TextWindows::windows(tokenizer, &text, self.ctx, self.chunks.map(NonZeroUsize::get));
        let name = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(TextWindows { name, ..windows.with_context(|| file.clone())? })
    }

    /// Windows must fit the context that every model was trained for.
    ///
    /// # Errors
    /// One of them does not have it.
    pub fn check_context(&self, lanes: &[Lane]) -> Result<()> {
        for lane in lanes {
            let context = sweep::longest_sequence(lane.variant.hparams());
            if self.ctx > context {
                let path = lane.variant.checkpoint().path().display();
                bail!(
                    "{path}: its context has {context} tokens, less than the windows of --ctx {}; give --ctx {context}",
                    self.ctx
                );
            }
        }
        Ok(())
    }

    /// The folder of `--records`.
    ///
    /// # Errors
    /// As [`RecordsFolder::open`].
    pub fn open_records(&self) -> Result<Option<RecordsFolder>> {
        self.records.as_deref().map(RecordsFolder::open).transpose()
    }
}

pub fn run(args: &PerplexityArgs, session: &Session) -> Result<Outcome> {
    let checkpoint = models::open(&args.model, session.watch())?;
    let tokenizer = Tokenizer::new(&checkpoint)?;
    let cut = args.text.cut(&tokenizer)?;
    let lanes =
        [Lane { name: checkpoint.name().to_owned(), variant: Variant::Stored(checkpoint), arithmetic: args.scoring.arithmetic }];
    args.text.check_context(&lanes)?;
    let device = args.scoring.open()?;
    if args.text.sweep.dry_run {
        let (document, text) = args.text.sweep.plan(&device, &lanes, &cut)?;
        session.print(&document, || text)?;
        return Ok(Outcome::Done);
    }
    let records = args.text.open_records()?;
    let kept = args.keep.kept(inputs(&lanes))?;
    let begin = std::time::Instant::now();
    let swept = on_device!(&device, backend =>
        lane::score(backend, &lanes, &cut, &args.text.sweep.options(), &ReferenceSource::Walked, &kept, session.watch()))?;
    let scores = cut.tokens_of_lanes(0, &swept.lanes);
    let seconds = begin.elapsed().as_secs_f64();
    let scored = Scored::all(&lanes, &scores, &cut)?;
    let files = records.map(|folder| folder.write(&device.info().name, &scored, None)).transpose()?;
    let (lane, ppl) = (&scored[0], scored[0].metrics.perplexity);
    let mut document = lane.row();
    let more = json!({
        "model": lanes[0].name, "windows": cut.sequences.len(), "ctx": args.text.ctx, "text_sha256": cut.sha256,
        "seconds": seconds, "device": device.info(), "arithmetic": args.scoring.arithmetic,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        document[key] = value.clone();
    }
    if let Some(files) = &files {
        document["records"] = json!(files);
    }
    session.print(&document, || {
        let interval = ppl.interval.map_or(String::new(), |i| format!(" (95 %: {:.4} to {:.4})", i.low, i.high));
        let mut text = format!(
            "perplexity {:.4}{interval}, {} tokens scored in {} windows of {}, {seconds:.1} s on {}\n",
            ppl.value,
            lane.metrics.tokens,
            cut.sequences.len(),
            args.text.ctx,
            device.info().name
        );
        if args.text.full {
            text += &lane.block(lane);
        }
        text
    })?;
    Ok(Outcome::Done)
}
