//! A block of encoded rows on its way from the threads that encode to those that write, and the permits that bound how many are
//! under way. What is absent: making blocks (see `pipeline`) and writing them (see `writer`).

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::report::Sums;
use super::rows::{Encoded, SourceRows};

/// An encoded block of rows on its way to one output.
pub(super) struct EncodedRows {
    /// Blocks of an output are numbered in the order in which they are to be written.
    pub(super) number: usize,
    /// Entry of the plan.
    pub(super) entry: usize,
    /// Where it begins within the tensor.
    pub(super) at: u64,
    /// Bytes of the rows in the source.
    pub(super) source_bytes: u64,
    /// What became of its rows, shared by the outputs.
    pub(super) payload: Arc<Payload>,
    /// Which encoding of them it is.
    pub(super) encoding: usize,
}

/// What became of one block of rows, shared by the outputs.
pub(super) struct Payload {
    pub(super) stored: SourceRows,
    pub(super) encoded: Vec<Encoded>,
    /// Declared last, so that the memory is free before the next block may begin.
    pub(super) _permit: Permit,
}

impl EncodedRows {
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.payload.encoded[self.encoding].bytes {
            copied if copied.is_empty() => &self.payload.stored,
            bytes => bytes,
        }
    }

    pub(super) fn sums(&self) -> &[Sums] {
        &self.payload.encoded[self.encoding].sums
    }
}

/// How many more blocks may be under way.
#[derive(Default)]
pub(super) struct Permits {
    free: Mutex<usize>,
    more: Condvar,
}

pub(super) struct Permit(Arc<Permits>);

impl Permits {
    pub(super) fn take(self: &Arc<Self>) -> Permit {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.more.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Permit(Arc::clone(self))
    }

    pub(super) fn add(&self, n: usize) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = free.saturating_add(n);
        self.more.notify_all();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.add(1);
    }
}
