//! Parquet with nested columns, by polars. Absent: what the columns mean; bytes (images, sound) are null.

use std::path::Path;

use bitworth_quant::{Error, Result};
use polars::prelude::{AnyValue, DataType, PolarsResult, Series};
use polars_io::SerReader;
use polars_io::prelude::{ParallelStrategy, ParquetReader};
use serde_json::{Map, Number, Value};

use super::DataRow;

/// The rows of a file.
pub(super) fn read(path: &Path) -> Result<Vec<DataRow>> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let wrong = |e: polars::prelude::PolarsError| Error::file(path, format!("is not a readable parquet file: {e}"));
    let frame = ParquetReader::new(file).read_parallel(ParallelStrategy::None).set_rechunk(true).finish().map_err(wrong)?;
    let mut columns = Vec::new();
    for column in frame.columns() {
        let values = values(column.as_materialized_series()).map_err(wrong)?;
        columns.push((column.name().to_string(), values.into_iter()));
    }
    let mut rows = Vec::with_capacity(frame.height());
    for _ in 0..frame.height() {
        let one = |(name, values): &mut (String, std::vec::IntoIter<Value>)| (name.clone(), values.next().unwrap_or_default());
        rows.push(columns.iter_mut().map(one).collect::<Map<_, _>>());
    }
    Ok(rows)
}

fn values(series: &Series) -> PolarsResult<Vec<Value>> {
    match series.dtype() {
        DataType::Struct(_) => {
            let mut fields = Vec::new();
            for field in series.struct_()?.fields_as_series() {
                fields.push((field.name().to_string(), values(&field)?.into_iter()));
            }
            let nulls = series.is_null();
            let mut rows = Vec::with_capacity(series.len());
            for i in 0..series.len() {
                let one =
                    |(name, values): &mut (String, std::vec::IntoIter<Value>)| (name.clone(), values.next().unwrap_or_default());
                let row: Map<String, Value> = fields.iter_mut().map(one).collect();
                rows.push(if nulls.get(i).unwrap_or(false) { Value::Null } else { row.into() });
            }
            Ok(rows)
        }
        DataType::List(_) => {
            let list = series.list()?;
            let item = |i: usize| match list.get_as_series(i) {
                Some(items) => values(&items).map(Value::Array),
                None => Ok(Value::Null),
            };
            (0..series.len()).map(item).collect()
        }
        _ => series.iter().map(|value| Ok(scalar(&value))).collect(),
    }
}

fn scalar(value: &AnyValue) -> Value {
    let float = |value: f64| Number::from_f64(value).map_or(Value::Null, Value::Number);
    match value {
        AnyValue::Null | AnyValue::Binary(_) | AnyValue::BinaryOwned(_) => Value::Null,
        AnyValue::Boolean(value) => (*value).into(),
        AnyValue::Int8(n) => (*n).into(),
        AnyValue::Int16(n) => (*n).into(),
        AnyValue::Int32(n) => (*n).into(),
        AnyValue::Int64(n) => (*n).into(),
        AnyValue::UInt8(n) => (*n).into(),
        AnyValue::UInt16(n) => (*n).into(),
        AnyValue::UInt32(n) => (*n).into(),
        AnyValue::UInt64(n) => (*n).into(),
        AnyValue::Float32(x) => float(f64::from(*x)),
        AnyValue::Float64(x) => float(*x),
        other => other.get_str().map_or_else(|| other.to_string().into(), Value::from),
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::{DataFrame, IntoColumn, ListChunked, NamedFrom, StructChunked};
    use polars_io::prelude::ParquetWriter;
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_columns_are_read() {
        let text = Series::new("text".into(), [Some("a"), None]);
        let label: ListChunked = [Some(Series::new("".into(), [1_i64, 2])), None].into_iter().collect();
        let label = polars::prelude::IntoSeries::into_series(label).with_name("label".into());
        let fields = [text.clone(), label];
        let choices = StructChunked::from_series("choices".into(), 2, fields.iter()).unwrap();
        let choices = polars::prelude::IntoSeries::into_series(choices);
        let flag = Series::new("flag".into(), [true, false]);
        let mut frame = DataFrame::new(2, vec![choices.into_column(), flag.into_column()]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        ParquetWriter::new(file.reopen().unwrap()).finish(&mut frame).unwrap();
        let rows: Vec<Value> = read(file.path()).unwrap().into_iter().map(Value::Object).collect();
        let expected = [
            json!({"choices": {"text": "a", "label": [1, 2]}, "flag": true}),
            json!({"choices": {"text": null, "label": null}, "flag": false}),
        ];
        assert_eq!(rows, expected);
    }
}
