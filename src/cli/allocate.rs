//! `bitworth allocate`: a type for every unit of a model at a given size or loss, from what `bitworth measure` found.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bitworth_quant::allocate::{TensorUnit, tensor_types};
use bitworth_quant::atomic_file::write_whole;
use bitworth_quant::plan::PlanOptions;
use bitworth_quant::{Imatrix, Plan, Recipe};
use clap::Args;
use serde_json::{Value, json};

use super::files::check_output;
use super::fit::FitTextArgs;
use super::session::Session;
use super::size::parse_file_size;
use super::sweep::MemoryArgs;
use super::text_args::{WindowArgs, in_memory};
use super::{Outcome, ScoringArgs, job, output};
use bitworth_eval::job::{FitSpec, ImatrixSpec, Job, ModelSpec};
use bitworth_eval::record::Record;
use bitworth_eval::records;
use bitworth_eval::sensitivity::SensitivityOrigin;
use bitworth_measure::allocate::{Allocator, Candidate, Chosen, Judge, Loss, Losses, Ruling, Target, Trial, Tried};
use bitworth_measure::execute::{Beside, Finished, Ready};
use bitworth_measure::models;
use bitworth_measure::reference::lane::{Kept, ReferenceSource};
use bitworth_report::lanes::{self, ScoredLane};

/// Choose a type for each unit of a model by measured sensitivities: a recipe for `quantize` and for llama-quantize.
#[derive(Args)]
pub struct AllocateArgs {
    /// Hugging Face directory, GGUF file or hf:OWNER/NAME: the model that was measured.
    model: String,
    /// The table that `bitworth measure` made of it.
    #[arg(long, value_name = "FILE.parquet")]
    sensitivities: PathBuf,
    /// Most bytes of the file, metadata included, as 24GiB or 5G (thousands, as llama.cpp counts them) [default: what --base
    /// takes].
    #[arg(
        long,
        value_parser = parse_file_size,
        value_name = "SIZE",
        required_unless_present_any = ["target_bpw", "max_kld", "base"]
    )]
    target_size: Option<u64>,
    /// Most bits per weight of the tensors, as 4.8.
    #[arg(long, value_name = "BITS", conflicts_with = "target_size")]
    target_bpw: Option<f64>,
    /// The smallest file whose mean KL divergence from MODEL on --text stays below this many nats (upper end of the 95 %
    /// interval), as far as a search of a few sizes finds it. It is looked for on every other window and must hold on the rest.
    #[arg(long, value_name = "NATS", conflicts_with_all = ["target_size", "target_bpw"])]
    max_kld: Option<f64>,
    /// llama.cpp's mix to compare with, whose types tensors without a choice get [default: the largest one of the target's size].
    #[arg(long, value_name = "RECIPE")]
    base: Option<String>,
    /// The recipe to write (TOML), which `quantize --to` takes.
    #[arg(long, value_name = "FILE.toml", required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Print the choice with its bytes and the range of its predicted KL divergence; measure and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Also write the types as llama-quantize's --tensor-type-file takes them.
    #[arg(long, value_name = "FILE")]
    tensor_type_file: Option<PathBuf>,
    /// Importance matrix that the files will be made with.
    #[arg(long, value_name = "FILE")]
    imatrix: Option<PathBuf>,
    /// Measure the choice, the mix and two neighbours on this text, and take the mix unless the choice is surely (95 %) better.
    /// It must be another text than the one that sensitivities were measured on.
    #[arg(long, value_name = "FILE")]
    text: Option<String>,
    #[command(flatten)]
    windows: WindowArgs,
    #[command(flatten, next_help_heading = "Fitting")]
    fit: FitTextArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

pub fn run(args: &AllocateArgs, session: &Session) -> Result<Outcome> {
    let bad = |number: Option<f64>| number.is_some_and(|number| !(number.is_finite() && number > 0.0));
    if args.fit.spec().is_some() && args.text.is_none() {
        bail!("--fit is for what is measured; give a --text to measure choices on");
    }
    if bad(args.target_bpw) || bad(args.max_kld) {
        bail!("--target-bpw and --max-kld must be numbers above 0");
    }
    if args.max_kld.is_some() && args.text.is_none() && !args.dry_run {
        bail!("--max-kld must hold where it is measured; give a --text, or --dry-run for what is predicted");
    }
    let out = args.out.as_deref().unwrap_or(Path::new("choice.toml"));
    let name = out.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_ascii_lowercase();
    if out.extension().is_none_or(|extension| extension != "toml") {
        bail!("--out {}: give the recipe a name that ends in .toml, which is how `quantize --to` knows one", out.display());
    }
    let base = args.base.as_ref().map(|base| Recipe::find(base)).transpose()?;
    if base.as_ref().is_some_and(|base| Recipe::all().iter().all(|known| known.name != base.name) || base.only_copy) {
        bail!("--base must be one of llama.cpp's mixes, as q4_k_m");
    }
    let is_recipe = |path: &Path| Recipe::open(path).is_ok();
    let inputs = || [args.sensitivities.as_path()].into_iter().chain(args.text.as_deref().map(Path::new));
    if args.out.is_some() {
        check_output(out, inputs(), "recipe", is_recipe)?;
    }
    if let Some(lines) = &args.tensor_type_file {
        if args.out.as_ref() == Some(lines) {
            bail!("--tensor-type-file {}: is also the --out; give each a name of its own", lines.display());
        }
        check_output(lines, inputs(), "file of tensor types", is_tensor_types)?;
    }
    let table = records::sensitivity::read(&args.sensitivities)?;
    let checkpoint = models::open(&args.model, session.watch())?;
    let imatrix = args.imatrix.as_deref().map(Imatrix::open).transpose()?.map(Arc::new);
    let calibrated = imatrix.as_ref().zip(args.text.as_deref()).and_then(|(matrix, text)| calibrated(matrix.datasets(), text));
    let options = PlanOptions { imatrix, ..PlanOptions::default() };
    let texts = args.fit.spec().map_or(0, |spec| spec.texts.len());
    let allocator = Allocator::new(&checkpoint, &table, options)?.for_texts(texts);
    allocator.importance_note(&table.origin).iter().for_each(|note| session.note(note));
    let target = match (args.target_size, args.target_bpw, args.max_kld, &base) {
        (Some(bytes), ..) => Target::FileBytes(bytes),
        (_, Some(bpw), ..) => Target::BitsPerWeight(bpw),
        (_, _, Some(kld), _) => Target::Divergence(kld),
        (None, None, None, Some(base)) => Target::FileBytes(allocator.file_bytes(&allocator.mix(base, "mix")?)),
        (None, None, None, None) => bail!("give --target-size, --target-bpw, --max-kld or --base"),
    };
    let base = base.map_or_else(|| allocator.usual(target), Ok)?;
    let trial = Trial { allocator: &allocator, base: &base, name: &name };
    let warnings = RefCell::new(Vec::new());
    let measured = args.text.as_deref().filter(|_| !args.dry_run);
    let judged = measured.map(|text| Judged { args, text, origin: &table.origin, session, warnings: &warnings });
    let judge = judged.as_ref().map(|judged| |candidates: &[&Candidate]| judged.losses(candidates));
    let judge = judge.as_ref().map(|judge| judge as Judge<'_, anyhow::Error>);
    let Chosen { tried, taken, ruling } = match (args.max_kld, judge) {
        (Some(most), Some(judge)) => trial.below(most, judge)?,
        _ => trial.at(target, judge)?,
    };
    let candidate = &tried[taken].candidate;
    let written = !args.dry_run && !ruling.is_refusal();
    if written {
        write_whole(out, candidate.text.as_bytes())?;
        if let Some(lines) = &args.tensor_type_file {
            write_whole(lines, tensor_types(allocator.units(), &candidate.plan).as_bytes())?;
        }
    }
    let (note, outcome) = describe(ruling, &tried[taken], &base.name, args.max_kld);
    let mut warnings: Vec<String> = warnings.take();
    warnings.extend(calibrated.filter(|_| measured.is_some()));
    if tried[1].candidate.predicted_range.is_none() {
        warnings.push(
            "The table does not say how far predictions may be off: it was measured on one window, or by an older version."
                .into(),
        );
    }
    let rows: Vec<Value> = tried.iter().map(Tried::document).collect();
    let mut document = json!({
        "recipe": written.then_some(out), "tensor_type_file": args.tensor_type_file.as_ref().filter(|_| written),
        "base": base.name, "tried": rows, "taken": (!ruling.is_refusal()).then_some(&tried[taken].what), "note": note,
        "warnings": warnings,
    });
    if args.dry_run {
        document["plan"] = allocator.units().iter().map(|unit| plan_row(unit, &candidate.plan)).collect();
    }
    session.print(&document, || {
        let plan = if args.dry_run { format!("{}\n", candidate.text) } else { String::new() };
        let lines: String = tried.iter().map(Tried::line).collect();
        let warnings: String = warnings.iter().map(|warning| format!("{warning}\n")).collect();
        let end = if written { format!(" -> {}", out.display()) } else { String::new() };
        format!("{plan}{}{lines}{warnings}{note}{end}\n", Tried::header())
    })?;
    Ok(outcome)
}

/// What a unit becomes.
fn plan_row(unit: &TensorUnit, plan: &Plan) -> Value {
    // Tensors of a unit may differ where one of them is too narrow for the type.
    let mut types: Vec<String> = unit.types(plan).iter().map(|dtype| dtype.name().to_lowercase()).collect();
    types.dedup();
    json!({ "unit": unit.full_name(), "types": types, "bytes": unit.bytes(plan, 1) })
}

/// Whether a file is one of `PATTERN=TYPE`.
fn is_tensor_types(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| bitworth_quant::plan::TensorType::parse_all(&text).is_ok())
}

/// Why a choice was taken, and whether it fails what was asked for.
fn describe(ruling: Ruling, tried: &Tried, base: &str, max_kld: Option<f64>) -> (String, Outcome) {
    let note = match ruling {
        Ruling::Unmeasured => "the choice, which nothing was measured of: --text measures it".to_owned(),
        Ruling::Better => format!("the choice is better than {base}"),
        Ruling::MixTaken => format!("the choice is not surely better than {base}, which is taken as it is"),
        Ruling::MixTooLarge => format!("the choice is not surely better than {base}, which is larger than the target"),
        Ruling::Holds { kld, high } => {
            let what = if tried.what == "choice" { "the choice" } else { base };
            format!("{what} loses {kld:.6} nats on windows that it was not chosen by, surely at most {high:.6}")
        }
        Ruling::TooMuch { high } => {
            let (most, bytes) = (max_kld.unwrap_or_default(), tried.candidate.bytes);
            let note = format!(
                "nothing that was tried surely loses at most --max-kld {most}: the largest choice, {bytes} bytes, may lose up to \
                 {high:.6} nats; allow as much, measure larger types, or narrow the interval by more windows of --text"
            );
            return (note.clone(), Outcome::GateFailed(note));
        }
    };
    (note, Outcome::Done)
}

/// The text that choices are judged by.
struct Judged<'a> {
    args: &'a AllocateArgs,
    text: &'a str,
    origin: &'a SensitivityOrigin,
    session: &'a Session,
    /// What readers of the losses should know.
    warnings: &'a RefCell<Vec<String>>,
}

impl Judged<'_> {
    fn losses(&self, candidates: &[&Candidate]) -> Result<Losses> {
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let mut names = Vec::new();
        for (number, candidate) in candidates.iter().enumerate() {
            let path = folder.path().join(format!("{number}.toml"));
            std::fs::write(&path, &candidate.text).with_context(|| path.display().to_string())?;
            let fit = self.args.fit.spec().map_or("", |_| FitSpec::MARK);
            names.push(format!("@{}{fit}", path.display()));
        }
        let job = self.job(names)?;
        let device = self.args.scoring.open()?;
        let ready = Ready::new(&job, None, &device, self.session.watch())?;
        if ready.text().is_some_and(|text| text.sha256 == self.origin.text_sha256) {
            let text = self.text;
            bail!("--text {text}: is the text that the sensitivities were measured on; a choice must be judged by another");
        }
        if ready.text().is_some_and(|text| ready.fit_texts().contains(&text.sha256)) {
            bail!("--text {}: weights are fitted to it (--fit); a choice must be judged by another text", self.text);
        }
        let (source, kept) = (ReferenceSource::Walked, Kept::default());
        let beside = Beside { source: &source, kept: &kept, sinks: &[], layers: false, resume: None };
        let Finished { records, notes, .. } = ready.execute(Some(&beside))?;
        let warn = |own: Vec<String>| {
            let notes = notes.iter().map(|note| note.describe(&output::flag));
            *self.warnings.borrow_mut() = own.into_iter().chain(notes).collect();
        };
        if self.args.max_kld.is_none() {
            let (losses, warnings) = losses(&records)?;
            warn(warnings);
            return Ok(losses);
        }
        let windows = windows_of(&records);
        if windows < 2 * FEWEST {
            let what = "half of them choose the file, and the others must hold; give a longer text or smaller windows";
            bail!("--max-kld takes {} windows of --text at least, and there are {windows}: {what}", 2 * FEWEST);
        }
        let half = |unseen: bool| -> Vec<Record> {
            let is_in = |record: &&Record| record.as_sequence().is_none_or(|s| Loss::is_unseen(s.sequence) == unseen);
            records.iter().filter(is_in).cloned().collect()
        };
        let ((seen, warnings), (unseen, _)) = (losses(&half(false))?, losses(&half(true))?);
        warn(warnings);
        let both = seen.into_iter().zip(unseen);
        Ok(both.map(|(seen, unseen)| Loss { unseen: Some(unseen.kld), ..seen }).collect())
    }

    fn job(&self, candidates: Vec<String>) -> Result<Job> {
        let imatrix = self.args.imatrix.as_ref().map(|file| ImatrixSpec::of_file(file, self.args.windows.ctx));
        let fit = self.args.fit.spec();
        let model = ModelSpec { model: self.args.model.clone(), candidates, imatrix, fit, ..ModelSpec::default() };
        let job = job::checked(Job {
            models: vec![model],
            texts: vec![self.args.windows.cut(self.text)],
            arithmetic: Some(self.args.scoring.arithmetic.name().to_owned()),
            max_memory_mib: Some(self.args.memory.mib()),
            strict: true,
            ..Job::default()
        })?;
        Ok(in_memory(job))
    }
}

/// The fewest windows that say anything about a spread.
const FEWEST: usize = 2;

/// How many windows were scored.
fn windows_of(records: &[Record]) -> usize {
    let windows = records.iter().filter_map(|record| Some(record.as_sequence()?.sequence));
    windows.collect::<BTreeSet<u32>>().len()
}

/// What candidates lost, the mix first, and what readers of it should know.
fn losses(records: &[Record]) -> Result<(Losses, Vec<String>)> {
    let scored = ScoredLane::all(records)?;
    let mix = scored.get(1).context("nothing was scored")?;
    let losses = scored[1..].iter().enumerate().map(|(number, lane)| {
        let pair = (number > 0).then(|| lane.against(mix)).flatten();
        let kld = lane.metrics.against.context("nothing was compared")?.kld.mean;
        Ok(Loss { kld, unseen: None, against_mix: pair.map(|pair| pair.kld_difference) })
    });
    Ok((losses.collect::<Result<_>>()?, lanes::warnings(&scored)))
}

/// What to say where an importance matrix was collected on a text of the same name: it holds no hash of what it saw.
fn calibrated(datasets: &[String], text: &str) -> Option<String> {
    let name = |path: &str| path.rsplit(['/', '\\']).next().map(str::to_owned);
    let same = datasets.iter().any(|dataset| name(dataset) == name(text));
    let what = "the importance matrix was collected on a text of this name; if it is that text, losses there are too low";
    same.then(|| format!("--text {text}: {what}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_importance_was_collected_on_is_known_by_its_name() {
        let datasets = ["other.txt", "data/calib.txt", r"C:\texts\mine.txt"].map(String::from);
        let said = calibrated(&datasets, "/home/me/calib.txt").unwrap();
        assert!(said.starts_with("--text /home/me/calib.txt: the importance matrix was collected on"), "{said}");
        assert!(calibrated(&datasets, "mine.txt").is_some());
        assert_eq!(calibrated(&datasets, "data/eval.txt"), None);
        assert_eq!(calibrated(&[], "calib.txt"), None);
    }

    #[test]
    fn a_refusal_says_what_is_needed() {
        let plan = || {
            let json = json!({
                "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1,
                "num_attention_heads": 4, "vocab_size": 384, "rms_norm_eps": 1e-5
            });
            let config = bitworth_quant::Config::parse("config.json".into(), json.as_object().unwrap().clone()).unwrap();
            let model = bitworth_quant::Synth::new("tiny", &config, 1).unwrap();
            Plan::of(&model, &Recipe::find("q4_k_m").unwrap(), &PlanOptions::default()).unwrap()
        };
        let (text, bpw, bytes) = (String::new(), 4.5, 1234);
        let candidate = Candidate { text, plan: plan(), bytes, bpw, predicted_kld: None, predicted_range: None };
        let tried = Tried { what: "choice".into(), candidate, loss: None };
        let (note, outcome) = describe(Ruling::TooMuch { high: 0.25 }, &tried, "q4_k_m", Some(0.125));
        assert!(matches!(outcome, Outcome::GateFailed(said) if said == note));
        for part in ["--max-kld 0.125", "1234 bytes", "0.250000 nats", "allow as much", "larger types", "more windows"] {
            assert!(note.contains(part), "{note}");
        }
        let (note, outcome) = describe(Ruling::Holds { kld: 0.1, high: 0.12 }, &tried, "q4_k_m", Some(0.125));
        assert!(matches!(outcome, Outcome::Done) && note.starts_with("the choice loses 0.100000"), "{note}");
        let mix = Tried { what: "q4_k_m".into(), ..tried };
        assert!(describe(Ruling::Holds { kld: 0.1, high: 0.12 }, &mix, "q4_k_m", Some(0.125)).0.starts_with("q4_k_m loses"));
    }
}
