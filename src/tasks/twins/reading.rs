//! Twins of reading comprehension: DROP and CoQA.
//!
//! Source: lm-evaluation-harness 0.4.13, `drop/utils.py`, `coqa/utils.py`; transformers, `squad_metrics.py`; rewritten.

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use bitworth_quant::message::Message;
use bitworth_text::python::{self, re::Regex};
use serde_json::{Value, json};

use super::{Figures, text};
use crate::rows::{DataRow, Docs};

/// Python's `string.punctuation`.
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/// A text without the words a, an and the, each of which leaves a blank.
fn without_articles(text: &str) -> Result<String, Message> {
    static ARTICLES: OnceLock<Option<Regex>> = OnceLock::new();
    let regex = ARTICLES.get_or_init(|| Regex::new(r"\b(a|an|the)\b").ok());
    let regex = regex.as_ref().ok_or_else(|| Message::from("the pattern of articles does not compile"))?;
    regex.sub(" ", text, 0).map_err(|e| Message::from(e.to_string()))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(python::is_space).filter(|word| !word.is_empty())
}

fn joined(text: &str) -> String {
    words(text).collect::<Vec<_>>().join(" ")
}

fn without_punctuation(text: &str) -> String {
    text.chars().filter(|c| !PUNCTUATION.contains(*c)).collect()
}

/// Python's `float` of a text.
fn float(text: &str) -> Option<f64> {
    let text = python::strip(text);
    let inside = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let sound = text.match_indices('_').all(|(at, _)| at > 0 && inside(at - 1) && inside(at + 1));
    if sound { text.replace('_', "").parse().ok() } else { None }
}

/// `query_id`, passage, question and the different answers of a document of DROP.
pub(super) fn drop_docs(docs: &Docs, _: &str) -> Result<Docs, Message> {
    docs.map(|doc| {
        let field = |name: &str| doc.get(name).cloned().ok_or_else(|| Message::from(format!("the field {name:?} is missing")));
        let validated = field("validated_answers")?;
        let count = validated["number"].as_array().map_or(0, Vec::len);
        let mut candidates = vec![field("answer")?];
        candidates.extend(
            (0..count).map(
                |i| json!({ "number": validated["number"][i], "date": validated["date"][i], "spans": validated["spans"][i] }),
            ),
        );
        let mut answers: Vec<Value> = Vec::new();
        for candidate in &candidates {
            let answer = drop_answer(candidate);
            if !answers.contains(&answer) {
                answers.push(answer);
            }
        }
        let id = ("id".to_owned(), field("query_id")?);
        Ok(DataRow::from_iter([
            id,
            ("passage".to_owned(), field("passage")?),
            ("question".to_owned(), field("question")?),
            ("answers".to_owned(), answers.into()),
        ]))
    })
}

fn drop_answer(answer: &Value) -> Value {
    if answer["number"] != "" {
        return json!([python::str(&answer["number"])]);
    }
    if answer["spans"].as_array().is_some_and(|spans| !spans.is_empty()) {
        return answer["spans"].clone();
    }
    let date = ["day", "month", "year"].map(|part| python::str(&answer["date"][part]));
    json!([python::strip(&date.join(" "))])
}

/// The best exact match and F1 over the right answers.
pub(super) fn drop_results(doc: &DataRow, answers: &[Value]) -> Result<Figures, Message> {
    let spans = |value: &Value| match value {
        Value::Array(items) => items.iter().map(python::str).collect::<Vec<_>>(),
        one => vec![python::str(one)],
    };
    let given = answers.iter().map(|answer| drop_words(&python::str(answer))).collect::<Result<Vec<_>, _>>()?;
    let (mut exact, mut best) = (json!(0), json!(0));
    for gold in super::list(doc, "answers")? {
        let gold = spans(gold);
        if gold.first().is_none_or(|first| python::strip(first).is_empty()) {
            continue;
        }
        let gold = gold.iter().map(|span| drop_words(span)).collect::<Result<Vec<_>, _>>()?;
        let set = |spans: &[String]| spans.iter().cloned().collect::<BTreeSet<_>>();
        if set(&given) == set(&gold) && given.len() == gold.len() {
            exact = json!(1.0);
        }
        // One answer is given, so it is aligned with the span that fits best.
        let scores = gold.iter().flat_map(|gold| given.iter().map(move |given| bag_f1(given, gold)));
        let most = scores.fold(0.0, f64::max) / gold.len().max(given.len()) as f64;
        let rounded = (most * 100.0).round_ties_even() / 100.0;
        if rounded > best.as_f64().unwrap_or_default() {
            best = json!(rounded);
        }
    }
    Ok(vec![("em".to_owned(), exact), ("f1".to_owned(), best)])
}

/// An answer in the words that count.
fn drop_words(answer: &str) -> Result<String, Message> {
    let mut tokens = Vec::new();
    for token in answer.split([' ', '-']) {
        let token = token.to_lowercase();
        let bare = if float(&token).is_some() { token } else { without_punctuation(&token) };
        let number = float(&bare).map_or(bare, python::float_repr);
        let token = joined(&without_articles(&number)?);
        if !token.is_empty() {
            tokens.push(token);
        }
    }
    Ok(python::strip(&tokens.join(" ")).to_owned())
}

/// F1 of two sets of words; 0 where the right one has numbers and none of them is given.
fn bag_f1(given: &str, gold: &str) -> f64 {
    let (given, gold): (BTreeSet<&str>, BTreeSet<&str>) = (words(given).collect(), words(gold).collect());
    let numbers: Vec<&&str> = gold.iter().filter(|word| float(word).is_some()).collect();
    if !numbers.is_empty() && !numbers.iter().any(|number| given.contains(**number)) {
        return 0.0;
    }
    let both = gold.intersection(&given).count() as f64;
    let share = |of: &BTreeSet<&str>| if of.is_empty() { 1.0 } else { both / of.len() as f64 };
    let (precision, recall) = (share(&given), share(&gold));
    if precision == 0.0 && recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) }
}

fn turns<'a>(doc: &'a DataRow, name: &str) -> Result<&'a Vec<Value>, Message> {
    let turns = doc.get(name).and_then(|turns| turns.get("input_text")).and_then(Value::as_array);
    turns.ok_or_else(|| Message::from(format!("the field {name:?} must have a list \"input_text\"")))
}

/// The story, the questions and answers so far, the last question.
pub(super) fn coqa_text(doc: &DataRow) -> Result<Value, Message> {
    let (questions, answers) = (turns(doc, "questions")?, turns(doc, "answers")?);
    let answers = &answers[..answers.len().saturating_sub(1)];
    let mut made = format!("{}\n\n", text(doc, "story")?);
    for at in 0..questions.len().max(answers.len()) {
        made += &format!("Q: {}\n\n", questions.get(at).map_or_else(|| "None".to_owned(), python::str));
        made += &answers
            .get(at)
            .filter(|answer| !answer.is_null())
            .map_or_else(|| "A:".to_owned(), |answer| format!("A: {}\n\n", python::str(answer)));
    }
    Ok(made.into())
}

/// The answer to the last question, and other people's that are different.
pub(super) fn coqa_target(doc: &DataRow) -> Result<Value, Message> {
    let turn = turns(doc, "questions")?.len().checked_sub(1).ok_or_else(|| Message::from("there is no question"))?;
    let at = |list: &Vec<Value>| list.get(turn).map(python::str).ok_or_else(|| Message::from("an answer is missing"));
    let mut answers = vec![at(turns(doc, "answers")?)?];
    let more = doc.get("additional_answers").and_then(Value::as_object);
    for other in more.into_iter().flatten().filter_map(|(_, other)| other.get("input_text")?.as_array()) {
        let answer = at(other)?;
        if !answers.iter().any(|known| known.to_lowercase() == answer.to_lowercase()) {
            answers.push(answer);
        }
    }
    Ok(answers.into())
}

/// Exact match and F1 against all right answers but one, each left out in turn.
pub(super) fn coqa_results(doc: &DataRow, answers: &[Value]) -> Result<Figures, Message> {
    let Value::Array(golds) = coqa_target(doc)? else { return Err("there is no right answer".into()) };
    let golds: Vec<String> = golds.iter().map(python::str).collect();
    let given = answers.first().and_then(Value::as_str).ok_or_else(|| Message::from("the answer must be a text"))?;
    let given = python::strip(given).split('\n').next().unwrap_or_default();
    let (mut exact, mut f1) = (0.0, 0.0);
    for left_out in 0..golds.len() {
        let others = || golds.iter().enumerate().filter(|(at, _)| golds.len() == 1 || *at != left_out).map(|(_, gold)| gold);
        let (mut own_exact, mut own_f1) = (0.0_f64, 0.0_f64);
        for gold in others() {
            let (gold, given) = (squad_words(gold)?, squad_words(given)?);
            own_exact = own_exact.max(f64::from(u8::from(gold == given)));
            own_f1 = own_f1.max(squad_f1(&gold, &given));
        }
        exact += own_exact;
        f1 += own_f1;
    }
    let count = golds.len().max(1) as f64;
    Ok(vec![("em".to_owned(), json!(exact / count)), ("f1".to_owned(), json!(f1 / count))])
}

/// An answer in the words that SQuAD compares.
fn squad_words(answer: &str) -> Result<String, Message> {
    Ok(joined(&without_articles(&without_punctuation(&answer.to_lowercase()))?))
}

/// F1 of the words of two answers, each as often as it stands there.
fn squad_f1(gold: &str, given: &str) -> f64 {
    let (gold, given): (Vec<&str>, Vec<&str>) = (words(gold).collect(), words(given).collect());
    if gold.is_empty() || given.is_empty() {
        return f64::from(u8::from(gold == given));
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    gold.iter().for_each(|word| *counts.entry(word).or_default() += 1);
    let mut same = 0.0;
    for word in &given {
        if let Some(count) = counts.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            same += 1.0;
        }
    }
    if same == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (same / given.len() as f64, same / gold.len() as f64);
    2.0 * precision * recall / (precision + recall)
}
