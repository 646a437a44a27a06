//! One file from the hub into the cache: what is there is kept, a cut connection is taken up where it broke, and nothing gets its
//! name in the cache before its length and its hash are those that the hub lists.
//!
//! What is absent: which files, and what the requests look like.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bitworth_quant::disk::free_bytes;
use bitworth_quant::hex::hex;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

use super::cache::{Repository, create_parent};
use super::client::{Client, Failure, Patience, text};
use super::error::{Error, Result};
use super::files::{Entry, Hash};

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;
/// After so many new bytes a cut connection is none in a row any more.
const RENEWING: u64 = 1 << 20;

/// Fetches what is missing of `entries`, all of one commit, into the cache. Whether something was.
///
/// # Errors
/// A file cannot be had or is not the one listed; the disk is full; the caller asked to stop.
pub(super) fn fetch(client: &Client, repository: &Repository, commit: &str, entries: &[Entry]) -> Result<bool> {
    let missing: Vec<&Entry> = entries.iter().filter(|entry| !repository.has(commit, &entry.path, entry.size)).collect();
    let contents: Vec<&Entry> =
        missing.iter().copied().filter(|entry| !repository.has_blob(entry.hash.hex(), entry.size)).collect();
    let total = contents.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.size));
    check_space(client, repository, &contents)?;
    if total > 0 {
        client.watch.progress.start(total, bitworth_quant::progress::Unit::Bytes, &format!("fetching {}", client.target.id));
    }
    let fetched = missing.iter().try_for_each(|entry| fetch_one(client, repository, commit, entry));
    if total > 0 {
        client.watch.progress.finish();
    }
    fetched.map(|()| !missing.is_empty())
}

fn fetch_one(client: &Client, repository: &Repository, commit: &str, entry: &Entry) -> Result<()> {
    let hash = entry.hash.hex();
    let blob = repository.blob(hash);
    create_parent(&blob)?;
    let Some(_lock) = repository.lock(hash, client.watch.stop)? else {
        return Err(Error::Interrupted { model: client.target.to_string() });
    };
    // Another process may have fetched it while this one waited.
    if !repository.has_blob(hash, entry.size) {
        Unfinished::open(client, repository, entry)?.complete(commit, &blob)?;
    }
    Ok(repository.link(commit, &entry.path, hash)?)
}

/// Refuses what will not fit the disk.
fn check_space(client: &Client, repository: &Repository, contents: &[&Entry]) -> Result<()> {
    let there = |entry: &Entry| std::fs::metadata(repository.unfinished(entry.hash.hex())).map_or(0, |about| about.len());
    let needed = contents.iter().fold(0u64, |sum, entry| sum.saturating_add(entry.size.saturating_sub(there(entry))));
    let folder = repository.root().ancestors().find(|folder| folder.is_dir());
    // Where the system does not say how much is free, the writing will show.
    let Some(free) = folder.and_then(|folder| free_bytes(folder).ok()) else { return Ok(()) };
    if needed > free {
        let what = format!("{needed} bytes are to be fetched, {free} are free in {}", repository.root().display());
        return Err(Error::Model { model: client.target.to_string(), what: format!("{what}; free some, or set HF_HUB_CACHE") });
    }
    Ok(())
}

/// A content on its way into the cache.
struct Unfinished<'a> {
    client: &'a Client<'a>,
    entry: &'a Entry,
    path: PathBuf,
    file: File,
    hash: RunningHash,
    /// How far it is written and hashed.
    end: u64,
    /// How far progress has been reported.
    reported: u64,
}

impl<'a> Unfinished<'a> {
    /// With what an earlier call left.
    fn open(client: &'a Client<'a>, repository: &Repository, entry: &'a Entry) -> Result<Self> {
        let path = repository.unfinished(entry.hash.hex());
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| bitworth_quant::Error::io(&path, e))?;
        let mut unfinished = Self { client, entry, path, file, hash: RunningHash::new(entry), end: 0, reported: 0 };
        unfinished.hash_what_is_there()?;
        Ok(unfinished)
    }

    fn hash_what_is_there(&mut self) -> Result<()> {
        let there = self.file.metadata().map_err(|e| self.disk(e))?.len();
        if there > self.entry.size {
            return self.restart();
        }
        let mut buffer = vec![0; CHUNK];
        loop {
            self.client.check_stop()?;
            match self.file.read(&mut buffer).map_err(|e| self.disk(e))? {
                0 => return Ok(()),
                n => self.count(&buffer[..n]),
            }
        }
    }

    /// Fetches the rest and, if all is right, gives the file its name.
    fn complete(mut self, commit: &str, blob: &Path) -> Result<()> {
        let fetched = self.fetch_rest(commit);
        if self.end == 0 && self.entry.size > 0 {
            // Nothing to go on from.
            let _ = std::fs::remove_file(&self.path);
        }
        fetched?;
        let found = std::mem::replace(&mut self.hash, RunningHash::new(self.entry)).hex();
        if found != self.entry.hash.hex() {
            let _ = std::fs::remove_file(&self.path);
            let what = format!("its hash is {found}, the hub lists {}; it was removed, try again", self.entry.hash.hex());
            return Err(self.client.explain(Failure::Wrong(what), Some(&self.entry.path)));
        }
        self.file.sync_all().map_err(|e| self.disk(e))?;
        std::fs::rename(&self.path, blob).map_err(|e| self.disk(e))
    }

    fn fetch_rest(&mut self, commit: &str) -> Result<()> {
        let (mut patience, mut last) = (Patience::new(), self.end);
        while self.end < self.entry.size {
            self.client.check_stop()?;
            let failure = match self.fetch_some(commit) {
                // An end before the end, without a word.
                Ok(()) if self.end < self.entry.size => {
                    Failure::Passing { what: "the connection was closed".to_owned(), pause: None }
                }
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if self.end >= last.saturating_add(RENEWING) {
                patience.renew();
                last = self.end;
            }
            let (what, pause) = match failure {
                Failure::Passing { what, pause } => (what, pause),
                // The server has another idea of how long the file is.
                Failure::Refused { status: StatusCode::RANGE_NOT_SATISFIABLE, .. } if self.end > 0 => {
                    self.restart()?;
                    ("the rest of it is refused".to_owned(), None)
                }
                failure => return Err(self.client.explain(failure, Some(&self.entry.path))),
            };
            if !patience.wait(pause, self.client.watch.stop) {
                self.client.check_stop()?;
                let (end, size) = (self.end, self.entry.size);
                let remedy = if end > 0 { "the same command goes on from there" } else { "try again later" };
                let what = format!("stopped at {end} of {size} bytes: {what}; {remedy}");
                return Err(self.client.explain(Failure::Wrong(what), Some(&self.entry.path)));
            }
        }
        Ok(())
    }

    /// One request: from the end of what is there as far as the connection holds.
    fn fetch_some(&mut self, commit: &str) -> Result<(), Failure> {
        let mut response = self.client.file(commit, &self.entry.path, self.end)?;
        let begin = self.begin_of(&response)?;
        if begin != self.end {
            // A server that knows no ranges sends all of it.
            self.restart()?;
        }
        let mut body = response.body_mut().as_reader();
        let mut buffer = vec![0; CHUNK];
        loop {
            self.client.check_stop()?;
            let n = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(Failure::Passing { what: e.to_string(), pause: None }),
            };
            if n as u64 > self.entry.size - self.end {
                let _ = self.restart();
                return Err(Failure::Wrong(format!(
                    "has more than the {} bytes that the hub lists; try again later",
                    self.entry.size
                )));
            }
            self.file.write_all(&buffer[..n]).map_err(|e| self.disk(e))?;
            self.count(&buffer[..n]);
        }
    }

    /// Where in the file an answer begins. What is there stays untouched until the lengths are known to agree: an answer of
    /// another length is not of this file.
    fn begin_of(&self, response: &Response<Body>) -> Result<u64, Failure> {
        let headers = response.headers();
        let begin = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = text(headers, header::CONTENT_RANGE.as_str()).unwrap_or_default();
                match range.strip_prefix("bytes ").and_then(|range| range.split_once('-')?.0.parse::<u64>().ok()) {
                    Some(begin) if begin == self.end => begin,
                    _ => return Err(Failure::Wrong(format!("asked for from byte {} on, the server gives {range:?}", self.end))),
                }
            }
            _ => 0,
        };
        let length = text(headers, header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok());
        match length.map(|length| begin.saturating_add(length)) {
            Some(length) if length != self.entry.size => {
                Err(Failure::Wrong(format!("has {length} bytes, the hub lists {}; try again later", self.entry.size)))
            }
            _ => Ok(begin),
        }
    }

    fn count(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.end += bytes.len() as u64;
        if self.end > self.reported {
            self.client.watch.progress.advance(self.end - self.reported);
            self.reported = self.end;
        }
    }

    /// Drops what is there.
    fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|e| self.disk(e))?;
        self.hash = RunningHash::new(self.entry);
        self.end = 0;
        Ok(())
    }

    fn disk(&self, error: std::io::Error) -> Error {
        if error.kind() == ErrorKind::StorageFull {
            let what = format!("the disk of {} is full; free some space, or set HF_HUB_CACHE", self.path.display());
            return Error::Model {
                model: self.client.target.to_string(),
                what: format!("{what}; what has been fetched is kept"),
            };
        }
        bitworth_quant::Error::io(&self.path, error).into()
    }
}

/// The hash that a file is listed with, of the bytes so far.
enum RunningHash {
    Sha256(Sha256),
    Git(Sha1),
}

impl RunningHash {
    fn new(entry: &Entry) -> Self {
        match entry.hash {
            Hash::Sha256(_) => Self::Sha256(Sha256::new()),
            Hash::Git(_) => Self::Git(Sha1::new_with_prefix(format!("blob {}\0", entry.size))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
        }
    }

    fn hex(self) -> String {
        match self {
            Self::Sha256(hash) => hex(&hash.finalize()),
            Self::Git(hash) => hex(&hash.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hash: Hash, content: &str) {
        let entry = Entry { path: String::new(), size: content.len() as u64, hash };
        let mut running = RunningHash::new(&entry);
        let (head, tail) = content.as_bytes().split_at(content.len() / 2);
        running.update(head);
        running.update(tail);
        assert_eq!(running.hex(), entry.hash.hex());
    }

    /// As `git hash-object` and `sha256sum` give them.
    #[test]
    fn hashes_are_those_of_git_and_of_lfs() {
        check(Hash::Git("3b18e512dba79e4c8300dd08aeb37f8e728b8dad".to_owned()), "hello world\n");
        check(Hash::Git("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391".to_owned()), "");
        let sha256 = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447";
        check(Hash::Sha256(sha256.to_owned()), "hello world\n");
    }
}
