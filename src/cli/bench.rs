//! `bitworth bench`: speeds, as llama-bench means them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bitworth_quant::Checkpoint;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;

use super::session::Session;
use super::{DecodingArgs, DeviceArgs, Outcome, output};
use bitworth_engine::backend::{Arithmetic, Backend};
use bitworth_engine::error::EngineError;
use bitworth_engine::model::Variant;
use bitworth_engine::sweep;
use bitworth_eval::record::Speed;
use bitworth_measure::device::Device;
use bitworth_measure::models;
use bitworth_measure::on_device;
use bitworth_measure::timing::{self, Counts, NoEnergy, Test, Workload};
use bitworth_report::bench::{self, BenchRow};
use bitworth_report::{markdown, table};
use bitworth_text::tokenizer::Tokenizer;

/// Time prefill and decoding. Lists and ranges are written as for llama-bench: 128,512 or 128-512, 128-512+128, 128-512*2.
#[derive(Args)]
pub struct BenchArgs {
    /// Hugging Face directories, GGUF files or hf:OWNER/NAME.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Tokens of the prompt, each a test of prefill (0: leave prefill out).
    #[arg(long, short = 'p', default_value = "512", value_name = "LIST")]
    prompt: Vec<Counts>,
    /// Tokens to decode, each a test of decoding (0: leave decoding out).
    #[arg(long, short = 'n', default_value = "128", value_name = "LIST")]
    generate: Vec<Counts>,
    /// Tokens that stand in the cache before, for every test.
    #[arg(long, short = 'd', default_value = "0", value_name = "LIST")]
    depth: Vec<Counts>,
    /// Sequences at once, for every test.
    #[arg(long, default_value = "1", value_name = "LIST")]
    batch: Vec<Counts>,
    /// Repetitions of every test, after a warm-up that is not counted.
    #[arg(long, short = 'r', default_value_t = 5, value_name = "N")]
    repetitions: usize,
    /// Do not do every test once before.
    #[arg(long)]
    no_warmup: bool,
    /// Pause before every timing.
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    delay: f64,
    /// By how much the speed of the machine itself may change before a timing is flagged as drifted and left out of the median.
    #[arg(long, default_value_t = 10.0, value_name = "PERCENT")]
    drift_bound: f64,
    /// Say, too, how far decoding in q8 is from f32, on text of each model's own.
    #[arg(long)]
    full: bool,
    /// One model after the other, where they do not fit into memory together; otherwise they take turns.
    #[arg(long)]
    sequential: bool,
    /// How to print the results (--json is --output json).
    #[arg(long, short = 'o', default_value = "table", value_name = "FORMAT")]
    output: OutputFormat,
    /// Add the timings to the records in this folder, for `bitworth report`.
    #[arg(long, value_name = "DIR")]
    records: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    decoding: DecodingArgs,
}

/// Forms of the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For a person.
    Table,
    /// One document.
    Json,
    /// One object a line.
    Jsonl,
    /// With a header.
    Csv,
    /// A table in Markdown.
    Md,
}

impl BenchArgs {
    fn workload(&self) -> Result<Workload> {
        let list = |lists: &[Counts]| lists.iter().flat_map(|list| list.0.iter().copied()).collect();
        if self.drift_bound.is_nan() || self.drift_bound <= 0.0 || self.drift_bound > 1000.0 {
            bail!("--drift-bound {}: must lie above 0 and be at most 1000 percent", self.drift_bound);
        }
        Ok(Workload {
            prompt: list(&self.prompt),
            generate: list(&self.generate),
            depth: list(&self.depth),
            batch: list(&self.batch),
            repetitions: self.repetitions,
            warm_up: !self.no_warmup,
            delay: Duration::try_from_secs_f64(self.delay).with_context(|| format!("--delay {}", self.delay))?,
            drift_bound: self.drift_bound / 100.0,
            arithmetic: self.decoding.arithmetic,
        })
    }
}

pub fn run(args: &BenchArgs, session: &Session) -> Result<Outcome> {
    let load = args.workload()?;
    if session.is_json() && !matches!(args.output, OutputFormat::Table | OutputFormat::Json) {
        bail!("--json and --output {:?} contradict each other; give one of them", args.output);
    }
    let checkpoints: Vec<Arc<Checkpoint>> =
        args.models.iter().map(|model| models::open(model, session.watch())).collect::<Result<_, _>>()?;
    let device = Device::open(args.device.device)?;
    let variants: Vec<Variant> = checkpoints.iter().map(|checkpoint| Variant::Stored(checkpoint.clone())).collect();
    let timed = timing::measure_all(&device, &variants, &load, args.sequential, session.watch())?;
    let rows: Vec<BenchRow> = variants
        .iter()
        .zip(&timed.speeds)
        .flat_map(|(variant, speeds)| load.tests().into_iter().filter_map(move |test| row(variant, test, speeds)))
        .collect();
    let records = match &args.records {
        Some(dir) => timing::records::append(dir, device.info(), &checkpoints[..timed.speeds.len()], &timed.speeds)?,
        None => Vec::new(),
    };
    let divergences = if args.full { divergences(&device, &variants, load.arithmetic, session)? } else { Vec::new() };
    let energy = timed.energy.as_ref();
    let order = if timed.sequential { "sequential" } else { "interleaved" };
    let document = json!({
        "results": rows, "device": device.info(), "threads": rayon::current_num_threads(), "order": order,
        "drift_bound": load.drift_bound, "drifted": rows.iter().map(|row| row.drifted).sum::<usize>(),
        "unsteady": rows.iter().any(BenchRow::is_unsteady), "anchors": timed.anchors,
        "energy_sources": energy.ok(), "energy_missing": energy.err().map(NoEnergy::to_string),
        "records": records, "interrupted": timed.interrupted, "divergences": args.full.then_some(&divergences),
    });
    match args.output {
        _ if session.is_json() => output::json(&document)?,
        OutputFormat::Json => output::json(&document)?,
        OutputFormat::Jsonl => output::text(&bench::lines(&rows)?)?,
        OutputFormat::Csv => output::text(&bench::csv(&rows)?)?,
        OutputFormat::Md => output::text(&markdown::render_table(&bench::table(&rows)))?,
        OutputFormat::Table => output::text(&table::render(&bench::table(&rows)))?,
    }
    if let Err(why) = energy {
        session.note(&why.to_string());
    }
    for one in &divergences {
        session.note(&one.sentence());
    }
    for note in &timed.notes {
        session.note(&note.describe(&output::flag));
    }
    if timed.interrupted {
        return Err(EngineError::Interrupted).context("what is shown was timed before");
    }
    Ok(Outcome::Done)
}

/// How far the decoding of a model is from that in f32.
#[derive(Serialize)]
struct FromF32 {
    model: String,
    arithmetic: Arithmetic,
    tokens: usize,
    kld: f64,
    same_top: f64,
}

impl FromF32 {
    fn sentence(&self) -> String {
        let Self { model, arithmetic, tokens, kld, same_top } = self;
        let (name, percent) = (arithmetic.name(), 100.0 * same_top);
        format!(
            "{model}: decoding in {name} is {kld:.5} nats a token from f32 (KL divergence over {tokens} tokens of the model's \
             own), with the same likeliest token in {percent:.1} %"
        )
    }
}

/// Tokens that arithmetics are compared on.
const COMPARED: usize = 128;

/// The same of all models; none where they are decoded in f32.
fn divergences(device: &Device, variants: &[Variant], asked: Option<Arithmetic>, session: &Session) -> Result<Vec<FromF32>> {
    let arithmetic = on_device!(device, backend => asked.unwrap_or_else(|| backend.decoding_arithmetic()));
    if arithmetic == Arithmetic::F32 {
        session.note("--full: decoding is in f32, so there is nothing to compare it with");
        return Ok(Vec::new());
    }
    let one = |variant: &Variant| {
        let checkpoint = variant.checkpoint();
        // A model of random weights has no tokenizer.
        let start = Tokenizer::new(checkpoint).ok().and_then(|tokenizer| tokenizer.prefix()).unwrap_or(0);
        let tokens = (COMPARED + 1).min(sweep::longest_sequence(variant.hparams()));
        let found = on_device!(device, backend => {
            timing::divergence(backend, variant, arithmetic, (start, tokens), session.watch())
        })?;
        let (model, tokens) = (checkpoint.name().to_owned(), found.tokens);
        Ok(FromF32 { model, arithmetic, tokens, kld: found.kld, same_top: found.same_top })
    };
    variants.iter().map(one).collect()
}

/// What the timings of a test say.
fn row(variant: &Variant, test: Test, speeds: &[Speed]) -> Option<BenchRow> {
    let own: Vec<&Speed> = speeds.iter().filter(|speed| test.is_of(speed)).collect();
    BenchRow::of(variant.checkpoint().name(), variant.bytes(), &test.name(), &own)
}
