//! Matrix-vector products for decoding: each weight row is decoded once into a small buffer and multiplied with the few
//! activation rows there are. Bound by the reading and decoding of weights.
//!
//! Sums run in 64 interleaved chains, then pairwise: another order than `gemm.rs`, but one that depends on nothing else.

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

/// Chains of a dot product: enough that the latency of one multiply-add is hidden on wide machines.
const CHAINS: usize = 64;

per_isa! {
    /// `sum_i a[i] * b[i]`.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        let mut chains = [0.0f32; CHAINS];
        let (a_whole, a_rest) = a.as_chunks::<CHAINS>();
        let (b_whole, b_rest) = b.as_chunks::<CHAINS>();
        for (a, b) in a_whole.iter().zip(b_whole) {
            for i in 0..CHAINS {
                chains[i] = a[i].mul_add(b[i], chains[i]);
            }
        }
        for (chain, (a, b)) in chains.iter_mut().zip(a_rest.iter().zip(b_rest)) {
            *chain = a.mul_add(*b, *chain);
        }
        let (groups, _) = chains.as_chunks::<{ math::LANES }>();
        math::tree(std::array::from_fn(|i| (groups[0][i] + groups[1][i]) + (groups[2][i] + groups[3][i])), |x, y| x + y)
    }
}
