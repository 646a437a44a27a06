//! What every backend must compute: each operation against a plain referee in f64, over awkward shapes and every encoding.
//! A backend's tests call [`run`]. Absent: speed, errors, and anything only one backend has.
//!
//! Bounds are stated per operation, relative to the size of what was summed; u is the rounding of one f32 operation.

use quant::DType;
use quant::checkpoint::TensorBytes;

use super::backend::{AttentionShape, Backend, HostTensor, RopePairing, TileShape};

/// 2^-24: half a unit in the last place of f32.
const U: f64 = 1.0 / 16_777_216.0;
/// Row counts around the tile sizes of kernels.
const ROWS: [usize; 5] = [1, 3, 64, 65, 130];

/// Runs every check on `backend`; panics at the first operation that is wrong, naming it.
pub(crate) fn run<B: Backend>(backend: &B) {
    transfers(backend);
    embed(backend);
    rms_norm(backend);
    products(backend);
    products_of_parts_of_the_weights(backend);
    add_bias(backend);
    rope(backend);
    attention(backend);
    elementwise(backend);
    gather(backend);
    head(backend);
    small_divergences_keep_their_leading_digits(backend);
    rows_do_not_depend_on_their_batch(backend);
}

/// Repeatable numbers (splitmix64, Steele et al. 2014), roughly normal.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> u32 {
        (self.bits() % bound as u64) as u32
    }

    /// Mean 0, variance 1.
    fn number(&mut self) -> f32 {
        let sum: f64 = (0..12).map(|_| (self.bits() >> 11) as f64 / (1u64 << 53) as f64).sum();
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

/// Relative bound 16 u: the tree of a few hundred squares, a root, a division, two products.
fn rms_norm<B: Backend>(b: &B) {
    let mut random = Random::new(3);
    for &dtype in DType::ALL {
        for (cols, rows) in widths(dtype).into_iter().zip([3, 65, 1, 64]) {
            let (tensor, gain) = random.weight(dtype, 1, cols);
            let (x, eps) = (random.numbers(rows * cols), 1e-5);
            let expected: Vec<f64> = f64s(&x).chunks(cols).flat_map(|row| norm_row(row, &gain, eps)).collect();
            let mut out = b.alloc(x.len()).unwrap();
            b.rms_norm(&b.upload(&x).unwrap(), rows, &b.weight(tensor).unwrap(), eps, &mut out).unwrap();
            check(&format!("rms_norm {dtype}"), &read(b, &out, x.len()), &expected, |i| 16.0 * U * expected[i].abs());
        }
    }
}

fn norm_row(row: &[f64], gain: &[f32], eps: f32) -> Vec<f64> {
    let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
    let scale = 1.0 / (mean + f64::from(eps)).sqrt();
    row.iter().zip(gain).map(|(x, &g)| x * scale * f64::from(g)).collect()
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
    usize,
    &<B as Backend>::Weight,
    std::ops::Range<usize>,
    &mut <B as Backend>::Buffer,
) -> super::backend::Result<()>;

fn check_product<B: Backend>(b: &B, what: &str, run: Product<B>, x: &[f32], weight: &B::Weight, w: &[f32], inner: usize) {
    let (rows, cols) = (x.len() / inner, w.len() / inner);
    let (expected, sizes) = product(x, w, inner);
    let mut out = b.alloc(expected.len()).unwrap();
    run(b, &b.upload(x).unwrap(), rows, weight, 0..cols, &mut out).unwrap();
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
            run(b, &x, rows, &weight, 0..cols, &mut all).unwrap();
            run(b, &x, rows, &weight, range.clone(), &mut part).unwrap();
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

/// Two products and a sum, relative to the pair's length.
fn rope<B: Backend>(b: &B) {
    let mut random = Random::new(7);
    let (rows, heads, positions) = (65, 3, 40);
    for (head_dim, rope_dim) in [(64, 64), (80, 80), (128, 64), (6, 4)] {
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
                        RopePairing::Adjacent => (2 * i, 2 * i + 1),
                        RopePairing::Halves => (i, i + half),
                    };
                    let angle = (at[h / heads] as usize * half + i) * 2;
                    let (c, s) = (f64::from(table[angle]), f64::from(table[angle + 1]));
                    (head[one], head[two]) = (head[one] * c - head[two] * s, head[one] * s + head[two] * c);
                }
            }
            let mut buffer = b.upload(&x).unwrap();
            let (device_table, device_at) = (b.upload(&table).unwrap(), b.indices(&at).unwrap());
            b.rope(&mut buffer, rows, heads, head_dim, rope_dim, pairs, &device_table, &device_at).unwrap();
            check(&format!("rope {pairs:?} {rope_dim} of {head_dim}"), &read(b, &buffer, x.len()), &expected, |_| 16.0 * U);
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
    for (heads, kv_heads, head_dim) in [(2, 2, 64), (6, 2, 80), (4, 1, 128), (3, 1, 10), (2, 1, 256), (5, 1, 66)] {
        let shape = AttentionShape { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt() };
        for (name, spans) in attention_spans() {
            let (rows, keys) = (spans.len(), 170);
            let q = random.numbers(rows * heads * head_dim);
            let [k, v] = [(); 2].map(|()| random.numbers(keys * kv_heads * head_dim));
            let expected = attend(&q, &k, &v, &spans, shape);
            let [q, k, v] = [q, k, v].map(|data| b.upload(&data).unwrap());
            let spans = b.indices(spans.as_flattened()).unwrap();
            let mut out = b.alloc(expected.len()).unwrap();
            b.attention(&q, &k, &v, &spans, rows, shape, &mut out).unwrap();
            let what = format!("attention {heads}/{kv_heads} x {head_dim}, {name}");
            check(&what, &read(b, &out, expected.len()), &expected, |_| 4e-6 * 6.0);
        }
    }
}

fn attend(q: &[f32], k: &[f32], v: &[f32], spans: &[[u32; 2]], shape: AttentionShape) -> Vec<f64> {
    let AttentionShape { heads, kv_heads, head_dim, scale } = shape;
    let mut out = vec![0.0; q.len()];
    for (row, span) in spans.iter().enumerate() {
        for head in 0..heads {
            let at = (row * heads + head) * head_dim;
            let kv_at = |j: u32| (j as usize * kv_heads + head / (heads / kv_heads)) * head_dim;
            let dot = |j| (0..head_dim).map(|d| f64::from(q[at + d]) * f64::from(k[kv_at(j) + d])).sum::<f64>();
            let weights: Vec<_> = (span[0]..span[1]).map(|j| (dot(j) * f64::from(scale)).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for (j, weight) in (span[0]..span[1]).zip(&weights) {
                (0..head_dim).for_each(|d| out[at + d] += weight / sum * f64::from(v[kv_at(j) + d]));
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
        let (buffer, other) = (b.upload(&gate).unwrap(), b.upload(&up).unwrap());
        let mut out = buffer;
        b.swiglu(&mut out, &other, len).unwrap();
        let silu = |g: f64| g / (1.0 + (-g).exp());
        let expected: Vec<_> = gate.iter().zip(&up).map(|(&g, &u)| silu(g.into()) * f64::from(u)).collect();
        // Graphics interfaces allow exp(x) an error of 3 + 2 |x| units in the last place.
        let bound = |i: usize| (16.0 + 4.0 * f64::from(gate[i].abs())) * U * expected[i].abs() + 1e-30;
        check("swiglu", &read(b, &out, len), &expected, bound);

        let mut sum = b.upload(&gate).unwrap();
        b.add(&mut sum, &other, len).unwrap();
        let expected: Vec<_> = gate.iter().zip(&up).map(|(g, u)| g + u).collect();
        check_bits("add", &read(b, &sum, len), &expected);
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

/// Where 8-bit and 16-bit files differ from their reference, at 1e-5 nats and far below, a divergence keeps its digits.
fn small_divergences_keep_their_leading_digits<B: Backend>(backend: &B) {
    let mut random = Random::new(23);
    let (rows, vocab) = (20, 5000);
    let reference = logits(&mut random, rows, vocab);
    for (noise, cuts) in [(3e-4, &[1024, 2048, 3072][..]), (3e-3, &[]), (3e-2, &[7])] {
        let own: Vec<_> = reference.iter().zip(random.numbers(rows * vocab)).map(|(r, n)| r + noise * n - 0.3).collect();
        let found = score(backend, &own, Some(&reference), &vec![0; rows], cuts);
        for (t, (row, reference)) in own.chunks(vocab).zip(reference.chunks(vocab)).enumerate() {
            let (found, expected) = (found[t].kld, divergence(reference, row));
            // Divergences go with the noise squared; rows that are certain of one token have far less.
            let bound = 1e-4 * expected + 1e-6 * f64::from(noise * noise);
            assert!((found - expected).abs() < bound, "noise {noise}, row {t}: {found:e} where {expected:e}");
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
) -> Vec<super::backend::HeadRow> {
    let rows = targets.len();
    let vocab = logits.len() / rows;
    let mut state = b.head_state(rows).unwrap();
    let targets = b.indices(targets).unwrap();
    let bounds: Vec<_> = [0].iter().chain(cuts).chain(&[vocab]).copied().collect();
    for tile in bounds.windows(2) {
        let cut = |all: &[f32]| all.chunks(vocab).flat_map(|row| &row[tile[0]..tile[1]]).copied().collect::<Vec<_>>();
        let own = b.upload(&cut(logits)).unwrap();
        let other = reference.map(|all| b.upload(&cut(all)).unwrap());
        let shape = TileShape { rows, cols: tile[1] - tile[0], first_token: tile[0] as u32 };
        b.head_tile(&own, other.as_ref(), shape, &targets, &mut state).unwrap();
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

/// KL divergences within 1e-6 nats: below what any two quantizations differ by.
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
        let targets: Vec<_> = (0..rows).map(|_| random.below(vocab)).collect();
        for reference in [None, Some(&reference[..])] {
            let found = score(b, &own, reference, &targets, cuts);
            for (t, row) in own.chunks(vocab).enumerate() {
                let what = format!("head row {t} of {rows} x {vocab}");
                let (found, target) = (found[t], f64::from(row[targets[t] as usize]));
                let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert!((found.log_sum_exp - log_sum_exp(row)).abs() < 1e-6, "{what}: {found:?} where {}", log_sum_exp(row));
                assert_eq!(found.target_logit, target, "{what}: target");
                assert_eq!(Some(found.argmax as usize), row.iter().position(|&l| l == best), "{what}: arg-max");
                let kld = reference.map_or(0.0, |all| divergence(&all[t * vocab..][..vocab], row));
                assert!((found.kld - kld).abs() < 1e-6, "{what}: KLD {} where {kld}", found.kld);
            }
        }
        let same = score(b, &own, Some(&own), &targets, cuts);
        assert!(same.iter().all(|row| row.kld.abs() < 1e-12), "a lane differs from itself: {same:?}");
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
        b.rms_norm(&b.upload(x).unwrap(), x.len() / inner, &gain, 1e-6, &mut out).unwrap();
        read(b, &out, x.len())
    };
    check_rows("rms_norm", &x, inner, inner, norm);
    for &dtype in DType::ALL {
        let weight = b.weight(random.weight(dtype, cols, inner).0).unwrap();
        for (name, run) in [("matmul", B::matmul as Product<B>), ("matvec", B::matvec)] {
            let multiply = |x: &[f32]| {
                let (rows, mut out) = (x.len() / inner, b.alloc(x.len() / inner * cols).unwrap());
                run(b, &b.upload(x).unwrap(), rows, &weight, 0..cols, &mut out).unwrap();
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
    let (keys, shape) = (170, AttentionShape { heads: 4, kv_heads: 2, head_dim: 64, scale: 0.3 });
    let width = shape.heads * shape.head_dim;
    for (name, spans) in attention_spans() {
        let q = random.numbers(spans.len() * width);
        let [k, v] = [(); 2].map(|()| b.upload(&random.numbers(keys * shape.kv_heads * shape.head_dim)).unwrap());
        let attend = |q: &[f32], spans: &[[u32; 2]]| {
            let mut out = b.alloc(q.len()).unwrap();
            let device_spans = b.indices(spans.as_flattened()).unwrap();
            b.attention(&b.upload(q).unwrap(), &k, &v, &device_spans, spans.len(), shape, &mut out).unwrap();
            read(b, &out, q.len())
        };
        let together = attend(&q, &spans);
        for t in (0..spans.len()).step_by(11) {
            let alone = attend(&q[t * width..][..width], &spans[t..=t]);
            check_bits(&format!("attention {name}: row {t} alone and in a batch"), &together[t * width..][..width], &alone);
        }
    }
}
