//! A task ready to be asked: its file's makers, its documents, its shots. Absent: prompts and requests ([`crate::ask`]), scores
//! ([`crate::judge`]).
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/api/task.py`.

use std::sync::Arc;

use bitworth_quant::message::Message;
use bitworth_quant::{Error, Result};
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::fields::{Doc, FieldError, Maker, Text};
use crate::files::config::{Fewshot, MetricConfig, OutputType, Samples, TaskConfig};
use crate::files::yaml::Function;
use crate::metrics::{self, Aggregation, ErrorKind, ExactMatch};
use crate::pipeline::{FilterError, Pipeline};
use crate::rows::{DataRow, DataSources, Docs};
use crate::twins::{self, NoTwin, Twin};

/// Why a task cannot be asked here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It names Python functions that have no twin: their names.
    NeedsTwin(Vec<String>),
    /// It is more Python than functions of documents, or functions whose module has changed.
    NeedsPython(String),
    /// It is about images or sounds.
    NotText(&'static str),
    /// Its file says what is not known here, or what does not compile.
    Broken(String),
}

impl Refusal {
    /// What kind it is, in a word or two.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NeedsTwin(_) => "needs a twin",
            Self::NeedsPython(_) => "needs Python",
            Self::NotText(_) => "not text",
            Self::Broken(_) => "broken",
        }
    }

    /// What [`Refusal::word`] leaves open.
    pub fn reason(&self) -> String {
        match self {
            Self::NeedsTwin(names) => names.join(", "),
            Self::NeedsPython(what) | Self::Broken(what) => what.clone(),
            Self::NotText(key) => format!("it has {key}"),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let reason = self.reason();
        match self {
            Self::NeedsTwin(_) => write!(f, "needs a twin of {reason}"),
            Self::NeedsPython(_) => write!(f, "needs Python: {reason}"),
            Self::NotText(_) => write!(f, "is not text: {reason}"),
            Self::Broken(_) => f.write_str(&reason),
        }
    }
}

/// A metric of a task.
pub struct TaskMetric {
    /// Its name, a part of every figure's.
    pub name: String,
    /// How figures become one.
    pub(crate) aggregation: Aggregate,
    /// Whether more is better.
    pub higher_is_better: Option<bool>,
    /// What `exact_match` ignores.
    pub(crate) exact_match: ExactMatch,
    /// Whether it asks that an answer and the right one are the same class, as [`metrics::is_same_class`] has it.
    pub(crate) same_class: bool,
}

impl TaskMetric {
    /// Whether less is better.
    pub(crate) fn is_loss(&self) -> bool {
        self.higher_is_better == Some(false)
    }

    /// Whether it is the mean of figures of single documents.
    pub(crate) fn is_mean(&self) -> bool {
        matches!(self.aggregation, Aggregate::Known(Aggregation { name: "mean", .. }))
    }
}

/// How figures become one.
#[derive(Clone, Copy)]
pub(crate) enum Aggregate {
    /// A known aggregation.
    Known(&'static Aggregation),
    /// A twin of a Python function.
    Twin(fn(&[Value]) -> Result<f64, Message>),
}

impl Aggregate {
    /// What [`Aggregate::of`] takes, of all figures.
    ///
    /// # Errors
    /// Figures that it cannot take.
    pub fn counts(&self, values: Vec<Value>) -> Result<Vec<Value>, Message> {
        match self {
            Self::Known(Aggregation { count: Some(count), .. }) => values.par_iter().map(count).collect(),
            _ => Ok(values),
        }
    }

    /// One figure of many counts.
    ///
    /// # Errors
    /// Figures that it cannot take.
    pub fn of(&self, values: &[Value]) -> Result<f64, Message> {
        match self {
            Self::Known(known) => (known.of)(values),
            Self::Twin(of) => of(values),
        }
    }

    /// How its standard error is had.
    pub fn error(&self) -> ErrorKind {
        match self {
            Self::Known(known) => known.error,
            Self::Twin(_) => ErrorKind::None,
        }
    }
}

type DocsTwin = Box<dyn Fn(&Docs) -> Result<Docs, Message> + Send + Sync>;
type ResultsTwin = fn(&DataRow, &[Value]) -> Result<twins::Figures, Message>;

/// A task whose file has been understood, without its data.
pub struct Definition {
    /// What the file says.
    pub config: TaskConfig,
    pub(crate) question: Option<Maker>,
    pub(crate) answer: Option<Maker>,
    pub(crate) choices: Option<Maker>,
    pub(crate) description: Text,
    pub(crate) gen_prefix: Option<Text>,
    pub(crate) shots: Shots,
    process_docs: Option<DocsTwin>,
    shot_docs: Option<DocsTwin>,
    pub(crate) process_results: Option<ResultsTwin>,
    /// Its metrics, in order.
    pub metrics: Vec<TaskMetric>,
    /// Its filters, in order.
    pub(crate) filters: Vec<Pipeline>,
}

/// How shots are written.
pub(crate) struct Shots {
    pub(crate) question: Option<Maker>,
    pub(crate) answer: Option<Maker>,
    pub(crate) choices: Option<Maker>,
    pub(crate) gen_prefix: Option<Text>,
}

/// Collects why a task cannot be asked, so that all of its functions are named at once.
#[derive(Default)]
struct Refusals {
    missing: Vec<String>,
    python: Option<String>,
    broken: Option<String>,
}

impl Refusals {
    fn no_twin(&mut self, e: NoTwin) {
        match e {
            NoTwin::Missing(name) if !self.missing.contains(&name) => self.missing.push(name),
            NoTwin::Missing(_) => {}
            other @ (NoTwin::Changed { .. } | NoTwin::Outside { .. } | NoTwin::Unread { .. }) => {
                self.python = Some(other.to_string())
            }
        }
    }

    fn broken(&mut self, what: impl Into<String>) {
        self.broken.get_or_insert_with(|| what.into());
    }

    fn maker(&mut self, key: &str, field: Option<&crate::files::config::Field>) -> Option<Maker> {
        match Maker::new(field?) {
            Ok(maker) => {
                if let Some(e) = maker.error() {
                    self.broken(format!("{key}: {e}"));
                }
                Some(maker)
            }
            Err(FieldError::NoTwin(e)) => {
                self.no_twin(e);
                None
            }
            Err(e) => {
                self.broken(format!("{key}: {e}"));
                None
            }
        }
    }

    fn text(&mut self, key: &str, source: &str) -> Text {
        let text = Text::new(source);
        if let Some(e) = text.error() {
            self.broken(format!("{key}: {e}"));
        }
        text
    }

    fn twin<T>(&mut self, function: Option<&Function>, kind: &str, take: impl Fn(Twin, String) -> Option<T>) -> Option<T> {
        let function = function?;
        match twins::find(function) {
            Ok((twin, star)) => {
                let taken = take(twin, star);
                if taken.is_none() {
                    self.broken(format!("the function {} does not do what {kind} is for", function.name));
                }
                taken
            }
            Err(e) => {
                self.no_twin(e);
                None
            }
        }
    }

    fn docs(&mut self, function: Option<&Function>) -> Option<DocsTwin> {
        let module = function.map(twins::module);
        let made = self.twin(function, "process_docs", |twin, star| match twin {
            Twin::Docs(make) => Some(Ok(Box::new(move |docs: &Docs| make(docs, &star)) as DocsTwin)),
            Twin::DocsOf(make) => Some(match &module {
                Some(Ok(module)) => {
                    let module = Arc::clone(module);
                    Ok(Box::new(move |docs: &Docs| make(&module, docs)) as DocsTwin)
                }
                Some(Err(e)) => Err(e.clone()),
                None => return None,
            }),
            _ => None,
        })?;
        made.map_err(|e| self.no_twin(e)).ok()
    }

    fn finish(self) -> Result<(), Refusal> {
        if let Some(what) = self.python {
            return Err(Refusal::NeedsPython(what));
        }
        if !self.missing.is_empty() {
            return Err(Refusal::NeedsTwin(self.missing));
        }
        self.broken.map_or(Ok(()), |what| Err(Refusal::Broken(what)))
    }
}

impl Definition {
    /// Understands a task file: compiles templates and patterns, finds twins, filters and metrics.
    ///
    /// # Errors
    /// What keeps the task from being asked here.
    pub fn new(config: TaskConfig) -> Result<Self, Refusal> {
        if let Some(key) = config.not_text {
            return Err(Refusal::NotText(key));
        }
        if config.unsafe_code {
            return Err(Refusal::NeedsPython("its answers are run as programs".to_owned()));
        }
        if let Some(function) = &config.custom_dataset {
            return Err(Refusal::NeedsPython(format!("custom_dataset is the function {}", function.name)));
        }
        if let Some(prompt) = &config.use_prompt {
            return Err(Refusal::NeedsPython(format!("use_prompt asks for promptsource's {prompt}")));
        }
        let mut refusals = Refusals::default();
        let question = refusals.maker("doc_to_text", config.doc_to_text.as_ref());
        let answer = refusals.maker("doc_to_target", config.doc_to_target.as_ref());
        let choices = refusals.maker("doc_to_choice", config.doc_to_choice.as_ref());
        let Fewshot { doc_to_text, doc_to_target, doc_to_choice, gen_prefix, samples, process_docs, .. } = &config.fewshot;
        let shots = Shots {
            question: refusals.maker("fewshot_config.doc_to_text", doc_to_text.as_ref()),
            answer: refusals.maker("fewshot_config.doc_to_target", doc_to_target.as_ref()),
            choices: refusals.maker("fewshot_config.doc_to_choice", doc_to_choice.as_ref()),
            gen_prefix: gen_prefix.as_ref().map(|text| refusals.text("fewshot_config.gen_prefix", text)),
        };
        if let Some(Samples::Function(function)) = samples {
            refusals.twin(Some(function), "fewshot_config.samples", |_, _| None::<()>);
        }
        let description = refusals.text("description", &config.description);
        let prefix = config.gen_prefix.as_ref().map(|text| refusals.text("gen_prefix", text));
        let own_docs = refusals.docs(config.process_docs.as_ref());
        let shot_docs = refusals.docs(process_docs.as_ref());
        let process_results = refusals.twin(config.process_results.as_ref(), "process_results", |twin, _| match twin {
            Twin::Results(judge) => Some(judge),
            _ => None,
        });
        let metrics = metrics_of(&config, &mut refusals);
        let filters = filters_of(&config, &mut refusals);
        if config.output_type == OutputType::MultipleChoice && config.doc_to_choice.is_none() {
            refusals.broken("a multiple_choice task needs doc_to_choice");
        }
        if config.doc_to_target.is_none() {
            refusals.broken("doc_to_target is missing");
        }
        if config.test_split.is_none() && config.validation_split.is_none() {
            refusals.broken("it has neither test_split nor validation_split");
        }
        refusals.finish()?;
        Ok(Self {
            question,
            answer,
            choices,
            description,
            gen_prefix: prefix,
            shots,
            process_docs: own_docs,
            shot_docs,
            process_results,
            metrics,
            filters,
            config,
        })
    }

    /// An error that names the task.
    pub fn fail(&self, what: impl Into<Message>) -> Error {
        Error::file(&self.config.path, Message::from(format!("task {}: ", self.config.task)).then(what))
    }

    /// The split that is asked.
    pub fn split(&self) -> &str {
        self.config.test_split.as_deref().or(self.config.validation_split.as_deref()).unwrap_or_default()
    }

    /// The documents that are asked.
    ///
    /// # Errors
    /// Data that is missing or broken; a document that a twin cannot take.
    pub fn docs(&self, sources: &DataSources) -> Result<Docs> {
        let docs = self.processed(sources, self.split(), self.process_docs.as_ref())?;
        match docs.rows.is_empty() {
            true => Err(self.fail(format!("the split {:?} has no documents", self.split()))),
            false => Ok(docs),
        }
    }

    fn processed(&self, sources: &DataSources, split: &str, twin: Option<&DocsTwin>) -> Result<Docs> {
        let rows = sources.rows(&self.config, split)?;
        match twin {
            Some(make) => make(&rows).map_err(|what| self.fail(format!("split {split}: {what}"))),
            None => Ok(rows),
        }
    }

    /// The documents that shots are taken from.
    ///
    /// # Errors
    /// As [`Definition::docs`].
    pub fn shot_pool(&self, sources: &DataSources) -> Result<Vec<Arc<DataRow>>> {
        if let Some(split) = &self.config.fewshot.split {
            return Ok(self.processed(sources, split, self.shot_docs.as_ref())?.rows);
        }
        if let Some(Samples::Listed(samples)) = &self.config.fewshot.samples {
            return Ok(samples.iter().cloned().map(Arc::new).collect());
        }
        let config = &self.config;
        let split = [&config.training_split, &config.validation_split, &config.test_split].into_iter().flatten().next();
        let split = split.ok_or_else(|| self.fail("there is no split to take shots from"))?;
        Ok(self.processed(sources, split, self.process_docs.as_ref())?.rows)
    }

    /// The answer to a document: `doc_to_target`.
    ///
    /// # Errors
    /// What cannot be made of the document.
    pub(crate) fn target(&self, doc: &Doc, columns: &[String]) -> Result<Value, Message> {
        match &self.answer {
            Some(maker) => maker.answer(doc, columns, self.choices.is_some()),
            None => Err("doc_to_target is missing".into()),
        }
    }
}

fn metrics_of(config: &TaskConfig, refusals: &mut Refusals) -> Vec<TaskMetric> {
    let Some(list) = &config.metric_list else {
        let known = metrics::default_metrics(config.output_type).iter().filter_map(|name| metrics::find(name));
        return known.filter_map(|metric| named(metric.name, metric.aggregation, metric.higher_is_better)).collect();
    };
    let metrics = list.iter().filter_map(|metric| metric_of(config, metric, refusals));
    last_by_name(metrics, |metric| metric.name.as_str())
}

/// Of those of one name the last, in the place of the first, as lm-evaluation-harness's dictionaries keep them.
fn last_by_name<T>(all: impl Iterator<Item = T>, name: impl Fn(&T) -> &str) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for one in all {
        match kept.iter().position(|known| name(known) == name(&one)) {
            Some(place) => kept[place] = one,
            None => kept.push(one),
        }
    }
    kept
}

fn named(name: &str, aggregation: &str, higher_is_better: bool) -> Option<TaskMetric> {
    let aggregation = Aggregate::Known(metrics::find_aggregation(aggregation)?);
    let exact_match = ExactMatch::default();
    let (name, higher_is_better) = (name.to_owned(), Some(higher_is_better));
    Some(TaskMetric { name, aggregation, higher_is_better, exact_match, same_class: false })
}

fn metric_of(config: &TaskConfig, metric: &MetricConfig, refusals: &mut Refusals) -> Option<TaskMetric> {
    let judged_by_function = config.process_results.is_some();
    let name = match &metric.metric {
        Ok(name) => name.clone(),
        Err(function) => {
            refusals.twin(Some(function), "a metric", |_, _| None::<()>);
            return None;
        }
    };
    let known = metrics::find(&name);
    // Other kinds of requests have their figures without it.
    let same_class = metric.hf_evaluate && !judged_by_function && config.output_type == OutputType::GenerateUntil;
    if same_class && !metrics::is_same_class(&name, &metric.options) {
        refusals.python = Some(format!(
            "the metric {name} comes from Hugging Face's evaluate, of which accuracy and f1 with average: micro are known here"
        ));
        return None;
    }
    if known.is_none() && !judged_by_function && !same_class {
        let names: Vec<&str> = metrics::METRICS.iter().map(|metric| metric.name).collect();
        refusals.broken(format!("the metric {name:?} is unknown; known are {}", names.join(", ")));
        return None;
    }
    let own = known.filter(|_| !same_class).map_or("mean", |metric| metric.aggregation);
    let aggregation = match &metric.aggregation {
        Some(Err(function)) => refusals.twin(Some(function), "an aggregation", |twin, _| match twin {
            Twin::Aggregation(of) => Some(Aggregate::Twin(of)),
            _ => None,
        })?,
        named => {
            let name = named.as_ref().and_then(|named| named.as_deref().ok()).unwrap_or(own);
            match metrics::find_aggregation(name) {
                Some(known) => Aggregate::Known(known),
                None => {
                    let names: Vec<&str> = metrics::AGGREGATIONS.iter().map(|known| known.name).collect();
                    refusals.broken(format!("the aggregation {name:?} is unknown; known are {}", names.join(", ")));
                    return None;
                }
            }
        }
    };
    // Other metrics pass over their options, as in lm-evaluation-harness.
    let options = if name == "exact_match" && !judged_by_function { metric.options.clone() } else { Map::new() };
    let exact_match = ExactMatch::new(&options).unwrap_or_else(|what| {
        refusals.broken(what.to_string());
        ExactMatch::default()
    });
    let higher_is_better = metric.higher_is_better.or(known.map(|metric| metric.higher_is_better));
    Some(TaskMetric { name, aggregation, higher_is_better, exact_match, same_class })
}

fn filters_of(config: &TaskConfig, refusals: &mut Refusals) -> Vec<Pipeline> {
    let Some(list) = &config.filter_list else { return vec![Pipeline::first()] };
    let mut made = Vec::new();
    for filter in list {
        match Pipeline::new(filter) {
            Ok(pipeline) => made.push(pipeline),
            Err(FilterError::NoTwin(_, e)) => refusals.no_twin(e),
            Err(e) => refusals.broken(e.to_string()),
        }
    }
    last_by_name(made.into_iter(), |pipeline| pipeline.name.as_str())
}

/// What `generation_kwargs` say, for requests.
pub(crate) fn generation(config: &TaskConfig) -> Map<String, Value> {
    config.generation_kwargs.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::files::index::Chosen;
    use crate::files::source::TaskSource;
    use crate::files::yaml::{self, Node};

    fn definition(more: &str) -> Result<Definition, Refusal> {
        let text = format!("task: t\ntest_split: s\ndoc_to_text: b\ndoc_to_target: a\n{more}");
        let Node::Map(entries) = yaml::parse(&text, &Arc::from(std::path::Path::new(""))).unwrap() else { panic!("no mapping") };
        let source = TaskSource { path: "t.yaml".into(), entries };
        Definition::new(TaskConfig::new(&Chosen { name: "t".to_owned(), source }).unwrap())
    }

    /// Expected: a run of lm-evaluation-harness 0.4.13, whose `sample_len` of six documents is 6 then.
    #[test]
    fn what_is_listed_twice_counts_once_and_as_said_last() {
        let task = definition(
            "metric_list: [{metric: exact_match, higher_is_better: false}, {metric: bleu}, {metric: exact_match}]\n\
             filter_list: [{name: n, filter: [{function: take_first}]}, {name: m, filter: [{function: take_first}]}, \
             {name: n, filter: [{function: lowercase}, {function: take_first}]}]",
        );
        let task = task.unwrap_or_else(|refusal| panic!("{refusal}"));
        let metrics: Vec<_> = task.metrics.iter().map(|metric| (metric.name.as_str(), metric.higher_is_better)).collect();
        assert_eq!(metrics, [("exact_match", Some(true)), ("bleu", Some(true))]);
        let filtered = |filter: &Pipeline| filter.apply(vec![json!(["A"])], &[]).unwrap();
        let filters: Vec<_> = task.filters.iter().map(|filter| (filter.name.as_str(), filtered(filter))).collect();
        assert_eq!(filters, [("n", vec![json!("a")]), ("m", vec![json!("A")])]);
    }

    #[test]
    fn reasons_do_not_say_the_word_again() {
        for (more, shown, reason) in [
            ("process_docs: !function utils.own", "needs a twin of utils.own", "utils.own"),
            ("unsafe_code: true", "needs Python: its answers are run as programs", "its answers are run as programs"),
            ("doc_to_image: picture", "is not text: it has doc_to_image", "it has doc_to_image"),
        ] {
            let refusal = definition(more).err().unwrap();
            assert_eq!((refusal.to_string().as_str(), refusal.reason().as_str()), (shown, reason));
        }
    }
}
