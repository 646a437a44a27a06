//! The bytes of a tensor as those who read them get them.
//!
//! Absent: where the bytes come from (see `checkpoint`, `gguf`) and what they decode to (see `formats`).

use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::mmap::{self, FileMap};

/// Encoded bytes of a tensor or of some of its rows: a view into the mapped file where the file has them as they are
/// needed, else an own copy.
#[derive(Clone)]
pub enum TensorBytes {
    /// A range of a mapped file.
    Mapped(Arc<FileMap>, Range<usize>),
    /// Bytes made for this call (permuted rows, computed tensors, freshly quantized weights).
    Owned(Vec<u8>),
    /// The same, for several who need them.
    Shared(Arc<Vec<u8>>),
}

/// What becomes of pages of a mapped file that are no longer needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// They leave this process; the system may keep them and give them back without reading.
    Unmapped,
    /// They leave the system's file cache too, which has better use for the room where a model is larger than it.
    Evicted,
}

impl TensorBytes {
    /// Has the system read what is in a mapped file, in one go instead of page by page.
    pub fn populate(&self) {
        if let Self::Mapped(map, range) = self {
            mmap::populate(map, range);
        }
    }

    /// Lets go of some pages of a mapped file, which are read again if they are asked for again.
    pub fn release(&self, part: Range<usize>) {
        if let Self::Mapped(map, range) = self {
            mmap::release(map, &(range.start + part.start..range.start + part.end));
        }
    }
}

impl Deref for TensorBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map, range) => &map[range.clone()],
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}
