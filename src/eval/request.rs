//! What can be asked of a model: the three request kinds of EleutherAI's lm-evaluation-harness, and their answers; and the
//! reader of request files (JSON lines). Tokens, batches and devices are the runner's matter.

use std::path::Path;

use bitworth_quant::message::Message;
use bitworth_quant::{Error, Result, kind};
use serde::{Deserialize, Serialize};

/// One question to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The log-probability of `continuation` behind `context`: of the ids of `context + continuation` that lie behind the
    /// ids of `context`, the start token first where the model wants one.
    Loglikelihood {
        /// What is given; may be empty.
        context: String,
        /// What is scored.
        continuation: String,
    },
    /// The log-probability of all of `text`: every id is scored once, behind the start token.
    LoglikelihoodRolling {
        /// What is scored.
        text: String,
    },
    /// Greedy text behind `prompt`, until one of `stop` occurs in it or `max_tokens` ids were made.
    GenerateUntil {
        /// What is given.
        prompt: String,
        /// The texts that end the generation; the answer may hold the one that ended it.
        stop: Vec<String>,
        /// The most ids to make.
        max_tokens: usize,
    },
}

impl Request {
    /// All of its text.
    pub fn text(&self) -> String {
        match self {
            Self::Loglikelihood { context, continuation } => format!("{context}{continuation}"),
            Self::LoglikelihoodRolling { text } => text.clone(),
            Self::GenerateUntil { prompt, .. } => prompt.clone(),
        }
    }

    /// What a continuation stands behind, where one is scored.
    pub fn context(&self) -> Option<&str> {
        match self {
            Self::Loglikelihood { context, .. } => Some(context),
            Self::LoglikelihoodRolling { .. } | Self::GenerateUntil { .. } => None,
        }
    }
}

/// The answer to one [`Request`], of the same kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To [`Request::Loglikelihood`] and [`Request::LoglikelihoodRolling`].
    Loglikelihood(Loglikelihood),
    /// To [`Request::GenerateUntil`]: the new text, without the prompt.
    Text(String),
}

impl Answer {
    /// The score, where the answer is one.
    pub fn as_loglikelihood(&self) -> Option<Loglikelihood> {
        if let Self::Loglikelihood(score) = self { Some(*score) } else { None }
    }
}

/// The score of a text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Loglikelihood {
    /// Sum of the natural log-probabilities of the scored ids.
    pub logprob: f64,
    /// Scored ids.
    pub tokens: usize,
    /// Whether every scored id was the most probable one at its place.
    pub is_greedy: bool,
    /// UTF-8 bytes of the scored text, blanks that moved from the end of the context included.
    pub bytes: usize,
}

/// One line of a request file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    context: Option<String>,
    continuation: Option<String>,
    text: Option<String>,
}

/// Reads a request file: on each line `{"context": ..., "continuation": ...}` or `{"text": ...}`; blank lines are skipped.
/// The requests come in the order of the lines.
///
/// # Errors
/// A line that is neither of the two (named by file and line, with the unknown key if that is the reason), a file without
/// any request, a file that cannot be read or is not UTF-8.
pub fn read_jsonl(path: &Path) -> Result<Vec<Request>> {
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let text = lines_of(bytes).map_err(|what| Error::file(path, what))?;
    let mut requests = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        requests.push(parse(line).map_err(|what| Error::file(path, Message::from(format!("line {}: ", number + 1)).then(what)))?);
    }
    if requests.is_empty() {
        return Err(Error::file(path, format!("holds no request; write one a line, {SHAPES}")));
    }
    Ok(requests)
}

/// The text of a file of JSON lines.
///
/// # Errors
/// What is not UTF-8, and what an editor put before it.
pub(crate) fn lines_of(bytes: Vec<u8>) -> Result<String, Message> {
    match kind::of(&bytes) {
        Some(what) => Err(what.into()),
        None => kind::utf8(bytes),
    }
}

const SHAPES: &str = r#"{"context": "...", "continuation": "..."} or {"text": "..."}"#;

fn parse(line: &str) -> Result<Request, Message> {
    let line: Line = serde_json::from_str(line).map_err(|e| format!("{e}; expected {SHAPES}"))?;
    match line {
        Line { context: Some(context), continuation: Some(continuation), text: None } => {
            Ok(Request::Loglikelihood { context, continuation })
        }
        Line { context: None, continuation: None, text: Some(text) } => Ok(Request::LoglikelihoodRolling { text }),
        _ => Err(format!("expected {SHAPES}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<Vec<Request>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        read_jsonl(file.path()).map_err(|e| e.to_string())
    }

    #[track_caller]
    fn check(content: &str, expected: &[Request]) {
        assert_eq!(read(content.as_bytes()).unwrap(), expected);
    }

    #[track_caller]
    fn check_error(content: &[u8], expected: &[&str]) {
        let error = read(content).unwrap_err();
        for part in expected {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }

    #[test]
    fn both_kinds_are_read_in_order() {
        let pair = Request::Loglikelihood { context: "2 + 2 =".into(), continuation: " 4".into() };
        let text = Request::LoglikelihoodRolling { text: "Grüße\n".into() };
        check("{\"context\": \"2 + 2 =\", \"continuation\": \" 4\"}\r\n\n  \n{\"text\": \"Gr\\u00fc\u{df}e\\n\"}", &[pair, text]);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        check_error(b"{\"text\": \"a\"}\n{\"text\": \"a\", \"weight\": 2}", &["line 2", "weight"]);
    }

    #[test]
    fn a_line_of_neither_kind_is_an_error() {
        for line in [r#"{"context": "a"}"#, r#"{"text": "a", "context": "b", "continuation": "c"}"#, "{}", "[1]", "{\"text\""] {
            check_error(line.as_bytes(), &["line 1", "expected"]);
        }
    }

    #[test]
    fn an_empty_file_is_an_error() {
        check_error(b"", &["no request"]);
        check_error(b"\n \n", &["no request"]);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_an_error() {
        check_error(b"{\"text\": \"\xff\"}", &["UTF-8"]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read_jsonl(Path::new("no/such/file.jsonl")).unwrap_err().to_string();
        assert!(error.contains("no/such/file.jsonl"), "{error}");
    }
}
