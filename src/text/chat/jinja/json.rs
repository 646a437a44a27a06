//! The `tojson` filter as transformers has it: Python's `json.dumps` without escapes for HTML. Absent: reading JSON.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use crate::python::{JsonLayout, json_string};

/// Deeper values are no data of a chat.
const MAX_DEPTH: usize = 64;

/// `value|tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
pub(super) fn tojson(value: &Value, ensure_ascii: Option<bool>, indent: Option<Value>, options: Kwargs) -> Result<String, Error> {
    let indent = indent.or(options.get::<Option<Value>>("indent")?).filter(|value| !value.is_none());
    let indent = match indent {
        None => None,
        Some(value) => Some(match value.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(value.as_i64().filter(|n| *n <= 64).ok_or_else(|| wrong("indent"))?.max(0) as usize),
        }),
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let [item, colon] = match separators {
        None if indent.is_some() => [",".to_owned(), ": ".to_owned()],
        None => [", ".to_owned(), ": ".to_owned()],
        Some(two) => two.try_into().map_err(|_| wrong("separators"))?,
    };
    let ensure_ascii = ensure_ascii.or(options.get::<Option<bool>>("ensure_ascii")?).unwrap_or(false);
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let style = Style { ensure_ascii, layout: JsonLayout { indent, item }, colon, sort_keys };
    let mut out = String::new();
    style.write(value, 0, &mut out)?;
    Ok(out)
}

fn wrong(option: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson cannot take this {option}"))
}

struct Style {
    ensure_ascii: bool,
    layout: JsonLayout,
    colon: String,
    sort_keys: bool,
}

impl Style {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(ErrorKind::BadSerialization, format!("nested more than {MAX_DEPTH} times")));
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&value.to_string()),
            ValueKind::String => json_string(value.as_str().unwrap_or_default(), self.ensure_ascii, out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.layout.list(['[', ']'], &items, depth, out, |item, out| self.write(item, depth + 1, out))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.layout.list(['{', '}'], &keys, depth, out, |key, out| {
                    match key.as_str() {
                        Some(text) => json_string(text, self.ensure_ascii, out),
                        // Python writes other keys as text.
                        None => {
                            let mut text = String::new();
                            self.write(key, depth + 1, &mut text)?;
                            json_string(&text, self.ensure_ascii, out);
                        }
                    }
                    out.push_str(&self.colon);
                    self.write(&value.get_item(key)?, depth + 1, out)
                })?;
            }
            other => return Err(Error::new(ErrorKind::BadSerialization, format!("{other} is no JSON"))),
        }
        Ok(())
    }
}
