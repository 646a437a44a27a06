//! `bitworth compare`: what candidates lost against a reference, on the same tokens, from one walk through the model.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::fit::FitTextArgs;
use super::reference::{KeepArgs, SourceArgs};
use super::scored::{Asked, Scoring};
use super::session::Session;
use super::text_args::{TextArgs, in_memory};
use super::{Outcome, ScoringArgs, job};
use bitworth_eval::job::{ImatrixSpec, Job, ModelSpec};
use bitworth_measure::device::Device;
use bitworth_measure::execute::Ready;
use bitworth_report::gather::LeftOut;
use bitworth_report::lanes::{self, ScoredLane};
use bitworth_report::{Summary, statistics, table};

/// Compare candidates with a reference: perplexity, KL divergence, agreement, from one walk through the model.
#[derive(Args)]
pub struct CompareArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME.
    reference: String,
    /// Models, or @RECIPE for the reference quantized on the fly, or @RECIPE+fit for that with weights fitted to the texts of
    /// --fit.
    #[arg(required = true, value_name = "CANDIDATE")]
    candidates: Vec<String>,
    #[command(flatten)]
    text: TextArgs,
    /// Importance matrix for the candidates that are quantized on the fly (GGUF or .dat).
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    #[command(flatten)]
    fit: FitTextArgs,
    /// Also write the GGUF file of every candidate that is quantized on the fly into this folder: MODEL-Q4_K_M.gguf.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Leave records and the report (page, Markdown, CSV, parquet) in this folder, and go on with what an interrupted comparison
    /// left there. Several --text are compared each for itself and together.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also say how far the activations of each candidate are from the reference's behind every block.
    #[arg(long)]
    layers: bool,
    /// Fail (exit code 1) when a candidate's mean KL divergence is above this many nats.
    #[arg(long, value_name = "NATS")]
    max_kld: Option<f64>,
    /// Score the reference through the other arithmetic, too, and say which candidates lose more than that differs. Needs
    /// a reference whose weights the other arithmetic computes otherwise (q8: quantized ones).
    #[arg(long)]
    noise_floor: bool,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    strict: job::StrictArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

impl CompareArgs {
    fn job(&self) -> Result<Job> {
        let model = ModelSpec {
            model: self.reference.clone(),
            candidates: self.candidates.clone(),
            imatrix: self.imatrix.as_ref().map(|file| ImatrixSpec::of_file(file, self.text.windows.ctx)),
            fit: self.fit.spec(),
            ..ModelSpec::default()
        };
        let strict = self.strict.strict;
        Ok(Job { noise_floor: self.noise_floor, strict, ..self.text.job(model, &self.scoring)? })
    }

    /// The first candidate that is too far away, or that nothing is known of, as of those that were left out.
    fn gate<'n>(&self, mut candidates: impl Iterator<Item = (&'n str, Option<f64>)>, left_out: &[LeftOut]) -> Outcome {
        let Some(bound) = self.max_kld else { return Outcome::Done };
        match candidates.find(|(_, kld)| kld.is_none_or(|kld| kld.is_nan() || kld > bound)) {
            Some((name, kld)) => {
                let kld = kld.unwrap_or(f64::NAN);
                Outcome::GateFailed(format!("{name}: mean KL divergence {kld:.6} is above --max-kld {bound}"))
            }
            None => left_out.first().map_or(Outcome::Done, |LeftOut { candidate, .. }| {
                Outcome::GateFailed(format!("{candidate}: was left out, so it was not shown to keep --max-kld {bound}"))
            }),
        }
    }
}

pub fn run(args: &CompareArgs, session: &Session) -> Result<Outcome> {
    if args.max_kld.is_some_and(|bound| !(bound.is_finite() && bound >= 0.0)) {
        bail!("--max-kld must be a number of nats, 0 or more");
    }
    let job = args.job()?;
    if args.write.is_some() && args.fit.spec().is_some() {
        bail!("--write does not write fitted files; `bitworth quantize --fit` makes them");
    }
    match args.out.is_some() || args.text.texts.len() > 1 {
        true => reported(args, &job, session),
        false => scored(args, &in_memory(job), session),
    }
}

/// One text in memory, with everything that its tokens say.
fn scored(args: &CompareArgs, job: &Job, session: &Session) -> Result<Outcome> {
    let device = args.scoring.open()?;
    let ready = Ready::new(job, None, &device, session.watch())?.with_candidates()?;
    if args.text.sweep.dry_run {
        return job::print_plan(&ready, &device, session);
    }
    let (source, write) = (Some(&args.source), args.write.as_deref());
    let asked = Asked { text: &args.text, keep: &args.keep, source, write, layers: args.layers };
    let scoring = Scoring::of(ready, &device, &asked, session)?;
    let (reference, others) = (&scoring.scored[0], &scoring.scored[1..]);
    let candidates = &others[..others.len() - usize::from(args.noise_floor)];
    session.print(&document(args, &scoring, &device), || {
        let bytes: Vec<u64> = scoring.lanes.iter().map(|lane| lane.variant.bytes()).collect();
        let mut text = table::render(&lanes::table(&scoring.scored, &bytes, args.noise_floor));
        let rest = if scoring.resumed { ", what was scored before it was taken up again not counted" } else { "" };
        text += &format!("{} tokens scored per lane in {:.1} s{rest}\n", reference.metrics.tokens, scoring.seconds);
        text.extend(scoring.warnings().iter().map(|warning| format!("{warning}\n")));
        text.extend(scoring.left_out.iter().map(LeftOut::line));
        if args.text.full {
            text.extend(scoring.scored.iter().map(|lane| lane.block(reference)));
            text += &statistics::pairs_block(&lanes::pairs(candidates));
        }
        text.extend(scoring.layers.as_ref().map(|layers| format!("\n{}", table::render(&layers.table()))));
        let written = scoring.written.iter().flatten();
        text.extend(written.map(|file| format!("wrote {} ({} bytes)\n", file.path.display(), file.bytes)));
        text
    })?;
    Ok(args.gate(candidates.iter().map(|lane| (lane.name.as_str(), lane.kld())), &scoring.left_out))
}

fn document(args: &CompareArgs, scoring: &Scoring, device: &Device) -> Value {
    let others = &scoring.scored[1..];
    let (candidates, floor) = others.split_at(others.len() - usize::from(args.noise_floor));
    let row = |(i, candidate): (usize, &ScoredLane)| match floor.first() {
        Some(floor) => candidate.row_above(floor, scoring.lanes[i + 1].variant.bytes()),
        None => scoring.row(i + 1),
    };
    let rows: Vec<Value> = candidates.iter().enumerate().map(row).collect();
    let mut document = json!({
        "reference": scoring.row(0), "candidates": rows, "pairs": statistics::pairs_document(&lanes::pairs(candidates)),
        "tokens": scoring.scored[0].metrics.tokens, "windows": scoring.windows, "ctx": args.text.windows.ctx,
        "text_sha256": scoring.text_sha256, "seconds": scoring.seconds, "resumed": scoring.resumed, "device": device.info(),
        "arithmetic": args.scoring.arithmetic, "left_out": scoring.left_out, "warnings": scoring.warnings(),
    });
    if !floor.is_empty() {
        document["noise_floor"] = scoring.row(candidates.len() + 1);
    }
    if let Some(from) = &scoring.from {
        document["reference"]["from"] = from.clone();
    }
    if let Some(files) = &scoring.records {
        document["records"] = json!(files);
    }
    if let Some(layers) = &scoring.layers {
        document["layers"] = layers.document();
    }
    if let Some(written) = &scoring.written {
        document["written"] = json!(written);
    }
    document
}

/// The comparison as a folder with a report, or of several texts.
fn reported(args: &CompareArgs, job: &Job, session: &Session) -> Result<Outcome> {
    let of_one_walk = "what is kept belongs to one walk over one text";
    let alone = [
        ("--layers", args.layers, "no record holds errors of activations"),
        ("--noise-floor", args.noise_floor, "its lane has another arithmetic than the reference that a report compares with"),
        ("--write", args.write.is_some(), "`bitworth run` leaves the files of its recipes beside the report"),
        ("--records", args.text.records.is_some(), "--out keeps records and tokens"),
        ("--resume", args.text.sweep.resume.is_some(), "--out goes on by itself"),
        ("--full", args.text.full, "summary.csv in --out has these figures"),
        ("--reference and --logits", args.source.files().next().is_some(), of_one_walk),
        ("--save-reference and --save-logits", args.keep.is_asked(), of_one_walk),
    ];
    if let Some((option, _, why)) = alone.iter().find(|(_, asked, _)| *asked) {
        bail!("{option}: only with one --text and without --out, as {why}");
    }
    let device = args.scoring.open()?;
    let ready = Ready::new(job, args.out.as_deref(), &device, session.watch())?.with_candidates()?;
    if args.text.sweep.dry_run {
        return job::print_plan(&ready, &device, session);
    }
    let done = job::execute(job, ready, args.out.as_deref(), false, session)?;
    let document = json!({
        "out": args.out, "files": done.files, "device": device.info(), "arithmetic": args.scoring.arithmetic,
        "summary": done.summary()?, "findings": done.report.findings,
        "left_out": done.report.left_out, "warnings": done.report.warnings(),
    });
    session.print(&document, || done.to_text())?;
    let kld = |row: &Summary| row.kld.map(|kld| kld.mean.value);
    let candidates = done.report.rows.iter().filter(|row| !row.is_reference);
    Ok(args.gate(candidates.map(|row| (row.lane.as_str(), kld(row))), &done.report.left_out))
}
