//! Where the rows of a forest stand: cut into chunks that go through a layer together, with the keys that each row sees.
//!
//! A row sees the keys of all rows on the path to its root, in order, as if its sequence were alone. Where a path lies in one
//! piece in the chunk the step's own keys serve; else keys are copied together, path by path, from the step's rows and from
//! those that earlier chunks kept. Keys are kept for one layer only. Pure: numbers of rows, no buffers.

use std::collections::VecDeque;
use std::ops::Range;

use super::prefix::Forest;
use crate::backend::Run;
use crate::forward::{KvCopies, KvSource};
use crate::state::RowCopy;

/// Slots of states up to which none is used twice in a chunk.
const SPREAD_SLOTS: usize = 16;

/// How large a chunk may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Rows that go through a layer together.
    pub rows: usize,
    /// Rows of keys that are copied together for them; a single path may be longer.
    pub key_rows: usize,
}

/// Rows of a node that stand in one chunk, one behind the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    parent: Option<usize>,
    /// A sequence that has these rows, and their positions in it.
    pub sequence: usize,
    /// See there.
    pub rows: Range<usize>,
    /// The chunk.
    pub chunk: usize,
    /// The first row's number in the chunk.
    pub first: usize,
}

/// Rows that go through a layer together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChunkLayout {
    /// Number of rows.
    pub rows: usize,
    /// Its pieces, in order.
    pub pieces: Range<usize>,
    /// For each row the first and the one-past-last key row that it sees.
    pub spans: Vec<u32>,
    /// Rows of keys that are copied together; 0 where the spans count the chunk's own rows.
    pub key_rows: usize,
    /// What is copied.
    pub copies: KvCopies,
    /// Its rows by sequence, with the slots of the states that they begin with and leave.
    pub runs: Vec<Run>,
}

/// A forest in chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks {
    /// All pieces; a piece stands behind its parent.
    pub pieces: Vec<Piece>,
    /// All chunks.
    pub chunks: Vec<ChunkLayout>,
    /// By place in the order: the piece of the sequence's last row.
    ends: Vec<Option<usize>>,
    /// Rows of keys and values that are kept for later chunks of the layer.
    pub kept_rows: usize,
    /// Slots for states that are kept for later runs of the layer.
    pub slots: usize,
}

impl Chunks {
    /// Lays out a forest.
    pub fn of(forest: &Forest, limits: ChunkLimits) -> Self {
        let mut build = Builder { limits, pieces: Vec::new(), chunk: 0, rows: 0, key_rows: 0 };
        let mut last_piece = Vec::with_capacity(forest.nodes.len());
        for node in &forest.nodes {
            let mut parent = node.parent.map(|parent| last_piece[parent]);
            let mut rest = node.rows.clone();
            while !rest.is_empty() {
                let part = build.place(parent, node.sequence, rest.clone());
                rest.start = part.end;
                parent = Some(build.pieces.len() - 1);
            }
            last_piece.push(build.pieces.len() - 1);
        }
        let ends = forest.ends.iter().map(|end| end.map(|node| last_piece[node])).collect();
        let mut chunks = Self { pieces: build.pieces, chunks: Vec::new(), ends, kept_rows: 0, slots: 0 };
        chunks.lay_out();
        chunks
    }

    /// Where the rows of the sequence at a place stand, first row first: pieces and the positions in them.
    pub fn path(&self, place: usize) -> Vec<&Piece> {
        let numbers = self.ends[place].map(|end| self.path_of(end)).unwrap_or_default();
        numbers.into_iter().map(|number| &self.pieces[number]).collect()
    }

    /// A piece and those before it, root first.
    fn path_of(&self, piece: usize) -> Vec<usize> {
        let mut path: Vec<usize> = std::iter::successors(Some(piece), |&at| self.pieces[at].parent).collect();
        path.reverse();
        path
    }

    fn lay_out(&mut self) {
        let kept = self.keep();
        let runs = self.runs();
        let mut begin = 0;
        while begin < self.pieces.len() {
            let number = self.pieces[begin].chunk;
            let end = begin + self.pieces[begin..].iter().take_while(|piece| piece.chunk == number).count();
            let mut chunk = self.chunk(begin..end, &kept);
            chunk.runs = runs[begin..end].to_vec();
            self.chunks.push(chunk);
            begin = end;
        }
    }

    /// For each piece that a later chunk needs, where its keys are kept.
    fn keep(&mut self) -> Vec<Option<usize>> {
        let mut kept = vec![None; self.pieces.len()];
        for number in 0..self.pieces.len() {
            let chunk = self.pieces[number].chunk;
            let mut above = self.pieces[number].parent;
            while let Some(at) = above {
                if self.pieces[at].chunk < chunk {
                    if kept[at].is_some() {
                        // So are those above it.
                        break;
                    }
                    kept[at] = Some(self.kept_rows);
                    self.kept_rows += self.pieces[at].rows.len();
                }
                above = self.pieces[at].parent;
            }
        }
        kept
    }

    /// Each piece as a run: it begins with the state that its parent left, and leaves its own where it has children. Whatever
    /// begins last with a state may take its slot over. Others had better not in the same chunk, while slots are few: they would
    /// have to wait for it.
    fn runs(&mut self) -> Vec<Run> {
        let mut children = vec![0_usize; self.pieces.len()];
        self.pieces.iter().filter_map(|piece| piece.parent).for_each(|parent| children[parent] += 1);
        let mut slot_of: Vec<Option<usize>> = vec![None; self.pieces.len()];
        // With the chunks that freed them, first come first.
        let mut free: VecDeque<(usize, usize)> = VecDeque::new();
        let mut runs = Vec::with_capacity(self.pieces.len());
        for (at, piece) in self.pieces.iter().enumerate() {
            let from = piece.parent.and_then(|parent| slot_of[parent]);
            if let Some(parent) = piece.parent {
                children[parent] -= 1;
                // Its own takes it first.
                let unused = from.filter(|_| children[parent] == 0).map(|slot| (slot, piece.chunk));
                if children[at] > 0 {
                    slot_of[at] = unused.map(|(slot, _)| slot);
                } else {
                    free.extend(unused);
                }
            }
            if children[at] > 0 && slot_of[at].is_none() {
                let waits = |&(_, chunk): &(usize, usize)| chunk == piece.chunk && self.slots < SPREAD_SLOTS;
                let used = if free.front().is_some_and(|first| !waits(first)) { free.pop_front() } else { None };
                slot_of[at] = used.map(|(slot, _)| slot).or_else(|| {
                    self.slots += 1;
                    Some(self.slots - 1)
                });
            }
            let rows = piece.first..piece.first + piece.rows.len();
            runs.push(Run { rows, position: piece.rows.start, from, to: slot_of[at] });
        }
        runs
    }

    fn chunk(&self, pieces: Range<usize>, kept: &[Option<usize>]) -> ChunkLayout {
        let own = pieces.clone().all(|at| self.pieces[at].parent.is_none() || self.follows(at, pieces.start));
        let mut chunk = ChunkLayout { pieces: pieces.clone(), ..ChunkLayout::default() };
        let (mut base, mut key_rows) = (0, 0);
        for at in pieces.clone() {
            let piece = &self.pieces[at];
            if let Some(to) = kept[at] {
                chunk.copies.keep.push(RowCopy { from: piece.first, to, len: piece.rows.len() });
            }
            if !self.follows(at, pieces.start) {
                base = key_rows;
                let path = self.path_of(at);
                for &above in &path[..path.len() - 1] {
                    let Piece { chunk: number, first, rows, .. } = &self.pieces[above];
                    let (source, from) = match kept[above] {
                        Some(from) if *number < piece.chunk => (KvSource::Kept, from),
                        _ => (KvSource::Step, *first),
                    };
                    chunk.copies.join.push((source, RowCopy { from, to: base + rows.start, len: rows.len() }));
                }
            }
            let own = RowCopy { from: piece.first, to: base + piece.rows.start, len: piece.rows.len() };
            chunk.copies.join.push((KvSource::Step, own));
            for position in piece.rows.clone() {
                chunk.spans.extend([base as u32, (base + position + 1) as u32]);
            }
            key_rows = base + piece.rows.end;
            chunk.rows += piece.rows.len();
        }
        if own {
            chunk.copies.join.clear();
        } else {
            chunk.key_rows = key_rows;
        }
        chunk
    }

    /// Whether a piece stands directly behind its parent in one chunk, which begins with the piece `start`.
    fn follows(&self, piece: usize, start: usize) -> bool {
        piece > start && self.pieces[piece].parent == Some(piece - 1)
    }
}

/// Deals rows to chunks.
struct Builder {
    limits: ChunkLimits,
    pieces: Vec<Piece>,
    chunk: usize,
    /// Of the chunk that is being filled.
    rows: usize,
    key_rows: usize,
}

impl Builder {
    /// Places the first of these rows, as many as fit, into a chunk.
    fn place(&mut self, parent: Option<usize>, sequence: usize, rows: Range<usize>) -> Range<usize> {
        let limit = self.limits.rows.max(1);
        let follows = |this: &Self| this.rows > 0 && parent.is_some_and(|parent| parent + 1 == this.pieces.len());
        let keys = |this: &Self, end: usize| this.key_rows + end - if follows(this) { rows.start } else { 0 };
        // A node that fits a chunk is not cut, and copies of keys have their limit.
        let room = limit.saturating_sub(self.rows);
        let whole = rows.len() <= room || (rows.len() > limit && room > 0);
        if self.rows > 0 && (!whole || keys(self, rows.end.min(rows.start + room)) > self.limits.key_rows) {
            (self.chunk, self.rows, self.key_rows) = (self.chunk + 1, 0, 0);
        }
        let part = rows.start..rows.end.min(rows.start + limit - self.rows);
        self.key_rows = keys(self, part.end);
        self.pieces.push(Piece { parent, sequence, rows: part.clone(), chunk: self.chunk, first: self.rows });
        self.rows += part.len();
        part
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::prefix::{Order, Path};
    use super::*;
    use crate::backend::RunList;
    use crate::cpu::Cpu;

    fn copy(from: usize, to: usize, len: usize) -> RowCopy {
        RowCopy { from, to, len }
    }

    fn forest(tokens: &[Vec<u32>]) -> (Order, Forest) {
        let paths: Vec<Path<'_>> = tokens.iter().map(|tokens| Path { class: 0, tokens }).collect();
        let order = Order::of(&paths);
        let forest = Forest::of(&paths, &order, 0..tokens.len());
        (order, forest)
    }

    #[test]
    fn sequences_that_share_nothing_see_their_own_rows_without_a_copy() {
        let tokens: Vec<Vec<u32>> = [5, 3, 4].iter().map(|&n| (n..2 * n).collect()).collect();
        let chunks = Chunks::of(&forest(&tokens).1, ChunkLimits { rows: 8, key_rows: 8 });
        assert_eq!(chunks.chunks.iter().map(|chunk| chunk.rows).collect::<Vec<_>>(), [8, 4]);
        assert_eq!(chunks.chunks[0].spans[..12], [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 5, 6]);
        assert!(chunks.chunks.iter().all(|chunk| chunk.key_rows == 0 && chunk.copies == KvCopies::default()));
        assert_eq!(chunks.kept_rows, 0);
    }

    #[test]
    fn a_sequence_longer_than_a_chunk_keeps_its_keys() {
        let chunks = Chunks::of(&forest(&[(0..10).collect()]).1, ChunkLimits { rows: 4, key_rows: 4 });
        assert_eq!(chunks.chunks.iter().map(|chunk| chunk.rows).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!((chunks.kept_rows, chunks.slots), (8, 1));
        assert_eq!(chunks.chunks[0].copies, KvCopies { keep: vec![copy(0, 0, 4)], join: vec![] });
        let last = &chunks.chunks[2];
        assert_eq!((last.key_rows, &last.spans[..]), (10, &[0, 9, 0, 10][..]));
        let join = vec![(KvSource::Kept, copy(0, 0, 4)), (KvSource::Kept, copy(4, 4, 4)), (KvSource::Step, copy(0, 8, 2))];
        assert_eq!(last.copies, KvCopies { keep: vec![], join });
    }

    /// Contexts with several endings, each context's state in a slot of its own: no run waits for another context's.
    #[test]
    fn contexts_of_a_chunk_do_not_wait_for_each_other() {
        let ending = |context: u32, end: u32| [vec![context; 20], vec![end]].concat();
        let tokens: Vec<Vec<u32>> = (0..6).flat_map(|context| [ending(context, 10), ending(context, 11)]).collect();
        let chunks = Chunks::of(&forest(&tokens).1, ChunkLimits { rows: 200, key_rows: 1000 });
        assert_eq!((chunks.chunks.len(), chunks.slots), (1, 6));
        let runs = RunList::new(&Cpu::new(), &chunks.chunks[0].runs).unwrap();
        assert_eq!(runs.waves, [0..6, 6..18]);
        // Where there are many, slots change hands.
        let tokens: Vec<Vec<u32>> = (0..60).flat_map(|context| [ending(context, 100), ending(context, 101)]).collect();
        assert_eq!(Chunks::of(&forest(&tokens).1, ChunkLimits { rows: 2000, key_rows: 9000 }).slots, SPREAD_SLOTS);
    }

    proptest! {
        /// Whatever the limits, every row sees exactly the tokens of its sequence up to itself: keys are simulated as the
        /// (sequence, position) they belong to and compared by token.
        #[test]
        fn every_row_sees_its_own_past(
            tokens in prop::collection::vec(prop::collection::vec(0..2u32, 0..24), 1..20),
            rows in 1..40usize,
            key_rows in 1..60usize,
        ) {
            let (order, forest) = forest(&tokens);
            let chunks = Chunks::of(&forest, ChunkLimits { rows, key_rows });
            let mut kept: Vec<Option<u32>> = vec![None; chunks.kept_rows];
            let mut states: Vec<Vec<u32>> = vec![Vec::new(); chunks.slots];
            for chunk in &chunks.chunks {
                prop_assert!(chunk.rows <= rows && chunk.spans.len() == 2 * chunk.rows);
                let pieces = &chunks.pieces[chunk.pieces.clone()];
                let step: Vec<u32> =
                    pieces.iter().flat_map(|piece| tokens[piece.sequence][piece.rows.clone()].iter().copied()).collect();
                for &RowCopy { from, to, len } in &chunk.copies.keep {
                    (0..len).for_each(|i| kept[to + i] = Some(step[from + i]));
                }
                // A state that is the list of all tokens so far: runs in order give each row its own past.
                prop_assert_eq!(chunk.runs.len(), pieces.len());
                for (run, piece) in chunk.runs.iter().zip(pieces) {
                    let mut state = run.from.map_or(Vec::new(), |slot| states[slot].clone());
                    prop_assert_eq!(&state[..], &tokens[piece.sequence][..run.position]);
                    state.extend_from_slice(&step[run.rows.clone()]);
                    prop_assert_eq!(&state[..], &tokens[piece.sequence][..piece.rows.end]);
                    if let Some(slot) = run.to {
                        states[slot] = state;
                    }
                }
                let mut keys: Vec<Option<u32>> = step.iter().copied().map(Some).collect();
                if chunk.key_rows > 0 {
                    keys = vec![None; chunk.key_rows];
                    for &(source, RowCopy { from, to, len }) in &chunk.copies.join {
                        (0..len).for_each(|i| keys[to + i] = match source {
                            KvSource::Step => Some(step[from + i]),
                            KvSource::Kept => kept[from + i],
                        });
                    }
                }
                let mut row = 0;
                for piece in pieces {
                    for position in piece.rows.clone() {
                        let span = chunk.spans[2 * row] as usize..chunk.spans[2 * row + 1] as usize;
                        let past: Vec<Option<u32>> = tokens[piece.sequence][..=position].iter().copied().map(Some).collect();
                        prop_assert_eq!(&keys[span], &past[..]);
                        row += 1;
                    }
                }
            }
            for (place, &sequence) in order.sequences.iter().enumerate() {
                let path = chunks.path(place);
                let own: Vec<u32> =
                    path.iter().flat_map(|piece| tokens[piece.sequence][piece.rows.clone()].iter().copied()).collect();
                prop_assert_eq!(&own, &tokens[sequence]);
            }
        }
    }
}
