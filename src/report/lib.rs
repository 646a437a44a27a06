//! Tables, charts and pages made from records. Polars holds the columns of the tables that are exported.
//!
//! The way: `bitworth_eval::records` (records in parquet files) -> [`gather`] (records by lane, checked) -> [`summary`] (one row
//! of numbers a lane) and [`findings`] (what the numbers allow to say) -> [`contents`] (a [`page::Page`]: tables and charts as
//! values) -> [`export`], [`table`], [`markdown`], [`html`]. [`write()`] does all of it. Pages on other matters, such as advice,
//! are written out the same way: [`write_page`]. Nothing is measured here, and nothing printed.

mod axis;
pub mod bench;
pub mod card;
pub mod changes;
pub mod chart;
pub mod columns;
pub mod contents;
mod digest;
pub mod evaluation;
pub mod export;
pub mod findings;
pub mod gather;
mod gathered;
pub mod heat_map;
pub mod html;
pub mod imatrix;
mod joined;
mod labels;
pub mod lanes;
pub mod markdown;
pub mod number;
pub mod page;
pub mod pareto;
pub mod regression;
pub mod schema;
mod scored;
pub mod sessions;
mod sheet;
mod speed_words;
mod speeds;
pub mod statistics;
pub mod summary;
mod svg;
pub mod table;
mod task_tables;
mod task_words;
mod tasks;
pub mod tensors;
pub mod tokens;

use std::path::{Path, PathBuf};

use bitworth_quant::atomic_file::write_whole;
use bitworth_quant::{Error, Result};

use bitworth_eval::record::{Record, SessionInfo};
use bitworth_eval::records;

pub use gathered::{GatheredLane, GatheredSpeed, LaneKey};
pub use scored::{Sequences, SequencesOfText, TextKey};
pub use speeds::{EngineSpeeds, SpeedSummary, Timed};
pub use summary::Summary;
pub use tasks::{ChoiceMeans, Judgement, TaskComparison, TaskScore};

/// What a report says, before it takes a form: made by [`Report::new`].
#[derive(Debug)]
pub struct Report {
    /// One row a lane: by model and device, the reference first, then from the largest to the smallest.
    pub rows: Vec<Summary>,
    /// What the numbers allow to say, in sentences.
    pub findings: findings::Findings,
    /// The same of the lanes that have files, and of the references, among themselves: what one can take.
    pub of_files: findings::Findings,
    /// Candidates that were left out, and why.
    pub left_out: Vec<gather::LeftOut>,
    /// Why lanes that were timed do not stand in the rows of lanes of their name that were scored, in sentences.
    pub notes: Vec<String>,
    /// How lanes were judged in tasks.
    pub judgement: Judgement,
    /// Whether tasks within groups are shown beside their groups, with their verdicts; the caller says so. Without it a page has
    /// them behind a fold, and a terminal does not show them.
    pub subjects: bool,
    /// How the texts were cut and scored, and with which versions of the program, in sentences.
    pub protocol: Vec<String>,
    /// Who measured, where that is known ([`sessions::load`]); records do not say it, so the caller does.
    pub sessions: Vec<SessionInfo>,
}

impl Report {
    /// Computes everything from the records of one or several runs.
    ///
    /// # Errors
    /// Records that do not belong together: no lane, another text or protocol, a sequence or an item recorded twice with
    /// different numbers.
    pub fn new(records: &[Record]) -> Result<Self> {
        Self::judged(records, Judgement::default())
    }

    /// The same, with lanes judged by the caller's margin.
    ///
    /// # Errors
    /// As [`Report::new`].
    pub fn judged(records: &[Record], judgement: Judgement) -> Result<Self> {
        let gathered = gather::gather(records)?;
        let rows = summary::summarize(&gathered, judgement);
        let findings = findings::findings(&gathered, &rows, judgement);
        let of_files = match rows.iter().all(Summary::can_be_taken) {
            true => findings.clone(),
            false => findings::of_files(&gathered, &rows, judgement),
        };
        let (protocol, left_out, notes) = (gathered.protocol_notes(), gathered.left_out, gathered.notes);
        Ok(Self { rows, findings, of_files, judgement, subjects: false, protocol, left_out, notes, sessions: Vec::new() })
    }

    /// The candidates that were left out, each with the reason; with its model's name where there are several models.
    pub fn left_out_terms(&self) -> Vec<(String, String)> {
        let several = self.rows.iter().any(|row| row.model != self.rows[0].model);
        let name = |left: &gather::LeftOut| match several {
            true => format!("{}, candidate of {}", left.candidate, left.model),
            false => left.candidate.clone(),
        };
        self.left_out.iter().map(|left| (name(left), left.why().to_owned())).collect()
    }

    /// What readers of the figures should know: that their intervals rest on few windows.
    pub fn warnings(&self) -> Vec<String> {
        findings::few_windows(&self.rows).into_iter().collect()
    }

    /// The table, the lanes at a glance and the answers for a terminal; with [`Self::subjects`] the verdicts too.
    pub fn to_text(&self) -> String {
        let answers: String =
            self.findings.answers.iter().chain(&self.findings.skills).map(|answer| format!("\n{answer}\n")).collect();
        let warnings: String = self.warnings().iter().map(|warning| format!("\n{warning}\n")).collect();
        let left_out: String =
            self.left_out_terms().iter().map(|(name, why)| table::clean(&format!("left out: {name}: {why}")) + "\n").collect();
        let notes: String = self.notes.iter().map(|note| format!("\n{}\n", table::clean(note))).collect();
        let verdicts = self.task_scores().filter(|_| self.subjects);
        let verdicts = verdicts.map_or(String::new(), |scores| format!("\n{}", table::render(&scores)));
        let table = table::render(&sheet::table(&self.rows)) + &verdicts;
        table + &digest::render(&self.rows) + &answers + &warnings + &left_out + &notes
    }

    /// What each lane lost in each task and what follows, for a terminal; `None` without a task.
    pub fn task_scores(&self) -> Option<page::Table> {
        let scores = task_tables::scores(&self.rows, self.judgement, self.subjects)?;
        Some(scores.with_details_beside("95 % interval"))
    }

    /// Writes `summary.parquet`, `summary.csv`, `report.md` and `report.html` into `dir` and returns their paths in this order.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn write(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        let [parquet, csv] = ["summary.parquet", "summary.csv"].map(|name| dir.join(name));
        export::parquet(&parquet, &self.rows)?;
        export::csv(&csv, &self.rows)?;
        let mut page = contents::page(self);
        let markdown = write_text(&dir.join("report.md"), &markdown::render(&page))?;
        page.about.extend(sessions::sentence(&self.sessions));
        let html = write_html(&dir.join("report.html"), &page)?;
        Ok(vec![parquet, csv, markdown, html])
    }
}

/// Writes `page` as `STEM.md` and `STEM.html` into `dir` and returns their paths in this order.
///
/// # Errors
/// A folder that cannot be written.
pub fn write_page(dir: &Path, stem: &str, page: &page::Page) -> Result<[PathBuf; 2]> {
    let [markdown, html] = ["md", "html"].map(|extension| dir.join(format!("{stem}.{extension}")));
    Ok([write_text(&markdown, &markdown::render(page))?, write_html(&html, page)?])
}

fn write_html(path: &Path, page: &page::Page) -> Result<PathBuf> {
    write_text(path, &html::render(page).map_err(|e| Error::file(path, e.to_string()))?)
}

/// Writes a text in one step and returns its path.
///
/// # Errors
/// A file that cannot be written.
pub fn write_text(path: &Path, text: &str) -> Result<PathBuf> {
    write_whole(path, text.as_bytes())?;
    Ok(path.to_owned())
}

/// The records of several runs' folders, one after the other.
///
/// # Errors
/// See [`bitworth_eval::records::load`].
pub fn load(dirs: &[PathBuf]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for dir in dirs {
        records.extend(records::load(dir)?);
    }
    Ok(records)
}

/// The rows of a summary, one a lane.
///
/// # Errors
/// See [`Report::new`].
pub fn summarize(records: &[Record]) -> Result<Vec<Summary>> {
    Ok(Report::new(records)?.rows)
}

/// Computes the report of `records` and writes it into `dir`: see [`Report::write`].
///
/// # Errors
/// See [`Report::new`] and [`Report::write`].
pub fn write(dir: &Path, records: &[Record]) -> Result<Vec<PathBuf>> {
    Report::new(records)?.write(dir)
}
