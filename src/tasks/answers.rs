//! Recorded answers: a file of JSON lines `{"task", "doc_id", "answers"}`, as a model gave them: for each request one, or where a
//! task repeats its requests a list of as many. Absent: what they mean ([`crate::judge`]).

use std::collections::HashMap;
use std::path::Path;

use bitworth_eval::job::Limit;
use bitworth_quant::message::Setting;
use bitworth_quant::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::ask::Built;
use crate::files::index::Chosen;

/// A file of recorded answers.
pub const ANSWERS: Setting = Setting::new("answers");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    task: String,
    doc_id: usize,
    answers: Vec<Value>,
}

/// Answers by task and document.
#[derive(Debug, Default)]
pub struct Answers {
    path: std::path::PathBuf,
    known: HashMap<(String, usize), Vec<Value>>,
}

impl Answers {
    /// Reads a file.
    ///
    /// # Errors
    /// A line that is not of the form, or a document that is answered twice.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let mut known = HashMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let fail = |what: String| Error::file(path, format!("line {}: {what}", number + 1));
            let form = r#"{"task": "...", "doc_id": 0, "answers": [[logprob, is_greedy], ...] or ["text", ...]}"#;
            let expected = format!("expected {form}, an answer for each request, or a list of answers where the task repeats it");
            let line: Line = serde_json::from_str(line).map_err(|e| fail(format!("{e}; {expected}")))?;
            let what = format!("document {} of the task {} is answered twice", line.doc_id, line.task);
            if known.insert((line.task, line.doc_id), line.answers).is_some() {
                return Err(fail(what));
            }
        }
        Ok(Self { path: path.to_owned(), known })
    }

    /// The documents of a task that there are answers to, in order.
    pub fn documents(&self, task: &str) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.known.keys().filter(|(own, _)| own == task).map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The documents of these tasks that there are answers to.
    ///
    /// # Errors
    /// A task without an answer.
    pub fn limit(&self, tasks: &[Chosen]) -> Result<Limit> {
        let one = |task: &Chosen| match self.documents(&task.name) {
            none if none.is_empty() => Err(Error::file(&self.path, format!("has no answers to the task {}", task.name))),
            documents => Ok((task.name.clone(), documents)),
        };
        Ok(Limit::Samples(tasks.iter().map(one).collect::<Result<_>>()?))
    }

    /// The tasks that there are answers to, by name.
    pub fn tasks(&self) -> std::collections::BTreeSet<&str> {
        self.known.keys().map(|(task, _)| task.as_str()).collect()
    }

    /// The answers to all documents of a task that was asked.
    ///
    /// # Errors
    /// A document without answers.
    pub fn of(&self, built: &Built) -> Result<Vec<Vec<Value>>> {
        let task = &built.definition.config.task;
        let one = |doc_id: usize| {
            let own = self.known.get(&(task.clone(), doc_id));
            own.cloned().ok_or_else(|| Error::file(&self.path, format!("has no answers to document {doc_id} of the task {task}")))
        };
        built.asked.iter().map(|asked| one(asked.doc_id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::source::TaskSource;

    fn read(text: &str) -> Result<Answers, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Answers::read(file.path()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_was_answered_says_which_documents_are_meant() {
        let line = |id: usize| format!("{{\"task\": \"t\", \"doc_id\": {id}, \"answers\": []}}\n");
        let answers = read(&(line(3) + &line(1))).unwrap();
        let task =
            |name: &str| Chosen { name: name.to_owned(), source: TaskSource { path: "x.yaml".into(), entries: Vec::new() } };
        let limit = answers.limit(&[task("t")]).unwrap();
        assert_eq!(limit, Limit::Samples([("t".to_owned(), vec![1, 3])].into()));
        assert!(answers.limit(&[task("t"), task("u")]).unwrap_err().to_string().contains("has no answers to the task u"));
    }

    #[test]
    fn lines_are_read_and_mistakes_are_named() {
        let one = "{\"task\": \"t\", \"doc_id\": 3, \"answers\": [[-1.5, true]]}\n";
        let two = "{\"task\": \"t\", \"doc_id\": 1, \"answers\": [\"x\"]}\n";
        assert_eq!(read(&format!("{one}\n{two}")).unwrap().documents("t"), [1, 3]);
        assert!(read(&format!("{one}{one}")).unwrap_err().contains("line 2: document 3 of the task t is answered twice"));
        assert!(read("{\"task\": \"t\"}").unwrap_err().contains("line 1"));
        assert!(read("{\"task\": \"t\", \"doc_id\": 1, \"answers\": [], \"x\": 1}").unwrap_err().contains("unknown field"));
    }
}
