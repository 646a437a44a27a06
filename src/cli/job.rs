//! What the commands that leave a folder share: a job is planned, or done and reported.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use super::session::Session;
use super::{Outcome, output};
use bitworth_eval::job::Job;
use bitworth_measure::device::Device;
use bitworth_measure::execute::{self, JobPlan, ModelPlan, StagePlan};
use bitworth_report::Report;

/// A job that was done, and its report.
pub struct Written {
    /// What it came to.
    pub report: Report,
    /// The files of the report.
    pub files: Vec<PathBuf>,
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

/// Does a job and reports what it says: in the folder `out` where there is one, and else in memory, without files.
///
/// # Errors
/// As [`execute::execute`] and [`Report::write`].
pub fn execute(job: &Job, out: Option<&Path>, device: &Device, session: &Session) -> Result<Written> {
    let finished = execute::execute(job, out, device, session.watch())?;
    finished.notes.iter().for_each(|note| session.note(&note.describe(&output::flag)));
    let Some(out) = out else { return Ok(Written { report: Report::new(&finished.records)?, files: Vec::new() }) };
    if finished.found > 0 {
        session.note(&format!("{} files of records were in {} already", finished.found, out.display()));
    }
    let mut records = bitworth_report::load(&finished.folders)?;
    let all = records.len();
    records.retain(|record| finished.scope.holds(record));
    if records.len() < all {
        session.note(&format!("{} also holds results of earlier jobs, which are not in this report", out.display()));
    }
    let report = Report::new(&records)?;
    let files = report.write(out)?;
    Ok(Written { report, files })
}

/// Prints what a job would do.
///
/// # Errors
/// As [`execute::plan`].
pub fn print_plan(job: &Job, out: Option<&Path>, device: &Device, session: &Session) -> Result<Outcome> {
    let plan = execute::plan(job, out, device, session.watch())?;
    let mut document = serde_json::to_value(&plan)?;
    document["device"] = serde_json::json!(device.info());
    session.print(&document, || describe(&plan))?;
    Ok(Outcome::Done)
}

fn describe(plan: &JobPlan) -> String {
    let mut text: String = plan.models.iter().map(describe_model).collect();
    text += &format!(
        "about {:.0} s of scoring at the speed of a large product here (reading, quantizing, tasks and timings not counted)\n",
        plan.estimated_seconds
    );
    text
}

fn describe_model(plan: &ModelPlan) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut text = format!("{}: {} lanes: {}\n", plan.model, plan.lanes.len(), plan.lanes.join(", "));
    for (file, bytes) in &plan.files {
        text += &format!("  file {file}, {:.1} MiB of tensors\n", mib(*bytes));
    }
    for StagePlan { name, is_done, sweep, estimated_seconds } in &plan.stages {
        let state = if *is_done { ", done" } else { "" };
        text += &format!(
            "  text {name}{state}: {} over {:.1} MiB of models, {:.1} MiB to be read, {} rows a lane, at most {:.0} MiB \
             of memory, about {estimated_seconds:.0} s\n",
            match sweep.passes.len() {
                1 => "1 pass".to_owned(),
                passes => format!("{passes} passes"),
            },
            mib(sweep.bytes_per_pass),
            mib(sweep.bytes_read),
            sweep.rows_computed,
            mib(sweep.peak_bytes),
        );
    }
    text.extend(plan.notes.iter().map(|note| format!("  {note}\n")));
    text
}
