//! Operations that touch each number or row once: norm, rotary embedding, activation, sums, gathers.
//!
//! They are bound by memory, so they are plain loops that vectorize; rows are spread over threads.

use rayon::prelude::*;

use super::isa::{Isa, per_isa};
use super::math;
use super::{Cpu, CpuWeight};
use crate::backend::{ColumnCopy, CombineShape, Gate, Map, Norm, RopePairing, RopeShape, Terms};

/// Rows per parallel task.
const TASK_ROWS: usize = 32;
/// Numbers per parallel task.
const TASK_LEN: usize = 1 << 15;

/// `out[t] = table[tokens[t]]`.
pub fn embed(table: &CpuWeight, tokens: &[u32], out: &mut [f32]) {
    out.par_chunks_exact_mut(table.cols).zip(tokens).for_each(|(row, &token)| table.decode_row(token as usize, row));
}

/// See [`crate::backend::Backend::norm`]; `gain` holds whole rows of `cols` numbers.
pub fn norm(isa: Isa, kind: Norm, x: &[f32], gain: &[f32], cols: usize, eps: f32, out: &mut [f32]) {
    let gain_rows = gain.len() / cols;
    let task = TASK_ROWS * cols;
    out.par_chunks_mut(task).zip(x.par_chunks(task)).enumerate().for_each(|(number, (out, x))| {
        for (i, (out, x)) in out.chunks_exact_mut(cols).zip(x.chunks_exact(cols)).enumerate() {
            let gain = &gain[(number * TASK_ROWS + i) % gain_rows * cols..][..cols];
            match kind {
                Norm::Rms => rms_norm_row(isa, x, gain, eps, out),
                Norm::Layer => layer_norm_row(isa, x, gain, eps, out),
            }
        }
    });
}

per_isa! {
    fn rms_norm_row(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
        let squares = math::fold(x, 0.0f64, |a, x| a + f64::from(x) * f64::from(x), |a, b| a + b);
        let scale = (1.0 / (squares / x.len() as f64 + f64::from(eps)).sqrt()) as f32;
        for ((out, x), g) in out.iter_mut().zip(x).zip(gain) {
            *out = x * scale * g;
        }
    }
}

per_isa! {
    fn layer_norm_row(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
        let mean = math::fold(x, 0.0f64, |a, x| a + f64::from(x), |a, b| a + b) / x.len() as f64;
        let from_mean = |x: f32| f64::from(x) - mean;
        let squares = math::fold(x, 0.0f64, |a, x| a + from_mean(x) * from_mean(x), |a, b| a + b);
        let scale = (1.0 / (squares / x.len() as f64 + f64::from(eps)).sqrt()) as f32;
        for ((out, x), g) in out.iter_mut().zip(x).zip(gain) {
            *out = from_mean(*x) as f32 * scale * g;
        }
    }
}

/// `x[t] += bias`.
pub fn add_bias(x: &mut [f32], bias: &[f32]) {
    x.par_chunks_exact_mut(bias.len()).for_each(|row| {
        for (x, b) in row.iter_mut().zip(bias) {
            *x += b;
        }
    });
}

/// `x[t] += table[index[t]]`.
pub fn add_rows(x: &mut [f32], table: &CpuWeight, index: &[u32]) {
    x.par_chunks_exact_mut(table.cols).zip(index).for_each_init(
        || vec![0.0; table.cols],
        |decoded, (row, &at)| {
            table.decode_row(at as usize, decoded);
            for (x, b) in row.iter_mut().zip(decoded) {
                *x += *b;
            }
        },
    );
}

/// Rotates every head of every row; `table` is `[positions, dim / 2, 2]` of cos, sin.
pub fn rope(isa: Isa, x: &mut [f32], shape: RopeShape, table: &[f32], positions: &[u32]) {
    let RopeShape { heads, head_dim, first, dim, pairs, .. } = shape;
    let width = heads * head_dim;
    x.par_chunks_mut(TASK_ROWS * width).zip(positions.par_chunks(TASK_ROWS)).for_each(|(rows, positions)| {
        for (row, &position) in rows.chunks_exact_mut(width).zip(positions) {
            rope_row(isa, row, head_dim, first, dim, pairs, &table[position as usize * dim..][..dim]);
        }
    });
}

per_isa! {
    fn rope_row(row: &mut [f32], head_dim: usize, first: usize, dim: usize, pairs: RopePairing, angles: &[f32]) {
        let angles = angles.as_chunks::<2>().0;
        for head in row.chunks_exact_mut(head_dim) {
            let part = &mut head[first..first + dim];
            match pairs {
                RopePairing::Adjacent => {
                    for ([u, v], angle) in part.as_chunks_mut::<2>().0.iter_mut().zip(angles) {
                        rotate(u, v, angle);
                    }
                }
                RopePairing::Halves => {
                    let (us, vs) = part.split_at_mut(dim / 2);
                    for ((u, v), angle) in us.iter_mut().zip(vs).zip(angles) {
                        rotate(u, v, angle);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn rotate(u: &mut f32, v: &mut f32, [cos, sin]: &[f32; 2]) {
    (*u, *v) = (*u * cos - *v * sin, *u * sin + *v * cos);
}

/// `gate <- f(gate, up)`.
pub fn gate(isa: Isa, f: Gate, gate: &mut [f32], up: &[f32]) {
    gate.par_chunks_mut(TASK_LEN).zip(up.par_chunks(TASK_LEN)).for_each(|(gate, up)| match f {
        Gate::Silu => silu_gate(isa, gate, up),
        Gate::Gelu => gelu_gate(isa, gate, up),
        Gate::ClampedSilu => clamped_silu_gate(isa, gate, up),
        Gate::Sigmoid => sigmoid_gate(isa, gate, up),
        Gate::Product => gate.iter_mut().zip(up).for_each(|(g, u)| *g *= u),
    });
}

per_isa! {
    fn silu_gate(gate: &mut [f32], up: &[f32]) {
        for (g, u) in gate.iter_mut().zip(up) {
            *g = math::silu(*g) * u;
        }
    }
}

per_isa! {
    fn gelu_gate(gate: &mut [f32], up: &[f32]) {
        for (g, u) in gate.iter_mut().zip(up) {
            *g = math::gelu(*g) * u;
        }
    }
}

per_isa! {
    fn clamped_silu_gate(gate: &mut [f32], up: &[f32]) {
        for (g, u) in gate.iter_mut().zip(up) {
            let gate = g.min(7.0);
            *g = gate / (1.0 + math::exp(-1.702 * gate)) * (u.clamp(-7.0, 7.0) + 1.0);
        }
    }
}

per_isa! {
    fn sigmoid_gate(gate: &mut [f32], up: &[f32]) {
        for (g, u) in gate.iter_mut().zip(up) {
            *g = math::sigmoid(*g) * u;
        }
    }
}

/// `x <- f(x)`.
pub fn map(isa: Isa, f: Map, x: &mut [f32]) {
    x.par_chunks_mut(TASK_LEN).for_each(|x| match f {
        Map::Gelu => gelu_all(isa, x),
        Map::Scale(factor) => x.iter_mut().for_each(|x| *x *= factor),
        Map::Softcap(cap) => softcap(isa, x, cap),
        Map::Silu => silu_all(isa, x),
        Map::ReluSquared => x.iter_mut().for_each(|x| *x = x.max(0.0) * x.max(0.0)),
        Map::Xielu { alpha_p, alpha_n, beta, eps } => xielu(isa, x, alpha_p, alpha_n, beta, eps),
    });
}

per_isa! {
    fn gelu_all(x: &mut [f32]) {
        for x in x.iter_mut() {
            *x = math::gelu(*x);
        }
    }
}

per_isa! {
    fn silu_all(x: &mut [f32]) {
        for x in x.iter_mut() {
            *x = math::silu(*x);
        }
    }
}

per_isa! {
    fn xielu(x: &mut [f32], alpha_p: f32, alpha_n: f32, beta: f32, eps: f32) {
        for x in x.iter_mut() {
            let v = *x;
            let bent = if v > 0.0 { alpha_p * v * v } else { alpha_n * (math::expm1(v.min(eps)) - v) };
            *x = beta.mul_add(v, bent);
        }
    }
}

per_isa! {
    /// `x <- cap tanh(x / cap)`.
    pub fn softcap(x: &mut [f32], cap: f32) {
        for x in x.iter_mut() {
            *x = cap * math::tanh(*x / cap);
        }
    }
}

/// `x <- x + factor * y`.
pub fn add(isa: Isa, x: &mut [f32], y: &[f32], factor: f32) {
    x.par_chunks_mut(TASK_LEN).zip(y.par_chunks(TASK_LEN)).for_each(|(x, y)| add_scaled(isa, x, y, factor));
}

per_isa! {
    fn add_scaled(x: &mut [f32], y: &[f32], factor: f32) {
        for (x, y) in x.iter_mut().zip(y) {
            *x = y.mul_add(factor, *x);
        }
    }
}

/// `out[t] (+)= sum_j weights[t, j] * x[slots[t, j]]`, in the order of j.
pub fn combine(isa: Isa, terms: Terms<'_, Cpu>, shape: CombineShape, out: &mut [f32]) {
    let CombineShape { rows, per_row, cols, accumulate } = shape;
    out[..rows * cols].par_chunks_exact_mut(cols).enumerate().for_each(|(t, out)| {
        if !accumulate {
            out.fill(0.0);
        }
        for j in t * per_row..(t + 1) * per_row {
            add_scaled(isa, out, &terms.x[terms.slots[j] as usize * cols..][..cols], terms.weights[j]);
        }
    });
}

/// Columns of one matrix into columns of another.
pub fn copy_columns(src: &[f32], dst: &mut [f32], copy: ColumnCopy) {
    let ColumnCopy { from, to, rows, count, repeat } = copy;
    dst[..rows * to.stride].par_chunks_exact_mut(to.stride).enumerate().for_each(|(t, row)| {
        row[to.first..][..count].copy_from_slice(&src[t / repeat * from.stride + from.first..][..count]);
    });
}

/// `out[i] = x[rows[i]]`.
pub fn gather(x: &[f32], rows: &[u32], cols: usize, out: &mut [f32]) {
    out.par_chunks_exact_mut(cols).zip(rows).for_each(|(out, &row)| out.copy_from_slice(&x[row as usize * cols..][..cols]));
}
