//! Attention and the rotation of what goes into it.

use super::guarded::{in_place, input, list, output};
use super::{Random, U, check, check_bits, f64s};
use crate::backend::{AttentionInputs, AttentionShape, Backend, RopePairing, RopeShape};

/// Two products and a sum, relative to the pair's length.
pub(super) fn rope<B: Backend>(b: &B) {
    let mut random = Random::new(7);
    let (rows, heads, positions) = (65, 3, 40);
    for (head_dim, first, rope_dim) in [(64, 0, 64), (80, 0, 80), (128, 0, 64), (6, 0, 4), (48, 32, 16), (9, 3, 4)] {
        let half = rope_dim / 2;
        let angles = random.numbers(positions * half);
        let table: Vec<_> = angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect();
        let at: Vec<_> = (0..rows).map(|_| random.below(positions)).collect();
        let x = random.numbers(rows * heads * head_dim);
        for pairs in [RopePairing::Adjacent, RopePairing::Halves] {
            let mut expected = f64s(&x);
            for (h, head) in expected.chunks_mut(head_dim).enumerate() {
                for i in 0..half {
                    let (one, two) = match pairs {
                        RopePairing::Adjacent => (first + 2 * i, first + 2 * i + 1),
                        RopePairing::Halves => (first + i, first + i + half),
                    };
                    let angle = (at[h / heads] as usize * half + i) * 2;
                    let (c, s) = (f64::from(table[angle]), f64::from(table[angle + 1]));
                    (head[one], head[two]) = (head[one] * c - head[two] * s, head[one] * s + head[two] * c);
                }
            }
            let (device_table, device_at) = (input(b, &table), list(b, &at));
            let shape = RopeShape { rows, heads, head_dim, first, dim: rope_dim, pairs };
            let what = format!("rope {pairs:?} {rope_dim} of {head_dim} from {first}");
            let found = in_place(b, &what, &x, |x| b.rope(x, shape, &device_table, &device_at).unwrap());
            check(&what, &found, &expected, |_| 16.0 * U);
        }
    }
}

/// Which keys the rows of an attention call see: causal prompts (packed one behind the other), sliding windows, and decoding
/// steps of several sequences that lie apart in the cache.
pub(super) fn attention_spans() -> Vec<(&'static str, Vec<[u32; 2]>)> {
    let causal = |start: u32, len: u32| (0..len).map(move |t| [start, start + t + 1]);
    vec![
        ("causal", causal(0, 70).collect()),
        ("packed", causal(0, 33).chain(causal(33, 1)).chain(causal(34, 45)).collect()),
        ("windows", (0..70u32).map(|t| [t.saturating_sub(9), t + 1]).collect()),
        ("decoding", vec![[0, 7], [140, 170], [20, 139]]),
        ("one row", vec![[3, 166]]),
        ("scattered", (0..40u32).map(|t| [t * 37 % 150, t * 37 % 150 + 1 + t % 20]).collect()),
    ]
}

/// Bound 4e-6 of the largest value: the rounding of the scores (they are a few units) and of the exponential function, for
/// which graphics interfaces allow several units in the last place.
pub(super) fn attention<B: Backend>(b: &B) {
    let mut random = Random::new(8);
    let plain = [(2, 2, 64, 64), (6, 2, 80, 80), (4, 1, 128, 128), (3, 1, 10, 10), (2, 1, 256, 256), (5, 1, 66, 66)];
    let uneven = [(4, 4, 48, 32), (2, 2, 192, 128), (3, 1, 10, 37)];
    for (heads, kv_heads, head_dim, value_dim) in plain.into_iter().chain(uneven) {
        for (softcap, with_sinks) in [(0.0, false), (2.0, false), (0.0, true)] {
            let scale = 1.0 / (head_dim as f32).sqrt();
            let shape = AttentionShape { heads, kv_heads, head_dim, value_dim, scale, softcap };
            for (name, spans) in attention_spans() {
                let (rows, keys) = (spans.len(), 170);
                let q = random.numbers(rows * heads * head_dim);
                let (mut k, mut v) = (random.numbers(keys * kv_heads * head_dim), random.numbers(keys * kv_heads * value_dim));
                // Keys that no row sees may be anything.
                for row in (0..keys).filter(|&row| !spans.iter().any(|span| (span[0]..span[1]).contains(&(row as u32)))) {
                    k[row * kv_heads * head_dim..][..kv_heads * head_dim].fill(f32::NAN);
                    v[row * kv_heads * value_dim..][..kv_heads * value_dim].fill(f32::NAN);
                }
                // Some are far above all scores, some far below.
                let sinks = with_sinks.then(|| random.numbers(heads).iter().map(|s| 20.0 * s).collect::<Vec<f32>>());
                let expected = attend(&q, &k, &v, &spans, sinks.as_deref(), shape);
                let [q, k, v] = [q, k, v].map(|data| input(b, &data));
                let (spans, sinks) = (list(b, spans.as_flattened()), sinks.map(|sinks| input(b, &sinks)));
                let what = format!("attention {heads}/{kv_heads} x {head_dim}/{value_dim}, cap {softcap}, {name}");
                let inputs = || AttentionInputs { q: &q, k: &k, v: &v, spans: &spans, sinks: sinks.as_ref() };
                let attend = |out: &mut B::Buffer| b.attention(inputs(), rows, shape, out).unwrap();
                check(&what, &output(b, &what, expected.len(), attend), &expected, |_| 4e-6 * 6.0);
            }
        }
    }
}

/// Of the few rows of decoding steps, among them some with many keys: as exact as above, the same bits alone and with others, and
/// those of [`Backend::attention`] where a row sees few keys.
pub(super) fn attention_few<B: Backend>(b: &B) {
    let mut random = Random::new(14);
    let short: Vec<[u32; 2]> = vec![[0, 1], [5, 70], [100, 356]];
    let long: Vec<[u32; 2]> = vec![[0, 257], [7, 1000], [3, 40], [0, 1024], [300, 812]];
    let longest: Vec<[u32; 2]> = vec![[0, 17_000], [16_000, 16_001], [9, 16_400]];
    // Of these one has more heads than a workgroup takes, and one more keys than parts of the usual length.
    for (heads, kv_heads, head_dim, value_dim, keys) in [(4, 2, 48, 32, 1024), (20, 1, 10, 10, 1024), (2, 1, 10, 10, 17_000)] {
        let of_all = if keys > 1024 { vec![&longest] } else { vec![&short, &long] };
        for (spans, (softcap, with_sinks)) in of_all.iter().flat_map(|spans| [(spans, (0.0, true)), (spans, (2.0, false))]) {
            let shape = AttentionShape { heads, kv_heads, head_dim, value_dim, scale: 1.0 / (head_dim as f32).sqrt(), softcap };
            let (rows, width) = (spans.len(), heads * head_dim);
            let q = random.numbers(rows * width);
            let (k, v) = (random.numbers(keys * kv_heads * head_dim), random.numbers(keys * kv_heads * value_dim));
            let sinks = with_sinks.then(|| random.numbers(heads).iter().map(|s| 5.0 * s).collect::<Vec<f32>>());
            let expected = attend(&q, &k, &v, spans, sinks.as_deref(), shape);
            let (k, v, sinks) = (input(b, &k), input(b, &v), sinks.map(|sinks| input(b, &sinks)));
            let what = format!("attention of few rows, {heads}/{kv_heads} x {head_dim}/{value_dim}, {spans:?}");
            let run = |rows: std::ops::Range<usize>, few: bool| {
                let (q, list) = (input(b, &q[rows.start * width..rows.end * width]), list(b, spans[rows.clone()].as_flattened()));
                output(b, &what, rows.len() * heads * value_dim, |out| {
                    let inputs = AttentionInputs { q: &q, k: &k, v: &v, spans: &list, sinks: sinks.as_ref() };
                    let run = if few { B::attention_few } else { B::attention };
                    run(b, inputs, rows.len(), shape, out).unwrap();
                })
            };
            let together = run(0..rows, true);
            check(&what, &together, &expected, |_| 4e-6 * 6.0);
            for (row, span) in spans.iter().enumerate() {
                let together = &together[row * heads * value_dim..][..heads * value_dim];
                check_bits(&format!("{what}: row {row} alone"), &run(row..row + 1, true), together);
                if span[1] - span[0] <= 256 {
                    check_bits(&format!("{what}: row {row} among many"), &run(row..row + 1, false), together);
                }
            }
        }
    }
}

/// Attention as a plain loop in f64, for all backends' results to be held against.
pub(crate) fn attend(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    spans: &[[u32; 2]],
    sinks: Option<&[f32]>,
    shape: AttentionShape,
) -> Vec<f64> {
    let AttentionShape { heads, kv_heads, head_dim, value_dim, scale, softcap } = shape;
    let mut out = vec![0.0; spans.len() * heads * value_dim];
    let cap = |s: f64| if softcap > 0.0 { f64::from(softcap) * (s / f64::from(softcap)).tanh() } else { s };
    for (row, span) in spans.iter().enumerate() {
        for head in 0..heads {
            let (at, kv_head) = ((row * heads + head) * head_dim, head / (heads / kv_heads));
            let kv_row = |j: u32| j as usize * kv_heads + kv_head;
            let dot = |j| (0..head_dim).map(|d| f64::from(q[at + d]) * f64::from(k[kv_row(j) * head_dim + d])).sum::<f64>();
            let scores: Vec<_> = (span[0]..span[1]).map(|j| cap(dot(j) * f64::from(scale))).collect();
            let sink = sinks.map(|sinks| f64::from(sinks[head]));
            let max = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().copied().chain(sink).map(|s| (s - max).exp()).sum();
            for (j, score) in (span[0]..span[1]).zip(&scores) {
                let (weight, from) = ((score - max).exp() / sum, kv_row(j) * value_dim);
                let to = (row * heads + head) * value_dim;
                (0..value_dim).for_each(|d| out[to + d] += weight * f64::from(v[from + d]));
            }
        }
    }
    out
}
