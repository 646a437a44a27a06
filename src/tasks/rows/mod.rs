//! Rows of data: from files in JSON, JSON lines, CSV and parquet, as Hugging Face's `datasets` gives them to a task. [`map`] says
//! which local file stands for which data set, [`data_set`] finds files of data sets by their names, `shape` makes rows of one
//! file alike, `inferred` gives types to JSON that has none. Absent: what tasks make of rows.

pub mod data_set;
mod docs;
pub mod file;
mod inferred;
mod integers;
pub mod map;
mod named_files;
mod parquet;
mod shape;
mod table;
mod times;
mod ujson;

use std::sync::Arc;

use bitworth_quant::message::{Message, Setting};
use bitworth_quant::{Error, Result};

pub use bitworth_eval::kinds::DataRow;
pub use docs::Docs;

use crate::files::config::TaskConfig;
use data_set::DataSetFiles;
use map::DataMap;

/// A file that says which local files stand for which data sets: [`DataMap`].
pub const DATA_MAP: Setting = Setting::new("data_map");

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
            return named_files::of_task(task, self.data_sets.as_deref(), path, split).map_err(fail);
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
