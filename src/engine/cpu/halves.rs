//! IEEE half precision by the processor's own conversions, where it has them: exact, the bits of the format's decoder.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// How many bytes before they are needed halves are asked for: the processor by itself stops at the end of every page.
#[cfg(target_arch = "x86_64")]
pub const AHEAD: usize = 4096;

/// Fills `out` with the halves that stand in twice as many bytes as it has numbers. False, and nothing is filled, where the
/// processor has no conversions.
pub fn widen(bytes: &[u8], out: &mut [f32]) -> bool {
    assert!(bytes.len() == 2 * out.len());
    #[cfg(target_arch = "x86_64")]
    {
        let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c");
        if has {
            // SAFETY: as just checked, both.
            unsafe { widen_f16c(bytes, out) };
        }
        has
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: the lengths are checked above; every processor of this kind has the conversions.
        unsafe { widen_neon(bytes, out) };
        true
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// Eight numbers at a time; the last, fewer than that, with zeros behind them. SAFETY: two bytes a number; AVX2 and F16C.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
unsafe fn widen_f16c(bytes: &[u8], out: &mut [f32]) {
    // SAFETY: eight halves are in sixteen bytes.
    let eight = |bytes: *const u8| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(bytes.cast())) };
    let mut parts = out.chunks_exact_mut(8);
    for (out, bytes) in parts.by_ref().zip(bytes.as_chunks::<16>().0) {
        // SAFETY: eight numbers; a hint reads nothing.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(bytes.as_ptr().cast::<i8>().wrapping_add(AHEAD));
            _mm256_storeu_ps(out.as_mut_ptr(), eight(bytes.as_ptr()));
        }
    }
    let rest = parts.into_remainder();
    let (mut last, mut numbers) = ([0u8; 16], [0.0f32; 8]);
    last[..2 * rest.len()].copy_from_slice(&bytes[bytes.len() - 2 * rest.len()..]);
    // SAFETY: eight numbers.
    unsafe { _mm256_storeu_ps(numbers.as_mut_ptr(), eight(last.as_ptr())) };
    rest.copy_from_slice(&numbers[..rest.len()]);
}

/// The same for 64-bit Arm. SAFETY: two bytes a number.
#[cfg(target_arch = "aarch64")]
unsafe fn widen_neon(bytes: &[u8], out: &mut [f32]) {
    use std::arch::aarch64::{vld1q_u8, vst1q_f32};

    let mut parts = out.chunks_exact_mut(8);
    for (out, bytes) in parts.by_ref().zip(bytes.as_chunks::<16>().0) {
        // SAFETY: eight numbers, and eight halves in sixteen bytes.
        unsafe {
            let [low, high] = eight(vld1q_u8(bytes.as_ptr()));
            vst1q_f32(out.as_mut_ptr(), low);
            vst1q_f32(out.as_mut_ptr().add(4), high);
        }
    }
    let rest = parts.into_remainder();
    let (mut last, mut numbers) = ([0u8; 16], [0.0f32; 8]);
    last[..2 * rest.len()].copy_from_slice(&bytes[bytes.len() - 2 * rest.len()..]);
    // SAFETY: as above.
    unsafe {
        let [low, high] = eight(vld1q_u8(last.as_ptr()));
        vst1q_f32(numbers.as_mut_ptr(), low);
        vst1q_f32(numbers.as_mut_ptr().add(4), high);
    }
    rest.copy_from_slice(&numbers[..rest.len()]);
}

/// Eight halves as numbers. In assembly, because the standard library's halves are not stable. SAFETY: NEON.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub unsafe fn eight(halves: std::arch::aarch64::uint8x16_t) -> [std::arch::aarch64::float32x4_t; 2] {
    let (low, high): (std::arch::aarch64::float32x4_t, std::arch::aarch64::float32x4_t);
    // SAFETY: registers alone.
    unsafe {
        std::arch::asm!(
            "fcvtl {low:v}.4s, {halves:v}.4h",
            "fcvtl2 {high:v}.4s, {halves:v}.8h",
            low = out(vreg) low,
            high = lateout(vreg) high,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    [low, high]
}

#[cfg(test)]
mod tests {
    use bitworth_quant::DType;

    use super::*;

    #[test]
    fn every_half_is_what_the_format_says() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for count in [bytes.len() / 2, 13, 8, 1, 0] {
            let (mut out, mut expected) = (vec![0.0; count], vec![0.0; count]);
            DType::F16.decode_row(&bytes[..2 * count], &mut expected);
            if widen(&bytes[..2 * count], &mut out) {
                assert!(out.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{count}");
            }
        }
    }
}
