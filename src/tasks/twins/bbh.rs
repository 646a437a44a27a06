//! Twins of BIG-Bench Hard's filters: what of a free answer counts.
//!
//! Source: lm-evaluation-harness 0.4.13, `bbh/zeroshot/utils.py`; rewritten. Absent: numbers written as English words.

use bitworth_quant::message::Message;
use std::sync::Arc;

use bitworth_text::python::{self, re::Found, re::Regex};
use serde_json::{Map, Value};

use super::text;
use crate::filters::{Filter, Ignored, MultiChoice, Pattern, each, known};
use crate::rows::Row;

/// A letter in brackets, or the text of an option that the question lists behind such letters.
pub(super) fn multi_choice(options: &Map<String, Value>) -> Result<Box<dyn Filter>, Message> {
    Ok(Box::new(MultiChoice::new(options, |doc| {
        let regex = Regex::new(r"\([A-Z]\)([^\n^(]*)").map_err(|e| Message::from(e.to_string()))?;
        let found = regex.findall(text(doc, "input")?).map_err(|e| Message::from(e.to_string()))?;
        let one = |found| match found {
            Found::One(text) => python::strip(&text).to_owned(),
            Found::Groups(groups) => groups.concat(),
        };
        Ok(found.into_iter().map(one).collect())
    })?))
}

/// One value for every pattern.
struct Mapped {
    whole: Pattern,
    values: Vec<(Regex, Value)>,
    ignored: Ignored,
}

/// The value of the first pattern that the chosen match fits.
pub(super) fn map(options: &Map<String, Value>) -> Result<Box<dyn Filter>, Message> {
    let own = ["regex_pattern_to_value", "group_select", "fallback", "ignore_case", "ignore_punctuation", "regexes_to_ignore"];
    known(options, &own)?;
    let pairs = options.get("regex_pattern_to_value").and_then(Value::as_object).cloned().unwrap_or_default();
    let all = pairs.keys().map(String::as_str).collect::<Vec<_>>().join("|");
    let regex = |(pattern, value): (String, Value)| Ok((Regex::new(&pattern).map_err(|e| Message::from(e.to_string()))?, value));
    Ok(Box::new(Mapped {
        whole: Pattern::of(&all, options)?,
        values: pairs.into_iter().map(regex).collect::<Result<_, Message>>()?,
        ignored: Ignored::new(options)?,
    }))
}

impl Filter for Mapped {
    fn apply(&self, answers: Vec<Value>, _: &[Arc<Row>]) -> Result<Vec<Value>, Message> {
        each(answers, |_, item| {
            let answer = self.ignored.apply(item.as_str().ok_or_else(|| Message::from("an answer is no text"))?)?;
            let whole = self.whole.find(self.whole.own(), &answer)?.filter(|found| !found.is_empty());
            if let Some(whole) = whole {
                let whole = self.ignored.apply(&whole)?;
                for (regex, value) in &self.values {
                    if self.whole.find(regex, &whole)?.is_some_and(|found| !found.is_empty()) {
                        return Ok(value.clone());
                    }
                }
            }
            Ok(self.whole.fallback.clone())
        })
    }
}

/// The words of the question's list, in the order in which the answer names them last.
struct WordSort;

/// For the task that sorts words.
pub(super) fn word_sort(options: &Map<String, Value>) -> Result<Box<dyn Filter>, Message> {
    known(options, &[])?;
    Ok(Box::new(WordSort))
}

impl Filter for WordSort {
    fn apply(&self, answers: Vec<Value>, docs: &[Arc<Row>]) -> Result<Vec<Value>, Message> {
        each(answers, |at, item| {
            let doc = docs.get(at).ok_or_else(|| Message::from("there are more answers than documents"))?;
            let input = text(doc, "input")?.split("List:").nth(1).ok_or_else(|| Message::from("the input has no \"List:\""))?;
            // The words stand in the pattern as they are, as in the source.
            let words: Vec<String> =
                input.split(python::is_space).filter(|word| !word.is_empty()).map(|word| format!(r"\b{word}\b")).collect();
            let regex = Regex::new(&words.join("|")).map_err(|e| Message::from(e.to_string()))?;
            let found = regex
                .findall(item.as_str().ok_or_else(|| Message::from("an answer is no text"))?)
                .map_err(|e| Message::from(e.to_string()))?;
            let mut last: Vec<String> = Vec::new();
            for found in found.into_iter().rev() {
                let word = match found {
                    Found::One(text) => text,
                    Found::Groups(groups) => groups.concat(),
                };
                if !last.contains(&word) {
                    last.push(word);
                }
            }
            last.reverse();
            Ok(last.join(" ").into())
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(make: crate::filters::Make, options: Value, input: &str, pairs: &[(&str, &str)]) {
        let filter = make(options.as_object().unwrap()).unwrap();
        let doc = Arc::new(Row::from_iter([("input".to_owned(), json!(input))]));
        for (answer, expected) in pairs {
            let made = filter.apply(vec![json!([answer])], &[Arc::clone(&doc)]).unwrap();
            assert_eq!(made, [json!([expected])], "{answer}");
        }
    }

    /// Expected: the classes of lm-evaluation-harness 0.4.13 on the same answers.
    #[test]
    fn answers_are_taken_as_lm_eval_takes_them() {
        let letters =
            json!({"group_select": 0, "ignore_case": true, "ignore_punctuation": true, "regex_pattern": "(\\([A-Z]\\))"});
        let input = "Which?\nOptions:\n(A) 12/11/1937\n(B) the cat";
        check(
            multi_choice,
            letters,
            input,
            &[("so (B).", "(B)"), ("The Cat", "(B)"), ("is: A", "(A)"), ("12/11/1937!", "(A)"), ("?", "[invalid]")],
        );
        let pairs = json!({"\\b(no|invalid)\\b": "No", "\\b(yes|ok)\\b": "Yes"});
        let values = json!({"group_select": -1, "ignore_case": true, "regex_pattern_to_value": pairs});
        check(map, values, "", &[("Yes or no", "No"), ("YES!", "Yes"), ("maybe", "[invalid]")]);
        check(word_sort, json!({}), "Sort. List: b a c", &[("first b, then a b c", "a b c"), ("none", "")]);
    }
}
