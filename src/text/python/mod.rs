//! What Python makes of values: `str`, `repr`, `json.dumps`, white space, and in [`literal`] and [`re`] its literals and regular
//! expressions, in `format.rs` numbers in a width. lm-evaluation-harness builds prompts and hashes with them, so that every
//! character counts. Values are JSON's; tuples are lists. Absent: anything that runs Python.
//!
//! Sources: CPython's `Objects/unicodeobject.c` (`repr`, white space), `Python/pystrtod.c` (floats), `Lib/json/encoder.py`.

#[cfg(feature = "chat")]
pub(crate) mod format;
pub mod literal;
pub mod re;

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::OnceLock;

use serde_json::{Map, Value};

/// Deeper values are no data of a task.
pub const MAX_DEPTH: usize = 64;

/// Whether Python's `str.isspace` takes the character for white space: Unicode's, and the separators U+001C to U+001F.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `text.rstrip()`.
pub fn rstrip(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// `text.lstrip()`.
pub fn lstrip(text: &str) -> &str {
    text.trim_start_matches(is_space)
}

/// `text.center(width, fill)`: of an odd number of blanks, the one too many stands behind, unless the width is odd.
pub fn center(text: &str, width: usize, fill: char) -> String {
    let missing = width.saturating_sub(text.chars().count());
    let before = missing / 2 + (missing & width & 1);
    let fill = |n: usize| fill.to_string().repeat(n);
    fill(before) + text + &fill(missing - before)
}

/// `text.splitlines(ends)`; with `ends` lines keep what ends them.
pub fn lines(text: &str, ends: bool) -> Vec<&str> {
    let is_end =
        |c: char| matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(is_end) {
        let end = &rest[at..];
        let length = if end.starts_with("\r\n") { 2 } else { end.chars().next().map_or(1, char::len_utf8) };
        lines.push(&rest[..if ends { at + length } else { at }]);
        rest = &end[length..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// `text.capitalize()`: the first character in title case, all others in lower case.
pub fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    title_of(first) + &lower_behind(text, chars.as_str())
}

/// `text.title()`: words begin with a letter behind a character that is none.
pub fn title(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        let cased = c.is_lowercase() || c.is_uppercase();
        match (cased, inside) {
            (true, true) => made.extend(c.to_lowercase()),
            (true, false) => made += &title_of(c),
            (false, _) => made.push(c),
        }
        inside = cased;
    }
    made
}

/// Digraphs have a title case of their own; of all other characters it is the upper case, of which a word keeps the first
/// character and the rest in lower case (`ﬁ` becomes `Fi`).
fn title_of(c: char) -> String {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => "ǅ".to_owned(),
        'Ǉ' | 'ǈ' | 'ǉ' => "ǈ".to_owned(),
        'Ǌ' | 'ǋ' | 'ǌ' => "ǋ".to_owned(),
        'Ǳ' | 'ǲ' | 'ǳ' => "ǲ".to_owned(),
        'ა'..='ჿ' => c.to_string(),
        _ => {
            let mut upper = c.to_uppercase();
            let first = upper.next().map(String::from).unwrap_or_default();
            first + &upper.collect::<String>().to_lowercase()
        }
    }
}

/// The lower case of `rest`, the end of `text`: a final sigma looks at what stands before it.
fn lower_behind(text: &str, rest: &str) -> String {
    let first = text[..text.len() - rest.len()].to_lowercase();
    text.to_lowercase().strip_prefix(first.as_str()).map_or_else(|| rest.to_lowercase(), str::to_owned)
}

/// `str(value)`.
pub fn str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `repr(value)`.
pub fn repr(value: &Value) -> String {
    let mut out = String::new();
    write_repr(value, &mut out);
    out
}

fn write_repr(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => out.push_str(&number_repr(number)),
        Value::String(text) => out.push_str(&string_repr(text)),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(item, out);
            }
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            for (i, (key, value)) in entries.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                out.push_str(&string_repr(key));
                out.push_str(": ");
                write_repr(value, out);
            }
            out.push('}');
        }
    }
}

fn number_repr(number: &serde_json::Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => float_repr(float),
        None => number.to_string(),
    }
}

/// `repr` of a float: the shortest digits that give it again, with an exponent below 1e-4 and from 1e16 on.
pub fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    let text = value.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

/// `repr` of a string: in single quotes, in double quotes where it holds single ones and no double ones.
pub fn string_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => escape(c, &mut out),
        }
    }
    out.push(quote);
    out
}

fn escape(c: char, out: &mut String) {
    let code = c as u32;
    let written = match code {
        0..=0xff => write!(out, "\\x{code:02x}"),
        0x100..=0xffff => write!(out, "\\u{code:04x}"),
        _ => write!(out, "\\U{code:08x}"),
    };
    written.unwrap_or_default();
}

/// `str.isprintable`: neither of Unicode's category Other nor of its Separators, but for the space.
fn is_printable(c: char) -> bool {
    static NOT: Category = Category::new(r"^[\p{C}\p{Z}]$");
    if c.is_ascii() { (' '..='~').contains(&c) } else { !NOT.has(c) }
}

/// Whether Unicode's category of the character is Punctuation.
pub fn is_punctuation(c: char) -> bool {
    static PUNCTUATION: Category = Category::new(r"^\p{P}$");
    PUNCTUATION.has(c)
}

/// Characters of some of Unicode's categories, by a pattern that `regex` knows.
struct Category {
    pattern: &'static str,
    regex: OnceLock<Option<fancy_regex::Regex>>,
}

impl Category {
    const fn new(pattern: &'static str) -> Self {
        Self { pattern, regex: OnceLock::new() }
    }

    fn has(&self, c: char) -> bool {
        let regex = self.regex.get_or_init(|| fancy_regex::Regex::new(self.pattern).ok());
        regex.as_ref().is_some_and(|regex| regex.is_match(c.encode_utf8(&mut [0; 4])).unwrap_or(false))
    }
}

/// How [`json`] writes.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonStyle {
    /// Blanks a level, each item on a line of its own; `None` for one line.
    pub indent: Option<usize>,
    /// Characters beyond ASCII as `\uXXXX`.
    pub ensure_ascii: bool,
    /// Keys in order.
    pub sort_keys: bool,
}

/// `json.dumps(value, ...)`.
pub fn json(value: &Value, style: JsonStyle) -> String {
    let item = if style.indent.is_some() { "," } else { ", " }.to_owned();
    let layout = JsonLayout { indent: style.indent.map(|blanks| " ".repeat(blanks)), item };
    let mut out = String::new();
    write_json(value, style, &layout, 0, &mut out);
    out
}

fn write_json(value: &Value, style: JsonStyle, layout: &JsonLayout, depth: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number_repr(number)),
        Value::String(text) => json_string(text, style.ensure_ascii, out),
        Value::Array(items) => {
            let one = |item: &Value, out: &mut String| -> Result<(), Infallible> {
                write_json(item, style, layout, depth + 1, out);
                Ok(())
            };
            let Ok(()) = layout.list(['[', ']'], items, depth, out, one);
        }
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            if style.sort_keys {
                entries.sort_by(|a, b| a.0.chars().cmp(b.0.chars()));
            }
            let one = |(key, value): &(&String, &Value), out: &mut String| -> Result<(), Infallible> {
                json_string(key, style.ensure_ascii, out);
                out.push_str(": ");
                write_json(value, style, layout, depth + 1, out);
                Ok(())
            };
            let Ok(()) = layout.list(['{', '}'], &entries, depth, out, one);
        }
    }
}

/// How lists and mappings stand: what indents a level, each item on a line of its own, and what parts items.
pub(crate) struct JsonLayout {
    /// `None` for one line.
    pub(crate) indent: Option<String>,
    /// Behind every item but the last.
    pub(crate) item: String,
}

impl JsonLayout {
    /// A list or mapping, of which `one` writes an item.
    pub(crate) fn list<T, E>(
        &self,
        [open, close]: [char; 2],
        items: &[T],
        depth: usize,
        out: &mut String,
        one: impl Fn(&T, &mut String) -> Result<(), E>,
    ) -> Result<(), E> {
        out.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push_str(&self.item);
            }
            self.line(depth + 1, out);
            one(item, out)?;
        }
        if !items.is_empty() {
            self.line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    }
}

/// A text as JSON has it.
pub(crate) fn json_string(text: &str, ensure_ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || ensure_ascii && c >= '\u{7f}' => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").unwrap_or_default();
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Whether Python's `==` says that two values are the same: `1`, `1.0` and `True` are.
pub fn equal(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if !a.is_f64() && !b.is_f64() => a == b,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => equal_objects(a, b),
        (a, b) => match (number(a), number(b)) {
            (Some(a), Some(b)) => a == b,
            (None, None) => a == b,
            _ => false,
        },
    }
}

/// [`equal`] of dictionaries, whatever their order.
pub fn equal_objects(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| equal(value, other)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Expected: CPython 3.11.
    #[test]
    fn values_are_printed_as_python_prints_them() {
        let value =
            json!([true, null, 1, -2.0, 0.1, 1e16, 1e-5, 123456789012345680.0, 1e22, "it's", "a\"b'", "\u{a0}\n\u{200b}é"]);
        let expected =
            r#"[True, None, 1, -2.0, 0.1, 1e+16, 1e-05, 1.2345678901234568e+17, 1e+22, "it's", 'a"b\'', '\xa0\n\u200bé']"#;
        assert_eq!(repr(&value), expected);
        assert_eq!(str(&json!({"a": [], "b": {}})), "{'a': [], 'b': {}}");
        assert_eq!(str(&json!("x'")), "x'");
        assert_eq!(float_repr(9999999999999998.0), "9999999999999998.0");
        assert_eq!(float_repr(0.0001), "0.0001");
        assert_eq!(float_repr(1.5e300), "1.5e+300");
        assert_eq!(float_repr(-0.0), "-0.0");
    }

    /// Expected: CPython 3.11.
    #[test]
    fn json_is_written_as_python_writes_it() {
        let value = json!({"b": [1, 2.5e-7], "a": {}, "é": "\u{7f}\u{1f600}/\u{1}"});
        let plain = json_of(&value, JsonStyle::default());
        assert_eq!(plain, "{\"b\": [1, 2.5e-07], \"a\": {}, \"é\": \"\u{7f}\u{1f600}/\\u0001\"}");
        let lines = json_of(&value, JsonStyle { indent: Some(2), sort_keys: true, ensure_ascii: true });
        let expected =
            "{\n  \"a\": {},\n  \"b\": [\n    1,\n    2.5e-07\n  ],\n  \"\\u00e9\": \"\\u007f\\ud83d\\ude00/\\u0001\"\n}";
        assert_eq!(lines, expected);
    }

    fn json_of(value: &Value, style: JsonStyle) -> String {
        super::json(value, style)
    }

    #[test]
    fn punctuation_is_unicodes() {
        let found: String = "a.!$+=«،。_-~ 1".chars().filter(|c| is_punctuation(*c)).collect();
        assert_eq!(found, ".!«،。_-");
    }

    #[test]
    fn white_space_is_what_python_takes_for_it() {
        assert_eq!(strip("\u{1c}\u{1f} \u{85}a\u{200b}\u{3000}"), "a\u{200b}");
        assert_eq!(rstrip(" a \u{1e}"), " a");
        assert_eq!(lstrip("\u{2028}a "), "a ");
    }

    /// Expected: CPython 3.11.
    #[test]
    fn words_get_capitals_as_python_gives_them() {
        for (text, expected) in [("hELLO wORLD", "Hello world"), ("ﬁSH", "Fish"), ("ßA", "Ssa"), ("ΑΣ", "Ας"), ("", "")] {
            assert_eq!(capitalize(text), expected, "{text}");
        }
        assert_eq!(title("they're bill's 3rd-éa"), "They'Re Bill'S 3Rd-Éa");
    }

    #[test]
    fn equality_is_pythons() {
        assert!(equal(&json!([1, true, {"a": 2.0, "b": 0}]), &json!([1.0, 1, {"b": false, "a": 2}])));
        assert!(
            !equal(&json!("1"), &json!(1))
                && !equal(&json!(null), &json!(0))
                && !equal(&json!({"a": 1}), &json!({"a": 1, "b": 1}))
        );
    }
}
