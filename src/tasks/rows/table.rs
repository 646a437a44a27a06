//! CSV, with the types that pandas gives to columns, because Hugging Face's `datasets` reads CSV with it. Absent: other
//! separators than one character, dates.

use std::io::Read;
use std::path::Path;

use bitworth_quant::{Error, Result};
use serde_json::{Map, Number, Value};

use super::DataRow;
use super::integers::{Long, is_long};

/// Texts that pandas takes for nothing (pandas 2, `read_csv`, `na_values`).
const NOTHING: [&str; 18] = [
    "", " ", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "n/a", "nan",
];

/// The rows of a file whose first line names the columns. `path` is what errors name.
pub(super) fn read(path: &Path, bytes: impl Read, separator: u8) -> Result<Vec<DataRow>> {
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(bytes);
    let names: Vec<String> = reader.headers().map_err(|e| wrong(path, &e))?.iter().map(str::to_owned).collect();
    let mut records = Vec::new();
    for record in reader.records() {
        records.push(record.map_err(|e| wrong(path, &e))?);
    }
    let mut columns = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        let texts: Vec<&str> = records.iter().map(|record| record.get(i).unwrap_or_default()).collect();
        let refused = |row: usize| {
            let long = Long { row, digits: texts[row] };
            Error::file(path, long.place(name) + ", which pandas does not read either")
        };
        columns.push(typed(&texts).map_err(refused)?);
    }
    let row =
        |at: usize| names.iter().zip(&columns).map(|(name, column)| (name.clone(), column[at].clone())).collect::<Map<_, _>>();
    Ok((0..records.len()).map(row).collect())
}

fn wrong(path: &Path, error: &csv::Error) -> Error {
    Error::file(path, error.to_string())
}

/// A column as integers, floats or booleans, where all its values are.
///
/// # Errors
/// The row of an integer that 64 bits do not hold, in a column of integers.
fn typed(texts: &[&str]) -> Result<Vec<Value>, usize> {
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
        return Ok(vec![Value::Null; texts.len()]);
    }
    // Integers with gaps are floats.
    if !gaps && let Some(column) = of(&|text| int(text).map(Value::from)) {
        return Ok(column);
    }
    let unsigned = |text: &str| text.parse::<u64>().ok();
    let is_integer = |text: &str| int(text).is_some() || unsigned(text).is_some() || is_long(text);
    if values().all(is_integer) && values().any(|text| int(text).is_none()) {
        if let Some(row) = texts.iter().position(|text| is_long(text)) {
            return Err(row);
        }
        // Unsigned where all of them are, else texts.
        let column = if gaps { None } else { of(&|text| unsigned(text).map(Value::from)) };
        return Ok(column.unwrap_or_else(|| texts.iter().map(|text| Value::from(*text)).collect()));
    }
    if let Some(column) = of(&float) {
        return Ok(column);
    }
    let boolean = |text: &str| match text {
        "True" | "TRUE" | "true" => Some(Value::Bool(true)),
        "False" | "FALSE" | "false" => Some(Value::Bool(false)),
        _ => None,
    };
    Ok(of(&boolean).or_else(|| of(&|text| Some(text.into()))).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Expected: pandas 2 `read_csv`.
    #[test]
    fn columns_get_the_types_that_pandas_gives() {
        let typed = |texts: &[&str]| typed(texts).unwrap();
        assert_eq!(typed(&["1", "-2"]), [json!(1), json!(-2)]);
        assert_eq!(typed(&["1", "", "2"]), [json!(1.0), json!(null), json!(2.0)]);
        assert_eq!(typed(&["1", "2.5"]), [json!(1.0), json!(2.5)]);
        assert_eq!(typed(&["True", "false"]), [json!(true), json!(false)]);
        assert_eq!(typed(&["a", "NA", "1"]), [json!("a"), json!(null), json!("1")]);
        assert_eq!(typed(&["", "nan"]), [json!(null), json!(null)]);
    }

    /// Expected: `datasets.load_dataset("csv", ...)` of datasets 5.2 with pandas 3.1, which ends with an overflow where a row is
    /// refused.
    #[test]
    fn long_integers_keep_their_digits_or_are_refused() {
        let (most, long) = ("18446744073709551615", "123456789012345678901234567890");
        assert_eq!(typed(&["1", most]).unwrap(), [json!(1), json!(u64::MAX)]);
        assert_eq!(typed(&["-1", most]).unwrap(), [json!("-1"), json!(most)]);
        assert_eq!(typed(&["", most, "7"]).unwrap(), [json!(""), json!(most), json!("7")]);
        assert_eq!(typed(&["1.5", long]).unwrap(), [json!(1.5), json!(1.2345678901234568e29)]);
        assert_eq!(typed(&["x", long]).unwrap(), [json!("x"), json!(long)]);
        for texts in [["1", long], ["", long], ["-1", "18446744073709551616"], ["1", "-9223372036854775809"]] {
            assert_eq!(typed(&texts).unwrap_err(), 1, "{texts:?}");
        }
        let error = read(Path::new("x.csv"), format!("q,a\nx,1\ny,{long}\n").as_bytes(), b',').unwrap_err().to_string();
        assert!(error.contains("x.csv") && error.contains("row 1, column \"a\": the integer 1234567890"), "{error}");
    }

    #[test]
    fn quotes_and_line_breaks_are_read() {
        let read = |text: &str| read(Path::new("x.csv"), text.as_bytes(), b',');
        let rows = read("q,a\n\"x, \"\"y\"\"\nz\",1\n").unwrap();
        assert_eq!(Value::Object(rows[0].clone()), json!({"q": "x, \"y\"\nz", "a": 1}));
        assert!(read("q,a\n1\n").unwrap_err().to_string().contains("x.csv"));
    }
}
