//! The head's statistics against the textbook's formulas in f64.

use super::guarded::{input, list};
use super::{Random, U};
use crate::backend::{Backend, HeadRow, Targets, TileShape};

/// Over the noise squared: what is left of four roundings of a mean difference is their product with that mean, and the shift,
/// one token's difference, may lie four times the noise away from it, as in row 18 after a first tile of seven tokens.
const SHIFTED: f64 = 4.0 * U * 16.0;

/// Where 8-bit and 16-bit files differ from their reference, at 1e-5 nats and far below, a divergence keeps its digits.
pub(super) fn small_divergences_keep_their_leading_digits<B: Backend>(backend: &B) {
    let mut random = Random::new(23);
    let (rows, vocab) = (20, 5000);
    let reference = logits(&mut random, rows, vocab);
    for (noise, cuts) in [(3e-4, &[1024, 2048, 3072][..]), (3e-3, &[]), (3e-2, &[7])] {
        let own: Vec<_> = reference.iter().zip(random.numbers(rows * vocab)).map(|(r, n)| r + noise * n - 0.3).collect();
        let found = score(backend, &own, Some(&reference), &vec![0; rows], cuts);
        for (t, (row, reference)) in own.chunks(vocab).zip(reference.chunks(vocab)).enumerate() {
            // Divergences go with the noise squared; rows that are certain of one token have far less.
            let (found, scale) = (found[t], f64::from(noise * noise));
            let both = [(found.kld, divergence(reference, row), 1e-6), (found.reverse_kld, divergence(row, reference), SHIFTED)];
            for (found, expected, floor) in both {
                let bound = 1e-4 * expected + floor * scale;
                assert!((found - expected).abs() < bound, "noise {noise}, row {t}: {found:e} where {expected:e}");
            }
        }
    }
}

/// Logits as models give them: a broad base and a few likely tokens, different in every row.
pub(super) fn logits(random: &mut Random, rows: usize, vocab: usize) -> Vec<f32> {
    let mut logits: Vec<_> = (0..rows * vocab).map(|_| 2.0 * random.number() - 3.0).collect();
    for row in logits.chunks_mut(vocab) {
        (0..5).for_each(|i| row[random.below(vocab) as usize] = 6.0 + i as f32 * (1.0 + random.number().abs()));
    }
    logits
}

/// The finished statistics after the tiles that `cuts` make of the vocabulary.
pub(super) fn score<B: Backend>(
    b: &B,
    logits: &[f32],
    reference: Option<&[f32]>,
    targets: &[u32],
    cuts: &[usize],
) -> Vec<HeadRow> {
    let rows = targets.len();
    let vocab = logits.len() / rows;
    let mut state = b.head_state(rows + SPARE_ROWS).unwrap();
    let fresh = b.read_head(&state).unwrap();
    let target_logits: Vec<_> = logits.chunks(vocab).zip(targets).map(|(row, &target)| row[target as usize]).collect();
    let (targets, target_logits) = (list(b, targets), input(b, &target_logits));
    let bounds: Vec<_> = [0].iter().chain(cuts).chain(&[vocab]).copied().collect();
    for tile in bounds.windows(2) {
        let cut = |all: &[f32]| all.chunks(vocab).flat_map(|row| &row[tile[0]..tile[1]]).copied().collect::<Vec<_>>();
        let own = input(b, &cut(logits));
        let other = reference.map(|all| input(b, &cut(all)));
        let shape = TileShape { rows, cols: tile[1] - tile[0], first_token: tile[0] as u32 };
        let targets = Some(Targets { tokens: &targets, logits: &target_logits });
        b.head_tile(&own, other.as_ref(), shape, targets, &mut state).unwrap();
    }
    let mut found = b.read_head(&state).unwrap();
    for (t, (row, fresh)) in found.iter().zip(&fresh).enumerate().skip(rows) {
        assert_eq!(bits(row), bits(fresh), "head: {rows} rows were scored, and row {t} changed");
    }
    found.truncate(rows);
    found
}

/// Rows of statistics behind those that are scored, to stay as they are.
const SPARE_ROWS: usize = 3;

/// All of a row; a target's logit that was never seen is no number and so equals nothing.
fn bits(row: &HeadRow) -> [u64; 7] {
    let HeadRow { log_sum_exp, target_logit, argmax, rank, entropy, kld, reverse_kld } = *row;
    let [log_sum_exp, target_logit, entropy, kld, reverse_kld] =
        [log_sum_exp, target_logit, entropy, kld, reverse_kld].map(f64::to_bits);
    [log_sum_exp, target_logit, argmax.into(), rank.into(), entropy, kld, reverse_kld]
}

fn log_sum_exp(row: &[f32]) -> f64 {
    row.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln()
}

fn divergence(reference: &[f32], row: &[f32]) -> f64 {
    let (reference_sum, sum) = (log_sum_exp(reference), log_sum_exp(row));
    let terms = reference.iter().zip(row).map(|(&r, &l)| (f64::from(r) - reference_sum, f64::from(l) - sum));
    terms.map(|(r, l)| r.exp() * (r - l)).sum()
}

fn entropy(row: &[f32]) -> f64 {
    let sum = log_sum_exp(row);
    row.iter().map(|&l| f64::from(l) - sum).map(|log_p| -log_p.exp() * log_p).sum()
}

/// Mean of |l - r| under the distribution of `row`.
fn apart(row: &[f32], reference: &[f32]) -> f64 {
    let sum = log_sum_exp(row);
    row.iter().zip(reference).map(|(&l, &r)| (f64::from(l) - sum).exp() * (f64::from(l) - f64::from(r)).abs()).sum()
}

fn argmax(row: &[f32]) -> usize {
    let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter().position(|&l| l == best).unwrap()
}

/// Tokens before `target`, the smallest id first among equals.
fn rank(row: &[f32], target: usize) -> u32 {
    let before = |(id, &l): (usize, &f32)| l > row[target] || (l == row[target] && id < target);
    row.iter().enumerate().filter(|&token| before(token)).count() as u32
}

/// KL divergences within 1e-6 nats: below what any two quantizations differ by. An entropy is a mean of log-probabilities, each
/// rounded relative to its size; 32 u of the mean and of the log-sum-exp that is taken from it is what the chains of sums add up
/// to. Where this lane alone is sure of something, its divergence from the reference is a mean of large differences, which two
/// subtractions of f32 numbers each round by up to u of their size.
pub(super) fn head<B: Backend>(b: &B) {
    let mut random = Random::new(11);
    let many: Vec<_> = (128..40_000).step_by(128).collect();
    for (rows, vocab, cuts) in [(1, 7, &[] as &[usize]), (3, 5003, &[2000, 4000]), (65, 1000, &[1, 257]), (2, 40_000, &many)] {
        let reference = logits(&mut random, rows, vocab);
        // What quantization does to logits: noise and a common shift, in some rows a lot.
        let noise = |i: usize| if i / vocab % 3 == 1 { 1.0 } else { 0.03 };
        let mut own: Vec<_> = reference.iter().enumerate().map(|(i, r)| r + noise(i) * random.number() + 0.7).collect();
        if vocab > 300 {
            // A tie at the top, within a tile and across an edge: the smallest id wins.
            (own[256], own[100], own[999]) = (60.0, 60.0, 60.0);
        }
        let mut targets: Vec<_> = (0..rows).map(|_| random.below(vocab)).collect();
        if rows == 3 {
            // The first and last of the tie; and a target in the middle of one.
            (targets[0], own[700], own[4100], own[2500]) = (256, 5.0, 5.0, 5.0);
            (targets[1], own[vocab + 4500], own[vocab + 10], own[vocab + 2100]) = (2100, 7.5, 7.5, 7.5);
            targets[2] = argmax(&own[2 * vocab..]) as u32;
        }
        for reference in [None, Some(&reference[..])] {
            let found = score(b, &own, reference, &targets, cuts);
            for (t, row) in own.chunks(vocab).enumerate() {
                let what = format!("head row {t} of {rows} x {vocab}");
                let (found, target) = (found[t], f64::from(row[targets[t] as usize]));
                assert!((found.log_sum_exp - log_sum_exp(row)).abs() < 1e-6, "{what}: {found:?} where {}", log_sum_exp(row));
                assert_eq!(found.target_logit, target, "{what}: target");
                assert_eq!(found.argmax as usize, argmax(row), "{what}: arg-max");
                assert_eq!(found.rank, rank(row, targets[t] as usize), "{what}: rank");
                let (mean, bound) = (entropy(row), 32.0 * U * (1.0 + entropy(row)));
                assert!((found.entropy - mean).abs() < bound, "{what}: entropy {} where {mean}", found.entropy);
                let reference = reference.map(|all| &all[t * vocab..][..vocab]);
                let kld = reference.map_or(0.0, |reference| divergence(reference, row));
                assert!((found.kld - kld).abs() < 1e-6, "{what}: KLD {} where {kld}", found.kld);
                let kld = reference.map_or(0.0, |reference| divergence(row, reference));
                let bound = 1e-6 + reference.map_or(0.0, |reference| 4.0 * U * apart(row, reference));
                assert!((found.reverse_kld - kld).abs() < bound, "{what}: reverse KLD {} where {kld}", found.reverse_kld);
            }
        }
        let same = score(b, &own, Some(&own), &targets, cuts);
        let most = |row: &HeadRow| row.kld.abs().max(row.reverse_kld.abs());
        assert!(same.iter().all(|row| most(row) < 1e-12), "a lane differs from itself: {same:?}");
    }
}
