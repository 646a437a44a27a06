//! `bitworth report`: tables, charts and pages from the records of earlier runs; a model card for their files; what changed
//! between two of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::Outcome;
use super::session::Session;
use bitworth_eval::records;
use bitworth_report::regression::{self, ChangeVerdict, Tolerance, Tolerances};
use bitworth_report::{Judgement, Report, card, changes, export, schema, sessions};

/// Make the report of one or several run folders again, or compare two of them.
#[derive(Args)]
pub struct ReportArgs {
    /// Folders that `bitworth run` left, or --records of bench, compare and eval, each with a folder `records`: files that one of
    /// them timed and another scored have one row. Or the one table of `bitworth measure` (.parquet), which becomes a heat map.
    #[arg(required_unless_present_any = ["compare", "columns"], value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Print what every column of summary.csv and summary.parquet means, as Markdown, and do nothing else.
    #[arg(long, conflicts_with_all = ["dirs", "compare", "out", "card"])]
    columns: bool,
    /// Compare the lanes of two run folders: what became worse or better beyond noise; exit code 1 if anything became worse.
    #[arg(long, num_args = 2, value_names = ["OLD", "NEW"], conflicts_with = "dirs")]
    compare: Option<Vec<PathBuf>>,
    /// What may become worse, and by how much: size, ppl, bits_per_byte, kld, top1, accuracy, prefill, decode, memory, energy,
    /// each with a percentage (of top1 and accuracy: points) or a plain number, as in size=1%,decode=5%,kld=0.001. Unless
    /// they are named, sizes may change and memory may grow by 5 %; nothing else may become worse.
    #[arg(long, value_name = "MEASURE=BOUND", value_delimiter = ',', requires = "compare")]
    tolerate: Vec<Tolerance>,
    /// How far below the reference a lane may stay in tasks and count as not worse, in points [default: what the first DIR's job
    /// said, or 0.5].
    #[arg(long, value_name = "POINTS", conflicts_with = "compare", value_parser = super::eval::margin)]
    margin: Option<f64>,
    /// Show the tasks within groups too, such as the subjects of MMLU, each with its difference and verdict, here and in the
    /// report; without it groups alone, and their tasks behind a fold in report.md and report.html.
    #[arg(long, conflicts_with = "compare")]
    subjects: bool,
    /// Folder for the report [default: the first DIR; with --compare none: nothing is written].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    card: CardArgs,
}

/// How the card says that files are run.
const COMMANDS: [&str; 2] = ["llama-cli -m FILE", "bitworth generate FILE --prompt \"Once upon a time\""];

/// Options of the model card.
#[derive(Args)]
struct CardArgs {
    /// Write a model card too, model-card.md: the table of files with what each is good for, to upload as README.md.
    #[arg(long, conflicts_with = "compare")]
    card: bool,
    /// The model on the hub that was quantized, for the card.
    #[arg(long, value_name = "OWNER/NAME", requires = "card")]
    base_model: Option<String>,
    /// The licence by the hub's name for it, for the card.
    #[arg(long, value_name = "LICENSE", requires = "card")]
    license: Option<String>,
    /// Who quantized it, for the card.
    #[arg(long, value_name = "NAME", requires = "card")]
    quantized_by: Option<String>,
    /// How a prompt has to be written for the model, for the card.
    #[arg(long, value_name = "TEXT", requires = "card", allow_hyphen_values = true)]
    prompt_format: Option<String>,
    /// A tag for the card, besides gguf and quantized; may be given several times.
    #[arg(long = "tag", value_name = "TAG", requires = "card")]
    tags: Vec<String>,
}

pub fn run(args: &ReportArgs, session: &Session) -> Result<Outcome> {
    if args.columns {
        session.print(&json!({ "columns": schema::schema() }), schema::markdown)?;
        return Ok(Outcome::Done);
    }
    if let Some([old, new]) = args.compare.as_deref() {
        let tolerances = Tolerances::new(args.tolerate.iter().copied());
        return regressions(old, new, &tolerances, args.out.as_deref(), session);
    }
    if let [file] = &args.dirs[..]
        && file.is_file()
    {
        return heat_map(args, file, session);
    }
    let own = args.margin.map_or_else(|| bitworth_measure::execute::margin(&args.dirs[0]), |margin| Ok(Some(margin)))?;
    let judgement = own.map_or_else(Judgement::default, |margin| Judgement { margin });
    let mut report = Report::judged(&bitworth_report::load(&args.dirs)?, judgement)?;
    report.sessions = sessions::load(&args.dirs)?;
    report.subjects = args.subjects;
    let out = args.out.as_ref().unwrap_or(&args.dirs[0]);
    let facts = card::Facts {
        base_model: args.card.base_model.clone(),
        license: args.card.license.clone(),
        quantized_by: args.card.quantized_by.clone(),
        tags: args.card.tags.clone(),
        prompt_format: args.card.prompt_format.clone(),
        commands: COMMANDS.map(|command| command.replace("FILE", card::FILE)).to_vec(),
    };
    // A card that cannot be made is said before anything is written.
    let card = args.card.card.then(|| card::render(&report, &facts)).transpose()?;
    let mut files = report.write(out)?;
    if let Some(card) = card {
        files.push(bitworth_report::write_text(&out.join("model-card.md"), &card)?);
    }
    let document = json!({
        "files": files, "findings": report.findings, "left_out": report.left_out, "notes": report.notes,
        "summary": export::json(&report.rows)?, "sessions": report.sessions, "warnings": report.warnings(),
    });
    session.print(&document, || {
        let written: String = files.iter().map(|file| format!("wrote {}\n", file.display())).collect();
        format!("{}\n{written}", report.to_text())
    })?;
    Ok(Outcome::Done)
}

/// What `bitworth measure` found, as a picture.
fn heat_map(args: &ReportArgs, file: &Path, session: &Session) -> Result<Outcome> {
    if args.card.card || args.margin.is_some() || args.subjects {
        bail!("--card, --margin and --subjects are for folders of runs; {} is a file", file.display());
    }
    let table = records::sensitivity::read(file)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let page = bitworth_report::heat_map::page(&table, &name);
    let folder = args.out.as_deref().or(file.parent()).unwrap_or(Path::new(""));
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let files = bitworth_report::write_page(folder, &stem, &page)?;
    let rows = bitworth_report::heat_map::document(&table);
    session.print(&json!({ "files": files, "lead": page.lead, "rows": rows }), || {
        let written: String = files.iter().map(|file| format!("wrote {}\n", file.display())).collect();
        page.lead.iter().map(|line| format!("{line}\n")).collect::<String>() + &written
    })?;
    Ok(Outcome::Done)
}

fn regressions(old: &Path, new: &Path, tolerances: &Tolerances, out: Option<&Path>, session: &Session) -> Result<Outcome> {
    let comparison = regression::of_within(&records::load(old)?, &records::load(new)?, tolerances)?;
    let files = match out {
        Some(out) => {
            let page = changes::page(&comparison, &old.display().to_string(), &new.display().to_string());
            bitworth_report::write_page(out, "comparison", &page)?.to_vec()
        }
        None => Vec::new(),
    };
    let answer = changes::answer(&comparison);
    let regressions = comparison.with(ChangeVerdict::Regression);
    let document = json!({
        "files": files, "regressions": regressions.len(), "comparison": comparison, "warnings": comparison.warnings,
    });
    session.print(&document, || {
        let rest = [ChangeVerdict::Tolerated, ChangeVerdict::Improvement, ChangeVerdict::Undecided, ChangeVerdict::Drifted];
        let rest = rest.into_iter().flat_map(|verdict| comparison.with(verdict));
        let shown: Vec<_> = regressions.iter().copied().chain(rest).collect();
        let table = if shown.is_empty() { String::new() } else { bitworth_report::table::render(&changes::table(&shown)) };
        let only = |names: &[String], run: &Path| match names {
            [] => String::new(),
            names => format!("only in {}: {}\n", run.display(), names.join(", ")),
        };
        let notes: String = comparison.notes.iter().chain(&comparison.warnings).map(|n| format!("{n}\n")).collect();
        // A regression is the reason of the failure, which is said behind this.
        let answer = if regressions.is_empty() { format!("{answer}\n") } else { String::new() };
        let written: String = files.iter().map(|file| format!("wrote {}\n", file.display())).collect();
        format!("{table}{}{}{notes}{written}{answer}", only(&comparison.only_old, old), only(&comparison.only_new, new))
    })?;
    Ok(match regressions.is_empty() {
        true => Outcome::Done,
        false => Outcome::GateFailed(answer),
    })
}
