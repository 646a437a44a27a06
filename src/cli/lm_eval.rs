//! `bitworth eval` with tasks of lm-evaluation-harness: which there are and which run, their requests as a file, recorded answers
//! judged without a model.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::session::Session;
use super::{Outcome, output};
use bitworth_engine::backend::Arithmetic;
use bitworth_engine::sweep::SweepLimits;
use bitworth_measure::device::Device;
use bitworth_measure::{models, on_device};
use bitworth_quant::Checkpoint;
use bitworth_quant::atomic_file::write_whole;
use bitworth_report::page::{Cell, Column, Table, TableRow};
use bitworth_report::table;
use bitworth_tasks::answers::Answers;
use bitworth_tasks::ask::{Ask, Built, Limit, Render, build_all};
use bitworth_tasks::files::config::TaskConfig;
use bitworth_tasks::files::index::{Chosen, Entry, Index, Selection};
use bitworth_tasks::judge::{BOOTSTRAP_DRAWS, Judged, judge};
use bitworth_tasks::requests;
use bitworth_tasks::results::{entries_of, sample_line};
use bitworth_tasks::rows::DataSources;
use bitworth_tasks::rows::map::DataMap;
use bitworth_tasks::task::{Definition, Refusal};
use bitworth_text::chat::{ChatTemplate, Date, Message};
use bitworth_text::tokenizer::Tokenizer;

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
    output_path: Option<PathBuf>,
    /// Draws for standard errors that are had by drawing documents again.
    #[arg(long, value_name = "N", default_value_t = BOOTSTRAP_DRAWS)]
    bootstrap_iters: usize,
}

/// How many documents: a number, or a share below 1.
pub fn limit(text: &str) -> Result<Limit, String> {
    let expected = || "give a number of documents, or a share between 0 and 1".to_owned();
    match (text.parse::<usize>(), text.parse::<f64>()) {
        (Ok(count), _) if count > 0 => Ok(Limit::First(count)),
        (Err(_), Ok(share)) if share > 0.0 && share < 1.0 => Ok(Limit::Share(share)),
        (Err(_), Ok(count)) if count >= 1.0 && count.fract() == 0.0 && count < 1e15 => Ok(Limit::First(count as usize)),
        _ => Err(expected()),
    }
}

impl LmEvalArgs {
    /// Whether what is asked for needs no model, or its tokenizer at most.
    pub fn is_without_answers(&self) -> bool {
        self.check || self.requests_out.is_some() || self.answers.is_some()
    }

    fn index(&self) -> Result<Index> {
        Ok(Index::read(&self.include_path)?)
    }

    /// Where rows come from.
    fn sources(&self) -> Result<Arc<DataSources>> {
        let map = self.data_map.as_deref().map(DataMap::read).transpose()?;
        Ok(Arc::new(DataSources { map, data_sets: None }))
    }

    fn ask(&self, limit: &Limit, chat: Option<Arc<Render>>) -> Result<Ask> {
        let limit = match &self.samples {
            None => limit.clone(),
            Some(given) => {
                let text = match Path::new(given).is_file() {
                    true => std::fs::read_to_string(given).with_context(|| given.clone())?,
                    false => given.clone(),
                };
                Limit::Samples(serde_json::from_str(&text).context("--samples")?)
            }
        };
        let (num_fewshot, system, multiturn) = (self.num_fewshot, self.system.clone(), self.fewshot_as_multiturn);
        Ok(Ask { num_fewshot, limit, system, multiturn, chat })
    }
}

/// What of the command's own options is needed here.
pub struct Wanted<'a> {
    /// Names of tasks.
    pub tasks: &'a [String],
    /// Which documents.
    pub limit: Limit,
    /// The model whose chat template is asked for.
    pub chat_of: Option<&'a str>,
}

/// Runs what needs no answers of a model.
pub fn run(args: &LmEvalArgs, wanted: &Wanted, session: &Session) -> Result<Outcome> {
    if args.check {
        return check(args, wanted, session);
    }
    let index = args.index()?;
    let mut names = wanted.tasks.to_vec();
    names.retain(|name| !name.is_empty());
    let selection = index.select(&names)?;
    let definitions = selection.tasks.iter().map(definition).collect::<Result<Vec<_>>>()?;
    let chat = wanted.chat_of.map(|model| render(model, session)).transpose()?;
    let answers = args.answers.as_deref().map(Answers::read).transpose()?;
    let limit = match &answers {
        // Where nothing else is asked for, what was answered says which documents.
        Some(answers) if wanted.limit == Limit::All && args.samples.is_none() => {
            let of = |task: &Arc<Definition>| (task.config.task.clone(), answers.documents(&task.config.task));
            Limit::Samples(definitions.iter().map(of).collect())
        }
        _ => wanted.limit.clone(),
    };
    let built = build_all(&definitions, &args.sources()?, &args.ask(&limit, chat)?)?;
    match answers {
        Some(answers) => judged(args, &selection, built, &answers, session),
        None => requests_out(args.requests_out.as_deref().context("--requests-out")?, &built, session),
    }
}

/// What of the command's own options a run on models needs.
pub struct OnModels<'a> {
    /// The reference, then candidates.
    pub models: &'a [String],
    /// Names of tasks.
    pub tasks: &'a [String],
    /// Which documents.
    pub limit: Limit,
    /// Whether documents are asked as chats.
    pub chat: bool,
    /// Where models run.
    pub device: &'a Device,
    /// How products are computed.
    pub arithmetic: Arithmetic,
    /// What may be held in memory.
    pub limits: SweepLimits,
}

/// Whether tasks of lm-evaluation-harness are meant: where a folder of them is given, or one that comes with the program is
/// named.
pub fn is_meant(args: &LmEvalArgs, tasks: &[String]) -> Result<bool> {
    if !args.include_path.is_empty() {
        return Ok(true);
    }
    let index = args.index()?;
    Ok(tasks.iter().any(|name| index.get(name).is_some() || name.contains('*') || name.ends_with(".yaml")))
}

/// Asks all lanes all tasks in one walk and shows every task's figures by lane.
pub fn on_models(args: &LmEvalArgs, wanted: &OnModels, session: &Session) -> Result<Outcome> {
    let selection = args.index()?.select(wanted.tasks)?;
    let definitions = selection.tasks.iter().map(definition).collect::<Result<Vec<_>>>()?;
    let reference = models::open(&wanted.models[0], session.watch())?;
    let chat = if wanted.chat { Some(template_of(&reference)?) } else { None };
    let built = build_all(&definitions, &args.sources()?, &args.ask(&wanted.limit, chat)?)?;
    let mut lanes = vec![models::reference(&reference)];
    for name in &wanted.models[1..] {
        lanes.push(models::candidate(&reference, name, None, session.watch())?);
    }
    models::number_duplicates(&mut lanes);
    for lane in &mut lanes {
        lane.arithmetic = wanted.arithmetic;
    }
    let tokenizer = Tokenizer::new(&reference)?;
    let by_task = built.iter().map(requests::requests).collect::<Result<Vec<_>, _>>()?;
    let all = by_task.concat();
    let answers = on_device!(wanted.device, backend => {
        bitworth_measure::requests::answer(backend, &lanes, &tokenizer, &all, wanted.limits, session.watch())
    })?;
    let mut by_lane = Map::new();
    let mut rows = Vec::new();
    for (lane, given) in lanes.iter().zip(&answers) {
        let mut rest = given.as_slice();
        let mut judgements = Vec::new();
        for (task, asked) in built.iter().zip(&by_task) {
            let (own, behind) = rest.split_at(asked.len());
            rest = behind;
            judgements.push(judge(task, &requests::answers(task, own)?, args.bootstrap_iters)?);
        }
        let entries = entries_of(&built, judgements.iter(), &selection)?;
        rows.extend(score_rows(Some(&lane.name), &entries));
        by_lane.insert(lane.name.clone(), Value::Object(entries));
    }
    let document = json!({ "results": by_lane, "device": wanted.device.info(), "arithmetic": wanted.arithmetic });
    session.print(&document, || table::render(&score_table(rows, true)))?;
    Ok(Outcome::Done)
}

fn definition(chosen: &Chosen) -> Result<Arc<Definition>> {
    let config = TaskConfig::new(chosen)?;
    let (path, name) = (config.path.display().to_string(), config.task.clone());
    match Definition::new(config) {
        Ok(definition) => Ok(Arc::new(definition)),
        Err(refusal) => bail!("{path}: task {name}: {refusal}"),
    }
}

/// The chat template of a model, as a function.
fn render(model: &str, session: &Session) -> Result<Arc<Render>> {
    template_of(&*models::open(model, session.watch())?)
}

fn template_of(checkpoint: &Checkpoint) -> Result<Arc<Render>> {
    let template = ChatTemplate::of(checkpoint, Date::OF_RECORDS)?;
    Ok(Arc::new(move |messages: &[Message], goes_on: bool| template.render_up_to(messages, goes_on).map_err(|e| e.message())))
}

fn requests_out(path: &Path, built: &[Built], session: &Session) -> Result<Outcome> {
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

fn judged(args: &LmEvalArgs, selection: &Selection, built: Vec<Built>, answers: &Answers, session: &Session) -> Result<Outcome> {
    let mut judgements = Vec::new();
    let mut files: Vec<(String, String)> = Vec::new();
    for task in &built {
        let own = answers.of(task)?;
        let judged = judge(task, &own, args.bootstrap_iters)?;
        if args.output_path.is_some() {
            let mut text = String::new();
            for sample in &judged.samples {
                text += &serde_json::to_string(&sample_line(task, sample, &own[sample.at])?)?;
                text.push('\n');
            }
            files.push((format!("samples_{}", task.definition.config.task), text));
        }
        judgements.push(judged);
    }
    let entries = entries_of(&built, judgements.iter(), selection)?;
    let results: Vec<(&Built, &Judged)> = built.iter().zip(&judgements).collect();
    let document = document(&results, selection, &entries);
    if let Some(folder) = &args.output_path {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        files.push(("results".to_owned(), serde_json::to_string_pretty(&document)?));
        for (name, text) in files {
            let ending = if name == "results" { "json" } else { "jsonl" };
            let path = folder.join(format!("{}.{ending}", output::tame(&name.replace(['/', ':', '\\'], "_"))));
            write_whole(&path, text.as_bytes())?;
        }
    }
    session.print(&document, || table::render(&score_table(score_rows(None, &entries), false)))?;
    Ok(Outcome::Done)
}

/// The results as lm-evaluation-harness names their parts.
fn document(results: &[(&Built, &Judged)], selection: &Selection, entries: &Map<String, Value>) -> Value {
    let groups: Map<String, Value> = selection
        .groups
        .iter()
        .filter(|group| group.source.get("aggregate_metric_list").is_some())
        .filter_map(|group| Some((group.name.clone(), entries.get(&group.name)?.clone())))
        .collect();
    let of = |value: fn(&Built, &Judged) -> Value| -> Value {
        let pairs: BTreeMap<&str, Value> =
            results.iter().map(|(built, judged)| (built.definition.config.task.as_str(), value(built, judged))).collect();
        json!(pairs)
    };
    let members: Map<String, Value> = selection.groups.iter().map(|group| (group.name.clone(), json!(group.members))).collect();
    let mut document = json!({ "results": entries });
    if !groups.is_empty() {
        document["groups"] = Value::Object(groups);
    }
    document["group_subtasks"] = Value::Object(members);
    document["versions"] = of(|built, _| match built.definition.config.metadata.get("version") {
        Some(version) => version.clone(),
        None => "Yaml".into(),
    });
    document["n-shot"] = of(|built, _| built.num_fewshot.into());
    document["higher_is_better"] = of(|built, _| {
        let metrics = built.definition.metrics.iter();
        metrics.map(|metric| (metric.name.clone(), json!(metric.higher_is_better))).collect::<Map<_, _>>().into()
    });
    document["n-samples"] = of(|built, judged| {
        let effective = judged.scores.iter().map(|score| score.count).max().unwrap_or_default();
        json!({ "original": built.total, "effective": effective })
    });
    document
}

/// A row for every figure, with the lane in front where there is one.
fn score_rows(lane: Option<&str>, entries: &Map<String, Value>) -> Vec<TableRow> {
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

fn score_table(rows: Vec<TableRow>, has_lanes: bool) -> Table {
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

fn check(args: &LmEvalArgs, wanted: &Wanted, session: &Session) -> Result<Outcome> {
    let begin = std::time::Instant::now();
    let index = Index::of_folders(&args.include_path)?;
    let seconds = begin.elapsed().as_secs_f64();
    let chosen: Vec<(Chosen, bool)> = match wanted.tasks {
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
            let _ = writeln!(text, "{}: {word}{why}", output::tame(&chosen.name));
        }
        let _ = writeln!(text, "{} tasks", verdicts.len());
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
