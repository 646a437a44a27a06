//! Choices among logits: exactly the likeliest, the first of equals, and none where a row has something that is no logit.

use super::Random;
use crate::backend::{Backend, Choices};

/// What stands in lists beside what is chosen.
const BEFORE: u32 = 77;

fn choose<B: Backend>(b: &B, logits: &[f32], [rows, cols]: [usize; 2], log_at: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut next, mut log) = (b.indices(&vec![BEFORE; rows + 3]).unwrap(), b.indices(&vec![BEFORE; log_at + rows + 3]).unwrap());
    let more: Vec<f32> = logits.iter().copied().chain([1e9; 5]).collect();
    let out = Choices { next: &mut next, log: &mut log, log_at };
    b.argmax(&b.upload(&more).unwrap(), [rows, cols], out).unwrap();
    let (next, log) = (b.read_indices(&next, 0..rows + 3).unwrap(), b.read_indices(&log, 0..log_at + rows + 3).unwrap());
    assert!(next[rows..].iter().chain(&log[..log_at]).chain(&log[log_at + rows..]).all(|&other| other == BEFORE), "argmax");
    (next[..rows].to_vec(), log[log_at..log_at + rows].to_vec())
}

pub(super) fn argmax<B: Backend>(b: &B) {
    let mut random = Random::new(31);
    for (rows, cols) in [(1, 1), (1, 7), (3, 5003), (8, 2048), (9, 2049), (2, 140_000)] {
        let mut logits = random.numbers(rows * cols);
        // All below zero; an infinite one that is no rival; equals, within a part and in different ones.
        logits[..cols].iter_mut().for_each(|logit| *logit = -logit.abs() - 1.0);
        for row in logits.chunks_mut(cols).filter(|row| row.len() > 100) {
            (row[3], row[90], row[17], row[cols - 1]) = (f32::NEG_INFINITY, 1e4, 1e4, 1e4);
        }
        let likeliest = |row: &[f32]| {
            let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter().position(|&logit| logit == best).unwrap() as u32
        };
        let expected: Vec<u32> = logits.chunks(cols).map(likeliest).collect();
        let found = choose(b, &logits, [rows, cols], 5);
        assert_eq!(found, (expected.clone(), expected), "argmax of {rows} x {cols}");
    }
    let zeros = [[-0.0, 0.0, -1.0], [-1.0, -0.0, 0.0]];
    assert_eq!(choose(b, zeros.as_flattened(), [2, 3], 0).1, [0, 1], "both zeros are one");
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let broken = [[1.0, nan, 2.0], [-nan, 1.0, 3.0], [1.0, inf, 2.0], [-inf; 3], [1.0, 2.0, -inf]];
    let found = choose(b, broken.as_flattened(), [5, 3], 0);
    assert_eq!(found, (vec![0, 0, 0, 0, 1], vec![3, 3, 3, 3, 1]), "rows without a likeliest column");
    let largest = [[f32::MAX, -f32::MAX, 1.0], [-f32::MAX, f32::NEG_INFINITY, -f32::MAX]];
    assert_eq!(choose(b, largest.as_flattened(), [2, 3], 0).1, [0, 0], "the largest numbers");
}
