//! Methods of Python's strings, lists and dictionaries that templates call, where minijinja's own (`minijinja-contrib`) lack them
//! or take other characters for white space. Absent: methods that change a value.

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind, from_args};
use minijinja::{Error, State, Value};
use minijinja_contrib::pycompat;

use super::format;
use super::given::{bind, wrong};
use super::objects::View;
use crate::python;

/// `value.method(*args)`.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => of_string(state, value.as_str().unwrap_or_default(), method, args)?,
        ValueKind::Seq | ValueKind::Iterable => of_list(value, method, args)?,
        ValueKind::Map => of_dictionary(value, method, args)?,
        _ => None,
    };
    match own {
        Some(made) => Ok(made),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// Values of templates do not change, so that none can be made to hold itself.
fn unchanging(what: &str, method: &str) -> Error {
    wrong(format!("{what}.{method} changes a value in place, which is not supported here"))
}

fn of_list(list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "index" => {
            let (item, start, stop): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
            let items: Vec<Value> = list.try_iter()?.collect();
            let (start, stop) = bounds(items.len(), start, stop);
            let found = (start..stop).find(|i| items[*i] == *item);
            Value::from(found.ok_or_else(|| wrong(format!("{item:?} is not in the list")))?)
        }
        "copy" => {
            let () = from_args(args)?;
            Value::from(list.try_iter()?.collect::<Vec<_>>())
        }
        "append" | "extend" | "insert" | "remove" | "pop" | "clear" | "sort" | "reverse" => {
            return Err(unchanging("list", method));
        }
        _ => return Ok(None),
    }))
}

fn of_dictionary(map: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let of = match method {
        "items" => "items",
        "keys" => "keys",
        "values" => "values",
        "copy" => {
            let () = from_args(args)?;
            return Ok(Some(map.clone()));
        }
        "update" | "pop" | "popitem" | "setdefault" | "clear" => return Err(unchanging("dict", method)),
        _ => return Ok(None),
    };
    let () = from_args(args)?;
    let mut items = Vec::new();
    for key in map.try_iter()? {
        items.push(match of {
            "keys" => key,
            "values" => map.get_item(&key)?,
            _ => Value::from(Tuple::from(vec![key.clone(), map.get_item(&key)?])),
        });
    }
    Ok(Some(Value::from_object(View { of, items })))
}

/// `start` and `stop` as slices take them.
fn bounds(length: usize, start: Option<i64>, stop: Option<i64>) -> (usize, usize) {
    let place = |at: i64| match usize::try_from(at) {
        Ok(at) => at.min(length),
        Err(_) => length.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    (start.map_or(0, place), stop.map_or(length, place))
}

/// The part of a text from its character `start` to `stop`, and how many characters stand before it; `None` where `start` is
/// behind the end.
fn part(text: &str, start: Option<i64>, stop: Option<i64>) -> Option<(&str, usize)> {
    let length = text.chars().count();
    if start.is_some_and(|start| start > length as i64) {
        return None;
    }
    let (start, stop) = bounds(length, start, stop);
    let place = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(at, _)| at);
    (start <= stop).then(|| (&text[place(start)..place(stop)], start))
}

/// A text, or any of a tuple of them.
fn any_of(value: &Value, matches: impl Fn(&str) -> bool) -> Result<bool, Error> {
    if let Some(text) = value.as_str() {
        return Ok(matches(text));
    }
    if !value.is_tuple() {
        return Err(wrong("startswith and endswith take a text or a tuple of texts"));
    }
    let mut found = false;
    for item in value.try_iter()? {
        found |= matches(item.as_str().ok_or_else(|| wrong("startswith and endswith take texts"))?);
    }
    Ok(found)
}

fn of_string(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
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
            let (rest, options): (Rest<Value>, Kwargs) = from_args(args)?;
            let [separator, most] = bind(["sep", "maxsplit"], rest, &options)?;
            let separator = separator.filter(|separator| !separator.is_none());
            let most = most.map(i64::try_from).transpose()?.and_then(|most| usize::try_from(most).ok());
            let separator = separator.as_ref().map(|separator| separator.as_str().ok_or_else(|| wrong("split takes a text")));
            let parts = split(text, separator.transpose()?, most, method == "rsplit")?;
            Value::from_iter(parts.into_iter().map(Value::from))
        }
        "splitlines" => {
            let (rest, options): (Rest<Value>, Kwargs) = from_args(args)?;
            let [ends] = bind(["keepends"], rest, &options)?;
            let lines = python::lines(text, ends.is_some_and(|ends| ends.is_true()));
            Value::from_iter(lines.into_iter().map(Value::from))
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
        "index" | "rindex" | "find" | "rfind" => {
            let (wanted, start, stop): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let found = part(text, start, stop).and_then(|(text, before)| {
                let at = if method.starts_with('r') { text.rfind(wanted) } else { text.find(wanted) };
                at.map(|at| before + text[..at].chars().count())
            });
            match found {
                Some(at) => Value::from(at),
                None if method.ends_with("find") => Value::from(-1),
                None => return Err(wrong("substring not found")),
            }
        }
        "count" => {
            let (wanted, start, stop): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            Value::from(part(text, start, stop).map_or(0, |(text, _)| text.matches(wanted).count()))
        }
        "startswith" | "endswith" => {
            let (wanted, start, stop): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
            let found = any_of(wanted, |wanted| {
                part(text, start, stop).is_some_and(|(text, _)| match method {
                    "startswith" => text.starts_with(wanted),
                    _ => text.ends_with(wanted),
                })
            });
            Value::from(found?)
        }
        "format" => {
            let (rest, options): (Rest<Value>, Kwargs) = from_args(args)?;
            let named = |name: &str| if options.has(name) { options.get::<Value>(name).ok() } else { None };
            format::format(state, text, &format::Given { items: &rest.0, named: &named })?
        }
        "format_map" => {
            let (map,): (&Value,) = from_args(args)?;
            let named = |name: &str| map.get_item(&Value::from(name)).ok().filter(|item| !item.is_undefined());
            format::format(state, text, &format::Given { items: &[], named: &named })?
        }
        "center" => {
            let (width, fill): (i64, Option<char>) = from_args(args)?;
            Value::from(python::center(text, usize::try_from(width).unwrap_or(0).min(1 << 16), fill.unwrap_or(' ')))
        }
        "expandtabs" => {
            let (rest, options): (Rest<Value>, Kwargs) = from_args(args)?;
            let [size] = bind(["tabsize"], rest, &options)?;
            let size = size.map_or(Ok(8), i64::try_from)?;
            Value::from(expanded(text, usize::try_from(size).unwrap_or(0).min(1 << 12)))
        }
        "encode" => {
            let (encoding,): (Option<&str>,) = from_args(args)?;
            match encoding.map(str::to_ascii_lowercase).as_deref() {
                None | Some("utf-8" | "utf8") => Value::from_bytes(text.as_bytes().to_vec()),
                Some(other) => return Err(wrong(format!("encode to {other:?}; only utf-8 is supported"))),
            }
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

/// Tabs as blanks up to the next multiple of `size`.
fn expanded(text: &str, size: usize) -> String {
    let (mut made, mut column) = (String::with_capacity(text.len()), 0);
    for c in text.chars() {
        match c {
            '\t' if size > 0 => {
                let missing = size - column % size;
                made.extend(std::iter::repeat_n(' ', missing));
                column += missing;
            }
            '\t' => {}
            c => {
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                made.push(c);
            }
        }
    }
    made
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
