//! The front matter of a model card (`README.md`): the simple part of YAML that model cards use for authorship. Keys at the
//! margin with a scalar or a list of scalars are read; anything nested is skipped, because no key we want is nested.
//!
//! Absent: YAML's anchors, tags and typed scalars. A value is text, and a card that is not understood gives fewer keys,
//! never an error: it describes the model and does not change it.

/// A value at the margin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CardValue {
    /// A scalar.
    Text(String),
    /// A list of scalars.
    List(Vec<String>),
}

/// The front matter's keys in order. Empty where the text has none.
#[derive(Debug, Default)]
pub(super) struct Card(Vec<(String, CardValue)>);

impl Card {
    /// Reads the front matter of a model card.
    pub(super) fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        if lines.next() != Some("---") {
            return Self::default();
        }
        let body: Vec<&str> = lines.take_while(|line| *line != "---").collect();
        let mut pairs: Vec<(String, CardValue)> = Vec::new();
        let mut at = 0;
        while at < body.len() {
            let end = (at + 1..body.len()).find(|&i| starts_entry(body[i])).unwrap_or(body.len());
            if let Some((key, value)) = parse_entry(body[at], &body[at + 1..end])
                && !pairs.iter().any(|(k, _)| *k == key)
            {
                pairs.push((key, value));
            }
            at = end;
        }
        Self(pairs)
    }

    /// The value under `key`.
    pub(super) fn get(&self, key: &str) -> Option<&CardValue> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// The value under `key` as a list; a scalar is a list of one.
    pub(super) fn list(&self, key: &str) -> Option<Vec<String>> {
        Some(match self.get(key)? {
            CardValue::Text(text) => vec![text.clone()],
            CardValue::List(list) => list.clone(),
        })
    }
}

/// Whether a line begins a new key at the margin: not indented, no list item, no comment, no end of a list.
fn starts_entry(line: &str) -> bool {
    line.starts_with(|c: char| !c.is_whitespace() && !['-', '#', ']'].contains(&c))
}

/// One key with the lines that follow it; `None` where the value is null, nested or not understood.
fn parse_entry(line: &str, more: &[&str]) -> Option<(String, CardValue)> {
    let (key, rest) = line.split_once(':')?;
    if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let key = unquote(key.trim_end()).unwrap_or_else(|| key.trim_end().to_owned());
    let rest = without_comment(rest).trim();
    let value = if let Some(style @ ('|' | '>')) = rest.chars().next() {
        CardValue::Text(block_scalar(style, rest, more))
    } else if let Some(inner) = rest.strip_prefix('[') {
        let joined = std::iter::once(inner).chain(more.iter().map(|l| l.trim())).collect::<Vec<_>>().join(" ");
        CardValue::List(flow_items(&joined)?)
    } else if rest.is_empty() {
        CardValue::List(block_items(more)?)
    } else if rest.starts_with(['{', '&', '*', '!']) {
        return None;
    } else {
        let folded = std::iter::once(rest)
            .chain(more.iter().map(|l| without_comment(l).trim()).filter(|l| !l.is_empty()))
            .collect::<Vec<_>>()
            .join(" ");
        CardValue::Text(scalar(&folded)?)
    };
    Some((key, value))
}

/// `- item` lines; `None` where there are none or where one is no scalar.
fn block_items(lines: &[&str]) -> Option<Vec<String>> {
    let lines: Vec<&str> = lines.iter().map(|l| without_comment(l).trim()).filter(|l| !l.is_empty()).collect();
    let items: Option<Vec<String>> = lines
        .iter()
        .map(|line| {
            let item = line.strip_prefix("- ")?.trim();
            let nested = item.ends_with(':') || item.contains(": ") && !item.starts_with(['"', '\'']);
            if nested { None } else { scalar(item) }
        })
        .collect();
    items.filter(|items| !items.is_empty())
}

/// What stands between `[` and `]`.
fn flow_items(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_suffix(']')?;
    let (mut items, mut start, mut quote) = (Vec::new(), 0, None);
    for (at, c) in inner.char_indices() {
        match (quote, c) {
            (None, '[' | '{') => return None,
            (None, '"' | '\'') => quote = Some(c),
            (Some(q), _) if q == c => quote = None,
            (None, ',') => {
                items.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&inner[start..]);
    items.into_iter().map(str::trim).filter(|item| !item.is_empty()).map(scalar).collect()
}

/// A literal (`|`) or folded (`>`) block.
fn block_scalar(style: char, header: &str, lines: &[&str]) -> String {
    let indent = lines.iter().filter(|l| !l.trim().is_empty()).map(|l| l.len() - l.trim_start().len()).min().unwrap_or(0);
    let lines: Vec<&str> = lines.iter().map(|l| l.get(indent..).unwrap_or("")).collect();
    let mut text = lines.join(if style == '|' { "\n" } else { " " }).trim_end().to_owned();
    if !header.contains('-') {
        text.push('\n');
    }
    text
}

/// A plain or quoted scalar; `None` for null.
fn scalar(text: &str) -> Option<String> {
    match unquote(text) {
        Some(text) => Some(text),
        None if matches!(text, "" | "~" | "null" | "Null" | "NULL") => None,
        None => Some(text.to_owned()),
    }
}

/// The inside of a quoted scalar; `None` where it is not quoted.
fn unquote(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
        return Some(inner.replace("''", "'"));
    }
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'))?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => {}
            },
            (c, false) => out.push(c),
        }
    }
    Some(out)
}

/// A line up to a comment: ` #` outside quotes.
fn without_comment(line: &str) -> &str {
    let trimmed = line.trim_start().trim_start_matches("- ");
    if trimmed.starts_with(['"', '\'']) {
        return line;
    }
    if line.trim_start().starts_with('#') {
        return "";
    }
    line.find(" #").map_or(line, |at| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(card: &str, key: &str, expected: Option<CardValue>) {
        assert_eq!(Card::parse(card).get(key), expected.as_ref(), "{key} in {card:?}");
    }

    fn text(value: &str) -> Option<CardValue> {
        Some(CardValue::Text(value.to_owned()))
    }

    fn list(values: &[&str]) -> Option<CardValue> {
        Some(CardValue::List(values.iter().map(|&v| v.to_owned()).collect()))
    }

    const CARD: &str = "---\nlicense: apache-2.0 # as it is\nlanguage:\n- en\n- no\ntags: [text, 'a, b', \"c\"]\n\
        datasets:\n  - owner/one\n  - \"owner/two\"\nmodel-index:\n- name: x\n  results:\n  - task: y\nquoted: 'it''s'\n\
        empty:\nnothing: null\ndescription: |\n  Two\n  lines\nlong: a\n  b\nmulti: [\n  one,\n  two\n]\n---\nlicense: mit\n";

    #[test]
    fn scalars_and_lists_at_the_margin_are_read() {
        check(CARD, "license", text("apache-2.0"));
        check(CARD, "language", list(&["en", "no"]));
        check(CARD, "tags", list(&["text", "a, b", "c"]));
        check(CARD, "datasets", list(&["owner/one", "owner/two"]));
        check(CARD, "quoted", text("it's"));
        check(CARD, "description", text("Two\nlines\n"));
        check(CARD, "long", text("a b"));
        check(CARD, "multi", list(&["one", "two"]));
    }

    #[test]
    fn nested_and_empty_values_are_skipped() {
        for key in ["model-index", "empty", "nothing", "name", "absent"] {
            check(CARD, key, None);
        }
    }

    #[test]
    fn a_card_without_front_matter_has_no_keys() {
        for card in ["", "# Title\nlicense: mit\n", " ---\nlicense: mit\n---\n"] {
            check(card, "license", None);
        }
    }
}
