//! Which rows of many sequences are the same: sequences that begin alike share the rows of their common beginning, which are
//! computed once. Endings of one question, questions behind one set of examples.
//!
//! A row is determined by the tokens up to it (and by the class of angles that its sequence's length has), so sequences in
//! lexical order lie beside those that they share most with, and form a forest. Absent: keys and buffers (see `chunk`).

use std::ops::Range;

use super::Sequence;

/// Fewer common tokens than this are computed for each sequence anew: nearly all begin with the same start token.
pub const SHORTEST_SHARED: usize = 8;

/// The rows of one sequence: its tokens, and which angles they have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path<'a> {
    /// Sequences of different classes share nothing.
    pub class: u32,
    /// One token a row.
    pub tokens: &'a [u32],
}

impl Path<'_> {
    /// How many rows two sequences share.
    fn common(&self, other: &Self) -> usize {
        let common = self.tokens.iter().zip(other.tokens).take_while(|(a, b)| a == b).count();
        if self.class == other.class && common >= SHORTEST_SHARED { common } else { 0 }
    }
}

/// Sequences in an order in which those that share rows are neighbours, and how many rows each shares with the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Numbers of sequences.
    pub sequences: Vec<usize>,
    /// By place: rows that are those of the sequence before.
    pub shared: Vec<usize>,
}

impl Order {
    /// Groups of sequences that share rows stand where the first of them stood; within a group the order is lexical.
    pub fn of(paths: &[Path<'_>]) -> Self {
        let mut sorted: Vec<usize> = (0..paths.len()).collect();
        sorted.sort_by(|&a, &b| paths[a].cmp(&paths[b]).then(a.cmp(&b)));
        let mut groups: Vec<Vec<(usize, usize)>> = Vec::new();
        for (place, &sequence) in sorted.iter().enumerate() {
            let shared = place.checked_sub(1).map_or(0, |before| paths[sorted[before]].common(&paths[sequence]));
            match groups.last_mut() {
                Some(group) if shared > 0 => group.push((sequence, shared)),
                _ => groups.push(vec![(sequence, 0)]),
            }
        }
        groups.sort_by_key(|group| group.iter().map(|&(sequence, _)| sequence).min());
        let (sequences, shared) = groups.into_iter().flatten().unzip();
        Self { sequences, shared }
    }

    /// As they come, each for itself.
    pub fn as_given(count: usize) -> Self {
        Self { sequences: (0..count).collect(), shared: vec![0; count] }
    }

    /// Ranges of places with at most `limit` rows to compute each, one sequence at least. A range computes shared rows anew
    /// where the sequence that it shares them with is in the range before.
    pub fn cut(&self, lengths: &[usize], limit: usize) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let mut rows = 0;
        for (place, (&sequence, &shared)) in self.sequences.iter().zip(&self.shared).enumerate() {
            let new = lengths[sequence] - shared;
            match ranges.last_mut() {
                Some(range) if rows + new <= limit => {
                    range.end = place + 1;
                    rows += new;
                }
                _ => {
                    ranges.push(place..place + 1);
                    rows = lengths[sequence];
                }
            }
        }
        ranges
    }
}

/// Some rows one behind the other that the same sequences share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node whose rows stand before these.
    pub parent: Option<usize>,
    /// A sequence that has these rows.
    pub sequence: usize,
    /// Positions of the rows in that sequence.
    pub rows: Range<usize>,
}

/// The rows of some sequences, each once. A node stands behind its parent, its descendants directly behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forest {
    /// All nodes.
    pub nodes: Vec<Node>,
    /// By place in the order: the node of the sequence's last row; `None` where it has no rows.
    pub ends: Vec<Option<usize>>,
}

impl Forest {
    /// Of the sequences at the places `range` of an order.
    pub fn of(paths: &[Path<'_>], order: &Order, range: Range<usize>) -> Self {
        let shared = |place: usize| if place == range.start { 0 } else { order.shared[place] };
        // Where later sequences leave the one at a place, by place, ascending: seen from behind, each sequence cuts all those
        // before it at the rows that it shares with them.
        let mut cuts: Vec<Vec<usize>> = vec![Vec::new(); range.len()];
        let mut coming: Vec<usize> = Vec::new();
        for place in range.clone().rev() {
            while let Some(cut) = coming.pop_if(|cut| *cut > shared(place)) {
                cuts[place - range.start].insert(0, cut);
            }
            if coming.last() != Some(&shared(place)) {
                coming.push(shared(place));
            }
        }
        let mut forest = Self { nodes: Vec::new(), ends: Vec::with_capacity(range.len()) };
        // The nodes of the sequence before, root first.
        let mut open: Vec<usize> = Vec::new();
        for (place, cuts) in range.clone().zip(cuts) {
            let sequence = order.sequences[place];
            let length = paths[sequence].tokens.len();
            while open.pop_if(|node| forest.nodes[*node].rows.end > shared(place)).is_some() {}
            let mut first = shared(place);
            for end in cuts.into_iter().chain([length]).filter(|&end| end <= length) {
                if end > first {
                    forest.nodes.push(Node { parent: open.last().copied(), sequence, rows: first..end });
                    open.push(forest.nodes.len() - 1);
                    first = end;
                }
            }
            forest.ends.push(open.last().copied());
        }
        forest
    }
}

/// The rows of sequences, with what tells sequences of different angles apart.
pub fn paths(sequences: &[Sequence], class: impl Fn(usize) -> u32) -> Vec<Path<'_>> {
    // `class` is asked for every sequence, be it of this pass or not; what it says of others does not matter.
    let classes = sequences.iter().map(|sequence| class(sequence.scored.end));
    let rows = sequences.iter().map(|sequence| &sequence.tokens[..sequence.scored.end]);
    classes.zip(rows).map(|(class, tokens)| Path { class, tokens }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths(tokens: &[Vec<u32>]) -> Vec<Path<'_>> {
        tokens.iter().map(|tokens| Path { class: 0, tokens }).collect()
    }

    fn begun(with: u32, rest: &[u32]) -> Vec<u32> {
        let mut tokens = vec![with; SHORTEST_SHARED];
        tokens.extend(rest);
        tokens
    }

    fn rows(forest: &Forest) -> Vec<(Option<usize>, Range<usize>)> {
        forest.nodes.iter().map(|node| (node.parent, node.rows.clone())).collect()
    }

    #[test]
    fn endings_hang_on_their_common_beginning() {
        let tokens = [begun(1, &[5]), vec![7, 7], begun(1, &[4, 4]), begun(1, &[4, 5]), begun(1, &[])];
        let order = Order::of(&paths(&tokens));
        assert_eq!(order.sequences, [4, 2, 3, 0, 1]);
        assert_eq!(order.shared, [0, 8, 9, 8, 0]);
        let forest = Forest::of(&paths(&tokens), &order, 0..5);
        let expected = [(None, 0..8), (Some(0), 8..9), (Some(1), 9..10), (Some(1), 9..10), (Some(0), 8..9), (None, 0..2)];
        assert_eq!(rows(&forest), expected);
        assert_eq!(forest.ends, [Some(0), Some(2), Some(3), Some(4), Some(5)]);
        // A part of the order begins anew.
        let forest = Forest::of(&paths(&tokens), &order, 2..4);
        assert_eq!(rows(&forest), [(None, 0..8), (Some(0), 8..10), (Some(0), 8..9)]);
    }

    #[test]
    fn short_or_differently_turned_beginnings_are_not_shared() {
        let tokens = [vec![1, 2, 3], vec![1, 2, 4], begun(1, &[2]), begun(1, &[3])];
        let mut paths = paths(&tokens);
        paths[3].class = 1;
        let order = Order::of(&paths);
        assert_eq!((order.sequences, order.shared), (vec![0, 1, 2, 3], vec![0; 4]));
    }

    #[test]
    fn sequences_that_share_nothing_keep_their_order_and_are_cut_by_rows() {
        let tokens: Vec<Vec<u32>> = [9, 3, 5].map(|first| (first..first + 10).collect()).to_vec();
        let order = Order::of(&paths(&tokens));
        assert_eq!(order.sequences, [0, 1, 2]);
        assert_eq!(order.cut(&[10, 10, 10], 20), [0..2, 2..3]);
        assert_eq!(order.cut(&[10, 10, 10], 1), [0..1, 1..2, 2..3]);
    }

    proptest! {
        /// Walking from a sequence's end to its root gives its rows, each row of it once, and nodes of another sequence's rows
        /// only where the tokens are the same.
        #[test]
        fn every_sequence_finds_its_rows(
            tokens in prop::collection::vec(prop::collection::vec(0..2u32, 0..24), 1..24),
            cut in 1..200usize,
        ) {
            let paths = paths(&tokens);
            let order = Order::of(&paths);
            let lengths: Vec<usize> = tokens.iter().map(Vec::len).collect();
            let mut seen = 0;
            for range in order.cut(&lengths, cut) {
                let forest = Forest::of(&paths, &order, range.clone());
                let computed: usize = forest.nodes.iter().map(|node| node.rows.len()).sum();
                prop_assert!(computed <= cut || range.len() == 1);
                for (place, end) in range.zip(&forest.ends) {
                    seen += 1;
                    let (mut node, mut next) = (*end, lengths[order.sequences[place]]);
                    while let Some(at) = node {
                        let Node { parent, sequence, rows } = &forest.nodes[at];
                        prop_assert_eq!(rows.end, next);
                        prop_assert!(rows.start < rows.end && parent.is_none_or(|parent| parent < at));
                        let own = &tokens[order.sequences[place]];
                        prop_assert_eq!(&tokens[*sequence][..rows.end], &own[..rows.end]);
                        (node, next) = (*parent, rows.start);
                    }
                    prop_assert_eq!(next, 0);
                }
            }
            prop_assert_eq!(seen, tokens.len());
        }
    }
}
