//! `ast.literal_eval`: a Python literal as a value. What task files compute as lists (`{{[a, b]}}`) comes out of a template as
//! text and is read again with it. Tuples and sets become lists. Absent: bytes, complex numbers, dictionaries whose keys are no
//! strings, `...`.

use serde_json::{Map, Number, Value};

use super::MAX_DEPTH;

/// The value of a literal; `None` where the text is none.
pub fn eval(text: &str) -> Option<Value> {
    // Blanks before an expression are stripped; a line break inside of brackets is a blank.
    let mut reader = Reader { rest: text.trim_start_matches([' ', '\t']), depth: 0, inside: 0 };
    let value = reader.expression()?;
    reader.blanks();
    let rest = reader.rest.trim_matches(['\n', '\r', ' ', '\t']);
    rest.is_empty().then_some(value)
}

/// The value of the literal that a text begins with, whatever follows it.
pub fn first(text: &str) -> Option<Value> {
    Reader { rest: text, depth: 0, inside: 0 }.value()
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
    /// Open brackets.
    inside: usize,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        let inside = self.inside > 0;
        self.rest = self.rest.trim_start_matches(|c| matches!(c, ' ' | '\t' | '\u{c}') || inside && matches!(c, '\n' | '\r'));
    }

    fn take(&mut self, text: &str) -> bool {
        self.blanks();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A value, or a tuple without brackets.
    fn expression(&mut self) -> Option<Value> {
        let first = self.value()?;
        if !self.take(",") {
            return Some(first);
        }
        let mut items = vec![first];
        loop {
            self.blanks();
            if self.rest.is_empty() || self.rest.starts_with(['\n', '\r']) {
                return Some(Value::Array(items));
            }
            items.push(self.value()?);
            if !self.take(",") {
                return Some(Value::Array(items));
            }
        }
    }

    fn value(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        self.blanks();
        let value = match self.rest.chars().next()? {
            '[' => self.items('[', ']').map(|(items, _)| Value::Array(items)),
            '(' => self.items('(', ')').map(|(mut items, comma)| match (items.len(), comma) {
                (1, false) => items.remove(0),
                _ => Value::Array(items),
            }),
            '{' => self.braces(),
            '-' | '+' => self.signed(),
            c if c.is_ascii_digit() || c == '.' => self.number(),
            _ => self.word(),
        };
        self.depth -= 1;
        value
    }

    /// What stands in brackets, and whether a comma ends it.
    fn items(&mut self, open: char, close: char) -> Option<(Vec<Value>, bool)> {
        self.rest = self.rest.strip_prefix(open)?;
        self.inside += 1;
        let (mut items, mut comma) = (Vec::new(), false);
        loop {
            self.blanks();
            if let Some(rest) = self.rest.strip_prefix(close) {
                self.rest = rest;
                self.inside -= 1;
                return Some((items, comma));
            }
            if !items.is_empty() && !comma {
                return None;
            }
            items.push(self.value()?);
            comma = self.take(",");
        }
    }

    /// A dictionary or a set.
    fn braces(&mut self) -> Option<Value> {
        self.rest = self.rest.strip_prefix('{')?;
        self.inside += 1;
        let (mut entries, mut items, mut comma) = (Map::new(), Vec::new(), true);
        loop {
            self.blanks();
            if let Some(rest) = self.rest.strip_prefix('}') {
                self.rest = rest;
                self.inside -= 1;
                return Some(if items.is_empty() { Value::Object(entries) } else { Value::Array(items) });
            }
            if !comma {
                return None;
            }
            let first = self.value()?;
            match (self.take(":"), first) {
                (true, Value::String(key)) if items.is_empty() => {
                    let value = self.value()?;
                    entries.insert(key, value);
                }
                (false, item) if entries.is_empty() => items.push(item),
                _ => return None,
            }
            comma = self.take(",");
        }
    }

    fn signed(&mut self) -> Option<Value> {
        let negative = self.rest.starts_with('-');
        self.rest = &self.rest[1..];
        match self.value()? {
            Value::Number(number) if negative => match number.as_i64() {
                Some(n) => Some(n.checked_neg()?.into()),
                None if number.is_f64() => Number::from_f64(-number.as_f64()?).map(Value::Number),
                None => None,
            },
            value @ Value::Number(_) => Some(value),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Value> {
        let bytes = self.rest.as_bytes();
        let prefix = self.rest.get(..2).unwrap_or_default().to_ascii_lowercase();
        if let Some(radix) =
            [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find(|(known, _)| *known == prefix).map(|known| known.1)
        {
            let end = self.rest[2..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(bytes.len(), |end| end + 2);
            let digits = self.rest[2..end].replace('_', "");
            self.rest = &self.rest[end..];
            return i64::from_str_radix(&digits, radix).ok().map(Value::from);
        }
        let mut end = 0;
        while end < bytes.len() {
            let exponent = end > 0 && matches!(bytes[end - 1], b'e' | b'E') && matches!(bytes[end], b'-' | b'+');
            if !(bytes[end].is_ascii_digit() || matches!(bytes[end], b'.' | b'_' | b'e' | b'E') || exponent) {
                break;
            }
            end += 1;
        }
        let (text, rest) = self.rest.split_at(end);
        if rest.starts_with(|c: char| c.is_alphanumeric()) || text.ends_with('_') || text.contains("__") {
            return None;
        }
        self.rest = rest;
        let digits = text.replace('_', "");
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            let leading_zero = digits.len() > 1 && digits.starts_with('0') && digits.bytes().any(|b| b != b'0');
            return if leading_zero { None } else { digits.parse::<i64>().ok().map(Value::from) };
        }
        Number::from_f64(digits.parse().ok()?).map(Value::Number)
    }

    fn word(&mut self) -> Option<Value> {
        for (word, value) in [("None", Value::Null), ("True", true.into()), ("False", false.into())] {
            if let Some(rest) = self.rest.strip_prefix(word)
                && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
            {
                self.rest = rest;
                return Some(value);
            }
        }
        let mut text = self.string()?;
        // Strings beside each other are one.
        loop {
            self.blanks();
            match self.string() {
                Some(more) => text += &more,
                None => return Some(Value::String(text)),
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        let letters = self.rest.find(['\'', '"'])?;
        let raw = match self.rest[..letters].to_ascii_lowercase().as_str() {
            "" | "u" => false,
            "r" => true,
            _ => return None,
        };
        let body = &self.rest[letters..];
        let quote = ["'''", "\"\"\"", "'", "\""].into_iter().find(|quote| body.starts_with(quote))?;
        let (text, rest) = unescape(&body[quote.len()..], quote, raw)?;
        self.rest = rest;
        Some(text)
    }
}

/// The text up to `quote`, and what stands behind it.
fn unescape<'a>(body: &'a str, quote: &str, raw: bool) -> Option<(String, &'a str)> {
    let mut text = String::new();
    let mut rest = body;
    loop {
        if let Some(behind) = rest.strip_prefix(quote) {
            return Some((text, behind));
        }
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            '\n' if quote.len() == 1 => return None,
            '\\' if raw => {
                let next = rest.chars().next()?;
                rest = &rest[next.len_utf8()..];
                text.extend(['\\', next]);
            }
            '\\' => {
                let next = rest.chars().next()?;
                rest = &rest[next.len_utf8()..];
                let digits = match next {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    '0'..='7' => {
                        let count = 1 + rest.bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
                        let octal: String = next.to_string() + &rest[..count - 1];
                        rest = &rest[count - 1..];
                        text.push(char::from_u32(u32::from_str_radix(&octal, 8).ok()?)?);
                        continue;
                    }
                    _ => 0,
                };
                if digits > 0 {
                    text.push(char::from_u32(u32::from_str_radix(rest.get(..digits)?, 16).ok()?)?);
                    rest = &rest[digits..];
                    continue;
                }
                match next {
                    '\n' => {}
                    '\\' | '\'' | '"' => text.push(next),
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    'a' => text.push('\u{7}'),
                    'b' => text.push('\u{8}'),
                    'f' => text.push('\u{c}'),
                    'v' => text.push('\u{b}'),
                    'N' => return None,
                    other => text.extend(['\\', other]),
                }
            }
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Value) {
        assert_eq!(eval(text), Some(expected), "{text}");
    }

    /// Expected: CPython 3.11.
    #[test]
    fn literals_are_read_as_python_reads_them() {
        check("['a', \"b'\", 'c\\'\\n\\x41\\u00e9']", json!(["a", "b'", "c'\nAé"]));
        check(" (1, -2.5, 1e3, .5, 0x1f, 1_000)", json!([1, -2.5, 1000.0, 0.5, 31, 1000]));
        check("('a')", json!("a"));
        check("('a',)", json!(["a"]));
        check("1, 2", json!([1, 2]));
        check("{'a': [None, True], 'b': {}}", json!({"a": [null, true], "b": {}}));
        check("{1, 2}", json!([1, 2]));
        check("'a' 'b' r'\\n'", json!("ab\\n"));
        check("'''x\ny'''", json!("x\ny"));
        check("[\n1,\n]", json!([1]));
        check("'\\q\\101'", json!("\\qA"));
        check("00", json!(0));
    }

    #[test]
    fn what_follows_a_literal_is_passed_over() {
        assert_eq!(first("'a' 'b'\n\ndef f(): pass"), Some(json!("ab")));
        assert_eq!(first("{\n  'a': ['b',\n 'c'],\n}\nx = 1"), Some(json!({"a": ["b", "c"]})));
        assert_eq!(first("\"\"\"a\nb\"\"\".format()"), Some(json!("a\nb")));
        assert_eq!(first("x"), None);
    }

    #[test]
    fn what_is_no_literal_is_nothing() {
        for text in
            ["", "a", "[a]", "['a' 1]", "[1", "f('x')", "'a", "01", "1__0", "1a", "{'a': 1, 2}", "--'x'", "'a\nb'", "b'x'", "[,]"]
        {
            assert_eq!(eval(text), None, "{text}");
        }
        assert_eq!(eval(&"[".repeat(100_000)), None);
    }
}
