//! `bitworth quantize`: one read of a checkpoint, many GGUFs.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use quant::quantize::Output;
use quant::{Plan, Recipe};
use serde_json::json;

use super::Outcome;
use super::session::Session;
use crate::runner::models;

/// Quantize a checkpoint to one or several recipes in one read.
#[derive(Args)]
pub struct QuantizeArgs {
    /// Hugging Face directory or GGUF file.
    model: String,
    /// Recipes, separated by commas, as q4_k_m,q6_k,q8_0.
    #[arg(long, value_delimiter = ',', required = true, value_name = "RECIPES")]
    to: Vec<String>,
    /// Folder for the files, each named MODEL-RECIPE.gguf.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only say what would become which type, and how large the files would be.
    #[arg(long)]
    dry_run: bool,
}

pub fn run(args: &QuantizeArgs, session: &Session) -> Result<Outcome> {
    let recipes = args.to.iter().map(|name| Recipe::find(name)).collect::<Result<Vec<_>, _>>()?;
    for (i, recipe) in recipes.iter().enumerate() {
        if recipes[..i].iter().any(|r| r.name == recipe.name) {
            bail!("--to names {} twice", recipe.name);
        }
    }
    let checkpoint = models::open(&args.model)?;
    if args.dry_run {
        let plans = recipes.iter().map(|recipe| Plan::of(&checkpoint, recipe)).collect::<Result<Vec<_>, _>>()?;
        session.print(&plans, || plans.iter().map(Plan::to_string).collect::<Vec<_>>().join("\n"))?;
        return Ok(Outcome::Done);
    }
    let outputs = recipes
        .iter()
        .map(|recipe| Output::of(&checkpoint, recipe, &args.out.join(models::file_name(&checkpoint, recipe))))
        .collect::<Result<Vec<_>, _>>()?;
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let watch = session.watch();
    let written = quant::quantize::quantize(checkpoint.as_ref(), &outputs, watch.stop, watch.progress)?;
    let rows: Vec<_> = written.iter().zip(&outputs).map(|(file, output)| (file, &output.plan)).collect();
    let document: Vec<_> = rows
        .iter()
        .map(|(file, plan)| {
            json!({ "recipe": plan.recipe.name, "file": file.path, "bytes": file.bytes, "bpw": plan.bits_per_weight() })
        })
        .collect();
    session.print(&document, || {
        rows.iter()
            .map(|(file, plan)| {
                let (mib, bpw) = (file.bytes as f64 / (1 << 20) as f64, plan.bits_per_weight());
                format!("{:8} {mib:10.1} MiB  {bpw:5.2} bits per weight  {}\n", plan.recipe.name, file.path.display())
            })
            .collect()
    })?;
    Ok(Outcome::Done)
}
