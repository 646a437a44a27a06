//! `bitworth quantize`: one read of a model, many GGUFs, each as llama-quantize would make it.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bitworth_quant::Plan;
use bitworth_quant::plan::{ModelOrigin, Named, PlanOptions};
use bitworth_quant::quantize::Output;
use clap::Args;
use serde_json::{Value, json};

use super::Outcome;
use super::files::{self, WriteArgs};
use super::fit::FitArgs;
use super::output;
use super::plan_args::PlanArgs;
use super::session::Session;
use bitworth_measure::models;

/// Quantize a model to one or several recipes in one read.
#[derive(Args)]
#[command(after_help = files::names_help())]
pub struct QuantizeArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME.
    model: String,
    /// Recipes, separated by commas, as q4_k_m,q6_k,q8_0; one that ends in .toml is the file of a recipe of your own.
    #[arg(long, value_delimiter = ',', required = true, value_name = "RECIPES")]
    to: Vec<String>,
    /// Folder for the files, each named MODEL-RECIPE.gguf; or the file, where one recipe is asked for and the name ends with
    /// .gguf.
    #[arg(long, value_name = "DIR|FILE", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Only say what would become which type and why, and how large the files would be.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten, next_help_heading = "Types")]
    choices: PlanArgs,
    /// Cut the files as the model is cut.
    #[arg(long, conflicts_with_all = ["split_max_size", "split_max_tensors"])]
    keep_split: bool,
    #[command(flatten, next_help_heading = "Fitting")]
    fit: FitArgs,
    #[command(flatten, next_help_heading = "Files")]
    write: WriteArgs,
}

pub fn run(args: &QuantizeArgs, session: &Session) -> Result<Outcome> {
    let recipes = files::recipes(&args.to)?;
    let choices = PlanOptions { keep_split: args.keep_split, ..args.choices.read()? };
    let model = models::open_to_quantize(&args.model, session.watch())?;
    if args.keep_split && model.origin() != ModelOrigin::Gguf {
        bail!("--keep-split: {} is no GGUF model; use --split-max-size", args.model);
    }
    let Some(out) = args.out.as_ref().filter(|_| !args.dry_run) else {
        let plans =
            recipes.iter().map(|recipe| Plan::of_file(model.as_ref(), recipe, &choices)).collect::<Result<Vec<_>, _>>()?;
        let named: Vec<_> = plans.iter().map(|plan| plan.named(&output::flag)).collect();
        let said = || named.iter().map(Named::to_string).collect::<Vec<_>>().join("\n");
        if args.fit.is_asked() {
            let (fit, fit_said) = args.fit.plan(&args.model, &plans, &args.write, session)?;
            session.print(&json!({ "plans": named, "fit": fit }), || format!("{}\n{fit_said}", said()))?;
        } else {
            session.print(&named, said)?;
        }
        return Ok(Outcome::Done);
    };
    let places = files::output_paths(out, model.name(), &recipes)?;
    let mut outputs = Vec::with_capacity(recipes.len());
    for (recipe, place) in recipes.iter().zip(&places) {
        let mut output = Output::of(model.as_ref(), recipe, &choices, place)?;
        if args.keep_split {
            output.keep_split(model.path())?;
        } else {
            output.split = args.write.split();
        }
        outputs.push(output);
    }
    if let Some(text) = output::left_out(model.left_out()) {
        session.note(&format!("left out: {text}"));
    }
    if args.fit.is_asked() {
        return args.fit.write(&args.model, outputs, &args.write, session);
    }
    args.write.write(model.as_ref(), &outputs, session, Value::from)?;
    Ok(Outcome::Done)
}
