//! Tasks as a model is asked them: their requests, tokenized once, and what the answers come to as records. Tasks of our own form
//! and those of lm-evaluation-harness are asked alike. Absent: asking.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_quant::Checkpoint;
use bitworth_quant::hex::hex;
use bitworth_quant::message::Message;
use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::data_sets::with_sources;
use crate::Watch;
use crate::error::{At, Error, Result};
use crate::requests::Packed;
use bitworth_engine::sweep::Sequence;
use bitworth_eval::groups;
use bitworth_eval::job::{INCLUDE_PATH, Limit, PerplexityKind, PerplexitySpec, TasksSpec};
use bitworth_eval::kinds::Gold;
use bitworth_eval::record::{ItemRecord, Record};
use bitworth_eval::request::{Answer, Loglikelihood, Request};
use bitworth_eval::slice::Slice;
use bitworth_eval::task::{self, Task};
use bitworth_tasks::ask::{Ask, Built, Render, build_all};
use bitworth_tasks::evaluation::Evaluation;
use bitworth_tasks::files::config::TaskConfig;
use bitworth_tasks::files::index::{Index, Selection};
use bitworth_tasks::items;
use bitworth_tasks::llama_perplexity::{self, Question};
use bitworth_tasks::rows::DataRow;
use bitworth_tasks::rows::map::DataMap;
use bitworth_tasks::task::Definition;
use bitworth_text::chat::{ChatRole, ChatTemplate, Date, Message as Turn};
use bitworth_text::tokenizer::{SpecialText, Tokenizer};

/// The version of llama-perplexity's tests in records: that of llama.cpp which they follow.
const PERPLEXITY_VERSION: &str = "b11434";

/// One task with all that is asked.
pub struct Questions {
    /// Its name in records.
    pub name: String,
    /// What makes it another one than a task of the same name.
    pub identity: Value,
    /// How many items are asked.
    pub items: usize,
    /// The requests of all of them.
    pub packed: Packed,
    form: Form,
}

/// Where a task comes from.
enum Form {
    /// A task of our own form, and the numbers of the items that are asked.
    Own(Box<Task>, Vec<usize>),
    /// A file of llama-perplexity's.
    Perplexity(PerplexityKind, Vec<Question>),
    /// A task of lm-evaluation-harness, its version in records, and the groups that it was chosen through.
    Harness(Arc<Built>, String, Option<String>),
}

impl Questions {
    /// What is asked about each item, as one text: shots are left out where they are known as such.
    pub fn texts(&self) -> Vec<String> {
        match &self.form {
            Form::Own(task, numbers) => {
                let text = |number: &usize| task.items[*number].requests.iter().map(Request::text).collect::<Vec<_>>().join("\n");
                numbers.iter().map(text).collect()
            }
            Form::Perplexity(_, questions) => questions.iter().map(|question| question.texts.join("\n")).collect(),
            Form::Harness(built, ..) => built.asked.iter().map(|asked| documents_text(&asked.doc)).collect(),
        }
    }

    /// What the answers to all requests, in order, come to.
    ///
    /// # Errors
    /// Answers that the task cannot judge.
    pub fn judge(&self, answers: &[Answer]) -> Result<Vec<ItemRecord>> {
        match &self.form {
            Form::Own(task, numbers) => own_records(task, numbers, answers),
            Form::Perplexity(kind, questions) => Ok(perplexity_records(*kind, questions, answers)),
            Form::Harness(built, version, group) => Ok(items::records(built, answers, version, group.as_deref())?),
        }
    }
}

/// The numbers of items by name: what has one name is one comparison.
fn by_name(all: Vec<(String, usize)>) -> Vec<(String, usize)> {
    let mut sums: Vec<(String, usize)> = Vec::new();
    for (name, items) in all {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += items,
            None => sums.push((name, items)),
        }
    }
    sums
}

fn own_records(task: &Task, numbers: &[usize], answers: &[Answer]) -> Result<Vec<ItemRecord>> {
    let mut rest = answers;
    let record = |result: task::ItemResult| {
        let item = &task.items[result.item];
        let (own, behind) = rest.split_at(item.requests.len());
        rest = behind;
        let is_greedy = |answer: &Answer| matches!(answer, Answer::Loglikelihood(score) if score.is_greedy);
        let verdict = result.verdict;
        ItemRecord {
            task: task.name.clone(),
            task_version: task.version.to_string(),
            item: result.item as u32,
            value: Some(f64::from(u8::from(verdict.correct))),
            greedy: verdict.text.is_none().then(|| own.iter().map(is_greedy).collect()),
            logprobs: verdict.logprobs,
            text: verdict.text,
            gold: match item.gold {
                Gold::Choice(place) => Some(place as u32),
                Gold::Text(_) => None,
            },
            cluster: item.cluster.clone(),
            ..ItemRecord::default()
        }
    };
    Ok(task.judge(numbers, answers)?.into_iter().map(record).collect())
}

/// All texts of a document, those within lists and maps, too.
fn documents_text(doc: &DataRow) -> String {
    fn add(value: &Value, out: &mut String) {
        match value {
            Value::String(text) => {
                out.push_str(text);
                out.push('\n');
            }
            Value::Array(items) => items.iter().for_each(|item| add(item, out)),
            Value::Object(fields) => fields.values().for_each(|field| add(field, out)),
            _ => {}
        }
    }
    let mut out = String::new();
    doc.values().for_each(|value| add(value, &mut out));
    out
}

/// llama-perplexity takes the choice whose tokens are the likeliest on average; the first of equals, and of WinoGrande's the
/// second.
fn perplexity_records(kind: PerplexityKind, questions: &[Question], answers: &[Answer]) -> Vec<ItemRecord> {
    let mut rest = answers;
    let record = |question: &Question| {
        let (own, behind) = rest.split_at(question.texts.len());
        rest = behind;
        let scores: Vec<Loglikelihood> = own.iter().filter_map(Answer::as_loglikelihood).collect();
        let means: Vec<f64> = scores.iter().map(|score| score.logprob / score.tokens as f64).collect();
        let mut best = 0;
        for place in 1..means.len() {
            let is_better =
                if kind == PerplexityKind::Winogrande { means[place] >= means[best] } else { means[place] > means[best] };
            best = if is_better { place } else { best };
        }
        let value = f64::from(u8::from(question.right.get(best) == Some(&true)));
        let is_single = question.right.iter().filter(|right| **right).count() == 1;
        ItemRecord {
            task: kind.task().to_owned(),
            task_version: PERPLEXITY_VERSION.to_owned(),
            item: question.number as u32,
            value: Some(value),
            metric: Some("acc_norm,none".to_owned()),
            logprobs: scores.iter().map(|score| score.logprob).collect(),
            greedy: Some(scores.iter().map(|score| score.is_greedy).collect()),
            gold: question.right.iter().position(|right| *right).filter(|_| is_single).map(|place| place as u32),
            scores: vec![("acc_norm,none".to_owned(), value)],
            ..ItemRecord::default()
        }
    };
    questions.iter().map(record).collect()
}

/// The tasks of lm-evaluation-harness that a job asks, with the groups that they were chosen through.
pub struct Harness {
    /// What the names of the job mean.
    pub selection: Selection,
    /// Each with its requests.
    pub built: Vec<Arc<Built>>,
    /// The chat template, where tasks were asked as chats.
    pub chat_template: Option<String>,
}

impl Harness {
    /// What lm-evaluation-harness makes of the records of one lane; standard errors that are drawn take `draws`.
    ///
    /// # Errors
    /// A document without a record; as [`Evaluation::new`].
    pub fn evaluation(&self, records: &[Record], (model, lane): (&str, &str), draws: usize) -> Result<Evaluation<'_>> {
        let own = records.iter().filter(|record| record.origin.model == model && record.origin.lane == lane);
        let own: Vec<&ItemRecord> = own.filter_map(Record::as_item).collect();
        let answers = self.built.iter().map(|task| {
            let name = &task.definition.config.task;
            items::answers(task, own.iter().copied().filter(|item| item.task == *name))
        });
        let answers = answers.collect::<bitworth_quant::Result<Vec<_>>>()?;
        Ok(Evaluation::new(&self.selection, &self.built, answers, draws)?)
    }
}

/// The tasks that a job names, found and understood; what depends on the model is yet to be made.
pub struct Named<'j> {
    spec: &'j TasksSpec,
    slice: Slice,
    selection: Selection,
    definitions: Vec<Arc<Definition>>,
    map: Option<DataMap>,
    watch: Watch<'j>,
    /// Where no chat template is needed: the same for all models.
    plain: Option<Vec<Arc<Built>>>,
}

impl<'j> Named<'j> {
    /// Finds the tasks of a job.
    ///
    /// # Errors
    /// An unknown name, a broken task file, missing data.
    pub fn find(spec: &'j TasksSpec, slice: Slice, watch: Watch<'j>) -> Result<Self> {
        let folders: Vec<PathBuf> = spec.include_path.iter().map(PathBuf::from).collect();
        let names: Vec<String> = spec.names.iter().filter(|name| !is_own(name)).cloned().collect();
        let selection = match names.is_empty() {
            true => Selection::default(),
            false => {
                let index = Index::read(&folders)?;
                let selection = index.select(&names).map_err(with_own_names)?;
                for (path, why) in
                    index.skipped.iter().filter(|(_, why)| selection.tasks.iter().any(|task| is_twice(&task.name, why)))
                {
                    tracing::warn!("{}: is left out: {why}", path.display());
                }
                selection
            }
        };
        let definitions = selection.tasks.iter().map(|chosen| {
            let config = TaskConfig::new(chosen)?;
            let (path, name) = (config.path.clone(), config.task.clone());
            let refused =
                |refusal: bitworth_tasks::task::Refusal| bitworth_quant::Error::file(&path, format!("task {name}: {refusal}"));
            Ok(Arc::new(Definition::new(config).map_err(refused)?))
        });
        let definitions = definitions.collect::<Result<Vec<_>>>()?;
        if let Limit::Samples(samples) = &spec.limit {
            let known = |name: &String| {
                let own = spec.names.iter().filter(|name| is_own(name)).any(|own| own == name || own.ends_with(".toml"));
                own || selection.tasks.iter().any(|task| task.name == *name)
                    || spec.llama_perplexity.iter().any(|file| file.kind.task() == name)
            };
            if let Some(name) = samples.keys().find(|name| !known(name)) {
                let what = format!(" names the task {name}, which is not asked");
                return Err(Error::unfit(Message::from(bitworth_tasks::ask::SAMPLES).then(what)));
            }
        }
        if !names.is_empty() && selection.tasks.is_empty() {
            return Err(Error::unfit(format!("{}: no task is in it", names.join(", "))));
        }
        let map = spec.data_map.as_deref().map(|path| DataMap::read(Path::new(path))).transpose()?;
        let mut named = Self { spec, slice, selection, definitions, map, watch, plain: None };
        if !spec.chat {
            named.plain = Some(named.build(None)?);
        }
        Ok(named)
    }

    fn build(&self, chat: Option<Arc<Render>>) -> Result<Vec<Arc<Built>>> {
        let ask = Ask {
            num_fewshot: self.spec.num_fewshot,
            limit: self.spec.limit.clone(),
            system: self.spec.system.clone(),
            multiturn: self.spec.fewshot_as_multiturn,
            chat,
        };
        let map = self.map.clone();
        let mut built = with_sources(map, self.watch, |sources| Ok(build_all(&self.definitions, &sources, &ask)?))?;
        for task in &mut built {
            let range = self.slice.range(task.asked.len());
            task.asked.truncate(range.end);
            task.asked.drain(..range.start);
        }
        Ok(built.into_iter().map(Arc::new).collect())
    }

    /// What the job asks and how many items that is, as scores are compared: groups that were named, and tasks that are in none.
    ///
    /// # Errors
    /// A task of our own form that cannot be read, or tasks that only a model's chat template can make.
    pub fn sizes(&self) -> Result<Vec<(String, usize)>> {
        let own = self.spec.names.iter().filter(|name| is_own(name)).map(|name| {
            let task = Task::load(name)?;
            let numbers = self.numbers(&task)?;
            Ok((task.name, numbers.len()))
        });
        let mut all = own.collect::<Result<Vec<_>>>()?;
        for spec in &self.spec.llama_perplexity {
            all.push((spec.kind.task().to_owned(), self.drawn(spec)?.len()));
        }
        let plain = self.plain.as_ref().ok_or_else(|| Error::unfit("tasks asked as chats need a model"))?;
        for built in plain {
            let task = &built.definition.config.task;
            let ways = items::ways(&self.selection, &self.definitions, task);
            let outermost: BTreeSet<&str> = ways.iter().filter_map(|way| Some(way.first()?.name.as_str())).collect();
            let names = if outermost.is_empty() { BTreeSet::from([task.as_str()]) } else { outermost };
            all.extend(names.into_iter().map(|name| (name.to_owned(), built.asked.len())));
        }
        Ok(by_name(all))
    }

    /// The tasks as a model is asked them: first those of our own form, then files of llama-perplexity, then those of
    /// lm-evaluation-harness; and the last ones by themselves.
    ///
    /// # Errors
    /// A model that cannot be asked as a chat, a request that it cannot take.
    pub fn ask(&self, checkpoint: &Checkpoint, tokenizer: &Tokenizer, context: usize) -> Result<(Vec<Questions>, Harness)> {
        let template = self.spec.chat.then(|| ChatTemplate::of(checkpoint, Date::OF_RECORDS)).transpose()?;
        let mut all: Vec<Questions> = Vec::new();
        for name in self.spec.names.iter().filter(|name| is_own(name)) {
            let (mut task, mut tokens) = (Task::load(name)?, None);
            if let Some(template) = &template {
                let render = |text: &str| template.render(&[Turn::new(ChatRole::User, text)]).map_err(|e| e.message());
                task = task.as_chat(render)?;
                // The template writes the start token where the model wants one.
                tokens = Some(tokenizer.without_start());
            }
            all.push(self.own(task, tokens.as_ref().unwrap_or(tokenizer), context)?);
        }
        for spec in &self.spec.llama_perplexity {
            all.push(perplexity(spec, self.drawn(spec)?, tokenizer, context)?);
        }
        let harness = self.harness(template)?;
        for task in &harness.built {
            all.push(self.asked(task, tokenizer, context)?);
        }
        for (i, task) in all.iter().enumerate() {
            if all[..i].iter().any(|other| other.name == task.name) {
                return Err(Error::unfit(format!("tasks.names: there are two tasks named {}", task.name)));
            }
        }
        Ok((all, harness))
    }

    /// The tasks of lm-evaluation-harness with their requests; as chats, where there is a template.
    ///
    /// # Errors
    /// Missing or broken data, a document that a template cannot take.
    pub fn harness(&self, template: Option<ChatTemplate>) -> Result<Harness> {
        let chat_template = template.as_ref().map(|template| template.source().to_owned());
        let built = match (&self.plain, template) {
            (Some(plain), None) => plain.clone(),
            (_, None) => self.build(None)?,
            (_, Some(template)) => {
                let render = move |turns: &[Turn], goes_on: bool| template.render_up_to(turns, goes_on).map_err(|e| e.message());
                self.build(Some(Arc::new(render)))?
            }
        };
        Ok(Harness { selection: self.selection.clone(), built, chat_template })
    }

    /// The questions of a file of llama-perplexity's that are asked.
    fn drawn(&self, spec: &PerplexitySpec) -> Result<Vec<Question>> {
        let all = llama_perplexity::read(spec)?;
        let numbers = self.spec.limit.numbers(spec.kind.task(), all.len());
        let numbers = numbers.map_err(|bad| Error::unfit(format!("{}: none of its questions has number {bad}", spec.file)))?;
        Ok(numbers[self.slice.range(numbers.len())].iter().map(|&place| all[place].clone()).collect())
    }

    /// The items of a task of our own form that are asked.
    fn numbers(&self, task: &Task) -> Result<Vec<usize>> {
        let numbers = self.spec.limit.numbers(&task.name, task.items.len()).map_err(|bad| {
            Error::unfit(format!("task {}: there are {} items, and none has number {bad}", task.name, task.items.len()))
        })?;
        Ok(numbers[self.slice.range(numbers.len())].to_vec())
    }

    fn own(&self, task: Task, tokenizer: &Tokenizer, context: usize) -> Result<Questions> {
        let numbers = self.numbers(&task)?;
        let items: Vec<_> = numbers.iter().map(|&number| &task.items[number]).collect();
        let identity = json!([task.version, hex(&Sha256::digest(format!("{items:?}")))]);
        let packed = Packed::new(tokenizer, &task::build(items), context).at(|| format!("task {}", task.name))?;
        Ok(Questions {
            name: task.name.clone(),
            identity,
            items: numbers.len(),
            packed,
            form: Form::Own(Box::new(task), numbers),
        })
    }

    fn asked(&self, built: &Arc<Built>, tokenizer: &Tokenizer, context: usize) -> Result<Questions> {
        let name = built.definition.config.task.clone();
        let packed = Packed::new(tokenizer, &bitworth_tasks::requests::requests(built)?, context);
        let packed = packed.at(|| format!("task {name}"))?;
        if packed.cut > 0 {
            tracing::warn!(
                "task {name}: {} requests are longer than the model's context of {context} tokens; their beginning was left out, \
                 as lm-eval does",
                packed.cut
            );
        }
        let version = items::version(built, self.spec.chat);
        let group = groups::text(&items::ways(&self.selection, &self.definitions, &name));
        let identity = json!([version, built.identity(), group]);
        Ok(Questions { name, identity, items: built.asked.len(), packed, form: Form::Harness(built.clone(), version, group) })
    }
}

/// A file of llama-perplexity's as a model is asked it.
fn perplexity(spec: &PerplexitySpec, questions: Vec<Question>, tokenizer: &Tokenizer, context: usize) -> Result<Questions> {
    let tokens = |text: &String| {
        let ids = tokenizer.encode(text, SpecialText::Plain)?;
        Ok(tokenizer.start().into_iter().chain(ids).collect::<Vec<u32>>())
    };
    let of_question = |question: &Question| {
        let texts = question.texts.iter().map(tokens).collect::<Result<Vec<_>>>()?;
        let begins = match &question.begins {
            Some([first, second]) => Some([tokens(first)?.len(), tokens(second)?.len()]),
            None => None,
        };
        let scored = question.scored(&texts, begins).ok_or_else(|| Error::unfit("a choice has no token that is scored"))?;
        let sequences = texts.into_iter().zip(scored).zip(&question.texts).map(|((tokens, scored), text)| {
            let long = tokens.len() - 1;
            match long <= context {
                true => Ok((Sequence { tokens, scored }, text.len())),
                false => Err(Error::unfit(format!("{long} tokens do not fit the model's context of {context}"))),
            }
        });
        sequences.collect::<Result<Vec<_>>>()
    };
    let sequences: Result<Vec<Vec<(Sequence, usize)>>> = questions
        .par_iter()
        .map(|question| of_question(question).at(|| format!("{}: question {}", spec.file, question.number + 1)))
        .collect();
    let identity = json!([PERPLEXITY_VERSION, hex(&Sha256::digest(format!("{questions:?}")))]);
    let packed = Packed::of_sequences(sequences?.concat());
    let (name, items) = (spec.kind.task().to_owned(), questions.len());
    Ok(Questions { name, identity, items, packed, form: Form::Perplexity(spec.kind, questions) })
}

/// Whether a file was skipped because another one has the task `name`.
fn is_twice(name: &str, why: &str) -> bool {
    why.strip_prefix(&format!("{name:?}")).is_some_and(|rest| rest.starts_with(" is in another file"))
}

/// Whether a name is that of a task of our own form.
fn is_own(name: &str) -> bool {
    name.ends_with(".toml") || task::task_names().any(|known| known == name)
}

/// A name that is unknown may have been meant for a task of our own form, or for one of a folder that was not given.
fn with_own_names(error: bitworth_quant::Error) -> Error {
    match error {
        bitworth_quant::Error::Unknown { .. } => {
            let own = task::task_names().collect::<Vec<_>>().join(", ");
            let what = format!("{error}; tasks of this program are {own}, and a folder of other tasks is given by ");
            Error::unfit(Message::from(what).then(INCLUDE_PATH))
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_of_one_test_are_one_comparison() {
        let of = |name: &str, items: usize| (name.to_owned(), items);
        let all = [("facts", 5), ("llama_hellaswag", 400), ("mmlu", 30), ("llama_hellaswag", 20), ("mmlu", 12)];
        let expected = [of("facts", 5), of("llama_hellaswag", 420), of("mmlu", 42)];
        assert_eq!(by_name(all.map(|(name, items)| of(name, items)).to_vec()), expected);
    }
}
