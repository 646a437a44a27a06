//! Minimal pairs, as in BLiMP (Warstadt et al. 2020): of two sentences the sound one must be more probable, each scored whole
//! behind the start token. Equal probabilities count as wrong.

use bitworth_quant::message::Message;
use serde::Deserialize;

use super::{DataRow, Gold, Item, TaskKind, Verdict, logprobs, text};
use crate::request::{Answer, Request};

/// Names of the fields of a row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    /// The sound sentence.
    good: String,
    /// The broken sentence.
    bad: String,
}

/// The kind's keys in a task file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinimalPair {
    fields: Fields,
}

/// A sentence behind the start token alone, as lm-evaluation-harness asks BLiMP's: without context.
fn whole(sentence: String) -> Request {
    Request::Loglikelihood { context: String::new(), continuation: sentence }
}

impl TaskKind for MinimalPair {
    fn item(&self, row: &DataRow) -> Result<Item, Message> {
        let ask = |name: &str| Ok::<_, Message>(whole(text(row, name)?));
        Ok(Item { requests: vec![ask(&self.fields.good)?, ask(&self.fields.bad)?], gold: Gold::Choice(0), cluster: None })
    }

    fn judge(&self, item: &Item, answers: &[Answer]) -> Result<Verdict, Message> {
        let logprobs = logprobs(answers, item.requests.len())?;
        let correct = matches!(logprobs[..], [good, bad] if good > bad);
        Ok(Verdict { correct, logprobs, text: None })
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_help::{kind, row, scores};
    use super::*;

    const KEYS: &str = "[fields]\ngood = 'good'\nbad = 'bad'";
    const ROW: &str = r#"{"good": "It is.", "bad": "It are."}"#;

    #[test]
    fn both_sentences_are_asked_whole() {
        let item = kind("minimal_pair", KEYS).item(&row(ROW)).unwrap();
        let ask = |t: &str| Request::Loglikelihood { context: String::new(), continuation: t.into() };
        assert_eq!(item.requests, [ask("It is."), ask("It are.")]);
    }

    #[track_caller]
    fn check(good: f64, bad: f64, correct: bool) {
        let kind = kind("minimal_pair", KEYS);
        let item = kind.item(&row(ROW)).unwrap();
        assert_eq!(kind.judge(&item, &scores(&[good, bad])).unwrap().correct, correct);
    }

    #[test]
    fn the_good_sentence_must_beat_the_bad_one() {
        check(-10.0, -11.0, true);
        check(-11.0, -10.0, false);
        check(-10.0, -10.0, false);
    }

    #[test]
    fn a_row_without_the_bad_sentence_is_an_error() {
        let error = kind("minimal_pair", KEYS).item(&row(r#"{"good": "It is."}"#)).unwrap_err().to_string();
        assert!(error.contains("\"bad\" is missing"), "{error}");
    }
}
