//! `bitworth advise`: what fits where, how fast, how good, what to pick and why; and whether claims in numbers hold.

use std::collections::BTreeSet;
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
use bitworth_advise::page;
use bitworth_advise::quality::Quality;
use bitworth_advise::quality::figures::{Evidence, Figure, FigureInterval};
use bitworth_advise::quality::scores::TASK;
use bitworth_advise::request::{AdviceRequest, CONTEXT};
use bitworth_advise::settings;
use bitworth_advise::speed::Calibration;
use bitworth_eval::stats::Estimate;
use bitworth_measure::models;
use bitworth_report::{Summary, table};

/// Terminals get every choice up to this many, beyond it those on a front.
const MANY: usize = 48;

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
    let measured = args.records.iter().map(|dir| Measured::load(dir)).collect::<Result<Vec<_>>>()?;
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
    session.print(&json!({ "advice": advice, "files": files, "notes": notes }), || text(&advice, files.as_deref()))?;
    notes.iter().for_each(|note| session.note(note));
    Ok(Outcome::Done)
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

/// What a folder of records gives.
struct Measured {
    /// Where its figures say that they are from.
    source: String,
    figures: Vec<Figure>,
    /// What else it holds, in words.
    holds: String,
}

impl Measured {
    fn load(dir: &Path) -> Result<Self> {
        let records = bitworth_report::load(&[dir.to_owned()])?;
        let rows = bitworth_report::summarize(&records)?;
        let source = format!("records in {}", dir.display());
        let figures = rows.iter().filter_map(|row| figure(row, &source)).collect();
        Ok(Self { figures, holds: holdings(&rows), source })
    }

    /// What to say of it where no choice rests on it.
    fn note(&self, advice: &Advice) -> Option<String> {
        let is_used = advice.choices.iter().any(|choice| {
            let loss = &choice.loss;
            let all = [Some(&loss.kld), loss.ppl_ratio.as_ref(), loss.top1.as_ref(), choice.accuracy.as_ref()];
            all.into_iter().flatten().any(|value| value.source == self.source)
        });
        (!is_used).then(|| {
            let Self { source, holds, .. } = self;
            format!(
                "{source}: nothing of them is used; they hold {holds}, and what is used are divergences and accuracies in \
                 {TASK} of the models and recipes that are asked for"
            )
        })
    }
}

/// What was measured of which models.
fn holdings(rows: &[Summary]) -> String {
    let mut parts = Vec::new();
    if rows.iter().any(|row| !row.is_reference && row.kld.is_some()) {
        parts.push("divergences".to_owned());
    }
    let tasks: BTreeSet<&str> = rows.iter().flat_map(|row| &row.tasks).map(|task| task.name.as_str()).collect();
    if !tasks.is_empty() {
        parts.push(format!("accuracies in {}", tasks.into_iter().collect::<Vec<_>>().join(", ")));
    }
    if rows.iter().any(|row| row.decode.or(row.prefill).is_some()) {
        parts.push("speeds".to_owned());
    }
    let models: BTreeSet<&str> = rows.iter().map(|row| row.model.as_str()).collect();
    let what = if parts.is_empty() { "no figures".to_owned() } else { parts.join(" and ") };
    format!("{what} of {}", models.into_iter().collect::<Vec<_>>().join(", "))
}

/// What is measured of a lane, and counts here; `None` where that is nothing.
fn figure(row: &Summary, source: &str) -> Option<Figure> {
    let interval = |e: &Estimate| {
        let (low, high) = e.interval.map_or((e.value, e.value), |i| (i.low, i.high));
        FigureInterval { value: e.value, low, high }
    };
    // The reference lost nothing against itself, whatever it is.
    let compared = Some(row).filter(|row| !row.is_reference);
    let task = row.tasks.iter().find(|task| task.name == TASK);
    let figure = Figure {
        bpw: Some(row.bpw),
        ppl_ratio: compared.and_then(|row| row.ppl_ratio.as_ref().map(interval)),
        kld: compared.and_then(|row| row.kld.as_ref().map(|kld| interval(&kld.mean))),
        top1: compared.and_then(|row| row.top1.as_ref().map(interval)),
        accuracy: task.map(|task| (task.name.clone(), interval(&task.accuracy))),
        ..Figure::new(&row.model, &row.recipe, Evidence::Measured, source)
    };
    let is_any = figure.ppl_ratio.or(figure.kld).or(figure.top1).is_some() || figure.accuracy.is_some();
    is_any.then_some(figure)
}

fn text(advice: &Advice, files: Option<&[PathBuf]>) -> String {
    let all = advice.choices.len() <= MANY;
    let mut text = table::render(&page::table(advice, |i| all || advice.front[i]));
    if !all {
        text += &format!("Of {} choices, those on their machine's front.\n", advice.choices.len());
    }
    text += "\n";
    for pick in &advice.picks {
        text += &format!("{}\n", pick.sentence);
    }
    for comparison in &advice.comparisons {
        text += "\n";
        for sentence in &comparison.sentences {
            text += &format!("{sentence}\n");
        }
    }
    for file in files.unwrap_or_default() {
        text += &format!("{}\n", file.display());
    }
    text
}

fn check_claims(file: Option<&Path>, advisor: &Advisor, session: &Session) -> Result<Outcome> {
    let mut all = Vec::new();
    match file {
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|e| Error::io(file, e))?;
            all.extend(claims::parse(file, &text)?);
        }
        None => {
            for (name, text) in claims::CLAIMS {
                all.extend(claims::parse(Path::new(&format!("configs/claims/{name}.toml")), text)?);
            }
        }
    }
    let checked: Vec<Checked> = all.iter().map(|claim| claims::check(claim, advisor)).collect::<bitworth_quant::Result<_>>()?;
    session.print(&json!({ "claims": checked }), || claims_text(&checked))?;
    Ok(Outcome::Done)
}

fn claims_text(checked: &[Checked]) -> String {
    let mut text = String::new();
    for claim in checked {
        text += &format!("{:7}  {}\n", claim.verdict.name(), claim.says);
        for finding in &claim.findings {
            text += &format!("           {}: {}\n", finding.of, finding.figures);
        }
        for published in &claim.published {
            let value = bitworth_advise::rank::small(published.value);
            text += &format!("           published: {value} ({}) {}\n", published.of, published.source);
        }
    }
    text
}
