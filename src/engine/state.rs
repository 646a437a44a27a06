//! What a sequence carries from token to token within one block: keys and values of its tokens, or whatever else a mixer needs.
//!
//! Decoding keeps one state a sequence ([`SequenceState`]). Scoring walks a block over all sequences at once: a chunk is a list
//! of [`Run`]s, each of which begins with the state that an earlier one left; where several sequences begin alike, several runs
//! begin with the same state. Absent: who needs which rows (see `sweep::chunk`) and the computation (see `forward`).

use std::ops::Range;

use bitworth_quant::HParams;

use crate::backend::Backend;
use crate::error::Result;

/// Rows of one sequence that stand one behind the other in a step. Runs are walked in order: what one leaves in a slot is there
/// for those behind it. A run may leave its state in the slot that it began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Rows of the step.
    pub rows: Range<usize>,
    /// The position of the first one in its sequence.
    pub position: usize,
    /// The slot with the state before the first row; `None` at the beginning of a sequence.
    pub from: Option<usize>,
    /// The slot that takes the state behind the last row; `None` where nobody needs it.
    pub to: Option<usize>,
}

/// Columns of the keys and of the values of a block.
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
        let heads = h.kv_heads(block);
        Self { k: heads * h.key_width(block), v: heads * h.value_width(block) }
    }

    /// What is wide enough for every block.
    pub fn largest(h: &HParams) -> Self {
        Self { k: h.largest(|block| Self::of(h, block).k), v: h.largest(|block| Self::of(h, block).v) }
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

/// What the sequences that are being decoded carry from token to token in one block. Each has a slot.
pub enum SequenceState<B: Backend> {
    /// Attention's: the keys and values of every token.
    Kv(ResidentKv<B>),
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
    pub(crate) fn advance(&mut self, backend: &B, step: [&B::Buffer; 2], runs: &[Run]) -> Result<()> {
        for run in runs {
            let Some(slot) = run.to else { continue };
            let copy = RowCopy { from: run.rows.start, to: self.base(slot) + run.position, len: run.rows.len() };
            self.cache.take(backend, self.columns, step, copy)?;
        }
        Ok(())
    }
}

impl<B: Backend> SequenceState<B> {
    /// Attention's, for `slots` sequences of up to `context` tokens.
    ///
    /// # Errors
    /// A device without the memory.
    pub fn kv(backend: &B, columns: KvColumns, slots: usize, context: usize) -> Result<Self> {
        Ok(Self::Kv(ResidentKv { cache: KvCache::new(backend, columns, slots * context)?, columns, context }))
    }

    /// Makes the sequence in slot `to` begin with the first `length` tokens of the one in slot `from`.
    ///
    /// # Errors
    /// A device that fails.
    pub fn fork(&mut self, backend: &B, from: usize, to: usize, length: usize) -> Result<()> {
        match self {
            Self::Kv(kv) => {
                // A device copies from one buffer into another.
                let mut between = KvCache::new(backend, kv.columns, length.max(1))?;
                between.take(
                    backend,
                    kv.columns,
                    [&kv.cache.k, &kv.cache.v],
                    RowCopy { from: kv.base(from), to: 0, len: length },
                )?;
                let to = kv.base(to);
                kv.cache.take(backend, kv.columns, [&between.k, &between.v], RowCopy { from: 0, to, len: length })
            }
        }
    }

    /// Goes back to the first `length` tokens of the sequence in a slot. `None` where a state cannot go back: then those tokens
    /// have to be fed anew.
    pub fn truncate(&mut self, _slot: usize, _length: usize) -> Option<()> {
        match self {
            // Rows behind the end are written over and not looked at.
            Self::Kv(_) => Some(()),
        }
    }
}
