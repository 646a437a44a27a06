//! The cache that Hugging Face's tools share, one repository of it:
//!
//! ```text
//! <cache>/models--OWNER--NAME/blobs/<hash>                 contents, each once (data sets: datasets--OWNER--NAME)
//!                             snapshots/<commit>/<path>    links to them
//!                             refs/<revision>              the commit a branch or a tag was at when last asked for
//!                             .no_exist/<commit>/<path>    empty: the commit has no such file
//!                             trees/<commit>.json          which files the commit has, with their hashes
//! <cache>/.locks/models--OWNER--NAME/<hash>.lock           held while a blob is fetched
//! ```
//!
//! What is absent: what a model or a data set needs, and the network.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitworth_quant::atomic_file::write_whole;
use bitworth_quant::{Error, Result};

use super::name::{Target, is_commit, is_plain_path};

/// How often a lock is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// More than a file in `refs` ever holds.
const MAX_REF_BYTES: u64 = 256;
/// The largest list of a commit's files that is read.
const MAX_TREE_BYTES: u64 = 64 << 20;
/// Folders of a commit's files that are deeper are none of a data set.
const MAX_DEPTH: usize = 32;

/// One repository in the cache.
pub(super) struct Repository {
    root: PathBuf,
    locks: PathBuf,
}

impl Repository {
    pub(super) fn new(cache: &Path, target: &Target) -> Self {
        let folder = format!("{}--{}", target.kind.plural(), target.id.replace('/', "--"));
        Self { root: cache.join(&folder), locks: cache.join(".locks").join(folder) }
    }

    /// The repository's folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the files of a commit are.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Where a content is.
    pub(super) fn blob(&self, hash: &str) -> PathBuf {
        self.root.join("blobs").join(hash)
    }

    /// Where a content is while it is being fetched. Tools that resume use this name too.
    pub(super) fn unfinished(&self, hash: &str) -> PathBuf {
        self.root.join("blobs").join(format!("{hash}.incomplete"))
    }

    /// The commit that a branch or a tag was at.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        let path = self.root.join("refs").join(revision);
        if std::fs::metadata(&path).ok()?.len() > MAX_REF_BYTES {
            return None;
        }
        let commit = std::fs::read_to_string(path).ok()?.trim().to_owned();
        is_commit(&commit).then_some(commit)
    }

    /// Keeps the commit that a branch or a tag is at. Nothing is written where it is known, or where the revision is the commit.
    pub(super) fn keep_commit(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        write_whole(&path, commit.as_bytes())
    }

    /// Whether it is known that the commit has no such file.
    pub(super) fn is_absent(&self, commit: &str, path: &str) -> bool {
        self.root.join(".no_exist").join(commit).join(path).exists()
    }

    /// Keeps that the commit has no such file.
    pub(super) fn keep_absent(&self, commit: &str, path: &str) -> Result<()> {
        let path = self.root.join(".no_exist").join(commit).join(path);
        if path.exists() {
            return Ok(());
        }
        create_parent(&path)?;
        File::create(&path).map(drop).map_err(|e| Error::io(&path, e))
    }

    /// The list of a commit's files that was kept, by this program or another one.
    pub(super) fn tree(&self, commit: &str) -> Option<Vec<u8>> {
        let path = self.tree_path(commit);
        if std::fs::metadata(&path).ok()?.len() > MAX_TREE_BYTES {
            return None;
        }
        std::fs::read(path).ok()
    }

    /// Keeps the list of a commit's files. Nothing is written where there is one: a commit never changes.
    pub(super) fn keep_tree(&self, commit: &str, json: impl Fn() -> Vec<u8>) -> Result<()> {
        let path = self.tree_path(commit);
        if path.exists() { Ok(()) } else { write_whole(&path, &json()) }
    }

    fn tree_path(&self, commit: &str) -> PathBuf {
        self.root.join("trees").join(format!("{commit}.json"))
    }

    /// The files of a commit that are there, with their lengths, in order.
    pub(super) fn files(&self, commit: &str) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        collect(&self.snapshot(commit), "", 0, &mut found);
        found.sort();
        found
    }

    /// Whether the commit's file is there in its whole length.
    pub(super) fn has(&self, commit: &str, path: &str, size: u64) -> bool {
        is_whole(&self.snapshot(commit).join(path), size)
    }

    /// Whether the content is there in its whole length.
    pub(super) fn has_blob(&self, hash: &str, size: u64) -> bool {
        is_whole(&self.blob(hash), size)
    }

    /// Waits until no other process fetches this content. `None` if `stopped` before that.
    pub(super) fn lock(&self, hash: &str, stopped: &dyn Fn() -> bool) -> Result<Option<Lock>> {
        let path = self.locks.join(format!("{hash}.lock"));
        create_parent(&path)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| Error::io(&path, e))?;
        let mut said = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Lock(file))),
                // A file system without locks. Two processes then fetch the same bytes to the same places.
                Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => return Ok(Some(Lock(file))),
                Err(TryLockError::Error(e)) => return Err(Error::io(&path, e)),
                Err(TryLockError::WouldBlock) if stopped() => return Ok(None),
                Err(TryLockError::WouldBlock) => {
                    if !said {
                        tracing::warn!("another process is fetching into {}; waiting for it", self.root.display());
                        said = true;
                    }
                    std::thread::sleep(LOCK_PAUSE);
                }
            }
        }
    }

    /// Makes the commit's file a link to the content; where the system has no links, the content itself.
    pub(super) fn link(&self, commit: &str, path: &str, hash: &str) -> Result<()> {
        let link = self.snapshot(commit).join(path);
        create_parent(&link)?;
        // One that leads nowhere or to a content that was cut short.
        match std::fs::remove_file(&link) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io(&link, e)),
        }
        // Relative, so that the cache can be moved: out of the path's folders, the commit's, and `snapshots`.
        let mut target: PathBuf = (0..2 + path.matches('/').count()).map(|_| "..").collect();
        target.extend(["blobs", hash]);
        match symlink(&target, &link) {
            Ok(()) => Ok(()),
            // Another process has made it meanwhile.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(_) => {
                let blob = self.blob(hash);
                std::fs::hard_link(&blob, &link).or_else(|_| std::fs::rename(&blob, &link)).map_err(|e| Error::io(&link, e))
            }
        }
    }
}

/// Held while a content is being fetched.
pub(super) struct Lock(#[allow(dead_code, reason = "closing the file lets go of the lock")] File);

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

/// The files of a folder and those below it; what leads nowhere is left out.
fn collect(folder: &Path, before: &str, depth: usize, found: &mut Vec<(String, u64)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{before}{name}");
        match (entry.file_type(), std::fs::metadata(entry.path())) {
            (Ok(kind), _) if kind.is_dir() && depth < MAX_DEPTH => {
                collect(&entry.path(), &format!("{path}/"), depth + 1, found);
            }
            (_, Ok(about)) if about.is_file() && is_plain_path(&path) => found.push((path, about.len())),
            _ => {}
        }
    }
}

fn is_whole(path: &Path, size: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() == size)
}

pub(super) fn create_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ModelName;

    const COMMIT: &str = "1212121212121212121212121212121212121212";

    #[test]
    fn references_hold_whole_commits_only() {
        let dir = tempfile::TempDir::new().unwrap();
        let repository = Repository::new(dir.path(), &ModelName::parse("hf:o/n").unwrap().target());
        assert_eq!(repository.commit_of("main"), None);
        repository.keep_commit("refs/pr/1", COMMIT).unwrap();
        let path = dir.path().join("models--o--n/refs/refs/pr/1");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), COMMIT);
        assert_eq!(repository.commit_of("refs/pr/1").as_deref(), Some(COMMIT));
        std::fs::write(&path, "../../../elsewhere").unwrap();
        assert_eq!(repository.commit_of("refs/pr/1"), None);
        repository.keep_commit(COMMIT, COMMIT).unwrap();
        assert!(!dir.path().join("models--o--n/refs").join(COMMIT).exists());
    }

    #[test]
    fn what_is_there_of_a_commit_is_listed() {
        let dir = tempfile::TempDir::new().unwrap();
        let repository = Repository::new(dir.path(), &Target::data_set("o/n", "main").unwrap());
        assert_eq!(repository.root(), dir.path().join("datasets--o--n"));
        assert_eq!(
            Repository::new(dir.path(), &Target::data_set("old", "main").unwrap()).root(),
            dir.path().join("datasets--old")
        );
        create_parent(&repository.blob("ab")).unwrap();
        std::fs::write(repository.blob("ab"), "four").unwrap();
        for (path, hash) in [("b/x.csv", "ab"), ("README.md", "ab"), ("gone.csv", "cd")] {
            repository.link(COMMIT, path, hash).unwrap();
        }
        assert_eq!(repository.files(COMMIT), [("README.md".to_owned(), 4), ("b/x.csv".to_owned(), 4)]);
        assert_eq!(repository.tree(COMMIT), None);
        repository.keep_tree(COMMIT, || b"{}".to_vec()).unwrap();
        repository.keep_tree(COMMIT, || b"[]".to_vec()).unwrap();
        assert_eq!(repository.tree(COMMIT).as_deref(), Some(b"{}".as_slice()));
    }

    #[test]
    fn a_lock_is_waited_for_until_asked_to_stop() {
        let dir = tempfile::TempDir::new().unwrap();
        let repository = Repository::new(dir.path(), &ModelName::parse("hf:o/n").unwrap().target());
        let held = repository.lock("ab", &|| false).unwrap().unwrap();
        assert!(repository.lock("ab", &|| true).unwrap().is_none());
        assert!(repository.lock("cd", &|| true).unwrap().is_some());
        drop(held);
        assert!(repository.lock("ab", &|| true).unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_relative_and_replace_broken_ones() {
        let dir = tempfile::TempDir::new().unwrap();
        let repository = Repository::new(dir.path(), &ModelName::parse("hf:o/n").unwrap().target());
        create_parent(&repository.blob("ab")).unwrap();
        for path in ["a.json", "deep/er/b.json"] {
            repository.link(COMMIT, path, "ab").unwrap();
            assert!(!repository.has(COMMIT, path, 4), "leads nowhere yet");
        }
        std::fs::write(repository.blob("ab"), "four").unwrap();
        for path in ["a.json", "deep/er/b.json"] {
            repository.link(COMMIT, path, "ab").unwrap();
            assert!(repository.has(COMMIT, path, 4) && !repository.has(COMMIT, path, 5), "{path}");
        }
        let target = std::fs::read_link(repository.snapshot(COMMIT).join("deep/er/b.json")).unwrap();
        assert_eq!(target, Path::new("../../../../blobs/ab"));
    }
}
