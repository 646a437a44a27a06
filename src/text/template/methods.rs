//! Methods of Python's strings, lists and dictionaries that templates call, where minijinja's own (`minijinja-contrib`) lack them
//! or take other characters for white space. Absent: methods that change a value.

use minijinja::value::{Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use crate::python;

/// `value.method(*args)`.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => of_string(value.as_str().unwrap_or_default(), method, args)?,
        ValueKind::Seq | ValueKind::Iterable if method == "index" => Some(index(value, args)?),
        _ => None,
    };
    match own {
        Some(made) => Ok(made),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// `list.index(item)`.
fn index(list: &Value, args: &[Value]) -> Result<Value, Error> {
    let (item,): (&Value,) = from_args(args)?;
    for (i, other) in list.try_iter()?.enumerate() {
        if other == *item {
            return Ok(Value::from(i));
        }
    }
    Err(wrong(format!("{item:?} is not in the list")))
}

fn of_string(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            let matches = |c: char| chars.map_or_else(|| python::is_space(c), |chars| chars.contains(c));
            Value::from(match method {
                "strip" => text.trim_matches(matches),
                "lstrip" => text.trim_start_matches(matches),
                _ => text.trim_end_matches(matches),
            })
        }
        "split" | "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            let most = most.and_then(|most| usize::try_from(most).ok());
            let parts = split(text, separator, most, method == "rsplit")?;
            Value::from_iter(parts.into_iter().map(Value::from))
        }
        "splitlines" => {
            let () = from_args(args)?;
            Value::from_iter(lines(text).into_iter().map(Value::from))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let found = if method == "partition" { text.split_once(separator) } else { text.rsplit_once(separator) };
            let parts = match (found, method) {
                (Some((before, behind)), _) => [before, separator, behind],
                (None, "partition") => [text, "", ""],
                (None, _) => ["", "", text],
            };
            Value::from(Tuple::from(parts.map(Value::from).to_vec()))
        }
        "removeprefix" | "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            let rest = if method == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            Value::from(rest.unwrap_or(text))
        }
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let at = if method == "index" { text.find(part) } else { text.rfind(part) };
            let at = at.ok_or_else(|| wrong("substring not found"))?;
            Value::from(text[..at].chars().count())
        }
        "isspace" => {
            let () = from_args(args)?;
            Value::from(!text.is_empty() && text.chars().all(python::is_space))
        }
        "capitalize" => {
            let () = from_args(args)?;
            Value::from(python::capitalize(text))
        }
        "title" => {
            let () = from_args(args)?;
            Value::from(python::title(text))
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swap = |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            Value::from(text.chars().map(swap).collect::<String>())
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let missing = width.min(1 << 16).saturating_sub(text.chars().count());
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            Value::from(format!("{sign}{}{digits}", "0".repeat(missing)))
        }
        "ljust" | "rjust" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            let missing = width.min(1 << 16).saturating_sub(text.chars().count());
            let fill = fill.unwrap_or(' ').to_string().repeat(missing);
            Value::from(if method == "ljust" { text.to_owned() + &fill } else { fill + text })
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            let mut parts = Vec::new();
            for item in items.try_iter()? {
                parts.push(item.as_str().ok_or_else(|| wrong(format!("join takes strings, not {item:?}")))?.to_owned());
            }
            Value::from(parts.join(text))
        }
        _ => return Ok(None),
    }))
}

fn split<'t>(text: &'t str, separator: Option<&str>, most: Option<usize>, from_end: bool) -> Result<Vec<&'t str>, Error> {
    let most = most.unwrap_or(usize::MAX);
    match separator {
        Some("") => Err(wrong("empty separator")),
        Some(separator) if from_end => {
            let mut parts: Vec<&str> = text.rsplitn(most.saturating_add(1), separator).collect();
            parts.reverse();
            Ok(parts)
        }
        Some(separator) => Ok(text.splitn(most.saturating_add(1), separator).collect()),
        None => Ok(words(text, most, from_end)),
    }
}

/// The words of a text, and what is left behind (or before) the first `most` of them.
fn words(text: &str, most: usize, from_end: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = if from_end { python::rstrip(text) } else { python::lstrip(text) };
    while !rest.is_empty() {
        if parts.len() == most {
            parts.push(rest);
            break;
        }
        let found = if from_end { rest.rfind(python::is_space) } else { rest.find(python::is_space) };
        let Some(at) = found else {
            parts.push(rest);
            break;
        };
        if from_end {
            let space = rest[at..].chars().next().map_or(1, char::len_utf8);
            parts.push(&rest[at + space..]);
            rest = python::rstrip(&rest[..at]);
        } else {
            parts.push(&rest[..at]);
            rest = python::lstrip(&rest[at..]);
        }
    }
    if from_end {
        parts.reverse();
    }
    parts
}

/// `text.splitlines()`.
fn lines(text: &str) -> Vec<&str> {
    let ends = |c: char| matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(ends) {
        lines.push(&rest[..at]);
        let end = &rest[at..];
        let length = if end.starts_with("\r\n") { 2 } else { end.chars().next().map_or(1, char::len_utf8) };
        rest = &end[length..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}
