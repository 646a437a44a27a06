//! How a long library call reports its progress without knowing of a terminal.

/// Receives the progress of one long call. Implementations must be cheap: calls come once per block of rows.
pub trait Progress: Sync {
    /// The total amount of work, and what it is called.
    fn start(&self, total: u64, unit: Unit, what: &str);
    /// `delta` more units are done.
    fn advance(&self, delta: u64);
    /// All of it is done.
    fn finish(&self);
    /// A part of the same work begins, under another name; what was counted goes on.
    fn stage(&self, _what: &str) {}
}

/// What work is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, of which people want to know how many there are in a second.
    Bytes,
    /// Anything else (tokens, prompts, repetitions).
    Items,
}

/// Reports nothing.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _total: u64, _unit: Unit, _what: &str) {}
    fn advance(&self, _delta: u64) {}
    fn finish(&self) {}
}
