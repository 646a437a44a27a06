//! Matrix-vector products for decoding: each weight row is decoded once into a small buffer and multiplied with the few
//! activation rows there are; floats are multiplied with a single row as they are read. Bound by the reading and decoding of
//! weights.
//!
//! Sums run in 64 interleaved chains, then pairwise: another order than `gemm.rs`, but one that depends on nothing else.
//! Indices instead of iterators: rows and vectors are numbered by the tile.
#![allow(clippy::needless_range_loop)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use bitworth_quant::DType;

use rayon::prelude::*;

use super::CpuWeight;
use super::isa::{Isa, per_isa};
use super::math;
use super::shared::SharedMut;

/// Rows of activations that share what is read of a weight row.
const TOGETHER: usize = 4;
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
                for t in (0..rows).step_by(TOGETHER) {
                    let together = TOGETHER.min(rows - t);
                    let sums = dots(isa, &x[t * k..(t + together) * k], decoded);
                    for (t, sum) in (t..).zip(&sums[..together]) {
                        // SAFETY: column n belongs to this task alone.
                        unsafe { out.slice(t * count + n..t * count + n + 1)[0] = *sum };
                    }
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
        DType::F16 => dot_f16(isa, a, bytes),
        _ => None,
    }
}

/// The same for a row of halves, where the processor widens them.
#[allow(unsafe_code)]
fn dot_f16(isa: Isa, a: &[f32], w: &[u8]) -> Option<f32> {
    assert!(w.len() == 2 * a.len());
    // SAFETY: both slices are as long as is read; an Isa is one that the processor has.
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => Some(unsafe { dot_f16_avx512(a, w) }),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if is_x86_feature_detected!("f16c") => Some(unsafe { dot_f16_avx2(a, w) }),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => Some(unsafe { dot_f16_neon(a, w) }),
        _ => None,
    }
}

per_isa! {
    fn dot_f32(a: &[f32], w: &[u8]) -> f32 {
        chained::<_, true>(a, w.as_chunks::<4>().0, |bytes| f32::from_le_bytes(*bytes))
    }
}

per_isa! {
    fn dot_bf16(a: &[f32], w: &[u8]) -> f32 {
        chained::<_, true>(a, w.as_chunks::<2>().0, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16))
    }
}

/// [`dot`] of numbers that are made as they are read; on request memory is asked for what comes later.
#[inline(always)]
fn chained<W, const ASKS: bool>(a: &[f32], w: &[W], number: impl Fn(&W) -> f32) -> f32 {
    let mut chains = [0.0f32; CHAINS];
    let (a_whole, a_rest) = a.as_chunks::<CHAINS>();
    let (w_whole, w_rest) = w.as_chunks::<CHAINS>();
    for (a, w) in a_whole.iter().zip(w_whole) {
        if ASKS {
            ask_for::<W>(w.as_ptr().cast());
        }
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
    let mut lanes = [0.0; math::LANES];
    // A loop, because a closure given to `from_fn` may be compiled without the instruction set.
    for i in 0..math::LANES {
        lanes[i] = (groups[0][i] + groups[1][i]) + (groups[2][i] + groups[3][i]);
    }
    math::tree(lanes, |x, y| x + y)
}

/// The same of chains in vectors.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn joined_avx512(chains: [__m512; CHAINS / 16]) -> f32 {
    let lanes = _mm512_add_ps(_mm512_add_ps(chains[0], chains[1]), _mm512_add_ps(chains[2], chains[3]));
    let upper = _mm512_castpd_ps(_mm512_shuffle_f64x2::<0b11_10_11_10>(_mm512_castps_pd(lanes), _mm512_castps_pd(lanes)));
    joined_eight(_mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_castps512_ps256(upper)))
}

/// The same of eight lanes: halves against halves, as [`math::tree`] has them.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn joined_eight(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// The same for halves. SAFETY: `w` has two bytes for every number of `a`; the processor has AVX2, FMA and F16C.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(unsafe_code)]
unsafe fn dot_f16_avx2(a: &[f32], w: &[u8]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); CHAINS / 8];
    by_chains(a, w, |a, w| {
        for (v, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `by_chains` points to CHAINS numbers in both.
            unsafe {
                let halves = _mm_loadu_si128(w.add(16 * v).cast());
                *sum = _mm256_fmadd_ps(_mm256_loadu_ps(a.add(8 * v)), _mm256_cvtph_ps(halves), *sum);
            }
        }
    });
    let mut halves = [_mm256_setzero_ps(); 2];
    for (i, half) in halves.iter_mut().enumerate() {
        *half = _mm256_add_ps(_mm256_add_ps(sums[i], sums[2 + i]), _mm256_add_ps(sums[4 + i], sums[6 + i]));
    }
    joined_eight(_mm256_add_ps(halves[0], halves[1]))
}

/// SAFETY: as [`dot_f16_avx2`]; the processor has AVX-512 F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
unsafe fn dot_f16_avx512(a: &[f32], w: &[u8]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); CHAINS / 16];
    by_chains(a, w, |a, w| {
        for (v, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `by_chains` points to CHAINS numbers in both.
            unsafe {
                let halves = _mm256_loadu_si256(w.add(32 * v).cast());
                *sum = _mm512_fmadd_ps(_mm512_loadu_ps(a.add(16 * v)), _mm512_cvtph_ps(halves), *sum);
            }
        }
    });
    joined_avx512(sums)
}

/// SAFETY: `w` has two bytes for every number of `a`.
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
unsafe fn dot_f16_neon(a: &[f32], w: &[u8]) -> f32 {
    use std::arch::aarch64::{vdupq_n_f32, vfmaq_f32, vld1q_f32, vld1q_u8, vst1q_f32};

    // SAFETY: `by_chains` points to CHAINS numbers in both.
    unsafe {
        let mut sums = [vdupq_n_f32(0.0); CHAINS / 4];
        by_chains(a, w, |a, w| {
            for (v, sums) in sums.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let [low, high] = super::halves::eight(vld1q_u8(w.add(16 * v)));
                sums[0] = vfmaq_f32(sums[0], vld1q_f32(a.add(8 * v)), low);
                sums[1] = vfmaq_f32(sums[1], vld1q_f32(a.add(8 * v + 4)), high);
            }
        });
        let mut chains = [0.0; CHAINS];
        for (chains, sum) in chains.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
            vst1q_f32(chains.as_mut_ptr(), sum);
        }
        joined(&chains)
    }
}

/// Asks for as much as [`CHAINS`] numbers take, some way behind a place.
#[inline(always)]
fn ask_for<W>(place: *const u8) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..CHAINS * size_of::<W>()).step_by(64) {
        // SAFETY: a hint, which reads nothing.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(place.cast::<i8>().wrapping_add(super::halves::AHEAD + line));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Calls `add` with pointers to the next [`CHAINS`] numbers and halves: the last, fewer than there are chains, with zeros behind
/// them, which leave a chain as it is.
#[inline(always)]
fn by_chains(a: &[f32], w: &[u8], mut add: impl FnMut(*const f32, *const u8)) {
    for (a, w) in a.chunks_exact(CHAINS).zip(w.chunks_exact(2 * CHAINS)) {
        ask_for::<u16>(w.as_ptr());
        add(a.as_ptr(), w.as_ptr());
    }
    let whole = a.len() / CHAINS * CHAINS;
    if whole < a.len() {
        let (mut last, mut last_w) = ([0.0f32; CHAINS], [0u8; 2 * CHAINS]);
        last[..a.len() - whole].copy_from_slice(&a[whole..]);
        last_w[..w.len() - 2 * whole].copy_from_slice(&w[2 * whole..]);
        add(last.as_ptr(), last_w.as_ptr());
    }
}

/// Chains of a dot product: enough that the latency of one multiply-add is hidden on wide machines.
const CHAINS: usize = 64;

/// `sum_i a[t, i] * b[i]` for each of at most [`TOGETHER`] rows `a`.
fn dots(isa: Isa, a: &[f32], b: &[f32]) -> [f32; TOGETHER] {
    #[cfg(target_arch = "x86_64")]
    if isa == Isa::Avx512 && a.len() == TOGETHER * b.len() {
        // SAFETY: the processor has AVX-512; the rows are as long as was just compared.
        #[allow(unsafe_code)]
        return unsafe { dots_avx512(a, b) };
    }
    let mut sums = [0.0; TOGETHER];
    for (sum, a) in sums.iter_mut().zip(a.chunks_exact(b.len())) {
        *sum = dot(isa, a, b);
    }
    sums
}

/// All of them at once. SAFETY: `a` is [`TOGETHER`] times as long as `b`; the processor has AVX-512 F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
unsafe fn dots_avx512(a: &[f32], b: &[f32]) -> [f32; TOGETHER] {
    const VECTORS: usize = CHAINS / 16;
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; TOGETHER];
    let mut rows = [a.as_ptr(); TOGETHER];
    for t in 1..TOGETHER {
        rows[t] = rows[t - 1].wrapping_add(b.len());
    }
    for b in b.chunks_exact(CHAINS) {
        for v in 0..VECTORS {
            // SAFETY: as many numbers as a chunk has stand in every row.
            unsafe {
                let b = _mm512_loadu_ps(b.as_ptr().add(16 * v));
                for t in 0..TOGETHER {
                    sums[t][v] = _mm512_fmadd_ps(_mm512_loadu_ps(rows[t].add(16 * v)), b, sums[t][v]);
                }
            }
        }
        for row in &mut rows {
            *row = row.wrapping_add(CHAINS);
        }
    }
    let rest = b.chunks_exact(CHAINS).remainder();
    for v in 0..rest.len().div_ceil(16) {
        let mask = u16::MAX >> (16 - (rest.len() - 16 * v).min(16));
        // SAFETY: the mask has as many numbers as are left.
        unsafe {
            let b = _mm512_maskz_loadu_ps(mask, rest.as_ptr().add(16 * v));
            for t in 0..TOGETHER {
                let a = _mm512_maskz_loadu_ps(mask, rows[t].add(16 * v));
                sums[t][v] = _mm512_mask3_fmadd_ps(a, b, sums[t][v], mask);
            }
        }
    }
    let mut out = [0.0; TOGETHER];
    for t in 0..TOGETHER {
        out[t] = joined_avx512(sums[t]);
    }
    out
}

per_isa! {
    /// `sum_i a[i] * b[i]`.
    pub fn dot(a: &[f32], b: &[f32]) -> f32 {
        chained::<_, false>(a, b, |b| *b)
    }
}
