//! The SHA-256 of a file that is being written: computed on the way where it is written from front to back, else by reading
//! it again. What is absent: hashing of tensors.

use std::fs::File;
use std::io::Read;

use crate::hex::hex;
use sha2::{Digest, Sha256};

use crate::gguf::{GgufWriter, Layout};
use crate::{Error, Result};

/// Bytes read at a time where a file is read again.
const READ_BYTES: usize = 1 << 20;

/// The hash of what has been written of one file.
pub(super) struct RunningHash {
    hash: Sha256,
    /// How far the file has been hashed; `None` where something was written elsewhere than at its end.
    end: Option<u64>,
}

impl RunningHash {
    /// That of a file of which the header is written.
    pub(super) fn new(layout: &Layout) -> Self {
        Self { hash: Sha256::new_with_prefix(layout.header()), end: Some(layout.header().len() as u64) }
    }

    /// `bytes` were written at `offset`.
    pub(super) fn write(&mut self, layout: &Layout, offset: u64, bytes: &[u8]) {
        self.end = self.end.and_then(|end| {
            // Less than the alignment is padding, because every tensor takes at least that much.
            let padding = offset.checked_sub(end).filter(|&gap| gap < layout.alignment())?;
            self.hash.update(vec![0; padding as usize]);
            self.hash.update(bytes);
            Some(offset + bytes.len() as u64)
        });
    }

    /// All of the file is written.
    pub(super) fn finish(&mut self, file: &GgufWriter) -> Result<()> {
        self.write(file.layout(), file.layout().file_bytes(), &[]);
        if self.end.is_none() {
            self.hash = read_again(file).map_err(|e| Error::io(file.file().path(), e))?;
        }
        Ok(())
    }

    /// The hash as 64 hexadecimal digits.
    pub(super) fn hex(self) -> String {
        hex(&self.hash.finalize())
    }
}

/// The hash of a file that is whole and on the disk, as 64 hexadecimal digits.
pub(super) fn of(file: &GgufWriter) -> Result<String> {
    let hash = read_again(file).map_err(|e| Error::io(file.file().path(), e))?;
    Ok(hex(&hash.finalize()))
}

fn read_again(file: &GgufWriter) -> std::io::Result<Sha256> {
    let mut hash = Sha256::new();
    let mut from = File::open(file.file().partial_path())?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hash),
            n => hash.update(&buffer[..n]),
        }
    }
}
