//! The types that a card gives to columns (`dataset_info`), and values of JSON and CSV made of these types: what looks like a
//! number and is said to be a text becomes one. Absent: types inside of lists and structures, parquet, which has its own.
//!
//! Source: Hugging Face's `datasets` 5.2 (`table_cast`), Arrow's casts (`DoubleToStringConverter` with -6 and 10).

use bitworth_quant::message::Message;
use serde_json::{Map, Number, Value};

use crate::files::yaml::Node;
use crate::rows::DataRow;

/// The columns of a configuration with their types, in order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Features(Vec<(String, Type)>);

/// The type of a column.
#[derive(Debug, Clone, PartialEq)]
enum Type {
    Text,
    Int,
    Float,
    /// A float of 32 bits.
    Single,
    Bool,
    /// Numbers of these names.
    Label(Vec<String>),
    /// Anything else stays what it is.
    Other,
}

impl Features {
    /// What a card's `dataset_info` says of a configuration, if anything.
    pub(super) fn of_config(info: &Node, config: &str) -> Option<Self> {
        let is_meant = |node: &&Node| match node.get("config_name") {
            Some(Node::Text(name)) => name == config,
            _ => config == "default",
        };
        let own = match info {
            Node::List(items) => items.iter().rfind(is_meant)?,
            one => Some(one).filter(is_meant)?,
        };
        let Some(Node::List(items)) = own.get("features") else { return None };
        let feature = |item: &Node| Some((item.get("name")?.as_text()?.to_owned(), Type::of(item)));
        items.iter().map(feature).collect::<Option<Vec<_>>>().filter(|columns| !columns.is_empty()).map(Self)
    }

    /// Rows with these columns, in this order, of these types.
    ///
    /// # Errors
    /// A column that the card does not name, a value that does not fit its column: with the row.
    pub(super) fn cast(&self, rows: Vec<DataRow>) -> Result<Vec<DataRow>, Message> {
        let one = |(number, mut row): (usize, DataRow)| -> Result<DataRow, Message> {
            if let Some(odd) = row.keys().find(|key| !self.0.iter().any(|(name, _)| name == *key)) {
                return Err(format!("row {number} has the column {odd:?}, which its card does not name").into());
            }
            let mut made = Map::with_capacity(self.0.len());
            for (name, of) in &self.0 {
                let value = row.get_mut(name).map(Value::take).unwrap_or_default();
                let cast = of.cast(value).map_err(|value| {
                    Message::from(format!("row {number}: by its card, {name:?} is {}, and is {value}", of.describe()))
                })?;
                made.insert(name.clone(), cast);
            }
            Ok(made)
        };
        rows.into_iter().enumerate().map(one).collect()
    }
}

impl Type {
    fn of(item: &Node) -> Self {
        match item.get("dtype") {
            Some(Node::Text(dtype)) => match dtype.as_str() {
                "string" | "large_string" => Self::Text,
                "int8" | "int16" | "int32" | "int64" | "uint8" | "uint16" | "uint32" | "uint64" => Self::Int,
                "float64" => Self::Float,
                "float32" => Self::Single,
                "bool" => Self::Bool,
                _ => Self::Other,
            },
            Some(dtype) => match dtype.get("class_label").and_then(|label| label.get("names")) {
                // By number, or as a list.
                Some(Node::Map(names)) => names.iter().map(|(_, name)| name.as_text().map(str::to_owned)).collect(),
                Some(Node::List(names)) => names.iter().map(|name| name.as_text().map(str::to_owned)).collect(),
                _ => None,
            }
            .map_or(Self::Other, Self::Label),
            None => Self::Other,
        }
    }

    fn describe(&self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Int => "an integer",
            Self::Float | Self::Single => "a number",
            Self::Bool => "a truth value",
            Self::Label(_) => "the name or the number of a class",
            Self::Other => "of another type",
        }
    }

    /// The value as one of this type, or the value that does not fit.
    fn cast(&self, value: Value) -> Result<Value, Value> {
        let float = |x: f64| Number::from_f64(x).map(Value::Number);
        let cast = match (self, &value) {
            (_, Value::Null) | (Self::Other, _) => return Ok(value),
            (Self::Text, Value::String(_)) | (Self::Bool, Value::Bool(_)) => return Ok(value),
            (Self::Text, Value::Bool(_)) => Some(value.to_string().into()),
            (Self::Text, Value::Number(number)) => match number.is_f64() {
                true => number.as_f64().map(|x| float_text(x).into()),
                false => Some(number.to_string().into()),
            },
            (Self::Int, Value::Number(number)) if !number.is_f64() => return Ok(value),
            (Self::Int, Value::Number(number)) => {
                number.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 9e15).map(|x| (x as i64).into())
            }
            (Self::Int, Value::String(text)) => text.parse::<i64>().ok().map(Value::from),
            (Self::Int, Value::Bool(is)) => Some(i64::from(*is).into()),
            (Self::Float, Value::Number(number)) => number.as_f64().and_then(float),
            (Self::Float, Value::String(text)) => text.parse().ok().and_then(float),
            (Self::Float, Value::Bool(is)) => float(f64::from(u8::from(*is))),
            (Self::Single, value) => match Self::Float.cast(value.clone())? {
                Value::Number(number) => number.as_f64().and_then(|x| float(f64::from(x as f32))),
                _ => None,
            },
            (Self::Bool, Value::Number(number)) => number.as_f64().map(|x| (x != 0.0).into()),
            (Self::Bool, Value::String(text)) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" => Some(true.into()),
                "false" | "0" => Some(false.into()),
                _ => None,
            },
            (Self::Label(names), Value::String(text)) => names.iter().position(|name| name == text).map(Value::from),
            (Self::Label(names), Value::Number(number)) => {
                let known = number.as_i64().is_some_and(|n| n >= -1 && n < names.len() as i64);
                known.then(|| value.clone())
            }
            _ => None,
        };
        cast.ok_or(value)
    }
}

/// A float as Arrow writes it: with as few digits as tell it from others, and without a point where it has none.
fn float_text(x: f64) -> String {
    let written = format!("{x:e}");
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    match exponent.parse::<i32>() {
        Ok(-6..10) => x.to_string(),
        Ok(_) if !exponent.starts_with('-') => format!("{mantissa}e+{exponent}"),
        _ => format!("{mantissa}e{exponent}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::files::yaml;

    /// A column `c` of that type.
    fn cast(dtype: &str, values: &[Value]) -> Result<Vec<Value>, String> {
        let info = yaml::parse(&format!("features:\n- name: c\n  dtype: {dtype}\n"), &Arc::from(Path::new(""))).unwrap();
        let features = Features::of_config(&info, "default").unwrap();
        let rows = values.iter().map(|value| Map::from_iter([("c".to_owned(), value.clone())])).collect();
        features.cast(rows).map(|rows| rows.into_iter().map(|row| row["c"].clone()).collect()).map_err(|e| e.to_string())
    }

    /// Expected: `pyarrow.array(values).cast(type)` of pyarrow 26, and for classes `load_dataset` of datasets 5.2.
    #[test]
    fn values_are_cast_as_arrow_casts_them() {
        let floats = [
            json!(1.0),
            json!(-0.0),
            json!(9999999999.0),
            json!(1e10),
            json!(1e-5),
            json!(1e-6),
            json!(1.5e-7),
            json!(0.1 + 0.2),
        ];
        let texts = ["1", "-0", "9999999999", "1e+10", "0.00001", "0.000001", "1.5e-7", "0.30000000000000004"];
        assert_eq!(cast("string", &floats).unwrap(), texts);
        assert_eq!(
            cast("string", &[json!(7), json!(true), json!("x"), json!(null)]).unwrap(),
            [json!("7"), json!("true"), json!("x"), json!(null)]
        );
        assert_eq!(cast("int64", &[json!(7), json!(2.0), json!("-5")]).unwrap(), [7, 2, -5]);
        assert_eq!(cast("float64", &[json!(7), json!("1.5")]).unwrap(), [7.0, 1.5]);
        assert_eq!(cast("float32", &[json!(0.1)]).unwrap(), [f64::from(0.1_f32)]);
        assert_eq!(cast("bool", &[json!(1), json!("FALSE"), json!(0)]).unwrap(), [true, false, false]);
        let label = "{class_label: {names: {'0': neg, '1': pos}}}";
        assert_eq!(cast(label, &[json!("pos"), json!(0), json!("neg")]).unwrap(), [1, 0, 0]);
        assert_eq!(cast("{list: string}", &[json!([1])]).unwrap(), [json!([1])]);
    }

    #[test]
    fn values_that_do_not_fit_are_named() {
        for (dtype, value) in [
            ("int64", json!(1.5)),
            ("int64", json!(" 4")),
            ("bool", json!("no")),
            ("string", json!([1])),
            ("{class_label: {names: [a, b]}}", json!("c")),
            ("{class_label: {names: [a, b]}}", json!(2)),
        ] {
            let error = cast(dtype, &[json!(null), value.clone()]).unwrap_err();
            assert!(error.contains("row 1: by its card, \"c\" is ") && error.ends_with(&format!("and is {value}")), "{error}");
        }
    }

    /// Expected: `load_dataset` of datasets 5.2.
    #[test]
    fn columns_are_those_of_the_card() {
        let text =
            "- config_name: x\n  features:\n  - name: b\n    dtype: string\n  - name: a\n    dtype: int64\n- features: []\n";
        let info = yaml::parse(text, &Arc::from(Path::new(""))).unwrap();
        let features = Features::of_config(&info, "x").unwrap();
        let row = |value: Value| value.as_object().unwrap().clone();
        let rows = features.cast(vec![row(json!({"a": 1, "b": 2})), row(json!({"a": 3}))]).unwrap();
        assert_eq!(
            rows.iter().map(|row| Value::Object(row.clone()).to_string()).collect::<Vec<_>>(),
            [r#"{"b":"2","a":1}"#, r#"{"b":null,"a":3}"#]
        );
        assert!(
            features.cast(vec![row(json!({"c": 1}))]).unwrap_err().to_string().contains("\"c\", which its card does not name")
        );
        assert_eq!((Features::of_config(&info, "y"), Features::of_config(&info, "default")), (None, None));
    }
}
