//! The rows of a step as operations that carry a state walk them. Absent: the states (see `state`), and which rows stand in a
//! step (see `sweep::chunk`).

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Backend, Result};

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
