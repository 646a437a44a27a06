//! The rows of a split as tasks have them: alike, in order, each with every column.

use std::sync::Arc;

use bitworth_quant::Result;
use bitworth_quant::message::Message;

use super::DataRow;
use super::shape::{Columns, Rule};

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
    /// floats. Objects whose fields differ stay as they are.
    pub fn new(rows: Vec<DataRow>) -> Self {
        Self::of_files(vec![rows])
    }

    /// The rows of several files, made alike. What has types in the first one keeps them: objects of later files get the fields
    /// that they lack.
    pub fn of_files(files: Vec<Vec<DataRow>>) -> Self {
        let mut columns = Columns::default();
        for (at, rows) in files.iter().enumerate() {
            columns.join(rows, Rule { fills: at > 0, times: false });
        }
        let rows = columns.fit(files.into_iter().flatten().collect());
        Self { columns: columns.names(), rows: rows.into_iter().map(Arc::new).collect() }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Expected: `load_dataset("json", data_files=[...])` of datasets 5.2.
    #[test]
    fn later_files_have_the_fields_of_the_first() {
        let file = |rows: Value| serde_json::from_value::<Vec<DataRow>>(rows).unwrap();
        let shown = |files: [Value; 2]| {
            let docs = Docs::of_files(files.map(file).into());
            docs.rows.iter().map(|row| Value::Object(DataRow::clone(row)).to_string()).collect::<Vec<_>>()
        };
        let filled = shown([json!([{"o": {"a": 1, "b": 2}}]), json!([{"o": {"b": 1}}])]);
        assert_eq!(filled, [r#"{"o":{"a":1,"b":2}}"#, r#"{"o":{"a":null,"b":1}}"#]);
        let kept = shown([json!([{"o": {"a": 1}}, {"o": {"b": 1}}]), json!([{"o": {"c": 1}}])]);
        assert_eq!(kept, [r#"{"o":{"a":1}}"#, r#"{"o":{"b":1}}"#, r#"{"o":{"c":1}}"#]);
    }
}
