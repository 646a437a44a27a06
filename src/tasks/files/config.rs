//! What a task is told to do: the keys of its file, checked, with lm-evaluation-harness's defaults. Absent: what functions and
//! templates make of a document.
//!
//! Source: lm-evaluation-harness 0.4.13, `lm_eval/config/task.py`, `lm_eval/defaults.py`.

use bitworth_quant::message::Message;
use bitworth_quant::{Error, Result};
use serde_json::{Map, Value as Json, json};

use super::index::{Chosen, check_name};
use super::yaml::{Function, Node};

/// Every key that lm-evaluation-harness knows of a task, in its order, and those that only place its file.
pub(crate) const KEYS: [&str; 40] = [
    "task",
    "task_alias",
    "tag",
    "group",
    "task_list",
    "class",
    "custom_dataset",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "training_split",
    "validation_split",
    "test_split",
    "fewshot_split",
    "process_docs",
    "doc_to_text",
    "doc_to_target",
    "doc_to_image",
    "doc_to_audio",
    "unsafe_code",
    "doc_to_choice",
    "process_results",
    "use_prompt",
    "description",
    "target_delimiter",
    "fewshot_delimiter",
    "fewshot_config",
    "num_fewshot",
    "metric_list",
    "output_type",
    "generation_kwargs",
    "repeats",
    "filter_list",
    "should_decontaminate",
    "doc_to_decontamination_query",
    "gen_prefix",
    "metadata",
    "cluster",
    "include",
    "group_alias",
];

/// The kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputType {
    /// One target behind one context.
    Loglikelihood,
    /// Several choices.
    MultipleChoice,
    /// A whole text.
    LoglikelihoodRolling,
    /// A text that is generated.
    GenerateUntil,
}

/// All kinds with their names.
pub const OUTPUT_TYPES: [(&str, OutputType); 4] = [
    ("loglikelihood", OutputType::Loglikelihood),
    ("multiple_choice", OutputType::MultipleChoice),
    ("loglikelihood_rolling", OutputType::LoglikelihoodRolling),
    ("generate_until", OutputType::GenerateUntil),
];

impl OutputType {
    /// Its name.
    pub fn name(self) -> &'static str {
        OUTPUT_TYPES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// How something is made of a document.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// The name of a column, or a template.
    Text(String),
    /// The same for every document.
    Int(i64),
    /// The same list for every document.
    List(Vec<Json>),
    /// By a Python function.
    Function(Function),
}

/// Where shots come from and how they are written.
#[derive(Debug, Clone, PartialEq)]
pub struct Fewshot {
    /// `default` (drawn) or `first_n`.
    pub sampler: Sampler,
    /// The split they are taken from.
    pub split: Option<String>,
    /// What makes documents of that split's rows.
    pub process_docs: Option<Function>,
    /// Documents that stand in the file.
    pub samples: Option<Samples>,
    /// As the task's own, for shots.
    pub doc_to_text: Option<Field>,
    /// As the task's own, for shots.
    pub doc_to_choice: Option<Field>,
    /// As the task's own, for shots.
    pub doc_to_target: Option<Field>,
    /// As the task's own, for shots.
    pub gen_prefix: Option<String>,
    /// Behind every shot.
    pub fewshot_delimiter: String,
    /// Between question and answer.
    pub target_delimiter: String,
}

/// How shots are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    /// Drawn as CPython draws.
    Drawn,
    /// The first ones.
    FirstN,
}

/// Shots that do not come from a split.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    /// They stand in the file.
    Listed(Vec<Map<String, Json>>),
    /// A Python function makes them.
    Function(Function),
}

/// One step of a filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which one: a name, or a Python class.
    pub function: Result<String, Function>,
    /// Its options.
    pub options: Map<String, Json>,
    /// Options that are Python functions.
    pub functions: Vec<(String, Function)>,
}

/// A named filter: steps that answers go through.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterConfig {
    /// Its name, a part of every figure's.
    pub name: String,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// A metric with its options.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricConfig {
    /// Its name, or the Python function that it is.
    pub metric: Result<String, Function>,
    /// How values become one: a name or a Python function; `None` for the metric's own.
    pub aggregation: Option<Result<String, Function>>,
    /// Whether more is better; `None` for the metric's own.
    pub higher_is_better: Option<bool>,
    /// Whether it is to come from Hugging Face's `evaluate`.
    pub hf_evaluate: bool,
    /// Other options.
    pub options: Map<String, Json>,
}

/// A task as its file tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskConfig {
    /// The name.
    pub task: String,
    /// The name that tables show.
    pub alias: Option<String>,
    /// The file, for messages.
    pub path: std::path::PathBuf,
    /// A Python function that makes the data.
    pub custom_dataset: Option<Function>,
    /// The data set.
    pub dataset_path: Option<String>,
    /// Its configuration.
    pub dataset_name: Option<String>,
    /// More that is said of it.
    pub dataset_kwargs: Map<String, Json>,
    /// Splits.
    pub training_split: Option<String>,
    /// Splits.
    pub validation_split: Option<String>,
    /// Splits.
    pub test_split: Option<String>,
    /// What makes documents of rows.
    pub process_docs: Option<Function>,
    /// The question.
    pub doc_to_text: Option<Field>,
    /// The answer, or its place among the choices.
    pub doc_to_target: Option<Field>,
    /// The choices.
    pub doc_to_choice: Option<Field>,
    /// What is no text.
    pub not_text: Option<&'static str>,
    /// Whether answers are run as programs.
    pub unsafe_code: bool,
    /// What judges answers in the place of metrics.
    pub process_results: Option<Function>,
    /// A prompt of promptsource.
    pub use_prompt: Option<String>,
    /// Before all.
    pub description: String,
    /// Between question and answer.
    pub target_delimiter: String,
    /// Between shots.
    pub fewshot_delimiter: String,
    /// Shots.
    pub fewshot: Fewshot,
    /// How many shots.
    pub num_fewshot: Option<usize>,
    /// Metrics; `None` for those of the kind.
    pub metric_list: Option<Vec<MetricConfig>>,
    /// The kind of request.
    pub output_type: OutputType,
    /// How text is generated.
    pub generation_kwargs: Option<Map<String, Json>>,
    /// How often each document is asked.
    pub repeats: usize,
    /// Filters; `None` for the first answer as it is.
    pub filter_list: Option<Vec<FilterConfig>>,
    /// How answers begin.
    pub gen_prefix: Option<String>,
    /// Whatever its writers wanted.
    pub metadata: Json,
    /// The field by which documents belong together: a key of our own.
    pub cluster: Option<String>,
}

impl TaskConfig {
    /// Checks the keys of a task file.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong kind: named with file, task and key. A name with control characters.
    pub fn new(chosen: &Chosen) -> Result<Self> {
        check_name("task", &chosen.name, &chosen.source)?;
        let keys = Keys { entries: &chosen.source.entries };
        let fail = |what: Message| Error::file(&chosen.source.path, format!("task {}: {what}", chosen.name));
        Self::read(chosen, &keys).map_err(fail)
    }

    fn read(chosen: &Chosen, keys: &Keys) -> Result<Self, Message> {
        keys.known(&KEYS)?;
        let output_type = keys.text("output_type")?.unwrap_or_else(|| "generate_until".to_owned());
        let known = || OUTPUT_TYPES.map(|(name, _)| name).join(", ");
        let output_type = OUTPUT_TYPES.iter().find(|(name, _)| *name == output_type);
        let output_type = output_type.ok_or_else(|| Message::from(format!("output_type must be one of {}", known())))?.1;
        let fewshot_delimiter = keys.text("fewshot_delimiter")?.unwrap_or_else(|| "\n\n".to_owned());
        let target_delimiter = keys.text("target_delimiter")?.unwrap_or_else(|| " ".to_owned());
        let image =
            ["doc_to_image", "doc_to_audio"].into_iter().find(|key| keys.get(key).is_some_and(|node| *node != Node::Null));
        let mut config = Self {
            task: chosen.name.clone(),
            alias: keys.text("task_alias")?,
            path: chosen.source.path.clone(),
            custom_dataset: keys.function("custom_dataset")?,
            dataset_path: keys.text("dataset_path")?,
            dataset_name: keys.word("dataset_name")?,
            dataset_kwargs: keys.map("dataset_kwargs")?.unwrap_or_default(),
            training_split: keys.text("training_split")?,
            validation_split: keys.text("validation_split")?,
            test_split: keys.text("test_split")?,
            process_docs: keys.function("process_docs")?,
            doc_to_text: keys.field("doc_to_text")?,
            doc_to_target: keys.field("doc_to_target")?,
            doc_to_choice: keys.field("doc_to_choice")?,
            not_text: image,
            unsafe_code: keys.bool("unsafe_code")?.unwrap_or(false),
            process_results: keys.function("process_results")?,
            use_prompt: keys.text("use_prompt")?,
            description: keys.text("description")?.unwrap_or_default(),
            fewshot: Fewshot {
                sampler: Sampler::Drawn,
                split: keys.text("fewshot_split")?,
                process_docs: keys.function("process_docs")?,
                samples: None,
                doc_to_text: keys.field("doc_to_text")?,
                doc_to_choice: keys.field("doc_to_choice")?,
                doc_to_target: keys.field("doc_to_target")?,
                gen_prefix: keys.text("gen_prefix")?,
                fewshot_delimiter: fewshot_delimiter.clone(),
                target_delimiter: target_delimiter.clone(),
            },
            target_delimiter,
            num_fewshot: keys.count("num_fewshot")?,
            metric_list: keys.list("metric_list")?.map(|items| items.iter().map(metric).collect()).transpose()?,
            output_type,
            generation_kwargs: keys.map("generation_kwargs")?,
            repeats: keys.int("repeats")?.map_or(1, |n| n.clamp(1, 1 << 20) as usize),
            filter_list: keys.list("filter_list")?.map(|items| items.iter().map(filter).collect()).transpose()?,
            gen_prefix: keys.text("gen_prefix")?,
            metadata: keys.get("metadata").map_or(Json::Null, Node::to_json),
            cluster: keys.text("cluster")?,
            fewshot_delimiter,
        };
        if let Some(Node::Map(entries)) = keys.get("fewshot_config") {
            config.fewshot.read(&Keys { entries })?;
        }
        config.fill_generation();
        Ok(config)
    }

    /// What is taken where `generation_kwargs` do not say it.
    fn fill_generation(&mut self) {
        match &mut self.generation_kwargs {
            Some(options) => {
                if let Some(temperature) = options.get_mut("temperature")
                    && let Some(value) = temperature.as_f64()
                {
                    *temperature = json!(value);
                }
                if !options.contains_key("until") {
                    options.insert("until".to_owned(), json!([self.fewshot_delimiter]));
                }
            }
            None if self.output_type == OutputType::GenerateUntil => {
                let options = [
                    ("temperature", json!(0.0)),
                    ("do_sample", json!(false)),
                    ("max_gen_toks", json!(256)),
                    ("until", json!([self.fewshot_delimiter])),
                ];
                self.generation_kwargs = Some(options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
            }
            None => {}
        }
    }
}

impl Fewshot {
    fn read(&mut self, keys: &Keys) -> Result<(), Message> {
        // As in 0.4.13, `fewshot_indices` is known and changes nothing.
        keys.known(&[
            "sampler",
            "split",
            "process_docs",
            "fewshot_indices",
            "samples",
            "doc_to_text",
            "doc_to_choice",
            "doc_to_target",
            "gen_prefix",
            "fewshot_delimiter",
            "target_delimiter",
        ])?;
        self.sampler = match keys.get("sampler") {
            None => Sampler::Drawn,
            Some(Node::Text(name)) if name == "default" => Sampler::Drawn,
            Some(Node::Text(name)) if name == "first_n" => Sampler::FirstN,
            Some(Node::Function(function)) => {
                return Err(format!("fewshot_config.sampler is the Python class {}, which is not run here", function.name).into());
            }
            Some(_) => return Err("fewshot_config.sampler must be default or first_n".into()),
        };
        let has = |key: &str| keys.get(key).is_some();
        if has("split") {
            self.split = keys.text("split")?;
        }
        if has("process_docs") {
            self.process_docs = keys.function("process_docs")?;
        }
        if has("doc_to_text") {
            self.doc_to_text = keys.field("doc_to_text")?;
        }
        if has("doc_to_choice") {
            self.doc_to_choice = keys.field("doc_to_choice")?;
        }
        if has("doc_to_target") {
            self.doc_to_target = keys.field("doc_to_target")?;
        }
        if has("gen_prefix") {
            self.gen_prefix = keys.text("gen_prefix")?;
        }
        if let Some(text) = keys.text("fewshot_delimiter")? {
            self.fewshot_delimiter = text;
        }
        if let Some(text) = keys.text("target_delimiter")? {
            self.target_delimiter = text;
        }
        self.samples = match keys.get("samples") {
            None | Some(Node::Null) => None,
            Some(Node::Function(function)) => Some(Samples::Function(function.clone())),
            Some(Node::List(items)) => {
                let doc = |item: &Node| -> Result<Map<String, Json>, Message> {
                    match item.to_json() {
                        Json::Object(doc) => Ok(doc),
                        _ => Err("fewshot_config.samples must be a list of mappings".into()),
                    }
                };
                Some(Samples::Listed(items.iter().map(doc).collect::<Result<_, _>>()?))
            }
            Some(_) => return Err("fewshot_config.samples must be a list of mappings".into()),
        };
        Ok(())
    }
}

fn metric(node: &Node) -> Result<MetricConfig, Message> {
    let Node::Map(entries) = node else { return Err("metric_list must be a list of mappings".into()) };
    let keys = Keys { entries };
    let metric = keys.named("metric")?.ok_or_else(|| Message::from("an entry of metric_list lacks the key metric"))?;
    let own = ["metric", "aggregation", "higher_is_better", "hf_evaluate"];
    Ok(MetricConfig {
        metric,
        aggregation: keys.named("aggregation")?,
        higher_is_better: keys.bool("higher_is_better")?,
        hf_evaluate: keys.bool("hf_evaluate")?.unwrap_or(false),
        options: keys.options(&own),
    })
}

fn filter(node: &Node) -> Result<FilterConfig, Message> {
    let Node::Map(entries) = node else { return Err("filter_list must be a list of mappings".into()) };
    let keys = Keys { entries };
    keys.known(&["name", "filter"])?;
    let name = keys.text("name")?.ok_or_else(|| Message::from("an entry of filter_list lacks a name"))?;
    let steps = keys.list("filter")?.ok_or_else(|| Message::from(format!("the filter {name} lacks the key filter")))?;
    let steps = steps.iter().map(|node| -> Result<Step, Message> {
        let Node::Map(entries) = node else { return Err(format!("the steps of the filter {name} must be mappings").into()) };
        let keys = Keys { entries };
        let function = keys
            .named("function")?
            .ok_or_else(|| Message::from(format!("a step of the filter {name} lacks the key function")))?;
        let functions = entries.iter().filter_map(|(key, value)| match value {
            Node::Function(function) if key != "function" => Some((key.clone(), function.clone())),
            _ => None,
        });
        Ok(Step { function, options: keys.options(&["function"]), functions: functions.collect() })
    });
    Ok(FilterConfig { steps: steps.collect::<Result<_, _>>()?, name })
}

/// The keys of a mapping, read with their names in every message.
struct Keys<'a> {
    entries: &'a [(String, Node)],
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    fn known(&self, known: &[&str]) -> Result<(), Message> {
        match self.entries.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, _)) => Err(format!("the key {key:?} is unknown").into()),
            None => Ok(()),
        }
    }

    fn wrong<T>(&self, key: &str, expected: &str) -> Result<T, Message> {
        Err(format!("{key} must be {expected}, not {}", self.get(key).map_or("nothing", Node::kind)).into())
    }

    fn text(&self, key: &str) -> Result<Option<String>, Message> {
        match self.get(key) {
            None | Some(Node::Null) => Ok(None),
            Some(Node::Text(text)) => Ok(Some(text.clone())),
            _ => self.wrong(key, "a text"),
        }
    }

    /// A text, or a number that is meant as one.
    fn word(&self, key: &str) -> Result<Option<String>, Message> {
        match self.get(key) {
            Some(node @ (Node::Int(_) | Node::Float(_) | Node::Bool(_))) => Ok(Some(bitworth_text::python::str(&node.to_json()))),
            _ => self.text(key),
        }
    }

    fn int(&self, key: &str) -> Result<Option<i64>, Message> {
        match self.get(key) {
            None | Some(Node::Null) => Ok(None),
            Some(Node::Int(value)) => Ok(Some(*value)),
            _ => self.wrong(key, "an integer"),
        }
    }

    fn count(&self, key: &str) -> Result<Option<usize>, Message> {
        let Some(count) = self.int(key)? else { return Ok(None) };
        usize::try_from(count).map(Some).map_err(|_| format!("{key} must be 0 or more, not {count}").into())
    }

    fn bool(&self, key: &str) -> Result<Option<bool>, Message> {
        match self.get(key) {
            None | Some(Node::Null) => Ok(None),
            Some(Node::Bool(value)) => Ok(Some(*value)),
            Some(Node::Text(text)) if matches!(text.as_str(), "true" | "false") => Ok(Some(text == "true")),
            _ => self.wrong(key, "true or false"),
        }
    }

    fn list(&self, key: &str) -> Result<Option<&[Node]>, Message> {
        match self.get(key) {
            None | Some(Node::Null) => Ok(None),
            Some(Node::List(items)) => Ok(Some(items)),
            _ => self.wrong(key, "a list"),
        }
    }

    fn map(&self, key: &str) -> Result<Option<Map<String, Json>>, Message> {
        match self.get(key).map(Node::to_json) {
            None | Some(Json::Null) => Ok(None),
            Some(Json::Object(map)) => Ok(Some(map)),
            Some(_) => self.wrong(key, "a mapping"),
        }
    }

    fn function(&self, key: &str) -> Result<Option<Function>, Message> {
        match self.get(key) {
            None | Some(Node::Null) => Ok(None),
            Some(Node::Function(function)) => Ok(Some(function.clone())),
            _ => self.wrong(key, "a function"),
        }
    }

    /// A name, or a Python function in its place.
    fn named(&self, key: &str) -> Result<Option<Result<String, Function>>, Message> {
        match self.get(key) {
            Some(Node::Function(function)) => Ok(Some(Err(function.clone()))),
            _ => Ok(self.text(key)?.map(Ok)),
        }
    }

    fn field(&self, key: &str) -> Result<Option<Field>, Message> {
        Ok(match self.get(key) {
            None | Some(Node::Null) => None,
            Some(Node::Text(text)) => Some(Field::Text(text.clone())),
            Some(Node::Int(value)) => Some(Field::Int(*value)),
            Some(Node::List(items)) => Some(Field::List(items.iter().map(Node::to_json).collect())),
            Some(Node::Map(entries)) => Some(Field::List(entries.iter().map(|(_, value)| value.to_json()).collect())),
            Some(Node::Function(function)) => Some(Field::Function(function.clone())),
            Some(_) => return self.wrong(key, "a text, an integer or a list"),
        })
    }

    fn options(&self, but: &[&str]) -> Map<String, Json> {
        let rest = self.entries.iter().filter(|(key, value)| !but.contains(&key.as_str()) && !matches!(value, Node::Function(_)));
        rest.map(|(key, value)| (key.clone(), value.to_json())).collect()
    }
}
