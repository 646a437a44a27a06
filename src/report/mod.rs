//! Tables, charts and pages made from records; the only place that knows polars.
//!
//! The way: [`frames`] (records in parquet files) -> [`gather`] (records by lane, checked) -> [`summary`] (one row of numbers a
//! lane) and [`compare`] (what the numbers allow to say) -> [`export`], [`table`], [`markdown`], [`html`]. [`write`] does all of
//! it. Nothing is measured here, and nothing printed.

pub mod compare;
pub mod export;
pub mod frames;
pub mod gather;
pub mod html;
pub mod markdown;
pub mod number;
pub mod pareto;
pub mod plot;
#[cfg(test)]
mod sample;
pub mod sheet;
pub mod summary;
pub mod table;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use quant::{Error, Result};

use crate::eval::record::Record;

pub use summary::Summary;

/// What a report says, before it takes a form: made by [`Report::new`].
#[derive(Debug)]
pub struct Report {
    /// One row a lane: by model and device, the reference first, then from the largest to the smallest.
    pub rows: Vec<Summary>,
    /// What the numbers allow to say, in sentences.
    pub findings: compare::Findings,
    /// How the texts were cut and scored, and with which versions of the program, in sentences.
    pub protocol: Vec<String>,
}

impl Report {
    /// Computes everything from the records of one or several runs.
    ///
    /// # Errors
    /// Records that do not belong together: no lane, another text or protocol, a sequence or an item recorded twice with
    /// different numbers.
    pub fn new(records: &[Record]) -> Result<Self> {
        let gathered = gather::gather(records)?;
        let rows = summary::summarize(&gathered);
        let findings = compare::findings(&gathered, &rows);
        Ok(Self { rows, findings, protocol: gathered.protocol_notes() })
    }
}

/// The records of several runs' folders, one after the other.
///
/// # Errors
/// See [`frames::load`].
pub fn load(dirs: &[PathBuf]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for dir in dirs {
        records.extend(frames::load(dir)?);
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

/// Writes `summary.parquet`, `summary.csv`, `report.md` and `report.html` into `dir` and returns their paths in this order.
///
/// # Errors
/// Records that do not belong together (see [`Report::new`]); a folder that cannot be written.
pub fn write(dir: &Path, records: &[Record]) -> Result<Vec<PathBuf>> {
    let report = Report::new(records)?;
    let paths: Vec<PathBuf> = ["summary.parquet", "summary.csv", "report.md", "report.html"].map(|name| dir.join(name)).to_vec();
    export::parquet(&paths[0], &report.rows)?;
    export::csv(&paths[1], &report.rows)?;
    write_text(&paths[2], &markdown::render(&report))?;
    write_text(&paths[3], &html::render(&report).map_err(|e| Error::file(&paths[3], e))?)?;
    Ok(paths)
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    write_whole(path, |file| io::Write::write_all(file, text.as_bytes()))
}

/// Writes a file in one step: beside, then renamed; folders are made as needed.
fn write_whole(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    let fail = |e| Error::io(path, e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(fail)?;
    let mut temp = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
    fill(temp.as_file_mut()).map_err(fail)?;
    temp.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}
