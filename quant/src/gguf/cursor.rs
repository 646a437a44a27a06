//! A bounded reader over the header bytes of a GGUF file. Every read is checked against what is left, so that no count or
//! length in the file can make us allocate more than the file itself could hold. What is absent: the meaning of the bytes.

use std::path::Path;

use crate::{Error, Result};

/// Reads little-endian values from `bytes` and remembers where it is, for the errors.
pub(crate) struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self { path, bytes, at: 0 }
    }

    /// Bytes read so far, which is the offset in the file.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// An error at the place of the cursor.
    pub(crate) fn error(&self, what: impl Into<crate::message::Message>) -> Error {
        Error::gguf(self.path, self.at as u64, what)
    }

    /// Bytes that are still to be read.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8]> {
        if n > self.left() {
            return Err(
                self.error(format!("truncated file: {what} needs {n} bytes, {} are left; fetch the file again", self.left()))
            );
        }
        let taken = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N, what)?);
        Ok(out)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn i32(&mut self, what: &str) -> Result<i32> {
        Ok(i32::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `min_bytes` each: no more of them than the rest of the file could hold.
    pub(crate) fn count(&mut self, min_bytes: usize, what: &str) -> Result<usize> {
        let start = self.at;
        let count = self.u64(what)?;
        self.believed(start, i128::from(count), min_bytes, what)
    }

    /// The same, of files that count in i32.
    pub(crate) fn count_i32(&mut self, min_bytes: usize, what: &str) -> Result<usize> {
        let start = self.at;
        let count = self.i32(what)?;
        self.believed(start, i128::from(count), min_bytes, what)
    }

    /// The `count` read at `start`, if the rest of the file can hold as many.
    fn believed(&self, start: usize, count: i128, min_bytes: usize, what: &str) -> Result<usize> {
        let most = self.left() / min_bytes;
        usize::try_from(count).ok().filter(|&n| n <= most).ok_or_else(|| {
            let what =
                format!("{what} is {count}, but the rest of the file holds at most {most}; the file is broken or cut short");
            Error::gguf(self.path, start as u64, what)
        })
    }

    /// A string: u64 length, then UTF-8.
    pub(crate) fn string(&mut self, what: &str) -> Result<String> {
        let length = self.count(1, what)?;
        self.text(length, what)
    }

    /// A string as its bytes, whatever they are.
    pub(crate) fn bytes(&mut self, what: &str) -> Result<&'a [u8]> {
        let length = self.count(1, what)?;
        self.take(length, what)
    }

    /// `length` bytes of UTF-8.
    pub(crate) fn text(&mut self, length: usize, what: &str) -> Result<String> {
        let start = self.at;
        let text = std::str::from_utf8(self.take(length, what)?);
        text.map(str::to_owned)
            .map_err(|e| Error::gguf(self.path, (start + e.valid_up_to()) as u64, format!("{what} is not UTF-8")))
    }

    /// `count` little-endian numbers of `N` bytes each.
    pub(crate) fn numbers<const N: usize, T>(&mut self, count: usize, from: fn([u8; N]) -> T, what: &str) -> Result<Vec<T>> {
        let size = count.checked_mul(N).ok_or_else(|| self.error(format!("{what} overflows")))?;
        let (chunks, _) = self.take(size, what)?.as_chunks::<N>();
        Ok(chunks.iter().map(|c| from(*c)).collect())
    }

    /// `count` booleans, one byte each; anything but 0 and 1 is invalid by the specification.
    pub(crate) fn bools(&mut self, count: usize, what: &str) -> Result<Vec<bool>> {
        let start = self.at;
        let bytes = self.take(count, what)?;
        match bytes.iter().position(|&b| b > 1) {
            None => Ok(bytes.iter().map(|&b| b == 1).collect()),
            Some(i) => {
                let what = format!("{what}: boolean {i} is {}, neither 0 nor 1", bytes[i]);
                Err(Error::gguf(self.path, (start + i) as u64, what))
            }
        }
    }
}
