//! `bitworth eval`: tasks of our own form and of lm-evaluation-harness on a model and its quantizations, in one walk: scores with
//! intervals, differences from the first, and what follows from them.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::job::Written;
use super::lm_eval::{self, LmEvalArgs};
use super::session::Session;
use super::sweep::MemoryArgs;
use super::{Outcome, ScoringArgs, job, output};
use bitworth_eval::job::{DEFAULT_MARGIN, Job, Limit, ModelSpec, PerplexityKind, PerplexitySpec, TasksSpec};
use bitworth_eval::record::Record;
use bitworth_eval::slice::Slice;
use bitworth_eval::stats::{self, Estimate, Verdict};
use bitworth_eval::task::Task;
use bitworth_measure::execute::{Harness, Named, Ready};
use bitworth_quant::atomic_file::write_whole;
use bitworth_report::page::{Cell, Column, Table, TableRow};
use bitworth_report::tasks::TaskScore;
use bitworth_report::{Summary, table, task_scores};
use bitworth_tasks::evaluation::{About, Evaluation, date_id, file_line, sanitized};
use bitworth_tasks::items;

/// Shares of items that flip between a model and its quantization, from mild to heavy, for plans.
const FLIP_SHARES: [f64; 3] = [0.02, 0.05, 0.1];

/// Score tasks: accuracies with 95 % intervals, and which losses are real.
#[derive(Args)]
pub struct EvalArgs {
    /// Hugging Face directories, GGUF files or hf:OWNER/NAME; the first is the reference of the differences. @RECIPE is
    /// the first model quantized on the fly.
    #[arg(required_unless_present_any = ["check", "plan", "requests_out", "answers"], value_name = "MODEL")]
    models: Vec<String>,
    /// Tasks that come with the program, task files (.toml), and tasks, groups, tags and patterns of lm-evaluation-harness,
    /// separated by commas.
    #[arg(long, value_name = "TASKS", value_delimiter = ',')]
    #[arg(required_unless_present_any = ["check", "hellaswag", "winogrande", "multiple_choice"])]
    tasks: Vec<String>,
    #[command(flatten)]
    perplexity: PerplexityArgs,
    /// Only the first N items of each task, or a share of them, as 0.1.
    #[arg(long, value_name = "N", value_parser = lm_eval::limit)]
    limit: Option<Limit>,
    /// Ask as a chat: each item is what a user says, put into the first model's chat template. Tasks of our own form are then
    /// named NAME+chat.
    #[arg(long, visible_alias = "apply-chat-template")]
    chat: bool,
    /// Keep the answer to every item in this folder, go on with what an interrupted run left there, and leave the report.
    #[arg(long, visible_aliases = ["out", "resume"], value_name = "DIR")]
    records: Option<PathBuf>,
    /// Print the plan (passes, bytes to be read, memory, estimated time) and ask nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print which differences the tasks can show, by the share of items that flip, and ask nothing.
    #[arg(long, conflicts_with = "dry_run")]
    plan: bool,
    /// How far below the reference a model may stay and count as not worse, in points of accuracy.
    #[arg(long, value_name = "POINTS", default_value_t = DEFAULT_MARGIN, value_parser = margin)]
    margin: f64,
    #[command(flatten)]
    lm_eval: LmEvalArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    scoring: ScoringArgs,
}

/// llama-perplexity's multiple-choice tests.
#[derive(Args)]
struct PerplexityArgs {
    /// A file of llama-perplexity's HellaSwag test, six lines a question.
    #[arg(long, value_name = "FILE")]
    hellaswag: Option<PathBuf>,
    /// How many of its questions, drawn as llama-perplexity draws them [default: 400].
    #[arg(long, value_name = "N", requires = "hellaswag", value_parser = clap::value_parser!(u32).range(1..))]
    hellaswag_tasks: Option<u32>,
    /// A file of llama-perplexity's WinoGrande test, a line of CSV a question.
    #[arg(long, value_name = "FILE")]
    winogrande: Option<PathBuf>,
    /// How many of its questions, drawn as llama-perplexity draws them [default: all].
    #[arg(long, value_name = "N", requires = "winogrande", value_parser = clap::value_parser!(u32).range(1..))]
    winogrande_tasks: Option<u32>,
    /// A file of llama-perplexity's multiple-choice test, binary.
    #[arg(long, value_name = "FILE")]
    multiple_choice: Option<PathBuf>,
    /// How many of its questions, drawn as llama-perplexity draws them [default: all].
    #[arg(long, value_name = "N", requires = "multiple_choice", value_parser = clap::value_parser!(u32).range(1..))]
    multiple_choice_tasks: Option<u32>,
}

impl PerplexityArgs {
    fn files(&self) -> Vec<PerplexitySpec> {
        let all = [
            (PerplexityKind::Hellaswag, &self.hellaswag, self.hellaswag_tasks),
            (PerplexityKind::Winogrande, &self.winogrande, self.winogrande_tasks),
            (PerplexityKind::MultipleChoice, &self.multiple_choice, self.multiple_choice_tasks),
        ];
        let spec = |(kind, file, count): (PerplexityKind, &Option<PathBuf>, Option<u32>)| {
            let file = file.as_ref()?.display().to_string();
            Some(PerplexitySpec { kind, file, count: count.map(|count| count as usize) })
        };
        all.into_iter().filter_map(spec).collect()
    }
}

/// A margin: points of accuracy.
pub fn margin(text: &str) -> Result<f64, String> {
    let margin = text.parse().ok().filter(|margin| *margin > 0.0 && *margin <= 100.0);
    margin.ok_or_else(|| "give points above 0, at most 100".to_owned())
}

impl EvalArgs {
    fn tasks(&self) -> Result<TasksSpec> {
        let spec = TasksSpec {
            names: self.tasks.iter().filter(|name| !name.is_empty()).cloned().collect(),
            chat: self.chat,
            margin: self.margin,
            llama_perplexity: self.perplexity.files(),
            ..TasksSpec::default()
        };
        let spec = self.lm_eval.asked(spec, self.limit.as_ref())?;
        if !self.lm_eval.check {
            spec.check().map_err(|what| anyhow!("{}", what.describe(&output::flag)))?;
        }
        Ok(spec)
    }

    fn job(&self) -> Result<Job> {
        let (model, candidates) = (self.models[0].clone(), self.models[1..].to_vec());
        let model = ModelSpec { model, candidates, by_name: true, ..ModelSpec::default() };
        job::checked(Job {
            models: vec![model],
            tasks: Some(self.tasks()?),
            arithmetic: Some(self.scoring.arithmetic.name().to_owned()),
            max_memory_mib: Some(self.memory.mib()),
            strict: true,
            ..Job::default()
        })
    }
}

pub fn run(args: &EvalArgs, session: &Session) -> Result<Outcome> {
    if args.lm_eval.is_without_answers() {
        let spec = args.tasks()?;
        if !args.models.is_empty() && !args.chat {
            bail!("{}: no model is asked here; leave it out, or add --chat for its chat template", args.models[0]);
        }
        return lm_eval::run(&args.lm_eval, &spec, args.models.first().map(String::as_str), session);
    }
    if args.plan {
        return plan(&args.tasks()?, args.models.len(), session);
    }
    let job = args.job()?;
    if let Some(folder) = args.lm_eval.output_path.as_deref().filter(|_| !args.dry_run) {
        std::fs::create_dir_all(folder).with_context(|| format!("--output-path {}", folder.display()))?;
    }
    let device = args.scoring.open()?;
    if args.dry_run {
        return job::print_plan(&Ready::new(&job, args.records.as_deref(), &device, session.watch())?, &device, session);
    }
    let (begin, date) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));
    let done = job::execute(&job, args.records.as_deref(), &device, session)?;
    let spec = job.tasks.as_ref().context("the job has no tasks")?;
    let rows = rows(&done, spec)?;
    let mut document = json!({ "results": rows, "device": device.info(), "arithmetic": args.scoring.arithmetic });
    let mut files = done.files.clone();
    let mut figures = Vec::new();
    if let Some(harness) = done.harness.as_ref().filter(|harness| !harness.built.is_empty()) {
        let mut by_lane = Map::new();
        for summary in &done.report.rows {
            let evaluation = evaluation(harness, &done.records, summary, args.lm_eval.bootstrap_iters)?;
            figures.extend(lm_eval::score_rows(Some(&summary.lane), &evaluation.entries));
            if let Some(folder) = &args.lm_eval.output_path {
                let about = About {
                    model: summary.lane.clone(),
                    model_args: format!("model={}", summary.file.as_deref().unwrap_or(&args.models[0])),
                    limit: json!(spec.limit),
                    bootstrap_draws: args.lm_eval.bootstrap_iters,
                    system: spec.system.clone(),
                    multiturn: spec.fewshot_as_multiturn,
                    chat_template: harness.chat_template.clone(),
                    date,
                    seconds: begin.elapsed().as_secs_f64(),
                };
                files.extend(leave(&evaluation, &about, folder)?);
            }
            by_lane.insert(summary.lane.clone(), Value::Object(evaluation.entries));
        }
        document["lm_eval"] = Value::Object(by_lane);
    }
    if args.lm_eval.output_path.is_some() && done.harness.as_ref().is_none_or(|harness| harness.built.is_empty()) {
        session.note("--output-path: nothing is left there, as no task of lm-evaluation-harness was asked");
    }
    if !files.is_empty() {
        document["files"] = json!(files);
    }
    session.print(&document, || {
        let mut text = match figures.is_empty() {
            true => String::new(),
            false => table::render(&lm_eval::score_table(figures, true)) + "\n",
        };
        text.extend(
            task_scores(&done.report.rows, done.report.judgement)
                .map(|scores| table::render(&scores.with_details_beside("95 % interval"))),
        );
        text + &files.iter().map(|file| format!("{}\n", file.display())).collect::<String>()
    })?;
    Ok(Outcome::Done)
}

/// What lm-evaluation-harness makes of the records of one lane.
fn evaluation<'h>(harness: &'h Harness, records: &[Record], summary: &Summary, draws: usize) -> Result<Evaluation<'h>> {
    let own = records.iter().filter(|record| record.origin.model == summary.model && record.origin.lane == summary.lane);
    let own: Vec<_> = own.filter_map(Record::as_item).collect();
    let answers = harness.built.iter().map(|task| {
        let name = &task.definition.config.task;
        items::answers(task, own.iter().copied().filter(|item| item.task == *name))
    });
    let answers = answers.collect::<Result<Vec<_>, _>>()?;
    Ok(Evaluation::new(&harness.selection, &harness.built, answers, draws)?)
}

/// Leaves the files of one lane as lm-evaluation-harness does.
pub fn leave(evaluation: &Evaluation<'_>, about: &About, folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = folder.join(sanitized(&about.model));
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let date = date_id(about.date)?;
    let mut files = Vec::new();
    let mut write = |name: String, text: String| {
        let path = folder.join(name);
        write_whole(&path, text.as_bytes())?;
        files.push(path);
        anyhow::Ok(())
    };
    for (task, lines) in evaluation.samples()? {
        let lines: String = lines.into_iter().map(file_line).collect();
        write(format!("samples_{}_{date}.jsonl", sanitized(task)), lines)?;
    }
    write(format!("results_{date}.json"), serde_json::to_string_pretty(&evaluation.document(about)?)?)?;
    Ok(files)
}

/// Which differences the tasks can show.
fn plan(spec: &TasksSpec, models: usize, session: &Session) -> Result<Outcome> {
    // As scores are compared: groups that were named, and tasks that are in none.
    let mut sizes: Vec<(String, usize)> = Vec::new();
    for (task, group, items) in Named::find(spec, Slice::WHOLE, session.watch())?.sizes()? {
        let name = group.unwrap_or(task);
        match sizes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += items,
            None => sizes.push((name, items)),
        }
    }
    let comparisons = (models.max(2) - 1) * sizes.len();
    let of = |items: usize| FLIP_SHARES.map(|share| stats::detectable(items as u64, share, comparisons as u64));
    let rows: Vec<Value> = sizes
        .iter()
        .map(|(task, items)| {
            let shown =
                FLIP_SHARES.iter().zip(of(*items)).map(|(share, shown)| json!({ "flip_share": share, "difference": shown }));
            json!({ "task": task, "items": items, "detectable": shown.collect::<Vec<_>>() })
        })
        .collect();
    let document = json!({ "plan": rows, "comparisons": comparisons, "power": stats::POWER, "level": stats::LEVEL });
    let head = |share: &f64| Column::numbers(format!("{} % flip", 100.0 * share), "");
    let table = || Table {
        columns: [Column::words("task", ""), Column::numbers("items", "")]
            .into_iter()
            .chain(FLIP_SHARES.iter().map(head))
            .collect(),
        rows: sizes
            .iter()
            .map(|(task, items)| {
                let shown = of(*items).map(|shown| shown.map_or_else(|| "none".to_owned(), |d| format!("{:.1}", 100.0 * d)));
                let cells = [task.clone(), items.to_string()].into_iter().chain(shown).map(Cell::words);
                TableRow { cells: cells.collect(), marked: false }
            })
            .collect(),
        notes: vec![format!(
            "The smallest true difference in points that is found in 4 of 5 cases, where this share of the items flips, either \
             way, among {comparisons} comparisons."
        )],
    };
    session.print(&document, || table::render(&table()))?;
    Ok(Outcome::Done)
}

/// A row for every lane in every task and group, members of groups behind them.
fn rows(done: &Written, spec: &TasksSpec) -> Result<Vec<Value>> {
    let own = spec.names.iter().filter_map(|name| Task::load(name).ok()).collect::<Vec<_>>();
    let chance = |task: &str| {
        let plain = task.strip_suffix("+chat").unwrap_or(task);
        own.iter().find(|known| known.name == plain).map(|task| task.chance)
    };
    let mut names: Vec<&str> = Vec::new();
    for score in done.report.rows.iter().flat_map(|row| &row.tasks) {
        if !names.contains(&score.name.as_str()) {
            names.push(&score.name);
        }
    }
    let mut rows = Vec::new();
    for name in names {
        for summary in &done.report.rows {
            if let Some(score) = summary.tasks.iter().find(|score| score.name == name) {
                add_rows(summary, score, None, &chance, &mut rows);
            }
        }
    }
    Ok(rows)
}

fn add_rows(
    summary: &Summary,
    score: &TaskScore,
    group: Option<&str>,
    chance: &impl Fn(&str) -> Option<f64>,
    rows: &mut Vec<Value>,
) {
    let comparison = score.against_reference.as_ref();
    let paired = comparison.map(|comparison| &comparison.paired);
    let difference = paired.map(|paired| paired.difference);
    let [low, high] = [Estimate::low, Estimate::high].map(|end| difference.as_ref().and_then(end));
    let mut row = json!({
        "model": summary.lane, "task": score.name, "group": group, "version": score.version, "metric": score.metric,
        "items": score.items, "chance": chance(&score.name),
        "accuracy": score.accuracy.value, "low": score.accuracy.low(), "high": score.accuracy.high(),
        "standard_error": score.error.clustered_error, "lm_eval_standard_error": score.error.standard_error,
        "difference": difference.map(|d| d.value), "difference_low": low, "difference_high": high,
        "only_reference": paired.and_then(|p| p.only_reference), "only_model": paired.and_then(|p| p.only_lane),
        "p_value": paired.map(|p| p.p_value), "p_adjusted": comparison.map(|c| c.p_adjusted),
        "choices": score.choices,
    });
    if let Some(comparison) = comparison {
        let (verdict, items) = match comparison.verdict {
            Verdict::Worse => ("worse", None),
            Verdict::NotWorse => ("not_worse", None),
            Verdict::Undecided { items } => ("undecided", items),
        };
        row["verdict"] = verdict.into();
        row["items_that_decide"] = json!(items);
    }
    rows.push(row);
    for member in &score.members {
        add_rows(summary, member, Some(&score.name), chance, rows);
    }
}
