//! `bitworth advise`: what fits where, how fast, how good, what to pick and why; and whether claims in numbers hold.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bitworth_quant::Error;
use clap::Args;
use serde_json::json;

use super::Outcome;
use super::forecast::HardwareDirs;
use super::output;
use super::session::Session;
use bitworth_advise::advice::Advice;
use bitworth_advise::advisor::{Advisor, AdvisorSettings};
use bitworth_advise::claims::{self, Checked};
use bitworth_advise::measured::Measured;
use bitworth_advise::page;
use bitworth_advise::quality::Quality;
use bitworth_advise::request::{AdviceRequest, CONTEXT};
use bitworth_advise::settings;
use bitworth_advise::speed::Calibration;
use bitworth_measure::models;

/// Say what fits, how fast it is, what it costs in quality, and what to pick.
#[derive(Args)]
pub struct AdviseArgs {
    /// A comparison, as configs/runs/m2-ultra-vs-ryzen-395.toml; options take the place of what it says.
    #[arg(value_name = "CONFIG.toml")]
    config: Option<PathBuf>,
    /// Models: names as in configs/models, checkpoints, GGUF files, hf:OWNER/NAME, demo. A file that is quantized already stands
    /// for its original.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    model: Vec<String>,
    /// Machines: names as in configs/hardware with their memory (m2-ultra-64gb), or TOML files.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    hardware: Vec<String>,
    /// Recipes [default: a ladder from f16 to iq2_xxs].
    #[arg(long, value_delimiter = ',', value_name = "RECIPE,...")]
    recipes: Vec<String>,
    /// Tokens of context that must fit [default: 8192].
    #[arg(long, value_name = "TOKENS", allow_negative_numbers = true)]
    context: Option<u32>,
    /// Least decoding speed, tokens per second.
    #[arg(long, value_name = "TPS", allow_negative_numbers = true)]
    min_tps: Option<f64>,
    /// Largest mean KL divergence from the unquantized model, nats per token.
    #[arg(long, value_name = "KLD", allow_negative_numbers = true)]
    max_kld: Option<f64>,
    /// What for: chat (as fast as one reads), code (fast, little loss, long prompts) or batch (most work done) [default: chat].
    #[arg(long = "use", value_name = "USE")]
    purpose: Option<String>,
    /// Type of the KV cache [default: f16].
    #[arg(long, value_name = "TYPE")]
    kv_type: Option<String>,
    /// Backend in place of each machine's usual one.
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Expect files made with an importance matrix.
    #[arg(long)]
    imatrix: bool,
    /// Run folders whose measured quality comes before published figures: divergences, and accuracies in mmlu.
    #[arg(long, value_name = "DIR")]
    records: Vec<PathBuf>,
    /// Folder for advice.md, advice.html, advice.csv and advice.parquet.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Check claims in numbers instead [default: those of configs/claims].
    #[arg(long, value_name = "FILE.toml", num_args = 0..=1)]
    claims: Option<Option<PathBuf>>,
    #[command(flatten)]
    dirs: HardwareDirs,
}

pub fn run(args: &AdviseArgs, session: &Session) -> Result<Outcome> {
    let measured = args.records.iter().map(|dir| Measured::load(dir)).collect::<Result<Vec<_>, _>>()?;
    let quality = Quality::with(measured.iter().flat_map(|measured| measured.figures.iter().cloned()).collect())?;
    if let Some(file) = &args.claims {
        let settings = AdvisorSettings { kv_type: args.kv_type.clone(), backend: args.backend.clone(), imatrix: true };
        let advisor = Advisor::new(args.dirs.catalogue([])?, Calibration::embedded(), quality, settings)?;
        return check_claims(file.as_deref(), &advisor, session);
    }
    let mut request = request(args)?;
    // What is no name of configs/models but a place: the advisor looks at files.
    for model in request.models.iter_mut().filter(|model| models::is_elsewhere(model)) {
        *model = models::locate(model, session.watch())?.display().to_string();
    }
    let needs = request.needs(|key, value, what| match (key, &args.config) {
        ("context", _) if args.context.is_some() => Error::option(settings::CONTEXT, value, what),
        ("min_tps", _) if args.min_tps.is_some() => Error::option(settings::MIN_TPS, value, what),
        ("max_kld", _) if args.max_kld.is_some() => Error::option(settings::MAX_KLD, value, what),
        ("models", None) => Error::option(settings::MODEL, value, what),
        (_, None) => Error::option(settings::HARDWARE, value, what),
        (key, Some(path)) => Error::key(path, key, format!("{value} {what}")),
    })?;
    let settings =
        AdvisorSettings { kv_type: request.kv_type.clone(), backend: request.backend.clone(), imatrix: request.imatrix };
    let names = request.hardware.iter().map(String::as_str);
    let advisor = Advisor::new(args.dirs.catalogue(names)?, Calibration::embedded(), quality, settings)?;
    let (machines, choices) = advisor.choices(&request)?;
    let advice = Advice::new(request, needs, &machines, choices)?.named(&output::flag);
    let files = args.out.as_ref().map(|dir| page::write(dir, &advice)).transpose()?;
    let notes: Vec<String> = measured.iter().filter_map(|measured| measured.note(&advice)).collect();
    session.print(&json!({ "advice": advice, "files": files, "notes": notes }), || {
        text(&advice, files.as_deref().unwrap_or_default())
    })?;
    notes.iter().for_each(|note| session.note(note));
    Ok(Outcome::Done)
}

fn text(advice: &Advice, files: &[PathBuf]) -> String {
    page::text(advice) + &files.iter().map(|file| format!("{}\n", file.display())).collect::<String>()
}

/// The configuration with the options in it.
fn request(args: &AdviseArgs) -> Result<AdviceRequest> {
    let mut request = match &args.config {
        Some(path) => AdviceRequest::parse(path, &std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?)?,
        None => AdviceRequest { context: CONTEXT, ..AdviceRequest::default() },
    };
    for (list, given) in
        [(&mut request.models, &args.model), (&mut request.hardware, &args.hardware), (&mut request.recipes, &args.recipes)]
    {
        if !given.is_empty() {
            *list = given.clone();
        }
    }
    request.context = args.context.unwrap_or(request.context);
    request.min_tps = args.min_tps.or(request.min_tps);
    request.max_kld = args.max_kld.or(request.max_kld);
    request.purpose = args.purpose.clone().or(request.purpose);
    request.kv_type = args.kv_type.clone().or(request.kv_type);
    request.backend = args.backend.clone().or(request.backend);
    request.imatrix |= args.imatrix;
    Ok(request)
}

fn check_claims(file: Option<&Path>, advisor: &Advisor, session: &Session) -> Result<Outcome> {
    let checked: Vec<Checked> =
        claims::load(file)?.iter().map(|claim| claims::check(claim, advisor)).collect::<bitworth_quant::Result<_>>()?;
    session.print(&json!({ "claims": checked }), || claims::text(&checked))?;
    Ok(Outcome::Done)
}
