//! ggml's searches for the scale (and minimum) of a group of weights that lose least, shared by the block formats.
//!
//! Eight groups are searched side by side, one in each lane of a vector, so that each still adds up in ggml's order; hence
//! the transposed arrays. The algorithms are those of `make_qx_quants`, `make_qkx2_quants`,
//! `make_qkx3_quants` and `make_qp_quants` in llama.cpp's `ggml/src/ggml-quants.c` (b11434); each expression keeps its
//! order of operations, because the bytes must be the same. Packing codes into bytes is left to the formats.

use super::simd::{Array8, F32x8, SIMD_WIDTH, nearest_int};

/// Number `i` of each of eight groups in row `i`.
pub(super) type Groups<const N: usize> = [Array8; N];

/// A group whose largest magnitude is smaller counts as all zeros (`GROUP_MAX_EPS`).
pub(super) const ZERO_GROUP: f32 = 1e-15;

/// Up to eight groups, transposed; absent ones are zeros.
#[inline(always)]
pub(super) fn transpose<const N: usize>(groups: &[[f32; N]]) -> Groups<N> {
    let mut out = [[0.0; SIMD_WIDTH]; N];
    for (lane, group) in groups.iter().enumerate().take(SIMD_WIDTH) {
        for (row, &x) in out.iter_mut().zip(group) {
            row[lane] = x;
        }
    }
    out
}

/// The codes of each of eight groups.
#[inline(always)]
pub(super) fn by_group<const N: usize>(codes: &Groups<N>) -> [[u8; N]; SIMD_WIDTH] {
    let mut out = [[0; N]; SIMD_WIDTH];
    for (i, lanes) in codes.iter().enumerate() {
        for (group, &code) in out.iter_mut().zip(lanes) {
            group[i] = code as u8;
        }
    }
    out
}

/// The reciprocal of `d` for multiplying weights with, 0 for 0. Where it overflows it is NaN, which makes every code 0, as
/// x86 builds of ggml do where C leaves the conversion undefined.
#[inline(always)]
pub(super) fn reciprocal(d: f32) -> f32 {
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    if inverse.is_infinite() { f32::NAN } else { inverse }
}

/// The largest of eight numbers, none of them NaN.
#[inline(always)]
fn largest_of(x: Array8) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let four: [f32; 4] = std::array::from_fn(|l| larger(x[l], x[l + 4]));
    larger(larger(four[0], four[2]), larger(four[1], four[3]))
}

/// The largest magnitude. NaN is passed over.
#[inline(always)]
pub(super) fn largest_magnitude<V: F32x8, const N: usize>(x: &[f32; N]) -> f32 {
    const { assert!(N.is_multiple_of(SIMD_WIDTH)) };
    let mut amax = V::splat(0.0);
    for x in x.as_chunks::<SIMD_WIDTH>().0 {
        amax = V::load(x).abs().max(amax);
    }
    largest_of(amax.store())
}

/// The number of largest magnitude, the first one among equals; 0 if all are zeros. NaN is passed over.
#[inline(always)]
pub(super) fn signed_max<V: F32x8, const N: usize>(x: &[f32; N]) -> f32 {
    const { assert!(N.is_multiple_of(SIMD_WIDTH)) };
    let (mut high, mut low) = (V::splat(0.0), V::splat(0.0));
    for x in x.as_chunks::<SIMD_WIDTH>().0 {
        let x = V::load(x);
        high = x.max(high);
        low = x.min(low);
    }
    let (high, low) = (largest_of(high.store()), -largest_of((V::splat(-0.0) - low).store()));
    if high > -low {
        high
    } else if -low > high {
        low
    } else if high == 0.0 {
        0.0
    } else {
        x.iter().copied().find(|x| x.abs() == high).unwrap_or(0.0)
    }
}

/// `inverse x + offset` without its fraction, at most `top`, as codes of 32 numbers; 0 for NaN.
#[inline(always)]
pub(super) fn truncated_codes<V: F32x8>(x: &[f32; 32], inverse: f32, offset: f32, top: f32) -> [u8; 32] {
    let mut parts = [V::splat(0.0); 4];
    for (part, x) in parts.iter_mut().zip(x.as_chunks::<SIMD_WIDTH>().0) {
        // In this order NaN stays NaN.
        *part = V::splat(top).min(V::load(x) * V::splat(inverse) + V::splat(offset));
    }
    V::bytes(parts)
}

/// The largest magnitude of each group, and the first number that has it; NaN is passed over.
#[inline(always)]
pub(super) fn largest<V: F32x8, const N: usize>(x: &Groups<N>) -> (V, V) {
    let (mut amax, mut max) = (V::splat(0.0), V::splat(0.0));
    for x in x {
        let x = V::load(x);
        let larger = amax.lt(x.abs());
        amax = V::select(larger, x.abs(), amax);
        max = V::select(larger, x, max);
    }
    (amax, max)
}

/// Scales for codes `-levels..levels` that minimize the weighted squared error (`make_qx_quants` with `rmse_type` 1 and
/// explicit weights): least squares at each of 19 roundings. Codes come back shifted up by `levels`; a group of zeros has
/// scale 0 and codes 0.
#[inline(always)]
pub(super) fn symmetric<V: F32x8, const N: usize>(x: &Groups<N>, w: &Groups<N>, levels: i32, codes: &mut Groups<N>) -> Array8 {
    let zero = V::splat(0.0);
    let (amax, max) = largest(x);
    let mut wx = [[0.0; SIMD_WIDTH]; N];
    for i in 0..N {
        wx[i] = (V::load(&w[i]) * V::load(&x[i])).store();
    }

    let mut best_inverse = V::splat(-levels as f32) / max;
    let (sum_lx, sum_l2) = symmetric_sums(x, w, &wx, best_inverse, levels);
    let mut scale = V::select(sum_l2.eq(zero), zero, sum_lx / sum_l2);
    let mut best = scale * sum_lx;
    for step in -9..=9 {
        if step == 0 {
            continue;
        }
        let inverse = V::splat(-(levels as f32 + 0.1 * step as f32)) / max;
        let (sum_lx, sum_l2) = symmetric_sums(x, w, &wx, inverse, levels);
        let better = V::and(zero.lt(sum_l2), (best * sum_l2).lt(sum_lx * sum_lx));
        let new_scale = sum_lx / sum_l2;
        scale = V::select(better, new_scale, scale);
        best = V::select(better, new_scale * sum_lx, best);
        best_inverse = V::select(better, inverse, best_inverse);
    }

    let all_zero = amax.lt(V::splat(ZERO_GROUP));
    for i in 0..N {
        let q = symmetric_code(V::load(&x[i]), best_inverse, levels) + V::splat(levels as f32);
        codes[i] = V::select(all_zero, zero, q).store();
    }
    V::select(all_zero, zero, scale).store()
}

#[inline(always)]
fn symmetric_code<V: F32x8>(x: V, inverse: V, levels: i32) -> V {
    (inverse * x).nearest_int(-levels, levels - 1)
}

/// `sum w x code` and `sum w code^2`, `wx` being `w * x`.
#[inline(always)]
fn symmetric_sums<V: F32x8, const N: usize>(x: &Groups<N>, w: &Groups<N>, wx: &Groups<N>, inverse: V, levels: i32) -> (V, V) {
    let (mut sum_lx, mut sum_l2) = (V::splat(0.0), V::splat(0.0));
    for i in 0..N {
        let q = symmetric_code(V::load(&x[i]), inverse, levels);
        sum_lx = sum_lx + V::load(&wx[i]) * q;
        sum_l2 = sum_l2 + V::load(&w[i]) * q * q;
    }
    (sum_lx, sum_l2)
}

/// How [`affine`] searches.
pub(super) struct AffineSearch {
    /// Largest code.
    pub max_code: i32,
    /// The first rounding divides the range into `max_code + first` steps.
    pub first: f32,
    /// How many steps more the next rounding divides it into.
    pub delta: f32,
    /// Number of roundings tried.
    pub count: i32,
    /// Clamp before rounding (`make_qkx3_quants`) and not only after it (`make_qkx2_quants`).
    pub clamp_first: bool,
    /// What makes a rounding the best.
    pub loss: Loss,
}

/// The function of the errors whose weighted sum is minimized.
#[derive(Clone, Copy)]
pub(super) enum Loss {
    /// Their squares.
    Squared,
    /// Their magnitudes (ggml's `use_mad`).
    Absolute,
}

/// What [`affine`] found: weight = `scale * code - min`.
pub(super) struct Affine {
    pub scale: Array8,
    pub min: Array8,
}

/// Scales and (non-negative) minimums for codes `0..=max_code` that lose least: least squares at each of several roundings
/// (`make_qkx2_quants` and `make_qkx3_quants`).
#[inline(always)]
pub(super) fn affine<V: F32x8, const N: usize>(
    x: &Groups<N>,
    w: &Groups<N>,
    search: &AffineSearch,
    codes: &mut Groups<N>,
) -> Affine {
    let zero = V::splat(0.0);
    let (mut lowest, mut max, mut sum_w) = (V::load(&x[0]), V::load(&x[0]), V::load(&w[0]));
    let mut sum_x = sum_w * max;
    for i in 1..N {
        let (x, w) = (V::load(&x[i]), V::load(&w[i]));
        lowest = x.min(lowest);
        max = x.max(max);
        sum_w = sum_w + w;
        sum_x = sum_x + w * x;
    }
    let lowest = zero.min(lowest);
    let constant = max.eq(lowest);

    let top = V::splat(search.max_code as f32);
    let inverse = top / (max - lowest);
    let mut min = lowest;
    let mut scale = V::splat(1.0) / inverse;
    for i in 0..N {
        codes[i] = (inverse * (V::load(&x[i]) - min)).nearest_int(0, search.max_code).store();
    }
    let mut best_error = affine_error(x, w, codes, scale, min, search.loss);

    let mut trial = [[0.0; SIMD_WIDTH]; N];
    for step in 0..search.count {
        let steps = search.first + search.delta * step as f32 + search.max_code as f32;
        let inverse = V::splat(steps) / (max - min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
        for i in 0..N {
            let (x, w) = (V::load(&x[i]), V::load(&w[i]));
            let v = inverse * (x - min);
            let q = match search.clamp_first {
                // The fit may reach the largest number; `inverse` is infinite then, and NaN must become 0.
                true => v.max(zero).min(top).round(),
                false => v.nearest_int(0, search.max_code),
            };
            trial[i] = q.store();
            let wq = w * q;
            sum_l = sum_l + wq;
            sum_l2 = sum_l2 + wq * q;
            sum_xl = sum_xl + wq * x;
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        let new_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        let through_zero = zero.lt(new_min);
        let new_scale = V::select(through_zero, sum_xl / sum_l2, (sum_w * sum_xl - sum_x * sum_l) / determinant);
        let new_min = V::select(through_zero, zero, new_min);
        let error = affine_error(x, w, &trial, new_scale, new_min, search.loss);
        let better = V::and(zero.lt(determinant), error.lt(best_error));
        if V::any(better) {
            for i in 0..N {
                codes[i] = V::select(better, V::load(&trial[i]), V::load(&codes[i])).store();
            }
            best_error = V::select(better, error, best_error);
            scale = V::select(better, new_scale, scale);
            min = V::select(better, new_min, min);
        }
    }

    for codes in codes {
        *codes = V::select(constant, zero, V::load(codes)).store();
    }
    let min = V::select(constant, lowest, min);
    Affine { scale: V::select(constant, zero, scale).store(), min: (V::splat(-0.0) - min).store() }
}

/// `sum w loss(scale code + min - x)`.
#[inline(always)]
fn affine_error<V: F32x8, const N: usize>(x: &Groups<N>, w: &Groups<N>, codes: &Groups<N>, scale: V, min: V, loss: Loss) -> V {
    let mut error = V::splat(0.0);
    for i in 0..N {
        let diff = scale * V::load(&codes[i]) + min - V::load(&x[i]);
        let loss = match loss {
            Loss::Squared => diff * diff,
            Loss::Absolute => diff.abs(),
        };
        error = error + V::load(&w[i]) * loss;
    }
    error
}

/// A few non-negative numbers (the scales of sub-blocks) in steps of `top` to the largest: the step and the codes.
#[inline(always)]
pub(super) fn in_steps<const N: usize>(x: &[f32; N], top: f32) -> (f32, [u8; N]) {
    let max = x.iter().fold(0.0, |max, &x| if x > max { x } else { max });
    let inverse = if max > 0.0 { top / max } else { 0.0 };
    (max / top, x.map(|x| nearest_int(inverse * x) as u8))
}

/// One scale for a few non-negative numbers (the scales of sub-blocks) with codes `0..=max_code`, minimizing the weighted
/// squared error (`make_qp_quants`): nine roundings, then single codes are moved while that helps.
#[inline(always)]
pub(super) fn positive<const N: usize>(x: &[f32; N], w: &[f32; N], max_code: u8, codes: &mut [u8; N]) -> f32 {
    let top = f32::from(max_code);
    let max = x.iter().fold(0.0, |max, &x| if max > x { max } else { x });
    if max < ZERO_GROUP {
        *codes = [0; N];
        return 0.0;
    }
    let code = |x: f32| nearest_int(x).min(i32::from(max_code));
    let mut inverse = top / max;
    // ggml keeps the first codes in bytes, unclamped.
    let mut best = positive_error(x, w, inverse, |x| i32::from(nearest_int(x) as u8));
    for step in (-4..=4).filter(|&step| step != 0) {
        let trial = (0.1 * step as f32 + top) / max;
        let error = positive_error(x, w, trial, code);
        if error < best {
            (best, inverse) = (error, trial);
        }
    }

    let (mut sum_lx, mut sum_l2) = (0.0, 0.0);
    for i in 0..N {
        let q = code(inverse * x[i]);
        codes[i] = q as u8;
        sum_lx += w[i] * x[i] * q as f32;
        sum_l2 += w[i] * q as f32 * q as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for i in 0..N {
            let old = f32::from(codes[i]);
            let mut lx = sum_lx - w[i] * x[i] * old;
            let mut l2 = sum_l2 - w[i] * old * old;
            if !(lx > 0.0 && l2 > 0.0) {
                continue;
            }
            let q = code(x[i] * l2 / lx);
            if q == i32::from(codes[i]) {
                continue;
            }
            lx += w[i] * x[i] * q as f32;
            l2 += w[i] * q as f32 * q as f32;
            if lx * lx * sum_l2 > sum_lx * sum_lx * l2 {
                (codes[i], sum_lx, sum_l2) = (q as u8, lx, l2);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    if sum_l2 > 0.0 { sum_lx / sum_l2 } else { 0.0 }
}

/// `sum w (x - scale code(inverse x))^2`.
#[inline(always)]
fn positive_error<const N: usize>(x: &[f32; N], w: &[f32; N], inverse: f32, code: impl Fn(f32) -> i32) -> f32 {
    let scale = 1.0 / inverse;
    let mut sum = 0.0;
    for i in 0..N {
        let diff = x[i] - scale * code(inverse * x[i]) as f32;
        sum += w[i] * diff * diff;
    }
    sum
}

/// The mean square of a row times `factor`, added up in order.
#[inline(always)]
pub(super) fn mean_square(x: &[f32], factor: f32) -> f32 {
    factor * x.iter().fold(0.0, |sum, x| sum + x * x) / x.len() as f32
}

/// Encodes a row of 32-weight blocks by [`symmetric`] with weights `importance * sqrt(mean square of the row + x^2)`, as
/// ggml does for its oldest types; `pack` gets each block, its scale and its codes `0..2 * levels`.
#[inline(always)]
pub(super) fn symmetric_row<V: F32x8, B>(
    x: &[f32],
    importance: &[f32],
    levels: i32,
    blocks: &mut [B],
    pack: impl Fn(&mut B, f32, &[u8; 32]),
) {
    let sigma2 = mean_square(x, 1.0);
    let (x, importance) = (x.as_chunks::<32>().0, importance.as_chunks::<32>().0);
    for ((x, importance), blocks) in x.chunks(SIMD_WIDTH).zip(importance.chunks(SIMD_WIDTH)).zip(blocks.chunks_mut(SIMD_WIDTH)) {
        let (x, mut w) = (transpose(x), transpose(importance));
        scale_importance::<V, 32>(&x, &mut w, V::splat(sigma2));
        let mut codes = [[0.0; SIMD_WIDTH]; 32];
        let scales = symmetric::<V, 32>(&x, &w, levels, &mut codes);
        for ((block, scale), codes) in blocks.iter_mut().zip(scales).zip(by_group(&codes)) {
            pack(block, scale, &codes);
        }
    }
}

/// Encodes a row of 32-weight blocks with scale and offset: without importance the range of each block in steps
/// (`quantize_row_q4_1_ref`, `_q5_1_ref`), with it by [`affine`] with weights
/// `importance * sqrt(mean square of the row + x^2)`. `pack` makes a block of scale, offset and codes.
#[inline(always)]
pub(super) fn affine_row<V: F32x8, B>(
    x: &[f32],
    importance: Option<&[f32]>,
    weighted: &AffineSearch,
    blocks: &mut [B],
    pack: impl Fn(f32, f32, &[u8; 32]) -> B,
) {
    let x_blocks = x.as_chunks::<32>().0;
    let Some(importance) = importance else {
        for (x, block) in x_blocks.iter().zip(blocks) {
            let (min, max) = range::<V>(x);
            let d = (max - min) / weighted.max_code as f32;
            let inverse = reciprocal(d);
            let (mut parts, top) = ([V::splat(0.0); 4], V::splat(weighted.max_code as f32));
            for (part, x) in parts.iter_mut().zip(x.as_chunks::<SIMD_WIDTH>().0) {
                let code = (V::load(x) - V::splat(min)) * V::splat(inverse) + V::splat(0.5);
                *part = top.min(code.max(V::splat(0.0)));
            }
            *block = pack(d, min, &V::bytes(parts));
        }
        return;
    };
    let sigma2 = V::splat(mean_square(x, 1.0));
    let importance = importance.as_chunks::<32>().0;
    for ((x, importance), blocks) in
        x_blocks.chunks(SIMD_WIDTH).zip(importance.chunks(SIMD_WIDTH)).zip(blocks.chunks_mut(SIMD_WIDTH))
    {
        let (x, mut w) = (transpose(x), transpose(importance));
        scale_importance::<V, 32>(&x, &mut w, sigma2);
        let mut codes = [[0.0; SIMD_WIDTH]; 32];
        let found = affine::<V, 32>(&x, &w, weighted, &mut codes);
        for (l, (block, codes)) in blocks.iter_mut().zip(by_group(&codes)).enumerate() {
            *block = pack(found.scale[l], -found.min[l], &codes);
        }
    }
}

/// Smallest and largest number, NaN passed over; of zeros the first, whose sign a block's offset keeps.
#[inline(always)]
fn range<V: F32x8>(x: &[f32; 32]) -> (f32, f32) {
    let (mut min, mut max) = (V::splat(f32::MAX), V::splat(f32::MIN));
    for x in x.as_chunks::<SIMD_WIDTH>().0 {
        let x = V::load(x);
        min = x.min(min);
        max = x.max(max);
    }
    let min = min.store().into_iter().fold(f32::MAX, |min, x| if x < min { x } else { min });
    let max = max.store().into_iter().fold(f32::MIN, |max, x| if x > max { x } else { max });
    let first_of = |number: f32| if number == 0.0 { x.iter().copied().find(|&x| x == 0.0).unwrap_or(number) } else { number };
    (first_of(min), first_of(max))
}

/// ggml's weights of the squared errors: `importance * sqrt(sigma2 + x^2)`, in place of the importance.
#[inline(always)]
pub(super) fn scale_importance<V: F32x8, const N: usize>(x: &Groups<N>, w: &mut Groups<N>, sigma2: V) {
    for i in 0..N {
        let x = V::load(&x[i]);
        w[i] = (V::load(&w[i]) * (sigma2 + x * x).sqrt()).store();
    }
}

/// The sum of each group, added up in order.
#[inline(always)]
pub(super) fn sum<V: F32x8, const N: usize>(x: &Groups<N>) -> Array8 {
    x.iter().fold(V::splat(0.0), |sum, x| sum + V::load(x)).store()
}

#[cfg(test)]
mod tests {
    use super::super::simd::Plain;
    use super::*;

    #[test]
    fn the_signed_maximum_is_the_first_among_equals() {
        let check = |x: [f32; 4], expected: f32| {
            let x: [f32; 8] = std::array::from_fn(|i| x[i % 4]);
            assert_eq!(signed_max::<Plain, 8>(&x).to_bits(), expected.to_bits(), "{x:?}");
        };
        check([1.0, -2.0, 2.0, 0.5], -2.0);
        check([0.0, -0.0, 0.0, 0.0], 0.0);
        check([-0.0; 4], 0.0);
        check([f32::NAN, 1.0, -3.0, f32::NAN], -3.0);
        check([1.0, f32::NEG_INFINITY, 0.0, 0.0], f32::NEG_INFINITY);
    }

    #[test]
    fn numbers_on_a_grid_are_met_exactly() {
        let codes_in: [i32; 16] = std::array::from_fn(|i| (i as i32 * 7) % 16 - 8);
        let x = transpose(&[codes_in.map(|q| q as f32 * 0.25)]);
        let mut codes = [[0.0; SIMD_WIDTH]; 16];
        let scale = symmetric::<Plain, 16>(&x, &[[1.0; SIMD_WIDTH]; 16], 8, &mut codes);
        assert_eq!(scale[0], 0.25);
        assert_eq!(std::array::from_fn(|i| codes[i][0] as i32 - 8), codes_in);
        assert_eq!((scale[1], codes[3][1]), (0.0, 0.0), "an absent group is zeros");

        let x = transpose(&[codes_in.map(|q| (q + 8) as f32 * 0.25 - 1.0)]);
        let search = AffineSearch { max_code: 15, first: -1.0, delta: 0.1, count: 21, clamp_first: false, loss: Loss::Squared };
        let found = affine::<Plain, 16>(&x, &[[1.0; SIMD_WIDTH]; 16], &search, &mut codes);
        assert_eq!((found.scale[0], found.min[0]), (0.25, 1.0));
        assert_eq!(std::array::from_fn(|i| codes[i][0] as i32 - 8), codes_in);

        let mut codes = [0; 4];
        assert_eq!(positive(&[0.0, 1.5, 31.5, 0.5], &[1.0; 4], 63, &mut codes), 0.5);
        assert_eq!(codes, [0, 3, 63, 1]);
    }
}
