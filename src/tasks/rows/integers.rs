//! Integers of which serde_json makes floats without a word: `-0`, and those of more than 64 bits, which are looked for in the
//! text of JSON. Absent: what is to become of these ([`super::file`]).

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::short::short;

/// Where the rows of a text of JSON are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout<'f> {
    /// An object behind the other.
    Lines,
    /// In a list.
    List,
    /// In a list that an object has under this key.
    Field(&'f str),
}

/// An integer that 64 bits do not hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Long<'t> {
    /// The row that it stands in.
    pub(super) row: usize,
    /// Its digits.
    pub(super) digits: &'t str,
}

impl Long<'_> {
    /// Where it stands, for messages.
    pub(super) fn place(&self, column: &str) -> String {
        let shown = short(self.digits);
        format!("row {}, column {column:?}: the integer {shown} has more than 64 bits", self.row)
    }
}

/// What is open around a value.
enum Open<'t> {
    /// A list, and the place in it.
    List(usize),
    /// An object, and its last key as it stands in the text.
    Object(&'t str),
}

/// The first such integer of each column of the rows in a text that was read as JSON before: so its depth is bounded.
pub(super) fn long<'t>(text: &'t str, layout: Layout<'_>) -> BTreeMap<String, Long<'t>> {
    let bytes = text.as_bytes();
    let mut found = BTreeMap::new();
    let mut open: Vec<Open<'t>> = Vec::new();
    // How many values have ended on the outermost level, and the text that was read last.
    let (mut ended, mut last) = (0, "");
    let mut at = 0;
    while at < bytes.len() {
        let begin = at;
        at += 1;
        match bytes[begin] {
            b'"' => {
                while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                last = text.get(begin..at).unwrap_or_default();
            }
            b':' => {
                if let Some(Open::Object(key)) = open.last_mut() {
                    *key = last;
                }
            }
            b',' => {
                if let Some(Open::List(place)) = open.last_mut() {
                    *place += 1;
                }
            }
            b'[' => open.push(Open::List(0)),
            b'{' => open.push(Open::Object("")),
            b']' | b'}' => {
                open.pop();
                ended += usize::from(open.is_empty());
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
                while bytes.get(at).is_some_and(is_part) {
                    at += 1;
                }
                let digits = text.get(begin..at).unwrap_or_default();
                if is_long(digits)
                    && let Some((row, column)) = place(&open, ended, layout)
                {
                    found.entry(column).or_insert(Long { row, digits });
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether a text is an integer that neither an `i64` nor a `u64` holds.
pub(super) fn is_long(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_integer && text.parse::<i64>().is_err() && text.parse::<u64>().is_err()
}

/// The text with `0` for `-0`, as which Python reads it. Any text will do.
pub(super) fn plain_zeros(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut made: Option<Vec<u8>> = None;
    let (mut within, mut at) = (false, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if within => at += 1,
            b'"' => within = !within,
            b'-' if !within && bytes.get(at + 1) == Some(&b'0') => {
                let goes_on = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E');
                let is_exponent = at > 0 && matches!(bytes[at - 1], b'e' | b'E');
                if !is_exponent && !bytes.get(at + 2).is_some_and(goes_on) {
                    made.get_or_insert_with(|| bytes.to_vec())[at] = b' ';
                }
            }
            _ => {}
        }
        at += 1;
    }
    match made.map(String::from_utf8) {
        Some(Ok(made)) => Cow::Owned(made),
        _ => Cow::Borrowed(text),
    }
}

/// Row and column of a value within all that is open; `None` where it stands in no row.
fn place(open: &[Open<'_>], ended: usize, layout: Layout<'_>) -> Option<(usize, String)> {
    let (row, inner) = match (layout, open) {
        (Layout::Lines, inner) => (ended, inner),
        (Layout::List, [Open::List(row), inner @ ..]) => (*row, inner),
        (Layout::Field(field), [Open::Object(key), Open::List(row), inner @ ..]) if name(key) == field => (*row, inner),
        _ => return None,
    };
    match inner {
        [Open::Object(key), ..] => Some((row, name(key))),
        _ => None,
    }
}

/// A key without its quotes.
fn name(key: &str) -> String {
    serde_json::from_str(key).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "123456789012345678901234567890";

    #[track_caller]
    fn check(text: &str, layout: Layout<'_>, expected: &[(&str, usize, &str)]) {
        let text = text.replace("LONG", LONG);
        let found = long(&text, layout);
        let shown: Vec<(&str, usize, &str)> = found.iter().map(|(column, one)| (column.as_str(), one.row, one.digits)).collect();
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn they_are_found_with_row_and_column() {
        let lines = "{\"a\": 1}\n{\"a\": [0, {\"b\": -LONG}], \"c d\": LONG}\n{\"a\": LONG}";
        let negative = format!("-{LONG}");
        check(lines, Layout::Lines, &[("a", 1, negative.as_str()), ("c d", 1, LONG)]);
        check("[{\"a\": 1}, {\"\\u0061\\\"\": LONG}]", Layout::List, &[("a\"", 1, LONG)]);
        let within = "{\"v\": LONG, \"w\": [{\"x\": LONG}], \"rows\": [{}, {}, {\"x\":LONG}]}";
        check(within, Layout::Field("rows"), &[("x", 2, LONG)]);
    }

    #[test]
    fn other_numbers_and_texts_are_none() {
        let held = "{\"a\": 18446744073709551615, \"b\": -9223372036854775808, \"c\": LONG.0, \"d\": 1e99, \"e\": -0}";
        check(held, Layout::Lines, &[]);
        check("{\"a\": \"LONG\", \"b\\\\\": \"\\\"LONG\", \"LONG\": [LONG1e5]}", Layout::Lines, &[]);
        check("{\"a\": 18446744073709551616}", Layout::Lines, &[("a", 0, "18446744073709551616")]);
        check("{\"a\": -9223372036854775809}", Layout::Lines, &[("a", 0, "-9223372036854775809")]);
    }

    #[test]
    fn zeros_lose_their_sign_and_nothing_else_does() {
        assert_eq!(plain_zeros("[-0, -0]\n-0"), "[ 0,  0]\n 0");
        for text in ["[-0.5, -01, 1e-0, -0e1, -1]", "{\"-0\": \"\\\"-0\"}", "-", "\"\\", ""] {
            assert!(matches!(plain_zeros(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_does_no_harm() {
        for text in ["\"", "\"\\", "]}", "{\"a", "-", "[1,", "{:LONG", "\"\\é\"", "é: LONG"] {
            let text = text.replace("LONG", LONG);
            for layout in [Layout::Lines, Layout::List, Layout::Field("a")] {
                assert!(long(&text, layout).len() <= 1, "{text}");
            }
        }
    }
}
