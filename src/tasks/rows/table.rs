//! CSV, with the types that pandas gives to columns, because Hugging Face's `datasets` reads CSV with it. Absent: other
//! separators than one character, dates.

use std::io::Read;
use std::path::Path;

use bitworth_quant::{Error, Result};
use serde_json::{Map, Number, Value};

use super::Row;

/// Texts that pandas takes for nothing (pandas 2, `read_csv`, `na_values`).
const NOTHING: [&str; 18] = [
    "", " ", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "n/a", "nan",
];

/// The rows of a file whose first line names the columns. `path` is what errors name.
pub(super) fn read(path: &Path, bytes: impl Read, separator: u8) -> Result<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(bytes);
    let names: Vec<String> = reader.headers().map_err(|e| wrong(path, &e))?.iter().map(str::to_owned).collect();
    let mut records = Vec::new();
    for record in reader.records() {
        records.push(record.map_err(|e| wrong(path, &e))?);
    }
    let columns: Vec<Vec<Value>> = (0..names.len())
        .map(|i| typed(&records.iter().map(|record| record.get(i).unwrap_or_default()).collect::<Vec<_>>()))
        .collect();
    let row =
        |at: usize| names.iter().zip(&columns).map(|(name, column)| (name.clone(), column[at].clone())).collect::<Map<_, _>>();
    Ok((0..records.len()).map(row).collect())
}

fn wrong(path: &Path, error: &csv::Error) -> Error {
    Error::file(path, error.to_string())
}

/// A column as integers, floats or booleans, where all its values are.
fn typed(texts: &[&str]) -> Vec<Value> {
    let nothing = |text: &str| NOTHING.contains(&text) || matches!(text, "null" | "None");
    let values = || texts.iter().copied().filter(|text| !nothing(text));
    let of = |make: &dyn Fn(&str) -> Option<Value>| {
        let one = |text: &&str| if nothing(text) { Some(Value::Null) } else { make(text) };
        texts.iter().map(one).collect::<Option<Vec<_>>>()
    };
    let gaps = values().count() < texts.len();
    let int = |text: &str| text.parse::<i64>().ok();
    let float = |text: &str| text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number);
    if values().next().is_none() {
        return vec![Value::Null; texts.len()];
    }
    // Integers with gaps are floats.
    if !gaps && let Some(column) = of(&|text| int(text).map(Value::from)) {
        return column;
    }
    if let Some(column) = of(&float) {
        return column;
    }
    let boolean = |text: &str| match text {
        "True" | "TRUE" | "true" => Some(Value::Bool(true)),
        "False" | "FALSE" | "false" => Some(Value::Bool(false)),
        _ => None,
    };
    of(&boolean).or_else(|| of(&|text| Some(text.into()))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Expected: pandas 2 `read_csv`.
    #[test]
    fn columns_get_the_types_that_pandas_gives() {
        assert_eq!(typed(&["1", "-2"]), [json!(1), json!(-2)]);
        assert_eq!(typed(&["1", "", "2"]), [json!(1.0), json!(null), json!(2.0)]);
        assert_eq!(typed(&["1", "2.5"]), [json!(1.0), json!(2.5)]);
        assert_eq!(typed(&["True", "false"]), [json!(true), json!(false)]);
        assert_eq!(typed(&["a", "NA", "1"]), [json!("a"), json!(null), json!("1")]);
        assert_eq!(typed(&["", "nan"]), [json!(null), json!(null)]);
    }

    #[test]
    fn quotes_and_line_breaks_are_read() {
        let read = |text: &str| read(Path::new("x.csv"), text.as_bytes(), b',');
        let rows = read("q,a\n\"x, \"\"y\"\"\nz\",1\n").unwrap();
        assert_eq!(Value::Object(rows[0].clone()), json!({"q": "x, \"y\"\nz", "a": 1}));
        assert!(read("q,a\n1\n").unwrap_err().to_string().contains("x.csv"));
    }
}
