//! What the commands that leave a folder share: a job is planned, or done and reported.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::Args;

use super::session::Session;
use super::{Outcome, output};
use bitworth_eval::job::Job;
use bitworth_eval::record::Record;
use bitworth_measure::device::Device;
use bitworth_measure::execute::{CandidatePlan, FilePlan, Harness, JobPlan, ModelPlan, Ready, ShapePlan, StagePlan, TimingPlan};
use bitworth_report::{Judgement, Report, number, sessions};

/// What becomes of candidates that are no versions of their model.
#[derive(Args)]
pub struct StrictArgs {
    /// End with an error where a candidate is no version of its model, instead of leaving it out with a note.
    #[arg(long)]
    pub strict: bool,
}

/// How much of groups of tasks people are shown.
#[derive(Args)]
pub struct SubjectsArgs {
    /// Show the tasks within groups too, such as the subjects of MMLU, each with its difference and verdict, here and in the
    /// report; without it groups alone.
    #[arg(long)]
    pub subjects: bool,
}

/// A job that was done, and its report.
pub struct Written {
    /// What it came to.
    pub report: Report,
    /// The files of the report.
    pub files: Vec<PathBuf>,
    /// What it was made of.
    pub records: Vec<Record>,
    /// The tasks of lm-evaluation-harness that were asked.
    pub harness: Option<Harness>,
}

impl Written {
    /// The summary as JSON.
    ///
    /// # Errors
    /// As [`bitworth_report::export::json`].
    pub fn summary(&self) -> Result<serde_json::Value> {
        Ok(bitworth_report::export::json(&self.report.rows)?)
    }

    /// The report for a terminal, and where its files are.
    pub fn to_text(&self) -> String {
        format!("{}\n{}", self.report.to_text(), self.file_lines())
    }

    /// The files of the report, one a line.
    pub fn file_lines(&self) -> String {
        self.files.iter().map(|file| format!("{}\n", file.display())).collect()
    }
}

/// A job made of arguments, checked.
///
/// # Errors
/// As [`Job::check`].
pub fn checked(mut job: Job) -> Result<Job> {
    job.check().map_err(|what| anyhow!("{}", what.describe(&output::flag)))?;
    Ok(job)
}

/// Does a job, which is `ready`, and reports what it says: in the folder `out` where there is one, and else in memory, without
/// files. `subjects`: see [`SubjectsArgs`].
///
/// # Errors
/// As [`Ready::execute`] and [`Report::write`].
pub fn execute(job: &Job, ready: Ready<'_>, out: Option<&Path>, subjects: bool, session: &Session) -> Result<Written> {
    let finished = ready.execute(None)?;
    finished.notes.iter().for_each(|note| session.note(&note.describe(&output::flag)));
    let judgement = job.tasks.as_ref().map_or_else(Judgement::default, |tasks| Judgement { margin: tasks.margin });
    let harness = finished.harness;
    let Some(out) = out else {
        let report = Report { subjects, ..Report::judged(&finished.records, judgement)? };
        return Ok(Written { report, files: Vec::new(), records: finished.records, harness });
    };
    if finished.found > 0 {
        session.note(&format!("{} files of records were in {} already", finished.found, out.display()));
    }
    let mut records = bitworth_report::load(&finished.folders)?;
    let all = records.len();
    records.retain(|record| finished.scope.holds(record));
    if records.len() < all {
        session.note(&format!("{} also holds results of earlier jobs, which are not in this report", out.display()));
    }
    let mut report = Report { subjects, ..Report::judged(&records, judgement)? };
    report.sessions = sessions::load(&finished.folders)?;
    let files = report.write(out)?;
    Ok(Written { report, files, records, harness })
}

/// Prints what would be done.
///
/// # Errors
/// As [`Ready::plan`].
pub fn print_plan(ready: &Ready<'_>, device: &Device, session: &Session) -> Result<Outcome> {
    let plan = ready.plan()?;
    let mut document = serde_json::to_value(&plan)?;
    document["device"] = serde_json::json!(device.info());
    session.print(&document, || describe(&plan))?;
    Ok(Outcome::Done)
}

fn describe(plan: &JobPlan) -> String {
    let mut text: String = plan.models.iter().map(describe_model).collect();
    text += &format!(
        "about {:.0} s in all, {:.0} s of it scoring, at the speed of a large product here (reading not counted)\n",
        plan.estimated_seconds, plan.scoring_seconds
    );
    text
}

fn describe_model(plan: &ModelPlan) -> String {
    let mut text = format!("{}: {} lanes: {}\n", plan.model, plan.lanes.len(), plan.lanes.join(", "));
    for FilePlan { file, bytes, exists } in &plan.files {
        let state = if *exists { "is there" } else { "to be made" };
        text += &format!("  file {file}: {state}, {} of tensors\n", number::bytes(*bytes));
    }
    for CandidatePlan { lane, file, bytes } in &plan.candidates {
        let place = file.as_deref().unwrap_or("made on the fly");
        text += &format!("  candidate {lane}: {place}, {} of tensors\n", number::bytes(*bytes));
    }
    let lanes = plan.lanes.len();
    text.extend(plan.stages.iter().chain(&plan.tasks).map(|stage| describe_stage(stage, lanes)));
    for TimingPlan { lane, is_done, shape } in &plan.timings {
        let on = shape.as_ref().map(|ShapePlan { name, bytes }| match bytes {
            Some(bytes) => format!(", on the shape {name}, a file of {}", number::bytes(*bytes)),
            None => format!(", but the shape {name} cannot have its types"),
        });
        let state = if *is_done { "done" } else { "to be done" };
        text += &format!("  timing {lane}: {state}{}\n", on.filter(|_| !is_done).unwrap_or_default());
    }
    text.extend(plan.notes.iter().map(|note| format!("  {note}\n")));
    text
}

fn describe_stage(stage: &StagePlan, lanes: usize) -> String {
    let mut parts = Vec::new();
    match stage.done_lanes {
        0 => {}
        _ if stage.is_done => parts.push("done".to_owned()),
        done => parts.push(format!("done for {done} of {lanes} lanes")),
    }
    parts.extend(stage.items.map(|items| format!("{items} items")));
    match &stage.sweep {
        _ if stage.is_done => {}
        None => parts.push("text is generated".to_owned()),
        Some(sweep) => parts.push(format!(
            "{} over {} of models, {} to be read, {} rows a lane, at most {} of memory, about {:.0} s",
            match sweep.passes.len() {
                1 => "1 pass".to_owned(),
                passes => format!("{passes} passes"),
            },
            number::bytes(sweep.bytes_per_pass),
            number::bytes(sweep.bytes_read),
            sweep.rows_computed,
            number::bytes(sweep.peak_bytes),
            stage.estimated_seconds,
        )),
    }
    format!("  {} {}: {}\n", stage.kind, stage.name, parts.join(", "))
}
