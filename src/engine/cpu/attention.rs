//! Causal attention over ragged sequences, blocked: no T x T matrix exists, only a few rows of scores at a time.
//!
//! Query rows whose spans grow by one key a row (a sequence) are taken together; their keys and values are brought into the
//! panel form of `gemm.rs` once per block and key/value head, and the same register-tiled kernel does q.k and p.v. A score
//! outside a row's span counts as probability 0, which leaves the sums of the others untouched bit for bit.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::Cpu;
use super::gemm::{self, MatrixRows, Target};
use super::interleave::interleave;
use super::isa::{Isa, per_isa};
use super::math;
use super::shared::SharedMut;
use crate::backend::{AttentionInputs, AttentionShape};

/// Query rows that share one packing of keys and values.
const QUERY_BLOCK: usize = 128;

/// See [`crate::backend::Backend::attention`].
pub fn attention(isa: Isa, inputs: AttentionInputs<'_, Cpu>, rows: usize, shape: AttentionShape, out: &mut [f32]) {
    let AttentionInputs { q, k, v, spans, sinks } = inputs;
    let sinks = sinks.map(Vec::as_slice);
    let blocks = blocks(&spans[..2 * rows]);
    let out = SharedMut::new(&mut out[..rows * shape.heads * shape.value_dim]);
    // One by one, because a block costs the more, the more keys it sees.
    (0..blocks.len() * shape.kv_heads).into_par_iter().with_max_len(1).for_each(|task| {
        let mut scratch = ROOM.take();
        let (block, kv_head) = (blocks[task / shape.kv_heads].clone(), task % shape.kv_heads);
        QueryBlock { isa, q, k, v, spans, sinks, shape, rows: block, kv_head }.run(&mut scratch, &out);
        ROOM.set(scratch);
    });
}

/// Cuts the rows into blocks of neighbours: each row sees one key more than the one before, or a window that slid by one.
fn blocks(spans: &[u32]) -> Vec<Range<usize>> {
    let rows = spans.len() / 2;
    let mut blocks = Vec::new();
    let mut begin = 0;
    for t in 1..=rows {
        let follows = t < rows
            && spans[2 * t + 1] == spans[2 * t - 1] + 1
            && (spans[2 * t] == spans[2 * t - 2] || spans[2 * t] == spans[2 * t - 2] + 1);
        if !follows || t - begin == QUERY_BLOCK {
            blocks.push(begin..t);
            begin = t;
        }
    }
    blocks
}

#[derive(Default)]
struct Scratch {
    gathered: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
}

thread_local! {
    /// Room for it, kept from one task to the next.
    static ROOM: Cell<Scratch> = Cell::default();
}

/// Makes `room` that long, whatever it then holds. A vector that grows by itself takes up to twice as much, and both until it is
/// copied.
fn fit(room: &mut Vec<f32>, len: usize) {
    if room.capacity() < len {
        *room = Vec::new();
        room.reserve_exact(len);
    }
    room.resize(len, 0.0);
}

struct QueryBlock<'a> {
    isa: Isa,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    spans: &'a [u32],
    sinks: Option<&'a [f32]>,
    shape: AttentionShape,
    rows: Range<usize>,
    kv_head: usize,
}

impl QueryBlock<'_> {
    fn span(&self, t: usize) -> Range<usize> {
        self.spans[2 * t] as usize..self.spans[2 * t + 1] as usize
    }

    fn run(&self, scratch: &mut Scratch, out: &SharedMut<'_>) {
        let AttentionShape { heads, kv_heads, head_dim, value_dim, scale, softcap } = self.shape;
        let (height, panel) = gemm::tile(self.isa);
        let value_panel = panel.min(32);
        let first = self.span(self.rows.start).start;
        let keys = self.span(self.rows.end - 1).end - first;
        let stride = keys.next_multiple_of(panel);
        self.pack_keys(first, keys, panel, scratch);
        self.pack_values(first, keys, value_panel, scratch);
        fit(&mut scratch.scores, height * stride);
        for t in self.rows.clone().step_by(height) {
            let count = height.min(self.rows.end - t);
            let seen = self.span(t + count - 1).end - first;
            for head in self.kv_head * (heads / kv_heads)..(self.kv_head + 1) * (heads / kv_heads) {
                let q = MatrixRows {
                    data: &self.q[t * heads * head_dim + head * head_dim..],
                    stride: heads * head_dim,
                    range: 0..count,
                };
                self.score(q, seen, panel, stride, scratch);
                for i in 0..count {
                    let span = self.span(t + i);
                    let row = &mut scratch.scores[i * stride..][..seen];
                    let sink = self.sinks.map_or(f32::NEG_INFINITY, |sinks| sinks[head]);
                    softmax(self.isa, row, span.start - first, span.end - first, scale, softcap, sink);
                }
                for (p, values) in scratch.values.chunks_exact(keys * value_panel).enumerate() {
                    let at = p * value_panel;
                    gemm::product(
                        self.isa,
                        MatrixRows { data: &scratch.scores, stride, range: 0..count },
                        values,
                        value_panel,
                        seen,
                        Target {
                            data: out,
                            at: t * heads * value_dim + head * value_dim + at,
                            stride: heads * value_dim,
                            width: value_panel.min(value_dim - at),
                            accumulate: false,
                        },
                    );
                }
            }
        }
    }

    /// q.k of some query rows with the first `seen` keys.
    fn score(&self, q: MatrixRows<'_>, seen: usize, panel: usize, stride: usize, scratch: &mut Scratch) {
        let head_dim = self.shape.head_dim;
        let scores = SharedMut::new(&mut scratch.scores);
        for (p, keys) in scratch.keys.chunks_exact(panel * head_dim).take(seen.div_ceil(panel)).enumerate() {
            gemm::product(
                self.isa,
                MatrixRows { data: q.data, stride: q.stride, range: q.range.clone() },
                keys,
                panel,
                head_dim,
                Target { data: &scores, at: p * panel, stride, width: panel.min(seen - p * panel), accumulate: false },
            );
        }
    }

    /// Keys as panels `[head_dim, panel]`, zero behind the last.
    fn pack_keys(&self, first: usize, keys: usize, panel: usize, scratch: &mut Scratch) {
        let AttentionShape { kv_heads, head_dim, .. } = self.shape;
        fit(&mut scratch.keys, keys.next_multiple_of(panel) * head_dim);
        fit(&mut scratch.gathered, panel * head_dim);
        for (p, out) in scratch.keys.chunks_exact_mut(panel * head_dim).enumerate() {
            for (j, row) in scratch.gathered.chunks_exact_mut(head_dim).enumerate() {
                if p * panel + j < keys {
                    let at = (first + p * panel + j) * kv_heads * head_dim + self.kv_head * head_dim;
                    row.copy_from_slice(&self.k[at..][..head_dim]);
                } else {
                    row.fill(0.0);
                }
            }
            interleave(self.isa, &scratch.gathered, head_dim, panel, out);
        }
    }

    /// Values as panels `[keys, panel]`, zero behind the last component.
    fn pack_values(&self, first: usize, keys: usize, panel: usize, scratch: &mut Scratch) {
        let AttentionShape { kv_heads, value_dim, .. } = self.shape;
        fit(&mut scratch.values, value_dim.next_multiple_of(panel) * keys);
        for (p, out) in scratch.values.chunks_exact_mut(keys * panel).enumerate() {
            let width = panel.min(value_dim - p * panel);
            for (j, row) in out.chunks_exact_mut(panel).enumerate() {
                let at = (first + j) * kv_heads * value_dim + self.kv_head * value_dim + p * panel;
                row[..width].copy_from_slice(&self.v[at..][..width]);
                row[width..].fill(0.0);
            }
        }
    }
}

per_isa! {
    /// `row <- softmax(softcap(scale * row))` over `start .. end`, 0 outside; `sink` takes part and stands nowhere.
    fn softmax(row: &mut [f32], start: usize, end: usize, scale: f32, softcap: f32, sink: f32) {
        row[..start].fill(0.0);
        row[end..].fill(0.0);
        let live = &mut row[start..end];
        for s in live.iter_mut() {
            *s *= scale;
        }
        if softcap > 0.0 {
            for s in live.iter_mut() {
                *s = softcap * math::tanh(*s / softcap);
            }
        }
        let max = math::max(live);
        let max = if sink > max { sink } else { max };
        for s in live.iter_mut() {
            *s = math::exp(*s - max);
        }
        let sum = math::sum(live) + math::exp(sink - max);
        let inverse = 1.0 / sum;
        for s in live.iter_mut() {
            *s *= inverse;
        }
    }
}
