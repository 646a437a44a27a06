//! `bitworth convert`: a checkpoint to an unquantized GGUF, as llama.cpp's converter writes it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use quant::quantize::Output;
use serde_json::json;

use super::Outcome;
use super::session::Session;
use crate::runner::models;

/// Convert a checkpoint to an F16, BF16 or F32 GGUF.
#[derive(Args)]
pub struct ConvertArgs {
    /// Hugging Face directory or GGUF file.
    model: String,
    /// Type of the matrices.
    #[arg(long, value_parser = ["f16", "bf16", "f32"])]
    to: String,
    /// GGUF file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub fn run(args: &ConvertArgs, session: &Session) -> Result<Outcome> {
    let checkpoint = models::open(&args.model)?;
    let recipe = quant::Recipe::find(&args.to)?;
    let output = Output::of(&checkpoint, recipe, &args.out)?;
    let watch = session.watch();
    let written = quant::quantize::quantize(checkpoint.as_ref(), &[output], watch.stop, watch.progress)?;
    let file = &written[0];
    let document = json!({ "file": file.path, "bytes": file.bytes });
    session.print(&document, || format!("{}  {} bytes", file.path.display(), file.bytes))?;
    Ok(Outcome::Done)
}
