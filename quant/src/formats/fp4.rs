//! What MXFP4 and NVFP4 share: the 4-bit floats E2M1 (sign, two bits of exponent, one of mantissa; OCP Microscaling Formats
//! Specification 1.0), what their 8-bit scales stand for, and the search for the nearest. As in ggml the values are doubled,
//! which makes them integers, and the formats' scales are halved for it.

use super::DType;
use super::simd::{F32x8, SIMD_WIDTH};

/// The doubled values (`kvalues_mxfp4` of llama.cpp's `ggml/src/ggml-common.h`). Zero has no sign.
pub(crate) const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of what a stored scale of one of the two formats stands for.
pub(crate) fn half_scale(dtype: DType, scale: u8) -> f32 {
    if dtype == DType::MXFP4 { half_of_e8m0(scale) } else { half_of_ue4m3(scale & 0x7f) }
}

/// `2^(e - 128)`, which is half of what the specification's E8M0 stands for.
#[inline(always)]
pub(super) fn half_of_e8m0(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x20_0000 << e } else { u32::from(e - 1) << 23 })
}

/// Half of what a UE4M3 stands for; 0x7f, its NaN, counts as 0, and the upper bit does not count.
#[inline(always)]
pub(super) fn half_of_ue4m3(d: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(d >> 3 & 15), u32::from(d & 7));
    let normal = f32::from_bits((exponent + 119) << 23 | mantissa << 20);
    let subnormal = mantissa as f32 / 1024.0;
    match d {
        0x7f => 0.0,
        _ if exponent == 0 => subnormal,
        _ => normal,
    }
}

/// The codes whose values times `scale` are nearest to `x` (a multiple of eight numbers), the smaller magnitude of two equally
/// near. The distances are rounded as in ggml's `best_index_mxfp4`: far beyond the largest value many are equal.
#[inline(always)]
pub(super) fn nearest<V: F32x8>(x: &[f32], scale: f32, codes: &mut [u8]) {
    for (x, codes) in x.as_chunks::<SIMD_WIDTH>().0.iter().zip(codes.as_chunks_mut::<SIMD_WIDTH>().0) {
        let magnitude = V::load(x).abs();
        let (mut code, mut best) = (V::splat(0.0), magnitude);
        for candidate in 1..8u8 {
            let error = (V::splat(f32::from(VALUES[usize::from(candidate)]) * scale) - magnitude).abs();
            code = V::select(error.lt(best), V::splat(f32::from(candidate)), code);
            best = error.min(best);
        }
        let sign = V::select(V::load(x).lt(V::splat(0.0)), V::splat(8.0), V::splat(0.0));
        let sign = V::select(code.eq(V::splat(0.0)), V::splat(0.0), sign);
        let signed = (code + sign).store();
        for l in 0..SIMD_WIDTH {
            codes[l] = signed[l] as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::Plain;
    use super::*;

    #[test]
    fn values_are_those_of_the_specification() {
        for code in 0u8..16 {
            // Bias 1; exponent 0 is subnormal.
            let (exponent, mantissa) = (code >> 1 & 3, f32::from(code & 1));
            let magnitude =
                if exponent == 0 { mantissa / 2.0 } else { (1.0 + mantissa / 2.0) * f32::from(1u8 << exponent) / 2.0 };
            let expected = if code & 8 == 0 { 2.0 * magnitude } else { -2.0 * magnitude };
            assert_eq!(f32::from(VALUES[usize::from(code)]), expected);
        }
    }

    #[test]
    fn the_nan_of_an_8_bit_float_counts_as_0() {
        assert_eq!((half_of_ue4m3(0x7e), half_of_ue4m3(0x7f)), (224.0, 0.0));
    }

    #[test]
    fn the_smaller_magnitude_wins_where_distances_are_equal_after_rounding() {
        let x = [0.25, -0.25, -0.26, 5.0, 0.75, -1e30, f32::NAN, -6.1];
        let mut codes = [0xee; 8];
        nearest::<Plain>(&x, 0.5, &mut codes);
        assert_eq!(codes, [0, 0, 9, 6, 1, 0, 0, 15]);
    }
}
