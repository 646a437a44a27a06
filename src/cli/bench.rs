//! `bitworth bench`: speeds, as llama-bench means them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::session::Session;
use super::{DecodingArgs, DeviceArgs, Outcome, job, output};
use bitworth_engine::error::EngineError;
use bitworth_eval::job::{Engine, Job, ModelSpec, SpeedSpec};
use bitworth_eval::record::OWN_ENGINE;
use bitworth_measure::device::Device;
use bitworth_measure::execute::Ready;
use bitworth_measure::timing::{self, Counts, NoEnergy};
use bitworth_report::bench::{self, BenchRow};
use bitworth_report::{markdown, table};

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
    /// What is timed: bitworth, llama-bench (llama.cpp's own program, on the same GGUF files, in turn) or both.
    #[arg(long, value_delimiter = ',', default_value = OWN_ENGINE, value_name = "PROGRAMS", value_parser = engines())]
    engine: Vec<String>,
    /// llama.cpp's llama-bench [default: the one on the PATH].
    #[arg(long, value_name = "FILE")]
    llama_bench: Option<PathBuf>,
    /// Say what would be timed and time nothing.
    #[arg(long)]
    dry_run: bool,
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

fn engines() -> PossibleValuesParser {
    PossibleValuesParser::new(Engine::ALL.map(|(name, _)| name))
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
    fn job(&self) -> Result<Job> {
        let list = |lists: &[Counts]| lists.iter().flat_map(|list| list.0.iter().copied()).collect();
        if self.drift_bound.is_nan() || self.drift_bound <= 0.0 || self.drift_bound > 1000.0 {
            bail!("--drift-bound {}: must lie above 0 and be at most 1000 percent", self.drift_bound);
        }
        if !(self.delay.is_finite() && self.delay >= 0.0) {
            bail!("--delay {}: must be 0 or more seconds", self.delay);
        }
        let speed = SpeedSpec {
            prompt: list(&self.prompt),
            generate: list(&self.generate),
            depth: list(&self.depth),
            batch: list(&self.batch),
            repetitions: self.repetitions,
            warm_up: !self.no_warmup,
            delay: self.delay,
            drift_bound: self.drift_bound / 100.0,
            sequential: self.sequential,
            arithmetic: self.decoding.arithmetic.map(|arithmetic| arithmetic.name().to_owned()),
            engine: self.engine.iter().map(|name| Engine::named(name)).collect::<Option<_>>().unwrap_or_default(),
            llama_bench: self.llama_bench.as_ref().map(|path| path.display().to_string()),
            shape: None,
        };
        let model = |model: &String| ModelSpec { model: model.clone(), by_name: true, ..ModelSpec::default() };
        job::checked(Job { models: self.models.iter().map(model).collect(), speed: Some(speed), ..Job::default() })
    }
}

pub fn run(args: &BenchArgs, session: &Session) -> Result<Outcome> {
    let job = args.job()?;
    if session.is_json() && !matches!(args.output, OutputFormat::Table | OutputFormat::Json) {
        bail!("--json and --output {:?} contradict each other; give one of them", args.output);
    }
    let device = Device::open(args.device.device)?;
    let ready = Ready::new(&job, None, &device, session.watch())?;
    if args.dry_run {
        return job::print_plan(&ready, &device, session);
    }
    let lanes = ready.lanes()?;
    let measured_by = bitworth_measure::session();
    let finished = ready.execute(None)?;
    let rows = bench::rows(&finished.records, |lane| lanes.iter().find(|own| own.name == lane).map(|own| own.variant.bytes()));
    let records = match &args.records {
        Some(dir) => timing::records::append(dir, &finished.records, &measured_by)?,
        None => Vec::new(),
    };
    let divergences = match args.full {
        true => timing::from_f32(&device, &lanes, args.decoding.arithmetic, session.watch())?,
        false => Some(Vec::new()),
    };
    if divergences.is_none() {
        session.note("--full: decoding is in f32, so there is nothing to compare it with");
    }
    let divergences = divergences.unwrap_or_default();
    let timed = finished.timed.as_ref();
    let energy = timed.map(|timed| timed.energy.as_ref());
    let order = if timed.is_some_and(|timed| timed.sequential) { "sequential" } else { "interleaved" };
    let interrupted = timed.is_some_and(|timed| timed.interrupted);
    let document = json!({
        "results": rows, "device": device.info(), "threads": rayon::current_num_threads(), "order": order,
        "drift_bound": args.drift_bound / 100.0, "drifted": rows.iter().map(|row| row.drifted).sum::<usize>(),
        "unsteady": rows.iter().any(BenchRow::is_unsteady), "anchors": timed.map(|timed| &timed.anchors),
        "energy_sources": energy.and_then(Result::ok), "energy_missing": energy.and_then(Result::err).map(NoEnergy::to_string),
        "records": records, "interrupted": interrupted, "divergences": args.full.then_some(&divergences),
    });
    match args.output {
        _ if session.is_json() => output::json(&document)?,
        OutputFormat::Json => output::json(&document)?,
        OutputFormat::Jsonl => output::text(&bench::lines(&rows)?)?,
        OutputFormat::Csv => output::text(&bench::csv(&rows)?)?,
        OutputFormat::Md => output::text(&markdown::render_table(&bench::table(&rows)))?,
        OutputFormat::Table => output::text(&table::render(&bench::table(&rows)))?,
    }
    if let Some(Err(why)) = energy {
        session.note(&why.to_string());
    }
    for one in &divergences {
        session.note(&one.sentence());
    }
    for note in &finished.notes {
        session.note(&note.describe(&output::flag));
    }
    if interrupted {
        return Err(EngineError::Interrupted).context("what is shown was timed before");
    }
    Ok(Outcome::Done)
}
