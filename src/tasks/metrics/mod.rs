//! Metrics and aggregation: what a document's answers give, and what all documents' figures give.
//!
//! To add one: a row in [`METRICS`] or [`AGGREGATIONS`].
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/api/metrics.py`; scikit-learn's definitions of F1 and of Matthews' coefficient.

pub mod bootstrap;
pub(crate) mod classes;
mod exact_match;
mod ter;
mod translation;

pub use exact_match::ExactMatch;

use bitworth_quant::message::Message;
use bitworth_text::python;
use serde_json::{Map, Value};

use crate::files::config::OutputType;

/// A metric by name: how it is aggregated unless a task file says otherwise, and whether more is better.
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// The name of its aggregation.
    pub aggregation: &'static str,
    /// Whether more is better.
    pub higher_is_better: bool,
}

const fn metric(name: &'static str, aggregation: &'static str, higher_is_better: bool) -> Metric {
    Metric { name, aggregation, higher_is_better }
}

/// Every metric.
pub const METRICS: &[Metric] = &[
    metric("acc", "mean", true),
    metric("acc_norm", "mean", true),
    metric("acc_bytes", "mean", true),
    metric("acc_mutual_info", "mean", true),
    metric("exact_match", "mean", true),
    metric("f1", "f1", true),
    metric("mcc", "matthews_corrcoef", true),
    metric("brier_score", "brier_score", false),
    metric("likelihood", "mean", true),
    metric("perplexity", "perplexity", false),
    metric("word_perplexity", "weighted_perplexity", false),
    metric("byte_perplexity", "weighted_perplexity", false),
    metric("bits_per_byte", "bits_per_byte", false),
    metric("bleu", "bleu", true),
    metric("chrf", "chrf", true),
    metric("chrf++", "chrf++", true),
    metric("ter", "ter", false),
    metric("bypass", "bypass", true),
];

/// The metrics of a kind of request where a task file names none.
pub fn default_metrics(kind: OutputType) -> &'static [&'static str] {
    match kind {
        OutputType::Loglikelihood => &["perplexity", "acc"],
        OutputType::MultipleChoice => &["acc", "acc_norm"],
        OutputType::LoglikelihoodRolling => &["word_perplexity", "byte_perplexity", "bits_per_byte"],
        OutputType::GenerateUntil => &["exact_match"],
    }
}

/// The metric of this name.
pub fn find(name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.name == name)
}

/// Whether a metric of Hugging Face's `evaluate` with these options gives a single document 1 where the answer is the right
/// class, and else 0: `accuracy`, and `f1` whose average is `micro`. Others need all documents, or more than integers.
///
/// Source: scikit-learn's `accuracy_score` and `f1_score`, which those metrics of `evaluate` call.
pub fn is_same_class(name: &str, options: &Map<String, Value>) -> bool {
    match name {
        "accuracy" => options.is_empty(),
        "f1" => options.len() == 1 && options.get("average").is_some_and(|average| average == "micro"),
        _ => false,
    }
}

/// 1 where an answer is one of the right classes, else 0; classes are integers.
pub(crate) fn same_class(references: &[String], answer: &Value) -> Result<Value, Message> {
    let class = |text: &str| {
        let class = python::strip(text).parse::<i64>();
        class.map_err(|_| Message::from(format!("{} is not the number of a class", python::string_repr(text))))
    };
    let answer = class(&python::str(answer))?;
    let classes = references.iter().map(|reference| class(reference)).collect::<Result<Vec<_>, _>>()?;
    Ok(f64::from(u8::from(classes.contains(&answer))).into())
}

/// How an aggregate's standard error is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// From the deviation of the figures.
    OfMean,
    /// By drawing documents again; the most draws.
    Bootstrap(usize),
    /// Not at all.
    None,
}

/// Makes of a figure what an aggregation takes.
pub type Count = fn(&Value) -> Result<Value, Message>;

/// An aggregation: one figure of many.
pub struct Aggregation {
    /// The name in task files.
    pub name: &'static str,
    /// What is made of every figure once, before [`Aggregation::of`] has them; for what is costly, as documents are drawn again.
    pub count: Option<Count>,
    /// What it does.
    pub of: fn(&[Value]) -> Result<f64, Message>,
    /// Its standard error.
    pub error: ErrorKind,
}

const fn aggregation(name: &'static str, of: fn(&[Value]) -> Result<f64, Message>, error: ErrorKind) -> Aggregation {
    Aggregation { name, count: None, of, error }
}

/// Every aggregation.
pub const AGGREGATIONS: &[Aggregation] = &[
    aggregation("mean", mean, ErrorKind::OfMean),
    aggregation("median", median, ErrorKind::Bootstrap(usize::MAX)),
    aggregation("nanmean", nanmean, ErrorKind::Bootstrap(usize::MAX)),
    aggregation("perplexity", perplexity, ErrorKind::Bootstrap(usize::MAX)),
    aggregation("weighted_perplexity", weighted_perplexity, ErrorKind::None),
    aggregation("bits_per_byte", bits_per_byte, ErrorKind::None),
    aggregation("f1", classes::f1, ErrorKind::Bootstrap(usize::MAX)),
    aggregation("matthews_corrcoef", classes::matthews, ErrorKind::Bootstrap(usize::MAX)),
    aggregation("brier_score", classes::brier, ErrorKind::None),
    aggregation("bleu", translation::bleu, ErrorKind::Bootstrap(usize::MAX)),
    aggregation("chrf", translation::chrf, ErrorKind::Bootstrap(usize::MAX)),
    aggregation("chrf++", translation::chrf_plus, ErrorKind::Bootstrap(usize::MAX)),
    Aggregation { name: "ter", count: Some(ter::count), of: ter::ter, error: ErrorKind::Bootstrap(usize::MAX) },
    aggregation("bypass", |_| Ok(999.0), ErrorKind::None),
];

/// The aggregation of this name.
pub fn find_aggregation(name: &str) -> Option<&'static Aggregation> {
    AGGREGATIONS.iter().find(|known| known.name == name)
}

/// A figure as a number; Python's booleans are 0 and 1.
pub fn number(value: &Value) -> Result<f64, Message> {
    match value {
        Value::Bool(value) => Ok(f64::from(u8::from(*value))),
        Value::Number(number) => number.as_f64().ok_or_else(|| Message::from(format!("{number} is not a number"))),
        other => Err(format!("{} is not a number", python::repr(other)).into()),
    }
}

fn numbers(values: &[Value]) -> Result<Vec<f64>, Message> {
    values.iter().map(number).collect()
}

fn mean(values: &[Value]) -> Result<f64, Message> {
    Ok(numbers(values)?.iter().sum::<f64>() / values.len() as f64)
}

/// The upper one of the two in the middle, as in the source.
fn median(values: &[Value]) -> Result<f64, Message> {
    let mut numbers = numbers(values)?;
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().ok_or_else(|| Message::from("there is no figure"))
}

/// The mean of what is there: figures that are no numbers are null.
fn nanmean(values: &[Value]) -> Result<f64, Message> {
    mean(&values.iter().filter(|value| !value.is_null()).cloned().collect::<Vec<_>>())
}

/// exp(-mean log-likelihood).
fn perplexity(values: &[Value]) -> Result<f64, Message> {
    Ok((-mean(values)?).exp())
}

/// The sum of all first numbers by the sum of all second ones.
fn weighted_mean(values: &[Value]) -> Result<f64, Message> {
    let (mut sum, mut weight) = (0.0, 0.0);
    for value in values {
        sum += number(value.get(0).unwrap_or(&Value::Null))?;
        weight += number(value.get(1).unwrap_or(&Value::Null))?;
    }
    Ok(sum / weight)
}

fn weighted_perplexity(values: &[Value]) -> Result<f64, Message> {
    Ok((-weighted_mean(values)?).exp())
}

fn bits_per_byte(values: &[Value]) -> Result<f64, Message> {
    Ok(-weighted_mean(values)? / std::f64::consts::LN_2)
}

/// The parts that white space cuts a text into, empty ones at the ends too: `len(re.split(r"\s+", text))`.
pub fn count_words(text: &str) -> usize {
    let mut count = 1;
    let mut inside = false;
    for c in text.chars() {
        let space = python::is_space(c);
        count += usize::from(space && !inside);
        inside = space;
    }
    count
}

/// The place of the largest number, the first of equals; what is no number is the largest, as numpy has it.
pub fn argmax(numbers: &[f64]) -> usize {
    (0..numbers.len())
        .reduce(|best, i| match numbers[best].is_nan() {
            true => best,
            false if numbers[i].is_nan() || numbers[i] > numbers[best] => i,
            false => best,
        })
        .unwrap_or_default()
}

/// `exp(x - max)` by their sum.
pub fn softmax(numbers: &[f64]) -> Vec<f64> {
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = numbers.iter().map(|x| (x - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// The standard deviation with one degree of freedom less than there are numbers.
pub fn sample_deviation(numbers: &[f64]) -> f64 {
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (numbers.len() as f64 - 1.0)).sqrt()
}

/// The standard error of a mean.
pub fn mean_error(values: &[Value]) -> Result<f64, Message> {
    let numbers = numbers(values)?;
    Ok(sample_deviation(&numbers) / (numbers.len() as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(name: &str, values: Value, expected: f64) {
        let found = (find_aggregation(name).unwrap().of)(values.as_array().unwrap()).unwrap();
        assert!((found - expected).abs() <= 1e-12 * expected.abs(), "{name}: {found}, expected {expected}");
    }

    /// Expected: lm-evaluation-harness 0.4.13 on the same figures.
    #[test]
    fn aggregates_are_lm_evals() {
        check("mean", json!([1.0, 0, true, 0.5]), 0.625);
        check("median", json!([3, 1, 2, 4]), 3.0);
        check("perplexity", json!([-1.0, -3.0]), 7.38905609893065);
        check("weighted_perplexity", json!([[-10.0, 4], [-2.0, 2]]), 7.38905609893065);
        check("bits_per_byte", json!([[-10.0, 4], [-2.0, 2]]), 2.8853900817779268);
    }

    /// Expected: scikit-learn 1.8, `accuracy_score([a], [b])` and `f1_score([a], [b], average="micro")`.
    #[test]
    fn single_classes_are_right_or_wrong() {
        for (reference, answer, expected) in [("2", json!(2), 1.0), ("2", json!(-1), 0.0), ("0", json!("0"), 1.0)] {
            assert_eq!(same_class(&[reference.to_owned()], &answer), Ok(json!(expected)));
        }
        assert!(same_class(&["2".to_owned()], &json!("[invalid]")).unwrap_err().to_string().contains("'[invalid]'"));
        let options = |options: Value| options.as_object().unwrap().clone();
        assert!(is_same_class("accuracy", &options(json!({}))) && is_same_class("f1", &options(json!({"average": "micro"}))));
        assert!(!is_same_class("f1", &options(json!({}))) && !is_same_class("rouge", &options(json!({}))));
    }

    #[test]
    fn every_metric_has_an_aggregation_that_is_known() {
        for metric in METRICS {
            assert!(find_aggregation(metric.aggregation).is_some(), "{}", metric.name);
        }
    }

    #[test]
    fn words_are_counted_as_python_splits_them() {
        for (text, expected) in [("", 1), ("a", 1), (" a b\n", 4), ("a\u{1c}\u{85}b", 2)] {
            assert_eq!(count_words(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_first_largest_wins_and_what_is_no_number_most() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[1.0, f64::NAN, 5.0, f64::NAN]), 1);
        assert_eq!(argmax(&[f64::NEG_INFINITY; 2]), 0);
    }
}
