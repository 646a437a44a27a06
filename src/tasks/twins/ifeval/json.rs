//! Whether Python's `json.loads` takes a text. It takes what serde_json does not: `NaN`, infinities, numbers too large, halves of
//! surrogate pairs, any depth; and refuses integers of more than 4300 digits.
//!
//! Source: CPython's `Lib/json/decoder.py`, `Modules/_json.c`, and the limit `int_max_str_digits`.

/// The most digits of an integer.
const MAX_DIGITS: usize = 4300;

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    /// A value, or the end of an empty list.
    First,
    /// A key, or the end of an empty mapping.
    FirstKey,
    Key,
    /// A comma, or the end of what is open.
    Behind,
}

/// Whether `json.loads(text)` succeeds.
pub(super) fn is_json(text: &str) -> bool {
    parse(text.as_bytes()).is_some()
}

fn parse(text: &[u8]) -> Option<()> {
    // Brackets that are open; a stack of our own, as depth comes from strangers.
    let mut open: Vec<u8> = Vec::new();
    let (mut at, mut next) = (0, Next::Value);
    loop {
        at = blanks(text, at);
        if next == Next::Behind && open.is_empty() {
            return (at == text.len()).then_some(());
        }
        let c = *text.get(at)?;
        let closes = open.last().is_some_and(|open| (*open, c) == (b'[', b']') || (*open, c) == (b'{', b'}'));
        match next {
            Next::First | Next::FirstKey | Next::Behind if closes => {
                open.pop();
                at += 1;
                next = Next::Behind;
            }
            Next::Behind if c == b',' => {
                at += 1;
                next = if open.last() == Some(&b'{') { Next::Key } else { Next::Value };
            }
            Next::Behind => return None,
            Next::FirstKey | Next::Key => {
                at = blanks(text, string(text, at)?);
                if text.get(at) != Some(&b':') {
                    return None;
                }
                at += 1;
                next = Next::Value;
            }
            Next::Value | Next::First => match c {
                b'[' | b'{' => {
                    open.push(c);
                    at += 1;
                    next = if c == b'[' { Next::First } else { Next::FirstKey };
                }
                _ => {
                    at = if c == b'"' { string(text, at)? } else { word(text, at).or_else(|| number(text, at))? };
                    next = Next::Behind;
                }
            },
        }
    }
}

fn blanks(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|c| b" \t\n\r".contains(c)).count()
}

fn word(text: &[u8], at: usize) -> Option<usize> {
    let words = ["null", "true", "false", "NaN", "Infinity", "-Infinity"];
    words.iter().find(|word| text[at..].starts_with(word.as_bytes())).map(|word| at + word.len())
}

fn digits(text: &[u8], at: usize) -> usize {
    text.get(at..).unwrap_or_default().iter().take_while(|c| c.is_ascii_digit()).count()
}

fn number(text: &[u8], at: usize) -> Option<usize> {
    let begin = at + usize::from(text.get(at) == Some(&b'-'));
    let whole = if text.get(begin) == Some(&b'0') { 1 } else { digits(text, begin) };
    let mut end = begin + whole;
    let fraction = if text.get(end) == Some(&b'.') { digits(text, end + 1) } else { 0 };
    end += if fraction > 0 { 1 + fraction } else { 0 };
    let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
    let exponent = if matches!(text.get(end), Some(b'e' | b'E')) { digits(text, end + 1 + sign) } else { 0 };
    end += if exponent > 0 { 1 + sign + exponent } else { 0 };
    (whole > 0 && (fraction + exponent > 0 || whole <= MAX_DIGITS)).then_some(end)
}

/// The place behind a string.
fn string(text: &[u8], at: usize) -> Option<usize> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match *text.get(at + 1)? {
                b'u' => {
                    let code = text.get(at + 2..at + 6)?;
                    if !code.iter().all(u8::is_ascii_hexdigit) {
                        return None;
                    }
                    at += 6;
                }
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                _ => return None,
            },
            c if c < b' ' => return None,
            _ => at += 1,
        }
    }
}
