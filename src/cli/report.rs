//! `bitworth report`: tables, charts and pages from the records of earlier runs.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Outcome;
use super::session::Session;
use crate::report;

/// Make the report of one or several run folders again.
#[derive(Args)]
pub struct ReportArgs {
    /// Folders that `bitworth run` left, each with a folder `records`.
    #[arg(required = true, value_name = "DIR")]
    dirs: Vec<PathBuf>,
    /// Folder for the report [default: the first DIR].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(args: &ReportArgs, session: &Session) -> Result<Outcome> {
    let records = report::load(&args.dirs)?;
    let files = report::write(args.out.as_ref().unwrap_or(&args.dirs[0]), &records)?;
    let rows = report::summarize(&records)?;
    session.print(&json!({ "files": files, "summary": report::export::json(&rows)? }), || {
        report::table::render(&report::sheet::table(&rows))
    })?;
    Ok(Outcome::Done)
}
