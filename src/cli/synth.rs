//! `bitworth synth`: a model of a real shape with random weights, to time machines and tools without a download.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use bitworth_quant::plan::PlanOptions;
use bitworth_quant::quantize::Output;
use bitworth_quant::synth::Synth;
use serde_json::{Value, json};

use super::Outcome;
use super::files::{self, WriteArgs};
use super::session::Session;
use bitworth_quant::synth::shape;

/// Write a model of a real shape with random weights.
#[derive(Args)]
#[command(after_help = shapes_help())]
pub struct SynthArgs {
    /// A known shape (llama-8b, ...), a .toml file like those of configs/models, or a config.json or its folder.
    #[arg(long, value_name = "NAME|FILE")]
    shape: String,
    /// Recipes, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "f16", value_name = "RECIPES")]
    to: Vec<String>,
    /// The file, where one recipe is asked for and the name ends with .gguf; else a folder for files named
    /// SHAPE-RECIPE.gguf.
    #[arg(long, value_name = "FILE|DIR")]
    out: PathBuf,
    /// Layers, in place of the shape's own number.
    #[arg(long, value_name = "N")]
    layers: Option<u32>,
    /// Other weights for another number.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    #[command(flatten, next_help_heading = "Files")]
    write: WriteArgs,
}

fn shapes_help() -> String {
    let shapes: Vec<&str> = shape::names().collect();
    format!("Shapes: {}\n{}", shapes.join(" "), files::names_help())
}

pub fn run(args: &SynthArgs, session: &Session) -> Result<Outcome> {
    let shape = shape::load(&args.shape, args.layers)?;
    let synth = Synth::new(&shape.name, &shape.config, args.seed)?;
    let recipes = files::recipes(&args.to)?;
    let places = files::output_paths(&args.out, &shape.name, &recipes)?;
    let mut outputs = Vec::with_capacity(recipes.len());
    for (recipe, place) in recipes.iter().zip(&places) {
        outputs.push(Output { split: args.write.split(), ..Output::of(&synth, recipe, &PlanOptions::default(), place)? });
    }
    let (parameters, seed) = (synth.parameter_count(), args.seed);
    let document = |files| json!({ "shape": shape.name, "parameters": parameters, "seed": seed, "files": Value::Array(files) });
    args.write.write(&synth, &outputs, session, document)?;
    Ok(Outcome::Done)
}
