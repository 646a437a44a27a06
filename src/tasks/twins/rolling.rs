//! Twins of whole texts: WikiText and C4, whose texts are put together again and whose words are counted before that.
//!
//! Source: lm-evaluation-harness 0.4.13, `wikitext/preprocess_wikitext.py`, `c4/preprocess_c4.py`; rewritten.

use bitworth_quant::message::Message;
use std::sync::OnceLock;

use bitworth_text::python::{self, re::Regex};
use serde_json::{Value, json};

use super::{Figures, text};
use crate::metrics::count_words;
use crate::rows::DataRow;

/// Texts and what stands in their place, in the order of application.
const BEFORE: [(&str, &str); 11] = [
    ("s '", "s'"),
    // A pattern of the source that can match nothing but a text with slashes: kept, as it changes such texts.
    ("/' [0-9]/", "/'[0-9]/"),
    (" @-@ ", "-"),
    (" @,@ ", ","),
    (" @.@ ", "."),
    (" : ", ": "),
    (" ; ", "; "),
    (" . ", ". "),
    (" ! ", "! "),
    (" ? ", "? "),
    (" , ", ", "),
];
const PAIRS: [(&str, &str); 5] = [
    (r"\(\s*([^\)]*?)\s*\)", r"(\1)"),
    (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
    (r"{\s*([^}]*?)\s*}", r"{\1}"),
    (r#""\s*([^"]*?)\s*""#, r#""\1""#),
    (r"'\s*([^']*?)\s*'", r"'\1'"),
];
const BEHIND: [(&str, &str); 8] = [
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" \u{b0} ", "\u{b0}"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
];

/// WikiText's spaces taken out again.
fn detokenize(text: &str) -> Result<Value, Message> {
    static PATTERNS: OnceLock<Result<Vec<(Regex, &str)>, Message>> = OnceLock::new();
    let patterns = PATTERNS.get_or_init(|| {
        let slashes = [("/' [0-9]/", "/'[0-9]/")];
        let all = slashes.iter().chain(&PAIRS);
        all.map(|(pattern, new)| Ok((Regex::new(pattern).map_err(|e| Message::from(e.to_string()))?, *new))).collect()
    });
    let patterns = patterns.as_ref().map_err(Clone::clone)?;
    let replace = |(regex, new): &(Regex, &str), text: &str| regex.sub(new, text, 0).map_err(|e| Message::from(e.to_string()));
    let mut made = text.to_owned();
    for (old, new) in BEFORE {
        made = match old.starts_with('/') {
            true => replace(&patterns[0], &made)?,
            false => made.replace(old, new),
        };
    }
    for pair in &patterns[1..] {
        made = replace(pair, &made)?;
    }
    for (old, new) in BEHIND {
        made = made.replace(old, new);
    }
    Ok(made.into())
}

/// The log-likelihood with the words, and with the bytes, of the text as it was.
fn results(text: &str, answers: &[Value]) -> Result<Figures, Message> {
    let loglikelihood = answers.first().cloned().ok_or_else(|| Message::from("there is no answer"))?;
    let words = json!([loglikelihood, count_words(text)]);
    let bytes = json!([loglikelihood, text.len()]);
    Ok(vec![
        ("word_perplexity".to_owned(), words),
        ("byte_perplexity".to_owned(), bytes.clone()),
        ("bits_per_byte".to_owned(), bytes),
    ])
}

/// A page of WikiText.
pub(super) fn wikitext_text(doc: &DataRow) -> Result<Value, Message> {
    detokenize(text(doc, "page")?)
}

/// What its log-likelihood is divided by.
pub(super) fn wikitext_results(doc: &DataRow, answers: &[Value]) -> Result<Figures, Message> {
    results(text(doc, "page")?, answers)
}

/// A text of C4.
pub(super) fn c4_text(doc: &DataRow) -> Result<Value, Message> {
    detokenize(text(doc, "text")?)
}

/// What its log-likelihood is divided by.
pub(super) fn c4_results(doc: &DataRow, answers: &[Value]) -> Result<Figures, Message> {
    results(text(doc, "text")?, answers)
}

/// Paloma's text.
pub(super) fn paloma_text(doc: &DataRow) -> Result<Value, Message> {
    doc.get("text").map(|text| python::str(text).into()).ok_or_else(|| Message::from("the field \"text\" is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: lm-evaluation-harness 0.4.13 on the same text.
    #[test]
    fn spaces_are_taken_out_as_lm_eval_does() {
        let given = "= = A = =\n the boys ' 3 @-@ 4 ( x , y ) \" q \" 20 \u{b0} N 's . Z\n B ; C";
        let expected = "== A ==\nthe boys'3-4 (x, y) \"q\" 20\u{b0}N's. Z\nB; C";
        assert_eq!(detokenize(given).unwrap(), json!(expected));
    }

    #[test]
    fn words_and_bytes_are_counted_before() {
        let doc = DataRow::from_iter([("page".to_owned(), json!(" a é\n"))]);
        let figures = wikitext_results(&doc, &[json!(-3.5)]).unwrap();
        assert_eq!(figures[0], ("word_perplexity".to_owned(), json!([-3.5, 4])));
        assert_eq!(figures[2], ("bits_per_byte".to_owned(), json!([-3.5, 6])));
    }
}
