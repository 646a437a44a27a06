//! Multiple choice: the choice with the largest sum of log-probabilities behind the context wins, the first among equals
//! (the `acc` of lm-evaluation-harness). Absent: length-normalised sums, few-shot prompts.

use bitworth_quant::message::Message;
use serde::Deserialize;

use super::{DataRow, Gold, Item, TaskKind, Verdict, field, logprobs, text};
use crate::request::{Answer, Request};

/// Names of the fields of a row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    /// The text before the choice.
    context: String,
    /// The list of choices, each as it follows the context (mostly with a space in front).
    choices: String,
    /// The number of the right choice, from 0.
    gold: String,
}

/// The kind's keys in a task file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultipleChoice {
    fields: Fields,
}

impl TaskKind for MultipleChoice {
    fn item(&self, row: &DataRow) -> Result<Item, Message> {
        let Fields { context, choices, gold } = &self.fields;
        let context = text(row, context)?;
        let list = field(row, choices)?.as_array().ok_or_else(|| format!("field {choices:?} must be a list of strings"))?;
        let requests: Option<Vec<Request>> = list
            .iter()
            .map(|choice| Some(Request::Loglikelihood { context: context.clone(), continuation: choice.as_str()?.to_owned() }))
            .collect();
        let requests = requests.ok_or_else(|| format!("field {choices:?} must be a list of strings"))?;
        let number = field(row, gold)?.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n < requests.len());
        let number = number.ok_or_else(|| format!("field {gold:?} must number one of the {} choices, from 0", requests.len()))?;
        Ok(Item { requests, gold: Gold::Choice(number), cluster: None })
    }

    fn judge(&self, item: &Item, answers: &[Answer]) -> Result<Verdict, Message> {
        let logprobs = logprobs(answers, item.requests.len())?;
        let correct = first_largest(&logprobs).map(Gold::Choice) == Some(item.gold.clone());
        Ok(Verdict { correct, logprobs, text: None })
    }
}

/// Where the largest value is, the first among equals.
fn first_largest(values: &[f64]) -> Option<usize> {
    (0..values.len()).reduce(|best, i| if values[i] > values[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::super::test_help::{kind, row, scores};
    use super::*;

    const KEYS: &str = "[fields]\ncontext = 'q'\nchoices = 'options'\ngold = 'right'";
    const ROW: &str = r#"{"q": "A", "options": [" b", " c", " d"], "right": 1}"#;

    #[test]
    fn every_choice_is_asked_behind_the_context() {
        let item = kind("multiple_choice", KEYS).item(&row(ROW)).unwrap();
        let ask = |c: &str| Request::Loglikelihood { context: "A".into(), continuation: c.into() };
        assert_eq!(item.requests, [ask(" b"), ask(" c"), ask(" d")]);
        assert_eq!(item.gold, Gold::Choice(1));
    }

    #[track_caller]
    fn check(logprobs: &[f64], correct: bool) {
        let kind = kind("multiple_choice", KEYS);
        let item = kind.item(&row(ROW)).unwrap();
        let verdict = kind.judge(&item, &scores(logprobs)).unwrap();
        assert_eq!(verdict, Verdict { correct, logprobs: logprobs.to_vec(), text: None });
    }

    #[test]
    fn the_largest_sum_wins_and_the_first_among_equals() {
        check(&[-3.0, -1.0, -2.0], true);
        check(&[-0.5, -1.0, -2.0], false);
        check(&[-3.0, -1.0, -1.0], true);
        check(&[-1.0, -1.0, -2.0], false);
        check(&[f64::NEG_INFINITY, -1e300, f64::NEG_INFINITY], true);
    }

    #[test]
    fn answers_that_do_not_fit_are_errors() {
        let kind = kind("multiple_choice", KEYS);
        let item = kind.item(&row(ROW)).unwrap();
        assert!(kind.judge(&item, &scores(&[-1.0, -2.0])).unwrap_err().to_string().contains("2 answers"));
        assert!(kind.judge(&item, &scores(&[-1.0, f64::NAN, -2.0])).unwrap_err().to_string().contains("not a number"));
        let text = vec![Answer::Text("x".into()); 3];
        assert!(kind.judge(&item, &text).unwrap_err().to_string().contains("text"));
    }

    #[track_caller]
    fn check_row_error(json: &str, expected: &str) {
        let error = kind("multiple_choice", KEYS).item(&row(json)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn rows_with_missing_or_wrong_fields_are_errors() {
        check_row_error(r#"{"options": [], "right": 0}"#, "\"q\" is missing");
        check_row_error(r#"{"q": 1, "options": [], "right": 0}"#, "\"q\" must be a string");
        check_row_error(r#"{"q": "A", "options": "bc", "right": 0}"#, "\"options\" must be a list");
        check_row_error(r#"{"q": "A", "options": ["b", 2], "right": 0}"#, "\"options\" must be a list of strings");
        for gold in ["2", "-1", "\"0\"", "0.5"] {
            check_row_error(&format!(r#"{{"q": "A", "options": ["b", "c"], "right": {gold}}}"#), "one of the 2 choices");
        }
        check_row_error(r#"{"q": "A", "options": [], "right": 0}"#, "one of the 0 choices");
    }
}
