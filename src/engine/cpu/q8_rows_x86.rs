//! Integer products of a row of weights with a row of activations for x86-64, by group: AVX2, and VNNI. What `q8_rows.rs` calls.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]

use std::arch::x86_64::*;

use super::packed::BLOCK;

/// Blocks whose sums are brought together at once.
const TOGETHER: usize = 8;
/// Columns of those.
pub const STEP: usize = TOGETHER * BLOCK;

/// SAFETY: `codes` and `x` have as many numbers, a multiple of [`STEP`]; `signs` has an eighth or none, `dots` one for each
/// group of `G`, which is 16 or 32; the processor has AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn avx2<const G: usize>(codes: &[i8], signs: &[u8], x: &[i8], dots: &mut [i32]) {
    let ones = _mm256_set1_epi16(1);
    // Which byte of the signs, and which bit of it, a code has.
    let byte = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    for (step, dots) in dots.chunks_exact_mut(STEP / G).enumerate() {
        let mut sums = [_mm256_setzero_si256(); TOGETHER];
        for (j, sum) in sums.iter_mut().enumerate() {
            let at = step * STEP + j * BLOCK;
            let codes = _mm256_loadu_si256(codes.as_ptr().add(at).cast());
            let x = _mm256_loadu_si256(x.as_ptr().add(at).cast());
            let (levels, x) = if signs.is_empty() {
                (_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
            } else {
                let signs = signs.as_ptr().add(at / 8).cast::<i32>().read_unaligned();
                let signs = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(signs), byte), bit);
                let minus = _mm256_cmpeq_epi8(signs, bit);
                (codes, _mm256_sub_epi8(_mm256_xor_si256(x, minus), minus))
            };
            // Two products fit into 16 bits: 2 * 128 * 127 = 32512.
            *sum = _mm256_madd_epi16(_mm256_maddubs_epi16(levels, x), ones);
        }
        store::<G>(sums, dots);
    }
}

/// SAFETY: as [`avx2`], and the processor has AVX-512 BW, VL and VNNI.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn avx512_vnni<const G: usize>(codes: &[i8], signs: &[u8], x: &[i8], dots: &mut [i32]) {
    let zero = _mm256_setzero_si256();
    for (step, dots) in dots.chunks_exact_mut(STEP / G).enumerate() {
        let mut sums = [zero; TOGETHER];
        for (j, sum) in sums.iter_mut().enumerate() {
            let at = step * STEP + j * BLOCK;
            let codes = _mm256_loadu_si256(codes.as_ptr().add(at).cast());
            let x = _mm256_loadu_si256(x.as_ptr().add(at).cast());
            let (levels, x) = if signs.is_empty() {
                (_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
            } else {
                let minus = signs.as_ptr().add(at / 8).cast::<u32>().read_unaligned();
                (codes, _mm256_mask_sub_epi8(x, minus, zero, x))
            };
            *sum = _mm256_dpbusd_epi32(zero, levels, x);
        }
        store::<G>(sums, dots);
    }
}

/// The sum of each group, from a vector for each block.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store<const G: usize>(sums: [__m256i; TOGETHER], dots: &mut [i32]) {
    let (first, second) = (halves(sums[0], sums[1], sums[2], sums[3]), halves(sums[4], sums[5], sums[6], sums[7]));
    let out = dots.as_mut_ptr();
    if G == BLOCK {
        let lower = _mm256_permute2x128_si256::<0x20>(first, second);
        let upper = _mm256_permute2x128_si256::<0x31>(first, second);
        _mm256_storeu_si256(out.cast(), _mm256_add_epi32(lower, upper));
        return;
    }
    store_halves(first, out);
    store_halves(second, out.add(8));
}

/// The sums of the halves of four blocks: the lower halves in the lower 128 bits.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn halves(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d))
}

/// The same in the order of blocks. SAFETY: `out` has room for eight.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_halves(halves: __m256i, out: *mut i32) {
    let (lower, upper) = (_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
    _mm_storeu_si128(out.cast(), _mm_unpacklo_epi32(lower, upper));
    _mm_storeu_si128(out.add(4).cast(), _mm_unpackhi_epi32(lower, upper));
}
