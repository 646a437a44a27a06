//! `bitworth quantize`: one read of a model, many GGUFs, each as llama-quantize would make it.

use std::path::{Path, PathBuf};

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
use bitworth_eval::records;
use bitworth_measure::allocate::{Allocator, Prediction};
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
    /// Also say what KL divergence the types are predicted to have, by the table that `bitworth measure` made of MODEL.
    #[arg(long, value_name = "FILE.parquet", requires = "dry_run", conflicts_with = "prune_layers")]
    sensitivities: Option<PathBuf>,
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
        let predicted = args.sensitivities.as_deref();
        let predicted = predicted.map(|file| predictions(&args.model, file, &plans, &choices, session)).transpose()?;
        let named: Vec<_> = plans.iter().map(|plan| plan.named(&output::flag)).collect();
        let said = || named.iter().map(Named::to_string).collect::<Vec<_>>().join("\n");
        let fit = args.fit.is_asked().then(|| args.fit.plan(&args.model, &plans, &args.write, session)).transpose()?;
        if fit.is_none() && predicted.is_none() {
            session.print(&named, said)?;
            return Ok(Outcome::Done);
        }
        let rows = predicted.as_ref().map(|all| all.iter().zip(&plans).map(prediction_row).collect::<Vec<_>>());
        let mut document = json!({ "plans": named, "predicted_kld_without_fit": rows });
        let mut text = format!("{}\n", said());
        if let Some((fit, fit_said)) = fit {
            document["fit"] = fit;
            text += &fit_said;
        }
        text += &predicted_text(predicted.as_deref(), &plans, args);
        session.print(&document, || text)?;
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

/// What each plan is expected to lose by a table of sensitivities.
fn predictions(model: &str, file: &Path, plans: &[Plan], choices: &PlanOptions, session: &Session) -> Result<Vec<Prediction>> {
    let table = records::sensitivity::read(file)?;
    let checkpoint = models::open(model, session.watch())?;
    // The options of types are in the plans already.
    let options = PlanOptions { imatrix: choices.imatrix.clone(), ..PlanOptions::default() };
    let allocator = Allocator::new(&checkpoint, &table, options)?;
    allocator.importance_note(&table.origin).iter().for_each(|note| session.note(note));
    Ok(plans.iter().map(|plan| allocator.predict(plan)).collect())
}

/// For programs.
fn prediction_row((Prediction { kld, range, unknown }, plan): (&Prediction, &Plan)) -> Value {
    json!({
        "recipe": plan.recipe.name, "kld": kld, "low": range.map(|range| range.low), "high": range.map(|range| range.high),
        "not_in_sensitivities": unknown,
    })
}

/// For people: what is predicted, and which command says what is not.
fn predicted_text(predicted: Option<&[Prediction]>, plans: &[Plan], args: &QuantizeArgs) -> String {
    let model = &args.model;
    let fitted = args.fit.is_asked();
    let Some(predicted) = predicted else {
        return format!(
            "KLD is not predicted without measured sensitivities: `bitworth measure {model} --text TEXT --out S.parquet` makes \
             them for --sensitivities\n{}",
            compared(model, plans)
        );
    };
    let mut text = format!("predicted KLD of the types{}:\n", if fitted { " without fitting" } else { "" });
    for (Prediction { kld, range, unknown }, plan) in predicted.iter().zip(plans) {
        let range =
            range.map_or_else(|| "no range is known".to_owned(), |range| format!("{:.6} to {:.6}", range.low, range.high));
        text += &match (kld, unknown) {
            (Some(kld), _) => format!("  {}: {kld:.6} ({range})\n", plan.recipe.name),
            (None, unknown) => {
                let what = unknown.as_deref().unwrap_or("a unit");
                format!(
                    "  {}: unknown, the sensitivities lack {what}; `bitworth measure --types` takes more types\n",
                    plan.recipe.name
                )
            }
        };
    }
    text + &if fitted { compared(model, plans) } else { String::new() }
}

/// What measures a fitted file.
fn compared(model: &str, plans: &[Plan]) -> String {
    let name = plans.first().map_or("q4_k_m", |plan| &plan.recipe.name);
    format!(
        "what fitting takes off is known when it is measured: `bitworth compare {model} @{name} @{name}+fit --fit TEXTS --text \
         HELD_OUT`\n"
    )
}
