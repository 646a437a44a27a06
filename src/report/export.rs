//! The summary for machines: `summary.parquet` and `summary.csv`, one row a lane, nothing rounded. The first columns are fixed
//! ([`COLUMNS`]), then come three for every task, then the rest; scripts go by names, never by places.

use std::path::Path;

use polars::prelude::{Column, DataFrame, IntoColumn, NamedFrom, PolarsResult, Series};
use polars_io::SerWriter;
use polars_io::prelude::{CsvWriter, JsonFormat, JsonWriter};
use quant::{Error, Result};

use crate::eval::request::Loglikelihood;
use crate::eval::stats::Estimate;
use crate::report::frames::write_parquet;
use crate::report::summary::{Summary, TaskScore};

/// The columns that every summary begins with. Scripts rely on them.
pub const COLUMNS: &[&str] = &[
    "recipe",
    "bytes",
    "bpw",
    "ppl",
    "ppl_low",
    "ppl_high",
    "kld_mean",
    "kld_low",
    "kld_high",
    "kld_p99",
    "top1_agreement",
    "bits_per_byte",
    "prefill_tps",
    "decode_tps",
    "device",
];

/// Writes the summary as parquet.
///
/// # Errors
/// A file that cannot be written.
pub fn parquet(path: &Path, rows: &[Summary]) -> Result<()> {
    write_parquet(path, frame(rows))
}

/// Writes the summary as CSV; what was not measured is an empty cell.
///
/// # Errors
/// A file that cannot be written.
pub fn csv(path: &Path, rows: &[Summary]) -> Result<()> {
    let mut frame = frame(rows).map_err(|e| Error::file(path, e.to_string()))?;
    super::write_whole(path, |file| CsvWriter::new(file).finish(&mut frame).map_err(|e| std::io::Error::other(e.to_string())))
}

/// Writes the scores of single requests as parquet, one row each, in order.
///
/// # Errors
/// A file that cannot be written.
pub fn scores(path: &Path, rows: &[Loglikelihood]) -> Result<()> {
    let count = |get: fn(&Loglikelihood) -> usize| -> Vec<u64> { rows.iter().map(|row| get(row) as u64).collect() };
    let columns = vec![
        Series::new("logprob".into(), rows.iter().map(|row| row.logprob).collect::<Vec<f64>>()).into_column(),
        Series::new("tokens".into(), count(|row| row.tokens)).into_column(),
        Series::new("is_greedy".into(), rows.iter().map(|row| row.is_greedy).collect::<Vec<bool>>()).into_column(),
        Series::new("bytes".into(), count(|row| row.bytes)).into_column(),
    ];
    write_parquet(path, DataFrame::new(rows.len(), columns))
}

/// The summary as JSON: a list with one object a lane, the columns of the CSV as keys.
///
/// # Errors
/// A value that JSON cannot hold.
pub fn json(rows: &[Summary]) -> Result<serde_json::Value> {
    let mut bytes = Vec::new();
    let written =
        frame(rows).and_then(|mut frame| JsonWriter::new(&mut bytes).with_json_format(JsonFormat::Json).finish(&mut frame));
    let error = |what: String| Error::file("summary", what);
    written.map_err(|e| error(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| error(e.to_string()))
}

/// The columns as they grow, with names that are all different.
struct Columns<'a> {
    rows: &'a [Summary],
    columns: Vec<Column>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, name: &str, values: Series) {
        let mut name = name.to_owned();
        while self.columns.iter().any(|c| c.name().as_str() == name) {
            name.insert_str(0, "task_");
        }
        self.columns.push(values.with_name(name.as_str().into()).into_column());
    }

    fn number(&mut self, name: &str, get: impl Fn(&'a Summary) -> Option<f64>) {
        let values: Vec<Option<f64>> = self.rows.iter().map(get).collect();
        self.push(name, Series::new("".into(), values));
    }

    fn count(&mut self, name: &str, get: impl Fn(&'a Summary) -> Option<u64>) {
        let values: Vec<Option<u64>> = self.rows.iter().map(get).collect();
        self.push(name, Series::new("".into(), values));
    }

    fn text(&mut self, name: &str, get: impl Fn(&'a Summary) -> Option<&'a str>) {
        let values: Vec<Option<&str>> = self.rows.iter().map(get).collect();
        self.push(name, Series::new("".into(), values));
    }

    fn flag(&mut self, name: &str, get: impl Fn(&'a Summary) -> bool) {
        let values: Vec<bool> = self.rows.iter().map(get).collect();
        self.push(name, Series::new("".into(), values));
    }

    /// A value and the ends of its interval.
    fn estimate(&mut self, names: [&str; 3], get: impl Fn(&'a Summary) -> Option<Estimate>) {
        self.number(names[0], |r| Some(get(r)?.value));
        self.number(names[1], |r| get(r)?.low());
        self.number(names[2], |r| get(r)?.high());
    }
}

fn frame(rows: &[Summary]) -> PolarsResult<DataFrame> {
    let mut columns = Columns { rows, columns: Vec::new() };
    fixed(&mut columns);
    let tasks = task_names(rows);
    for name in &tasks {
        let get = |r: &Summary| Some(task(r, name)?.accuracy);
        columns.estimate([name, &format!("{name}_low"), &format!("{name}_high")], get);
    }
    details(&mut columns);
    for name in &tasks {
        task_details(&mut columns, name);
    }
    DataFrame::new(rows.len(), columns.columns)
}

fn fixed(c: &mut Columns<'_>) {
    c.text("recipe", |r| Some(&r.recipe));
    c.count("bytes", |r| Some(r.bytes));
    c.number("bpw", |r| Some(r.bpw));
    c.estimate(["ppl", "ppl_low", "ppl_high"], |r| r.ppl);
    c.estimate(["kld_mean", "kld_low", "kld_high"], |r| Some(r.kld?.mean));
    c.number("kld_p99", |r| Some(r.kld?.p99));
    c.number("top1_agreement", |r| Some(r.top1?.value));
    c.number("bits_per_byte", |r| Some(r.bits_per_byte?.value));
    c.number("prefill_tps", |r| Some(r.prefill?.tps));
    c.number("decode_tps", |r| Some(r.decode?.tps));
    c.text("device", |r| Some(&r.device));
}

fn details(c: &mut Columns<'_>) {
    c.text("model", |r| Some(&r.model));
    c.text("lane", |r| Some(&r.lane));
    c.flag("is_reference", |r| r.is_reference);
    c.text("arithmetic", |r| Some(&r.arithmetic));
    c.text("types", |r| r.types.as_deref());
    c.count("tokens", |r| Some(r.tokens));
    c.number("kld_median", |r| Some(r.kld?.median));
    c.number("kld_p90", |r| Some(r.kld?.p90));
    c.number("kld_p999", |r| Some(r.kld?.p99_9));
    c.number("kld_max", |r| Some(r.kld?.max));
    c.number("top1_low", |r| r.top1?.low());
    c.number("top1_high", |r| r.top1?.high());
    c.estimate(["ppl_ratio", "ppl_ratio_low", "ppl_ratio_high"], |r| r.ppl_ratio);
    c.number("delta_ppl", |r| Some(r.ppl?.value * (1.0 - 1.0 / r.ppl_ratio?.value)));
    c.estimate(["delta_p_mean", "delta_p_mean_low", "delta_p_mean_high"], |r| Some(r.delta_p?.mean));
    c.estimate(["delta_p_rms", "delta_p_rms_low", "delta_p_rms_high"], |r| Some(r.delta_p?.rms));
    c.number("bits_per_byte_low", |r| r.bits_per_byte?.low());
    c.number("bits_per_byte_high", |r| r.bits_per_byte?.high());
    c.number("prefill_tps_slowest", |r| Some(r.prefill?.slowest));
    c.number("prefill_tps_fastest", |r| Some(r.prefill?.fastest));
    c.number("decode_tps_slowest", |r| Some(r.decode?.slowest));
    c.number("decode_tps_fastest", |r| Some(r.decode?.fastest));
}

fn task_details(c: &mut Columns<'_>, name: &str) {
    let pair = |r: &Summary| task(r, name)?.against_reference;
    c.count(&format!("{name}_items"), |r| Some(task(r, name)?.items));
    let names = ["diff", "diff_low", "diff_high"].map(|end| format!("{name}_{end}"));
    c.estimate([&names[0], &names[1], &names[2]], |r| Some(pair(r)?.difference));
    c.number(&format!("{name}_p"), |r| Some(pair(r)?.p_value));
}

/// A lane's score in the task `name`.
pub(super) fn task<'a>(row: &'a Summary, name: &str) -> Option<&'a TaskScore> {
    row.tasks.iter().find(|t| t.name == name)
}

/// The names of all tasks that any lane has, sorted.
pub(super) fn task_names(rows: &[Summary]) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = rows.iter().flat_map(|r| &r.tasks).map(|t| &t.name).collect();
    names.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{sample, summarize};

    fn rows() -> Vec<Summary> {
        summarize(&sample::records()).unwrap()
    }

    fn names(rows: &[Summary]) -> Vec<String> {
        frame(rows).unwrap().columns().iter().map(|c| c.name().to_string()).collect()
    }

    #[test]
    fn the_promised_columns_come_first_and_then_the_tasks() {
        let names = names(&rows());
        assert_eq!(&names[..COLUMNS.len()], COLUMNS);
        assert_eq!(&names[COLUMNS.len()..][..4], ["arithmetic", "arithmetic_low", "arithmetic_high", "facts"]);
    }

    #[test]
    fn a_task_named_like_a_column_gets_another_name() {
        let mut rows = rows();
        rows[0].tasks[0].name = "ppl".into();
        assert!(names(&rows).contains(&"task_ppl".to_owned()));
    }

    #[test]
    fn csv_holds_every_lane_unrounded_and_empty_cells_for_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/summary.csv");
        let mut rows = rows();
        rows[0].decode = None;
        csv(&path, &rows).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split(',').collect()).collect();
        assert_eq!(lines.len(), rows.len() + 1);
        let place = |name: &str| lines[0].iter().position(|n| *n == name).unwrap();
        assert_eq!(lines[1][place("decode_tps")], "");
        for (line, row) in lines[1..].iter().zip(&rows) {
            assert_eq!(line[place("ppl")].parse::<f64>().unwrap(), row.ppl.unwrap().value);
            assert_eq!(line[place("bytes")].parse::<u64>().unwrap(), row.bytes);
        }
    }
}
