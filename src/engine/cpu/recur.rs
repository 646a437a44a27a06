//! The recurrences of mixers with a state. A thread takes some columns of the state of a head through all rows of a run: columns
//! do not depend on each other, and those of a task stay in the nearest cache. Sums go over the keys in order, whatever the task.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::Cpu;
use super::isa::{Isa, per_isa};
use super::math;
use super::shared::SharedMut;
use crate::backend::{RecurInputs, RecurShape, Recurrence, Run, RunList};

/// Columns of a task.
const WIDTH: usize = 32;

type Row = [f32; WIDTH];

/// See [`crate::backend::Backend::recur`].
pub fn recur(
    isa: Isa,
    inputs: RecurInputs<'_, Cpu>,
    shape: RecurShape,
    runs: &RunList<Cpu>,
    state: &mut [f32],
    values: &mut [f32],
) {
    let (state, values) = (SharedMut::new(state), SharedMut::new(values));
    let parts = shape.value_dim.div_ceil(WIDTH);
    for wave in &runs.waves {
        let runs = &runs.runs[wave.clone()];
        (0..runs.len() * shape.heads * parts).into_par_iter().for_each(|task| {
            let mut scratch = ROOM.take();
            let first = task % parts * WIDTH;
            let columns = first..shape.value_dim.min(first + WIDTH);
            let head = task / parts % shape.heads;
            let part = Part { isa, inputs: &inputs, shape, head, columns };
            part.walk(&runs[task / parts / shape.heads], &mut scratch, &state, &values);
            ROOM.set(scratch);
        });
    }
}

#[derive(Default)]
struct Scratch {
    /// `[key_dim]`
    state: Vec<Row>,
    /// For each row what the state is multiplied by, and what the values are.
    gates: Vec<[f32; 2]>,
}

thread_local! {
    /// Room for it, kept from one task to the next.
    static ROOM: Cell<Scratch> = Cell::default();
}

/// Some columns of a head.
struct Part<'a> {
    isa: Isa,
    inputs: &'a RecurInputs<'a, Cpu>,
    shape: RecurShape,
    head: usize,
    columns: Range<usize>,
}

impl Part<'_> {
    #[allow(unsafe_code)]
    fn walk(&self, run: &Run, scratch: &mut Scratch, state: &SharedMut<'_>, values: &SharedMut<'_>) {
        let RecurShape { kind, heads, key_heads, key_dim, value_dim, .. } = self.shape;
        let (isa, head, width) = (self.isa, self.head, self.columns.len());
        let Scratch { state: own, gates } = scratch;
        let place = |slot: usize, row: usize| {
            let at = ((slot * heads + head) * key_dim + row) * value_dim + self.columns.start;
            at..at + width
        };
        own.clear();
        own.resize(key_dim, [0.0; WIDTH]);
        if let Some(slot) = run.from {
            for (row, own) in own.iter_mut().enumerate() {
                // SAFETY: no run of a wave writes to a slot that another one reads, and this one does so below.
                own[..width].copy_from_slice(unsafe { state.read(place(slot, row)) });
            }
        }
        self.gates(run.rows.clone(), gates);
        let skip = self.inputs.parameters[2 * heads + head];
        for (t, &[decay, factor]) in run.rows.clone().zip(&*gates) {
            let keys = (t * key_heads + self.shape.key_head(head)) * key_dim;
            let (q, k) = (&self.inputs.q[keys..][..key_dim], &self.inputs.k[keys..][..key_dim]);
            let at = t * heads * value_dim + head * value_dim + self.columns.start;
            // SAFETY: runs of a wave have different rows, and these columns are this task's own.
            let values = unsafe { values.slice(at..at + width) };
            let mut v = [0.0; WIDTH];
            v[..width].copy_from_slice(values);
            let mut out = [0.0; WIDTH];
            match kind {
                Recurrence::Delta => delta(isa, own, [q, k], [decay, factor], &v, &mut out),
                Recurrence::Scan { .. } => scan(isa, own, [q, k], [decay, factor, skip], &v, &mut out),
            }
            values.copy_from_slice(&out[..width]);
        }
        let Some(slot) = run.to else { return };
        for (row, own) in own.iter().enumerate() {
            // SAFETY: no other run of the wave reads or writes this slot, and this one has read what it needs.
            unsafe { state.slice(place(slot, row)) }.copy_from_slice(&own[..width]);
        }
    }

    /// The gates of the head in some rows.
    fn gates(&self, rows: Range<usize>, out: &mut Vec<[f32; 2]>) {
        let RecurShape { kind, heads, .. } = self.shape;
        let RecurInputs { gate, beta, parameters, .. } = self.inputs;
        let (a, bias) = (parameters[self.head], parameters[heads + self.head]);
        out.clear();
        out.extend(rows.map(|t| {
            let at = t * heads + self.head;
            [gate[at], beta.map_or(0.0, |beta| beta[at])]
        }));
        match kind {
            Recurrence::Delta => delta_gates(self.isa, out, a, bias),
            Recurrence::Scan { dt_min, dt_max } => scan_gates(self.isa, out, a, bias, dt_min, dt_max),
        }
    }
}

per_isa! {
    fn delta_gates(gates: &mut [[f32; 2]], a: f32, bias: f32) {
        for [gate, beta] in gates.iter_mut() {
            *gate = math::exp(a * math::softplus(*gate + bias));
            *beta = math::sigmoid(*beta);
        }
    }
}

per_isa! {
    fn scan_gates(gates: &mut [[f32; 2]], a: f32, bias: f32, dt_min: f32, dt_max: f32) {
        for [gate, factor] in gates.iter_mut() {
            *factor = math::softplus(*gate + bias).max(dt_min).min(dt_max);
            *gate = math::exp(a * *factor);
        }
    }
}

per_isa! {
    fn delta(state: &mut [Row], keys: [&[f32]; 2], gates: [f32; 2], v: &Row, out: &mut Row) {
        let [decay, beta] = gates;
        let mut known = [0.0f32; WIDTH];
        for (row, &k) in state.iter().zip(keys[1]) {
            for c in 0..WIDTH {
                known[c] = row[c].mul_add(k, known[c]);
            }
        }
        let mut d = [0.0f32; WIDTH];
        for c in 0..WIDTH {
            d[c] = (-decay).mul_add(known[c], v[c]) * beta;
        }
        advance(state, keys, decay, &d, out);
    }
}

per_isa! {
    fn scan(state: &mut [Row], keys: [&[f32]; 2], gates: [f32; 3], v: &Row, out: &mut Row) {
        let [decay, dt, skip] = gates;
        let mut d = [0.0f32; WIDTH];
        for c in 0..WIDTH {
            d[c] = dt * v[c];
        }
        advance(state, keys, decay, &d, out);
        for c in 0..WIDTH {
            out[c] = skip.mul_add(v[c], out[c]);
        }
    }
}

/// `S <- decay S + k d^T`, `out <- S^T q`.
#[inline(always)]
fn advance(state: &mut [Row], [q, k]: [&[f32]; 2], decay: f32, d: &Row, out: &mut Row) {
    let mut sums = [0.0f32; WIDTH];
    for ((row, &k), &q) in state.iter_mut().zip(k).zip(q) {
        for c in 0..WIDTH {
            row[c] = k.mul_add(d[c], decay * row[c]);
            sums[c] = row[c].mul_add(q, sums[c]);
        }
    }
    *out = sums;
}
