//! The kinds of tasks: how one row of a data file becomes requests, and how their answers become right or wrong. One file a
//! kind, one row a kind in [`KINDS`]. Which data, which fields and how many items are the task's matter (see `task`).

mod generate_until;
mod minimal_pair;
mod multiple_choice;

use std::fmt::Debug;

use bitworth_quant::message::Message;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::request::{Answer, Request};

/// One row of a task's data file.
pub type DataRow = Map<String, Value>;

/// A kind of task, made from the kind's own keys in the task file.
pub trait TaskKind: Debug + Send + Sync {
    /// What the row asks and what the right answer is.
    ///
    /// # Errors
    /// Says which field is missing or of the wrong type; the caller adds file and line.
    fn item(&self, row: &DataRow) -> Result<Item, Message>;

    /// Judges the answers to the requests of one item, in their order.
    ///
    /// # Errors
    /// Answers of another kind or number than the requests; log-probabilities that are not numbers.
    fn judge(&self, item: &Item, answers: &[Answer]) -> Result<Verdict, Message>;
}

/// One item of a task, ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What to ask, one request or one per choice.
    pub requests: Vec<Request>,
    /// The right answer.
    pub gold: Gold,
    /// What it has in common with other items that are not independent of it; the task says which field that is.
    pub cluster: Option<String>,
}

/// The right answer of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gold {
    /// The request whose text must be the most probable.
    Choice(usize),
    /// The text to be generated.
    Text(String),
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whether the model was right.
    pub correct: bool,
    /// Sum of log-probabilities per choice; empty where text was generated.
    pub logprobs: Vec<f64>,
    /// The generated answer as compared; `None` where choices were scored.
    pub text: Option<String>,
}

/// A row of the table of kinds.
pub struct KindEntry {
    /// The name in a task file's `kind`.
    pub name: &'static str,
    /// Makes the kind from the keys of the task file that are not common to all tasks.
    pub parse: fn(toml::Table) -> Result<Box<dyn TaskKind>, Message>,
}

/// Every kind of task.
pub const KINDS: &[KindEntry] = &[
    KindEntry { name: "multiple_choice", parse: parse::<multiple_choice::MultipleChoice> },
    KindEntry { name: "minimal_pair", parse: parse::<minimal_pair::MinimalPair> },
    KindEntry { name: "generate_until", parse: parse::<generate_until::GenerateUntil> },
];

fn parse<K: TaskKind + DeserializeOwned + 'static>(keys: toml::Table) -> Result<Box<dyn TaskKind>, Message> {
    let kind: K = keys.try_into().map_err(|e: toml::de::Error| e.to_string().trim_end().to_owned())?;
    Ok(Box::new(kind))
}

/// The string in field `name` of a row.
pub(crate) fn text(row: &DataRow, name: &str) -> Result<String, Message> {
    let value = field(row, name)?;
    value.as_str().map(str::to_owned).ok_or_else(|| format!("field {name:?} must be a string").into())
}

fn field<'a>(row: &'a DataRow, name: &str) -> Result<&'a Value, Message> {
    row.get(name).ok_or_else(|| format!("field {name:?} is missing").into())
}

/// The log-probability of every answer; `expected` is the number of requests.
fn logprobs(answers: &[Answer], expected: usize) -> Result<Vec<f64>, Message> {
    if answers.len() != expected {
        return Err(format!("{} answers came to {expected} requests", answers.len()).into());
    }
    answers.iter().map(logprob).collect()
}

fn logprob(answer: &Answer) -> Result<f64, Message> {
    match answer {
        Answer::Loglikelihood(score) if score.logprob.is_nan() => Err("a log-probability is not a number".into()),
        Answer::Loglikelihood(score) => Ok(score.logprob),
        Answer::Text(_) => Err("a text came where a log-probability was asked for".into()),
    }
}

#[cfg(test)]
mod test_help {
    //! Shared by the tests of the kinds.
    use super::*;
    use crate::request::Loglikelihood;

    /// A kind of the table from its TOML keys.
    pub fn kind(name: &str, keys: &str) -> Box<dyn TaskKind> {
        let entry = KINDS.iter().find(|k| k.name == name).unwrap();
        (entry.parse)(toml::from_str(keys).unwrap()).unwrap()
    }

    /// A row from JSON.
    pub fn row(json: &str) -> DataRow {
        serde_json::from_str(json).unwrap()
    }

    /// Answers with these log-probabilities.
    pub fn scores(logprobs: &[f64]) -> Vec<Answer> {
        let score = |&logprob| Answer::Loglikelihood(Loglikelihood { logprob, tokens: 1, is_greedy: false, bytes: 1 });
        logprobs.iter().map(score).collect()
    }
}
