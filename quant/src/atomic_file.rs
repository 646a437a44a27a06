//! A file that appears under its name only when it is whole: written as `.NAME.partial` in the same directory, renamed on
//! commit. One process at a time writes it, which a lock on the unfinished file sees to. What is absent: any knowledge of
//! what is written.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::{Error, Result};

/// How often, and how long apart, the lock of an unfinished file is tried: a process that was killed holds it until the system
/// has put on the disk what it had written.
const LOCK_TRIES: usize = 31;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// A file in the making. Dropping it removes what was written, unless it was opened by [`AtomicFile::reopen`];
/// [`AtomicFile::commit`] puts it in place of `path`.
pub struct AtomicFile {
    path: PathBuf,
    partial: PathBuf,
    file: Arc<File>,
    on_drop: OnDrop,
}

/// What becomes of the unfinished file when its owner lets go of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnDrop {
    Remove,
    Keep,
    /// It stands under its name.
    Committed,
}

/// Puts a whole file in place at once; folders on the way to it are made.
///
/// # Errors
/// [`Error::Io`]: a folder or file that cannot be made or written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    }
    let mut file = AtomicFile::create(path)?;
    file.write_at(0, bytes)?;
    file.commit()
}

/// Removes a file for good: it does not come back when the machine fails. There need not be one.
///
/// # Errors
/// [`Error::Io`]: a file that cannot be removed.
pub fn remove_whole(path: &Path) -> Result<()> {
    match std::fs::remove_file(path).and_then(|()| sync_directory(directory_of(path))) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

impl AtomicFile {
    /// Begins the file that is to stand at `path`; what an earlier process left unfinished is discarded. The directory must
    /// exist and be writable.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::File`], both naming `path`; also where another process is writing the same file.
    pub fn create(path: &Path) -> Result<Self> {
        let mut file = Self::open(path, OnDrop::Remove)?;
        file.clear()?;
        Ok(file)
    }

    /// As [`Self::create`], but with what an earlier process left unfinished, and kept when dropped.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn reopen(path: &Path) -> Result<Self> {
        Self::open(path, OnDrop::Keep)
    }

    fn open(path: &Path, on_drop: OnDrop) -> Result<Self> {
        if path.is_dir() {
            return Err(Error::file(path, "is a directory; give the path of the file to write"));
        }
        let partial = partial_path(path)?;
        loop {
            if std::fs::symlink_metadata(&partial).is_ok_and(|about| !about.is_file()) {
                let what = format!("{} is in the way and no regular file; remove it", partial.display());
                return Err(Error::file(path, what));
            }
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&partial);
            let file = file.map_err(|e| Error::io(path, e))?;
            match lock(&file) {
                Ok(()) => {}
                // A file system without locks: writing goes on as it did before there were any.
                Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {}
                Err(TryLockError::Error(e)) => return Err(Error::io(path, e)),
                Err(TryLockError::WouldBlock) => {
                    let what = "is being written by another process; wait until it is done, or choose another name";
                    return Err(Error::file(path, what));
                }
            }
            // Between opening and locking its last owner may have renamed or removed it.
            if is_still_at(&file, &partial) {
                return Ok(Self { path: path.to_owned(), partial, file: Arc::new(file), on_drop });
            }
        }
    }

    /// Where the file will stand.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it stands until then.
    pub fn partial_path(&self) -> &Path {
        &self.partial
    }

    /// The file itself, for those who put it on the disk while others write.
    pub(crate) fn handle(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Discards all that was written.
    pub fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| self.failed(e))
    }

    /// How many bytes it has.
    pub fn len(&self) -> Result<u64> {
        self.file.metadata().map(|about| about.len()).map_err(|e| self.failed(e))
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// How many bytes it takes on the disk already.
    pub fn allocated(&self) -> Result<u64> {
        self.file.metadata().map(|about| allocated(&about)).map_err(|e| self.failed(e))
    }

    /// Gives the file its length; what is not written reads as zeros.
    pub fn set_len(&self, bytes: u64) -> Result<()> {
        self.file.set_len(bytes).map_err(|e| self.failed(e))
    }

    /// Writes `bytes` at `offset`.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut file = self.file.as_ref();
        let done = file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes));
        done.map_err(|e| self.failed(e))
    }

    /// Puts everything written so far on the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.failed(e))
    }

    /// [`Self::sync`], then renames the file into place, replacing what stood there.
    pub fn commit(mut self) -> Result<()> {
        self.sync()?;
        std::fs::rename(&self.partial, &self.path).map_err(|e| Error::io(&self.path, e))?;
        self.on_drop = OnDrop::Committed;
        sync_directory(directory_of(&self.path)).map_err(|e| Error::io(&self.path, e))
    }

    /// An error that names the final path, and the remedy where the disk is full.
    fn failed(&self, e: std::io::Error) -> Error {
        let left = match self.on_drop {
            OnDrop::Keep => "what is done is kept to be resumed",
            OnDrop::Remove | OnDrop::Committed => "nothing was left behind",
        };
        match e.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Error::file(&self.path, format!("the disk is full; {left}, free some space and run again"))
            }
            _ => Error::io(&self.path, e),
        }
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if self.on_drop == OnDrop::Remove {
            // Nobody is left to tell; the next run overwrites it.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// Locks `file`, after some waiting where another process has it.
fn lock(file: &File) -> Result<(), TryLockError> {
    for _ in 1..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            done => return done,
        }
    }
    file.try_lock()
}

/// Where the file that is to stand at `path` stands while it is not whole.
fn partial_path(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::file(path, "is not a file name; give the path of the file to write"));
    };
    let mut partial = OsString::from(".");
    partial.push(name);
    partial.push(".partial");
    Ok(path.with_file_name(partial))
}

/// The directory that holds `path`.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |about: std::io::Result<std::fs::Metadata>| about.ok().map(|about| (about.dev(), about.ino()));
    id(file.metadata()).is_some_and(|own| id(std::fs::metadata(path)) == Some(own))
}

#[cfg(not(unix))]
fn is_still_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(unix)]
fn allocated(about: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(about) * 512
}

#[cfg(not(unix))]
fn allocated(about: &std::fs::Metadata) -> u64 {
    about.len()
}

/// A rename is durable only once the directory is on the disk too. Only Unix lets a directory be opened for that.
#[cfg(unix)]
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
pub(crate) fn sync_directory(_directory: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_in(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_committed_file_stands_alone_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        std::fs::write(dir.path().join(".a.gguf.partial"), "left by an earlier run, and longer").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_at(4, b"yz").unwrap();
        file.write_at(0, b"ab").unwrap();
        assert_eq!(names_in(dir.path()), [".a.gguf.partial"], "not under its name before it is whole");
        file.commit().unwrap();
        assert_eq!(names_in(dir.path()), ["a.gguf"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"ab\0\0yz");
    }

    #[test]
    fn a_dropped_file_leaves_the_old_one_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        std::fs::write(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_at(0, b"new and longer").unwrap();
        drop(file);
        assert_eq!(names_in(dir.path()), ["a.gguf"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_reopened_file_is_kept_when_dropped_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        AtomicFile::reopen(&path).unwrap().write_at(0, b"ab").unwrap();
        let mut file = AtomicFile::reopen(&path).unwrap();
        assert_eq!(file.len().unwrap(), 2);
        file.write_at(2, b"cd").unwrap();
        file.commit().unwrap();
        assert_eq!(names_in(dir.path()), ["a.gguf"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"abcd");
    }

    #[test]
    fn only_one_writes_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gguf");
        let first = AtomicFile::create(&path).unwrap();
        // Side by side, because each waits for the lock.
        std::thread::scope(|scope| {
            for open in [AtomicFile::create, AtomicFile::reopen] {
                let path = &path;
                scope.spawn(move || {
                    let error = open(path).err().unwrap().to_string();
                    assert!(error.contains("a.gguf: is being written by another process"), "{error}");
                });
            }
        });
        assert_eq!(names_in(dir.path()), [".a.gguf.partial"], "a refusal removes nothing");
        first.commit().unwrap();
        AtomicFile::create(&path).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join(".b.gguf.partial")).unwrap();
        let check = |name: &str, expected: &str| {
            let error = AtomicFile::create(&dir.path().join(name)).err().unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("missing/a.gguf", "missing/a.gguf: ");
        check("", "is a directory");
        check("..", "is a directory");
        check("b.gguf", "is in the way");
    }
}
