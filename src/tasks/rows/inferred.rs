//! JSON without types, as Hugging Face's `datasets` reads it: through Arrow where a file has objects behind each other or begins
//! with a list, else through pandas. Both make times of texts, and ujson changes floats on the way. Absent: reading, and types
//! that a data set says.
//!
//! Source: `datasets` 5.2 (`packaged_modules/json/json.py`, `utils/json.py`), pandas 3.1 (`read_json`), by experiment.

use bitworth_quant::message::Message;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::integers::Layout;
use super::shape::{Columns, Rule};
use super::{DATA_MAP, DataRow, times, ujson};

/// A text of JSON whose rows were read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'t> {
    /// The text, without a byte order mark.
    pub(super) text: &'t str,
    /// Where the rows are.
    pub(super) layout: Layout<'t>,
    /// Whether it has integers that 64 bits do not hold.
    pub(super) has_long: bool,
    /// Whether the data set says the types of the columns, which the rows get behind this.
    pub(super) is_typed: bool,
}

/// Rows, with what is to be said of them.
#[derive(Debug)]
pub(super) struct Inferred {
    /// The rows, each with all columns.
    pub(super) rows: Vec<DataRow>,
    /// What became something else than the file says.
    pub(super) notes: Vec<String>,
}

/// The rows with the types that `datasets` finds.
///
/// # Errors
/// Values that it refuses, or of which it makes what is not known here, with the column.
pub(super) fn infer(rows: Vec<DataRow>, source: Source<'_>) -> Result<Inferred, Message> {
    match source.layout {
        Layout::Field(_) => by_pandas(rows),
        Layout::List if !source.text.starts_with('[') => by_pandas(rows),
        _ => by_arrow(rows, source),
    }
}

fn by_arrow(mut rows: Vec<DataRow>, source: Source<'_>) -> Result<Inferred, Message> {
    let is_list = source.layout == Layout::List;
    // Objects of different fields are looked for in files that ujson reads line by line; a list is written as such lines first.
    let by_line = !source.is_typed && !source.has_long && (is_list || has_a_value_a_line(source.text));
    let mut columns = Columns::default();
    columns.join(&rows, Rule { fills: !by_line, times: true });
    let has_json = by_line && columns.mixed().is_some();
    if is_list || has_json {
        columns.through_ujson(&mut rows, has_json)?;
    }
    let notes = columns.times().map(|(name, is_within)| note(name, is_within)).collect();
    Ok(Inferred { rows: columns.fit(rows), notes })
}

fn note(column: &str, is_within: bool) -> String {
    let within = if is_within { "; a list or an object that holds them prints otherwise there" } else { "" };
    format!("the texts of the column {column:?} become times (2020-01-02 00:00:00), as in Hugging Face's datasets{within}")
}

fn has_a_value_a_line(text: &str) -> bool {
    text.lines().all(|line| serde_json::from_str::<IgnoredAny>(line).is_ok())
}

fn by_pandas(mut rows: Vec<DataRow>) -> Result<Inferred, Message> {
    let each = rows.iter_mut().flat_map(|row| row.values_mut());
    each.for_each(|value| ujson::each_float(value, ujson::read_again));
    let mut columns = Columns::default();
    columns.join(&rows, Rule { fills: true, times: false });
    if let Some(name) = columns.mixed() {
        return Err(format!(
            "the column {name:?} has values of several types, which Hugging Face's datasets refuses in a field of a file or in a \
             list behind blanks; lines of JSON may have them"
        )
        .into());
    }
    let mut notes = Vec::new();
    for name in columns.names() {
        let present: Vec<&Value> = rows.iter().filter_map(|row| row.get(&name)).filter(|value| !value.is_null()).collect();
        let make: fn(&Value) -> Option<Value> = if is_named_as_time(&name) && are_times(&name, &present)? {
            notes.push(note(&name, false));
            |value: &Value| value.as_str().and_then(times::time).map(|time| time.to_string().into())
        } else if present.iter().all(|value| whole(value).is_some()) {
            |value: &Value| whole(value).map(Value::from)
        } else {
            continue;
        };
        for value in rows.iter_mut().filter_map(|row| row.get_mut(&name)) {
            if let Some(made) = make(value) {
                *value = made;
            }
        }
    }
    // Their types may be others now.
    let mut columns = Columns::default();
    columns.join(&rows, Rule { fills: true, times: false });
    Ok(Inferred { rows: columns.fit(rows), notes })
}

/// A number that is whole, as pandas makes integers of floats where all of a column are.
fn whole(value: &Value) -> Option<i64> {
    const MOST: f64 = 9_223_372_036_854_775_808.0;
    let float = || value.as_f64().filter(|x| value.is_f64() && x.fract() == 0.0 && *x >= -MOST && *x < MOST);
    value.as_i64().or_else(|| float().map(|x| x as i64))
}

/// Names of columns of which pandas makes times where it can.
fn is_named_as_time(name: &str) -> bool {
    let name = name.to_lowercase();
    name.ends_with("_at")
        || name.ends_with("_time")
        || name.starts_with("timestamp")
        || matches!(name.as_str(), "modified" | "date" | "datetime")
}

/// Whether pandas makes times of the values of a column with such a name.
///
/// # Errors
/// Values of which it may make some in a way that is not followed.
fn are_times(name: &str, values: &[&Value]) -> Result<bool, Message> {
    /// Seconds since 1970: where one number is not larger, none is a time.
    const LEAST: f64 = 31_536_000.0;
    let texts: Vec<&str> = values.iter().filter_map(|value| value.as_str()).collect();
    let numbers: Option<Vec<f64>> = match texts.is_empty() {
        true => values.iter().map(|value| value.as_f64()).collect(),
        false => texts.iter().map(|text| text.parse::<i64>().ok().map(|n| n as f64)).collect(),
    };
    let stays = match numbers {
        Some(numbers) => numbers.is_empty() || numbers.iter().any(|x| *x <= LEAST),
        // Booleans, lists and objects; else one text that is no time keeps all others.
        None => texts.is_empty() || texts.iter().any(|text| is_word(text)),
    };
    if stays {
        return Ok(false);
    }
    let is_plain = |text: &str| {
        let clock = text.get(10..).unwrap_or_default();
        matches!(text.len(), 10 | 16 | 19) && !clock.contains(['Z', '+', '-']) && times::time(text).is_some()
    };
    if !texts.is_empty() && texts.iter().all(|text| is_plain(text) && text.len() == texts[0].len()) {
        return Ok(true);
    }
    let what = format!(
        "Hugging Face's datasets may make times of the column {name:?} because of its name, in a way that is not followed here; \
         give it another name, or name the file with "
    );
    Err(Message::from(what).then(DATA_MAP))
}

/// Whether a text is no time by any reading: it has no digit and is none of the words for one.
fn is_word(text: &str) -> bool {
    let word = text.trim().to_lowercase();
    let known = ["", "now", "today", "nat", "nan", "none", "null", "<na>", "n/a", "na"];
    !known.contains(&word.as_str()) && !word.contains(|c: char| c.is_numeric())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn typed(text: &str, is_typed: bool) -> Result<Vec<Value>, String> {
        let layout = if text.trim_start().starts_with('[') { Layout::List } else { Layout::Lines };
        let rows: Vec<DataRow> = match layout {
            Layout::List => serde_json::from_str(text).unwrap(),
            _ => serde_json::Deserializer::from_str(text).into_iter().map(Result::unwrap).collect(),
        };
        let inferred = infer(rows, Source { text, layout, has_long: false, is_typed }).map_err(|e| e.to_string())?;
        Ok(inferred.rows.into_iter().map(Value::Object).collect())
    }

    /// As one text, in which a float is told from an integer and a zero has its sign.
    #[track_caller]
    fn check(text: &str, expected: &Value) {
        assert_eq!(Value::Array(typed(text, false).unwrap()).to_string(), expected.to_string(), "{text}");
    }

    fn field(rows: Value) -> Result<String, String> {
        let rows: Vec<DataRow> = serde_json::from_value(rows).unwrap();
        let source = Source { text: "{}", layout: Layout::Field("rows"), has_long: false, is_typed: false };
        let inferred = infer(rows, source).map_err(|e| e.to_string())?;
        Ok(Value::from_iter(inferred.rows).to_string())
    }

    /// Expected: `load_dataset("json", ...)` of datasets 5.2 with pyarrow 26.
    #[test]
    fn columns_of_times_become_times() {
        let times = "{\"d\": \"2020-01-02\"}\n{\"d\": \"2020-01-02T10:00:00Z\"}\n{\"d\": null}\n{}\n";
        let midnight = "2020-01-02 00:00:00";
        check(times, &json!([{"d": midnight}, {"d": "2020-01-02 10:00:00"}, {"d": null}, {"d": null}]));
        check("{\"d\": \"2020-01-02\"}\n{\"d\": \"x\"}", &json!([{"d": "2020-01-02"}, {"d": "x"}]));
        check("{\"d\": \"\"}\n{\"d\": \"2020-01-02\"}", &json!([{"d": ""}, {"d": "2020-01-02"}]));
        check("{\"d\": [\"2020-01-02\", \"x\"]}", &json!([{"d": ["2020-01-02", "x"]}]));
        check("{\"d\": [\"2020-01-02\"], \"e\": {\"f\": \"2020-01-02\"}}", &json!([{"d": [midnight], "e": {"f": midnight}}]));
        check("[{\"d\": \"2020-01-02\"}]", &json!([{"d": midnight}]));
        // Among other types nothing is a time.
        check("{\"d\": \"2020-01-02\"}\n{\"d\": 1}", &json!([{"d": "2020-01-02"}, {"d": 1}]));
        assert_eq!(typed("{\"d\": \"2020-01-02\"}", true).unwrap(), [json!({"d": midnight})]);
    }

    /// Expected: `load_dataset("json", ...)` of datasets 5.2.
    #[test]
    fn objects_of_different_fields_stay_in_files_with_a_row_a_line() {
        let text = "{\"o\": {\"a\": 1}, \"l\": [{\"a\": 1}, {\"b\": 2}]}\n{\"o\": {\"a\": 2, \"b\": 3}, \"l\": []}\n";
        check(text, &json!([{"o": {"a": 1}, "l": [{"a": 1}, {"b": 2}]}, {"o": {"a": 2, "b": 3}, "l": []}]));
        check("[{\"o\": {\"a\": 1.0}}, {\"o\": {\"b\": 1}}]", &json!([{"o": {"a": 1.0}}, {"o": {"b": 1}}]));
        check(
            "{\"o\": {\"b\": 1, \"a\": 2}}\n{\"o\": {\"a\": 1, \"b\": 2}}",
            &json!([{"o": {"b": 1, "a": 2}}, {"o": {"b": 2, "a": 1}}]),
        );
        let filled = json!([{"o": {"a": 1, "b": null}}, {"o": {"a": null, "b": 1}}]);
        let (one, two) = ("{\"o\": {\"a\": 1}}", "{\"o\": {\"b\": 1}}");
        for text in [format!("{one}\n\n{two}\n"), format!("{one} {two}\n"), format!("{one}\n{}", two.replace(' ', "\n"))] {
            check(&text, &filled);
        }
        assert_eq!(Value::Array(typed("{\"o\": {\"a\": 1}}\n{\"o\": {\"b\": 1}}", true).unwrap()), filled);
    }

    /// Expected: `load_dataset("json", ...)` of datasets 5.2 with pandas 3.1.
    #[test]
    fn ujson_changes_rows_where_they_go_through_it() {
        let plain = "{\"f\": -0.0, \"g\": 0.12345678901234566}";
        check(plain, &json!([{"f": -0.0, "g": 0.12345678901234566}]));
        let list = "[{\"f\": -0.0, \"g\": 0.12345678901234567, \"h\": 1e-12}, {\"f\": 1, \"g\": 1e22, \"h\": 1.5e-20}]";
        check(list, &json!([{"f": 0.0, "g": 0.123456789, "h": 0.0}, {"f": 1.0, "g": 1e22, "h": 1.5e-20}]));
        let mixed = "{\"l\": [1, \"x\", \"5\", \"true\", \"null\", \"\\\"q\\\"\", \"[1]\"], \"f\": -0.0}\n\
            {\"l\": [2, -0.0, 0.12345678901234567], \"f\": 0.12345678901234567}";
        check(
            mixed,
            &json!([
                {"l": [1, "x", 5, true, null, "q", [1]], "f": 0.0},
                {"l": [2, 0.0, 0.12345678900000001], "f": 0.123456789}
            ]),
        );
        let infinite = typed("{\"m\": 1}\n{\"m\": \"Infinity\"}", false).unwrap_err();
        assert!(infinite.contains("row 1, column \"m\": the text \"Infinity\""), "{infinite}");
    }

    /// Expected: `load_dataset("json", ..., field="rows")` of datasets 5.2 with pandas 3.1.
    #[test]
    fn fields_of_files_are_read_as_pandas_reads_them() {
        let read = |rows: Value| field(rows).unwrap();
        assert_eq!(
            read(json!([{"d": "2020-01-02", "date": "2020-01-02"}])),
            r#"[{"d":"2020-01-02","date":"2020-01-02 00:00:00"}]"#
        );
        assert_eq!(read(json!([{"a": 1.0, "b": 1.5}, {"b": 2}])), r#"[{"a":1,"b":1.5},{"a":null,"b":2.0}]"#);
        assert_eq!(read(json!([{"a": 1e20, "l": [1.0]}])), json!([{"a": 1e20, "l": [1.0]}]).to_string());
        assert_eq!(read(json!([{"o": {"a": 1}}, {"o": {"b": 0.5}}])), r#"[{"o":{"a":1,"b":null}},{"o":{"a":null,"b":0.5}}]"#);
        for stays in [json!("x"), json!("1999"), json!("20200102"), json!(1000), json!(true), json!(["2020-01-02"]), json!("May")]
        {
            assert_eq!(read(json!([{"x_at": stays}])), format!("[{{\"x_at\":{stays}}}]"));
        }
        for refused in [json!("3 May 2020"), json!(1_600_000_000), json!("now"), json!("2020-01-02T10:00:00Z"), json!("")] {
            let error = field(json!([{"Timestamp_x": refused}])).unwrap_err();
            assert!(error.contains("\"Timestamp_x\"") && error.contains("data_map"), "{refused}: {error}");
        }
        assert!(field(json!([{"a": 1}, {"a": "x"}])).unwrap_err().contains("\"a\" has values of several types"));
        assert!(typed(" [{\"a\": 1}, {\"a\": \"x\"}]", false).unwrap_err().contains("several types"));
    }
}
