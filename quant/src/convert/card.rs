//! The front matter of a model card (`README.md`). Keys at the margin with a scalar or a list of scalars are read; anything
//! nested is skipped, because no key we want is nested.
//!
//! The keys are told apart here and each is parsed by itself (by saphyr-parser), so that one that is no YAML, of which cards have
//! many, costs no other. The parser's events are used and not a deserializer, because a value is text as it stands: `1.10` is
//! no number and `no` no boolean.
//!
//! Absent: YAML's anchors, tags and types. A card that is not understood gives fewer keys, never an error: it describes the
//! model and does not change it.

use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::front_matter::{CardReader, FrontMatter};

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
        let Some(front) = FrontMatter::find(text, CardReader::GgufPy) else { return Self::default() };
        let body: Vec<&str> = front.yaml.lines().collect();
        let mut pairs: Vec<(String, CardValue)> = Vec::new();
        let mut at = 0;
        while at < body.len() {
            let end = (at + 1..body.len()).find(|&i| starts_entry(body[i])).unwrap_or(body.len());
            if let Some((key, value)) = parse_entry(&body[at..end])
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
fn parse_entry(lines: &[&str]) -> Option<(String, CardValue)> {
    let mut yaml = String::new();
    for line in lines {
        // The end of a list at the margin, which YAML wants indented and cards do not.
        yaml.extend([if line.starts_with(']') { " " } else { "" }, line, "\n"]);
    }
    let events = Parser::new_from_str(&yaml).map(|event| event.map(|(event, _)| event));
    let events: Vec<Event> = events.collect::<Result<_, _>>().ok()?;
    let [Event::StreamStart, Event::DocumentStart(_), inner @ .., Event::DocumentEnd, Event::StreamEnd] = events.as_slice()
    else {
        return None;
    };
    let [Event::MappingStart(..), key, value @ .., Event::MappingEnd] = inner else { return None };
    let value = match value {
        [value] => CardValue::Text(scalar(value)?),
        [Event::SequenceStart(0, None), items @ .., Event::SequenceEnd] => {
            CardValue::List(items.iter().map(scalar).collect::<Option<_>>()?)
        }
        _ => return None,
    };
    Some((scalar(key)?, value))
}

/// The text of a scalar as it stands, whatever type YAML gives it; `None` for null, and for one with a tag or an anchor.
fn scalar(event: &Event) -> Option<String> {
    match event {
        Event::Scalar(text, style, 0, None) => {
            let null = *style == ScalarStyle::Plain && matches!(&**text, "" | "~" | "null" | "Null" | "NULL");
            (!null).then(|| text.to_string())
        }
        _ => None,
    }
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
    fn values_are_text_as_it_stands() {
        const CARD: &str =
            "---\nversion: 1.10\nfit: no\nname: \"a \\u00e9 \\\"b\\\"\" # c\nfolded: >-\n  one\n  two\n\n  three\n---\n";
        check(CARD, "version", text("1.10"));
        check(CARD, "fit", text("no"));
        check(CARD, "name", text("a é \"b\""));
        check(CARD, "folded", text("one two\nthree"));
    }

    #[test]
    fn what_is_no_yaml_costs_no_other_key() {
        let deep = "[".repeat(100_000);
        let card = format!("---\na: 1\nb: [x\nc: \"\nd: @x\ne: {deep}\nf: &a 1\ng: *a\nh: !!str 1\nz: 2\na: 3\n---\n");
        for key in ["b", "c", "d", "e", "f", "g", "h"] {
            check(&card, key, None);
        }
        check(&card, "a", text("1"));
        check(&card, "z", text("2"));
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
