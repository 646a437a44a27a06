//! JSON files beside a model, read with the checks that strangers' files need: numbers within their range, and errors that
//! name the file and the key.
//!
//! Absent: which keys mean what (see `convert::config`).

use std::borrow::Cow;
use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result, kind};

/// A `config.json` holds a few kilobytes, a tokenizer at most some tens of megabytes; more is not one of them.
const MAX_JSON_BYTES: u64 = 1 << 28;

/// The file with what messages need.
#[derive(Clone, Copy)]
pub(crate) struct JsonReader<'a> {
    pub(crate) path: &'a Path,
    pub(crate) json: &'a Map<String, Value>,
}

impl<'a> JsonReader<'a> {
    pub(crate) fn error(self, key: &str, what: impl Into<crate::message::Message>) -> Error {
        Error::key(self.path, key, what)
    }

    /// The value under `key`, where `null` counts as absent.
    pub(crate) fn get(self, key: &str) -> Option<&'a Value> {
        self.json.get(key).filter(|v| !v.is_null())
    }

    /// A number from 1 to `u32::MAX`, or `None` where the key is absent.
    pub(crate) fn optional_size(self, key: &str) -> Result<Option<u32>> {
        self.whole(key, 1)
    }

    pub(crate) fn size(self, key: &str) -> Result<u32> {
        self.optional_size(key)?.ok_or_else(|| self.error(key, "is missing"))
    }

    /// The size under the first of `names` that is there.
    pub(crate) fn optional_size_of(self, names: &[&str]) -> Result<Option<u32>> {
        names.iter().find(|name| self.get(name).is_some()).map_or(Ok(None), |name| self.optional_size(name))
    }

    pub(crate) fn size_of(self, names: &[&str]) -> Result<u32> {
        self.optional_size_of(names)?.ok_or_else(|| self.error(names[0], "is missing"))
    }

    /// A number from 0 to `u32::MAX`, or `None` where the key is absent.
    pub(crate) fn count(self, key: &str) -> Result<Option<u32>> {
        self.whole(key, 0)
    }

    fn whole(self, key: &str, least: u32) -> Result<Option<u32>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64().map(u32::try_from) {
            Some(Ok(count)) if count >= least => Ok(Some(count)),
            _ => Err(self.error(key, format!("is {value}, but must be a whole number from {least} to {}", u32::MAX))),
        }
    }

    pub(crate) fn bool(self, key: &str) -> Result<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(v)) => Ok(Some(*v)),
            Some(v) => Err(self.error(key, format!("is {v}, but must be true or false"))),
        }
    }

    /// A finite number above 0, or `None` where the key is absent.
    pub(crate) fn number(self, key: &str) -> Result<Option<f64>> {
        self.positive(key, self.json)
    }

    /// The same in `object` (the file or an object in it).
    pub(crate) fn positive(self, key: &str, object: &Map<String, Value>) -> Result<Option<f64>> {
        match object.get(key).filter(|v| !v.is_null()) {
            None => Ok(None),
            Some(v) => match v.as_f64() {
                Some(n) if n > 0.0 && (n as f32).is_finite() && n as f32 > 0.0 => Ok(Some(n)),
                _ => Err(self.error(key, format!("is {v}, but must be a finite number above 0"))),
            },
        }
    }
}

/// The JSON object in `path`; `None` where there is no such file.
///
/// # Errors
/// The file cannot be read, is too large, or holds no JSON object.
pub(crate) fn read_json(path: &Path) -> Result<Option<Map<String, Value>>> {
    let Some(bytes) = read_bytes(path)? else { return Ok(None) };
    if let Some(what) = kind::of(&bytes) {
        return Err(Error::file(path, what));
    }
    let text = kind::utf8(bytes).map_err(|what| Error::file(path, what))?;
    if text.trim_start().is_empty() {
        return Err(Error::file(path, "the file is empty; fetch or make it again"));
    }
    match serde_json::from_str(&finite(&text)) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Err(Error::file(path, "is no JSON object")),
        Err(e) => Err(Error::file(path, format!("is no JSON: {e}"))),
    }
}

/// The text with numbers for what Python writes for infinity, which JSON does not have; what is no such word stays.
fn finite(text: &str) -> Cow<'_, str> {
    const WORD: &str = "Infinity";
    if !text.contains(WORD) {
        return text.into();
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(['"', 'I']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = if let Some(behind) = rest.strip_prefix(WORD) {
            out.push_str("1e308");
            rest.len() - behind.len()
        } else if rest.starts_with('"') {
            // A string, to the end that no backslash takes.
            let mut bytes = rest.bytes().enumerate().skip(1);
            let mut end = rest.len();
            while let Some((i, byte)) = bytes.next() {
                match byte {
                    b'\\' => drop(bytes.next()),
                    b'"' => {
                        end = i + 1;
                        break;
                    }
                    _ => {}
                }
            }
            out.push_str(&rest[..end]);
            end
        } else {
            out.push('I');
            1
        };
        rest = &rest[taken..];
    }
    out.push_str(rest);
    out.into()
}

/// The text of `path`; `None` where there is no such file.
///
/// # Errors
/// The file cannot be read, is too large, is another file in its place, or holds no UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<Option<String>> {
    let Some(bytes) = read_bytes(path)? else { return Ok(None) };
    if let Some(what) = kind::of(&bytes) {
        return Err(Error::file(path, what));
    }
    kind::utf8(bytes).map(Some).map_err(|what| Error::file(path, what))
}

/// The content of `path`; `None` where there is no such file.
///
/// # Errors
/// The file cannot be read or is too large.
pub(crate) fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(path, e)),
        // Opening a named pipe would wait for somebody who writes.
        Ok(m) if !m.is_file() => return Err(Error::file(path, "not a regular file")),
        Ok(m) if m.len() > MAX_JSON_BYTES => {
            return Err(Error::file(path, format!("has {} bytes; at most {MAX_JSON_BYTES} are read", m.len())));
        }
        Ok(_) => {}
    }
    std::fs::read(path).map(Some).map_err(|e| Error::io(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinity_is_read_as_a_number_outside_of_strings() {
        let check = |text: &str, expected: &str| assert_eq!(finite(text), expected);
        check(
            r#"{"limit": [0.0, Infinity], "s": "Infinity \"Infinity"}"#,
            r#"{"limit": [0.0, 1e308], "s": "Infinity \"Infinity"}"#,
        );
        check(r#"[-Infinity, "a\\", Infinity, "é"]"#, r#"[-1e308, "a\\", 1e308, "é"]"#);
        check(r#"[Inf, "Infinity"#, r#"[Inf, "Infinity"#);
        check("[1]", "[1]");
    }
}
