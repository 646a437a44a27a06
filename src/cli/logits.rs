//! `bitworth logits`: all logits of given token sequences, as a safetensors file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::json;

use super::files::check_output;
use super::session::Session;
use super::{DeviceArgs, Outcome};
use bitworth_engine::model::Variant;
use bitworth_engine::sweep;
use bitworth_measure::device::Device;
use bitworth_measure::models;
use bitworth_measure::on_device;
use bitworth_quant::atomic_file::write_whole;

/// Write the logits of every position of some token sequences.
#[derive(Args)]
pub struct LogitsArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME.
    model: String,
    /// JSON file: an object with the key "sequences", a list of lists of token ids.
    #[arg(long, value_name = "IN.json")]
    tokens: PathBuf,
    /// Safetensors file to write: f32 tensors logits.0, logits.1, ... of shape [tokens, vocabulary].
    #[arg(long, value_name = "OUT.safetensors")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Whether a file holds what this command writes, and not a model's weights.
fn is_logits(path: &Path) -> bool {
    let Ok(bytes) = std::fs::read(path) else { return false };
    let names = SafeTensors::deserialize(&bytes);
    names.is_ok_and(|tensors| !tensors.is_empty() && tensors.names().iter().all(|name| name.starts_with("logits.")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    sequences: Vec<Vec<u32>>,
}

pub fn run(args: &LogitsArgs, session: &Session) -> Result<Outcome> {
    let text = std::fs::read(&args.tokens).with_context(|| args.tokens.display().to_string())?;
    let input: Input = serde_json::from_slice(&text).with_context(|| args.tokens.display().to_string())?;
    if input.sequences.is_empty() {
        bail!("{}: no sequences", args.tokens.display());
    }
    let variant = Variant::Stored(models::open(&args.model, session.watch())?);
    let device = Device::open(args.device.device)?;
    let inputs = variant.checkpoint().files().iter().map(PathBuf::as_path).chain([args.tokens.as_path()]);
    check_output(&args.out, inputs, "logits of an earlier run", is_logits)?;
    let mut all: Vec<(String, Vec<f32>)> = Vec::new();
    on_device!(&device, backend => {
        let watch = session.watch();
        sweep::logits(backend, &variant, &input.sequences, watch.progress, watch.stop, |index, logits| {
        all.push((format!("logits.{index}"), logits));
            Ok(())
        })
    })?;
    let vocab = variant.hparams().vocab_size;
    let mut views = Vec::with_capacity(all.len());
    for (name, logits) in &all {
        let shape = vec![logits.len() / vocab, vocab];
        views.push((name.as_str(), TensorView::new(Dtype::F32, shape, bytemuck::cast_slice(logits))?));
    }
    write_whole(&args.out, &safetensors::serialize(views, None)?)?;
    let document = json!({ "file": args.out, "sequences": all.len(), "device": device.info() });
    session.print(&document, || format!("{} sequences -> {}", all.len(), args.out.display()))?;
    Ok(Outcome::Done)
}
