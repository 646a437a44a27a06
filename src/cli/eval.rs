//! `bitworth eval`: tasks of our own form and of lm-evaluation-harness on a model and its quantizations, in one walk: scores with
//! intervals, differences from the first, and what follows from them.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::lm_eval::{self, LmEvalArgs};
use super::session::Session;
use super::sweep::MemoryArgs;
use super::{Outcome, ScoringArgs, job, output};
use bitworth_eval::job::{DEFAULT_MARGIN, Job, Limit, ModelSpec, PerplexityKind, PerplexitySpec, TasksSpec};
use bitworth_eval::slice::Slice;
use bitworth_eval::task::Task;
use bitworth_measure::execute::{Named, Ready};
use bitworth_report::evaluation::{Power, harness_rows, harness_table, rows};
use bitworth_report::gather::LeftOut;
use bitworth_report::table;

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
    subjects: job::SubjectsArgs,
    #[command(flatten)]
    lm_eval: LmEvalArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    strict: job::StrictArgs,
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
            if spec.names.is_empty() && spec.llama_perplexity.is_empty() {
                bail!("--tasks names nothing; name a task, a group or a tag");
            }
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
            strict: self.strict.strict,
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
    let (begin, date) = (Instant::now(), lm_eval::now());
    let ready = Ready::new(&job, args.records.as_deref(), &device, session.watch())?.with_candidates()?;
    if args.dry_run {
        return job::print_plan(&ready, &device, session);
    }
    let done = job::execute(&job, ready, args.records.as_deref(), args.subjects.subjects, session)?;
    let spec = job.tasks.as_ref().context("the job has no tasks")?;
    let own = spec.names.iter().filter_map(|name| Task::load(name).ok()).collect::<Vec<_>>();
    let chance = |task: &str| {
        let plain = task.strip_suffix("+chat").unwrap_or(task);
        own.iter().find(|known| known.name == plain).map(|task| task.chance)
    };
    let rows = rows(&done.report.rows, &chance);
    let mut document = json!({
        "results": rows, "left_out": done.report.left_out, "device": device.info(), "arithmetic": args.scoring.arithmetic,
    });
    let mut files = done.files.clone();
    let mut figures = Vec::new();
    if let Some(harness) = done.harness.as_ref().filter(|harness| !harness.built.is_empty()) {
        let mut by_lane = Map::new();
        for summary in &done.report.rows {
            let lane = (summary.model.as_str(), summary.lane.as_str());
            let evaluation = harness.evaluation(&done.records, lane, args.lm_eval.bootstrap_iters)?;
            figures.extend(harness_rows(Some(&summary.lane), &evaluation.entries));
            if let Some(folder) = &args.lm_eval.output_path {
                let file = format!("model={}", summary.file.as_deref().unwrap_or(&args.models[0]));
                let when = (date, begin.elapsed().as_secs_f64());
                files.extend(evaluation.write(&args.lm_eval.about(spec, harness, (summary.lane.as_str(), file), when), folder)?);
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
            false => table::render(&harness_table(figures, true)) + "\n",
        };
        text.extend(done.report.task_scores().map(|scores| table::render(&scores)));
        text.extend(done.report.left_out.iter().map(LeftOut::line));
        text + &files.iter().map(|file| format!("{}\n", file.display())).collect::<String>()
    })?;
    Ok(Outcome::Done)
}

/// Which differences the tasks can show.
fn plan(spec: &TasksSpec, models: usize, session: &Session) -> Result<Outcome> {
    let power = Power::new(Named::find(spec, Slice::WHOLE, session.watch())?.sizes()?, models);
    session.print(&power.document(), || table::render(&power.table()))?;
    Ok(Outcome::Done)
}
