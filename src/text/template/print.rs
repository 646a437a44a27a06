//! What Python prints for a template's values: `str`, `repr` and `pprint.pformat`; and which undefined values are errors where
//! they are printed. Absent: numbers in a width (`format.rs`).
//!
//! Source: CPython's `Lib/pprint.py`.

use std::fmt::Write;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value, filters};

use super::objects::{Range, View};
use crate::python;

/// `str(value)` of Python.
///
/// # Errors
/// A name that the document lacks. What an `if` without `else` gives is another undefined value, jinja2's lenient one: an
/// empty text.
pub(super) fn text(state: &State, value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return filters::string(state, value).map(|_| String::new());
    }
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => repr(value),
    }
}

/// `repr(value)` of Python; undefined values of both kinds have one.
pub(super) fn repr(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_repr(value, 0, false, &mut out)?;
    Ok(out)
}

/// Whether it prints in round brackets: pairs of `groupby` are tuples in jinja2, with names for their parts.
fn is_tuple(value: &Value) -> bool {
    let grouped = || value.get_attr("grouper").is_ok_and(|grouper| !grouper.is_undefined());
    value.is_tuple() || value.kind() == ValueKind::Seq && value.len() == Some(2) && grouped()
}

fn deep() -> Error {
    Error::new(ErrorKind::BadSerialization, format!("nested more than {} times", python::MAX_DEPTH))
}

/// The keys of a dictionary, for `pprint` in order: numbers, texts, others.
fn keys(value: &Value, sorted: bool) -> Result<Vec<Value>, Error> {
    let mut keys: Vec<Value> = value.try_iter()?.collect();
    if sorted {
        keys.sort();
    }
    Ok(keys)
}

fn write_repr(value: &Value, depth: usize, sorted: bool, out: &mut String) -> Result<(), Error> {
    if depth > python::MAX_DEPTH {
        return Err(deep());
    }
    if let Some(range) = value.downcast_object_ref::<Range>() {
        out.push_str(&range.text());
        return Ok(());
    }
    if let Some(view) = value.downcast_object_ref::<View>() {
        write!(out, "dict_{}(", view.of).map_err(Error::from)?;
        write_repr(&Value::from(view.items.clone()), depth + 1, sorted, out)?;
        out.push(')');
        return Ok(());
    }
    match value.kind() {
        ValueKind::String => {
            let text = python::string_repr(value.as_str().unwrap_or_default());
            out.push_str(&if value.is_safe() { format!("Markup({text})") } else { text });
        }
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(float) => out.push_str(&python::float_repr(float)),
            Err(_) => write!(out, "{value}").map_err(Error::from)?,
        },
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if is_tuple(value) { ('(', ')') } else { ('[', ']') };
            out.push(open);
            let mut count = 0;
            for item in value.try_iter()? {
                out.push_str(if count > 0 { ", " } else { "" });
                write_repr(&item, depth + 1, sorted, out)?;
                count += 1;
            }
            out.push_str(if open == '(' && count == 1 { "," } else { "" });
            out.push(close);
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in keys(value, sorted)?.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(key, depth + 1, sorted, out)?;
                out.push_str(": ");
                write_repr(&value.get_item(key)?, depth + 1, sorted, out)?;
            }
            out.push('}');
        }
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Bytes => out.push_str(&bytes_repr(value.as_bytes().unwrap_or_default())),
        // None, booleans and integers print as Python's.
        ValueKind::None | ValueKind::Bool | ValueKind::Number => write!(out, "{value}").map_err(Error::from)?,
        kind => return Err(Error::new(ErrorKind::BadSerialization, format!("a value of the kind {kind} is not printed"))),
    }
    Ok(())
}

fn bytes_repr(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    let mut out = format!("b{quote}");
    for &byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b if char::from(b) == quote => out.extend(['\\', quote]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push(quote);
    out
}

/// `pprint.pformat(value)`.
pub(super) fn pretty(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_pretty(value, 0, 0, 1, &mut out)?;
    Ok(out)
}

/// Columns of a line of `pprint`.
const WIDTH: usize = 80;

fn width(text: &str) -> usize {
    text.chars().count()
}

/// A value that begins in the column `indent` and has `allowance` characters behind it.
fn write_pretty(value: &Value, indent: usize, allowance: usize, level: usize, out: &mut String) -> Result<(), Error> {
    if level > python::MAX_DEPTH {
        return Err(deep());
    }
    let mut short = String::new();
    write_repr(value, level, true, &mut short)?;
    let whole = value.downcast_object_ref::<Range>().is_some() || value.downcast_object_ref::<View>().is_some();
    if width(&short) + indent + allowance <= WIDTH || whole || value.is_safe() {
        out.push_str(&short);
        return Ok(());
    }
    let line = |out: &mut String| {
        out.push_str(",\n");
        out.push_str(&" ".repeat(indent + 1));
    };
    match value.kind() {
        ValueKind::Map => {
            let keys = keys(value, true)?;
            out.push('{');
            for (i, key) in keys.iter().enumerate() {
                if i > 0 {
                    line(out);
                }
                let key_text = repr(key)?;
                out.push_str(&key_text);
                out.push_str(": ");
                let behind = if i + 1 == keys.len() { allowance + 1 } else { 1 };
                write_pretty(&value.get_item(key)?, indent + 1 + width(&key_text) + 2, behind, level + 1, out)?;
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            let (open, close) = match (is_tuple(value), items.len()) {
                (true, 1) => ("(", ",)"),
                (true, _) => ("(", ")"),
                (false, _) => ("[", "]"),
            };
            out.push_str(open);
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    line(out);
                }
                let behind = if i + 1 == items.len() { allowance + close.len() } else { 1 };
                write_pretty(item, indent + 1, behind, level + 1, out)?;
            }
            out.push_str(close);
        }
        ValueKind::String => pretty_text(value.as_str().unwrap_or_default(), indent, allowance, level == 1, out),
        _ => out.push_str(&short),
    }
    Ok(())
}

/// A text in pieces of a line each; by itself it stands in brackets.
fn pretty_text(text: &str, indent: usize, allowance: usize, outer: bool, out: &mut String) {
    if text.is_empty() {
        out.push_str("''");
        return;
    }
    let (indent, allowance) = if outer { (indent + 1, allowance + 1) } else { (indent, allowance) };
    let most = WIDTH.saturating_sub(indent);
    let lines = python::lines(text, true);
    let mut chunks: Vec<String> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let last = i + 1 == lines.len();
        let whole = python::string_repr(line);
        if width(&whole) <= if last { most.saturating_sub(allowance) } else { most } {
            chunks.push(whole);
            continue;
        }
        let parts = parts(line);
        let mut current = String::new();
        for (j, part) in parts.iter().enumerate() {
            let candidate = current.clone() + part;
            let room = if last && j + 1 == parts.len() { most.saturating_sub(allowance) } else { most };
            if width(&python::string_repr(&candidate)) > room {
                if !current.is_empty() {
                    chunks.push(python::string_repr(&current));
                }
                current = (*part).to_owned();
            } else {
                current = candidate;
            }
        }
        if !current.is_empty() {
            chunks.push(python::string_repr(&current));
        }
    }
    let brackets = outer && chunks.len() > 1;
    out.push_str(if brackets { "(" } else { "" });
    out.push_str(&chunks.join(&format!("\n{}", " ".repeat(indent))));
    out.push_str(if brackets { ")" } else { "" });
}

/// Words, each with the white space behind it.
fn parts(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let word = rest.find(python::is_space).unwrap_or(rest.len());
        let end = rest[word..].find(|c| !python::is_space(c)).map_or(rest.len(), |n| word + n);
        parts.push(&rest[..end]);
        rest = &rest[end..];
    }
    parts
}
