//! Operations that touch each number or row once: norm, rotary embedding, activation, sums, gathers.
//!
//! They are bound by memory, so they are plain loops that vectorize; rows are spread over threads.

use rayon::prelude::*;

use super::CpuWeight;
use super::isa::{Isa, per_isa};
use super::math;
use crate::engine::backend::RopePairing;

/// Rows per parallel task.
const TASK_ROWS: usize = 32;
/// Numbers per parallel task.
const TASK_LEN: usize = 1 << 15;

/// `out[t] = table[tokens[t]]`.
pub fn embed(table: &CpuWeight, tokens: &[u32], out: &mut [f32]) {
    out.par_chunks_exact_mut(table.cols).zip(tokens).for_each(|(row, &token)| table.decode_row(token as usize, row));
}

/// `out[t] = x[t] / sqrt(mean(x[t]^2) + eps) * gain`.
pub fn rms_norm(isa: Isa, x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
    let task = TASK_ROWS * gain.len();
    out.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(gain.len()).zip(x.chunks_exact(gain.len())) {
            norm_row(isa, x, gain, eps, out);
        }
    });
}

per_isa! {
    fn norm_row(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
        let squares = math::fold(x, 0.0f64, |a, x| a + f64::from(x) * f64::from(x), |a, b| a + b);
        let scale = (1.0 / (squares / x.len() as f64 + f64::from(eps)).sqrt()) as f32;
        for ((out, x), g) in out.iter_mut().zip(x).zip(gain) {
            *out = x * scale * g;
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

/// Geometry of a rotary embedding.
#[derive(Clone, Copy)]
pub struct Rope {
    /// Width of one head.
    pub head_dim: usize,
    /// Components that are rotated, from the first.
    pub rope_dim: usize,
    /// Which components form a pair.
    pub pairs: RopePairing,
}

/// Rotates every head of every row; `table` is `[positions, rope_dim / 2, 2]` of cos, sin.
pub fn rope(x: &mut [f32], heads: usize, rope: Rope, table: &[f32], positions: &[u32]) {
    let Rope { head_dim, rope_dim, pairs } = rope;
    x.par_chunks_exact_mut(heads * head_dim).zip(positions).for_each(|(row, &position)| {
        let angles = &table[position as usize * rope_dim..][..rope_dim];
        for head in row.chunks_exact_mut(head_dim) {
            for (i, angle) in angles.chunks_exact(2).enumerate() {
                let (a, b) = match pairs {
                    RopePairing::Adjacent => (2 * i, 2 * i + 1),
                    RopePairing::Halves => (i, i + rope_dim / 2),
                };
                let (cos, sin, u, v) = (angle[0], angle[1], head[a], head[b]);
                head[a] = u * cos - v * sin;
                head[b] = u * sin + v * cos;
            }
        }
    });
}

/// `gate <- silu(gate) * up`.
pub fn swiglu(isa: Isa, gate: &mut [f32], up: &[f32]) {
    gate.par_chunks_mut(TASK_LEN).zip(up.par_chunks(TASK_LEN)).for_each(|(gate, up)| swiglu_part(isa, gate, up));
}

per_isa! {
    fn swiglu_part(gate: &mut [f32], up: &[f32]) {
        for (g, u) in gate.iter_mut().zip(up) {
            *g = math::silu(*g) * u;
        }
    }
}

/// `x <- x + y`.
pub fn add(x: &mut [f32], y: &[f32]) {
    x.par_chunks_mut(TASK_LEN).zip(y.par_chunks(TASK_LEN)).for_each(|(x, y)| {
        for (x, y) in x.iter_mut().zip(y) {
            *x += y;
        }
    });
}

/// `out[i] = x[rows[i]]`.
pub fn gather(x: &[f32], rows: &[u32], cols: usize, out: &mut [f32]) {
    out.par_chunks_exact_mut(cols).zip(rows).for_each(|(out, &row)| out.copy_from_slice(&x[row as usize * cols..][..cols]));
}
