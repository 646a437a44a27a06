//! A hub of data sets on this machine, for tests: it answers as huggingface.co does, or as a rule says.

#[path = "host.rs"]
#[allow(dead_code, reason = "the tests of models by name use all of it")]
pub mod host;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::host::{Server, git_hash, sibling};

/// One commit of a data set, by its revision.
#[derive(Clone)]
pub struct Commit {
    pub id: &'static str,
    pub revision: &'static str,
    pub commit: String,
    pub files: BTreeMap<&'static str, Vec<u8>>,
}

impl Commit {
    pub fn new(id: &'static str, revision: &'static str, files: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Self {
        let files: BTreeMap<_, _> = files.into_iter().collect();
        let all: Vec<u8> = files.iter().flat_map(|(name, bytes)| [name.as_bytes(), bytes].concat()).collect();
        Self { id, revision, commit: git_hash(&all), files }
    }

    /// The hub's answer to who asks which files there are.
    fn listing(&self) -> Value {
        // Files of parquet are those that git keeps elsewhere.
        let sibling = |(name, bytes): (&&str, &Vec<u8>)| sibling(name, bytes, name.ends_with(".parquet"));
        let siblings: Vec<Value> = self.files.iter().map(sibling).collect();
        json!({"id": self.id, "sha": self.commit, "siblings": siblings})
    }
}

/// An answer: status, headers, body.
pub type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// The hub.
pub struct Hub {
    pub address: String,
    server: Server,
}

impl Hub {
    pub fn new(commits: impl IntoIterator<Item = Commit>) -> Self {
        Self::with(commits, |_| None)
    }

    /// One that answers by the rule where it gives an answer to the path that is asked for.
    pub fn with(
        commits: impl IntoIterator<Item = Commit>,
        rule: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let commits: Vec<Commit> = commits.into_iter().collect();
        let server = Server::new(move |request| {
            let (status, headers, body) = rule(&request.path).unwrap_or_else(|| well(&request.path, &commits));
            headers.into_iter().fold(host::Answer::new(status, body), |answer, (name, value)| answer.with(name, value))
        });
        Self { address: server.endpoint(), server }
    }

    /// The paths asked for since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.server.asked.lock().unwrap()).into_iter().map(|request| request.path).collect()
    }
}

/// The answer of a hub that works.
fn well(path: &str, commits: &[Commit]) -> Answer {
    let no = |code: &str| (404, vec![("x-error-code", code.to_owned())], Vec::new());
    let path = path.replace("%2F", "/");
    if let Some(asked) = path.strip_prefix("/api/datasets/") {
        let Some((id, revision)) = asked.split_once("/revision/") else { return no("RepoNotFound") };
        let Some(revision) = revision.strip_suffix("?blobs=true") else { return no("RepoNotFound") };
        if !commits.iter().any(|commit| commit.id == id) {
            return (401, vec![("x-error-code", "RepoNotFound".to_owned())], Vec::new());
        }
        let found = commits.iter().find(|commit| commit.id == id && (commit.revision == revision || commit.commit == revision));
        return found.map_or_else(|| no("RevisionNotFound"), |commit| (200, Vec::new(), commit.listing().to_string().into()));
    }
    let file = |commit: &Commit| {
        let file = path.strip_prefix(&format!("/datasets/{}/resolve/{}/", commit.id, commit.commit))?;
        commit.files.get(file).cloned()
    };
    commits.iter().find_map(file).map_or_else(|| no("EntryNotFound"), |bytes| (200, Vec::new(), bytes))
}
