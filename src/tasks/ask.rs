//! Prompts and requests: what lm-evaluation-harness asks for every document, in its order and character for character. Absent:
//! what answers mean ([`crate::judge`]), models.
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/api/task.py` (`fewshot_context`, `build_qa_turn`, `construct_requests`),
//! `lm_eval/api/samplers.py`, `lm_eval/api/utils.py`.

use std::collections::HashMap;
use std::sync::Arc;

use bitworth_eval::job::Limit;
use bitworth_eval::overlap::Ngrams;
use bitworth_quant::Result;
use bitworth_quant::message::{Message as Text, Setting};
use bitworth_text::chat::{ChatRole, Message};
use bitworth_text::python;
use bitworth_text::template::watched;
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use crate::fields::{Doc, Maker};
use crate::files::config::{OutputType, Sampler};
use crate::random::Random;
use crate::rows::{DataRow, DataSources};
use crate::short::short;
use crate::task::{Definition, generation};

/// The seed that shots are drawn with.
pub const FEWSHOT_SEED: u64 = 1234;
/// The most runs of words of shots that are kept.
const MOST_RUNS: usize = 1 << 22;
/// How many shots.
pub const NUM_FEWSHOT: Setting = Setting::new("num_fewshot");
/// Which documents, by number.
pub const SAMPLES: Setting = Setting::new("samples");

/// Makes a text of a chat; the flag says whether the last turn is one that the model goes on with.
pub type Render = dyn Fn(&[Message], bool) -> Result<String, Text> + Send + Sync;

/// How documents are asked.
#[derive(Clone, Default)]
pub struct Ask {
    /// Shots in the place of the task's own number.
    pub num_fewshot: Option<usize>,
    /// Which documents.
    pub limit: Limit,
    /// Put before everything.
    pub system: Option<String>,
    /// Shots are turns of a chat.
    pub multiturn: bool,
    /// Makes a text of a chat; `None` for plain prompts.
    pub chat: Option<Arc<Render>>,
}

/// The arguments of one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Arguments {
    /// The log-probability of the second behind the first.
    Pair(String, String),
    /// The log-probability of a text.
    Text(String),
    /// A text to be gone on with.
    Prompt(String),
}

/// A document with its requests.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its number in the split.
    pub doc_id: usize,
    /// The document.
    pub doc: Arc<DataRow>,
    /// Its requests, in order.
    pub requests: Vec<Arguments>,
    /// What `doc_to_target` gives.
    pub target: Value,
    /// The choices, of tasks that have them.
    pub choices: Option<Vec<String>>,
    /// The right choice: its place, a list of places, or -100 where it is none of them.
    pub gold: Value,
}

/// A task with all its requests.
pub struct Built {
    /// The task.
    pub definition: Arc<Definition>,
    /// Its columns.
    pub columns: Vec<String>,
    /// How many documents the split has.
    pub total: usize,
    /// The documents that are asked.
    pub asked: Vec<Asked>,
    /// How many shots.
    pub num_fewshot: usize,
    /// Of tasks that choose among contexts, how many.
    pub multiple_input: bool,
    /// Whether there are several right answers.
    pub multiple_target: bool,
    /// Documents whose right choice is none of the choices.
    pub strays: usize,
    /// Documents whose question shares a run of 13 words with one of the shots that are asked with.
    pub in_shots: usize,
}

/// Builds the requests of several tasks, in their order.
///
/// # Errors
/// The first task's that cannot be built.
pub fn build_all(tasks: &[Arc<Definition>], sources: &Arc<DataSources>, ask: &Ask) -> Result<Vec<Built>> {
    tasks.par_iter().map(|task| build(task, sources, ask)).collect()
}

/// Builds the requests of a task.
///
/// # Errors
/// Missing or broken data, a document that a template or twin cannot take (named by its number), too few shots.
pub fn build(task: &Arc<Definition>, sources: &Arc<DataSources>, ask: &Ask) -> Result<Built> {
    let (own, sources, ask) = (Arc::clone(task), Arc::clone(sources), ask.clone());
    let built = watched(move || Builder::new(&own, &sources, &ask)?.build());
    built.map_err(|e| task.fail(e.to_string()))?
}

/// One turn, and what stands behind it where turns are put together as plain text.
#[derive(Debug, Clone)]
struct Turn {
    role: ChatRole,
    content: String,
    delimiter: String,
}

impl Turn {
    fn new(role: ChatRole, content: impl Into<String>, delimiter: &str) -> Self {
        Self { role, content: content.into(), delimiter: delimiter.to_owned() }
    }
}

struct Builder<'a> {
    task: &'a Arc<Definition>,
    ask: &'a Ask,
    columns: Vec<String>,
    rows: Vec<Arc<DataRow>>,
    pool: Vec<Arc<DataRow>>,
    num_fewshot: usize,
    /// Whether the question is a place among the choices, which then are contexts.
    multiple_input: bool,
    multiple_target: bool,
    random: Random,
    /// Turns of shots that were written already, by their place in the pool.
    written: HashMap<usize, Vec<Turn>>,
    /// The questions of the documents, where there are shots.
    questions: Vec<String>,
}

impl<'a> Builder<'a> {
    fn new(task: &'a Arc<Definition>, sources: &DataSources, ask: &'a Ask) -> Result<Self> {
        let docs = task.docs(sources)?;
        let num_fewshot = ask.num_fewshot.or(task.config.num_fewshot).unwrap_or(0);
        let pool = if num_fewshot > 0 { task.shot_pool(sources)? } else { Vec::new() };
        let mut builder = Self {
            task,
            ask,
            columns: docs.columns,
            rows: docs.rows,
            pool,
            num_fewshot,
            multiple_input: false,
            multiple_target: false,
            random: Random::new(FEWSHOT_SEED),
            written: HashMap::new(),
            questions: Vec::new(),
        };
        // The first document says of what form all are.
        let first = Arc::clone(&builder.rows[0]);
        let doc = Doc::new(&first);
        let at_first = |what: Text| task.fail(format!("split {}, document 0: {what}", task.split()));
        let question = builder.question(&task.question, &doc).map_err(at_first)?;
        let target = task.target(&doc, &builder.columns).map_err(at_first)?;
        builder.multiple_input = task.choices.is_some() && question.is_i64();
        builder.multiple_target = target.is_array();
        Ok(builder)
    }

    fn build(mut self) -> Result<Built> {
        let numbers = self.numbers()?;
        let mut asked = Vec::with_capacity(numbers.len());
        for number in numbers {
            let row = Arc::clone(&self.rows[number]);
            let fail =
                |what: Text| self.task.fail(Text::from(format!("split {}, document {number}: ", self.task.split())).then(what));
            match self.asked(number, &row) {
                Ok(one) => asked.push(one),
                Err(what) => return Err(fail(what)),
            }
        }
        let strays = asked.iter().filter(|one| is_stray(&one.gold)).count();
        if strays > 0 {
            tracing::warn!(
                "task {}: of {strays} documents the right answer is none of the choices; they count as wrong, as in lm-eval",
                self.task.config.task
            );
        }
        let in_shots = self.in_shots();
        if in_shots > 0 {
            tracing::warn!(
                "task {}: the questions of {in_shots} of {} documents share a run of 13 words with a shot",
                self.task.config.task,
                asked.len()
            );
        }
        Ok(Built {
            in_shots,
            definition: Arc::clone(self.task),
            total: self.rows.len(),
            columns: self.columns,
            asked,
            num_fewshot: self.num_fewshot,
            multiple_input: self.multiple_input,
            multiple_target: self.multiple_target,
            strays,
        })
    }

    /// Documents whose questions share a run of words with a shot.
    fn in_shots(&self) -> usize {
        let mut runs = Ngrams::new(Ngrams::WORDS, MOST_RUNS);
        for turn in self.written.values().flatten() {
            // What does not fit is not looked for.
            let _ = runs.add(&turn.content);
        }
        if runs.is_empty() { 0 } else { self.questions.iter().filter(|question| runs.shares(question)).count() }
    }

    /// The documents to ask, by number.
    fn numbers(&self) -> Result<Vec<usize>> {
        let total = self.rows.len();
        self.ask.limit.numbers(&self.task.config.task, total).map_err(|bad| {
            let what = Text::from(format!("there are {total} documents, and ")).then(SAMPLES);
            self.task.fail(what.then(format!(" names number {bad}")))
        })
    }

    fn question(&self, maker: &Option<Maker>, doc: &Doc) -> Result<Value, Text> {
        match maker {
            Some(maker) => maker.question(doc, &self.columns, self.task.choices.is_some()),
            None => Err("doc_to_text is missing".into()),
        }
    }

    fn choices(&self, maker: &Option<Maker>, doc: &Doc) -> Result<Option<Vec<Value>>, Text> {
        maker.as_ref().map(|maker| maker.choices(doc, &self.columns)).transpose()
    }

    fn asked(&mut self, doc_id: usize, row: &Arc<DataRow>) -> Result<Asked, Text> {
        let doc = Doc::new(row);
        let config = &self.task.config;
        let description = self.task.description.resolve(&doc)?;
        let prefix = match &self.task.gen_prefix {
            Some(text) => Some(text.resolve(&doc)?).filter(|prefix| !prefix.is_empty()),
            None => None,
        };
        let system = delimited(self.ask.system.as_deref().unwrap_or_default(), &description, &config.fewshot_delimiter);
        let mut turns = Vec::new();
        if !system.is_empty() {
            turns.push(Turn::new(ChatRole::System, system, ""));
        }
        if self.num_fewshot > 0 {
            for at in self.drawn(row)? {
                turns.extend(self.shot(at)?);
            }
        }
        let question = self.question(&self.task.question, &doc)?;
        let choices = self.choices(&self.task.choices, &doc)?;
        let target = self.task.target(&doc, &self.columns)?;
        let contexts = if self.multiple_input {
            let contexts = choices.clone().unwrap_or_default();
            let mut made = Vec::with_capacity(contexts.len());
            for context in contexts {
                let mut own = turns.clone();
                own.extend(question_turns(text_of(&context, "a choice")?, None, prefix.as_deref(), "", ""));
                made.push(self.context(own, prefix.is_some())?);
            }
            made
        } else {
            let question = text_of(&question, "the question")?;
            if self.num_fewshot > 0 {
                self.questions.push(question.to_owned());
            }
            turns.extend(question_turns(question, None, prefix.as_deref(), &config.target_delimiter, ""));
            vec![self.context(turns, prefix.is_some())?]
        };
        let requests = self.requests(&contexts, choices.as_deref(), &target)?;
        let gold = match (&choices, self.multiple_input) {
            (None, _) => Value::Null,
            (Some(choices), true) => place(&question, choices),
            (Some(choices), false) => place(&target, choices),
        };
        let choices = choices.map(|choices| choices.iter().map(python::str).collect());
        Ok(Asked { doc_id, doc: Arc::clone(row), requests, target, choices, gold })
    }

    fn requests(&self, contexts: &[String], choices: Option<&[Value]>, target: &Value) -> Result<Vec<Arguments>, Text> {
        let config = &self.task.config;
        let first = || contexts.first().cloned().unwrap_or_default();
        Ok(match config.output_type {
            OutputType::Loglikelihood => vec![Arguments::Pair(first(), text_of(target, "the answer")?.to_owned())],
            OutputType::LoglikelihoodRolling => vec![Arguments::Text(text_of(target, "the text")?.to_owned())],
            OutputType::GenerateUntil => vec![Arguments::Prompt(first())],
            OutputType::MultipleChoice => {
                let choices = choices.unwrap_or_default();
                // Behind a chat's turn no delimiter stands, but where the answer was begun.
                let begun = config.gen_prefix.as_deref().is_some_and(|prefix| !prefix.is_empty() && !ends_with_space(prefix));
                let delimiter = match self.ask.chat.is_some() && !begun {
                    true => "",
                    false => config.target_delimiter.as_str(),
                };
                let pair =
                    |context: &str, end: &Value| Arguments::Pair(context.to_owned(), delimiter.to_owned() + &python::str(end));
                let mut requests: Vec<Arguments> = match self.multiple_input {
                    true => contexts.iter().map(|context| pair(context, target)).collect(),
                    false => choices.iter().map(|choice| pair(&first(), choice)).collect(),
                };
                if self.task.metrics.iter().any(|metric| metric.name == "acc_mutual_info") {
                    requests.extend(choices.iter().map(|choice| pair("", choice)));
                }
                requests
            }
        })
    }

    /// Places in the pool of the shots for a document.
    fn drawn(&mut self, row: &Arc<DataRow>) -> Result<Vec<usize>, Text> {
        let (wanted, have) = (self.num_fewshot, self.pool.len());
        let few = |have: usize| {
            Text::from(format!("{wanted} shots are asked for, and there are {have} to take them from; lower ")).then(NUM_FEWSHOT)
        };
        let config = &self.task.config;
        // The document itself is no shot where both are of one split; two splits that are absent are one.
        let leave_out = config.fewshot.split == config.test_split && !row.is_empty();
        let others = |places: Vec<usize>, pool: &[Arc<DataRow>]| -> Vec<usize> {
            let same = |at: &usize| Arc::ptr_eq(&pool[*at], row) || python::equal_objects(&pool[*at], row);
            places.into_iter().filter(|at| !leave_out || !same(at)).collect()
        };
        match config.fewshot.sampler {
            Sampler::FirstN => {
                let mut places: Vec<usize> = Vec::with_capacity(wanted);
                for at in 0..have {
                    if places.len() == wanted {
                        break;
                    }
                    places.extend(others(vec![at], &self.pool));
                }
                if places.len() < wanted { Err(few(places.len())) } else { Ok(places) }
            }
            Sampler::Drawn => {
                let count = wanted + usize::from(leave_out);
                let drawn = self.random.sample(have, count).ok_or_else(|| few(have.saturating_sub(usize::from(leave_out))))?;
                let mut places = others(drawn, &self.pool);
                places.truncate(wanted);
                if places.len() < wanted {
                    let rest = others((0..have).collect(), &self.pool);
                    let again = self.random.sample(rest.len(), wanted).ok_or_else(|| few(rest.len()))?;
                    places = again.into_iter().map(|at| rest[at]).collect();
                }
                Ok(places)
            }
        }
    }

    /// The turns of one shot.
    fn shot(&mut self, at: usize) -> Result<Vec<Turn>, Text> {
        if let Some(known) = self.written.get(&at) {
            return Ok(known.clone());
        }
        let row = Arc::clone(&self.pool[at]);
        let doc = Doc::new(&row);
        let turns = self.write_shot(&doc).map_err(|what| format!("shot {at}: {what}"))?;
        self.written.insert(at, turns.clone());
        Ok(turns)
    }

    fn write_shot(&self, doc: &Doc) -> Result<Vec<Turn>, Text> {
        let (shots, config) = (&self.task.shots, &self.task.config.fewshot);
        let mut question = self.question(&shots.question, doc)?;
        let mut choices = self.choices(&shots.choices, doc)?;
        let answer = match &shots.answer {
            Some(maker) => maker.answer(doc, &self.columns, self.task.choices.is_some())?,
            None => return Err("doc_to_target is missing".into()),
        };
        let prefix = match &shots.gen_prefix {
            Some(text) => Some(text.resolve(doc)?).filter(|prefix| !prefix.is_empty()),
            None => None,
        };
        if self.multiple_input {
            question = pick(choices.as_deref().unwrap_or_default(), &question)?;
            choices = None;
        }
        let answer = match (&answer, &choices) {
            (Value::Null, _) => None,
            (Value::String(text), _) if text.is_empty() => None,
            (Value::Number(_) | Value::Bool(_), Some(choices)) if !choices.is_empty() => Some(pick(choices, &answer)?),
            (Value::Array(answers), _) => {
                Some(answers.first().cloned().ok_or_else(|| Text::from("the list of answers is empty"))?)
            }
            _ => Some(answer),
        };
        let answer = answer.as_ref().map(|answer| text_of(answer, "the answer")).transpose()?;
        let question = text_of(&question, "the question")?;
        Ok(question_turns(question, answer, prefix.as_deref(), &config.target_delimiter, &config.fewshot_delimiter))
    }

    /// Turns as one text.
    fn context(&self, turns: Vec<Turn>, has_prefix: bool) -> Result<String, Text> {
        let Some(render) = &self.ask.chat else {
            return Ok(turns.iter().flat_map(|turn| [turn.content.as_str(), &turn.delimiter]).collect());
        };
        let turns = if self.ask.multiturn { turns } else { one_turn(turns) };
        let messages: Vec<Message> = turns.into_iter().map(|turn| Message::new(turn.role, turn.content)).collect();
        render(&messages, has_prefix)
    }
}

/// The turns of a question, with its answer or with how the answer begins.
fn question_turns(question: &str, answer: Option<&str>, prefix: Option<&str>, target: &str, few: &str) -> Vec<Turn> {
    let delimiter = match (answer, prefix) {
        (Some(_), None) => target,
        (_, Some(prefix)) if needs_delimiter(question, prefix) => target,
        _ => "",
    };
    let mut turns = vec![Turn::new(ChatRole::User, question, delimiter)];
    match (answer, prefix) {
        (Some(answer), prefix) => {
            turns.push(Turn::new(ChatRole::Assistant, delimited(prefix.unwrap_or_default(), answer, " "), few));
        }
        (None, Some(prefix)) => turns.push(Turn::new(ChatRole::Assistant, prefix, "")),
        (None, None) => {}
    }
    turns
}

/// All turns of user and model as one of the user, but for a system message and the beginning of an answer.
fn one_turn(turns: Vec<Turn>) -> Vec<Turn> {
    let mut made = Vec::new();
    let mut rest = turns;
    if rest.first().is_some_and(|turn| turn.role == ChatRole::System) {
        made.push(rest.remove(0));
    }
    let begun = if rest.last().is_some_and(|turn| turn.role == ChatRole::Assistant) { rest.pop() } else { None };
    if let Some(last) = rest.last_mut() {
        last.delimiter.clear();
    }
    let whole: String = rest.iter().flat_map(|turn| [turn.content.as_str(), &turn.delimiter]).collect();
    made.push(Turn::new(ChatRole::User, whole, ""));
    made.extend(begun);
    made
}

fn starts_with_space(text: &str) -> bool {
    text.chars().next().is_some_and(python::is_space)
}

fn ends_with_space(text: &str) -> bool {
    text.chars().next_back().is_some_and(python::is_space)
}

fn needs_delimiter(before: &str, behind: &str) -> bool {
    !before.is_empty() && !ends_with_space(before) && !starts_with_space(behind)
}

/// Two texts with a delimiter between them where neither is empty and no white space stands there.
fn delimited(before: &str, behind: &str, delimiter: &str) -> String {
    match (before.is_empty(), behind.is_empty()) {
        (true, _) => behind.to_owned(),
        (_, true) => before.to_owned(),
        _ if ends_with_space(before) || starts_with_space(behind) => format!("{before}{behind}"),
        _ => format!("{before}{delimiter}{behind}"),
    }
}

fn text_of<'v>(value: &'v Value, what: &str) -> Result<&'v str, Text> {
    value.as_str().ok_or_else(|| Text::from(format!("{what} must be a text, and is {}", short(&python::repr(value)))))
}

/// `choices[place]` of Python: negative places count from the end.
fn pick(choices: &[Value], at: &Value) -> Result<Value, Text> {
    let number = match at {
        Value::Bool(value) => Some(i64::from(*value)),
        other => other.as_i64(),
    };
    let place = number.map(|n| if n < 0 { n + choices.len() as i64 } else { n });
    let found = place.and_then(|n| usize::try_from(n).ok()).and_then(|n| choices.get(n));
    found.cloned().ok_or_else(|| Text::from(format!("{} is no place among {} choices", python::repr(at), choices.len())))
}

/// The place of the right choice; -100 where it is none of them.
fn place(gold: &Value, choices: &[Value]) -> Value {
    match gold {
        Value::Array(several) => several.iter().map(|one| place(one, choices)).collect(),
        Value::String(text) => {
            let at = choices.iter().position(|choice| choice.as_str() == Some(text));
            at.map_or(json!(-100), |at| json!(at))
        }
        Value::Number(number) if number.as_f64().is_some_and(|n| n >= choices.len() as f64) => json!(-100),
        other => other.clone(),
    }
}

fn is_stray(gold: &Value) -> bool {
    match gold {
        Value::Array(several) => several.iter().any(is_stray),
        other => other.as_i64() == Some(-100),
    }
}

impl Built {
    /// One line for a document, in the form of lm-evaluation-harness's own arguments.
    pub fn line(&self, asked: &Asked) -> Map<String, Value> {
        let config = &self.definition.config;
        let mut line = Map::new();
        let mut put = |key: &str, value: Value| line.insert(key.to_owned(), value);
        put("task", config.task.as_str().into());
        put("output_type", config.output_type.name().into());
        put("num_fewshot", self.num_fewshot.into());
        put("doc_id", asked.doc_id.into());
        put("requests", asked.requests.iter().map(arguments).collect());
        match config.output_type {
            OutputType::MultipleChoice => {
                put("choices", asked.choices.clone().unwrap_or_default().into());
                put("gold", asked.gold.clone());
            }
            OutputType::GenerateUntil => {
                put("generation_kwargs", Value::Object(generation(config)));
                put("target", asked.target.clone());
            }
            OutputType::Loglikelihood | OutputType::LoglikelihoodRolling => {}
        }
        line
    }
}

/// The texts of a request, as a list.
pub fn arguments(request: &Arguments) -> Value {
    match request {
        Arguments::Pair(context, continuation) => json!([context, continuation]),
        Arguments::Text(text) | Arguments::Prompt(text) => json!([text]),
    }
}
