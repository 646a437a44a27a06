//! Rows of data: from files in JSON, JSON lines, CSV and parquet, as Hugging Face's `datasets` gives them to a task. [`map`] says
//! which local file stands for which data set, [`data_set`] finds files of data sets by their names, `shape` makes rows of one
//! file alike. Absent: what tasks make of rows.

pub mod data_set;
pub mod file;
mod integers;
pub mod map;
mod parquet;
mod shape;
mod table;

use std::sync::Arc;

use bitworth_quant::message::{Message, Setting};
use bitworth_quant::{Error, Result};

pub use bitworth_eval::kinds::DataRow;

use crate::files::config::TaskConfig;
use data_set::DataSetFiles;
use map::DataMap;

/// A file that says which local files stand for which data sets: [`DataMap`].
pub const DATA_MAP: Setting = Setting::new("data_map");

/// Rows with their columns, as a split of a data set has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Docs {
    /// The columns, in order.
    pub columns: Vec<String>,
    /// The rows; each has every column.
    pub rows: Vec<Arc<DataRow>>,
}

impl Docs {
    /// Makes rows alike: every row gets every column, with `null` where it lacks it, and numbers of a column that has floats are
    /// floats.
    pub fn new(rows: Vec<DataRow>) -> Self {
        let (columns, rows) = shape::alike(rows);
        Self { columns, rows: rows.into_iter().map(Arc::new).collect() }
    }

    /// The rows for which `keep` says so, as `Dataset.filter`.
    pub fn filter(&self, keep: impl Fn(&DataRow) -> Result<bool, Message>) -> Result<Self, Message> {
        let mut rows = Vec::new();
        for row in &self.rows {
            if keep(row)? {
                rows.push(Arc::clone(row));
            }
        }
        Ok(Self { columns: self.columns.clone(), rows })
    }

    /// Adds to every row what `make` says of it, as `Dataset.map`: what is there is replaced in place, new columns come last.
    pub fn map(&self, make: impl Fn(&DataRow) -> Result<DataRow, Message>) -> Result<Self, Message> {
        let mut rows = Vec::with_capacity(self.rows.len());
        for (number, row) in self.rows.iter().enumerate() {
            let mut made = DataRow::clone(row);
            made.extend(make(row).map_err(|what| format!("row {number}: {what}"))?);
            rows.push(made);
        }
        Ok(Self::new(rows))
    }
}

/// Where rows of data sets come from.
#[derive(Debug, Default)]
pub struct DataSources {
    /// Local files for data sets.
    pub map: Option<DataMap>,
    /// What has the data sets that the map does not name.
    pub data_sets: Option<Arc<dyn DataSetFiles>>,
}

impl DataSources {
    /// The rows of one split of a task's data set.
    ///
    /// # Errors
    /// There is nothing that has them (with what to do), or a file is broken.
    pub fn rows(&self, task: &TaskConfig, split: &str) -> Result<Docs> {
        let fail = |what: Message| Error::file(&task.path, Message::from(format!("task {}: ", task.task)).then(what));
        let Some(path) = &task.dataset_path else {
            return Err(fail("it names no dataset_path".into()));
        };
        let name = task.dataset_name.as_deref();
        if let Some(entry) = self.map.as_ref().and_then(|map| map.find(path, name, split)) {
            return entry.rows();
        }
        if file::FORMATS.contains(&path.as_str()) {
            return file::of_task(task, self.data_sets.as_deref(), path, split).map_err(fail);
        }
        if let Some(data_sets) = &self.data_sets {
            let other = |what: Message| {
                Message::from(format!("split {split:?}: ")).then(what).then("; or name a local file with ").then(DATA_MAP)
            };
            return data_set::rows(&**data_sets, task, path, split).map_err(|what| fail(other(what)));
        }
        let what =
            format!("the split {split:?} of the data set {path}{} ", name.map(|name| format!(" ({name})")).unwrap_or_default());
        Err(fail(Message::from(format!("{what}is in no file that is known; name one with ")).then(DATA_MAP)))
    }
}
