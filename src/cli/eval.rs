//! `bitworth eval`: task accuracies with intervals, and for several models the paired difference from the first.

use std::num::NonZeroUsize;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::session::Session;
use super::sweep::MemoryArgs;
use super::{Outcome, ScoringArgs};
use bitworth_engine::model::Variant;
use bitworth_engine::sweep::Lane;
use bitworth_eval::stats;
use bitworth_eval::task::{self, Task};
use bitworth_measure::on_device;
use bitworth_measure::{models, requests};
use bitworth_text::tokenizer::Tokenizer;

/// Score tasks: accuracies with 95 % intervals.
#[derive(Args)]
pub struct EvalArgs {
    /// Hugging Face directories, GGUF files or hf:OWNER/NAME; the first is the reference of the differences. @RECIPE is
    /// the first model quantized on the fly.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<String>,
    /// Tasks that come with the program, or task files (.toml), separated by commas.
    #[arg(long, value_delimiter = ',', required = true, value_name = "TASKS")]
    tasks: Vec<String>,
    /// Only the first N items of each task.
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    /// Ask as a chat: each item is what a user says, put into the first model's chat template. Tasks are then named NAME+chat.
    #[arg(long)]
    chat: bool,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

pub fn run(args: &EvalArgs, session: &Session) -> Result<Outcome> {
    let mut tasks = args.tasks.iter().map(|name| Task::load(name)).collect::<Result<Vec<_>, _>>()?;
    let checkpoint = models::open(&args.models[0], session.watch())?;
    let mut lanes = vec![Lane {
        name: checkpoint.name().to_owned(),
        variant: Variant::Stored(checkpoint.clone()),
        arithmetic: args.scoring.arithmetic,
    }];
    for model in &args.models[1..] {
        let lane = models::candidate(&checkpoint, model, None, session.watch())?;
        lanes.push(Lane { arithmetic: args.scoring.arithmetic, ..lane });
    }
    models::number_duplicates(&mut lanes);
    let mut tokenizer = Tokenizer::new(&checkpoint)?;
    if args.chat {
        (tasks, tokenizer) = requests::as_chats(&checkpoint, &tokenizer, tasks)?;
    }
    let device = args.scoring.open()?;
    let mut rows = Vec::new();
    for task in &tasks {
        let items = task.first(args.limit.map(NonZeroUsize::get));
        let asked = task::build(items);
        let answers = on_device!(&device, backend =>
            requests::answer(backend, &lanes, &tokenizer, &asked, args.memory.limits(), session.watch()))
        .with_context(|| format!("task {}", task.name))?;
        let mut reference: Vec<bool> = Vec::new();
        for (lane, answers) in lanes.iter().zip(&answers) {
            let correct: Vec<bool> = task.judge(items, answers)?.iter().map(|r| r.verdict.correct).collect();
            if reference.is_empty() {
                reference = correct.clone();
            }
            rows.push(row(lane, task, &correct, &reference).context("the task has no items")?);
        }
    }
    session
        .print(&json!({ "results": rows, "device": device.info(), "arithmetic": args.scoring.arithmetic }), || table(&rows))?;
    Ok(Outcome::Done)
}

fn row(lane: &Lane, task: &Task, correct: &[bool], reference: &[bool]) -> Option<Value> {
    let right = correct.iter().filter(|c| **c).count() as u64;
    let accuracy = stats::wilson(right, correct.len() as u64)?;
    let pairs: Vec<(bool, bool)> = correct.iter().copied().zip(reference.iter().copied()).collect();
    let paired = stats::paired_accuracy(&pairs)?;
    Some(json!({
        "model": lane.name, "task": task.name, "version": task.version, "items": correct.len(), "chance": task.chance,
        "accuracy": accuracy.value, "low": accuracy.interval.map(|i| i.low), "high": accuracy.interval.map(|i| i.high),
        "difference": paired.difference.value, "difference_low": paired.difference.interval.map(|i| i.low),
        "difference_high": paired.difference.interval.map(|i| i.high), "p_value": paired.p_value,
    }))
}

fn table(rows: &[Value]) -> String {
    let percent = |row: &Value, key: &str| row[key].as_f64().map_or(String::new(), |v| format!("{:.1}", 100.0 * v));
    let wide = rows.iter().filter_map(|row| row["model"].as_str()).map(|name| name.chars().count()).max().unwrap_or(5);
    let mut text = format!(
        "{:wide$} {:12} {:>6} {:>10} {:>15} {:>12}\n",
        "model", "task", "items", "accuracy %", "95 % interval", "difference"
    );
    for row in rows {
        let interval = format!("{} - {}", percent(row, "low"), percent(row, "high"));
        text += &format!(
            "{:wide$} {:12} {:>6} {:>10} {interval:>15} {:>12}\n",
            row["model"].as_str().unwrap_or(""),
            row["task"].as_str().unwrap_or(""),
            row["items"],
            percent(row, "accuracy"),
            percent(row, "difference")
        );
    }
    text
}
