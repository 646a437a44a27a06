//! Matrix-vector products for decoding: each weight row is decoded once into a small buffer and multiplied with the few
//! activation rows there are. Bound by the reading and decoding of weights.
//!
//! Sums run in 16 interleaved chains, then pairwise: another order than `gemm.rs`, but one that depends on nothing else.

use rayon::prelude::*;

use super::CpuWeight;
use super::isa::{Isa, per_isa};
use super::math;
use super::shared::SharedMut;

/// Weight rows per task.
const TASK: usize = 32;

/// `out[t, n] = sum_k x[t, k] * w[first + n, k]` for `n < count` and the few rows of `x`.
#[allow(unsafe_code)]
pub fn matvec(isa: Isa, x: &[f32], rows: usize, w: &CpuWeight, first: usize, count: usize, out: &mut [f32]) {
    let k = w.cols;
    let out = SharedMut::new(&mut out[..rows * count]);
    (0..count.div_ceil(TASK)).into_par_iter().for_each_init(
        || vec![0.0f32; k],
        |decoded, task| {
            for n in task * TASK..((task + 1) * TASK).min(count) {
                w.decode_row(first + n, decoded);
                for t in 0..rows {
                    // SAFETY: column n belongs to this task alone.
                    unsafe { out.slice(t * count + n..t * count + n + 1)[0] = dot(isa, &x[t * k..][..k], decoded) };
                }
            }
        },
    );
}

per_isa! {
    /// `sum_i a[i] * b[i]`.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        let b = &b[..a.len()];
        math::reduce(a.len(), 0.0f32, |s, i| a[i].mul_add(b[i], s), |x, y| x + y)
    }
}
