//! `bitworth measure`: what every unit of a model loses in every type, for `bitworth allocate`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bitworth_quant::{DType, Imatrix};
use clap::Args;
use serde_json::json;

use super::files::{check_output, is_parquet};
use super::plan_args::parse_dtype;
use super::session::Session;
use super::sweep::MemoryArgs;
use super::{DeviceArgs, Outcome};
use bitworth_eval::records;
use bitworth_measure::device::Device;
use bitworth_measure::sensitivity::{self, Measure};
use bitworth_measure::text::TextWindows;
use bitworth_measure::{models, on_device};
use bitworth_report::heat_map;
use bitworth_text::tokenizer::Tokenizer;

/// The types of a table, where no others are asked for.
const TYPES: &str = "q2_k,q3_k,q4_k,q5_k,q6_k,q8_0";
/// Rows of the table that are shown.
const SHOWN: usize = 12;

/// Measure what each unit of a model loses in each type: one walk with a branch for every unit.
#[derive(Args)]
pub struct MeasureArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME, in floats.
    model: String,
    /// The text.
    #[arg(long, value_name = "FILE")]
    text: String,
    /// Parquet file to write, which `bitworth allocate --sensitivities` reads.
    #[arg(long, value_name = "FILE.parquet")]
    out: PathBuf,
    /// Types that units may get.
    #[arg(long, value_delimiter = ',', value_parser = parse_dtype, value_name = "TYPES", default_value = TYPES)]
    types: Vec<DType>,
    /// The types in which the model's divergence is measured; of the others only the error of outputs is, in proportion to which
    /// divergences are estimated [default: q2_k, q3_k and q4_k, as far as --types has them, or else the first of those].
    #[arg(long, value_delimiter = ',', value_parser = parse_dtype, value_name = "TYPES")]
    measured: Vec<DType>,
    /// One branch for a whole block, whose units share what it loses by the errors of their outputs: a fifth of the work.
    #[arg(long)]
    fast: bool,
    /// Importance matrix for the encoders (GGUF or .dat) [default: collected on the text].
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Tokens of the text, at most.
    #[arg(long, value_name = "N", default_value = "8192")]
    tokens: NonZeroUsize,
    /// Tokens in a window; the second half of each is scored.
    #[arg(long, value_name = "N", default_value_t = 512)]
    ctx: usize,
    /// Keep in this folder what is needed to go on after an interruption, and go on with what is there. It is removed when all is
    /// measured.
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &MeasureArgs, session: &Session) -> Result<Outcome> {
    for (i, dtype) in args.types.iter().enumerate() {
        if args.types[..i].contains(dtype) {
            bail!("--types names {} twice", dtype.name().to_lowercase());
        }
    }
    let measured = if args.measured.is_empty() { sensitivity::usual(&args.types) } else { args.measured.clone() };
    if let Some(dtype) = measured.iter().find(|dtype| !args.types.contains(dtype)) {
        bail!("--measured: {} is none of --types", dtype.name().to_lowercase());
    }
    let checkpoint = models::open(&args.model, session.watch())?;
    let inputs = checkpoint.files().iter().map(PathBuf::as_path).chain([Path::new(&args.text)]);
    check_output(&args.out, inputs, "parquet file", is_parquet)?;
    let limit = (args.tokens.get() / args.ctx.max(1)).max(1);
    let tokenizer = Tokenizer::new(&checkpoint)?;
    let text = TextWindows::windows(&tokenizer, &models::read_text(&args.text)?, args.ctx, Some(limit));
    let text = text.with_context(|| args.text.clone())?;
    let imatrix = args.imatrix.as_deref().map(Imatrix::open).transpose()?.map(Arc::new);
    let device = Device::open(args.device.device)?;
    let asked = Measure {
        types: &args.types,
        measured: &measured,
        fast: args.fast,
        imatrix,
        limits: args.memory.limits(),
        resume: args.resume.as_deref(),
    };
    let begin = Instant::now();
    let table = on_device!(&device, backend => sensitivity::measure(backend, &checkpoint, &text, &asked, session.watch()))?;
    let seconds = begin.elapsed().as_secs_f64();
    records::sensitivity::write(&args.out, &table)?;
    let branches = table.rows.iter().filter(|row| row.kld.is_some()).count();
    let document = json!({
        "file": args.out, "rows": table.rows.len(), "measured": branches, "model_sha256": table.origin.model_sha256,
        "text_sha256": table.origin.text_sha256, "tokens": table.origin.tokens, "ctx": args.ctx, "seconds": seconds,
        "device": device.info(),
    });
    session.print(&document, || {
        let end =
            format!("{} rows, {branches} with a divergence, in {seconds:.1} s -> {}\n", table.rows.len(), args.out.display());
        heat_map::worst(&table, SHOWN) + &end
    })?;
    Ok(Outcome::Done)
}
