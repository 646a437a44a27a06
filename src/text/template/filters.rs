//! Filters and tests of jinja2 that minijinja lacks, takes other arguments for, or answers otherwise. Absent: those that give
//! something else at every call (`random`, `lipsum`) or make links (`urlize`): they stay unknown.
//!
//! Source: jinja2 3.1.6, `filters.py` and `tests.py`; markupsafe's `escape` and `striptags`; CPython's `Lib/textwrap.py`.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};
use serde_json::{Map, Value as Json};

use super::given::{bind, wrong};
use super::source::PERCENT;
use super::{format, print, wrap};
use crate::python::{self, JsonStyle, re::Regex};

fn flag(value: &Option<Value>) -> bool {
    value.as_ref().is_some_and(Value::is_true)
}

fn size(value: Option<Value>, otherwise: usize) -> Result<usize, Error> {
    value.map_or(Ok(otherwise), |value| {
        usize::try_from(value.clone()).map_err(|_| wrong(format!("{value} is no length that is supported")))
    })
}

fn optional(state: &State, value: Option<Value>) -> Result<Option<String>, Error> {
    value.filter(|value| !value.is_none()).map(|value| print::text(state, &value)).transpose()
}

/// Keyword arguments for a filter of minijinja's.
fn named(pairs: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Kwargs {
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Puts all of them into an environment.
pub(super) fn install(environment: &mut Environment<'static>) {
    for name in ["zip", "chain", "split", "lines", "bool"] {
        environment.remove_filter(name);
    }
    for name in ["startingwith", "endingwith"] {
        environment.remove_test(name);
    }
    environment.add_filter("string", print::text);
    environment.add_filter("trim", trim);
    environment.add_filter("join", join);
    environment.add_filter("tojson", tojson);
    environment.add_filter("regex_replace", regex_replace);
    environment.add_filter("pprint", print::pretty);
    environment.add_filter("e", escape);
    environment.add_filter("escape", escape);
    environment.add_filter("forceescape", force_escape);
    environment.add_filter("striptags", striptags);
    environment.add_filter("urlencode", urlencode);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("center", center);
    environment.add_filter("truncate", truncate);
    environment.add_filter("wordwrap", wordwrap);
    environment.add_filter("indent", indent);
    environment.add_filter("filesizeformat", filesizeformat);
    environment.add_filter("format", format_filter);
    environment.add_filter(PERCENT, percent);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("abs", |value: Value| filters::abs(unbooled(value)));
    environment.add_filter("round", round);
    environment.add_filter("sort", sort);
    environment.add_filter("dictsort", dictsort);
    environment.add_filter("batch", batch);
    environment.add_filter("slice", slice);
    environment.add_filter("unique", unique);
    environment.add_filter("attr", |_: &Value, name: String| -> Result<Value, Error> {
        Err(wrong(format!("attr reads the attribute {name} of a Python object, which is not supported")))
    });
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", |value: &Value| !value.is_none() && (value.is_undefined() || value.try_iter().is_ok()));
}

/// Python tells sequences by whether they have a length and items: texts, dictionaries and what `if` without `else` gives do.
fn is_sequence(state: &State, value: &Value) -> bool {
    match value.kind() {
        ValueKind::Undefined => print::text(state, value).is_ok(),
        kind => matches!(kind, ValueKind::String | ValueKind::Seq | ValueKind::Iterable | ValueKind::Map),
    }
}

/// Booleans are the integers 0 and 1.
fn unbooled(value: Value) -> Value {
    if value.kind() == ValueKind::Bool { Value::from(i64::from(value.is_true())) } else { value }
}

fn force_escape(state: &State, value: &Value) -> Result<Value, Error> {
    Ok(Value::from_safe_string(escaped(&print::text(state, value)?)))
}

fn wordcount(state: &State, value: &Value) -> Result<usize, Error> {
    let text = print::text(state, value)?;
    let words = Regex::new(r"\w+").and_then(|regex| regex.findall(&text));
    Ok(words.map_err(|e| wrong(e.to_string()))?.len())
}

/// `'...' % args`; the text is a literal.
fn percent(state: &State, template: &Value, args: &Value) -> Result<Value, Error> {
    format::printf(state, template.as_str().unwrap_or_default(), args)
}

fn unique(state: &State, value: Value, rest: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [case, attribute] = bind(["case_sensitive", "attribute"], rest, &options)?;
    filters::unique(state, value, named([("case_sensitive", case), ("attribute", attribute)]))
}

fn trim(state: &State, value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let [chars] = bind(["chars"], rest, &options)?;
    let text = print::text(state, value)?;
    Ok(match optional(state, chars)? {
        None => python::strip(&text).to_owned(),
        Some(chars) => text.trim_matches(|c| chars.contains(c)).to_owned(),
    })
}

/// `value|join(d, attribute)`.
fn join(state: &State, value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let [between, attribute] = bind(["d", "attribute"], rest, &options)?;
    let between = optional(state, between)?.unwrap_or_default();
    let mut out = String::new();
    if value.is_undefined() {
        return print::text(state, value);
    }
    for (i, item) in value.try_iter()?.enumerate() {
        if i > 0 {
            out += &between;
        }
        let item = match &attribute {
            Some(path) => at(item, path)?,
            None => item,
        };
        out += &print::text(state, &item)?;
    }
    Ok(out)
}

/// What stands at a dotted path of names and numbers.
fn at(item: Value, path: &Value) -> Result<Value, Error> {
    let Some(path) = path.as_str() else { return item.get_item(path) };
    path.split('.').try_fold(item, |item, part| match part.parse::<usize>() {
        Ok(number) => item.get_item(&Value::from(number)),
        Err(_) => item.get_attr(part),
    })
}

/// A value of a template as JSON, for `tojson`.
fn json(value: &Value, depth: usize) -> Result<Json, Error> {
    let bad = |what: String| Error::new(ErrorKind::BadSerialization, what);
    if depth > python::MAX_DEPTH {
        return Err(bad(format!("nested more than {} times", python::MAX_DEPTH)));
    }
    Ok(match value.kind() {
        ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => match (i64::try_from(value.clone()), u64::try_from(value.clone())) {
            (Ok(n), _) => n.into(),
            (_, Ok(n)) => n.into(),
            _ => return Err(bad(format!("tojson of {value}, which has more than 64 bits"))),
        },
        ValueKind::Number => match f64::try_from(value.clone()) {
            Ok(float) if float.is_finite() => float.into(),
            _ => return Err(bad(format!("{value} is no number of JSON"))),
        },
        ValueKind::String => value.as_str().unwrap_or_default().into(),
        ValueKind::Seq | ValueKind::Iterable => {
            Json::Array(value.try_iter()?.map(|item| json(&item, depth + 1)).collect::<Result<_, _>>()?)
        }
        ValueKind::Map => {
            let mut entries = Map::new();
            let mut kinds: Vec<bool> = Vec::new();
            for key in value.try_iter()? {
                let item = json(&value.get_item(&key)?, depth + 1)?;
                let name = match key.kind() {
                    ValueKind::String => key.as_str().unwrap_or_default().to_owned(),
                    ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                        python::json(&json(&key, depth + 1)?, JsonStyle::default())
                    }
                    other => return Err(bad(format!("a key of the kind {other} is no JSON"))),
                };
                kinds.push(key.kind() == ValueKind::String);
                entries.insert(name, item);
            }
            // jinja2 puts keys in order, numbers by their value.
            if kinds.len() > 1 && kinds.iter().any(|text| !text) {
                return Err(bad("tojson of several keys that are not all texts, which have another order".to_owned()));
            }
            Json::Object(entries)
        }
        other => return Err(bad(format!("{other} is no JSON"))),
    })
}

/// `value|tojson(indent)` as jinja2 has it: keys in order, and what HTML would read written as escapes; no more is escaped then.
fn tojson(value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [indent] = bind(["indent"], rest, &options)?;
    let indent = indent.filter(|indent| !indent.is_none()).map(|indent| size(Some(indent), 0)).transpose()?;
    let json = json(value, 0)?;
    let style = JsonStyle { indent: indent.map(|n| n.min(64)), ensure_ascii: true, sort_keys: true };
    let text = python::json(&json, style);
    let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").replace('\'', "\\u0027");
    Ok(Value::from_safe_string(text))
}

/// lm-evaluation-harness's filter: `re.sub(pattern, repl, string, count)`.
fn regex_replace(value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let [pattern, replacement, count] = bind(["pattern", "repl", "count"], rest, &options)?;
    let text = |value: Option<&Value>, what: &str| {
        let text = value.and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| wrong(format!("regex_replace takes a text as its {what}")))
    };
    let (string, pattern) = (text(Some(value), "value")?, text(pattern.as_ref(), "pattern")?);
    let replacement = text(replacement.as_ref(), "repl")?;
    let count = size(count, 0)?;
    let replaced = Regex::new(&pattern).and_then(|regex| regex.sub(&replacement, &string, count));
    replaced.map_err(|e| wrong(e.to_string()))
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('\'', "&#39;").replace('"', "&#34;")
}

fn escape(state: &State, value: &Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    Ok(Value::from_safe_string(escaped(&print::text(state, value)?)))
}

/// Comments and tags are left out, white space is one blank, and references to characters are those characters.
fn striptags(state: &State, value: &Value) -> Result<String, Error> {
    let mut text = print::text(state, value)?;
    for (open, close) in [("<!--", "-->"), ("<", ">")] {
        let (mut kept, mut rest) = (String::with_capacity(text.len()), text.as_str());
        while let Some(begin) = rest.find(open) {
            let Some(end) = rest[begin..].find(close) else { break };
            kept += &rest[..begin];
            rest = &rest[begin + end + close.len()..];
        }
        text = kept + rest;
    }
    let words: Vec<&str> = text.split(python::is_space).filter(|word| !word.is_empty()).collect();
    unescape(&words.join(" "))
}

fn unescape(text: &str) -> Result<String, Error> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('&') {
        out += &rest[..at];
        rest = &rest[at..];
        let simple = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"')];
        if let Some((name, c)) = simple.into_iter().find(|(name, _)| rest.starts_with(name)) {
            out.push(c);
            rest = &rest[name.len()..];
        } else if let Some(number) = rest.strip_prefix("&#") {
            let hexadecimal = number.strip_prefix(['x', 'X']);
            let digits = hexadecimal.unwrap_or(number);
            let radix = if hexadecimal.is_some() { 16 } else { 10 };
            let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
            let code = u32::from_str_radix(&digits[..end], radix).ok().filter(|code| matches!(code, 0x20..=0x7e | 0xa0..));
            match code.and_then(char::from_u32) {
                Some(c) => out.push(c),
                None if end == 0 => out += &rest[..rest.len() - digits.len()],
                None => return Err(wrong("striptags of a reference to a character that is not supported")),
            }
            rest = digits[end..].strip_prefix(';').filter(|_| end > 0).unwrap_or(&digits[end..]);
        } else if rest[1..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            let name: String = rest.chars().take(12).collect();
            return Err(wrong(format!("striptags of the reference {name:?}, which is not supported")));
        } else {
            out.push('&');
            rest = &rest[1..];
        }
    }
    Ok(out + rest)
}

fn quoted(text: &str, query: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => out.push(char::from(byte)),
            b'/' if !query => out.push('/'),
            b' ' if query => out.push('+'),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

fn urlencode(state: &State, value: &Value) -> Result<String, Error> {
    let pairs: Vec<(Value, Value)> = match value.kind() {
        ValueKind::Map => {
            let keys: Vec<Value> = value.try_iter()?.collect();
            keys.into_iter().map(|key| value.get_item(&key).map(|item| (key, item))).collect::<Result<_, _>>()?
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let pair = |item: Value| match item.len() {
                Some(2) => Ok((item.get_item_by_index(0)?, item.get_item_by_index(1)?)),
                _ => Err(wrong("urlencode takes pairs")),
            };
            value.try_iter()?.map(pair).collect::<Result<_, _>>()?
        }
        _ => return Ok(quoted(&print::text(state, value)?, false)),
    };
    let mut parts = Vec::new();
    for (key, item) in pairs {
        let (key, item) = (print::text(state, &key)?, print::text(state, &item)?);
        parts.push(format!("{}={}", quoted(&key, true), quoted(&item, true)));
    }
    Ok(parts.join("&"))
}

fn center(state: &State, value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let [width] = bind(["width"], rest, &options)?;
    Ok(python::center(&print::text(state, value)?, size(width, 80)?.min(1 << 16), ' '))
}

fn truncate(state: &State, value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let [length, kill, end, leeway] = bind(["length", "killwords", "end", "leeway"], rest, &options)?;
    let text = print::text(state, value)?;
    let end = optional(state, end)?.unwrap_or_else(|| "...".to_owned());
    let length = size(length, 255)?;
    let leeway = size(leeway.filter(|leeway| !leeway.is_none()), 5)?;
    let room = length.checked_sub(end.chars().count());
    let room = room.ok_or_else(|| wrong(format!("truncate to {length}, which is shorter than {end:?}")))?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let cut: String = text.chars().take(room).collect();
    let kept = if flag(&kill) { cut.as_str() } else { cut.rsplit_once(' ').map_or(cut.as_str(), |(kept, _)| kept) };
    Ok(kept.to_owned() + &end)
}

fn wordwrap(state: &State, value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let names = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
    let [width, long, between, hyphens] = bind(names, rest, &options)?;
    let text = print::text(state, value)?;
    let between = optional(state, between)?.unwrap_or_else(|| "\n".to_owned());
    let or_true = |value: &Option<Value>| value.as_ref().is_none_or(Value::is_true);
    let width = size(width, 79)?;
    if width == 0 {
        return Err(wrong("wordwrap to a width of 0"));
    }
    let mut made = Vec::new();
    for line in python::lines(&text, false) {
        let lines = wrap::lines(line, width, or_true(&long), or_true(&hyphens)).map_err(|e| wrong(e.to_string()))?;
        made.push(lines.join(&between));
    }
    Ok(made.join(&between))
}

fn indent(state: &State, value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let [width, first, blank] = bind(["width", "first", "blank"], rest, &options)?;
    let by = match width {
        Some(text) if text.kind() == ValueKind::String => print::text(state, &text)?,
        other => " ".repeat(size(other, 4)?.min(1 << 12)),
    };
    // A line break at the end stays, and an empty line behind it does not count.
    let text = print::text(state, value)? + "\n";
    let mut made = String::new();
    for (i, line) in python::lines(&text, false).into_iter().enumerate() {
        if i > 0 {
            made.push('\n');
        }
        if (i > 0 && (flag(&blank) || !line.is_empty())) || (i == 0 && flag(&first)) {
            made += &by;
        }
        made += line;
        state.consume_fuel(1 + (by.len() / 64) as u64)?;
    }
    Ok(made)
}

fn filesizeformat(state: &State, value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let [binary] = bind(["binary"], rest, &options)?;
    let bytes = number(&print::text(state, value)?).ok_or_else(|| wrong("filesizeformat takes a number"))?;
    let (base, mark) = if flag(&binary) { (1024.0, "iB") } else { (1000.0, "B") };
    if bytes == 1.0 {
        return Ok("1 Byte".to_owned());
    }
    if bytes < base {
        return Ok(format!("{} Bytes", bytes.trunc()));
    }
    let prefixes = if flag(&binary) { "KMGTPEZY" } else { "kMGTPEZY" };
    let (mut unit, mut shown) = (base * base, ' ');
    for (i, prefix) in prefixes.chars().enumerate() {
        shown = prefix;
        if bytes < unit || i == 7 {
            break;
        }
        unit *= base;
    }
    Ok(format!("{:.1} {shown}{mark}", base * bytes / unit))
}

fn format_filter(state: &State, value: &Value, args: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    if value.is_safe() {
        return Err(wrong("format of an escaped text is not supported"));
    }
    let names: Vec<String> = options.args().map(str::to_owned).collect();
    let template = print::text(state, value)?;
    let given = match (names.is_empty(), args.0.is_empty()) {
        (true, _) => Value::from(minijinja::value::Tuple::from(args.0)),
        (false, true) => {
            let pairs: Vec<(String, Value)> =
                names.iter().map(|name| Ok((name.clone(), options.get(name)?))).collect::<Result<_, Error>>()?;
            Value::from_pairs(pairs)
        }
        (false, false) => return Err(wrong("can't handle positional and keyword arguments at the same time")),
    };
    format::printf(state, &template, &given)
}

fn default(value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [otherwise, boolean] = bind(["default_value", "boolean"], rest, &options)?;
    let lacks = value.is_undefined() || flag(&boolean) && !value.is_true();
    Ok(if lacks { otherwise.unwrap_or_else(|| Value::from("")) } else { value.clone() })
}

/// `float(text)`.
fn number(text: &str) -> Option<f64> {
    digits(text)?.parse().ok()
}

/// A number's text without the underscores that may stand between its digits, and with ASCII's digits.
fn digits(text: &str) -> Option<String> {
    let chars: Vec<char> = python::strip(text).chars().collect();
    let mut made = String::new();
    for (i, c) in chars.iter().enumerate() {
        let digit = |at: Option<usize>| at.and_then(|at| chars.get(at)).is_some_and(char::is_ascii_alphanumeric);
        match c {
            '_' if digit(i.checked_sub(1)) && digit(Some(i + 1)) => {}
            c if c.is_ascii() && *c != '_' => made.push(*c),
            _ => return None,
        }
    }
    Some(made)
}

/// Digits of other scripts are numbers in Python.
fn readable(value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) if text.chars().any(|c| !c.is_ascii() && c.is_numeric()) => {
            Err(wrong("digits other than 0 to 9 are not supported in numbers"))
        }
        _ => Ok(()),
    }
}

fn float(state: &State, value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [otherwise] = bind(["default"], rest, &options)?;
    readable(value)?;
    let made = match value.kind() {
        ValueKind::Undefined => return Err(Error::new(ErrorKind::UndefinedError, "float of an undefined value")),
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String => number(&print::text(state, value)?),
        _ => None,
    };
    Ok(made.map_or_else(|| otherwise.unwrap_or_else(|| Value::from(0.0)), Value::from))
}

/// `int(text, base)`.
fn integer(text: &str, base: u32) -> Option<i128> {
    let text = digits(text)?.to_ascii_lowercase();
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let marks = [("0x", 16), ("0o", 8), ("0b", 2)];
    let marked = marks.into_iter().find(|(mark, radix)| text.starts_with(mark) && (base == 0 || base == *radix));
    let (radix, text) = match marked {
        Some((mark, radix)) => (radix, &text[mark.len()..]),
        None if base == 0 && text.starts_with('0') && text.bytes().any(|b| b != b'0') => return None,
        None => (if base == 0 { 10 } else { base }, text),
    };
    if text.starts_with(['+', '-']) || !(2..=36).contains(&radix) {
        return None;
    }
    i128::from_str_radix(text, radix).ok().map(|n| if negative { -n } else { n })
}

fn int(state: &State, value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [otherwise, base] = bind(["default", "base"], rest, &options)?;
    readable(value)?;
    let truncated = |float: f64| match float.is_finite() && float.abs() < 1e38 {
        true => Ok(Value::from(float.trunc() as i128)),
        false => Err(wrong(format!("int of {float}"))),
    };
    let otherwise = || otherwise.clone().unwrap_or_else(|| Value::from(0));
    match value.kind() {
        ValueKind::Undefined => Err(Error::new(ErrorKind::UndefinedError, "int of an undefined value")),
        ValueKind::Bool => Ok(Value::from(i64::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => Ok(value.clone()),
        ValueKind::Number => match f64::try_from(value.clone()) {
            Ok(float) if float.is_nan() => Ok(otherwise()),
            Ok(float) => truncated(float),
            Err(_) => Ok(otherwise()),
        },
        ValueKind::String => {
            let text = print::text(state, value)?;
            let base = u32::try_from(size(base, 10)?).unwrap_or(10);
            match (integer(&text, base), number(&text)) {
                (Some(n), _) => Ok(Value::from(n)),
                (None, Some(float)) if float.is_finite() => truncated(float),
                _ => Ok(otherwise()),
            }
        }
        _ => Ok(otherwise()),
    }
}

fn round(value: Value, rest: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [precision, method] = bind(["precision", "method"], rest, &options)?;
    let precision = precision.map(i32::try_from).transpose().map_err(|_| wrong("round to a precision that is no integer"))?;
    let floats = method.as_ref().and_then(Value::as_str).is_some_and(|method| method != "common");
    let made = filters::round(unbooled(value), precision, method.as_ref().and_then(Value::as_str), named([]))?;
    // Rounding up or down divides, which gives a float of an integer.
    Ok(if floats && made.is_integer() { Value::from(f64::try_from(made)?) } else { made })
}

/// What sorts: texts without their case, unless it counts.
fn sorted_by(value: Value, case: bool) -> Value {
    match value.as_str() {
        Some(text) if !case => Value::from(text.to_lowercase()),
        _ => value,
    }
}

fn comparable(a: &Value, b: &Value) -> bool {
    let kind = |value: &Value| match value.kind() {
        ValueKind::Bool => ValueKind::Number,
        ValueKind::Iterable => ValueKind::Seq,
        kind => kind,
    };
    match (kind(a), kind(b)) {
        (ValueKind::Number, ValueKind::Number) | (ValueKind::String, ValueKind::String) => true,
        (ValueKind::Seq, ValueKind::Seq) => a.is_tuple() == b.is_tuple(),
        _ => false,
    }
}

fn ordered(state: &State, items: Vec<(Vec<Value>, Value)>, reverse: bool) -> Result<Value, Error> {
    state.consume_fuel(items.len() as u64)?;
    let mut items = items;
    for pair in items.windows(2) {
        if let Some((a, b)) = pair[0].0.iter().zip(&pair[1].0).find(|(a, b)| !comparable(a, b)) {
            return Err(wrong(format!("values of the kinds {} and {} have no order", a.kind(), b.kind())));
        }
    }
    items.sort_by(|a, b| if reverse { b.0.cmp(&a.0) } else { a.0.cmp(&b.0) });
    Ok(Value::from(items.into_iter().map(|(_, item)| item).collect::<Vec<_>>()))
}

fn sort(state: &State, value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [reverse, case, attribute] = bind(["reverse", "case_sensitive", "attribute"], rest, &options)?;
    let paths: Vec<Value> = match attribute.as_ref().map(|path| (path, path.as_str())) {
        Some((_, Some(paths))) => paths.split(',').map(Value::from).collect(),
        Some((path, None)) => vec![path.clone()],
        None => Vec::new(),
    };
    if value.is_undefined() {
        print::text(state, value)?;
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        let mut key = Vec::new();
        for path in &paths {
            key.push(sorted_by(at(item.clone(), path)?, flag(&case)));
        }
        if paths.is_empty() {
            key.push(sorted_by(item.clone(), flag(&case)));
        }
        items.push((key, item));
    }
    ordered(state, items, flag(&reverse))
}

fn dictsort(state: &State, value: &Value, rest: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [case, by, reverse] = bind(["case_sensitive", "by", "reverse"], rest, &options)?;
    let part = match by.as_ref().map_or(Some("key"), Value::as_str) {
        Some("key") => 0,
        Some("value") => 1,
        _ => return Err(wrong("dictsort goes by key or by value")),
    };
    if value.kind() != ValueKind::Map {
        return Err(wrong("dictsort takes a dictionary"));
    }
    let mut items = Vec::new();
    for key in value.try_iter()? {
        let pair = [key.clone(), value.get_item(&key)?];
        let by = sorted_by(pair[part].clone(), flag(&case));
        items.push((vec![by], Value::from(minijinja::value::Tuple::from(pair.to_vec()))));
    }
    ordered(state, items, flag(&reverse))
}

fn batch(state: &State, value: Value, rest: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [count, fill] = bind(["linecount", "fill_with"], rest, &options)?;
    filters::batch(state, value, size(count, 0)?, fill.filter(|fill| !fill.is_none()))
}

fn slice(state: &State, value: Value, rest: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [count, fill] = bind(["slices", "fill_with"], rest, &options)?;
    filters::slice(state, value, size(count, 0)?, fill.filter(|fill| !fill.is_none()))
}
