//! What every backend must compute: each operation against a plain referee in f64, over awkward shapes and every encoding.
//! A backend's tests call [`run`]. Absent: speed, errors, and anything only one backend has.
//!
//! Bounds are stated per operation, relative to the size of what was summed; u is the rounding of one f32 operation.

use bitworth_quant::DType;
use bitworth_quant::checkpoint::TensorBytes;
use bitworth_quant::random::SplitMix64;

use super::backend::{
    AttentionShape, Backend, Columns, Gate, HeadRow, HostTensor, Map, Norm, RopePairing, RopeShape, Targets, TileShape,
};

/// 2^-24: half a unit in the last place of f32.
const U: f64 = 1.0 / 16_777_216.0;
/// Row counts around the tile sizes of kernels.
const ROWS: [usize; 5] = [1, 3, 64, 65, 130];

/// Runs every check on `backend`; panics at the first operation that is wrong, naming it.
pub(crate) fn run<B: Backend>(backend: &B) {
    transfers(backend);
    embed(backend);
    norm(backend);
    products(backend);
    products_of_parts_of_the_weights(backend);
    add_bias(backend);
    add_rows(backend);
    rope(backend);
    attention(backend);
    elementwise(backend);
    combine(backend);
    copy_columns(backend);
    gather(backend);
    head(backend);
    small_divergences_keep_their_leading_digits(backend);
    rows_do_not_depend_on_their_batch(backend);
}

/// Repeatable numbers, roughly normal.
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(crate) fn below(&mut self, bound: usize) -> u32 {
        self.0.below(bound) as u32
    }

    /// Mean 0, variance 1.
    fn number(&mut self) -> f32 {
        let sum: f64 = (0..12).map(|_| self.0.unit()).sum();
        (sum - 6.0) as f32
    }

    pub(crate) fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }

    /// A random encoded matrix and what it decodes to.
    pub(crate) fn weight(&mut self, dtype: DType, rows: usize, cols: usize) -> (HostTensor, Vec<f32>) {
        let row_bytes = dtype.row_bytes(cols).unwrap();
        let (mut bytes, mut decoded) = (vec![0; rows * row_bytes], vec![0.0; rows * cols]);
        for row in 0..rows {
            let encoded = &mut bytes[row * row_bytes..][..row_bytes];
            dtype.encode_row(&self.numbers(cols), None, encoded);
            dtype.decode_row(encoded, &mut decoded[row * cols..][..cols]);
        }
        (HostTensor { dtype, rows, cols, bytes: TensorBytes::Owned(bytes) }, decoded)
    }
}

/// Column counts that a weight of this encoding may have: odd ones for plain numbers, whole blocks for the others.
fn widths(dtype: DType) -> Vec<usize> {
    if dtype.is_float() { vec![1, 7, 64, 130] } else { vec![dtype.block_len(), 3 * dtype.block_len()] }
}

fn f64s(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&x| f64::from(x)).collect()
}

/// Every number of `found` lies within its own bound of `expected`.
fn check(what: &str, found: &[f32], expected: &[f64], bound: impl Fn(usize) -> f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let (error, bound) = ((f64::from(found) - expected).abs(), bound(i));
        assert!(
            error <= bound,
            "{what}: number {i} is {found} where {expected} is expected: off by {error:e}, allowed {bound:e}"
        );
    }
}

fn check_bits(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.to_bits(), expected.to_bits(), "{what}: number {i} is {found} where exactly {expected} is expected");
    }
}

fn read<B: Backend>(backend: &B, buffer: &B::Buffer, len: usize) -> Vec<f32> {
    backend.read(buffer, 0..len).unwrap()
}

fn transfers<B: Backend>(b: &B) {
    let data = Random::new(1).numbers(1000);
    let buffer = b.upload(&data).unwrap();
    check_bits("read", &b.read(&buffer, 3..777).unwrap(), &data[3..777]);
    assert!(b.read(&buffer, 5..5).unwrap().is_empty());
    let mut other = b.upload(&vec![0.0; 1000]).unwrap();
    b.copy(&buffer, 11, &mut other, 500, 100).unwrap();
    let copied = read(b, &other, 1000);
    check_bits("copy", &copied[500..600], &data[11..111]);
    assert!(copied[..500].iter().chain(&copied[600..]).all(|&x| x == 0.0), "copy touched what it should not");
    b.synchronize().unwrap();
    assert!(b.max_buffer_len() >= 1 << 20);
}

/// Decoding is exact, so the rows come back bit for bit.
fn embed<B: Backend>(b: &B) {
    let mut random = Random::new(2);
    for &dtype in DType::ALL {
        for cols in widths(dtype) {
            let (tensor, decoded) = random.weight(dtype, 37, cols);
            let tokens: Vec<_> = (0..50).map(|_| random.below(37)).chain([0, 36]).collect();
            let expected: Vec<_> = tokens.iter().flat_map(|&t| &decoded[t as usize * cols..][..cols]).copied().collect();
            let table = b.weight(tensor).unwrap();
            let mut out = b.alloc(expected.len()).unwrap();
            b.embed(&table, &b.indices(&tokens).unwrap(), tokens.len(), &mut out).unwrap();
            check_bits(&format!("embed {dtype} of {cols}"), &read(b, &out, expected.len()), &expected);
        }
    }
}

/// Bound 16 u of a number and of what its mean was summed from: the tree of a few hundred squares, a root, a division, two products.
fn norm<B: Backend>(b: &B) {
    let mut random = Random::new(3);
    for &dtype in DType::ALL {
        for (cols, rows) in widths(dtype).into_iter().zip([3, 65, 1, 64]) {
            // One row of gains for all, or three that take turns.
            for gains in [1, 3] {
                let (tensor, gain) = random.weight(dtype, gains, cols);
                let (x, eps) = (random.numbers(rows * cols), 1e-5);
                let gain_of = |t: usize| &gain[t % gains * cols..][..cols];
                let (device_x, device_gain) = (b.upload(&x).unwrap(), b.weight(tensor).unwrap());
                for kind in [Norm::Rms, Norm::Layer] {
                    let rows_of_x = f64s(&x);
                    let normed = rows_of_x.chunks(cols).enumerate().map(|(t, row)| norm_row(kind, row, gain_of(t), eps));
                    let (expected, sizes): (Vec<f64>, Vec<f64>) = normed.flatten().unzip();
                    let mut out = b.alloc(x.len()).unwrap();
                    b.norm(kind, &device_x, rows, &device_gain, eps, &mut out).unwrap();
                    let what = format!("{kind:?} norm {dtype} of {cols}, {gains} gains");
                    check(&what, &read(b, &out, x.len()), &expected, |i| 16.0 * U * sizes[i]);
                }
            }
        }
    }
}

/// The normed numbers, and the size to which each one's rounding is relative.
fn norm_row(kind: Norm, row: &[f64], gain: &[f32], eps: f32) -> Vec<(f64, f64)> {
    let mean = match kind {
        Norm::Rms => 0.0,
        Norm::Layer => row.iter().sum::<f64>() / row.len() as f64,
    };
    let squares = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / row.len() as f64;
    let scale = 1.0 / (squares + f64::from(eps)).sqrt();
    // The mean's rounding is relative to what was summed for it.
    let summed = match kind {
        Norm::Rms => 0.0,
        Norm::Layer => row.iter().map(|x| x.abs()).sum::<f64>() / row.len() as f64,
    };
    let number = |(x, &g): (&f64, &f32)| ((x - mean) * scale * f64::from(g), (x.abs() + summed) * scale * f64::from(g.abs()));
    row.iter().zip(gain).map(number).collect()
}

/// `[T, K] x [N, K]^T`, and for every output the sum of the absolute products, to which its rounding is relative.
fn product(x: &[f32], w: &[f32], inner: usize) -> (Vec<f64>, Vec<f64>) {
    let pairs = x.chunks(inner).flat_map(|x| w.chunks(inner).map(move |w| (x, w)));
    let terms = pairs.map(|(x, w)| x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)));
    terms.map(|terms| terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + f64::abs(term)))).unzip()
}

/// The rounding of a chain of `inner` sums walks at random, so that it grows with the root; eight times that never happens.
fn product_bound(inner: usize) -> f64 {
    (8.0 + 2.0 * (inner as f64).sqrt()) * U
}

fn products<B: Backend>(b: &B) {
    let mut random = Random::new(4);
    for &dtype in DType::ALL {
        for (inner, cols) in widths(dtype).into_iter().zip([65, 33, 130, 7]) {
            let (tensor, w) = random.weight(dtype, cols, inner);
            let weight = b.weight(tensor).unwrap();
            for rows in ROWS {
                let x = random.numbers(rows * inner);
                check_product(b, &format!("matmul {dtype}"), B::matmul, &x, &weight, &w, inner);
            }
            for rows in [1, 2, 3, 5, 8, 11] {
                let x = random.numbers(rows * inner);
                check_product(b, &format!("matvec {dtype}"), B::matvec, &x, &weight, &w, inner);
            }
        }
    }
}

type Product<B> = fn(
    &B,
    &<B as Backend>::Buffer,
    std::ops::Range<usize>,
    &<B as Backend>::Weight,
    std::ops::Range<usize>,
    &mut <B as Backend>::Buffer,
) -> super::backend::Result<()>;

fn check_product<B: Backend>(b: &B, what: &str, run: Product<B>, x: &[f32], weight: &B::Weight, w: &[f32], inner: usize) {
    let (rows, cols) = (x.len() / inner, w.len() / inner);
    let (expected, sizes) = product(x, w, inner);
    let mut out = b.alloc(expected.len()).unwrap();
    run(b, &b.upload(x).unwrap(), 0..rows, weight, 0..cols, &mut out).unwrap();
    let what = format!("{what} {rows} x {inner} x {cols}");
    check(&what, &read(b, &out, expected.len()), &expected, |i| product_bound(inner) * sizes[i]);
}

/// A range of weight rows gives exactly those columns (experts, tiles of the head).
fn products_of_parts_of_the_weights<B: Backend>(b: &B) {
    let mut random = Random::new(5);
    let (rows, inner, cols, range) = (5, 256, 100, 37..93);
    for &dtype in DType::ALL {
        let weight = b.weight(random.weight(dtype, cols, inner).0).unwrap();
        let x = b.upload(&random.numbers(rows * inner)).unwrap();
        for run in [B::matmul as Product<B>, B::matvec] {
            let (mut all, mut part) = (b.alloc(rows * cols).unwrap(), b.alloc(rows * range.len()).unwrap());
            run(b, &x, 0..rows, &weight, 0..cols, &mut all).unwrap();
            // In two steps: a range of rows leaves the others alone.
            run(b, &x, 2..rows, &weight, range.clone(), &mut part).unwrap();
            run(b, &x, 0..2, &weight, range.clone(), &mut part).unwrap();
            let all = read(b, &all, rows * cols);
            let expected: Vec<_> = all.chunks(cols).flat_map(|row| &row[range.clone()]).copied().collect();
            check_bits(&format!("weight rows {range:?} of {dtype}"), &read(b, &part, expected.len()), &expected);
        }
    }
}

/// One sum; but a GPU's compiler may join it with a decoder's own subtraction, whose terms are as large as the largest weight.
fn add_bias<B: Backend>(b: &B) {
    let mut random = Random::new(6);
    for &dtype in DType::ALL {
        for (cols, rows) in widths(dtype).into_iter().zip(ROWS) {
            let (tensor, bias) = random.weight(dtype, 1, cols);
            let x = random.numbers(rows * cols);
            let largest = bias.iter().fold(0.0, |most: f32, b| most.max(b.abs()));
            let expected: Vec<_> = x.iter().enumerate().map(|(i, &x)| f64::from(x) + f64::from(bias[i % cols])).collect();
            let mut buffer = b.upload(&x).unwrap();
            b.add_bias(&mut buffer, rows, &b.weight(tensor).unwrap()).unwrap();
            let bound = |i: usize| 2.0 * U * f64::from(x[i].abs() + largest);
            check(&format!("add_bias {dtype}"), &read(b, &buffer, x.len()), &expected, bound);
        }
    }
}

/// As [`add_bias`], with a row of the table for each row.
fn add_rows<B: Backend>(b: &B) {
    let mut random = Random::new(16);
    for &dtype in DType::ALL {
        for (cols, rows) in widths(dtype).into_iter().zip(ROWS) {
            let (tensor, table) = random.weight(dtype, 9, cols);
            let (x, index) = (random.numbers(rows * cols), (0..rows).map(|_| random.below(9)).collect::<Vec<_>>());
            let largest = table.iter().fold(0.0, |most: f32, b| most.max(b.abs()));
            let added = |i: usize| f64::from(table[index[i / cols] as usize * cols + i % cols]);
            let expected: Vec<_> = x.iter().enumerate().map(|(i, &x)| f64::from(x) + added(i)).collect();
            let mut buffer = b.upload(&x).unwrap();
            b.add_rows(&mut buffer, rows, &b.weight(tensor).unwrap(), &b.indices(&index).unwrap()).unwrap();
            let bound = |i: usize| 2.0 * U * f64::from(x[i].abs() + largest);
            check(&format!("add_rows {dtype}"), &read(b, &buffer, x.len()), &expected, bound);
        }
    }
}

/// Two products and a sum, relative to the pair's length.
fn rope<B: Backend>(b: &B) {
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
            let mut buffer = b.upload(&x).unwrap();
            let (device_table, device_at) = (b.upload(&table).unwrap(), b.indices(&at).unwrap());
            let shape = RopeShape { rows, heads, head_dim, first, dim: rope_dim, pairs };
            b.rope(&mut buffer, shape, &device_table, &device_at).unwrap();
            check(
                &format!("rope {pairs:?} {rope_dim} of {head_dim} from {first}"),
                &read(b, &buffer, x.len()),
                &expected,
                |_| 16.0 * U,
            );
        }
    }
}

/// Which keys the rows of an attention call see: causal prompts (packed one behind the other), sliding windows, and decoding
/// steps of several sequences that lie apart in the cache.
fn attention_spans() -> Vec<(&'static str, Vec<[u32; 2]>)> {
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
fn attention<B: Backend>(b: &B) {
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
                let (k, v) = (random.numbers(keys * kv_heads * head_dim), random.numbers(keys * kv_heads * value_dim));
                // Some are far above all scores, some far below.
                let sinks = with_sinks.then(|| random.numbers(heads).iter().map(|s| 20.0 * s).collect::<Vec<f32>>());
                let expected = attend(&q, &k, &v, &spans, sinks.as_deref(), shape);
                let [q, k, v] = [q, k, v].map(|data| b.upload(&data).unwrap());
                let spans = b.indices(spans.as_flattened()).unwrap();
                let sinks = sinks.map(|sinks| b.upload(&sinks).unwrap());
                let mut out = b.alloc(expected.len()).unwrap();
                b.attention(&q, &k, &v, &spans, sinks.as_ref(), rows, shape, &mut out).unwrap();
                let what = format!("attention {heads}/{kv_heads} x {head_dim}/{value_dim}, cap {softcap}, {name}");
                check(&what, &read(b, &out, expected.len()), &expected, |_| 4e-6 * 6.0);
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

fn elementwise<B: Backend>(b: &B) {
    let mut random = Random::new(9);
    for len in [1, 255, 4099] {
        let (mut gate, up) = (random.numbers(len), random.numbers(len));
        for (x, extreme) in gate.iter_mut().zip([-100.0, -90.0, 100.0, 0.0]) {
            *x = extreme;
        }
        let other = b.upload(&up).unwrap();
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let gelu = |x: f64| x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x));
        let f = |kind: Gate, g: f64, u: f64| match kind {
            Gate::Silu => g * sigmoid(g) * u,
            Gate::Gelu => gelu(g) * u,
            Gate::ClampedSilu => g.min(7.0) * sigmoid(1.702 * g.min(7.0)) * (u.clamp(-7.0, 7.0) + 1.0),
        };
        // Graphics interfaces allow exp(x) an error of 3 + 2 |x| units in the last place. The exponent of GELU is a cube, and
        // what is rounded in it comes out as many times as it is large.
        let rounding = |g: f32| (16.0 + 4.0 * f64::from(g.abs()).max(0.1 * f64::from(g * g * g).abs())).min(1e4) * U;
        for kind in [Gate::Silu, Gate::Gelu, Gate::ClampedSilu] {
            let mut out = b.upload(&gate).unwrap();
            b.gate(kind, &mut out, &other, len).unwrap();
            let expected: Vec<_> = gate.iter().zip(&up).map(|(&g, &u)| f(kind, g.into(), u.into())).collect();
            // One is added to what may be close to minus one.
            let slack = |i: usize| if kind == Gate::ClampedSilu { 2.0 * U * f64::from(gate[i].abs()) } else { 0.0 };
            let bound = |i: usize| rounding(gate[i]) * expected[i].abs() + slack(i) + 1e-30;
            check(&format!("{kind:?} gate"), &read(b, &out, len), &expected, bound);
        }
        for kind in [Map::Gelu, Map::Scale(1.7), Map::Softcap(0.9), Map::Softcap(30.0)] {
            let mut out = b.upload(&gate).unwrap();
            b.map(kind, &mut out, len).unwrap();
            let f = |x: f64| match kind {
                Map::Gelu => gelu(x),
                Map::Scale(factor) => f64::from(factor) * x,
                Map::Softcap(cap) => f64::from(cap) * (x / f64::from(cap)).tanh(),
            };
            let expected: Vec<_> = gate.iter().map(|&x| f(x.into())).collect();
            let bound = |i: usize| rounding(gate[i]) * expected[i].abs() + 1e-30;
            check(&format!("{kind:?}"), &read(b, &out, len), &expected, bound);
        }

        let mut sum = b.upload(&gate).unwrap();
        b.add(&mut sum, &other, 1.0, len).unwrap();
        let expected: Vec<_> = gate.iter().zip(&up).map(|(g, u)| g + u).collect();
        check_bits("add", &read(b, &sum, len), &expected);
        b.add(&mut sum, &other, 0.22, len).unwrap();
        let size = |i: usize| f64::from(expected[i].abs() + up[i].abs());
        let twice: Vec<_> = expected.iter().zip(&up).map(|(&g, &u)| f64::from(g) + f64::from(0.22f32) * f64::from(u)).collect();
        check("add scaled", &read(b, &sum, len), &twice, |i| 2.0 * U * size(i));
    }
}

/// A handful of products and sums.
fn combine<B: Backend>(b: &B) {
    let mut random = Random::new(17);
    for (rows, per_row, cols) in [(1, 1, 1), (33, 3, 70), (64, 8, 130)] {
        let slots: Vec<_> = (0..rows * per_row).map(|_| random.below(20)).collect();
        let (x, weights, old) = (random.numbers(20 * cols), random.numbers(rows * per_row), random.numbers(rows * cols));
        let (device_x, device_slots) = (b.upload(&x).unwrap(), b.indices(&slots).unwrap());
        let device_weights = b.upload(&weights).unwrap();
        for accumulate in [false, true] {
            let start = |i: usize| if accumulate { f64::from(old[i]) } else { 0.0 };
            let (mut expected, mut sizes) = (Vec::new(), Vec::new());
            for i in 0..rows * cols {
                let terms = (0..per_row).map(|j| i / cols * per_row + j);
                let terms = terms.map(|j| f64::from(weights[j]) * f64::from(x[slots[j] as usize * cols + i % cols]));
                let (sum, size) = terms.fold((start(i), start(i).abs()), |(sum, size), t| (sum + t, size + t.abs()));
                expected.push(sum);
                sizes.push(size);
            }
            let mut out = b.upload(&old).unwrap();
            b.combine(&device_x, &device_slots, &device_weights, rows, per_row, cols, accumulate, &mut out).unwrap();
            check("combine", &read(b, &out, rows * cols), &expected, |i| 8.0 * U * sizes[i]);
        }
    }
}

fn copy_columns<B: Backend>(b: &B) {
    let mut random = Random::new(18);
    for (rows, repeat, count) in [(1, 1, 1), (12, 1, 5), (12, 4, 7), (65, 3, 16)] {
        let (from, to) = (Columns { stride: count + 3, first: 2 }, Columns { stride: count + 4, first: 1 });
        let (src, old) = (random.numbers(rows * from.stride), random.numbers(rows * to.stride));
        let mut expected = old.clone();
        for t in 0..rows {
            for n in 0..count {
                expected[t * to.stride + to.first + n] = src[t / repeat * from.stride + from.first + n];
            }
        }
        let mut dst = b.upload(&old).unwrap();
        b.copy_columns(&b.upload(&src).unwrap(), from, repeat, &mut dst, to, rows, count).unwrap();
        check_bits("copy_columns", &read(b, &dst, expected.len()), &expected);
    }
}

fn gather<B: Backend>(b: &B) {
    let mut random = Random::new(10);
    for (rows, cols, count) in [(1, 1, 1), (20, 7, 65), (130, 64, 3)] {
        let x = random.numbers(rows * cols);
        let picks: Vec<_> = (0..count).map(|_| random.below(rows)).collect();
        let expected: Vec<_> = picks.iter().flat_map(|&r| &x[r as usize * cols..][..cols]).copied().collect();
        let mut out = b.alloc(expected.len()).unwrap();
        b.gather(&b.upload(&x).unwrap(), &b.indices(&picks).unwrap(), count, cols, &mut out).unwrap();
        check_bits("gather", &read(b, &out, expected.len()), &expected);
    }
}

/// Over the noise squared: what is left of four roundings of a mean difference is their product with that mean, and the shift,
/// one token's difference, may lie four times the noise away from it, as in row 18 after a first tile of seven tokens.
const SHIFTED: f64 = 4.0 * U * 16.0;

/// Where 8-bit and 16-bit files differ from their reference, at 1e-5 nats and far below, a divergence keeps its digits.
fn small_divergences_keep_their_leading_digits<B: Backend>(backend: &B) {
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
pub(crate) fn logits(random: &mut Random, rows: usize, vocab: usize) -> Vec<f32> {
    let mut logits: Vec<_> = (0..rows * vocab).map(|_| 2.0 * random.number() - 3.0).collect();
    for row in logits.chunks_mut(vocab) {
        (0..5).for_each(|i| row[random.below(vocab) as usize] = 6.0 + i as f32 * (1.0 + random.number().abs()));
    }
    logits
}

/// The finished statistics after the tiles that `cuts` make of the vocabulary.
pub(crate) fn score<B: Backend>(
    b: &B,
    logits: &[f32],
    reference: Option<&[f32]>,
    targets: &[u32],
    cuts: &[usize],
) -> Vec<HeadRow> {
    let rows = targets.len();
    let vocab = logits.len() / rows;
    let mut state = b.head_state(rows).unwrap();
    let target_logits: Vec<_> = logits.chunks(vocab).zip(targets).map(|(row, &target)| row[target as usize]).collect();
    let (targets, target_logits) = (b.indices(targets).unwrap(), b.upload(&target_logits).unwrap());
    let bounds: Vec<_> = [0].iter().chain(cuts).chain(&[vocab]).copied().collect();
    for tile in bounds.windows(2) {
        let cut = |all: &[f32]| all.chunks(vocab).flat_map(|row| &row[tile[0]..tile[1]]).copied().collect::<Vec<_>>();
        let own = b.upload(&cut(logits)).unwrap();
        let other = reference.map(|all| b.upload(&cut(all)).unwrap());
        let shape = TileShape { rows, cols: tile[1] - tile[0], first_token: tile[0] as u32 };
        let targets = Some(Targets { tokens: &targets, logits: &target_logits });
        b.head_tile(&own, other.as_ref(), shape, targets, &mut state).unwrap();
    }
    b.read_head(&state).unwrap()
}

fn log_sum_exp(row: &[f32]) -> f64 {
    row.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln()
}

pub(crate) fn divergence(reference: &[f32], row: &[f32]) -> f64 {
    let (reference_sum, sum) = (log_sum_exp(reference), log_sum_exp(row));
    let terms = reference.iter().zip(row).map(|(&r, &l)| (f64::from(r) - reference_sum, f64::from(l) - sum));
    terms.map(|(r, l)| r.exp() * (r - l)).sum()
}

pub(crate) fn entropy(row: &[f32]) -> f64 {
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
pub(crate) fn rank(row: &[f32], target: usize) -> u32 {
    let before = |(id, &l): (usize, &f32)| l > row[target] || (l == row[target] && id < target);
    row.iter().enumerate().filter(|&token| before(token)).count() as u32
}

/// KL divergences within 1e-6 nats: below what any two quantizations differ by. An entropy is a mean of log-probabilities, each
/// rounded relative to its size; 32 u of the mean and of the log-sum-exp that is taken from it is what the chains of sums add up to.
/// Where this lane alone is sure of something, its divergence from the reference is a mean of large differences, which two
/// subtractions of f32 numbers each round by up to u of their size.
fn head<B: Backend>(b: &B) {
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

/// A row of a batch of 70 equals, bit for bit, the same row computed alone.
fn rows_do_not_depend_on_their_batch<B: Backend>(b: &B) {
    let mut random = Random::new(12);
    let (rows, inner, cols) = (70, 256, 96);
    let x = random.numbers(rows * inner);
    let gain = b.weight(random.weight(DType::F32, 1, inner).0).unwrap();
    let norm = |x: &[f32]| {
        let mut out = b.alloc(x.len()).unwrap();
        b.norm(Norm::Rms, &b.upload(x).unwrap(), x.len() / inner, &gain, 1e-6, &mut out).unwrap();
        read(b, &out, x.len())
    };
    check_rows("norm", &x, inner, inner, norm);
    for &dtype in DType::ALL {
        let weight = b.weight(random.weight(dtype, cols, inner).0).unwrap();
        for (name, run) in [("matmul", B::matmul as Product<B>), ("matvec", B::matvec)] {
            let multiply = |x: &[f32]| {
                let (rows, mut out) = (x.len() / inner, b.alloc(x.len() / inner * cols).unwrap());
                run(b, &b.upload(x).unwrap(), 0..rows, &weight, 0..cols, &mut out).unwrap();
                read(b, &out, rows * cols)
            };
            check_rows(&format!("{name} {dtype}"), &x, inner, cols, multiply);
        }
    }
    attention_rows_do_not_depend_on_their_batch(b);

    let logits = logits(&mut random, rows, 1000);
    let targets: Vec<_> = (0..rows).map(|_| random.below(1000)).collect();
    let together = score(b, &logits, None, &targets, &[300]);
    for (t, row) in logits.chunks(1000).enumerate().step_by(23) {
        assert_eq!(score(b, row, None, &targets[t..=t], &[300]), [together[t]], "head row {t} alone and in a batch");
    }
}

fn check_rows(what: &str, x: &[f32], inner: usize, cols: usize, run: impl Fn(&[f32]) -> Vec<f32>) {
    let together = run(x);
    for t in [0, 1, 31, 32, 64, 69] {
        let alone = run(&x[t * inner..][..inner]);
        check_bits(&format!("{what}: row {t} alone and in a batch"), &together[t * cols..][..cols], &alone);
    }
    let some = run(&x[3 * inner..][..5 * inner]);
    check_bits(&format!("{what}: five rows and the batch"), &together[3 * cols..][..5 * cols], &some);
}

fn attention_rows_do_not_depend_on_their_batch<B: Backend>(b: &B) {
    let mut random = Random::new(13);
    let (keys, shape) = (170, AttentionShape { heads: 4, kv_heads: 2, head_dim: 64, value_dim: 64, scale: 0.3, softcap: 0.0 });
    let width = shape.heads * shape.head_dim;
    let sinks = b.upload(&random.numbers(shape.heads)).unwrap();
    for (name, spans) in attention_spans() {
        let q = random.numbers(spans.len() * width);
        let [k, v] = [(); 2].map(|()| b.upload(&random.numbers(keys * shape.kv_heads * shape.head_dim)).unwrap());
        let attend = |q: &[f32], spans: &[[u32; 2]]| {
            let mut out = b.alloc(q.len()).unwrap();
            let device_spans = b.indices(spans.as_flattened()).unwrap();
            b.attention(&b.upload(q).unwrap(), &k, &v, &device_spans, Some(&sinks), spans.len(), shape, &mut out).unwrap();
            read(b, &out, q.len())
        };
        let together = attend(&q, &spans);
        for t in (0..spans.len()).step_by(11) {
            let alone = attend(&q[t * width..][..width], &spans[t..=t]);
            check_bits(&format!("attention {name}: row {t} alone and in a batch"), &together[t * width..][..width], &alone);
        }
    }
}
