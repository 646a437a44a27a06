//! One file of rows, by what its name ends with, maybe compressed (`.gz`). Files come from strangers: their size is bounded, and
//! what is wrong is named with the row. Absent: which file stands for which data set.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use bitworth_quant::message::Message;
use bitworth_quant::{Error, Result, kind};
use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::inferred::{self, Source};
use super::integers::{self, Layout};
use super::{DataRow, parquet, table};

/// What a task's `dataset_path` says of files of its own.
pub const FORMATS: [&str; 3] = ["json", "csv", "parquet"];
/// Larger files do not fit into memory as rows.
pub(super) const MAX_BYTES: u64 = 4 << 30;

/// What a file of rows is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Apache Parquet.
    Parquet,
    /// JSON: lines, a list, or an object with one.
    Json,
    /// Lines of fields with this character between them.
    Table(u8),
}

/// What is made of values of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Json {
    /// They are what the file says: it stands for a data set that has its types.
    Plain,
    /// What `datasets` makes of a file of which nothing says the types.
    Inferred,
    /// What it makes of one where the data set says them.
    Typed,
}

/// The rows of a file `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet`, all but the last maybe with `.gz` behind it. `field` is
/// the key of a JSON object that holds the list.
///
/// # Errors
/// A file of another kind, too large, or broken: named with the row.
pub fn read(path: &Path, field: Option<&str>) -> Result<Vec<DataRow>> {
    read_as(path, kind_of(path)?, field, Json::Plain)
}

/// The kind that a file's name says.
///
/// # Errors
/// It says none.
pub(super) fn kind_of(path: &Path) -> Result<Kind> {
    let plain = if is_compressed(path) { path.with_extension("") } else { path.to_owned() };
    Ok(match extension(&plain).as_str() {
        "parquet" => Kind::Parquet,
        "csv" => Kind::Table(b','),
        "tsv" => Kind::Table(b'\t'),
        "json" | "jsonl" | "ndjson" => Kind::Json,
        other => {
            return Err(Error::file(
                path,
                format!("rows are read from .jsonl, .json, .csv, .tsv and .parquet, not from .{other}"),
            ));
        }
    })
}

/// The rows of a file of that kind.
///
/// # Errors
/// As [`read`].
pub(super) fn read_as(path: &Path, kind: Kind, field: Option<&str>, json: Json) -> Result<Vec<DataRow>> {
    let length = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if length > MAX_BYTES {
        return Err(Error::file(path, format!("has {length} bytes; files of rows of at most {MAX_BYTES} are supported")));
    }
    if let Some(packed) =
        [".zst", ".bz2", ".xz", ".zip", ".lz4"].into_iter().find(|end| path.as_os_str().to_string_lossy().ends_with(end))
    {
        return Err(Error::file(path, format!("is compressed as {packed}; rows are read from plain files and from .gz")));
    }
    match kind {
        Kind::Parquet => parquet::read(path),
        Kind::Table(separator) => table::read(path, open(path)?, separator),
        Kind::Json => read_json(path, field, json),
    }
}

fn extension(path: &Path) -> String {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase()
}

fn is_compressed(path: &Path) -> bool {
    extension(path) == "gz"
}

/// The bytes of a file, unpacked. More than [`MAX_BYTES`] are an error, because a small file can become any size.
fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = BufReader::new(File::open(path).map_err(|e| Error::io(path, e))?);
    let bytes: Box<dyn Read> = if is_compressed(path) { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(Box::new(Bounded { bytes, left: MAX_BYTES }))
}

/// Bytes that must not become too many.
struct Bounded<R> {
    bytes: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.bytes.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => {
                self.left = left;
                Ok(n)
            }
            None => Err(std::io::Error::other("unpacks to more bytes than files of rows may have")),
        }
    }
}

/// A list of objects, an object with such a list, or an object a line.
fn read_json(path: &Path, field: Option<&str>, json: Json) -> Result<Vec<DataRow>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    let text = kind::utf8(bytes).map_err(|what| Error::file(path, what))?;
    let text = integers::plain_zeros(text.strip_prefix('\u{feff}').unwrap_or(&text));
    let layout = match field {
        Some(field) => Layout::Field(field),
        None if text.trim_start().starts_with('[') => Layout::List,
        None => Layout::Lines,
    };
    let rows = json_rows(path, &text, layout)?;
    let has_long = check_integers(path, &text, layout, &rows)?;
    if json == Json::Plain {
        return Ok(rows);
    }
    let source = Source { text: &text, layout, has_long, is_typed: json == Json::Typed };
    let inferred = inferred::infer(rows, source).map_err(|what| Error::file(path, what))?;
    inferred.notes.iter().for_each(|note| tracing::warn!("{}: {note}", path.display()));
    Ok(inferred.rows)
}

fn json_rows(path: &Path, text: &str, layout: Layout<'_>) -> Result<Vec<DataRow>> {
    let fail = |what: Message| Error::file(path, what);
    match layout {
        Layout::Field(field) => {
            let mut whole: Value = serde_json::from_str(text).map_err(|e| fail(e.to_string().into()))?;
            let list = whole.get_mut(field).map(Value::take).ok_or_else(|| fail(format!("has no field {field:?}").into()))?;
            objects(path, list)
        }
        Layout::List => objects(path, serde_json::from_str(text).map_err(|e| fail(e.to_string().into()))?),
        Layout::Lines => {
            let mut rows = Vec::new();
            for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
                let value = value.map_err(|e| fail(format!("row {}: {e}", rows.len()).into()))?;
                let Value::Object(row) = value else { return Err(fail(format!("row {} is no object", rows.len()).into())) };
                rows.push(row);
            }
            Ok(rows)
        }
    }
}

/// Integers that 64 bits do not hold are floats in `rows`. Where a file has an object a line and the column has numbers alone,
/// `datasets` makes floats of them, too; that is said. Elsewhere it refuses them, or keeps all digits, which `Value` cannot.
/// Whether there are any.
fn check_integers(path: &Path, text: &str, layout: Layout<'_>, rows: &[DataRow]) -> Result<bool> {
    let found = integers::long(text, layout);
    let has_long = !found.is_empty();
    for (column, long) in found {
        let is_number = |row: &DataRow| matches!(row.get(&column), None | Some(Value::Null | Value::Number(_)));
        if layout != Layout::Lines || !rows.iter().all(is_number) {
            return Err(Error::file(path, long.place(&column) + ", which is not supported here"));
        }
        let place = long.place(&column);
        tracing::warn!("{}: {place}; the column becomes floats, as in Hugging Face's datasets", path.display());
    }
    Ok(has_long)
}

fn objects(path: &Path, list: Value) -> Result<Vec<DataRow>> {
    let Value::Array(items) = list else { return Err(Error::file(path, "holds no list of objects")) };
    let object = |(number, item): (usize, Value)| match item {
        Value::Object(row) => Ok(row),
        _ => Err(Error::file(path, format!("row {number} is no object"))),
    };
    items.into_iter().enumerate().map(object).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::Docs;

    fn read_text(name: &str, text: &str, field: Option<&str>) -> Result<Vec<Value>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path, field).map(|rows| rows.into_iter().map(Value::Object).collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn json_is_read_as_lines_as_a_list_and_from_a_field() {
        let rows = vec![json!({"a": 1}), json!({"a": [null]})];
        assert_eq!(read_text("x.jsonl", "{\"a\": 1}\n\n{\"a\": [null]}\n", None).unwrap(), rows);
        assert_eq!(read_text("x.json", "[{\"a\": 1}, {\"a\": [null]}]", None).unwrap(), rows);
        assert_eq!(read_text("x.json", "{\"v\": 0, \"rows\": [{\"a\": 1}, {\"a\": [null]}]}", Some("rows")).unwrap(), rows);
    }

    /// Expected: `datasets.load_dataset("json", ...)` of datasets 5.2.
    #[test]
    fn only_files_without_types_get_those_that_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.jsonl");
        std::fs::write(&path, "{\"d\": \"2020-01-02\", \"o\": {\"a\": 1}}\n{\"o\": {\"b\": 1}}\n").unwrap();
        let read = |json: Json| {
            let rows = read_as(&path, Kind::Json, None, json).unwrap();
            rows.into_iter().map(|row| Value::Object(row).to_string()).collect::<Vec<_>>()
        };
        assert_eq!(read(Json::Plain), [r#"{"d":"2020-01-02","o":{"a":1}}"#, r#"{"o":{"b":1}}"#]);
        assert_eq!(read(Json::Inferred), [r#"{"d":"2020-01-02 00:00:00","o":{"a":1}}"#, r#"{"d":null,"o":{"b":1}}"#]);
        let typed = [r#"{"d":"2020-01-02 00:00:00","o":{"a":1,"b":null}}"#, r#"{"d":null,"o":{"a":null,"b":1}}"#];
        assert_eq!(read(Json::Typed), typed);
    }

    /// Python writes floats so that they are read as the same ones; hashes of documents need that.
    #[test]
    fn floats_are_read_to_the_last_bit() {
        for text in ["-11.853703722235167", "-13.080545986584795", "-10.882068867072547", "0.1", "1e-7", "123456789.12345679"] {
            let rows = read_text("x.jsonl", &format!("{{\"a\": {text}}}"), None).unwrap();
            assert_eq!(rows[0]["a"].as_f64(), text.parse().ok(), "{text}");
        }
    }

    /// Expected: `datasets.load_dataset("json", ...)` of datasets 5.2 with pyarrow 26. It refuses the list and the field; numbers
    /// in lists become floats, and beside texts they stay integers.
    #[test]
    fn integers_of_more_than_64_bits_do_not_change_unseen() {
        let long = "123456789012345678901234567890";
        let rows = read_text("x.jsonl", &format!("{{\"a\": 1}}\n{{\"a\": {long}}}\n"), None).unwrap();
        let docs = Docs::new(rows.iter().map(|row| row.as_object().unwrap().clone()).collect());
        let shown: Vec<String> = docs.rows.iter().map(|row| bitworth_text::python::repr(&row["a"])).collect();
        assert_eq!(shown, ["1.0", "1.2345678901234568e+29"]);
        for (name, text, field, row) in [
            ("x.json", format!("[{{\"a\": 1}}, {{\"a\": {long}}}]"), None, 1),
            ("x.json", format!("{{\"rows\": [{{\"a\": -{long}}}]}}"), Some("rows"), 0),
            ("x.jsonl", format!("{{\"a\": [{long}]}}"), None, 0),
            ("x.jsonl", format!("{{\"a\": \"x\"}}\n{{\"a\": {long}}}"), None, 1),
        ] {
            let error = read_text(name, &text, field).unwrap_err();
            let place = format!("row {row}, column \"a\": the integer");
            assert!(error.contains(name) && error.contains(&place) && error.contains(long), "{error}");
        }
        let rows = read_text("x.jsonl", "{\"a\": -0}\n{\"a\": 1}\n", None).unwrap();
        assert_eq!(rows, [json!({"a": 0}), json!({"a": 1})]);
        // What 64 bits hold keeps its digits.
        let rows = read_text("x.json", "{\"rows\": [{\"a\": 18446744073709551615}, {\"a\": 1}]}", Some("rows")).unwrap();
        assert_eq!(rows[0]["a"].to_string(), "18446744073709551615");
    }

    #[test]
    fn broken_files_are_named_with_the_row() {
        for (name, text, expected) in [
            ("x.jsonl", "{\"a\": 1}\n{\"a\"", "row 1"),
            ("x.jsonl", "{\"a\": 1}\n2", "row 1 is no object"),
            ("x.json", "[1]", "row 0"),
            ("x.txt", "", "not from .txt"),
            ("x.parquet", "PAR1", "x.parquet"),
        ] {
            let error = read_text(name, text, None).unwrap_err();
            assert!(error.contains(expected) && error.contains(name), "{error}");
        }
        assert!(read_text("x.json", "{}", Some("rows")).unwrap_err().contains("no field \"rows\""));
    }

    fn gzip(text: &str) -> Vec<u8> {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    #[test]
    fn compressed_files_are_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let read_bytes = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            read(&path, None).map(|rows| rows.into_iter().map(Value::Object).collect::<Vec<_>>()).map_err(|e| e.to_string())
        };
        let rows = [json!({"a": 1}), json!({"a": 2})];
        // Packed files can be put behind each other.
        let lines = [gzip("{\"a\": 1}\n"), gzip("{\"a\": 2}\n")].concat();
        assert_eq!(read_bytes("x.jsonl.gz", &lines).unwrap(), rows);
        assert_eq!(read_bytes("x.csv.gz", &gzip("a\n1\n2\n")).unwrap(), rows);
        let whole = gzip("a\n1\n2\n");
        assert!(read_bytes("x.tsv.gz", &whole[..whole.len() - 9]).unwrap_err().contains("x.tsv.gz"));
        assert!(read_bytes("x.jsonl.gz", b"no such thing").unwrap_err().contains("x.jsonl.gz"));
        assert!(read_bytes("x.txt.gz", &whole).unwrap_err().contains("not from .txt"));
        assert!(read_bytes("x.jsonl.zst", &whole).unwrap_err().contains(".zst"));
    }

    #[test]
    fn what_unpacks_without_end_is_refused() {
        let mut bounded = Bounded { bytes: std::io::repeat(b'x'), left: 1000 };
        let mut bytes = Vec::new();
        assert!(bounded.read_to_end(&mut bytes).unwrap_err().to_string().contains("more bytes"));
        assert!(bytes.len() <= 1000);
    }
}
