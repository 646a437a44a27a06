//! How a long library call reports its progress without knowing of a terminal.

/// Receives the progress of one long call. Implementations must be cheap: calls come once per block of rows.
pub trait Progress: Sync {
    /// The total amount of work, in the unit the caller documents (bytes for quantizing, tokens for scoring).
    fn start(&self, total: u64, what: &str);
    /// `delta` more units are done.
    fn advance(&self, delta: u64);
    /// All of it is done.
    fn finish(&self);
}

/// Reports nothing.
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _total: u64, _what: &str) {}
    fn advance(&self, _delta: u64) {}
    fn finish(&self) {}
}
