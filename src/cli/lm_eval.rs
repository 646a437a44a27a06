//! `bitworth eval` with tasks of lm-evaluation-harness: which there are and which run, their requests as a file, recorded answers
//! judged without a model.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::session::Session;
use super::{Outcome, output};
use bitworth_eval::job::{Limit, TasksSpec};
use bitworth_eval::slice::Slice;
use bitworth_measure::execute::{Harness, Named};
use bitworth_measure::models;
use bitworth_quant::atomic_file::write_whole;
use bitworth_report::evaluation::{harness_rows, harness_table};
use bitworth_report::table;
use bitworth_tasks::answers::Answers;
use bitworth_tasks::ask::Built;
use bitworth_tasks::check::{self, TaskCheck};
use bitworth_tasks::evaluation::{About, Evaluation};
use bitworth_tasks::files::index::Index;
use bitworth_tasks::judge::BOOTSTRAP_DRAWS;
use bitworth_tasks::requests;
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
    /// Judge recorded answers in the place of a model's: lines {"task", "doc_id", "answers"}, with an answer for each request, as
    /// ["text"] or [[logprob, is_greedy], ...]; where the task has repeats: 3, a list of 3 for each, as [["A", "A", "B"]].
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

    /// What the files of lm-evaluation-harness say of an evaluation: the model's name and path, when it began, how long it took.
    pub fn about(
        &self,
        spec: &TasksSpec,
        harness: &Harness,
        (model, model_args): (&str, String),
        (date, seconds): (f64, f64),
    ) -> About {
        About {
            model: model.to_owned(),
            model_args,
            limit: json!(spec.limit),
            bootstrap_draws: self.bootstrap_iters,
            system: spec.system.clone(),
            multiturn: spec.fewshot_as_multiturn,
            chat_template: harness.chat_template.clone(),
            date,
            seconds,
        }
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
    let template = match (spec.chat, model) {
        (false, _) => None,
        (true, Some(model)) => Some(ChatTemplate::of(&*models::open(model, session.watch())?, Date::OF_RECORDS)?),
        (true, None) => bail!("--chat: give the model whose chat template is meant"),
    };
    let harness = Named::find(spec, Slice::WHOLE, session.watch())?.harness(template)?;
    if harness.built.is_empty() {
        bail!("--tasks: none is a task of lm-evaluation-harness, whose requests and answers these are");
    }
    if let Some(name) =
        answers.iter().flat_map(Answers::tasks).find(|name| !harness.selection.tasks.iter().any(|t| t.name == *name))
    {
        session.note(&format!("--answers: those to the task {name} are left out, as it is not among --tasks"));
    }
    match answers {
        Some(answers) => judged(args, spec, &harness, &answers, session),
        None => requests_out(args.requests_out.as_deref().context("--requests-out")?, &harness.built, session),
    }
}

fn requests_out(path: &Path, built: &[Arc<Built>], session: &Session) -> Result<Outcome> {
    let asked = || built.iter().flat_map(|task| &task.asked);
    let (documents, count) = (asked().count(), asked().map(|asked| asked.requests.len()).sum::<usize>());
    write_whole(path, requests::lines(built).as_bytes())?;
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
    let file = args.answers.as_deref().map_or_else(String::new, |path| path.display().to_string());
    let about = args.about(spec, harness, ("answers", file), (now(), 0.0));
    let mut document = evaluation.document(&about)?;
    if let Some(folder) = &args.output_path {
        document["files"] = json!(evaluation.write(&about, folder)?);
    }
    session.print(&document, || table::render(&harness_table(harness_rows(None, &evaluation.entries), false)))?;
    Ok(Outcome::Done)
}

/// Now, in seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn check(args: &LmEvalArgs, names: &[String], session: &Session) -> Result<Outcome> {
    let begin = std::time::Instant::now();
    let index = Index::of_folders(&args.include_path)?;
    let seconds = begin.elapsed().as_secs_f64();
    let tasks = check::check(&index, names)?;
    let counts = check::counts(&tasks);
    let skipped: Vec<Value> = index.skipped.iter().map(|(path, why)| json!({ "file": path, "why": why })).collect();
    let document = json!({
        "tasks": tasks, "counts": counts, "total": tasks.len(), "skipped_files": skipped, "index_seconds": seconds,
    });
    session.print(&document, || {
        // A task or a file is one line, whatever a stranger's folder named it.
        let tame = |text: &str| output::tame(text).replace('\n', "\\n");
        let mut text = String::new();
        for TaskCheck { task, verdict, why, .. } in &tasks {
            let why = why.as_ref().map(|why| format!(": {}", tame(why))).unwrap_or_default();
            let _ = writeln!(text, "{}: {verdict}{why}", tame(task));
        }
        for (path, why) in &index.skipped {
            let _ = writeln!(text, "{}: {}", tame(&path.display().to_string()), tame(why));
        }
        let _ = writeln!(text, "{} tasks, {} files left out", tasks.len(), index.skipped.len());
        for (word, count) in &counts {
            let _ = writeln!(text, "  {word}: {count}");
        }
        text
    })?;
    Ok(Outcome::Done)
}
