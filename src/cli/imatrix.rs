//! `bitworth imatrix`: importance matrices, collected, merged and looked at, as llama-imatrix does it. Absent: collecting (see
//! `measure::imatrix`), the files (see `bitworth_quant::imatrix`).

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bitworth_quant::imatrix::{ImatrixFormat, Sums, layer_stats, tensor_stats};
use bitworth_quant::{Checkpoint, Imatrix};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::files::{check_output, check_replaceable};
use super::session::Session;
use super::sweep::MemoryArgs;
use super::{DeviceArgs, Outcome};
use bitworth_engine::model::Variant;
use bitworth_measure::device::Device;
use bitworth_measure::imatrix::{self, Collect};
use bitworth_measure::{models, on_device, second_moment};
use bitworth_report::imatrix as table;
use bitworth_text::tokenizer::Tokenizer;

/// Collect an importance matrix: how much each input column of every matrix matters on some texts.
#[derive(Args)]
pub struct ImatrixArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME; may be left out where only files are merged or looked at.
    model: Option<String>,
    /// A text file; may be repeated.
    #[arg(long, value_name = "FILE", requires = "model")]
    text: Vec<String>,
    /// File to write, which llama-quantize and `quantize --imatrix` read.
    #[arg(long, value_name = "FILE", required_unless_present = "stats")]
    out: Option<PathBuf>,
    /// Its format [default: dat where the name ends with .dat, else gguf].
    #[arg(long, alias = "output-format", value_name = "FORMAT", requires = "out")]
    format: Option<FormatArg>,
    /// Tokens in a window. All of them count; what fills no window at the end of a text is left out.
    #[arg(long, default_value_t = 512, value_name = "N")]
    ctx: usize,
    /// Only the first N windows of each text.
    #[arg(long, value_name = "N")]
    chunks: Option<NonZeroUsize>,
    /// Leave out the first N windows of each text.
    #[arg(long, alias = "chunk", default_value_t = 0, value_name = "N")]
    from_chunk: usize,
    /// Also the output matrix, or the token embedding of a model without one.
    #[arg(long)]
    process_output: bool,
    /// Add an importance matrix collected before; may be repeated.
    #[arg(long, value_name = "FILE")]
    in_file: Vec<PathBuf>,
    /// Show statistics of each tensor and block.
    #[arg(long, alias = "show-statistics")]
    stats: bool,
    /// Also write X^T X of every input of a matrix (F32, with counts), for quantizers with error feedback.
    #[arg(long, value_name = "FILE.safetensors", requires = "text")]
    second_moment: Option<PathBuf>,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A file format by its name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatArg {
    Gguf,
    Dat,
}

impl ImatrixArgs {
    fn format(&self, out: &Path) -> ImatrixFormat {
        match self.format {
            Some(FormatArg::Gguf) => ImatrixFormat::Gguf,
            Some(FormatArg::Dat) => ImatrixFormat::Dat,
            None if out.extension().is_some_and(|e| e.eq_ignore_ascii_case("dat")) => ImatrixFormat::Dat,
            None => ImatrixFormat::Gguf,
        }
    }

    /// Nothing is written over but earlier files of the kind, and places that cannot be written are known before the work.
    fn check_outputs(&self, checkpoint: Option<&Checkpoint>) -> Result<()> {
        let files = checkpoint.into_iter().flat_map(Checkpoint::files);
        let inputs = || files.clone().chain(&self.in_file).map(PathBuf::as_path).chain(self.text.iter().map(Path::new));
        if let Some(out) = &self.out {
            check_output(out, inputs(), "importance matrix", |path| Imatrix::open(path).is_ok())?;
        }
        let Some(moments) = &self.second_moment else { return Ok(()) };
        if self.out.as_ref().is_some_and(|out| out == moments) {
            bail!("--second-moment {}: is also the --out; give each a name of its own", moments.display());
        }
        check_replaceable(moments, inputs(), "file of second moments", second_moment::is_one)
    }
}

pub fn run(args: &ImatrixArgs, session: &Session) -> Result<Outcome> {
    if args.text.is_empty() && args.in_file.is_empty() {
        bail!("nothing to collect from: give a MODEL and --text, or files to merge with --in-file");
    }
    let chunk_size = u32::try_from(args.ctx).context("--ctx is too large")?;
    let checkpoint = args.model.as_ref().map(|model| models::open(model, session.watch())).transpose()?;
    args.check_outputs(checkpoint.as_deref())?;
    let mut sums = imatrix::merge(&args.in_file, chunk_size, checkpoint.as_deref())?;
    if sums.chunk_size > 0 && sums.chunk_size != chunk_size && !args.text.is_empty() {
        session.note(&format!("chunks are counted as the files do, by {} tokens and not by {chunk_size}", sums.chunk_size));
    }
    let mut document = json!({});
    let mut said = String::new();
    if let Some(checkpoint) = checkpoint.filter(|_| !args.text.is_empty()) {
        let tokenizer = Tokenizer::new(&checkpoint)?;
        let mut windows = Vec::new();
        for text in &args.text {
            let limit = args.chunks.map(NonZeroUsize::get);
            let cut = imatrix::windows(&tokenizer, &models::read_text(text)?, args.ctx, args.from_chunk, limit);
            windows.extend(cut.with_context(|| text.clone())?);
        }
        let device = Device::open(args.device.device)?;
        let how =
            Collect { cut: args.memory.limits(), output: args.process_output, second_moment: args.second_moment.as_deref() };
        let variant = Variant::Stored(checkpoint);
        let begin = Instant::now();
        let new = on_device!(&device, backend =>
            imatrix::collect(backend, &variant, &windows, chunk_size, how, session.watch()))?;
        let seconds = begin.elapsed().as_secs_f64();
        let tokens: usize = windows.iter().map(Vec::len).sum();
        sums.add(Sums { datasets: args.text.clone(), ..new }, variant.checkpoint().path())?;
        said =
            format!("{tokens} tokens in {} windows of {} in {seconds:.1} s on {}\n", windows.len(), args.ctx, device.info().name);
        document = json!({
            "model": variant.checkpoint().name(), "tokens": tokens, "windows": windows.len(), "ctx": args.ctx,
            "seconds": seconds, "device": device.info(), "second_moment": args.second_moment,
        });
    }
    document["entries"] = json!(sums.entries.len());
    document["chunks"] = json!(sums.chunk_count());
    document["datasets"] = json!(sums.datasets);
    sums.unreached_note().iter().for_each(|note| session.note(note));
    if let Some(out) = &args.out {
        sums.write(out, args.format(out))?;
        document["file"] = json!(out);
        said += &format!("{} tensors, {} chunks -> {}\n", sums.entries.len(), sums.chunk_count(), out.display());
    }
    let (tensors, layers) = if args.stats { (tensor_stats(&sums), layer_stats(&sums)) } else { Default::default() };
    if args.stats {
        document["tensors"] = json!(tensors);
        document["layers"] = json!(layers);
    }
    session.print(&document, || match args.stats {
        true => format!("{}\n{}\n{said}", table::tensors(&tensors), table::blocks(&layers)),
        false => said,
    })?;
    Ok(Outcome::Done)
}
