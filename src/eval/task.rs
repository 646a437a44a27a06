//! A task is data: a TOML file names the kind, the data file and the fields ([`Task::load`]); [`build`] turns its items into
//! requests and [`Task::judge`] the answers into results. What a kind of task means is in `kinds`; nothing here runs a model.

use std::path::Path;

use bitworth_quant::message::Message;
use bitworth_quant::{Error, Result};
use serde::Deserialize;

use crate::demo;
use crate::kinds::{self, DataRow, Item, KINDS, TaskKind, Verdict};
use crate::request::{Answer, Request, lines_of};

/// The tasks that come with the program: name and task file. A test compares this with the folder.
pub const TASKS: &[(&str, &str)] = &[
    ("arithmetic", include_str!("../../configs/tasks/arithmetic.toml")),
    ("facts", include_str!("../../configs/tasks/facts.toml")),
    ("grammar", include_str!("../../configs/tasks/grammar.toml")),
    ("recall", include_str!("../../configs/tasks/recall.toml")),
    ("sums", include_str!("../../configs/tasks/sums.toml")),
];

/// A task: what is measured, of which kind, on which items.
#[derive(Debug)]
pub struct Task {
    /// Its name, a column of every summary: small letters, digits and `_`.
    pub name: String,
    /// Grows whenever results are no longer comparable with older ones.
    pub version: u32,
    /// What it measures, in a sentence.
    pub description: String,
    /// The accuracy that guessing reaches, from 0 to 1.
    pub chance: f64,
    /// Its items, in the order of the data file.
    pub items: Vec<Item>,
    kind: Box<dyn TaskKind>,
}

/// What became of one item of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemResult {
    /// Number of the item in the data file, from 0.
    pub item: usize,
    /// Right or wrong, and what that was judged from.
    pub verdict: Verdict,
}

/// A task file; the keys not named here belong to the kind.
#[derive(Deserialize)]
struct TaskFile {
    name: String,
    version: u32,
    kind: String,
    data: String,
    description: String,
    chance: f64,
    /// The field of a row that items have in common which are not independent, as a passage.
    cluster: Option<String>,
    #[serde(flatten)]
    rest: toml::Table,
}

impl Task {
    /// Loads a task of [`TASKS`] by name, or a task file by its path (which ends with `.toml`). A task file's `data` is a
    /// `demo:` path, or a path that is seen from the task file's folder.
    ///
    /// # Errors
    /// An unknown name, an unknown or missing key, a data row that lacks a field: each named with its file and line.
    pub fn load(name_or_path: &str) -> Result<Self> {
        if let Some((name, text)) = TASKS.iter().find(|(name, _)| *name == name_or_path) {
            return Self::parse(text, Path::new(&format!("configs/tasks/{name}.toml")));
        }
        if !name_or_path.ends_with(".toml") {
            return Err(Error::unknown("task", name_or_path, task_names()));
        }
        let text = std::fs::read_to_string(name_or_path).map_err(|e| Error::io(name_or_path, e))?;
        Self::parse(&text, Path::new(name_or_path))
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let file: TaskFile = toml::from_str(text).map_err(|e| Error::file(path, e.to_string().trim_end()))?;
        check_common(&file).map_err(|what| Error::file(path, what))?;
        let entry = KINDS.iter().find(|k| k.name == file.kind);
        let entry = entry.ok_or_else(|| Error::unknown("kind of task", &file.kind, KINDS.iter().map(|k| k.name)))?;
        let kind = (entry.parse)(file.rest).map_err(|what| Error::file(path, what))?;
        let items = read_items(&beside(path, &file.data), kind.as_ref(), file.cluster.as_deref())?;
        let TaskFile { name, version, description, chance, .. } = file;
        Ok(Self { name, version, description, chance, items, kind })
    }

    /// The task asked as a chat, as lm-evaluation-harness does with `--apply_chat_template`: what comes before an answer is what
    /// a user says, `render` makes the chat of it up to where the model is to answer, and a choice follows without the space that
    /// set it apart. It is another task than the plain one, with a name that no task file can have: `NAME+chat`.
    ///
    /// # Errors
    /// A task that scores whole texts; an item whose chat cannot be rendered.
    pub fn as_chat(mut self, render: impl Fn(&str) -> Result<String, Message>) -> Result<Self> {
        let fail = |number: usize, what: Message| Error::file(&self.name, Message::from(format!("item {number}: ")).then(what));
        for (number, item) in self.items.iter_mut().enumerate() {
            for request in &mut item.requests {
                match request {
                    Request::Loglikelihood { context, .. } if context.is_empty() => return Err(whole_texts(&self.name)),
                    Request::Loglikelihood { context, continuation } => {
                        *context = render(context).map_err(|what| fail(number, what))?;
                        if let Some(bare) = continuation.strip_prefix(' ').filter(|bare| !bare.is_empty()) {
                            *continuation = bare.to_owned();
                        }
                    }
                    Request::GenerateUntil { prompt, .. } => *prompt = render(prompt).map_err(|what| fail(number, what))?,
                    Request::LoglikelihoodRolling { .. } => return Err(whole_texts(&self.name)),
                }
            }
        }
        self.name += "+chat";
        Ok(self)
    }

    /// Judges the answers to [`build`] of the items of these `numbers`, in its order.
    ///
    /// # Errors
    /// More or fewer answers than requests, or answers that do not fit: named with the task and the item.
    pub fn judge(&self, numbers: &[usize], answers: &[Answer]) -> Result<Vec<ItemResult>> {
        let fail = |item: usize, what: Message| Error::file(&self.name, Message::from(format!("item {item}: ")).then(what));
        let mut rest = answers;
        let mut results = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let item = &self.items[number];
            let Some((own, after)) = rest.split_at_checked(item.requests.len()) else {
                return Err(fail(number, "the answers end here".into()));
            };
            let verdict = self.kind.judge(item, own).map_err(|what| fail(number, what))?;
            results.push(ItemResult { item: number, verdict });
            rest = after;
        }
        match rest.len() {
            0 => Ok(results),
            left => Err(fail(self.items.len(), format!("{left} answers are left over").into())),
        }
    }
}

/// All requests of `items`, in order.
pub fn build<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<Request> {
    items.into_iter().flat_map(|item| item.requests.iter().cloned()).collect()
}

/// The names of the tasks that come with the program.
pub fn task_names() -> impl Iterator<Item = &'static str> {
    TASKS.iter().map(|(name, _)| *name)
}

fn check_common(file: &TaskFile) -> Result<(), Message> {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if file.name.is_empty() || !file.name.chars().all(sound) {
        return Err(format!("name {:?} may hold only small letters, digits and _", file.name).into());
    }
    if !(0.0..=1.0).contains(&file.chance) {
        return Err(format!("chance {} must lie between 0 and 1", file.chance).into());
    }
    Ok(())
}

/// `data` as seen from the folder of the task file at `path`.
fn beside(path: &Path, data: &str) -> String {
    if data.starts_with(demo::PREFIX) {
        return data.to_owned();
    }
    path.parent().unwrap_or(Path::new("")).join(data).to_string_lossy().into_owned()
}

fn read_items(data: &str, kind: &dyn TaskKind, cluster: Option<&str>) -> Result<Vec<Item>> {
    let bytes = demo::read(data)?;
    let text = lines_of(bytes).map_err(|what| Error::file(data, what))?;
    let mut items = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fail = |what: Message| Error::file(data, Message::from(format!("line {}: ", number + 1)).then(what));
        let row: DataRow = serde_json::from_str(line).map_err(|e| fail(e.to_string().into()))?;
        let cluster = cluster.map(|field| kinds::text(&row, field)).transpose().map_err(fail)?;
        items.push(Item { cluster, ..kind.item(&row).map_err(fail)? });
    }
    if items.is_empty() {
        return Err(Error::file(data, "holds no item"));
    }
    Ok(items)
}

fn whole_texts(task: &str) -> Error {
    Error::file(task, "scores whole texts, so it cannot be asked as a chat")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::Gold;
    use crate::request::Loglikelihood;

    #[test]
    fn the_table_holds_every_task_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/tasks");
        let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = files.filter_map(|f| Some(f.strip_suffix(".toml")?.to_owned())).collect();
        names.sort();
        assert!(names.iter().map(String::as_str).eq(task_names()), "TASKS and configs/tasks differ: {names:?}");
    }

    #[test]
    fn every_task_of_the_table_loads_under_its_name() {
        for name in task_names() {
            let task = Task::load(name).unwrap();
            assert_eq!(task.name, name);
            assert!(!task.items.is_empty() && !task.description.is_empty());
        }
    }

    #[track_caller]
    fn check_size(name: &str, items: usize, requests: usize) {
        let task = Task::load(name).unwrap();
        assert_eq!((task.items.len(), build(&task.items).len()), (items, requests), "{name}");
    }

    #[test]
    fn the_demo_tasks_have_the_items_that_the_expected_scores_are_of() {
        check_size("facts", 800, 3200);
        check_size("arithmetic", 800, 6400);
        check_size("recall", 600, 2400);
        check_size("grammar", 600, 1200);
        check_size("sums", 600, 600);
    }

    fn score(logprob: f64) -> Answer {
        Answer::Loglikelihood(Loglikelihood { logprob, tokens: 1, is_greedy: true, bytes: 1 })
    }

    /// Answers of a model that always knows (or never).
    fn answers(items: &[Item], right: bool) -> Vec<Answer> {
        let answer = |item: &Item| match &item.gold {
            Gold::Text(text) => vec![Answer::Text(if right { format!(" {text}. And") } else { "no".into() })],
            Gold::Choice(gold) => {
                (0..item.requests.len()).map(|i| score(if (i == *gold) == right { -1.0 } else { -2.0 })).collect()
            }
        };
        items.iter().flat_map(answer).collect()
    }

    #[test]
    fn a_model_that_knows_gets_every_item_and_one_that_does_not_none() {
        for name in task_names() {
            let task = Task::load(name).unwrap();
            for right in [true, false] {
                let numbers: Vec<usize> = (0..task.items.len()).collect();
                let results = task.judge(&numbers, &answers(&task.items, right)).unwrap();
                assert_eq!(results.len(), task.items.len());
                assert!(results.iter().all(|r| r.verdict.correct == right), "{name}");
            }
        }
    }

    #[test]
    fn a_task_asked_as_a_chat_is_another_task() {
        let render = |text: &str| Ok(format!("<user>{text}<model>"));
        let facts = Task::load("facts").unwrap();
        let Request::Loglikelihood { context, continuation } = facts.items[0].requests[0].clone() else { panic!() };
        let chat = facts.as_chat(render).unwrap();
        assert_eq!(chat.name, "facts+chat");
        let asked = Request::Loglikelihood {
            context: format!("<user>{context}<model>"),
            continuation: continuation.trim_start().to_owned(),
        };
        assert_eq!(chat.items[0].requests[0], asked);
        let sums = Task::load("sums").unwrap().as_chat(render).unwrap();
        assert!(matches!(&sums.items[0].requests[0], Request::GenerateUntil { prompt, .. } if prompt.ends_with("<model>")));
        let error = Task::load("grammar").unwrap().as_chat(render).unwrap_err().to_string();
        assert!(error.contains("grammar") && error.contains("whole texts"), "{error}");
        let error = Task::load("sums").unwrap().as_chat(|_| Err("no".into())).unwrap_err().to_string();
        assert!(error.contains("sums: item 0: no"), "{error}");
    }

    #[test]
    fn too_few_or_too_many_answers_are_errors() {
        let task = Task::load("grammar").unwrap();
        for n in [3, 5] {
            let error = task.judge(&[0, 1], &vec![score(-1.0); n]).unwrap_err().to_string();
            assert!(error.contains("grammar"), "{error}");
        }
    }

    const TASK: &str = "name = 'pairs'\nversion = 3\nkind = 'minimal_pair'\ndata = 'pairs.jsonl'\ndescription = 'd'\nchance = \
         0.5\n[fields]\ngood = 'g'\nbad = 'b'\n";

    /// Loads a task from a folder with this task file and this data.
    fn load(task: &str, data: &str) -> Result<Task, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pairs.jsonl"), data).unwrap();
        let path = dir.path().join("pairs.toml");
        std::fs::write(&path, task).unwrap();
        Task::load(path.to_str().unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_task_file_finds_its_data_beside_it() {
        let task = load(TASK, "{\"g\": \"a\", \"b\": \"c\", \"note\": 1}\n\n").unwrap();
        assert_eq!((task.name.as_str(), task.version, task.items.len()), ("pairs", 3, 1));
    }

    #[test]
    fn items_that_belong_together_say_so_in_a_field_that_the_task_names() {
        let task = TASK.replace("chance", "cluster = 'note'\nchance");
        let data = "{\"g\": \"a\", \"b\": \"c\", \"note\": \"p\"}\n";
        assert_eq!(load(&task, data).unwrap().items[0].cluster.as_deref(), Some("p"));
        check_error(&task, &data.replace("note", "other"), &["line 1", "\"note\" is missing"]);
        assert_eq!(load(TASK, data).unwrap().items[0].cluster, None);
    }

    #[track_caller]
    fn check_error(task: &str, data: &str, expected: &[&str]) {
        let error = load(task, data).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }

    #[test]
    fn mistakes_in_a_task_file_are_named() {
        let good = "{\"g\": \"a\", \"b\": \"c\"}";
        check_error(&TASK.replace("version = 3\n", ""), good, &["pairs.toml", "version"]);
        check_error(&TASK.replace("version = 3", "version = 3\nmetric = 'x'"), good, &["pairs.toml", "metric"]);
        check_error(&TASK.replace("bad = 'b'", "bad = 'b'\nugly = 'u'"), good, &["pairs.toml", "ugly"]);
        check_error(&TASK.replace("minimal_pair", "minimal"), good, &["minimal", "multiple_choice"]);
        check_error(&TASK.replace("'pairs'", "'two pairs'"), good, &["two pairs"]);
        check_error(&TASK.replace("0.5", "50.0"), good, &["chance"]);
        check_error(&TASK.replace("pairs.jsonl", "demo:data/none.jsonl"), good, &["demo:data/none.jsonl"]);
    }

    #[test]
    fn mistakes_in_the_data_are_named_with_their_line() {
        check_error(TASK, "{\"g\": \"a\", \"b\": \"c\"}\n{\"g\": \"a\"}", &["pairs.jsonl", "line 2", "\"b\" is missing"]);
        check_error(TASK, "[]", &["pairs.jsonl", "line 1"]);
        check_error(TASK, "", &["pairs.jsonl", "no item"]);
    }

    #[test]
    fn an_unknown_task_is_refused_with_the_known_ones() {
        let error = Task::load("hellaswag").unwrap_err().to_string();
        assert!(error.contains("hellaswag") && error.contains("grammar"), "{error}");
    }
}
