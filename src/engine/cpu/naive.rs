//! The referee: the operations as plain loops, one number after the other. `gemm.rs` must agree to the last bit.
#![cfg(test)]

use super::CpuWeight;

/// `out[t, n] = sum_k x[t, k] * w[n, k]`, one chain of fused multiply-adds each.
pub fn matmul(x: &[f32], rows: usize, w: &CpuWeight) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows * w.rows);
    let mut row = vec![0.0; w.cols];
    for t in 0..rows {
        for n in 0..w.rows {
            w.decode_row(n, &mut row);
            out.push(x[t * w.cols..][..w.cols].iter().zip(&row).fold(0.0f32, |acc, (x, w)| x.mul_add(*w, acc)));
        }
    }
    out
}
