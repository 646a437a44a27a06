//! Named columns over rows of any kind, written as CSV or parquet: how every table for machines is made. Nothing is rounded.
//! Absent: which columns there are (see `export`).

use std::path::Path;

use bitworth_eval::records::write_parquet;
use bitworth_quant::atomic_file::write_whole;
use bitworth_quant::{Error, Result};
use polars::prelude::{Column, DataFrame, IntoColumn, NamedFrom, PolarsError, PolarsResult, Series};
use polars_io::SerWriter;
use polars_io::prelude::CsvWriter;

use bitworth_eval::stats::Estimate;

/// Columns as they grow, each with one value a row.
pub struct Columns<'a, T> {
    rows: &'a [T],
    columns: Vec<Column>,
}

impl<'a, T> Columns<'a, T> {
    /// None yet.
    pub fn of(rows: &'a [T]) -> Self {
        Self { rows, columns: Vec::new() }
    }

    fn push(&mut self, name: &str, values: Series) {
        self.columns.push(values.with_name(name.into()).into_column());
    }

    /// A column of numbers.
    pub fn number(&mut self, name: &str, get: impl Fn(&'a T) -> Option<f64>) {
        let values: Vec<Option<f64>> = self.rows.iter().map(get).collect();
        self.push(name, Series::new("".into(), values));
    }

    /// A column of numbers that were taken out of the rows before.
    pub(crate) fn numbers(&mut self, name: &str, values: Vec<Option<f64>>) {
        self.push(name, Series::new("".into(), values));
    }

    /// A column of counts.
    pub fn count(&mut self, name: &str, get: impl Fn(&'a T) -> Option<u64>) {
        let values: Vec<Option<u64>> = self.rows.iter().map(get).collect();
        self.push(name, Series::new("".into(), values));
    }

    /// A column of texts.
    pub fn text(&mut self, name: &str, get: impl Fn(&'a T) -> Option<&'a str>) {
        let values: Vec<Option<&str>> = self.rows.iter().map(get).collect();
        self.push(name, Series::new("".into(), values));
    }

    /// A column of truth values.
    pub fn flag(&mut self, name: &str, get: impl Fn(&'a T) -> bool) {
        let values: Vec<bool> = self.rows.iter().map(get).collect();
        self.push(name, Series::new("".into(), values));
    }

    /// A value and the ends of its interval.
    pub fn estimate(&mut self, names: [&str; 3], get: impl Fn(&'a T) -> Option<Estimate>) {
        self.number(names[0], |r| Some(get(r)?.value));
        self.number(names[1], |r| get(r)?.low());
        self.number(names[2], |r| get(r)?.high());
    }

    /// The names so far.
    pub fn names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name().to_string()).collect()
    }

    /// These columns, then those of `more`, which has the same rows.
    #[must_use]
    pub fn then(mut self, more: Self) -> Self {
        self.columns.extend(more.columns);
        self
    }

    pub(crate) fn frame(self) -> PolarsResult<DataFrame> {
        DataFrame::new(self.rows.len(), self.columns)
    }

    /// Writes them as CSV; what is missing is an empty cell.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_csv(self, path: &Path) -> Result<()> {
        let fail = |e: PolarsError| Error::file(path, e.to_string());
        let mut bytes = Vec::new();
        CsvWriter::new(&mut bytes).finish(&mut self.frame().map_err(fail)?).map_err(fail)?;
        write_whole(path, &bytes)
    }

    /// Writes them as parquet.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_parquet(self, path: &Path) -> Result<()> {
        write_parquet(path, self.frame())
    }
}
