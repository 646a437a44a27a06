//! What IQ4_NL and IQ4_XS share: the sixteen unevenly spaced values of a 4-bit code, the search for a scale to them, and two
//! codes in a byte. Blocks and their scales are left to the formats.

use super::nibbles::{look_up, nibbles};
use super::search::{Groups, ZERO_GROUP, largest, scale_importance, transpose};
use super::simd::{Array8, Codebook, F32x8, SIMD_WIDTH};

/// `kvalues_iq4nl` of llama.cpp's `ggml/src/ggml-common.h`.
pub(super) const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const BOOK: Codebook = Codebook::new(&VALUES);

/// The scales of eight groups that minimize the squared error weighted by `importance * sqrt(sigma2 + x^2)`, without
/// importance by `x^2`: least squares at each of 16 roundings (`quantize_row_iq4_nl_impl` with 7 tries to either side). A group
/// of zeros has scale 0.
#[inline(always)]
pub(super) fn scales<V: F32x8>(x: &Groups<32>, importance: Option<&[[f32; 32]]>, sigma2: V) -> Array8 {
    let zero = V::splat(0.0);
    let w = match importance {
        Some(importance) => {
            let mut w = transpose(importance);
            scale_importance::<V, 32>(x, &mut w, sigma2);
            w
        }
        None => x.map(|x| x.map(|x| x * x)),
    };
    let (amax, max) = largest(x);
    // Once with the largest magnitude at the far end of the longer side, whatever its sign, then with signs turned.
    let inverse = V::splat(1.0) / (max / V::splat(127.0));
    let (sum_qx, sum_q2) = sums(x, &w, inverse);
    let mut scale = V::select(zero.lt(sum_q2), sum_qx / sum_q2, zero);
    let mut best = scale * sum_qx;
    for step in -7..=7 {
        let inverse = V::splat((step - 127) as f32) / max;
        let (sum_qx, sum_q2) = sums(x, &w, inverse);
        let better = V::and(zero.lt(sum_q2), (best * sum_q2).lt(sum_qx * sum_qx));
        let new_scale = sum_qx / sum_q2;
        scale = V::select(better, new_scale, scale);
        best = V::select(better, new_scale * sum_qx, best);
    }
    V::select(amax.lt(V::splat(ZERO_GROUP)), zero, scale).store()
}

/// `sum w value x` and `sum w value^2` with the values nearest to `inverse * x`.
#[inline(always)]
fn sums<V: F32x8>(x: &Groups<32>, w: &Groups<32>, inverse: V) -> (V, V) {
    let (mut sum_qx, mut sum_q2) = (V::splat(0.0), V::splat(0.0));
    for (x, w) in x.iter().zip(w) {
        let (x, w) = (V::load(x), V::load(w));
        let q = (inverse * x).nearest_in(&BOOK).0;
        sum_qx = sum_qx + w * q * x;
        sum_q2 = sum_q2 + w * q * q;
    }
    (sum_qx, sum_q2)
}

/// Each group's codes at its scale, packed: byte `i` is `hhhhllll`, l the code of weight `i`, h that of weight `i + 16`.
#[inline(always)]
pub(super) fn codes<V: F32x8>(x: &Groups<32>, scales: &Array8) -> [[u8; 16]; SIMD_WIDTH] {
    let inverse = V::load(&scales.map(|scale| if scale == 0.0 { 0.0 } else { 1.0 / scale }));
    let mut pairs = [[0.0; SIMD_WIDTH]; 16];
    for i in 0..16 {
        let low = (inverse * V::load(&x[i])).nearest_in(&BOOK).1;
        let high = (inverse * V::load(&x[i + 16])).nearest_in(&BOOK).1;
        pairs[i] = (low + V::splat(16.0) * high).store();
    }
    let mut packed = [[0; 16]; SIMD_WIDTH];
    for i in 0..16 {
        for l in 0..SIMD_WIDTH {
            packed[l][i] = pairs[i][l] as u8;
        }
    }
    packed
}

/// The values of packed codes times `scale`.
#[inline(always)]
pub(super) fn decode(qs: &[u8; 16], scale: f32, out: &mut [f32; 32]) {
    for (out, value) in out.iter_mut().zip(look_up::<32>(&VALUES, &nibbles(qs))) {
        *out = scale * f32::from(value);
    }
}
