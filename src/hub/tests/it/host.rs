//! What hubs on this machine have in common, for tests: a server that answers by a function of the test's own, and what a hub
//! says of a file. Absent: encryption, and whose files they are.

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
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a client asks for.
pub struct Request {
    pub path: String,
    headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte asked for.
    pub fn offset(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        range.unwrap_or(0)
    }
}

/// What the server says.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// How much of the body is sent before the connection is closed.
    pub sent: usize,
    /// How many bytes are sent at a time, with pauses; all at once where this is `None`.
    pub drip: Option<usize>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), sent: body.len(), body, drip: None }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The file from where it was asked for on.
    pub fn file(request: &Request, content: &[u8]) -> Self {
        match request.offset() {
            0 => Self::new(200, content),
            from => Self::new(206, &content[from..])
                .with("content-range", format!("bytes {from}-{}/{}", content.len() - 1, content.len())),
        }
    }

    pub fn cut(mut self, sent: usize) -> Self {
        self.sent = sent;
        self
    }
}

/// A server, until it is dropped.
pub struct Server {
    address: String,
    /// What was asked for, in order.
    pub asked: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub fn new(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stopped, answer) = (Arc::clone(&asked), Arc::clone(&stop), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                std::thread::spawn(move || serve(&stream.unwrap(), &log, &*answer));
            }
        });
        Self { address, asked, stop }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

/// Answers one request and closes the connection. A client that goes away is no failure of the server's.
fn serve(stream: &TcpStream, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Answer) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers.filter_map(|line| line.split_once(": ").map(|(k, v)| (k.to_lowercase(), v.to_owned()))).collect();
    let request = Request { path: first.split(' ').nth(1).unwrap_or_default().to_owned(), headers };
    let answer = answer(&request);
    log.lock().unwrap().push(request);
    let mut head = format!("HTTP/1.1 {} Whatever\r\nconnection: close\r\n", answer.status);
    if !answer.headers.iter().any(|(name, _)| *name == "transfer-encoding") {
        head += &format!("content-length: {}\r\n", answer.body.len());
    }
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = stream;
    let mut sent = stream.write_all(format!("{head}\r\n").as_bytes());
    for part in answer.body[..answer.sent].chunks(answer.drip.unwrap_or(usize::MAX)) {
        sent = sent.and_then(|()| stream.write_all(part));
        if sent.is_err() {
            return;
        }
        if answer.drip.is_some() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A file as the list of a repository has it; git keeps large ones elsewhere.
pub fn sibling(name: &str, content: &[u8], is_large: bool) -> Value {
    match is_large {
        true => json!({"rfilename": name, "size": content.len(), "blobId": git_hash(b"pointer"),
            "lfs": {"sha256": sha256(content), "size": content.len(), "pointerSize": 135}}),
        false => json!({"rfilename": name, "size": content.len(), "blobId": git_hash(content)}),
    }
}

pub fn git_hash(content: &[u8]) -> String {
    hex(&Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(content).finalize())
}

pub fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}
