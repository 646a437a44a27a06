//! Reading a large file piece by piece, and asking for the room for one. Pieces are read and not mapped: of a file larger than
//! memory no more is held than was asked for, and one that is cut short meanwhile is an error and not a fault.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bitworth_quant::{Error, Result};

/// An open file of known length.
pub struct Pieces {
    path: PathBuf,
    file: Mutex<File>,
    len: u64,
}

impl Pieces {
    /// Opens a regular file.
    pub fn open(path: &Path) -> Result<Self> {
        // Asked before it is opened, because opening a named pipe would wait for somebody who writes.
        let about = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if !about.is_file() {
            return Err(Error::file(path, "not a regular file; give the path of a file"));
        }
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let len = file.metadata().map_err(|e| Error::io(path, e))?.len();
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), len })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Fills `out` from `offset` on.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        if self.len.checked_sub(offset).is_none_or(|left| left < out.len() as u64) {
            return Err(self.error(offset, format!("{} bytes are needed, and the file ends before; make it again", out.len())));
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let done = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(out));
        done.map_err(|e| Error::io(&self.path, e))
    }

    /// `count` bytes from `offset` on. The file is known to have them before they are allocated.
    pub fn bytes(&self, offset: u64, count: u64) -> Result<Vec<u8>> {
        if self.len.checked_sub(offset).is_none_or(|left| left < count) {
            return Err(self.error(offset, format!("{count} bytes are needed, and the file ends before; make it again")));
        }
        let mut out = vec![0; count as usize];
        self.read(offset, &mut out)?;
        Ok(out)
    }

    /// An error at a place of the file.
    pub fn error(&self, offset: u64, what: impl std::fmt::Display) -> Error {
        Error::file(&self.path, format!("at byte {offset}: {what}"))
    }
}

/// Little-endian numbers of four bytes.
pub fn u32s(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| u32::from_le_bytes(b))
}
