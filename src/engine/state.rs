//! What a sequence carries from token to token within one block: keys and values of its tokens, or whatever else a mixer needs.
//!
//! Decoding keeps one state a sequence ([`SequenceState`]). Scoring walks a block over all sequences at once: a chunk is a list
//! of [`Run`]s, each of which begins with the state that an earlier one left; where several sequences begin alike, several runs
//! begin with the same state. Absent: who needs which rows (see `sweep::chunk`) and the computation (see `forward`).

use std::collections::BTreeMap;
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

/// The runs of a step as operations on states walk them: in waves, each of runs that do not depend on each other.
pub struct RunList<B: Backend + ?Sized> {
    /// Wave by wave.
    pub(crate) runs: Vec<Run>,
    /// Which of them make a wave.
    pub(crate) waves: Vec<Range<usize>>,
    /// `[runs, 4]`: the first row, the one past the last, and the slots that it begins with and leaves, each plus one; 0 for
    /// none. For graphics devices.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code))]
    pub(crate) list: B::Indices,
}

impl<B: Backend> RunList<B> {
    /// Of runs in order.
    ///
    /// # Errors
    /// A device without the memory.
    pub fn new(backend: &B, runs: &[Run]) -> Result<Self> {
        let mut of: Vec<(usize, &Run)> = waves(runs).into_iter().zip(runs).collect();
        of.sort_by_key(|&(wave, _)| wave);
        let mut ends = Vec::new();
        for part in of.chunk_by(|a, b| a.0 == b.0) {
            let begin = ends.last().map_or(0, |wave: &Range<usize>| wave.end);
            ends.push(begin..begin + part.len());
        }
        let runs: Vec<Run> = of.into_iter().map(|(_, run)| run.clone()).collect();
        let slot = |slot: Option<usize>| slot.map_or(0, |slot| slot as u32 + 1);
        let four = |run: &Run| [run.rows.start as u32, run.rows.end as u32, slot(run.from), slot(run.to)];
        let list = backend.indices(&runs.iter().flat_map(four).collect::<Vec<u32>>())?;
        Ok(Self { runs, waves: ends, list })
    }
}

#[cfg(any(feature = "gpu", test))]
impl<B: Backend + ?Sized> RunList<B> {
    /// One past the last row of all runs.
    pub(crate) fn rows(&self) -> usize {
        self.runs.iter().map(|run| run.rows.end).max().unwrap_or(0)
    }

    /// One past the last slot of all runs.
    pub(crate) fn slots(&self) -> usize {
        self.runs.iter().flat_map(|run| [run.from, run.to]).flatten().map(|slot| slot + 1).max().unwrap_or(0)
    }
}

/// For each run the earliest wave that it may be in: behind that of the run whose state it begins with, and where it leaves its
/// state in a slot, behind those of the run that left the one before there and of all that begin with that.
fn waves(runs: &[Run]) -> Vec<usize> {
    // By slot.
    let (mut left, mut begun) = (BTreeMap::new(), BTreeMap::new());
    let behind = |wave: Option<&usize>| wave.map_or(0, |wave| wave + 1);
    let wave_of = |run: &Run| {
        let from = run.from.map_or(0, |slot| behind(left.get(&slot)));
        let to = run.to.map_or(0, |slot| behind(left.get(&slot)).max(behind(begun.get(&slot))));
        let wave = from.max(to);
        if let Some(slot) = run.from {
            let last = begun.entry(slot).or_insert(wave);
            *last = wave.max(*last);
        }
        if let Some(slot) = run.to {
            left.insert(slot, wave);
        }
        wave
    };
    runs.iter().map(wave_of).collect()
}

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
    use proptest::prelude::*;

    use super::*;
    use crate::cpu::Cpu;

    fn run(from: Option<usize>, to: Option<usize>) -> Run {
        Run { rows: 0..1, position: 0, from, to }
    }

    #[test]
    fn runs_wait_for_what_they_begin_with_and_for_what_they_write_over() {
        let own = |slot| run(Some(slot), Some(slot));
        assert_eq!(waves(&[own(0), own(1), run(None, Some(2)), run(None, None)]), [0; 4]);
        assert_eq!(waves(&[run(None, Some(0)), run(Some(0), None), run(Some(0), Some(1)), own(0)]), [0, 1, 1, 2]);
        assert_eq!(waves(&[run(Some(0), None), run(None, Some(0)), run(None, Some(0)), run(Some(0), None)]), [0, 1, 2, 3]);
    }

    /// States as lists of the runs that made them; what every run has behind it, and the slots at the end.
    fn walk<'r>(runs: impl Iterator<Item = (usize, &'r Run)>, count: usize) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
        let (mut seen, mut slots) = (vec![Vec::new(); count], vec![Vec::new(); 4]);
        for (number, run) in runs {
            seen[number] = run.from.map_or(Vec::new(), |slot: usize| slots[slot].clone());
            seen[number].push(number);
            if let Some(slot) = run.to {
                slots[slot] = seen[number].clone();
            }
        }
        (seen, slots)
    }

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

    proptest! {
        /// Whatever the order within a wave, every run has the same behind it; and no two runs of a wave touch what one of them
        /// writes.
        #[test]
        fn waves_are_as_good_as_the_order(slots in prop::collection::vec((0..5usize, 0..5usize), 0..24)) {
            let slot = |at: usize| at.checked_sub(1);
            let number = |(at, &(from, to)): (usize, &(usize, usize))| Run { rows: at..at + 1, ..run(slot(from), slot(to)) };
            let runs: Vec<Run> = slots.iter().enumerate().map(number).collect();
            let expected = walk(runs.iter().enumerate(), runs.len());
            let list = RunList::new(&Cpu::new(), &runs).unwrap();
            prop_assert_eq!(list.list.len(), 4 * runs.len());
            let forward: Vec<usize> = (0..runs.len()).collect();
            let backward: Vec<usize> = list.waves.iter().flat_map(|wave| wave.clone().rev()).collect();
            for order in [forward, backward] {
                let order = order.iter().map(|&at| (list.runs[at].rows.start, &list.runs[at]));
                prop_assert_eq!(&walk(order, runs.len()), &expected);
            }
            for wave in &list.waves {
                for one in wave.clone() {
                    let to = list.runs[one].to;
                    let touches = |run: &Run| to.is_some() && (run.from == to || run.to == to);
                    prop_assert!(wave.clone().filter(|&other| other != one).all(|other| !touches(&list.runs[other])));
                }
            }
        }
    }
}
