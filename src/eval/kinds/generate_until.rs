//! Generation with exact match: greedy text behind the prompt, cut at the first stop text and trimmed, must equal the answer.
//! Absent: sampling, regular expressions, several right answers.

use bitworth_quant::message::Message;
use serde::Deserialize;

use super::{DataRow, Gold, Item, TaskKind, Verdict, text};
use crate::request::{Answer, Request};

/// Names of the fields of a row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    /// The text before the answer.
    prompt: String,
    /// The right answer, without the stop text.
    answer: String,
}

/// The kind's keys in a task file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateUntil {
    fields: Fields,
    /// The texts that end an answer.
    stop: Vec<String>,
    /// The most new ids.
    max_tokens: usize,
}

impl TaskKind for GenerateUntil {
    fn item(&self, row: &DataRow) -> Result<Item, Message> {
        let prompt = text(row, &self.fields.prompt)?;
        let gold = Gold::Text(text(row, &self.fields.answer)?);
        let request = Request::GenerateUntil { prompt, stop: self.stop.clone(), max_tokens: self.max_tokens };
        Ok(Item { requests: vec![request], gold, cluster: None })
    }

    fn judge(&self, item: &Item, answers: &[Answer]) -> Result<Verdict, Message> {
        let [Answer::Text(generated)] = answers else {
            return Err("one generated text was asked for".into());
        };
        let text = before_stop(generated, &self.stop).trim().to_owned();
        Ok(Verdict { correct: Gold::Text(text.clone()) == item.gold, logprobs: Vec::new(), text: Some(text) })
    }
}

/// The text up to the first place where one of `stop` begins.
fn before_stop<'a>(text: &'a str, stop: &[String]) -> &'a str {
    let end = stop.iter().filter(|s| !s.is_empty()).filter_map(|s| text.find(s.as_str())).min();
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::super::test_help::{kind, row, scores};
    use super::*;

    const KEYS: &str = "stop = ['.', '\\n']\nmax_tokens = 8\n[fields]\nprompt = 'p'\nanswer = 'a'";
    const ROW: &str = r#"{"p": "7 + 51 =", "a": "58"}"#;

    #[test]
    fn the_prompt_is_asked_with_the_tasks_stop_and_limit() {
        let item = kind("generate_until", KEYS).item(&row(ROW)).unwrap();
        let ask = Request::GenerateUntil { prompt: "7 + 51 =".into(), stop: vec![".".into(), "\\n".into()], max_tokens: 8 };
        assert_eq!(item, Item { requests: vec![ask], gold: Gold::Text("58".into()), cluster: None });
    }

    #[track_caller]
    fn check(generated: &str, compared: &str, correct: bool) {
        let kind = kind("generate_until", KEYS);
        let item = kind.item(&row(ROW)).unwrap();
        let verdict = kind.judge(&item, &[Answer::Text(generated.into())]).unwrap();
        assert_eq!(verdict, Verdict { correct, logprobs: vec![], text: Some(compared.into()) });
    }

    #[test]
    fn the_text_before_the_first_stop_is_compared() {
        check(" 58.", "58", true);
        check(" 58", "58", true);
        check(" 58. 9 + 9 = 18.", "58", true);
        check(" 58\\n5.", "58", true);
        check(" 5 8.", "5 8", false);
        check(" 580.", "580", false);
        check(".58", "", false);
    }

    #[test]
    fn a_score_is_no_text() {
        let kind = kind("generate_until", KEYS);
        let item = kind.item(&row(ROW)).unwrap();
        assert!(kind.judge(&item, &scores(&[-1.0])).is_err());
        assert!(kind.judge(&item, &[]).is_err());
    }
}
