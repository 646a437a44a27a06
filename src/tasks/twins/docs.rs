//! Twins that choose rows, or rename what they hold: MMLU's descendants and BIG-bench.
//!
//! Source: lm-evaluation-harness 0.4.13, the modules of the same names; rewritten.

use bitworth_quant::message::Message;
use bitworth_text::python;
use serde_json::Value;

use crate::rows::{DataRow, Docs};

/// Rows in whose field stands this text.
fn with(docs: &Docs, field: &str, wanted: impl Fn(&str) -> bool) -> Result<Docs, Message> {
    docs.filter(|doc| match doc.get(field) {
        None => Err(format!("the field {field:?} is missing").into()),
        Some(value) => Ok(value.as_str().is_some_and(&wanted)),
    })
}

/// The rows of one subject of Global MMLU.
pub(super) fn global_mmlu_subject(docs: &Docs, subject: &str) -> Result<Docs, Message> {
    with(docs, "subject", |own| own == subject)
}

/// The rows of one category of Global MMLU Lite; function names have it in small letters and with `_`.
pub(super) fn global_mmlu_category(docs: &Docs, category: &str) -> Result<Docs, Message> {
    with(docs, "subject_category", |own| own.to_lowercase().replace(' ', "_") == category)
}

/// The rows of one subject of OpenAI's MMMLU, some of whose rows have a file's name in its place.
pub(super) fn mmmlu_subject(docs: &Docs, subject: &str) -> Result<Docs, Message> {
    with(docs, "Subject", |own| {
        let end = own.find("_test.csv").or_else(|| own.find("_test-"));
        &own[..end.unwrap_or(own.len())] == subject
    })
}

/// The rows of one domain of INCLUDE.
pub(super) fn include_domain(docs: &Docs, domain: &str) -> Result<Docs, Message> {
    with(docs, "domain", |own| own.to_lowercase().replace(" & ", "_").replace(' ', "_") == domain)
}

/// The rows of one category of MMLU-Pro.
pub(super) fn mmlu_pro_category(docs: &Docs, category: &str) -> Result<Docs, Message> {
    with(docs, "category", |own| own.replace(' ', "_") == category)
}

/// The rows of BIG-bench that have choices.
pub(super) fn bigbench_with_choices(docs: &Docs, _: &str) -> Result<Docs, Message> {
    docs.filter(|doc| {
        let choices = doc.get("multiple_choice_targets").and_then(Value::as_array);
        choices
            .map(|choices| !choices.is_empty())
            .ok_or_else(|| Message::from("the field \"multiple_choice_targets\" must be a list"))
    })
}

/// The four choices of MMLU-SR as a list, and its answer without blanks.
pub(super) fn mmlusr(docs: &Docs, _: &str) -> Result<Docs, Message> {
    docs.map(|doc| {
        let field = |name: &str| -> Result<Value, Message> {
            match doc.get(name) {
                None => Err(format!("the field {name:?} is missing").into()),
                Some(Value::Null) => Ok(Value::from("")),
                Some(value) => Ok(value.clone()),
            }
        };
        let choices: Value = ["choice1", "choice2", "choice3", "choice4"].into_iter().map(field).collect::<Result<_, _>>()?;
        let answer = python::str(&field("answer")?);
        Ok(DataRow::from_iter([("choices".to_owned(), choices), ("answer".to_owned(), python::strip(&answer).into())]))
    })
}

/// The rows of one category of MMLU-ProX.
pub(super) fn mmlu_prox_category(docs: &Docs, category: &str) -> Result<Docs, Message> {
    with(docs, "category", |own| own == category.replace('_', " "))
}

/// The rows of one subject of Llama 3's MMLU in a language.
pub(super) fn llama_mmlu(docs: &Docs, language: &str, subject: &str) -> Result<Docs, Message> {
    let wanted = format!("mmlu_{language}_chat.{subject}");
    with(docs, "subtask_name", |own| own == wanted)
}

/// Question, choices and answer of a row whose choices stand in the fields A, B and so on.
fn of_letters(doc: &DataRow, letters: &[&str]) -> Result<DataRow, Message> {
    let field = |name: &str| doc.get(name).cloned().ok_or_else(|| Message::from(format!("the field {name:?} is missing")));
    let choices: Value = letters.iter().map(|letter| field(letter)).collect::<Result<_, _>>()?;
    let gold = letters.iter().position(|letter| doc.get("answer").is_some_and(|answer| answer == letter));
    let gold = gold.ok_or_else(|| Message::from("the answer is the letter of no choice"))?;
    Ok(DataRow::from_iter([
        ("questions".to_owned(), field("question")?),
        ("choices".to_owned(), choices),
        ("goal".to_owned(), gold.into()),
    ]))
}

/// TMMLU+'s four choices as a list.
pub(super) fn tmmluplus(docs: &Docs, _: &str) -> Result<Docs, Message> {
    docs.map(|doc| of_letters(doc, &["A", "B", "C", "D"]))
}

/// TMLU's choices as a list, four to six.
pub(super) fn tmlu(docs: &Docs, _: &str) -> Result<Docs, Message> {
    docs.map(|doc| {
        let is_there = |name: &&str| doc.get(*name).is_some_and(|value| !value.is_null() && value != "");
        let more = ["E", "F"].into_iter().filter(is_there);
        of_letters(doc, &["A", "B", "C", "D"].into_iter().chain(more).collect::<Vec<_>>())
    })
}

/// EusExams' questions that have an answer and candidates.
pub(super) fn eus_exams(docs: &Docs, _: &str) -> Result<Docs, Message> {
    docs.filter(|doc| {
        let field = |name: &str| doc.get(name).ok_or_else(|| Message::from(format!("the field {name:?} is missing")));
        let (answer, candidates) = (field("answer")?, field("candidates")?);
        let is_answer = (0..4).any(|known| python::equal(answer, &Value::from(known)));
        Ok(is_answer && *candidates != Value::from(vec![""; 4]))
    })
}

/// Arithmetic's context in the words of its old loader.
pub(super) fn arithmetic(docs: &Docs, _: &str) -> Result<Docs, Message> {
    docs.map(|doc| {
        let context = python::strip(super::text(doc, "context")?).replace("\n\n", "\n");
        let context = context.replace("Q:", "Question:").replace("A:", "Answer:");
        let completion = doc.get("completion").cloned().ok_or_else(|| Message::from("the field \"completion\" is missing"))?;
        Ok(DataRow::from_iter([("context".to_owned(), context.into()), ("completion".to_owned(), completion)]))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_chosen_by_what_the_function_is_called_after() {
        let docs = |field: &str, values: &[&str]| {
            Docs::new(values.iter().map(|value| DataRow::from_iter([(field.to_owned(), json!(value))])).collect())
        };
        let count = |docs: Result<Docs, Message>| docs.unwrap().rows.len();
        assert_eq!(count(global_mmlu_subject(&docs("subject", &["anatomy", "law"]), "anatomy")), 1);
        assert_eq!(count(mmmlu_subject(&docs("Subject", &["law_test.csv_sw-KE.csv", "law", "law_test-1", "laws"]), "law")), 3);
        assert_eq!(count(include_domain(&docs("domain", &["Arts & Humanities", "STEM"]), "arts_humanities")), 1);
        assert_eq!(count(global_mmlu_category(&docs("subject_category", &["Social Sciences"]), "social_sciences")), 1);
        assert_eq!(count(mmlu_pro_category(&docs("category", &["computer science", "law"]), "computer_science")), 1);
        assert!(global_mmlu_subject(&docs("x", &["a"]), "a").unwrap_err().to_string().contains("subject"));
    }
}
