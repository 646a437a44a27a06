//! Twins about named spans of a text: MasakhaNER's.
//!
//! Source: lm-evaluation-harness 0.4.13, `afrobench/masakhaner/*/utils.py`, after mT5's evaluation; rewritten.

use bitworth_quant::message::Message;
use bitworth_text::python::{self, re::Regex};
use serde_json::Value;

/// What keeps divisions from being by 0.
const LITTLE: f64 = 1e-13;
/// Marks that are blanks before spans are compared.
const MARKS: &str = "!\"#$%&'()*+,-./:;<=>?[]^_`{|}~\u{2022}@";

/// A tag or an entity without marks, articles and runs of blanks.
fn normal(text: &str, article: &Regex, blanks: &Regex) -> Result<String, Message> {
    let fail = |e: python::re::PatternError| Message::from(e.to_string());
    let mut bare = String::with_capacity(text.len());
    for c in text.chars() {
        match MARKS.contains(c) {
            // A run of marks is one blank.
            true if bare.ends_with('\u{0}') => {}
            true => bare.push('\u{0}'),
            false => bare.push(c),
        }
    }
    let bare = article.sub(" ", &bare.replace('\u{0}', " "), 0).map_err(fail)?;
    let bare = blanks.sub("", &bare, 0).map_err(fail)?;
    let mut made = String::with_capacity(bare.len());
    for c in bare.chars() {
        match python::is_space(c) {
            true if made.ends_with(' ') => {}
            true => made.push(' '),
            false => made.push(c),
        }
    }
    Ok(made.to_lowercase())
}

/// The tags and entities of `TAG: entity $$ TAG: entity`.
fn spans(value: &Value, article: &Regex, blanks: &Regex) -> Result<Vec<(String, String)>, Message> {
    let text = match value {
        Value::Array(items) => {
            items.iter().map(|item| python::strip(&python::str(item)).to_owned()).collect::<Vec<_>>().join(" ")
        }
        one => python::str(one),
    };
    let mut spans = Vec::new();
    for item in python::strip(&text).split("$$").flat_map(|part| part.split('$')).filter(|item| !item.is_empty()) {
        for span in python::strip(item).split(". ").flat_map(|part| part.split(", ")) {
            if let [tag, entity] = python::strip(span).split(": ").collect::<Vec<_>>()[..] {
                spans.push((normal(python::strip(tag), article, blanks)?, normal(python::strip(entity), article, blanks)?));
            }
        }
    }
    Ok(spans)
}

/// The F1 of spans over all documents.
pub(super) fn span_f1(values: &[Value]) -> Result<f64, Message> {
    let compiled = |pattern: &str| Regex::new(pattern).map_err(|e| Message::from(e.to_string()));
    let (article, blanks) = (compiled(r"\b(a|an|the)\b")?, compiled(r"\s{3,}|\t")?);
    let (mut right, mut wrong, mut missed) = (0_usize, 0_usize, 0_usize);
    for value in values {
        let [gold, given] = value.as_array().map(Vec::as_slice).unwrap_or_default() else {
            return Err(format!("{} is no pair of right and given spans", python::repr(value)).into());
        };
        let mut golds = spans(gold, &article, &blanks)?;
        for span in spans(given, &article, &blanks)? {
            match golds.iter().position(|gold| *gold == span) {
                Some(at) => {
                    golds.remove(at);
                    right += 1;
                }
                None => wrong += 1,
            }
        }
        missed += golds.len();
    }
    let share = |others: usize| right as f64 / ((right + others) as f64 + LITTLE);
    let (precision, recall) = (share(wrong), share(missed));
    Ok(2.0 * (precision * recall / (precision + recall + LITTLE)))
}
