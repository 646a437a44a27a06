//! `bitworth report`: tables, charts and pages from the records of earlier runs.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

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
    let mut records = Vec::new();
    for dir in &args.dirs {
        let found = report::frames::load(&dir.join("records"))?;
        if found.is_empty() {
            bail!("{}: no records; is it a folder that `bitworth run` left?", dir.display());
        }
        records.extend(found);
    }
    let out = args.out.as_ref().unwrap_or(&args.dirs[0]);
    let summaries = report::write(out, &records)?;
    session.print(&summaries, || report::table::render(&summaries))?;
    Ok(Outcome::Done)
}
