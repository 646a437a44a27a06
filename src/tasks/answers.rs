//! Recorded answers: a file of JSON lines `{"task", "doc_id", "answers"}`, as a model gave them: for each request one, or where a
//! task repeats its requests a list of as many. Absent: what they mean ([`crate::judge`]).

use std::collections::{HashMap, HashSet};
use std::path::Path;

use bitworth_quant::message::{Message, Setting};
use bitworth_quant::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::ask::{Built, SAMPLES};

/// A file of recorded answers.
pub const ANSWERS: Setting = Setting::new("answers");
/// How many documents.
pub const LIMIT: Setting = Setting::new("limit");

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
    fn documents(&self, task: &str) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.known.keys().filter(|(own, _)| own == task).map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The tasks that there are answers to, by name.
    pub fn tasks(&self) -> std::collections::BTreeSet<&str> {
        self.known.keys().map(|(task, _)| task.as_str()).collect()
    }

    /// The answers to the documents of a task that are asked.
    ///
    /// # Errors
    /// Documents without answers, as a file that was cut off has them; answers to documents that are not asked.
    pub fn of(&self, built: &Built) -> Result<Vec<Vec<Value>>> {
        let asked: Vec<usize> = built.asked.iter().map(|asked| asked.doc_id).collect();
        self.exactly(&built.definition.config.task, &asked)
    }

    /// The answers to these documents, which must be all that there are to the task.
    fn exactly(&self, task: &str, asked: &[usize]) -> Result<Vec<Vec<Value>>> {
        let found = asked.iter().map(|doc_id| self.known.get(&(task.to_owned(), *doc_id)).ok_or(*doc_id));
        let missing: Vec<usize> = found.clone().filter_map(std::result::Result::err).collect();
        let answered = self.documents(task);
        let wanted: HashSet<&usize> = asked.iter().collect();
        let others: Vec<&usize> = answered.iter().filter(|doc_id| !wanted.contains(doc_id)).collect();
        let what = match (missing.first(), others.first()) {
            (None, None) => return Ok(found.flatten().cloned().collect()),
            (Some(_), _) if answered.is_empty() => {
                return Err(Error::file(&self.path, format!("has no answers to the task {task}, of {} documents", asked.len())));
            }
            (Some(first), _) => format!(
                "has answers to {} of the {} documents of the task {task} that are asked; {} are missing, the first is document \
                 {first}",
                asked.len() - missing.len(),
                asked.len(),
                missing.len()
            ),
            (None, Some(first)) => format!(
                "has answers to {} documents of the task {task} that are not asked; the first is document {first}",
                others.len()
            ),
        };
        let remedy = Message::from(format!("{what}; where the requests were of a part, give the same "));
        Err(Error::file(&self.path, remedy.then(LIMIT).then(" or ").then(SAMPLES)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Answers, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Answers::read(file.path()).map_err(|e| e.to_string())
    }

    #[test]
    fn answers_are_to_exactly_what_is_asked() {
        let line = |id: usize| format!("{{\"task\": \"t\", \"doc_id\": {id}, \"answers\": [{id}]}}\n");
        let answers = read(&(line(3) + &line(1))).unwrap();
        assert_eq!(answers.exactly("t", &[1, 3]).unwrap(), [[1], [3]]);
        let error = |task: &str, asked: &[usize]| answers.exactly(task, asked).unwrap_err().to_string();
        let cut = error("t", &[0, 1, 2, 3, 4, 5]);
        assert!(cut.contains("has answers to 2 of the 6 documents of the task t that are asked; 4 are missing"), "{cut}");
        assert!(cut.contains("document 0; ") && cut.ends_with("give the same limit or samples"), "{cut}");
        let more = error("t", &[1]);
        assert!(more.contains("1 documents of the task t that are not asked; the first is document 3"), "{more}");
        assert!(error("u", &[0, 1]).contains("has no answers to the task u, of 2 documents"));
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
