//! Rows of one file made alike, as Arrow makes them when Hugging Face's `datasets` reads JSON: a field that a row lacks is
//! null, an integer in a column of floats is a float, in nested values too. Values that no one type holds stay as they are.
//! Absent: files.

use serde_json::{Map, Number, Value};

use super::DataRow;

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
    List(Box<Shape>),
    Struct(Vec<(String, Shape)>),
    Mixed,
}

/// The columns in order of appearance, and the rows with all of them.
pub(super) fn alike(rows: Vec<DataRow>) -> (Vec<String>, Vec<DataRow>) {
    let mut shape = Shape::Struct(Vec::new());
    for row in &rows {
        let Shape::Struct(fields) = &mut shape else { break };
        join_fields(fields, row);
    }
    let Shape::Struct(fields) = shape else { return (Vec::new(), rows) };
    let columns = fields.iter().map(|(name, _)| name.clone()).collect();
    let rows = rows.into_iter().map(|row| fill(row, &fields)).collect();
    (columns, rows)
}

fn join_fields(fields: &mut Vec<(String, Shape)>, row: &DataRow) {
    for (at, (key, value)) in row.iter().enumerate() {
        // Most rows have the same fields in the same order.
        let known = match fields.get(at) {
            Some((name, _)) if name == key => Some(at),
            _ => fields.iter().position(|(name, _)| name == key),
        };
        match known {
            Some(at) => join(&mut fields[at].1, value),
            None => {
                let mut shape = Shape::Null;
                join(&mut shape, value);
                fields.push((key.clone(), shape));
            }
        }
    }
}

fn join(shape: &mut Shape, value: &Value) {
    match (&mut *shape, value) {
        (_, Value::Null)
        | (Shape::Mixed, _)
        | (Shape::Bool, Value::Bool(_))
        | (Shape::Text, Value::String(_))
        | (Shape::Float, Value::Number(_)) => {}
        (Shape::Int, Value::Number(number)) if !number.is_f64() => {}
        (Shape::Int, Value::Number(_)) => *shape = Shape::Float,
        (Shape::List(inner), Value::Array(items)) => items.iter().for_each(|item| join(inner, item)),
        (Shape::Struct(fields), Value::Object(row)) if fields.len() <= MAX_FIELDS => join_fields(fields, row),
        (Shape::Null, value) => {
            *shape = match value {
                Value::Null => Shape::Null,
                Value::Bool(_) => Shape::Bool,
                Value::Number(number) if number.is_f64() => Shape::Float,
                Value::Number(_) => Shape::Int,
                Value::String(_) => Shape::Text,
                Value::Array(_) => Shape::List(Box::new(Shape::Null)),
                Value::Object(_) => Shape::Struct(Vec::new()),
            };
            if matches!(value, Value::Array(_) | Value::Object(_)) {
                join(shape, value);
            }
        }
        _ => *shape = Shape::Mixed,
    }
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

    /// Expected: `datasets.Dataset.from_list` of datasets 4.
    #[test]
    fn rows_get_the_same_fields_and_types() {
        let rows = [
            json!({"a": 1, "c": {"x": [1]}}),
            json!({"b": "t", "a": 0.5, "c": {"y": null, "x": [1.5, null]}}),
            json!({"c": null}),
        ];
        let rows = rows.map(|row| row.as_object().unwrap().clone()).to_vec();
        let (columns, rows) = alike(rows);
        assert_eq!(columns, ["a", "c", "b"]);
        let shown: Vec<String> = rows.into_iter().map(|row| Value::Object(row).to_string()).collect();
        assert_eq!(
            shown,
            [
                r#"{"a":1.0,"c":{"x":[1.0],"y":null},"b":null}"#,
                r#"{"a":0.5,"c":{"x":[1.5,null],"y":null},"b":"t"}"#,
                r#"{"a":null,"c":null,"b":null}"#,
            ]
        );
    }

    #[test]
    fn values_of_no_common_type_stay() {
        let rows = [json!({"a": 1}), json!({"a": "x"}), json!({"a": true})].map(|row| row.as_object().unwrap().clone()).to_vec();
        let (_, rows) = alike(rows.clone());
        assert_eq!(rows[0]["a"], json!(1));
        assert_eq!(rows[1]["a"], json!("x"));
    }
}
