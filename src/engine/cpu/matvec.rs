//! Matrix-vector products for decoding: each weight row is decoded once into a small buffer and multiplied with the few
//! activation rows there are; floats are multiplied with a single row as they are read. Bound by the reading and decoding of
//! weights.
//!
//! Sums run in 64 interleaved chains, then pairwise: another order than `gemm.rs`, but one that depends on nothing else.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use bitworth_quant::DType;

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
                if rows == 1
                    && let Some(sum) = dot_stored(isa, &x[..k], w, first + n)
                {
                    // SAFETY: column n belongs to this task alone.
                    unsafe { out.slice(n..n + 1)[0] = sum };
                    continue;
                }
                w.decode_row(first + n, decoded);
                for t in 0..rows {
                    // SAFETY: column n belongs to this task alone.
                    unsafe { out.slice(t * count + n..t * count + n + 1)[0] = dot(isa, &x[t * k..][..k], decoded) };
                }
            }
        },
    );
}

/// `sum_i a[i] * w[row, i]` of a row of floats as it is stored; `None` for other formats.
fn dot_stored(isa: Isa, a: &[f32], w: &CpuWeight, row: usize) -> Option<f32> {
    let bytes = &w.bytes.get(row * w.row_bytes..)?[..w.row_bytes];
    match w.dtype {
        DType::F32 => Some(dot_f32(isa, a, bytes)),
        DType::BF16 => Some(dot_bf16(isa, a, bytes)),
        #[cfg(target_arch = "x86_64")]
        DType::F16 if isa != Isa::Portable && is_x86_feature_detected!("f16c") => {
            assert!(bytes.len() == 2 * a.len());
            // SAFETY: the processor has these instructions, an Isa other than Portable the other two; both slices are as long as
            // is read.
            #[allow(unsafe_code)]
            Some(unsafe { dot_f16(a, bytes) })
        }
        _ => None,
    }
}

per_isa! {
    fn dot_f32(a: &[f32], w: &[u8]) -> f32 {
        chained(a, w.as_chunks::<4>().0, |bytes| f32::from_le_bytes(*bytes))
    }
}

per_isa! {
    fn dot_bf16(a: &[f32], w: &[u8]) -> f32 {
        chained(a, w.as_chunks::<2>().0, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16))
    }
}

/// [`dot`] of numbers that are made as they are read.
#[inline(always)]
fn chained<W>(a: &[f32], w: &[W], number: impl Fn(&W) -> f32) -> f32 {
    let mut chains = [0.0f32; CHAINS];
    let (a_whole, a_rest) = a.as_chunks::<CHAINS>();
    let (w_whole, w_rest) = w.as_chunks::<CHAINS>();
    for (a, w) in a_whole.iter().zip(w_whole) {
        for i in 0..CHAINS {
            chains[i] = a[i].mul_add(number(&w[i]), chains[i]);
        }
    }
    for (chain, (a, w)) in chains.iter_mut().zip(a_rest.iter().zip(w_rest)) {
        *chain = a.mul_add(number(w), *chain);
    }
    joined(&chains)
}

/// The sum of the chains.
#[inline(always)]
fn joined(chains: &[f32; CHAINS]) -> f32 {
    let (groups, _) = chains.as_chunks::<{ math::LANES }>();
    math::tree(std::array::from_fn(|i| (groups[0][i] + groups[1][i]) + (groups[2][i] + groups[3][i])), |x, y| x + y)
}

/// The same for halves. SAFETY: `w` has two bytes for every number of `a`; the processor has AVX2, FMA and F16C.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(unsafe_code)]
unsafe fn dot_f16(a: &[f32], w: &[u8]) -> f32 {
    const VECTORS: usize = CHAINS / 8;
    // The last numbers, fewer than there are chains, with zeros behind them, which leave a chain as it is.
    let whole = a.len() / CHAINS * CHAINS;
    let (mut last, mut last_w) = ([0.0f32; CHAINS], [0u8; 2 * CHAINS]);
    last[..a.len() - whole].copy_from_slice(&a[whole..]);
    last_w[..w.len() - 2 * whole].copy_from_slice(&w[2 * whole..]);
    let mut sums = [_mm256_setzero_ps(); VECTORS];
    let mut add = |a: *const f32, w: *const u8| {
        for (v, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the caller below points to CHAINS numbers in both.
            unsafe {
                let halves = _mm_loadu_si128(w.add(16 * v).cast());
                *sum = _mm256_fmadd_ps(_mm256_loadu_ps(a.add(8 * v)), _mm256_cvtph_ps(halves), *sum);
            }
        }
    };
    for (a, w) in a.chunks_exact(CHAINS).zip(w.chunks_exact(2 * CHAINS)) {
        add(a.as_ptr(), w.as_ptr());
    }
    if whole < a.len() {
        add(last.as_ptr(), last_w.as_ptr());
    }
    let mut chains = [0.0; CHAINS];
    for (chains, sum) in chains.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
        // SAFETY: eight numbers.
        unsafe { _mm256_storeu_ps(chains.as_mut_ptr(), sum) };
    }
    joined(&chains)
}

/// Chains of a dot product: enough that the latency of one multiply-add is hidden on wide machines.
const CHAINS: usize = 64;

per_isa! {
    /// `sum_i a[i] * b[i]`.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        chained(a, b, |b| *b)
    }
}
