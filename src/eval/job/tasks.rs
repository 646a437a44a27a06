//! Which tasks are scored, and how they are asked.

use std::collections::HashMap;
use std::fmt;

use bitworth_quant::message::{Message, Setting};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::forms::{TomlTable, toml_tables};

/// How far below the reference a lane may stay and count as good enough, in points of accuracy, where a job does not say.
pub const DEFAULT_MARGIN: f64 = 0.5;
/// A folder of task files of lm-evaluation-harness.
pub const INCLUDE_PATH: Setting = Setting::new("include_path");

/// Tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct TasksSpec {
    /// Names of tasks that come with the program, task files (`.toml`) seen from the configuration's folder, and tasks, groups,
    /// tags and patterns of lm-evaluation-harness's task files.
    #[serde(default)]
    pub names: Vec<String>,
    /// Files of llama-perplexity's multiple-choice tests.
    #[serde(default, deserialize_with = "toml_tables")]
    pub llama_perplexity: Vec<PerplexitySpec>,
    /// Which items of each.
    #[serde(default)]
    pub limit: Limit,
    /// Whether they are asked as chats, in the model's chat template.
    #[serde(default)]
    pub chat: bool,
    /// Folders of task files of lm-evaluation-harness, seen from the configuration's folder; tasks of later ones replace those of
    /// earlier ones.
    #[serde(default)]
    pub include_path: Vec<String>,
    /// A file that names local files for the data sets of tasks, seen from the configuration's folder.
    pub data_map: Option<String>,
    /// Shots in the place of a task's own number.
    pub num_fewshot: Option<usize>,
    /// Put before a task's description: a system message where tasks are asked as chats.
    pub system: Option<String>,
    /// Whether shots are turns of the chat, not part of one turn.
    #[serde(default)]
    pub fewshot_as_multiturn: bool,
    /// How far below the reference a lane may stay and count as good enough, in points.
    #[serde(default = "default_margin")]
    pub margin: f64,
}

fn default_margin() -> f64 {
    DEFAULT_MARGIN
}

impl TomlTable for TasksSpec {
    const TAKES: &'static str = "a table, as [tasks] with names = [\"facts\"]";
}

impl TasksSpec {
    /// Checks what can be checked without opening anything.
    ///
    /// # Errors
    /// No task, a limit of 0, a margin that is none.
    pub fn check(&self) -> Result<(), Message> {
        if self.llama_perplexity.iter().any(|spec| spec.count == Some(0)) {
            return Err("tasks.llama_perplexity: count must be above 0; leave it out for llama-perplexity's own".into());
        }
        if self.names.is_empty() && self.llama_perplexity.is_empty() {
            return Err("tasks.names is empty; name a task, or leave [tasks] out".into());
        }
        if self.limit == Limit::First(0) {
            return Err("tasks.limit must be above 0; leave it out for all".into());
        }
        if self.fewshot_as_multiturn && !self.chat {
            return Err("tasks.fewshot_as_multiturn: shots can only be turns of a chat; set chat = true".into());
        }
        if !(self.margin > 0.0 && self.margin <= 100.0) {
            return Err(format!("tasks.margin = {}: give points above 0, at most 100", self.margin).into());
        }
        Ok(())
    }
}

/// A file of one of llama-perplexity's multiple-choice tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerplexitySpec {
    /// Which of them.
    pub kind: PerplexityKind,
    /// The file, seen from the configuration's folder.
    pub file: String,
    /// How many questions, drawn as llama-perplexity draws them [default: 400 of HellaSwag, all of others].
    pub count: Option<usize>,
}

impl TomlTable for PerplexitySpec {
    const TAKES: &'static str = "a table, as [[tasks.llama_perplexity]] with kind = \"hellaswag\" and file = \"hellaswag.txt\"";
}

/// llama-perplexity's multiple-choice tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PerplexityKind {
    /// Four endings, six lines of text a question.
    Hellaswag,
    /// Two words for a blank, a line of CSV a question.
    Winogrande,
    /// Any number of answers, a binary file.
    MultipleChoice,
}

impl PerplexityKind {
    /// The name of its task in records.
    pub fn task(self) -> &'static str {
        match self {
            Self::Hellaswag => "llama_hellaswag",
            Self::Winogrande => "llama_winogrande",
            Self::MultipleChoice => "llama_multiple_choice",
        }
    }
}

/// Which items of a task are asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Limit {
    /// All.
    #[default]
    All,
    /// The first ones.
    First(usize),
    /// A share of them, the first ones; rounded up.
    Share(f64),
    /// These, by task: numbers from 0. Tasks that are not named are asked as a whole.
    Samples(HashMap<String, Vec<usize>>),
}

impl Limit {
    /// A number of items, or a share where it lies below 1.
    ///
    /// # Errors
    /// A number that is neither.
    pub fn of_number(number: f64) -> Result<Self, Message> {
        match number {
            share if share > 0.0 && share < 1.0 => Ok(Self::Share(share)),
            count if count >= 0.0 && count.fract() == 0.0 && count < 1e15 => Ok(Self::First(count as usize)),
            _ => Err(format!("{number} is no limit: give a number of items, or a share between 0 and 1").into()),
        }
    }

    /// The numbers of the items of a task of `total` that are asked, in order.
    ///
    /// # Errors
    /// The number of an item that there is not.
    pub fn numbers(&self, task: &str, total: usize) -> Result<Vec<usize>, usize> {
        let first = |count: usize| Ok((0..total.min(count)).collect());
        match self {
            Self::All => first(total),
            Self::First(count) => first(*count),
            Self::Share(share) => first((total as f64 * share).ceil() as usize),
            Self::Samples(samples) => match samples.get(task) {
                None => first(total),
                Some(numbers) => match numbers.iter().find(|number| **number >= total) {
                    Some(bad) => Err(*bad),
                    None => {
                        let mut numbers = numbers.clone();
                        numbers.sort_unstable();
                        numbers.dedup();
                        Ok(numbers)
                    }
                },
            },
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_none(),
            Self::First(count) => count.serialize(serializer),
            Self::Share(share) => share.serialize(serializer),
            Self::Samples(samples) => {
                // In an order of its own: a job's hash is over this.
                samples.iter().collect::<std::collections::BTreeMap<_, _>>().serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = Limit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of items, a share between 0 and 1, or the numbers of items by task")
            }

            fn visit_u64<E>(self, count: u64) -> Result<Limit, E> {
                Ok(Limit::First(usize::try_from(count).unwrap_or(usize::MAX)))
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Limit, E> {
                self.visit_f64(count as f64)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Limit, E> {
                Limit::of_number(number).map_err(|what| E::custom(what.to_string()))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Limit, A::Error> {
                HashMap::deserialize(de::value::MapAccessDeserializer::new(map)).map(Limit::Samples)
            }
        }
        deserializer.deserialize_any(Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_take_the_first_items_a_share_or_those_of_these_numbers() {
        let numbers = |limit: &Limit| limit.numbers("t", 7);
        assert_eq!(numbers(&Limit::First(3)), Ok(vec![0, 1, 2]));
        assert_eq!(numbers(&Limit::First(1_000_000)).unwrap().len(), 7);
        assert_eq!(numbers(&Limit::All).unwrap().len(), 7);
        // lm-evaluation-harness 0.4.13: int(math.ceil(len(docs) * limit)).
        assert_eq!(numbers(&Limit::Share(0.3)).unwrap().len(), 3);
        let samples = |list: &[usize]| Limit::Samples([("t".to_owned(), list.to_vec())].into());
        assert_eq!(numbers(&samples(&[5, 0, 5])), Ok(vec![0, 5]));
        assert_eq!(numbers(&samples(&[7])), Err(7));
        assert_eq!(samples(&[1]).numbers("other", 2), Ok(vec![0, 1]));
    }

    #[test]
    fn limits_are_read_from_configurations() {
        let limit = |text: &str| {
            let spec = toml::from_str::<TasksSpec>(&format!("names = [\"t\"]\nlimit = {text}"));
            spec.map(|spec| spec.limit).map_err(|e| e.to_string())
        };
        assert_eq!(limit("5"), Ok(Limit::First(5)));
        assert_eq!(limit("0.25"), Ok(Limit::Share(0.25)));
        assert_eq!(limit("{ t = [3, 1] }"), Ok(Limit::Samples([("t".to_owned(), vec![3, 1])].into())));
        for wrong in ["-1", "1.5", "\"all\""] {
            let error = limit(wrong).unwrap_err();
            assert!(error.contains("share"), "{error}");
        }
    }
}
