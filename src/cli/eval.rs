//! `bitworth eval`: task accuracies with intervals, and for several models the paired difference from the first.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::lm_eval::{self, LmEvalArgs, OnModels, Wanted};
use super::session::Session;
use super::sweep::MemoryArgs;
use super::{Outcome, ScoringArgs, job};
use bitworth_eval::job::{Job, ModelSpec, TasksSpec};
use bitworth_eval::stats::Estimate;
use bitworth_eval::task::Task;
use bitworth_measure::execute::Ready;
use bitworth_report::page::{Cell, Column, Table, TableRow};
use bitworth_report::summary::TaskScore;
use bitworth_report::{Summary, table};
use bitworth_tasks::ask::Limit;

/// Score tasks: accuracies with 95 % intervals.
#[derive(Args)]
pub struct EvalArgs {
    /// Hugging Face directories, GGUF files or hf:OWNER/NAME; the first is the reference of the differences. @RECIPE is
    /// the first model quantized on the fly.
    #[arg(required_unless_present_any = ["check", "requests_out", "answers"], value_name = "MODEL")]
    models: Vec<String>,
    /// Tasks that come with the program, or task files (.toml), separated by commas.
    #[arg(long, value_delimiter = ',', required_unless_present = "check", value_name = "TASKS")]
    tasks: Vec<String>,
    /// Only the first N items of each task; of tasks of lm-evaluation-harness also a share, as 0.1.
    #[arg(long, value_name = "N", value_parser = lm_eval::limit)]
    limit: Option<Limit>,
    /// Ask as a chat: each item is what a user says, put into the first model's chat template. Tasks are then named NAME+chat.
    #[arg(long, visible_alias = "apply-chat-template")]
    chat: bool,
    /// Keep the answer to every item in this folder, go on with what an interrupted run left there, and leave the report.
    #[arg(long, visible_alias = "out", value_name = "DIR")]
    records: Option<PathBuf>,
    /// Print the plan (passes, bytes to be read, memory, estimated time) and ask nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    lm_eval: LmEvalArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

impl EvalArgs {
    fn job(&self) -> Result<Job> {
        let model = ModelSpec { model: self.models[0].clone(), candidates: self.models[1..].to_vec(), ..ModelSpec::default() };
        let limit = match self.limit {
            None => None,
            Some(Limit::First(count)) => Some(count),
            Some(_) => bail!("--limit: give a number of items; a share is for requests and recorded answers"),
        };
        job::checked(Job {
            models: vec![model],
            tasks: Some(TasksSpec { names: self.tasks.clone(), limit, chat: self.chat }),
            arithmetic: Some(self.scoring.arithmetic.name().to_owned()),
            max_memory_mib: Some(self.memory.mib()),
            strict: true,
            ..Job::default()
        })
    }
}

pub fn run(args: &EvalArgs, session: &Session) -> Result<Outcome> {
    if args.lm_eval.is_without_answers() {
        let wanted = Wanted {
            tasks: &args.tasks,
            limit: args.limit.clone().unwrap_or_default(),
            chat_of: match (args.chat, args.models.first()) {
                (false, _) => None,
                (true, Some(model)) => Some(model),
                (true, None) => bail!("--chat: give the model whose chat template is meant"),
            },
        };
        return lm_eval::run(&args.lm_eval, &wanted, session);
    }
    if lm_eval::is_meant(&args.lm_eval, &args.tasks)? {
        if args.records.is_some() || args.dry_run {
            bail!("--records and --dry-run are for tasks of our own form (.toml)");
        }
        let device = args.scoring.open()?;
        let wanted = OnModels {
            models: &args.models,
            tasks: &args.tasks,
            limit: args.limit.clone().unwrap_or_default(),
            chat: args.chat,
            device: &device,
            arithmetic: args.scoring.arithmetic,
            limits: args.memory.limits(),
        };
        return lm_eval::on_models(&args.lm_eval, &wanted, session);
    }
    let job = args.job()?;
    let device = args.scoring.open()?;
    if args.dry_run {
        return job::print_plan(&Ready::new(&job, args.records.as_deref(), &device, session.watch())?, &device, session);
    }
    let done = job::execute(&job, args.records.as_deref(), &device, session)?;
    let chances = args.tasks.iter().map(|name| Task::load(name)).collect::<Result<Vec<_>, _>>()?;
    let chance = |task: &str| {
        let plain = task.strip_suffix("+chat").unwrap_or(task);
        chances.iter().find(|known| known.name == plain).map(|task| task.chance)
    };
    let mut rows = Vec::new();
    for known in &chances {
        let name = if args.chat { format!("{}+chat", known.name) } else { known.name.clone() };
        for summary in &done.report.rows {
            let score = summary.tasks.iter().find(|score| score.name == name).context("the task has no items")?;
            rows.push(row(summary, score, chance(&name)));
        }
    }
    let mut document = json!({ "results": rows, "device": device.info(), "arithmetic": args.scoring.arithmetic });
    if !done.files.is_empty() {
        document["files"] = json!(done.files);
    }
    session.print(&document, || table::render(&table(&rows)) + &done.file_lines())?;
    Ok(Outcome::Done)
}

fn row(summary: &Summary, score: &TaskScore, chance: Option<f64>) -> Value {
    let paired = score.against_reference;
    let difference = paired.map(|p| p.difference);
    let [low, high] = [Estimate::low, Estimate::high].map(|end| difference.as_ref().and_then(end));
    json!({
        "model": if summary.is_reference { &summary.model } else { &summary.lane }, "task": score.name,
        "version": score.version, "items": score.items, "chance": chance,
        "accuracy": score.accuracy.value, "low": score.accuracy.low(), "high": score.accuracy.high(),
        "difference": difference.map(|d| d.value), "difference_low": low, "difference_high": high,
        "p_value": paired.map(|p| p.p_value),
    })
}

fn table(rows: &[Value]) -> Table {
    let percent = |row: &Value, key: &str| row[key].as_f64().map_or(String::new(), |v| format!("{:.1}", 100.0 * v));
    let range = |row: &Value, low: &str, high: &str| match row[low].is_null() {
        true => String::new(),
        false => format!("{} to {}", percent(row, low), percent(row, high)),
    };
    let line = |row: &Value| {
        let cells = [
            row["model"].as_str().unwrap_or("").to_owned(),
            row["task"].as_str().unwrap_or("").to_owned(),
            row["items"].to_string(),
            percent(row, "accuracy"),
            range(row, "low", "high"),
            percent(row, "difference"),
            range(row, "difference_low", "difference_high"),
        ];
        TableRow { cells: cells.map(Cell::words).into(), marked: false }
    };
    let heads = ["items", "accuracy %", "95 % interval", "difference", "95 % interval"].map(|head| Column::numbers(head, ""));
    Table {
        columns: ["model", "task"].map(|head| Column::words(head, "")).into_iter().chain(heads).collect(),
        rows: rows.iter().map(line).collect(),
        notes: Vec::new(),
    }
}
