//! Scores: what lm-evaluation-harness makes of the answers to a task's requests, document by document, and of all documents;
//! and of groups of tasks. Absent: models, files of results ([`crate::results`]).
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/api/task.py` (`process_results`), `lm_eval/evaluator.py`,
//! `lm_eval/evaluator_utils.py`, `lm_eval/api/group.py`.

use bitworth_quant::message::Message;
use std::sync::Arc;

use bitworth_quant::Result;
use bitworth_text::python;
use serde_json::{Value, json};

use crate::ask::{Asked, Built};
use crate::fields::Doc;
use crate::files::config::OutputType;
use crate::metrics::{self, ErrorKind, bootstrap};
use crate::rows::DataRow;
use crate::task::Aggregate;
use crate::twins::Figures;

/// The draws of a bootstrapped standard error, as lm-evaluation-harness draws without being told.
pub const BOOTSTRAP_DRAWS: usize = 100_000;
/// The draws for metrics of translations.
const FEW_DRAWS: usize = 100;
/// Those metrics.
const TRANSLATION: [&str; 4] = ["bleu", "chrf", "chrf++", "ter"];

/// What became of one document under one filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Its place in what was asked.
    pub at: usize,
    /// The name of the filter.
    pub filter: String,
    /// The answers to its requests after the filter.
    pub filtered: Vec<Value>,
    /// Its figures.
    pub figures: Figures,
}

/// One figure of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// The metric.
    pub metric: String,
    /// The filter.
    pub filter: String,
    /// The figure.
    pub value: f64,
    /// Its standard error, where there is one.
    pub error: Option<f64>,
    /// How many documents it is of.
    pub count: usize,
}

/// A task's figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// In lm-evaluation-harness's order: filter by filter, metric by metric.
    pub scores: Vec<Score>,
    /// Document by document, filter by filter.
    pub samples: Vec<Sample>,
}

/// Judges the answers to all requests of a task. `answers` has a list for every document: for every request `[logprob,
/// is_greedy]`, a log-probability (whole texts), a text, or a list of as many of those as the task repeats its requests.
///
/// # Errors
/// Answers that do not fit, or that a filter, metric or aggregation cannot take: named with task and document.
pub fn judge(built: &Built, answers: &[Vec<Value>], draws: usize) -> Result<Judged> {
    let task = &built.definition;
    let mut resps = Vec::new();
    let mut docs: Vec<Arc<DataRow>> = Vec::new();
    for (asked, own) in built.asked.iter().zip(answers) {
        let fail = |what: Message| task.fail(format!("document {}: {what}", asked.doc_id));
        if own.len() != asked.requests.len() {
            return Err(fail(miscounted(own.len(), asked.requests.len(), task.config.repeats)));
        }
        for answer in own {
            resps.push(listed(answer, task.config.output_type, task.config.repeats).map_err(fail)?);
            docs.push(Arc::clone(&asked.doc));
        }
    }
    if answers.len() != built.asked.len() {
        return Err(task.fail(format!("answers to {} documents came to {}", answers.len(), built.asked.len())));
    }
    let mut judged = Judged { scores: Vec::new(), samples: Vec::new() };
    for pipeline in &task.filters {
        let filtered = pipeline.apply(resps.clone(), &docs).map_err(|what| task.fail(what))?;
        let mut rest = filtered.into_iter();
        let begin = judged.samples.len();
        for (at, asked) in built.asked.iter().enumerate() {
            let own: Vec<Value> = rest.by_ref().take(asked.requests.len()).collect();
            let figures = figures(built, asked, &own);
            let figures = figures.map_err(|what| task.fail(format!("document {}: {what}", asked.doc_id)))?;
            judged.samples.push(Sample { at, filter: pipeline.name.clone(), filtered: own, figures });
        }
        judged.scores.extend(scores(built, &judged.samples[begin..], draws)?);
    }
    Ok(judged)
}

/// What is said where a document has not as many answers as requests.
fn miscounted(answers: usize, requests: usize, repeats: usize) -> Message {
    let counted = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let found = format!("it has {} and {}", counted(requests, "request"), counted(answers, "answer"));
    match repeats {
        0 | 1 => format!("{found}; give one for each request").into(),
        _ => format!("{found}; the task repeats every request {repeats} times: {}", repeated_form(repeats)).into(),
    }
}

/// How the answers to a request that is repeated are given.
fn repeated_form(repeats: usize) -> String {
    format!("give a list of {repeats} for each request, so that answers is a list of lists, as [[\"A\", \"B\", ...]]")
}

/// An answer as a list of one, or as the list that it is. Texts are as many as the task repeats its requests; a log-probability
/// is the same each time.
fn listed(answer: &Value, kind: OutputType, repeats: usize) -> Result<Value, Message> {
    let wrong = |expected: &str| Err(format!("the answer {} must be {expected}", python::repr(answer)).into());
    let is_pair = |answer: &Value| matches!(answer.as_array().map(Vec::as_slice), Some([Value::Number(_), Value::Bool(_)]));
    match kind {
        OutputType::GenerateUntil => {
            let texts = match answer {
                Value::String(_) => json!([answer]),
                Value::Array(items) if items.iter().all(Value::is_string) => answer.clone(),
                _ => return wrong("a text or a list of texts"),
            };
            match texts.as_array().map_or(0, Vec::len) {
                count if count == repeats.max(1) => Ok(texts),
                count if repeats > 1 => {
                    Err(format!("a request has {count} of {repeats} answers; {}", repeated_form(repeats)).into())
                }
                count => Err(format!("a request has {count} answers, and the task asks it once (repeats)").into()),
            }
        }
        OutputType::LoglikelihoodRolling => match answer {
            Value::Number(_) => Ok(json!([answer])),
            Value::Array(items) if is_pair(answer) => Ok(json!([items[0]])),
            Value::Array(items) if items.iter().all(Value::is_number) => Ok(answer.clone()),
            _ => wrong("a log-probability"),
        },
        OutputType::Loglikelihood | OutputType::MultipleChoice => match answer {
            one if is_pair(one) => Ok(json!([one])),
            Value::Array(items) if !items.is_empty() && items.iter().all(is_pair) => Ok(answer.clone()),
            _ => wrong("[logprob, is_greedy]"),
        },
    }
}

/// Aggregates one filter's figures.
fn scores(built: &Built, samples: &[Sample], draws: usize) -> Result<Vec<Score>> {
    let task = &built.definition;
    let mut by_metric: Vec<(String, Vec<Value>)> = Vec::new();
    for (name, value) in samples.iter().flat_map(|sample| &sample.figures) {
        match by_metric.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value.clone()),
            None => by_metric.push((name.clone(), vec![value.clone()])),
        }
    }
    let filter = samples.first().map(|sample| sample.filter.clone()).unwrap_or_default();
    let mean = metrics::find_aggregation("mean").map(Aggregate::Known);
    let one = |(metric, values): (String, Vec<Value>)| {
        let fail = |what: Message| task.fail(format!("the metric {metric}: {what}"));
        let own = task.metrics.iter().find(|own| own.name == metric).map(|own| own.aggregation);
        let aggregate = own.or(mean).ok_or_else(|| fail("it has no aggregation".into()))?;
        let values = aggregate.counts(values).map_err(fail)?;
        let value = aggregate.of(&values).map_err(fail)?;
        let draws = if TRANSLATION.contains(&metric.as_str()) { draws.min(FEW_DRAWS) } else { draws };
        let error = match aggregate.error() {
            _ if values.len() < 2 || draws == 0 => None,
            ErrorKind::None => None,
            ErrorKind::OfMean => Some(metrics::mean_error(&values).map_err(fail)?),
            ErrorKind::Bootstrap(most) => {
                Some(bootstrap::error(|drawn| aggregate.of(drawn), &values, draws.min(most)).map_err(fail)?)
            }
        };
        Ok(Score { count: values.len(), metric, filter: filter.clone(), value, error })
    };
    by_metric.into_iter().map(one).collect()
}

/// The figures of one document.
fn figures(built: &Built, asked: &Asked, answers: &[Value]) -> Result<Figures, Message> {
    let task = &built.definition;
    if let Some(judge) = task.process_results {
        return judge(&asked.doc, answers);
    }
    match task.config.output_type {
        OutputType::Loglikelihood => loglikelihood(built, answers),
        OutputType::LoglikelihoodRolling => rolling(built, asked, answers),
        OutputType::MultipleChoice => multiple_choice(built, asked, answers),
        OutputType::GenerateUntil => generated(built, asked, answers),
    }
}

fn has(built: &Built, metric: &str) -> bool {
    built.definition.metrics.iter().any(|own| own.name == metric)
}

/// Keeps the figures of metrics that the task has.
fn kept(built: &Built, figures: Vec<(&str, Value)>) -> Figures {
    figures.into_iter().filter(|(name, _)| has(built, name)).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn scored(answer: &Value) -> Result<(f64, bool), Message> {
    let logprob = answer.get(0).and_then(Value::as_f64).ok_or_else(|| Message::from("an answer has no log-probability"))?;
    Ok((logprob, answer.get(1).and_then(Value::as_bool).unwrap_or(false)))
}

fn loglikelihood(built: &Built, answers: &[Value]) -> Result<Figures, Message> {
    let (logprob, is_greedy) = scored(answers.first().ok_or_else(|| Message::from("there is no answer"))?)?;
    Ok(kept(built, vec![("perplexity", json!(logprob)), ("acc", json!(u8::from(is_greedy)))]))
}

fn rolling(built: &Built, asked: &Asked, answers: &[Value]) -> Result<Figures, Message> {
    let logprob =
        answers.first().filter(|answer| answer.is_number()).ok_or_else(|| Message::from("there is no log-probability"))?;
    let text = asked.target.as_str().ok_or_else(|| Message::from("the text is none"))?;
    let (words, bytes) = (json!([logprob, metrics::count_words(text)]), json!([logprob, text.len()]));
    Ok(kept(built, vec![("word_perplexity", words), ("byte_perplexity", bytes.clone()), ("bits_per_byte", bytes)]))
}

fn multiple_choice(built: &Built, asked: &Asked, answers: &[Value]) -> Result<Figures, Message> {
    let choices = asked.choices.as_deref().unwrap_or_default();
    let answers: Vec<(f64, bool)> = answers.iter().map(scored).collect::<Result<_, _>>()?;
    let all: Vec<f64> = answers.iter().map(|(logprob, _)| *logprob).collect();
    let mutual = has(built, "acc_mutual_info") && all.len() == 2 * choices.len();
    let (own, alone) = if mutual { all.split_at(choices.len()) } else { (all.as_slice(), &[][..]) };
    if own.len() != choices.len() {
        return Err(format!("{} answers came to {} choices", own.len(), choices.len()).into());
    }
    let by = |length: fn(&str) -> usize| {
        let shares: Vec<f64> = own.iter().zip(choices).map(|(logprob, choice)| logprob / length(choice) as f64).collect();
        metrics::argmax(&shares)
    };
    let chosen = metrics::argmax(own);
    let is_gold = |place: usize| match &asked.gold {
        Value::Array(several) => several.iter().any(|gold| python::equal(gold, &json!(place))),
        gold => python::equal(gold, &json!(place)),
    };
    let right = |place: usize| json!(f64::from(u8::from(is_gold(place))));
    // Python counts negative places from the end.
    let greedy = |gold: &Value| {
        let place = gold.as_i64().filter(|place| *place != -100);
        let place = place.map(|place| if place < 0 { place + answers.len() as i64 } else { place });
        place.and_then(|place| answers.get(usize::try_from(place).ok()?)).is_some_and(|(_, is_greedy)| *is_greedy)
    };
    let exact = match &asked.gold {
        Value::Array(several) => several.iter().any(greedy),
        gold => greedy(gold),
    };
    let mut figures = vec![
        ("acc", right(chosen)),
        ("f1", json!([asked.gold, chosen])),
        ("mcc", json!([asked.gold, chosen])),
        ("acc_norm", right(by(|choice| choice.chars().count()))),
        ("acc_bytes", right(by(str::len))),
        ("exact_match", json!(u8::from(exact))),
        ("brier_score", json!([asked.gold, metrics::softmax(own)])),
        ("likelihood", json!([asked.gold, own])),
    ];
    if mutual {
        let differences: Vec<f64> = own.iter().zip(alone).map(|(with, without)| with - without).collect();
        figures.push(("acc_mutual_info", right(metrics::argmax(&differences))));
    }
    Ok(kept(built, figures))
}

fn generated(built: &Built, asked: &Asked, answers: &[Value]) -> Result<Figures, Message> {
    let task = &built.definition;
    let answer = answers.first().ok_or_else(|| Message::from("there is no answer"))?;
    // The right answers, of which one suffices where there are several.
    let references: Vec<String> = match (&asked.choices, &asked.target) {
        (Some(choices), target) => {
            let place = target.as_i64().and_then(|place| usize::try_from(place).ok()).filter(|place| *place < choices.len());
            vec![
                choices[place.ok_or_else(|| Message::from(format!("{} is no place among the choices", python::repr(target))))?]
                    .clone(),
            ]
        }
        (None, Value::Array(several)) if built.multiple_target => several.iter().map(python::str).collect(),
        (None, target) => vec![python::str(target)],
    };
    let mut figures = Figures::new();
    for metric in &task.metrics {
        let value = match metric.name.as_str() {
            _ if metric.same_class => metrics::same_class(&references, answer)?,
            "exact_match" => {
                let text = answer
                    .as_str()
                    .ok_or_else(|| Message::from("exact_match needs one text; does the filter end with take_first?"))?;
                let mut same = false;
                for reference in &references {
                    same |= metric.exact_match.is_match(reference, text)?;
                }
                json!(f64::from(u8::from(same)))
            }
            "bypass" => Value::Null,
            _ => {
                let reference = references.first().ok_or_else(|| Message::from("there is no right answer"))?;
                match built.multiple_target {
                    // lm-evaluation-harness gives every pair that is there the figure 1.
                    true => json!(1.0),
                    false => json!([reference, answer]),
                }
            }
        };
        figures.push((metric.name.clone(), value));
    }
    Ok(figures)
}

/// What `doc_to_target` gives for a document: what samples name and hash.
///
/// # Errors
/// What cannot be made of the document.
pub fn target(built: &Built, asked: &Asked) -> Result<Value, Message> {
    built.definition.target(&Doc::new(&asked.doc), &built.columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_requests_have_lists_of_answers() {
        let of = |answer: Value, repeats: usize| listed(&answer, OutputType::GenerateUntil, repeats).map_err(|e| e.to_string());
        assert_eq!(of(json!("A"), 1), Ok(json!(["A"])));
        assert_eq!(of(json!(["A", "A", "B"]), 3), Ok(json!(["A", "A", "B"])));
        let form = "so that answers is a list of lists";
        for few in [json!("A"), json!(["A", "B"]), json!([])] {
            assert!(of(few, 3).unwrap_err().contains(form));
        }
        assert!(of(json!(["A", "B"]), 1).unwrap_err().contains("2 answers, and the task asks it once"));
        let said = miscounted(3, 1, 3).to_string();
        assert!(
            said.starts_with("it has 1 request and 3 answers; the task repeats every request 3 times") && said.contains(form)
        );
        assert_eq!(miscounted(1, 2, 1).to_string(), "it has 2 requests and 1 answer; give one for each request");
    }
}
