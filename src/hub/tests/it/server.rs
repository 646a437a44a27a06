//! A hub of data sets on this machine, for tests: it answers as huggingface.co does, or as a rule says. Absent: encryption.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitworth_quant::hex::hex;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// No wait of these tests is longer.
const PATIENCE: Duration = Duration::from_secs(30);

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
        let siblings: Vec<Value> = self.files.iter().map(|(name, bytes)| sibling(name, bytes)).collect();
        json!({"id": self.id, "sha": self.commit, "siblings": siblings})
    }
}

/// Files of parquet are those that git keeps elsewhere.
fn sibling(name: &str, bytes: &[u8]) -> Value {
    match name.ends_with(".parquet") {
        true => json!({"rfilename": name, "size": bytes.len(), "blobId": git_hash(b"pointer"),
            "lfs": {"sha256": sha256(bytes), "size": bytes.len(), "pointerSize": 135}}),
        false => json!({"rfilename": name, "size": bytes.len(), "blobId": git_hash(bytes)}),
    }
}

pub fn git_hash(content: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(content).finalize())
}

pub fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// An answer: status, headers, body.
pub type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// What the server does instead of answering well, by the path that is asked for.
type Rule = dyn Fn(&str) -> Option<Answer> + Send + Sync;

/// The hub.
pub struct Hub {
    pub address: String,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Hub {
    pub fn new(commits: impl IntoIterator<Item = Commit>) -> Self {
        Self::with(commits, |_| None)
    }

    pub fn with(
        commits: impl IntoIterator<Item = Commit>,
        rule: impl Fn(&str) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let served: Arc<(Vec<Commit>, Box<Rule>)> = Arc::new((commits.into_iter().collect(), Box::new(rule)));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (log, served) = (Arc::clone(&log), Arc::clone(&served));
                std::thread::spawn(move || serve(&stream.unwrap(), &log, &served.0, &*served.1));
            }
        });
        Self { address, asked, stop }
    }

    /// The paths asked for since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
    }
}

/// Answers one request and closes the connection. A client that goes away is no failure of the server's.
fn serve(stream: &TcpStream, log: &Mutex<Vec<String>>, commits: &[Commit], rule: &Rule) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, headers, body) = rule(&path).unwrap_or_else(|| well(&path, commits));
    log.lock().unwrap().push(path);
    let mut head = format!("HTTP/1.1 {status} Whatever\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = stream;
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(&body));
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
