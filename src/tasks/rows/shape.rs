//! Rows made alike, as Hugging Face's `datasets` makes them: a column that a row lacks is null, an integer in a column of floats
//! is a float, in nested values too. Values that no one type holds stay as they are, and so do objects whose fields differ.
//! Absent: files, and which of them are read by which rule ([`super::inferred`]).

use bitworth_quant::message::Message;
use serde_json::{Map, Number, Value};

use super::{DataRow, times, ujson};
use crate::short::short;

/// More fields are keys of a dictionary and no columns.
const MAX_FIELDS: usize = 4096;

/// What the values of a column have in common.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Null,
    Bool,
    Int,
    Float,
    Text,
    /// Texts that are times, every one of them.
    Time,
    List(Box<Shape>),
    Struct(Vec<(String, Shape)>),
    Mixed,
}

/// The shape of what no column was made of.
static NOTHING: Shape = Shape::Null;

/// How columns come of values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// Whether objects get the fields of others, as null. Else they stay as they are where their fields differ: `datasets` gives
    /// them the type JSON.
    pub(super) fills: bool,
    /// Whether texts become times where all of a column are.
    pub(super) times: bool,
}

/// The columns of rows, in order of appearance.
#[derive(Debug, Default)]
pub(super) struct Columns(Vec<(String, Shape)>);

impl Columns {
    /// Takes more rows into account.
    pub(super) fn join(&mut self, rows: &[DataRow], rule: Rule) {
        rows.iter().for_each(|row| join_fields(&mut self.0, row, rule));
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The first one with values that no one type holds.
    pub(super) fn mixed(&self) -> Option<&str> {
        self.0.iter().find(|(_, shape)| shape.has(&Shape::Mixed)).map(|(name, _)| name.as_str())
    }

    /// Those with times, and whether these stand within lists or objects.
    pub(super) fn times(&self) -> impl Iterator<Item = (&str, bool)> {
        let with = self.0.iter().filter(|(_, shape)| shape.has(&Shape::Time));
        with.map(|(name, shape)| (name.as_str(), *shape != Shape::Time))
    }

    /// Sends rows through ujson: floats lose digits, and where no one type holds the values, texts become what they say as JSON
    /// (with `decodes`).
    ///
    /// # Errors
    /// A text that is a number too large, with its place.
    pub(super) fn through_ujson(&self, rows: &mut [DataRow], decodes: bool) -> Result<(), Message> {
        for (number, row) in rows.iter_mut().enumerate() {
            for (name, value) in row.iter_mut() {
                let shape = self.0.iter().find(|(known, _)| known == name).map_or(&NOTHING, |(_, shape)| shape);
                through_ujson(value, shape, decodes).map_err(|TooLarge(text)| {
                    format!(
                        "row {number}, column {name:?}: the text {:?} stands among other values, where Hugging Face's datasets \
                         takes it for a number, one that is not supported here",
                        short(&text)
                    )
                })?;
            }
        }
        Ok(())
    }

    /// The rows with all of the columns.
    pub(super) fn fit(&self, rows: Vec<DataRow>) -> Vec<DataRow> {
        rows.into_iter().map(|row| fill(row, &self.0)).collect()
    }
}

impl Shape {
    /// Whether it is this shape or has it within.
    fn has(&self, other: &Self) -> bool {
        match self {
            Self::List(inner) => inner.has(other),
            Self::Struct(fields) => fields.iter().any(|(_, shape)| shape.has(other)),
            own => own == other,
        }
    }
}

fn join_fields(fields: &mut Vec<(String, Shape)>, row: &DataRow, rule: Rule) {
    for (at, (key, value)) in row.iter().enumerate() {
        match place(fields, at, key) {
            Some(at) => join(&mut fields[at].1, value, rule),
            None => {
                let mut shape = Shape::Null;
                join(&mut shape, value, rule);
                fields.push((key.clone(), shape));
            }
        }
    }
}

/// Where a field stands. Most rows have the same fields in the same order.
fn place(fields: &[(String, Shape)], at: usize, key: &str) -> Option<usize> {
    match fields.get(at) {
        Some((name, _)) if name == key => Some(at),
        _ => fields.iter().position(|(name, _)| name == key),
    }
}

fn join(shape: &mut Shape, value: &Value, rule: Rule) {
    match (&mut *shape, value) {
        (_, Value::Null)
        | (Shape::Mixed, _)
        | (Shape::Bool, Value::Bool(_))
        | (Shape::Text, Value::String(_))
        | (Shape::Float, Value::Number(_)) => {}
        (Shape::Int, Value::Number(number)) if !number.is_f64() => {}
        (Shape::Int, Value::Number(_)) => *shape = Shape::Float,
        (Shape::Time, Value::String(text)) => {
            if times::time(text).is_none() {
                *shape = Shape::Text;
            }
        }
        (Shape::List(inner), Value::Array(items)) => items.iter().for_each(|item| join(inner, item, rule)),
        (Shape::Struct(fields), Value::Object(row)) if fields.len() <= MAX_FIELDS && (rule.fills || same_keys(&*fields, row)) => {
            join_fields(fields, row, rule);
        }
        (Shape::Null, value) => *shape = shape_of(value, rule),
        _ => *shape = Shape::Mixed,
    }
}

fn shape_of(value: &Value, rule: Rule) -> Shape {
    match value {
        Value::Null => Shape::Null,
        Value::Bool(_) => Shape::Bool,
        Value::Number(number) if number.is_f64() => Shape::Float,
        Value::Number(_) => Shape::Int,
        Value::String(text) if rule.times && times::time(text).is_some() => Shape::Time,
        Value::String(_) => Shape::Text,
        Value::Array(items) => {
            let mut inner = Shape::Null;
            items.iter().for_each(|item| join(&mut inner, item, rule));
            Shape::List(Box::new(inner))
        }
        Value::Object(row) => {
            let mut fields = Vec::new();
            join_fields(&mut fields, row, rule);
            Shape::Struct(fields)
        }
    }
}

fn same_keys(fields: &[(String, Shape)], row: &DataRow) -> bool {
    fields.len() == row.len() && row.keys().enumerate().all(|(at, key)| place(fields, at, key).is_some())
}

/// A text that is a number of which there is none here.
struct TooLarge(String);

/// # Errors
/// The text that is a number too large.
fn through_ujson(value: &mut Value, shape: &Shape, decodes: bool) -> Result<(), TooLarge> {
    match (shape, &mut *value) {
        (Shape::Mixed, Value::String(text)) if decodes => match ujson::value(text) {
            Ok(Some(decoded)) => *value = decoded,
            Ok(None) => {}
            Err(ujson::TooLarge) => return Err(TooLarge(text.clone())),
        },
        (Shape::Mixed, value) if decodes => ujson::each_float(value, ujson::read_again),
        (Shape::List(inner), Value::Array(items)) => {
            items.iter_mut().try_for_each(|item| through_ujson(item, inner, decodes))?;
        }
        (Shape::Struct(fields), Value::Object(row)) => {
            for (at, (key, value)) in row.iter_mut().enumerate() {
                let shape = place(fields, at, key).map_or(&NOTHING, |at| &fields[at].1);
                through_ujson(value, shape, decodes)?;
            }
        }
        (_, value) => ujson::each_float(value, ujson::written),
    }
    Ok(())
}

fn fill(mut row: DataRow, fields: &[(String, Shape)]) -> DataRow {
    let same = row.len() == fields.len() && row.keys().zip(fields).all(|(key, (name, _))| key == name);
    if same {
        for ((_, value), (_, shape)) in row.iter_mut().zip(fields) {
            fit(value, shape);
        }
        return row;
    }
    let mut made = Map::with_capacity(fields.len());
    for (name, shape) in fields {
        let mut value = row.get_mut(name).map(Value::take).unwrap_or_default();
        fit(&mut value, shape);
        made.insert(name.clone(), value);
    }
    made
}

fn fit(value: &mut Value, shape: &Shape) {
    match (shape, &mut *value) {
        (Shape::Float, Value::Number(number)) if !number.is_f64() => {
            if let Some(float) = number.as_f64().and_then(Number::from_f64) {
                *value = Value::Number(float);
            }
        }
        (Shape::Time, Value::String(text)) => {
            if let Some(time) = times::time(text) {
                *text = time.to_string();
            }
        }
        (Shape::List(inner), Value::Array(items)) => items.iter_mut().for_each(|item| fit(item, inner)),
        (Shape::Struct(fields), Value::Object(row)) if fields.len() <= MAX_FIELDS => {
            *value = Value::Object(fill(std::mem::take(row), fields));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alike(rows: &[Value], fills: bool) -> (Vec<String>, Vec<String>) {
        let rows: Vec<DataRow> = rows.iter().map(|row| row.as_object().unwrap().clone()).collect();
        let mut columns = Columns::default();
        columns.join(&rows, Rule { fills, times: false });
        let shown = columns.fit(rows).into_iter().map(|row| Value::Object(row).to_string()).collect();
        (columns.names(), shown)
    }

    /// Expected: `datasets.Dataset.from_list` of datasets 5.2.
    #[test]
    fn rows_get_the_same_fields_and_types() {
        let rows = [
            json!({"a": 1, "c": {"x": [1]}}),
            json!({"b": "t", "a": 0.5, "c": {"y": null, "x": [1.5, null]}}),
            json!({"c": null}),
        ];
        let (columns, rows) = alike(&rows, true);
        assert_eq!(columns, ["a", "c", "b"]);
        assert_eq!(
            rows,
            [
                r#"{"a":1.0,"c":{"x":[1.0],"y":null},"b":null}"#,
                r#"{"a":0.5,"c":{"x":[1.5,null],"y":null},"b":"t"}"#,
                r#"{"a":null,"c":null,"b":null}"#,
            ]
        );
    }

    /// Expected: `datasets.load_dataset("json", ...)` and `Dataset.map` of datasets 5.2.
    #[test]
    fn objects_whose_fields_differ_stay() {
        let rows =
            [json!({"o": {"a": 1}, "p": {"x": 1, "y": {"z": 1}}}), json!({"o": {"a": 2.5, "b": 3}, "p": {"y": {}, "x": 2.5}})];
        let (_, rows) = alike(&rows, false);
        assert_eq!(rows, [r#"{"o":{"a":1},"p":{"x":1.0,"y":{"z":1}}}"#, r#"{"o":{"a":2.5,"b":3},"p":{"x":2.5,"y":{}}}"#]);
    }

    #[test]
    fn values_of_no_common_type_stay() {
        let (_, rows) = alike(&[json!({"a": 1}), json!({"a": "x"}), json!({"a": true})], true);
        assert_eq!(rows, [r#"{"a":1}"#, r#"{"a":"x"}"#, r#"{"a":true}"#]);
    }
}
