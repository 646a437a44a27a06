//! A file that appears under its name only when it is whole: written under a temporary name in the same directory, renamed
//! on commit, removed when dropped before. What is absent: any knowledge of what is written.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::{Error, Result};

/// A file in the making. Dropping it removes what was written; [`AtomicFile::commit`] puts it in place of `path`.
pub struct AtomicFile {
    path: PathBuf,
    temporary: NamedTempFile,
}

impl AtomicFile {
    /// Begins the file that is to stand at `path`. The directory must exist and be writable.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::File`], both naming `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(Error::file(path, "is not a file name; give the path of the file to write"));
        };
        if path.is_dir() {
            return Err(Error::file(path, "is a directory; give the path of the file to write"));
        }
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        // A temporary file is private to its owner by default; this one becomes an ordinary file, under the umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temporary = builder.tempfile_in(directory_of(path)).map_err(|e| Error::io(path, e))?;
        Ok(Self { path: path.to_owned(), temporary })
    }

    /// Where the file will stand.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its length; what is not written later reads as zeros.
    pub fn set_len(&mut self, bytes: u64) -> Result<()> {
        self.temporary.as_file().set_len(bytes).map_err(|e| self.failed(e))
    }

    /// Writes `bytes` at `offset`.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let file: &mut File = self.temporary.as_file_mut();
        let done = file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes));
        done.map_err(|e| self.failed(e))
    }

    /// Puts everything written so far on the disk.
    pub fn sync(&self) -> Result<()> {
        self.temporary.as_file().sync_all().map_err(|e| self.failed(e))
    }

    /// [`Self::sync`], then renames the file into place, replacing what stood there.
    pub fn commit(self) -> Result<()> {
        self.sync()?;
        let Self { path, temporary } = self;
        temporary.persist(&path).map_err(|e| Error::io(&path, e.error))?;
        sync_directory(directory_of(&path)).map_err(|e| Error::io(&path, e))
    }

    /// An error that names the final path, and the remedy where the disk is full.
    fn failed(&self, e: std::io::Error) -> Error {
        match e.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Error::file(&self.path, "the disk is full; nothing was left behind, free some space and run again")
            }
            _ => Error::io(&self.path, e),
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A rename is durable only once the directory is on the disk too. Only Unix lets a directory be opened for that.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> std::io::Result<()> {
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
        let mut file = AtomicFile::create(&path).unwrap();
        file.set_len(6).unwrap();
        file.write_at(4, b"yz").unwrap();
        file.write_at(0, b"ab").unwrap();
        assert_ne!(names_in(dir.path()), ["a.gguf"], "not under its name before it is whole");
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
    fn a_missing_directory_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/a.gguf");
        let error = AtomicFile::create(&path).err().unwrap().to_string();
        assert!(error.contains("missing/a.gguf"), "{error}");
    }
}
