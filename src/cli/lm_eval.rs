//! `bitworth eval` with tasks of lm-evaluation-harness: which there are and which run, their requests as a file, recorded answers
//! judged without a model.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::session::Session;
use super::{Outcome, output};
use bitworth_eval::job::{Limit, TasksSpec};
use bitworth_eval::slice::Slice;
use bitworth_measure::execute::{Harness, Named};
use bitworth_measure::models;
use bitworth_quant::atomic_file::write_whole;
use bitworth_report::page::{Cell, Column, Table, TableRow};
use bitworth_report::table;
use bitworth_tasks::answers::Answers;
use bitworth_tasks::ask::Built;
use bitworth_tasks::evaluation::{About, Evaluation};
use bitworth_tasks::files::config::TaskConfig;
use bitworth_tasks::files::index::{Chosen, Entry, Index};
use bitworth_tasks::judge::BOOTSTRAP_DRAWS;
use bitworth_tasks::task::{Definition, Refusal};
use bitworth_text::chat::{ChatTemplate, Date};

/// Options for tasks of lm-evaluation-harness.
#[derive(Args)]
pub struct LmEvalArgs {
    /// A folder with task files of lm-evaluation-harness (YAML); of several, later ones replace tasks of earlier ones. Names may
    /// then be tasks, groups, tags, and patterns with *.
    #[arg(long, value_name = "DIR")]
    pub include_path: Vec<PathBuf>,
    /// A TOML file that names local files for the data sets of tasks.
    #[arg(long, value_name = "F.toml")]
    data_map: Option<PathBuf>,
    /// Shots in the place of the task's own number.
    #[arg(long, value_name = "N")]
    num_fewshot: Option<usize>,
    /// Which documents, by number: {"TASK": [0, 5], ...}, or a file with that.
    #[arg(long, value_name = "JSON", conflicts_with = "limit")]
    samples: Option<String>,
    /// Put before the task's description: a system message where tasks are asked as chats.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Shots are turns of the chat, not part of one turn.
    #[arg(long, requires = "chat")]
    fewshot_as_multiturn: bool,
    /// Say of each task in the folders whether it runs here, and why not.
    #[arg(long, requires = "include_path")]
    pub check: bool,
    /// Write the requests to this file, a line for a document, and ask nothing.
    #[arg(long, value_name = "F.jsonl", requires = "tasks")]
    pub requests_out: Option<PathBuf>,
    /// Judge recorded answers in the place of a model's: lines {"task", "doc_id", "answers"}.
    #[arg(long, value_name = "F.jsonl", requires = "tasks")]
    pub answers: Option<PathBuf>,
    /// Leave results_*.json and samples_*.jsonl as lm-evaluation-harness does, in this folder.
    #[arg(long, value_name = "DIR")]
    pub output_path: Option<PathBuf>,
    /// Draws for standard errors that are had by drawing documents again.
    #[arg(long, value_name = "N", default_value_t = BOOTSTRAP_DRAWS)]
    pub bootstrap_iters: usize,
}

/// How many documents: a number, or a share below 1.
pub fn limit(text: &str) -> Result<Limit, String> {
    let expected = || "give a number of documents, or a share between 0 and 1".to_owned();
    let limit = text.parse::<f64>().map_err(|_| expected())?;
    Limit::of_number(limit).ok().filter(|limit| *limit != Limit::First(0)).ok_or_else(expected)
}

impl LmEvalArgs {
    /// Whether what is asked for needs no model, or its tokenizer at most.
    pub fn is_without_answers(&self) -> bool {
        self.check || self.requests_out.is_some() || self.answers.is_some()
    }

    /// Adds to what tasks are asked how they are.
    pub fn asked(&self, spec: TasksSpec, limit: Option<&Limit>) -> Result<TasksSpec> {
        let limit = match &self.samples {
            None => limit.cloned().unwrap_or_default(),
            Some(given) => {
                let text = match Path::new(given).is_file() {
                    true => std::fs::read_to_string(given).with_context(|| given.clone())?,
                    false => given.clone(),
                };
                Limit::Samples(serde_json::from_str(&text).context("--samples")?)
            }
        };
        let path = |path: &PathBuf| path.display().to_string();
        Ok(TasksSpec {
            limit,
            include_path: self.include_path.iter().map(path).collect(),
            data_map: self.data_map.as_ref().map(path),
            num_fewshot: self.num_fewshot,
            system: self.system.clone(),
            fewshot_as_multiturn: self.fewshot_as_multiturn,
            ..spec
        })
    }
}

/// Runs what needs no answers of a model; `model` is that whose chat template is asked for.
pub fn run(args: &LmEvalArgs, spec: &TasksSpec, model: Option<&str>, session: &Session) -> Result<Outcome> {
    if args.check {
        return check(args, &spec.names, session);
    }
    if args.answers.is_some() && args.requests_out.is_some() {
        bail!("--answers and --requests-out: give one of them");
    }
    let answers = args.answers.as_deref().map(Answers::read).transpose()?;
    let mut spec = spec.clone();
    if let Some(answers) = answers.as_ref().filter(|_| spec.limit == Limit::All) {
        // Where nothing else is asked for, what was answered says which documents.
        let tasks = Index::read(&args.include_path)?.select(&spec.names)?.tasks;
        for task in &tasks {
            if answers.documents(&task.name).is_empty() {
                bail!("--answers: there are none to the task {}", task.name);
            }
        }
        spec.limit = Limit::Samples(tasks.iter().map(|task| (task.name.clone(), answers.documents(&task.name))).collect());
    }
    let template = match (spec.chat, model) {
        (false, _) => None,
        (true, Some(model)) => Some(ChatTemplate::of(&*models::open(model, session.watch())?, Date::OF_RECORDS)?),
        (true, None) => bail!("--chat: give the model whose chat template is meant"),
    };
    let harness = Named::find(&spec, Slice::WHOLE, session.watch())?.harness(template)?;
    if harness.built.is_empty() {
        bail!("--tasks: none is a task of lm-evaluation-harness, whose requests and answers these are");
    }
    if let Some(name) =
        answers.iter().flat_map(Answers::tasks).find(|name| !harness.selection.tasks.iter().any(|t| t.name == *name))
    {
        session.note(&format!("--answers: those to the task {name} are left out, as it is not among --tasks"));
    }
    match answers {
        Some(answers) => judged(args, &spec, &harness, &answers, session),
        None => requests_out(args.requests_out.as_deref().context("--requests-out")?, &harness.built, session),
    }
}

fn requests_out(path: &Path, built: &[Arc<Built>], session: &Session) -> Result<Outcome> {
    let mut text = String::new();
    let mut count = 0;
    for task in built {
        for asked in &task.asked {
            text += &serde_json::to_string(&task.line(asked))?;
            text.push('\n');
            count += asked.requests.len();
        }
    }
    write_whole(path, text.as_bytes())?;
    let documents: usize = built.iter().map(|task| task.asked.len()).sum();
    let strays: usize = built.iter().map(|task| task.strays).sum();
    let document =
        json!({ "file": path, "tasks": built.len(), "documents": documents, "requests": count, "gold_outside": strays });
    session.print(&document, || {
        format!("{count} requests about {documents} documents of {} tasks: {}", built.len(), path.display())
    })?;
    Ok(Outcome::Done)
}

fn judged(args: &LmEvalArgs, spec: &TasksSpec, harness: &Harness, answers: &Answers, session: &Session) -> Result<Outcome> {
    let own = harness.built.iter().map(|task| answers.of(task)).collect::<Result<Vec<_>, _>>()?;
    let evaluation = Evaluation::new(&harness.selection, &harness.built, own, args.bootstrap_iters)?;
    let about = About {
        model: "answers".to_owned(),
        model_args: args.answers.as_deref().map_or_else(String::new, |path| path.display().to_string()),
        limit: json!(spec.limit),
        bootstrap_draws: args.bootstrap_iters,
        system: spec.system.clone(),
        multiturn: spec.fewshot_as_multiturn,
        chat_template: harness.chat_template.clone(),
        date: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        seconds: 0.0,
    };
    let mut document = evaluation.document(&about)?;
    if let Some(folder) = &args.output_path {
        document["files"] = json!(super::eval::leave(&evaluation, &about, folder)?);
    }
    session.print(&document, || table::render(&score_table(score_rows(None, &evaluation.entries), false)))?;
    Ok(Outcome::Done)
}

/// A row for every figure, with the lane in front where there is one.
pub fn score_rows(lane: Option<&str>, entries: &Map<String, Value>) -> Vec<TableRow> {
    let mut rows = Vec::new();
    for (name, entry) in entries {
        for (key, value) in entry.as_object().into_iter().flatten() {
            let Some((metric, filter)) = key.split_once(',').filter(|(metric, _)| !metric.ends_with("_stderr")) else { continue };
            let error = entry.get(format!("{metric}_stderr,{filter}")).and_then(Value::as_f64);
            let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.4}"));
            let words = [name.as_str(), filter, metric].map(str::to_owned);
            let cells = lane.map(str::to_owned).into_iter().chain(words).chain([number(value.as_f64()), number(error)]);
            rows.push(TableRow { cells: cells.map(Cell::words).collect(), marked: false });
        }
    }
    rows
}

/// The table of such rows.
pub fn score_table(rows: Vec<TableRow>, has_lanes: bool) -> Table {
    let words =
        ["model", "task", "filter", "metric"].into_iter().skip(usize::from(!has_lanes)).map(|head| Column::words(head, ""));
    let numbers = ["value", "standard error"].map(|head| Column::numbers(head, ""));
    Table { columns: words.chain(numbers).collect(), rows, notes: Vec::new() }
}

/// What keeps a task from running, as a word and as a text.
fn verdict(chosen: &Chosen) -> (&'static str, Option<String>) {
    match TaskConfig::new(chosen) {
        Err(e) => ("broken", Some(e.to_string())),
        Ok(config) => match Definition::new(config) {
            Ok(_) => ("runs", None),
            Err(refusal) => (
                match &refusal {
                    Refusal::NeedsTwin(_) => "needs a twin",
                    Refusal::NeedsPython(_) => "needs Python",
                    Refusal::NotText(_) => "not text",
                    Refusal::Broken(_) => "broken",
                },
                Some(refusal.to_string()),
            ),
        },
    }
}

fn check(args: &LmEvalArgs, names: &[String], session: &Session) -> Result<Outcome> {
    let begin = std::time::Instant::now();
    let index = Index::of_folders(&args.include_path)?;
    let seconds = begin.elapsed().as_secs_f64();
    let chosen: Vec<(Chosen, bool)> = match names {
        [] => index.entries().filter_map(|(name, entry)| of_entry(name, entry)).collect(),
        names => index.select(names)?.tasks.into_iter().map(|chosen| (chosen, false)).collect(),
    };
    let verdicts: Vec<(&Chosen, &'static str, Option<String>)> = chosen
        .par_iter()
        .map(|(chosen, is_class)| match is_class {
            true => (chosen, "needs Python", Some("the task is a Python class".to_owned())),
            false => {
                let (word, why) = verdict(chosen);
                (chosen, word, why)
            }
        })
        .collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    verdicts.iter().for_each(|(_, word, _)| *counts.entry(word).or_default() += 1);
    let tasks: Vec<Value> = verdicts
        .iter()
        .map(|(chosen, word, why)| json!({ "task": chosen.name, "file": chosen.source.path, "verdict": word, "why": why }))
        .collect();
    let skipped: Vec<Value> = index.skipped.iter().map(|(path, why)| json!({ "file": path, "why": why })).collect();
    let document = json!({
        "tasks": tasks, "counts": counts, "total": verdicts.len(), "skipped_files": skipped, "index_seconds": seconds,
    });
    session.print(&document, || {
        let mut text = String::new();
        for (chosen, word, why) in &verdicts {
            let why = why.as_ref().map(|why| format!(": {}", output::tame(why))).unwrap_or_default();
            let _ = writeln!(text, "{}: {word}{why}", output::tame(&chosen.name).replace('\n', "\\n"));
        }
        for (path, why) in &index.skipped {
            let _ = writeln!(text, "{}: {}", output::tame(&path.display().to_string()), output::tame(why));
        }
        let _ = writeln!(text, "{} tasks, {} files left out", verdicts.len(), index.skipped.len());
        for (word, count) in &counts {
            let _ = writeln!(text, "  {word}: {count}");
        }
        text
    })?;
    Ok(Outcome::Done)
}

/// A task of the index, and whether it is a Python class.
fn of_entry(name: &str, entry: &Entry) -> Option<(Chosen, bool)> {
    match entry {
        Entry::Task(source) => Some((Chosen { name: name.to_owned(), source: source.clone() }, false)),
        Entry::Python(source) => Some((Chosen { name: name.to_owned(), source: source.clone() }, true)),
        Entry::Group(_) | Entry::Tag(_) => None,
    }
}
