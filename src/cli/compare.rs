//! `bitworth compare`: what candidates lost against a reference, on the same tokens, from one walk through the model.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use bitworth_quant::Imatrix;
use clap::Args;
use serde_json::{Value, json};

use super::layers::Layers;
use super::perplexity::TextArgs;
use super::reference::{KeepArgs, SourceArgs};
use super::session::Session;
use super::statistics::{Scored, pairs};
use super::sweep::{Files, inputs};
use super::{Outcome, ScoringArgs, job, output};
use bitworth_engine::backend::{Arithmetic, Backend};
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::{Lane, SweepOptions};
use bitworth_eval::job::{ImatrixSpec, Job, ModelSpec, TextSpec};
use bitworth_eval::stats::Estimate;
use bitworth_eval::tokens::PairMetrics;
use bitworth_measure::device::Device;
use bitworth_measure::models;
use bitworth_measure::on_device;
use bitworth_measure::reference::lane;
use bitworth_report::{Summary, statistics};
use bitworth_text::tokenizer::Tokenizer;

/// Compare candidates with a reference: perplexity, KL divergence, agreement, from one walk through the model.
#[derive(Args)]
pub struct CompareArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME.
    reference: String,
    /// Models, or @RECIPE for the reference quantized on the fly.
    #[arg(required = true, value_name = "CANDIDATE")]
    candidates: Vec<String>,
    #[command(flatten)]
    text: TextArgs,
    /// Importance matrix for the candidates that are quantized on the fly (GGUF or .dat).
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
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
    scoring: ScoringArgs,
}

pub fn run(args: &CompareArgs, session: &Session) -> Result<Outcome> {
    if args.max_kld.is_some_and(|bound| !(bound.is_finite() && bound >= 0.0)) {
        bail!("--max-kld must be a number of nats, 0 or more");
    }
    if args.out.is_some() || args.text.texts.len() > 1 {
        return run_job(args, session);
    }
    let checkpoint = models::open(&args.reference, session.watch())?;
    let mut lanes = vec![Lane {
        name: checkpoint.name().to_owned(),
        variant: Variant::Stored(checkpoint.clone()),
        arithmetic: args.scoring.arithmetic,
    }];
    let imatrix = args.imatrix.as_deref().map(Imatrix::open).transpose()?.map(Arc::new);
    for candidate in &args.candidates {
        let lane = models::candidate(&checkpoint, candidate, imatrix.as_ref(), session.watch())?;
        lanes.push(Lane { arithmetic: args.scoring.arithmetic, ..lane });
    }
    lanes.iter().try_for_each(|lane| models::check_architecture(&checkpoint, lane.variant.checkpoint()))?;
    models::number_duplicates(&mut lanes);
    args.text.check_context(&lanes)?;
    let tokenizer = Tokenizer::new(&checkpoint)?;
    let cut = args.text.cut(&tokenizer)?;
    let device = args.scoring.open()?;
    if args.noise_floor {
        lanes.push(floor(&lanes[0], &device)?);
    }
    if args.text.sweep.dry_run {
        let (document, text) = args.text.sweep.plan(&device, &lanes, &cut)?;
        session.print(&document, || text)?;
        return Ok(Outcome::Done);
    }
    let create = |dir: &PathBuf| Files::create(dir, &checkpoint, &args.candidates, imatrix.as_ref());
    let made = args.write.as_ref().map(create).transpose()?;
    let records = args.text.open_records()?;
    let source = args.source.open(&lanes[0], &cut, &device.info().name)?;
    let kept = args.keep.kept(inputs(&lanes).chain(args.source.files()))?;
    let resumed = args.text.sweep.is_resumed();
    let begin = std::time::Instant::now();
    let sinks = made.as_ref().map_or(&[][..], Files::sinks);
    let options = SweepOptions { sinks, layers: args.layers, ..args.text.sweep.options() };
    let swept = on_device!(&device, backend =>
        lane::score(backend, &lanes, &cut, &options, &source, &kept, session.watch()))?;
    let scores = cut.tokens_of_lanes(0, &swept.lanes);
    let made = made.map(|files| files.finish(&checkpoint)).transpose()?;
    let seconds = begin.elapsed().as_secs_f64();
    let scored = Scored::all(&lanes, &scores, &cut)?;
    let layers = Layers::of(&lanes, &swept.layers);
    lanes.iter().filter_map(|lane| fall_back_note(&lane.variant)).for_each(|note| session.note(&note));
    let files = records.map(|folder| folder.write(&device.info().name, &scored, args.layers.then_some(&layers))).transpose()?;
    let (reference, others) = (&scored[0], &scored[1..]);
    let (candidates, floor) = others.split_at(args.candidates.len());
    let floor = floor.first();
    let mut rows: Vec<Value> = candidates.iter().map(Scored::row).collect();
    if let Some(floor) = floor {
        for (row, candidate) in rows.iter_mut().zip(candidates) {
            let above = candidate.against(floor).map(|pair| pair.kld_difference);
            row["kld_above_floor"] = json!(above.map(|e| e.value));
            row["kld_above_floor_low"] = json!(above.and_then(|e| e.low()));
            row["kld_above_floor_high"] = json!(above.and_then(|e| e.high()));
            row["above_noise_floor"] = json!(above.and_then(is_above));
        }
    }
    let mut document = json!({
        "reference": reference.row(), "candidates": rows, "pairs": statistics::pairs_document(&pairs(candidates)),
        "tokens": reference.metrics.tokens, "windows": cut.sequences.len(), "ctx": args.text.ctx, "text_sha256": cut.sha256,
        "seconds": seconds, "resumed": resumed, "device": device.info(), "arithmetic": args.scoring.arithmetic,
    });
    if let Some(floor) = floor {
        document["noise_floor"] = floor.row();
    }
    if let Some(from) = source.describe() {
        document["reference"]["from"] = from;
    }
    if let Some(files) = &files {
        document["records"] = json!(files);
    }
    if args.layers {
        document["layers"] = layers.document();
    }
    if let Some(made) = &made {
        document["written"] = json!(made);
    }
    session.print(&document, || {
        let mut text = table(&scored, floor);
        let rest = if resumed { ", what was scored before it was taken up again not counted" } else { "" };
        text += &format!("{} tokens scored per lane in {seconds:.1} s{rest}\n", reference.metrics.tokens);
        if args.text.full {
            text.extend(scored.iter().map(|lane| lane.block(reference)));
            text += &statistics::pairs_block(&pairs(candidates));
        }
        if args.layers {
            text += &layers.table();
        }
        text.extend(made.iter().flatten().map(|file| format!("wrote {} ({} bytes)\n", file.path.display(), file.bytes)));
        text
    })?;
    let Some(bound) = args.max_kld else { return Ok(Outcome::Done) };
    let too_far = |lane: &&Scored<'_>| lane.kld().is_none_or(|kld| kld.is_nan() || kld > bound);
    Ok(match candidates.iter().find(too_far) {
        Some(lane) => {
            let (name, kld) = (&lane.lane.name, lane.kld().unwrap_or(f64::NAN));
            Outcome::GateFailed(format!("{name}: mean KL divergence {kld:.6} is above --max-kld {bound}"))
        }
        None => Outcome::Done,
    })
}

/// The comparison as a job, which leaves a folder and takes several texts.
fn run_job(args: &CompareArgs, session: &Session) -> Result<Outcome> {
    let alone = [
        ("--layers", args.layers),
        ("--noise-floor", args.noise_floor),
        ("--write", args.write.is_some()),
        ("--records", args.text.records.is_some()),
        ("--resume", args.text.sweep.resume.is_some()),
        ("--full", args.text.full),
        ("--reference and --logits", args.source.files().next().is_some()),
        ("--save-reference and --save-logits", args.keep.is_asked()),
    ];
    if let Some((option, _)) = alone.iter().find(|(_, asked)| *asked) {
        bail!("{option} works with one --text and without --out; --out keeps records and tokens, and goes on by itself");
    }
    let chunks = args.text.chunks.map(NonZeroUsize::get);
    let imatrix = |file: &PathBuf| ImatrixSpec {
        file: Some(file.display().to_string()),
        text: None,
        ctx: args.text.ctx,
        chunks: None,
        recipes: None,
    };
    let model = ModelSpec {
        model: args.reference.clone(),
        candidates: args.candidates.clone(),
        imatrix: args.imatrix.as_ref().map(imatrix),
        ..ModelSpec::default()
    };
    let job = job::checked(Job {
        models: vec![model],
        texts: args.text.texts.iter().map(|file| TextSpec::windows(file, args.text.ctx, chunks)).collect(),
        arithmetic: Some(args.scoring.arithmetic.name().to_owned()),
        max_memory_mib: Some(args.text.sweep.memory.mib()),
        strict: true,
        ..Job::default()
    })?;
    let device = args.scoring.open()?;
    if args.text.sweep.dry_run {
        return job::print_plan(&job, args.out.as_deref(), &device, session);
    }
    let done = job::execute(&job, args.out.as_deref(), &device, session)?;
    let document = json!({
        "out": args.out, "files": done.files, "device": device.info(), "arithmetic": args.scoring.arithmetic,
        "summary": done.summary()?, "findings": done.report.findings,
    });
    session.print(&document, || done.to_text())?;
    let Some(bound) = args.max_kld else { return Ok(Outcome::Done) };
    let too_far = |row: &&Summary| row.kld.is_none_or(|kld| kld.mean.value.is_nan() || kld.mean.value > bound);
    Ok(match done.report.rows.iter().filter(|row| !row.is_reference).find(too_far) {
        Some(row) => {
            let kld = row.kld.map_or(f64::NAN, |kld| kld.mean.value);
            Outcome::GateFailed(format!("{}: mean KL divergence {kld:.6} is above --max-kld {bound}", row.lane))
        }
        None => Outcome::Done,
    })
}

/// The reference through the other arithmetic.
fn floor(reference: &Lane, device: &Device) -> Result<Lane> {
    let name = &reference.name;
    let Some(other) = Arithmetic::ALL.into_iter().find(|&other| other != reference.arithmetic) else {
        bail!("--noise-floor: there is no other arithmetic than {}", reference.arithmetic.name());
    };
    if reference.variant.types().iter().all(|(dtype, _)| dtype.is_float()) {
        bail!(
            "--noise-floor: the weights of {name} are plain numbers, which {} and {} compute alike; give a reference with \
             quantized weights, as a Q8_0 file",
            reference.arithmetic.name(),
            other.name()
        );
    }
    if let Err(e) = on_device!(device, backend => backend.check_arithmetic(other)) {
        let why = e.message().describe(&output::flag);
        bail!("--noise-floor needs the {} arithmetic beside {}: {why}", other.name(), reference.arithmetic.name());
    }
    Ok(Lane { name: format!("{name} ({})", other.name()), variant: reference.variant.clone(), arithmetic: other })
}

fn fall_back_note(variant: &Variant) -> Option<String> {
    match variant {
        Variant::Stored(_) => None,
        Variant::Planned(_, plan) => plan.fall_back_note(),
    }
}

/// Whether what a candidate loses more than the floor is more than chance; `None` where one sequence says nothing about that.
fn is_above(difference: Estimate) -> Option<bool> {
    difference.low().map(|low| low > 0.0)
}

fn table(scored: &[Scored<'_>], floor: Option<&Scored<'_>>) -> String {
    let width = scored.iter().map(|s| s.lane.name.chars().count()).max().unwrap_or(0).max(9);
    let mut text = format!(
        "{:width$} {:>14} {:>10} {:>9} {:>10} {:>21} {:>9} {:>9} {:>9} {:>8} {:>9}",
        "lane", "MiB of tensors", "ppl", "ppl +%", "mean KLD", "95 % interval", "median", "99 %", "99.9 %", "top-1 %", "rms dp %"
    );
    text += if floor.is_some() { "  noise floor\n" } else { "\n" };
    for s in scored {
        let mib = s.lane.variant.bytes() as f64 / (1 << 20) as f64;
        text += &format!("{:width$} {mib:14.1} {:10.4}", s.lane.name, s.metrics.perplexity.value);
        if let (Some(a), Some(b)) = (s.metrics.against, &s.tokens.against) {
            let interval = a.kld.mean.interval.map_or(String::new(), |i| format!("{:.6} - {:.6}", i.low, i.high));
            text += &format!(
                " {:+9.3} {:10.6} {interval:>21} {:9.6} {:9.5} {:9.5} {:8.2} {:9.3}",
                100.0 * libm::expm1(b.ln_ppl_ratio.estimate.value),
                a.kld.mean.value,
                a.kld.median,
                a.kld.p99,
                a.kld.p99_9,
                100.0 * a.top1_agreement.value,
                100.0 * a.delta_p.rms.value
            );
            text += match floor {
                None => "",
                Some(floor) if std::ptr::eq(floor, s) => "  is it",
                Some(floor) => match s.against(floor).and_then(|pair: PairMetrics| is_above(pair.kld_difference)) {
                    Some(true) => "  above",
                    Some(false) => "  not above",
                    None => "  unknown",
                },
            };
        }
        text.push('\n');
    }
    text
}
