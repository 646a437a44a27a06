//! What a sequence carries from token to token within one block: keys and values of its tokens, or whatever else a mixer needs.
//!
//! Decoding keeps one state a sequence ([`SequenceState`]). Scoring walks a block over all sequences at once: a chunk is a list
//! of runs ([`Run`](crate::backend::Run)), each of which begins with the state that an earlier one left; where several sequences
//! begin alike, several runs begin with the same state. Absent: who needs which rows (see `sweep::chunk`) and the computation
//! (see `forward`).

use bitworth_quant::HParams;

use crate::backend::{Backend, RunList};
use crate::error::Result;

/// Numbers that a mixer with a state keeps for a sequence in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateColumns {
    /// What its convolution saw last.
    pub conv: usize,
    /// The states of its heads.
    pub heads: usize,
}

impl StateColumns {
    /// Those of every block that has such a mixer, where the model has one.
    pub fn of_model(h: &HParams) -> Option<Self> {
        h.recurrent.map(|r| Self { conv: r.conv_state(h.embedding_length), heads: r.head_state() })
    }

    /// Those of a block, where it has such a mixer.
    pub fn of(h: &HParams, block: usize) -> Option<Self> {
        Self::of_model(h).filter(|_| h.recurrent_of(block).is_some())
    }

    /// Both together.
    pub fn total(self) -> usize {
        self.conv + self.heads
    }
}

/// The states of mixers that carry one, for one block.
pub struct RecurrentState<B: Backend> {
    /// `[slots, conv_kernel - 1, channels]`
    pub conv: B::Buffer,
    /// `[slots, heads, key_dim, value_dim]`
    pub heads: B::Buffer,
    columns: StateColumns,
}

impl<B: Backend> RecurrentState<B> {
    /// Room for so many states; what stands there is for the first run of a slot to overwrite.
    ///
    /// # Errors
    /// A device without the memory.
    pub fn new(backend: &B, columns: StateColumns, slots: usize) -> Result<Self> {
        let buffer = |columns: usize| backend.alloc(slots * columns);
        Ok(Self { conv: buffer(columns.conv)?, heads: buffer(columns.heads)?, columns })
    }

    /// Copies the state in a slot to another.
    fn fork(&mut self, backend: &B, from: usize, to: usize) -> Result<()> {
        let StateColumns { conv, heads } = self.columns;
        for (buffer, columns) in [(&mut self.conv, conv), (&mut self.heads, heads)] {
            // A device copies from one buffer into another.
            let mut between = backend.alloc(columns)?;
            backend.copy(buffer, from * columns, &mut between, 0, columns)?;
            backend.copy(&between, 0, buffer, to * columns, columns)?;
        }
        Ok(())
    }
}

/// Columns of the keys and of the values of a block: none where it has none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvColumns {
    /// Heads with keys of their own times the width of a key.
    pub k: usize,
    /// The same of the values.
    pub v: usize,
}

impl KvColumns {
    /// Those of a block.
    pub fn of(h: &HParams, block: usize) -> Self {
        let heads = if h.has_own_keys(block) { h.kv_heads(block) } else { 0 };
        Self { k: heads * h.key_width(block), v: heads * h.value_width(block) }
    }

    /// What is wide enough for every block.
    pub fn largest(h: &HParams) -> Self {
        Self { k: h.largest(|block| Self::of(h, block).k), v: h.largest(|block| Self::of(h, block).v) }
    }

    /// Of all blocks whose keys and values later ones use: these are kept while a walk goes through the layers.
    pub fn lent(h: &HParams) -> usize {
        (0..h.block_count).filter(|&block| h.lends_keys(block, block)).map(|block| Self::of(h, block).total()).sum()
    }

    /// Both together.
    pub fn total(self) -> usize {
        self.k + self.v
    }
}

/// Keys and values of some rows, for one block.
pub struct KvCache<B: Backend> {
    /// `[rows, kv_heads * key_width]`
    pub k: B::Buffer,
    /// `[rows, kv_heads * value_width]`
    pub v: B::Buffer,
}

/// Some rows that lie one behind the other, and where they are copied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCopy {
    /// The first row where they are.
    pub from: usize,
    /// The first row where they go.
    pub to: usize,
    /// How many.
    pub len: usize,
}

impl<B: Backend> KvCache<B> {
    /// Room for so many rows.
    ///
    /// # Errors
    /// A device without the memory.
    pub fn new(backend: &B, columns: KvColumns, rows: usize) -> Result<Self> {
        Ok(Self { k: backend.alloc(rows * columns.k)?, v: backend.alloc(rows * columns.v)? })
    }

    /// Takes rows of keys and values.
    pub(crate) fn take(&mut self, backend: &B, columns: KvColumns, from: [&B::Buffer; 2], copy: RowCopy) -> Result<()> {
        let (KvColumns { k, v }, RowCopy { from: at, to, len }) = (columns, copy);
        backend.copy(from[0], at * k, &mut self.k, to * k, len * k)?;
        Ok(backend.copy(from[1], at * v, &mut self.v, to * v, len * v)?)
    }
}

/// What the sequences that are being decoded carry from token to token in one block. Each has a slot. A block may have both, one
/// of them, or neither.
pub struct SequenceState<B: Backend> {
    /// Attention's: the keys and values of every token.
    pub kv: ResidentKv<B>,
    /// That of a mixer with a state.
    pub recurrent: Option<RecurrentState<B>>,
}

/// Keys and values of sequences of up to `context` tokens; those of slot i begin at row i * context.
pub struct ResidentKv<B: Backend> {
    pub(crate) cache: KvCache<B>,
    columns: KvColumns,
    context: usize,
}

impl<B: Backend> ResidentKv<B> {
    /// The first row of a slot.
    pub(crate) fn base(&self, slot: usize) -> usize {
        slot * self.context
    }

    /// Adds the keys and values of the rows of a step to those that their sequences have.
    ///
    /// # Errors
    /// A device that fails.
    pub(crate) fn advance(&mut self, backend: &B, step: [&B::Buffer; 2], runs: &RunList<B>) -> Result<()> {
        for run in &runs.runs {
            let Some(slot) = run.to else { continue };
            let copy = RowCopy { from: run.rows.start, to: self.base(slot) + run.position, len: run.rows.len() };
            self.cache.take(backend, self.columns, step, copy)?;
        }
        Ok(())
    }

    fn fork(&mut self, backend: &B, from: usize, to: usize, length: usize) -> Result<()> {
        // A device copies from one buffer into another.
        let mut between = KvCache::new(backend, self.columns, length.max(1))?;
        let cached = [&self.cache.k, &self.cache.v];
        between.take(backend, self.columns, cached, RowCopy { from: self.base(from), to: 0, len: length })?;
        let copy = RowCopy { from: 0, to: self.base(to), len: length };
        self.cache.take(backend, self.columns, [&between.k, &between.v], copy)
    }
}

impl<B: Backend> SequenceState<B> {
    /// For `slots` sequences of up to `context` tokens.
    ///
    /// # Errors
    /// A device without the memory.
    pub fn new(backend: &B, h: &HParams, block: usize, slots: usize, context: usize) -> Result<Self> {
        let columns = KvColumns::of(h, block);
        let kv = ResidentKv { cache: KvCache::new(backend, columns, slots * context)?, columns, context };
        let recurrent = StateColumns::of(h, block).map(|columns| RecurrentState::new(backend, columns, slots));
        Ok(Self { kv, recurrent: recurrent.transpose()? })
    }

    /// Makes the sequence in slot `to` the one in slot `from`, which has `length` tokens.
    ///
    /// # Errors
    /// A device that fails.
    pub fn fork(&mut self, backend: &B, from: usize, to: usize, length: usize) -> Result<()> {
        self.kv.fork(backend, from, to, length)?;
        match &mut self.recurrent {
            // Without tokens there is no state yet.
            Some(state) if length > 0 => state.fork(backend, from, to),
            _ => Ok(()),
        }
    }

    /// Goes back to the first `length` tokens of the sequence in a slot, which has more. `None` where a state cannot go back:
    /// then those tokens have to be fed anew, to a sequence that begins.
    pub fn truncate(&mut self, _slot: usize, length: usize) -> Option<()> {
        // Keys behind the end are written over and not looked at; a sequence that begins does not look at a state.
        (length == 0 || self.recurrent.is_none()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;

    #[test]
    fn a_fork_copies_one_slot() {
        let cpu = Cpu::new();
        let mut state = RecurrentState::new(&cpu, StateColumns { conv: 2, heads: 3 }, 3).unwrap();
        state.conv = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        state.heads = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        state.fork(&cpu, 2, 0).unwrap();
        assert_eq!(state.conv, [5.0, 6.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(state.heads, [7.0, 8.0, 9.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    }
}
