//! The rows of a split as tasks have them: alike, in order, each with every column.

use std::sync::Arc;

use bitworth_quant::Result;
use bitworth_quant::message::Message;

use super::{DataRow, shape};

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
