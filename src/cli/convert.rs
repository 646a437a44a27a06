//! `bitworth convert`: a Hugging Face directory to GGUF, as llama.cpp's converter writes it; and straight to any recipe.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bitworth_quant::checkpoint::{Adapter, Model};
use bitworth_quant::quantize::Output;
use bitworth_quant::{Checkpoint, DType};
use clap::Args;

use super::files::{self, WriteArgs};
use super::plan_args::PlanArgs;
use super::session::Session;
use super::{Outcome, output};
use bitworth_measure::models;

/// Convert a checkpoint to GGUF, to one or several types in one read.
#[derive(Args)]
#[command(after_help = files::names_help())]
pub struct ConvertArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME.
    model: String,
    /// Types, separated by commas. f32, f16, bf16, q8_0, tq1_0, tq2_0 and auto (bf16 or f16, whichever the checkpoint has)
    /// as llama.cpp's converter writes them; all other recipes as llama-quantize makes them of the converted file.
    #[arg(long, value_delimiter = ',', default_value = "auto", value_name = "TYPES")]
    to: Vec<String>,
    /// The file, where one type is asked for and this is no folder; else a folder for files named MODEL-TYPE.gguf.
    #[arg(long, value_name = "FILE|DIR")]
    out: PathBuf,
    /// Merge a LoRA adapter into the weights: its folder, and what it counts [default: 1]. May be given several times.
    #[arg(long, value_name = "DIR[=SCALE]")]
    lora: Vec<String>,
    #[command(flatten, next_help_heading = "Types")]
    choices: PlanArgs,
    #[command(flatten, next_help_heading = "Files")]
    write: WriteArgs,
}

pub fn run(args: &ConvertArgs, session: &Session) -> Result<Outcome> {
    let mut choices = args.choices.read()?;
    choices.as_converter = true;
    let model: Box<dyn Model> = match &args.lora[..] {
        [] => models::open_to_quantize(&args.model, session.watch())?,
        adapters => {
            let adapters = adapters.iter().map(|text| adapter(text)).collect::<Result<Vec<_>>>()?;
            let path = models::locate(&args.model, session.watch())?;
            if !path.is_dir() {
                bail!("--lora: {} is no Hugging Face directory; adapters are merged into one", args.model);
            }
            Box::new(Checkpoint::with_adapters(&path, &adapters)?)
        }
    };
    let names: Vec<String> =
        args.to.iter().map(|name| if name == "auto" { stored_half(model.as_ref()).to_owned() } else { name.clone() }).collect();
    let recipes = files::recipes(&names)?;
    let places = match recipes.len() {
        1 if !args.out.is_dir() => vec![args.out.clone()],
        _ if args.out.is_file() => bail!("--out {}: {} types need a folder, not a file", args.out.display(), recipes.len()),
        _ => files::output_paths(&args.out, model.name(), &recipes)?,
    };
    let mut outputs = Vec::with_capacity(recipes.len());
    for (recipe, place) in recipes.iter().zip(&places) {
        let output = Output::of(model.as_ref(), recipe, &choices, place)?;
        outputs.push(Output { split: args.write.split(), ..output });
    }
    if let Some(text) = output::left_out(model.left_out()) {
        session.note(&format!("left out: {text}"));
    }
    args.write.write(
        model.as_ref(),
        &outputs,
        session,
        |mut entries| {
            if entries.len() == 1 { entries.remove(0) } else { entries.into() }
        },
    )?;
    Ok(Outcome::Done)
}

/// An adapter by its folder, with `=` and a number behind it where it does not count as it was trained.
fn adapter(text: &str) -> Result<Adapter> {
    let (path, scale) = match text.rsplit_once('=') {
        // A folder whose name has the sign.
        Some(_) if Path::new(text).is_dir() => (text, 1.0),
        Some((path, scale)) => match scale.parse() {
            Ok(scale) if f32::is_finite(scale) => (path, scale),
            _ => bail!("--lora {text}: {scale:?} is not a number; give DIR or DIR=SCALE"),
        },
        None => (text, 1.0),
    };
    Ok(Adapter { path: path.into(), scale })
}

/// The half-precision type of the first matrix that has one, F16 where none has.
fn stored_half(model: &dyn Model) -> &'static str {
    let mut matrices = model.tensors().iter().filter(|t| t.shape.len() > 1).map(|t| t.dtype);
    match matrices.find(|dtype| matches!(dtype, DType::BF16 | DType::F16)) {
        Some(DType::BF16) => "bf16",
        _ => "f16",
    }
}
