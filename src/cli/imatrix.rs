//! `bitworth imatrix`: importance matrices, collected, merged and looked at, as llama-imatrix does it. Absent: collecting (see
//! `measure::imatrix`), the files (see `bitworth_quant::imatrix`).

use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bitworth_quant::atomic_file::AtomicFile;
use bitworth_quant::imatrix::{ImatrixFormat, InputChange, LayerStats, Sums, TensorStats, layer_stats, tensor_stats};
use bitworth_quant::{Checkpoint, Imatrix};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::files::check_replaceable;
use super::session::Session;
use super::sweep::MemoryArgs;
use super::{DeviceArgs, Outcome};
use bitworth_engine::model::Variant;
use bitworth_measure::device::Device;
use bitworth_measure::imatrix::{self, Collect};
use bitworth_measure::models;
use bitworth_measure::on_device;
use bitworth_text::tokenizer::Tokenizer;

/// A safetensors header longer than this is not believed, as in the safetensors library.
const MAX_HEADER_BYTES: u64 = 100_000_000;

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
            check_replaceable(out, inputs(), "importance matrix", |path| Imatrix::open(path).is_ok())?;
            drop(AtomicFile::create(out)?);
        }
        let Some(moments) = &self.second_moment else { return Ok(()) };
        if self.out.as_ref().is_some_and(|out| out == moments) {
            bail!("--second-moment {}: is also the --out; give each a name of its own", moments.display());
        }
        check_replaceable(moments, inputs(), "file of second moments", is_second_moment)
    }
}

/// Whether a file holds second moments, by its header.
fn is_second_moment(path: &Path) -> bool {
    let header = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length).min(MAX_HEADER_BYTES);
        let mut header = Vec::new();
        file.take(length).read_to_end(&mut header)?;
        Ok(header)
    };
    let json = header().ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    json.is_some_and(|header| header["__metadata__"]["readers"].is_string())
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
    note_unreached(&sums, session);
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
    session.print(&document, || if args.stats { table(&tensors) + "\n" + &layer_table(&layers) + "\n" + &said } else { said })?;
    Ok(Outcome::Done)
}

/// Says which experts no token reached: they count as if all their columns mattered alike.
fn note_unreached(sums: &Sums, session: &Session) {
    let lacking = |counts: &[u64]| counts.iter().filter(|count| **count == 0).count();
    let partial: Vec<_> = sums.entries.iter().filter(|(_, entry)| lacking(&entry.counts) > 0).collect();
    if let Some((name, entry)) = partial.first() {
        let (none, all) = (lacking(&entry.counts), entry.counts.len());
        session.note(&format!(
            "{} tensors have experts that no token reached, as {name} ({none} of {all}); a longer text may reach them",
            partial.len()
        ));
    }
}

/// A number where there is one.
fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

fn change_cells(change: Option<InputChange>) -> String {
    let of = |pick: fn(InputChange) -> Option<f64>| cell(change.and_then(pick));
    let (gain, l2) = (of(|c| c.gain), of(|c| Some(c.l2)));
    format!("{gain:>9} {l2:>12} {:>8} {:>8} {:>10}", of(|c| c.cosine), of(|c| c.pearson), of(|c| Some(c.covariance)))
}

const CHANGE_HEADER: &str = "     gain      L2 dist   cosine      PCC        cov";

fn block(block: Option<usize>) -> String {
    block.map_or_else(|| "-".to_owned(), |block| block.to_string())
}

fn table(stats: &[TensorStats]) -> String {
    let width = stats.iter().map(|row| row.tensor.chars().count()).max().unwrap_or(0).max(6);
    let mut text = format!(
        "block {:width$} {:>7} {:>14} {:>11} {:>12} {:>8} {:>8} {:>7} {:>7} {:>10} {:>10} {:>10} {:>10} {CHANGE_HEADER}\n",
        "tensor", "N", "sum E[a^2]", "min", "max", "active %", "entropy", "norm %", "ZD %", "mean", "std dev", "skew", "kurt"
    );
    for row in stats {
        let normalized = row.entropy_normalized.map_or_else(|| "-".to_owned(), |share| format!("{:.2}", 100.0 * share));
        text += &format!(
            "{:>5} {:width$} {:>7} {:>14.4} {:>11.3e} {:>12.4} {:>8.2} {:>8.4} {normalized:>7} {:>7.2} {:>10.4} {:>10.4} \
             {:>10.4} {:>10.4} {}\n",
            block(row.block),
            row.tensor,
            row.elements,
            row.sum,
            row.min,
            row.max,
            100.0 * row.active,
            row.entropy,
            100.0 * row.zd,
            row.mean,
            row.std_dev,
            row.skewness,
            row.kurtosis,
            change_cells(row.previous)
        );
    }
    let squares = stats.iter().any(|row| !row.of_activations);
    text + if squares { "mean to cov are of mean squares where no sums of activations are known\n" } else { "" }
}

fn layer_table(stats: &[LayerStats]) -> String {
    let mut text = format!("block {:>14} {CHANGE_HEADER}\n", "sum E[a^2]");
    for row in stats {
        text += &format!("{:>5} {:>14.4} {}\n", row.block, row.sum, change_cells(row.previous));
    }
    text
}
